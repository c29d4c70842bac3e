//! The events of the daemon, for whoever listens: a bounded ring with increasing ids.
//!
//! Grants and releases are kept only while somebody has listened lately: the hot path pays one load
//! otherwise. Everything that an operator must see (denials, nodes, configuration, journal) is kept always.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use usherd_engine::{Class, Code, Detail, Direction, Kind, Name, Reason};

pub use crate::answers::words::{EventResult, EventType};
use crate::daemon::text::{rfc3339, write_json_str};

/// How long grants and releases are kept after the last listener left, milliseconds.
const AWAKE_MS: u64 = 600_000;

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// The type of the event.
    pub kind: EventType,
    /// When, milliseconds since 1970 UTC.
    pub utc_ms: i64,
    /// The tenant concerned; empty for the whole daemon.
    pub tenant: Name,
    /// The subject concerned; empty for none.
    pub subject: Name,
    /// The session concerned; empty for none.
    pub session: Name,
    /// The kind of session.
    pub session_kind: Option<Kind>,
    /// Seen from the subject, for a call.
    pub direction: Option<Direction>,
    /// Function extension class.
    pub class: Option<Class>,
    /// The reservation group that was asked for; empty for none.
    pub group: Name,
    /// The answer, where it was one.
    pub code: Option<Code>,
    /// The word that goes with it.
    pub detail: Detail,
    /// Why a session ended.
    pub reason: Option<Reason>,
    /// The node concerned; empty for none.
    pub node: Name,
    /// How it ended, where the type leaves it open.
    pub result: Option<EventResult>,
    /// Seats held and quota after it, where known.
    pub seats: Option<(u32, Option<u32>)>,
    /// One sentence, where there is more to say.
    pub message: String,
}

impl Event {
    /// An event of the daemon itself that came to something.
    pub fn came_to(kind: EventType, result: EventResult, utc_ms: i64, message: impl Into<String>) -> Self {
        Event { result: Some(result), ..Event::plain(kind, utc_ms, message) }
    }

    /// An event of the daemon itself.
    pub fn plain(kind: EventType, utc_ms: i64, message: impl Into<String>) -> Self {
        Event {
            kind,
            utc_ms,
            tenant: Name::default(),
            subject: Name::default(),
            session: Name::default(),
            session_kind: None,
            direction: None,
            class: None,
            group: Name::default(),
            code: None,
            detail: Detail::None,
            reason: None,
            node: Name::default(),
            result: None,
            seats: None,
            message: message.into(),
        }
    }

    /// The event as one line of JSON.
    pub fn to_json(&self, id: u64) -> String {
        let mut out = String::with_capacity(192);
        let _ = write!(out, "{{\"id\":{id},\"type\":\"{}\",\"at\":\"{}\"", self.kind.as_str(), rfc3339(self.utc_ms));
        let mut word = |key: &str, value: &str| {
            if !value.is_empty() {
                let _ = write!(out, ",\"{key}\":");
                write_json_str(&mut out, value);
            }
        };
        word("tenant", &self.tenant);
        word("subject", &self.subject);
        word("session", &self.session);
        word("kind", self.session_kind.map_or("", Kind::as_str));
        word("direction", self.direction.map_or("", Direction::as_str));
        word("class", self.class.map_or("", Class::as_str));
        word("group", &self.group);
        word("code", self.code.map_or("", Code::as_str));
        word("detail", self.detail.as_str());
        word("reason", self.reason.map_or("", Reason::as_str));
        word("node", &self.node);
        word("result", self.result.map_or("", EventResult::as_str));
        word("message", &self.message);
        if let Some((held, quota)) = self.seats {
            let _ = write!(out, ",\"held\":{held}");
            match quota {
                Some(quota) => _ = write!(out, ",\"quota\":{quota}"),
                None => out.push_str(",\"quota\":null"),
            }
        }
        out.push('}');
        out
    }
}

/// The next item for a listener.
#[derive(Clone, Debug)]
pub enum Next {
    /// Events after its position, with their ids; never empty.
    Events(Vec<(u64, Arc<Event>)>),
    /// Events between its position and this id are gone.
    Gap {
        /// The first id that is still there.
        resumes_at: u64,
    },
    /// Nothing yet.
    Nothing,
}

#[derive(Debug)]
struct Ring {
    /// Id of the first event in the ring.
    first: u64,
    events: VecDeque<Arc<Event>>,
}

/// The ring of events.
#[derive(Debug)]
pub struct Events {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
    buffered_max: usize,
    subscribers: AtomicU32,
    /// Uptime milliseconds until which grants and releases are kept.
    awake_until: AtomicU64,
    dropped: AtomicU64,
}

impl Events {
    /// A ring of so many events. Ids begin at `first`, so that those of an earlier run are seen as gone.
    pub fn new(buffered_max: usize, first: u64) -> Self {
        Events {
            ring: Mutex::new(Ring { first: first.max(1), events: VecDeque::new() }),
            newest: watch::Sender::new(0),
            buffered_max: buffered_max.max(1),
            subscribers: AtomicU32::new(0),
            awake_until: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// True if grants and releases are wanted.
    pub fn is_awake(&self, uptime_ms: u64) -> bool {
        self.subscribers.load(Ordering::Relaxed) > 0 || self.awake_until.load(Ordering::Relaxed) > uptime_ms
    }

    /// Tells everybody.
    pub fn publish(&self, event: Event) {
        let newest = {
            let mut ring = self.ring.lock();
            if ring.events.len() == self.buffered_max {
                ring.events.pop_front();
                ring.first += 1;
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            ring.events.push_back(Arc::new(event));
            ring.first + ring.events.len() as u64 - 1
        };
        self.newest.send_replace(newest);
    }

    /// Begins to listen, after the event `after`; `None`: from now on. `None` back: too many listen already.
    pub fn subscribe(self: &Arc<Self>, after: Option<u64>, subscribers_max: u32) -> Option<Subscriber> {
        if self.subscribers.fetch_add(1, Ordering::AcqRel) >= subscribers_max {
            self.subscribers.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        let changed = self.newest.subscribe();
        let position = after.unwrap_or_else(|| {
            let ring = self.ring.lock();
            ring.first + ring.events.len() as u64 - 1
        });
        Some(Subscriber { events: Arc::clone(self), position, changed, is_counted: true })
    }

    /// Listens to what comes, and to what is in the ring already if that is wanted, without being counted: it
    /// keeps no grants and releases, and nobody is turned away for it.
    pub fn overhear(self: &Arc<Self>, from_start: bool) -> Subscriber {
        let position = {
            let ring = self.ring.lock();
            ring.first - 1 + if from_start { 0 } else { ring.events.len() as u64 }
        };
        Subscriber { events: Arc::clone(self), position, changed: self.newest.subscribe(), is_counted: false }
    }

    /// The latest events of a kind, newest first, at most `most`.
    pub fn latest(&self, kind: EventType, most: usize) -> Vec<(u64, Arc<Event>)> {
        let ring = self.ring.lock();
        let all = ring.events.iter().enumerate().rev();
        let wanted = all.filter(|(_, event)| event.kind == kind).take(most);
        wanted.map(|(at, event)| (ring.first + at as u64, Arc::clone(event))).collect()
    }

    /// Keeps grants and releases for a while after the last listener left.
    pub fn stay_awake(&self, uptime_ms: u64) {
        self.awake_until.fetch_max(uptime_ms + AWAKE_MS, Ordering::Relaxed);
    }

    /// How many listen.
    pub fn subscribers(&self) -> u32 {
        self.subscribers.load(Ordering::Relaxed)
    }

    /// Events that fell out of the ring.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn after(&self, position: u64, most: usize) -> Next {
        let ring = self.ring.lock();
        let end = ring.first + ring.events.len() as u64;
        if position + 1 < ring.first || position >= end {
            return Next::Gap { resumes_at: ring.first };
        }
        let skip = (position + 1 - ring.first) as usize;
        let fresh: Vec<_> = ring
            .events
            .iter()
            .enumerate()
            .skip(skip)
            .take(most)
            .map(|(at, e)| (ring.first + at as u64, Arc::clone(e)))
            .collect();
        if fresh.is_empty() { Next::Nothing } else { Next::Events(fresh) }
    }
}

/// One listener; dropping it ends the listening.
#[derive(Debug)]
pub struct Subscriber {
    events: Arc<Events>,
    position: u64,
    changed: watch::Receiver<u64>,
    is_counted: bool,
}

impl Subscriber {
    /// The id of the last event that it took.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Everything since the last call, at most `most`.
    pub fn take(&mut self, most: usize) -> Next {
        self.changed.mark_unchanged();
        let next = self.events.after(self.position, most);
        match &next {
            Next::Events(fresh) => self.position = fresh.last().map_or(self.position, |(id, _)| *id),
            Next::Gap { resumes_at } => self.position = resumes_at - 1,
            Next::Nothing => {}
        }
        next
    }

    /// Waits until there may be something new.
    pub async fn changed(&mut self) {
        let _ = self.changed.changed().await;
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if self.is_counted {
            self.events.subscribers.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(next: Next) -> Vec<String> {
        match next {
            Next::Events(events) => events.iter().map(|(id, event)| format!("{id} {}", event.message)).collect(),
            Next::Gap { resumes_at } => vec![format!("gap {resumes_at}")],
            Next::Nothing => Vec::new(),
        }
    }

    fn publish(events: &Events, message: &str) {
        events.publish(Event::plain(EventType::Config, 0, message));
    }

    #[test]
    fn a_listener_resumes_where_it_was_and_is_told_of_a_gap() {
        let events = Arc::new(Events::new(3, 10));
        let mut early = events.subscribe(None, 8).unwrap();
        assert!(said(early.take(9)).is_empty());
        for word in ["a", "b", "c"] {
            publish(&events, word);
        }
        assert_eq!(said(early.take(2)), ["10 a", "11 b"]);
        assert_eq!(said(early.take(9)), ["12 c"]);
        let mut resumed = events.subscribe(Some(10), 8).unwrap();
        assert_eq!(said(resumed.take(9)), ["11 b", "12 c"]);
        publish(&events, "d");
        publish(&events, "e");
        let mut late = events.subscribe(Some(10), 8).unwrap();
        assert_eq!(said(late.take(9)), ["gap 12"]);
        assert_eq!(said(late.take(9)), ["12 c", "13 d", "14 e"]);
        assert_eq!(events.dropped(), 2);
    }

    #[test]
    fn an_id_of_the_future_is_a_gap_and_listeners_are_limited() {
        let events = Arc::new(Events::new(3, 1));
        publish(&events, "a");
        let mut other_run = events.subscribe(Some(999), 1).unwrap();
        assert_eq!(said(other_run.take(9)), ["gap 1"]);
        assert!(events.subscribe(None, 1).is_none());
        drop(other_run);
        assert!(events.subscribe(None, 1).is_some());
    }

    #[test]
    fn who_overhears_misses_nothing_and_is_not_counted() {
        let events = Arc::new(Events::new(3, 10));
        publish(&events, "a");
        let mut quiet = events.overhear(true);
        assert!(!events.is_awake(1) && events.subscribers() == 0);
        assert_eq!((said(quiet.take(9)), quiet.position()), (vec!["10 a".to_owned()], 10));
        drop(quiet);
        assert_eq!(events.subscribers(), 0);
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        let event = Event { subject: "an\"na".into(), ..Event::plain(EventType::Denied, 0, "no seat") };
        let json: serde_json::Value = serde_json::from_str(&event.to_json(7)).unwrap();
        assert_eq!((json["id"].as_u64(), json["subject"].as_str()), (Some(7), Some("an\"na")));
        assert_eq!(json["at"], "1970-01-01T00:00:00Z");
    }
}
