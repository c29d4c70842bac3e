//! Deadlines: leases, graces, times to live, lingering seats, drains, tombstones.
//!
//! Every tenant and every part of its table keeps a lower bound of its deadlines, so that the reaper looks only where
//! something may be due; a renewal stores its own deadline and touches no queue.

use super::cell::{Cell, Life, NEVER};
use super::ending::{End, end_session};
use super::holds::Work;
use super::key::Key;
use super::part::Part;
use super::plan::Timers;
use super::session::{Changes, Kind, Now, Reason};
use super::shared::lower;
use super::sync::Ordering;
use super::{Engine, Slot, World};

impl Engine {
    /// Ends everything that is due: lost nodes, graces, times to live, lingering seats, drains (G6, E2, E3, J6).
    ///
    /// Pass the present time, not the deadline: after a pause of the process nodes get a full grace.
    pub fn expire(&self, now: Now, changes: &mut impl Changes) {
        let now_ms = now.uptime_ms;
        let due = self.shared.due.load(Ordering::Acquire);
        if due > now_ms {
            return;
        }
        self.shared.expiring.store(due, Ordering::Release);
        self.shared.due.store(NEVER, Ordering::Release);
        let world = self.world.load();
        let mut next = self.lose_silent_nodes(&world, now, changes);
        next = next.min(self.forget_nodes(&world, now, changes));
        let sweep_tombstones = self.sweep_at.load(Ordering::Relaxed) <= now_ms;
        if sweep_tombstones {
            self.sweep_at.store(now_ms + world.timers.tombstone_ms / 4, Ordering::Relaxed);
        }
        for slot in world.tenants.values() {
            if slot.tenant.hot.due.load(Ordering::Acquire) <= now_ms {
                self.expire_tenant(slot, now, &world.timers, changes);
            }
            next = next.min(slot.tenant.hot.due.load(Ordering::Acquire));
            if slot.tenant.hot.tombstones.load(Ordering::Relaxed) > 0 {
                if sweep_tombstones {
                    slot.tenant.sweep_tombstones(Work::Expiry, |tombstone| tombstone.until > now_ms);
                    slot.tenant.stripes.shrink(&self.shared.holds, u32::MAX);
                }
                next = next.min(self.sweep_at.load(Ordering::Relaxed));
            }
        }
        lower(&self.shared.due, next);
        self.shared.expiring.store(NEVER, Ordering::Release);
    }

    /// Orphans the sessions of nodes whose lease is over; answers when the next lease ends.
    fn lose_silent_nodes(&self, world: &World, now: Now, changes: &mut impl Changes) -> u64 {
        let lease_ms = world.timers.lease_ms;
        let mut next = NEVER;
        for node in self.nodes.directory().iter() {
            let Some(ends) = node.lease_ends(lease_ms) else { continue };
            if ends > now.uptime_ms {
                next = next.min(ends);
                continue;
            }
            let _work = node.work();
            if node.is_lost(now.uptime_ms, lease_ms) {
                node.mark_swept();
                self.orphan_all(world, now, node, changes);
            }
        }
        next
    }

    fn expire_tenant(&self, slot: &Slot, now: Now, timers: &Timers, changes: &mut impl Changes) {
        let tenant = &slot.tenant;
        let now_ms = now.uptime_ms;
        tenant.hot.due.store(NEVER, Ordering::Release);
        let drain_at = if self.holds_ends() { NEVER } else { tenant.hot.drain_at.load(Ordering::Acquire) };
        let drained_at = (drain_at <= now_ms).then_some(drain_at);
        if drained_at.is_some() {
            tenant.hot.drain_at.store(NEVER, Ordering::Release);
        } else {
            lower(&tenant.hot.due, drain_at);
        }
        let look = |part: &mut Part, due: &mut Vec<Key>| {
            if part.due <= now_ms || drained_at.is_some() {
                let mut next = NEVER;
                for session in part.sessions() {
                    match due_reason(session, now_ms, drained_at) {
                        Some(_) => due.push(session.session.clone()),
                        None => next = next.min(session.deadline),
                    }
                }
                part.due = next;
            }
            lower(&tenant.hot.due, part.due);
            if !part.lingering.is_empty() {
                lower(&tenant.hot.due, tenant.end_lingering(part, now_ms));
            }
        };
        let directory = self.nodes.directory();
        tenant.sweep_sessions(Work::Expiry, look, |hold, id, at| {
            let session = hold.here().cell(at);
            // It may have been renewed meanwhile.
            let Some(reason) = due_reason(session, now_ms, drained_at) else { return };
            let end = End {
                now_ms,
                reason,
                tombstone: session.stamp().filter(|_| reason == Reason::Ttl),
                tombstone_until: now_ms + timers.tombstone_ms,
                linger_until: None,
            };
            end_session(tenant, &directory, hold, id, at, &end, changes);
        });
        tenant.stripes.shrink(&self.shared.holds, u32::MAX);
    }
}

/// Why a live session ends at an instant, if it does: whatever came first.
fn due_reason(session: &Cell, now_ms: u64, drained_at: Option<u64>) -> Option<Reason> {
    let drains = session.counts() && matches!(session.kind, Kind::Desktop | Kind::Guest);
    if let (Some(drained_at), true) = (drained_at, drains) {
        let earlier = session.deadline < drained_at;
        let at_once_by_ttl = session.deadline == drained_at && session.life != Life::Orphan;
        if !earlier && !at_once_by_ttl {
            return Some(Reason::Ended);
        }
    }
    if session.deadline > now_ms {
        return None;
    }
    Some(if session.life == Life::Orphan { Reason::Grace } else { Reason::Ttl })
}
