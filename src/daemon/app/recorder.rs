//! Hears every change of the table once: for the journal, the counters and whoever listens.

use usherd_engine::{Changes, GoneRecord, SessionRecord};

use crate::daemon::events::{Event, EventType};
use crate::daemon::journal::RecordBuilder;
use crate::daemon::metrics::Shard;

/// The engine's changes on their way. It is called inside critical sections: it encodes, counts and copies.
pub struct Recorder<'a> {
    group: &'a mut RecordBuilder,
    shard: &'a Shard,
    /// The events, to be published once the critical sections are left; `None` while nobody listens.
    events: Option<&'a mut Vec<Event>>,
    utc_ms: i64,
}

impl<'a> Recorder<'a> {
    /// A recorder for what is decided at an instant.
    pub fn new(
        group: &'a mut RecordBuilder,
        shard: &'a Shard,
        events: Option<&'a mut Vec<Event>>,
        utc_ms: i64,
    ) -> Self {
        Recorder { group, shard, events, utc_ms }
    }
}

impl Changes for Recorder<'_> {
    fn put(&mut self, session: &SessionRecord<'_>, fresh: bool) {
        self.group.put(session, fresh);
    }

    fn gone(&mut self, gone: &GoneRecord<'_>) {
        self.group.gone(gone);
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
        self.group.node(node, epoch);
    }

    fn forgotten(&mut self, node: &str) {
        self.group.forgotten(node);
    }
}
