//! The memory of unfinished request bodies: one budget, of which each kind of caller has a share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shares of the budget, eighths, in the order of [`Share`].
const EIGHTHS: [usize; SHARES] = [3, 4, 1];
const SHARES: usize = 3;

/// Whose share of the budget a body is held on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Callers that may ask, from an address that a node was heard from; they go on with the share of the others.
    Nodes,
    /// Callers that may ask.
    Others,
    /// Callers that may not ask: looked at only because a call may be inbound, or an emergency. Also the first bytes of
    /// an acquire for which there is no other room.
    Calls,
}

impl Share {
    /// Where there may be room, in this order.
    const fn tried(self) -> &'static [Share] {
        match self {
            Share::Nodes => &[Share::Nodes, Share::Others],
            Share::Others => &[Share::Others],
            Share::Calls => &[Share::Calls],
        }
    }
}

/// The bytes of all unfinished bodies against their budget; shared by all listeners and cores.
#[derive(Debug)]
pub struct Bodies {
    max: AtomicUsize,
    used: [AtomicUsize; SHARES],
}

impl Bodies {
    /// A budget of so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Bodies { max: AtomicUsize::new(bytes_max), used: Default::default() }
    }

    /// Changes the budget, bytes; what is held already stays.
    pub fn set_max(&self, bytes_max: usize) {
        self.max.store(bytes_max, Ordering::Relaxed);
    }

    /// The bytes that are held.
    pub fn used(&self) -> u64 {
        self.used.iter().map(|used| used.load(Ordering::Relaxed) as u64).sum()
    }

    fn take(&self, share: Share, bytes: usize) -> bool {
        let max = self.max.load(Ordering::Relaxed) / 8 * EIGHTHS[share as usize];
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= max);
        self.used[share as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, share: usize, bytes: usize) {
        self.used[share].fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The bytes that one body holds of the budget, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    bodies: Arc<Bodies>,
    share: Share,
    taken: [usize; SHARES],
}

impl Held {
    /// Nothing yet.
    pub(super) fn new(bodies: &Arc<Bodies>, share: Share) -> Self {
        Held { bodies: Arc::clone(bodies), share, taken: [0; SHARES] }
    }

    /// The bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.taken.iter().sum()
    }

    /// Holds so many bytes in all; `false` where the share has no room for them, and then as many as before.
    pub(super) fn reach(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes());
        more == 0 || self.share.tried().iter().any(|share| self.take(*share, more))
    }

    /// As [`Self::reach`], also on the share that is kept for calls.
    pub(super) fn reach_for_call(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes());
        self.reach(bytes) || self.take(Share::Calls, more)
    }

    fn take(&mut self, share: Share, bytes: usize) -> bool {
        let took = self.bodies.take(share, bytes);
        self.taken[share as usize] += if took { bytes } else { 0 };
        took
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for (share, bytes) in self.taken.iter().enumerate().filter(|(_, bytes)| **bytes > 0) {
            self.bodies.give_back(share, *bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_share_and_nodes_that_of_the_others_too() {
        let bodies = Arc::new(Bodies::new(80));
        let held = |share, bytes| {
            let mut held = Held::new(&bodies, share);
            held.reach(bytes).then_some(held)
        };
        assert!(held(Share::Others, 41).is_none());
        let others = held(Share::Others, 40).unwrap();
        assert!(held(Share::Others, 1).is_none() && held(Share::Calls, 11).is_none());
        let node = held(Share::Nodes, 30).unwrap();
        assert!(held(Share::Nodes, 1).is_none());
        let calls = held(Share::Calls, 10).unwrap();
        assert_eq!(bodies.used(), 80, "never more than the budget");
        drop((node, calls));
        assert_eq!(bodies.used(), 40);
        drop(others);
        let _node = held(Share::Nodes, 20).unwrap();
        assert!(held(Share::Nodes, 40).is_some(), "in the share of the others");
    }

    #[test]
    fn a_body_grows_and_a_call_finds_room_when_all_else_is_full() {
        let bodies = Arc::new(Bodies::new(80));
        let mut full = Held::new(&bodies, Share::Others);
        assert!(full.reach(10) && full.reach(40) && full.reach(30) && !full.reach(41));
        assert_eq!(bodies.used(), 40);
        let mut call = Held::new(&bodies, Share::Others);
        assert!(!call.reach(5) && call.reach_for_call(5) && call.reach_for_call(10) && !call.reach_for_call(11));
        drop((full, call));
        assert_eq!(bodies.used(), 0);
    }

    #[test]
    fn a_smaller_budget_ends_nothing_and_lets_nothing_in() {
        let bodies = Arc::new(Bodies::new(80));
        let mut held = Held::new(&bodies, Share::Others);
        assert!(held.reach(40));
        bodies.set_max(8);
        assert_eq!(bodies.used(), 40);
        assert!(!Held::new(&bodies, Share::Others).reach(1));
        drop(held);
        assert!(Held::new(&bodies, Share::Others).reach(4));
    }
}
