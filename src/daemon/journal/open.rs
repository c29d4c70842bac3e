//! A turn that is open: what it has so far, who waits for it, and how the ones before it ended.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};

use super::Commit;
use super::codec::RecordBuilder;

/// Changes of outcome that are remembered for tickets that nobody polls.
const OUTCOMES_MAX: usize = 32;
/// How often it is looked whether a decision in progress is over, with a short pause between: some microseconds, in
/// which nearly all are.
const LOOKS: u32 = 32;

/// The turn of one runtime.
pub(super) struct Turn {
    /// It holds something, or a decision is in progress that may bring something. Set before the decision, so that
    /// whoever sees an effect of it sees this as well; cleared when it is taken.
    is_open: AtomicBool,
    /// Somebody could not commit because of a decision in progress here, and goes on once it is over.
    is_awaited: AtomicBool,
    group: Mutex<Group>,
    pub(super) waits: Mutex<Waits>,
}

/// The entries so far. Its lock is held while a message is decided, for a moment by who takes what it holds, and
/// never across an await.
pub(super) struct Group {
    pub(super) builder: RecordBuilder,
    /// The number of the turn that is open; tickets carry it.
    pub(super) number: u64,
}

/// The answers that wait for the turns of a runtime. Its lock is held for moments only.
pub(super) struct Waits {
    /// All turns up to this one were taken to be committed.
    taken: u64,
    /// The turn that some ticket is going to commit; 0 for none.
    led: u64,
    /// That ticket waits as the others do, for a decision in progress elsewhere.
    is_leader_parked: bool,
    /// All turns up to this one are finished.
    done: u64,
    /// How they ended: the last turn of each run of one outcome.
    outcomes: VecDeque<(u64, Commit)>,
    waiters: Vec<(u64, u64, Waker)>,
    next_waiter: u64,
}

impl Turn {
    /// The first turn of a runtime.
    pub(super) fn new() -> Self {
        let waits = Waits {
            taken: 0,
            led: 0,
            is_leader_parked: false,
            done: 0,
            outcomes: VecDeque::new(),
            waiters: Vec::new(),
            next_waiter: 0,
        };
        Turn {
            is_open: AtomicBool::new(false),
            is_awaited: AtomicBool::new(false),
            group: Mutex::new(Group { builder: RecordBuilder::new(), number: 1 }),
            waits: Mutex::new(waits),
        }
    }

    /// Opens it for a decision; `true` beside it where it was open before: somebody waits for it, also if it is empty.
    pub(super) fn begin(&self) -> (MutexGuard<'_, Group>, bool) {
        let group = self.group.lock();
        let was_open = self.is_open.load(Ordering::Relaxed);
        self.is_open.store(true, Ordering::Release);
        (group, was_open)
    }

    /// True if it holds something, or may in a moment.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// It was taken, or the decision brought nothing; the caller holds its group.
    pub(super) fn set_closed(&self) {
        self.is_open.store(false, Ordering::Release);
    }

    /// Its group once the decision in progress is over; `None` where that takes long.
    pub(super) fn group_soon(&self) -> Option<MutexGuard<'_, Group>> {
        for _ in 0..LOOKS {
            if let Some(group) = self.group.try_lock() {
                return Some(group);
            }
            (0..2).for_each(|_| std::hint::spin_loop());
        }
        None
    }

    /// Has whoever decides here commit for all who wait, once the decision is over; `false` where it just ended.
    pub(super) fn await_decision(&self) -> bool {
        self.is_awaited.store(true, Ordering::Relaxed);
        // Either the end of the decision is seen here, or this is seen at its end.
        fence(Ordering::SeqCst);
        self.group.is_locked()
    }

    /// Returns once the decision in progress is over, however long it takes.
    pub(super) fn wait_for_decision(&self) {
        drop(self.group.lock());
    }

    /// A decision ended, and its group was let go: true if somebody waits for that.
    pub(super) fn was_awaited(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_awaited.load(Ordering::Relaxed) && self.is_awaited.swap(false, Ordering::Relaxed)
    }

    /// The turn of this number has an outcome, for whoever waits.
    pub(super) fn finish(&self, number: u64, outcome: Commit) {
        let wakers = {
            let mut waits = self.waits.lock();
            waits.note(number, outcome);
            waits.drain()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Waits {
    /// How a turn ended, if it did.
    fn outcome(&self, number: u64) -> Option<Commit> {
        if number > self.done {
            return None;
        }
        let found = self.outcomes.iter().find(|(up_to, _)| *up_to >= number);
        Some(found.map_or(Commit::Durable, |(_, outcome)| *outcome))
    }

    /// True if nobody has taken the turn yet.
    const fn is_open(&self, number: u64) -> bool {
        number > self.taken
    }

    /// The ticket that was to commit the turn is gone; gives one that waits for the same.
    fn heir(&mut self, number: u64) -> Option<Waker> {
        if self.led == number {
            self.led = 0;
        }
        self.waiters.iter().find(|(waits_for, _, _)| *waits_for == number).map(|(_, _, heir)| heir.clone())
    }

    /// The turn was taken; gives who is to be woken. Where its leader is about to be polled, in its own runtime, that
    /// one wakes the others: this may be another thread, which would have to interrupt theirs.
    pub(super) fn take(&mut self, number: u64, outcome: Option<Commit>) -> Vec<Waker> {
        self.taken = self.taken.max(number);
        let Some(outcome) = outcome else { return Vec::new() };
        self.note(number, outcome);
        if self.led == number && !self.is_leader_parked { Vec::new() } else { self.drain() }
    }

    /// Removes those whose turns are finished by now, and gives their wakers.
    fn drain(&mut self) -> Vec<Waker> {
        let done = self.done;
        let mut wakers = Vec::with_capacity(self.waiters.len());
        self.waiters.retain(|(waits_for, _, waker)| {
            if *waits_for <= done {
                wakers.push(waker.clone());
            }
            *waits_for > done
        });
        wakers
    }

    /// Wakes this one when the turn is finished; the number is to be given back with the next one.
    fn wait(&mut self, number: u64, known: Option<u64>, waker: &Waker) -> u64 {
        if let Some(id) = known
            && let Some((_, _, waiter)) = self.waiters.iter_mut().find(|(_, waiter, _)| *waiter == id)
        {
            waiter.clone_from(waker);
            return id;
        }
        self.next_waiter += 1;
        self.waiters.push((number, self.next_waiter, waker.clone()));
        self.next_waiter
    }

    fn note(&mut self, number: u64, outcome: Commit) {
        if number <= self.done {
            return;
        }
        self.done = number;
        match self.outcomes.back_mut() {
            Some((up_to, last)) if *last == outcome => *up_to = number,
            _ => self.outcomes.push_back((number, outcome)),
        }
        if self.outcomes.len() > OUTCOMES_MAX {
            self.outcomes.pop_front();
        }
    }
}

/// A place among those who wait for a turn. The first that is looked at leads: it is looked at again after every task
/// that is ready in this turn of the loop, and then commits for all of them.
pub(super) struct Place {
    number: u64,
    waiter: Option<u64>,
    leads: bool,
}

/// The state of a turn that somebody waits for.
pub(super) enum Look {
    /// It ended.
    Ended(Commit),
    /// It did not yet; the task is woken.
    Waits,
    /// The same, and the turn cannot be taken before a decision in progress elsewhere is over.
    Parked,
}

impl Place {
    /// For the turn of this number.
    pub(super) const fn new(number: u64) -> Self {
        Place { number, waiter: None, leads: false }
    }

    /// The number of the turn.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Looks at the turn, and has it committed by `commit` if this one leads; gives who is to be woken.
    pub(super) fn look(
        &mut self,
        turn: &Turn,
        waker: &Waker,
        commit: impl FnOnce() -> Vec<Waker>,
    ) -> (Look, Vec<Waker>) {
        let number = self.number;
        let mut wakers = Vec::new();
        let mut waits = turn.waits.lock();
        if self.leads && waits.is_open(number) {
            drop(waits);
            wakers = commit();
            waits = turn.waits.lock();
        }
        if let Some(outcome) = waits.outcome(number) {
            if self.leads {
                wakers.append(&mut waits.drain());
            }
            return (Look::Ended(outcome), wakers);
        }
        let is_open = waits.is_open(number);
        if is_open && waits.led != number {
            (waits.led, waits.is_leader_parked) = (number, false);
            self.leads = true;
            wakers.push(waker.clone());
            return (Look::Waits, wakers);
        }
        let is_parked = is_open && self.leads;
        waits.is_leader_parked |= is_parked;
        self.waiter = Some(waits.wait(number, self.waiter, waker));
        (if is_parked { Look::Parked } else { Look::Waits }, wakers)
    }

    /// Nobody waits here any more: the turn still has to be committed by somebody. Gives who is to be woken.
    pub(super) fn leave(&self, turn: &Turn, commit: impl FnOnce() -> Vec<Waker>) -> Vec<Waker> {
        let mut waits = turn.waits.lock();
        waits.waiters.retain(|(_, known, _)| Some(*known) != self.waiter);
        let mut wakers = if self.leads { waits.drain() } else { Vec::new() };
        if waits.is_open(self.number) && (self.leads || waits.led != self.number) {
            let heir = waits.heir(self.number);
            drop(waits);
            wakers.append(&mut heir.map_or_else(commit, |heir| vec![heir]));
        }
        wakers
    }
}
