//! Acquire, release, batch and explain (API 2): the routes that PBX nodes wait for.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, request};
use hyper::body::Incoming;
use serde_json::json;

use super::{Call, Worker, json};
use crate::daemon::clock::monotonic_ns;
use crate::daemon::events::{Event, EventType};
use crate::daemon::http::auth::{Access, RouteClass};
use crate::daemon::http::hint::{Hint, emergency_hint, inbound_hint};
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::http::reply::{self, About, ReplyFormat, acquire_response, release_response};
use crate::daemon::http::wire::{AcquireBody, BodyFormat, Op, ReleaseBody, batch_ops};
use crate::daemon::http::{Peer, Problem, ReplyBody};
use crate::daemon::journal::sampler::Sample;
use crate::daemon::journal::{Audit, AuditKind, Commit, Group};
use crate::daemon::recorder::Recorder;
use crate::engine::{Acquire, Code, Decision, Detail, Direction, Explanation, Fault, Kind, Now, Release};

type Answer = Result<Response<ReplyBody>, Problem>;

impl Worker {
    /// `POST /v1/acquire`
    pub(super) async fn acquire(&self, head: &request::Parts, body: Incoming, peer: &Peer) -> Response<ReplyBody> {
        let body = match peer.collect(body, self.app.knobs.load().body_bytes_max).await {
            Ok(body) => body,
            Err(error) => return Problem::from(error).into_response(),
        };
        self.acquired(head, &body, peer).await.unwrap_or_else(|problem| {
            match self.free_hint(&body, head.uri.query(), &problem) {
                Some((hint, detail)) => self.allow_unrecorded(head, &body, &hint, detail),
                None => problem.into_response(),
            }
        })
    }

    async fn acquired(&self, head: &request::Parts, body: &Bytes, peer: &Peer) -> Answer {
        let format = body_format(head, body)?;
        let read = AcquireBody::parse(body, format, head.uri.query())?;
        let message = read.request()?;
        let now = self.app.now();
        let access = self.access_to(head, peer, message.tenant, now)?;
        self.in_order(&message)?;
        self.shed(&message)?;
        let (decision, committed) = self.decide(now, |worker, group, events| {
            worker.decide_acquire(now, &message, &access, group, events)
        });
        let decision = decision.map_err(|fault| Problem::from_faults(&[fault]))?;
        if committed.await == Commit::Fenced {
            return Err(fenced());
        }
        if message.node.is_some() {
            peer.mark_node();
        }
        let id = self.decision_id();
        let about = About { tenant: message.tenant, subject: message.subject, session: message.session, decision_id: &id, message: "" };
        let format = ReplyFormat::of(&head.headers, format);
        Ok(acquire_response(&mut self.buffer.borrow_mut(), format, read.wants_status(), &decision, &about))
    }

    /// `POST /v1/release`
    pub(super) async fn release(&self, head: &request::Parts, body: Incoming, peer: &Peer) -> Response<ReplyBody> {
        match peer.collect(body, self.app.knobs.load().body_bytes_max).await {
            Ok(body) => self.released(head, &body, peer).await.unwrap_or_else(Problem::into_response),
            Err(error) => Problem::from(error).into_response(),
        }
    }

    async fn released(&self, head: &request::Parts, body: &Bytes, peer: &Peer) -> Answer {
        let format = body_format(head, body)?;
        let read = ReleaseBody::parse(body, format, head.uri.query())?;
        let message = read.checked()?;
        let now = self.app.now();
        self.access_to(head, peer, message.tenant, now)?;
        let (decision, committed) =
            self.decide(now, |worker, group, events| worker.decide_release(now, &message, group, events));
        if committed.await == Commit::Fenced {
            return Err(fenced());
        }
        if message.node.is_some() {
            peer.mark_node();
        }
        let id = self.decision_id();
        let about = About { tenant: message.tenant, subject: None, session: Some(message.session), decision_id: &id, message: "" };
        let format = ReplyFormat::of(&head.headers, format);
        Ok(release_response(&mut self.buffer.borrow_mut(), format, &decision, &about))
    }

    /// `POST /v1/batch`
    pub(super) async fn batch(&self, call: &Call<'_>, body: Incoming) -> Answer {
        let ndjson = call.head.headers.get(CONTENT_TYPE).is_some_and(|value| {
            value.as_bytes().to_ascii_lowercase().starts_with(b"application/x-ndjson")
        });
        let access = self.access(&call.head.headers, call.peer, self.app.now()).and_then(|access| self.ready().map(|()| access));
        if ndjson {
            return self.batch_lines(call, body, access);
        }
        let body = call.peer.collect(body, self.app.knobs.load().body_bytes_max).await?;
        let ops = batch_ops(&body)?;
        if ops.len() > self.app.knobs.load().batch_operations_max {
            let most = self.app.knobs.load().batch_operations_max;
            return Err(Problem::new(ProblemKind::TooLarge, format!("{} operations; at most {most}, or send NDJSON", ops.len())));
        }
        let now = self.app.now();
        let mut out = BytesMut::with_capacity(ops.len() * 192 + 16);
        out.put_slice(b"{\"results\":[");
        let (_, committed) = self.decide(now, |worker, mut group, events| {
            for (at, op) in ops.iter().enumerate() {
                if at > 0 {
                    out.put_u8(b',');
                }
                worker.decide_op(now, Ok(op), &access, group.as_deref_mut(), events, &mut out);
            }
        });
        if committed.await == Commit::Fenced {
            return Err(fenced());
        }
        out.put_slice(b"]}");
        Ok(super::json_bytes(out.freeze()))
    }

    /// One operation of a batch or a line of NDJSON: its answer, or a problem in its place.
    pub(super) fn decide_op(
        &self,
        now: Now,
        raw: Result<&[u8], Problem>,
        access: &Result<std::sync::Arc<Access>, Problem>,
        group: Option<&mut Group>,
        events: &mut Vec<Event>,
        out: &mut BytesMut,
    ) {
        let id = self.decision_id();
        let op = raw.as_ref().map_err(Clone::clone).and_then(|raw| Op::from_json(raw));
        let answered = op.and_then(|op| match op {
            Op::Acquire(read) => {
                let message = read.request()?;
                let access = access.clone()?;
                access.need(RouteClass::Decide, Some(message.tenant))?;
                self.in_order(&message)?;
                self.shed(&message)?;
                let decision = self.decide_acquire(now, &message, &access, group, &mut *events)
                    .map_err(|fault| Problem::from_faults(&[fault]))?;
                let about = About { tenant: message.tenant, subject: message.subject, session: message.session, decision_id: &id, message: "" };
                reply::write_acquire(out, &decision, &about);
                Ok(())
            }
            Op::Release(read) => {
                let message = read.checked()?;
                access.clone()?.need(RouteClass::Decide, Some(message.tenant))?;
                let decision = self.decide_release(now, &message, group, events);
                let about = About { tenant: message.tenant, subject: None, session: Some(message.session), decision_id: &id, message: "" };
                reply::write_release(out, &decision, &about);
                Ok(())
            }
        });
        let Err(problem) = answered else { return };
        match raw.ok().and_then(|raw| self.free_hint(raw, None, &problem)) {
            Some((hint, detail)) => {
                let decision = self.note_unrecorded(now, &hint, detail, events);
                reply::write_acquire(out, &decision, &about_hint(&hint, &id));
            }
            None => out.put_slice(&problem.to_json()),
        }
    }

    /// `POST /v1/explain`
    pub(super) async fn explain(&self, call: &Call<'_>, body: Incoming) -> Answer {
        let body = call.peer.collect(body, self.app.knobs.load().body_bytes_max).await?;
        let format = body_format(call.head, &body)?;
        let read = AcquireBody::parse(&body, format, call.head.uri.query())?;
        let message = read.request()?;
        // The very checks of an acquire, in its order.
        self.in_order(&message)?;
        self.permitted(call, RouteClass::Decide, Some(message.tenant))?;
        let now = self.app.now();
        Ok(json(&explained(now, &self.app.engine.explain(now, &message))))
    }

    /// Decides and encodes, and gives what the answer has to wait for. Before recovery nothing is encoded.
    pub(super) fn decide<R, D>(&self, now: Now, decide: D) -> (R, impl Future<Output = Commit> + use<'_, R, D>)
    where
        D: FnOnce(&Self, Option<&mut Group>, &mut Vec<Event>) -> R,
    {
        let mut events = Vec::new();
        let (result, ticket) = match self.writer() {
            Some(writer) => {
                let (result, ticket) = writer.record(now.utc_ms, |group| decide(self, Some(group), &mut events));
                (result, Some(ticket))
            }
            None => (decide(self, None, &mut events), None),
        };
        for event in events {
            self.app.events.publish(event);
        }
        let committed = async move {
            match ticket {
                Some(ticket) => ticket.await,
                None => Commit::NotDurable,
            }
        };
        (result, committed)
    }

    fn decide_acquire(
        &self,
        now: Now,
        message: &Acquire<'_>,
        access: &Access,
        group: Option<&mut Group>,
        events: &mut Vec<Event>,
    ) -> Result<Decision, Fault> {
        let began = monotonic_ns();
        let awake = self.app.events.is_awake(now.uptime_ms);
        let decided = match group {
            Some(group) => {
                let listening = awake.then_some(&mut *events);
                let mut recorder = Recorder::new(group, &self.shard, listening, now.utc_ms);
                let decided = self.app.engine.acquire(now, message, &mut recorder);
                if let Ok(decision) = &decided
                    && (decision.code.denies() || decision.detail == Detail::Emergency)
                {
                    self.audit(now, message, decision, access, group);
                }
                decided
            }
            None => self.app.engine.acquire(now, message, &mut ()),
        };
        let decision = decided?;
        self.shard.decision(Some(message.kind), decision.code, decision.detail, monotonic_ns().saturating_sub(began));
        let told = match decision.code {
            code if code.denies() => Some(EventType::Denied),
            Code::AllowNew | Code::AllowOver if awake => Some(EventType::Granted),
            Code::AllowFree if decision.detail == Detail::Emergency => Some(EventType::Emergency),
            _ => None,
        };
        if let Some(kind) = told {
            events.push(event(kind, now, message, &decision));
        }
        Ok(decision)
    }

    fn decide_release(&self, now: Now, message: &Release<'_>, group: Option<&mut Group>, events: &mut Vec<Event>) -> Decision {
        let began = monotonic_ns();
        let listening = self.app.events.is_awake(now.uptime_ms).then_some(events);
        let decision = match group {
            Some(group) => {
                self.app.engine.release(now, message, &mut Recorder::new(group, &self.shard, listening, now.utc_ms))
            }
            None => self.app.engine.release(now, message, &mut ()),
        };
        self.shard.decision(None, decision.code, decision.detail, monotonic_ns().saturating_sub(began));
        decision
    }

    /// Denials and emergency calls go to the audit trail; of a storm of denials only some.
    fn audit(&self, now: Now, message: &Acquire<'_>, decision: &Decision, access: &Access, group: &mut Group) {
        let mut audit = Audit {
            code: Some(decision.code),
            detail: Some(decision.detail),
            tenant: message.tenant,
            subject: message.subject.unwrap_or(""),
            session: message.session.unwrap_or(""),
            node: message.node.unwrap_or(""),
            actor: &access.id,
            ..Audit::new(AuditKind::Decision)
        };
        if decision.code.denies() {
            match self.app.sampler.lock().sample(now.uptime_ms, message.tenant, decision.code) {
                Sample::Suppress => return,
                Sample::Record { suppressed: 0 } => {}
                Sample::Record { suppressed } => {
                    let left_out = Audit { kind: AuditKind::Suppressed, count: suppressed, subject: "", session: "", node: "", ..audit };
                    group.audit(&left_out);
                }
            }
        }
        audit.count = 1;
        group.audit(&audit);
    }

    /// Whether a request is in order; an emergency call need not be (C14).
    fn in_order(&self, message: &Acquire<'_>) -> Result<(), Problem> {
        match message.check() {
            Err(faults) if self.free_pass(message) != Some(Detail::Emergency) => Err(Problem::from_faults(&faults)),
            _ => Ok(()),
        }
    }

    /// Whether a request is allowed whatever else is the case: emergency, or inbound.
    fn free_pass(&self, message: &Acquire<'_>) -> Option<Detail> {
        let emergency = message.emergency
            || message.to.is_some_and(|to| self.app.engine.is_emergency(message.tenant, to));
        if emergency {
            return Some(Detail::Emergency);
        }
        (message.kind == Kind::Call && message.direction == Some(Direction::Inbound)).then_some(Detail::Inbound)
    }

    fn access_to(&self, head: &request::Parts, peer: &Peer, tenant: &str, now: Now) -> Result<std::sync::Arc<Access>, Problem> {
        let access = self.access(&head.headers, peer, now)?;
        access.need(RouteClass::Decide, Some(tenant))?;
        self.ready()?;
        Ok(access)
    }

    /// Under overload new outbound seats are turned away; never a release, a renewal, inbound or emergency (I27).
    fn shed(&self, message: &Acquire<'_>) -> Result<(), Problem> {
        if !self.is_overloaded(100) || self.free_pass(message).is_some() {
            return Ok(());
        }
        let known = message.session.is_some_and(|session| self.app.engine.session(message.tenant, session).is_some());
        if known { Ok(()) } else { Err(Problem::unavailable(1, "too many requests at once; ask again, or apply on_unreachable")) }
    }

    /// What is allowed in spite of a problem: an emergency call that can be recognised at all (C14), and an
    /// inbound one unless it is the request itself that is wrong (I8, C20).
    fn free_hint(&self, body: &[u8], query: Option<&str>, problem: &Problem) -> Option<(Hint, Detail)> {
        let known = |tenant: Option<&str>, to: &str| self.app.engine.is_emergency(tenant.unwrap_or(""), to);
        if let Some(hint) = emergency_hint(body, query, known) {
            return Some((hint, Detail::Emergency));
        }
        let ours = matches!(problem.kind(), ProblemKind::NotPermitted | ProblemKind::TooMany | ProblemKind::Unavailable);
        inbound_hint(body, query).filter(|_| ours).map(|hint| (hint, Detail::Inbound))
    }

    /// Counts, and tells, the allow of a call that must pass although nothing is recorded of it.
    fn note_unrecorded(&self, now: Now, hint: &Hint, detail: Detail, events: &mut Vec<Event>) -> Decision {
        let decision = free_answer(detail);
        self.shard.decision(Some(Kind::Call), decision.code, decision.detail, 0);
        if detail == Detail::Emergency {
            let mut told = Event::plain(EventType::Emergency, now.utc_ms, "allowed although the request was not in order");
            told.tenant = hint.tenant.as_deref().unwrap_or("").chars().take(64).collect::<String>().into();
            events.push(told);
        }
        decision
    }

    fn allow_unrecorded(&self, head: &request::Parts, body: &Bytes, hint: &Hint, detail: Detail) -> Response<ReplyBody> {
        let mut events = Vec::new();
        let decision = self.note_unrecorded(self.app.now(), hint, detail, &mut events);
        events.into_iter().for_each(|event| self.app.events.publish(event));
        let id = self.decision_id();
        let format = body_format(head, body).unwrap_or(BodyFormat::Json);
        let format = ReplyFormat::of(&head.headers, format);
        acquire_response(&mut self.buffer.borrow_mut(), format, false, &decision, &about_hint(hint, &id))
    }
}

fn about_hint<'a>(hint: &'a Hint, decision_id: &'a str) -> About<'a> {
    About {
        tenant: hint.tenant.as_deref().unwrap_or(""),
        subject: hint.subject.as_deref(),
        session: hint.session.as_deref(),
        decision_id,
        message: "",
    }
}

fn body_format(head: &request::Parts, body: &Bytes) -> Result<BodyFormat, Problem> {
    let named = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    BodyFormat::of(named, body).ok_or_else(|| {
        let detail = "send application/json or application/x-www-form-urlencoded";
        Problem::new(ProblemKind::UnsupportedType, detail)
    })
}

fn fenced() -> Problem {
    Problem::unavailable(1, "another daemon has taken over this state directory")
}

/// Allowed without a look at any tenant: nothing of one is told to who may not be permitted.
fn free_answer(detail: Detail) -> Decision {
    Decision {
        code: Code::AllowFree,
        detail,
        first: None,
        held: 0,
        quota: Some(0),
        ttl_ms: None,
        retry_after_s: 0,
        sip_code: 0,
    }
}

fn event(kind: EventType, now: Now, message: &Acquire<'_>, decision: &Decision) -> Event {
    Event {
        tenant: message.tenant.into(),
        subject: message.subject.unwrap_or("").into(),
        session: message.session.unwrap_or("").into(),
        session_kind: Some(message.kind),
        code: Some(decision.code),
        detail: decision.detail,
        seats: Some((decision.held, decision.quota)),
        ..Event::plain(kind, now.utc_ms, "")
    }
}

fn explained(now: Now, explanation: &Explanation) -> serde_json::Value {
    let steps = explanation.steps.iter().map(|step| {
        json!({ "rule": step.rule, "input": step.input, "outcome": step.outcome })
    });
    let holders = explanation.holders.iter().map(|(kind, count)| (kind.as_str().to_owned(), json!(count)));
    let frees_next = explanation.frees_next_ms.map(|at| {
        json!({ "in_s": at.saturating_sub(now.uptime_ms).div_ceil(1_000), "by": "the earliest session that ends unless it is renewed" })
    });
    json!({
        "code": explanation.code.as_str(),
        "detail": explanation.detail.as_str(),
        "allow": explanation.code.allows(),
        "message": reply::message(explanation.code, explanation.detail),
        "held": explanation.held,
        "quota": explanation.quota,
        "steps": steps.collect::<Vec<_>>(),
        "holders": holders.collect::<serde_json::Map<_, _>>(),
        "frees_next": frees_next,
        "would_allow": explanation.would_allow,
    })
}
