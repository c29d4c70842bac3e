//! No calendar input from 1990 to 2100, in any zone that IANA knows, panics or goes back in time.

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, Utc};
use usherd_subscription::booking::{date_in_period, end_at, period, reduction_at};
use usherd_subscription::civil::{self, Edge};
use usherd_subscription::entitlement::{entitlement, term_ends_at, trial_ends_at};
use usherd_subscription::policy::{BillingPeriod, CancelAfterTerm, Terms};
use usherd_subscription::record::{ContractKind, Object, Record};

const SEED: u64 = 0x0075_7368_6572_6421;

/// Every zone at a few hundred civil times, around its own transitions and at random.
#[test]
fn no_civil_time_of_any_zone_panics() {
    let mut random = fastrand::Rng::with_seed(SEED);
    let first: NaiveDateTime = "1990-01-01T00:00:00".parse().unwrap();
    let minutes = 111 * 365 * 24 * 60;
    for zone in chrono_tz::TZ_VARIANTS {
        for _ in 0..300 {
            check(zone, first + Duration::minutes(random.i64(0..minutes)), random.u32(0..=120));
        }
        // Midnights at the start of each month of some years: where gaps and folds hurt most.
        for year in [1990, 1996, 2011, 2018, 2026, 2027, 2037, 2100] {
            for month in 1..=12 {
                let day = NaiveDate::from_ymd_opt(year, month, 1).unwrap();
                check(zone, day.and_hms_opt(0, 0, 0).unwrap(), 12);
                check(zone, day.and_hms_opt(2, 30, 0).unwrap() + Duration::days(27), 1);
            }
        }
    }
}

fn check(zone: chrono_tz::Tz, at: NaiveDateTime, months: u32) {
    let (start, end) = (civil::instant(zone, at, Edge::Start), civil::instant(zone, at, Edge::End));
    assert!(start <= end, "{zone} {at}");
    assert!((end.naive_utc() - at).abs() <= Duration::hours(48), "{zone} {at}: {end}");
    let next = civil::next_month(zone, end).unwrap();
    assert!(next > end && next - end <= Duration::days(33), "{zone} {at}: {next}");
    let terms = Terms { zone, ..Terms::default() };
    let record = Record { start: Some(at), term_months: months, ..Record::paid(Some(16)) };
    if let Some(term_end) = term_ends_at(&record, &terms) {
        assert!(months == 0 || term_end > end - Duration::days(1), "{zone} {at}: {term_end}");
    }
    let trial = Record { kind: ContractKind::Trial, ..record.clone() };
    let trial_end = trial_ends_at(&trial, &terms).unwrap();
    let days = trial_end - start;
    assert!(days > Duration::days(28) && days < Duration::days(32), "{zone} {at}: {days}");
    for now in [start - Duration::days(40), start, end, trial_end, end + Duration::days(400)] {
        bookings(&record, &trial, &terms, now);
    }
}

fn bookings(record: &Record, trial: &Record, terms: &Terms, now: DateTime<Utc>) {
    let lapse = entitlement(trial, terms, now);
    assert!(lapse.next_change_at.is_none_or(|next| next > now));
    let reduction = reduction_at(record, terms, &Object::Subscription, now).unwrap();
    assert!(reduction > now, "{:?} {now}", terms.zone);
    for (billing, after) in [
        (BillingPeriod::Month, CancelAfterTerm::MonthEnd),
        (BillingPeriod::Month, CancelAfterTerm::PeriodEnd),
        (BillingPeriod::Year, CancelAfterTerm::PeriodEnd),
        (BillingPeriod::Year, CancelAfterTerm::TermEnd),
    ] {
        let terms = Terms { billing, cancel_after_term: after, ..terms.clone() };
        assert!(end_at(record, &terms, &Object::Subscription, now).unwrap() > now, "{:?} {now}", terms.zone);
        let (since, until) = period(record, &terms, now).unwrap();
        assert!(until > now);
        if let Ok(at) = date_in_period(record, &terms, since, now) {
            assert!(at <= now, "{:?} {now}: {at}", terms.zone);
        }
    }
}
