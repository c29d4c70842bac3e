//! Stop-and-wait group commit: one thread, exactly one commit in flight, which takes everything queued.
//!
//! Nobody who decides ever waits for this thread: the line's lock is never held while a disk works. Who waits for
//! longer than is fair is let go by a second thread ([`Queue::keep_watch`]), so that a disk that hangs holds up no
//! answer (I8).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::codec::RecordBuilder;
use super::form::{Form, Hooks};
use super::local::BUFFER_BYTES_MAX;
use super::open::Turn;
use super::order::Taken;
use super::ring::Ring;
use super::{Commit, Epoch, Journal};

/// Longest queue, in bytes; what comes on top is not recorded, and the journal says so (I14, I26).
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// How long the disk may be behind before people are told: a busy disk is slow for a moment all day long.
const TOLD_AFTER_NS: u64 = 1_000_000_000;
/// How often the ring is copied, while nobody waits for it.
const COPY_EVERY: Duration = Duration::from_millis(2);
/// How often it is looked whether somebody waits for too long, while anybody waits.
const LOOK_EVERY: Duration = Duration::from_millis(5);

type Step<J> = Box<dyn FnOnce(&J) + Send>;

/// A turn and its number: who waits for what.
type Waiting = (Arc<Turn>, u64);

enum Item<J> {
    Group(Batch),
    Step(Step<J>),
}

/// Turns that become one record.
#[derive(Default)]
struct Batch {
    group: RecordBuilder,
    waiting: Vec<Waiting>,
    /// When the first of them came, nanoseconds of the hooks' clock.
    since_ns: u64,
    /// Somebody was answered who should have waited for it.
    let_go: bool,
}

struct Line<J> {
    items: VecDeque<Item<J>>,
    bytes: usize,
    in_flight: Vec<Waiting>,
    /// Turns that cannot be taken before a long decision elsewhere is over, and since when, nanoseconds of the hooks'
    /// clock.
    held: Vec<(Waiting, u64)>,
    /// Since when what is in flight has waited, nanoseconds of the hooks' clock; `None` while nothing is.
    busy_since_ns: Option<u64>,
    /// Since when the disk has been behind without a break, nanoseconds of the hooks' clock: since then there was always
    /// something for which somebody was let go. `None` while there is nothing.
    behind_since_ns: Option<u64>,
    spare: Option<RecordBuilder>,
    /// The thread has nothing to do, and wakes when it is told to.
    sleeps: bool,
    /// Somebody looks whether anybody waits for too long.
    watched: bool,
    stop: bool,
    ended: bool,
}

impl<J> Line<J> {
    fn is_waited_for(&self) -> bool {
        let waits = |item: &Item<J>| matches!(item, Item::Group(batch) if !batch.waiting.is_empty());
        !self.in_flight.is_empty() || self.items.iter().any(waits)
    }

    /// True if the thread must not rest: somebody waits, or it is to end.
    fn is_urgent(&self) -> bool {
        let step = |item: &Item<J>| matches!(item, Item::Step(_));
        self.stop || self.is_waited_for() || self.items.iter().any(step)
    }

    /// Since when the oldest has waited that is not done.
    fn oldest_ns(&self) -> Option<u64> {
        let queued = self.items.iter().find_map(|item| match item {
            Item::Group(batch) => Some(batch.since_ns),
            Item::Step(_) => None,
        });
        self.busy_since_ns.into_iter().chain(queued).min()
    }
}

/// The work that waits for the commit in flight.
pub(super) struct Queue<J> {
    line: Mutex<Line<J>>,
    ready: Condvar,
    /// Tells who keeps watch that somebody waits.
    waited_for: Condvar,
    stalled: AtomicBool,
    /// Something is in no ring and on no disk: a crash of the process would lose it.
    unkept: AtomicBool,
    /// A look at the files is on its way.
    checks: AtomicBool,
    /// The outcome of an answer for which it takes too long.
    let_go: Commit,
}

impl<J: Journal> Queue<J> {
    /// Nothing is queued. `let_go`: the outcome of an answer for which it takes too long.
    pub(super) fn new(let_go: Commit) -> Self {
        let line = Line {
            items: VecDeque::new(),
            bytes: 0,
            in_flight: Vec::new(),
            held: Vec::new(),
            busy_since_ns: None,
            behind_since_ns: None,
            spare: None,
            sleeps: false,
            watched: false,
            stop: false,
            ended: false,
        };
        Queue {
            line: Mutex::new(line),
            ready: Condvar::new(),
            waited_for: Condvar::new(),
            stalled: AtomicBool::new(false),
            unkept: AtomicBool::new(false),
            checks: AtomicBool::new(false),
            let_go,
        }
    }

    /// Takes over what these turns decided, at this instant. Gives the outcome where it is known already, as it is for
    /// what the ring takes: nothing while something older is in no ring, for then a crash could keep the newer alone.
    pub(super) fn take_over(
        &self,
        (journal, ring): (&J, Option<&Ring>),
        group: &mut RecordBuilder,
        taken: &[Taken<'_>],
        now_ns: u64,
    ) -> Option<Commit> {
        let mut line = self.line.lock();
        line.held
            .retain(|((turn, number), _)| !taken.iter().any(|(of, up_to)| Arc::ptr_eq(of, turn) && number <= up_to));
        let nobody_waits = match ring {
            None => line.items.is_empty() && line.busy_since_ns.is_none(),
            Some(_) => !line.is_waited_for(),
        };
        if group.is_empty() && nobody_waits && journal.is_sure() {
            drop(line);
            return Some(journal.confirms());
        }
        if line.stop {
            return Some(self.let_go);
        }
        let bytes_max = ring.map_or(0, Ring::bytes_max).max(QUEUE_BYTES_MAX);
        if line.bytes + group.payload_bytes() > bytes_max && line.bytes > 0 {
            drop(line);
            journal.lost("the disk does not keep up: decisions went unrecorded");
            return Some(self.let_go);
        }
        line.bytes += group.payload_bytes();
        let is_next = !self.unkept.load(Ordering::Relaxed);
        let kept = !group.is_empty() && is_next && ring.is_some_and(|ring| ring.append(group));
        if !kept && !group.is_empty() {
            self.unkept.store(true, Ordering::Release);
        }
        let stalled = self.stalled.load(Ordering::Relaxed);
        let waiting = if kept || stalled { &[] } else { taken };
        // What nobody waits for is copied when the thread comes to it.
        let needs_thread = !kept || std::mem::take(&mut line.sleeps);
        let needs_watch = !waiting.is_empty() && !std::mem::replace(&mut line.watched, true);
        let waiting = waiting.iter().map(|(turn, number)| (Arc::clone(turn), *number));
        if let Some(Item::Group(batch)) = line.items.back_mut() {
            batch.group.absorb(group);
            batch.waiting.extend(waiting);
            batch.let_go |= stalled && !kept;
        } else {
            let mut batch =
                Batch { group: line.spare.take().unwrap_or_default(), since_ns: now_ns, ..Batch::default() };
            batch.group.absorb(group);
            batch.waiting.extend(waiting);
            batch.let_go = stalled && !kept;
            line.items.push_back(Item::Group(batch));
        }
        drop(line);
        if needs_thread {
            self.ready.notify_one();
        }
        if needs_watch {
            self.waited_for.notify_one();
        }
        match (kept, stalled) {
            (true, _) => Some(Commit::Durable),
            (false, true) => Some(self.let_go),
            (false, false) => None,
        }
    }

    /// Watches over a turn that cannot be taken yet, so that its answers wait no longer than for a disk.
    pub(super) fn hold(&self, waiting: Waiting, now_ns: u64) {
        let mut line = self.line.lock();
        if !line.held.iter().any(|((turn, number), _)| Arc::ptr_eq(turn, &waiting.0) && *number == waiting.1) {
            line.held.push((waiting, now_ns));
        }
        let needs_watch = !std::mem::replace(&mut line.watched, true);
        drop(line);
        if needs_watch {
            self.waited_for.notify_one();
        }
    }

    /// Runs this on the committing thread, after everything queued so far and before what comes later; drops
    /// it where the thread is stopped.
    pub(super) fn step(&self, step: Step<J>) {
        let mut line = self.line.lock();
        if line.stop {
            return;
        }
        line.items.push_back(Item::Step(step));
        drop(line);
        self.ready.notify_one();
    }

    /// Lets go of everybody who waits, where the oldest has waited for longer than this, nanoseconds.
    pub(super) fn watch(&self, now_ns: u64, patience_ns: u64) -> bool {
        let is_over = |since_ns: u64| now_ns.saturating_sub(since_ns) > patience_ns;
        let mut waiting: Vec<Waiting> = Vec::new();
        {
            let mut line = self.line.lock();
            waiting.extend(line.held.extract_if(.., |(_, since_ns)| is_over(*since_ns)).map(|(waiting, _)| waiting));
            let oldest_ns = line.oldest_ns();
            if !oldest_ns.is_some_and(is_over) {
                drop(line);
                finish(&waiting, self.let_go);
                return !waiting.is_empty();
            }
            self.stalled.store(true, Ordering::Relaxed);
            line.behind_since_ns = line.behind_since_ns.or(oldest_ns);
            waiting.append(&mut line.in_flight);
            for item in &mut line.items {
                if let Item::Group(batch) = item {
                    batch.let_go |= !batch.waiting.is_empty();
                    waiting.append(&mut batch.waiting);
                }
            }
        }
        finish(&waiting, self.let_go);
        true
    }

    /// Lets go of who waits for too long, until the queue has ended; sleeps while nobody waits.
    pub(super) fn keep_watch(&self, hooks: &Hooks) {
        let mut line = self.line.lock();
        while !line.ended {
            if line.is_waited_for() || !line.held.is_empty() {
                line.watched = true;
                self.waited_for.wait_for(&mut line, LOOK_EVERY);
                drop(line);
                self.watch((hooks.clock_ns)(), hooks.patience_ns);
                line = self.line.lock();
            } else {
                line.watched = false;
                self.waited_for.wait(&mut line);
            }
        }
    }

    /// True if something that was decided is kept nowhere yet.
    pub(super) fn has_unkept(&self) -> bool {
        self.unkept.load(Ordering::Acquire)
    }

    /// Notes whether a look at the files is on its way; answers what was so before.
    pub(super) fn checks(&self, on_its_way: bool) -> bool {
        self.checks.swap(on_its_way, Ordering::Relaxed)
    }

    /// True if the disk has been behind for so long that people are told: it hangs, or has not yet taken what was
    /// answered for while it did.
    pub(super) fn is_behind(&self, now_ns: u64) -> bool {
        let since_ns = self.line.lock().behind_since_ns;
        since_ns.is_some_and(|since_ns| now_ns.saturating_sub(since_ns) >= TOLD_AFTER_NS)
    }

    /// Commits until stopped, and what is queued then.
    pub(super) fn run(&self, journal: &J, epoch: Epoch, form: Form, hooks: &Hooks) {
        let ring = if form == Form::Ring { journal.ring() } else { None };
        while let Some(item) = self.next(hooks) {
            match item {
                Item::Step(step) => step(journal),
                Item::Group(Batch { mut group, .. }) => {
                    let began_ns = (hooks.clock_ns)();
                    let outcome = if group.is_empty() { journal.confirm() } else { journal.commit(epoch, &mut group) };
                    if group.ring_end() == 0 {
                        (hooks.committed)((hooks.clock_ns)().saturating_sub(began_ns));
                    }
                    group.clear(BUFFER_BYTES_MAX);
                    let mut line = self.line.lock();
                    line.spare = Some(group);
                    let waiting = std::mem::take(&mut line.in_flight);
                    drop(line);
                    finish(&waiting, outcome);
                    self.keep_queued(ring);
                }
            }
        }
    }

    /// Lets the ring have what had no room in it before: all that is queued, or what comes after it must wait as well.
    fn keep_queued(&self, ring: Option<&Ring>) {
        let (Some(ring), true) = (ring, self.has_unkept()) else { return };
        let mut waiting = Vec::new();
        let mut line = self.line.lock();
        for item in &mut line.items {
            if let Item::Group(batch) = item
                && !batch.group.is_empty()
                && !ring.append(&mut batch.group)
            {
                return;
            }
        }
        for item in &mut line.items {
            if let Item::Group(batch) = item {
                waiting.append(&mut batch.waiting);
            }
        }
        self.unkept.store(false, Ordering::Release);
        drop(line);
        finish(&waiting, Commit::Durable);
    }

    /// The next thing to do; `None` once it is stopped and all is done.
    fn next(&self, hooks: &Hooks) -> Option<Item<J>> {
        let mut line = self.line.lock();
        line.busy_since_ns = None;
        self.stalled.store(false, Ordering::Relaxed);
        if !line.items.iter().any(|item| matches!(item, Item::Group(batch) if batch.let_go)) {
            line.behind_since_ns = None;
            self.unkept.store(line.is_waited_for(), Ordering::Release);
        }
        while line.items.is_empty() && !line.stop {
            line.sleeps = true;
            self.ready.wait(&mut line);
            line.sleeps = false;
        }
        if !line.is_urgent() {
            self.ready.wait_for(&mut line, COPY_EVERY);
        }
        match line.items.pop_front() {
            Some(Item::Group(mut batch)) => {
                line.bytes -= batch.group.payload_bytes();
                line.in_flight = std::mem::take(&mut batch.waiting);
                line.busy_since_ns = Some(batch.since_ns);
                Some(Item::Group(batch))
            }
            Some(step) => {
                line.busy_since_ns = Some((hooks.clock_ns)());
                Some(step)
            }
            None => {
                line.ended = true;
                drop(line);
                self.waited_for.notify_all();
                None
            }
        }
    }

    pub(super) fn stop(&self) {
        self.line.lock().stop = true;
        self.ready.notify_one();
    }
}

fn finish(waiting: &[Waiting], outcome: Commit) {
    for (turn, number) in waiting {
        turn.finish(*number, outcome);
    }
}
