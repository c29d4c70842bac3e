//! The interface that the engine and its model share: one trait, so that every test can be put to both.

use usherd_engine::plan::{Entitled, Plan};
use usherd_engine::session::{Acquire, Code, Decision, Detail, Direction, Fault, Kind, Name, Now, Release, Standing};
use usherd_engine::{EndOutcome, InventoryReport, NodeFault, NodeReport};

/// A tenant from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantState {
    /// The standing of its subscription.
    pub standing: Standing,
    /// Seats that it may hold.
    pub quota: Option<u32>,
    /// Seats that it holds.
    pub held: u32,
    /// Seats above the quota.
    pub over: u32,
    /// Sessions that live.
    pub sessions: u32,
    /// Trunk lines in use by inbound calls.
    pub channels_in: u32,
    /// Trunk lines in use by outbound calls.
    pub channels_out: u32,
}

/// A live session from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// Its name.
    pub id: Name,
    /// Whose it is.
    pub subject: Name,
    /// The kind of session.
    pub kind: Kind,
    /// Of a call.
    pub direction: Option<Direction>,
    /// True if it needs a seat.
    pub counts: bool,
    /// The node that reported it; empty where none did.
    pub node: Name,
    /// The start of its node.
    pub epoch: Option<u64>,
    /// The number of its last message.
    pub seq: Option<u64>,
    /// True if it waits for its node.
    pub orphan: bool,
    /// The answer to its first question.
    pub first: Code,
    /// When it ends by itself, apart from its node's lease and its subscription's end.
    pub deadline: Option<u64>,
}

/// A pool's counters (F8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Seats that it has.
    pub licensed: u64,
    /// Licensed, but in no tenant's quota.
    pub unassigned: u64,
    /// In a tenant's quota, but held by nobody.
    pub unused: u64,
    /// Seats that are held.
    pub in_use: u64,
    /// Seats above what it has.
    pub over: u64,
}

/// Something that decides.
pub trait Machine {
    /// Takes a configuration.
    fn install(&mut self, now: Now, plan: &Plan);
    /// Changes what a tenant may; whether there is such a tenant.
    fn entitle(&mut self, now: Now, tenant: &str, entitled: Entitled) -> bool;
    /// Decides.
    fn acquire(&mut self, now: Now, message: &Acquire<'_>) -> Result<Decision, Fault>;
    /// The decision that would be made; nothing changes by it.
    fn explain(&mut self, now: Now, message: &Acquire<'_>) -> Option<(Code, Detail)>;
    /// Gives a session back.
    fn release(&mut self, now: Now, message: &Release<'_>) -> Decision;
    /// A node has started.
    fn hello(&mut self, now: Now, node: &str, epoch: u64) -> Result<NodeReport, NodeFault>;
    /// A node lives.
    fn heartbeat(&mut self, now: Now, node: &str, epoch: u64) -> Result<(), NodeFault>;
    /// A node stops.
    fn goodbye(&mut self, now: Now, node: &str, epoch: u64) -> Result<NodeReport, NodeFault>;
    /// A node lists what lives on it.
    fn inventory(
        &mut self,
        now: Now,
        node: &str,
        epoch: u64,
        seq: u64,
        sessions: &[Acquire<'_>],
    ) -> Result<InventoryReport, NodeFault>;
    /// An admin ends a session.
    fn end_session(&mut self, now: Now, tenant: &str, session: &str, force: bool) -> EndOutcome;
    /// An admin ends all of a subject.
    fn end_subject(&mut self, now: Now, tenant: &str, subject: &str, force: bool) -> EndOutcome;
    /// Ends what is due.
    fn expire(&mut self, now: Now);
    /// Begins anew from what is on record.
    fn restart(&mut self, now: Now);
    /// A tenant from outside.
    fn tenant(&self, tenant: &str) -> Option<TenantState>;
    /// The live sessions of a tenant.
    fn sessions(&self, tenant: &str) -> Vec<SessionState>;
    /// The counters of a pool.
    fn pool(&self, pool: &str) -> Option<PoolState>;
}
