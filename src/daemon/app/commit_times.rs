//! How long commits of the journal took.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::daemon::metrics::HistogramStats;

/// How long commits of the journal took: a histogram that waits for nobody.
#[derive(Debug, Default)]
pub struct CommitTimes {
    counts: [AtomicU64; COMMIT_SECONDS.len() + 1],
    sum_ns: AtomicU64,
}

const COMMIT_SECONDS: [f64; 12] = [2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 2.5e-2, 1e-1, 1.0];

impl CommitTimes {
    /// A commit took so many nanoseconds.
    pub fn observe(&self, nanos: u64) {
        let seconds = nanos as f64 / 1e9;
        let bucket = COMMIT_SECONDS.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    /// A reading of all that was observed so far.
    pub fn read(&self) -> CommitCounts {
        CommitCounts {
            counts: std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed)),
            sum_seconds: self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }
}

/// A reading of [`CommitTimes`].
#[derive(Clone, Copy, Debug)]
pub struct CommitCounts {
    counts: [u64; COMMIT_SECONDS.len() + 1],
    sum_seconds: f64,
}

impl CommitCounts {
    /// For the exposition.
    pub fn stats(&self) -> HistogramStats<'_> {
        HistogramStats { bounds_seconds: &COMMIT_SECONDS, counts: &self.counts, sum_seconds: self.sum_seconds }
    }
}
