//! Administration and advice: clock, log, devices, scrapes, explanations.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usherd_contract::answers::Done;
use usherd_contract::vocabulary;
use usherd_contract::word::{Word, one_of};
use usherd_contract::words::{Code, Detail, Kind};
use usherd_subscription::inclusive::Setup;

use super::timestamp::Timestamp;

vocabulary! {
    /// The answer to who wants to set up more devices.
    SetupCode {
        /// They may be.
        Allow = "allow",
        /// They would be too many.
        Deny = "deny",
    }
}

/// Trust in the wall clock, as somebody said it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClockTrust {
    /// It was noted.
    pub code: Word<Done>,
    /// The wall clock.
    pub at: Timestamp,
    /// When it is trusted, unless it steps again; null where nothing is waited for any more.
    pub trusted_at: Option<Timestamp>,
    /// The same, for people.
    pub message: String,
}

/// The filter of the log that was set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogLevelReply {
    /// It is set.
    pub code: Word<Done>,
    /// The filter.
    pub filter: String,
    /// Until when; null for good.
    pub until: Option<Timestamp>,
}

/// The answer to who wants to set up more devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EndpointsChecked {
    /// They may be.
    pub allow: bool,
    /// The same, in a word.
    pub code: Word<SetupCode>,
    /// The reason.
    pub detail: Word<Setup>,
    /// Set up now, as far as known.
    pub endpoints: Option<u32>,
    /// null: not enforced, or unlimited.
    pub limit: Option<u32>,
    /// One sentence for a person.
    pub message: String,
}

/// Targets of Prometheus with the same labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Targets {
    /// Host and port of each.
    pub targets: Vec<String>,
    /// Labels, and parameters as `__param_shard`.
    pub labels: BTreeMap<String, String>,
}

/// The answer for the service discovery of Prometheus over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceDiscovery(pub Vec<Targets>);

/// The answer that an acquire would get, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Explanation {
    /// The code that an acquire would get now.
    #[schemars(schema_with = "of_acquire")]
    pub code: Word<Code>,
    /// The word that goes with it.
    pub detail: Word<Detail>,
    /// The call or client would go on.
    pub allow: bool,
    /// One sentence for a person.
    pub message: String,
    /// Seats held by the tenant after the decision.
    pub held: u32,
    /// Seats that the tenant may use now; null is unlimited.
    pub quota: Option<u32>,
    /// Each rule in the order of the checks, up to the one that decided.
    pub steps: Vec<Step>,
    /// Sessions that hold seats, by kind.
    pub holders: BTreeMap<Word<Kind>, u32>,
    /// The soonest event that would free a seat, if known.
    pub frees_next: Option<FreesNext>,
    /// Ways to make it succeed.
    pub would_allow: Vec<String>,
}

/// A rule that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Step {
    /// Of the rule book.
    pub rule: String,
    /// The facts that it looked at.
    pub input: String,
    /// Its outcome.
    pub outcome: String,
}

/// The soonest event that would free a seat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FreesNext {
    /// When.
    pub in_s: u64,
    /// How.
    pub by: String,
}

fn of_acquire(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    one_of(|code: Code| !code.as_str().starts_with("released."))
}
