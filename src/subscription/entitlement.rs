//! What a record entitles its tenant to at an instant (J2, J5, J6, J14, N6, N10, V11).

use chrono::{DateTime, Utc};

use super::record::{Addon, Change, ContractKind, Record};

/// Where a subscription stands (N1, METRICS `usherd_subscriptions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// J3.
    Trial,
    /// Running, nothing booked.
    Active,
    /// A change of the base seats is booked.
    PendingChange,
    /// The end is booked.
    PendingCancel,
    /// J5.
    Suspended,
    /// J7.
    Stale,
    /// J6.
    Ended,
}

impl State {
    /// Every state, in the order of the catalogue of metrics.
    pub const ALL: &'static [State] = &[
        State::Trial,
        State::Active,
        State::PendingChange,
        State::PendingCancel,
        State::Suspended,
        State::Stale,
        State::Ended,
    ];

    /// The word on the wire, in metrics and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Trial => "trial",
            State::Active => "active",
            State::PendingChange => "pending_change",
            State::PendingCancel => "pending_cancel",
            State::Suspended => "suspended",
            State::Stale => "stale",
            State::Ended => "ended",
        }
    }

    /// Whether seats are given in this state (J5, J6, J7).
    pub const fn gives_seats(self) -> bool {
        !matches!(self, State::Suspended | State::Stale | State::Ended)
    }
}

/// What a tenant may use at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entitlement {
    /// Where the subscription stands.
    pub state: State,
    /// Seats; `None` is unlimited (F5). Of a suspended one: what resuming restores. Of an ended one: 0.
    pub seats: Option<u32>,
    /// The next instant at which `state` or `seats` will be another; `None` if never.
    pub next_change_at: Option<DateTime<Utc>>,
}

/// State and seats of a record at an instant, and the next instant at which they change.
///
/// Pure, and constant between two booked instants (V11). Intervals are half-open: a change booked for an
/// instant is in force at that instant (H3). An end beats everything due at the same instant (J14), and
/// what is booked for after the end is void (N6).
///
/// What is computed rather than booked has its place in `at`: the end of a trial (J3), the end of a term
/// (J4) and staleness (J7) are further instants that `instants` must then list.
pub fn entitlement(record: &Record, now: DateTime<Utc>) -> Entitlement {
    let (state, seats) = at(record, now);
    let mut future: Vec<DateTime<Utc>> = instants(record).filter(|instant| *instant > now).collect();
    future.sort_unstable();
    let next_change_at = future.into_iter().find(|instant| at(record, *instant) != (state, seats));
    Entitlement { state, seats, next_change_at }
}

/// The most seats the record gives at any time; `None` where it is unlimited at some time.
///
/// An upper bound: base and add-ons are taken at the highest of each.
pub fn seats_peak(record: &Record) -> Option<u32> {
    let highest = |base: u32, changes: &[Change]| changes.iter().map(|change| change.seats).fold(base, u32::max);
    let base = highest(record.seats?, &record.changes);
    Some(record.addons.iter().fold(base, |sum, addon| sum.saturating_add(highest(addon.seats, &addon.changes))))
}

/// Every instant at which the record may say something else, in no order.
pub fn instants(record: &Record) -> impl Iterator<Item = DateTime<Utc>> {
    let addons =
        record.addons.iter().flat_map(|addon| addon.changes.iter().map(|c| c.effective_at).chain(addon.cancel_at));
    record.changes.iter().map(|change| change.effective_at).chain(record.cancel_at).chain(addons)
}

fn at(record: &Record, now: DateTime<Utc>) -> (State, Option<u32>) {
    if record.cancel_at.is_some_and(|end| end <= now) {
        return (State::Ended, Some(0));
    }
    let base = booked(&record.changes, now).map_or(record.seats, Some);
    let seats =
        base.map(|base| record.addons.iter().fold(base, |sum, addon| sum.saturating_add(addon_seats(addon, now))));
    (state(record, now), seats)
}

fn state(record: &Record, now: DateTime<Utc>) -> State {
    let booked_ahead = record.changes.last().is_some_and(|change| change.effective_at > now);
    if record.suspended {
        State::Suspended
    } else if record.cancel_at.is_some() {
        State::PendingCancel
    } else if record.kind == ContractKind::Trial {
        State::Trial
    } else if booked_ahead {
        State::PendingChange
    } else {
        State::Active
    }
}

fn addon_seats(addon: &Addon, now: DateTime<Utc>) -> u32 {
    if addon.cancel_at.is_some_and(|end| end <= now) {
        return 0;
    }
    booked(&addon.changes, now).unwrap_or(addon.seats)
}

/// The seats of the last change in force; the schedule is ascending.
fn booked(changes: &[Change], now: DateTime<Utc>) -> Option<u32> {
    changes.iter().take_while(|change| change.effective_at <= now).last().map(|change| change.seats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::record::Actor;

    fn t(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn change(at: &str, seats: u32) -> Change {
        Change { effective_at: t(at), seats, by: Actor::Customer }
    }

    fn record(seats: Option<u32>) -> Record {
        Record {
            kind: ContractKind::Paid,
            start: None,
            term_months: 12,
            seats,
            changes: Vec::new(),
            addons: Vec::new(),
            cancel_at: None,
            suspended: false,
            synced_at: None,
            numbers: None,
            endpoints: None,
        }
    }

    #[track_caller]
    fn check(record: &Record, now: &str, state: State, seats: Option<u32>, next: Option<&str>) {
        let got = entitlement(record, t(now));
        assert_eq!(got, Entitlement { state, seats, next_change_at: next.map(t) }, "at {now}");
    }

    #[test]
    fn a_plain_record_never_changes() {
        check(&record(Some(16)), "2026-11-22T00:00:00Z", State::Active, Some(16), None);
        check(&record(Some(0)), "2026-11-22T00:00:00Z", State::Active, Some(0), None);
        check(&record(None), "2026-11-22T00:00:00Z", State::Active, None, None);
        let trial = Record { kind: ContractKind::Trial, ..record(Some(10)) };
        check(&trial, "2026-11-22T00:00:00Z", State::Trial, Some(10), None);
    }

    #[test]
    fn a_booked_change_takes_effect_at_its_second_t115() {
        let e = "2027-06-15T22:00:00Z";
        let r = Record { changes: vec![change(e, 10), change("2027-12-31T23:00:00Z", 8)], ..record(Some(16)) };
        check(&r, "2026-11-22T00:00:00Z", State::PendingChange, Some(16), Some(e));
        check(&r, "2027-06-15T21:59:59.999Z", State::PendingChange, Some(16), Some(e));
        check(&r, e, State::PendingChange, Some(10), Some("2027-12-31T23:00:00Z"));
        check(&r, "2027-12-31T23:00:00Z", State::Active, Some(8), None);
    }

    #[test]
    fn a_change_to_the_same_number_changes_the_state_only() {
        let e = "2027-06-15T22:00:00Z";
        let r = Record { changes: vec![change(e, 16)], ..record(Some(16)) };
        check(&r, "2026-11-22T00:00:00Z", State::PendingChange, Some(16), Some(e));
        check(&r, e, State::Active, Some(16), None);
        let trial = Record { kind: ContractKind::Trial, ..r };
        check(&trial, "2026-11-22T00:00:00Z", State::Trial, Some(16), None);
    }

    #[test]
    fn the_end_beats_a_reduction_at_the_same_instant_t107() {
        let e = "2027-06-15T22:00:00Z";
        let after = "2028-01-01T00:00:00Z";
        let r = Record { changes: vec![change(e, 10), change(after, 12)], cancel_at: Some(t(e)), ..record(Some(16)) };
        check(&r, "2026-11-22T00:00:00Z", State::PendingCancel, Some(16), Some(e));
        check(&r, e, State::Ended, Some(0), None);
        check(&r, "2028-06-01T00:00:00Z", State::Ended, Some(0), None);
    }

    #[test]
    fn an_unlimited_one_ends_too_and_may_be_limited_by_a_change() {
        let e = "2027-01-01T00:00:00Z";
        let ends = Record { cancel_at: Some(t(e)), ..record(None) };
        check(&ends, e, State::Ended, Some(0), None);
        let limited = Record { changes: vec![change(e, 5)], ..record(None) };
        check(&limited, "2026-12-31T23:59:59Z", State::PendingChange, None, Some(e));
        check(&limited, e, State::Active, Some(5), None);
    }

    #[test]
    fn addons_add_until_they_are_cancelled_n10() {
        let p = "2027-07-01T00:00:00Z";
        let addon = Addon { id: "a".to_owned(), seats: 5, changes: vec![change(p, 8)], cancel_at: None };
        let r = Record { addons: vec![addon.clone()], ..record(Some(10)) };
        check(&r, "2027-06-30T23:59:59Z", State::Active, Some(15), Some(p));
        check(&r, p, State::Active, Some(18), None);
        let gone = Addon { cancel_at: Some(t(p)), ..addon };
        let r = Record { addons: vec![gone], ..record(Some(10)) };
        check(&r, "2027-06-30T23:59:59Z", State::Active, Some(15), Some(p));
        check(&r, p, State::Active, Some(10), None);
    }

    #[test]
    fn both_change_at_the_end_of_a_period_t142_and_the_end_voids_t140() {
        let p = "2026-06-30T22:00:00Z";
        let addon = Addon { id: "a".to_owned(), seats: 5, changes: vec![change(p, 8)], cancel_at: None };
        let both = Record { changes: vec![change(p, 7)], addons: vec![addon], ..record(Some(10)) };
        check(&both, p, State::Active, Some(15), None);
        check(&both, "2026-06-30T21:59:59Z", State::PendingChange, Some(15), Some(p));
        let cancelled = Record { cancel_at: Some(t(p)), changes: Vec::new(), ..both };
        check(&cancelled, "2026-06-30T21:59:59Z", State::PendingCancel, Some(15), Some(p));
        check(&cancelled, p, State::Ended, Some(0), None);
    }

    #[test]
    fn an_instant_that_changes_nothing_is_passed_over() {
        let addon = Addon {
            id: "a".to_owned(),
            seats: 5,
            changes: vec![change("2027-01-01T00:00:00Z", 5), change("2027-02-01T00:00:00Z", 6)],
            cancel_at: None,
        };
        let r = Record { addons: vec![addon], ..record(Some(10)) };
        check(&r, "2026-11-22T00:00:00Z", State::Active, Some(15), Some("2027-02-01T00:00:00Z"));
    }

    #[test]
    fn suspended_keeps_its_seats_in_the_record_and_may_still_end() {
        let e = "2027-01-01T00:00:00Z";
        let r = Record { suspended: true, cancel_at: Some(t(e)), ..record(Some(16)) };
        check(&r, "2026-11-22T00:00:00Z", State::Suspended, Some(16), Some(e));
        check(&r, e, State::Ended, Some(0), None);
    }

    #[test]
    fn sums_and_peaks_do_not_overflow() {
        let addon = Addon { id: "a".to_owned(), seats: u32::MAX, changes: Vec::new(), cancel_at: None };
        let r = Record { addons: vec![addon], changes: vec![change("2027-01-01T00:00:00Z", 7)], ..record(Some(5)) };
        assert_eq!(entitlement(&r, t("2026-01-01T00:00:00Z")).seats, Some(u32::MAX));
        assert_eq!(seats_peak(&r), Some(u32::MAX));
        assert_eq!(seats_peak(&Record { addons: Vec::new(), ..r }), Some(7));
        assert_eq!(seats_peak(&record(None)), None);
    }

    #[test]
    fn states_have_their_words_and_three_give_no_seats() {
        let words: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
        assert_eq!(words, ["trial", "active", "pending_change", "pending_cancel", "suspended", "stale", "ended"]);
        assert_eq!(State::ALL.iter().filter(|state| !state.gives_seats()).count(), 3);
    }
}
