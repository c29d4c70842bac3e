//! The messages of the wire contract as they are decided: one struct each, borrowed from the body they came in.

use super::names::{
    DIALLED_BYTES_MAX, Fault, TTL_SECONDS_MAX, check_node, check_session, check_subject, check_tenant, check_word,
};
use super::words::{Class, Device, Direction, Kind, Leg};

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
    /// The subject that would hold the seat; not needed where nobody can.
    pub subject: Option<&'a str>,
    /// The node's id of the thing; not needed for an emergency call.
    pub session: Option<&'a str>,
    /// The kind of session.
    pub kind: Kind,
    /// Needed for a call (C20).
    pub direction: Option<Direction>,
    /// The reason why the leg exists.
    pub leg: Leg,
    /// The hardware.
    pub device: Option<Device>,
    /// Function extension class.
    pub class: Option<Class>,
    /// Dialled digits.
    pub to: Option<&'a str>,
    /// The node's own judgement that this is an emergency call.
    pub emergency: bool,
    /// True if it uses a trunk line; `None` follows the direction (L3).
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
    /// True if it runs already and is to be adopted (G7).
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

    /// True if it is an inbound call, or a leg that only delivers one: these never need a seat and are never refused
    /// (C1, C5).
    ///
    /// Not one that takes over an originated call on a line that is not its own: a tenant may charge that (C8).
    pub fn is_inbound(&self) -> bool {
        self.kind == Kind::Call && is_inbound(self.direction, self.leg, self.external)
    }

    /// True if the leg uses a trunk line (L3).
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
            None => faults.push(Fault::new("subject", "is required: who would hold the seat")),
        }
        match self.session {
            Some(session) => check_session(session, &mut faults),
            None => faults.push(Fault::new(
                "session",
                "is required: the node's id of this thing, 1-128 bytes of printable ASCII",
            )),
        }
        if self.kind == Kind::Call && self.direction.is_none() {
            faults.push(Fault::new("direction", "is required for a call: outbound, internal or inbound"));
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

/// True if a call of these fields is inbound: [`Acquire::is_inbound`].
pub fn is_inbound(direction: Option<Direction>, leg: Leg, external: Option<bool>) -> bool {
    let follows = direction == Some(Direction::Outbound) && external == Some(false);
    direction == Some(Direction::Inbound) || (leg == Leg::Deliver && !follows)
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
