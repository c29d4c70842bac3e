//! The thread that watches over the shards: it reads the store, takes, gives up, and shows that this member lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::shards::{Counts, Member, Owners, Shards};
use super::steward::{Look, Reason, Step, Steward, Timing};
use crate::daemon::etcd::{Answer, Compare, Fault, Found, Op, Store, Txn};
use crate::daemon::journal::etcd::Etcd;
use crate::daemon::journal::{Epoch, JournalError, Shard};

/// How often the store is read, at most.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often what was before is forgotten by the store, milliseconds.
const COMPACT_EVERY_MS: u64 = 60_000;

/// The daemon's part when a shard comes or goes. It may take its time: nothing else happens to shards meanwhile.
pub trait Loads: Send + Sync + 'static {
    /// Reads a shard that was taken, so that it can be decided from the return on.
    ///
    /// # Errors
    /// It cannot be read; it is given up again.
    fn load(&self, shard: Shard, reason: Reason) -> Result<(), JournalError>;

    /// Has a shard decided that was read: calls `begin`, from which on it is.
    fn begin(&self, shard: Shard, begin: &dyn Fn());

    /// Waits until nothing of a shard that is not decided here any more is in progress.
    fn quiesce(&self);

    /// Forgets a shard.
    fn unload(&self, shard: Shard);

    /// Has the thread that commits show that this member lives; must not wait.
    fn heartbeat(&self);
}

/// This member, as it shows itself to the others.
#[derive(Clone, Debug)]
pub struct Me {
    /// Its address for them.
    pub advertise: String,
    /// Its release.
    pub version: String,
}

/// The watch over the shards of one member.
pub struct Watch<S: Store> {
    store: S,
    journal: Arc<Etcd<S>>,
    shards: Arc<Shards>,
    loads: Arc<dyn Loads>,
    me: Me,
    timing: Timing,
    uptime_ms: Box<dyn Fn() -> u64 + Send + Sync>,
    control: Arc<Control>,
    /// Shards that were loaded here.
    loaded: BTreeSet<Shard>,
    beat_ms: u64,
    beats: u64,
    /// Why the store has no answer, as it was told last.
    fault: Option<String>,
    /// Tells this run from another daemon of the same name.
    run: u64,
    /// True once the cluster is known to be the one that is configured here.
    is_admitted: bool,
    /// A revision, and when it was seen: what was before it is forgotten a while later.
    revision: (u64, u64),
}

/// Orders to the watch.
#[derive(Default)]
pub struct Control {
    is_leaving: AtomicBool,
    is_stopped: AtomicBool,
    /// Hand-overs that somebody asked for.
    wanted: Mutex<Vec<(Shard, String)>>,
    wake: Condvar,
    lock: Mutex<()>,
}

impl Control {
    /// From now on this member wants to own nothing, or takes its part again.
    pub fn leave(&self, leaves: bool) {
        self.is_leaving.store(leaves, Ordering::Release);
        self.wake.notify_all();
    }

    /// True if this member wants to own nothing.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Gives a shard of this member to another one, soon.
    pub fn hand_over(&self, shard: Shard, to: String) {
        self.wanted.lock().push((shard, to));
        self.wake.notify_all();
    }

    /// Gives everything up and ends.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.wake.notify_all();
    }
}

impl<S: Store> Watch<S> {
    /// Watches as this member.
    pub fn new(
        store: S,
        journal: Arc<Etcd<S>>,
        shards: Arc<Shards>,
        loads: Arc<dyn Loads>,
        (me, timing): (Me, Timing),
        uptime_ms: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Watch {
            store,
            journal,
            shards,
            loads,
            me,
            timing,
            uptime_ms: Box::new(uptime_ms),
            control: Arc::default(),
            loaded: BTreeSet::new(),
            beat_ms: 0,
            beats: 0,
            fault: None,
            run: fastrand::u64(..),
            is_admitted: false,
            revision: (0, 0),
        }
    }

    /// Where orders are given.
    pub fn control(&self) -> Arc<Control> {
        Arc::clone(&self.control)
    }

    /// Watches until it is stopped; then everything is given up, so that others take it at once.
    pub fn run(mut self) {
        let count = self.shards.terms().shards();
        let mut steward = Steward::new(self.shards.member(), count, self.timing, (self.uptime_ms)());
        while !self.control.is_stopped.load(Ordering::Acquire) {
            self.turn(&mut steward);
            let mut asleep = self.control.lock.lock();
            self.control.wake.wait_for(&mut asleep, LOOK_EVERY);
        }
        for shard in std::mem::take(&mut self.loaded) {
            self.shards.terms().end(shard);
            self.loads.quiesce();
            if let Err(error) = self.journal.give_up(shard) {
                tracing::warn!(shard = shard.0, %error, "the others find out by themselves that a shard is free");
            }
        }
        let gone = Op::Delete { from: self.journal.keys().member(self.shards.member()), to: String::new() };
        // Should it fail, the others see that it is silent.
        let _ = self.store.txn(&Txn { then: vec![gone], ..Txn::default() });
    }

    /// One look, and everything that follows from it.
    fn turn(&mut self, steward: &mut Steward) {
        let now_ms = (self.uptime_ms)();
        let beats = now_ms.saturating_sub(self.beat_ms) >= self.timing.heartbeat_ms;
        if beats {
            self.beat_ms = now_ms;
            self.loads.heartbeat();
        }
        self.forget_lost();
        if !self.is_admitted && !self.admit() {
            return;
        }
        let answer = match self.read(beats) {
            Ok(answer) => answer,
            Err(fault) => return self.tell_fault(Some(fault)),
        };
        self.tell_fault(None);
        self.compact(now_ms, answer.revision);
        let seen = self.seen(&answer);
        if !seen.is_only_one {
            return self.shards.refuse(format!(
                "another daemon is member {:?} of this cluster; give each a name of its own in [cluster]",
                self.shards.member()
            ));
        }
        // By the time at which it was asked for: what is old by now is not taken for alive.
        let steps = steward.judge((self.uptime_ms)(), &seen.look);
        self.shards.note(seen.owners(steward));
        for step in steps {
            match step {
                Step::Take { shard, seen, reason } => self.take(shard, seen, reason),
                Step::HandOver { shard, to } => self.hand_over(shard, &to),
            }
        }
        let wanted = std::mem::take(&mut *self.control.wanted.lock());
        for (shard, to) in wanted {
            self.hand_over(shard, &to);
        }
    }

    /// Shows that this member lives, where that is due, and reads everything that is common.
    fn read(&mut self, beats: bool) -> Result<Answer, Fault> {
        let keys = self.journal.keys();
        let mut then = vec![
            Op::get_all(&keys.owners()),
            Op::get_all(&keys.heartbeats()),
            Op::get_all(&keys.members()),
            Op::get_all(&keys.heirs()),
        ];
        if beats {
            self.beats += 1;
            let words = serde_json::json!({
                "format": 1,
                "advertise": self.me.advertise,
                "version": self.me.version,
                "leaving": self.control.is_leaving(),
                "beat": self.beats,
                "run": self.run.to_string(),
            });
            then.push(Op::put(keys.member(self.shards.member()), words.to_string()));
        }
        self.store.txn(&Txn { then, ..Txn::default() })
    }

    /// Looks whether the cluster is the one that is configured here, or founds it.
    fn admit(&mut self) -> bool {
        let (key, shards) = (self.journal.keys().constitution(), self.shards.terms().shards());
        let mine = format!("1 {shards}");
        let founded = Txn {
            compares: vec![Compare::Created { key: key.clone(), revision: 0 }],
            then: vec![Op::put(key.clone(), mine.clone())],
            otherwise: vec![Op::get(key)],
        };
        let answer = match self.store.txn(&founded) {
            Ok(answer) => answer,
            Err(fault) => {
                self.tell_fault(Some(fault));
                return false;
            }
        };
        let found = answer.outcomes.first().and_then(|outcome| outcome.found.first());
        self.is_admitted = answer.held || found.is_some_and(|found| found.value == mine.as_bytes());
        if !self.is_admitted {
            let found = found.map(|found| String::from_utf8_lossy(&found.value).into_owned()).unwrap_or_default();
            let shards_there = found.strip_prefix("1 ").unwrap_or("an unknown number of");
            self.shards.refuse(format!(
                "this cluster was founded with {shards_there} shards, and [cluster] shards is {shards} here: write the \
                 number of the cluster, which stays as it is"
            ));
        }
        self.is_admitted
    }

    /// Has the owner of the first shard forget the history of the store.
    fn compact(&mut self, now_ms: u64, revision: u64) {
        let (seen, since_ms) = self.revision;
        if now_ms.saturating_sub(since_ms) < COMPACT_EVERY_MS {
            return;
        }
        self.revision = (revision, now_ms);
        if seen == 0 || !self.loaded.contains(&Shard(0)) {
            return;
        }
        if let Err(fault) = self.store.forget_before(seen) {
            tracing::warn!(%fault, "the history of the store cannot be forgotten; it is tried again in a minute");
        }
    }

    fn seen(&self, answer: &Answer) -> Seen {
        let found = |at: usize| answer.outcomes.get(at).map_or(&[][..], |outcome| &outcome.found);
        let count = self.shards.terms().shards() as usize;
        let keys = self.journal.keys();
        let of = |found: &Found| keys.shard(&found.key).map(|shard| shard.0 as usize).filter(|at| *at < count);
        let text = |found: &Found| String::from_utf8_lossy(&found.value).into_owned();
        let mut look = Look {
            owners: vec![None; count],
            heartbeats: vec![0; count],
            heirs: vec![None; count],
            members: BTreeMap::new(),
        };
        for owner in found(0) {
            if let Some(at) = of(owner) {
                let name = text(owner).split(' ').next().unwrap_or_default().to_owned();
                look.owners[at] = Some((name, owner.created));
            }
        }
        for heartbeat in found(1) {
            if let Some(at) = of(heartbeat) {
                look.heartbeats[at] = heartbeat.changed;
            }
        }
        for heir in found(3) {
            if let Some(at) = of(heir) {
                look.heirs[at] = Some(text(heir));
            }
        }
        let (mut members, mut is_only_one) = (Vec::new(), true);
        for member in found(2) {
            let Some((_, name)) = member.key.rsplit_once('/') else { continue };
            let words: serde_json::Value = serde_json::from_slice(&member.value).unwrap_or_default();
            let word = |key: &str| words[key].as_str().unwrap_or_default().to_owned();
            let is_leaving = words["leaving"].as_bool().unwrap_or_default();
            // Its own is newer than that of a run before, or will be with the next heartbeat.
            let is_own = words["run"].as_str() == Some(self.run.to_string().as_str());
            is_only_one &= name != self.shards.member() || is_own || self.beats <= 1;
            look.members.insert(name.to_owned(), (member.changed, is_leaving));
            members.push(Member {
                name: name.to_owned(),
                advertise: word("advertise"),
                version: word("version"),
                is_alive: false,
                is_leaving,
            });
        }
        Seen { look, members, is_only_one }
    }

    /// Forgets what another one owns by now.
    fn forget_lost(&mut self) {
        let lost: Vec<Shard> =
            self.loaded.iter().copied().filter(|shard| self.journal.fence(*shard).is_none()).collect();
        for shard in lost {
            tracing::warn!(shard = shard.0, "another member has taken this shard over");
            self.shards.terms().end(shard);
            self.loads.quiesce();
            self.loads.unload(shard);
            self.loaded.remove(&shard);
        }
    }

    fn take(&mut self, shard: Shard, seen: Option<crate::daemon::journal::etcd::Seen>, reason: Reason) {
        if self.loaded.contains(&shard) {
            // It is still this one's own: the look is older than the heartbeat that waits for an answer.
            return;
        }
        let epoch = match self.journal.take(shard, seen) {
            Ok(epoch) => epoch,
            Err(JournalError::Fenced) => return,
            Err(error) => return tracing::warn!(shard = shard.0, %error, "a shard cannot be taken"),
        };
        match self.loads.load(shard, reason) {
            Ok(()) => {
                self.loaded.insert(shard);
                let Epoch(fence) = epoch;
                self.loads.begin(shard, &|| {
                    // It may have been lost while it was read.
                    if self.journal.fence(shard) == Some(fence) {
                        self.shards.terms().begin(shard, fence);
                    }
                });
                if let Some(count) = self.shards.counts.taken.get(reason as usize) {
                    Counts::one(count);
                }
                tracing::info!(shard = shard.0, reason = reason.as_str(), "this member decides a shard");
            }
            Err(error) => {
                tracing::error!(shard = shard.0, %error, "a shard that was taken cannot be read; it is given up again");
                let _ = self.journal.give_up(shard);
            }
        }
    }

    fn hand_over(&mut self, shard: Shard, to: &str) {
        if !self.loaded.contains(&shard) || to == self.shards.member() {
            return;
        }
        self.shards.terms().end(shard);
        self.loads.quiesce();
        match self.journal.hand_over(shard, Some(to)) {
            Ok(()) => tracing::info!(shard = shard.0, to, "a shard was handed over"),
            Err(error) => tracing::warn!(shard = shard.0, to, %error, "a shard was given up, and nobody was told"),
        }
        self.loads.unload(shard);
        self.loaded.remove(&shard);
    }

    fn tell_fault(&mut self, fault: Option<Fault>) {
        let text = fault.map(|fault| fault.to_string());
        match (&text, &self.fault) {
            (Some(why), None) => tracing::error!(why, "the store of the cluster has no answer"),
            (None, Some(_)) => {
                self.shards.settle_provisional();
                tracing::info!("the store of the cluster answers again");
            }
            _ => {}
        }
        self.fault = text;
    }
}

/// One reading.
struct Seen {
    look: Look,
    members: Vec<Member>,
    /// True unless another daemon shows itself by the name of this one.
    is_only_one: bool,
}

impl Seen {
    fn owners(self, steward: &Steward) -> Owners {
        let mut members = self.members;
        for member in &mut members {
            member.is_alive = steward.is_alive(&member.name);
        }
        Owners { members, of: self.look.owners.into_iter().map(|owner| owner.map(|(name, _)| name)).collect() }
    }
}
