//! Subjects and sessions of a tenant.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usherd_contract::vocabulary;
use usherd_contract::word::{Word, one_of};
use usherd_contract::words::{Class, Code, Device, Direction, Kind, Leg};

use super::timestamp::Timestamp;

vocabulary! {
    /// The code of an answer to who ends something by hand.
    EndedCode {
        /// It ended.
        Ended = "ended",
    }
}

/// A page of subjects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Subjects {
    /// Sorted by id.
    pub subjects: Vec<SubjectRow>,
    /// Pass it as `after` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A subject of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SubjectRow {
    /// Its id.
    pub subject: String,
    /// It holds a seat.
    pub seated: bool,
    /// Sessions that count.
    pub claims: u32,
    /// Sessions in all.
    pub sessions: u32,
}

/// One subject, with its sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Subject {
    /// The tenant.
    pub tenant: String,
    /// Its id.
    pub subject: String,
    /// It holds a seat.
    pub seated: bool,
    /// Sessions that count.
    pub claims: usize,
    /// All of them.
    pub sessions: Vec<SessionRow>,
}

/// A page of sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Sessions {
    /// Sorted by id; those that do not count too.
    pub sessions: Vec<SessionRow>,
    /// Pass it as `after` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A live session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SessionRow {
    /// The node's id of it.
    pub session: String,
    /// Its subject; absent where nobody could hold a seat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The thing it is.
    pub kind: Word<Kind>,
    /// Of a call, seen from the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Word<Direction>>,
    /// Of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leg: Option<Word<Leg>>,
    /// The hardware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Word<Device>>,
    /// Class of a function extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Word<Class>>,
    /// It needs its subject to hold a seat.
    pub counts: bool,
    /// Uses a trunk line.
    pub external: bool,
    /// Its node is lost: it ends in `ends_in_s` unless it is confirmed.
    pub orphan: bool,
    /// Its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Boot number of its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Number of its last message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The code of its first answer.
    #[schemars(schema_with = "of_first")]
    pub first: Word<Code>,
    /// When it began.
    pub started: Timestamp,
    /// When it ends by itself, apart from the lease of its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_in_s: Option<u64>,
}

/// Sessions that were ended by hand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Ended {
    /// It is done.
    pub code: Word<EndedCode>,
    /// Sessions that ended.
    pub count: u32,
}

/// The codes that a session can begin with.
fn of_first(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    one_of(|code: Code| code.as_str().starts_with("allow."))
}
