//! The forms of writing a turn's decisions, and the hooks that the daemon lends for it.

pub use crate::answers::words::JournalForm as Form;

/// How long an answer waits for a disk, nanoseconds: with the time between two looks it stays below 50 ms.
pub const DISK_PATIENCE_NS: u64 = 40_000_000;

/// The hooks that the daemon lends to the committer: time, and an ear.
pub struct Hooks {
    /// How long an answer waits for its commit, nanoseconds. With the time between two looks it is some milliseconds more.
    pub patience_ns: u64,
    /// A monotonic clock, nanoseconds since an arbitrary start.
    pub clock_ns: fn() -> u64,
    /// Told how long each commit took, nanoseconds; for a histogram. It must not wait.
    pub committed: Box<dyn Fn(u64) + Send + Sync>,
}

impl Default for Hooks {
    fn default() -> Self {
        Hooks { patience_ns: DISK_PATIENCE_NS, clock_ns: || 0, committed: Box::new(|_| {}) }
    }
}
