//! A turn that is open: what it has so far, who waits for it, and how the ones before it ended.

use std::collections::VecDeque;
use std::task::Waker;

use parking_lot::Mutex;

use super::Commit;
use super::codec::RecordBuilder;
use super::local::BUFFER_BYTES_MAX;

/// Changes of outcome that are remembered for tickets that nobody polls.
const OUTCOMES_MAX: usize = 32;

/// The turn of one runtime. Its lock is held while a message is decided and encoded, and while the turn is
/// written; nobody but a checkpoint ever contends for it, and it is never held across an await.
pub(super) struct Turn {
    pub(super) open: Mutex<Open>,
}

/// The group of the present turn, and those that wait for it.
pub(super) struct Open {
    pub(super) group: RecordBuilder,
    /// The number of the turn that is open; tickets carry it.
    pub(super) number: u64,
    /// Somebody is going to commit it.
    pub(super) led: bool,
    /// All turns up to this one are finished.
    pub(super) done: u64,
    /// How they ended: the last turn of each run of one outcome.
    pub(super) outcomes: VecDeque<(u64, Commit)>,
    pub(super) waiters: Vec<(u64, u64, Waker)>,
    pub(super) next_waiter: u64,
}

impl Turn {
    /// The first turn of a runtime.
    pub(super) fn new() -> Self {
        let open = Open {
            group: RecordBuilder::new(),
            number: 1,
            led: false,
            done: 0,
            outcomes: VecDeque::new(),
            waiters: Vec::new(),
            next_waiter: 0,
        };
        Turn { open: Mutex::new(open) }
    }
}

impl Open {
    pub(super) fn outcome(&self, number: u64) -> Option<Commit> {
        if number > self.done {
            return None;
        }
        let found = self.outcomes.iter().find(|(up_to, _)| *up_to >= number);
        Some(found.map_or(Commit::Durable, |(_, outcome)| *outcome))
    }

    pub(super) fn finish(&mut self, number: u64, outcome: Commit) -> Vec<Waker> {
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

    pub(super) fn next(&mut self) -> u64 {
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
