//! Money (9.3): prices, changes within a month, credits, reductions, partners, refunds; K1-K8, N11, V12.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use usherd_subscription::civil::{Edge, midnight, months_after};
use usherd_subscription::entitlement::entitlement;
use usherd_subscription::invoice::{
    Billed, Ledger, MonthLine, NoStatement, STATEMENT_MONTHS_MAX, Upgrade, quote, refund_cents, statement, upgrade,
};
use usherd_subscription::policy::PriceMode::{Graduated, Volume};
use usherd_subscription::policy::{PriceMode, Refund, Terms};
use usherd_subscription::record::{Actor, Addon, Change, ContractKind, Record};
use usherd_subscription::tariff::{
    Partner, advice, commission_cents, monthly_cents, share, unit_cents, wholesale_cents,
};

/// Every scenario of T121-T136 that stands in the rule book.
const BOOK: [&str; 11] = ["T121", "T122", "T124", "T125", "T127", "T128", "T130", "T131", "T133", "T134", "T136"];

const BERLIN: Tz = Tz::Europe__Berlin;

/// Monthly fees of 16, 30, 100 and 1001 seats.
const FEES: [(&str, &str, PriceMode, [u64; 4]); 2] = [
    ("T121", "K2", Volume, [12_816, 22_710, 71_200, 267_267]),
    ("T122", "K2", Graduated, [13_706, 24_700, 75_440, 502_907]),
];

/// A life of seats, and what a month of it and the month after it cost.
struct Life {
    id: &'static str,
    rules: &'static str,
    mode: PriceMode,
    /// Civil dates and the seats from then on; the first is the start.
    seats: &'static [(&'static str, u32)],
    cancel_at: Option<&'static str>,
    month: &'static str,
    want: Want,
}

/// Of the month: fee, charge, net, credit, forfeited. Of the next: fee, invoice.
type Want = ([u64; 5], [u64; 2]);

const fn life(
    id: &'static str,
    rules: &'static str,
    seats: &'static [(&'static str, u32)],
    month: &'static str,
    want: Want,
) -> Life {
    Life { id, rules, mode: Volume, seats, cancel_at: None, month, want }
}

const TEN: (&str, u32) = ("2026-01-01", 10);

const LIVES: [Life; 15] = [
    life(
        "T124",
        "K5 K6",
        &[TEN, ("2026-06-16", 16)],
        "2026-06-01",
        ([8_900, 3_916, 1_958, 1_958, 0], [12_816, 10_858]),
    ),
    Life {
        mode: Graduated,
        ..life(
            "worked example, graduated",
            "K5",
            &[TEN, ("2026-06-16", 16)],
            "2026-06-01",
            ([8_900, 4_806, 2_403, 2_403, 0], [13_706, 11_303]),
        )
    },
    life("T125", "K5", &[("2026-06-16", 16)], "2026-06-01", ([0, 12_816, 6_408, 6_408, 0], [12_816, 6_408])),
    life("T127", "K5", &[TEN, ("2026-06-30", 16)], "2026-06-01", ([8_900, 3_916, 131, 3_785, 0], [12_816, 9_031])),
    life("T128", "K5 H4", &[TEN, ("2028-02-29", 16)], "2028-02-01", ([8_900, 3_916, 135, 3_781, 0], [12_816, 9_035])),
    life(
        "T130",
        "K5 K6",
        &[TEN, ("2026-06-06", 12), ("2026-06-16", 16)],
        "2026-06-01",
        ([8_900, 712 + 3_204, 593 + 1_602, 119 + 1_602, 0], [12_816, 11_095]),
    ),
    life("T131", "K5", &[TEN, ("2026-06-16", 11)], "2026-06-01", ([8_900, 0, 0, 0, 0], [8_811, 8_811])),
    Life {
        cancel_at: Some("2026-07-01"),
        ..life("T134", "K6", &[TEN, ("2026-06-16", 16)], "2026-06-01", ([8_900, 3_916, 1_958, 1_958, 1_958], [0, 0]))
    },
    life("T136", "K7", &[("2026-06-16", 16), ("2027-06-16", 10)], "2027-06-01", ([12_816, 0, 0, 0, 0], [8_900, 8_900])),
    life(
        "a change at the start of a month is its fee",
        "K5 H3",
        &[TEN, ("2026-07-01", 16)],
        "2026-06-01",
        ([8_900, 0, 0, 0, 0], [12_816, 12_816]),
    ),
    life(
        "a lower fee at the start of a month is in force",
        "K7 H3",
        &[("2026-01-01", 16), ("2026-07-01", 10)],
        "2026-06-01",
        ([12_816, 0, 0, 0, 0], [8_900, 8_900]),
    ),
    life(
        "fewer seats with the higher fee cost no more this month",
        "K7",
        &[("2026-01-01", 11), ("2026-06-16", 10)],
        "2026-06-01",
        ([8_811, 0, 0, 0, 0], [8_900, 8_900]),
    ),
    life(
        "what was billed and given back is not charged again",
        "K5 K7",
        &[("2026-01-01", 16), ("2026-06-06", 10), ("2026-06-16", 16)],
        "2026-06-01",
        ([12_816, 0, 0, 0, 0], [12_816, 12_816]),
    ),
    life(
        "the dearer fee of a month stays billed",
        "K5",
        &[TEN, ("2026-06-06", 11), ("2026-06-16", 12)],
        "2026-06-01",
        ([8_900, 712, 356, 356, 0], [9_612, 9_256]),
    ),
    Life {
        cancel_at: Some("2026-06-20"),
        ..life(
            "a month that ends early costs all of it",
            "K7",
            &[TEN, ("2026-06-16", 16)],
            "2026-06-01",
            ([8_900, 3_916, 1_958, 1_958, 1_958], [0, 0]),
        )
    },
];

/// Invoices in a row, each with the balance after it.
type Invoices = &'static [(u64, u64)];

/// A credit balance, a monthly fee, and the invoices that use it up.
const CREDITS: [(&str, &str, u64, u64, Invoices); 3] = [
    ("T133", "K6", 20_000, 12_816, &[(0, 7_184), (5_632, 0), (12_816, 0)]),
    ("T134", "K6", 500, 8_900, &[]),
    ("a balance of nothing", "K6", 0, 8_900, &[(8_900, 0)]),
];

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    midnight(BERLIN, date(text), Edge::End)
}

fn change(on: &str, seats: u32) -> Change {
    Change { effective_at: at(on), seats, by: Actor::Customer }
}

fn record(life: &Life) -> Record {
    let (start, seats) = life.seats[0];
    Record {
        start: date(start).and_hms_opt(0, 0, 0),
        changes: life.seats[1..].iter().map(|(on, seats)| change(on, *seats)).collect(),
        cancel_at: life.cancel_at.map(at),
        ..Record::paid(Some(seats))
    }
}

fn terms(price_mode: PriceMode) -> Terms {
    Terms { price_mode, ..Terms::default() }
}

/// All lines from the start of the record on.
fn lines(record: &Record, mode: PriceMode, to: NaiveDate) -> Vec<MonthLine> {
    let from = record.start.map_or(to, |start| start.date());
    statement(record, &terms(mode), from, to).unwrap()
}

#[track_caller]
fn check(life: &Life) {
    let month = date(life.month);
    let next = months_after(month, 1).unwrap();
    let all = lines(&record(life), life.mode, next);
    let [.., this, after] = all.as_slice() else { panic!("{}: too few lines", life.id) };
    assert_eq!((this.month, after.month), (month, next), "{}", life.id);
    let got = [this.fee_cents, this.charge_cents, this.net_cents, this.credit_cents, this.forfeited_cents];
    assert_eq!((got, [after.fee_cents, after.invoice_cents]), life.want, "{} {}", life.id, life.rules);
}

#[test]
fn every_scenario_of_money_is_a_row() {
    let all = FEES.iter().map(|row| row.0).chain(LIVES.iter().map(|row| row.id)).chain(CREDITS.iter().map(|row| row.0));
    let rows: BTreeSet<&str> = all.filter(|id| id.starts_with('T')).collect();
    assert_eq!(rows, BTreeSet::from(BOOK));
}

#[test]
fn monthly_fees_t121_t122() {
    for (id, _, mode, want) in FEES {
        assert_eq!([16, 30, 100, 1001].map(|seats| monthly_cents(mode, seats)), want, "{id}");
        assert_eq!((monthly_cents(mode, 0), monthly_cents(mode, 10)), (0, 8_900), "{id}");
    }
}

#[test]
fn changes_in_a_month_t124_t125_t127_t128_t130_t131_t134_t136() {
    LIVES.iter().for_each(check);
}

#[test]
fn credits_reduce_invoices_and_are_lost_at_the_end_t133_t134() {
    for (id, _, balance, fee, invoices) in CREDITS {
        let mut ledger = Ledger::new(balance);
        for (invoice_cents, left) in invoices {
            let credit_used_cents = fee - invoice_cents;
            assert_eq!(ledger.bill(fee), Billed { credit_used_cents, invoice_cents: *invoice_cents }, "{id}");
            assert_eq!(ledger.balance_cents(), *left, "{id}");
        }
        let left = ledger.balance_cents();
        assert_eq!((ledger.forfeit(), ledger.forfeit(), ledger.balance_cents()), (left, 0, 0), "{id}");
    }
}

#[test]
fn unit_prices_by_tier_k1() {
    for (first, last, cents) in [
        (1, 10, 890),
        (11, 25, 801),
        (26, 50, 757),
        (51, 100, 712),
        (101, 250, 623),
        (251, 500, 534),
        (501, 750, 445),
        (751, 1_000, 356),
        (1_001, 1_000_000, 267),
    ] {
        assert_eq!((unit_cents(first), unit_cents(last)), (cents, cents), "{first} to {last}");
    }
}

#[test]
fn advice_in_exactly_these_windows_k3() {
    let windows = [
        (10, 10, 11),
        (25, 25, 26),
        (48, 50, 51),
        (89, 100, 101),
        (216, 250, 251),
        (418, 500, 501),
        (601, 1_000, 1_001),
    ];
    for seats in 0..=3_000 {
        let want = windows.iter().find(|(first, last, _)| (*first..=*last).contains(&seats)).map(|window| window.2);
        assert_eq!(advice(Volume, seats).map(|advice| advice.seats), want, "{seats}");
    }
}

#[test]
fn partners_k8() {
    for (partner, commission, wholesale, nfr) in [
        (Partner::Registered, 1_282, 11_534, 0),
        (Partner::Certified, 1_922, 10_894, 10),
        (Partner::Premium, 2_563, 10_253, 25),
        (Partner::Excellence, 3_204, 9_612, 50),
    ] {
        let got = (commission_cents(partner, 12_816), wholesale_cents(partner, 12_816), partner.nfr_seats());
        assert_eq!(got, (commission, wholesale, nfr), "{}", partner.as_str());
    }
}

#[test]
fn the_worked_example_by_two_ways_k5() {
    let on = date("2026-06-16");
    for (mode, charge_cents, net_cents, next_invoice_cents) in
        [(Volume, 3_916, 1_958, 10_858), (Graduated, 4_806, 2_403, 11_303)]
    {
        let got = quote(mode, 10, 16, on);
        assert_eq!(got.upgrade, Upgrade { charge_cents, net_cents, credit_cents: net_cents });
        assert_eq!((got.next_invoice_cents, got.unit_cents, got.advice), (next_invoice_cents, 801, None));
        // All of the new month, less the unused half of the old one, less the elapsed half of the new one.
        let (old, new) = (monthly_cents(mode, 10), monthly_cents(mode, 16));
        assert_eq!(new - share(old, 15, 30) - share(new, 15, 30), net_cents);
    }
    assert_eq!(quote(Volume, 16, 10, on).upgrade, Upgrade::default());
    let advised = quote(Volume, 0, 10, on).advice.unwrap();
    assert_eq!((advised.seats, advised.monthly_cents), (11, 8_811));
}

#[test]
fn addons_are_paid_for_as_seats() {
    let season =
        Addon { cancel_at: Some(at("2026-07-10")), changes: vec![change("2026-06-16", 6)], ..Addon::new("season", 0) };
    let record =
        Record { start: date("2026-05-01").and_hms_opt(0, 0, 0), addons: vec![season], ..Record::paid(Some(10)) };
    let got: Vec<_> = lines(&record, Volume, date("2026-08-31"))
        .iter()
        .map(|line| (line.seats, line.invoice_cents, line.balance_cents))
        .collect();
    assert_eq!(got, [(10, 8_900, 0), (16, 12_816, 1_958), (16, 10_858, 0), (10, 8_900, 0)]);
}

#[test]
fn months_without_a_price_are_free_and_unlimited_have_none() {
    let paid = Record { start: date("2026-06-16").and_hms_opt(0, 0, 0), ..Record::paid(Some(16)) };
    let ask = |record: &Record, from, to| statement(record, &Terms::default(), date(from), date(to));
    for kind in [ContractKind::Trial, ContractKind::Nfr] {
        for seats in [Some(16), None] {
            let free = Record { kind, seats, ..paid.clone() };
            let all = ask(&free, "2026-01-01", "2026-12-31").unwrap();
            assert!(
                all.len() == 12 && all.iter().all(|line| line.fee_cents + line.charge_cents + line.invoice_cents == 0)
            );
        }
    }
    let before = ask(&paid, "2026-01-31", "2026-06-01").unwrap();
    assert!(before[..5].iter().all(|line| line.seats == 0 && line.invoice_cents == 0), "{before:?}");
    assert_eq!((before[5].seats, before[5].invoice_cents), (16, 12_816));
    let unlimited = Record { changes: vec![change("2026-09-01", 5)], seats: None, ..paid.clone() };
    let june = NoStatement::Unlimited(date("2026-06-01"));
    assert_eq!(ask(&unlimited, "2026-10-01", "2026-10-01"), Err(june));
    assert_eq!(ask(&unlimited, "2026-01-01", "2026-05-31").map(|all| all.len()), Ok(5));
    assert_eq!(ask(&Record { start: None, ..paid.clone() }, "2026-10-01", "2026-10-01"), Err(NoStatement::NoStart));
    assert_eq!(ask(&paid, "2026-10-01", "2026-09-30"), Err(NoStatement::Backwards));
    assert_eq!(ask(&paid, "2026-06-01", "2126-05-31").map(|all| all.len()), Ok(STATEMENT_MONTHS_MAX));
    assert_eq!(ask(&paid, "2126-06-01", "2126-06-01"), Err(NoStatement::TooLong));
    let last = NaiveDate::MAX.to_string();
    assert_eq!(ask(&Record { kind: ContractKind::Nfr, ..paid }, &last, &last), Err(NoStatement::BeyondCalendar));
}

#[test]
fn two_equal_midnights_are_one_beginning_h3() {
    let zone = Tz::America__Havana;
    for edge in [Edge::Start, Edge::End] {
        let november = midnight(zone, date("2026-11-01"), edge);
        let later = Change { effective_at: november, seats: 16, by: Actor::Customer };
        let record =
            Record { start: date("2026-10-01").and_hms_opt(0, 0, 0), changes: vec![later], ..Record::paid(Some(10)) };
        let terms = Terms { zone, ..Terms::default() };
        let got = statement(&record, &terms, date("2026-10-01"), date("2026-11-01")).unwrap();
        let fees: Vec<_> = got.iter().map(|line| (line.fee_cents, line.charge_cents)).collect();
        assert_eq!(fees, [(8_900, 0), (12_816, 0)], "{edge:?}");
        let ended = Record { cancel_at: Some(november), changes: Vec::new(), ..record };
        let got = statement(&ended, &terms, date("2026-10-01"), date("2026-11-01")).unwrap();
        assert_eq!(got.iter().map(|line| line.invoice_cents).collect::<Vec<_>>(), [8_900, 0], "{edge:?}");
    }
}

#[test]
fn refunds_of_a_cancelled_rest_n11() {
    let june = (at("2026-06-01"), at("2026-07-01"));
    for (refund, period, cancelled, want) in [
        (Refund::None, june, "2026-06-16T10:00:00Z", 0),
        (Refund::Days, june, "2026-06-15T22:00:00Z", 5_981),
        (Refund::Days, june, "2026-06-16T21:59:59Z", 5_981),
        (Refund::Days, june, "2026-06-30T00:00:00Z", 0),
        (Refund::Days, june, "2026-05-01T00:00:00Z", 12_816),
        (Refund::Days, june, "2026-08-01T00:00:00Z", 0),
        (Refund::Hours, june, "2026-06-15T22:00:00Z", 6_408),
        (Refund::Hours, june, "2026-06-15T22:00:01Z", 6_390),
        (Refund::Hours, june, "2026-06-30T21:00:01Z", 0),
        (Refund::Hours, june, "2026-05-01T00:00:00Z", 12_816),
        (Refund::Hours, june, "2026-08-01T00:00:00Z", 0),
        // March 2026 has 743 hours in Berlin.
        (Refund::Hours, (at("2026-03-01"), at("2026-04-01")), "2026-03-31T21:00:00Z", 17),
        (Refund::Hours, (at("2026-06-01"), at("2026-06-01")), "2026-06-01T00:00:00Z", 0),
    ] {
        let got = refund_cents(refund, 12_816, BERLIN, period.0, period.1, cancelled.parse().unwrap());
        assert_eq!(got, want, "{refund:?} {cancelled}");
    }
}

fn modes() -> impl Strategy<Value = PriceMode> {
    prop_oneof![Just(Volume), Just(Graduated)]
}

/// Seats near the borders of the tiers, and any.
fn seats() -> impl Strategy<Value = u32> {
    prop_oneof![0..30u32, 40..110u32, 0..1_200u32, 0..=1_000_000u32]
}

/// Civil dates of three years, as days after 1 January 2026.
fn day(after: u32) -> NaiveDate {
    date("2026-01-01") + chrono::Days::new(u64::from(after))
}

/// Ascending changes: hours after 1 January 2026, and seats.
fn changes() -> impl Strategy<Value = Vec<Change>> {
    proptest::collection::btree_map(0..26_000i64, seats(), 0..12).prop_map(|all| {
        let one = |(hours, seats)| Change {
            effective_at: at("2026-01-01") + chrono::Duration::hours(hours),
            seats,
            by: Actor::Operator,
        };
        all.into_iter().map(one).collect()
    })
}

fn records() -> impl Strategy<Value = Record> {
    let end = proptest::option::of(0..1_000u32);
    (0..400u32, seats(), changes(), seats(), changes(), end.clone(), end).prop_map(
        |(start, seats, changes, more, addon_changes, addon_end, end)| {
            let midnight_of = |after| midnight(BERLIN, day(after), Edge::End);
            let addon =
                Addon { cancel_at: addon_end.map(midnight_of), changes: addon_changes, ..Addon::new("a", more) };
            Record {
                start: day(start).and_hms_opt(0, 0, 0),
                changes,
                addons: vec![addon],
                cancel_at: end.map(midnight_of),
                ..Record::paid(Some(seats))
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn charge_less_credit_is_net_v12(mode in modes(), billed in seats(), to in seats(), after in 0..1_500u32) {
        let got = upgrade(mode, billed, to, day(after));
        prop_assert!(got.credit_cents <= got.charge_cents);
        prop_assert_eq!(got.charge_cents - got.credit_cents, got.net_cents);
        let rise = monthly_cents(mode, to).saturating_sub(monthly_cents(mode, billed));
        prop_assert_eq!(got.charge_cents, if to > billed { rise } else { 0 });
        let next = quote(mode, billed, to, day(after)).next_invoice_cents;
        prop_assert_eq!(next, monthly_cents(mode, to) - got.credit_cents);
    }

    #[test]
    fn what_is_invoiced_is_what_was_used_and_what_is_left_v12(mode in modes(), record in records()) {
        let all = lines(&record, mode, date("2029-12-31"));
        let mut balance = 0;
        for line in &all {
            prop_assert_eq!(line.charge_cents - line.credit_cents, line.net_cents);
            prop_assert_eq!(line.invoice_cents, line.fee_cents - line.credit_used_cents + line.charge_cents);
            prop_assert_eq!(line.balance_cents, balance + line.credit_cents - line.credit_used_cents - line.forfeited_cents);
            prop_assert!(line.credit_used_cents == balance || line.credit_used_cents == line.fee_cents);
            let started = record.start.is_some_and(|start| start.date() <= line.month);
            let entitled = entitlement(&record, &terms(mode), midnight(BERLIN, line.month, Edge::End)).seats.unwrap();
            prop_assert_eq!(line.fee_cents, if started { monthly_cents(mode, entitled) } else { 0 });
            balance = line.balance_cents;
        }
        let sum = |of: fn(&MonthLine) -> u64| all.iter().map(of).sum::<u64>();
        let used = sum(|line| line.fee_cents + line.net_cents) + sum(|line| line.forfeited_cents) + balance;
        prop_assert_eq!(sum(|line| line.invoice_cents), used);
        if record.cancel_at.is_some() {
            prop_assert_eq!(balance, 0);
        }
        let from = date("2027-05-20");
        let part = statement(&record, &terms(mode), from, date("2029-12-31")).unwrap();
        let later: Vec<_> = all.iter().filter(|line| line.month >= date("2027-05-01")).copied().collect();
        prop_assert_eq!(part, later);
    }
}
