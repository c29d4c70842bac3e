//! Webhooks, and the messages to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use usherd_contract::vocabulary;
use usherd_contract::word::Word;

use super::timestamp::Timestamp;
use super::words::{HookType, WebhookResult};

vocabulary! {
    /// How a webhook is.
    WebhookState {
        /// The last try succeeded, or there was none.
        Ok = "ok",
        /// The last try failed.
        Failing = "failing",
        /// It answered 410.
        Gone = "gone",
        /// It is configured and switched off.
        Off = "off",
    }
}

/// All webhooks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Webhooks {
    /// In the order of the configuration.
    pub webhooks: Vec<Webhook>,
}

/// A webhook, and how it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Webhook {
    /// Its name.
    pub name: String,
    /// Without its query, which may be secret.
    pub url: String,
    /// `gone`: it answered 410 and gets nothing until it is configured otherwise, takes a test, or the daemon is
    /// restarted.
    pub state: Word<WebhookState>,
    /// The types of events that it is told.
    pub types: Vec<Word<HookType>>,
    /// The tenants of which it is told; empty: of all, and of the daemon itself.
    pub tenants: Vec<String>,
    /// Subjects and sessions are named.
    pub names: bool,
    /// Messages that wait.
    pub queued: usize,
    /// Messages that may wait.
    #[schemars(range(min = 1))]
    pub queue_max: u32,
    /// When the oldest of them was made.
    pub oldest_at: Option<Timestamp>,
    /// When a message was last taken.
    pub last_success_at: Option<Timestamp>,
    /// When a try last failed.
    pub last_error_at: Option<Timestamp>,
    /// The reason of it.
    pub last_error: Option<String>,
    /// Why what waits would not survive a restart.
    pub not_saved: Option<String>,
}

/// A page of tries to deliver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WebhookDeliveries {
    /// Oldest first.
    pub deliveries: Vec<WebhookDelivery>,
    /// Pass it as `after` to go on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A try to deliver a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WebhookDelivery {
    /// Counts up for each webhook since the start.
    #[schemars(range(min = 1))]
    pub number: u64,
    /// When the try ended.
    pub at: Timestamp,
    /// The header webhook-id, and the id of the CloudEvent: the same at each try.
    pub id: String,
    /// The type of the CloudEvent.
    #[serde(rename = "type")]
    pub about: String,
    /// The tenant concerned.
    pub tenant: Option<String>,
    /// The number of the try, from 1.
    #[schemars(range(min = 1))]
    pub attempt: u32,
    /// The status that the receiver answered, if it did.
    pub status: Option<u16>,
    /// How long it took.
    pub duration_ms: u64,
    /// How it went.
    pub result: Word<WebhookResult>,
    /// The reason of a failure.
    pub error: Option<String>,
    /// When the next try is.
    pub next_attempt_at: Option<Timestamp>,
}

/// A message to a webhook: CloudEvents 1.0 in structured mode.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CloudEvent {
    /// The version of CloudEvents.
    pub specversion: String,
    /// The id, the same at each try.
    pub id: String,
    /// The installation.
    pub source: String,
    /// The type; the number at its end is that of the form of `data`.
    #[serde(rename = "type")]
    pub about: String,
    /// When it happened.
    pub time: Timestamp,
    /// The tenant concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The media type of `data`.
    pub datacontenttype: String,
    /// The rest, by the type.
    pub data: Map<String, Value>,
}
