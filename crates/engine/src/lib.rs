//! The engine decides: who may take a seat, who keeps one, when it is free again.
//!
//! Synchronous and deterministic for one caller at a time; many threads may call it at once, and decisions
//! of one tenant are linearizable (D6). It reads no clock, does no I/O and logs nothing: time comes in as
//! [`Now`], and what changed goes out through [`Changes`].

mod cell;
mod decide;
mod ending;
mod evict;
mod explain;
mod forget;
mod gate;
mod holds;
mod ids;
mod install;
mod key;
mod lease;
mod node;
mod part;
pub mod plan;
mod release;
mod roster;
mod rules;
mod seats;
pub mod session;
mod shared;
mod stripes;
mod sync;
mod table;
mod view;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

pub use explain::{Explanation, Step};
pub use forget::ForgetOutcome;
pub use holds::{HOLD_MAX_NS, HoldTimes, Work};
pub use install::RestoredTombstone;
pub use plan::{Billing, Entitled, Limits, Plan, Policy, PoolPlan, TenantPlan, Timers};
pub use roster::{EndOutcome, InventoryReport, NodeFault, NodeReport};
pub use rules::is_emergency_number;
pub use session::*;
pub use view::{NodeView, PoolView, SessionFilter, SessionView, SubjectView, TenantView};

use cell::NEVER;
use decide::{Ask, Context, Stored};
use gate::Pool;
use node::{Directory, Nodes};
use rules::Need;
use shared::Shared;
use sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering};
use table::Tenant;

/// The engine, which decides. One per process; share it by reference.
#[derive(Debug)]
pub struct Engine {
    world: Arc<ArcSwap<World>>,
    nodes: Nodes,
    shared: Arc<Shared>,
    /// Plans and entitlements are installed one after the other.
    installing: Mutex<()>,
    /// When tombstones are looked through next, uptime milliseconds.
    sweep_at: AtomicU64,
    /// When nodes that may be forgotten are looked through next, uptime milliseconds.
    forget_at: AtomicU64,
    /// Nobody trusts the clock by which subscriptions end: what cannot be taken back waits (H5).
    holds_ends: AtomicBool,
}

/// Everything that a plan brings, swapped at once.
#[derive(Debug)]
struct World {
    tenants: HashMap<Name, Slot, foldhash::fast::RandomState>,
    pools: Vec<Arc<Pool>>,
    default_tenant: Option<Name>,
    unknown: Arc<Policy>,
    timers: Timers,
}

/// The plan and the nodes as a thread saw them last, so that it asks the other cores only where they changed: each
/// thread that decides much keeps one of its own ([`Engine::view`]). It shows every change at once.
#[derive(Clone, Debug)]
pub struct View {
    world: Cache<Arc<ArcSwap<World>>, Arc<World>>,
    nodes: Cache<Arc<ArcSwap<Directory>>, Arc<Directory>>,
}

/// A tenant under its present policy.
#[derive(Clone, Debug)]
struct Slot {
    tenant: Arc<Tenant>,
    policy: Arc<Policy>,
    /// True if the plan names it; otherwise it only keeps its sessions until they end.
    configured: bool,
}

impl Engine {
    /// An engine without tenants.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { sessions_per_tenant_max: limits.sessions_per_tenant_max.min(seats::SEATS_MAX), ..limits };
        Engine {
            world: Arc::new(ArcSwap::from_pointee(World {
                tenants: HashMap::default(),
                pools: Vec::new(),
                default_tenant: None,
                unknown: Arc::new(Policy::default()),
                timers: Timers::default(),
            })),
            nodes: Nodes::default(),
            shared: Arc::new(Shared {
                hasher: foldhash::fast::RandomState::default(),
                limits,
                holds: holds::Holds::default(),
                due: AtomicU64::new(NEVER),
                expiring: AtomicU64::new(NEVER),
                sessions: AtomicU32::new(0),
                // A small limit is exact; a large one is met a little early, by what tenants keep unused.
                block: if limits.sessions_max < 1 << 16 { 1 } else { 16 },
                version_floor: AtomicU64::new(0),
                limited: AtomicU64::new(0),
                generations: AtomicU64::new(0),
            }),
            installing: Mutex::new(()),
            sweep_at: AtomicU64::new(0),
            forget_at: AtomicU64::new(0),
            holds_ends: AtomicBool::new(false),
        }
    }

    /// The plan and the nodes, for a thread to keep.
    pub fn view(&self) -> View {
        View { world: Cache::new(Arc::clone(&self.world)), nodes: Cache::new(self.nodes.shared()) }
    }

    /// May this happen? D5, in its order; the message was checked by [`Acquire::check`].
    ///
    /// # Errors
    /// `ttl_s` is missing where nothing else would end the claim (E3); nothing changed.
    pub fn acquire(&self, now: Now, message: &Acquire<'_>, changes: &mut impl Changes) -> Result<Decision, Fault> {
        self.acquire_by(&mut self.view(), now, message, changes)
    }

    /// [`Engine::acquire`] by what the thread keeps.
    ///
    /// # Errors
    /// As there.
    pub fn acquire_by(
        &self,
        view: &mut View,
        now: Now,
        message: &Acquire<'_>,
        changes: &mut impl Changes,
    ) -> Result<Decision, Fault> {
        self.acquire_as(view, now, message, false, changes).map(|(decision, _)| decision)
    }

    /// The same; what an inventory lists lives, whatever number its own entry has (G9).
    fn acquire_as(
        &self,
        view: &mut View,
        now: Now,
        message: &Acquire<'_>,
        listed: bool,
        changes: &mut impl Changes,
    ) -> Result<(Decision, Stored), Fault> {
        let world = view.world.load();
        let slot = world.tenants.get(message.tenant);
        let policy = slot.map_or(&world.unknown, |slot| &slot.policy);
        let need = rules::need(message, policy);
        // What only a lease could keep needs a node that is known: the name of another one leaves no trace.
        let lives = message.ttl_s.is_some() || message.kind == Kind::Mobile || !matches!(need, Need::Seat { .. });
        let name = message.node.filter(|_| lives);
        let directory = self.nodes.known_with(&mut view.nodes, name, now.uptime_ms, &self.shared);
        let node = message.node.and_then(|name| directory.find(name));
        if let Some(node) = node {
            node.touch(now.uptime_ms, message.epoch, world.timers.lease_ms, &self.shared);
        }
        let subject = message.subject.unwrap_or("");
        let session = message.session.unwrap_or("");
        let ask = |slot: &'_ Slot, subject: &'_ str, session: &'_ str, changes: &mut _| {
            let context = Context {
                now,
                tenant: &slot.tenant,
                policy: &slot.policy,
                timers: &world.timers,
                node,
                directory,
                session: slot.tenant.asked(session),
            };
            let subject = slot.tenant.asked(subject);
            decide::acquire(&Ask { context, subject, message, stamp: message.stamp(), listed }, need, changes)
        };
        match (slot, need) {
            (Some(slot), _) => ask(slot, subject, session, changes),
            (None, Need::Emergency) => {
                Ok((decision_without_tenant(policy, Code::AllowFree, Detail::Emergency), Stored::No))
            }
            (None, Need::Free(detail)) => Ok((decision_without_tenant(policy, Code::AllowFree, detail), Stored::No)),
            (None, _) => match world.default_slot() {
                Some(slot) => {
                    let subject = name_in_default_tenant(message.tenant, subject);
                    let session = name_in_default_tenant(message.tenant, session);
                    ask(slot, &subject, &session, changes)
                }
                None => Ok((decision_without_tenant(policy, Code::DenyUnknownTenant, Detail::None), Stored::No)),
            },
        }
    }

    /// This ended. Never fails (E4).
    pub fn release(&self, now: Now, message: &Release<'_>, changes: &mut impl Changes) -> Decision {
        self.release_by(&mut self.view(), now, message, changes)
    }

    /// [`Engine::release`] by what the thread keeps.
    pub fn release_by(&self, view: &mut View, now: Now, message: &Release<'_>, changes: &mut impl Changes) -> Decision {
        let world = view.world.load();
        let known = world.tenants.get(message.tenant);
        let directory = self.nodes.known_with(&mut view.nodes, message.node, now.uptime_ms, &self.shared);
        let node = message.node.and_then(|name| directory.find(name));
        if let Some(node) = node {
            node.touch(now.uptime_ms, message.epoch, world.timers.lease_ms, &self.shared);
        }
        let Some(slot) = known.or(world.default_slot()) else {
            return decision_without_tenant(&world.unknown, Code::ReleasedNone, Detail::None);
        };
        let borrowed = known.is_none().then(|| name_in_default_tenant(message.tenant, message.session));
        let context = Context {
            now,
            tenant: &slot.tenant,
            policy: &slot.policy,
            timers: &world.timers,
            node,
            directory,
            session: slot.tenant.asked(borrowed.as_deref().unwrap_or(message.session)),
        };
        release::release(&context, message, changes)
    }

    /// Lower bound of the next instant at which something is due, uptime milliseconds; `None` where nothing is. What
    /// [`Engine::expire`] is ending at present is due until all of it has ended.
    pub fn next_deadline(&self) -> Option<u64> {
        // Before and after: it may begin or end in between, and each time one of them holds what the other let go.
        let before = self.shared.due.load(Ordering::Acquire);
        let expiring = self.shared.expiring.load(Ordering::Acquire);
        let due = before.min(expiring).min(self.shared.due.load(Ordering::Acquire));
        (due != NEVER).then_some(due)
    }

    /// The tenant that lends its seats to this one, and as whom it knows a subject of it (D4); `None` where the tenant
    /// is known itself, or nobody lends.
    pub fn default_tenant_for(&self, view: &mut View, tenant: &str, subject: &str) -> Option<(Name, String)> {
        let world = view.world.load();
        let default_tenant_for = world.default_tenant.as_ref()?;
        (!world.tenants.contains_key(tenant))
            .then(|| (default_tenant_for.clone(), name_in_default_tenant(tenant, subject)))
    }

    /// True if a dialled number is an emergency number of a tenant, or of the global list (C14).
    pub fn is_emergency(&self, tenant: &str, dialled: &str) -> bool {
        let world = self.world.load();
        let policy = world.tenants.get(tenant).map_or(&world.unknown, |slot| &slot.policy);
        is_emergency_number(dialled, policy)
    }
}

impl World {
    fn default_slot(&self) -> Option<&Slot> {
        self.tenants.get(self.default_tenant.as_ref()?)
    }
}

/// The decision where no tenant is concerned.
fn decision_without_tenant(policy: &Policy, code: Code, detail: Detail) -> Decision {
    decide::answer(policy, code, detail, seats::SeatState::NOTHING)
}

/// A name of an unknown tenant in the default tenant's table: never the same as another tenant's (A5, D4).
fn name_in_default_tenant(tenant: &str, id: &str) -> String {
    if id.is_empty() { String::new() } else { format!("{tenant}/{id}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { uptime_ms: 1_000_000 + seconds * 1_000, utc_ms: 1_700_000_000_000 }
    }

    fn engine(seats: u32) -> Engine {
        let engine = Engine::new(Limits::default());
        let tenant = TenantPlan {
            id: "acme".into(),
            entitled: Entitled { standing: Standing::Active, seats: Some(seats) },
            policy: Arc::default(),
            reserve: Vec::new(),
            pool: None,
        };
        engine.install(at(0), Plan { tenants: vec![tenant], ..Plan::default() }, &mut ());
        engine
    }

    fn desktop<'a>(subject: &'a str, session: &'a str) -> Acquire<'a> {
        Acquire { ttl_s: Some(60), ..Acquire::new("acme", subject, session, Kind::Desktop) }
    }

    #[test]
    fn a_released_seat_is_free_at_once() {
        let engine = engine(1);
        let code = |decision: Result<Decision, Fault>| decision.unwrap().code;
        assert_eq!(code(engine.acquire(at(0), &desktop("anna", "d1"), &mut ())), Code::AllowNew);
        assert_eq!(code(engine.acquire(at(0), &desktop("bob", "d2"), &mut ())), Code::DenyFull);
        assert_eq!(engine.release(at(0), &Release::new("acme", "d1"), &mut ()).code, Code::ReleasedLast);
        assert_eq!(code(engine.acquire(at(0), &desktop("bob", "d2"), &mut ())), Code::AllowNew);
    }

    #[test]
    fn a_claim_that_is_not_renewed_ends_at_its_instant() {
        let engine = engine(1);
        engine.acquire(at(0), &desktop("anna", "d1"), &mut ()).unwrap();
        engine.expire(at(59), &mut ());
        assert_eq!(engine.tenant(at(59), "acme").unwrap().held, 1);
        assert_eq!(engine.next_deadline(), Some(at(60).uptime_ms));
        engine.expire(at(60), &mut ());
        assert_eq!(engine.tenant(at(60), "acme").unwrap().held, 0);
    }

    /// A script beside a PBX says hello and heartbeats, and lists nothing.
    #[test]
    fn a_node_that_comes_back_without_a_restart_keeps_its_calls_g10() {
        let call = |session, ttl_s| Acquire {
            node: Some("n1"),
            epoch: Some(7),
            seq: Some(1),
            ttl_s,
            direction: Some(Direction::Outbound),
            ..Acquire::new("acme", session, session, Kind::Call)
        };
        let until = |engine: &Engine, seconds| {
            while let Some(due) = engine.next_deadline().filter(|due| *due <= at(seconds).uptime_ms) {
                engine.expire(Now { uptime_ms: due, ..at(0) }, &mut ());
            }
        };
        let live = |engine: &Engine, session| engine.session("acme", session).map(|view| view.orphan);
        let engine = engine(9);
        engine.hello(at(0), "n1", 7, &mut ()).unwrap();
        engine.acquire(at(0), &call("c1", Some(600)), &mut ()).unwrap();
        engine.acquire(at(0), &call("c2", None), &mut ()).unwrap();
        until(&engine, 20);
        assert_eq!((live(&engine, "c1"), live(&engine, "c2")), (Some(true), Some(true)), "its lease is over");
        engine.hello(at(20), "n1", 7, &mut ()).unwrap();
        assert_eq!(live(&engine, "c1"), Some(false));
        for seconds in (25..700).step_by(5) {
            let _ = engine.heartbeat(at(seconds), "n1", 7, &mut ());
            until(&engine, seconds);
            let has_ended = seconds >= 620;
            assert_eq!(live(&engine, "c1").is_none(), has_ended, "{seconds} s: its whole time from the return on");
        }
        assert_eq!(live(&engine, "c2"), None, "nobody confirmed it");
        // A restart of the PBX ends it, whatever time it has.
        engine.acquire(at(700), &call("c3", Some(600)), &mut ()).unwrap();
        engine.goodbye(at(700), "n1", 7, &mut ()).unwrap();
        assert_eq!(engine.hello(at(701), "n1", 8, &mut ()).unwrap().dropped, 1);
    }

    /// Sees when each end is told whether it is still due.
    struct Watched<'a>(&'a Engine, Vec<Option<u64>>);

    impl Changes for Watched<'_> {
        fn put(&mut self, _: &SessionRecord<'_>, _: bool) {}
        fn gone(&mut self, _: &GoneRecord<'_>) {
            self.1.push(self.0.next_deadline());
        }
        fn node(&mut self, _: &str, _: u64) {}
    }

    #[test]
    fn what_is_due_is_due_until_all_of_it_has_ended() {
        let engine = engine(3);
        for (subject, session) in [("anna", "d1"), ("bob", "d2"), ("cleo", "d3")] {
            engine.acquire(at(0), &desktop(subject, session), &mut ()).unwrap();
        }
        let mut watched = Watched(&engine, Vec::new());
        engine.expire(at(60), &mut watched);
        let still_due = watched.1.iter().filter(|due| due.is_some_and(|due| due <= at(60).uptime_ms)).count();
        assert_eq!((still_due, watched.1.len()), (3, 3), "who waits for the ends would look too early");
        assert!(engine.next_deadline().is_none_or(|due| due > at(60).uptime_ms));
    }

    #[test]
    fn a_refused_message_leaves_not_even_the_name_of_its_node() {
        let engine = engine(1);
        let lifeless = Acquire { node: Some("n1"), ..Acquire::new("acme", "anna", "d1", Kind::Desktop) };
        assert_eq!(engine.acquire(at(0), &lifeless, &mut ()).unwrap_err().field, "ttl_s");
        assert!(engine.nodes(at(0)).is_empty());
        engine.acquire(at(0), &Acquire { ttl_s: Some(60), ..lifeless }, &mut ()).unwrap();
        assert_eq!(engine.nodes(at(0)).len(), 1);
    }

    #[test]
    fn a_node_that_said_goodbye_is_forgotten_after_its_grace_g6() {
        let engine = engine(1);
        let node = |seconds| engine.nodes(at(seconds)).first().map(|node| (node.up, node.left));
        engine.hello(at(0), "n1", 1, &mut ()).unwrap();
        assert_eq!(node(0), Some((true, false)));
        engine.goodbye(at(5), "n1", 1, &mut ()).unwrap();
        assert_eq!(node(5), Some((false, true)));
        // What was on its way is no return.
        assert!(engine.heartbeat(at(6), "n1", 1, &mut ()).is_err());
        assert_eq!((node(34), node(35)), (Some((false, true)), None));
        engine.hello(at(40), "n1", 1, &mut ()).unwrap();
        assert_eq!(node(40), Some((true, false)), "it came back with the epoch it had");
        engine.goodbye(at(41), "n1", 1, &mut ()).unwrap();
        engine.hello(at(42), "n1", 2, &mut ()).unwrap();
        assert_eq!(node(42), Some((true, false)));
        // Who only falls silent is waited for for a day.
        assert_eq!(
            (node(57), node(42 + 86_399), node(42 + 86_400)),
            (Some((false, false)), Some((false, false)), None)
        );
        assert_eq!(
            engine.hello(at(200_000), "n1", 1, &mut ()),
            Err(NodeFault::StaleEpoch { known: 2 }),
            "its epoch is kept"
        );
    }
}
