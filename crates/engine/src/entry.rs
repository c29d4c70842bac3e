//! One entry of the table: a live session, an orphan, or the tombstone of one; and the stripe it stands in.

use hashbrown::HashTable;

use super::session::{Class, Code, Device, Direction, Kind, Leg, Name, Stamp};
use super::subjects::SubjectRef;

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;
/// No node.
pub(crate) const NO_NODE: u32 = u32::MAX;

/// In which part of its life an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Live,
    /// Its node is lost; the deadline is the end of the grace (G6).
    Orphan,
    /// Its node is lost, and its own time runs out before the grace does.
    OrphanTtl,
    /// Only its last stamp is remembered (G5).
    Tombstone,
}

/// One entry of the table.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) name: Name,
    pub(crate) subject: SubjectRef,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    /// Uptime milliseconds at which it ends by itself; [`NEVER`] where its node's lease is all it has.
    pub(crate) deadline: u64,
    pub(crate) version: u64,
    pub(crate) started_utc_ms: i64,
    pub(crate) node: u32,
    /// 0 is none.
    pub(crate) ttl_s: u32,
    pub(crate) kind: Kind,
    pub(crate) direction: Option<Direction>,
    pub(crate) leg: Leg,
    pub(crate) device: Option<Device>,
    pub(crate) class: Option<Class>,
    pub(crate) first: Code,
    pub(crate) life: Life,
    pub(crate) flags: Flags,
}

/// The yes-or-no facts of a session in one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    const COUNTS: u8 = 1;
    const EXTERNAL: u8 = 2;
    const EPOCH: u8 = 4;
    const SEQ: u8 = 8;

    pub(crate) fn new(counts: bool, external: bool) -> Self {
        Flags((u8::from(counts) * Self::COUNTS) | (u8::from(external) * Self::EXTERNAL))
    }
}

impl Session {
    /// The remains of a session that is gone, or was never seen: the newest message of its node (G5).
    pub(crate) fn tombstone(name: &str, node: u32, stamp: Stamp, until_ms: u64) -> Self {
        let mut tombstone = Session {
            name: Name::from(name),
            subject: SubjectRef::NONE,
            epoch: 0,
            seq: 0,
            deadline: until_ms,
            version: 0,
            started_utc_ms: 0,
            node,
            ttl_s: 0,
            kind: Kind::Call,
            direction: None,
            leg: Leg::Originate,
            device: None,
            class: None,
            first: Code::ReleasedNone,
            life: Life::Tombstone,
            flags: Flags::default(),
        };
        tombstone.set_order(Some(stamp.epoch), Some(stamp.seq));
        tombstone
    }

    pub(crate) fn counts(&self) -> bool {
        self.flags.0 & Flags::COUNTS != 0
    }

    pub(crate) fn external(&self) -> bool {
        self.flags.0 & Flags::EXTERNAL != 0
    }

    pub(crate) fn is_live(&self) -> bool {
        self.life != Life::Tombstone
    }

    pub(crate) fn is_orphan(&self) -> bool {
        matches!(self.life, Life::Orphan | Life::OrphanTtl)
    }

    pub(crate) fn epoch(&self) -> Option<u64> {
        (self.flags.0 & Flags::EPOCH != 0).then_some(self.epoch)
    }

    pub(crate) fn stamp(&self) -> Option<Stamp> {
        (self.flags.0 & Flags::SEQ != 0).then_some(Stamp { epoch: self.epoch, seq: self.seq })
    }

    pub(crate) fn set_order(&mut self, epoch: Option<u64>, seq: Option<u64>) {
        self.flags.0 &= !(Flags::EPOCH | Flags::SEQ);
        if let Some(epoch) = epoch {
            self.flags.0 |= Flags::EPOCH;
            self.epoch = epoch;
            if let Some(seq) = seq {
                self.flags.0 |= Flags::SEQ;
                self.seq = seq;
            }
        }
    }

    /// True if a message of this node, epoch and seq is older than what the entry has seen (G5).
    pub(crate) fn is_newer_than(&self, node: u32, (epoch, seq): (Option<u64>, Option<u64>)) -> bool {
        let (Some(epoch), Some(own)) = (epoch, self.epoch()) else { return false };
        let seqs = (seq, self.stamp().map(|stamp| stamp.seq));
        self.node == node && (epoch < own || (epoch == own && matches!(seqs, (Some(seq), Some(own)) if seq < own)))
    }

    /// True if this entry, a tombstone, blocks an acquire of this node and stamp (G5).
    pub(crate) fn blocks(&self, node: u32, stamp: Option<Stamp>, now_ms: u64) -> bool {
        self.deadline > now_ms
            && self.node == node
            && matches!((stamp, self.stamp()), (Some(message), Some(own)) if message <= own)
    }
}

/// Sessions of one stripe.
#[derive(Debug, Default)]
pub(crate) struct Stripe {
    pub(crate) entries: HashTable<Box<Session>>,
    /// Lower bound of the deadlines of its live entries.
    pub(crate) due: u64,
    /// Last version given; grows with every recorded change.
    pub(crate) version: u64,
    pub(crate) tombstones: u32,
}

impl Stripe {
    pub(crate) fn find(&mut self, hash: u64, name: &str) -> Option<&mut Session> {
        self.entries.find_mut(hash, |entry| entry.name == name).map(|entry| &mut **entry)
    }

    pub(crate) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }
}
