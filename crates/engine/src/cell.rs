//! A cell of the table: a session and the person that it belongs to, together, so that one look finds both.

use super::gate::{GroupId, NO_GROUP};
use super::key::Key;
use super::session::{Class, Code, Device, Direction, Kind, Leg, SessionRecord, Stamp};

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;
/// No node.
pub(crate) const NO_NODE: u32 = u32::MAX;

/// In which part of its life a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// There is no session: the cell is vacant, or its person's other cells hold what there is.
    Absent,
    Live,
    /// Its node is lost; the deadline is the end of the grace (G6).
    Orphan,
    /// Its node is lost, and its own time runs out before the grace does.
    OrphanTtl,
}

/// One cell, on two cache lines.
///
/// The first session of a subject stands in its *home*: a cell that also counts the subject's claims and sessions.
/// Further sessions of it have cells of their own, as has a session of nobody.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Cell {
    pub(crate) session: Key,
    /// The session's subject, and whose home this is; empty for nobody.
    pub(crate) subject: Key,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    /// Uptime milliseconds at which the session ends by itself; [`NEVER`] where its node's lease is all it has.
    pub(crate) deadline: u64,
    pub(crate) version: u64,
    pub(crate) started_utc_ms: i64,
    pub(crate) node: u32,
    /// 0 is none.
    pub(crate) ttl_s: u32,
    /// Sessions of the subject that count; in its home. A vacant cell keeps the next vacant one here.
    pub(crate) claims: u32,
    /// Sessions of the subject in all, counting or not; in its home.
    pub(crate) sessions: u32,
    /// Where the cell stands in the order of a walk: by the subject's name for a home, by the session's for others.
    pub(crate) route: u32,
    /// Where the session's name stands among the stripes.
    pub(crate) id_route: u32,
    pub(crate) group: GroupId,
    pub(crate) kind: Kind,
    pub(crate) direction: Option<Direction>,
    pub(crate) leg: Leg,
    pub(crate) device: Option<Device>,
    pub(crate) class: Option<Class>,
    pub(crate) first: Code,
    pub(crate) life: Life,
    pub(crate) flags: Flags,
}

/// The yes-or-no facts of a cell in one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    const COUNTS: u8 = 1;
    const EXTERNAL: u8 = 2;
    const EPOCH: u8 = 4;
    const SEQ: u8 = 8;
    const HOME: u8 = 16;
    const SEATED: u8 = 32;
    /// Those of the subject; the others are the session's.
    const SUBJECT: u8 = Self::HOME | Self::SEATED;

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
    }
}

impl Default for Cell {
    fn default() -> Self {
        Cell {
            session: Key::default(),
            subject: Key::default(),
            epoch: 0,
            seq: 0,
            deadline: NEVER,
            version: 0,
            started_utc_ms: 0,
            node: NO_NODE,
            ttl_s: 0,
            claims: 0,
            sessions: 0,
            route: 0,
            id_route: 0,
            group: NO_GROUP,
            kind: Kind::Call,
            direction: None,
            leg: Leg::Originate,
            device: None,
            class: None,
            first: Code::ReleasedNone,
            life: Life::Absent,
            flags: Flags::default(),
        }
    }
}

impl Cell {
    /// True if there is a session here.
    pub(crate) fn is_live(&self) -> bool {
        self.life != Life::Absent
    }

    pub(crate) fn is_orphan(&self) -> bool {
        matches!(self.life, Life::Orphan | Life::OrphanTtl)
    }

    /// True if its session counts: it is a claim.
    pub(crate) fn counts(&self) -> bool {
        self.flags.has(Flags::COUNTS)
    }

    pub(crate) fn external(&self) -> bool {
        self.flags.has(Flags::EXTERNAL)
    }

    /// True if it counts for its subject.
    pub(crate) fn is_home(&self) -> bool {
        self.flags.has(Flags::HOME)
    }

    /// True if its subject holds a seat: it has claims, or lingers (E2).
    pub(crate) fn is_seated(&self) -> bool {
        self.flags.has(Flags::SEATED)
    }

    /// Says whether the session counts, and whether it uses a trunk line.
    pub(crate) fn set_uses(&mut self, counts: bool, external: bool) {
        self.flags.set(Flags::COUNTS, counts);
        self.flags.set(Flags::EXTERNAL, external);
    }

    pub(crate) fn set_home(&mut self, home: bool) {
        self.flags.set(Flags::HOME, home);
    }

    pub(crate) fn set_seated(&mut self, seated: bool) {
        self.flags.set(Flags::SEATED, seated);
    }

    /// Its node is lost: it waits until this instant for it, or another, to confirm it (G6).
    pub(crate) fn orphan_until(&mut self, grace_until: u64) {
        self.life = if self.deadline <= grace_until { Life::OrphanTtl } else { Life::Orphan };
        self.deadline = self.deadline.min(grace_until);
    }

    /// Takes the session away, and keeps what is of the subject.
    pub(crate) fn leave_session(&mut self) {
        self.session = Key::default();
        self.deadline = NEVER;
        self.node = NO_NODE;
        self.life = Life::Absent;
        self.flags = Flags(self.flags.0 & Flags::SUBJECT);
    }

    pub(crate) fn epoch(&self) -> Option<u64> {
        self.flags.has(Flags::EPOCH).then_some(self.epoch)
    }

    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.flags.has(Flags::SEQ).then_some(Stamp { epoch: self.epoch, seq: self.seq })
    }

    pub(crate) fn set_order(&mut self, epoch: Option<u64>, seq: Option<u64>) {
        self.flags.set(Flags::EPOCH, epoch.is_some());
        self.flags.set(Flags::SEQ, epoch.is_some() && seq.is_some());
        self.epoch = epoch.unwrap_or(self.epoch);
        self.seq = epoch.and(seq).unwrap_or(self.seq);
    }

    /// True if a message of this node, epoch and seq is older than what the session has seen (G5).
    pub(crate) fn is_newer_than(&self, node: u32, (epoch, seq): (Option<u64>, Option<u64>)) -> bool {
        let (Some(epoch), Some(own)) = (epoch, self.epoch()) else { return false };
        let seqs = (seq, self.stamp().map(|stamp| stamp.seq));
        self.node == node && (epoch < own || (epoch == own && matches!(seqs, (Some(seq), Some(own)) if seq < own)))
    }

    /// Everything that is recorded of its session; names are given as text.
    pub(crate) fn record<'a>(&self, tenant: &'a str, names: RecordNames<'a>) -> SessionRecord<'a> {
        SessionRecord {
            tenant,
            session: names.session,
            subject: names.subject,
            kind: self.kind,
            direction: self.direction,
            leg: self.leg,
            device: self.device,
            class: self.class,
            counts: self.counts(),
            external: self.external(),
            group: names.group,
            node: names.node,
            epoch: self.epoch(),
            seq: self.stamp().map(|stamp| stamp.seq),
            ttl_s: (self.ttl_s > 0).then_some(self.ttl_s),
            first: self.first,
            started_utc_ms: self.started_utc_ms,
            version: self.version,
        }
    }
}

/// The names in a session's record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordNames<'a> {
    pub(crate) session: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) group: &'a str,
    pub(crate) node: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_takes_two_cache_lines() {
        assert_eq!(size_of::<Cell>(), 128);
    }
}
