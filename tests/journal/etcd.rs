//! The journal of a cluster: owners come and go, answers are lost, and nothing that was acknowledged is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use usherd::daemon::etcd::{Compare, Op, Store, Txn};
use usherd::daemon::journal::etcd::{Etcd, EtcdOptions, EtcdSnapshot, Keys, Seen};
use usherd::daemon::journal::{
    Commit, Counters, Epoch, Feed, Journal, JournalError, Keep, RecordBuilder, Recovered, Shard, Trimmed,
};
use usherd_engine::session::{Changes, GoneRecord, Kind, Reason};
use usherd_testkit::store::{Luck, Memory};

use super::model::{State, Workload, record};

/// A clock that goes on by a second with every look.
fn ticks_ns() -> u64 {
    static TICKS: AtomicU64 = AtomicU64::new(1);
    TICKS.fetch_add(1_000_000_000, Ordering::Relaxed)
}

fn options(member: &str, shards: u32) -> EtcdOptions {
    EtcdOptions {
        cluster: "test".to_owned(),
        member: member.to_owned(),
        shards,
        retry: Duration::ZERO,
        heartbeat: Duration::from_millis(200),
        fresh: Duration::from_millis(600),
        clock_ns: ticks_ns,
    }
}

fn journal(store: &Memory, member: &str, shards: u32) -> Etcd<Memory> {
    Etcd::new(store.clone(), store.clone(), options(member, shards))
}

fn taken(store: &Memory, member: &str, shards: u32) -> Etcd<Memory> {
    let journal = journal(store, member, shards);
    for shard in (0..shards).map(Shard) {
        journal.acquire(shard).unwrap();
        read(&journal, shard).unwrap();
    }
    journal
}

/// Reads a shard back; where it is owned, it is live from then on.
fn read(journal: &Etcd<Memory>, shard: Shard) -> Result<Recovered, JournalError> {
    let found = journal.replay(shard)?;
    if let Some(fence) = journal.fence(shard) {
        journal.terms().begin(shard, fence);
    }
    Ok(found)
}

/// A journal whose state is live as soon as it is replayed, as one of a daemon alone.
pub(super) struct Live(Etcd<Memory>);

pub(super) fn live(store: &Memory) -> Live {
    Live(journal(store, "a", 1))
}

impl Journal for Live {
    type Snapshot = EtcdSnapshot;

    fn acquire(&self, shard: Shard) -> Result<Epoch, JournalError> {
        self.0.acquire(shard)
    }

    fn replay(&self, shard: Shard) -> Result<Recovered, JournalError> {
        read(&self.0, shard)
    }

    fn commit(&self, epoch: Epoch, group: &mut RecordBuilder) -> Commit {
        self.0.commit(epoch, group)
    }

    fn snapshot_begin(&self, epoch: Epoch) -> Result<EtcdSnapshot, JournalError> {
        self.0.snapshot_begin(epoch)
    }

    fn snapshot_chunk(&self, snapshot: &mut EtcdSnapshot, group: &mut RecordBuilder) -> Result<(), JournalError> {
        self.0.snapshot_chunk(snapshot, group)
    }

    fn snapshot_mark(&self, snapshot: &mut EtcdSnapshot) {
        self.0.snapshot_mark(snapshot);
    }

    fn snapshot_end(&self, snapshot: EtcdSnapshot) -> Result<(), JournalError> {
        self.0.snapshot_end(snapshot)
    }

    fn trim(&self, epoch: Epoch, keep: Keep, now_utc_ms: i64) -> Result<Trimmed, JournalError> {
        self.0.trim(epoch, keep, now_utc_ms)
    }

    fn degraded(&self) -> Option<String> {
        self.0.degraded()
    }

    fn lost(&self, why: &str) {
        self.0.lost(why);
    }

    fn counters(&self) -> &Counters {
        self.0.counters()
    }
}

#[test]
fn a_shard_that_is_not_live_yet_is_in_no_snapshot() {
    let (store, workload) = (Memory::default(), Workload::new(14, 5));
    let first = taken(&store, "a", 1);
    for at in 0..5 {
        assert_eq!(first.commit(Epoch::EACH, &mut workload.group(at)), Commit::Durable);
    }
    let second = journal(&store, "b", 1);
    second.acquire(Shard(0)).unwrap();
    second.replay(Shard(0)).unwrap();
    // What lives here is not put back yet, so that the snapshot is of nothing.
    let mut snapshot = second.snapshot_begin(Epoch::EACH).unwrap();
    second.snapshot_mark(&mut snapshot);
    second.snapshot_end(snapshot).unwrap();
    assert_eq!(state(&store, 1), workload.states[5]);
}

/// Everything that the shards hold, as one state.
fn state(store: &Memory, shards: u32) -> State {
    whole(store, shards).unwrap()
}

/// The same, or what is wrong with it.
fn whole(store: &Memory, shards: u32) -> Result<State, String> {
    let reader = journal(store, "reader", shards);
    let mut whole = State::default();
    for shard in (0..shards).map(Shard) {
        let of_shard = reader.replay(shard).map_err(|error| error.to_string())?;
        if let Some(why) = of_shard.degraded {
            return Err(why);
        }
        let State { sessions, tombstones, nodes, marks } = State::of(&of_shard);
        whole.sessions.extend(sessions);
        whole.tombstones.extend(tombstones);
        whole.nodes.extend(nodes);
        whole.marks.extend(marks);
    }
    Ok(whole)
}

/// A clock that stands still until it is moved.
static STANDS_NS: AtomicU64 = AtomicU64::new(1);

#[test]
fn only_heartbeats_make_an_owner_sure() {
    let (store, workload) = (Memory::default(), Workload::new(15, 20));
    let options = EtcdOptions { clock_ns: || STANDS_NS.load(Ordering::Relaxed), ..options("a", 1) };
    let first = Etcd::new(store.clone(), store.clone(), options);
    let pass = |ms: u64| STANDS_NS.fetch_add(ms * 1_000_000, Ordering::Relaxed);
    assert!(!first.is_sure());
    first.acquire(Shard(0)).unwrap();
    read(&first, Shard(0)).unwrap();
    let heartbeat = || {
        let key = Keys::new("test").heartbeat(Shard(0));
        store.txn(&Txn { then: vec![Op::get(key)], ..Txn::default() }).unwrap().outcomes[0].found[0].changed
    };
    for at in 0..20 {
        let before = heartbeat();
        pass(150);
        assert!(first.is_sure(), "turns without a break carry heartbeats, {at}");
        assert_eq!(first.commit(Epoch::EACH, &mut workload.group(at)), Commit::Durable);
        assert_eq!(heartbeat() > before, at % 2 == 1, "each that is 300 ms after the last, {at}");
    }
    pass(599);
    assert!(first.is_sure());
    pass(1);
    assert!(!first.is_sure());
    assert_eq!((first.confirm(), first.is_sure()), (Commit::Durable, true));
    pass(100);
    assert_eq!(first.commit(Epoch::EACH, &mut workload.group(0)), Commit::Durable);
    pass(500);
    assert!(!first.is_sure(), "a turn without a heartbeat keeps nobody from taking over");
}

#[test]
fn a_group_goes_to_the_shards_of_its_tenants() {
    for shards in [1, 2, 16, 64] {
        let (store, workload) = (Memory::default(), Workload::new(11, 20));
        let first = taken(&store, "a", shards);
        for at in 0..20 {
            assert_eq!(first.commit(Epoch::EACH, &mut workload.group(at)), Commit::Durable);
        }
        assert_eq!(state(&store, shards), workload.states[20], "{shards} shards");
        let mut snapshot = first.snapshot_begin(Epoch::EACH).unwrap();
        let mut feed = Feed::new(&first, &mut snapshot);
        workload.feed(20, &mut feed);
        feed.finish().unwrap();
        first.snapshot_mark(&mut snapshot);
        first.snapshot_end(snapshot).unwrap();
        assert!(!store.dump().iter().any(|(key, _)| key.contains("/log/")), "the snapshot took the log along");
        assert_eq!(state(&store, shards), workload.states[20], "{shards} shards, from the snapshot");
        let second = taken(&store, "b", shards);
        assert_eq!(first.commit(Epoch::EACH, &mut workload.group(0)), Commit::Fenced);
        assert_eq!((first.terms().mine().count(), second.terms().mine().count()), (0, shards as usize));
    }
}

#[test]
fn the_shard_of_a_tenant_is_what_the_disks_of_clusters_say() {
    let of = |tenant: &str| (Shard::of(tenant, 16).0, Shard::of(tenant, 64).0);
    assert_eq!([of("acme"), of("musterfirma"), of("a"), of("")], [(12, 12), (1, 33), (0, 0), (1, 1)]);
    let mut count = BTreeMap::<u32, u32>::new();
    (0..16_000).for_each(|n| *count.entry(Shard::of(&format!("customer-{n}"), 16).0).or_default() += 1);
    assert!(count.values().all(|tenants| (850..1_150).contains(tenants)), "{count:?}");
}

#[cfg(not(feature = "canary-fence"))]
#[test]
fn an_owner_that_was_deposed_commits_nothing_more() {
    let (store, workload) = (Memory::default(), Workload::new(12, 4));
    let first = taken(&store, "a", 1);
    assert_eq!(first.commit(Epoch::EACH, &mut workload.group(0)), Commit::Durable);
    let second = taken(&store, "b", 1);
    let before = store.dump();
    assert_eq!(first.commit(Epoch::EACH, &mut workload.group(1)), Commit::Fenced);
    assert_eq!((first.fence(Shard(0)), first.terms().mine().count()), (None, 0));
    assert_eq!(store.dump(), before);
    assert_eq!(second.commit(Epoch::EACH, &mut workload.group(1)), Commit::Durable);
    assert_eq!(state(&store, 1), workload.states[2]);
}

#[test]
fn one_of_two_takes_a_silent_owners_shard_and_none_a_live_ones() {
    let store = Memory::default();
    let first = taken(&store, "a", 1);
    let keys = Keys::new("test");
    let found = |key: String| {
        let read = store.txn(&Txn { then: vec![Op::get(key)], ..Txn::default() }).unwrap();
        read.outcomes[0].found[0].clone()
    };
    let seen =
        || Seen { owner: found(keys.owner(Shard(0))).created, heartbeat: found(keys.heartbeat(Shard(0))).changed };
    let stale = seen();
    first.heartbeat();
    let (second, third) = (journal(&store, "b", 1), journal(&store, "c", 1));
    assert!(matches!(second.take(Shard(0), Some(stale)), Err(JournalError::Fenced)), "it lives");
    let silent = seen();
    assert!(matches!(second.take(Shard(0), None), Err(JournalError::Fenced)), "it is owned");
    second.take(Shard(0), Some(silent)).unwrap();
    assert!(matches!(third.take(Shard(0), Some(silent)), Err(JournalError::Fenced)), "it is another's by now");
    first.heartbeat();
    assert_eq!(first.fence(Shard(0)), None);
    second.give_up(Shard(0)).unwrap();
    third.take(Shard(0), None).unwrap();
}

/// A session ends, where nothing is left to be said.
fn gone<'a>(tenant: &'a str, session: &'a str, version: u64) -> GoneRecord<'a> {
    GoneRecord {
        tenant,
        session,
        subject: "anna",
        kind: Kind::Call,
        counts: true,
        reason: Reason::Node,
        freed: true,
        was_live: true,
        tombstone: None,
        version,
    }
}

#[test]
fn of_a_long_turn_releases_come_before_grants() {
    let store = Memory::default();
    let first = taken(&store, "a", 2);
    let mut group = RecordBuilder::new();
    const SESSIONS: u64 = 10_000;
    for n in 0..SESSIONS {
        group.put(&record("acme", &format!("new-{n}"), "anna", n, 2 * n + 1), true);
        group.gone(&gone("acme", &format!("old-{n}"), 2 * n + 2));
    }
    // The store loses everything after so many transactions: what is there is what a crash leaves.
    for kept in 0.. {
        let (store, mut sent) = (Memory::default(), 0);
        let first = taken(&store, "a", 2);
        for n in 0..SESSIONS {
            let mut one = RecordBuilder::new();
            one.put(&record("acme", &format!("old-{n}"), "anna", n, n + 1), true);
            if n % 1_000 == 0 {
                assert_eq!(first.commit(Epoch::EACH, &mut one), Commit::Durable);
            }
        }
        store.roll(move |_| {
            sent += 1;
            if sent > kept { Luck::Refused } else { Luck::Good }
        });
        let mut bounded = RecordBuilder::new();
        bounded.absorb(&group);
        let whole = {
            let stopper = &first;
            std::thread::scope(|scope| {
                let committing = scope.spawn(|| stopper.commit(Epoch::EACH, &mut bounded));
                while !committing.is_finished() && stopper.cut_off().is_none() {
                    std::thread::yield_now();
                }
                stopper.stop();
                committing.join().unwrap()
            })
        };
        store.calm();
        let left = state(&store, 2);
        let (olds, news) = left.sessions.keys().fold((0, 0), |(olds, news), (_, session)| {
            if session.starts_with("old") { (olds + 1, news) } else { (olds, news + 1) }
        });
        assert!(news == 0 || olds == 0, "{kept} transactions: {olds} seats were not given back, {news} are taken");
        if whole == Commit::Durable {
            assert!(kept >= 4, "it was one of {kept} transactions only");
            assert_eq!((olds, news), (0, SESSIONS as usize));
            break;
        }
        assert_eq!(whole, Commit::Unknown);
    }
    drop(first);
}

#[test]
fn what_comes_late_after_a_snapshot_brings_nothing_back() {
    let (store, workload) = (Memory::default(), Workload::new(13, 6));
    let first = taken(&store, "a", 1);
    let mut kept = Vec::new();
    for at in 0..6 {
        assert_eq!(first.commit(Epoch::EACH, &mut workload.group(at)), Commit::Durable);
        kept.extend(store.dump().into_iter().filter(|(key, _)| key.contains("/log/")));
    }
    let mut snapshot = first.snapshot_begin(Epoch::EACH).unwrap();
    let mut feed = Feed::new(&first, &mut snapshot);
    workload.feed(6, &mut feed);
    feed.finish().unwrap();
    first.snapshot_mark(&mut snapshot);
    first.snapshot_end(snapshot).unwrap();
    // A try that was on its way all the time is done now.
    let fence = Compare::Created { key: Keys::new("test").owner(Shard(0)), revision: first.fence(Shard(0)).unwrap() };
    let then = kept.into_iter().map(|(key, value)| Op::put(key, value));
    let mut late: Vec<Op> = Vec::new();
    for op in then {
        late.retain(|known| !matches!((known, &op), (Op::Put { key: a, .. }, Op::Put { key: b, .. }) if a == b));
        late.push(op);
    }
    assert!(store.txn(&Txn { compares: vec![fence], then: late, otherwise: Vec::new() }).unwrap().held);
    assert_eq!(state(&store, 1), workload.states[6]);
    assert_eq!(first.commit(Epoch::EACH, &mut workload.group(0)), Commit::Durable);
    assert_eq!(state(&store, 1).sessions.len(), workload.states[6].sessions.len());
}

/// The keys that the first release with a cluster wrote: a line for each key, with the bytes of its value in hexadecimal digits.
const GOLDEN: &str = include_str!("../../src/daemon/journal/golden/etcd-1.txt");

/// A cluster of two shards with a snapshot and records behind it, as `key value` lines; owners have a name of chance.
fn written() -> (String, State) {
    let (store, workload) = (Memory::default(), Workload::new(16, 8));
    let first = taken(&store, "a", 2);
    for at in 0..8 {
        assert_eq!(first.commit(Epoch::EACH, &mut workload.group(at)), Commit::Durable);
        if at == 3 {
            let mut snapshot = first.snapshot_begin(Epoch::EACH).unwrap();
            let mut feed = Feed::new(&first, &mut snapshot);
            workload.feed(4, &mut feed);
            feed.finish().unwrap();
            first.snapshot_mark(&mut snapshot);
            first.snapshot_end(snapshot).unwrap();
        }
    }
    let line = |(key, value): (String, Vec<u8>)| {
        let value = if key.contains("/owner/") { b"a".to_vec() } else { value };
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{key} {hex}\n")
    };
    (store.dump().into_iter().map(line).collect(), workload.states[8].clone())
}

#[test]
fn what_stands_in_etcd_is_as_it_was_and_is_read() {
    let (written, state_of_it) = written();
    assert_eq!(written, GOLDEN);
    let byte = |hex: &[u8]| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
    let keys = GOLDEN.lines().map(|line| {
        let (key, hex) = line.split_once(' ').unwrap();
        (key.to_owned(), hex.as_bytes().chunks(2).map(byte).collect())
    });
    let store = Memory::of(keys);
    assert_eq!(state(&store, 2), state_of_it);
    let newer =
        store.txn(&Txn { then: vec![Op::put(Keys::new("test").pointer(Shard(0)), "2 0 0 0")], ..Txn::default() });
    assert!(newer.unwrap().held);
    let refused = journal(&store, "b", 2).replay(Shard(0));
    assert!(matches!(refused, Err(JournalError::Newer { format: 2, .. })), "{refused:?}");
}

/// A checker's knowledge of a session: versions that were acknowledged, and the newest that was tried.
#[derive(Debug, Default)]
struct Known {
    acknowledged: u64,
    tried: BTreeMap<u64, bool>,
}

/// Commits a few changes, and notes what is known of them then.
fn say_some(owner: &Etcd<Memory>, rng: &mut Rng, version: &mut u64, known: &mut BTreeMap<(String, String), Known>) {
    let mut group = RecordBuilder::new();
    let mut said = Vec::new();
    for _ in 0..rng.u32(1..4) {
        *version += 1;
        let (tenant, session) = (format!("t{}", rng.u32(0..6)), format!("s{}", rng.u32(0..5)));
        let is_live = rng.bool();
        match is_live {
            true => group.put(&record(&tenant, &session, "anna", *version, *version), true),
            false => group.gone(&gone(&tenant, &session, *version)),
        }
        said.push(((tenant, session), *version, is_live));
    }
    let outcome = owner.commit(Epoch::EACH, &mut group);
    for (key, version, is_live) in said {
        let of = known.entry(key).or_default();
        of.tried.insert(version, is_live);
        if outcome == Commit::Durable {
            of.acknowledged = version;
        }
    }
}

/// Owners come and go over a store that loses, repeats and delays; gives what is wrong.
fn campaign(seed: u64) -> Result<u64, String> {
    const SHARDS: u32 = 3;
    let (store, mut rng) = (Memory::default(), Rng::with_seed(seed));
    let mut owners: Vec<Etcd<Memory>> = ["a", "b", "c"].map(|name| taken(&store, name, SHARDS)).into();
    let mut known = BTreeMap::<(String, String), Known>::new();
    let mut version = 0;
    let mut dice = Rng::with_seed(seed ^ 1);
    let mut faults = 0;
    store.roll(move |_| match dice.u32(0..10) {
        0 => Luck::Unanswered,
        1 => Luck::Lost,
        2 => Luck::Late,
        _ => Luck::Good,
    });
    for _ in 0..200 {
        let at = rng.usize(0..owners.len());
        match rng.u32(0..20) {
            // A pause is over, or a whole machine comes back: it goes on with what it believes.
            0 => {
                let shard = Shard(rng.u32(0..SHARDS));
                // Somebody may be faster, and the store may have no answer: then it is not the owner.
                if owners[at].acquire(shard).is_ok() {
                    let found = read(&owners[at], shard);
                    version = found.map_or(version, |found| found.version_max.max(version));
                }
                faults += 1;
            }
            1 => {
                owners[at] = journal(&store, &format!("new-{seed}-{version}"), SHARDS);
                faults += 1;
            }
            2 => {
                let Ok(mut snapshot) = owners[at].snapshot_begin(Epoch::EACH) else { continue };
                let held: Vec<Shard> =
                    (0..SHARDS).map(Shard).filter(|shard| owners[at].fence(*shard).is_some()).collect();
                let found: Vec<_> = held.iter().filter_map(|shard| owners[at].replay(*shard).ok()).collect();
                let mut feed = Feed::new(&owners[at], &mut snapshot);
                found.iter().for_each(|found| found.feed(&mut feed));
                if feed.finish().is_ok() && found.len() == held.len() {
                    owners[at].snapshot_mark(&mut snapshot);
                    // One that fails leaves the one before.
                    let _ = owners[at].snapshot_end(snapshot);
                }
            }
            3 => drop(owners[at].trim(Epoch::EACH, Keep { age_ms: 0, bytes: 0 }, 0)),
            _ => say_some(&owners[at], &mut rng, &mut version, &mut known),
        }
    }
    store.calm();
    let left = whole(&store, SHARDS)?;
    for (key, of) in &known {
        let is_live = left.sessions.contains_key(key);
        let possible = of.tried.range(of.acknowledged.max(1)..).any(|(_, live)| *live == is_live);
        if of.acknowledged > 0 && !possible {
            return Err(format!("seed {seed}: {key:?} is live: {is_live}, which no newer try says: {of:?}"));
        }
    }
    Ok(faults)
}

#[cfg(not(feature = "canary-fence"))]
#[test]
fn nothing_acknowledged_is_lost_whoever_owns_it() {
    let faults: u64 = (0..300).map(|seed| campaign(seed).unwrap()).sum();
    assert!(faults > 3_000, "{faults}");
}

/// `cargo nextest run --test journal --features canary-fence is_caught`.
#[cfg(feature = "canary-fence")]
#[test]
fn an_owner_without_a_fence_is_caught() {
    let found = (0..300).find_map(|seed| campaign(seed).err());
    println!("{}", found.expect("an owner without a fence is seen"));
}
