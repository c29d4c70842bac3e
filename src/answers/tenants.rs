//! Tenants, and what is known of each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usherd_contract::word::Word;
use usherd_subscription::entitlement::State;

use super::absent::{or_null, some, yes};
use super::subscriptions::Booked;
use super::timestamp::Timestamp;
use super::words::Band;

/// A page of tenants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Tenants {
    /// Sorted by id; those that the token sees.
    pub tenants: Vec<TenantRow>,
    /// Pass it as `after` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Members and shards of the cluster that could not be asked (`alpha`, `shard 3`): what they know is not in here.
    /// Absent where nothing is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// How a tenant stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TenantFigures {
    /// Its id.
    pub tenant: String,
    /// State of the subscription.
    pub state: Word<State>,
    /// Seats that the tenant may use now; null is unlimited.
    pub quota: Option<u32>,
    /// Seats held.
    pub held: u32,
    /// Seats left; null is unlimited.
    pub free: Option<u32>,
    /// Seats held above the quota.
    pub over: u32,
    /// Most seats held at once in the present and the previous window of five minutes.
    pub peak: u32,
    /// How full it is.
    pub band: Word<Band>,
    /// Denials since the start of the daemon.
    pub denials: u64,
}

/// A tenant of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TenantRow {
    /// How it stands.
    #[serde(flatten)]
    pub figures: TenantFigures,
    /// The name that people call it by.
    pub name: String,
}

/// One tenant. `name`, `source`, `next_change`, `schedule` and `inclusive` are absent for a tenant that the
/// configuration does not name any more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Tenant {
    /// How it stands.
    #[serde(flatten)]
    pub figures: TenantFigures,
    /// Now, by the clock of the daemon.
    pub at: Timestamp,
    /// The name that people call it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The file that it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The billing zone: contracts go by its civil dates.
    pub time_zone: String,
    /// Live sessions, counting or not.
    pub sessions: u32,
    /// True where whoever asks sees the names of subjects; else pseudonyms.
    #[serde(default = "yes")]
    pub names: bool,
    /// Most seats held at once since midnight in the billing zone.
    pub peak_today: u32,
    /// Denials since midnight in the billing zone.
    pub denials_today: u64,
    /// The next booked change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "some")]
    #[schemars(schema_with = "or_null::<NextChange>")]
    pub next_change: Option<Option<NextChange>>,
    /// All that is booked, as the request of a subscription tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Vec<Booked>>,
    /// The inclusive services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inclusive: Option<Inclusive>,
}

/// A booked change, and what is in force from then on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NextChange {
    /// When.
    pub at: Timestamp,
    /// Seats; null is unlimited.
    pub seats: Option<u32>,
    /// State of the subscription.
    pub state: Word<State>,
}

/// Services that the seats include (trunk lines, numbers, devices), and what is used of it. null: unlimited, not
/// enforced, or not told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Inclusive {
    /// Numbers that may be assigned.
    pub numbers: Option<u32>,
    /// Numbers that are.
    pub numbers_assigned: Option<u32>,
    /// Numbers beyond those.
    pub surplus_numbers: Option<u32>,
    /// Trunk lines that may be in use at once.
    pub channels: Option<u32>,
    /// Trunk lines that are.
    pub channels_in_use: u32,
    /// Devices that may be set up.
    pub endpoints: Option<u32>,
    /// Devices that are.
    pub endpoints_set_up: Option<u32>,
    /// Devices beyond those.
    pub surplus_endpoints: Option<u32>,
}
