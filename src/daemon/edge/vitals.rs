//! The state that the stream, the requests and the driver of one connection share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::limits::Limits;

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// The phase of a connection; each wait has its own deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Bytes of a head came, the head is not complete.
    Head,
    /// Requests are being answered.
    Busy,
    /// Between two requests.
    Idle,
    /// Our last byte is sent.
    Closing,
}

/// The work that a connection may still do before the others have a turn.
#[derive(Debug, Default)]
struct TurnBudget {
    requests: Cell<u32>,
    bytes: Cell<usize>,
    /// It would do more: it wants another turn.
    is_over: Cell<bool>,
}

/// The state that the stream, the requests and the connection share.
#[derive(Debug)]
pub(super) struct Vitals {
    phase: Cell<Phase>,
    phase_moved: Cell<bool>,
    requests: Cell<u32>,
    /// Since when the socket takes less than it is given, and what it took meanwhile.
    blocked_since: Cell<Option<Instant>>,
    written_bytes: Cell<usize>,
    /// Replies that have bytes which were not asked for, by number, and since when: oldest first. Each for
    /// itself, because on HTTP/2 one stream can stand still while another goes on.
    waiting: RefCell<Vec<(u64, Instant)>>,
    numbers: Cell<u64>,
    turn: TurnBudget,
    /// The request that waits for the answer before it to leave.
    held: RefCell<Option<Waker>>,
    /// The next request failed before it was read.
    fails_next: Cell<bool>,
    version: Version,
}

impl Vitals {
    pub(super) fn new(version: Version) -> Self {
        Vitals {
            phase: Cell::new(Phase::Head),
            phase_moved: Cell::new(true),
            requests: Cell::new(0),
            blocked_since: Cell::new(None),
            written_bytes: Cell::new(0),
            waiting: RefCell::default(),
            numbers: Cell::new(0),
            turn: TurnBudget::default(),
            held: RefCell::default(),
            fails_next: Cell::new(false),
            version,
        }
    }

    /// True if it carries several requests at once.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.version == Version::Two
    }

    /// The connection is about to be polled.
    pub(super) fn begin_turn(&self, is_node: bool) {
        let is_strange = self.is_multiplexed() && !is_node;
        self.turn.bytes.set(if is_strange { Limits::TURN_BYTES_STRANGER_MAX } else { Limits::TURN_BYTES_MAX });
        self.turn.requests.set(Limits::TURN_REQUESTS_MAX);
        self.turn.is_over.set(false);
    }

    /// True if an answer could not leave as a whole yet.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_since.get().is_some()
    }

    /// True if one more request may be answered in this turn, and nothing that was answered waits to leave.
    pub(super) fn may_answer(&self) -> bool {
        if self.is_blocked() {
            return false;
        }
        let left = self.turn.requests.get().checked_sub(1);
        self.turn.requests.set(left.unwrap_or(0));
        self.turn.is_over.set(self.turn.is_over.get() || left.is_none());
        left.is_some()
    }

    /// The next request is to be answered as one that failed.
    pub(super) fn fail_next(&self) {
        self.fails_next.set(true);
    }

    /// The bytes that it may still read in this turn; with none left, it wants another turn.
    pub(super) fn may_read(&self) -> usize {
        let left = self.turn.bytes.get();
        self.turn.is_over.set(self.turn.is_over.get() || left == 0);
        left
    }

    /// It read so many bytes.
    pub(super) fn did_read(&self, bytes: usize) {
        self.turn.bytes.set(self.turn.bytes.get().saturating_sub(bytes));
    }

    /// True if it would do more than this turn has room for.
    pub(super) fn is_turn_over(&self) -> bool {
        self.turn.is_over.get()
    }

    /// True if the connection was polled to the end of its turn: it must be polled again.
    pub(super) fn take_turn_over(&self) -> bool {
        self.turn.is_over.take()
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// True if the phase began anew since this was last asked.
    pub(super) fn take_phase_moved(&self) -> bool {
        self.phase_moved.take()
    }

    /// Since when we wait for the client to take something, if we do.
    pub(super) fn writing_since(&self) -> Option<Instant> {
        let waiting = self.waiting.borrow().first().map(|(_, since)| *since);
        match (self.blocked_since.get(), waiting) {
            (Some(blocked), Some(waiting)) => Some(blocked.min(waiting)),
            (blocked, waiting) => blocked.or(waiting),
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.phase_moved.set(true);
    }

    pub(super) fn saw_bytes(&self) {
        // In HTTP/2 bytes may be anything; in HTTP/1 they begin a head.
        if self.version == Version::One && self.phase.get() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    pub(super) fn wrote(&self, taken: usize, offered: usize) {
        if self.blocked_since.get().is_none() {
            return;
        }
        let written = self.written_bytes.get() + taken;
        if taken == offered {
            self.blocked_since.set(None);
            if let Some(held) = self.held.take() {
                held.wake();
            }
        } else if written >= Limits::WRITE_STEP_BYTES {
            self.written_bytes.set(0);
            self.blocked_since.set(Some(Instant::now()));
        } else {
            self.written_bytes.set(written);
        }
    }

    pub(super) fn could_not_write(&self) {
        if self.blocked_since.get().is_none() {
            self.written_bytes.set(0);
            self.blocked_since.set(Some(Instant::now()));
        }
    }
}

/// One request in progress, from its head to the last byte of its reply.
#[derive(Debug)]
pub(super) struct InProgress {
    vitals: Rc<Vitals>,
    number: u64,
    waiting: bool,
}

impl InProgress {
    pub(super) fn begin(vitals: &Rc<Vitals>) -> Self {
        vitals.requests.set(vitals.requests.get() + 1);
        vitals.enter(Phase::Busy);
        let number = vitals.numbers.get();
        vitals.numbers.set(number + 1);
        InProgress { vitals: Rc::clone(vitals), number, waiting: false }
    }

    /// True if it failed before it was read.
    pub(super) fn take_failure(&self) -> bool {
        self.vitals.fails_next.take()
    }

    /// True if other requests of the connection are answered at the same time.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.vitals.is_multiplexed()
    }

    /// Ready when the request may be answered: once the answers before it are on their way, and while the connection
    /// has its turn. Streams of HTTP/2 have turns of their own, and their client's window.
    pub(super) fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        let vitals = &self.vitals;
        if vitals.is_multiplexed() {
            return Poll::Ready(());
        }
        if vitals.blocked_since.get().is_some() {
            *vitals.held.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(left) = vitals.turn.requests.get().checked_sub(1) else {
            vitals.turn.is_over.set(true);
            return Poll::Pending;
        };
        vitals.turn.requests.set(left);
        Poll::Ready(())
    }

    /// There are bytes of the reply that the client should take from now on, or there are none for now.
    pub(super) fn set_waiting(&mut self, waiting: bool) {
        if !self.waiting && !waiting {
            return;
        }
        let mut all = self.vitals.waiting.borrow_mut();
        if self.waiting {
            all.retain(|(number, _)| *number != self.number);
        }
        if waiting {
            all.push((self.number, Instant::now()));
        }
        self.waiting = waiting;
    }

    /// The largest part of a reply to hand over at once. HTTP/2 keeps what it was handed until the client
    /// opens its window, and nobody sees it there.
    pub(super) fn part_bytes_max(&self) -> usize {
        match self.vitals.version {
            Version::One => 64 * 1024,
            Version::Two => 4 * 1024,
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.set_waiting(false);
        let left = self.vitals.requests.get().saturating_sub(1);
        self.vitals.requests.set(left);
        if left == 0 {
            self.vitals.enter(Phase::Idle);
        }
    }
}
