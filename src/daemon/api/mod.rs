//! The routes of the wire contract: one table, one file per family.

mod admin;
mod agi;
mod answer;
mod ask;
mod bodies;
mod clock;
mod cluster;
mod decide;
mod document;
mod elsewhere;
mod endpoints;
mod forwarding;
mod fullest;
mod nodes;
mod observability;
mod others;
mod overview;
mod parameters;
mod plain;
mod pricing;
mod queries;
mod query;
mod resp;
mod routes;
pub mod size;
mod stream;
mod subscription;
mod usage;
mod verb;
mod webhooks;
mod whole;

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use bytes::BytesMut;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use serde::Serialize;
use usherd_contract::agi::Variable;
use usherd_engine::{Name, Now, View};

use crate::daemon::access::auth::{Access, Asked, Authenticator};
use crate::daemon::app::{App, Journal, Knobs};
use crate::daemon::clock::monotonic_ns;
use crate::daemon::edge::{Handler, Peer, Plain, Talk};
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::http::{Problem, ReplyBody};
use crate::daemon::journal::{Commit, RecordBuilder, Ticket, TurnWriter};
use crate::daemon::metrics::{Route, Shard};
use answer::{json, json_bytes, marked, text, typed};
use elsewhere::Elsewhere;
use query::percent_decoded;

pub use document::openapi;
pub use pricing::QuoteRequest;
pub use routes::{ROUTES, Row};

/// Something that a reload swaps, and the one that was read last.
type Cached<T> = Cache<Arc<ArcSwap<T>>, Arc<T>>;

/// Answers the requests of one runtime.
pub struct Worker {
    app: App,
    writer: OnceCell<TurnWriter<Journal>>,
    shard: Shard,
    number: usize,
    /// Limits and rights, as this runtime read them last: to see that they are the present ones costs a load.
    knobs: RefCell<Cached<Knobs>>,
    auth: RefCell<Cached<Authenticator>>,
    /// Run and runtime, as decision ids begin.
    id_prefix: Name,
    /// True if any listener takes only some roles.
    has_roles: bool,
    decisions: Cell<u64>,
    in_flight: Cell<u32>,
    buffer: RefCell<BytesMut>,
    /// The plan and the nodes as this runtime saw them last; borrowed for a decision.
    view: RefCell<View>,
    /// The part that has to do with other daemons of the cluster.
    elsewhere: Elsewhere,
}

impl Worker {
    /// The handler of runtime `number`.
    pub fn new(app: App, number: usize) -> Self {
        let shard = app.publishing.metrics.shard();
        let id_prefix = Name::from(format!("{:08x}-{number:x}-", app.deciding.boot));
        let has_roles = app.serving.listeners.iter().any(|listener| !listener.roles.is_empty());
        let view = RefCell::new(app.deciding.engine.view());
        let knobs = RefCell::new(Cache::new(Arc::clone(&app.deciding.knobs)));
        let auth = RefCell::new(Cache::new(Arc::clone(&app.configuration.auth)));
        Worker {
            app,
            knobs,
            auth,
            writer: OnceCell::new(),
            shard,
            number,
            id_prefix,
            has_roles,
            decisions: Cell::new(0),
            in_flight: Cell::new(0),
            buffer: RefCell::new(BytesMut::with_capacity(4_096)),
            view,
            elsewhere: Elsewhere::default(),
        }
    }

    /// A worker of the same runtime, for an answer that goes on after its handler.
    fn sibling(&self) -> Self {
        Worker::new(self.app.clone(), self.number)
    }

    /// True if this runtime has more requests in progress than so many percent of its limit (I27).
    fn is_overloaded(&self, percent: u32) -> bool {
        u64::from(self.in_flight.get()) * 100 > u64::from(self.knobs().in_flight_max) * u64::from(percent)
    }

    /// The limits in force.
    fn knobs(&self) -> Knobs {
        **self.knobs.borrow_mut().load()
    }

    /// Where decisions of this runtime are recorded; `None` before recovery.
    fn writer(&self) -> Option<&TurnWriter<Journal>> {
        if self.writer.get().is_none() {
            let _ = self.writer.set(self.app.deciding.writer()?);
        }
        self.writer.get()
    }

    /// The number of a decision: run, runtime, count.
    fn decision_id(&self) -> Name {
        let count = self.decisions.get() + 1;
        self.decisions.set(count);
        let mut id = self.id_prefix.clone();
        // By hand: formatting would cost more than the decision.
        for digit in (0..u64::BITS / 4 - count.leading_zeros() / 4).rev() {
            id.push(char::from_digit((count >> (digit * 4)) as u32 & 15, 16).unwrap_or('0'));
        }
        id
    }

    /// The caller, if the listener takes their requests at all.
    fn access(&self, asked: Asked<'_>, peer: &Peer) -> Result<Arc<Access>, Problem> {
        if let (Asked::Head { head, .. }, Some(shards)) = (asked, &self.app.deciding.shards)
            && elsewhere::is_forwarded(head)
        {
            // Whom it lets in, the daemon that was asked has judged.
            let wrong = || Problem::new(ProblemKind::NotPermitted, "this is no daemon of the cluster");
            return shards.caller(head).map(Arc::new).ok_or_else(wrong);
        }
        let mut auth = self.auth.borrow_mut();
        let access = auth.load().authenticate(asked, peer, || self.app.deciding.clock.now().uptime_ms)?;
        self.need_listener(access, peer)?;
        Ok(Arc::clone(access))
    }

    /// The caller of a plain request, if nothing is to be said against it.
    fn known(&self, host: &[u8], authorization: Option<&[u8]>, peer: &Peer) -> Option<Arc<Access>> {
        let mut auth = self.auth.borrow_mut();
        let access = auth.load().knows(host, authorization, peer)?;
        self.need_listener(access, peer).ok()?;
        Some(Arc::clone(access))
    }

    /// Adds what is written into the buffer of this runtime to another.
    fn write(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut BytesMut)) {
        let mut buffer = self.buffer.borrow_mut();
        buffer.clear();
        write(&mut buffer);
        out.extend_from_slice(&buffer);
        buffer.clear();
    }

    fn need_listener(&self, access: &Access, peer: &Peer) -> Result<(), Problem> {
        if !self.has_roles {
            return Ok(());
        }
        let listener = self.app.serving.listeners.iter().find(|listener| listener.name == peer.listener());
        match listener {
            Some(listener) if !listener.roles.is_empty() && !listener.roles.contains(&access.role) => {
                let detail = format!("listener {} takes no requests of role {}", listener.name, access.role.as_str());
                Err(Problem::new(ProblemKind::NotPermitted, detail))
            }
            _ => Ok(()),
        }
    }

    async fn route(&self, head: &http::request::Parts, body: Incoming, peer: &Peer) -> (Route, Response<ReplyBody>) {
        let path = head.uri.path();
        // The hot routes first.
        match (&head.method, path) {
            (&Method::POST, "/v1/acquire") => return (Route::Acquire, self.acquire(head, body, peer).await),
            (&Method::POST, "/v1/release") => return (Route::Release, self.release(head, body, peer).await),
            _ => {}
        }
        // Boxed, so that a decision, or a stream of HTTP/2 that waits for its reader, takes the room of its own kind.
        Box::pin(self.by_table(head, body, peer)).await
    }

    /// Runs what changes much on a thread that decides nothing, as one record of the journal, and waits until that is
    /// as durable as was asked for.
    async fn record_blocking<R: Send + 'static>(
        &self,
        now: Now,
        act: impl FnOnce(&App, &mut RecordBuilder, &Shard) -> R + Send + 'static,
    ) -> Result<(R, Commit), Problem> {
        self.record_blocking_by(move |app, writer, shard| Ok(writer.record(now.utc_ms, |group| act(app, group, shard))))
            .await
    }

    /// The same, where it is for `act` to say when the record is made.
    async fn record_blocking_by<R: Send + 'static>(
        &self,
        act: impl for<'w> FnOnce(&App, &'w TurnWriter<Journal>, &Shard) -> Result<(R, Ticket<'w, Journal>), Problem>
        + Send
        + 'static,
    ) -> Result<(R, Commit), Problem> {
        let app = self.app.clone();
        let done = tokio::task::spawn_blocking(move || {
            let reading = || Problem::unavailable(1, "the journal is being read");
            let writer = app.deciding.writer().ok_or_else(reading)?;
            let shard = app.publishing.metrics.shard();
            let (result, ticket) = act(&app, &writer, &shard)?;
            Ok((result, tokio::runtime::Handle::current().block_on(ticket)))
        });
        match done.await {
            Ok(Ok((result, commit))) => Ok((result, unfenced(commit)?)),
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err(Problem::unavailable(1, "it failed; see the log")),
        }
    }

    /// Answers from what reads much, on a thread that decides nothing.
    async fn answer_blocking<A: Serialize>(
        &self,
        read: impl FnOnce(&App) -> Result<A, Problem> + Send + 'static,
    ) -> Result<Response<ReplyBody>, Problem> {
        Ok(json_bytes(self.run_blocking(|app| Ok::<_, Problem>(text(&read(app)?))).await??))
    }

    /// Runs what reads much on a thread that decides nothing.
    async fn run_blocking<R: Send + 'static>(
        &self,
        read: impl FnOnce(&App) -> R + Send + 'static,
    ) -> Result<R, Problem> {
        let app = self.app.clone();
        let read = tokio::task::spawn_blocking(move || read(&app)).await;
        read.map_err(|_| Problem::unavailable(1, "reading failed; see the log"))
    }
}

impl Handler for Worker {
    const ANSWERS_PLAIN: bool = true;

    fn plain<'a>(
        &'a self,
        request: &Plain<'_>,
        body: &mut Vec<u8>,
        peer: &Peer,
    ) -> Option<impl Future<Output = Option<&'static str>> + Unpin + use<'a>> {
        self.answer_plain(request, body, peer)
    }

    async fn handle(&self, request: Request<Incoming>, peer: &Peer) -> Response<ReplyBody> {
        let began = monotonic_ns();
        let in_flight = (self.shard.in_flight(), InFlight::new(&self.in_flight));
        let (head, body) = request.into_parts();
        let (route, response) = self.route(&head, body, peer).await;
        drop(in_flight);
        self.shard.http(route, &head.method, response.status().as_u16(), monotonic_ns().saturating_sub(began));
        response
    }

    fn commands<'a>(
        &'a self,
        bytes: &[u8],
        talk: &mut Talk,
        peer: &Peer,
    ) -> (usize, impl Future<Output = bool> + use<'a>) {
        self.answer_commands(bytes, talk, peer)
    }

    async fn script(&self, head: &[u8], peer: &Peer) -> [Variable; 4] {
        self.answer_script(head, peer).await
    }
}

/// A request in progress, until it is dropped.
struct InFlight<'a>(&'a Cell<u32>);

impl<'a> InFlight<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        InFlight(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The marks in the head of a request of machines.
fn by_any_name(head: &http::request::Parts) -> Asked<'_> {
    Asked::Head { head, by_any_name: true }
}

/// How durable it is, unless another daemon owns the journal by now.
fn unfenced(commit: Commit) -> Result<Commit, Problem> {
    match commit {
        Commit::Fenced => Err(Problem::unavailable(1, "another daemon decides this by now; ask again")),
        commit => Ok(commit),
    }
}

/// The same for an answer that tells of several decisions, none of which may be taken back one by one.
fn settled(commit: Commit) -> Result<Commit, Problem> {
    match unfenced(commit)? {
        Commit::Unknown => Err(Problem::unavailable(1, "the store of the cluster has no answer; ask again")),
        commit => Ok(commit),
    }
}

/// A path segment, decoded.
fn segment(text: &str) -> Result<String, Problem> {
    percent_decoded(text, false).ok_or_else(|| Problem::malformed("a path segment is not percent-encoded UTF-8"))
}
