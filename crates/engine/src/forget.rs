//! Names of nodes that nobody hears of any more go, by themselves or by hand; so the directory is never full for ever.

use std::collections::HashSet;
use std::sync::Arc;

use super::cell::{NEVER, RecordNames};
use super::holds::Work;
use super::key::{Key, UUID_TEXT};
use super::node::Node;
use super::part::Part;
use super::session::{Changes, Kind, Now};
use super::sync::Ordering;
use super::table::Tenant;
use super::{Engine, World};

/// The outcome of forgetting a node by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgetOutcome {
    /// There is no node of this name.
    NotFound,
    /// It is up: only `force` forgets it. Nothing changed.
    Up,
    /// It has sessions: only `force` forgets it. Nothing changed.
    HasSessions {
        /// So many, pairings left aside: no node holds them.
        count: u32,
    },
    /// Its epoch and its tombstones are forgotten; its next hello may have any epoch.
    Forgotten {
        /// The epoch that it had; `None` where it never had a lease.
        epoch: Option<u64>,
        /// Sessions that wait for it, or another node, to confirm them.
        orphaned: u32,
    },
}

impl Engine {
    /// Forgets the names of nodes that were not heard of for their lease, the grace of their sessions and the time of
    /// their tombstones, and on which nothing stands; answers when to look again, uptime milliseconds.
    ///
    /// A node that had a lease stays known, and its epoch kept, as long as the directory is not nearly full.
    pub(super) fn forget_nodes(&self, world: &World, now: Now, changes: &mut impl Changes) -> u64 {
        let directory = self.nodes.directory();
        let crowded = directory.is_crowded(self.shared.limits.nodes_max);
        let mut next = NEVER;
        let mut due = Vec::new();
        for node in directory.iter() {
            match node.forgettable_at(&world.timers, crowded) {
                at if at > now.uptime_ms => next = next.min(at),
                _ => due.push(Arc::clone(node)),
            }
        }
        if due.is_empty() {
            return next;
        }
        if self.forget_at.load(Ordering::Relaxed) <= now.uptime_ms {
            self.forget_at.store(now.uptime_ms + world.timers.tombstone_ms / 4 + 1, Ordering::Relaxed);
            self.forget_unused(world, now, crowded, due, changes);
        }
        next.min(self.forget_at.load(Ordering::Relaxed))
    }

    /// A message that comes meanwhile either stores a session that lives by its own time, for the lease is gone, or is
    /// found here; a hello that is lost with its node is said again after the next heartbeat.
    fn forget_unused(&self, world: &World, now: Now, crowded: bool, due: Vec<Arc<Node>>, changes: &mut impl Changes) {
        let disowned: Vec<(Arc<Node>, u32)> = due.into_iter().map(|node| (Arc::clone(&node), node.disown())).collect();
        let in_use = nodes_in_use(world, now, disowned.iter().map(|(node, _)| node.index).collect());
        let mut gone = Vec::new();
        for (node, flags) in disowned {
            if in_use.contains(&node.index) || node.forgettable_at(&world.timers, crowded) > now.uptime_ms {
                node.own_again(flags);
                continue;
            }
            if flags != 0 {
                changes.forgotten(&node.name);
            }
            gone.push(node);
        }
        if !gone.is_empty() {
            self.nodes.remove(&gone);
        }
    }

    /// Forgets a node by hand: its epoch and its tombstones. What it has live waits for it or another, with the usual
    /// grace, and is in no order any more; pairings stay.
    pub fn forget_node(&self, now: Now, name: &str, force: bool, changes: &mut impl Changes) -> ForgetOutcome {
        let world = self.world.load();
        let Some(node) = self.nodes.directory().find(name).cloned() else { return ForgetOutcome::NotFound };
        let _work = node.work();
        if !force && node.is_greeted() && !node.is_lost(now.uptime_ms, world.timers.lease_ms) {
            return ForgetOutcome::Up;
        }
        let count = if force { 0 } else { sessions_on(&world, &node) };
        if count > 0 {
            return ForgetOutcome::HasSessions { count };
        }
        let epoch = node.epoch();
        node.disown();
        changes.forgotten(name);
        let Some(heir) = self.nodes.replace(&node, now.uptime_ms) else { return ForgetOutcome::NotFound };
        let mut orphaned = 0;
        for slot in world.tenants.values().filter(|slot| super::roster::has_node(&slot.tenant, &node)) {
            slot.tenant.hot.nodes.fetch_or(1 << (heir.index % 64), Ordering::SeqCst);
            let grace_until = now.uptime_ms + world.timers.grace_ms;
            orphaned += hand_over(&slot.tenant, (&node, &heir), epoch.map(|_| grace_until), changes);
        }
        ForgetOutcome::Forgotten { epoch, orphaned }
    }
}

/// Gives what stands on a node to its successor of the same name; with a grace where its lease was all that kept
/// it. Its tombstones go.
fn hand_over(
    tenant: &Tenant,
    (node, heir): (&Node, &Node),
    grace_until: Option<u64>,
    changes: &mut impl Changes,
) -> u32 {
    let mut orphaned = 0;
    let look = |part: &mut Part, theirs: &mut Vec<Key>| {
        let sessions = part.sessions().filter(|session| session.node == node.index);
        theirs.extend(sessions.map(|session| session.session.clone()));
    };
    tenant.sweep_sessions(Work::Sweep, look, |hold, id, at| {
        if hold.here().cell(at).node != node.index {
            return;
        }
        let version = hold.ids().next_version();
        let part = hold.here();
        let session = part.cell_mut(at);
        session.node = heir.index;
        session.set_order(None, None);
        session.version = version;
        if let Some(until) = grace_until.filter(|_| session.kind != Kind::Mobile && !session.is_orphan()) {
            session.orphan_until(until);
            orphaned += 1;
        }
        let (deadline, group) = (session.deadline, tenant.group_name(session.group));
        let mut room = [0; UUID_TEXT];
        let subject = session.subject.text(&mut room);
        let names = RecordNames { session: id.text, subject, group: &group, node: &heir.name };
        changes.put(&session.record(&tenant.id, names), false);
        tenant.watch(part, deadline);
    });
    tenant.sweep_tombstones(Work::Sweep, |tombstone| tombstone.node != node.index);
    orphaned
}

/// Which of these nodes have anything that stands: live sessions, or tombstones.
fn nodes_in_use(world: &World, now: Now, asked: HashSet<u32>) -> HashSet<u32> {
    let bits = asked.iter().fold(0u64, |bits, index| bits | 1 << (index % 64));
    let mut in_use = HashSet::new();
    for slot in world.tenants.values() {
        if slot.tenant.hot.nodes.load(Ordering::SeqCst) & bits == 0 {
            continue;
        }
        slot.tenant.each_part(Work::Sweep, |part| {
            in_use.extend(part.sessions().map(|session| session.node).filter(|node| asked.contains(node)));
        });
        slot.tenant.each_ids(Work::Sweep, |ids| {
            let standing = ids.tombstones().filter(|tombstone| tombstone.until > now.uptime_ms);
            in_use.extend(standing.map(|tombstone| tombstone.node).filter(|node| asked.contains(node)));
        });
    }
    in_use
}

fn sessions_on(world: &World, node: &Node) -> u32 {
    let mut count = 0;
    for slot in world.tenants.values().filter(|slot| super::roster::has_node(&slot.tenant, node)) {
        slot.tenant.each_part(Work::Sweep, |part| {
            let theirs = part.sessions().filter(|session| session.node == node.index);
            count += theirs.filter(|session| session.kind != Kind::Mobile).count() as u32;
        });
    }
    count
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { uptime_ms: 1_000_000 + seconds * 1_000, utc_ms: 1_700_000_000_000 }
    }

    fn engine(nodes_max: u32) -> Engine {
        let engine = Engine::new(Limits { nodes_max, ..Limits::default() });
        let tenant = TenantPlan {
            id: "acme".into(),
            entitled: Entitled { standing: Standing::Active, seats: Some(9) },
            policy: Arc::default(),
            reserve: Vec::new(),
            pool: None,
        };
        engine.install(at(0), Plan { tenants: vec![tenant], ..Plan::default() }, &mut ());
        engine
    }

    fn call<'a>(node: &'a str, epoch: u64, session: &'a str, ttl_s: Option<u32>) -> Acquire<'a> {
        let asked = Acquire::new("acme", session, session, Kind::Call);
        let direction = Some(Direction::Outbound);
        Acquire { node: Some(node), epoch: Some(epoch), seq: Some(1), ttl_s, direction, ..asked }
    }

    /// Lets the reaper look whenever something is due, as the control thread does.
    fn until(engine: &Engine, seconds: u64) {
        while let Some(due) = engine.next_deadline().filter(|due| *due <= at(seconds).uptime_ms) {
            engine.expire(Now { uptime_ms: due, ..at(0) }, &mut ());
        }
    }

    #[test]
    fn names_make_room_after_lease_grace_and_tombstones_g6() {
        for leaves in [true, false] {
            let engine = engine(4);
            let names = ["a", "b", "c", "d"];
            names.iter().for_each(|name| _ = engine.hello(at(0), name, 7, &mut ()).unwrap());
            engine.acquire(at(0), &call("d", 7, "c1", None), &mut ()).unwrap();
            names.iter().filter(|_| leaves).for_each(|name| _ = engine.goodbye(at(0), name, 7, &mut ()).unwrap());
            until(&engine, 344);
            assert_eq!(engine.hello(at(344), "e", 1, &mut ()), Err(NodeFault::Limit), "{leaves}");
            until(&engine, 345);
            assert!(engine.hello(at(345), "e", 1, &mut ()).is_ok(), "{leaves}");
            assert!(engine.hello(at(345), "a", 1, &mut ()).is_ok(), "its epoch went with its name");
        }
    }

    #[test]
    fn names_from_a_journal_make_room_too() {
        let engine = engine(3);
        let known = [("a".into(), 1), ("b".into(), 1), ("c".into(), u64::MAX)];
        engine.restore(at(0), std::iter::empty(), &[], &known, 0);
        assert_eq!(engine.hello(at(0), "d", 1, &mut ()), Err(NodeFault::Limit));
        assert!(engine.hello(at(1), "c", 3, &mut ()).is_ok(), "an epoch that is refused today is not kept");
        until(&engine, 400);
        assert!(engine.hello(at(400), "d", 1, &mut ()).is_ok());
        assert!(engine.hello(at(400), "e", 1, &mut ()).is_ok());
    }

    #[test]
    fn names_that_only_acquires_know_go_and_sessions_keep_theirs() {
        let engine = engine(2);
        engine.acquire(at(0), &call("s1", 1, "c1", Some(60)), &mut ()).unwrap();
        engine.acquire(at(0), &call("s2", 1, "c2", Some(3_600)), &mut ()).unwrap();
        until(&engine, 600);
        let node = |session| engine.session("acme", session).map(|view| view.node);
        assert_eq!((node("c1"), node("c2")), (None, Some("s2".into())));
        engine.acquire(at(600), &call("s3", 1, "c3", Some(60)), &mut ()).unwrap();
        assert_eq!(node("c3"), Some("s3".into()), "there is room for its name");
        engine.acquire(at(600), &call("s4", 1, "c4", Some(60)), &mut ()).unwrap();
        assert_eq!(node("c4"), Some("".into()), "the limit on names holds");
        engine.release(at(601), &Release { node: Some("s2"), ..Release::new("acme", "c2") }, &mut ());
        assert_eq!(node("c2"), None);
    }

    #[test]
    fn a_node_with_sessions_or_tombstones_is_not_forgotten() {
        let engine = engine(2);
        engine.hello(at(0), "n1", 9, &mut ()).unwrap();
        let pairing = Acquire { direction: None, kind: Kind::Mobile, ..call("n1", 9, "m1", None) };
        engine.acquire(at(0), &pairing, &mut ()).unwrap();
        engine.hello(at(0), "n2", 9, &mut ()).unwrap();
        until(&engine, 340);
        let late = Release { node: Some("n2"), epoch: Some(8), seq: Some(5), ..Release::new("acme", "c9") };
        engine.release(at(340), &late, &mut ());
        until(&engine, 500);
        for node in ["n1", "n2"] {
            assert_eq!(engine.hello(at(500), node, 1, &mut ()), Err(NodeFault::StaleEpoch { known: 9 }), "{node}");
        }
    }

    #[test]
    fn forgetting_by_hand_takes_the_epoch_and_the_tombstones() {
        let engine = engine(9);
        assert_eq!(engine.forget_node(at(0), "n1", true, &mut ()), ForgetOutcome::NotFound);
        engine.hello(at(0), "n1", u64::MAX, &mut ()).unwrap();
        let client = Acquire { direction: None, kind: Kind::Desktop, ..call("n1", u64::MAX, "d1", None) };
        engine.acquire(at(0), &client, &mut ()).unwrap();
        let gone = Release { node: Some("n1"), epoch: Some(u64::MAX), seq: Some(5), ..Release::new("acme", "c2") };
        engine.release(at(0), &gone, &mut ());
        assert_eq!(engine.forget_node(at(1), "n1", false, &mut ()), ForgetOutcome::Up);
        engine.goodbye(at(1), "n1", u64::MAX, &mut ()).unwrap();
        assert_eq!(engine.forget_node(at(1), "n1", false, &mut ()), ForgetOutcome::HasSessions { count: 1 });
        let forgotten = ForgetOutcome::Forgotten { epoch: Some(u64::MAX), orphaned: 0 };
        assert_eq!(engine.forget_node(at(1), "n1", true, &mut ()), forgotten);
        engine.hello(at(2), "n1", 1, &mut ()).unwrap();
        let code = |asked| engine.acquire(at(2), asked, &mut ()).unwrap().code;
        assert_eq!(code(&call("n1", 1, "c2", None)), Code::AllowNew, "no tombstone of it stands");
        let ended = Release { node: Some("n1"), epoch: Some(1), seq: Some(9), ..Release::new("acme", "d1") };
        assert_eq!(engine.release(at(2), &ended, &mut ()).code, Code::ReleasedLast, "its sessions are its own again");
    }

    #[test]
    fn what_a_forgotten_node_had_live_waits_for_a_grace() {
        let engine = engine(9);
        engine.hello(at(0), "n1", 5, &mut ()).unwrap();
        engine.acquire(at(0), &call("n1", 5, "c1", None), &mut ()).unwrap();
        let forgotten = ForgetOutcome::Forgotten { epoch: Some(5), orphaned: 1 };
        assert_eq!(engine.forget_node(at(1), "n1", true, &mut ()), forgotten);
        until(&engine, 30);
        assert!(engine.session("acme", "c1").is_some_and(|view| view.orphan && view.epoch.is_none()));
        until(&engine, 31);
        assert!(engine.session("acme", "c1").is_none());
    }
}
