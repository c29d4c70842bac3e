//! The stream under hyper: it notes what the client does, so that the connection can hold it to deadlines.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.phase_moved.set(true);
    }

    fn saw_bytes(&self) {
        // In HTTP/2 bytes may be anything; in HTTP/1 they begin a head.
        if self.version == Version::One && self.phase.get() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    fn wrote(&self, taken: usize, offered: usize) {
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

    fn could_not_write(&self) {
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

/// The stream as hyper has it, while the connection keeps it too: hyper drops its own after an error, and
/// the answer to a wrong head would be lost in a reset.
#[derive(Debug)]
pub(super) struct Shared<S>(pub(super) Rc<RefCell<Guarded<S>>>);

impl<S: AsyncRead + Unpin> AsyncRead for Shared<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Shared<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}

/// A stream that keeps the vitals, and gathers what hyper writes until [`Guarded::poll_push`]: the answers
/// to pipelined requests leave together. (hyper's own `pipeline_flush` keeps back every answer, without
/// limit, while any part of a further request is in its read buffer.)
#[derive(Debug)]
pub(super) struct Guarded<S> {
    inner: S,
    vitals: Rc<Vitals>,
    gathered: BytesMut,
    wants_flush: bool,
    at_end: bool,
    is_shut: bool,
    linger_bytes_left: usize,
}

impl<S> Guarded<S> {
    pub(super) fn new(inner: S, vitals: Rc<Vitals>) -> Self {
        Guarded {
            inner,
            vitals,
            gathered: BytesMut::new(),
            wants_flush: false,
            at_end: false,
            is_shut: false,
            linger_bytes_left: Limits::LINGER_BYTES_MAX,
        }
    }

    /// The stream under it.
    pub(super) fn transport(&self) -> &S {
        &self.inner
    }

    fn note(&self, result: &Poll<io::Result<usize>>, offered: usize) {
        match result {
            Poll::Ready(Ok(taken)) => self.vitals.wrote(*taken, offered),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.vitals.could_not_write(),
        }
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    /// Sends what was gathered. Call it after hyper has done what it could.
    pub(super) fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.wants_flush {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send_gathered(cx))?;
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.wants_flush = false;
        Poll::Ready(Ok(()))
    }

    fn poll_send_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let result = Pin::new(&mut self.inner).poll_write(cx, &self.gathered);
            self.note(&result, self.gathered.len());
            match ready!(result)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.gathered.advance(taken),
            }
        }
        // An idle connection keeps no buffer.
        self.gathered = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn gathers(&mut self, len: usize) -> bool {
        self.wants_flush = true;
        self.gathered.len() + len <= Limits::GATHERED_BYTES_MAX
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let turn = &this.vitals.turn;
        let left = turn.bytes.get();
        if left == 0 {
            turn.is_over.set(true);
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let result = if buf.remaining() <= left {
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(left));
            let result = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut part));
            let read = part.filled().len();
            buf.advance(read);
            result
        };
        let read = buf.filled().len() - before;
        turn.bytes.set(left.saturating_sub(read));
        if result.is_err() || read == 0 {
            this.at_end = true;
        } else {
            this.vitals.saw_bytes();
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.gathers(buf.len()) {
            ready!(this.poll_send_gathered(cx))?;
            if buf.len() > Limits::GATHERED_BYTES_MAX {
                let result = Pin::new(&mut this.inner).poll_write(cx, buf);
                this.note(&result, buf.len());
                return result;
            }
        }
        this.gathered.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let len = bufs.iter().map(|buf| buf.len()).sum();
        if !this.gathers(len) {
            ready!(this.poll_send_gathered(cx))?;
            if len > Limits::GATHERED_BYTES_MAX {
                let result = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
                this.note(&result, len);
                return result;
            }
        }
        this.gathered.reserve(len);
        for buf in bufs {
            this.gathered.extend_from_slice(buf);
        }
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// Is put off until [`Guarded::poll_push`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends our side, then reads what the client still sends, so that the end of our answer is not lost
    /// in a reset.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            ready!(this.poll_push(cx))?;
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
            this.is_shut = true;
            this.vitals.enter(Phase::Closing);
        }
        let mut scratch = [0_u8; 2048];
        while !this.at_end && this.linger_bytes_left > 0 {
            let mut buf = ReadBuf::new(&mut scratch);
            let result = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buf));
            let n = buf.filled().len();
            this.at_end = result.is_err() || n == 0;
            this.linger_bytes_left = this.linger_bytes_left.saturating_sub(n);
        }
        Poll::Ready(Ok(()))
    }
}
