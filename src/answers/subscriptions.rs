//! Contracts: bookings, and the answers to requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usherd_contract::vocabulary;
use usherd_contract::word::Word;
use usherd_subscription::entitlement::State;
use usherd_subscription::record::{Actor, ContractKind};
use usherd_subscription::refusal::Code;
use usherd_subscription::schedule::{ObjectState, Status};

use super::absent::{or_null, some};
use super::timestamp::Timestamp;

vocabulary! {
    /// The type of a refusal.
    RefusedType {
        /// A rule forbids the request.
        Refused = "/problems/refused",
    }
}

/// Something that is booked, or asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct Booked {
    /// The name of the booking in requests to revoke, accept, reject or withdraw it.
    pub id: String,
    /// `subscription`, or `addon:ID`.
    pub object: String,
    /// When it takes effect; of an undecided request: when it was submitted.
    pub effective_at: Timestamp,
    /// The object has so many from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seats: Option<u32>,
    /// The object ends, or a customer asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// A customer asks for so many to be cancelled; null is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "some")]
    #[schemars(schema_with = "or_null::<std::num::NonZeroU32>")]
    pub cancel_licences: Option<Option<u32>>,
    /// The one who booked it.
    pub by: Word<Actor>,
    /// `void`: it will not happen, unless the end before it is revoked. `submitted`: an operator has to accept it.
    pub status: Word<Status>,
    /// Where a tenant is read: the seats that it has from then on, by all objects together; null is unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "some")]
    #[schemars(schema_with = "or_null::<u32>")]
    pub seats_then: Option<Option<u32>>,
}

/// A request that is accepted, or would be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct SubscriptionAccepted {
    /// The tenant.
    pub tenant: String,
    /// Nothing was written.
    pub dry_run: bool,
    /// It is.
    #[schemars(extend("const" = true))]
    pub accepted: bool,
    /// No rule forbids it.
    pub refusal: (),
    /// The id of what was booked, executed, revoked or submitted.
    pub change: Option<String>,
    /// When it takes effect; null while an operator has to decide.
    pub effective_at: Option<Timestamp>,
    /// Charged at once, cents.
    pub charge_cents: u64,
    /// Credited, cents.
    pub credit_cents: u64,
    /// The fee of a month for what is in use from now on.
    pub monthly_cents: Option<u64>,
    /// State of the subscription.
    pub state: Word<State>,
    /// Seats; null is unlimited.
    pub seats: Option<u32>,
    /// All that is booked then.
    pub schedule: Vec<Booked>,
    /// Only where it is written and not in force yet: why. It is booked: do not send it again; the next reload that is
    /// taken up puts it in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
}

/// A request that a rule forbids.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Refused {
    /// The tenant.
    pub tenant: String,
    /// Nothing would have been written.
    pub dry_run: bool,
    /// It is not.
    #[schemars(extend("const" = false))]
    pub accepted: bool,
    /// The rule.
    pub refusal: Word<Code>,
    /// The reason, and what to do instead, for people.
    pub message: String,
    /// From when on it may be granted, or when what is in its way happens.
    pub earliest_at: Option<Timestamp>,
    /// Nothing was booked.
    pub change: (),
    /// Nothing takes effect.
    pub effective_at: (),
    /// Nothing is charged.
    #[schemars(extend("const" = 0))]
    pub charge_cents: u64,
    /// Nothing is credited.
    #[schemars(extend("const" = 0))]
    pub credit_cents: u64,
    /// All that is booked.
    pub schedule: Vec<Booked>,
}

/// A request that a rule forbids, as a problem.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SubscriptionRefused {
    /// The kind of problem.
    #[serde(rename = "type")]
    pub kind: Word<RefusedType>,
    /// The kind, for people.
    pub title: String,
    /// The HTTP status.
    #[schemars(extend("const" = 409))]
    pub status: u16,
    /// The reason, and what to do instead, for people.
    pub detail: String,
    /// The refusal.
    #[serde(flatten)]
    pub refused: Refused,
}

/// One subscription at an instant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subscription {
    /// The tenant.
    pub tenant: String,
    /// The instant.
    pub at: Timestamp,
    /// The kind of contract.
    pub kind: Word<ContractKind>,
    /// Its state.
    pub state: Word<State>,
    /// Seats; null is unlimited.
    pub seats: Option<u32>,
    /// Its first day, a civil date and time of the billing zone.
    pub start: Option<String>,
    /// End of the minimum term.
    pub term_ends_at: Option<Timestamp>,
    /// End of the trial.
    pub trial_ends_at: Option<Timestamp>,
    /// End of the subscription.
    pub ends_at: Option<Timestamp>,
    /// The next booked change.
    pub next_change_at: Option<Timestamp>,
    /// All that is booked.
    pub schedule: Vec<Booked>,
    /// The base and the add-ons.
    pub objects: Vec<ObjectRow>,
    /// Inclusive numbers.
    pub numbers: Option<u32>,
    /// Inclusive trunk lines.
    pub channels: Option<u32>,
    /// Inclusive devices.
    pub endpoints: Option<u32>,
    /// Numbers beyond the inclusive ones.
    pub surplus_numbers: Option<u32>,
}

/// The base of a subscription, or an add-on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectRow {
    /// `subscription`, or `addon:ID`.
    pub object: String,
    /// Where it stands.
    pub state: Word<ObjectState>,
    /// Its seats; null is unlimited.
    pub seats: Option<u32>,
}
