//! The concurrent table of one tenant: sessions, subjects and their seats.
//!
//! A session is changed under the lock of its stripe, and inside that its subject under the lock of its
//! own stripe, and inside that the seat word (and, for who has one, the gate). Locks are taken in that order
//! only. The seat changes *before* the subject's entry appears or goes (RELIABILITY, the trap), all of it
//! inside the subject's critical section, so that a released seat is grantable as soon as anybody can see it.

use std::sync::Arc;

use super::entry::{NEVER, Stripe};
use super::gate::{Gate, GroupId, NO_GROUP};
use super::plan::Policy;
use super::seats::{SeatState, Seats, Taken, Terms};
use super::session::{Detail, Kind, Name};
use super::shared::{Shared, lower};
use super::subjects::{SubjectRef, Subjects, hash_of};
use super::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering};

/// The outcome of a claim.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Claimed {
    /// A seat was taken.
    New,
    /// The subject was seated already.
    Held,
    /// A seat was taken above a limit (F3).
    Over,
    /// Denied: this was full.
    Full(Detail),
    /// Denied: the subscription is not active.
    Inactive,
}

/// A claim that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) claimed: Claimed,
    /// The seats at the instant of the answer.
    pub(crate) word: SeatState,
    pub(crate) subject: SubjectRef,
    /// The reservation group that the subject's seat counts for.
    pub(crate) group: GroupId,
}

impl Claim {
    /// A claim that nothing was stored of.
    fn denied(claimed: Claimed, word: SeatState) -> Self {
        Claim { claimed, word, subject: SubjectRef::NONE, group: NO_GROUP }
    }
}

/// How a claim is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimTerms<'a> {
    pub(crate) subject: &'a str,
    pub(crate) group: Option<&'a str>,
    /// Admitted also when nothing is free: lifelines, adoptions (F3).
    pub(crate) over: bool,
    /// Goes on in an inactive state: adoptions (D5).
    pub(crate) inactive: bool,
    /// The policy that limits the trunk lines, where that denies this request (L3).
    pub(crate) channels_by: Option<&'a Policy>,
    /// The trunk line that the session will use, by direction.
    pub(crate) channel: Option<usize>,
}

/// The table of one tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) seats: Seats,
    pub(crate) hot: Hot,
    pub(crate) id: Name,
    /// Its number among all tables that were made.
    pub(crate) generation: u64,
    pub(crate) stripes: Box<[Mutex<Stripe>]>,
    subjects: Box<[Mutex<Subjects>]>,
    pub(crate) gate: Mutex<Gate>,
    pub(crate) shared: Arc<Shared>,
}

/// Counters beside the seat word.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Hot {
    /// Live sessions.
    pub(crate) sessions: AtomicU32,
    /// Denials for want of a seat.
    pub(crate) denials: AtomicU64,
    /// Trunk lines in use: inbound, outbound (L3).
    pub(crate) channels: [AtomicU32; 2],
    /// Bit `node % 64` is set once a session of that node was stored.
    pub(crate) nodes: AtomicU64,
    /// Lower bound of the deadlines of its sessions.
    pub(crate) due: AtomicU64,
    /// When its clients are closed after the end (J6).
    pub(crate) drain_at: AtomicU64,
    /// It ended while ends were held: its pairings and clients wait (H5).
    pub(crate) end_held: AtomicBool,
    /// Tombstones that stand.
    pub(crate) tombstones: AtomicU32,
}

impl Tenant {
    pub(crate) fn new(id: Name, shared: Arc<Shared>, seats: Option<u32>, now_ms: u64) -> Self {
        let stripes = stripes_for(seats);
        let version = shared.version_floor.load(Ordering::Acquire);
        let stripe = || Mutex::new(Stripe { due: NEVER, version, ..Stripe::default() });
        Tenant {
            seats: Seats::new(now_ms),
            hot: Hot {
                sessions: AtomicU32::new(0),
                denials: AtomicU64::new(0),
                channels: [AtomicU32::new(0), AtomicU32::new(0)],
                nodes: AtomicU64::new(0),
                due: AtomicU64::new(NEVER),
                drain_at: AtomicU64::new(NEVER),
                end_held: AtomicBool::new(false),
                tombstones: AtomicU32::new(0),
            },
            id,
            generation: shared.generations.fetch_add(1, Ordering::Relaxed),
            stripes: (0..stripes).map(|_| stripe()).collect(),
            subjects: (0..stripes).map(|_| Mutex::new(Subjects::default())).collect(),
            gate: Mutex::new(Gate::default()),
            shared,
        }
    }

    pub(crate) fn hash(&self, name: &str) -> u64 {
        hash_of(&self.shared.hasher, name)
    }

    pub(crate) fn stripe(&self, hash: u64) -> &Mutex<Stripe> {
        &self.stripes[stripe_of(hash, self.stripes.len())]
    }

    /// The name of a session's subject; empty for nobody.
    pub(crate) fn subject_name(&self, at: SubjectRef) -> Name {
        if at.is_none() {
            return Name::default();
        }
        self.subjects[at.stripe as usize].lock().slots[at.slot as usize].name.clone()
    }

    /// True if a session's subject has this name.
    pub(crate) fn is_subject(&self, at: SubjectRef, name: &str) -> bool {
        !at.is_none() && self.subjects[at.stripe as usize].lock().slots[at.slot as usize].name == name
    }

    /// Name and reservation group of a session's subject.
    pub(crate) fn subject_and_group(&self, at: SubjectRef) -> (Name, GroupId) {
        if at.is_none() {
            return (Name::default(), NO_GROUP);
        }
        let subjects = self.subjects[at.stripe as usize].lock();
        let subject = &subjects.slots[at.slot as usize];
        (subject.name.clone(), subject.group)
    }

    /// The name of a reservation group; empty for none.
    pub(crate) fn group_name(&self, group: GroupId) -> Name {
        if group == NO_GROUP {
            return Name::default();
        }
        self.gate.lock().groups.get(usize::from(group)).map(|group| group.name.clone()).unwrap_or_default()
    }

    /// True if a subject holds a seat.
    fn is_seated(&self, subject: &str) -> bool {
        let hash = self.hash(subject);
        let subjects = self.subjects[stripe_of(hash, self.subjects.len())].lock();
        subjects.find(hash, subject).is_some_and(|slot| subjects.slots[slot as usize].seated)
    }

    /// Refers to a subject without a claim: for sessions that do not count.
    pub(crate) fn refer(&self, subject: &str) -> SubjectRef {
        if subject.is_empty() {
            return SubjectRef::NONE;
        }
        let hash = self.hash(subject);
        let stripe = stripe_of(hash, self.subjects.len());
        let mut subjects = self.subjects[stripe].lock();
        let slot = match subjects.find(hash, subject) {
            Some(slot) => slot,
            None => subjects.insert(hash, subject),
        };
        subjects.slots[slot as usize].sessions += 1;
        SubjectRef { stripe: stripe as u32, slot }
    }

    /// One more claim of a subject: D1 to D3 and F6, F7, L3, in one critical section.
    pub(crate) fn claim(&self, now_ms: u64, terms: &ClaimTerms<'_>) -> Claim {
        let hash = self.hash(terms.subject);
        let stripe = stripe_of(hash, self.subjects.len());
        let mut subjects = self.subjects[stripe].lock();
        let found = subjects.find(hash, terms.subject);
        let word = self.seats.read();
        if word.standing() != 0 && !terms.inactive {
            return Claim::denied(Claimed::Inactive, word);
        }
        let seated = found.filter(|slot| subjects.slots[*slot as usize].seated);
        let mut gate = terms.channels_by.map(|_| self.gate.lock());
        if self.channels_full(word, terms) {
            return Claim::denied(Claimed::Full(Detail::Channels), word);
        }
        let (claimed, word, group) = match seated {
            Some(_) => (Claimed::Held, word, NO_GROUP),
            None => self.take_seat(now_ms, terms, &mut gate),
        };
        if matches!(claimed, Claimed::Full(_) | Claimed::Inactive) {
            return Claim::denied(claimed, word);
        }
        if let Some(direction) = terms.channel {
            self.hot.channels[direction].fetch_add(1, Ordering::Relaxed);
        }
        drop(gate);
        let slot = match found {
            Some(slot) => slot,
            None => subjects.insert(hash, terms.subject),
        };
        let subject = &mut subjects.slots[slot as usize];
        let lingered = subject.seated && subject.claims == 0;
        if !subject.seated {
            subject.group = group;
        }
        subject.seated = true;
        subject.claims += 1;
        subject.sessions += 1;
        let group = subject.group;
        if lingered {
            subjects.lingering.retain(|(_, lingering)| *lingering != slot);
        }
        Claim { claimed, word, subject: SubjectRef { stripe: stripe as u32, slot }, group }
    }

    /// The outcome of a claim if it came now; changes nothing.
    pub(crate) fn peek(&self, terms: &ClaimTerms<'_>) -> Claim {
        let word = self.seats.read();
        let full = match word.gated() {
            true => {
                let gate = self.gate.lock();
                let pool = gate.pool.clone();
                let state = pool.as_ref().map(|pool| pool.state.lock());
                gate.full(word, gate.group(terms.group), state.as_ref())
            }
            false => word.full().then_some(Detail::Tenant),
        };
        let claimed = match full {
            _ if word.standing() != 0 && !terms.inactive => Claimed::Inactive,
            _ if self.channels_full(word, terms) => Claimed::Full(Detail::Channels),
            _ if self.is_seated(terms.subject) => Claimed::Held,
            None => Claimed::New,
            Some(_) if terms.over => Claimed::Over,
            Some(detail) => Claimed::Full(detail),
        };
        Claim::denied(claimed, word)
    }

    fn channels_full(&self, word: SeatState, terms: &ClaimTerms<'_>) -> bool {
        let (Some(policy), Some(quota)) = (terms.channels_by, word.quota()) else { return false };
        let in_use: u32 = self.hot.channels.iter().map(|lines| lines.load(Ordering::Relaxed)).sum();
        in_use >= policy.channels(quota)
    }

    /// Takes a seat for a subject that has none; under the gate where the tenant has one.
    fn take_seat<'t>(
        &'t self,
        now_ms: u64,
        terms: &ClaimTerms<'_>,
        gate: &mut Option<MutexGuard<'t, Gate>>,
    ) -> (Claimed, SeatState, GroupId) {
        let seat_terms = Terms { over: terms.over, inactive: terms.inactive, gate_held: gate.is_some() };
        if gate.is_none() {
            match self.seats.take(now_ms, seat_terms) {
                Taken::Seat { word, over } => return (claimed(over), word, NO_GROUP),
                Taken::Full(word) => return (Claimed::Full(Detail::Tenant), word, NO_GROUP),
                Taken::Inactive(word) => return (Claimed::Inactive, word, NO_GROUP),
                Taken::Gated => *gate = Some(self.gate.lock()),
            }
        }
        let Some(gate) = gate.as_mut() else { return (Claimed::Full(Detail::Tenant), self.seats.read(), NO_GROUP) };
        let group = gate.group(terms.group);
        let word = self.seats.read();
        // The pool stays locked until the seat is counted: two tenants never take its last seat together.
        let pool = gate.pool.clone();
        let mut pool = pool.as_ref().map(|pool| pool.state.lock());
        let full = gate.full(word, group, pool.as_ref());
        if let Some(detail) = full
            && !terms.over
        {
            return (Claimed::Full(detail), word, NO_GROUP);
        }
        match self.seats.take(now_ms, Terms { gate_held: true, ..seat_terms }) {
            Taken::Seat { word, over } => {
                if let Some(pool) = pool.as_mut() {
                    pool.in_use += 1;
                }
                gate.count(group);
                (claimed(over || full.is_some()), word, group)
            }
            Taken::Inactive(word) => (Claimed::Inactive, word, NO_GROUP),
            Taken::Full(word) => (Claimed::Full(Detail::Tenant), word, NO_GROUP),
            Taken::Gated => (Claimed::Full(Detail::Tenant), word, NO_GROUP),
        }
    }

    /// One session less of a subject that did not count.
    pub(crate) fn unrefer(&self, at: SubjectRef) -> Name {
        if at.is_none() {
            return Name::default();
        }
        let mut subjects = self.subjects[at.stripe as usize].lock();
        let subject = &mut subjects.slots[at.slot as usize];
        let name = subject.name.clone();
        subject.sessions -= 1;
        subjects.forget_if_unused(at.slot);
        name
    }

    /// One claim less; frees the seat with the last one (E1), unless it lingers until `linger_until` (E2).
    pub(crate) fn unclaim(&self, now_ms: u64, at: SubjectRef, linger_until: Option<u64>) -> (Ended, SeatState, Name) {
        let mut subjects = self.subjects[at.stripe as usize].lock();
        let subject = &mut subjects.slots[at.slot as usize];
        let name = subject.name.clone();
        subject.sessions -= 1;
        subject.claims -= 1;
        if subject.claims > 0 {
            return (Ended::More, self.seats.read(), name);
        }
        if let Some(until) = linger_until {
            subjects.lingering.push((until, at.slot));
            self.due_at(until);
            return (Ended::Lingers, self.seats.read(), name);
        }
        let group = subject.group;
        subject.seated = false;
        if cfg!(feature = "canary-release-order") {
            // The known bug: the entry goes first, so that somebody can see the seat gone and be refused it.
            subjects.forget_if_unused(at.slot);
            drop(subjects);
            std::thread::yield_now();
            return (Ended::Last, self.free_seat(now_ms, group), name);
        }
        let word = self.free_seat(now_ms, group);
        subjects.forget_if_unused(at.slot);
        (Ended::Last, word, name)
    }

    fn free_seat(&self, now_ms: u64, group: GroupId) -> SeatState {
        if let Some(word) = self.seats.free(now_ms, false) {
            return word;
        }
        let mut gate = self.gate.lock();
        if !gate.discount(group) {
            self.seats.count_stray();
            debug_assert!(false, "a pool counts every seat of its tenants");
        }
        self.seats.free(now_ms, true).unwrap_or_else(|| self.seats.read())
    }

    /// Frees the seats whose linger time is over; answers when the next one is.
    pub(crate) fn end_lingering(&self, now_ms: u64) -> u64 {
        let mut next = NEVER;
        for stripe in &self.subjects {
            let mut subjects = stripe.lock();
            if subjects.lingering.is_empty() {
                continue;
            }
            let (over, left): (Vec<_>, Vec<_>) = subjects.lingering.drain(..).partition(|(until, _)| *until <= now_ms);
            subjects.lingering = left;
            next = subjects.lingering.iter().fold(next, |next, (until, _)| next.min(*until));
            for (_, slot) in over {
                let subject = &mut subjects.slots[slot as usize];
                subject.seated = false;
                let group = subject.group;
                self.free_seat(now_ms, group);
                subjects.forget_if_unused(slot);
            }
        }
        next
    }

    /// Every subject, under one stripe's lock at a time: name, claims, sessions, whether seated.
    pub(crate) fn each_subject(&self, mut see: impl FnMut(&str, u32, u32, bool)) {
        for stripe in &self.subjects {
            let subjects = stripe.lock();
            for slot in &subjects.index {
                let subject = &subjects.slots[*slot as usize];
                see(&subject.name, subject.claims, subject.sessions, subject.seated);
            }
        }
    }

    /// Gives only versions above `floor` from now on.
    pub(crate) fn raise_versions(&self, floor: u64) {
        for stripe in &self.stripes {
            let mut stripe = stripe.lock();
            stripe.version = stripe.version.max(floor);
        }
    }

    /// The highest version that was given here.
    pub(crate) fn highest_version(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.lock().version).max().unwrap_or(0)
    }

    /// Room for one more live session; `false` where a limit of the daemon is reached.
    pub(crate) fn reserve_session(&self) -> bool {
        let shared = &*self.shared;
        let before = self.hot.sessions.fetch_add(1, Ordering::Relaxed);
        let begins_block = before & (shared.block - 1) == 0;
        let in_all = if begins_block { shared.sessions.fetch_add(shared.block, Ordering::Relaxed) } else { 0 };
        if before < shared.limits.sessions_per_tenant_max && in_all < shared.limits.sessions_max {
            return true;
        }
        self.unreserve_session();
        shared.limited.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Gives the room of a session back.
    pub(crate) fn unreserve_session(&self) {
        let after = self.hot.sessions.fetch_sub(1, Ordering::Relaxed) - 1;
        if after & (self.shared.block - 1) == 0 {
            self.shared.sessions.fetch_sub(self.shared.block, Ordering::Relaxed);
        }
    }

    /// Counts a session by kind.
    pub(crate) fn tally(&self, hash: u64, kind: Kind, counts: bool, live: bool) {
        self.shared.tally.add(hash, kind, counts, if live { 1 } else { u32::MAX });
    }

    /// Makes sure that the reaper looks at this tenant at an instant.
    pub(crate) fn due_at(&self, deadline: u64) {
        lower(&self.hot.due, deadline);
        lower(&self.shared.due, deadline);
    }
}

/// The outcome of the end of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The seat is free.
    Last,
    /// Its subject has further claims.
    More,
    /// Its subject keeps the seat for a moment (E2).
    Lingers,
}

fn claimed(over: bool) -> Claimed {
    if over { Claimed::Over } else { Claimed::New }
}

fn stripe_of(hash: u64, stripes: usize) -> usize {
    (hash >> 32) as usize & (stripes - 1)
}

/// One stripe for a small office, many for who may be hot; a power of two.
fn stripes_for(seats: Option<u32>) -> usize {
    let seats = seats.unwrap_or(1 << 12) as usize;
    (seats / 64).next_power_of_two().clamp(1, 256)
}
