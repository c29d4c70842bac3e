//! The routes of the wire contract: one hand-written match, one file per family.

mod admin;
mod agi;
mod answer;
mod ask;
mod calc;
mod clock;
mod decide;
mod endpoints;
mod fullest;
mod nodes;
mod openapi;
mod parameters;
mod query;
mod read;
mod resp;
pub mod size;
mod stream;
mod subscription;
mod usage;
mod watch;
mod webhooks;

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

use bytes::BytesMut;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use serde_json::Value;
use usherd_contract::agi::Variable;
use usherd_engine::{Name, Now};

use crate::daemon::access::auth::{Access, Asked, RouteClass, check_host};
use crate::daemon::app::{App, Journal};
use crate::daemon::clock::monotonic_ns;
use crate::daemon::dashboard;
use crate::daemon::edge::{Handler, Peer, Talk};
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::http::{Problem, ReplyBody};
use crate::daemon::journal::{Commit, Group, Ticket, TurnWriter};
use crate::daemon::metrics::{Route, Shard};
use answer::{json, json_bytes, marked, typed};
use query::{Query, percent_decoded};

pub use calc::QuoteRequest;
pub use openapi::OPENAPI;
pub use parameters::PARAMETERS;

/// Every route that is served: its method, its path, and its name in metrics. `GET` answers `HEAD` too.
pub const ROUTES: &[(Method, &str, Route)] = &[
    (Method::POST, "/v1/acquire", Route::Acquire),
    (Method::POST, "/v1/release", Route::Release),
    (Method::POST, "/v1/batch", Route::Batch),
    (Method::POST, "/v1/explain", Route::Explain),
    (Method::POST, "/v1/nodes/{node}/hello", Route::Hello),
    (Method::POST, "/v1/nodes/{node}/heartbeat", Route::Heartbeat),
    (Method::POST, "/v1/nodes/{node}/inventory", Route::Inventory),
    (Method::POST, "/v1/nodes/{node}/goodbye", Route::Goodbye),
    (Method::GET, "/v1/nodes", Route::Nodes),
    (Method::DELETE, "/v1/nodes/{node}", Route::ForgetNode),
    (Method::GET, "/v1/tenants", Route::Tenants),
    (Method::GET, "/v1/tenants/{tenant}", Route::Tenant),
    (Method::GET, "/v1/tenants/{tenant}/subjects", Route::Subjects),
    (Method::GET, "/v1/tenants/{tenant}/subjects/{subject}", Route::Subjects),
    (Method::DELETE, "/v1/tenants/{tenant}/subjects/{subject}", Route::EndSubject),
    (Method::GET, "/v1/tenants/{tenant}/sessions", Route::Sessions),
    (Method::DELETE, "/v1/tenants/{tenant}/sessions/{session}", Route::EndSession),
    (Method::POST, "/v1/tenants/{tenant}/endpoints/check", Route::EndpointsCheck),
    (Method::POST, "/v1/tenants/{tenant}/subscription", Route::Subscription),
    (Method::GET, "/v1/tenants/{tenant}/usage", Route::Usage),
    (Method::GET, "/v1/tenants/{tenant}/whatif", Route::Whatif),
    (Method::GET, "/v1/overview", Route::Overview),
    (Method::GET, "/v1/quote", Route::Quote),
    (Method::GET, "/v1/size", Route::Size),
    (Method::GET, "/v1/events", Route::Events),
    (Method::POST, "/v1/admin/reload", Route::Reload),
    (Method::GET, "/v1/admin/config", Route::Config),
    (Method::PUT, "/v1/admin/log-level", Route::LogLevel),
    (Method::POST, "/v1/admin/clock/trust", Route::ClockTrust),
    (Method::GET, "/v1/admin/webhooks", Route::Webhooks),
    (Method::GET, "/v1/admin/webhooks/{webhook}/deliveries", Route::WebhookDeliveries),
    (Method::POST, "/v1/admin/webhooks/{webhook}/test", Route::WebhookTest),
    (Method::GET, "/v1/prometheus/sd", Route::PrometheusSd),
    (Method::GET, "/metrics", Route::Metrics),
    (Method::GET, "/livez", Route::Livez),
    (Method::GET, "/readyz", Route::Readyz),
    (Method::GET, "/openapi.json", Route::Openapi),
    (Method::GET, "/", Route::Dashboard),
    (Method::GET, "/dashboard.js", Route::Dashboard),
    (Method::GET, "/dashboard.css", Route::Dashboard),
];

/// Answers the requests of one runtime.
pub struct Worker {
    app: Arc<App>,
    writer: OnceCell<TurnWriter<Journal>>,
    shard: Shard,
    number: usize,
    /// Run and runtime, as decision ids begin.
    id_prefix: Name,
    /// Whether any listener takes only some roles.
    has_roles: bool,
    decisions: Cell<u64>,
    in_flight: Cell<u32>,
    buffer: RefCell<BytesMut>,
}

/// A request that found its route.
struct Call<'a> {
    head: &'a http::request::Parts,
    peer: &'a Peer,
    /// Path segments behind `/v1/`, undecoded.
    path: Vec<&'a str>,
}

impl Worker {
    /// The handler of runtime `number`.
    pub fn new(app: Arc<App>, number: usize) -> Self {
        let shard = app.metrics.shard();
        let id_prefix = Name::from(format!("{:08x}-{number:x}-", app.boot));
        let has_roles = app.listeners.iter().any(|listener| !listener.roles.is_empty());
        Worker {
            app,
            writer: OnceCell::new(),
            shard,
            number,
            id_prefix,
            has_roles,
            decisions: Cell::new(0),
            in_flight: Cell::new(0),
            buffer: RefCell::new(BytesMut::with_capacity(4_096)),
        }
    }

    /// A worker of the same runtime, for an answer that goes on after its handler.
    fn sibling(&self) -> Self {
        Worker::new(Arc::clone(&self.app), self.number)
    }

    /// Whether this runtime has more requests in progress than so many percent of its limit (I27).
    fn is_overloaded(&self, percent: u32) -> bool {
        u64::from(self.in_flight.get()) * 100 > u64::from(self.app.knobs.load().in_flight_max) * u64::from(percent)
    }

    /// Where decisions of this runtime are recorded; `None` before recovery.
    fn writer(&self) -> Option<&TurnWriter<Journal>> {
        if self.writer.get().is_none() {
            let _ = self.writer.set(self.app.writer()?);
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

    /// Who asks, if the listener takes their requests at all.
    fn access(&self, asked: Asked<'_>, peer: &Peer, now: Now) -> Result<Arc<Access>, Problem> {
        let auth = self.app.auth.load();
        let access = auth.authenticate(asked, peer, now.uptime_ms)?;
        self.need_listener(access, peer)?;
        Ok(Arc::clone(access))
    }

    fn need_listener(&self, access: &Access, peer: &Peer) -> Result<(), Problem> {
        if !self.has_roles {
            return Ok(());
        }
        let listener = self.app.listeners.iter().find(|listener| listener.name == peer.listener());
        match listener {
            Some(listener) if !listener.roles.is_empty() && !listener.roles.contains(&access.role) => {
                let detail = format!("listener {} takes no requests of role {}", listener.name, access.role.as_str());
                Err(Problem::new(ProblemKind::NotPermitted, detail))
            }
            _ => Ok(()),
        }
    }

    /// Whether who asks where anybody may is one who may read everything.
    fn is_reader(&self, call: &Call<'_>) -> bool {
        let auth = self.app.auth.load();
        let asked = Asked::Head { head: call.head, by_any_name: false };
        auth.recognise(asked, call.peer, self.app.now().uptime_ms).is_some_and(|access| {
            let may_read = access.tenants.is_empty() && access.may(RouteClass::Read, None);
            may_read && self.need_listener(access, call.peer).is_ok()
        })
    }

    /// Who asks, once the daemon is ready, if they may do this.
    fn permitted(&self, call: &Call<'_>, class: RouteClass, tenant: Option<&str>) -> Result<Arc<Access>, Problem> {
        let asked = Asked::Head { head: call.head, by_any_name: class.is_of_machines() };
        let access = self.access(asked, call.peer, self.app.now())?;
        access.need(class, tenant)?;
        // Only now: who may not ask learns nothing of what could be asked.
        parameters::check(call.head)?;
        if matches!(class, RouteClass::Read | RouteClass::Explain | RouteClass::Admin) && self.is_overloaded(75) {
            return Err(Problem::unavailable(5, "too many requests at once: reading and administration wait"));
        }
        if !self.app.is_ready() {
            return Err(Problem::unavailable(
                1,
                "the journal is being read; inbound and emergency calls are allowed meanwhile",
            ));
        }
        Ok(access)
    }

    /// [`Self::permitted`] for the tenant of a path, which it decodes.
    fn permitted_for(
        &self,
        call: &Call<'_>,
        class: RouteClass,
        tenant: &str,
    ) -> Result<(String, Arc<Access>), Problem> {
        let tenant = segment(tenant);
        let access = self.permitted(call, class, tenant.as_deref().ok())?;
        Ok((tenant?, access))
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
        Box::pin(self.route_seldom(head, body, peer)).await
    }

    /// All routes but the hot ones.
    async fn route_seldom(
        &self,
        head: &http::request::Parts,
        body: Incoming,
        peer: &Peer,
    ) -> (Route, Response<ReplyBody>) {
        let path = head.uri.path();
        let call = Call { head, peer, path: path.trim_start_matches('/').split('/').collect() };
        let (route, answer) = match call.path.as_slice() {
            ["v1", rest @ ..] => self.route_v1(&call, rest, body).await,
            ["metrics"] => (Route::Metrics, with(get(&call), self.metrics(&call)).await),
            ["livez"] => (Route::Livez, get_open(&call).map(|()| self.livez())),
            ["readyz"] => (Route::Readyz, get_open(&call).and_then(|()| self.readyz(&call))),
            ["openapi.json"] => (Route::Openapi, get_open(&call).map(|()| json_bytes(OPENAPI.as_bytes().into()))),
            _ => match dashboard::answer(path, &head.headers) {
                Some(file) => (Route::Dashboard, get_open(&call).map(|()| file)),
                None => (Route::Other, Err(no_route(path))),
            },
        };
        (route, answer.unwrap_or_else(Problem::into_response))
    }

    async fn route_v1(
        &self,
        call: &Call<'_>,
        path: &[&str],
        body: Incoming,
    ) -> (Route, Result<Response<ReplyBody>, Problem>) {
        match path {
            ["acquire"] => (Route::Acquire, Err(Problem::method_not_allowed("POST"))),
            ["release"] => (Route::Release, Err(Problem::method_not_allowed("POST"))),
            ["batch"] => (Route::Batch, with(post(call), self.batch(call, body)).await),
            ["explain"] => (Route::Explain, with(post(call), self.explain(call, body)).await),
            ["nodes"] => (Route::Nodes, with(get(call), self.list_nodes(call)).await),
            ["nodes", node] => {
                let deleted = method(call, &Method::DELETE, "DELETE");
                (Route::ForgetNode, with(deleted, self.forget_node(call, node)).await)
            }
            ["nodes", node, verb] => self.node_call(call, node, verb, body).await,
            ["tenants"] => (Route::Tenants, with(get(call), self.list_tenants(call)).await),
            ["tenants", tenant, rest @ ..] => self.route_tenant(call, tenant, rest, body).await,
            ["overview"] => (Route::Overview, with(get(call), self.overview(call)).await),
            ["quote"] => (Route::Quote, get(call).and_then(|()| self.quote(call))),
            ["size"] => (Route::Size, with(get(call), self.size(call)).await),
            ["events"] => (Route::Events, get(call).and_then(|()| self.events(call))),
            ["admin", "reload"] => (Route::Reload, with(post(call), self.reload(call)).await),
            ["admin", "config"] => (Route::Config, get(call).and_then(|()| self.config(call))),
            ["admin", "log-level"] => {
                (Route::LogLevel, with(method(call, &Method::PUT, "PUT"), self.log_level(call, body)).await)
            }
            ["admin", "clock", "trust"] => (Route::ClockTrust, with(post(call), self.trust_clock(call)).await),
            ["admin", "webhooks"] => (Route::Webhooks, get(call).and_then(|()| self.list_webhooks(call))),
            ["admin", "webhooks", name, "deliveries"] => {
                (Route::WebhookDeliveries, get(call).and_then(|()| self.webhook_deliveries(call, name)))
            }
            ["admin", "webhooks", name, "test"] => {
                (Route::WebhookTest, with(post(call), self.test_webhook(call, name)).await)
            }
            ["prometheus", "sd"] => (Route::PrometheusSd, get(call).and_then(|()| self.service_discovery(call))),
            _ => (Route::Other, Err(no_route(call.head.uri.path()))),
        }
    }

    async fn route_tenant(
        &self,
        call: &Call<'_>,
        tenant: &str,
        path: &[&str],
        body: Incoming,
    ) -> (Route, Result<Response<ReplyBody>, Problem>) {
        let delete = call.head.method == Method::DELETE;
        match path {
            [] => (Route::Tenant, with(get(call), self.tenant(call, tenant)).await),
            ["subjects"] => (Route::Subjects, with(get(call), self.subjects(call, tenant)).await),
            ["sessions"] => (Route::Sessions, with(get(call), self.sessions(call, tenant)).await),
            ["usage"] => (Route::Usage, with(get(call), self.usage(call, tenant)).await),
            ["whatif"] => (Route::Whatif, with(get(call), self.whatif(call, tenant)).await),
            ["endpoints", "check"] => {
                (Route::EndpointsCheck, with(post(call), self.check_endpoints(call, tenant, body)).await)
            }
            ["subjects", subject] if delete => (Route::EndSubject, self.end_subject(call, tenant, subject).await),
            ["sessions", session] if delete => (Route::EndSession, self.end_session(call, tenant, session).await),
            ["subjects", subject] => {
                let read = get(call).map_err(|_| Problem::method_not_allowed("GET, HEAD, DELETE"));
                (Route::Subjects, with(read, self.subject(call, tenant, subject)).await)
            }
            ["subscription"] => {
                (Route::Subscription, with(post(call), self.request_subscription(call, tenant, body)).await)
            }
            ["sessions", _] => (Route::EndSession, Err(Problem::method_not_allowed("DELETE"))),
            _ => (Route::Other, Err(no_route(call.head.uri.path()))),
        }
    }

    /// Runs what changes much on a thread that decides nothing, as one record of the journal, and waits until that is
    /// as durable as was asked for.
    async fn recorded_aside<R: Send + 'static>(
        &self,
        now: Now,
        act: impl FnOnce(&App, &mut Group, &Shard) -> R + Send + 'static,
    ) -> Result<(R, Commit), Problem> {
        self.aside_recorded(move |app, writer, shard| Ok(writer.record(now.utc_ms, |group| act(app, group, shard))))
            .await
    }

    /// The same, where it is for `act` to say when the record is made.
    async fn aside_recorded<R: Send + 'static>(
        &self,
        act: impl for<'w> FnOnce(&App, &'w TurnWriter<Journal>, &Shard) -> Result<(R, Ticket<'w, Journal>), Problem>
        + Send
        + 'static,
    ) -> Result<(R, Commit), Problem> {
        let app = Arc::clone(&self.app);
        let done = tokio::task::spawn_blocking(move || {
            let reading = || Problem::unavailable(1, "the journal is being read");
            let writer = app.writer().ok_or_else(reading)?;
            let shard = app.metrics.shard();
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
    async fn aside(
        &self,
        read: impl FnOnce(&App) -> Result<Value, Problem> + Send + 'static,
    ) -> Result<Response<ReplyBody>, Problem> {
        Ok(json(&self.aside_of(read).await??))
    }

    /// Runs what reads much on a thread that decides nothing.
    async fn aside_of<R: Send + 'static>(&self, read: impl FnOnce(&App) -> R + Send + 'static) -> Result<R, Problem> {
        let app = Arc::clone(&self.app);
        let read = tokio::task::spawn_blocking(move || read(&app)).await;
        read.map_err(|_| Problem::unavailable(1, "reading failed; see the log"))
    }
}

impl Handler for Worker {
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
        let (taken, committed) = self.answer_commands(bytes, talk, peer);
        (taken, async move { committed.await != Commit::Fenced })
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

/// What the head of a request of machines shows.
fn by_any_name(head: &http::request::Parts) -> Asked<'_> {
    Asked::Head { head, by_any_name: true }
}

/// Runs a handler once the method was found right.
async fn with<T>(method: Result<(), Problem>, handler: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    method?;
    handler.await
}

/// How durable it is, unless another daemon owns the journal by now.
fn unfenced(commit: Commit) -> Result<Commit, Problem> {
    match commit {
        Commit::Fenced => Err(Problem::unavailable(1, "another daemon has taken over this state directory")),
        commit => Ok(commit),
    }
}

fn get(call: &Call<'_>) -> Result<(), Problem> {
    match call.head.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Problem::method_not_allowed("GET, HEAD")),
    }
}

/// [`get`] of a route that asks nobody who he is.
fn get_open(call: &Call<'_>) -> Result<(), Problem> {
    get(call)?;
    check_host(call.head)
}

fn post(call: &Call<'_>) -> Result<(), Problem> {
    method(call, &Method::POST, "POST")
}

fn method(call: &Call<'_>, wanted: &Method, allow: &'static str) -> Result<(), Problem> {
    if call.head.method == *wanted { Ok(()) } else { Err(Problem::method_not_allowed(allow)) }
}

fn no_route(path: &str) -> Problem {
    let path: String = path.chars().take(200).collect();
    Problem::new(ProblemKind::NotFound, format!("there is no route {path}; see /openapi.json"))
}

/// A path segment, decoded.
fn segment(text: &str) -> Result<String, Problem> {
    percent_decoded(text, false).ok_or_else(|| Problem::malformed("a path segment is not percent-encoded UTF-8"))
}

fn query_of(call: &Call<'_>) -> Result<Query, Problem> {
    Query::parse(call.head.uri.query())
}
