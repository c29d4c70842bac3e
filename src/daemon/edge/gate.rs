//! The admission of connections: caps in all and per address, with a share kept for nodes.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::address::address_key;
use super::conduct::Conduct;
use super::limits::Limits;
use super::stats::Refusal;
use crate::daemon::clock::monotonic_ns;

/// Counts the open connections of all listeners and cores, and knows the addresses of nodes.
#[derive(Debug)]
pub struct Gate {
    counts: Mutex<Counts>,
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

#[derive(Debug)]
struct Counts {
    caps: Caps,
    all: u32,
    strangers: u32,
    by_address: HashMap<IpAddr, u32>,
    /// Node addresses, with a number that grows each time one is heard from anew.
    nodes: HashMap<IpAddr, u64>,
    heard: u64,
}

impl Counts {
    fn hear(&mut self, key: IpAddr) {
        self.heard += 1;
        if self.nodes.len() >= self.caps.nodes && !self.nodes.contains_key(&key) {
            let oldest = self.nodes.iter().min_by_key(|(_, heard)| **heard).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.nodes.remove(&oldest);
            }
        }
        self.nodes.insert(key, self.heard);
    }
}

impl Gate {
    /// A gate with the caps of these limits.
    pub fn new(limits: &Limits) -> Self {
        let counts = Counts {
            caps: Caps::of(limits),
            all: 0,
            strangers: 0,
            by_address: HashMap::new(),
            nodes: HashMap::new(),
            heard: 0,
        };
        Gate { counts: Mutex::new(counts), conduct: Conduct::default() }
    }

    /// Other caps from now on; who is in stays in.
    pub(super) fn set_limits(&self, limits: &Limits) {
        self.counts.lock().caps = Caps::of(limits);
    }

    /// Lets a connection in until its pass is dropped. `None` is a peer on the Unix socket, which is
    /// trusted as a node.
    ///
    /// # Errors
    /// The limit that was full.
    pub fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Pass, Refusal> {
        let key = address.map(address_key);
        let mut counts = self.counts.lock();
        let (node, caps) = (key.is_none_or(|key| counts.nodes.contains_key(&key)), counts.caps);
        if counts.all >= caps.all || (!node && counts.strangers >= caps.strangers) {
            return Err(Refusal::Full);
        }
        if let Some(key) = key {
            let open = counts.by_address.entry(key).or_insert(0);
            let most = if node { caps.per_node } else { caps.per_address };
            if *open >= most {
                if *open == 0 {
                    counts.by_address.remove(&key);
                }
                return Err(Refusal::Address);
            }
            *open += 1;
        }
        counts.all += 1;
        counts.strangers += u32::from(!node);
        drop(counts);
        Ok(Pass { gate: Arc::clone(self), key, node: Rc::new(Cell::new(node)), heard: Cell::new(false) })
    }

    /// Open connections in all.
    pub fn open(&self) -> u32 {
        self.counts.lock().all
    }

    /// How many addresses of nodes it remembers.
    pub fn node_addresses_max(&self) -> usize {
        self.counts.lock().caps.nodes
    }

    /// True if a node was heard from at this address.
    pub fn knows_node(&self, address: IpAddr) -> bool {
        self.counts.lock().nodes.contains_key(&address_key(address))
    }

    /// Takes addresses for those of nodes, as of an earlier run, in the order in which they were heard; the number of
    /// the last one, for [`Gate::heard_since`].
    pub fn recall(&self, addresses: impl IntoIterator<Item = IpAddr>) -> u64 {
        let mut counts = self.counts.lock();
        addresses.into_iter().for_each(|address| counts.hear(address_key(address)));
        counts.heard
    }

    /// The addresses of nodes that were heard after a number, and the number of the last one.
    pub fn heard_since(&self, number: u64) -> (u64, Vec<IpAddr>) {
        let counts = self.counts.lock();
        if counts.heard == number {
            return (number, Vec::new());
        }
        let nodes = counts.nodes.iter().filter(|(_, heard)| **heard > number);
        (counts.heard, nodes.map(|(address, _)| *address).collect())
    }

    fn remember(&self, pass: &Pass) {
        let mut counts = self.counts.lock();
        if !pass.node.replace(true) {
            counts.strangers = counts.strangers.saturating_sub(1);
        }
        if let Some(key) = pass.key {
            counts.hear(key);
        }
    }

    fn leave(&self, pass: &Pass) {
        let mut counts = self.counts.lock();
        counts.all = counts.all.saturating_sub(1);
        if !pass.node.get() {
            counts.strangers = counts.strangers.saturating_sub(1);
        }
        let Some(key) = pass.key else { return };
        if let Some(open) = counts.by_address.get_mut(&key) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                counts.by_address.remove(&key);
            }
        }
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
        assert!(gate.counts.lock().by_address.is_empty());
        assert_eq!(gate.counts.lock().strangers, 0);
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
}
