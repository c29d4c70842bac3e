//! What the engine and its model have in common: one trait, so that every test can be put to both.

use usherd_engine::plan::{Entitled, Plan};
use usherd_engine::session::{Acquire, Code, Decision, Detail, Direction, Fault, Kind, Name, Now, Release, Standing};

/// Why a node's message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    UnknownEpoch { known: Option<u64> },
    StaleEpoch { known: u64 },
    Limit,
}

/// What a hello or a goodbye did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) dropped: u32,
    pub(crate) orphaned: u32,
}

/// What an inventory did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) kept: u32,
    pub(crate) adopted: u32,
    pub(crate) removed: u32,
    pub(crate) ignored: u32,
}

/// What an admin's end did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    NotFound,
    NeedsForce,
    Done { count: u32 },
}

/// A tenant from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TenantState {
    pub(crate) standing: Standing,
    pub(crate) quota: Option<u32>,
    pub(crate) held: u32,
    pub(crate) over: u32,
    pub(crate) sessions: u32,
    pub(crate) channels_in: u32,
    pub(crate) channels_out: u32,
}

/// A live session from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionState {
    pub(crate) id: Name,
    pub(crate) subject: Name,
    pub(crate) kind: Kind,
    pub(crate) direction: Option<Direction>,
    pub(crate) counts: bool,
    pub(crate) node: Name,
    pub(crate) epoch: Option<u64>,
    pub(crate) seq: Option<u64>,
    pub(crate) orphan: bool,
    pub(crate) first: Code,
    /// When it ends by itself, apart from its node's lease and its subscription's end.
    pub(crate) deadline: Option<u64>,
}

/// A pool's counters (F8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolState {
    pub(crate) licensed: u64,
    pub(crate) unassigned: u64,
    pub(crate) unused: u64,
    pub(crate) in_use: u64,
    pub(crate) over: u64,
}

/// Something that decides.
pub(crate) trait Machine {
    fn install(&mut self, now: Now, plan: &Plan);
    fn entitle(&mut self, now: Now, tenant: &str, entitled: Entitled) -> bool;
    fn acquire(&mut self, now: Now, message: &Acquire<'_>) -> Result<Decision, Fault>;
    fn explain(&mut self, now: Now, message: &Acquire<'_>) -> Option<(Code, Detail)>;
    fn release(&mut self, now: Now, message: &Release<'_>) -> Decision;
    fn hello(&mut self, now: Now, node: &str, epoch: u64) -> Result<Moved, Refused>;
    fn heartbeat(&mut self, now: Now, node: &str, epoch: u64) -> Result<(), Refused>;
    fn goodbye(&mut self, now: Now, node: &str, epoch: u64) -> Result<Moved, Refused>;
    fn inventory(
        &mut self,
        now: Now,
        node: &str,
        epoch: u64,
        seq: u64,
        sessions: &[Acquire<'_>],
    ) -> Result<Listed, Refused>;
    fn end_session(&mut self, now: Now, tenant: &str, session: &str, force: bool) -> Closed;
    fn end_subject(&mut self, now: Now, tenant: &str, subject: &str, force: bool) -> Closed;
    fn expire(&mut self, now: Now);
    fn restart(&mut self, now: Now);
    fn tenant(&self, tenant: &str) -> Option<TenantState>;
    fn sessions(&self, tenant: &str) -> Vec<SessionState>;
    fn pool(&self, pool: &str) -> Option<PoolState>;
}
