//! Hears every change of the table once: for the journal, the counters and whoever listens.

use usherd_engine::{Changes, GoneRecord, SessionRecord};

use crate::daemon::events::{Event, EventType};
use crate::daemon::journal::{RecordBuilder, TakesEntries};
use crate::daemon::metrics::Shard;

/// The engine's changes on their way. It is called inside critical sections: it encodes, counts and copies.
pub struct Recorder<'a, E = RecordBuilder> {
    entries: &'a mut E,
    shard: &'a Shard,
    /// The events, to be published once the critical sections are left; `None` while nobody listens.
    events: Option<&'a mut Vec<Event>>,
    utc_ms: i64,
}

impl<'a, E: TakesEntries> Recorder<'a, E> {
    /// A recorder for what is decided at an instant.
    pub fn new(entries: &'a mut E, shard: &'a Shard, events: Option<&'a mut Vec<Event>>, utc_ms: i64) -> Self {
        Recorder { entries, shard, events, utc_ms }
    }
}

impl<E: TakesEntries> Changes for Recorder<'_, E> {
    fn put(&mut self, session: &SessionRecord<'_>, fresh: bool) {
        self.entries.add(|group| group.put(session, fresh));
    }

    fn gone(&mut self, gone: &GoneRecord<'_>) {
        self.entries.add(|group| group.gone(gone));
        if !gone.was_live {
            return;
        }
        self.shard.release(gone.reason);
        if let (Some(events), true) = (self.events.as_deref_mut(), gone.counts) {
            events.push(Event {
                tenant: gone.tenant.into(),
                subject: gone.subject.into(),
                session: gone.session.into(),
                session_kind: Some(gone.kind),
                reason: Some(gone.reason),
                ..Event::plain(EventType::Released, self.utc_ms, if gone.freed { "the seat is free" } else { "" })
            });
        }
    }

    fn node(&mut self, node: &str, epoch: u64) {
        self.entries.add(|group| group.node(node, epoch));
    }

    fn forgotten(&mut self, node: &str) {
        self.entries.add(|group| group.forgotten(node));
    }
}
