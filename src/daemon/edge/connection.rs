//! One connection: hyper in its armour of deadlines, and each request's handler behind a wall.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::answers::SMALL_BYTES_MAX;
use super::commands::Scratch;
use super::handler::Handler;
use super::limits::Limits;
use super::peer::Peer;
use super::shortcut::Shortcut;
use super::socket::Transport;
use super::stats::{Broken, Deadline};
use super::stop::Stop;
use super::stream::{Guarded, Shared};
use super::turns::Line;
use super::vitals::{InProgress, Phase, Version, Vitals};
use crate::daemon::http::body::ReplyBody;
use crate::daemon::http::problem::Problem;

/// The seconds after which a caller may ask again after a panic or a stuck handler: at once, elsewhere if possible.
const RETRY_AFTER_FAILURE_SECONDS: u32 = 1;

/// Serves one connection until it ends, is cut by a deadline, or has drained.
pub(super) async fn serve<S, H>(
    stream: S,
    version: Version,
    handler: Rc<H>,
    peer: Rc<Peer>,
    scratch: Rc<Scratch>,
    shutdown: watch::Receiver<bool>,
) where
    S: Transport + 'static,
    H: Handler,
{
    let vitals = Rc::new(Vitals::new(version));
    let stream =
        Rc::new(RefCell::new(Guarded::new(stream, Rc::clone(&vitals), H::ANSWERS_PLAIN && version == Version::One)));
    let io = TokioIo::new(Shared(Rc::clone(&stream)));
    let service = {
        let (peer, vitals, line) = (Rc::clone(&peer), Rc::clone(&vitals), Rc::new(Line::default()));
        let handler = Rc::clone(&handler);
        service_fn(move |request| {
            let progress = InProgress::begin(&vitals);
            answer(Rc::clone(&handler), Rc::clone(&peer), Rc::clone(&line), progress, request)
        })
    };
    let ended = match version {
        Version::One => {
            let connection = http1(&peer.limits).serve_connection(io, service);
            let shortcut = Shortcut::new(&*handler, &peer, &vitals, &scratch);
            let deadlines = Deadlines::new(&vitals, &peer);
            drive(connection, |c| c.graceful_shutdown(), shortcut, &stream, deadlines, shutdown).await
        }
        Version::Two => {
            let connection = http2(&peer).serve_connection(io, service);
            let deadlines = Deadlines::new(&vitals, &peer);
            drive(connection, |c| c.graceful_shutdown(), None::<Shortcut<'_, H>>, &stream, deadlines, shutdown).await
        }
    };
    if let Ended::Broken(why) = ended {
        peer.stats.count_broken(why);
    }
    match ended {
        // Who was only silent may still be reading what it asked for.
        Ended::Cut(Deadline::Idle | Deadline::Linger) => stream.borrow().transport().give_up_soon(),
        Ended::Cut(_) => stream.borrow().transport().give_up(),
        // After a request with an `Upgrade` header hyper leaves the stream as it is, with the answer in it.
        Ended::Well | Ended::Broken(_) => {
            let closing = std::future::poll_fn(|cx| Pin::new(&mut *stream.borrow_mut()).poll_shutdown(cx));
            if timeout(peer.limits.linger_deadline, closing).await.is_err() {
                stream.borrow().transport().give_up_soon();
            }
        }
    }
}

/// HTTP/1. Its own header timeout is off, because it is the idle timeout too; ours tell the two apart.
fn http1(limits: &Limits) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(limits.buf_bytes_max.max(Limits::BUF_BYTES_MIN))
        .half_close(true);
    if limits.headers_max != Limits::HEADERS_ON_STACK {
        builder.max_headers(limits.headers_max);
    }
    builder
}

fn http2(peer: &Peer) -> hyper::server::conn::http2::Builder<OnThisCore> {
    let limits = &peer.limits;
    let streams_max = if peer.pass.is_node() { limits.h2_streams_max } else { limits.h2_streams_stranger_max };
    let mut builder = hyper::server::conn::http2::Builder::new(OnThisCore);
    builder
        .initial_stream_window_size(Limits::H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(Limits::H2_CONNECTION_WINDOW_BYTES)
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams_max)
        .max_header_list_size(limits.h2_header_list_bytes_max)
        .max_send_buf_size(limits.h2_send_buf_bytes_max)
        .max_pending_accept_reset_streams(limits.h2_resets_max)
        .max_local_error_reset_streams(limits.h2_resets_max)
        .keep_alive_interval(limits.h2_ping_interval)
        .keep_alive_timeout(limits.h2_ping_deadline);
    builder
}

/// Runs the streams of an HTTP/2 connection on the core of the connection.
#[derive(Clone, Copy, Debug)]
struct OnThisCore;

impl<F> Executor<F> for OnThisCore
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        // As it is: a block around it would hold it twice.
        tokio::task::spawn_local(future);
    }
}

/// Runs a request's handler: a panic or a stuck one touches this request alone and is a 503, which a
/// node takes for "nobody answered" and allows (I10).
async fn answer<H: Handler>(
    handler: Rc<H>,
    peer: Rc<Peer>,
    line: Rc<Line>,
    mut progress: InProgress,
    request: Request<Incoming>,
) -> Result<Response<Tracked>, Infallible> {
    std::future::poll_fn(|cx| progress.poll_turn(cx)).await;
    if progress.take_failure() {
        peer.stats.count_request();
        progress.set_waiting(true);
        return Ok(failed("an internal error").map(|body| Tracked { body, progress }));
    }
    let mut handling = std::pin::pin!(handled(&*handler, &peer, request));
    let response = match &peer.turns {
        // Its streams are tasks of their own; inside of them, because one that its client resets must end at once.
        Some(turns) if progress.is_multiplexed() => turns.run(&line, || peer.pass.is_node(), handling).await,
        _ => handling.as_mut().await,
    };
    progress.set_waiting(true);
    Ok(response.map(|body| Tracked { body, progress }))
}

/// The handler behind its wall.
async fn handled<H: Handler>(handler: &H, peer: &Peer, request: Request<Incoming>) -> Response<ReplyBody> {
    peer.stats.count_request();
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let response = answered(handler, peer, request).await;
    counted(response, peer, is_reading)
}

/// Counts what will wait for its reader. Whoever only reads is refused where there is no room; what was decided is
/// told in any case.
fn counted(response: Response<ReplyBody>, peer: &Peer, is_reading: bool) -> Response<ReplyBody> {
    match response.body() {
        // What others hold, too, as a page of the binary, is not held for this reader.
        ReplyBody::Full(Some(bytes)) if bytes.len() > SMALL_BYTES_MAX && bytes.is_unique() => {}
        _ => return response,
    }
    if is_reading && let Err(full) = peer.room_for_answer() {
        return full.into_response();
    }
    response.map(|body| match body {
        ReplyBody::Full(Some(bytes)) => ReplyBody::Full(Some(peer.answers.hold(bytes))),
        other => other,
    })
}

async fn answered<H: Handler>(handler: &H, peer: &Peer, request: Request<Incoming>) -> Response<ReplyBody> {
    let mut handling = std::pin::pin!(handler.handle(request, peer));
    let walled = std::future::poll_fn(|cx| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx)));
        polled.map_or_else(|_| Poll::Ready(None), |polled| polled.map(Some))
    });
    match peer.alarm.within(peer.limits.answer_deadline, walled).await {
        Some(Some(response)) => response,
        Some(None) => {
            peer.stats.count_panic();
            failed("an internal error")
        }
        None => {
            peer.stats.count_deadline(Deadline::Answer);
            failed("no answer in time")
        }
    }
}

fn failed(what: &'static str) -> Response<ReplyBody> {
    Problem::unavailable(RETRY_AFTER_FAILURE_SECONDS, what).into_response()
}

/// A reply's body that knows when its request is over, and whether the client or we are behind.
#[derive(Debug)]
struct Tracked {
    body: ReplyBody,
    progress: InProgress,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let frame = this.body.poll_part(cx, this.progress.part_bytes_max()).map(|part| part.map(Frame::data).map(Ok));
        this.progress.set_waiting(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_sent()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size()
    }
}

/// The instants at which a connection must have got on; one [`Timer`] serves them all, so that a quick request costs
/// none.
struct Deadlines<'a> {
    vitals: &'a Vitals,
    peer: &'a Peer,
    phase_at: Option<Instant>,
    write_at: Option<Instant>,
    age_at: Option<Instant>,
    cut_at: Option<(Instant, Deadline)>,
}

impl<'a> Deadlines<'a> {
    fn new(vitals: &'a Vitals, peer: &'a Peer) -> Self {
        let age = peer.limits.connection_age.mul_f64(0.9 + 0.2 * fastrand::f64());
        let age_at = Some(Instant::now() + age);
        Deadlines { vitals, peer, phase_at: None, write_at: None, age_at, cut_at: None }
    }

    /// Takes over what moved since the last time.
    fn update(&mut self) {
        let phase_moved = self.vitals.take_phase_moved();
        let limits = &self.peer.limits;
        if let Some(since) = self.vitals.writing_since() {
            // While we wait for the client to read, it need not send: the clock of the phase starts after that.
            self.write_at = Some(since + limits.write_deadline);
            self.phase_at = None;
            return;
        }
        let was_writing = self.write_at.take().is_some();
        if phase_moved || was_writing {
            self.phase_at = match self.vitals.phase() {
                // From now on: what the turn took so far is none of the client's time.
                Phase::Head => Some(Instant::now() + limits.head_deadline),
                Phase::Busy => None,
                Phase::Idle => Some(Instant::now() + self.peer.idle_deadline()),
                Phase::Closing => Some(Instant::now() + limits.linger_deadline),
            };
        }
    }

    fn next(&self) -> Option<(Instant, Due)> {
        let phase = match self.vitals.phase() {
            Phase::Head => Deadline::Head,
            Phase::Busy | Phase::Idle => Deadline::Idle,
            Phase::Closing => Deadline::Linger,
        };
        [
            self.peer.alarm.next().map(|at| (at, Due::Requests)),
            self.phase_at.map(|at| (at, Due::Connection(phase))),
            self.write_at.map(|at| (at, Due::Connection(Deadline::Write))),
            self.age_at.map(|at| (at, Due::Connection(Deadline::Age))),
            self.cut_at.map(|(at, why)| (at, Due::Connection(why))),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }

    /// How it ended by what hyper says; who broke the rules pays for it.
    fn ended(&self, result: &Result<(), hyper::Error>) -> Ended {
        let Err(error) = result else { return Ended::Well };
        let is_multiplexed = self.vitals.is_multiplexed();
        let why = why_broken(error, is_multiplexed);
        if is_multiplexed && why == Broken::Protocol {
            self.peer.broke_the_rules();
        }
        Ended::Broken(why)
    }

    /// The connection was asked to close: from now on it has the drain deadline.
    fn close_by(&mut self, why: Deadline) {
        self.age_at = None;
        self.cut_at = Some((Instant::now() + self.peer.limits.drain_deadline, why));
    }
}

/// The owner of a deadline.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// Its requests, which look at it themselves.
    Requests,
    Connection(Deadline),
}

enum Ended {
    Well,
    Broken(Broken),
    Cut(Deadline),
}

/// Polls a connection and holds it to its deadlines; what ended it is counted before the client sees it.
async fn drive<C, S, H>(
    connection: C,
    ask_to_close: impl Fn(Pin<&mut C>),
    mut shortcut: Option<Shortcut<'_, H>>,
    stream: &RefCell<Guarded<S>>,
    mut deadlines: Deadlines<'_>,
    shutdown: watch::Receiver<bool>,
) -> Ended
where
    C: Future<Output = Result<(), hyper::Error>>,
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let mut connection = Box::pin(connection);
    let peer = deadlines.peer;
    let mut timer = Timer::new(Instant::now() + peer.limits.head_deadline);
    let (mut draining, mut stop) = (false, Stop::new(shutdown));
    std::future::poll_fn(move |cx| {
        peer.alarm.begin_turn();
        deadlines.vitals.begin_turn(peer.pass.is_node());
        loop {
            let (closes, was_blocked) = (deadlines.cut_at.is_some(), deadlines.vitals.is_blocked());
            let is_hypers = match shortcut.as_mut().map(|shortcut| shortcut.poll(stream, closes, cx)) {
                Some(Poll::Ready(true)) => continue,
                None | Some(Poll::Ready(false)) => true,
                Some(Poll::Pending) => false,
            };
            if is_hypers && let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(deadlines.ended(&result));
            }
            if let Poll::Ready(Err(_)) = stream.borrow_mut().poll_push(cx) {
                return Poll::Ready(Ended::Broken(Broken::Transport));
            }
            if !is_hypers && was_blocked && !deadlines.vitals.is_blocked() {
                // What waited for the answer to leave may be here already.
                continue;
            }
            // Only now: a request that is here already is read first, for hyper closes at once where it has
            // read nothing yet.
            if !draining && stop.poll(cx) {
                draining = true;
                ask_to_close(connection.as_mut());
                deadlines.close_by(Deadline::Drain);
                continue;
            }
            deadlines.update();
            if deadlines.vitals.take_turn_over() {
                // Woken after the runtime has looked at its sockets, so that the others are not kept from theirs.
                let _ = std::pin::pin!(tokio::task::yield_now()).poll(cx);
            }
            match timer.poll(&deadlines, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Due::Requests) => peer.alarm.went_off(),
                Poll::Ready(Due::Connection(Deadline::Age)) if deadlines.age_at.is_some() => {
                    ask_to_close(connection.as_mut());
                    deadlines.close_by(Deadline::Age);
                }
                Poll::Ready(Due::Connection(deadline)) => {
                    peer.cut(deadline);
                    return Poll::Ready(Ended::Cut(deadline));
                }
            }
        }
    })
    .await
}

/// hyper tells wrong HTTP/1 by name; of HTTP/2 it tells what is of the network.
fn why_broken(error: &hyper::Error, is_multiplexed: bool) -> Broken {
    let of_network = || std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
    if error.is_parse() || (is_multiplexed && !of_network()) { Broken::Protocol } else { Broken::Transport }
}

/// The one timer of a connection: it is touched only when a deadline comes nearer, or when it is over.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// Whom it wakes, once that is known.
    woken: Option<Waker>,
}

impl Timer {
    fn new(at: Instant) -> Self {
        Timer { sleep: Box::pin(sleep_until(at)), woken: None }
    }

    /// Waits for the nearest deadline.
    fn poll(&mut self, deadlines: &Deadlines<'_>, cx: &mut Context<'_>) -> Poll<Due> {
        let Some((at, due)) = deadlines.next() else { return Poll::Pending };
        if at < self.sleep.deadline() {
            self.sleep.as_mut().reset(at);
        } else if !self.sleep.is_elapsed() && self.woken.as_ref().is_some_and(|woken| woken.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= at {
                return Poll::Ready(due);
            }
            self.sleep.as_mut().reset(at);
        }
        self.woken = Some(cx.waker().clone());
        Poll::Pending
    }
}
