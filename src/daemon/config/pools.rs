//! Holds the quotas of a pool's tenants against the pool, now and at every booked instant (F7).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::settings::Pool;
use super::tenant::Tenant;

/// The first instant at which a pool is over-allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Excess {
    /// When.
    pub(super) at: DateTime<Utc>,
    /// Seats of its tenants then; `None`: unlimited.
    pub(super) seats: Option<u64>,
}

/// A tenant whose file is another than before.
pub(super) struct Moved<'t> {
    /// Its record of before, where that is known.
    pub(super) before: Option<&'t Tenant>,
    /// The record in its file now.
    pub(super) after: &'t Tenant,
}

/// Which of the tenants that moved take more than the pool has, and from when on: first come those that take no
/// more than before, then the others in their order, each where it still fits. `in_force`: what did not move, and what
/// those that moved were before, was held against the pool when it was taken; where it is too much now it is the clock
/// that went back, and only what takes more is refused.
///
/// # Errors
/// The pool is too small also without all that take more.
pub(super) fn beyond(
    pool: &Pool,
    settled: &[&Tenant],
    moved: &[Moved<'_>],
    in_force: bool,
    now: DateTime<Utc>,
) -> Result<Vec<(usize, Excess)>, Excess> {
    let mut load = Load::default();
    let is_in = |tenant: &&Tenant| tenant.pool.as_ref() == Some(&pool.id);
    settled.iter().copied().filter(is_in).for_each(|tenant| load.add(tenant, now, 1));
    let mut raises = Vec::new();
    for (index, Moved { before, after }) in moved.iter().enumerate() {
        let (before, after) = (before.filter(is_in), Some(*after).filter(is_in));
        let mut step = Load::default();
        after.into_iter().for_each(|tenant| step.add(tenant, now, 1));
        before.into_iter().for_each(|tenant| step.add(tenant, now, -1));
        if step.rises() {
            before.into_iter().for_each(|tenant| load.add(tenant, now, 1));
            raises.push((index, step));
        } else {
            after.into_iter().for_each(|tenant| load.add(tenant, now, 1));
        }
    }
    if let Some(excess) = load.excess(pool.seats).filter(|_| !in_force) {
        return Err(excess);
    }
    let mut refused = Vec::new();
    for (index, step) in raises {
        load.join(&step, 1);
        if let Some(excess) = load.excess(pool.seats) {
            load.join(&step, -1);
            refused.push((index, excess));
        }
    }
    Ok(refused)
}

/// The sum of the quotas of some tenants over time: at each instant what is added, seats and unlimited ones.
#[derive(Debug, Default)]
struct Load(BTreeMap<DateTime<Utc>, (i64, i64)>);

impl Load {
    /// Adds a tenant so many times. Walks its own schedule once.
    fn add(&mut self, tenant: &Tenant, now: DateTime<Utc>, times: i64) {
        let (mut at, mut before) = (now, (0, 0));
        loop {
            let entitlement = tenant.entitlement(at);
            let share = match entitlement.seats {
                _ if !entitlement.state.gives_seats() => (0, 0),
                Some(seats) => (i64::from(seats), 0),
                None => (0, 1),
            };
            let step = self.0.entry(at).or_default();
            *step = (step.0 + times * (share.0 - before.0), step.1 + times * (share.1 - before.1));
            before = share;
            let Some(next) = entitlement.next_change_at else { break };
            at = next;
        }
    }

    fn join(&mut self, other: &Load, times: i64) {
        for (at, (seats, unlimited)) in &other.0 {
            let step = self.0.entry(*at).or_default();
            *step = (step.0 + times * seats, step.1 + times * unlimited);
        }
    }

    fn sums(&self) -> impl Iterator<Item = (DateTime<Utc>, i64, i64)> {
        self.0.iter().scan((0, 0), |sum, (at, step)| {
            *sum = (sum.0 + step.0, sum.1 + step.1);
            Some((*at, sum.0, sum.1))
        })
    }

    fn rises(&self) -> bool {
        self.sums().any(|(_, seats, unlimited)| seats > 0 || unlimited > 0)
    }

    fn excess(&self, most: u32) -> Option<Excess> {
        self.sums().find_map(|(at, seats, unlimited)| {
            let excess = unlimited > 0 || seats > i64::from(most);
            excess.then(|| Excess { at, seats: if unlimited > 0 { None } else { u64::try_from(seats).ok() } })
        })
    }
}
