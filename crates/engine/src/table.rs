//! The table of one tenant: its stripes, its seats, and what it counts.
//!
//! A session is changed in the critical section of its id ([`Hold`]), its subject under the lock of the part where the
//! subject is at home, and inside that the seat word (and, for who has one, the gate). Locks are taken in that order
//! only. The seat changes *before* the subject's home appears or goes (RELIABILITY, the trap), and a change is told
//! while its seat cannot be taken by another yet, or is taken already: of two changes of one seat the first is told
//! first.

use std::sync::Arc;

use super::cell::{Cell, NEVER};
use super::gate::{Gate, GroupId, NO_GROUP};
use super::holds::Work;
use super::ids::{Ids, Tombstone};
use super::key::{Asked, Key, UUID_TEXT};
use super::part::Part;
use super::plan::Policy;
use super::seats::{SeatState, Seats, Taken, Terms};
use super::session::{Detail, Direction, Kind, Name};
use super::shared::{Shared, lower};
use super::stripes::{Hold, Stripes};
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
    /// The home of the subject, in the part that was entered last; of no meaning for a denial.
    pub(crate) home: u32,
    /// The reservation group that the subject's seat counts for.
    pub(crate) group: GroupId,
}

impl Claim {
    /// A claim that nothing was stored of.
    fn denied(claimed: Claimed, word: SeatState) -> Self {
        Claim { claimed, word, home: u32::MAX, group: NO_GROUP }
    }

    pub(crate) fn is_denied(&self) -> bool {
        matches!(self.claimed, Claimed::Full(_) | Claimed::Inactive)
    }
}

/// How a claim is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimTerms<'a> {
    pub(crate) subject: Asked<'a>,
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
    pub(crate) stripes: Stripes,
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: Name,
    /// Its number among all tables that were made.
    pub(crate) generation: u64,
    pub(crate) gate: Mutex<Gate>,
    pub(crate) seats: Seats,
    pub(crate) hot: Hot,
}

/// Counters beside the seat word.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Hot {
    /// Live sessions.
    pub(crate) sessions: AtomicU32,
    /// Tombstones that stand.
    pub(crate) tombstones: AtomicU32,
    /// Lower bound of the deadlines of its sessions.
    pub(crate) due: AtomicU64,
    /// Live sessions by kind and by whether they count.
    tally: [AtomicU32; Kind::ALL.len() * 2],
    /// Bit `node % 64` is set once a session of that node was stored.
    pub(crate) nodes: AtomicU64,
    /// Denials for want of a seat.
    pub(crate) denials: AtomicU64,
    /// Trunk lines in use: inbound, outbound (L3).
    pub(crate) channels: [AtomicU32; 2],
    /// When its clients are closed after the end (J6).
    pub(crate) drain_at: AtomicU64,
    /// It ended while ends were held: its pairings and clients wait (H5).
    pub(crate) end_held: AtomicBool,
}

impl Tenant {
    pub(crate) fn new(id: Name, shared: Arc<Shared>, now_ms: u64) -> Self {
        Tenant {
            stripes: Stripes::new(shared.version_floor.load(Ordering::Acquire)),
            seats: Seats::new(now_ms),
            hot: Hot {
                sessions: AtomicU32::new(0),
                tombstones: AtomicU32::new(0),
                due: AtomicU64::new(NEVER),
                tally: Default::default(),
                nodes: AtomicU64::new(0),
                denials: AtomicU64::new(0),
                channels: Default::default(),
                drain_at: AtomicU64::new(NEVER),
                end_held: AtomicBool::new(false),
            },
            id,
            generation: shared.generations.fetch_add(1, Ordering::Relaxed),
            gate: Mutex::new(Gate::default()),
            shared,
        }
    }

    pub(crate) fn asked<'a>(&self, name: &'a str) -> Asked<'a> {
        Asked::new(&self.shared.hasher, name)
    }

    pub(crate) fn hold(&self, id: &Asked<'_>) -> Hold<'_> {
        self.stripes.hold(id, &self.shared.holds)
    }

    /// Shows a reader copies of the cells that it wants.
    pub(crate) fn walk(&self, work: Work, wants: impl FnMut(&Cell) -> bool, see: impl FnMut(&Cell)) {
        self.stripes.walk(&self.shared.holds, work, wants, see);
    }

    /// Looks at every part, and acts on what it finds there ([`Stripes::sweep`]).
    fn sweep<T>(&self, work: Work, look: impl FnMut(&mut Part, &mut Vec<T>), act: impl FnMut(T)) {
        self.stripes.sweep(&self.shared.holds, work, look, act);
    }

    /// Looks at every part, and acts on the sessions that are found there, each in its critical section, where it is
    /// still there: its cell is in the part that was entered last.
    pub(crate) fn sweep_sessions(
        &self,
        work: Work,
        look: impl FnMut(&mut Part, &mut Vec<Key>),
        mut act: impl FnMut(&mut Hold<'_>, &Asked<'_>, u32),
    ) {
        self.sweep(work, look, |session| {
            let mut room = [0; UUID_TEXT];
            let id = self.asked(session.text(&mut room));
            let mut hold = self.hold(&id);
            if let Some(at) = hold.find(&id) {
                act(&mut hold, &id, at);
            }
        });
    }

    /// Looks at every part.
    pub(crate) fn each_part(&self, work: Work, mut look: impl FnMut(&mut Part)) {
        self.sweep::<()>(work, |part, _| look(part), |()| ());
    }

    /// Looks at the ids of every stripe.
    pub(crate) fn each_ids(&self, work: Work, mut look: impl FnMut(&mut Ids)) {
        self.sweep_ids::<()>(work, |ids, _| look(ids), |()| ());
    }

    /// Looks at the ids of every stripe, and acts on what it finds there.
    pub(crate) fn sweep_ids<T>(&self, work: Work, look: impl FnMut(&mut Ids, &mut Vec<T>), act: impl FnMut(T)) {
        self.stripes.sweep_ids(&self.shared.holds, work, look, act);
    }

    /// Drops the tombstones that need not stand.
    pub(crate) fn sweep_tombstones(&self, work: Work, mut stays: impl FnMut(&Tombstone) -> bool) {
        self.each_ids(work, |ids| _ = self.hot.tombstones.fetch_sub(ids.sweep(&mut stays), Ordering::Relaxed));
    }

    /// The name of a reservation group; empty for none.
    #[inline]
    pub(crate) fn group_name(&self, group: GroupId) -> Name {
        if group == NO_GROUP {
            return Name::const_new("");
        }
        self.gate.lock().groups.get(usize::from(group)).map(|group| group.name.clone()).unwrap_or_default()
    }

    /// Refers to a subject without a claim, for a session that does not count; its home, in the part that is entered.
    pub(crate) fn refer(&self, hold: &mut Hold<'_>, subject: &Asked<'_>) -> Option<u32> {
        if subject.is_empty() {
            return None;
        }
        let part = hold.enter(subject.route());
        let home = part.find_home(subject).unwrap_or_else(|| part.add_home(subject));
        part.cell_mut(home).sessions += 1;
        Some(home)
    }

    /// One more claim of a subject: D1 to D3 and F6, F7, L3, in one critical section.
    pub(crate) fn claim(&self, hold: &mut Hold<'_>, now_ms: u64, terms: &ClaimTerms<'_>) -> Claim {
        let part = hold.enter(terms.subject.route());
        let found = part.find_home(&terms.subject);
        let word = self.seats.read();
        if word.standing() != 0 && !terms.inactive {
            return Claim::denied(Claimed::Inactive, word);
        }
        let seated = found.is_some_and(|home| part.cell(home).is_seated());
        let mut gate = terms.channels_by.map(|_| self.gate.lock());
        if self.channels_full(word, terms) {
            return Claim::denied(Claimed::Full(Detail::Channels), word);
        }
        let (claimed, word, group) = match seated {
            true => (Claimed::Held, word, NO_GROUP),
            false => self.take_seat(now_ms, terms, &mut gate),
        };
        if matches!(claimed, Claimed::Full(_) | Claimed::Inactive) {
            return Claim::denied(claimed, word);
        }
        if let Some(direction) = terms.channel {
            self.use_channel(hold, direction);
        }
        drop(gate);
        let part = hold.here();
        let home = found.unwrap_or_else(|| part.add_home(&terms.subject));
        let subject = part.cell_mut(home);
        let lingered = seated && subject.claims == 0;
        if !seated {
            subject.group = group;
            subject.set_seated(true);
        }
        subject.claims += 1;
        subject.sessions += 1;
        let group = subject.group;
        if lingered {
            part.lingering.retain(|(_, lingering)| *lingering != home);
        }
        Claim { claimed, word, home, group }
    }

    /// The outcome of a claim if it came now; changes nothing.
    pub(crate) fn peek(&self, hold: &mut Hold<'_>, terms: &ClaimTerms<'_>) -> Claim {
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
        let part = hold.enter(terms.subject.route());
        let seated = part.find_home(&terms.subject).is_some_and(|home| part.cell(home).is_seated());
        let claimed = match full {
            _ if word.standing() != 0 && !terms.inactive => Claimed::Inactive,
            _ if self.channels_full(word, terms) => Claimed::Full(Detail::Channels),
            _ if seated => Claimed::Held,
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

    /// One session less of a subject, by its home. With the last claim its seat is to be freed (E1), unless it lingers
    /// until `linger_until` (E2); `None` for a session that did not count.
    pub(crate) fn unclaim(&self, part: &mut Part, home: u32, counts: bool, linger_until: Option<u64>) -> Option<Ended> {
        let subject = part.cell_mut(home);
        subject.sessions -= 1;
        if !counts {
            return None;
        }
        subject.claims -= 1;
        if subject.claims > 0 {
            return Some(Ended::More);
        }
        let Some(until) = linger_until else { return Some(Ended::Last) };
        part.lingering.push((until, home));
        self.due_at(until);
        Some(Ended::Lingers)
    }

    /// Frees a seat that was counted for a group.
    pub(crate) fn free_seat(&self, now_ms: u64, group: GroupId) -> SeatState {
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

    /// Frees the seats of a part whose linger time is over; answers when the next one is.
    pub(crate) fn end_lingering(&self, part: &mut Part, now_ms: u64) -> u64 {
        let (over, left): (Vec<_>, Vec<_>) = part.lingering.drain(..).partition(|(until, _)| *until <= now_ms);
        part.lingering = left;
        for (_, home) in over {
            let subject = part.cell_mut(home);
            subject.set_seated(false);
            let group = subject.group;
            self.free_seat(now_ms, group);
            part.forget_if_unused(home);
        }
        part.lingering.iter().fold(NEVER, |next, (until, _)| next.min(*until))
    }

    /// Gives only versions above `floor` from now on.
    pub(crate) fn raise_versions(&self, floor: u64) {
        self.each_ids(Work::Sweep, |ids| ids.version = ids.version.max(floor));
    }

    /// The highest version that was given here.
    pub(crate) fn highest_version(&self) -> u64 {
        let mut highest = 0;
        self.each_ids(Work::Sweep, |ids| highest = highest.max(ids.version));
        highest
    }

    /// Room for one more live session; `false` where a limit of the daemon is reached.
    pub(crate) fn reserve_session(&self, hold: &Hold<'_>) -> bool {
        let shared = &*self.shared;
        let before = bump(&self.hot.sessions, 1, hold);
        let begins_block = before & (shared.block - 1) == 0;
        let in_all = if begins_block { shared.sessions.fetch_add(shared.block, Ordering::Relaxed) } else { 0 };
        if before < shared.limits.sessions_per_tenant_max && in_all < shared.limits.sessions_max {
            return true;
        }
        self.unreserve_session(hold);
        shared.limited.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Gives the room of a session back.
    pub(crate) fn unreserve_session(&self, hold: &Hold<'_>) {
        let after = bump(&self.hot.sessions, u32::MAX, hold).wrapping_sub(1);
        if after & (self.shared.block - 1) == 0 {
            self.shared.sessions.fetch_sub(self.shared.block, Ordering::Relaxed);
        }
    }

    /// Counts a session by kind.
    pub(crate) fn tally(&self, hold: &Hold<'_>, kind: Kind, counts: bool, live: bool) {
        let count = &self.hot.tally[kind as usize * 2 + usize::from(counts)];
        bump(count, if live { 1 } else { u32::MAX }, hold);
    }

    /// Live sessions of a kind that count, or that do not.
    pub(crate) fn sessions_of_kind(&self, kind: Kind, counts: bool) -> u32 {
        self.hot.tally[kind as usize * 2 + usize::from(counts)].load(Ordering::Relaxed)
    }

    /// A trunk line more in use.
    pub(crate) fn use_channel(&self, hold: &Hold<'_>, channel: usize) {
        bump(&self.hot.channels[channel], 1, hold);
    }

    /// A trunk line less in use, where the session of a cell in the part that was entered last uses one.
    pub(crate) fn free_channel(&self, hold: &mut Hold<'_>, at: u32) {
        let session = hold.here().cell(at);
        if session.external() {
            let inbound = session.direction == Some(Direction::Inbound);
            bump(&self.hot.channels[usize::from(!inbound)], u32::MAX, hold);
        }
    }

    /// Makes sure that the reaper looks at a part at an instant.
    pub(crate) fn watch(&self, part: &mut Part, deadline: u64) {
        if deadline < part.due {
            part.due = deadline;
            self.due_at(deadline);
        }
    }

    /// Makes sure that the reaper looks at this tenant at an instant.
    pub(crate) fn due_at(&self, deadline: u64) {
        lower(&self.hot.due, deadline);
        lower(&self.shared.due, deadline);
    }
}

/// Adds to a count that changes in critical sections only: who is alone in one need not ask the other cores.
fn bump(count: &AtomicU32, by: u32, hold: &Hold<'_>) -> u32 {
    if !hold.is_alone() {
        return count.fetch_add(by, Ordering::Relaxed);
    }
    let before = count.load(Ordering::Relaxed);
    count.store(before.wrapping_add(by), Ordering::Relaxed);
    before
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
