//! The nodes that ask: their epochs and leases, and when their names are forgotten (G6, G8, G9).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::cell::NEVER;
use super::plan::Timers;
use super::session::Name;
use super::shared::{Shared, lower};
use super::sync::{AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering};

const LEASED: u32 = 1;
const GREETED: u32 = 2;
/// A node that was silent for so long is not listed any more, milliseconds.
const FORGOTTEN_MS: u64 = 86_400_000;
/// From so many parts of four of the limit on, the names of silent nodes are forgotten as soon as may be.
const CROWDED_QUARTERS: usize = 3;

/// One PBX server.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) index: u32,
    pub(crate) name: Name,
    epoch: AtomicU64,
    flags: AtomicU32,
    /// Uptime milliseconds of its last message; its lease counts from here.
    last_seen: AtomicU64,
    /// The `last_seen` for which its sessions were orphaned; [`NEVER`] while its lease holds.
    swept_for: AtomicU64,
    /// When it said goodbye; [`NEVER`] where it did not, or greeted again since. A message that was on its way
    /// meanwhile does not take it back.
    left_at: AtomicU64,
    /// Hello, goodbye, inventory and loss of one node come one after the other (I19).
    work: Mutex<()>,
}

impl Node {
    /// True if it said hello or sent a heartbeat: then its lease keeps its sessions.
    pub(crate) fn is_leased(&self) -> bool {
        self.flags.load(Ordering::Acquire) & LEASED != 0
    }

    /// True if it said hello, or sent an inventory, since it was last lost.
    pub(crate) fn is_greeted(&self) -> bool {
        self.flags.load(Ordering::Acquire) & GREETED != 0
    }

    /// Its current epoch, where it has one.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.is_leased().then(|| self.epoch.load(Ordering::SeqCst))
    }

    /// True if a message of this epoch comes from before its last start (I18).
    pub(crate) fn is_past(&self, epoch: Option<u64>) -> bool {
        matches!((epoch, self.epoch()), (Some(message), Some(current)) if message < current)
    }

    /// A message came: the lease begins anew.
    pub(crate) fn touch(&self, now_ms: u64, epoch: Option<u64>, lease_ms: u64, shared: &Shared) {
        if self.is_past(epoch) {
            return;
        }
        if self.last_seen.load(Ordering::Relaxed) < now_ms {
            self.last_seen.fetch_max(now_ms, Ordering::AcqRel);
        }
        if !self.is_leased() {
            return;
        }
        if self.swept_for.load(Ordering::Acquire) != NEVER {
            self.swept_for.store(NEVER, Ordering::Release);
            lower(&shared.due, now_ms + lease_ms);
        }
    }

    /// Begins an epoch, with a lease from now on.
    pub(crate) fn begin(&self, now_ms: u64, epoch: u64, greeted: bool, lease_ms: u64, shared: &Shared) {
        self.epoch.store(epoch, Ordering::SeqCst);
        self.last_seen.fetch_max(now_ms, Ordering::AcqRel);
        self.swept_for.store(NEVER, Ordering::Release);
        self.left_at.store(NEVER, Ordering::Release);
        self.flags.store(LEASED | if greeted { GREETED } else { 0 }, Ordering::SeqCst);
        lower(&shared.due, now_ms + lease_ms);
    }

    pub(crate) fn greet(&self, greeted: bool) {
        if greeted {
            self.left_at.store(NEVER, Ordering::Release);
            self.flags.fetch_or(GREETED, Ordering::AcqRel);
        } else {
            self.flags.fetch_and(!GREETED, Ordering::AcqRel);
        }
    }

    /// When its lease ends, if that is still to come and matters.
    pub(crate) fn lease_ends(&self, lease_ms: u64) -> Option<u64> {
        let seen = self.last_seen.load(Ordering::Acquire);
        (self.is_leased() && self.swept_for.load(Ordering::Acquire) != seen).then(|| seen + lease_ms)
    }

    /// Marks its present silence as dealt with. Before its sessions are swept: a message that comes
    /// meanwhile takes the mark back.
    pub(crate) fn mark_swept(&self) {
        self.swept_for.store(self.last_seen.load(Ordering::Acquire), Ordering::Release);
    }

    pub(crate) fn is_lost(&self, now_ms: u64, lease_ms: u64) -> bool {
        self.last_seen.load(Ordering::Acquire) + lease_ms <= now_ms
    }

    /// It said goodbye at this instant.
    pub(crate) fn leave(&self, now_ms: u64) {
        self.left_at.store(now_ms, Ordering::Release);
    }

    /// True if goodbye is the last that was heard of it.
    pub(crate) fn has_left(&self) -> bool {
        self.left_at.load(Ordering::Acquire) != NEVER
    }

    /// True if nobody waits for it any more: it left and its sessions' grace is over, or it is silent for a day.
    pub(crate) fn is_forgotten(&self, now_ms: u64, lease_ms: u64, grace_ms: u64) -> bool {
        let gone_at = self.left_at.load(Ordering::Acquire).saturating_add(grace_ms);
        gone_at <= now_ms || self.is_leased() && self.is_lost(now_ms, lease_ms.max(FORGOTTEN_MS))
    }

    /// When its name may be forgotten, if nothing is heard of it and nothing stands on it: after its lease, the grace
    /// of its sessions and the time of their tombstones. The epoch of who had a lease is kept as long as there is
    /// room for others.
    pub(crate) fn forgettable_at(&self, timers: &Timers, crowded: bool) -> u64 {
        let heard = match self.left_at.load(Ordering::Acquire) {
            NEVER => self.last_seen(),
            left_at => left_at.max(self.last_seen()),
        };
        let soon = heard.saturating_add(timers.lease_ms + timers.grace_ms + timers.tombstone_ms);
        if self.is_leased() && !crowded { NEVER } else { soon }
    }

    /// Takes its lease away, so that what is stored from now on lives by its own time; answers what it had.
    pub(crate) fn disown(&self) -> u32 {
        self.flags.swap(0, Ordering::SeqCst)
    }

    /// Gives back what was taken.
    pub(crate) fn own_again(&self, flags: u32) {
        self.flags.fetch_or(flags, Ordering::SeqCst);
    }

    pub(crate) fn last_seen(&self) -> u64 {
        self.last_seen.load(Ordering::Acquire)
    }

    pub(crate) fn work(&self) -> MutexGuard<'_, ()> {
        self.work.lock()
    }
}

/// All nodes; reading waits for nobody.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    known: Arc<ArcSwap<Directory>>,
    grow: Mutex<()>,
}

/// Nodes by name and by index. An index is never given twice, so that what stands on a forgotten node belongs to
/// nobody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directory {
    by_name: HashMap<Name, Arc<Node>, foldhash::fast::RandomState>,
    by_index: BTreeMap<u32, Arc<Node>>,
    next_index: u32,
}

impl Directory {
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Node>> {
        self.by_name.get(name)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Arc<Node>> {
        self.by_index.get(&index)
    }

    /// A node's name by its index; empty for none.
    pub(crate) fn name(&self, index: u32) -> &str {
        self.get(index).map_or("", |node| &node.name)
    }

    /// All nodes, in the order in which they became known.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.by_index.values()
    }

    /// Makes a node known under a number that no other one ever had; `None` where there is none left.
    fn put(&mut self, name: &str, now_ms: u64) -> Option<Arc<Node>> {
        let index = self.next_index;
        // The last number stands for no node.
        self.next_index = index.checked_add(1)?;
        let node = Arc::new(Node {
            index,
            name: Name::from(name),
            epoch: AtomicU64::new(0),
            flags: AtomicU32::new(0),
            last_seen: AtomicU64::new(now_ms),
            swept_for: AtomicU64::new(NEVER),
            left_at: AtomicU64::new(NEVER),
            work: Mutex::new(()),
        });
        self.by_name.insert(node.name.clone(), Arc::clone(&node));
        self.by_index.insert(index, Arc::clone(&node));
        Some(node)
    }

    /// True if so many nodes have a lease that the names of silent ones must make room.
    pub(crate) fn is_crowded(&self, nodes_max: u32) -> bool {
        let leased = self.iter().filter(|node| node.is_leased()).count();
        leased * 4 >= nodes_max as usize * CROWDED_QUARTERS
    }
}

impl Nodes {
    pub(crate) fn directory(&self) -> arc_swap::Guard<Arc<Directory>> {
        self.known.load()
    }

    /// The directory as it changes, for a thread to keep what it saw of it.
    pub(crate) fn shared(&self) -> Arc<ArcSwap<Directory>> {
        Arc::clone(&self.known)
    }

    /// The directory in which a message's node stands, made known if need be.
    pub(crate) fn known_with<'v>(
        &self,
        kept: &'v mut Cache<Arc<ArcSwap<Directory>>, Arc<Directory>>,
        name: Option<&str>,
        now_ms: u64,
        shared: &Shared,
    ) -> &'v Directory {
        if let Some(name) = name
            && kept.load().find(name).is_none()
        {
            self.find_or_add(name, now_ms, shared);
        }
        kept.load()
    }

    /// The node of this name that is about to get a lease; `None` where the limit on nodes is reached.
    pub(crate) fn find_or_enrol(&self, name: &str, now_ms: u64, shared: &Shared) -> Option<Arc<Node>> {
        let directory = self.known.load();
        if let Some(node) = directory.find(name).filter(|node| node.is_leased()) {
            return Some(Arc::clone(node));
        }
        let leased = directory.iter().filter(|node| node.is_leased()).count();
        if leased >= shared.limits.nodes_max as usize { None } else { self.add(name, u32::MAX, now_ms) }
    }

    /// The node of this name, made known if need be; `None` where too many names are known that never got a
    /// lease: they must not keep a node out that says hello.
    pub(crate) fn find_or_add(&self, name: &str, now_ms: u64, shared: &Shared) -> Option<Arc<Node>> {
        if let Some(node) = self.known.load().find(name) {
            return Some(Arc::clone(node));
        }
        let node = self.add(name, shared.limits.nodes_max, now_ms)?;
        // Somebody must look when the name may go.
        lower(&shared.due, now_ms + 1);
        Some(node)
    }

    fn add(&self, name: &str, strays_max: u32, now_ms: u64) -> Option<Arc<Node>> {
        let _one_at_a_time = self.grow.lock();
        let known = self.known.load();
        if let Some(node) = known.find(name) {
            return Some(Arc::clone(node));
        }
        let strays = known.iter().filter(|node| !node.is_leased()).count();
        if strays >= strays_max as usize {
            return None;
        }
        let mut grown = Directory::clone(&known);
        let node = grown.put(name, now_ms)?;
        self.known.store(Arc::new(grown));
        Some(node)
    }

    /// Puts a node that never said anything in the place of another one; `None` where it has no place any more.
    pub(crate) fn replace(&self, old: &Node, now_ms: u64) -> Option<Arc<Node>> {
        let _one_at_a_time = self.grow.lock();
        let mut changed = Directory::clone(&self.known.load());
        changed.by_index.remove(&old.index)?;
        let heir = changed.put(&old.name, now_ms)?;
        self.known.store(Arc::new(changed));
        Some(heir)
    }

    /// Makes all of these known at once; what is known already stays as it is.
    pub(crate) fn add_all<'a>(&self, names: impl Iterator<Item = &'a str>, now_ms: u64) {
        let _one_at_a_time = self.grow.lock();
        let mut grown = Directory::clone(&self.known.load());
        for name in names {
            if grown.find(name).is_none() {
                grown.put(name, now_ms);
            }
        }
        self.known.store(Arc::new(grown));
    }

    /// Forgets nodes: their names, epochs and numbers.
    pub(crate) fn remove(&self, gone: &[Arc<Node>]) {
        let _one_at_a_time = self.grow.lock();
        let mut left = Directory::clone(&self.known.load());
        for node in gone {
            if left.by_index.remove(&node.index).is_some() {
                left.by_name.remove(&node.name);
            }
        }
        self.known.store(Arc::new(left));
    }
}
