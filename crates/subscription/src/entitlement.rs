//! The entitlement of a tenant at an instant, from its record (J2, J5, J6, J14, N6, N10, V11).

use std::borrow::Cow;

use chrono::{DateTime, Duration, Utc};
use usherd_contract::vocabulary;

use super::civil::{self, Edge};
use super::policy::Terms;
use super::record::{Addon, Change, ContractKind, Record};

vocabulary! {
    /// Where a subscription stands (N1, METRICS `usherd_subscriptions`).
    State {
        /// In its trial (J3).
        Trial = "trial",
        /// Running, nothing booked.
        Active = "active",
        /// A change of the base seats is booked.
        PendingChange = "pending_change",
        /// The end is booked.
        PendingCancel = "pending_cancel",
        /// Suspended by the operator (J5).
        Suspended = "suspended",
        /// Not confirmed for too long (J7).
        Stale = "stale",
        /// Trial over, or cancelled (J6).
        Ended = "ended",
    }
}

impl State {
    /// True if seats are given in this state (J5, J6, J7).
    pub const fn gives_seats(self) -> bool {
        !matches!(self, State::Suspended | State::Stale | State::Ended)
    }
}

/// The rights of a tenant at an instant.
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
/// Pure, and constant between two instants that it names (V11). Intervals are half-open: a change booked for an
/// instant is in force at that instant (H3). An end beats everything due at the same instant (J14), and
/// what is booked for after the end is void (N6). A start in the future takes nothing away: it anchors term
/// and billing only.
pub fn entitlement(record: &Record, terms: &Terms, now: DateTime<Utc>) -> Entitlement {
    let (state, seats) = at(record, terms, now);
    let mut future: Vec<DateTime<Utc>> = instants(record, terms).filter(|instant| *instant > now).collect();
    future.sort_unstable();
    let next_change_at = future.into_iter().find(|instant| at(record, terms, *instant) != (state, seats));
    Entitlement { state, seats, next_change_at }
}

/// The present instant as the clocks tell it (H5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timelines {
    /// The time of the wall clock.
    pub wall: DateTime<Utc>,
    /// The time that it would show without the step that it made; `None` while it is trusted.
    pub old: Option<DateTime<Utc>>,
    /// The last instant at which it was trusted, from which `old` goes on; `None` while it is.
    pub trusted: Option<DateTime<Utc>>,
}

impl From<DateTime<Utc>> for Timelines {
    fn from(wall: DateTime<Utc>) -> Self {
        Timelines { wall, old: None, trusted: None }
    }
}

/// As [`entitlement`], where the wall clock stepped the more generous of both timelines (H5).
///
/// `next_change_at` is told in the time of the wall clock. While both count it is when the answer may be
/// another: what one timeline loses the other may still give. A record that was confirmed when the clock was trusted
/// last does not turn stale meanwhile: who is to confirm it is asked by that very clock.
pub fn entitlement_on(record: &Record, terms: &Terms, at: Timelines) -> Entitlement {
    let by_wall = entitlement(record, terms, at.wall);
    let Some(old) = at.old else { return by_wall };
    let mut by_old = entitlement(&confirmed_until(record, at), terms, old);
    by_old.next_change_at = by_old.next_change_at.and_then(|next| next.checked_add_signed(at.wall - old));
    more_generous(by_wall, by_old)
}

/// A record as if all the time since the clock was trusted last were not there for its confirmation.
fn confirmed_until(record: &Record, at: Timelines) -> Cow<'_, Record> {
    let (Some(old), Some(trusted), Some(synced_at)) = (at.old, at.trusted, record.synced_at) else {
        return Cow::Borrowed(record);
    };
    let synced_at = synced_at.checked_add_signed((old - trusted).max(Duration::zero()));
    Cow::Owned(Record { synced_at, ..record.clone() })
}

/// The better of two entitlements (H5): a state that gives seats beats one that does not, a suspended or stale
/// one an ended one, and more seats win. Where they are worth the same it is the first. The next change is the
/// earlier of both.
pub fn more_generous(a: Entitlement, b: Entitlement) -> Entitlement {
    let worth = |of: &Entitlement| {
        // A suspended subscription closes and unpairs nothing, an ended one does (J5, J6).
        let state = u8::from(of.state != State::Ended) + u8::from(of.state.gives_seats());
        (state, of.seats.map_or(u64::MAX, u64::from))
    };
    let better = if worth(&b) > worth(&a) { b } else { a };
    let next_change_at = a.next_change_at.into_iter().chain(b.next_change_at).min();
    Entitlement { next_change_at, ..better }
}

/// When the subscription ends: as booked, which wins over what is computed (J8), or the end of its trial (J3).
pub fn ends_at(record: &Record, terms: &Terms) -> Option<DateTime<Utc>> {
    record.cancel_at.or_else(|| trial_ends_at(record, terms))
}

/// When a trial ends by itself (J3): so many civil days after its start, on the same clock reading.
pub fn trial_ends_at(record: &Record, terms: &Terms) -> Option<DateTime<Utc>> {
    let start = record.start.filter(|_| record.kind == ContractKind::Trial)?;
    Some(civil::instant(terms.zone, civil::days_after(start, terms.trial_days)?, Edge::End))
}

/// The end of the minimum term, E (J4); `None` of a trial, and where no start is known.
pub fn term_ends_at(record: &Record, terms: &Terms) -> Option<DateTime<Utc>> {
    let start = record.start.filter(|_| record.kind != ContractKind::Trial)?;
    Some(civil::midnight(terms.zone, civil::months_after(start.date(), record.term_months)?, Edge::End))
}

/// When a synced record is stale unless it is confirmed again (J7).
pub fn stale_at(record: &Record, terms: &Terms) -> Option<DateTime<Utc>> {
    let days = Duration::days(i64::from(terms.stale_after_days));
    record.synced_at.filter(|_| terms.stale_after_days > 0)?.checked_add_signed(days)
}

/// The base seats at an instant, ends and states left aside; `None` is unlimited (F5).
pub fn base_seats(record: &Record, now: DateTime<Utc>) -> Option<u32> {
    booked(&record.changes, now).map_or(record.seats, Some)
}

/// The seats of an add-on at an instant; 0 after its end.
pub fn addon_seats(addon: &Addon, now: DateTime<Utc>) -> u32 {
    if addon.cancel_at.is_some_and(|end| end <= now) {
        return 0;
    }
    booked(&addon.changes, now).unwrap_or(addon.seats)
}

/// The base seats and those of all add-ons at an instant, the end and state of the subscription left aside.
pub fn all_seats(record: &Record, now: DateTime<Utc>) -> Option<u32> {
    let base = base_seats(record, now)?;
    Some(record.addons.iter().fold(base, |sum, addon| sum.saturating_add(addon_seats(addon, now))))
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
pub fn instants(record: &Record, terms: &Terms) -> impl Iterator<Item = DateTime<Utc>> {
    let addons =
        record.addons.iter().flat_map(|addon| addon.changes.iter().map(|c| c.effective_at).chain(addon.cancel_at));
    let computed = ends_at(record, terms).into_iter().chain(stale_at(record, terms));
    record.changes.iter().map(|change| change.effective_at).chain(computed).chain(addons)
}

fn at(record: &Record, terms: &Terms, now: DateTime<Utc>) -> (State, Option<u32>) {
    if ends_at(record, terms).is_some_and(|end| end <= now) {
        return (State::Ended, Some(0));
    }
    (state(record, terms, now), all_seats(record, now))
}

/// The state by J2: ended, which the caller has checked, comes before suspended, stale, and the rest.
fn state(record: &Record, terms: &Terms, now: DateTime<Utc>) -> State {
    let booked_ahead = record.changes.last().is_some_and(|change| change.effective_at > now);
    let ends_early = match (record.cancel_at, trial_ends_at(record, terms)) {
        (Some(booked), Some(computed)) => booked < computed,
        (booked, _) => booked.is_some(),
    };
    if record.suspended {
        State::Suspended
    } else if stale_at(record, terms).is_some_and(|at| at <= now) {
        State::Stale
    } else if ends_early {
        State::PendingCancel
    } else if record.kind == ContractKind::Trial {
        State::Trial
    } else if booked_ahead {
        State::PendingChange
    } else {
        State::Active
    }
}

/// The seats of the last change in force; the schedule is ascending.
fn booked(changes: &[Change], now: DateTime<Utc>) -> Option<u32> {
    let passed = changes.partition_point(|change| change.effective_at <= now);
    changes[..passed].last().map(|change| change.seats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Actor;

    fn t(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn change(at: &str, seats: u32) -> Change {
        Change { effective_at: t(at), seats, by: Actor::Customer }
    }

    fn record(seats: Option<u32>) -> Record {
        Record::paid(seats)
    }

    #[track_caller]
    fn check(record: &Record, now: &str, state: State, seats: Option<u32>, next: Option<&str>) {
        let got = entitlement(record, &Terms::default(), t(now));
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
        let addon = Addon { changes: vec![change(p, 8)], ..Addon::new("a", 5) };
        let r = Record { addons: vec![addon.clone()], ..record(Some(10)) };
        check(&r, "2027-06-30T23:59:59Z", State::Active, Some(15), Some(p));
        check(&r, p, State::Active, Some(18), None);
        let gone = Addon { cancel_at: Some(t(p)), ..addon };
        let r = Record { addons: vec![gone], ..record(Some(10)) };
        check(&r, "2027-06-30T23:59:59Z", State::Active, Some(15), Some(p));
        check(&r, p, State::Active, Some(10), None);
    }

    #[test]
    fn both_change_at_a_period_end_and_the_end_voids_t142_t140() {
        let p = "2026-06-30T22:00:00Z";
        let addon = Addon { changes: vec![change(p, 8)], ..Addon::new("a", 5) };
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
            changes: vec![change("2027-01-01T00:00:00Z", 5), change("2027-02-01T00:00:00Z", 6)],
            ..Addon::new("a", 5)
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

    fn civil(text: &str) -> Option<chrono::NaiveDateTime> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_trial_ends_after_thirty_civil_days_t085_t086_t088_t089() {
        for (start, end) in [
            ("2026-03-10T10:00:00", "2026-04-09T08:00:00Z"),
            ("2026-02-27T02:30:00", "2026-03-29T01:00:00Z"),
            ("2028-01-31T12:00:00", "2028-03-01T11:00:00Z"),
        ] {
            let trial = Record { kind: ContractKind::Trial, start: civil(start), ..record(Some(10)) };
            assert_eq!(ends_at(&trial, &Terms::default()), Some(t(end)), "{start}");
            let before = t(end) - Duration::seconds(1);
            let got = entitlement(&trial, &Terms::default(), before);
            assert_eq!(got, Entitlement { state: State::Trial, seats: Some(10), next_change_at: Some(t(end)) });
            check(&trial, end, State::Ended, Some(0), None);
        }
    }

    #[test]
    fn what_the_record_says_of_a_trials_end_wins_j8() {
        let trial = Record { kind: ContractKind::Trial, start: civil("2026-03-10T10:00:00"), ..record(Some(10)) };
        let longer = Record { cancel_at: Some(t("2026-05-01T00:00:00Z")), ..trial.clone() };
        check(&longer, "2026-04-09T08:00:00Z", State::Trial, Some(10), Some("2026-05-01T00:00:00Z"));
        let shorter = Record { cancel_at: Some(t("2026-04-01T00:00:00Z")), ..trial };
        check(&shorter, "2026-03-10T10:00:00Z", State::PendingCancel, Some(10), Some("2026-04-01T00:00:00Z"));
    }

    #[test]
    fn a_term_ends_at_civil_midnight_t092() {
        let paid = Record { start: civil("2026-01-31T00:00:00"), ..record(Some(16)) };
        assert_eq!(term_ends_at(&paid, &Terms::default()), Some(t("2027-01-30T23:00:00Z")));
        let trial = Record { kind: ContractKind::Trial, ..paid };
        assert_eq!(term_ends_at(&trial, &Terms::default()), None);
    }

    #[test]
    fn a_record_that_nobody_confirms_turns_stale_t116() {
        let synced = Record { synced_at: Some(t("2026-05-01T00:00:00Z")), ..record(Some(16)) };
        let at = "2026-05-31T00:00:00Z";
        check(&synced, "2026-05-30T23:59:59Z", State::Active, Some(16), Some(at));
        check(&synced, at, State::Stale, Some(16), None);
        let suspended = Record { suspended: true, ..synced.clone() };
        check(&suspended, at, State::Suspended, Some(16), None);
        let never = Terms { stale_after_days: 0, ..Terms::default() };
        assert_eq!(entitlement(&synced, &never, t(at)).state, State::Active);
    }

    #[test]
    fn the_more_generous_of_two_wins_h5() {
        let of = |state, seats| Entitlement { state, seats, next_change_at: None };
        for (better, worse) in [
            (of(State::Active, Some(16)), of(State::PendingChange, Some(10))),
            (of(State::Active, None), of(State::Active, Some(1_000_000))),
            (of(State::Trial, Some(1)), of(State::Suspended, Some(16))),
            (of(State::PendingCancel, Some(0)), of(State::Ended, Some(0))),
            (of(State::Stale, Some(3)), of(State::Ended, Some(0))),
            (of(State::Suspended, None), of(State::Stale, Some(5))),
        ] {
            assert_eq!(more_generous(better, worse), better);
            assert_eq!(more_generous(worse, better), better);
        }
        let (first, second) = (of(State::Active, Some(5)), of(State::PendingCancel, Some(5)));
        assert_eq!(more_generous(first, second).state, State::Active);
        let soon = Entitlement { next_change_at: Some(t("2026-01-01T00:00:00Z")), ..first };
        let later = Entitlement { next_change_at: Some(t("2026-01-02T00:00:00Z")), ..of(State::Active, Some(9)) };
        assert_eq!(more_generous(soon, later), Entitlement { seats: Some(9), ..soon });
    }

    #[test]
    fn two_timelines_give_one_entitlement_by_the_wall_clock_h5() {
        let end = "2027-06-15T22:00:00Z";
        let r = Record { cancel_at: Some(t(end)), ..record(Some(16)) };
        let old = t("2027-03-15T22:00:00Z");
        let ahead = Timelines { wall: old + Duration::days(365), old: Some(old), trusted: Some(old) };
        let got = entitlement_on(&r, &Terms::default(), ahead);
        let at = t(end) + Duration::days(365);
        assert_eq!(got, Entitlement { state: State::PendingCancel, seats: Some(16), next_change_at: Some(at) });
        let trusted = Timelines { old: None, trusted: None, ..ahead };
        assert_eq!(entitlement_on(&r, &Terms::default(), trusted).state, State::Ended);
    }

    #[test]
    fn sums_and_peaks_do_not_overflow() {
        let addon = Addon::new("a", u32::MAX);
        let r = Record { addons: vec![addon], changes: vec![change("2027-01-01T00:00:00Z", 7)], ..record(Some(5)) };
        assert_eq!(entitlement(&r, &Terms::default(), t("2026-01-01T00:00:00Z")).seats, Some(u32::MAX));
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
