//! Reading the table: tenants, subjects, sessions, nodes, pools. A reader copies some cells at a time under a lock, and
//! only those that it may show; it looks at the copies while it holds none.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::cell::{Cell, NO_NODE, RecordNames};
use super::holds::{HoldTimes, Work};
use super::ids::{Ids, Tombstone};
use super::key::UUID_TEXT;
use super::session::{Changes, Code, Device, Direction, GoneRecord, Kind, Leg, Name, Now, Reason, Standing};
use super::sync::Ordering;
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
        let subject = filter.subject.as_ref().map(|subject| slot.tenant.asked(subject));
        let smallest = RefCell::new(Smallest::new(limit));
        let wants = |cell: &Cell| {
            cell.is_live()
                && filter.kind.is_none_or(|kind| kind == cell.kind)
                && filter.counts.is_none_or(|counts| counts == cell.counts())
                && node.is_none_or(|node| node == cell.node)
                && subject.as_ref().is_none_or(|subject| subject.is(&cell.subject))
                && smallest.borrow().takes(after, cell.session.text(&mut [0; UUID_TEXT]))
        };
        slot.tenant.walk(Work::List, wants, |cell| {
            let view = session_view(cell, directory.name(cell.node));
            smallest.borrow_mut().push(view.session.clone(), view);
        });
        Some(smallest.into_inner().sorted())
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
        let subject = tenant.asked(subject);
        let (mut names, mut calls) = (Vec::new(), false);
        tenant.walk(
            Work::List,
            |cell| cell.is_live() && subject.is(&cell.subject),
            |cell| {
                calls |= cell.kind == Kind::Call;
                names.push(cell.session.name());
            },
        );
        Some((names, calls))
    }

    /// One session; `None` where there is none.
    pub fn session(&self, tenant: &str, session: &str) -> Option<SessionView> {
        let world = self.world.load();
        let slot = world.tenants.get(tenant)?;
        let id = slot.tenant.asked(session);
        let mut hold = slot.tenant.hold(&id);
        let cell = hold.find(&id).map(|at| hold.here().cell(at).clone())?;
        drop(hold);
        Some(session_view(&cell, self.nodes.directory().name(cell.node)))
    }

    /// Subjects of a tenant after a key, sorted, at most `limit`; `None` for an unknown tenant.
    pub fn subjects(&self, tenant: &str, after: &str, limit: usize) -> Option<Vec<SubjectView>> {
        let world = self.world.load();
        let slot = world.tenants.get(tenant)?;
        let smallest = RefCell::new(Smallest::new(limit));
        let takes = |cell: &Cell| smallest.borrow().takes(after, cell.subject.text(&mut [0; UUID_TEXT]));
        slot.tenant.walk(
            Work::List,
            |cell| cell.is_home() && takes(cell),
            |home| {
                let (subject, seated) = (home.subject.name(), home.is_seated());
                let view = SubjectView { subject, seated, claims: home.claims, sessions: home.sessions };
                smallest.borrow_mut().push(view.subject.clone(), view);
            },
        );
        Some(smallest.into_inner().sorted())
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

    /// Live sessions by kind: those that do not count, and those that do.
    pub fn sessions_by_kind(&self) -> [[u32; 2]; Kind::ALL.len()] {
        let mut all = [[0; 2]; Kind::ALL.len()];
        for slot in self.world.load().tenants.values() {
            for kind in Kind::ALL {
                for counts in [false, true] {
                    all[*kind as usize][usize::from(counts)] += slot.tenant.sessions_of_kind(*kind, counts);
                }
            }
        }
        all
    }

    /// Live sessions of a kind that count, or that do not.
    pub fn session_count(&self, kind: Kind, counts: bool) -> u32 {
        self.sessions_by_kind()[kind as usize][usize::from(counts)]
    }

    /// Live sessions in all.
    pub fn session_total(&self) -> u32 {
        self.world.load().tenants.values().map(|slot| slot.tenant.hot.sessions.load(Ordering::Relaxed)).sum()
    }

    /// Requests that met a limit of the daemon on sessions, since the start.
    pub fn limited_total(&self) -> u64 {
        self.shared.limited.load(Ordering::Relaxed)
    }

    /// Seats that were given back without being held, by tenants that are there: none, or the program has a fault.
    pub fn impossible_total(&self) -> u64 {
        self.world.load().tenants.values().map(|slot| u64::from(slot.tenant.seats.strays())).sum()
    }

    /// How long locks were held for this work since the start, by the clock of [`Engine::measure_holds`].
    pub fn hold_times(&self, work: Work) -> HoldTimes {
        self.shared.holds.times(work)
    }

    /// Measures from now on, by this clock of nanoseconds, how long locks are held by everything but decisions.
    pub fn measure_holds(&self, clock: fn() -> u64) {
        self.shared.holds.measure_by(clock);
    }

    /// Tells everything that lives, for a checkpoint: nodes, sessions, tombstones. Decisions go on meanwhile, and no
    /// lock is held while something is told; versions tell which of two records of one session is newer.
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
        let see = |cell: &Cell| {
            let group = tenant.group_name(cell.group);
            let (mut session, mut subject) = ([0; UUID_TEXT], [0; UUID_TEXT]);
            let (session, subject) = (cell.session.text(&mut session), cell.subject.text(&mut subject));
            let names = RecordNames { session, subject, group: &group, node: directory.name(cell.node) };
            changes.put(&cell.record(&tenant.id, names), false);
        };
        tenant.walk(Work::Snapshot, Cell::is_live, see);
        let stands = |tombstone: &&Tombstone| tombstone.until > now.uptime_ms;
        let look = |ids: &mut Ids, found: &mut Vec<Tombstone>| found.extend(ids.tombstones().filter(stands).cloned());
        tenant.sweep_ids(Work::Snapshot, look, |tombstone| {
            let node = directory.name(tombstone.node);
            if tombstone.node != NO_NODE && node.is_empty() {
                return;
            }
            changes.gone(&GoneRecord {
                tenant: &tenant.id,
                session: tombstone.session.text(&mut [0; UUID_TEXT]),
                subject: "",
                kind: tombstone.kind,
                counts: false,
                reason: Reason::Node,
                freed: false,
                was_live: false,
                tombstone: Some((node, tombstone.stamp)),
                version: tombstone.version,
            });
        });
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

fn session_view(cell: &Cell, node: &str) -> SessionView {
    SessionView {
        session: cell.session.name(),
        subject: cell.subject.name(),
        kind: cell.kind,
        direction: cell.direction,
        leg: cell.leg,
        device: cell.device,
        class: cell.class,
        counts: cell.counts(),
        external: cell.external(),
        orphan: cell.is_orphan(),
        node: Name::from(node),
        epoch: cell.epoch(),
        seq: cell.stamp().map(|stamp| stamp.seq),
        first: cell.first,
        started_utc_ms: cell.started_utc_ms,
        deadline_ms: (cell.deadline != u64::MAX).then_some(cell.deadline),
    }
}

/// The smallest so many of a stream of keys, so that a page copies no more than it shows. Of two with one key the later
/// one stays: a session ended meanwhile, and came again.
struct Smallest<T> {
    limit: usize,
    kept: BTreeMap<Name, T>,
}

impl<T> Smallest<T> {
    fn new(limit: usize) -> Self {
        Smallest { limit, kept: BTreeMap::new() }
    }

    /// True if a key comes after the page before, and before the last one of this page.
    fn takes(&self, after: &str, key: &str) -> bool {
        let fits = self.kept.len() < self.limit;
        (fits || self.kept.last_key_value().is_some_and(|(last, _)| key <= last.as_str())) && key > after
    }

    fn push(&mut self, key: Name, value: T) {
        self.kept.insert(key, value);
        if self.kept.len() > self.limit {
            self.kept.pop_last();
        }
    }

    fn sorted(self) -> Vec<T> {
        self.kept.into_values().collect()
    }
}
