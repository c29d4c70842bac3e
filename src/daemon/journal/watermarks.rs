//! Numbers that the journal remembers beside the sessions: of each key the highest, in every snapshot again.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use usherd_engine::Name;
use usherd_subscription::reminder::Reminder;

use super::RecordBuilder;

/// How long what was told of an end is remembered after it, seconds.
const KEPT_S: u64 = 400 * 86_400;
const REMINDED: &str = "reminded/";
const DRAIN: &str = "drain/";
const SETTLED: &str = "schedule/settled";
const TRUSTED: &str = "clock/trusted";
/// Of a noted instant, the low bits are milliseconds since 1970 UTC, up to the year 2527; above them stands how often
/// it went back. So the newest is the highest, as marks must be.
const INSTANT_BITS: u32 = 44;

const INSTANT_MAX: u64 = (1 << INSTANT_BITS) - 1;

/// The marks in force.
#[derive(Debug, Default)]
pub struct Marks(Mutex<BTreeMap<Name, u64>>);

impl Marks {
    /// Takes over what a journal remembers.
    pub fn recover(&self, marks: &[(Name, u64)]) {
        self.0.lock().extend(marks.iter().cloned());
    }

    /// Takes over what the log of a shard remembers of its tenants, and gives up to when every booked change of theirs was
    /// applied and told, milliseconds since 1970 UTC.
    pub fn take_over(&self, marks: &[(Name, u64)]) -> Option<i64> {
        let of_tenants = marks.iter().filter(|(key, _)| tenant_of(key).is_some()).cloned();
        self.0.lock().extend(of_tenants);
        let settled = marks.iter().find(|(key, _)| key == SETTLED);
        settled.map(|(_, noted)| (noted & INSTANT_MAX).cast_signed())
    }

    /// Gives every mark to a snapshot. Marks of ends that are long past are dropped first: there is one for
    /// each end and one for each tenant, and no other way for them to go.
    pub fn each(&self, now_utc_ms: i64, mut mark: impl FnMut(&str, u64)) {
        let before = (u64::try_from(now_utc_ms).unwrap_or(0) / 1_000).saturating_sub(KEPT_S);
        let mut marks = self.0.lock();
        marks.retain(|key, value| match key.strip_prefix(REMINDED) {
            Some(rest) => {
                rest.rsplit('/').next().and_then(|end| end.parse::<u64>().ok()).is_some_and(|end| end >= before)
            }
            None => !key.starts_with(DRAIN) || *value >= before,
        });
        marks.iter().for_each(|(key, value)| mark(key, *value));
    }

    /// Notes that a reminder is told; `false` where it, or a more urgent one of the same end, was told before.
    pub fn remind(&self, tenant: &str, reminder: &Reminder, group: &mut RecordBuilder) -> bool {
        self.raise(format!("{REMINDED}{tenant}/{}", reminder.ends_at.timestamp()).into(), reminder.urgency(), group)
    }

    /// Notes until when the clients of a tenant that ended are closed, milliseconds since 1970 UTC (J6).
    pub fn drain(&self, tenant: &str, until_utc_ms: i64, group: &mut RecordBuilder) {
        self.raise(drain_key(tenant), u64::try_from(until_utc_ms).unwrap_or(0) / 1_000, group);
    }

    /// Until when they are closed, as was noted last.
    pub fn drained_until_utc_ms(&self, tenant: &str) -> Option<i64> {
        self.0.lock().get(&drain_key(tenant)).map(|until| until.saturating_mul(1_000).cast_signed())
    }

    /// Notes up to when every booked change was applied and told, milliseconds since 1970 UTC (I24). A clock that was
    /// ahead once and is right again takes it back with it: nothing that is due meanwhile goes untold.
    pub fn note_applied(&self, utc_ms: i64, group: &mut RecordBuilder) {
        self.note_instant(SETTLED, utc_ms, group);
    }

    /// Up to when that was so; `None` where it is not known.
    pub fn applied_until_utc_ms(&self) -> Option<i64> {
        self.instant(SETTLED)
    }

    /// Notes an instant at which the wall clock was trusted, milliseconds since 1970 UTC (H5).
    pub fn trust(&self, utc_ms: i64, group: &mut RecordBuilder) {
        self.note_instant(TRUSTED, utc_ms, group);
    }

    /// The last instant at which it was trusted; `None` where none was noted.
    pub fn trusted_utc_ms(&self) -> Option<i64> {
        self.instant(TRUSTED)
    }

    fn note_instant(&self, key: &str, utc_ms: i64, group: &mut RecordBuilder) {
        let known = self.0.lock().get(key).copied().unwrap_or(0);
        let instant = u64::try_from(utc_ms).unwrap_or(0).min(INSTANT_MAX);
        let turns = (known >> INSTANT_BITS) + u64::from(instant < known & INSTANT_MAX);
        self.raise(key.into(), (turns << INSTANT_BITS) | instant, group);
    }

    fn instant(&self, key: &str) -> Option<i64> {
        self.0.lock().get(key).map(|noted| (noted & INSTANT_MAX).cast_signed())
    }

    /// First in memory, then in the group: so a snapshot that begins between the two has it.
    fn raise(&self, key: Name, value: u64, group: &mut RecordBuilder) -> bool {
        let mut marks = self.0.lock();
        if marks.get(&key).is_some_and(|known| *known >= value) {
            return false;
        }
        group.mark(&key, value);
        marks.insert(key, value);
        true
    }
}

/// The tenant that a mark is about; `None` for one that is about no tenant alone.
pub(super) fn tenant_of(key: &str) -> Option<&str> {
    let reminded = key.strip_prefix(REMINDED).and_then(|rest| rest.rsplit_once('/')).map(|(tenant, _)| tenant);
    reminded.or_else(|| key.strip_prefix(DRAIN))
}

fn drain_key(tenant: &str) -> Name {
    format!("{DRAIN}{tenant}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use usherd_subscription::reminder::Ending;

    #[test]
    fn each_reminder_comes_once_never_after_a_more_urgent_one_j13() {
        let (marks, mut group) = (Marks::default(), RecordBuilder::new());
        let ends_at = "2027-06-15T22:00:00Z".parse().unwrap();
        let reminder = |days| Reminder { ending: Ending::Cancellation, ends_at, days };
        let mut told = |days| marks.remind("acme", &reminder(days), &mut group);
        assert_eq!([told(7), told(7), told(30), told(1), told(1)], [true, false, false, true, false]);
        let later = Reminder { ends_at: ends_at + chrono::Duration::days(1), ..reminder(30) };
        assert!(marks.remind("acme", &later, &mut group));
        assert!(marks.remind("beta", &reminder(30), &mut group));
        assert_eq!(group.entries(), 4);
    }

    #[test]
    fn the_trusted_instant_is_the_newest_also_where_it_went_back_h5() {
        let marks = Marks::default();
        assert_eq!(marks.trusted_utc_ms(), None);
        let mut last = 0;
        for utc_ms in [1_780_000_000_000, 1_780_000_060_000, 1_900_000_000_000, 1_780_000_120_000, 0, 5, 5] {
            let mut group = RecordBuilder::new();
            marks.trust(utc_ms, &mut group);
            assert_eq!(marks.trusted_utc_ms(), Some(utc_ms));
            let mut noted = 0;
            marks.each(0, |key, value| noted = if key == TRUSTED { value } else { noted });
            assert!(noted >= last, "a mark only grows");
            last = noted;
        }
        let recovered = Marks::default();
        recovered.recover(&[("clock/trusted".into(), (1 << 44) | 1_577_836_800_000)]);
        assert_eq!(recovered.trusted_utc_ms(), Some(1_577_836_800_000), "as on disk");
        marks.trust(-1, &mut RecordBuilder::new());
        assert_eq!(marks.trusted_utc_ms(), Some(0));
    }

    #[test]
    fn dates_settled_by_a_clock_ahead_are_not_settled_for_ever() {
        let (marks, mut group) = (Marks::default(), RecordBuilder::new());
        marks.recover(&[("schedule/settled".into(), 1_900_000_000_000)]);
        assert_eq!(marks.applied_until_utc_ms(), Some(1_900_000_000_000), "as on disk before instants could go back");
        for utc_ms in [1_780_000_000_000, 1_780_000_060_000, 1_780_000_060_000] {
            marks.note_applied(utc_ms, &mut group);
            assert_eq!(marks.applied_until_utc_ms(), Some(utc_ms));
        }
        assert_eq!(group.entries(), 2, "nothing new is nothing to note");
    }

    #[test]
    fn marks_of_long_ago_go_and_others_stay() {
        let (marks, mut group) = (Marks::default(), RecordBuilder::new());
        marks.recover(&[("serial/k1".into(), 3), ("reminded/a/1000".into(), 3), ("reminded/b/4000000000".into(), 1)]);
        marks.drain("a", 5_000, &mut group);
        let mut left = Vec::new();
        marks.each(100_000_000_000, |key, _| left.push(key.to_owned()));
        assert_eq!(left, ["reminded/b/4000000000", "serial/k1"]);
        assert_eq!(marks.drained_until_utc_ms("a"), None);
    }
}
