//! Quotas and policies are installed, sessions restored after a restart (F1, F4, G10, J5, J6).

use std::hash::BuildHasher;
use std::sync::Arc;

use super::cell::{Cell, Life, NEVER, NO_NODE};
use super::ending::{End, end_session, lay, place};
use super::gate::{NO_GROUP, Pool, PoolState};
use super::holds::Work;
use super::ids::Tombstone;
use super::key::Key;
use super::part::Part;
use super::plan::{Entitled, Plan};
use super::session::{Changes, Direction, EPOCH_MAX, Kind, Name, Now, Reason, SessionRecord, Stamp, Standing};
use super::shared::lower;
use super::sync::{Mutex, Ordering};
use super::table::{ClaimTerms, Tenant};
use super::{Engine, Slot, World};

/// A tombstone as the journal remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredTombstone {
    /// The tenant.
    pub tenant: Name,
    /// Its id.
    pub session: Name,
    /// The node whose messages it keeps out; empty for none.
    pub node: Name,
    /// The newest of them.
    pub stamp: Stamp,
    /// As in the journal.
    pub version: u64,
    /// How much longer it stands, milliseconds.
    pub left_ms: u64,
}

/// The part of a plan that concerns one tenant.
struct Share<'a> {
    entitled: Entitled,
    /// `None` leaves the reservations as they are.
    reserve: Option<&'a [(Name, u32)]>,
    pool: Option<&'a Arc<Pool>>,
}

impl Engine {
    /// Swaps the whole configuration in. Ends no claim but pairings of tenants that are ended by it (F1, J6).
    pub fn install(&self, now: Now, plan: Plan, changes: &mut impl Changes) {
        let _one_at_a_time = self.installing.lock();
        let old = self.world.load_full();
        let pools = self.pools_of(&plan, &old);
        let mut tenants = std::collections::HashMap::with_capacity_and_hasher(plan.tenants.len(), Default::default());
        for tenant_plan in &plan.tenants {
            let tenant = match old.tenants.get(&tenant_plan.id) {
                Some(slot) => Arc::clone(&slot.tenant),
                None => Arc::new(self.new_tenant(tenant_plan.id.clone(), now)),
            };
            let policy = Arc::clone(&tenant_plan.policy);
            tenants.insert(tenant_plan.id.clone(), Slot { tenant, policy, configured: true });
        }
        for (id, slot) in &old.tenants {
            // A tenant that is gone from the plan keeps its sessions until they end (rule book 11).
            if tenants.contains_key(id) {
                continue;
            }
            if slot.tenant.hot.sessions.load(Ordering::Acquire) > 0 {
                tenants.insert(id.clone(), Slot { configured: false, ..slot.clone() });
            } else {
                slot.tenant.gate.lock().draw_from(None, slot.tenant.seats.read().held());
                // Should it come back, its records must still be newer than those of today.
                self.shared.version_floor.fetch_max(slot.tenant.highest_version(), Ordering::AcqRel);
            }
        }
        let world = Arc::new(World {
            tenants,
            pools,
            default_tenant: plan.default_tenant.clone(),
            unknown: Arc::clone(&plan.unknown),
            timers: plan.timers,
        });
        self.world.store(Arc::clone(&world));
        for tenant_plan in &plan.tenants {
            if let Some(slot) = world.tenants.get(&tenant_plan.id) {
                let pool = tenant_plan.pool.as_ref().and_then(|id| world.pools.iter().find(|pool| pool.id == *id));
                let share = Share { entitled: tenant_plan.entitled, reserve: Some(&tenant_plan.reserve), pool };
                self.apply(now, slot, &share, &world, changes);
                let offline_before = old.tenants.get(&tenant_plan.id).map(|slot| slot.policy.mobile_offline_ms);
                if offline_before.is_some_and(|before| before != slot.policy.mobile_offline_ms) {
                    restart_mobiles(now, slot);
                }
            }
        }
        let removed = Entitled { standing: Standing::Ended, seats: Some(0) };
        for slot in world.tenants.values().filter(|slot| !slot.configured) {
            let own = slot.tenant.gate.lock().pool.as_ref().map(|pool| pool.id.clone());
            let pool = own.and_then(|id| world.pools.iter().find(|pool| pool.id == id));
            self.apply(now, slot, &Share { entitled: removed, reserve: None, pool }, &world, changes);
        }
        // Leases and graces may have become shorter: look at everything once.
        lower(&self.shared.due, now.uptime_ms);
    }

    /// Sets one tenant's standing and quota, as its schedule says; `false` for an unknown tenant.
    pub fn entitle(&self, now: Now, tenant: &str, entitled: Entitled, changes: &mut impl Changes) -> bool {
        let _one_at_a_time = self.installing.lock();
        let world = self.world.load();
        let Some(slot) = world.tenants.get(tenant).filter(|slot| slot.configured) else { return false };
        let gate = slot.tenant.gate.lock();
        let gated = gate.is_needed();
        let (before, _) = slot.tenant.seats.set(now.uptime_ms, entitled.seats, entitled.standing as u8, gated);
        drop(gate);
        self.follow_standing(now, slot, before.standing(), entitled.standing, &world, changes);
        true
    }

    /// Lets the clients of a tenant that ended be closed no later than at this instant: a drain that began before
    /// a restart ends when it would have (J6). Nothing for a tenant that has not ended.
    pub fn drain_by(&self, tenant: &str, uptime_ms: u64) {
        let world = self.world.load();
        let Some(slot) = world.tenants.get(tenant) else { return };
        let drain_at = &slot.tenant.hot.drain_at;
        if drain_at.load(Ordering::Acquire) != NEVER {
            lower(drain_at, uptime_ms);
            slot.tenant.due_at(uptime_ms);
        }
    }

    /// From now on an end takes no pairing and closes no client: nobody trusts the clock by which it came (H5). New
    /// claims are denied all the same.
    pub fn hold_ends(&self) {
        self.holds_ends.store(true, Ordering::SeqCst);
    }

    /// True if ends are held.
    pub fn holds_ends(&self) -> bool {
        self.holds_ends.load(Ordering::SeqCst)
    }

    /// The clock is trusted again: what ended meanwhile, and has not been taken up again, ends for its pairings and
    /// clients from now on (J6). Answers which tenants these are.
    pub fn release_ends(&self, now: Now, changes: &mut impl Changes) -> Vec<Name> {
        let _one_at_a_time = self.installing.lock();
        self.holds_ends.store(false, Ordering::SeqCst);
        let world = self.world.load();
        let mut ended = Vec::new();
        for (id, slot) in &world.tenants {
            if slot.tenant.hot.end_held.load(Ordering::Acquire) {
                self.follow_standing(now, slot, Standing::Ended as u8, Standing::Ended, &world, changes);
                ended.push(id.clone());
            }
            let drain_at = slot.tenant.hot.drain_at.load(Ordering::Acquire);
            if drain_at != NEVER {
                slot.tenant.due_at(drain_at);
            }
        }
        ended
    }

    /// Puts the sessions of a journal back (G10): mobiles live; what lives by its own `ttl_s`, on no node or on one
    /// that has no lease, live for the whole of it, because renewals are not written; everything else as orphans
    /// until its node, or another, confirms it or the learning time is over. Nothing is denied here.
    ///
    /// Call it after the plan was installed, before any request for these tenants; others may be decided meanwhile. The
    /// learning time is spread over a quarter
    /// more, so that not all expire at once (I15). Every later record gets a version above `version_floor`, the
    /// highest in the journal. Answers how many sessions could not be held.
    pub fn restore<'a>(
        &self,
        now: Now,
        sessions: impl Iterator<Item = SessionRecord<'a>> + Clone,
        tombstones: &[RestoredTombstone],
        nodes: &[(Name, u64)],
        version_floor: u64,
    ) -> u32 {
        let _one_at_a_time = self.installing.lock();
        let world = self.world.load_full();
        self.shared.version_floor.fetch_max(version_floor, Ordering::AcqRel);
        for slot in world.tenants.values() {
            slot.tenant.raise_versions(version_floor);
        }
        self.restore_nodes(now, nodes, &world);
        let mut unknown = std::collections::HashMap::new();
        let mut lost = 0;
        // Whoever named a reservation group took the seat: it must come first.
        let grouped = sessions.clone().filter(|session| !session.group.is_empty());
        for session in grouped.chain(sessions.filter(|session| session.group.is_empty())) {
            let slot = self.slot_to_restore(&world, session.tenant, &mut unknown, now);
            lost += u32::from(!self.restore_session(now, &slot, &session, &world));
        }
        for tombstone in tombstones {
            let slot = self.slot_to_restore(&world, &tombstone.tenant, &mut unknown, now);
            self.restore_tombstone(now, &slot.tenant, tombstone);
        }
        if !unknown.is_empty() {
            let mut tenants = world.tenants.clone();
            tenants.extend(unknown);
            self.world.store(Arc::new(World {
                tenants,
                pools: world.pools.clone(),
                default_tenant: world.default_tenant.clone(),
                unknown: Arc::clone(&world.unknown),
                timers: world.timers,
            }));
        }
        lower(&self.shared.due, now.uptime_ms);
        lost
    }

    /// An epoch above the limit comes from an older release; nobody could ever say hello again.
    fn restore_nodes(&self, now: Now, nodes: &[(Name, u64)], world: &World) {
        self.nodes.add_all(nodes.iter().map(|(name, _)| name.as_str()), now.uptime_ms);
        let directory = self.nodes.directory();
        for (name, epoch) in nodes {
            let epoch = if *epoch > EPOCH_MAX { 0 } else { *epoch };
            // One that spoke here meanwhile is known better.
            let found = directory.find(name).filter(|node| node.epoch().is_none_or(|known| known < epoch));
            if let Some(node) = found {
                node.begin(now.uptime_ms, epoch, false, world.timers.lease_ms, &self.shared);
            }
        }
    }

    fn new_tenant(&self, id: Name, now: Now) -> Tenant {
        Tenant::new(id, Arc::clone(&self.shared), now.uptime_ms)
    }

    fn pools_of(&self, plan: &Plan, old: &World) -> Vec<Arc<Pool>> {
        let mut pools = Vec::with_capacity(plan.pools.len());
        for pool_plan in &plan.pools {
            let known = old.pools.iter().find(|pool| pool.id == pool_plan.id).cloned();
            let pool = known.unwrap_or_else(|| {
                Arc::new(Pool { id: pool_plan.id.clone(), state: Mutex::new(PoolState::default()) })
            });
            pool.state.lock().seats = pool_plan.seats;
            pools.push(pool);
        }
        pools
    }

    fn apply(&self, now: Now, slot: &Slot, share: &Share<'_>, world: &World, changes: &mut impl Changes) {
        let tenant = &slot.tenant;
        let mut gate = tenant.gate.lock();
        if let Some(reserve) = share.reserve {
            gate.reserve(reserve);
        }
        let gated = gate.is_needed() || share.pool.is_some();
        let Entitled { standing, seats } = share.entitled;
        let (before, after) = tenant.seats.set(now.uptime_ms, seats, standing as u8, gated);
        // From here on no seat changes hands without this gate, so that `held` is what the pool must count.
        gate.draw_from(share.pool.cloned(), after.held());
        if !gate.is_needed() && gated {
            tenant.seats.set(now.uptime_ms, seats, standing as u8, false);
        }
        drop(gate);
        self.follow_standing(now, slot, before.standing(), standing, world, changes);
    }

    /// Applies a change of standing to live sessions (J6).
    fn follow_standing(
        &self,
        now: Now,
        slot: &Slot,
        before: u8,
        standing: Standing,
        world: &World,
        changes: &mut impl Changes,
    ) {
        let tenant = &slot.tenant;
        if standing == Standing::Active {
            tenant.hot.drain_at.store(NEVER, Ordering::Release);
        }
        let was_held = tenant.hot.end_held.swap(false, Ordering::AcqRel);
        if standing != Standing::Ended || (before == Standing::Ended as u8 && !was_held) {
            return;
        }
        if self.holds_ends() {
            tenant.hot.end_held.store(true, Ordering::Release);
            return;
        }
        if tenant.hot.drain_at.load(Ordering::Acquire) == NEVER {
            let drain_at = now.uptime_ms + slot.policy.end_drain_ms;
            tenant.hot.drain_at.store(drain_at, Ordering::Release);
            tenant.due_at(drain_at);
        }
        let directory = self.nodes.directory();
        let ends = |session: &Cell| session.kind == Kind::Mobile && session.counts();
        let look = |part: &mut Part, mobiles: &mut Vec<Key>| {
            mobiles.extend(part.sessions().filter(|session| ends(session)).map(|session| session.session.clone()));
        };
        tenant.sweep_sessions(Work::Sweep, look, |hold, id, at| {
            if !ends(hold.here().cell(at)) {
                return;
            }
            let end = End {
                now_ms: now.uptime_ms,
                reason: Reason::Ended,
                tombstone: None,
                tombstone_until: now.uptime_ms + world.timers.tombstone_ms,
                linger_until: None,
            };
            end_session(tenant, &directory, hold, id, at, &end, changes);
        });
    }

    fn slot_to_restore(
        &self,
        world: &World,
        tenant: &str,
        unknown: &mut std::collections::HashMap<Name, Slot>,
        now: Now,
    ) -> Slot {
        if let Some(slot) = world.tenants.get(tenant) {
            return slot.clone();
        }
        let slot = unknown.entry(Name::from(tenant)).or_insert_with(|| {
            let tenant = Arc::new(self.new_tenant(Name::from(tenant), now));
            tenant.seats.set(now.uptime_ms, Some(0), Standing::Ended as u8, false);
            let drain_at = now.uptime_ms + world.unknown.end_drain_ms;
            tenant.hot.drain_at.store(drain_at, Ordering::Release);
            tenant.due_at(drain_at);
            Slot { tenant, policy: Arc::clone(&world.unknown), configured: false }
        });
        slot.clone()
    }

    fn restore_session(&self, now: Now, slot: &Slot, from: &SessionRecord<'_>, world: &World) -> bool {
        let tenant = &slot.tenant;
        let (id, subject) = (tenant.asked(from.session), tenant.asked(from.subject));
        let mut hold = tenant.hold(&id);
        let ids = hold.ids();
        ids.version = ids.version.max(from.version);
        if !tenant.reserve_session(&hold) {
            return false;
        }
        let channel = from.external.then_some(usize::from(from.direction != Some(Direction::Inbound)));
        let (home, group) = if from.counts {
            let group = (!from.group.is_empty()).then_some(from.group);
            let terms = ClaimTerms { subject, group, over: true, inactive: true, channels_by: None, channel };
            let claim = tenant.claim(&mut hold, now.uptime_ms, &terms);
            if claim.is_denied() {
                tenant.unreserve_session(&hold);
                return false;
            }
            (Some(claim.home), claim.group)
        } else {
            if let Some(channel) = channel {
                tenant.use_channel(&hold, channel);
            }
            (tenant.refer(&mut hold, &subject), NO_GROUP)
        };
        tenant.tally(&hold, from.kind, from.counts, true);
        let at = place(tenant, &mut hold, &id, &subject, home, group);
        hold.settle(at, &id);
        let part = hold.here();
        let session = part.cell_mut(at);
        session.session = id.key();
        self.restore_into(session, now, slot, from, world);
        let deadline = session.deadline;
        tenant.watch(part, deadline);
        true
    }

    fn restore_into(&self, session: &mut Cell, now: Now, slot: &Slot, from: &SessionRecord<'_>, world: &World) {
        let node = match from.node {
            "" => None,
            name => self.nodes.find_or_add(name, now.uptime_ms, &self.shared),
        };
        if let Some(node) = &node {
            slot.tenant.hot.nodes.fetch_or(1 << (node.index % 64), Ordering::SeqCst);
        }
        let learning = world.timers.learning_ms;
        let spread = foldhash::fast::FixedState::default().hash_one(from.session) % (learning / 4 + 1);
        let own_ttl_s = from.ttl_s.filter(|_| !node.as_ref().is_some_and(|node| node.is_leased()));
        let (life, deadline) = match (from.kind, own_ttl_s) {
            (Kind::Mobile, _) if slot.policy.mobile_offline_ms > 0 => {
                (Life::Live, now.uptime_ms.saturating_add(slot.policy.mobile_offline_ms))
            }
            (Kind::Mobile, _) => (Life::Live, NEVER),
            (_, Some(ttl_s)) => (Life::Live, now.uptime_ms + u64::from(ttl_s) * 1_000),
            (_, None) => (Life::Orphan, now.uptime_ms + learning + spread),
        };
        session.life = life;
        session.deadline = deadline;
        session.version = from.version;
        session.started_utc_ms = from.started_utc_ms;
        session.node = node.map_or(NO_NODE, |node| node.index);
        session.ttl_s = from.ttl_s.unwrap_or(0);
        session.kind = from.kind;
        session.direction = from.direction;
        session.leg = from.leg;
        session.device = from.device;
        session.class = from.class;
        session.first = from.first;
        session.set_uses(from.counts, from.external);
        session.set_order(from.epoch.filter(|epoch| *epoch <= EPOCH_MAX), from.seq);
    }

    fn restore_tombstone(&self, now: Now, tenant: &Tenant, from: &RestoredTombstone) {
        if from.stamp.epoch > EPOCH_MAX {
            return;
        }
        let id = tenant.asked(&from.session);
        let mut hold = tenant.hold(&id);
        if hold.find(&id).is_some() {
            return;
        }
        let node = match from.node.as_str() {
            "" => NO_NODE,
            name => self.nodes.find_or_add(name, now.uptime_ms, &self.shared).map_or(NO_NODE, |node| node.index),
        };
        let ids = hold.ids();
        ids.version = ids.version.max(from.version);
        if ids.tombstone(&id).is_none() {
            let (session, id_route, kind) = (id.key(), id.route(), Kind::Call);
            let until = now.uptime_ms + from.left_ms;
            lay(
                tenant,
                &mut hold,
                Tombstone { session, stamp: from.stamp, until, version: from.version, node, id_route, kind },
            );
        }
    }
}

/// The time after which an unseen mobile loses its claim was changed: it begins anew for all of them (B2).
fn restart_mobiles(now: Now, slot: &Slot) {
    let offline_ms = slot.policy.mobile_offline_ms;
    let deadline = if offline_ms > 0 { now.uptime_ms.saturating_add(offline_ms) } else { NEVER };
    slot.tenant.each_part(Work::Sweep, |part| {
        let mobiles = part.sessions_mut().filter(|session| session.kind == Kind::Mobile);
        mobiles.for_each(|session| session.deadline = deadline);
        slot.tenant.watch(part, deadline);
    });
}
