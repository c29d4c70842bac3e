//! The admission of connections: caps in all and per address, with a share kept for nodes.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::{DashMap, Entry};
use parking_lot::Mutex;

use super::address::address_key;
use super::conduct::Conduct;
use super::limits::Limits;
use super::stats::Refusal;
use crate::daemon::clock::monotonic_ns;

/// Counts the open connections of all listeners and cores, and knows the addresses of nodes.
#[derive(Debug)]
pub struct Gate {
    caps: ArcSwap<Caps>,
    /// [`Open`] in one word: both of its limits hold in one step.
    open: AtomicU64,
    by_address: DashMap<IpAddr, u32>,
    nodes: Nodes,
    conduct: Conduct,
}

/// How many connections there may be of each kind.
#[derive(Clone, Copy, Debug)]
struct Caps {
    strangers: u32,
    all: u32,
    per_address: u32,
    per_node: u32,
    nodes: usize,
}

impl Caps {
    fn of(limits: &Limits) -> Self {
        Caps {
            strangers: limits.connections_max.saturating_sub(limits.connections_reserved_for_nodes),
            all: limits.connections_max,
            per_address: limits.connections_per_address_max,
            per_node: limits.connections_per_node_max,
            nodes: limits.node_addresses_max.max(1),
        }
    }
}

/// Open connections.
#[derive(Clone, Copy, Debug)]
struct Open {
    all: u32,
    /// Those that are no node's.
    strangers: u32,
}

impl Open {
    fn of(word: u64) -> Self {
        Open { all: word as u32, strangers: (word >> 32) as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.strangers) << 32 | u64::from(self.all)
    }

    /// One more; `None` where it has no room.
    fn with(self, node: bool, caps: &Caps) -> Option<Self> {
        let has_room = self.all < caps.all && (node || self.strangers < caps.strangers);
        has_room.then(|| Open { all: self.all + 1, strangers: self.strangers + u32::from(!node) })
    }

    fn without(self, node: bool) -> Self {
        let strangers = self.strangers.saturating_sub(u32::from(!node));
        Open { all: self.all.saturating_sub(1), strangers }
    }

    fn with_node_for_stranger(self) -> Self {
        Open { strangers: self.strangers.saturating_sub(1), ..self }
    }
}

/// Addresses of nodes, each with a number that grows whenever one is heard from anew. Every connection looks an address
/// up; who adds one takes turns, so that the limit is exact and the one that goes is the oldest.
#[derive(Debug, Default)]
struct Nodes {
    heard: DashMap<IpAddr, u64>,
    turn: Mutex<Turn>,
}

/// The right to add addresses.
#[derive(Debug, Default)]
struct Turn {
    /// Addresses that are known.
    known: usize,
    /// The last number.
    last: u64,
}

impl Nodes {
    /// Hears addresses in their order; the number of the last one.
    fn hear(&self, addresses: impl IntoIterator<Item = IpAddr>, most: usize) -> u64 {
        let mut turn = self.turn.lock();
        for address in addresses {
            turn.last += 1;
            if turn.known >= most && !self.heard.contains_key(&address) {
                let oldest = self.heard.iter().map(|node| (*node.value(), *node.key())).min();
                let gone = oldest.and_then(|(_, oldest)| self.heard.remove(&oldest));
                turn.known -= usize::from(gone.is_some());
            }
            turn.known += usize::from(self.heard.insert(address, turn.last).is_none());
        }
        turn.last
    }

    /// Those that were heard after a number, and the number of the last one.
    fn since(&self, number: u64) -> (u64, Vec<IpAddr>) {
        let turn = self.turn.lock();
        if turn.last == number {
            return (number, Vec::new());
        }
        let later = self.heard.iter().filter(|node| *node.value() > number);
        (turn.last, later.map(|node| *node.key()).collect())
    }
}

impl Gate {
    /// A gate with the caps of these limits.
    pub fn new(limits: &Limits) -> Self {
        Gate {
            caps: ArcSwap::from_pointee(Caps::of(limits)),
            open: AtomicU64::new(0),
            by_address: DashMap::new(),
            nodes: Nodes::default(),
            conduct: Conduct::default(),
        }
    }

    /// Other caps from now on; who is in stays in.
    pub(super) fn set_limits(&self, limits: &Limits) {
        self.caps.store(Arc::new(Caps::of(limits)));
    }

    /// Lets a connection in until its pass is dropped. `None` is a peer on the Unix socket, which is
    /// trusted as a node.
    ///
    /// # Errors
    /// The limit that was full.
    pub fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Pass, Refusal> {
        let key = address.map(address_key);
        let node = key.is_none_or(|key| self.nodes.heard.contains_key(&key));
        let caps = **self.caps.load();
        let enter = || match self.change_open(|open| open.with(node, &caps)) {
            true => Ok(()),
            false => Err(Refusal::Full),
        };
        // Who finds no room at all is not told of its address.
        if self.open_now().with(node, &caps).is_none() {
            return Err(Refusal::Full);
        }
        match key {
            None => enter()?,
            Some(key) => {
                let most = if node { caps.per_node } else { caps.per_address };
                // The address stays locked until the connection counts.
                match self.by_address.entry(key) {
                    Entry::Occupied(open) if *open.get() >= most => return Err(Refusal::Address),
                    Entry::Vacant(_) if most == 0 => return Err(Refusal::Address),
                    entry => {
                        enter()?;
                        *entry.or_insert(0) += 1;
                    }
                }
            }
        }
        Ok(Pass { gate: Arc::clone(self), key, node: Rc::new(Cell::new(node)), heard: Cell::new(false) })
    }

    /// Open connections in all.
    pub fn open(&self) -> u32 {
        self.open_now().all
    }

    /// How many addresses of nodes it remembers.
    pub fn node_addresses_max(&self) -> usize {
        self.caps.load().nodes
    }

    /// True if a node was heard from at this address.
    pub fn knows_node(&self, address: IpAddr) -> bool {
        self.nodes.heard.contains_key(&address_key(address))
    }

    /// Takes addresses for those of nodes, as of an earlier run, in the order in which they were heard; the number of
    /// the last one, for [`Gate::heard_since`].
    pub fn recall(&self, addresses: impl IntoIterator<Item = IpAddr>) -> u64 {
        self.nodes.hear(addresses.into_iter().map(address_key), self.node_addresses_max())
    }

    /// The addresses of nodes that were heard after a number, and the number of the last one.
    pub fn heard_since(&self, number: u64) -> (u64, Vec<IpAddr>) {
        self.nodes.since(number)
    }

    fn open_now(&self) -> Open {
        Open::of(self.open.load(Ordering::Acquire))
    }

    /// Changes what is open in one step; `false` where the change cannot be.
    fn change_open(&self, change: impl Fn(Open) -> Option<Open>) -> bool {
        let change = |word| change(Open::of(word)).map(Open::word);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok()
    }

    fn remember(&self, pass: &Pass) {
        if !pass.node.replace(true) {
            self.change_open(|open| Some(open.with_node_for_stranger()));
        }
        if let Some(key) = pass.key {
            self.nodes.hear([key], self.node_addresses_max());
        }
    }

    fn leave(&self, pass: &Pass) {
        self.change_open(|open| Some(open.without(pass.node.get())));
        let Some(key) = pass.key else { return };
        self.by_address.remove_if_mut(&key, |_, open| {
            *open = open.saturating_sub(1);
            *open == 0
        });
    }
}

/// The right to one open connection.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    key: Option<IpAddr>,
    node: Rc<Cell<bool>>,
    /// A node was heard on this very connection.
    heard: Cell<bool>,
}

impl Pass {
    /// True if the connection counts as a node's.
    pub fn is_node(&self) -> bool {
        self.node.get()
    }

    /// How much later the connection is heard because its address was cut off lately; a node's never is.
    pub(super) fn delay(&self) -> Duration {
        match self.key {
            Some(address) if !self.is_node() => self.gate.conduct.delay(address, now_ms()),
            _ => Duration::ZERO,
        }
    }

    /// The connection was cut off for what its client did: the next ones of its address wait.
    pub(super) fn cut_off(&self) {
        if let Some(address) = self.key.filter(|_| !self.is_node()) {
            self.gate.conduct.cut(address, now_ms());
        }
    }

    /// The flag behind [`Self::is_node`], to be looked at again and again.
    pub(super) fn node_flag(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.node)
    }

    /// A node was heard from: its address may use the reserved share from now on.
    pub fn mark_node(&self) {
        if !self.heard.replace(true) {
            self.gate.remember(self);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.leave(self);
    }
}

fn now_ms() -> u64 {
    monotonic_ns() / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    fn gate(all: u32, reserved: u32, per_address: u32) -> Arc<Gate> {
        Arc::new(Gate::new(&Limits {
            connections_max: all,
            connections_reserved_for_nodes: reserved,
            connections_per_address_max: per_address,
            connections_per_node_max: all,
            node_addresses_max: 2,
            ..Limits::default()
        }))
    }

    fn ip(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn strangers_leave_the_reserved_share_to_nodes() {
        let gate = gate(4, 2, 9);
        let node = gate.admit(ip(1)).unwrap();
        node.mark_node();
        let strangers = [gate.admit(ip(2)).unwrap(), gate.admit(ip(3)).unwrap()];
        assert_eq!(gate.admit(ip(4)).unwrap_err(), Refusal::Full);
        let again = gate.admit(ip(1)).unwrap();
        assert!(again.is_node());
        assert_eq!(gate.admit(None).unwrap_err(), Refusal::Full);
        drop(strangers);
        assert_eq!(gate.open(), 2);
        drop((node, again));
        assert_eq!(gate.open(), 0);
        assert!(gate.by_address.is_empty());
        assert_eq!(gate.open_now().strangers, 0);
    }

    #[test]
    fn other_caps_hold_for_who_comes_next() {
        let gate = gate(10, 0, 1);
        let _one = gate.admit(ip(1)).unwrap();
        assert_eq!(gate.admit(ip(1)).unwrap_err(), Refusal::Address);
        gate.set_limits(&Limits { connections_max: 2, connections_reserved_for_nodes: 0, ..Limits::default() });
        let _two = gate.admit(ip(1)).unwrap();
        assert_eq!(gate.admit(ip(1)).unwrap_err(), Refusal::Full);
    }

    #[test]
    fn one_address_cannot_take_all() {
        let gate = gate(10, 0, 2);
        let _two = [gate.admit(ip(1)).unwrap(), gate.admit(ip(1)).unwrap()];
        assert_eq!(gate.admit(ip(1)).unwrap_err(), Refusal::Address);
        assert!(gate.admit(ip(2)).is_ok());
    }

    #[test]
    fn the_node_not_heard_from_for_longest_is_forgotten() {
        let gate = gate(10, 0, 9);
        for last in 1..=3 {
            gate.admit(ip(last)).unwrap().mark_node();
        }
        assert!(!gate.knows_node(ip(1).unwrap()));
        assert!(gate.knows_node(ip(2).unwrap()) && gate.knows_node(ip(3).unwrap()));
    }

    #[test]
    fn every_limit_is_exact_while_threads_come_and_go() {
        let gate = gate(6, 2, 2);
        gate.admit(ip(9)).unwrap().mark_node();
        let inside = [const { AtomicU32::new(0) }; 3];
        let work = |seed: u64| {
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..5_000 {
                let last = [1, 2, 3, 9][random.usize(0..4)];
                let Ok(pass) = gate.admit(ip(last)) else { continue };
                let [all, strangers, own] = &inside;
                assert!(all.fetch_add(1, Ordering::SeqCst) < 6);
                assert!(pass.is_node() || strangers.fetch_add(1, Ordering::SeqCst) < 4);
                assert!(last != 1 || own.fetch_add(1, Ordering::SeqCst) < 2);
                all.fetch_sub(1, Ordering::SeqCst);
                strangers.fetch_sub(u32::from(!pass.is_node()), Ordering::SeqCst);
                own.fetch_sub(u32::from(last == 1), Ordering::SeqCst);
            }
        };
        let work = &work;
        std::thread::scope(|scope| (0..8).for_each(|seed| _ = scope.spawn(move || work(seed))));
        assert_eq!((gate.open(), gate.open_now().strangers), (0, 0));
        assert!(gate.by_address.is_empty());
    }
}
