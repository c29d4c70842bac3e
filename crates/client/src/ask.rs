//! The question of a node: the fields of API 2 without those that the client adds itself (node, epoch, seq).

use usherd_contract::message::Acquire;
use usherd_contract::names::{Fault, Name};
use usherd_contract::words::{Class, Device, Direction, Kind, Leg};

/// "May this happen?", as a node asks it (API 2). Build it with [`Ask::new`] or [`Ask::call`] and set the
/// optional fields: `Ask { device: Some(Device::Desk), ..Ask::call(…) }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The customer phone system: 1-64 of `a-z 0-9 . _ -`.
    pub tenant: Name,
    /// The subject that would hold the seat: 1-128 bytes of UTF-8 (A1). Not needed where nobody can: inbound, service,
    /// system and emergency calls.
    pub subject: Option<Name>,
    /// The node's id of the thing: 1-128 bytes of printable ASCII, unique per tenant and epoch (G4). Only an
    /// emergency call may have none.
    pub session: Option<Name>,
    /// The kind of session.
    pub kind: Kind,
    /// Needed for a call (C20).
    pub direction: Option<Direction>,
    /// The reason why the leg exists (C5, C9, C12, C13).
    pub leg: Leg,
    /// The hardware, for lists and metrics.
    pub device: Option<Device>,
    /// Function extension class (C18).
    pub class: Option<Class>,
    /// Dialled digits, at most 64 bytes: the emergency match (C14).
    pub to: Option<Name>,
    /// The node's own judgement that this is an emergency call (C14).
    pub emergency: bool,
    /// True if it uses a trunk line; `None` follows the direction (L3).
    pub external: Option<bool>,
    /// Reservation group (F6).
    pub group: Option<Name>,
    /// Life without renewal, 1-86,400 seconds. Nodes need none: their heartbeats keep their sessions (E3).
    pub ttl_s: Option<u32>,
    /// True if it runs already: it is adopted, above the quota if need be, and never refused (G7).
    pub existing: bool,
}

/// The question of a message, without its sender: the client speaks as its own node.
impl From<&Acquire<'_>> for Ask {
    fn from(message: &Acquire<'_>) -> Self {
        Ask {
            tenant: message.tenant.into(),
            subject: message.subject.map(Name::from),
            session: message.session.map(Name::from),
            kind: message.kind,
            direction: message.direction,
            leg: message.leg,
            device: message.device,
            class: message.class,
            to: message.to.map(Name::from),
            emergency: message.emergency,
            external: message.external,
            group: message.group.map(Name::from),
            ttl_s: message.ttl_s,
            existing: message.existing,
        }
    }
}

impl Ask {
    /// A question with every optional field absent.
    pub fn new(tenant: impl Into<Name>, subject: impl Into<Name>, session: impl Into<Name>, kind: Kind) -> Self {
        Ask {
            tenant: tenant.into(),
            subject: Some(subject.into()),
            session: Some(session.into()),
            kind,
            direction: None,
            leg: Leg::Originate,
            device: None,
            class: None,
            to: None,
            emergency: false,
            external: None,
            group: None,
            ttl_s: None,
            existing: false,
        }
    }

    /// A call leg of a subject.
    pub fn call(
        tenant: impl Into<Name>,
        subject: impl Into<Name>,
        session: impl Into<Name>,
        direction: Direction,
    ) -> Self {
        Ask { direction: Some(direction), ..Ask::new(tenant, subject, session, Kind::Call) }
    }

    /// True if it is an inbound call, or a leg that only delivers one: these never need a seat (C1, C5).
    ///
    /// False for one that takes over an originated call on a line that is not its own: a tenant may charge that (C8).
    pub fn is_inbound(&self) -> bool {
        self.as_acquire().is_inbound()
    }

    /// Checks every rule on the shape of a question that needs no state, as the daemon will.
    ///
    /// # Errors
    /// Every fault, not only the first.
    pub fn check(&self) -> Result<(), Vec<Fault>> {
        self.as_acquire().check()
    }

    /// The message that asks it, without its sender.
    pub(super) fn as_acquire(&self) -> Acquire<'_> {
        Acquire {
            subject: self.subject.as_deref(),
            session: self.session.as_deref(),
            direction: self.direction,
            leg: self.leg,
            device: self.device,
            class: self.class,
            to: self.to.as_deref(),
            emergency: self.emergency,
            external: self.external,
            group: self.group.as_deref(),
            ttl_s: self.ttl_s,
            existing: self.existing,
            ..Acquire::new(&self.tenant, "", "", self.kind)
        }
    }
}

/// The reason why a session is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// It is over.
    Over,
    /// An attended transfer to outside was completed, and the parties stay bridged (C7). A tenant that charges
    /// until the end keeps the claim: release it again when the bridged call is over.
    Transferred,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivering_leg_is_inbound_unless_it_takes_over_a_call() {
        let call = |direction, leg, external| Ask { leg, external, ..Ask::call("t", "s", "c", direction) };
        for (ask, inbound) in [
            (call(Direction::Inbound, Leg::Originate, None), true),
            (call(Direction::Inbound, Leg::Service, Some(false)), true),
            (call(Direction::Outbound, Leg::Deliver, None), true),
            (call(Direction::Internal, Leg::Deliver, Some(false)), true),
            (call(Direction::Outbound, Leg::Deliver, Some(false)), false),
            (call(Direction::Outbound, Leg::Originate, None), false),
            (call(Direction::Internal, Leg::System, None), false),
            (Ask::new("t", "s", "d", Kind::Desktop), false),
        ] {
            assert_eq!(ask.is_inbound(), inbound, "{ask:?}");
        }
    }
}
