//! What one event-loop turn decided becomes one record, and its answers wait for exactly that one.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use parking_lot::{Mutex, MutexGuard};

use super::codec::Group;
use super::local::BUFFER_BYTES_MAX;
use super::queue::Queue;
use super::{Commit, Durability, Epoch, Feed, Journal, JournalError, Keep, Trimmed};

/// A turn that has become so long is committed at once, in bytes.
const TURN_BYTES_MAX: usize = 16 << 20;
/// Changes of outcome that are remembered for tickets that nobody polls.
const OUTCOMES_MAX: usize = 32;

/// What the daemon lends to the committer: time, and an ear.
pub struct Hooks {
    /// A monotonic clock, nanoseconds since an arbitrary start.
    pub clock_ns: fn() -> u64,
    /// Told how long each commit took, nanoseconds; for a histogram. It must not wait.
    pub committed: Box<dyn Fn(u64) + Send + Sync>,
}

impl Default for Hooks {
    fn default() -> Self {
        Hooks { clock_ns: || 0, committed: Box::new(|_| {}) }
    }
}

/// The turn of one runtime. Its lock is held while a message is decided and encoded, and while the turn is
/// written; nobody but a checkpoint ever contends for it, and it is never held across an await.
pub(super) struct Turn {
    open: Mutex<Open>,
}

struct Open {
    group: Group,
    /// The number of the turn that is open; tickets carry it.
    number: u64,
    /// Somebody is going to commit it.
    led: bool,
    /// All turns up to this one are finished.
    done: u64,
    /// How they ended: the last turn of each run of one outcome.
    outcomes: VecDeque<(u64, Commit)>,
    waiters: Vec<(u64, u64, Waker)>,
    next_waiter: u64,
}

impl Open {
    fn outcome(&self, number: u64) -> Option<Commit> {
        if number > self.done {
            return None;
        }
        let found = self.outcomes.iter().find(|(up_to, _)| *up_to >= number);
        Some(found.map_or(Commit::Durable, |(_, outcome)| *outcome))
    }

    fn finish(&mut self, number: u64, outcome: Commit) -> Vec<Waker> {
        if number <= self.done {
            return Vec::new();
        }
        self.done = number;
        match self.outcomes.back_mut() {
            Some((up_to, last)) if *last == outcome => *up_to = number,
            _ => self.outcomes.push_back((number, outcome)),
        }
        if self.outcomes.len() > OUTCOMES_MAX {
            self.outcomes.pop_front();
        }
        let mut wakers = Vec::with_capacity(self.waiters.len());
        self.waiters.retain(|(waits_for, _, waker)| {
            if *waits_for <= number {
                wakers.push(waker.clone());
            }
            *waits_for > number
        });
        wakers
    }

    fn next(&mut self) -> u64 {
        let number = self.number;
        self.number += 1;
        self.led = false;
        self.group.clear(BUFFER_BYTES_MAX);
        number
    }
}

impl Turn {
    pub(super) fn finished(&self, number: u64, outcome: Commit) {
        let wakers = self.open.lock().finish(number, outcome);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// What a checkpoint did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Entries of the snapshot.
    pub entries: u64,
}

/// Gets the turns of all runtimes into one journal.
pub struct Committer<J: Journal> {
    /// `None` where nothing is kept.
    journal: Option<Arc<J>>,
    epoch: Epoch,
    durability: Durability,
    hooks: Arc<Hooks>,
    turns: Mutex<Vec<Arc<Turn>>>,
    queue: Arc<Queue<J>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    checkpoint: Mutex<()>,
    heal_tried_ms: Mutex<Option<u64>>,
}

impl<J: Journal> Committer<J> {
    /// Commits to this journal as the owner of this term; with [`Durability::Synced`] on a thread of its own.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn new(journal: Arc<J>, epoch: Epoch, durability: Durability, hooks: Hooks) -> Result<Arc<Self>, JournalError> {
        let mut committer = Self::forgetful();
        committer.epoch = epoch;
        committer.durability = durability;
        committer.hooks = Arc::new(hooks);
        if durability == Durability::Synced {
            let (queue, hooks) = (Arc::clone(&committer.queue), Arc::clone(&committer.hooks));
            let journal = Arc::clone(&journal);
            let started = std::thread::Builder::new()
                .name("journal".to_owned())
                .spawn(move || queue.run(&*journal, epoch, &hooks))
                .map_err(|error| JournalError::io("start the journal's thread", error))?;
            committer.thread = Mutex::new(Some(started));
        }
        committer.journal = (durability != Durability::None).then_some(journal);
        Ok(Arc::new(committer))
    }

    /// Keeps nothing: [`Durability::None`] without a journal.
    pub fn none() -> Arc<Self> {
        Arc::new(Self::forgetful())
    }

    fn forgetful() -> Self {
        Committer {
            journal: None,
            epoch: Epoch(0),
            durability: Durability::None,
            hooks: Arc::new(Hooks::default()),
            turns: Mutex::new(Vec::new()),
            queue: Arc::new(Queue::new()),
            thread: Mutex::new(None),
            checkpoint: Mutex::new(()),
            heal_tried_ms: Mutex::new(None),
        }
    }

    /// The journal; `None` where nothing is kept.
    pub const fn journal(&self) -> Option<&Arc<J>> {
        self.journal.as_ref()
    }

    /// What was asked for; what is so at present is in [`Committer::degraded`].
    pub const fn durability(&self) -> Durability {
        self.durability
    }

    /// Why decisions are not durable at present, for people.
    pub fn degraded(&self) -> Option<String> {
        let slow = || self.queue.stalled().then(|| "the disk is slow".to_owned());
        self.journal()?.degraded().or_else(slow)
    }

    /// A writer for one runtime.
    pub fn writer(self: &Arc<Self>) -> TurnWriter<J> {
        let open = Open {
            group: Group::new(),
            number: 1,
            led: false,
            done: 0,
            outcomes: VecDeque::new(),
            waiters: Vec::new(),
            next_waiter: 0,
        };
        let turn = Arc::new(Turn { open: Mutex::new(open) });
        let mut turns = self.turns.lock();
        turns.retain(|known| Arc::strong_count(known) > 1 || !known.open.lock().group.is_empty());
        turns.push(Arc::clone(&turn));
        TurnWriter { committer: Arc::clone(self), turn }
    }

    /// Lets the answers go that wait for a commit in flight for longer than this: a slow disk must not hold
    /// up calls (I14). Call it every so often; returns whether it was so.
    pub fn watch(&self, patience_ms: u64) -> bool {
        self.queue.watch((self.hooks.clock_ns)(), patience_ms.saturating_mul(1_000_000))
    }

    /// Whether it is degraded and time to try a checkpoint, which heals it: at most once in `every_ms`.
    pub fn heal_due(&self, uptime_ms: u64, every_ms: u64) -> bool {
        if self.journal().is_none_or(|journal| journal.degraded().is_none()) {
            return false;
        }
        let mut tried = self.heal_tried_ms.lock();
        if tried.is_some_and(|tried| uptime_ms.saturating_sub(tried) < every_ms) {
            return false;
        }
        *tried = Some(uptime_ms);
        true
    }

    /// Writes a snapshot of the live table while decisions go on, and heals a degraded journal. `live` gives
    /// every session, tombstone, node and mark to the feed; it runs without any lock of the journal. Blocks:
    /// call it from a thread that decides nothing. Does nothing with [`Durability::None`].
    ///
    /// # Errors
    /// Where the journal fails; the snapshot before stays, and the next attempt may be made later.
    pub fn checkpoint(&self, live: impl FnOnce(&mut Feed<'_, J>)) -> Result<Checkpoint, JournalError> {
        let Some(journal) = self.journal() else { return Ok(Checkpoint { entries: 0 }) };
        let _one_at_a_time = self.checkpoint.lock();
        let epoch = self.epoch;
        let mut snapshot = self.between_turns(journal, move |journal| journal.snapshot_begin(epoch))??;
        let mut feed = Feed::new(&**journal, &mut snapshot);
        live(&mut feed);
        let entries = feed.finish()?;
        let snapshot = self.between_turns(journal, move |journal| {
            journal.snapshot_mark(&mut snapshot);
            snapshot
        })?;
        journal.snapshot_end(snapshot)?;
        Ok(Checkpoint { entries })
    }

    /// Removes what nobody wants to keep; see [`Journal::trim`].
    ///
    /// # Errors
    /// Where the journal fails.
    pub fn trim(&self, keep: Keep, now_utc_ms: i64) -> Result<Trimmed, JournalError> {
        let Some(journal) = self.journal() else { return Ok(Trimmed::default()) };
        let _one_at_a_time = self.checkpoint.lock();
        journal.trim(self.epoch, keep, now_utc_ms)
    }

    /// Commits what is still open and ends the thread. Answers that wait get theirs.
    pub fn close(&self) {
        let this = std::thread::current().id();
        if self.thread.lock().as_ref().is_some_and(|thread| thread.thread().id() == this) {
            // The last answer went to a runtime that is gone: the thread cannot wait for itself.
            return self.queue.stop();
        }
        // Fails only where the thread has ended already, and then there is nothing to wait for.
        if let Some(journal) = self.journal() {
            let _ = self.between_turns(journal, |_| ());
        }
        self.queue.stop();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Runs this at a moment at which every group is either wholly committed or not begun.
    fn between_turns<R: Send + 'static>(
        &self,
        journal: &J,
        step: impl FnOnce(&J) -> R + Send + 'static,
    ) -> Result<R, JournalError> {
        let turns = self.turns.lock();
        let mut guards: Vec<(&Arc<Turn>, MutexGuard<'_, Open>)> =
            turns.iter().map(|turn| (turn, turn.open.lock())).collect();
        let mut wakers = Vec::new();
        for (turn, open) in &mut guards {
            if !open.group.is_empty() {
                wakers.append(&mut self.commit(turn, open));
            }
        }
        let result = if self.durability == Durability::Synced {
            let (sender, receiver) = std::sync::mpsc::sync_channel(1);
            self.queue.step(Box::new(move |journal| drop(sender.send(step(journal)))));
            drop(guards);
            drop(turns);
            receiver.recv().map_err(|_| JournalError::io("wait for the journal", std::io::Error::other("it ended")))
        } else {
            let result = step(journal);
            drop(guards);
            Ok(result)
        };
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// Commits the open turn, or hands it over; gives who is to be woken once the lock is released.
    fn commit(&self, turn: &Arc<Turn>, open: &mut Open) -> Vec<Waker> {
        let outcome = match (&self.journal, self.durability) {
            (Some(journal), Durability::Synced) => {
                self.queue.take_over(journal, &open.group, (Arc::clone(turn), open.number))
            }
            (Some(journal), Durability::Written) => {
                let began = (self.hooks.clock_ns)();
                let outcome = journal.commit(self.epoch, &mut open.group);
                (self.hooks.committed)((self.hooks.clock_ns)().saturating_sub(began));
                Some(outcome)
            }
            (_, Durability::None) | (None, _) => Some(Commit::Durable),
        };
        let number = open.next();
        outcome.map_or_else(Vec::new, |outcome| open.finish(number, outcome))
    }
}

impl<J: Journal> Drop for Committer<J> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Where the handlers of one runtime record what they decide.
///
/// A clone writes into the same turn; each runtime has a writer of its own.
pub struct TurnWriter<J: Journal> {
    committer: Arc<Committer<J>>,
    turn: Arc<Turn>,
}

impl<J: Journal> Clone for TurnWriter<J> {
    fn clone(&self) -> Self {
        TurnWriter { committer: Arc::clone(&self.committer), turn: Arc::clone(&self.turn) }
    }
}

impl<J: Journal> TurnWriter<J> {
    /// Decides and encodes in one go: `decide` gives the group to the engine as its `Changes`. Await the
    /// ticket before the answer goes out; where nothing was encoded it is ready at once.
    ///
    /// What was encoded is committed even when the ticket is dropped. `decide` must not call `record`.
    pub fn record<R>(&self, utc_ms: i64, decide: impl FnOnce(&mut Group) -> R) -> (R, Ticket<'_, J>) {
        let mut open = self.turn.open.lock();
        let before = open.group.entries();
        open.group.at(utc_ms);
        let result = decide(&mut open.group);
        if self.committer.durability == Durability::None {
            open.group.clear(BUFFER_BYTES_MAX);
            return (result, self.ticket(0));
        }
        if open.group.entries() == before {
            return (result, self.ticket(0));
        }
        let number = open.number;
        if open.group.payload_bytes() > TURN_BYTES_MAX {
            let wakers = self.committer.commit(&self.turn, &mut open);
            drop(open);
            wakers.into_iter().for_each(Waker::wake);
        }
        (result, self.ticket(number))
    }

    /// Ready when everything that any runtime has decided so far is committed: for an answer that confirms
    /// what another connection may just have been told, without recording anything itself.
    pub fn settled(&self) -> Ticket<'_, J> {
        if self.committer.durability == Durability::None {
            return self.ticket(0);
        }
        let turns = self.committer.turns.lock().clone();
        for turn in turns.iter().filter(|turn| !Arc::ptr_eq(turn, &self.turn)) {
            let mut open = turn.open.lock();
            if !open.group.is_empty() {
                let wakers = self.committer.commit(turn, &mut open);
                drop(open);
                wakers.into_iter().for_each(Waker::wake);
            }
        }
        let mut open = self.turn.open.lock();
        if open.group.is_empty() && self.committer.durability == Durability::Written {
            return self.ticket(0);
        }
        let number = open.number;
        if open.group.is_empty() {
            let wakers = self.committer.commit(&self.turn, &mut open);
            drop(open);
            wakers.into_iter().for_each(Waker::wake);
        }
        self.ticket(number)
    }

    const fn ticket(&self, number: u64) -> Ticket<'_, J> {
        Ticket { writer: self, number, waiter: None, leads: false }
    }
}

/// Ready when what was recorded is committed: [`Commit`] says how.
///
/// The first ticket of a turn that is polled leads: it wakes itself, so that it comes after every task that
/// is ready in this turn, and then commits for all of them.
#[must_use = "the answer must not go out before what was decided is committed"]
pub struct Ticket<'a, J: Journal> {
    writer: &'a TurnWriter<J>,
    /// The turn; 0 where there is nothing to wait for.
    number: u64,
    waiter: Option<u64>,
    leads: bool,
}

impl<J: Journal> Ticket<'_, J> {
    fn wait(&mut self, open: &mut Open, waker: &Waker) {
        if let Some(id) = self.waiter
            && let Some((_, _, known)) = open.waiters.iter_mut().find(|(_, known, _)| *known == id)
        {
            known.clone_from(waker);
            return;
        }
        open.next_waiter += 1;
        self.waiter = Some(open.next_waiter);
        open.waiters.push((self.number, open.next_waiter, waker.clone()));
    }
}

impl<J: Journal> Future for Ticket<'_, J> {
    type Output = Commit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Commit> {
        let this = &mut *self;
        if this.number == 0 {
            return Poll::Ready(Commit::Durable);
        }
        let writer = this.writer;
        let mut open = writer.turn.open.lock();
        let mut wakers = Vec::new();
        if open.number == this.number && this.leads {
            wakers = writer.committer.commit(&writer.turn, &mut open);
        }
        let outcome = open.outcome(this.number);
        if outcome.is_some() {
            this.number = 0;
        } else if open.number == this.number && !open.led {
            open.led = true;
            this.leads = true;
            wakers.push(context.waker().clone());
        } else {
            this.wait(&mut open, context.waker());
        }
        drop(open);
        wakers.into_iter().for_each(Waker::wake);
        outcome.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<J: Journal> Drop for Ticket<'_, J> {
    /// Nobody waits for this answer any more: the turn still has to be committed by somebody.
    fn drop(&mut self) {
        if self.number == 0 {
            return;
        }
        let mut open = self.writer.turn.open.lock();
        if let Some(id) = self.waiter {
            open.waiters.retain(|(_, known, _)| *known != id);
        }
        let mut wakers = Vec::new();
        if open.number == self.number && (self.leads || !open.led) {
            open.led = false;
            match open.waiters.iter().find(|(number, _, _)| *number == self.number) {
                Some((_, _, heir)) => wakers.push(heir.clone()),
                None => wakers = self.writer.committer.commit(&self.writer.turn, &mut open),
            }
        }
        drop(open);
        wakers.into_iter().for_each(Waker::wake);
    }
}
