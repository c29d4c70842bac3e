//! Bodies of requests about contracts and operation, as they are read.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::daemon::subscriptions::Written;

/// Longest time for which a passing log level holds, seconds.
pub(super) const LOG_FOR_SECONDS_MAX: u64 = 86_400;
/// Most devices that are asked for at once.
pub(super) const ADD_MAX: u64 = 100_000;
/// Most devices of a tenant, as in its file.
pub(super) const ENDPOINTS_MAX: u64 = 100_000_000;

/// Change what is logged.
#[derive(JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub(super) struct LogLevel {
    /// A level (error, warn, info, debug, trace), or levels by module.
    pub(super) filter: String,
    /// Back to the configured filter after so long; absent or 0: it stays.
    #[schemars(range(max = LOG_FOR_SECONDS_MAX))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) for_s: Option<u64>,
}

/// More devices, and how many there are, where the caller knows better than the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub(super) struct EndpointsAsked {
    /// How many more; 1 where nothing is said.
    #[schemars(schema_with = "added")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) add: u32,
    /// How many are set up now; those of the tenant's file where nothing is said, and none where that says nothing.
    #[schemars(schema_with = "present")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoints: Option<u32>,
}

/// A request of customer or operator to a subscription.
#[derive(JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub(super) struct SubscriptionRequest {
    #[serde(flatten)]
    pub(super) written: Written,
    /// Only tell what it would come to.
    #[schemars(extend("default" = false))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dry_run: bool,
}

/// A shard that another member is to own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HandOver {
    /// The shard.
    pub(super) shard: u32,
    /// The name of the member.
    pub(super) to: String,
}

/// A member that is to leave, or to take its part again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Leave {
    /// True: it wants to own nothing. False: it takes its part again.
    pub(super) leave: bool,
}

fn added(_: &mut SchemaGenerator) -> Schema {
    number_or_null(1, ADD_MAX)
}

fn present(_: &mut SchemaGenerator) -> Schema {
    number_or_null(0, ENDPOINTS_MAX)
}

fn number_or_null(least: u64, most: u64) -> Schema {
    json_schema!({ "oneOf": [{ "const": null }, { "type": "integer", "minimum": least, "maximum": most }] })
}
