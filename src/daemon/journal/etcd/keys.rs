//! The names of what a cluster keeps in etcd.

use crate::daemon::journal::Shard;

/// Names under one prefix: that of the cluster. Numbers are written in as many hexadecimal digits as make the order of the
/// names that of the numbers.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Those of the cluster of this name.
    pub fn new(cluster: &str) -> Self {
        Keys { prefix: format!("usherd/{cluster}/") }
    }

    /// Its owner. Made by who takes the shard, and never put again: the revision that created it is the fence.
    pub fn owner(&self, shard: Shard) -> String {
        format!("{}owner/{:04x}", self.prefix, shard.0)
    }

    /// Where all owners are.
    pub fn owners(&self) -> String {
        format!("{}owner/", self.prefix)
    }

    /// Put by the owner every so often.
    pub fn heartbeat(&self, shard: Shard) -> String {
        format!("{}hb/{:04x}", self.prefix, shard.0)
    }

    /// Where all heartbeats are.
    pub fn heartbeats(&self) -> String {
        format!("{}hb/", self.prefix)
    }

    /// The member for which it was given up.
    pub fn heir(&self, shard: Shard) -> String {
        format!("{}{:04x}", self.heirs(), shard.0)
    }

    /// Where all heirs are.
    pub fn heirs(&self) -> String {
        format!("{}heir/", self.prefix)
    }

    /// A record of the log.
    pub fn record(&self, shard: Shard, seq: u64) -> String {
        format!("{}{seq:016x}", self.log(shard))
    }

    /// Where the records of a shard are.
    pub fn log(&self, shard: Shard) -> String {
        format!("{}log/{:04x}/", self.prefix, shard.0)
    }

    /// A part of a snapshot.
    pub fn part(&self, shard: Shard, generation: u64, part: u32) -> String {
        format!("{}{part:08x}", self.snapshot(shard, generation))
    }

    /// Where the parts of a snapshot are.
    pub fn snapshot(&self, shard: Shard, generation: u64) -> String {
        format!("{}{generation:016x}/", self.snapshots(shard))
    }

    /// Where the snapshots of a shard are.
    pub fn snapshots(&self, shard: Shard) -> String {
        format!("{}snap/{:04x}/", self.prefix, shard.0)
    }

    /// Names the snapshot that counts.
    pub fn pointer(&self, shard: Shard) -> String {
        format!("{}ptr/{:04x}", self.prefix, shard.0)
    }

    /// A member's words about itself.
    pub fn member(&self, member: &str) -> String {
        format!("{}{member}", self.members())
    }

    /// Where all members are.
    pub fn members(&self) -> String {
        format!("{}member/", self.prefix)
    }

    /// The choices that were made with the cluster.
    pub fn constitution(&self) -> String {
        format!("{}cluster", self.prefix)
    }

    /// The shard that a name of [`Keys::owner`] or [`Keys::heartbeat`] is about.
    pub fn shard(&self, key: &str) -> Option<Shard> {
        let (_, digits) = key.rsplit_once('/')?;
        u32::from_str_radix(digits, 16).ok().map(Shard)
    }
}
