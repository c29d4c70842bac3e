//! The price of a granted request: charge and credit of the running month, and the new fee (K5, K7, N11).

use chrono::{DateTime, Utc};

use super::booking::period;
use super::civil::{self, Edge};
use super::entitlement::{all_seats, ends_at};
use super::invoice::{Upgrade, refund_cents, statement, upgrade};
use super::policy::Terms;
use super::record::{ContractKind, Record};
use super::tariff::monthly_cents;

/// The price of a change of a record, in cents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Charged at once (K5).
    pub charge_cents: u64,
    /// Credited for the part of the month that is over (K5), or paid back for the part that is cancelled (N11).
    pub credit_cents: u64,
    /// The fee of a month for what is in use from now on; `None` where it has no price: unlimited (F5).
    pub monthly_cents: Option<u64>,
}

/// The price of going from one record to the other now. What is booked for later costs nothing today.
pub fn price(before: &Record, after: &Record, terms: &Terms, now: DateTime<Utc>) -> Price {
    let (Some(old), Some(new)) = (billed_seats(before, terms, now), billed_seats(after, terms, now)) else {
        return Price::default();
    };
    let fee = |seats| monthly_cents(terms.price_mode, seats);
    let Upgrade { charge_cents, credit_cents, .. } = charged(before, after, terms, now, (old, new));
    let given_up = fee(old).saturating_sub(fee(new));
    let refund = period(before, terms, now).filter(|_| new < old).map_or(0, |(since, until)| {
        let since = civil::midnight(terms.zone, since, Edge::Start);
        let ended = ends_at(after, terms).map_or(now, |end| end.min(now));
        refund_cents(terms.refund, given_up, terms.zone, since, until, ended)
    });
    Price { charge_cents, credit_cents: credit_cents + refund, monthly_cents: Some(fee(new)) }
}

/// The difference between what the running month costs by either record.
fn charged(before: &Record, after: &Record, terms: &Terms, now: DateTime<Utc>, seats: (u32, u32)) -> Upgrade {
    let today = civil::civil(terms.zone, now).date();
    let month = |record| statement(record, terms, today, today).ok().and_then(|lines| lines.first().copied());
    match (month(before), month(after)) {
        (Some(before), Some(after)) => Upgrade {
            charge_cents: after.charge_cents.saturating_sub(before.charge_cents),
            net_cents: after.net_cents.saturating_sub(before.net_cents),
            credit_cents: after.credit_cents.saturating_sub(before.credit_cents),
        },
        // Without a start nobody knows what was billed before: the seats in use are taken for it.
        _ => upgrade(terms.price_mode, seats.0, seats.1, today),
    }
}

/// Seats that cost something now; `None` where they are unlimited.
fn billed_seats(record: &Record, terms: &Terms, now: DateTime<Utc>) -> Option<u32> {
    if record.kind != ContractKind::Paid || ends_at(record, terms).is_some_and(|end| end <= now) {
        return Some(0);
    }
    all_seats(record, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Refund;
    use crate::record::{Actor, Object, When};
    use crate::request::{Request, Verb, request};

    fn t(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(record: &Record, terms: &Terms, verb: Verb, now: &str, expected: (u64, u64, Option<u64>)) -> Record {
        let ask = Request { actor: Actor::Operator, object: Object::Subscription, verb };
        let after = request(record, terms, &ask, t(now)).unwrap().record;
        let Price { charge_cents, credit_cents, monthly_cents } = price(record, &after, terms, t(now));
        assert_eq!((charge_cents, credit_cents, monthly_cents), expected, "{:?} at {now}", ask.verb);
        after
    }

    fn paid(seats: u32, start: &str) -> Record {
        Record { start: start.parse().ok(), ..Record::paid(Some(seats)) }
    }

    #[test]
    fn additions_are_charged_and_credited_t124_t130_t131() {
        let terms = Terms::default();
        let ten = paid(10, "2026-01-01T00:00:00");
        check(&ten, &terms, Verb::Add { seats: 6 }, "2026-06-16T10:00:00Z", (3_916, 1_958, Some(12_816)));
        let twelve = check(&ten, &terms, Verb::Add { seats: 2 }, "2026-06-06T10:00:00Z", (712, 119, Some(9_612)));
        check(&twelve, &terms, Verb::Add { seats: 4 }, "2026-06-16T10:00:00Z", (3_204, 1_602, Some(12_816)));
        check(&ten, &terms, Verb::Add { seats: 1 }, "2026-06-16T10:00:00Z", (0, 0, Some(8_811)));
        let nobody_knows_since_when = Record { start: None, ..ten };
        check(
            &nobody_knows_since_when,
            &terms,
            Verb::Add { seats: 6 },
            "2026-06-16T10:00:00Z",
            (3_916, 1_958, Some(12_816)),
        );
    }

    #[test]
    fn a_trial_costs_from_its_upgrade_on_t125() {
        let trial = Record { kind: ContractKind::Trial, ..paid(10, "2026-06-01T10:00:00") };
        check(
            &trial,
            &Terms::default(),
            Verb::Upgrade { seats: 16 },
            "2026-06-16T10:00:00Z",
            (12_816, 6_408, Some(12_816)),
        );
    }

    #[test]
    fn bookings_cost_nothing_today_and_ends_pay_back_k7_n11() {
        let sixteen = paid(16, "2026-01-01T00:00:00");
        check(&sixteen, &Terms::default(), Verb::Reduce { to: 10 }, "2026-06-16T10:00:00Z", (0, 0, Some(12_816)));
        let now = |licences| Verb::Cancel { licences, when: Some(When::Immediate) };
        check(&sixteen, &Terms::default(), now(None), "2026-06-16T10:00:00Z", (0, 0, Some(0)));
        let days = Terms { refund: Refund::Days, ..Terms::default() };
        check(&sixteen, &days, now(None), "2026-06-15T10:00:00Z", (0, 6_408, Some(0)));
        check(&sixteen, &days, now(Some(6)), "2026-06-15T10:00:00Z", (0, 1_958, Some(8_900)));
        let unlimited = Record { seats: None, ..sixteen };
        check(&unlimited, &days, now(None), "2026-06-15T10:00:00Z", (0, 0, None));
    }
}
