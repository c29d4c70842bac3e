//! The state that all tenants share: the hasher, the limits, the counts of the whole engine.

use foldhash::fast::RandomState;

use super::holds::Holds;
use super::plan::Limits;
use super::sync::{AtomicU32, AtomicU64, Ordering};

/// The state that all tenants share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) hasher: RandomState,
    pub(crate) limits: Limits,
    /// How long locks are held by who walks through a table, and by who changes its size.
    pub(crate) holds: Holds,
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

/// Lowers an atomic bound, without a write where it is low enough.
pub(crate) fn lower(bound: &AtomicU64, value: u64) {
    if bound.load(Ordering::Acquire) > value {
        bound.fetch_min(value, Ordering::AcqRel);
    }
}
