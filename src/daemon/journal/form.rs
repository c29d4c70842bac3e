//! The forms of writing a turn's decisions, and the hooks that the daemon lends for it.

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

/// The writer of a turn's decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nobody: nothing is kept.
    Nothing,
    /// The thread that decided, before its answers go out. A disk that hangs stops it: for simulations, whose time
    /// passes on one thread.
    Inline,
    /// A thread of its own; the answers wait for it, and not for long ([`Committer`](super::Committer)).
    HandOff,
    /// The thread that decided, into a ring in memory that outlives the process; another one copies it to the disk.
    Ring,
}

impl Form {
    /// As `/readyz?verbose` and the log call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Form::Nothing => "none",
            Form::Inline => "inline",
            Form::HandOff => "hand-off",
            Form::Ring => "ring",
        }
    }
}
