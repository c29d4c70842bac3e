//! The subjects, who may hold a seat, in slots that their sessions point to.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::gate::{GroupId, NO_GROUP};
use super::session::Name;

const NO_SUBJECT: u32 = u32::MAX;

/// Where a session's subject stands; valid while the session is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubjectRef {
    pub(crate) stripe: u32,
    pub(crate) slot: u32,
}

impl SubjectRef {
    /// Nobody.
    pub(crate) const NONE: SubjectRef = SubjectRef { stripe: 0, slot: NO_SUBJECT };

    pub(crate) fn is_none(self) -> bool {
        self.slot == NO_SUBJECT
    }
}

/// One subject.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) name: Name,
    /// Sessions that count; a vacant slot keeps the next vacant one here.
    pub(crate) claims: u32,
    /// Sessions in all, counting or not.
    pub(crate) sessions: u32,
    /// The low half of its name's hash, which is all that its index needs.
    hash: u32,
    pub(crate) group: GroupId,
    /// Holds a seat: has claims, or lingers (E2).
    pub(crate) seated: bool,
}

/// Subjects of one stripe, in slots that sessions point to.
#[derive(Debug)]
pub(crate) struct Subjects {
    pub(crate) index: HashTable<u32>,
    pub(crate) slots: Vec<Subject>,
    vacant: u32,
    /// Seats without a claim, and until when their subjects keep them (E2).
    pub(crate) lingering: Vec<(u64, u32)>,
}

impl Default for Subjects {
    fn default() -> Self {
        Subjects { index: HashTable::new(), slots: Vec::new(), vacant: NO_SUBJECT, lingering: Vec::new() }
    }
}

impl Subjects {
    pub(crate) fn find(&self, hash: u64, name: &str) -> Option<u32> {
        self.index.find(spread(hash as u32), |slot| self.slots[*slot as usize].name == name).copied()
    }

    pub(crate) fn insert(&mut self, hash: u64, name: &str) -> u32 {
        let hash = hash as u32;
        let subject = Subject { name: Name::from(name), claims: 0, sessions: 0, hash, group: NO_GROUP, seated: false };
        let slot = if self.vacant == NO_SUBJECT {
            self.slots.push(subject);
            (self.slots.len() - 1) as u32
        } else {
            let slot = self.vacant;
            self.vacant = self.slots[slot as usize].claims;
            self.slots[slot as usize] = subject;
            slot
        };
        let slots = &self.slots;
        self.index.insert_unique(spread(hash), slot, |slot| spread(slots[*slot as usize].hash));
        slot
    }

    /// Gives the slot back once nothing refers to it.
    pub(crate) fn forget_if_unused(&mut self, slot: u32) {
        let subject = &mut self.slots[slot as usize];
        if subject.sessions > 0 || subject.seated {
            return;
        }
        let hash = spread(subject.hash);
        subject.name = Name::default();
        subject.claims = self.vacant;
        self.vacant = slot;
        if let Ok(entry) = self.index.find_entry(hash, |candidate| *candidate == slot) {
            entry.remove();
        }
        if self.index.is_empty() && self.slots.len() > 32 {
            *self = Subjects::default();
        }
    }
}

/// The hash of a name under the engine's own seed.
pub(crate) fn hash_of(hasher: &RandomState, name: &str) -> u64 {
    hasher.hash_one(name)
}

/// The index's hash of a subject: its top bits tell entries of one bucket apart.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
