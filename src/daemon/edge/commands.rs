//! One RESP connection: what a read brings is answered together, and the answers leave in one write (API 6a).

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::handler::Handler;
use super::limits::Limits;
use super::peer::Peer;
use super::session::Talk;
use super::socket::Transport;
use super::stats::{Broken, Deadline};
use super::stop;
use crate::daemon::resp::reply;

/// Most bytes that are read at once; as long as the longest command. A client that has sent more waits until the others
/// had a turn.
const READ_BYTES: usize = 16 * 1024;
/// An answer buffer that grew beyond this is given back, bytes.
const OUT_BYTES_KEPT: usize = 4 * 1024;

/// Room to read into, shared by the connections of a runtime: an idle one has no buffer.
#[derive(Debug)]
pub(super) struct Scratch(pub(super) RefCell<Vec<u8>>);

impl Scratch {
    pub(super) fn new() -> Self {
        Scratch(RefCell::new(Vec::new()))
    }
}

/// Serves one connection until it ends, is cut by a deadline, or has drained.
pub(super) async fn serve<S, H>(
    stream: S,
    handler: Rc<H>,
    peer: Rc<Peer>,
    scratch: Rc<Scratch>,
    shutdown: watch::Receiver<bool>,
) where
    S: Transport,
    H: Handler,
{
    let mut wait = Wait::new(shutdown, &peer.limits);
    let mut connection =
        Connection { stream, rest: Vec::new(), talk: Talk::default(), peer: &peer, scratch: &scratch, has_more: false };
    while !connection.talk.is_closing() {
        let settled = match poll_fn(|cx| connection.poll_commands(cx, &*handler, &mut wait)).await {
            Polled::Commands(settled) => settled,
            Polled::End => break,
            Polled::Broken(why) => return peer.stats.count_broken(why),
            Polled::Cut(deadline) => {
                peer.cut(deadline);
                return connection.give_up(deadline);
            }
        };
        if settled.await {
            connection.talk.take_later();
        } else {
            connection.talk.later.take();
            connection.talk.out.clear();
            reply::error(&mut connection.talk.out, "BUSY", "what was decided cannot be recorded; ask again");
            connection.talk.close();
        }
        if !connection.send().await {
            return;
        }
        if connection.has_more {
            tokio::task::yield_now().await;
        }
    }
    connection.end().await;
}

/// The result of waiting for commands.
enum Polled<F> {
    /// Some were answered, and the answers wait for this.
    Commands(F),
    /// The client sends no more, or we stop.
    End,
    Broken(Broken),
    Cut(Deadline),
}

struct Connection<'a, S> {
    stream: S,
    /// The beginning of a command whose rest has not come.
    rest: Vec<u8>,
    talk: Talk,
    peer: &'a Peer,
    scratch: &'a Scratch,
    /// There was more to read than is read at once.
    has_more: bool,
}

impl<S: Transport> Connection<'_, S> {
    /// Reads, and answers what is whole.
    fn poll_commands<'h, H: Handler>(
        &mut self,
        cx: &mut Context<'_>,
        handler: &'h H,
        wait: &mut Wait,
    ) -> Poll<Polled<impl Future<Output = bool> + use<'h, H, S>>> {
        let mut scratch = self.scratch.0.borrow_mut();
        let before = self.rest.len();
        scratch.resize(before + READ_BYTES, 0);
        scratch[..before].copy_from_slice(&self.rest);
        let mut room = ReadBuf::new(&mut scratch);
        room.advance(before);
        match Pin::new(&mut self.stream).poll_read(cx, &mut room) {
            Poll::Pending => {
                let (deadline, why) = if before > 0 {
                    (self.peer.limits.head_deadline, Deadline::Head)
                } else {
                    (self.peer.idle_deadline(), Deadline::Idle)
                };
                return wait.poll(cx, &self.peer.limits, deadline, why).map(|cut| cut.map_or(Polled::End, Polled::Cut));
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Polled::Broken(Broken::Transport)),
            Poll::Ready(Ok(())) if room.filled().len() == before => return Poll::Ready(Polled::End),
            Poll::Ready(Ok(())) => {}
        }
        self.has_more = room.remaining() == 0;
        let bytes = room.filled();
        let (talk, peer) = (&mut self.talk, self.peer);
        // A panic touches this connection alone: its client takes it for "nobody answered", and reconnects.
        let answered = std::panic::catch_unwind(AssertUnwindSafe(|| handler.commands(bytes, talk, peer)));
        let Ok((taken, settled)) = answered else {
            self.peer.stats.count_panic();
            return Poll::Ready(Polled::Broken(Broken::Panic));
        };
        if taken > 0 || before == 0 {
            wait.heard();
        }
        self.rest.clear();
        self.rest.extend_from_slice(&bytes[taken..]);
        Poll::Ready(Polled::Commands(settled))
    }

    /// Sends what is to be sent; `false` where the client does not take it.
    async fn send(&mut self) -> bool {
        let limits = &self.peer.limits;
        let mut sent = 0;
        while sent < self.talk.out.len() {
            let writing = self.stream.write(&self.talk.out[sent..]);
            match within(writing, limits).await {
                Some(Ok(taken)) if taken > 0 => sent += taken,
                Some(_) => {
                    self.peer.stats.count_broken(Broken::Transport);
                    return false;
                }
                None => {
                    self.peer.cut(Deadline::Write);
                    self.stream.give_up();
                    return false;
                }
            }
        }
        self.talk.out.clear();
        self.talk.out.shrink_to(OUT_BYTES_KEPT);
        self.rest.shrink_to(0);
        matches!(within(self.stream.flush(), limits).await, Some(Ok(())))
    }

    /// Ends our side, then reads what still comes: a reset would take the last answer from the client.
    async fn end(&mut self) {
        let closing = async {
            self.stream.shutdown().await?;
            let mut left = Limits::LINGER_BYTES_MAX;
            let mut bytes = [0_u8; 2_048];
            while left > 0 {
                match self.stream.read(&mut bytes).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            io::Result::Ok(())
        };
        if timeout(self.peer.limits.linger_deadline, closing).await.is_err() {
            self.stream.give_up_soon();
        }
    }

    /// Leaves the client without a word. One that was only silent may still be reading.
    fn give_up(&self, why: Deadline) {
        if why == Deadline::Idle { self.stream.give_up_soon() } else { self.stream.give_up() }
    }
}

/// Waits for a write; most are done at once, and cost no timer.
async fn within<R>(writing: impl Future<Output = io::Result<R>>, limits: &Limits) -> Option<io::Result<R>> {
    let mut writing = std::pin::pin!(writing);
    let at_once = poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx))).await;
    match at_once {
        Poll::Ready(result) => Some(result),
        Poll::Pending => timeout(limits.write_deadline, writing).await.ok(),
    }
}

/// Why a connection that waits for its client may end. One timer serves all deadlines, and is touched only where
/// one comes nearer: a quick command costs none.
struct Wait {
    stopping: watch::Receiver<bool>,
    stop: Pin<Box<dyn Future<Output = ()>>>,
    stopped: bool,
    age_at: Instant,
    /// Until when the client must send something, and which deadline that is; none since it last did.
    due: Option<(Instant, Deadline)>,
    /// Until when a command that has begun may be finished, once it is asked to stop.
    drained_at: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// Timer and stop know whom to wake.
    armed: bool,
}

impl Wait {
    fn new(shutdown: watch::Receiver<bool>, limits: &Limits) -> Self {
        let age_at = Instant::now() + limits.connection_age.mul_f64(0.9 + 0.2 * fastrand::f64());
        let stopping = shutdown.clone();
        let stop = Box::pin(stop::asked(shutdown));
        Wait {
            stopping,
            stop,
            stopped: false,
            age_at,
            due: None,
            drained_at: None,
            timer: Box::pin(sleep_until(age_at)),
            armed: false,
        }
    }

    /// A command came, or the beginning of one.
    fn heard(&mut self) {
        self.due = None;
    }

    /// Polls for the end of the waiting. A connection that is old, or asked to stop, ends between two commands.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
        deadline: Duration,
        which: Deadline,
    ) -> Poll<Option<Deadline>> {
        let now = Instant::now();
        let due = match self.due {
            Some((due, known)) if known == which => due,
            _ => now + deadline,
        };
        self.due = Some((due, which));
        let between = which == Deadline::Idle;
        if !self.stopped && (!self.armed || self.stopping.has_changed().unwrap_or(true)) {
            self.stopped = self.stop.as_mut().poll(cx).is_ready();
        }
        if between && (self.stopped || now >= self.age_at) {
            return Poll::Ready(None);
        }
        let mut next = (due, which);
        if self.stopped {
            let drained = *self.drained_at.get_or_insert(now + limits.drain_deadline);
            if drained < due {
                next = (drained, Deadline::Drain);
            }
        }
        if now >= next.0 {
            return Poll::Ready(Some(next.1));
        }
        let wake = if between { due.min(self.age_at) } else { next.0 };
        if self.timer.is_elapsed() || wake < self.timer.deadline() {
            self.timer.as_mut().reset(wake);
            self.armed = false;
        }
        if !self.armed {
            // It is due later than now, so this only tells it whom to wake.
            self.armed = self.timer.as_mut().poll(cx).is_pending();
        }
        Poll::Pending
    }
}
