//! The nouns of a decision: names, messages, answers, and what is recorded of them.

pub use super::words::{Class, Code, Detail, Device, Direction, Kind, Leg, Reason, Standing};

/// A tenant's, subject's, session's or node's name: opaque, compared byte by byte (A1).
pub type Name = compact_str::CompactString;

/// Longest subject and session id, in bytes (A1, API 2).
pub const ID_BYTES_MAX: usize = 128;
/// Longest tenant id, in bytes (API 2).
pub const TENANT_BYTES_MAX: usize = 64;
/// Longest node and group name, in bytes.
pub const NODE_BYTES_MAX: usize = 64;
/// Longest dialled number that is looked at, in bytes.
pub const DIALLED_BYTES_MAX: usize = 64;
/// Longest life of a claim without renewal, in seconds (E3).
pub const TTL_SECONDS_MAX: u32 = 86_400;

/// The instant at which a message is decided, taken once at the edge (H1, H2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Monotonic milliseconds since an arbitrary start: leases, graces, time-outs.
    pub uptime_ms: u64,
    /// Wall clock, milliseconds since 1970 UTC: contracts, and what people are shown.
    pub utc_ms: i64,
}

/// The position of a message among those of its node: compared epoch first, then seq (G5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Boot number of the node.
    pub epoch: u64,
    /// Number of the message within the epoch.
    pub seq: u64,
}

/// "May this happen?": a checked request of API 2. Build it at the border, then [`Acquire::check`] it.
#[derive(Clone, Debug)]
pub struct Acquire<'a> {
    /// The customer phone system.
    pub tenant: &'a str,
    /// Who would hold the seat; not needed where nobody can.
    pub subject: Option<&'a str>,
    /// The node's id of the thing; not needed for an emergency call.
    pub session: Option<&'a str>,
    /// What it is.
    pub kind: Kind,
    /// Needed for a call (C20).
    pub direction: Option<Direction>,
    /// Why the leg exists.
    pub leg: Leg,
    /// Which hardware.
    pub device: Option<Device>,
    /// Function extension class.
    pub class: Option<Class>,
    /// Dialled digits.
    pub to: Option<&'a str>,
    /// The node's own judgement that this is an emergency call.
    pub emergency: bool,
    /// Uses a trunk line; `None` follows the direction (L3).
    pub external: Option<bool>,
    /// Reservation group (F6).
    pub group: Option<&'a str>,
    /// The asking node.
    pub node: Option<&'a str>,
    /// Boot number of the node.
    pub epoch: Option<u64>,
    /// Message number; needs an epoch.
    pub seq: Option<u64>,
    /// Life without renewal, seconds, 1..=86,400 (E3).
    pub ttl_s: Option<u32>,
    /// Already running: adopt (G7).
    pub existing: bool,
}

impl<'a> Acquire<'a> {
    /// A request with every optional field absent.
    pub fn new(tenant: &'a str, subject: &'a str, session: &'a str, kind: Kind) -> Self {
        Acquire {
            tenant,
            subject: Some(subject),
            session: Some(session),
            kind,
            direction: None,
            leg: Leg::Originate,
            device: None,
            class: None,
            to: None,
            emergency: false,
            external: None,
            group: None,
            node: None,
            epoch: None,
            seq: None,
            ttl_s: None,
            existing: false,
        }
    }

    /// Whether the leg uses a trunk line (L3).
    pub fn is_external(&self) -> bool {
        self.kind == Kind::Call
            && self.external.unwrap_or(matches!(self.direction, Some(Direction::Outbound | Direction::Inbound)))
    }

    /// Its place in the order of its node's messages, where it has one.
    pub fn stamp(&self) -> Option<Stamp> {
        Some(Stamp { epoch: self.epoch?, seq: self.seq? })
    }

    /// Checks every rule on the shape of a request that needs no state.
    ///
    /// # Errors
    /// Every fault, not only the first. An emergency call is not checked at all (C14): call this after
    /// the emergency was recognised.
    pub fn check(&self) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        check_tenant(self.tenant, &mut faults);
        let nobody = self.kind == Kind::Call
            && (self.direction == Some(Direction::Inbound) || matches!(self.leg, Leg::Service | Leg::System));
        match self.subject {
            Some(subject) => check_subject(subject, &mut faults),
            None if nobody => {}
            None => faults.push(Fault::new("subject", "is needed: who would hold the seat")),
        }
        match self.session {
            Some(session) => check_session(session, &mut faults),
            None => faults
                .push(Fault::new("session", "is needed: the node's id of this thing, 1-128 bytes of printable ASCII")),
        }
        if self.kind == Kind::Call && self.direction.is_none() {
            faults.push(Fault::new("direction", "is needed for a call: outbound, internal or inbound"));
        }
        if let Some(to) = self.to
            && to.len() > DIALLED_BYTES_MAX
        {
            faults.push(Fault::new("to", "is longer than 64 bytes"));
        }
        if let Some(group) = self.group {
            check_word("group", group, &mut faults);
        }
        check_node(self.node, self.epoch, self.seq, &mut faults);
        if let Some(ttl_s) = self.ttl_s
            && !(1..=TTL_SECONDS_MAX).contains(&ttl_s)
        {
            faults.push(Fault::new("ttl_s", "must be 1 to 86400 seconds"));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// "This ended": a checked request of API 2.
#[derive(Clone, Debug)]
pub struct Release<'a> {
    /// The customer phone system.
    pub tenant: &'a str,
    /// The node's id of the thing that ended.
    pub session: &'a str,
    /// The asking node.
    pub node: Option<&'a str>,
    /// Boot number of the node.
    pub epoch: Option<u64>,
    /// Message number; needs an epoch.
    pub seq: Option<u64>,
    /// `why = "transfer"`: an attended transfer to outside was completed, the parties stay bridged (C7).
    pub transferred: bool,
}

impl<'a> Release<'a> {
    /// A release with every optional field absent.
    pub fn new(tenant: &'a str, session: &'a str) -> Self {
        Release { tenant, session, node: None, epoch: None, seq: None, transferred: false }
    }

    /// Its place in the order of its node's messages, where it has one.
    pub fn stamp(&self) -> Option<Stamp> {
        Some(Stamp { epoch: self.epoch?, seq: self.seq? })
    }

    /// Checks every rule on the shape of a release.
    ///
    /// # Errors
    /// Every fault, not only the first.
    pub fn check(&self) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        check_tenant(self.tenant, &mut faults);
        check_session(self.session, &mut faults);
        check_node(self.node, self.epoch, self.seq, &mut faults);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// What was wrong with one field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, as on the wire.
    pub field: &'static str,
    /// What was wrong, and what is allowed.
    pub what: &'static str,
}

impl Fault {
    /// A fault of one field.
    pub const fn new(field: &'static str, what: &'static str) -> Self {
        Fault { field, what }
    }
}

/// Checks a tenant id: 1-64 of `a-z 0-9 . _ -`.
pub fn check_tenant(tenant: &str, faults: &mut Vec<Fault>) {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
    if tenant.is_empty() || tenant.len() > TENANT_BYTES_MAX || !tenant.bytes().all(allowed) {
        faults.push(Fault::new("tenant", "must be 1-64 of a-z 0-9 . _ -"));
    }
}

/// Checks a subject id: 1-128 bytes of UTF-8 without control characters (A1).
pub fn check_subject(subject: &str, faults: &mut Vec<Fault>) {
    let plain = if subject.is_ascii() {
        subject.bytes().all(|b| b >= b' ' && b != 0x7f)
    } else {
        !subject.chars().any(char::is_control)
    };
    if subject.is_empty() || subject.len() > ID_BYTES_MAX || !plain {
        faults.push(Fault::new("subject", "must be 1-128 bytes of UTF-8 without control characters"));
    }
}

/// Checks a session id: 1-128 bytes of printable ASCII.
pub fn check_session(session: &str, faults: &mut Vec<Fault>) {
    if session.is_empty() || session.len() > ID_BYTES_MAX || !session.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        faults.push(Fault::new("session", "must be 1-128 bytes of printable ASCII"));
    }
}

/// Checks a node or group name: 1-64 bytes of printable ASCII without blanks.
pub fn check_word(field: &'static str, word: &str, faults: &mut Vec<Fault>) {
    if word.is_empty() || word.len() > NODE_BYTES_MAX || !word.bytes().all(|b| b.is_ascii_graphic()) {
        faults.push(Fault::new(field, "must be 1-64 bytes of printable ASCII without blanks"));
    }
}

fn check_node(node: Option<&str>, epoch: Option<u64>, seq: Option<u64>, faults: &mut Vec<Fault>) {
    if let Some(node) = node {
        check_word("node", node, faults);
    }
    if seq.is_some() && epoch.is_none() {
        faults.push(Fault::new("epoch", "is needed where seq is given: a seq counts within one epoch"));
    }
    if epoch.is_some() && node.is_none() {
        faults.push(Fault::new("node", "is needed where epoch is given: an epoch is a boot number of a node"));
    }
}

/// What the engine answers to one message.
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
    /// Who holds the seat; empty where nobody can.
    pub subject: &'a str,
    /// What it is.
    pub kind: Kind,
    /// Of a call.
    pub direction: Option<Direction>,
    /// Of a call.
    pub leg: Leg,
    /// Which hardware.
    pub device: Option<Device>,
    /// Function extension class.
    pub class: Option<Class>,
    /// Whether it needs its subject to hold a seat: a claim.
    pub counts: bool,
    /// Whether it uses a trunk line (L3).
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
    /// Who held the seat; empty for a tombstone of something never seen.
    pub subject: &'a str,
    /// What it was.
    pub kind: Kind,
    /// Whether it counted.
    pub counts: bool,
    /// Why it left.
    pub reason: Reason,
    /// Whether its seat became free by this.
    pub freed: bool,
    /// Whether it was live before: `false` where only a tombstone is recorded.
    pub was_live: bool,
    /// The tombstone it leaves, and its node; `None` where it leaves none (G5).
    pub tombstone: Option<(&'a str, Stamp)>,
    /// As in [`SessionRecord::version`].
    pub version: u64,
}

/// Takes what the engine changed, to record and to tell it.
///
/// The engine calls these inside the critical section of the session that changed, so that two changes of
/// one session arrive in their order. An implementation encodes or copies; it must not wait.
pub trait Changes {
    /// A session is live from now on, or a live one changed.
    fn put(&mut self, session: &SessionRecord<'_>, fresh: bool);
    /// A session left, or a tombstone was laid for one that was never seen.
    fn gone(&mut self, gone: &GoneRecord<'_>);
    /// A node is known by this epoch from now on.
    fn node(&mut self, node: &str, epoch: u64);
    /// A snapshot holds no lock at this moment: whoever listens may take its time. Everything else is called inside a
    /// critical section and must not wait for anything.
    fn between(&mut self) {}
}

/// Records nothing.
impl Changes for () {
    fn put(&mut self, _: &SessionRecord<'_>, _: bool) {}
    fn gone(&mut self, _: &GoneRecord<'_>) {}
    fn node(&mut self, _: &str, _: u64) {}
}
