//! Answers about the cluster that a daemon belongs to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usherd_contract::answers::Done;
use usherd_contract::word::Word;

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

/// The cluster as one of its members sees it, the store that it stands on, and what the member counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cluster {
    /// Members and shards.
    #[serde(flatten)]
    pub status: ClusterStatus,
    /// The endpoints of etcd, in the order of the configuration.
    pub etcd: Vec<EtcdEndpoint>,
    /// The alarms of etcd, each with its member: no room left (`NOSPACE`), members that differ (`CORRUPT`); null where
    /// etcd has no answer.
    pub alarms: Option<Vec<String>>,
    /// Events since the start of the member that was asked.
    pub counts: ClusterCounts,
}

/// An endpoint of etcd, by its own word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EtcdEndpoint {
    /// Its URL, as configured.
    pub endpoint: String,
    /// Why it has no answer; null where it answers. What follows is null or empty where it does not.
    pub problem: Option<String>,
    /// The version of its program.
    pub version: Option<String>,
    /// True if it leads the others.
    pub leader: Option<bool>,
    /// The size of its database, bytes.
    pub db_bytes: Option<u64>,
    /// Its complaints.
    pub errors: Vec<String>,
}

/// Events that a member counted since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClusterCounts {
    /// Requests that another member answered.
    pub forwarded: u64,
    /// Answers that did not go out, because another member decided by then.
    pub fenced: u64,
    /// Seats given while etcd had no answer.
    pub provisional: u64,
    /// New seats refused while etcd had no answer.
    pub refused: u64,
    /// Shards taken, by reason.
    pub takeovers: BTreeMap<String, u64>,
}

/// The hand-over of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HandedOver {
    /// It was asked for.
    pub code: Word<Done>,
    /// The shard.
    pub shard: u32,
    /// Its owner when it was asked for.
    pub from: String,
    /// The member that it goes to.
    pub to: String,
    /// True once the new owner was seen; false where that takes longer.
    pub done: bool,
}

/// A member that leaves, or takes its part again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Leaving {
    /// It is noted.
    pub code: Word<Done>,
    /// The member.
    pub member: String,
    /// True if it wants to own nothing.
    pub leaving: bool,
}
