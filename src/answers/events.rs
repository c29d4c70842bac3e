//! Events, as it happens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usherd_contract::word::{Word, one_of};
use usherd_contract::words::{Class, Code, Detail, Direction, Kind, Reason};

use super::absent::{or_null, some};
use super::timestamp::Timestamp;
use super::words::{EventResult, EventType};

/// One thing that happened. What concerns the whole daemon (node, config, journal, sync) has no tenant, and is not
/// shown to a token for some tenants only. A `gap` says that events between the resume point and `resumes_at` are
/// gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Event {
    /// Increases; give it as Last-Event-ID to resume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The kind of thing.
    #[serde(rename = "type")]
    #[schemars(schema_with = "of_stream")]
    pub event: Word<EventType>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The tenant concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The subject concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The session concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The thing that the session is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Word<Kind>>,
    /// Of a call, seen from the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Word<Direction>>,
    /// Class of a function extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Word<Class>>,
    /// The reservation group that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The answer, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Word<Code>>,
    /// The word that goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "of_event")]
    pub detail: Option<Word<Detail>>,
    /// Why a session ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Word<Reason>>,
    /// The node concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How it turned out, where the type leaves it open: of a node, a configuration, a subscription, the journal, the
    /// sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Word<EventResult>>,
    /// One sentence, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Seats held then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<u32>,
    /// Seats that the tenant may use now; null is unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "some")]
    #[schemars(schema_with = "or_null::<u32>")]
    pub quota: Option<Option<u32>>,
    /// Of a gap: the first id that is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumes_at: Option<u64>,
    /// Of a pulse: how much happened since the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub events: Option<u64>,
}

fn of_event(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    one_of(|detail: Detail| detail != Detail::None)
}

/// A stream has two types more, which say how it goes on.
fn of_stream(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let types = EventType::ALL.iter().map(|kind| kind.as_str());
    schemars::json_schema!({ "type": "string", "enum": types.chain(["gap", "pulse"]).collect::<Vec<_>>() })
}
