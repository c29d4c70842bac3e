//! The scenarios of the rule book on what comes with the seats (9.6); what a call gets is a row of the engine.

use chrono::{DateTime, Utc};
use usherd_subscription::inclusive::{Setup, inclusive, may_set_up};
use usherd_subscription::policy::{PerSeat, Terms};
use usherd_subscription::record::{Actor, Change, Record};

/// Those that no seat decides: surpluses are computed from the record.
pub(crate) const DECIDED: &[&str] = &["T169", "T170"];

fn t(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[test]
fn numbers_above_the_seats_are_a_surplus_t169() {
    let record = Record { numbers: Some(20), ..Record::paid(Some(16)) };
    let got = inclusive(&record, &Terms::default(), t("2026-11-22T00:00:00Z"));
    assert_eq!((got.numbers, got.surplus_numbers), (Some(16), Some(4)));
}

#[test]
fn a_reduction_makes_a_surplus_and_withdraws_nothing_t170() {
    let effective_at = t("2027-06-15T22:00:00Z");
    let changes = vec![Change { effective_at, seats: 10, by: Actor::Customer }];
    let record = Record { numbers: Some(16), changes, ..Record::paid(Some(16)) };
    for (now, numbers, surplus) in [("2027-06-15T21:59:59Z", 16, 0), ("2027-06-15T22:00:00Z", 10, 6)] {
        let got = inclusive(&record, &Terms::default(), t(now));
        assert_eq!((got.numbers, got.surplus_numbers), (Some(numbers), Some(surplus)), "at {now}");
        assert_eq!(record.numbers, Some(16), "all stay assigned");
    }
}

#[test]
fn sixteen_seats_include_eighty_channels_t172() {
    let got = inclusive(&Record::paid(Some(16)), &Terms::default(), t("2026-11-22T00:00:00Z"));
    assert_eq!(got.channels, Some(80), "that 85 are in use denies nobody: see the row of the same number");
}

#[test]
fn a_forty_ninth_device_is_one_too_many_t173() {
    let terms = Terms { inclusive: PerSeat { endpoints: 3, ..PerSeat::default() }, ..Terms::default() };
    let record = Record { endpoints: Some(48), ..Record::paid(Some(16)) };
    let got = inclusive(&record, &terms, t("2026-11-22T00:00:00Z"));
    assert_eq!((got.endpoints, got.surplus_endpoints), (Some(48), Some(0)));
    for (present, add, expected) in
        [(47, 1, "within limit"), (48, 1, "limit reached"), (46, 3, "limit reached"), (0, 48, "within limit")]
    {
        assert_eq!(may_set_up(got.endpoints, present, add).as_str(), expected, "{present} and {add} more");
    }
    assert_eq!(may_set_up(None, 48, 1), Setup::NotEnforced);
}
