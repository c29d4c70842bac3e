//! How a message looks: a CloudEvent 1.0, whole in its JSON body.

use serde_json::{Map, Value};
use usherd_engine::Name;

use crate::answers::value_of;
use crate::answers::webhooks::CloudEvent;
use crate::daemon::config::HookType;
use crate::daemon::text::rfc3339;

/// Longest sentence of a message, bytes.
const SENTENCE_BYTES_MAX: usize = 2_000;

/// The subject matter of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Topic {
    /// A thing that happened.
    Of(HookType),
    /// Events that came too fast to be looked at.
    Missed,
    /// Somebody tries the receiver.
    Test,
}

impl Topic {
    /// The attribute `type`; the number at its end is that of the form of `data`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Topic::Of(HookType::Denied) => "usherd.seat.denied.v1",
            Topic::Of(HookType::Full) => "usherd.tenant.full.v1",
            Topic::Of(HookType::Over) => "usherd.tenant.over.v1",
            Topic::Of(HookType::NodeLost) => "usherd.node.lost.v1",
            Topic::Of(HookType::NodeBack) => "usherd.node.back.v1",
            Topic::Of(HookType::StateChanged) => "usherd.subscription.changed.v1",
            Topic::Of(HookType::Reminder) => "usherd.subscription.reminder.v1",
            Topic::Of(HookType::ConfigRejected) => "usherd.config.rejected.v1",
            Topic::Of(HookType::ConfigApplied) => "usherd.config.applied.v1",
            Topic::Of(HookType::SyncFailed) => "usherd.sync.failed.v1",
            Topic::Of(HookType::SyncRestored) => "usherd.sync.restored.v1",
            Topic::Of(HookType::JournalDegraded) => "usherd.journal.degraded.v1",
            Topic::Of(HookType::JournalWhole) => "usherd.journal.whole.v1",
            Topic::Of(HookType::Emergency) => "usherd.call.emergency.v1",
            Topic::Of(HookType::ClockStep) => "usherd.clock.stepped.v1",
            Topic::Missed => "usherd.events.missed.v1",
            Topic::Test => "usherd.test.v1",
        }
    }
}

/// A thing that is worth telling.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    pub(crate) about: Topic,
    /// The tenant concerned; empty for the whole daemon.
    pub(crate) tenant: Name,
    pub(crate) utc_ms: i64,
    pub(crate) data: Map<String, Value>,
}

impl Notice {
    pub(crate) fn new(about: Topic, tenant: &Name, utc_ms: i64) -> Self {
        Notice { about, tenant: tenant.clone(), utc_ms, data: Map::new() }
    }

    /// Says something more; nothing for an empty text.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        let value = match value.into() {
            Value::String(text) if text.is_empty() => return self,
            Value::String(text) => Value::String(shortened(text)),
            value => value,
        };
        self.data.insert(key.to_owned(), value);
        self
    }

    /// Seats held and quota; null is unlimited.
    pub(crate) fn with_seats(self, held: u32, quota: Option<u32>) -> Self {
        self.with("held", held).with("quota", quota)
    }

    /// Leaves out who it was.
    pub(crate) fn without_names(&mut self) {
        self.data.remove("subject");
        self.data.remove("session");
    }

    /// The body of the message: structured mode, so that one signature covers all of it.
    pub(crate) fn body(&self, source: &str, id: &str) -> String {
        let mut event = CloudEvent {
            specversion: "1.0".to_owned(),
            id: id.to_owned(),
            source: source.to_owned(),
            about: self.about.as_str().to_owned(),
            time: rfc3339(self.utc_ms).into(),
            subject: None,
            datacontenttype: "application/json".to_owned(),
            data: self.data.clone(),
        };
        if !self.tenant.is_empty() {
            event.subject = Some(self.tenant.to_string());
            event.data.insert("tenant".to_owned(), self.tenant.as_str().into());
        }
        value_of(&event).to_string()
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > SENTENCE_BYTES_MAX {
        let end = (0..=SENTENCE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" ...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_body_is_a_cloud_event_with_all_that_it_must_have() {
        let notice = Notice::new(Topic::Of(HookType::Denied), &"acme".into(), 1_000)
            .with("count", 3)
            .with("detail", "")
            .with("subject", "an\"na");
        let body: Value = serde_json::from_str(&notice.body("/usherd", "m1")).unwrap();
        let expected = json!({
            "specversion": "1.0", "id": "m1", "source": "/usherd", "type": "usherd.seat.denied.v1", "subject": "acme",
            "time": "1970-01-01T00:00:01Z", "datacontenttype": "application/json",
            "data": { "tenant": "acme", "count": 3, "subject": "an\"na" },
        });
        assert_eq!(body, expected);
        let mut nameless = notice;
        nameless.without_names();
        assert!(!nameless.body("/usherd", "m1").contains("na\""));
        let daemon = Notice::new(Topic::Test, &Name::default(), 0);
        assert!(serde_json::from_str::<Value>(&daemon.body("/usherd", "m")).unwrap().get("subject").is_none());
    }

    #[test]
    fn types_differ_and_sentences_end() {
        let mut types: Vec<_> = HookType::ALL.iter().map(|kind| Topic::Of(*kind).as_str()).collect();
        types.extend([Topic::Missed.as_str(), Topic::Test.as_str()]);
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), HookType::ALL.len() + 2);
        let long = Notice::new(Topic::Test, &Name::default(), 0).with("message", "ü".repeat(5_000));
        assert_eq!(long.data["message"].as_str().unwrap().len(), 2_004);
    }
}
