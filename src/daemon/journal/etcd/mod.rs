//! The journal of a cluster: a log for each shard in etcd, which only the owner of the shard can write.
//!
//! Every transaction compares the revisions that created the owners' keys: the fence. Whoever lost a shard can commit
//! nothing more to it, whatever clocks, pauses and partitions do, and learns it by the first comparison that fails; nothing
//! else makes it stop. One transaction is in flight, which takes everything queued of all shards. One without an answer is
//! sent again, with the same content, until there is an answer: to do it twice is to do it once.
//!
//! The records are those of the local journal, a chain for each shard that goes on from owner to owner.

mod keys;
mod ownership;
mod replay;
mod snapshot;
mod split;
mod terms;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::codec::{Hash, RecordBuilder, RecordKind};
use super::{Commit, Counters, Epoch, Journal, JournalError, Keep, Recovered, Shard, Trimmed};
use crate::daemon::etcd::{Compare, Fault, Found, Op, Store, Txn};

pub use keys::Keys;
pub use snapshot::EtcdSnapshot;
pub use terms::Terms;

/// A transaction takes no more records than this: with a heartbeat for every shard it stays below the 128 operations
/// that etcd allows.
const TXN_RECORDS_MAX: usize = 60;
/// Nor more bytes, unless it is one record.
const TXN_BYTES_MAX: usize = 256 * 1024;
/// Most shards of a cluster.
pub const SHARDS_MAX: u32 = 64;

/// How a cluster is kept.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// The name of the cluster.
    pub cluster: String,
    /// The name of this member.
    pub member: String,
    /// The number of shards, 1 to [`SHARDS_MAX`].
    pub shards: u32,
    /// The pause before a transaction without an answer is sent again.
    pub retry: Duration,
    /// A transaction carries a heartbeat where the last one is older than this.
    pub heartbeat: Duration,
    /// How long an answer that needs no record may go out after a heartbeat was sent that was committed: shorter than others
    /// wait for the next one before they take a shard over.
    pub fresh: Duration,
    /// A monotonic clock, nanoseconds since an arbitrary start.
    pub clock_ns: fn() -> u64,
}

/// An owner's key and the last sign of life, as somebody saw them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The revision that created the owner's key.
    pub owner: u64,
    /// The revision of the last heartbeat; 0 where there was none.
    pub heartbeat: u64,
}

/// A shard that this daemon owns, as far as it knows.
#[derive(Clone, Copy, Debug, Default)]
struct Term {
    fence: u64,
    /// The last record.
    seq: u64,
    hash: Hash,
    version_max: u64,
    /// Of the last snapshot.
    generation: u64,
    /// It is replayed, so that records can follow.
    is_replayed: bool,
}

/// The shards of who commits.
#[derive(Debug, Default)]
struct Held(BTreeMap<Shard, Term>);

impl Held {
    fn replayed(&self) -> Vec<Shard> {
        self.0.iter().filter(|(_, term)| term.is_replayed).map(|(shard, _)| *shard).collect()
    }

    fn is_owner(&self, epoch: Epoch) -> bool {
        epoch == Epoch::EACH || self.0.values().any(|term| term.fence == epoch.0)
    }
}

/// The journal of a cluster in etcd, or in what behaves like it.
pub struct Etcd<S: Store> {
    /// Used by the one thread that commits.
    commits: S,
    /// Used by whoever reads, and writes snapshots.
    aside: S,
    keys: Keys,
    options: EtcdOptions,
    held: Mutex<Held>,
    terms: Arc<Terms>,
    /// When the transaction was sent that was the last to prove that every shard is held; 0: never.
    proven_ns: AtomicU64,
    /// The same of the last one with a heartbeat: only that keeps others from taking over.
    beaten_ns: AtomicU64,
    degraded: Mutex<Option<String>>,
    /// Why the store has no answer at present.
    cut_off: Mutex<Option<String>>,
    failures: AtomicU64,
    counters: Counters,
    is_stopped: AtomicBool,
    /// Wakes who waits before it tries again.
    stopped: (Mutex<()>, Condvar),
}

impl<S: Store> Etcd<S> {
    /// A journal in these stores, which are one: the second is used beside commits. Nothing is asked of them yet.
    pub fn new(commits: S, aside: S, options: EtcdOptions) -> Self {
        Etcd {
            commits,
            aside,
            keys: Keys::new(&options.cluster),
            terms: Arc::new(Terms::new(options.shards)),
            options,
            held: Mutex::default(),
            proven_ns: AtomicU64::new(0),
            beaten_ns: AtomicU64::new(0),
            degraded: Mutex::new(None),
            cut_off: Mutex::new(None),
            failures: AtomicU64::new(0),
            counters: Counters::default(),
            is_stopped: AtomicBool::new(false),
            stopped: (Mutex::new(()), Condvar::new()),
        }
    }

    /// The shards that are decided here. Who has loaded one begins its term here; who loses one finds it ended.
    pub fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// The names in the store.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The fence of a shard that is owned by this daemon, loaded or not.
    pub fn fence(&self, shard: Shard) -> Option<u64> {
        self.held.lock().0.get(&shard).map(|term| term.fence)
    }

    /// Why the store has no answer at present, for people.
    pub fn cut_off(&self) -> Option<String> {
        self.cut_off.lock().clone()
    }

    /// How long ago the last transaction was sent that was committed; `None` before the first.
    pub fn proven_ago(&self) -> Option<Duration> {
        self.ago(&self.proven_ns)
    }

    fn ago(&self, at_ns: &AtomicU64) -> Option<Duration> {
        let at_ns = at_ns.load(Ordering::Acquire);
        (at_ns != 0).then(|| Duration::from_nanos((self.options.clock_ns)().saturating_sub(at_ns)))
    }

    /// Shows that this daemon lives, and that all that it owns is still its own. Waits for the store.
    pub fn heartbeat(&self) {
        let mut held = self.held.lock();
        self.settle(&mut held, &[], true);
    }

    /// Nobody waits for the store any more: what has no answer yet is given up.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.stopped.1.notify_all();
    }

    fn owner_key(&self, shard: Shard) -> Result<String, JournalError> {
        if shard.0 < self.options.shards { Ok(self.keys.owner(shard)) } else { Err(JournalError::UnknownShard) }
    }

    fn beat(&self, shard: Shard) -> Op {
        Op::put(self.keys.heartbeat(shard), self.options.member.clone())
    }

    /// Asks beside the commits, some times where there is no answer.
    fn ask(&self, what: &'static str, txn: &Txn) -> Result<crate::daemon::etcd::Answer, JournalError> {
        const TRIES: u32 = 5;
        let mut failure = None;
        for _ in 0..TRIES {
            match self.aside.txn(txn) {
                Ok(answer) => return Ok(answer),
                Err(Fault::Refused(why)) => {
                    failure = Some(why);
                    break;
                }
                Err(fault) => failure = Some(fault.to_string()),
            }
            if self.rest() {
                break;
            }
        }
        Err(JournalError::io(what, std::io::Error::other(failure.unwrap_or_default())))
    }

    /// Waits before the next try; true where there is to be none.
    fn rest(&self) -> bool {
        if !self.is_stopped.load(Ordering::Acquire) {
            let mut asleep = self.stopped.0.lock();
            self.stopped.1.wait_for(&mut asleep, self.options.retry);
        }
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Commits the records of each shard in their order; what a shard loses that is not owned any more is left out.
    fn write(&self, held: &mut MutexGuard<'_, Held>, records: BTreeMap<Shard, Vec<RecordBuilder>>) -> Settled {
        let mut left: VecDeque<(Shard, RecordBuilder)> =
            records.into_iter().flat_map(|(shard, all)| all.into_iter().map(move |record| (shard, record))).collect();
        let mut settled = Settled::Committed;
        while !left.is_empty() {
            let (mut puts, mut after, mut bytes) = (Vec::new(), BTreeMap::new(), 0);
            while let Some((shard, mut record)) = left.pop_front() {
                let is_full = puts.len() >= TXN_RECORDS_MAX || bytes + record.payload_bytes() > TXN_BYTES_MAX;
                if is_full && !puts.is_empty() {
                    left.push_front((shard, record));
                    break;
                }
                let Some(term) = after.get(&shard).or_else(|| held.0.get(&shard)).copied() else {
                    settled = settled.and(Settled::Fenced);
                    continue;
                };
                let seq = term.seq + 1;
                let hash = record.seal(RecordKind::Group, seq, term.hash);
                bytes += record.sealed().len();
                puts.push((shard, Op::put(self.keys.record(shard, seq), record.sealed())));
                after
                    .insert(shard, Term { seq, hash, version_max: term.version_max.max(record.version_max()), ..term });
            }
            settled = settled.and(self.settle(held, &puts, false));
            if settled == Settled::Unsettled {
                return settled;
            }
            self.counters.committed(bytes as u64);
            for (shard, term) in after {
                if let Some(known) = held.0.get_mut(&shard) {
                    *known = term;
                }
            }
        }
        settled
    }

    /// Has these operations done, each if its shard is still owned, and learns which shards are not.
    fn settle(&self, held: &mut MutexGuard<'_, Held>, puts: &[(Shard, Op)], beats: bool) -> Settled {
        let mut settled = Settled::Committed;
        // Also where turns leave the heartbeats no room.
        let beats = beats || self.ago(&self.beaten_ns).is_none_or(|ago| ago >= self.options.heartbeat);
        loop {
            if held.0.is_empty() {
                return if puts.is_empty() { settled } else { Settled::Fenced };
            }
            let txn = self.fenced(held, puts, beats);
            let Some((sent_ns, answer)) = self.answered(&txn) else { return Settled::Unsettled };
            if answer.held {
                self.proven_ns.store(sent_ns, Ordering::Release);
                if beats {
                    self.beaten_ns.store(sent_ns, Ordering::Release);
                }
                return settled;
            }
            let owners = answer.outcomes.into_iter().flat_map(|outcome| outcome.found).collect::<Vec<_>>();
            let lost = self.lost_to(held, &owners);
            if lost.iter().any(|shard| puts.iter().any(|(of, _)| of == shard)) {
                settled = Settled::Fenced;
            }
        }
    }

    /// A transaction that is done only while all shards are owned.
    fn fenced(&self, held: &Held, puts: &[(Shard, Op)], beats: bool) -> Txn {
        let owner =
            |(shard, term): (&Shard, &Term)| Compare::Created { key: self.keys.owner(*shard), revision: term.fence };
        let owned = |(shard, _): &&(Shard, Op)| held.0.contains_key(shard);
        let mut then: Vec<Op> = puts.iter().filter(owned).map(|(_, op)| op.clone()).collect();
        if beats {
            then.extend(held.0.keys().map(|shard| self.beat(*shard)));
        }
        // The known bug: whoever was deposed goes on.
        let compares = if cfg!(feature = "canary-fence") { Vec::new() } else { held.0.iter().map(owner).collect() };
        Txn { compares, then, otherwise: vec![Op::get_all(&self.keys.owners())] }
    }

    /// The answer to a transaction, which is sent until there is one, and when it was sent; `None` once it is stopped.
    fn answered(&self, txn: &Txn) -> Option<(u64, crate::daemon::etcd::Answer)> {
        loop {
            let sent_ns = (self.options.clock_ns)();
            match self.commits.txn(txn) {
                Ok(answer) => {
                    self.cut_off.lock().take();
                    return Some((sent_ns, answer));
                }
                Err(fault) => {
                    self.counters.failed();
                    *self.cut_off.lock() = Some(fault.to_string());
                }
            }
            if self.rest() {
                return None;
            }
        }
    }

    /// Forgets the shards whose owner is another by now.
    fn lost_to(&self, held: &mut Held, owners: &[Found]) -> Vec<Shard> {
        let is_mine = |shard: &Shard, term: &Term| {
            let key = self.keys.owner(*shard);
            owners.iter().any(|owner| owner.key == key && owner.created == term.fence)
        };
        let lost: Vec<Shard> =
            held.0.iter().filter(|(shard, term)| !is_mine(shard, term)).map(|(shard, _)| *shard).collect();
        for shard in &lost {
            self.terms.end(*shard);
            held.0.remove(shard);
        }
        lost
    }
}

/// The end of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    /// They are done.
    Committed,
    /// Some are of a shard that is not owned any more, and are not done; the others are.
    Fenced,
    /// Nobody knows, and nobody will: it is stopped.
    Unsettled,
}

impl Settled {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Settled::Unsettled, _) | (_, Settled::Unsettled) => Settled::Unsettled,
            (Settled::Fenced, _) | (_, Settled::Fenced) => Settled::Fenced,
            _ => Settled::Committed,
        }
    }
}

impl<S: Store> Journal for Etcd<S> {
    type Snapshot = EtcdSnapshot;

    fn acquire(&self, shard: Shard) -> Result<Epoch, JournalError> {
        let (owner, heartbeat) = (self.owner_key(shard)?, self.keys.heartbeat(shard));
        let txn = Txn { then: vec![Op::get(owner), Op::get(heartbeat)], ..Txn::default() };
        let answer = self.ask("see who owns a shard", &txn)?;
        let mut found = answer.outcomes.into_iter().map(|outcome| outcome.found.into_iter().next());
        let owner = found.next().flatten();
        let heartbeat = found.next().flatten().map_or(0, |found| found.changed);
        self.take(shard, owner.map(|owner| Seen { owner: owner.created, heartbeat }))
    }

    fn replay(&self, shard: Shard) -> Result<Recovered, JournalError> {
        self.read_back(shard)
    }

    fn commit(&self, epoch: Epoch, group: &mut RecordBuilder) -> Commit {
        if group.is_empty() {
            return Commit::Durable;
        }
        let mut held = self.held.lock();
        if !held.is_owner(epoch) {
            return Commit::Fenced;
        }
        let Ok(split) = split::split(group.payload(), self.options.shards, &held.replayed()) else {
            drop(held);
            self.lost("a turn could not be divided among the shards");
            return Commit::NotDurable;
        };
        let foreign = if split.is_foreign { Settled::Fenced } else { Settled::Committed };
        match self.write(&mut held, split.records).and(foreign) {
            Settled::Committed => Commit::Durable,
            Settled::Fenced => Commit::Fenced,
            Settled::Unsettled => {
                drop(held);
                self.counters.went_on();
                Commit::Unknown
            }
        }
    }

    fn snapshot_begin(&self, epoch: Epoch) -> Result<EtcdSnapshot, JournalError> {
        self.begin_snapshot(epoch)
    }

    fn snapshot_chunk(&self, snapshot: &mut EtcdSnapshot, group: &mut RecordBuilder) -> Result<(), JournalError> {
        self.add_to_snapshot(snapshot, group)
    }

    fn snapshot_mark(&self, snapshot: &mut EtcdSnapshot) {
        self.mark_snapshot(snapshot);
    }

    fn snapshot_end(&self, snapshot: EtcdSnapshot) -> Result<(), JournalError> {
        self.end_snapshot(snapshot)
    }

    /// The snapshot took the records before it along: one that counts is all that a replay needs.
    fn trim(&self, epoch: Epoch, _keep: Keep, _now_utc_ms: i64) -> Result<Trimmed, JournalError> {
        if self.held.lock().is_owner(epoch) { Ok(Trimmed::default()) } else { Err(JournalError::Fenced) }
    }

    fn degraded(&self) -> Option<String> {
        self.degraded.lock().clone()
    }

    fn lost(&self, why: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.counters.went_on();
        *self.degraded.lock() = Some(why.to_owned());
    }

    fn answers_wait(&self) -> bool {
        true
    }

    fn is_sure(&self) -> bool {
        self.ago(&self.beaten_ns).is_some_and(|ago| ago < self.options.fresh)
    }

    fn confirm(&self) -> Commit {
        // What it waited for may have made sure of it.
        if self.is_sure() {
            return Commit::Durable;
        }
        let mut held = self.held.lock();
        match self.settle(&mut held, &[], true) {
            Settled::Unsettled => Commit::Unknown,
            Settled::Committed | Settled::Fenced => Commit::Durable,
        }
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}
