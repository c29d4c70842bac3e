//! The forms of writing a turn's decisions, and the hooks that the daemon lends for it.

pub use crate::answers::words::JournalForm as Form;

/// The hooks that the daemon lends to the committer: time, and an ear.
pub struct Hooks {
    /// A monotonic clock, nanoseconds since an arbitrary start.
    pub clock_ns: fn() -> u64,
    /// Told how long each commit took, nanoseconds; for a histogram. It must not wait.
    pub committed: Box<dyn Fn(u64) + Send + Sync>,
}

impl Default for Hooks {
    fn default() -> Self {
        Hooks { clock_ns: || 0, committed: Box::new(|_| {}) }
    }
}
