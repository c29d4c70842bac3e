//! The turn of an event loop: its decisions become one record, and its answers wait for exactly that one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::codec::RecordBuilder;
use super::form::{Form, Hooks};
use super::local::BUFFER_BYTES_MAX;
use super::open::{Look, Place, Turn};
use super::order::{Taken, Turns, Which};
use super::queue::Queue;
use super::ring::Ring;
use super::{Commit, Durability, Epoch, Feed, Journal, JournalError, Keep, Trimmed};

/// A turn that has become so long is committed at once, in bytes.
const TURN_BYTES_MAX: usize = 16 << 20;

/// The result of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// TakesEntries of the snapshot.
    pub entries: u64,
}

/// Gets the turns of all runtimes into one journal.
///
/// No thread that decides ever writes, syncs, renames or waits for who does. An answer that waits for its commit for
/// 40 ms goes out without it ([`Commit::NotDurable`]), and so do those after it until the disk goes on.
pub struct Committer<J: Journal> {
    /// `None` where nothing is kept.
    journal: Option<Arc<J>>,
    epoch: Epoch,
    durability: Durability,
    form: Form,
    hooks: Arc<Hooks>,
    turns: Turns,
    queue: Arc<Queue<J>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Answers that went out without being as durable as was asked for.
    not_durable: AtomicU64,
    checkpoint: Mutex<()>,
    heal_tried_ms: Mutex<Option<u64>>,
}

impl<J: Journal> Committer<J> {
    /// Commits to this journal as the owner of this term, on threads of its own.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub fn new(journal: Arc<J>, epoch: Epoch, durability: Durability, hooks: Hooks) -> Result<Arc<Self>, JournalError> {
        let form = match durability {
            Durability::None => Form::Nothing,
            _ if journal.answers_wait() => Form::Cluster,
            Durability::Written if journal.ring().is_some() => Form::Ring,
            Durability::Written | Durability::Synced => Form::HandOff,
        };
        let committer = Self::made(journal, epoch, (durability, form), hooks);
        if form != Form::Nothing {
            committer.start()?;
        }
        if form == Form::HandOff {
            // What an earlier run left in one is in the journal now.
            committer.put_ring_away();
        }
        Ok(Arc::new(committer))
    }

    /// The same on the threads that decide: for who has but one, and a clock of its own.
    pub fn inline(journal: Arc<J>, epoch: Epoch, durability: Durability, hooks: Hooks) -> Arc<Self> {
        let form = if durability == Durability::None { Form::Nothing } else { Form::Inline };
        Arc::new(Self::made(journal, epoch, (durability, form), hooks))
    }

    fn made(journal: Arc<J>, epoch: Epoch, (durability, form): (Durability, Form), hooks: Hooks) -> Self {
        let mut committer = Self::forgetful();
        committer.epoch = epoch;
        committer.durability = durability;
        committer.form = form;
        committer.hooks = Arc::new(hooks);
        if journal.answers_wait() {
            committer.queue = Arc::new(Queue::new(Commit::Unknown));
        }
        committer.journal = (form != Form::Nothing).then_some(journal);
        committer
    }

    fn start(&self) -> Result<(), JournalError> {
        let Some(journal) = self.journal().map(Arc::clone) else { return Ok(()) };
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
            thread.map_err(|error| JournalError::io("start a thread of the journal", error))
        };
        let (queue, hooks, epoch, form) = (Arc::clone(&self.queue), Arc::clone(&self.hooks), self.epoch, self.form);
        let mut threads = self.threads.lock();
        threads.push(spawn("journal", Box::new(move || queue.run(&*journal, epoch, form, &hooks)))?);
        let (queue, hooks) = (Arc::clone(&self.queue), Arc::clone(&self.hooks));
        threads.push(spawn("journal-watch", Box::new(move || queue.keep_watch(&hooks)))?);
        Ok(())
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
            form: Form::Nothing,
            hooks: Arc::new(Hooks::default()),
            turns: Turns::new(),
            queue: Arc::new(Queue::new(Commit::NotDurable)),
            threads: Mutex::new(Vec::new()),
            not_durable: AtomicU64::new(0),
            checkpoint: Mutex::new(()),
            heal_tried_ms: Mutex::new(None),
        }
    }

    /// The journal; `None` where nothing is kept.
    pub const fn journal(&self) -> Option<&Arc<J>> {
        self.journal.as_ref()
    }

    /// The durability that was asked for; what holds at present is in [`Committer::degraded`].
    pub const fn durability(&self) -> Durability {
        self.durability
    }

    /// The form of writing.
    pub const fn form(&self) -> Form {
        self.form
    }

    /// Answers that went out without being as durable as was asked for.
    pub fn not_durable(&self) -> u64 {
        self.not_durable.load(Ordering::Relaxed)
    }

    /// Why decisions are not durable at present, for people.
    pub fn degraded(&self) -> Option<String> {
        let slow = || self.queue.is_behind((self.hooks.clock_ns)()).then(|| "the disk is slow".to_owned());
        self.journal()?.degraded().or_else(slow)
    }

    /// A writer for one runtime.
    pub fn writer(self: &Arc<Self>) -> TurnWriter<J> {
        TurnWriter { committer: Arc::clone(self), turn: self.turns.enrol() }
    }

    /// Lets the answers go that wait for a commit in flight for longer than this: a slow disk must not hold
    /// up calls (I14). Call it every so often; returns whether it was so.
    pub fn watch(&self, patience_ms: u64) -> bool {
        self.queue.watch((self.hooks.clock_ns)(), patience_ms.saturating_mul(1_000_000))
    }

    /// Lets the committing thread see whether the journal is still where it was; waits for nothing.
    pub fn check(&self) {
        if self.has_thread() && !self.queue.checks(true) {
            let queue = Arc::clone(&self.queue);
            self.queue.step(Box::new(move |journal| {
                journal.check();
                queue.checks(false);
            }));
        }
    }

    /// How much of the ring waits for the disk, 0 to 1; 0 where there is none.
    pub fn ring_used_ratio(&self) -> f64 {
        let ring = if self.form == Form::Ring { self.journal().and_then(|journal| journal.ring()) } else { None };
        ring.map_or(0.0, Ring::used_ratio)
    }

    /// True if it is degraded and time to try a checkpoint, which heals it: at most once in `every_ms`.
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
        if self.threads.lock().iter().any(|thread| thread.thread().id() == this) {
            // The last answer went to a runtime that is gone: the thread cannot wait for itself.
            return self.queue.stop();
        }
        // Fails only where the thread has ended already, and then there is nothing to wait for.
        if let Some(journal) = self.journal() {
            let _ = self.between_turns(journal, |_| ());
        }
        self.queue.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            let _ = thread.join();
        }
        self.put_ring_away();
    }

    /// A ring of which everything is on the disk takes memory for nothing, until somebody makes a new one.
    fn put_ring_away(&self) {
        if let Some(ring) = self.journal().and_then(|journal| journal.ring()).filter(|ring| ring.used_ratio() == 0.0) {
            ring.discard();
        }
    }

    /// Counts an answer that goes out with this outcome.
    fn told(&self, outcome: Commit) -> Commit {
        if matches!(outcome, Commit::NotDurable | Commit::Unknown) {
            self.not_durable.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// True if an answer that needs no record may go out at once.
    fn is_sure(&self) -> bool {
        self.journal().is_none_or(|journal| journal.is_sure())
    }

    const fn has_thread(&self) -> bool {
        matches!(self.form, Form::HandOff | Form::Ring | Form::Cluster)
    }

    /// Runs this on the committing thread, behind what is queued; drops it where there is none.
    pub fn behind(&self, step: impl FnOnce(&J) + Send + 'static) {
        if self.has_thread() {
            self.queue.step(Box::new(step));
        }
    }

    /// Returns once every decision that began before is over and committed. Blocks: call it from a thread that decides
    /// nothing.
    ///
    /// # Errors
    /// The committing thread has ended.
    pub fn barrier(&self) -> Result<(), JournalError> {
        self.journal().map_or(Ok(()), |journal| self.between_turns(journal, |_| ()))
    }

    /// Runs this at a moment at which every turn is either wholly handed over or begins after it. Waits for decisions
    /// in progress: not for a thread that decides.
    fn between_turns<R: Send + 'static>(
        &self,
        journal: &J,
        step: impl FnOnce(&J) -> R + Send + 'static,
    ) -> Result<R, JournalError> {
        let (all, wakers) = loop {
            let mut all = self.turns.lock();
            match all.take(&Which::Every, |group, taken| self.hand_over(group, taken)) {
                Ok(wakers) => break (all, wakers),
                Err(deciding) => {
                    drop(all);
                    deciding.wait_for_decision();
                }
            }
        };
        let result = if self.has_thread() {
            let (sender, receiver) = std::sync::mpsc::sync_channel(1);
            self.queue.step(Box::new(move |journal| drop(sender.send(step(journal)))));
            drop(all);
            receiver.recv().map_err(|_| JournalError::io("wait for the journal", std::io::Error::other("it ended")))
        } else {
            let result = step(journal);
            drop(all);
            Ok(result)
        };
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// Commits open turns, or hands them over; gives who is to be woken. Where a decision in progress takes long, they
    /// are committed at its end.
    fn commit(&self, which: &Which<'_>) -> Vec<Waker> {
        loop {
            let mut all = self.turns.lock();
            match all.take(which, |group, taken| self.hand_over(group, taken)) {
                Ok(wakers) => return wakers,
                Err(deciding) if deciding.await_decision() => return Vec::new(),
                Err(_) => {}
            }
        }
    }

    /// Commits what was taken of turns, or hands it over; gives the outcome where it is known.
    fn hand_over(&self, group: &mut RecordBuilder, taken: &[Taken<'_>]) -> Option<Commit> {
        let now_ns = (self.hooks.clock_ns)();
        match (&self.journal, self.form) {
            (Some(journal), Form::HandOff | Form::Ring | Form::Cluster) => {
                let ring = if self.form == Form::Ring { journal.ring() } else { None };
                let outcome = self.queue.take_over((journal, ring), group, taken, now_ns);
                if outcome == Some(Commit::Durable) && !group.is_empty() {
                    (self.hooks.committed)((self.hooks.clock_ns)().saturating_sub(now_ns));
                }
                outcome
            }
            (Some(journal), Form::Inline) => {
                let outcome = journal.commit(self.epoch, group);
                (self.hooks.committed)((self.hooks.clock_ns)().saturating_sub(now_ns));
                Some(outcome)
            }
            (_, Form::Nothing) | (None, _) => Some(Commit::Durable),
        }
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

/// The end of a decision: those go on who wait for it, also where it panics.
struct DecisionEnd<'a, J: Journal>(&'a TurnWriter<J>);

impl<J: Journal> Drop for DecisionEnd<'_, J> {
    fn drop(&mut self) {
        if self.0.turn.was_awaited() {
            self.0.commit(&Which::Every);
        }
    }
}

impl<J: Journal> TurnWriter<J> {
    /// Decides and encodes in one go: `decide` gives the group to the engine as its `Changes`. Await the
    /// ticket before the answer goes out; where nothing was encoded it is ready at once, unless what the answer confirms
    /// may be kept nowhere yet.
    ///
    /// Encoded changes are committed even when the ticket is dropped. `decide` must not call `record`.
    pub fn record<R>(&self, utc_ms: i64, decide: impl FnOnce(&mut RecordBuilder) -> R) -> (R, Ticket<'_, J>) {
        // Dropped after the group is let go.
        let _end = DecisionEnd(self);
        let (mut group, was_open) = self.turn.begin();
        let before = group.builder.entries();
        group.builder.at(utc_ms);
        let result = decide(&mut group.builder);
        if self.committer.form == Form::Nothing {
            group.builder.clear(BUFFER_BYTES_MAX);
            self.turn.set_closed();
            return (result, self.ready(Commit::Durable));
        }
        let needs_nothing = group.builder.entries() == before && self.committer.is_sure();
        if needs_nothing && !self.committer.queue.has_unkept() {
            if !was_open {
                self.turn.set_closed();
            }
            return (result, self.confirming());
        }
        let number = group.number;
        let is_long = group.builder.payload_bytes() > TURN_BYTES_MAX;
        drop(group);
        if is_long {
            self.commit(&Which::Of(&self.turn));
        }
        (result, self.ticket(number))
    }

    /// Ready when everything that any runtime has decided so far is committed: for an answer that confirms
    /// what another connection may just have been told, without recording anything itself.
    pub fn settled(&self) -> Ticket<'_, J> {
        if self.committer.form == Form::Nothing {
            return self.ready(Commit::Durable);
        }
        let (number, is_empty) = {
            let (group, _) = self.turn.begin();
            (group.number, group.builder.is_empty())
        };
        self.commit(&Which::Every);
        if is_empty && self.committer.form == Form::Inline { self.confirming() } else { self.ticket(number) }
    }

    fn commit(&self, which: &Which<'_>) {
        self.committer.commit(which).into_iter().for_each(Waker::wake);
    }

    /// Of an answer that confirms what others recorded, and that is nowhere on its way: what a journal lost that has
    /// failed is kept nowhere until it is healed.
    pub(super) fn confirming(&self) -> Ticket<'_, J> {
        self.ready(self.committer.journal().map_or(Commit::Durable, |journal| journal.confirms()))
    }

    const fn ready(&self, outcome: Commit) -> Ticket<'_, J> {
        Ticket { writer: self, place: None, outcome }
    }

    pub(super) const fn ticket(&self, number: u64) -> Ticket<'_, J> {
        Ticket { writer: self, place: Some(Place::new(number)), outcome: Commit::Durable }
    }
}

/// Ready when what was recorded is committed: [`Commit`] says how.
#[must_use = "the answer must not go out before what was decided is committed"]
pub struct Ticket<'a, J: Journal> {
    writer: &'a TurnWriter<J>,
    /// `None` where there is nothing to wait for.
    place: Option<Place>,
    /// The outcome where there is nothing to wait for.
    outcome: Commit,
}

impl<J: Journal> Ticket<'_, J> {
    /// Has it committed, and nobody wait for it: there is no answer, or a later ticket is waited for.
    pub fn commit_detached(self) {
        drop(self);
    }

    /// Lets the turn stay open for more; gives its number.
    pub(super) fn leave_open(mut self) -> Option<u64> {
        self.place.take().map(|place| place.number())
    }
}

impl<J: Journal> Future for Ticket<'_, J> {
    type Output = Commit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Commit> {
        let this = &mut *self;
        let (committer, turn) = (&this.writer.committer, &this.writer.turn);
        let Some(place) = &mut this.place else { return Poll::Ready(committer.told(this.outcome)) };
        let (look, wakers) = place.look(turn, context.waker(), || committer.commit(&Which::Of(turn)));
        if let Look::Parked = look {
            committer.queue.hold((Arc::clone(turn), place.number()), (committer.hooks.clock_ns)());
        }
        wakers.into_iter().for_each(Waker::wake);
        let Look::Ended(outcome) = look else { return Poll::Pending };
        this.place = None;
        Poll::Ready(committer.told(outcome))
    }
}

impl<J: Journal> Drop for Ticket<'_, J> {
    fn drop(&mut self) {
        let Some(place) = &self.place else { return };
        let TurnWriter { committer, turn } = self.writer;
        let wakers = place.leave(turn, || committer.commit(&Which::Of(turn)));
        wakers.into_iter().for_each(Waker::wake);
    }
}
