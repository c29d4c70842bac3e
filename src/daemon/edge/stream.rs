//! The stream under hyper: it notes what the client does, so that the connection can hold it to deadlines.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limits::Limits;
use super::vitals::{Phase, Vitals};

thread_local! {
    /// The buffer of the last connection of this thread that has sent all it had, for the next that gathers something.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
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
    gathered: Vec<u8>,
    /// So many bytes of them are sent.
    sent: usize,
    wants_flush: bool,
    at_end: bool,
    is_shut: bool,
    linger_bytes_left: usize,
    reader: Reader,
    /// The bytes, or the error, that the short way came upon: hyper reads them first.
    ahead: Vec<u8>,
    failed: Option<io::Error>,
}

/// The reader of the next bytes.
#[derive(Clone, Copy, Debug)]
enum Reader {
    /// The short way, for the connection is between two requests.
    Shortcut,
    /// hyper, for so many bytes until the end of its request, if that is known.
    Hyper { left: Option<usize>, waits: bool },
}

impl<S> Guarded<S> {
    /// A stream whose first reader is the short way, or hyper.
    pub(super) fn new(inner: S, vitals: Rc<Vitals>, has_shortcut: bool) -> Self {
        let reader = if has_shortcut { Reader::Shortcut } else { Reader::Hyper { left: None, waits: false } };
        Guarded {
            reader,
            ahead: Vec::new(),
            failed: None,
            inner,
            vitals,
            gathered: Vec::new(),
            sent: 0,
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

    /// True if no part of a request was read, and hyper waits for none that it has begun with.
    pub(super) fn is_between_requests(&mut self) -> bool {
        if let Reader::Hyper { left: Some(0), waits: true } = self.reader {
            self.reader = Reader::Shortcut;
        }
        matches!(self.reader, Reader::Shortcut)
    }

    /// Lets hyper read these bytes, which begin with a request of so many, if that is known.
    pub(super) fn hand_over(&mut self, bytes: &[u8], whole: Option<usize>) {
        self.reader = Reader::Hyper { left: whole, waits: false };
        self.ahead.extend_from_slice(bytes);
    }

    /// Lets hyper come upon this error.
    pub(super) fn fail(&mut self, error: io::Error) {
        self.failed = Some(error);
        self.hand_over(&[], None);
    }

    /// The buffer of answers that leave with the next [`Guarded::poll_push`].
    pub(super) fn gather(&mut self) -> &mut Vec<u8> {
        self.gathers(0);
        &mut self.gathered
    }

    fn gathers(&mut self, len: usize) -> bool {
        self.wants_flush = true;
        if self.gathered.capacity() == 0 {
            self.gathered = SPARE.take();
        }
        self.gathered.drain(..std::mem::take(&mut self.sent));
        self.gathered.len() + len <= Limits::GATHERED_BYTES_MAX
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
        while self.sent < self.gathered.len() {
            let left = &self.gathered[self.sent..];
            let result = Pin::new(&mut self.inner).poll_write(cx, left);
            self.note(&result, self.gathered.len() - self.sent);
            match ready!(result)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.sent += taken,
            }
        }
        // An idle connection keeps no buffer.
        self.sent = 0;
        if self.gathered.capacity() > 0 {
            self.gathered.clear();
            SPARE.set(std::mem::take(&mut self.gathered));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// Reads what this turn leaves room for.
    pub(super) fn poll_read_more(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self;
        let left = this.vitals.may_read();
        if left == 0 {
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
        this.vitals.did_read(read);
        if result.is_err() || read == 0 {
            this.at_end = true;
        } else {
            this.vitals.saw_bytes();
        }
        Poll::Ready(result)
    }
}

/// As hyper reads.
impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = if !this.ahead.is_empty() {
            let taken = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..taken]);
            this.ahead.drain(..taken);
            if this.ahead.is_empty() {
                this.ahead = Vec::new();
            }
            Poll::Ready(Ok(()))
        } else if let Some(error) = this.failed.take() {
            Poll::Ready(Err(error))
        } else {
            this.poll_read_more(cx, buf)
        };
        if let Reader::Hyper { left, waits } = &mut this.reader {
            *left = left.and_then(|left| left.checked_sub(buf.filled().len() - before));
            *waits = polled.is_pending() && this.vitals.phase() == Phase::Idle && !this.vitals.is_turn_over();
        }
        polled
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
