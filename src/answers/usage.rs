//! Use over time, and what another quota would have meant.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usherd_contract::word::Word;

use super::pricing::Advice;
use super::timestamp::Timestamp;
use super::words::Step;

/// Points of an answer at most.
pub const POINTS_MAX: usize = 5_000;
/// Quotas of an answer at most.
pub const QUOTAS_MAX: u32 = 200;

/// Use of a tenant over time, point by point and in all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Usage {
    /// The tenant.
    pub tenant: String,
    /// From when.
    pub from: Timestamp,
    /// Until when, not in it.
    pub to: Timestamp,
    /// How long a point is.
    pub step: Word<Step>,
    /// The same, seconds; a day with a clock change has an hour more or less.
    pub step_s: u32,
    /// The present one; null is unlimited.
    pub quota: Option<u32>,
    /// Point by point.
    #[schemars(length(max = POINTS_MAX))]
    pub usage: Vec<UsagePoint>,
    /// In all.
    pub total: UsageTotal,
}

/// Use and demand of a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UsageFigures {
    /// Most seats held at once.
    pub peak: u32,
    /// Seats held on average, exact to a thousandth.
    #[schemars(range(min = 0))]
    pub mean: f64,
    /// Most seats held plus people who waited for one at once.
    pub demand: u32,
    /// Seconds of all seats together.
    pub seat_s: u64,
    /// Seconds with no free seat.
    pub saturated_s: u64,
    /// Requests that were denied.
    pub denials: u64,
    /// People who were denied and got no seat within a minute.
    pub denials_true: u64,
    /// Seconds for which the daemon looked.
    pub observed_s: u64,
}

/// A point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UsagePoint {
    /// Use and demand in it.
    #[serde(flatten)]
    pub figures: UsageFigures,
    /// When it begins.
    pub at: Timestamp,
    /// At its end; null is unlimited.
    pub quota: Option<u32>,
}

/// All points together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UsageTotal {
    /// Use and demand in them.
    #[serde(flatten)]
    pub figures: UsageFigures,
    /// The first point with the peak.
    pub peak_at: Option<Timestamp>,
}

/// Requests that other quotas would have denied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Whatif {
    /// The tenant.
    pub tenant: String,
    /// From when.
    pub from: Timestamp,
    /// Until when, not in it.
    pub to: Timestamp,
    /// The present one; null is unlimited.
    pub quota: Option<u32>,
    /// How often somebody without a seat wanted one.
    pub requests: u64,
    /// Seconds for which the daemon looked.
    pub observed_s: u64,
    /// Quota by quota.
    #[schemars(length(max = QUOTAS_MAX))]
    pub whatif: Vec<WhatifRow>,
    /// The share of requests that the recommended quota may deny.
    pub target: f64,
    /// The smallest quota that would have denied less than the target.
    pub recommended: u32,
    /// Of the recommended quota.
    pub monthly_cents: u64,
    /// A larger number of seats that costs no more (K3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<Advice>,
}

/// One quota.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WhatifRow {
    /// So many seats.
    pub quota: u32,
    /// Requests that it would have denied.
    pub denials: u64,
    /// Of all requests.
    #[schemars(range(min = 0, max = 1))]
    pub share: f64,
    /// Seconds in which more were wanted.
    pub saturated_s: u64,
    /// The fee of a month.
    pub monthly_cents: u64,
}
