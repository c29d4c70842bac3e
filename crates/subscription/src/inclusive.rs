//! Extras that come with the seats: numbers, trunk lines, and devices that may be set up (rule book 6, N10).

use chrono::{DateTime, Utc};
use usherd_contract::vocabulary;

use super::entitlement::{State, entitlement};
use super::policy::Terms;
use super::record::{Extra, Record};

/// The inclusive services of a tenant at an instant. Limits stop at `u32::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inclusive {
    /// Numbers that cost nothing more (L2); `None` with unlimited seats.
    pub numbers: Option<u32>,
    /// Channels to the public network (L3); `None` with unlimited seats.
    pub channels: Option<u32>,
    /// Devices that may be set up (L4); `None` where that is not enforced, and with unlimited seats.
    pub endpoints: Option<u32>,
    /// Assigned numbers above the included ones: billed separately, never refused (L2). `None` where no limit
    /// is, or where the record does not say how many are assigned.
    pub surplus_numbers: Option<u32>,
    /// Devices above the limit, as after a reduction: they stay (L4). `None` as for numbers.
    pub surplus_endpoints: Option<u32>,
}

/// L1 to L4 at an instant: so many of each for every seat, and what add-ons bring whatever their seats (N10).
pub fn inclusive(record: &Record, terms: &Terms, now: DateTime<Utc>) -> Inclusive {
    let entitlement = entitlement(record, terms, now);
    let extra = if entitlement.state == State::Ended { Extra::default() } else { extra(record, now) };
    let limit = |per_seat: u32, extra: u32| Some(entitlement.seats?.saturating_mul(per_seat).saturating_add(extra));
    let per_seat = terms.inclusive;
    let numbers = limit(per_seat.numbers, extra.numbers);
    let endpoints = limit(per_seat.endpoints, extra.endpoints).filter(|_| per_seat.endpoints > 0);
    Inclusive {
        numbers,
        channels: limit(per_seat.channels, extra.channels),
        endpoints,
        surplus_numbers: surplus(record.numbers, numbers),
        surplus_endpoints: surplus(record.endpoints, endpoints),
    }
}

/// The extras, besides seats, of the add-ons that are not cancelled (N10). The end of the subscription, which ends
/// them too, is for the caller to check.
pub fn extra(record: &Record, now: DateTime<Utc>) -> Extra {
    let running = record.addons.iter().filter(|addon| addon.cancel_at.is_none_or(|end| end > now));
    running.fold(Extra::default(), |sum, addon| Extra {
        numbers: sum.numbers.saturating_add(addon.extra.numbers),
        channels: sum.channels.saturating_add(addon.extra.channels),
        endpoints: sum.endpoints.saturating_add(addon.extra.endpoints),
    })
}

/// The next instant at which [`extra`] may be another, which seats need not show; `None` if never.
pub fn next_extra_at(record: &Record, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let bring_more = record.addons.iter().filter(|addon| addon.extra != Extra::default());
    bring_more.filter_map(|addon| addon.cancel_at).filter(|end| *end > now).min()
}

fn surplus(used: Option<u32>, limit: Option<u32>) -> Option<u32> {
    Some(used?.saturating_sub(limit?))
}

vocabulary! {
    /// The answer to setting up more devices (L4).
    Setup {
        /// Within the limit.
        WithinLimit = "within limit",
        /// There is no limit.
        NotEnforced = "not enforced",
        /// There would be more than the limit.
        LimitReached = "limit reached",
    }
}

/// Decides if `add` more devices may be set up beside those that are (L4). Asked when one is provisioned, never
/// when one calls.
pub fn may_set_up(limit: Option<u32>, present: u32, add: u32) -> Setup {
    match limit {
        None => Setup::NotEnforced,
        Some(limit) if u64::from(present) + u64::from(add) <= u64::from(limit) => Setup::WithinLimit,
        Some(_) => Setup::LimitReached,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PerSeat;
    use crate::record::Addon;

    fn t(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn with(addons: Vec<Addon>, seats: Option<u32>) -> Record {
        Record { addons, ..Record::paid(seats) }
    }

    fn limits(record: &Record, terms: &Terms, now: &str) -> [Option<u32>; 3] {
        let got = inclusive(record, terms, t(now));
        [got.numbers, got.channels, got.endpoints]
    }

    const NOW: &str = "2026-11-22T00:00:00Z";

    #[test]
    fn sixteen_seats_include_sixteen_numbers_and_eighty_channels_l1() {
        let record = Record::paid(Some(16));
        assert_eq!(limits(&record, &Terms::default(), NOW), [Some(16), Some(80), None]);
        let terms = Terms { inclusive: PerSeat { numbers: 2, channels: 0, endpoints: 3 }, ..Terms::default() };
        assert_eq!(limits(&record, &terms, NOW), [Some(32), Some(0), Some(48)]);
        assert_eq!(limits(&Record::paid(None), &terms, NOW), [None; 3]);
        assert_eq!(limits(&Record { suspended: true, ..record }, &terms, NOW), [Some(32), Some(0), Some(48)]);
    }

    #[test]
    fn addons_bring_services_until_they_are_cancelled_n10() {
        let end = "2027-07-01T00:00:00Z";
        let lines = Extra { numbers: 30, channels: 8, endpoints: 5 };
        let addon = Addon { extra: lines, cancel_at: Some(t(end)), ..Addon::new("lines", 2) };
        let terms = Terms { inclusive: PerSeat { endpoints: 3, ..PerSeat::default() }, ..Terms::default() };
        let record = with(vec![addon.clone(), Addon::new("plain", 1)], Some(10));
        assert_eq!(limits(&record, &terms, "2027-06-30T23:59:59Z"), [Some(13 + 30), Some(65 + 8), Some(39 + 5)]);
        assert_eq!(limits(&record, &terms, end), [Some(11), Some(55), Some(33)]);
        assert_eq!(next_extra_at(&record, t(NOW)), Some(t(end)));
        assert_eq!(next_extra_at(&record, t(end)), None);
        let ends = Record { cancel_at: Some(t("2027-01-01T00:00:00Z")), ..record };
        assert_eq!(limits(&ends, &terms, "2027-01-01T00:00:00Z"), [Some(0); 3], "the end takes the add-ons along");
        let unlimited = with(vec![addon], None);
        assert_eq!(limits(&unlimited, &terms, NOW), [None; 3]);
    }

    #[test]
    fn limits_stop_where_numbers_do() {
        let extra = Extra { numbers: u32::MAX, channels: u32::MAX, endpoints: u32::MAX };
        let addon = Addon { extra, ..Addon::new("a", 1_000_000) };
        let terms =
            Terms { inclusive: PerSeat { numbers: 9_999, channels: 9_999, endpoints: 9_999 }, ..Terms::default() };
        let record = with(vec![addon.clone(), Addon { id: "b".into(), ..addon }], Some(1_000_000));
        assert_eq!(limits(&record, &terms, NOW), [Some(u32::MAX); 3]);
        assert_eq!(may_set_up(Some(u32::MAX), u32::MAX, u32::MAX), Setup::LimitReached);
    }

    #[test]
    fn a_surplus_needs_a_limit_and_a_figure_l2_l4() {
        let terms = Terms { inclusive: PerSeat { endpoints: 3, ..PerSeat::default() }, ..Terms::default() };
        for (seats, numbers, endpoints, expected) in [
            (Some(16), Some(20), Some(50), (Some(4), Some(2))),
            (Some(16), Some(16), Some(48), (Some(0), Some(0))),
            (Some(16), None, None, (None, None)),
            (None, Some(20), Some(50), (None, None)),
        ] {
            let record = Record { numbers, endpoints, ..Record::paid(seats) };
            let got = inclusive(&record, &terms, t(NOW));
            assert_eq!((got.surplus_numbers, got.surplus_endpoints), expected, "{seats:?} {numbers:?} {endpoints:?}");
        }
    }
}
