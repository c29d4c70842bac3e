//! Which session counts: the classes of rule book A to D, before any state is looked at.

use usherd_contract::emergency;

use super::plan::{Billing, Policy};
use super::session::{Acquire, Detail, Direction, Kind, Leg};

/// The need of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing, whatever the state (C14).
    Emergency,
    /// No seat, for this reason.
    Free(Detail),
    /// A seat for its subject.
    Seat {
        /// It is admitted also when nothing is free (C18, C8 `follow`).
        never_deny: bool,
        /// It is a lifeline: free while the subscription is inactive (C18).
        lifeline: bool,
    },
}

/// The class of a request under a tenant's policy: the first steps of D5.
pub(crate) fn need(message: &Acquire<'_>, policy: &Policy) -> Need {
    if is_emergency(message, policy) {
        return Need::Emergency;
    }
    let free = |billing: Billing, reason: Detail| match billing {
        Billing::Free => Some(reason),
        Billing::Count => None,
    };
    let reason = match message.kind {
        Kind::Desktop | Kind::Mobile => None,
        Kind::Phone => Some(Detail::Service),
        Kind::Connector => free(policy.connectors, Detail::Connector),
        Kind::Guest => free(policy.guests, Detail::Guest),
        Kind::Call => match (message.direction, message.leg) {
            (Some(Direction::Inbound), _) => Some(Detail::Inbound),
            (_, Leg::Deliver) if follows(message, policy) => None,
            (_, Leg::Deliver) => Some(Detail::Inbound),
            (_, Leg::System) => Some(Detail::System),
            (_, Leg::Service) => free(policy.service_calls, Detail::Service),
            (Some(Direction::Internal), Leg::Originate) => free(policy.internal_calls, Detail::Internal),
            (Some(Direction::Outbound) | None, Leg::Originate) => None,
        },
    };
    match reason {
        Some(reason) => Need::Free(reason),
        None => {
            let lifeline = message.class.is_some_and(|class| policy.never_deny.contains(&class));
            Need::Seat { never_deny: lifeline || follows(message, policy), lifeline }
        }
    }
}

/// True for an emergency call: by the node's flag, or by the dialled number, with and without the trunk prefix (C14).
pub(crate) fn is_emergency(message: &Acquire<'_>, policy: &Policy) -> bool {
    message.emergency || message.to.is_some_and(|to| is_emergency_number(to, policy))
}

/// True if a dialled number is one of the policy's emergency numbers (C14).
pub fn is_emergency_number(dialled: &str, policy: &Policy) -> bool {
    emergency::is_emergency(dialled, &policy.emergency_numbers, &policy.trunk_prefix)
}

/// True for an originated call that is handed to this subject (C8): it uses no trunk line of its own.
fn follows(message: &Acquire<'_>, policy: &Policy) -> bool {
    policy.transferred_outbound_follows
        && message.kind == Kind::Call
        && message.leg == Leg::Deliver
        && message.direction == Some(Direction::Outbound)
        && message.external == Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use usherd_contract::words::Class;

    fn call(direction: Direction, leg: Leg) -> Acquire<'static> {
        Acquire { direction: Some(direction), leg, ..Acquire::new("t", "anna", "c1", Kind::Call) }
    }

    #[test]
    fn every_kind_direction_and_leg_has_its_class() {
        let policy = Policy::default();
        let seat = Need::Seat { never_deny: false, lifeline: false };
        for (message, expected) in [
            (Acquire::new("t", "a", "d", Kind::Desktop), seat),
            (Acquire::new("t", "a", "m", Kind::Mobile), seat),
            (Acquire::new("t", "a", "p", Kind::Phone), Need::Free(Detail::Service)),
            (Acquire::new("t", "a", "x", Kind::Connector), Need::Free(Detail::Connector)),
            (Acquire::new("t", "a", "g", Kind::Guest), seat),
            (call(Direction::Outbound, Leg::Originate), seat),
            (call(Direction::Internal, Leg::Originate), seat),
            (call(Direction::Inbound, Leg::Originate), Need::Free(Detail::Inbound)),
            (call(Direction::Inbound, Leg::System), Need::Free(Detail::Inbound)),
            (call(Direction::Outbound, Leg::Deliver), Need::Free(Detail::Inbound)),
            (call(Direction::Internal, Leg::Service), Need::Free(Detail::Service)),
            (call(Direction::Outbound, Leg::System), Need::Free(Detail::System)),
        ] {
            assert_eq!(need(&message, &policy), expected, "{message:?}");
        }
    }

    #[test]
    fn an_emergency_is_recognised_with_and_without_the_trunk_prefix() {
        let policy = Policy { trunk_prefix: "0".into(), ..Policy::default() };
        for (to, expected) in [("112", true), ("0112", true), ("00112", false), ("1120", false), ("110", true)] {
            let message = Acquire { to: Some(to), ..call(Direction::Outbound, Leg::Originate) };
            assert_eq!(need(&message, &policy) == Need::Emergency, expected, "{to}");
        }
    }

    #[test]
    fn a_lift_is_a_lifeline_and_a_door_is_not() {
        let policy = Policy::default();
        for (class, expected) in [(Class::Lift, true), (Class::Door, false)] {
            let message = Acquire { class: Some(class), ..call(Direction::Internal, Leg::Originate) };
            assert_eq!(need(&message, &policy), Need::Seat { never_deny: expected, lifeline: expected });
        }
    }
}
