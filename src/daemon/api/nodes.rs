//! The messages of nodes about themselves: hello, heartbeat, inventory, goodbye (API 3).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use hyper::body::Incoming;
use usherd_contract::answers::{self, Done};
use usherd_contract::format::BodyFormat;
use usherd_contract::node_calls::{InventoryBody, NodeBody};
use usherd_engine::{Acquire, Engine, ForgetOutcome, NodeFault, Now, check_word};

use super::routes::{Allowed, Call, HandlerResult};
use super::{Worker, json, marked, queries, unfenced};
use crate::answers::nodes::{ForgottenCode, NodeForgotten};
use crate::daemon::access::auth::{Access, RouteClass};
use crate::daemon::app::recorder::Recorder;
use crate::daemon::cluster::Shards;
use crate::daemon::config::Config;
use crate::daemon::events::{Event, EventResult, EventType};
use crate::daemon::http::Problem;
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::journal::{Audit, AuditKind, RecordBuilder};
use crate::daemon::metrics::Shard;

/// Sessions that a decision may wait for while they are walked through: some hundreds of microseconds.
const SESSIONS_INLINE_MAX: u32 = 4_096;
/// Longest inventory that is read on a thread that decides, bytes.
const BYTES_INLINE_MAX: usize = 32 * 1024;

impl Worker {
    /// `GET /v1/nodes`
    pub(super) async fn list_nodes(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let access = Arc::clone(allowed.access());
        let (query, now) = (call.query()?, self.app.deciding.clock.now());
        let (_, limit) = query.page(queries::PAGE_MAX)?;
        self.answer_whole(call, &allowed, limit, move |app| {
            queries::nodes(&app.deciding.engine, now, &query, &|node| access.sees_node(node))
        })
        .await
    }

    /// `DELETE /v1/nodes/{node}[?force=1]`
    pub(super) async fn forget_node(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let (access, node) = (allowed.access(), call.variable(0)?);
        if !access.sees_node(&node) {
            let detail = format!("{} has nothing to do with node {node}", access.id);
            return Err(Problem::new(ProblemKind::NotPermitted, detail));
        }
        let force = call.query()?.is_set("force")?;
        let (now, actor, name) = (self.app.deciding.clock.now(), access.id.clone(), node.clone());
        let outcome = self.record_blocking(now, move |app, group, shard| {
            let mut recorder = Recorder::new(group, shard, None, now.utc_ms);
            let outcome = app.deciding.engine.forget_node(now, &name, force, &mut recorder);
            let text = format!("forget node, force {force}: {outcome:?}");
            group.audit(&Audit { node: &name, actor: &actor, text: &text, ..Audit::new(AuditKind::Admin) });
            outcome
        });
        let (outcome, commit) = outcome.await?;
        // Each has its own table of nodes; only what this one knows is answered.
        self.told_to_others::<NodeForgotten>(call, &allowed, Bytes::new()).await;
        match outcome {
            ForgetOutcome::Forgotten { epoch, orphaned } => {
                let text = format!("node {node} is forgotten by {}: {orphaned} sessions wait", access.id);
                let forgotten = Event::came_to(EventType::Node, EventResult::Forgotten, now.utc_ms, text);
                self.app.publishing.events.publish(Event { node: node.as_str().into(), ..forgotten });
                let answer = NodeForgotten { code: ForgottenCode::Forgotten.into(), epoch, orphaned };
                Ok(marked(json(&answer), commit))
            }
            ForgetOutcome::NotFound => {
                Err(Problem::new(ProblemKind::NotFound, format!("node {node:?} is not known; see /v1/nodes")))
            }
            ForgetOutcome::Up => {
                let detail = format!("node {node} is up: stop it first, or add ?force=1");
                Err(Problem::new(ProblemKind::Conflict, detail))
            }
            ForgetOutcome::HasSessions { count } => {
                let detail =
                    format!("node {node} has {count} sessions; with ?force=1 they wait for it or another node");
                Err(Problem::new(ProblemKind::Conflict, detail))
            }
        }
    }

    /// `POST /v1/nodes/{node}/hello`
    pub(super) async fn hello(&self, call: &Call<'_>, allowed: Allowed, body: Incoming) -> HandlerResult {
        let (node, epoch, body) = self.said(call, &allowed, body).await?;
        let now = self.app.deciding.clock.now();
        let (mut said, commit) = if self.is_much(&node) {
            let done = self.record_blocking(now, move |app, group, shard| {
                let mut events = Vec::new();
                let config = app.configuration.running.get();
                let said = hello(&app.deciding.engine, &config, shard, now, (&node, epoch), Some(group), &mut events);
                (said, events)
            });
            let (done, commit) = done.await?;
            (self.published(done)?, commit)
        } else {
            self.decide_durably(now, |worker, group, events| worker.hello_now(now, &node, epoch, group, events)).await?
        };
        for other in self.told_to_others::<answers::Hello>(call, &allowed, body).await {
            said.dropped += other.dropped;
            said.orphaned += other.orphaned;
        }
        call.peer.mark_node();
        Ok(marked(json(&said), commit))
    }

    /// True if a node's report of all that it carries walks through so much that it must not hold decisions up.
    fn is_much(&self, node: &str) -> bool {
        self.app.deciding.engine.sessions_beside(node) > SESSIONS_INLINE_MAX
    }

    /// Tells what happened aside.
    fn published<R>(&self, (result, events): (R, Vec<Event>)) -> R {
        events.into_iter().for_each(|event| self.app.publishing.events.publish(event));
        result
    }

    /// `POST /v1/nodes/{node}/heartbeat`
    pub(super) async fn heartbeat(&self, call: &Call<'_>, allowed: Allowed, body: Incoming) -> HandlerResult {
        let (node, epoch, body) = self.said(call, &allowed, body).await?;
        let now = self.app.deciding.clock.now();
        let (said, commit) =
            self.decide_durably(now, |worker, group, _| worker.heartbeat_now(now, &node, epoch, group)).await?;
        self.pass_heartbeat_on(call, &allowed, body);
        call.peer.mark_node();
        Ok(marked(json(&said), commit))
    }

    /// `POST /v1/nodes/{node}/goodbye`
    pub(super) async fn goodbye(&self, call: &Call<'_>, allowed: Allowed, body: Incoming) -> HandlerResult {
        let (node, epoch, body) = self.said(call, &allowed, body).await?;
        let now = self.app.deciding.clock.now();
        let (mut said, commit) = if self.is_much(&node) {
            let done = self.record_blocking(now, move |app, _, _| {
                let mut events = Vec::new();
                let said = goodbye(&app.deciding.engine, now, &node, epoch, &mut events);
                (said, events)
            });
            let (done, commit) = done.await?;
            (self.published(done)?, commit)
        } else {
            self.decide_durably(now, |worker, _, events| worker.goodbye_now(now, &node, epoch, events)).await?
        };
        for other in self.told_to_others::<answers::Goodbye>(call, &allowed, body).await {
            said.orphaned += other.orphaned;
        }
        Ok(marked(json(&said), commit))
    }

    /// A node starts, or comes back (G6, G8).
    pub(super) fn hello_now(
        &self,
        now: Now,
        node: &str,
        epoch: u64,
        group: Option<&mut RecordBuilder>,
        events: &mut Vec<Event>,
    ) -> Result<answers::Hello, Problem> {
        let config = self.app.configuration.running.get();
        hello(&self.app.deciding.engine, &config, &self.shard, now, (node, epoch), group, events)
    }

    /// A node lives; it touches nothing else, and only its first one is recorded.
    pub(super) fn heartbeat_now(
        &self,
        now: Now,
        node: &str,
        epoch: u64,
        group: Option<&mut RecordBuilder>,
    ) -> Result<answers::Ok, Problem> {
        let heard = match group {
            Some(group) => {
                let mut recorder = Recorder::new(group, &self.shard, None, now.utc_ms);
                self.app.deciding.engine.heartbeat(now, node, epoch, &mut recorder)
            }
            None => self.app.deciding.engine.heartbeat(now, node, epoch, &mut ()),
        };
        heard.map_err(|fault| refused(node, fault))?;
        Ok(answers::Ok { code: Done::Ok.into() })
    }

    /// A node stops as planned: its grace begins now (G6).
    pub(super) fn goodbye_now(
        &self,
        now: Now,
        node: &str,
        epoch: u64,
        events: &mut Vec<Event>,
    ) -> Result<answers::Goodbye, Problem> {
        goodbye(&self.app.deciding.engine, now, node, epoch, events)
    }

    /// `POST /v1/nodes/{node}/inventory`
    pub(super) async fn inventory(&self, call: &Call<'_>, allowed: Allowed, body: Incoming) -> HandlerResult {
        let node = speaker(call, &allowed)?;
        let access = Arc::clone(allowed.access());
        let mut body = call.peer.collect(body, self.knobs().inventory_bytes_max).await?;
        let whole = Bytes::clone(&body);
        let sessions_max = self.knobs().inventory_sessions_max;
        let now = self.app.deciding.clock.now();
        let (mut said, commit) = if body.len() > BYTES_INLINE_MAX || self.is_much(&node) {
            // Wholly read, and taken in one record of the journal, as the short ones are (I19); only elsewhere.
            let done = self.record_blocking_by(move |app, writer, shard| {
                let mut events = Vec::new();
                let sessions_most = InventoryBody::sessions_at_most(&body).min(sessions_max);
                body.hold_more(sessions_most * InventoryBody::SESSION_BYTES)?;
                let shards = app.deciding.shards.as_deref();
                let listed = Listed { body: &body, node: &node, sessions_max, access: &access, shards };
                let (said, ticket) = listed.read(&app.deciding.engine, |epoch, seq, sessions| {
                    writer.record(now.utc_ms, |group| {
                        let listening = app.publishing.events.is_awake(now.uptime_ms).then_some(&mut events);
                        let said = (node.as_str(), epoch, seq);
                        take_inventory(&app.deciding.engine, shard, now, said, sessions, Some(group), listening)
                    })
                })?;
                Ok(((said, events), ticket))
            });
            let (done, commit) = done.await?;
            (self.published(done)?, commit)
        } else {
            let shards = self.app.deciding.shards.as_deref();
            let listed = Listed { body: &body, node: &node, sessions_max, access: &access, shards };
            let taken = listed.read(&self.app.deciding.engine, |epoch, seq, sessions| {
                self.decide(now, |worker, group, events| {
                    let app = &worker.app;
                    let listening = app.publishing.events.is_awake(now.uptime_ms).then_some(events);
                    let said = (node.as_str(), epoch, seq);
                    take_inventory(&app.deciding.engine, &worker.shard, now, said, sessions, group, listening)
                })
            });
            let (said, committed) = taken?;
            (said?, unfenced(committed.await)?)
        };
        for other in self.told_to_others::<answers::InventoryReply>(call, &allowed, whole).await {
            said.kept += other.kept;
            said.adopted += other.adopted;
            said.removed += other.removed;
            said.ignored += other.ignored;
        }
        call.peer.mark_node();
        Ok(marked(json(&said), commit))
    }

    /// Node and epoch of a message, permitted, and the message.
    async fn said(&self, call: &Call<'_>, allowed: &Allowed, body: Incoming) -> Result<(String, u64, Bytes), Problem> {
        let node = speaker(call, allowed)?;
        let body = call.peer.collect(body, self.knobs().body_bytes_max).await?;
        let named = call.head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let format = BodyFormat::of(named, &body)
            .ok_or_else(|| Problem::new(ProblemKind::UnsupportedType, "send application/json or a form"))?;
        let said = NodeBody::parse(&body, format, call.head.uri.query())?;
        Ok((node, said.epoch, Bytes::clone(&body)))
    }
}

/// The node of the path, as which whoever asks may speak.
fn speaker(call: &Call<'_>, allowed: &Allowed) -> Result<String, Problem> {
    let node = call.variable(0)?;
    check_speaker(allowed.access(), &node)?;
    Ok(node)
}

/// A node starts, or comes back (G6, G8).
fn hello(
    engine: &Engine,
    config: &Config,
    shard: &Shard,
    now: Now,
    (node, epoch): (&str, u64),
    group: Option<&mut RecordBuilder>,
    events: &mut Vec<Event>,
) -> Result<answers::Hello, Problem> {
    let report = match group {
        Some(group) => {
            let mut recorder = Recorder::new(group, shard, Some(&mut *events), now.utc_ms);
            engine.hello(now, node, epoch, &mut recorder)
        }
        None => engine.hello(now, node, epoch, &mut ()),
    };
    let report = report.map_err(|fault| refused(node, fault))?;
    let text = format!(
        "node {node} said hello with epoch {epoch}: {} calls ended, {} sessions wait",
        report.dropped, report.orphaned
    );
    events.push(Event { node: node.into(), ..Event::came_to(EventType::Node, EventResult::Hello, now.utc_ms, text) });
    let nodes = &config.settings.nodes;
    Ok(answers::Hello {
        code: Done::Ok.into(),
        heartbeat_s: nodes.heartbeat_s,
        lease_s: nodes.lease_s,
        inventory_s: nodes.inventory_s,
        presence_grace_s: nodes.presence_grace_s,
        deadline_ms: nodes.deadline_ms,
        on_unreachable: nodes.on_unreachable.into(),
        dropped: report.dropped,
        orphaned: report.orphaned,
    })
}

/// A node stops as planned: its grace begins now (G6).
fn goodbye(
    engine: &Engine,
    now: Now,
    node: &str,
    epoch: u64,
    events: &mut Vec<Event>,
) -> Result<answers::Goodbye, Problem> {
    let report = engine.goodbye(now, node, epoch, &mut ()).map_err(|fault| refused(node, fault))?;
    let text = format!("node {node} said goodbye: {} sessions wait for it or another", report.orphaned);
    events.push(Event { node: node.into(), ..Event::came_to(EventType::Node, EventResult::Goodbye, now.utc_ms, text) });
    Ok(answers::Goodbye { code: Done::Ok.into(), orphaned: report.orphaned })
}

/// An inventory as it came.
struct Listed<'a> {
    body: &'a [u8],
    node: &'a str,
    sessions_max: usize,
    access: &'a Access,
    /// In a cluster, who decides what.
    shards: Option<&'a Shards>,
}

impl Listed<'_> {
    /// Gives on its epoch, its number and those of its sessions that are decided here, all of them checked and permitted.
    fn read<R>(&self, engine: &Engine, take: impl FnOnce(u64, u64, &[Acquire<'_>]) -> R) -> Result<R, Problem> {
        let read = InventoryBody::parse(self.body, self.node, self.sessions_max)?;
        let mut sessions: Vec<Acquire<'_>> = Vec::with_capacity(read.sessions.len());
        for (at, session) in read.sessions.iter().enumerate() {
            let message = session.checked().map_err(|problem| problem.within(&format!("/sessions/{at}")))?;
            self.access.need(RouteClass::Decide, Some(message.tenant))?;
            self.access.need_node(message.node)?;
            let is_elsewhere =
                |shards: &Shards| engine.home(message.tenant).is_some_and(|home| shards.term(shards.shard(&home)) == 0);
            if !self.shards.is_some_and(is_elsewhere) {
                sessions.push(message);
            }
        }
        Ok(take(read.epoch, read.seq, &sessions))
    }
}

/// Takes a node's list of its sessions, and compares it with the known ones (G9).
fn take_inventory(
    engine: &Engine,
    shard: &Shard,
    now: Now,
    (node, epoch, seq): (&str, u64, u64),
    sessions: &[Acquire<'_>],
    group: Option<&mut RecordBuilder>,
    listening: Option<&mut Vec<Event>>,
) -> Result<answers::InventoryReply, Problem> {
    let report = match group {
        Some(group) => {
            let mut recorder = Recorder::new(group, shard, listening, now.utc_ms);
            engine.inventory(now, node, epoch, seq, sessions, &mut recorder)
        }
        None => engine.inventory(now, node, epoch, seq, sessions, &mut ()),
    };
    let report = report.map_err(|fault| refused(node, fault))?;
    Ok(answers::InventoryReply {
        code: Done::Ok.into(),
        kept: report.kept,
        adopted: report.adopted,
        removed: report.removed,
        ignored: report.ignored,
    })
}

/// Checks that this is a name of a node, and that the caller may speak for it.
pub(super) fn check_speaker(access: &Access, node: &str) -> Result<(), Problem> {
    let mut faults = Vec::new();
    check_word("node", node, &mut faults);
    if !faults.is_empty() {
        return Err(Problem::from_faults(&faults));
    }
    access.need_node(Some(node))
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
