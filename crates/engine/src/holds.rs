//! How long locks are held by who walks through a table, and by who changes its size: measured, for the metrics.

use usherd_contract::vocabulary;

use super::sync::{AtomicU64, OnceLock, Ordering};

vocabulary! {
    /// Why a lock was held.
    Work {
        /// A page of sessions or subjects, or an explanation.
        List = "list",
        /// A snapshot for the journal.
        Snapshot = "snapshot",
        /// The end of what is due.
        Expiry = "expiry",
        /// Greetings, losses and inventories of nodes; ends and policies of tenants.
        Sweep = "sweep",
        /// The table became larger or smaller.
        Growth = "growth",
    }
}

/// No lock is to be held longer than this by such work, nanoseconds.
pub const HOLD_MAX_NS: u64 = 20_000;

/// How often a lock was held, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldTimes {
    /// How often.
    pub count: u64,
    /// How often for longer than [`HOLD_MAX_NS`].
    pub long: u64,
    /// All of them together, nanoseconds.
    pub sum_ns: u64,
    /// The longest, nanoseconds.
    pub longest_ns: u64,
}

/// The measuring, by a clock that the daemon gives; without one nothing is measured.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    clock: OnceLock<fn() -> u64>,
    of: [Measured; Work::ALL.len()],
}

#[derive(Debug, Default)]
struct Measured {
    count: AtomicU64,
    long: AtomicU64,
    sum_ns: AtomicU64,
    longest_ns: AtomicU64,
}

impl Holds {
    /// Measures by this clock, nanoseconds, from now on; the first one stays.
    pub(crate) fn measure_by(&self, clock: fn() -> u64) {
        self.clock.get_or_init(|| clock);
    }

    pub(crate) fn begin(&self) -> Option<u64> {
        self.clock.get().map(|clock| clock())
    }

    pub(crate) fn end(&self, work: Work, began: Option<u64>) {
        let (Some(began), Some(clock)) = (began, self.clock.get()) else { return };
        let took = clock().saturating_sub(began);
        let of = &self.of[work as usize];
        of.count.fetch_add(1, Ordering::Relaxed);
        of.long.fetch_add(u64::from(took > HOLD_MAX_NS), Ordering::Relaxed);
        of.sum_ns.fetch_add(took, Ordering::Relaxed);
        of.longest_ns.fetch_max(took, Ordering::Relaxed);
    }

    pub(crate) fn times(&self, work: Work) -> HoldTimes {
        let of = &self.of[work as usize];
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HoldTimes {
            count: read(&of.count),
            long: read(&of.long),
            sum_ns: read(&of.sum_ns),
            longest_ns: read(&of.longest_ns),
        }
    }
}
