//! Prices, and how many seats a company needs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usherd_subscription::sizing::RISK_ROWS_MAX;
use usherd_subscription::tariff;

/// The price of a number of seats, and of a change to it. Amounts are euro cents, net of VAT.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Quote {
    /// One seat a month in the tier that is reached.
    pub unit_cents: u64,
    /// The new fee of a month.
    pub monthly_cents: u64,
    /// Charged at once: the difference for the whole month; 0 where the fee or the seats do not rise.
    pub charge_cents: u64,
    /// Worth of the rest of the month, the day of the change included: charge less credit.
    pub net_cents: u64,
    /// Credited for the part of the month before.
    pub credit_cents: u64,
    /// The fee of the next month less this credit.
    pub next_invoice_cents: u64,
    /// Only where more seats cost no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<Advice>,
    /// With `partner`: what the partner is paid of the fee of a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commission_cents: Option<u64>,
    /// With `partner`: what the partner pays for a month at wholesale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wholesale_cents: Option<u64>,
}

/// A larger number of seats that costs no more (K3).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Advice {
    /// Seats.
    #[schemars(range(min = 1))]
    pub seats: u32,
    /// The fee of a month.
    pub monthly_cents: u64,
}

impl From<tariff::Advice> for Advice {
    fn from(advice: tariff::Advice) -> Self {
        Advice { seats: advice.seats, monthly_cents: advice.monthly_cents }
    }
}

/// How many seats a company needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Size {
    /// People of all types.
    pub employees: u32,
    /// Tenths of a seat that are needed on average.
    pub tenths: u32,
    /// The brochure's figure: the tenths rounded up, once.
    pub seats: u32,
    /// The fewest seats that are too few with a probability of at most 1 %.
    pub safe_seats: u32,
    /// From the smaller figure to one seat above the safe one.
    #[schemars(length(max = RISK_ROWS_MAX))]
    pub risk: Vec<Risk>,
}

/// How probable it is that a number of seats is too small.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Risk {
    /// So many.
    pub seats: u32,
    /// That more are needed at once.
    #[schemars(range(min = 0, max = 1))]
    pub probability: f64,
}
