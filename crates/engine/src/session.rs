//! The nouns of a decision: answers, and what is recorded of them; names and messages are those of the contract.

pub use usherd_contract::message::{Acquire, Release, Stamp};
pub use usherd_contract::names::{
    DIALLED_BYTES_MAX, EPOCH_MAX, Fault, ID_BYTES_MAX, NODE_BYTES_MAX, Name, TENANT_BYTES_MAX, TTL_SECONDS_MAX,
    check_epoch, check_session, check_subject, check_tenant, check_word,
};
pub use usherd_contract::words::{Class, Code, Detail, Device, Direction, Kind, Leg, Reason, Standing};

/// The instant at which a message is decided, taken once at the edge (H1, H2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Monotonic milliseconds since an arbitrary start: leases, graces, time-outs.
    pub uptime_ms: u64,
    /// Wall clock, milliseconds since 1970 UTC: contracts, and what people are shown.
    pub utc_ms: i64,
}

/// The engine's answer to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub code: Code,
    /// Why it was free, or what was full.
    pub detail: Detail,
    /// On `allow.same`: the code of the first answer.
    pub first: Option<Code>,
    /// Seats held after the decision.
    pub held: u32,
    /// The quota; `None` is unlimited.
    pub quota: Option<u32>,
    /// Milliseconds until the session ends unless renewed; `None` where nothing ends it.
    pub ttl_ms: Option<u64>,
    /// On a denial: when to ask again, seconds.
    pub retry_after_s: u32,
    /// On a denial: the SIP code to answer with (U3).
    pub sip_code: u16,
}

impl Decision {
    /// Seats held above the quota.
    pub fn over(&self) -> u32 {
        self.quota.map_or(0, |quota| self.held.saturating_sub(quota))
    }
}

/// Everything that is recorded of a live session, borrowed from the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRecord<'a> {
    /// The tenant whose seats it uses.
    pub tenant: &'a str,
    /// Its id, unique per tenant.
    pub session: &'a str,
    /// The subject that holds the seat; empty where nobody can.
    pub subject: &'a str,
    /// The kind of session.
    pub kind: Kind,
    /// Of a call.
    pub direction: Option<Direction>,
    /// Of a call.
    pub leg: Leg,
    /// Which hardware.
    pub device: Option<Device>,
    /// Function extension class.
    pub class: Option<Class>,
    /// True if it needs its subject to hold a seat: a claim.
    pub counts: bool,
    /// True if it uses a trunk line (L3).
    pub external: bool,
    /// Reservation group of its subject (F6); empty where none.
    pub group: &'a str,
    /// Its node; empty where none.
    pub node: &'a str,
    /// Boot number of the node at its last message.
    pub epoch: Option<u64>,
    /// Number of its last message.
    pub seq: Option<u64>,
    /// Its life without renewal, seconds.
    pub ttl_s: Option<u32>,
    /// The code of the first answer.
    pub first: Code,
    /// Wall clock of its start, milliseconds since 1970 UTC.
    pub started_utc_ms: i64,
    /// Grows with every change of this session, also across its end and return.
    pub version: u64,
}

/// That a session left the table, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoneRecord<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// Its id.
    pub session: &'a str,
    /// The subject that held the seat; empty for a tombstone of something never seen.
    pub subject: &'a str,
    /// The kind of session.
    pub kind: Kind,
    /// True if it counted.
    pub counts: bool,
    /// Why it left.
    pub reason: Reason,
    /// True if its seat became free by this.
    pub freed: bool,
    /// True if it was live before: `false` where only a tombstone is recorded.
    pub was_live: bool,
    /// The tombstone it leaves, and its node; `None` where it leaves none (G5).
    pub tombstone: Option<(&'a str, Stamp)>,
    /// As in [`SessionRecord::version`].
    pub version: u64,
}

/// Takes what the engine changed, to record and to tell it.
///
/// The engine calls these inside the critical section of the session that changed, so that two changes of
/// one session arrive in their order; and before a seat that becomes free can be taken, so that the changes of one seat
/// do too. An implementation encodes or copies; it must not wait. Only a snapshot is told while no lock is held: whoever
/// listens to one may take its time.
pub trait Changes {
    /// A session is live from now on, or a live one changed.
    fn put(&mut self, session: &SessionRecord<'_>, fresh: bool);
    /// A session left, or a tombstone was laid for one that was never seen.
    fn gone(&mut self, gone: &GoneRecord<'_>);
    /// A node is known by this epoch from now on.
    fn node(&mut self, node: &str, epoch: u64);
    /// A node that was known is not any more: neither its epoch nor its tombstones.
    fn forgotten(&mut self, _node: &str) {}
}

/// Records nothing.
impl Changes for () {
    fn put(&mut self, _: &SessionRecord<'_>, _: bool) {}
    fn gone(&mut self, _: &GoneRecord<'_>) {}
    fn node(&mut self, _: &str, _: u64) {}
}
