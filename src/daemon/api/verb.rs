//! The two questions of a PBX.

/// The question of a message that is a list of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// A session begins, or goes on (API 2).
    Acquire,
    /// A session ended.
    Release,
}

impl Verb {
    /// Its route.
    pub(super) const fn target(self) -> &'static str {
        match self {
            Verb::Acquire => "/v1/acquire",
            Verb::Release => "/v1/release",
        }
    }
}
