//! What nodes say of themselves: hello, heartbeat, inventory, goodbye (API 3).

use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::ask::{Committed, fenced};
use super::{Call, Worker, authorization, json, method, query_of, read, segment, with};
use crate::daemon::config::Word as _;
use crate::daemon::events::{Event, EventType};
use crate::daemon::http::auth::{Access, RouteClass};
use crate::daemon::http::collect::Gathered;
use crate::daemon::http::node_calls::{InventoryBody, NodeBody};
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::http::wire::BodyFormat;
use crate::daemon::http::{Problem, ReplyBody};
use crate::daemon::journal::{Commit, Group};
use crate::daemon::metrics::Route;
use crate::daemon::recorder::Recorder;
use crate::engine::{Acquire, InventoryReport, NodeFault, Now, check_word};

type Answer = Result<Response<ReplyBody>, Problem>;

impl Worker {
    /// `POST /v1/nodes/{node}/{verb}`
    pub(super) async fn node_call(&self, call: &Call<'_>, node: &str, verb: &str, body: Incoming) -> (Route, Answer) {
        let posted = method(call, &http::Method::POST, "POST");
        match verb {
            "hello" => (Route::Hello, with(posted, self.hello(call, node, body)).await),
            "heartbeat" => (Route::Heartbeat, with(posted, self.heartbeat(call, node, body)).await),
            "inventory" => (Route::Inventory, with(posted, self.inventory(call, node, body)).await),
            "goodbye" => (Route::Goodbye, with(posted, self.goodbye(call, node, body)).await),
            _ => (Route::Other, Err(super::no_route(call.head.uri.path()))),
        }
    }

    /// `GET /v1/nodes`
    pub(super) async fn list_nodes(&self, call: &Call<'_>) -> Answer {
        let access = self.permitted(call, RouteClass::Read, None)?;
        let (query, now) = (query_of(call)?, self.app.now());
        self.aside(move |app| read::nodes(app, now, &query, &|node| access.sees_node(node))).await
    }

    async fn hello(&self, call: &Call<'_>, node: &str, body: Incoming) -> Answer {
        let (node, epoch) = self.said(call, node, body).await?;
        let now = self.app.now();
        let said =
            self.settled(now, |worker, group, events| worker.hello_now(now, &node, epoch, group, events)).await?;
        call.peer.mark_node();
        Ok(json(&said))
    }

    async fn heartbeat(&self, call: &Call<'_>, node: &str, body: Incoming) -> Answer {
        let (node, epoch) = self.said(call, node, body).await?;
        let said = self.heartbeat_now(self.app.now(), &node, epoch)?;
        call.peer.mark_node();
        Ok(json(&said))
    }

    async fn goodbye(&self, call: &Call<'_>, node: &str, body: Incoming) -> Answer {
        let (node, epoch) = self.said(call, node, body).await?;
        let now = self.app.now();
        let said = self.settled(now, |worker, _, events| worker.goodbye_now(now, &node, epoch, events)).await?;
        Ok(json(&said))
    }

    /// A node starts, or comes back (G6, G8).
    pub(super) fn hello_now(
        &self,
        now: Now,
        node: &str,
        epoch: u64,
        group: Option<&mut Group>,
        events: &mut Vec<Event>,
    ) -> Result<Value, Problem> {
        let report = match group {
            Some(group) => {
                let mut recorder = Recorder::new(group, &self.shard, Some(&mut *events), now.utc_ms);
                self.app.engine.hello(now, node, epoch, &mut recorder)
            }
            None => self.app.engine.hello(now, node, epoch, &mut ()),
        };
        let report = report.map_err(|fault| refused(node, fault))?;
        let text = format!(
            "node {node} said hello with epoch {epoch}: {} calls ended, {} sessions wait",
            report.dropped, report.orphaned
        );
        events.push(Event { node: node.into(), ..Event::came_to(EventType::Node, "hello", now.utc_ms, text) });
        let config = self.app.config();
        let nodes = &config.settings.nodes;
        Ok(json!({
            "code": "ok", "heartbeat_s": nodes.heartbeat_s, "lease_s": nodes.lease_s, "inventory_s": nodes.inventory_s,
            "deadline_ms": nodes.deadline_ms, "on_unreachable": nodes.on_unreachable.as_str(),
            "dropped": report.dropped, "orphaned": report.orphaned,
        }))
    }

    /// A node lives; it touches nothing else.
    pub(super) fn heartbeat_now(&self, now: Now, node: &str, epoch: u64) -> Result<Value, Problem> {
        self.app.engine.heartbeat(now, node, epoch).map_err(|fault| refused(node, fault))?;
        Ok(json!({ "code": "ok" }))
    }

    /// A node stops as planned: its grace begins now (G6).
    pub(super) fn goodbye_now(
        &self,
        now: Now,
        node: &str,
        epoch: u64,
        events: &mut Vec<Event>,
    ) -> Result<Value, Problem> {
        let report = self.app.engine.goodbye(now, node, epoch, &mut ()).map_err(|fault| refused(node, fault))?;
        let text = format!("node {node} said goodbye: {} sessions wait for it or another", report.orphaned);
        events.push(Event { node: node.into(), ..Event::came_to(EventType::Node, "goodbye", now.utc_ms, text) });
        Ok(json!({ "code": "ok", "orphaned": report.orphaned }))
    }

    async fn inventory(&self, call: &Call<'_>, node: &str, body: Incoming) -> Answer {
        let node = self.node_permitted(call, node)?;
        let body = call.peer.collect(body, self.app.knobs.load().inventory_bytes_max).await?;
        // Read, it is many times as large as it came: none of that waits for the disk with us.
        let (report, committed) = self.inventory_now(call, &node, body)?;
        if committed.await == Commit::Fenced {
            return Err(fenced());
        }
        call.peer.mark_node();
        Ok(json(&json!({
            "code": "ok", "kept": report.kept, "adopted": report.adopted, "removed": report.removed, "ignored": report.ignored,
        })))
    }

    /// All that a node carries, taken as a whole; and what the answer has to wait for.
    fn inventory_now(
        &self,
        call: &Call<'_>,
        node: &str,
        body: Gathered,
    ) -> Result<(InventoryReport, Committed<'_>), Problem> {
        let most = self.app.knobs.load().inventory_bytes_max / 32;
        let read = InventoryBody::parse(&body, node, most)?;
        let access = self.access(authorization(&call.head.headers), None, call.peer, self.app.now())?;
        let mut messages: Vec<Acquire<'_>> = Vec::with_capacity(read.sessions.len());
        for (at, session) in read.sessions.iter().enumerate() {
            let message = session.checked().map_err(|problem| problem.within(&format!("/sessions/{at}")))?;
            access.need(RouteClass::Decide, Some(message.tenant))?;
            messages.push(message);
        }
        let now = self.app.now();
        let (report, committed) = self.decide(now, |worker, group, events| {
            let engine = &worker.app.engine;
            match group {
                Some(group) => {
                    let listening = worker.app.events.is_awake(now.uptime_ms).then_some(events);
                    let mut recorder = Recorder::new(group, &worker.shard, listening, now.utc_ms);
                    engine.inventory(now, node, read.epoch, read.seq, &messages, &mut recorder)
                }
                None => engine.inventory(now, node, read.epoch, read.seq, &messages, &mut ()),
            }
        });
        Ok((report.map_err(|fault| refused(node, fault))?, committed))
    }

    /// Node and epoch of a message, permitted.
    async fn said(&self, call: &Call<'_>, node: &str, body: Incoming) -> Result<(String, u64), Problem> {
        let node = self.node_permitted(call, node)?;
        let body = call.peer.collect(body, self.app.knobs.load().body_bytes_max).await?;
        let named = call.head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let format = BodyFormat::of(named, &body)
            .ok_or_else(|| Problem::new(ProblemKind::UnsupportedType, "send application/json or a form"))?;
        let said = NodeBody::parse(&body, format, call.head.uri.query())?;
        Ok((node, said.epoch))
    }

    fn node_permitted(&self, call: &Call<'_>, node: &str) -> Result<String, Problem> {
        let access = self.permitted(call, RouteClass::Nodes, None)?;
        let node = segment(node)?;
        check_speaker(&access, &node)?;
        Ok(node)
    }
}

/// Whether this is a name of a node, and who asks may speak for it.
pub(super) fn check_speaker(access: &Access, node: &str) -> Result<(), Problem> {
    let mut faults = Vec::new();
    check_word("node", node, &mut faults);
    if !faults.is_empty() {
        return Err(Problem::from_faults(&faults));
    }
    if !access.may_speak_as(node) {
        return Err(Problem::new(ProblemKind::NotPermitted, format!("{} may not speak as node {node}", access.id)));
    }
    Ok(())
}

/// Why a node's message was not taken, and what it should do.
fn refused(node: &str, fault: NodeFault) -> Problem {
    match fault {
        NodeFault::UnknownEpoch { known: None } => {
            let detail = format!("node {node} is not known by this epoch: say hello, then send an inventory");
            Problem::new(ProblemKind::UnknownEpoch, detail).error("/epoch", "no epoch of this node is known")
        }
        NodeFault::UnknownEpoch { known: Some(known) } => {
            let detail =
                format!("node {node} is not known by this epoch, or was lost: say hello, then send an inventory");
            let problem = Problem::new(ProblemKind::UnknownEpoch, detail).known_epoch(known);
            problem.error("/epoch", format!("the known epoch is {known}"))
        }
        NodeFault::StaleEpoch { known } => {
            let detail = format!("the epoch of node {node} must not go back; a start needs a higher one");
            let problem = Problem::new(ProblemKind::Conflict, detail).known_epoch(known);
            problem.error("/epoch", format!("must be at least {known}"))
        }
        NodeFault::Limit => Problem::unavailable(60, "the limit on nodes is reached: nodes_max in [server]"),
    }
}
