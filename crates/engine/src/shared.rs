//! The state that all tenants share: the hasher, the limits, the counts of the whole engine.

use foldhash::fast::RandomState;

use super::plan::Limits;
use super::session::Kind;
use super::sync::{AtomicU32, AtomicU64, Ordering};

/// The state that all tenants share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) hasher: RandomState,
    pub(crate) limits: Limits,
    pub(crate) tally: Tally,
    /// Lower bound of every deadline in the engine, uptime milliseconds.
    pub(crate) due: AtomicU64,
    /// The instant at which what is due is being ended at present, uptime milliseconds; `NEVER` while nothing is.
    pub(crate) expiring: AtomicU64,
    /// Room that tenants took for their sessions, in whole blocks, so that tenants seldom meet here.
    pub(crate) sessions: AtomicU32,
    /// Sessions of a block; a power of two.
    pub(crate) block: u32,
    /// No version at or below it is given: the journal may hold such records of any session.
    pub(crate) version_floor: AtomicU64,
    /// Requests that met a limit of the daemon.
    pub(crate) limited: AtomicU64,
    /// Tables of tenants that were made.
    pub(crate) generations: AtomicU64,
}

/// Live sessions by kind and by whether they count, in cells that threads seldom share.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    cells: [TallyCell; 16],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct TallyCell([AtomicU32; 12]);

impl Tally {
    pub(crate) fn add(&self, hash: u64, kind: Kind, counts: bool, step: u32) {
        let cell = &self.cells[(hash >> 40) as usize & 15].0[kind as usize * 2 + usize::from(counts)];
        cell.fetch_add(step, Ordering::Relaxed);
    }

    /// Live sessions in all.
    pub(crate) fn total(&self) -> u32 {
        let all = self.cells.iter().flat_map(|cell| &cell.0);
        all.fold(0u32, |sum, count| sum.wrapping_add(count.load(Ordering::Relaxed)))
    }

    /// Live sessions of a kind that count, or that do not.
    pub(crate) fn sum(&self, kind: Kind, counts: bool) -> u32 {
        let at = kind as usize * 2 + usize::from(counts);
        self.cells.iter().fold(0u32, |sum, cell| sum.wrapping_add(cell.0[at].load(Ordering::Relaxed)))
    }
}

/// Lowers an atomic bound, without a write where it is low enough.
pub(crate) fn lower(bound: &AtomicU64, value: u64) {
    if bound.load(Ordering::Acquire) > value {
        bound.fetch_min(value, Ordering::AcqRel);
    }
}
