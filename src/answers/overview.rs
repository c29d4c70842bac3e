//! The whole daemon at a glance, and how ready it is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usherd_contract::word::{Vocabulary, Word, one_of};
use usherd_contract::words::Kind;
use usherd_subscription::entitlement::State;

use super::absent::{or_null, some};
use super::cluster::ClusterStatus;
use super::config::{ConfigState, ReloadState};
use super::events::Event;
use super::timestamp::Timestamp;
use super::words::{Band, Durability, DurabilityNow, JournalForm, SyncResult, WaitsFor};

/// Tenants that are among the fullest.
pub const FULLEST_MAX: usize = 20;
/// Denials that are told.
pub const DENIALS_MAX: usize = 20;

/// The whole daemon at a glance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Overview {
    /// The release of the daemon.
    pub version: String,
    /// Decisions are made.
    pub ready: bool,
    /// Now, by the clock of the daemon.
    pub at: Timestamp,
    /// Tenants that are configured or have sessions.
    pub tenants: u64,
    /// Seats held.
    pub held: u64,
    /// Of all tenants with a limit.
    pub quota: u64,
    /// Seats held above the quotas.
    pub over: u64,
    /// Tenants by how full they are.
    #[schemars(extend("required" = all_words::<Band>()))]
    pub bands: BTreeMap<Word<Band>, u64>,
    /// The tenants with the largest share of their seats in use, the fullest first; none with no seat in use or
    /// without a limit.
    #[schemars(length(max = FULLEST_MAX))]
    pub fullest: Vec<FullestRow>,
    /// The latest denials that are still buffered, the newest first.
    #[schemars(length(max = DENIALS_MAX))]
    pub denials: Vec<Event>,
    /// Sessions by kind.
    #[schemars(extend("required" = all_words::<Kind>()))]
    pub sessions: BTreeMap<Word<Kind>, KindCount>,
    /// The pools of providers.
    pub pools: Vec<PoolRow>,
    /// Nodes by state.
    pub nodes: NodeCount,
    /// How durable decisions are.
    pub journal: JournalState,
    /// How the configuration in force came to be.
    pub config: ConfigState,
    /// The time that subscriptions go by.
    pub time: Time,
    /// The next booked change of any tenant.
    pub next_change: Option<NextChangeOf>,
    /// History that is kept of the past.
    pub history: HistoryState,
    /// How pulling tenant records goes; null where nothing is pulled.
    pub sync: Option<SyncState>,
    /// Members and shards of the cluster that could not be asked (`alpha`, `shard 3`): what they know is not in here.
    /// Absent where nothing is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// One of the fullest tenants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FullestRow {
    /// Its id.
    pub tenant: String,
    /// The name that people call it by.
    pub name: String,
    /// Seats that it may use now.
    pub quota: u32,
    /// Seats held.
    #[schemars(range(min = 1))]
    pub held: u32,
    /// Seats left.
    pub free: u32,
    /// Seats held above the quota.
    pub over: u32,
    /// How full it is.
    #[schemars(schema_with = "of_the_full")]
    pub band: Word<Band>,
}

/// Sessions of a kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KindCount {
    /// Those that count.
    pub counting: u32,
    /// Those that do not.
    pub free: u32,
}

/// A pool of a provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PoolRow {
    /// Its name.
    pub pool: String,
    /// Seats that were bought.
    pub licensed: u32,
    /// Seats that no tenant has.
    pub unassigned: u64,
    /// Seats that tenants have and nobody uses.
    pub assigned_unused: u64,
    /// Seats in use.
    pub in_use: u32,
    /// Seats in use above those that were bought.
    pub over: u32,
}

/// Nodes by state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NodeCount {
    /// Their lease holds.
    pub up: usize,
    /// They are not heard.
    pub silent: usize,
}

/// How durable decisions are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct JournalState {
    /// As it was asked for.
    pub durability: Word<Durability>,
    /// Why decisions are not durable at present.
    pub degraded: Option<String>,
}

/// The next booked change of any tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NextChangeOf {
    /// The tenant.
    pub tenant: String,
    /// When.
    pub at: Timestamp,
    /// Seats from then on; null is unlimited.
    pub seats: Option<u32>,
    /// State from then on.
    pub state: Word<State>,
}

/// History that is kept of the past.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HistoryState {
    /// On disk.
    pub bytes: u64,
    /// On disk at most.
    pub bytes_max: u64,
    /// From when on there is any.
    pub from: Option<Timestamp>,
    /// From when on there are five minutes.
    pub detail_from: Option<Timestamp>,
    /// Why it cannot be kept on disk at present.
    pub problem: Option<String>,
}

/// How pulling tenant records goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SyncState {
    /// How the last try went.
    pub result: Option<Word<SyncResult>>,
    /// Why a bundle was refused, in one word.
    pub code: Option<String>,
    /// The same, for people.
    pub message: Option<String>,
    /// When the last try was.
    pub last_attempt_at: Option<Timestamp>,
    /// When the publisher was last heard and agreed.
    pub last_success_at: Option<Timestamp>,
    /// When the next try is.
    pub next_attempt_at: Option<Timestamp>,
    /// The id of the key that signed what is held.
    pub key: Option<String>,
    /// The number of the bundle that is held.
    #[schemars(range(min = 1))]
    pub serial: Option<u64>,
    /// Tenants in it.
    pub records: usize,
    /// When it runs out.
    pub expires_at: Option<Timestamp>,
    /// When the publisher last stood by it.
    pub confirmed_at: Option<Timestamp>,
    /// Not confirmed for policy.stale_after_days: inbound only.
    pub stale: bool,
}

/// The time that subscriptions go by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Time {
    /// The billing zone.
    pub zone: String,
    /// Version of the time-zone data.
    pub tz_data: String,
    /// Steps of the wall clock against the monotonic one, since the start.
    pub clock_steps: u64,
    /// false for 10 minutes after a step, and after one over a stop until it is confirmed: the more generous of both
    /// times counts.
    pub wall_clock_trusted: bool,
    /// The thing that is waited for until the wall clock is trusted: the time, or that a time server keeps it or
    /// somebody says `POST /v1/admin/clock/trust`.
    pub waits_for: Option<Word<WaitsFor>>,
    /// The kernel says that a time server keeps the clock; null where it may not be asked.
    pub synchronised: Option<bool>,
}

/// Nothing is known to be wrong.
impl Default for Time {
    fn default() -> Self {
        Time {
            zone: String::new(),
            tz_data: String::new(),
            clock_steps: 0,
            wall_clock_trusted: true,
            waits_for: None,
            synchronised: None,
        }
    }
}

/// How ready the daemon is. What is wrong is told in words, and what else there is, to who may read everything; to all
/// others what is well and what is not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Ready {
    /// Decisions are made.
    pub ready: bool,
    /// The journal was read.
    pub recovered: bool,
    /// A stop was asked for.
    pub draining: bool,
    /// How durable decisions are.
    pub durability: Word<DurabilityNow>,
    /// Why decisions are not durable at present.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "some")]
    #[schemars(schema_with = "or_null::<String>")]
    pub degraded: Option<Option<String>>,
    /// The writer of what is decided: a thread of its own (hand-off), or the thread that decides into memory that
    /// outlives the process (ring), from where another copies it to the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal_form: Option<Word<JournalForm>>,
    /// How the configuration in force came to be.
    pub config: ReadyConfig,
    /// The time that subscriptions go by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// The cluster that the daemon belongs to, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterStatus>,
}

/// How the configuration in force came to be, for whoever asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ReadyConfig {
    /// For who may read everything.
    Whole(ConfigState),
    /// For all others.
    Outcome(ReloadState),
}

impl Default for ReadyConfig {
    fn default() -> Self {
        ReadyConfig::Outcome(ReloadState::default())
    }
}

/// Every word of a vocabulary: of a map that has them all.
fn all_words<T: Vocabulary>() -> Vec<&'static str> {
    T::ALL.iter().map(|value| value.as_str()).collect()
}

fn of_the_full(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    one_of(|band: Band| band != Band::Idle)
}
