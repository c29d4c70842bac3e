//! PBX nodes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usherd_contract::vocabulary;
use usherd_contract::word::Word;

use super::timestamp::Timestamp;

vocabulary! {
    /// How a node is.
    NodeState {
        /// It said hello and its lease holds.
        Up = "up",
        /// It is not heard.
        Silent = "silent",
        /// It said goodbye and its sessions have their grace.
        Left = "left",
    }
}

vocabulary! {
    /// The code of an answer to who has a node forgotten.
    ForgottenCode {
        /// It is forgotten.
        Forgotten = "forgotten",
    }
}

/// A page of nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Nodes {
    /// Sorted by name.
    pub nodes: Vec<NodeRow>,
    /// Pass it as `after` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Members and shards of the cluster that could not be asked (`alpha`, `shard 3`): what they know is not in here.
    /// Absent where nothing is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// A node of the list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NodeRow {
    /// Its name.
    pub node: String,
    /// Its boot number; null where it never said one.
    pub epoch: Option<u64>,
    /// `up`: it said hello and its lease holds. `left`: it said goodbye and its sessions have their grace; after that,
    /// and after a day of silence, it is not listed any more.
    pub state: Word<NodeState>,
    /// When it was heard last.
    pub last_seen: Option<Timestamp>,
}

/// A node that is forgotten.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NodeForgotten {
    /// It is done.
    pub code: Word<ForgottenCode>,
    /// The epoch that it had; null where it never had a lease.
    pub epoch: Option<u64>,
    /// Sessions that wait for it or another node.
    pub orphaned: u32,
}
