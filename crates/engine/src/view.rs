//! Reading the table: tenants, subjects, sessions, nodes, pools. A reader copies out under one stripe's lock
//! at a time, and only what it will answer.

use std::collections::BinaryHeap;

use super::ending::record;
use super::entry::{NO_NODE, Session};
use super::session::{Changes, Code, Device, Direction, GoneRecord, Kind, Leg, Name, Now, Reason, Standing};
use super::sync::Ordering;
use super::table::Tenant;
use super::{Class, Engine, Slot};

/// One tenant, as one consistent cut of its seats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantView {
    /// Its id.
    pub id: Name,
    /// The number of its table. A tenant that was gone and is back has another, and all its sums begin at 0 again.
    pub generation: u64,
    /// The standing, which says if seats are given at all.
    pub standing: Standing,
    /// Q; `None` is unlimited.
    pub quota: Option<u32>,
    /// H.
    pub held: u32,
    /// Highest number of seats held in the present and the previous window.
    pub peak: u32,
    /// Highest number of seats held in the present window; its start counts.
    pub peak_now: u32,
    /// Live sessions, counting or not.
    pub sessions: u32,
    /// Trunk lines in use by inbound calls (L3).
    pub channels_inbound: u32,
    /// Trunk lines in use by outbound calls (L3).
    pub channels_outbound: u32,
    /// Trunk lines that its seats include; `None` is unlimited (L1).
    pub channels_limit: Option<u32>,
    /// Denials for want of a seat or of a subscription, since the start.
    pub denials: u64,
    /// Sum over all seats of the time they were held, milliseconds; `None` where the seats kept moving.
    pub seat_ms: Option<u64>,
    /// Time with no free seat, milliseconds; `None` as above.
    pub saturated_ms: Option<u64>,
    /// True if the configuration names it; otherwise it keeps its sessions until they end.
    pub configured: bool,
}

impl TenantView {
    /// Seats that may still be taken; `None` is unlimited.
    pub fn free(&self) -> Option<u32> {
        self.quota.map(|quota| quota.saturating_sub(self.held))
    }

    /// Seats held above the quota.
    pub fn over(&self) -> u32 {
        self.quota.map_or(0, |quota| self.held.saturating_sub(quota))
    }
}

/// One session, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of SessionRecord, owned")]
pub struct SessionView {
    pub session: Name,
    pub subject: Name,
    pub kind: Kind,
    pub direction: Option<Direction>,
    pub leg: Leg,
    pub device: Option<Device>,
    pub class: Option<Class>,
    pub counts: bool,
    pub external: bool,
    /// Its node is lost; the deadline is the end of its grace (G6).
    pub orphan: bool,
    pub node: Name,
    pub epoch: Option<u64>,
    pub seq: Option<u64>,
    pub first: Code,
    pub started_utc_ms: i64,
    /// Uptime milliseconds at which it ends by itself, apart from its node's lease; `None` for never.
    pub deadline_ms: Option<u64>,
}

/// One subject, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectView {
    /// Its id.
    pub subject: Name,
    /// True if it holds a seat.
    pub seated: bool,
    /// Sessions that count.
    pub claims: u32,
    /// Sessions in all.
    pub sessions: u32,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub node: Name,
    /// Its epoch; `None` where it never said hello: it has no lease.
    pub epoch: Option<u64>,
    /// True if it said hello and its lease holds.
    pub up: bool,
    /// True if goodbye is the last that was heard of it: its sessions have their grace (G6).
    pub left: bool,
    /// Uptime milliseconds of its last message; 0 for one without a lease.
    pub last_seen_ms: u64,
}

/// A provider pool's counters (F8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    /// Its id.
    pub id: Name,
    /// P.
    pub licensed: u32,
    /// Quotas of its tenants together, as far as they are limited.
    pub assigned: u64,
    /// Seats held by its tenants.
    pub in_use: u32,
}

impl PoolView {
    /// Licensed, but in no tenant's quota.
    pub fn unassigned(&self) -> u64 {
        u64::from(self.licensed).saturating_sub(self.assigned)
    }

    /// In a tenant's quota, but held by nobody.
    pub fn assigned_unused(&self) -> u64 {
        self.assigned.saturating_sub(u64::from(self.in_use))
    }

    /// Held above the capacity.
    pub fn over(&self) -> u32 {
        self.in_use.saturating_sub(self.licensed)
    }
}

/// Which sessions of a tenant to list.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only of this node.
    pub node: Option<Name>,
    /// Only those that count, or do not.
    pub counts: Option<bool>,
    /// Only of this subject.
    pub subject: Option<Name>,
}

impl Engine {
    /// One tenant; `None` where it is unknown.
    pub fn tenant(&self, now: Now, id: &str) -> Option<TenantView> {
        Some(tenant_view(now, self.world.load().tenants.get(id)?))
    }

    /// Sees every tenant, in no order; waits for no decision and holds none up.
    pub fn each_tenant(&self, now: Now, mut see: impl FnMut(&TenantView)) {
        for slot in self.world.load().tenants.values() {
            see(&tenant_view(now, slot));
        }
    }

    /// Begins a new window of peaks for every tenant; tells the peak of the one that ended.
    pub fn roll_peaks(&self, mut see: impl FnMut(&str, u32)) {
        for slot in self.world.load().tenants.values() {
            see(&slot.tenant.id, slot.tenant.seats.roll_peak());
        }
    }

    /// Sessions of a tenant after a key, sorted, at most `limit`; `None` for an unknown tenant.
    pub fn sessions(
        &self,
        tenant: &str,
        filter: &SessionFilter,
        after: &str,
        limit: usize,
    ) -> Option<Vec<SessionView>> {
        let world = self.world.load();
        let slot = world.tenants.get(tenant)?;
        let directory = self.nodes.directory();
        let node = match &filter.node {
            Some(name) => Some(directory.find(name)?.index),
            None => None,
        };
        let mut smallest = Smallest::new(limit);
        for stripe in &slot.tenant.stripes {
            let stripe = stripe.lock();
            for entry in stripe.entries.iter().filter(|entry| entry.is_live()) {
                let wanted = entry.name.as_str() > after
                    && filter.kind.is_none_or(|kind| kind == entry.kind)
                    && filter.counts.is_none_or(|counts| counts == entry.counts())
                    && node.is_none_or(|node| node == entry.node)
                    && filter.subject.as_ref().is_none_or(|name| slot.tenant.is_subject(entry.subject, name));
                if wanted && smallest.takes(&entry.name) {
                    smallest.push(entry.name.clone(), session_view(&slot.tenant, entry, directory.name(entry.node)));
                }
            }
        }
        Some(smallest.sorted())
    }

    /// Live sessions of all tenants in which a node has any: what a hello, a goodbye or an inventory of it walks through.
    pub fn sessions_beside(&self, node: &str) -> u32 {
        let Some(node) = self.nodes.directory().find(node).cloned() else { return 0 };
        let world = self.world.load();
        let theirs = world.tenants.values().filter(|slot| super::roster::has_node(&slot.tenant, &node));
        theirs.fold(0, |sum, slot| sum.saturating_add(slot.tenant.hot.sessions.load(Ordering::Relaxed)))
    }

    /// The live sessions of a subject by name, and whether a call is among them; `None` for an unknown tenant.
    pub fn sessions_of(&self, tenant: &str, subject: &str) -> Option<(Vec<Name>, bool)> {
        let world = self.world.load();
        let tenant = &world.tenants.get(tenant)?.tenant;
        let (mut names, mut calls) = (Vec::new(), false);
        for stripe in &tenant.stripes {
            for entry in stripe.lock().entries.iter().filter(|entry| entry.is_live()) {
                if tenant.is_subject(entry.subject, subject) {
                    calls |= entry.kind == Kind::Call;
                    names.push(entry.name.clone());
                }
            }
        }
        Some((names, calls))
    }

    /// One session; `None` where there is none.
    pub fn session(&self, tenant: &str, session: &str) -> Option<SessionView> {
        let world = self.world.load();
        let slot = world.tenants.get(tenant)?;
        let hash = slot.tenant.hash(session);
        let mut stripe = slot.tenant.stripe(hash).lock();
        let entry = stripe.find(hash, session).filter(|entry| entry.is_live())?;
        Some(session_view(&slot.tenant, entry, self.nodes.directory().name(entry.node)))
    }

    /// Subjects of a tenant after a key, sorted, at most `limit`; `None` for an unknown tenant.
    pub fn subjects(&self, tenant: &str, after: &str, limit: usize) -> Option<Vec<SubjectView>> {
        let world = self.world.load();
        let slot = world.tenants.get(tenant)?;
        let mut smallest = Smallest::new(limit);
        slot.tenant.each_subject(|name, claims, sessions, seated| {
            if name > after && smallest.takes(name) {
                let subject = Name::from(name);
                smallest.push(subject.clone(), SubjectView { subject, seated, claims, sessions });
            }
        });
        Some(smallest.sorted())
    }

    /// All nodes, in the order in which they became known.
    pub fn nodes(&self, now: Now) -> Vec<NodeView> {
        let (lease_ms, grace_ms) = {
            let world = self.world.load();
            (world.timers.lease_ms, world.timers.grace_ms)
        };
        let directory = self.nodes.directory();
        let view = |node: &std::sync::Arc<super::node::Node>| NodeView {
            node: node.name.clone(),
            epoch: node.epoch(),
            up: node.is_greeted() && !node.is_lost(now.uptime_ms, lease_ms),
            left: node.has_left(),
            last_seen_ms: if node.is_leased() { node.last_seen() } else { 0 },
        };
        let listed = directory.iter().filter(|node| !node.is_forgotten(now.uptime_ms, lease_ms, grace_ms));
        listed.map(view).collect()
    }

    /// All provider pools (F8).
    pub fn pools(&self) -> Vec<PoolView> {
        let world = self.world.load();
        let mut pools = Vec::with_capacity(world.pools.len());
        for pool in &world.pools {
            let mut assigned = 0;
            for slot in world.tenants.values() {
                let word = slot.tenant.seats.read();
                if word.gated() && slot.tenant.gate.lock().pool.as_ref().is_some_and(|own| own.id == pool.id) {
                    assigned += u64::from(word.quota().unwrap_or(0));
                }
            }
            let state = pool.state.lock();
            pools.push(PoolView { id: pool.id.clone(), licensed: state.seats, assigned, in_use: state.in_use });
        }
        pools
    }

    /// Live sessions of a kind that count, or that do not.
    pub fn session_count(&self, kind: Kind, counts: bool) -> u32 {
        self.shared.tally.sum(kind, counts)
    }

    /// Live sessions in all.
    pub fn session_total(&self) -> u32 {
        self.shared.tally.total()
    }

    /// Requests that met a limit of the daemon on sessions, since the start.
    pub fn limited_total(&self) -> u64 {
        self.shared.limited.load(Ordering::Relaxed)
    }

    /// Seats that were given back without being held, by tenants that are there: none, or the program has a fault.
    pub fn impossible_total(&self) -> u64 {
        self.world.load().tenants.values().map(|slot| u64::from(slot.tenant.seats.strays())).sum()
    }

    /// Tells everything that lives, for a checkpoint: nodes, sessions, tombstones. Decisions go on meanwhile;
    /// versions tell which of two records of one session is newer.
    pub fn snapshot(&self, now: Now, changes: &mut impl Changes) {
        let world = self.world.load();
        let directory = self.nodes.directory();
        for node in directory.iter() {
            if let Some(epoch) = node.epoch() {
                changes.node(&node.name, epoch);
            }
        }
        for slot in world.tenants.values() {
            self.snapshot_tenant(now, slot, changes);
        }
    }

    fn snapshot_tenant(&self, now: Now, slot: &Slot, changes: &mut impl Changes) {
        let tenant = &slot.tenant;
        let directory = self.nodes.directory();
        for stripe in &tenant.stripes {
            for entry in &stripe.lock().entries {
                let node = directory.name(entry.node);
                if entry.is_live() {
                    let (subject, group) = tenant.subject_and_group(entry.subject);
                    let group = tenant.group_name(group);
                    changes.put(&record(&tenant.id, entry, &subject, &group, node), false);
                } else if let (Some(stamp), true, true) =
                    (entry.stamp(), entry.deadline > now.uptime_ms, entry.node == NO_NODE || !node.is_empty())
                {
                    changes.gone(&GoneRecord {
                        tenant: &tenant.id,
                        session: &entry.name,
                        subject: "",
                        kind: entry.kind,
                        counts: false,
                        reason: Reason::Node,
                        freed: false,
                        was_live: false,
                        tombstone: Some((node, stamp)),
                        version: entry.version,
                    });
                }
            }
            changes.between();
        }
    }
}

fn tenant_view(now: Now, slot: &Slot) -> TenantView {
    let tenant = &slot.tenant;
    let usage = tenant.seats.usage(now.uptime_ms);
    let word = usage.map_or_else(|| tenant.seats.read(), |usage| usage.word);
    let channels = |at: usize| tenant.hot.channels[at].load(Ordering::Relaxed);
    TenantView {
        id: tenant.id.clone(),
        generation: tenant.generation,
        standing: Standing::from_number(word.standing()).unwrap_or(Standing::Active),
        quota: word.quota(),
        held: word.held(),
        peak: tenant.seats.peak().max(word.held()),
        peak_now: tenant.seats.peak_now().max(word.held()),
        sessions: tenant.hot.sessions.load(Ordering::Relaxed),
        channels_inbound: channels(0),
        channels_outbound: channels(1),
        channels_limit: word.quota().map(|quota| slot.policy.channels(quota)),
        denials: tenant.hot.denials.load(Ordering::Relaxed),
        seat_ms: usage.map(|usage| usage.seat_ms),
        saturated_ms: usage.map(|usage| usage.saturated_ms),
        configured: slot.configured,
    }
}

fn session_view(tenant: &Tenant, entry: &Session, node: &str) -> SessionView {
    SessionView {
        session: entry.name.clone(),
        subject: tenant.subject_name(entry.subject),
        kind: entry.kind,
        direction: entry.direction,
        leg: entry.leg,
        device: entry.device,
        class: entry.class,
        counts: entry.counts(),
        external: entry.external(),
        orphan: entry.is_orphan(),
        node: Name::from(node),
        epoch: entry.epoch(),
        seq: entry.stamp().map(|stamp| stamp.seq),
        first: entry.first,
        started_utc_ms: entry.started_utc_ms,
        deadline_ms: (entry.deadline != u64::MAX).then_some(entry.deadline),
    }
}

/// The smallest so many of a stream of keys, so that a page copies no more than it shows.
struct Smallest<T> {
    limit: usize,
    heap: BinaryHeap<Keyed<T>>,
}

struct Keyed<T>(Name, T);

impl<T> PartialEq for Keyed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Keyed<T> {}

impl<T> PartialOrd for Keyed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Keyed<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T> Smallest<T> {
    fn new(limit: usize) -> Self {
        Smallest { limit, heap: BinaryHeap::new() }
    }

    fn takes(&self, key: &str) -> bool {
        self.heap.len() < self.limit || self.heap.peek().is_some_and(|largest| key < largest.0.as_str())
    }

    fn push(&mut self, key: Name, value: T) {
        self.heap.push(Keyed(key, value));
        if self.heap.len() > self.limit {
            self.heap.pop();
        }
    }

    fn sorted(self) -> Vec<T> {
        self.heap.into_sorted_vec().into_iter().map(|keyed| keyed.1).collect()
    }
}
