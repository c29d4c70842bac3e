//! The naive model's first steps of D5: emergencies, and what never needs a seat (B, C).

use usherd_engine::plan::{Billing, Policy};
use usherd_engine::session::{Acquire, Detail, Direction, Kind, Leg};

/// The need of a message for a seat.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Free(Detail),
    Counts { follow: bool },
}

pub(crate) fn classify(a: &Acquire<'_>, policy: &Policy) -> Need {
    use Need::{Counts, Free};
    let counted = Counts { follow: false };
    match a.kind {
        Kind::Phone => Free(Detail::Service),
        Kind::Connector if policy.connectors == Billing::Free => Free(Detail::Connector),
        Kind::Guest if policy.guests == Billing::Free => Free(Detail::Guest),
        Kind::Connector | Kind::Guest | Kind::Desktop | Kind::Mobile => counted,
        Kind::Call if a.direction == Some(Direction::Inbound) => Free(Detail::Inbound),
        Kind::Call => match a.leg {
            Leg::Deliver => {
                let follow = policy.transferred_outbound_follows
                    && a.direction == Some(Direction::Outbound)
                    && a.external == Some(false);
                if follow { Counts { follow: true } } else { Free(Detail::Inbound) }
            }
            Leg::Service if policy.service_calls == Billing::Free => Free(Detail::Service),
            Leg::Service => counted,
            Leg::System => Free(Detail::System),
            Leg::Originate => {
                let internal = a.direction == Some(Direction::Internal);
                if internal && policy.internal_calls == Billing::Free { Free(Detail::Internal) } else { counted }
            }
        },
    }
}

pub(crate) fn emergency(a: &Acquire<'_>, policy: &Policy) -> bool {
    let listed = |number: &str| policy.emergency_numbers.iter().any(|n| plain(n) == number && !number.is_empty());
    let prefix = plain(&policy.trunk_prefix);
    a.emergency
        || a.to.is_some_and(|to| {
            let sos = to == "urn:service:sos" || to.starts_with("urn:service:sos.");
            sos || listed(&plain(to)) || plain(to).strip_prefix(&*prefix).is_some_and(listed)
        })
}

/// A number as the rows of the rules write it, without what is around it.
fn plain(number: &str) -> String {
    let number = number.to_lowercase();
    let scheme = ["tel:", "sips:", "sip:"].into_iter().find_map(|scheme| number.strip_prefix(scheme));
    let user = scheme.unwrap_or(&number).split(['@', ';']).next().unwrap_or_default();
    let digits: String = user.chars().filter(|c| !" -./()[]".contains(*c)).collect();
    let digits = digits.strip_prefix('+').unwrap_or(&digits);
    digits.strip_suffix('#').unwrap_or(digits).to_owned()
}
