//! Answers about the cluster that a daemon belongs to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The cluster as one of its members sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClusterStatus {
    /// The name of the member that was asked.
    pub member: String,
    /// Of each shard its owner; null where nobody owns it.
    pub owners: Vec<Option<String>>,
    /// All members, by name.
    pub members: Vec<ClusterMember>,
    /// Shards that nobody decides who lives.
    pub missing: Vec<u32>,
    /// Milliseconds since the last transaction was sent that was committed; null before the first.
    pub proven_ms_ago: Option<u64>,
    /// Why the store has no answer at present; null where it answers.
    pub cut_off: Option<String>,
}

/// A member of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClusterMember {
    /// Its name.
    pub name: String,
    /// The address for the other members.
    pub advertise: String,
    /// Its release.
    pub version: String,
    /// True if it showed a sign of life of late.
    pub alive: bool,
    /// True if it wants to own nothing.
    pub leaving: bool,
    /// The shards that it owns.
    pub shards: Vec<u32>,
}
