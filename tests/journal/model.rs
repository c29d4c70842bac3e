//! A naive model of what a journal remembers, and a seeded workload on it.

use std::collections::BTreeMap;

use fastrand::Rng;
use usherd::daemon::journal::{
    Audit, AuditKind, Commit, Epoch, Feed, Journal, JournalError, Local, LocalOptions, RecordBuilder, Recovered, Shard,
};
use usherd_engine::session::{
    Changes, Class, Code, Device, Direction, GoneRecord, Kind, Leg, Reason, SessionRecord, Stamp,
};

use super::disk::Disk;

/// The wall clock at which the workload begins.
pub(crate) const UTC_MS: i64 = 1_767_225_600_000;

/// The live entries, by (tenant, session): everything recorded, as text, so that nothing is forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) sessions: BTreeMap<(String, String), String>,
    pub(crate) tombstones: BTreeMap<(String, String), (String, Stamp, i64)>,
    pub(crate) nodes: BTreeMap<String, u64>,
    pub(crate) marks: BTreeMap<String, u64>,
}

impl State {
    pub(crate) fn of(recovered: &Recovered) -> Self {
        let mut state = State::default();
        for session in &recovered.sessions {
            let record = session.record();
            state.sessions.insert(key(record.tenant, record.session), format!("{record:?}"));
        }
        for t in &recovered.tombstones {
            state.tombstones.insert(key(&t.tenant, &t.session), (t.node.to_string(), t.stamp, t.laid_utc_ms));
        }
        state.nodes = recovered.nodes.iter().map(|(node, epoch)| (node.to_string(), *epoch)).collect();
        state.marks = recovered.marks.iter().map(|(key, value)| (key.to_string(), *value)).collect();
        state
    }
}

fn key(tenant: &str, session: &str) -> (String, String) {
    (tenant.to_owned(), session.to_owned())
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put { tenant: String, session: String, subject: String, shape: u64, version: u64 },
    Gone { tenant: String, session: String, stamp: Option<Stamp>, version: u64 },
    Node { node: String, epoch: u64 },
    Mark { key: String, value: u64 },
    Denied { tenant: String },
}

/// A record with every field decided by one number.
pub(crate) fn record<'a>(
    tenant: &'a str,
    session: &'a str,
    subject: &'a str,
    shape: u64,
    version: u64,
) -> SessionRecord<'a> {
    let mut rng = Rng::with_seed(shape);
    fn any<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
        all[rng.usize(0..all.len())]
    }
    fn maybe<T>(rng: &mut Rng, value: T) -> Option<T> {
        rng.bool().then_some(value)
    }
    let (direction, device, class) =
        (any(&mut rng, Direction::ALL), any(&mut rng, Device::ALL), any(&mut rng, Class::ALL));
    let (epoch, seq, ttl_s) = (rng.u64(..) >> rng.u32(0..64), rng.u64(..), rng.u32(1..86_400));
    SessionRecord {
        tenant,
        session,
        subject,
        kind: any(&mut rng, Kind::ALL),
        direction: maybe(&mut rng, direction),
        leg: any(&mut rng, Leg::ALL),
        device: maybe(&mut rng, device),
        class: maybe(&mut rng, class),
        counts: rng.bool(),
        external: rng.bool(),
        group: any(&mut rng, &["", "board", "Vertrieb-Süd"]),
        node: any(&mut rng, &["", "pbx-1", "pbx-2"]),
        epoch: maybe(&mut rng, epoch),
        seq: maybe(&mut rng, seq),
        ttl_s: maybe(&mut rng, ttl_s),
        first: any(&mut rng, Code::ALL),
        started_utc_ms: UTC_MS + rng.i64(-1_000_000..1_000_000),
        version,
    }
}

fn tombstone<'a>(tenant: &'a str, session: &'a str, stamp: Option<Stamp>, version: u64) -> GoneRecord<'a> {
    GoneRecord {
        tenant,
        session,
        subject: "anna",
        kind: Kind::Call,
        counts: true,
        reason: Reason::Node,
        freed: true,
        was_live: true,
        tombstone: stamp.map(|stamp| ("pbx-1", stamp)),
        version,
    }
}

impl Op {
    pub(crate) fn encode(&self, group: &mut RecordBuilder) {
        match self {
            Op::Put { tenant, session, subject, shape, version } => {
                group.put(&record(tenant, session, subject, *shape, *version), true);
            }
            Op::Gone { tenant, session, stamp, version } => {
                group.gone(&tombstone(tenant, session, *stamp, *version));
            }
            Op::Node { node, epoch } => group.node(node, *epoch),
            Op::Mark { key, value } => group.mark(key, *value),
            Op::Denied { tenant } => group.audit(&Audit {
                code: Some(Code::DenyFull),
                tenant,
                subject: "bert",
                ..Audit::new(AuditKind::Decision)
            }),
        }
    }

    fn apply(&self, utc_ms: i64, state: &mut State) {
        match self {
            Op::Put { tenant, session, subject, shape, version } => {
                let text = format!("{:?}", record(tenant, session, subject, *shape, *version));
                state.tombstones.remove(&key(tenant, session));
                state.sessions.insert(key(tenant, session), text);
            }
            Op::Gone { tenant, session, stamp, .. } => {
                state.sessions.remove(&key(tenant, session));
                state.tombstones.remove(&key(tenant, session));
                if let Some(stamp) = stamp {
                    state.tombstones.insert(key(tenant, session), ("pbx-1".to_owned(), *stamp, utc_ms));
                }
            }
            Op::Node { node, epoch } => drop(state.nodes.insert(node.clone(), *epoch)),
            Op::Mark { key, value } => drop(state.marks.insert(key.clone(), *value)),
            Op::Denied { .. } => {}
        }
    }
}

/// Groups of operations, and the state after each number of groups.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) groups: Vec<Vec<Op>>,
    pub(crate) states: Vec<State>,
}

impl Workload {
    pub(crate) fn new(seed: u64, groups: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (mut version, mut epoch) = (0, 0);
        let mut state = State::default();
        let mut made = Workload { groups: Vec::new(), states: vec![state.clone()] };
        for at in 0..groups {
            let ops: Vec<Op> = (0..rng.usize(1..4))
                .map(|_| {
                    version += 1;
                    let tenant = format!("t{}", rng.u8(0..2));
                    let session = format!("call-{}", rng.u8(0..6));
                    match rng.u8(0..10) {
                        0 => {
                            epoch += 1;
                            Op::Node { node: format!("pbx-{}", rng.u8(0..3)), epoch }
                        }
                        1 => Op::Mark { key: "serial/k1".to_owned(), value: version },
                        2 => Op::Denied { tenant },
                        3..6 => {
                            let stamp = rng.bool().then(|| Stamp { epoch: 1, seq: rng.u64(..) });
                            Op::Gone { tenant, session, stamp, version }
                        }
                        _ => Op::Put { tenant, session, subject: "Jörg".to_owned(), shape: rng.u64(..), version },
                    }
                })
                .collect();
            ops.iter().for_each(|op| op.apply(utc(at), &mut state));
            made.groups.push(ops);
            made.states.push(state.clone());
        }
        made
    }

    pub(crate) fn group(&self, at: usize) -> RecordBuilder {
        let mut group = RecordBuilder::new();
        group.at(utc(at));
        self.groups[at].iter().for_each(|op| op.encode(&mut group));
        group
    }

    /// Gives a feed what the engine's table would hold after `groups` groups.
    pub(crate) fn feed<J: Journal>(&self, groups: usize, feed: &mut Feed<'_, J>) {
        let state = &self.states[groups];
        let all = || self.groups[..groups].iter().enumerate().flat_map(|(at, ops)| ops.iter().map(move |op| (at, op)));
        let mut last = BTreeMap::new();
        for (at, op) in all() {
            match op {
                Op::Put { tenant, session, .. } | Op::Gone { tenant, session, .. } => {
                    last.insert(key(tenant, session), (at, op));
                }
                _ => {}
            }
        }
        for (at, op) in last.into_values() {
            match op {
                Op::Put { tenant, session, subject, shape, version } => {
                    feed.put(&record(tenant, session, subject, *shape, *version), false);
                }
                Op::Gone { tenant, session, stamp: Some(stamp), version } => {
                    feed.at(utc(at));
                    feed.gone(&tombstone(tenant, session, Some(*stamp), *version));
                }
                _ => {}
            }
        }
        state.nodes.iter().for_each(|(node, epoch)| feed.node(node, *epoch));
        state.marks.iter().for_each(|(key, value)| feed.mark(key, *value));
    }

    /// The number of groups after which the state was this; the highest.
    pub(crate) fn reached(&self, state: &State) -> Option<usize> {
        self.states.iter().rposition(|known| known == state)
    }

    /// True if this is the state after some number of groups from `least` to `most`.
    pub(crate) fn is_between(&self, state: &State, least: usize, most: usize) -> bool {
        self.states[least..=most].contains(state)
    }
}

pub(crate) fn utc(at: usize) -> i64 {
    UTC_MS + 1000 * at as i64
}

pub(crate) fn options(sync: bool, segment_bytes_max: u64) -> LocalOptions {
    LocalOptions { sync, segment_bytes_max, identity: 0x0123_4567_89ab_cdef }
}

/// A journal on this disk, owned and replayed.
pub(crate) fn open(disk: &Disk, sync: bool, segment: u64) -> Result<(Local<Disk>, Epoch, Recovered), JournalError> {
    let journal = Local::new(disk.clone(), options(sync, segment));
    let epoch = journal.acquire(Shard::ALL)?;
    let recovered = journal.replay(Shard::ALL)?;
    Ok((journal, epoch, recovered))
}

/// Plays groups `from..to`, with a checkpoint in the middle of which decisions go on. Gives how many groups
/// from the first on were durable without a gap.
pub(crate) fn play<J: Journal>(
    (journal, epoch): (&J, Epoch),
    disk: &Disk,
    workload: &Workload,
    (from, to): (usize, usize),
    checkpoint_every: usize,
) -> usize {
    let mut acked = from;
    let commit = |at: usize, acked: &mut usize| {
        disk.told(*acked, at + 1);
        if journal.commit(epoch, &mut workload.group(at)) == Commit::Durable && *acked == at {
            *acked = at + 1;
        }
        disk.told(*acked, at + 1);
    };
    let mut at = from;
    while at < to {
        commit(at, &mut acked);
        at += 1;
        if at % checkpoint_every == 0 && at + 1 < to {
            let Ok(mut snapshot) = journal.snapshot_begin(epoch) else { continue };
            commit(at, &mut acked);
            at += 1;
            let mut feed = Feed::new(journal, &mut snapshot);
            workload.feed(at, &mut feed);
            if feed.finish().is_err() {
                continue;
            }
            commit(at, &mut acked);
            at += 1;
            journal.snapshot_mark(&mut snapshot);
            let _ = journal.snapshot_end(snapshot);
        }
    }
    acked
}
