//! Civil dates and times of the billing zone, and the instants they stand for (H2, H3).

use chrono::offset::LocalResult;
use chrono::{DateTime, Duration, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;

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

/// The transition that opened the gap around `civil`, found by halving. No gap is longer than a day.
fn after_gap(zone: Tz, civil: NaiveDateTime) -> DateTime<Utc> {
    let offset_at = |at: NaiveDateTime| zone.offset_from_utc_datetime(&at).fix().local_minus_utc();
    let (mut before, mut after) = (civil - Duration::days(2), civil + Duration::days(2));
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
    }
}
