//! The monthly price of seats, when more of them cost no more, and a partner's share (K1-K3, K8).
//!
//! Money is integer euro cents, net of VAT. The daemon never invoices: these are figures to advise with.

use usherd_contract::vocabulary;

use super::policy::PriceMode;

/// The price of one seat a month before any discount, cents (K1).
pub const LIST_CENTS: u64 = 890;

/// The first number of seats of each tier, and its discount in percent (K1).
const TIERS: [(u32, u64); 9] =
    [(1, 0), (11, 10), (26, 15), (51, 20), (101, 30), (251, 40), (501, 50), (751, 60), (1001, 70)];

/// The part of an amount that falls to `part` of `whole`, rounded half up: the only place that rounds money.
///
/// A fraction above 1 is possible; a `whole` of 0 gives 0, and what no `u64` holds gives the largest.
pub fn share(cents: u64, part: u64, whole: u64) -> u64 {
    let (product, whole) = (u128::from(cents) * u128::from(part), u128::from(whole));
    let Some(floor) = product.checked_div(whole) else { return 0 };
    let rest = product % whole;
    u64::try_from(floor + u128::from(rest >= whole - rest)).unwrap_or(u64::MAX)
}

/// The price of one seat a month in the tier that so many seats reach, cents (K1); the list price for none.
pub fn unit_cents(seats: u32) -> u64 {
    let discount = TIERS.iter().rev().find(|(first, _)| *first <= seats).map_or(0, |(_, discount)| *discount);
    share(LIST_CENTS, 100 - discount, 100)
}

/// The fee of a month for so many seats, cents (K2). No number of seats overflows; the rule book knows
/// 0 to 1,000,000.
pub fn monthly_cents(mode: PriceMode, seats: u32) -> u64 {
    match mode {
        PriceMode::Volume => u64::from(seats) * unit_cents(seats),
        PriceMode::Graduated => {
            let ends = TIERS.iter().skip(1).map(|(first, _)| first - 1).chain([u32::MAX]);
            let in_tiers = TIERS
                .iter()
                .zip(ends)
                .map(|((first, _), last)| u64::from(seats.min(last).saturating_sub(first - 1)) * unit_cents(*first));
            in_tiers.sum()
        }
    }
}

/// A larger number of seats that costs no more (K3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// How many.
    pub seats: u32,
    /// Their fee of a month, cents.
    pub monthly_cents: u64,
}

/// The cheapest larger number of seats, if it costs no more than these (K3). There is none for graduated
/// prices, where every further seat costs something.
pub fn advice(mode: PriceMode, seats: u32) -> Option<Advice> {
    let (PriceMode::Volume, 1..) = (mode, seats) else { return None };
    let larger = TIERS.iter().map(|(first, _)| *first).filter(|first| *first > seats);
    let cheapest = larger
        .map(|seats| Advice { seats, monthly_cents: monthly_cents(mode, seats) })
        .min_by_key(|advice| advice.monthly_cents)?;
    (cheapest.monthly_cents <= monthly_cents(mode, seats)).then_some(cheapest)
}

vocabulary! {
    /// The level of a partner (K8).
    Partner {
        /// 10 percent.
        Registered = "registered",
        /// 15 percent.
        Certified = "certified",
        /// 20 percent.
        Premium = "premium",
        /// 25 percent.
        Excellence = "excellence",
    }
}

impl Partner {
    /// The commission, or the discount of a wholesale partner, percent of the net fee.
    pub const fn percent(self) -> u64 {
        match self {
            Partner::Registered => 10,
            Partner::Certified => 15,
            Partner::Premium => 20,
            Partner::Excellence => 25,
        }
    }

    /// Seats that are not for resale and cost nothing.
    pub const fn nfr_seats(self) -> u32 {
        match self {
            Partner::Registered => 0,
            Partner::Certified => 10,
            Partner::Premium => 25,
            Partner::Excellence => 50,
        }
    }
}

/// The share of a net fee that a partner is paid, cents (K8).
pub fn commission_cents(partner: Partner, fee_cents: u64) -> u64 {
    share(fee_cents, partner.percent(), 100)
}

/// The amount that a wholesale partner pays for it, cents (K8).
pub fn wholesale_cents(partner: Partner, fee_cents: u64) -> u64 {
    fee_cents - commission_cents(partner, fee_cents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_up_and_nothing_overflows() {
        for (cents, part, whole, expected) in [
            (890, 85, 100, 757),
            (1, 1, 2, 1),
            (1, 1, 3, 0),
            (2, 1, 3, 1),
            (0, 1, 2, 0),
            (7, 0, 2, 0),
            (7, 1, 0, 0),
            (u64::MAX, u64::MAX, u64::MAX, u64::MAX),
            (u64::MAX, 2, 1, u64::MAX),
            (u64::MAX, 1, u64::MAX, 1),
        ] {
            assert_eq!(share(cents, part, whole), expected, "{cents} x {part} / {whole}");
        }
    }

    #[test]
    fn the_largest_numbers_of_seats_have_a_price() {
        assert_eq!(monthly_cents(PriceMode::Volume, 1_000_000), 267_000_000);
        assert_eq!(monthly_cents(PriceMode::Volume, u32::MAX), u64::from(u32::MAX) * 267);
        assert_eq!(monthly_cents(PriceMode::Graduated, 1_000_000), 502_640 + 267 * 999_000);
        assert!(monthly_cents(PriceMode::Graduated, u32::MAX) > monthly_cents(PriceMode::Volume, u32::MAX));
    }

    #[test]
    fn every_seat_of_a_graduated_price_costs_its_tiers_price_k2() {
        let mut sum = 0;
        for seats in 1..=2_000 {
            sum += unit_cents(seats);
            assert_eq!(monthly_cents(PriceMode::Graduated, seats), sum, "{seats}");
            assert_eq!(advice(PriceMode::Graduated, seats), None, "{seats}");
        }
    }

    #[test]
    fn advice_is_the_best_of_all_larger_numbers_k3() {
        let fee = |seats| monthly_cents(PriceMode::Volume, seats);
        for seats in 1..=1_100 {
            let best = (seats + 1..=1_200).min_by_key(|more| fee(*more)).unwrap();
            let expected = (fee(best) <= fee(seats)).then_some((best, fee(best)));
            let got = advice(PriceMode::Volume, seats).map(|advice| (advice.seats, advice.monthly_cents));
            assert_eq!(got, expected, "{seats}");
        }
        assert_eq!(advice(PriceMode::Volume, 0), None);
        assert_eq!(advice(PriceMode::Volume, u32::MAX), None);
    }
}
