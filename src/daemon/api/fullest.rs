//! The fullest tenants, found while all are walked through: by the share of their seats in use, then by seats.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use usherd_engine::{Name, TenantView};

use crate::answers::overview::FULLEST_MAX;

/// Share in millionths, so that 99,999 of 100,000 seats are less than all; seats held; and of equals the first id.
type Rank = (u64, u32, Reverse<Name>);

/// The share of its seats that a tenant holds, millionths.
pub(super) fn share(held: u32, quota: u32) -> u64 {
    u64::from(held) * 1_000_000 / u64::from(quota.max(1))
}

/// The fullest tenants that were seen so far.
#[derive(Default)]
pub(super) struct Fullest(BinaryHeap<Reverse<Rank>>);

impl Fullest {
    /// Takes a tenant into account. One with no seat in use, or without a limit, is not full.
    pub(super) fn see(&mut self, view: &TenantView) {
        let Some(quota) = view.quota.filter(|_| view.held > 0) else { return };
        let share = share(view.held, quota);
        let least = self.0.peek().map(|Reverse((share, held, _))| (*share, *held));
        if self.0.len() == FULLEST_MAX && least.is_some_and(|least| (share, view.held) < least) {
            return;
        }
        self.0.push(Reverse((share, view.held, Reverse(view.id.clone()))));
        if self.0.len() > FULLEST_MAX {
            self.0.pop();
        }
    }

    /// Their ids, the fullest first.
    pub(super) fn ids(self) -> impl Iterator<Item = Name> {
        self.0.into_sorted_vec().into_iter().map(|Reverse((_, _, Reverse(id)))| id)
    }
}
