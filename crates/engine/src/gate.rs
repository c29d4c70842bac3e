//! Further limits on a seat: provider pools (F7) and reservations (F6); who has none pays nothing.

use std::sync::Arc;

use super::seats::SeatState;
use super::session::{Detail, Name};
use super::sync::{Mutex, MutexGuard};

/// A provider pool: seats that several tenants draw from (F7).
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) id: Name,
    pub(crate) state: Mutex<PoolState>,
}

/// The counts of a pool.
#[derive(Debug, Default)]
pub(crate) struct PoolState {
    pub(crate) seats: u32,
    pub(crate) in_use: u32,
}

/// Seats set aside for a group, and how many its subjects hold.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: Name,
    pub(crate) seats: u32,
    pub(crate) held: u32,
}

/// Position of a group in its tenant's gate; stable for the life of the process.
pub(crate) type GroupId = u16;

/// No group.
pub(crate) const NO_GROUP: GroupId = GroupId::MAX;

/// A tenant's further limits. While a tenant is gated, its seats change hands only under this lock.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pub(crate) pool: Option<Arc<Pool>>,
    /// Every group that was ever configured; those that are not any more have 0 seats.
    pub(crate) groups: Vec<Group>,
    /// The configured ones, in file order: reservations shrink in this order.
    order: Vec<GroupId>,
}

impl Gate {
    /// True if seats must change hands under this gate.
    pub(crate) fn is_needed(&self) -> bool {
        self.pool.is_some() || !self.groups.is_empty()
    }

    /// The group of this name, if it is configured now.
    pub(crate) fn group(&self, name: Option<&str>) -> GroupId {
        let Some(name) = name else { return NO_GROUP };
        let found = self.order.iter().find(|id| self.groups[usize::from(**id)].name == name);
        found.copied().unwrap_or(NO_GROUP)
    }

    /// Takes over the reservations of a plan; seats that groups hold already stay counted.
    pub(crate) fn reserve(&mut self, reserve: &[(Name, u32)]) {
        self.order.clear();
        for group in &mut self.groups {
            group.seats = 0;
        }
        for (name, seats) in reserve {
            let known = self.groups.iter().position(|group| group.name == *name);
            let id = known.unwrap_or_else(|| {
                self.groups.push(Group { name: name.clone(), seats: 0, held: 0 });
                self.groups.len() - 1
            });
            self.groups[id].seats = *seats;
            self.order.push(id as GroupId);
        }
    }

    /// Seats that are set aside for groups other than `id` and not held by them (F6).
    fn reserved_for_others(&self, quota: u32, id: GroupId) -> u32 {
        let mut left = quota;
        let mut reserved = 0;
        for other in &self.order {
            let group = &self.groups[usize::from(*other)];
            let seats = group.seats.min(left);
            left -= seats;
            if *other != id {
                reserved += seats.saturating_sub(group.held);
            }
        }
        reserved
    }

    /// The limit that is full for a subject of group `id`, if any is.
    pub(crate) fn full(
        &self,
        word: SeatState,
        id: GroupId,
        pool: Option<&MutexGuard<'_, PoolState>>,
    ) -> Option<Detail> {
        if word.full() {
            return Some(Detail::Tenant);
        }
        if pool.is_some_and(|pool| pool.in_use >= pool.seats) {
            return Some(Detail::Pool);
        }
        let quota = word.quota()?;
        let free = quota.saturating_sub(word.held());
        (free <= self.reserved_for_others(quota, id)).then_some(Detail::Reservation)
    }

    /// Counts a seat that was taken by a subject of group `id`; the pool counts its own.
    pub(crate) fn count(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get_mut(usize::from(id)) {
            group.held += 1;
        }
    }

    /// Counts a seat that was given back by a subject of group `id`; `false` where the pool, which counts every seat
    /// of its tenants, did not know of it.
    pub(crate) fn discount(&mut self, id: GroupId) -> bool {
        if let Some(group) = self.groups.get_mut(usize::from(id)) {
            group.held = group.held.saturating_sub(1);
        }
        let Some(pool) = &self.pool else { return true };
        let mut state = pool.state.lock();
        let known = state.in_use.checked_sub(1);
        state.in_use = known.unwrap_or(0);
        known.is_some()
    }

    /// Moves `held` seats to another pool, or to none.
    pub(crate) fn draw_from(&mut self, pool: Option<Arc<Pool>>, held: u32) {
        let same = match (&self.pool, &pool) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        if let Some(old) = &self.pool {
            let mut state = old.state.lock();
            state.in_use = state.in_use.saturating_sub(held);
        }
        if let Some(new) = &pool {
            new.state.lock().in_use += held;
        }
        self.pool = pool;
    }
}
