//! The state at which replay arrives: of every session the highest version, nodes, tombstones, marks.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use usherd_engine::session::{
    Changes, Class, Code, Device, Direction, GoneRecord, Kind, Leg, Name, Reason, SessionRecord, Stamp,
};

use super::codec::{FORGOTTEN, Hash};
use super::decode::Entry;
use super::{Feed, Journal};

/// A live session as the journal knows it; [`Session::record`] lends it to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The tenant.
    pub tenant: Name,
    /// Its id, unique per tenant.
    pub session: Name,
    body: Box<Body>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Body {
    subject: Name,
    group: Name,
    node: Name,
    kind: Kind,
    direction: Option<Direction>,
    leg: Leg,
    device: Option<Device>,
    class: Option<Class>,
    counts: bool,
    external: bool,
    epoch: Option<u64>,
    seq: Option<u64>,
    ttl_s: Option<u32>,
    first: Code,
    started_utc_ms: i64,
    version: u64,
}

impl Session {
    /// Everything that was recorded of it.
    pub fn record(&self) -> SessionRecord<'_> {
        let body = &*self.body;
        SessionRecord {
            tenant: &self.tenant,
            session: &self.session,
            subject: &body.subject,
            kind: body.kind,
            direction: body.direction,
            leg: body.leg,
            device: body.device,
            class: body.class,
            counts: body.counts,
            external: body.external,
            group: &body.group,
            node: &body.node,
            epoch: body.epoch,
            seq: body.seq,
            ttl_s: body.ttl_s,
            first: body.first,
            started_utc_ms: body.started_utc_ms,
            version: body.version,
        }
    }
}

impl Body {
    fn of(record: &SessionRecord<'_>) -> Box<Self> {
        Box::new(Body {
            subject: Name::new(record.subject),
            group: Name::new(record.group),
            node: Name::new(record.node),
            kind: record.kind,
            direction: record.direction,
            leg: record.leg,
            device: record.device,
            class: record.class,
            counts: record.counts,
            external: record.external,
            epoch: record.epoch,
            seq: record.seq,
            ttl_s: record.ttl_s,
            first: record.first,
            started_utc_ms: record.started_utc_ms,
            version: record.version,
        })
    }
}

/// A message older than this, of this node, must not bring the session back (G5). Which ones have had
/// their time is for the caller to say: it knows how long they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The tenant.
    pub tenant: Name,
    /// The session that is gone.
    pub session: Name,
    /// The node whose messages it holds against.
    pub node: Name,
    /// The last message.
    pub stamp: Stamp,
    /// When it was laid, milliseconds since 1970 UTC.
    pub laid_utc_ms: i64,
    /// The version of the session's end.
    pub version: u64,
}

/// The end of the last segment, which no answer waited for: an interrupted write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailCut {
    /// The file.
    pub file: String,
    /// Where the sound part ends, in bytes.
    pub offset: u64,
    /// How many bytes are ignored.
    pub bytes: u64,
}

/// The contents of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// All live sessions.
    pub sessions: Vec<Session>,
    /// All tombstones since the snapshot and in it, also those whose time is over.
    pub tombstones: Vec<Tombstone>,
    /// All nodes by name, with their epoch.
    pub nodes: Vec<(Name, u64)>,
    /// The highest value of each mark.
    pub marks: Vec<(Name, u64)>,
    /// The link of the last record.
    pub last_hash: Hash,
    /// The number of the last record.
    pub last_seq: u64,
    /// The wall clock of the last entry, milliseconds since 1970 UTC; 0 where there is none.
    pub last_utc_ms: i64,
    /// No session ever had a higher version: new ones begin above it.
    pub version_max: u64,
    /// The parts that are damaged or missing, for people; the daemon starts degraded then (I13).
    pub degraded: Option<String>,
    /// The end of the last segment, where it was cut off.
    pub tail_cut: Option<TailCut>,
    /// Files that were set aside, by their new names.
    pub set_aside: Vec<String>,
    /// Number of records read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Turns that were found in the ring only: the process ended before they were copied.
    pub ring_records: u64,
    /// Turns in a ring that does not go with this state of the journal; they are not used.
    pub ring_ignored: u64,
}

#[derive(Debug)]
enum What {
    Live(Box<Body>),
    /// Node, last message, when it was laid; and the place of the entry among all.
    Tombstone(Box<(Name, Stamp, i64, u64)>),
    Gone,
}

#[derive(Debug)]
struct Slot {
    tenant: Name,
    session: Name,
    version: u64,
    what: What,
}

/// The state while records are applied. Their order does not matter: the highest version of each session,
/// the highest epoch of each node and the highest value of each mark win. Only that a node is forgotten counts from
/// its place on: where two records of one instant stand the other way round, the node is known a little longer.
#[derive(Debug, Default)]
pub(super) struct State {
    index: HashTable<u32>,
    slots: Vec<Slot>,
    hasher: RandomState,
    nodes: BTreeMap<Name, u64>,
    marks: BTreeMap<Name, u64>,
    /// Nodes that were forgotten, and at which entry.
    forgotten: BTreeMap<Name, u64>,
    /// Entries that were applied.
    applied: u64,
    pub(super) version_max: u64,
    pub(super) utc_ms: i64,
}

impl State {
    pub(super) fn apply(&mut self, utc_ms: i64, entry: &Entry<'_>, snapshot: bool) {
        self.applied += 1;
        let place = self.applied;
        if !snapshot {
            self.utc_ms = self.utc_ms.max(utc_ms);
        }
        match entry {
            Entry::Put { session, .. } => {
                self.version_max = self.version_max.max(session.version);
                if let Some(slot) = self.newer(session.tenant, session.session, session.version) {
                    slot.what = What::Live(Body::of(session));
                }
            }
            Entry::Gone(gone) => {
                self.version_max = self.version_max.max(gone.version);
                if let Some(slot) = self.newer(gone.tenant, gone.session, gone.version) {
                    slot.what = match gone.tombstone {
                        Some((node, stamp)) => What::Tombstone(Box::new((Name::new(node), stamp, utc_ms, place))),
                        None => What::Gone,
                    };
                }
            }
            Entry::Node { node, epoch } => keep_highest(&mut self.nodes, node, *epoch),
            Entry::Mark { key, value } => match key.strip_prefix(FORGOTTEN) {
                Some(node) => {
                    self.nodes.remove(node);
                    self.forgotten.insert(Name::new(node), place);
                }
                None => keep_highest(&mut self.marks, key, *value),
            },
            Entry::Audit(_) => {}
        }
    }

    /// The slot of a session, where this version is news to it.
    fn newer(&mut self, tenant: &str, session: &str, version: u64) -> Option<&mut Slot> {
        let slots = &self.slots;
        let hash = self.hasher.hash_one((tenant, session));
        let same = |at: &u32| {
            let slot = &slots[*at as usize];
            slot.session == session && slot.tenant == tenant
        };
        if let Some(at) = self.index.find(hash, same).copied() {
            let slot = &mut self.slots[at as usize];
            if slot.version >= version {
                return None;
            }
            slot.version = version;
            return Some(slot);
        }
        let at = u32::try_from(slots.len()).ok()?;
        self.slots.push(Slot { tenant: Name::new(tenant), session: Name::new(session), version, what: What::Gone });
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash_again = |at: &u32| {
            let slot = &slots[*at as usize];
            hasher.hash_one((slot.tenant.as_str(), slot.session.as_str()))
        };
        self.index.insert_unique(hash, at, hash_again);
        self.slots.last_mut()
    }

    /// Moves the result out; what was only remembered while replaying is dropped.
    pub(super) fn into_recovered(self) -> Recovered {
        let mut recovered = Recovered {
            nodes: self.nodes.into_iter().collect(),
            marks: self.marks.into_iter().collect(),
            version_max: self.version_max,
            last_utc_ms: self.utc_ms,
            ..Recovered::default()
        };
        drop(self.index);
        for Slot { tenant, session, version, what } in self.slots {
            match what {
                What::Live(body) => recovered.sessions.push(Session { tenant, session, body }),
                What::Tombstone(held) => {
                    let (node, stamp, laid_utc_ms, place) = *held;
                    if self.forgotten.get(&node).is_some_and(|forgotten| *forgotten > place) {
                        continue;
                    }
                    recovered.tombstones.push(Tombstone { tenant, session, node, stamp, laid_utc_ms, version });
                }
                What::Gone => {}
            }
        }
        recovered
    }
}

fn keep_highest(map: &mut BTreeMap<Name, u64>, key: &str, value: u64) {
    match map.get_mut(key) {
        Some(known) => *known = value.max(*known),
        None => drop(map.insert(Name::new(key), value)),
    }
}

impl Recovered {
    /// Feeds everything into a snapshot.
    pub fn feed<J: Journal>(&self, feed: &mut Feed<'_, J>) {
        for session in &self.sessions {
            feed.put(&session.record(), false);
        }
        for tombstone in &self.tombstones {
            feed.at(tombstone.laid_utc_ms);
            feed.gone(&tombstone.record());
        }
        for (node, epoch) in &self.nodes {
            feed.node(node, *epoch);
        }
        for (key, value) in &self.marks {
            feed.mark(key, *value);
        }
    }
}

impl Tombstone {
    /// As it was recorded.
    pub fn record(&self) -> GoneRecord<'_> {
        GoneRecord {
            tenant: &self.tenant,
            session: &self.session,
            subject: "",
            kind: Kind::Call,
            counts: false,
            reason: Reason::Node,
            freed: false,
            was_live: false,
            tombstone: Some((&self.node, self.stamp)),
            version: self.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::{HEADER_BYTES, RecordBuilder};
    use super::super::decode::Entries;
    use super::*;

    fn tombstone(node: &str, session: &str, group: &mut RecordBuilder) {
        let laid = Tombstone {
            tenant: "acme".into(),
            session: session.into(),
            node: node.into(),
            stamp: Stamp { epoch: 9, seq: 1 },
            laid_utc_ms: 0,
            version: 1,
        };
        group.gone(&laid.record());
    }

    #[test]
    fn a_forgotten_node_is_not_known_and_what_comes_after_counts() {
        let mut group = RecordBuilder::new();
        group.node("n1", 9);
        group.node("n2", 9);
        tombstone("n1", "c1", &mut group);
        tombstone("n2", "c2", &mut group);
        group.forgotten("n1");
        group.forgotten("n3");
        let read = |group: &RecordBuilder| {
            let mut state = State::default();
            for entry in Entries::new(&group.sealed()[HEADER_BYTES..]) {
                let (utc_ms, entry) = entry.unwrap();
                state.apply(utc_ms, &entry, false);
            }
            let found = state.into_recovered();
            let tombstones: Vec<Name> = found.tombstones.iter().map(|held| held.session.clone()).collect();
            (found.nodes, tombstones)
        };
        assert_eq!(read(&group), (vec![("n2".into(), 9)], vec!["c2".into()]));
        group.node("n1", 1);
        tombstone("n1", "c3", &mut group);
        assert_eq!(read(&group), (vec![("n1".into(), 1), ("n2".into(), 9)], vec!["c2".into(), "c3".into()]));
    }
}
