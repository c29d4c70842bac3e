//! The one table of routes: method, path, name in metrics, who may, which parameters, and what answers.

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

use http::{Method, Response, request};
use hyper::body::Incoming;

use super::document::Operation;
use super::query::Query;
use super::{Worker, document, parameters, segment};
use crate::daemon::access::auth::{Access, Asked, RouteClass, check_host};
use crate::daemon::dashboard;
use crate::daemon::edge::Peer;
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::http::{Problem, ReplyBody};
use crate::daemon::metrics::Route;
use Handler::{ByMessage, Of, Open};
use RouteClass::{Admin, Metrics, Read};
use Scope::{All, Parameter, Tenant};

/// The result of a handler.
pub(super) type HandlerResult = Result<Response<ReplyBody>, Problem>;

/// A handler under way.
type Answering<'a> = Pin<Box<dyn Future<Output = HandlerResult> + 'a>>;

/// One route.
pub struct Row {
    /// The method; `GET` answers `HEAD` too.
    pub method: Method,
    /// The path, with its variables in braces.
    pub path: &'static str,
    /// Its name in metrics; rows that differ in a variable only may share one.
    pub route: Route,
    /// The query parameters that it knows: any other is refused. `None` where what is not known is passed over: on routes
    /// that nodes speak to, whose newer releases may say more, and outside of `/v1/`, which browsers and probes add to.
    pub parameters: Option<&'static [&'static str]>,
    /// Its description in the document.
    pub(super) operation: &'static Operation,
    handler: Handler,
}

/// A handler, by the class of its callers. One of a class gets an [`Allowed`], which only [`Worker::admit`] makes: none
/// runs without the check.
enum Handler {
    /// Whoever reaches the listener by a name of ours; nobody is asked who he is.
    Open(for<'a> fn(&'a Worker, &'a Call<'a>) -> HandlerResult),
    /// The message itself says who may: inbound and emergency calls are answered whoever asks (I8).
    ByMessage(for<'a> fn(&'a Worker, &'a Call<'a>, Incoming) -> Answering<'a>),
    /// Whoever may do this, for the tenants that it is for.
    Of(RouteClass, Scope, for<'a> fn(&'a Worker, &'a Call<'a>, Allowed, Incoming) -> Answering<'a>),
}

/// The subject matter of a route.
#[derive(Clone, Copy)]
enum Scope {
    /// All tenants, or those that the caller may see.
    All,
    /// The tenant that is the first variable of the path.
    Tenant,
    /// The tenant that the parameter `tenant` names, where it does.
    Parameter,
}

/// A request that found its route.
pub(super) struct Call<'a> {
    pub(super) head: &'a request::Parts,
    pub(super) peer: &'a Peer,
    /// The variables of the path, undecoded.
    variables: Vec<&'a str>,
}

impl Call<'_> {
    /// A variable of the path, decoded.
    ///
    /// # Errors
    /// 400: it is not percent-encoded UTF-8.
    pub(super) fn variable(&self, number: usize) -> Result<String, Problem> {
        segment(self.variables.get(number).copied().unwrap_or_default())
    }

    /// The parameters.
    ///
    /// # Errors
    /// 400: the query is none.
    pub(super) fn query(&self) -> Result<Query, Problem> {
        Query::parse(self.head.uri.query())
    }
}

/// Somebody who may do what the route does, for the tenant that it is about.
pub(super) struct Allowed {
    access: Arc<Access>,
    tenant: String,
}

impl Allowed {
    /// The caller.
    pub(super) fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// The tenant of the path.
    pub(super) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Both, to be carried to another thread.
    pub(super) fn into_parts(self) -> (String, Arc<Access>) {
        (self.tenant, self.access)
    }
}

macro_rules! row {
    ($method:ident $path:literal $route:ident, $operation:ident, $handler:expr) => {
        row!($method $path $route None, $operation, $handler)
    };
    ($method:ident $path:literal $route:ident [$($parameter:literal),*], $operation:ident, $handler:expr) => {
        row!($method $path $route Some(&[$($parameter),*]), $operation, $handler)
    };
    ($method:ident $path:literal $route:ident $parameters:expr, $operation:ident, $handler:expr) => {
        Row {
            method: Method::$method,
            path: $path,
            route: Route::$route,
            parameters: $parameters,
            operation: &document::$operation,
            handler: $handler,
        }
    };
}

/// Every route that is served. In the handlers `w` is the worker, `c` the call, `a` what it is allowed to.
pub const ROUTES: &[Row] = &[
    // The two that come most are asked for by name before this table is.
    row!(POST "/v1/acquire" Acquire, ACQUIRE,
        ByMessage(|w, c, body| Box::pin(async { Ok(w.acquire(c.head, body, c.peer).await) }))),
    row!(POST "/v1/release" Release, RELEASE,
        ByMessage(|w, c, body| Box::pin(async { Ok(w.release(c.head, body, c.peer).await) }))),
    row!(POST "/v1/batch" Batch, BATCH, ByMessage(|w, c, body| Box::pin(w.batch(c, body)))),
    row!(POST "/v1/explain" Explain, EXPLAIN,
        Of(RouteClass::Explain, All, |w, c, a, body| Box::pin(w.explain(c, a, body)))),
    row!(POST "/v1/nodes/{node}/hello" Hello, HELLO,
        Of(RouteClass::Nodes, All, |w, c, a, body| Box::pin(w.hello(c, a, body)))),
    row!(POST "/v1/nodes/{node}/heartbeat" Heartbeat, HEARTBEAT,
        Of(RouteClass::Nodes, All, |w, c, a, body| Box::pin(w.heartbeat(c, a, body)))),
    row!(POST "/v1/nodes/{node}/inventory" Inventory, INVENTORY,
        Of(RouteClass::Nodes, All, |w, c, a, body| Box::pin(w.inventory(c, a, body)))),
    row!(POST "/v1/nodes/{node}/goodbye" Goodbye, GOODBYE,
        Of(RouteClass::Nodes, All, |w, c, a, body| Box::pin(w.goodbye(c, a, body)))),
    row!(GET "/v1/nodes" Nodes ["after", "limit"], LIST_NODES,
        Of(Read, All, |w, c, a, _| Box::pin(w.list_nodes(c, a)))),
    row!(DELETE "/v1/nodes/{node}" ForgetNode ["force"], FORGET_NODE,
        Of(Admin, All, |w, c, a, _| Box::pin(w.forget_node(c, a)))),
    row!(GET "/v1/tenants" Tenants ["after", "limit", "state", "band", "search"], LIST_TENANTS,
        Of(Read, All, |w, c, a, _| Box::pin(w.list_tenants(c, a)))),
    row!(GET "/v1/tenants/{tenant}" Tenant [], TENANT, Of(Read, Tenant, |w, _, a, _| Box::pin(w.tenant(a)))),
    row!(GET "/v1/tenants/{tenant}/subjects" Subjects ["after", "limit"], LIST_SUBJECTS,
        Of(Read, Tenant, |w, c, a, _| Box::pin(w.subjects(c, a)))),
    row!(GET "/v1/tenants/{tenant}/subjects/{subject}" Subjects [], SUBJECT,
        Of(Read, Tenant, |w, c, a, _| Box::pin(w.subject(c, a)))),
    row!(DELETE "/v1/tenants/{tenant}/subjects/{subject}" EndSubject ["force"], END_SUBJECT,
        Of(Admin, Tenant, |w, c, a, _| Box::pin(w.end_subject(c, a)))),
    row!(GET "/v1/tenants/{tenant}/sessions" Sessions
        ["after", "limit", "kind", "node", "subject", "counts"], LIST_SESSIONS,
        Of(Read, Tenant, |w, c, a, _| Box::pin(w.sessions(c, a)))),
    row!(DELETE "/v1/tenants/{tenant}/sessions/{session}" EndSession ["force"], END_SESSION,
        Of(Admin, Tenant, |w, c, a, _| Box::pin(w.end_session(c, a)))),
    row!(POST "/v1/tenants/{tenant}/endpoints/check" EndpointsCheck, CHECK_ENDPOINTS,
        Of(RouteClass::Decide, Tenant, |w, c, a, body| Box::pin(w.check_endpoints(c, a, body)))),
    row!(POST "/v1/tenants/{tenant}/subscription" Subscription [], REQUEST_SUBSCRIPTION,
        Of(Admin, Tenant, |w, c, a, body| Box::pin(w.request_subscription(c, a, body)))),
    row!(GET "/v1/tenants/{tenant}/usage" Usage ["from", "to", "step"], USAGE,
        Of(Read, Tenant, |w, c, a, _| Box::pin(w.usage(c, a)))),
    row!(GET "/v1/tenants/{tenant}/whatif" Whatif ["quota", "from", "to", "target"], WHATIF,
        Of(Read, Tenant, |w, c, a, _| Box::pin(w.whatif(c, a)))),
    row!(GET "/v1/overview" Overview [], OVERVIEW, Of(Read, All, |w, c, a, _| Box::pin(w.overview(c, a)))),
    row!(GET "/v1/cluster" Cluster [], CLUSTER, Of(Read, All, |w, _, a, _| Box::pin(w.cluster(a)))),
    row!(POST "/v1/cluster/handover" ClusterHandover [], HAND_OVER,
        Of(Admin, All, |w, c, a, body| Box::pin(w.hand_over(c, a, body)))),
    row!(POST "/v1/cluster/leave" ClusterLeave [], LEAVE,
        Of(Admin, All, |w, c, a, body| Box::pin(w.leave(c, a, body)))),
    row!(GET "/v1/quote" Quote ["from", "to", "on", "partner", "price_mode"], QUOTE,
        Of(Read, All, |w, c, _, _| Box::pin(ready(w.quote(c))))),
    row!(GET "/v1/size" Size ["types"], SIZE, Of(Read, All, |w, c, _, _| Box::pin(w.size(c)))),
    row!(GET "/v1/events" Events ["tenant", "types", "after", "pulse_ms"], EVENTS,
        Of(Read, Parameter, |w, c, a, _| Box::pin(ready(w.events(c, a))))),
    row!(POST "/v1/admin/reload" Reload ["dry_run", "force", "removals", "note"], RELOAD,
        Of(Admin, All, |w, c, a, _| Box::pin(w.reload(c, a)))),
    row!(GET "/v1/admin/config" Config [], CONFIG, Of(Admin, All, |w, _, _, _| Box::pin(ready(w.config())))),
    row!(PUT "/v1/admin/log-level" LogLevel [], LOG_LEVEL,
        Of(Admin, All, |w, c, a, body| Box::pin(w.log_level(c, a, body)))),
    row!(POST "/v1/admin/clock/trust" ClockTrust [], TRUST_CLOCK,
        Of(Admin, All, |w, _, a, _| Box::pin(w.trust_clock(a)))),
    row!(GET "/v1/admin/webhooks" Webhooks [], WEBHOOKS,
        Of(Admin, All, |w, _, _, _| Box::pin(ready(w.list_webhooks())))),
    row!(GET "/v1/admin/webhooks/{webhook}/deliveries" WebhookDeliveries ["after", "limit"], WEBHOOK_DELIVERIES,
        Of(Admin, All, |w, c, _, _| Box::pin(ready(w.webhook_deliveries(c))))),
    row!(POST "/v1/admin/webhooks/{webhook}/test" WebhookTest [], TEST_WEBHOOK,
        Of(Admin, All, |w, c, a, _| Box::pin(w.test_webhook(c, a)))),
    row!(GET "/v1/prometheus/sd" PrometheusSd [], SERVICE_DISCOVERY,
        Of(Metrics, All, |w, c, _, _| Box::pin(ready(w.service_discovery(c))))),
    row!(GET "/metrics" Metrics, METRICS, Of(Metrics, All, |w, c, _, _| Box::pin(w.metrics(c)))),
    row!(GET "/livez" Livez, LIVEZ, Open(|w, _| Ok(w.livez()))),
    row!(GET "/readyz" Readyz, READYZ, Open(|w, c| w.readyz(c))),
    row!(GET "/openapi.json" Openapi, OPENAPI, Open(|w, _| Ok(w.document()))),
    row!(GET "/" Dashboard, DASHBOARD, Open(|_, c| page(c))),
    row!(GET "/dashboard.js" Dashboard, DASHBOARD_SCRIPT, Open(|_, c| page(c))),
    row!(GET "/dashboard.css" Dashboard, DASHBOARD_STYLE, Open(|_, c| page(c))),
    row!(GET "/rulebook.md" Dashboard, RULE_BOOK, Open(|_, c| page(c))),
];

impl Row {
    /// The class of who may ask; `None` for anybody, and where the message itself says it.
    pub(super) fn class(&self) -> Option<RouteClass> {
        match self.handler {
            Handler::Of(class, ..) => Some(class),
            Handler::Open(_) | Handler::ByMessage(_) => None,
        }
    }

    /// True if nobody is asked who he is.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.handler, Handler::Open(_))
    }

    /// The variables of a path that is this one's, undecoded.
    fn variables<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        let mut variables = Vec::new();
        let mut given = path.split('/');
        for wanted in self.path.trim_start_matches('/').split('/') {
            let given = given.next()?;
            match wanted.starts_with('{') {
                true => variables.push(given),
                false if wanted == given => {}
                false => return None,
            }
        }
        given.next().is_none().then_some(variables)
    }

    /// True if it answers this method.
    fn answers(&self, method: &Method) -> bool {
        self.method == *method || (self.method == Method::GET && *method == Method::HEAD)
    }
}

/// The methods that rows answer, as `Allow` lists them.
fn allowed<'r>(rows: impl Iterator<Item = &'r Row>) -> String {
    let words = rows.map(|row| if row.method == Method::GET { "GET, HEAD" } else { row.method.as_str() });
    words.collect::<Vec<_>>().join(", ")
}

fn page(call: &Call<'_>) -> HandlerResult {
    let path = call.head.uri.path();
    dashboard::answer(path, &call.head.headers).ok_or_else(|| no_route(path))
}

fn no_route(path: &str) -> Problem {
    let path: String = path.chars().take(200).collect();
    Problem::new(ProblemKind::NotFound, format!("there is no route {path}; see /openapi.json"))
}

impl Worker {
    /// Finds the route of a request, looks whether whoever asks may use it, and answers.
    pub(super) async fn by_table(
        &self,
        head: &request::Parts,
        body: Incoming,
        peer: &Peer,
    ) -> (Route, Response<ReplyBody>) {
        let path = head.uri.path().trim_start_matches('/');
        let fitting = || ROUTES.iter().filter_map(|row| Some((row, row.variables(path)?)));
        let Some((first, _)) = fitting().next() else {
            return (Route::Other, no_route(head.uri.path()).into_response());
        };
        let Some((row, variables)) = fitting().find(|(row, _)| row.answers(&head.method)) else {
            let allow = allowed(fitting().map(|(row, _)| row));
            return (first.route, Problem::method_not_allowed(allow).into_response());
        };
        let call = Call { head, peer, variables };
        let answer = match row.handler {
            Handler::Open(answer) => check_host(head).and_then(|()| answer(self, &call)),
            Handler::ByMessage(answer) => answer(self, &call, body).await,
            Handler::Of(class, about, answer) => match self.admit(&call, row, class, about) {
                Ok(allowed) if matches!(about, Tenant) && self.shard_elsewhere(allowed.tenant()).is_some() => {
                    self.by_owner(&call, &allowed, body).await
                }
                Ok(allowed) => answer(self, &call, allowed, body).await,
                Err(problem) => Err(problem),
            },
        };
        (row.route, answer.unwrap_or_else(Problem::into_response))
    }

    /// Has the daemon that decides a tenant answer a request about it.
    async fn by_owner(&self, call: &Call<'_>, allowed: &Allowed, body: Incoming) -> HandlerResult {
        let body = call.peer.collect(body, self.knobs().body_bytes_max).await?;
        let answer = self.owners_answer(allowed.tenant(), call.head, &body, allowed.access()).await?;
        // It came here at this very moment, and the body is read.
        answer.ok_or_else(|| Problem::unavailable(1, "the tenant moves to this daemon; ask again"))
    }

    /// Admits a caller that may do this, once the daemon is ready.
    fn admit(&self, call: &Call<'_>, row: &Row, class: RouteClass, about: Scope) -> Result<Allowed, Problem> {
        let tenant = match about {
            Scope::All => None,
            Scope::Tenant => Some(call.variable(0)),
            // A query that is none is refused below.
            Scope::Parameter => call.query().ok().and_then(|query| query.get("tenant")).map(Ok),
        };
        let asked = Asked::Head { head: call.head, by_any_name: class.is_of_machines() };
        let access = self.access(asked, call.peer)?;
        access.need(class, tenant.as_ref().and_then(|tenant| tenant.as_deref().ok()))?;
        // Only now: who may not ask learns nothing of what could be asked.
        if let Some(known) = row.parameters {
            parameters::check(call.head.uri.query(), known)?;
        }
        // Scrapes have a bound of their own, and go on while the daemon starts.
        if class != RouteClass::Metrics {
            self.need_room(class)?;
        }
        Ok(Allowed { access, tenant: tenant.transpose()?.unwrap_or_default() })
    }

    /// Checks that such a request is taken now.
    fn need_room(&self, class: RouteClass) -> Result<(), Problem> {
        if matches!(class, Read | RouteClass::Explain | Admin) && self.is_overloaded(75) {
            return Err(Problem::unavailable(5, "too many requests at once: reading and administration wait"));
        }
        self.ready()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &Method, path: &str, query: &str) -> Result<(), Problem> {
        let path = path.trim_start_matches('/');
        let row = ROUTES.iter().find(|row| row.answers(method) && row.variables(path).is_some());
        row.and_then(|row| row.parameters).map_or(Ok(()), |known| parameters::check(Some(query), known))
    }

    fn told(method: &Method, path: &str, query: &str) -> Vec<String> {
        let refused = of(method, path, query).err();
        let errors = refused.map(Problem::into_errors).unwrap_or_default();
        errors.into_iter().map(|error| format!("{} {}", error.pointer, error.detail)).collect()
    }

    #[test]
    fn what_a_route_does_not_know_is_told_with_what_was_meant() {
        for (method, path, query, errors) in [
            (Method::GET, "/v1/tenants", "limit=5&after=x&search=a", &[][..]),
            (Method::HEAD, "/v1/tenants", "limt=5", &["/limt is not known here: did you mean `limit`?"]),
            (Method::GET, "/v1/tenants", "limt=5&limt=6", &["/limt is not known here: did you mean `limit`?"]),
            (Method::GET, "/v1/nodes", "tenant=5", &["/tenant is not known here: write `after` or `limit`"]),
            (Method::GET, "/v1/overview", "x", &["/x is not known here: this route has no parameters"]),
            (Method::GET, "/v1/tenants/acme", "limit=5", &["/limit is not known here: this route has no parameters"]),
            (Method::GET, "/v1/tenants/acme/sessions", "counts=1&node=x", &[]),
            (
                Method::DELETE,
                "/v1/tenants/a/sessions/s",
                "forced=1",
                &["/forced is not known here: did you mean `force`?"],
            ),
            (Method::POST, "/v1/admin/reload", "dry-run=1", &["/dry-run is not known here: did you mean `dry_run`?"]),
            (Method::POST, "/v1/acquire", "limt=5", &[]),
            (Method::POST, "/v1/nodes/n/hello", "limt=5", &[]),
            (Method::GET, "/metrics", "limt=5", &[]),
            (Method::GET, "/v1/nothing", "limt=5", &[]),
        ] {
            assert_eq!(told(&method, path, query), errors, "{method} {path}?{query}");
        }
        assert!(of(&Method::GET, "/v1/overview", "a=%zz").is_err());
        assert!(told(&Method::GET, "/v1/nodes", &"é".repeat(500))[0].len() < 300);
    }

    #[test]
    fn metrics_expect_each_route_by_the_method_of_its_row() {
        for row in ROUTES {
            assert_eq!(row.route.method().as_str(), row.method.as_str(), "{}", row.path);
        }
    }

    #[test]
    fn a_path_is_that_of_a_row_by_whole_segments() {
        let variables = |path: &'static str| {
            let rows = ROUTES.iter().filter(|row| row.method == Method::GET);
            rows.filter_map(|row| Some((row.path, row.variables(path)?))).collect::<Vec<_>>()
        };
        assert_eq!(variables("v1/tenants/a%2Fb"), [("/v1/tenants/{tenant}", vec!["a%2Fb"])]);
        assert_eq!(variables("v1/tenants/a/subjects/s"), [("/v1/tenants/{tenant}/subjects/{subject}", vec!["a", "s"])]);
        assert_eq!(variables(""), [("/", vec![""; 0])]);
        for nothing in ["v1", "v1/tenants/a/x", "v1/tenants/a/subjects/s/x", "V1/tenants"] {
            assert_eq!(variables(nothing), [], "{nothing}");
        }
    }

    #[test]
    fn what_a_path_answers_is_listed_in_the_order_of_the_table() {
        let of = |path: &str| allowed(ROUTES.iter().filter(|row| row.path == path));
        assert_eq!(of("/v1/tenants/{tenant}/subjects/{subject}"), "GET, HEAD, DELETE");
        assert_eq!(of("/v1/acquire"), "POST");
        assert_eq!(of("/v1/admin/log-level"), "PUT");
    }
}
