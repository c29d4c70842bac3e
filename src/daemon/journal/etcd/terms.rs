//! The shards that this daemon decides, and since which revision of etcd: read by every decision.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::daemon::journal::Shard;

/// Of each shard the fence with which it is decided here; 0 where it is not.
#[derive(Debug)]
pub struct Terms(Box<[AtomicU64]>);

impl Terms {
    /// Nothing is decided here.
    pub fn new(shards: u32) -> Self {
        Terms((0..shards).map(|_| AtomicU64::new(0)).collect())
    }

    /// Number of shards.
    pub fn shards(&self) -> u32 {
        self.0.len() as u32
    }

    /// The fence of a shard that is decided here; 0 where it is not, and where there is no such shard.
    pub fn of(&self, shard: Shard) -> u64 {
        self.0.get(shard.0 as usize).map_or(0, |fence| fence.load(Ordering::Acquire))
    }

    /// Decisions are made from now on.
    pub fn begin(&self, shard: Shard, fence: u64) {
        if let Some(term) = self.0.get(shard.0 as usize) {
            term.store(fence, Ordering::Release);
        }
    }

    /// No decision is made from now on; those in progress may still end.
    pub fn end(&self, shard: Shard) {
        self.begin(shard, 0);
    }

    /// The shards that are decided here.
    pub fn mine(&self) -> impl Iterator<Item = Shard> + '_ {
        (0..self.shards()).map(Shard).filter(|shard| self.of(*shard) != 0)
    }
}
