//! Answers to nodes: decisions, and the outcome of their own messages.

use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::vocabulary;
use super::word::Word;
use super::words::{Code, Detail, OnUnreachable};

vocabulary! {
    /// The code of an answer that tells of a success and no more.
    Done {
        /// It is done.
        Ok = "ok",
    }
}

/// The answer to an acquire; status 200 whether it allows or denies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Decision {
    /// The decision. `deny.conflict`: the session belongs to another subject. `ignore.stale`: an older message came
    /// late and changed nothing.
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::of_acquire"))]
    pub code: Word<Code>,
    /// True where the call or client goes on.
    pub allow: bool,
    /// Why it was free, what was full, or why it is inactive; empty where there is nothing to add.
    pub detail: Word<Detail>,
    /// With `allow.same`: the code of the first answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::of_first"))]
    pub first: Option<Word<Code>>,
    /// One sentence for a person; names nobody.
    pub message: String,
    /// As asked.
    pub tenant: String,
    /// As asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// As asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Seats held by the tenant after the decision.
    pub held: u32,
    /// Seats that the tenant may use now; null is unlimited.
    pub quota: Option<u32>,
    /// Seats held above the quota.
    pub over: u32,
    /// Seconds until the session ends unless it is renewed; absent where nothing was stored or nothing ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// With a denial: when to ask again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
    /// With a denial: what to answer the phone with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
    /// Number of this decision, for logs and the audit trail.
    pub decision_id: String,
}

/// The answer to a release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Released {
    /// `released.last`: the seat is free. `released.more`: the subject keeps it, for other sessions or (detail
    /// `linger`) for a moment. `released.none`: nothing to release, or it held no seat. `ignore.stale`: late, or from
    /// another node than the session's; nothing changed.
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::of_release"))]
    pub code: Word<Code>,
    /// `linger`: the seat is kept for a moment, or for a transferred call.
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::linger"))]
    pub detail: Word<Detail>,
    /// One sentence for a person.
    pub message: String,
    /// As asked.
    pub tenant: String,
    /// As asked.
    pub session: String,
    /// Seats held by the tenant after the decision.
    pub held: u32,
    /// Seats that the tenant may use now; null is unlimited.
    pub quota: Option<u32>,
    /// Number of this decision.
    pub decision_id: String,
}

/// The answer to a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct BatchReply {
    /// In the order of the operations.
    pub results: Vec<BatchResult>,
}

/// The outcome of one operation of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum BatchResult {
    /// Of an acquire.
    Decision(Decision),
    /// Of a release.
    Released(Released),
    /// In the place of an answer.
    Problem(Problem<'static>),
}

/// The answer to the hello of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Hello {
    /// It was taken.
    pub code: Word<Done>,
    /// How often to send a heartbeat.
    pub heartbeat_s: u32,
    /// Silent for so long, the node is lost.
    pub lease_s: u32,
    /// How often to send an inventory.
    pub inventory_s: u32,
    /// For an agent that watches the clients of a PBX: how long one keeps its seat that cannot be reached.
    pub presence_grace_s: u32,
    /// How long to wait for a decision.
    pub deadline_ms: u32,
    /// The thing to do when nobody answers.
    pub on_unreachable: Word<OnUnreachable>,
    /// Calls of older epochs that ended.
    pub dropped: u32,
    /// Other sessions of older epochs, which wait for confirmation.
    pub orphaned: u32,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Ok {
    /// It was taken.
    pub code: Word<Done>,
}

/// The answer to the goodbye of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Goodbye {
    /// It was taken.
    pub code: Word<Done>,
    /// Sessions that now wait for this node or another.
    pub orphaned: u32,
}

/// The answer to an inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct InventoryReply {
    /// It was taken.
    pub code: Word<Done>,
    /// Known before.
    pub kept: u32,
    /// Not known before.
    pub adopted: u32,
    /// Of this node and epoch, not listed and not newer than `seq`. Mobiles are never removed.
    pub removed: u32,
    /// Listed, but of another subject, released since, or not recorded.
    pub ignored: u32,
}

/// The words that a field has of its vocabulary.
#[cfg(feature = "schema")]
mod schema {
    use schemars::{Schema, SchemaGenerator};

    use crate::word::one_of;
    use crate::words::{Code, Detail};

    const RELEASED: [Code; 3] = [Code::ReleasedLast, Code::ReleasedMore, Code::ReleasedNone];

    pub(super) fn of_acquire(_: &mut SchemaGenerator) -> Schema {
        one_of(|code| !RELEASED.contains(&code))
    }

    pub(super) fn of_release(_: &mut SchemaGenerator) -> Schema {
        one_of(|code| RELEASED.contains(&code) || code == Code::IgnoreStale)
    }

    pub(super) fn of_first(_: &mut SchemaGenerator) -> Schema {
        one_of(|code: Code| code.allows() && code != Code::IgnoreStale && !RELEASED.contains(&code))
    }

    pub(super) fn linger(_: &mut SchemaGenerator) -> Schema {
        one_of(|detail| matches!(detail, Detail::None | Detail::Linger))
    }
}
