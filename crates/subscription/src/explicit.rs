//! Booked instants that are not those that the rules give: the record wins, and somebody is told (J8).

use chrono::{DateTime, Utc};

use super::booking;
use super::entitlement::trial_ends_at;
use super::policy::{CancelAfterTerm, Terms};
use super::record::{ContractKind, Object, Record};

/// A kind of booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Booked {
    /// The change of the base seats at this place of the schedule, from 0.
    Change(usize),
    /// The end of the subscription.
    End,
}

/// A booked instant, and the one that a request made now would get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explicit {
    /// The booking.
    pub booked: Booked,
    /// When, as the record says; it is what counts.
    pub at: DateTime<Utc>,
    /// When the rules would have it.
    pub computed: DateTime<Utc>,
}

/// Everything booked for after `now` at another instant than the rules give for a request made now (J8): the
/// reductions and the end of a paid subscription (J10, J12), the end of a trial (J3).
///
/// Nothing is said where the rules give no instant: no start is known, reductions are not `scheduled`, or a
/// cancellation takes effect with the billing period, whatever the term.
pub fn explicit(record: &Record, terms: &Terms, now: DateTime<Utc>) -> Vec<Explicit> {
    let end = record.cancel_at.filter(|at| *at > now).map(|at| (Booked::End, at));
    let of_term = record.kind == ContractKind::Paid && record.start.is_some();
    let computed_end = match record.kind {
        ContractKind::Trial => trial_ends_at(record, terms),
        _ if of_term && terms.cancel_after_term != CancelAfterTerm::PeriodEnd => {
            booking::end_at(record, terms, &Object::Subscription, now)
        }
        _ => None,
    };
    let reduction = booking::reduction_at(record, terms, &Object::Subscription, now);
    let computed_change = reduction.ok().filter(|_| of_term);
    let changes = reductions(record).filter(|(_, at)| *at > now).map(|change| (change, computed_change));
    let all = changes.chain(end.map(|end| (end, computed_end)));
    all.filter_map(|((booked, at), computed)| {
        let computed = computed.filter(|computed| *computed != at)?;
        Some(Explicit { booked, at, computed })
    })
    .collect()
}

/// The changes that leave fewer base seats than before.
fn reductions(record: &Record) -> impl Iterator<Item = (Booked, DateTime<Utc>)> {
    let before = [record.seats].into_iter().chain(record.changes.iter().map(|change| Some(change.seats)));
    let steps = record.changes.iter().enumerate().zip(before);
    let fewer = steps.filter(|((_, change), before)| before.is_none_or(|before| change.seats < before));
    fewer.map(|((at, change), _)| (Booked::Change(at), change.effective_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Downgrade;
    use crate::record::{Actor, Change};

    fn t(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn paid(changes: &[(&str, u32)], cancel_at: Option<&str>) -> Record {
        let change = |(at, seats): &(&str, u32)| Change { effective_at: t(at), seats: *seats, by: Actor::Customer };
        Record {
            start: Some("2026-06-16T00:00:00".parse().unwrap()),
            changes: changes.iter().map(change).collect(),
            cancel_at: cancel_at.map(t),
            ..Record::paid(Some(16))
        }
    }

    #[track_caller]
    fn check(record: &Record, terms: &Terms, now: &str, expected: &[(Booked, &str, &str)]) {
        let expected: Vec<Explicit> = expected
            .iter()
            .map(|(booked, at, computed)| Explicit { booked: *booked, at: t(at), computed: t(computed) })
            .collect();
        assert_eq!(explicit(record, terms, t(now)), expected, "at {now}");
    }

    const NOW: &str = "2026-11-22T12:00:00Z";
    const E: &str = "2027-06-15T22:00:00Z";
    const OTHER: &str = "2027-06-30T22:00:00Z";

    #[test]
    fn within_the_term_its_end_is_computed_t109() {
        let terms = Terms::default();
        check(&paid(&[(E, 10)], None), &terms, NOW, &[]);
        check(&paid(&[(OTHER, 10)], None), &terms, NOW, &[(Booked::Change(0), OTHER, E)]);
        check(&paid(&[], Some(E)), &terms, NOW, &[]);
        check(&paid(&[], Some(OTHER)), &terms, NOW, &[(Booked::End, OTHER, E)]);
    }

    #[test]
    fn after_the_term_the_next_month_is() {
        let terms = Terms::default();
        let now = "2027-06-20T00:00:00Z";
        check(&paid(&[(OTHER, 10)], Some(OTHER)), &terms, now, &[]);
        let late = "2027-07-31T22:00:00Z";
        check(&paid(&[(late, 10)], None), &terms, now, &[(Booked::Change(0), late, OTHER)]);
        check(&paid(&[(late, 10)], None), &terms, late, &[]);
    }

    #[test]
    fn a_cancellation_may_wait_for_the_next_term() {
        let terms = Terms { cancel_after_term: CancelAfterTerm::TermEnd, ..Terms::default() };
        let next = "2028-06-15T22:00:00Z";
        check(&paid(&[], Some(OTHER)), &terms, NOW, &[(Booked::End, OTHER, E)]);
        check(&paid(&[], Some(next)), &terms, E, &[]);
        check(&paid(&[], Some(OTHER)), &terms, E, &[(Booked::End, OTHER, next)]);
    }

    #[test]
    fn only_what_takes_seats_away_and_is_to_come_is_compared() {
        let terms = Terms::default();
        let changes =
            [("2026-08-01T00:00:00Z", 10), ("2026-12-24T00:00:00Z", 20), (OTHER, 20), ("2027-08-01T00:00:00Z", 19)];
        let expected = [(Booked::Change(3), "2027-08-01T00:00:00Z", E)];
        check(&paid(&changes, None), &terms, NOW, &expected);
        let unlimited = Record { seats: None, ..paid(&[(OTHER, 10)], None) };
        check(&unlimited, &terms, NOW, &[(Booked::Change(0), OTHER, E)]);
    }

    #[test]
    fn nothing_is_said_where_the_rules_give_no_instant() {
        let both = paid(&[(OTHER, 10)], Some(OTHER));
        let end = [(Booked::End, OTHER, E)];
        for downgrade in [Downgrade::RecreateNow, Downgrade::AfterTermRecreate] {
            check(&both, &Terms { downgrade, ..Terms::default() }, NOW, &end);
        }
        let terms = Terms { cancel_after_term: CancelAfterTerm::PeriodEnd, ..Terms::default() };
        check(&both, &terms, NOW, &[(Booked::Change(0), OTHER, E)]);
        check(&Record { start: None, ..both.clone() }, &Terms::default(), NOW, &[]);
        check(&Record { kind: ContractKind::Nfr, ..both }, &Terms::default(), NOW, &[]);
    }

    #[test]
    fn a_trial_has_its_thirty_days() {
        let at = |cancel_at: &str| Record {
            kind: ContractKind::Trial,
            ..paid(&[("2026-07-01T00:00:00Z", 5)], Some(cancel_at))
        };
        let end = "2026-07-15T22:00:00Z";
        check(&at(end), &Terms::default(), "2026-06-20T00:00:00Z", &[]);
        let longer = "2026-08-01T00:00:00Z";
        check(&at(longer), &Terms::default(), "2026-06-20T00:00:00Z", &[(Booked::End, longer, end)]);
    }
}
