//! Civil dates and times of the billing zone, and the instants they stand for (H2, H3).

use chrono::offset::LocalResult;
use chrono::{DateTime, Datelike, Days, Duration, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;

/// The version of the time-zone data that every civil time is resolved with, as in `2025b`.
pub const TZ_DATA_VERSION: &str = chrono_tz::IANA_TZDB_VERSION;

/// The years 1970 to 2999 in seconds since 1970 UTC: what records and requests may name.
pub const ERA: std::ops::Range<i64> = 0..32_503_680_000;

/// Which side of an interval a civil time bounds: it decides which of two equal clock readings is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The earlier of two.
    Start,
    /// The later of two.
    End,
}

/// The instant of a civil time (H3): one that does not exist becomes the first instant after the gap, one
/// that exists twice the earlier for a start and the later for an end. What was paid for is never shortened.
pub fn instant(zone: Tz, civil: NaiveDateTime, edge: Edge) -> DateTime<Utc> {
    match zone.from_local_datetime(&civil) {
        LocalResult::Single(at) => at.to_utc(),
        LocalResult::Ambiguous(first, second) => match edge {
            Edge::Start => first.to_utc().min(second.to_utc()),
            Edge::End => first.to_utc().max(second.to_utc()),
        },
        LocalResult::None => after_gap(zone, civil),
    }
}

/// The civil date and time of an instant.
pub fn civil(zone: Tz, at: DateTime<Utc>) -> NaiveDateTime {
    at.with_timezone(&zone).naive_local()
}

/// The instant of civil midnight at the start of a date (H3).
pub fn midnight(zone: Tz, date: NaiveDate, edge: Edge) -> DateTime<Utc> {
    instant(zone, date.and_time(NaiveTime::MIN), edge)
}

/// A date so many months after its anchor, the day clamped to the month's last (H4); `None` beyond the calendar.
/// Always from the anchor, never step by step: else the 31st drifts to the 28th.
pub fn months_after(anchor: NaiveDate, months: u32) -> Option<NaiveDate> {
    anchor.checked_add_months(Months::new(months))
}

/// A civil time so many days later, on the same clock reading (J3); `None` beyond the calendar.
pub fn days_after(anchor: NaiveDateTime, days: u32) -> Option<NaiveDateTime> {
    anchor.checked_add_days(Days::new(u64::from(days)))
}

/// A civil date as people write it, `2026-06-16`; `None` of anything else, and of days that do not exist.
pub fn date(text: &str) -> Option<NaiveDate> {
    let fits = |(at, byte): (usize, u8)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() };
    if text.len() == 10 && text.bytes().enumerate().all(fits) { text.parse().ok() } else { None }
}

/// The first day of the month of a date.
pub fn month_of(date: NaiveDate) -> NaiveDate {
    date.with_day(1).unwrap_or(date)
}

/// How many days the month of a date has.
pub fn days_in_month(date: NaiveDate) -> u32 {
    let first = month_of(date);
    months_after(first, 1).map_or(31, |next| (next - first).num_days().unsigned_abs() as u32)
}

/// The start of the civil month after the one of `now` (J10); never at or before `now`.
pub fn next_month(zone: Tz, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let first = month_of(civil(zone, now).date());
    (1..=2).find_map(|months| {
        let at = midnight(zone, months_after(first, months)?, Edge::End);
        (at > now).then_some(at)
    })
}

/// The first anniversary in steps of `months` from an anchor date that lies after `now`, and the one before it
/// (or the anchor); `None` where `months` is 0 or the calendar ends.
pub fn anniversary(zone: Tz, anchor: NaiveDate, months: u32, now: DateTime<Utc>) -> Option<(NaiveDate, DateTime<Utc>)> {
    let today = civil(zone, now).date();
    let apart = i64::from(today.year() - anchor.year()) * 12 + i64::from(today.month()) - i64::from(anchor.month());
    let passed = u32::try_from(apart.max(0)).ok()?.checked_div(months)?;
    let first = passed.saturating_sub(1);
    (first..=passed + 2).find_map(|count| {
        let at = midnight(zone, months_after(anchor, count.checked_mul(months)?)?, Edge::End);
        let before = months_after(anchor, count.saturating_sub(1) * months)?;
        (at > now && count > 0).then_some((before, at))
    })
}

/// The transition that opened the gap around `civil`, found by halving. No gap is longer than a day.
fn after_gap(zone: Tz, civil: NaiveDateTime) -> DateTime<Utc> {
    let offset_at = |at: NaiveDateTime| zone.offset_from_utc_datetime(&at).fix().local_minus_utc();
    let step = Duration::days(2);
    let (mut before, mut after) =
        (civil.checked_sub_signed(step).unwrap_or(civil), civil.checked_add_signed(step).unwrap_or(civil));
    let old = offset_at(before);
    while after - before > Duration::seconds(1) {
        let middle = before + (after - before) / 2;
        if offset_at(middle) == old {
            before = middle;
        } else {
            after = middle;
        }
    }
    let at = after.and_utc();
    DateTime::from_timestamp(at.timestamp(), 0).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(zone: Tz, civil: &str, start: &str, end: &str) {
        let civil: NaiveDateTime = civil.parse().unwrap();
        assert_eq!(instant(zone, civil, Edge::Start), start.parse::<DateTime<Utc>>().unwrap(), "start of {civil}");
        assert_eq!(instant(zone, civil, Edge::End), end.parse::<DateTime<Utc>>().unwrap(), "end of {civil}");
    }

    #[test]
    fn civil_times_become_instants_h3() {
        let berlin = Tz::Europe__Berlin;
        check(berlin, "2027-01-31T00:00:00", "2027-01-30T23:00:00Z", "2027-01-30T23:00:00Z");
        check(berlin, "2026-04-09T10:00:00", "2026-04-09T08:00:00Z", "2026-04-09T08:00:00Z");
        check(berlin, "2026-03-29T02:30:00", "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z");
        check(berlin, "2026-03-29T02:00:00", "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z");
        check(berlin, "2026-10-25T02:30:00", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
        check(Tz::Pacific__Apia, "2011-12-30T12:00:00", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z");
        check(Tz::America__Sao_Paulo, "2018-11-04T00:00:00", "2018-11-04T03:00:00Z", "2018-11-04T03:00:00Z");
        check(Tz::America__Havana, "2026-11-01T00:00:00", "2026-11-01T04:00:00Z", "2026-11-01T05:00:00Z");
    }

    fn date(text: &str) -> NaiveDate {
        super::date(text).unwrap()
    }

    #[test]
    fn a_date_has_one_way_to_be_written() {
        assert_eq!(date("2028-02-29"), NaiveDate::from_ymd_opt(2028, 2, 29).unwrap());
        for text in
            ["", "2026-02-29", "2026-6-16", "2026- 6-16", "-026-06-16", "+2026-6-16", "2026-06-16 ", "2026/06/16"]
        {
            assert_eq!(super::date(text), None, "{text}");
        }
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn months_are_added_from_the_anchor_t094_t095() {
        assert_eq!(months_after(date("2026-08-31"), 6), Some(date("2027-02-28")));
        assert_eq!(months_after(date("2026-01-31"), 1), Some(date("2026-02-28")));
        assert_eq!(months_after(date("2026-01-31"), 2), Some(date("2026-03-31")));
        assert_eq!(months_after(NaiveDate::MAX, 1), None);
        assert_eq!((days_in_month(date("2028-02-29")), days_in_month(date("2026-06-16"))), (29, 30));
    }

    #[test]
    fn the_next_month_starts_after_now_t100_t101() {
        let berlin = Tz::Europe__Berlin;
        let next = |now| next_month(berlin, utc(now)).unwrap();
        assert_eq!(next("2028-02-29T22:59:59Z"), utc("2028-02-29T23:00:00Z"));
        assert_eq!(next("2027-03-31T21:59:59Z"), utc("2027-03-31T22:00:00Z"));
        assert_eq!(next("2027-03-31T22:00:00Z"), utc("2027-04-30T22:00:00Z"));
        let havana = next_month(Tz::America__Havana, utc("2026-11-01T03:59:59Z")).unwrap();
        assert_eq!(havana, utc("2026-11-01T05:00:00Z"), "the later of two midnights");
    }

    #[test]
    fn anniversaries_keep_their_day() {
        let berlin = Tz::Europe__Berlin;
        let at = |anchor, months, now| anniversary(berlin, date(anchor), months, utc(now)).unwrap();
        assert_eq!(at("2026-06-16", 12, "2026-11-22T00:00:00Z"), (date("2026-06-16"), utc("2027-06-15T22:00:00Z")));
        assert_eq!(at("2026-06-16", 12, "2027-06-15T22:00:00Z"), (date("2027-06-16"), utc("2028-06-15T22:00:00Z")));
        assert_eq!(at("2026-01-31", 1, "2026-02-28T22:59:59Z"), (date("2026-02-28"), utc("2026-03-30T22:00:00Z")));
        assert_eq!(at("2026-01-31", 1, "2026-02-27T22:59:59Z"), (date("2026-01-31"), utc("2026-02-27T23:00:00Z")));
        assert_eq!(at("2030-01-31", 12, "2026-02-27T22:59:59Z"), (date("2030-01-31"), utc("2031-01-30T23:00:00Z")));
        assert_eq!(anniversary(berlin, date("2026-01-31"), 0, utc("2026-02-27T22:59:59Z")), None);
    }
}
