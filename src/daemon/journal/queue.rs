//! Stop-and-wait group commit: one thread, exactly one commit in flight, which takes everything queued.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use super::codec::Group;
use super::local::BUFFER_BYTES_MAX;
use super::turn::{Hooks, Turn};
use super::{Commit, Epoch, Journal};

/// Longest queue, in bytes; what comes on top is not recorded, and the journal says so (I14, I26).
const QUEUE_BYTES_MAX: usize = 64 << 20;

type Step<J> = Box<dyn FnOnce(&J) + Send>;

/// A turn and its number: who waits for what.
type Waiting = (Arc<Turn>, u64);

enum Item<J> {
    Group(Group, Vec<Waiting>),
    Step(Step<J>),
}

struct Line<J> {
    items: VecDeque<Item<J>>,
    bytes: usize,
    in_flight: Vec<Waiting>,
    busy: bool,
    spare: Option<Group>,
    stop: bool,
}

/// What waits for the commit in flight.
pub(super) struct Queue<J> {
    line: Mutex<Line<J>>,
    ready: Condvar,
    /// When the commit in flight began, nanoseconds of the hooks' clock plus one; 0 while there is none.
    since: AtomicU64,
    stalled: AtomicBool,
}

impl<J: Journal> Queue<J> {
    pub(super) fn new() -> Self {
        let line =
            Line { items: VecDeque::new(), bytes: 0, in_flight: Vec::new(), busy: false, spare: None, stop: false };
        Queue {
            line: Mutex::new(line),
            ready: Condvar::new(),
            since: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
        }
    }

    /// Takes over what a turn decided. Gives the outcome where it is known already.
    pub(super) fn take_over(&self, journal: &J, group: &Group, waiting: Waiting) -> Option<Commit> {
        let mut line = self.line.lock();
        if group.is_empty() && line.items.is_empty() && !line.busy {
            return Some(Commit::Durable);
        }
        if line.stop {
            return Some(Commit::NotDurable);
        }
        if line.bytes + group.payload_bytes() > QUEUE_BYTES_MAX && line.bytes > 0 {
            drop(line);
            journal.lost("the disk does not keep up: decisions went unrecorded");
            return Some(Commit::NotDurable);
        }
        line.bytes += group.payload_bytes();
        let stalled = self.stalled.load(Ordering::Relaxed);
        let waiting = (!stalled).then_some(waiting);
        if let Some(Item::Group(queued, list)) = line.items.back_mut() {
            queued.absorb(group);
            list.extend(waiting);
        } else {
            let mut queued = line.spare.take().unwrap_or_default();
            queued.absorb(group);
            line.items.push_back(Item::Group(queued, waiting.into_iter().collect()));
        }
        drop(line);
        self.ready.notify_one();
        stalled.then_some(Commit::NotDurable)
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

    /// Lets go of everybody who waits, where the commit in flight takes longer than this, nanoseconds.
    pub(super) fn watch(&self, now_ns: u64, patience_ns: u64) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        if since == 0 || now_ns.saturating_sub(since - 1) <= patience_ns {
            return false;
        }
        let mut waiting = Vec::new();
        {
            let mut line = self.line.lock();
            if self.since.load(Ordering::Relaxed) != since {
                return false;
            }
            self.stalled.store(true, Ordering::Relaxed);
            waiting.append(&mut line.in_flight);
            for item in &mut line.items {
                if let Item::Group(_, list) = item {
                    waiting.append(list);
                }
            }
        }
        finish(&waiting, Commit::NotDurable);
        true
    }

    pub(super) fn stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Commits until stopped, and what is queued then.
    pub(super) fn run(&self, journal: &J, epoch: Epoch, hooks: &Hooks) {
        loop {
            let mut line = self.line.lock();
            line.busy = false;
            let item = loop {
                match line.items.pop_front() {
                    Some(item) => break item,
                    None if line.stop => return,
                    None => self.ready.wait(&mut line),
                }
            };
            line.busy = true;
            let began = (hooks.clock_ns)();
            self.since.store(began.saturating_add(1), Ordering::Relaxed);
            match item {
                Item::Step(step) => {
                    drop(line);
                    step(journal);
                    self.since.store(0, Ordering::Relaxed);
                    self.stalled.store(false, Ordering::Relaxed);
                }
                Item::Group(mut group, waiting) => {
                    line.bytes -= group.payload_bytes();
                    line.in_flight = waiting;
                    drop(line);
                    let outcome = if group.is_empty() { Commit::Durable } else { journal.commit(epoch, &mut group) };
                    (hooks.committed)((hooks.clock_ns)().saturating_sub(began));
                    group.clear(BUFFER_BYTES_MAX);
                    let mut line = self.line.lock();
                    self.since.store(0, Ordering::Relaxed);
                    self.stalled.store(false, Ordering::Relaxed);
                    line.spare = Some(group);
                    let waiting = std::mem::take(&mut line.in_flight);
                    drop(line);
                    finish(&waiting, outcome);
                }
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
        turn.finished(*number, outcome);
    }
}
