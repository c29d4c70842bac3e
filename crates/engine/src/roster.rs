//! The messages of nodes about themselves (hello, heartbeat, goodbye, inventory), and ends by hand of an admin.

use std::collections::HashSet;
use std::sync::Arc;

use super::cell::{Cell, Life, NEVER};
use super::decide::{Ask, Context, Stored};
use super::ending::{End, end_session};
use super::holds::Work;
use super::key::{Asked, Key};
use super::node::Node;
use super::part::Part;
use super::session::{Acquire, Changes, Kind, Now, Reason, Stamp};
use super::sync::Ordering;
use super::table::Tenant;
use super::{Engine, View, World};

/// The result of a hello or a goodbye.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeReport {
    /// Calls of older epochs that ended (G8).
    pub dropped: u32,
    /// Sessions that wait for their node, or another, to confirm them.
    pub orphaned: u32,
}

/// The result of an inventory (G9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InventoryReport {
    /// Listed and known.
    pub kept: u32,
    /// Listed and stored by this.
    pub adopted: u32,
    /// Known, not listed, and so ended.
    pub removed: u32,
    /// Listed but released since, another subject's, or over a limit.
    pub ignored: u32,
}

/// Why a node's message cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFault {
    /// Say hello and send an inventory.
    UnknownEpoch {
        /// The epoch that the daemon knows, if any.
        known: Option<u64>,
    },
    /// The epoch is older than the node's current one (I18).
    StaleEpoch {
        /// The current one.
        known: u64,
    },
    /// The limit on nodes is reached.
    Limit,
}

/// The outcome of ending by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOutcome {
    /// There is no such session or subject.
    NotFound,
    /// A live call is concerned: it needs `force`. Nothing changed.
    NeedsForce,
    /// So many sessions ended.
    Done {
        /// Sessions that ended.
        count: u32,
    },
}

/// The action of a sweep on a session.
#[derive(Clone, Copy)]
enum Fate {
    Stays,
    Ends(Reason, Option<Stamp>),
    Orphaned,
    /// It is live again, for the whole of its own time.
    Resumed,
}

/// The outcome of a sweep.
#[derive(Default)]
struct Swept {
    ended: u32,
    orphaned: u32,
}

impl Engine {
    /// Greets a node that starts, or comes back (G8). One that comes back with the epoch that it had has not restarted:
    /// what it has with a `ttl_s` lives on for the whole of it, as without a lease (G10), because a simple script says
    /// hello and no more. An inventory, where one follows, tells what has ended meanwhile (G9).
    ///
    /// # Errors
    /// [`NodeFault::StaleEpoch`] for an epoch before the current one, [`NodeFault::Limit`].
    pub fn hello(&self, now: Now, node: &str, epoch: u64, changes: &mut impl Changes) -> Result<NodeReport, NodeFault> {
        let world = self.world.load();
        let node = self.nodes.find_or_enrol(node, now.uptime_ms, &self.shared).ok_or(NodeFault::Limit)?;
        let _work = node.work();
        let lease_ms = world.timers.lease_ms;
        match node.epoch() {
            Some(current) if epoch < current => return Err(NodeFault::StaleEpoch { known: current }),
            Some(current) if epoch == current => {
                node.touch(now.uptime_ms, Some(epoch), lease_ms, &self.shared);
                if !node.is_greeted() {
                    // Once more: a disk that failed may have lost the record of its beginning.
                    changes.node(&node.name, epoch);
                    self.sweep(&world, now, &node, changes, |session| {
                        let lives_on = session.is_orphan() && session.ttl_s > 0 && session.kind != Kind::Mobile;
                        let is_of_now = session.epoch().is_none_or(|own| own == epoch);
                        if lives_on && is_of_now { Fate::Resumed } else { Fate::Stays }
                    });
                }
                node.greet(true);
                return Ok(NodeReport::default());
            }
            _ => node.begin(now.uptime_ms, epoch, true, lease_ms, &self.shared),
        }
        changes.node(&node.name, epoch);
        let swept = self.sweep(&world, now, &node, changes, |session| {
            if session.epoch().is_some_and(|own| own >= epoch) || session.kind == Kind::Mobile {
                Fate::Stays
            } else if session.kind == Kind::Call {
                Fate::Ends(Reason::Epoch, None)
            } else if session.is_orphan() {
                Fate::Stays
            } else {
                Fate::Orphaned
            }
        });
        Ok(NodeReport { dropped: swept.ended, orphaned: swept.orphaned })
    }

    /// The node lives. Touches one word, not its sessions. The first one is recorded: it gives a lease (G10).
    ///
    /// # Errors
    /// [`NodeFault::UnknownEpoch`]: it must say hello and send an inventory; [`NodeFault::Limit`].
    pub fn heartbeat(&self, now: Now, node: &str, epoch: u64, changes: &mut impl Changes) -> Result<(), NodeFault> {
        let world = self.world.load();
        let node = self.nodes.find_or_enrol(node, now.uptime_ms, &self.shared).ok_or(NodeFault::Limit)?;
        let lease_ms = world.timers.lease_ms;
        match node.epoch() {
            None => {
                let _work = node.work();
                if !node.is_leased() {
                    node.begin(now.uptime_ms, epoch, false, lease_ms, &self.shared);
                    changes.node(&node.name, epoch);
                }
                Err(NodeFault::UnknownEpoch { known: None })
            }
            Some(current) if current != epoch => Err(NodeFault::UnknownEpoch { known: Some(current) }),
            Some(current) => {
                node.touch(now.uptime_ms, Some(epoch), lease_ms, &self.shared);
                if node.is_greeted() { Ok(()) } else { Err(NodeFault::UnknownEpoch { known: Some(current) }) }
            }
        }
    }

    /// A planned shutdown: as a lost node, and the grace starts now.
    ///
    /// # Errors
    /// [`NodeFault::UnknownEpoch`] for another epoch than the current one.
    pub fn goodbye(
        &self,
        now: Now,
        node: &str,
        epoch: u64,
        changes: &mut impl Changes,
    ) -> Result<NodeReport, NodeFault> {
        let world = self.world.load();
        let directory = self.nodes.directory();
        let node = directory.find(node).ok_or(NodeFault::UnknownEpoch { known: None })?;
        if node.epoch() != Some(epoch) {
            return Err(NodeFault::UnknownEpoch { known: node.epoch() });
        }
        let _work = node.work();
        let report = self.orphan_all(&world, now, node, changes);
        node.leave(now.uptime_ms);
        Ok(report)
    }

    /// All of a node's sessions wait for their node, or another, to confirm them (G6).
    pub(super) fn orphan_all(&self, world: &World, now: Now, node: &Node, changes: &mut impl Changes) -> NodeReport {
        node.greet(false);
        let swept = self.sweep(world, now, node, changes, |session| {
            if session.kind == Kind::Mobile || session.is_orphan() { Fate::Stays } else { Fate::Orphaned }
        });
        NodeReport { orphaned: swept.orphaned, ..NodeReport::default() }
    }

    /// Takes a node's list of everything that is live on it at its message `seq` (G9); what is missing ended.
    ///
    /// The caller checked every listed session. Each is decided in its tenant, then what is missing goes.
    ///
    /// # Errors
    /// [`NodeFault::UnknownEpoch`] for another epoch than the current one; nothing changed.
    pub fn inventory(
        &self,
        now: Now,
        node: &str,
        epoch: u64,
        seq: u64,
        sessions: &[Acquire<'_>],
        changes: &mut impl Changes,
    ) -> Result<InventoryReport, NodeFault> {
        let world = self.world.load();
        let directory = self.nodes.directory();
        let node = directory.find(node).ok_or(NodeFault::UnknownEpoch { known: None })?;
        let _work = node.work();
        if node.epoch() != Some(epoch) {
            return Err(NodeFault::UnknownEpoch { known: node.epoch() });
        }
        node.touch(now.uptime_ms, Some(epoch), world.timers.lease_ms, &self.shared);
        if !node.is_greeted() {
            changes.node(&node.name, epoch);
        }
        node.greet(true);
        let taken = Stamp { epoch, seq };
        let mut report = InventoryReport::default();
        let mut view = self.view();
        let mut listed: HashSet<(&str, Key), foldhash::fast::RandomState> = HashSet::default();
        for message in sessions {
            let listed_here = Acquire { node: Some(&node.name), epoch: Some(epoch), existing: true, ..message.clone() };
            match self.confirm(&mut view, now, node, taken, &listed_here, changes) {
                Stored::Known => report.kept += 1,
                Stored::Fresh => report.adopted += 1,
                Stored::No => report.ignored += 1,
            }
            if let (Some(session), Some((tenant, borrowed))) = (message.session, world.home(message.tenant)) {
                let borrowed = borrowed.then(|| super::name_in_default_tenant(message.tenant, session));
                let name = borrowed.as_deref().unwrap_or(session);
                listed.insert((tenant, Asked::new(&self.shared.hasher, name).key()));
            }
        }
        for slot in world.tenants.values().filter(|slot| has_node(&slot.tenant, node)) {
            let missing = |session: &Cell| {
                session.epoch().is_none_or(|own| own == epoch)
                    && session.kind != Kind::Mobile
                    && session.stamp().is_none_or(|own| own <= taken)
                    && !listed.contains(&(slot.tenant.id.as_str(), session.session.clone()))
            };
            let fate = |session: &Cell| match missing(session) {
                true => Fate::Ends(Reason::Inventory, Some(taken)),
                false => Fate::Stays,
            };
            report.removed += self.sweep_tenant(&world, now, &slot.tenant, node, changes, fate).ended;
        }
        Ok(report)
    }

    /// One listed session of an inventory: what is known is confirmed as it is, what is not is adopted.
    fn confirm(
        &self,
        view: &mut View,
        now: Now,
        node: &Arc<Node>,
        taken: Stamp,
        message: &Acquire<'_>,
        changes: &mut impl Changes,
    ) -> Stored {
        let world = Arc::clone(view.world.load());
        let (Some(session), Some((tenant, borrowed))) = (message.session, world.home(message.tenant)) else {
            return Stored::No;
        };
        let Some(slot) = world.tenants.get(tenant) else { return Stored::No };
        let own_name =
            |id: &str| if borrowed { super::name_in_default_tenant(message.tenant, id) } else { id.to_owned() };
        let (session, subject) = (own_name(session), own_name(message.subject.unwrap_or("")));
        let stamp = message.seq.map_or(taken, |seq| Stamp { epoch: taken.epoch, seq });
        let (id, subject) = (slot.tenant.asked(&session), slot.tenant.asked(&subject));
        let mut hold = slot.tenant.hold(&id);
        if let Some(at) = hold.find(&id) {
            let known = hold.here().cell(at);
            if known.counts() && !subject.is(&known.subject) {
                return Stored::No;
            }
            // What the table knows may be newer than the list's own entry: then it keeps its number.
            let newer = known.is_newer_than(node.index, (Some(stamp.epoch), Some(stamp.seq)));
            let stamp = if newer { known.stamp() } else { Some(stamp) };
            let context = Context {
                now,
                tenant: &slot.tenant,
                policy: &slot.policy,
                timers: &world.timers,
                node: Some(node),
                directory: &self.nodes.directory(),
                session: id,
            };
            let ask = Ask { context, subject, message, stamp, listed: true };
            ask.context.mark_node();
            ask.renew(&mut hold, at, changes);
            return Stored::Known;
        }
        // It was released after the list was taken.
        let released = hold.ids().tombstone(&id).is_some_and(|tombstone| {
            tombstone.until > now.uptime_ms && tombstone.node == node.index && tombstone.stamp > taken
        });
        drop(hold);
        if released {
            return Stored::No;
        }
        let message = Acquire { seq: Some(stamp.seq), ..message.clone() };
        self.acquire_as(view, now, &message, true, changes).map_or(Stored::No, |(_, stored)| stored)
    }

    /// Ends one session by hand; a live call only with `force`.
    pub fn end_session(
        &self,
        now: Now,
        tenant: &str,
        session: &str,
        force: bool,
        changes: &mut impl Changes,
    ) -> EndOutcome {
        let world = self.world.load();
        let Some(slot) = world.tenants.get(tenant) else { return EndOutcome::NotFound };
        let directory = self.nodes.directory();
        let id = slot.tenant.asked(session);
        let mut hold = slot.tenant.hold(&id);
        let Some(at) = hold.find(&id) else { return EndOutcome::NotFound };
        let known = hold.here().cell(at);
        if known.kind == Kind::Call && !force {
            return EndOutcome::NeedsForce;
        }
        let end = End {
            now_ms: now.uptime_ms,
            reason: Reason::Admin,
            tombstone: known.stamp(),
            tombstone_until: now.uptime_ms + world.timers.tombstone_ms,
            linger_until: None,
        };
        end_session(&slot.tenant, &directory, &mut hold, &id, at, &end, changes);
        EndOutcome::Done { count: 1 }
    }

    /// Ends all sessions of a subject by hand; live calls only with `force`.
    pub fn end_subject(
        &self,
        now: Now,
        tenant: &str,
        subject: &str,
        force: bool,
        changes: &mut impl Changes,
    ) -> EndOutcome {
        let Some((names, calls)) = self.sessions_of(tenant, subject) else { return EndOutcome::NotFound };
        if names.is_empty() {
            return EndOutcome::NotFound;
        }
        if calls && !force {
            return EndOutcome::NeedsForce;
        }
        let mut count = 0;
        for name in names {
            if matches!(self.end_session(now, tenant, &name, true, changes), EndOutcome::Done { .. }) {
                count += 1;
            }
        }
        EndOutcome::Done { count }
    }

    /// Looks at every session of a node.
    fn sweep(
        &self,
        world: &World,
        now: Now,
        node: &Node,
        changes: &mut impl Changes,
        fate: impl Fn(&Cell) -> Fate,
    ) -> Swept {
        let mut all = Swept::default();
        for slot in world.tenants.values().filter(|slot| has_node(&slot.tenant, node)) {
            let swept = self.sweep_tenant(world, now, &slot.tenant, node, changes, &fate);
            all.ended += swept.ended;
            all.orphaned += swept.orphaned;
        }
        all
    }

    fn sweep_tenant(
        &self,
        world: &World,
        now: Now,
        tenant: &Tenant,
        node: &Node,
        changes: &mut impl Changes,
        fate: impl Fn(&Cell) -> Fate,
    ) -> Swept {
        let directory = self.nodes.directory();
        let (mut ended, mut orphaned) = (0, 0);
        let look = |part: &mut Part, ends: &mut Vec<Key>| {
            let mut earliest = NEVER;
            for session in part.sessions_mut().filter(|session| session.node == node.index) {
                match fate(session) {
                    Fate::Stays => {}
                    Fate::Ends(..) => ends.push(session.session.clone()),
                    Fate::Orphaned => {
                        session.orphan_until(now.uptime_ms + world.timers.grace_ms);
                        earliest = earliest.min(session.deadline);
                        orphaned += 1;
                    }
                    Fate::Resumed => {
                        session.life = Life::Live;
                        session.deadline = now.uptime_ms + u64::from(session.ttl_s) * 1_000;
                        earliest = earliest.min(session.deadline);
                    }
                }
            }
            tenant.watch(part, earliest);
        };
        tenant.sweep_sessions(Work::Sweep, look, |hold, id, at| {
            let session = hold.here().cell(at);
            // Another message may have come for it meanwhile.
            let Some(Fate::Ends(reason, tombstone)) = (session.node == node.index).then(|| fate(session)) else {
                return;
            };
            let end = End {
                now_ms: now.uptime_ms,
                reason,
                tombstone,
                tombstone_until: now.uptime_ms + world.timers.tombstone_ms,
                linger_until: None,
            };
            end_session(tenant, &directory, hold, id, at, &end, changes);
            ended += 1;
        });
        Swept { ended, orphaned }
    }
}

impl World {
    /// The tenant in whose table an id stands, and whether it is borrowed there (D4).
    fn home<'a>(&'a self, tenant: &'a str) -> Option<(&'a str, bool)> {
        if let Some((id, _)) = self.tenants.get_key_value(tenant) {
            return Some((id, false));
        }
        self.default_tenant.as_deref().map(|id| (id, true))
    }
}

pub(super) fn has_node(tenant: &Tenant, node: &Node) -> bool {
    tenant.hot.nodes.load(Ordering::SeqCst) & (1 << (node.index % 64)) != 0
}
