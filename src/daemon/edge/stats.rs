//! The counters of the edge: accepted, refused and why, cut and by which deadline, open now.

use std::sync::atomic::{AtomicU64, Ordering};

use usherd_contract::vocabulary;

vocabulary! {
    /// Why a connection was not let in.
    Refusal {
        /// All connections that its kind of peer may use are open.
        Full = "full",
        /// Its address has too many open.
        Address = "address",
        /// No file descriptor or memory for it.
        Exhausted = "exhausted",
        /// The TLS handshake failed.
        Handshake = "handshake",
    }
}

vocabulary! {
    /// Why a connection ended in an error that no deadline is to blame for.
    Broken {
        /// The network, or the other end, broke it off.
        Transport = "transport",
        /// Bytes that are not of the listener's protocol.
        Protocol = "protocol",
        /// We failed: a panic that left nothing to answer with.
        Panic = "panic",
    }
}

vocabulary! {
    /// Why accepting a connection lost that one, and nothing else.
    AcceptError {
        /// The client was gone before it was accepted.
        Aborted = "aborted",
        /// Any other error of the kernel.
        Other = "other",
    }
}

vocabulary! {
    /// Which deadline ended a connection or a request.
    Deadline {
        /// Nothing came after connecting.
        FirstByte = "first_byte",
        /// The head of a request, or a handshake, was not complete in time.
        Head = "head",
        /// The body of a request was not complete in time; answered 408.
        Body = "body",
        /// The handler did not answer in time; answered 503.
        Answer = "answer",
        /// The client did not take its answer in time.
        Write = "write",
        /// Nothing came between two requests.
        Idle = "idle",
        /// It was asked to close for its age and answers were still in progress.
        Age = "age",
        /// It was asked to close for shutdown and answers were still in progress.
        Drain = "drain",
        /// The client did not close after our last byte.
        Linger = "linger",
    }
}

impl Deadline {
    /// True if the client held up what it had begun: nothing that an honest one does in the course of things.
    pub(super) const fn is_of_client(self) -> bool {
        matches!(self, Deadline::Head | Deadline::Body | Deadline::Write)
    }
}

/// Counters of one listener; relaxed, each true by itself.
#[derive(Debug, Default)]
pub struct EdgeStats {
    accepted: AtomicU64,
    closed: AtomicU64,
    accept_errors: [AtomicU64; AcceptError::ALL.len()],
    requests: AtomicU64,
    panics: AtomicU64,
    bodies_too_large: AtomicU64,
    broken: [AtomicU64; Broken::ALL.len()],
    refused: [AtomicU64; Refusal::ALL.len()],
    deadlines: [AtomicU64; Deadline::ALL.len()],
}

impl EdgeStats {
    /// Connections let in since the start.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections open now; never below zero (I28).
    pub fn open(&self) -> u64 {
        let closed = self.closed.load(Ordering::Acquire);
        self.accepted.load(Ordering::Relaxed).saturating_sub(closed)
    }

    /// Errors of accept that lost one connection and nothing else.
    pub fn accept_errors(&self) -> u64 {
        sum(&self.accept_errors)
    }

    /// Those of one reason.
    pub fn accept_errors_by(&self, why: AcceptError) -> u64 {
        read(&self.accept_errors, why as usize)
    }

    /// Requests handed to the handler.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Panics of handlers, each answered 503.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Request bodies over their route's limit.
    pub fn bodies_too_large(&self) -> u64 {
        self.bodies_too_large.load(Ordering::Relaxed)
    }

    /// Connections that ended in an error of protocol or transport.
    pub fn broken(&self) -> u64 {
        sum(&self.broken)
    }

    /// Those of one reason.
    pub fn broken_by(&self, why: Broken) -> u64 {
        read(&self.broken, why as usize)
    }

    /// Connections refused for a reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        read(&self.refused, why as usize)
    }

    /// The connections and requests that a deadline ended.
    pub fn ended_by(&self, deadline: Deadline) -> u64 {
        read(&self.deadlines, deadline as usize)
    }

    pub(super) fn count_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_closed(&self) {
        self.closed.fetch_add(1, Ordering::Release);
    }

    pub(super) fn count_accept_error(&self, why: AcceptError) {
        raise(&self.accept_errors, why as usize);
    }

    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_too_large(&self) {
        self.bodies_too_large.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_broken(&self, why: Broken) {
        raise(&self.broken, why as usize);
    }

    pub(super) fn count_refused(&self, why: Refusal) {
        raise(&self.refused, why as usize);
    }

    pub(super) fn count_deadline(&self, deadline: Deadline) {
        raise(&self.deadlines, deadline as usize);
    }
}

fn read(counters: &[AtomicU64], at: usize) -> u64 {
    counters.get(at).map_or(0, |n| n.load(Ordering::Relaxed))
}

fn sum(counters: &[AtomicU64]) -> u64 {
    counters.iter().map(|n| n.load(Ordering::Relaxed)).sum()
}

fn raise(counters: &[AtomicU64], at: usize) {
    if let Some(n) = counters.get(at) {
        n.fetch_add(1, Ordering::Relaxed);
    }
}
