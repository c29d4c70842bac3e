//! When people are reminded that a subscription ends (J13): pure functions of record and time.

use chrono::{DateTime, Duration, Utc};

use super::entitlement::ends_at;
use super::policy::Terms;
use super::record::Record;

/// Days of 86,400 s before an end at which people are reminded of it, the most urgent last.
pub const DAYS: [u32; 3] = [30, 7, 1];

/// The kind of end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A trial, by itself (J3).
    Trial,
    /// A cancellation, or the instant that the record gives a trial (J8).
    Cancellation,
}

/// Something to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reminder {
    /// The kind of end.
    pub ending: Ending,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
    /// One of [`DAYS`]: no more than so many are left.
    pub days: u32,
}

impl Reminder {
    /// How much it presses: 1 to 3, a later reminder of the same end has more.
    pub fn urgency(&self) -> u64 {
        DAYS.iter().filter(|days| **days >= self.days).count() as u64
    }

    /// The sentence that people read.
    pub fn sentence(&self) -> String {
        let what = match self.ending {
            Ending::Trial => "the trial",
            Ending::Cancellation => "the cancelled subscription",
        };
        let at = self.ends_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let left = if self.days == 1 { "1 day".to_owned() } else { format!("{} days", self.days) };
        format!("{what} ends in {left} or less: data is deleted at {at} and cannot be restored afterwards")
    }
}

/// The reminder that holds at an instant: the most urgent one whose time has come, of an end that lies ahead.
/// Telling it whenever it is another than the one told last tells each once, and after a pause, or of an
/// end that was booked late, only the one that still matters.
pub fn due(record: &Record, terms: &Terms, now: DateTime<Utc>) -> Option<Reminder> {
    let ends_at = ends_at(record, terms).filter(|end| *end > now)?;
    let days = DAYS.into_iter().rfind(|days| before(ends_at, *days).is_some_and(|at| at <= now))?;
    let ending = if record.cancel_at.is_some() { Ending::Cancellation } else { Ending::Trial };
    Some(Reminder { ending, ends_at, days })
}

/// The first instant after `now` at which [`due`] gives another reminder; `None` if never.
pub fn next_at(record: &Record, terms: &Terms, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let ends_at = ends_at(record, terms)?;
    DAYS.into_iter().filter_map(|days| before(ends_at, days)).find(|at| *at > now)
}

fn before(end: DateTime<Utc>, days: u32) -> Option<DateTime<Utc>> {
    end.checked_sub_signed(Duration::seconds(i64::from(days) * 86_400))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ContractKind;

    fn t(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(record: &Record, now: &str, days: Option<u32>, next: Option<&str>) {
        assert_eq!(due(record, &Terms::default(), t(now)).map(|reminder| reminder.days), days, "at {now}");
        assert_eq!(next_at(record, &Terms::default(), t(now)), next.map(t), "after {now}");
    }

    #[test]
    fn an_end_is_told_of_three_times_j13() {
        let r = Record { cancel_at: Some(t("2027-06-15T22:00:00Z")), ..Record::paid(Some(16)) };
        let (month, week, day) = ("2027-05-16T22:00:00Z", "2027-06-08T22:00:00Z", "2027-06-14T22:00:00Z");
        check(&r, "2027-05-16T21:59:59.999Z", None, Some(month));
        check(&r, month, Some(30), Some(week));
        check(&r, "2027-06-08T21:59:59Z", Some(30), Some(week));
        check(&r, week, Some(7), Some(day));
        check(&r, day, Some(1), None);
        check(&r, "2027-06-15T21:59:59Z", Some(1), None);
        check(&r, "2027-06-15T22:00:00Z", None, None);
        check(&Record { cancel_at: None, ..r }, day, None, None);
    }

    #[test]
    fn days_before_an_end_have_86400_seconds_t085() {
        let start = Some("2026-03-10T10:00:00".parse().unwrap());
        let trial = Record { kind: ContractKind::Trial, start, ..Record::paid(Some(10)) };
        check(&trial, "2026-03-10T07:59:59Z", None, Some("2026-03-10T08:00:00Z"));
        check(&trial, "2026-03-10T09:00:00Z", Some(30), Some("2026-04-02T08:00:00Z"));
        let reminder = due(&trial, &Terms::default(), t("2026-04-08T08:00:00Z")).unwrap();
        assert_eq!((reminder.ending, reminder.urgency()), (Ending::Trial, 3));
        let told = "the trial ends in 1 day or less: data is deleted at 2026-04-09T08:00:00Z and cannot be restored afterwards";
        assert_eq!(reminder.sentence(), told);
    }
}
