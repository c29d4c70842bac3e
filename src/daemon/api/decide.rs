//! Acquire, release, batch and explain (API 2): the routes that PBX nodes wait for.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, request};
use hyper::body::Incoming;
use usherd_contract::batch::{Op, batch_ops, read_batch};
use usherd_contract::body::{AcquireBody, Body as _, ReleaseBody};
use usherd_contract::format::BodyFormat;
use usherd_contract::hint::Hint;
use usherd_contract::malformed::Malformed;
use usherd_engine::{Detail, Now};

use super::ask::{Caller, Committed, first};
use super::elsewhere::{Left, is_forwarded};
use super::forwarding::Placed;
use super::routes::{Allowed, Call, HandlerResult};
use super::{Worker, by_any_name, marked, settled};
use crate::answers::operation::{Explanation, FreesNext, Step};
use crate::daemon::access::auth::RouteClass;
use crate::daemon::cluster::Forwarded;
use crate::daemon::edge::Peer;
use crate::daemon::edge::collect::{FIRST_BYTES, Sender};
use crate::daemon::events::Event;
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::http::reply::{self, DecisionContext, acquire_response, release_response, reply_format};
use crate::daemon::http::{Problem, ReplyBody};
use crate::daemon::journal::{RecordBuilder, Shard};

/// The bytes that are kept for the answer to an operation; most are shorter.
const OP_ANSWER_BYTES: usize = 288;
/// Operations whose answers are surely small: no want of room refuses them.
const OPS_ANSWERED_SMALL_MAX: usize = 40;

impl Worker {
    /// `POST /v1/acquire`
    pub(super) async fn acquire(&self, head: &request::Parts, body: Incoming, peer: &Peer) -> Response<ReplyBody> {
        // Who asks is looked at before the body is collected: who may not is worth its first bytes and no more.
        let caller = self.caller(by_any_name(head), peer);
        let most = self.knobs().body_bytes_max;
        let collected = match sender(&caller) {
            Sender::Permitted => peer.collect_call(body, most, Sender::Permitted).await,
            Sender::Unknown => peer.collect_call(body, most.min(FIRST_BYTES), Sender::Unknown).await,
        };
        let (body, answered) = match collected {
            Ok(body) => {
                let answered = self.acquired(head, &body, caller.clone(), peer).await;
                (body, answered)
            }
            Err(unfinished) => {
                let problem = caller.clone().err().unwrap_or_else(|| unfinished.error.into());
                (unfinished.began, Err(problem))
            }
        };
        answered.unwrap_or_else(|problem| match self.free_hint(&body, head.uri.query(), &problem) {
            Some((hint, detail)) => self.allow_unrecorded(head, &caller, &body, &hint, detail),
            None => problem.into_response(),
        })
    }

    async fn acquired(&self, head: &request::Parts, body: &Bytes, caller: Caller, peer: &Peer) -> HandlerResult {
        let of_caller = |wrong| first(&caller, RouteClass::Decide, wrong);
        let format = body_format(head, body).map_err(of_caller)?;
        let read = AcquireBody::parse(body, format, head.uri.query()).map_err(|wrong| of_caller(wrong.into()))?;
        let message = read.request().map_err(|wrong| of_caller(wrong.into()))?;
        let decided = loop {
            let now = self.app.deciding.clock.now();
            let decided = self
                .decide_durably(now, |worker, group, events| worker.acquire_now(now, &message, &caller, group, events))
                .await;
            // A call that is allowed in any case waits for no other daemon.
            let is_free = |problem: &Problem| self.free_hint(body, head.uri.query(), problem).is_some();
            match self.or_elsewhere(head, body, &caller, decided, is_free).await? {
                Placed::Here(decided) => break decided,
                Placed::Elsewhere(response) => return Ok(response),
                Placed::Again => {}
            }
        };
        let (decision, commit) = decided;
        let decision = self.unless_unsettled(decision, commit)?;
        if message.node.is_some() {
            peer.mark_node();
        }
        let id = self.decision_id();
        let about = DecisionContext::acquire(&message, &id);
        let format = reply_format(&head.headers, format);
        let mut buffer = self.buffer.borrow_mut();
        Ok(marked(acquire_response(&mut buffer, format, read.wants_status(), &decision, &about), commit))
    }

    /// `POST /v1/release`
    pub(super) async fn release(&self, head: &request::Parts, body: Incoming, peer: &Peer) -> Response<ReplyBody> {
        self.released(head, body, peer).await.unwrap_or_else(Problem::into_response)
    }

    async fn released(&self, head: &request::Parts, body: Incoming, peer: &Peer) -> HandlerResult {
        let caller = self.caller(by_any_name(head), peer);
        let most = self.knobs().body_bytes_max;
        let body = match &caller {
            Ok(_) => peer.collect(body, most).await?,
            Err(problem) => {
                let first = peer.collect_call(body, most.min(FIRST_BYTES), Sender::Unknown).await;
                first.map_err(|_| problem.clone())?
            }
        };
        let body = &body;
        let of_caller = |wrong| first(&caller, RouteClass::Decide, wrong);
        let format = body_format(head, body).map_err(of_caller)?;
        let read = ReleaseBody::parse(body, format, head.uri.query()).map_err(|wrong| of_caller(wrong.into()))?;
        let message = read.checked().map_err(|wrong| of_caller(wrong.into()))?;
        let (decision, commit) = loop {
            let now = self.app.deciding.clock.now();
            let decided = self
                .decide_durably(now, |worker, group, events| worker.release_now(now, &message, &caller, group, events))
                .await;
            match self.or_elsewhere(head, body, &caller, decided, |_| false).await? {
                Placed::Here(decided) => break decided,
                Placed::Elsewhere(response) => return Ok(response),
                Placed::Again => {}
            }
        };
        if message.node.is_some() {
            peer.mark_node();
        }
        let id = self.decision_id();
        let about = DecisionContext::release(&message, &id);
        let format = reply_format(&head.headers, format);
        Ok(marked(release_response(&mut self.buffer.borrow_mut(), format, &decision, &about), commit))
    }

    /// `POST /v1/batch`
    pub(super) async fn batch(&self, call: &Call<'_>, body: Incoming) -> HandlerResult {
        let ndjson = call
            .head
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"application/x-ndjson"));
        let caller = self.caller(by_any_name(call.head), call.peer);
        if ndjson {
            return self.batch_lines(call, body, caller);
        }
        let most = self.knobs().body_bytes_max;
        let body = match &caller {
            Ok(_) => call.peer.collect(body, most).await?,
            // Each of its operations may be an inbound call.
            Err(problem) => {
                let collected = call.peer.collect_call(body, most, Sender::Unknown).await;
                collected.map_err(|_| problem.clone())?
            }
        };
        let (out, committed, left) = {
            let batch = Batch::read(&body).map_err(|wrong| first(&caller, RouteClass::Decide, wrong))?;
            self.need_room_for(batch.len(), call.peer)?;
            let (out, committed) = self.decide_batch(&batch, &caller);
            (out, committed, self.elsewhere.left.take())
        };
        let commit = settled(committed.await)?;
        let out = self.with_left(out, left, &caller, is_forwarded(call.head)).await;
        Ok(marked(super::json_bytes(out.freeze()), commit))
    }

    /// Checks that a batch of so many operations is taken, and its answer has room.
    fn need_room_for(&self, ops: usize, peer: &Peer) -> Result<(), Problem> {
        let most = self.knobs().batch_operations_max;
        if ops > most {
            let detail = format!("{ops} operations; at most {most}, or send NDJSON");
            return Err(Problem::new(ProblemKind::TooLarge, detail));
        }
        if ops > OPS_ANSWERED_SMALL_MAX { peer.room_for_answer() } else { Ok(()) }
    }

    /// Decides all operations of a batch, and writes its answer.
    fn decide_batch(&self, batch: &Batch<'_>, caller: &Caller) -> (BytesMut, Committed<'_>) {
        let now = self.app.deciding.clock.now();
        let mut out = BytesMut::with_capacity(batch.len() * OP_ANSWER_BYTES + 16);
        out.put_slice(b"{\"results\":[");
        let (_, committed) = self.decide(now, |worker, mut group, events| {
            for at in 0..batch.len() {
                if at > 0 {
                    out.put_u8(b',');
                }
                let group = group.as_deref_mut();
                match batch {
                    Batch::Read { body, ops } => {
                        let raw = || batch_ops(body).ok().and_then(|raw| raw.get(at).copied());
                        worker.decide_op(now, (Ok(&ops[at]), raw), caller, group, events, &mut out);
                    }
                    Batch::Raw(ops) => worker.decide_raw(now, Ok(ops[at]), caller, group, events, &mut out),
                }
            }
        });
        out.put_slice(b"]}");
        (out, committed)
    }

    /// One operation as it was sent; see [`Self::decide_op`].
    pub(super) fn decide_raw(
        &self,
        now: Now,
        raw: Result<&[u8], Problem>,
        caller: &Caller,
        group: Option<&mut RecordBuilder>,
        events: &mut Vec<Event>,
        out: &mut BytesMut,
    ) {
        let op = raw.as_ref().map_err(Clone::clone).and_then(|raw| Ok(Op::from_json(raw)?));
        self.decide_op(now, (op.as_ref().map_err(Clone::clone), || raw.ok()), caller, group, events, out);
    }

    /// One operation of a batch or a line of NDJSON: its answer, or a problem in its place. `raw` gives what was sent,
    /// should a call be looked for in it.
    fn decide_op<'r>(
        &self,
        now: Now,
        (op, raw): (Result<&Op<'_>, Problem>, impl FnOnce() -> Option<&'r [u8]>),
        caller: &Caller,
        group: Option<&mut RecordBuilder>,
        events: &mut Vec<Event>,
        out: &mut BytesMut,
    ) {
        let id = self.decision_id();
        let answered = op.and_then(|op| match op {
            Op::Acquire(read) => {
                let message = read.request()?;
                let decision = self.acquire_now(now, &message, caller, group, &mut *events)?;
                let about = DecisionContext::acquire(&message, &id);
                reply::write_acquire(out, &decision, &about);
                Ok(())
            }
            Op::Release(read) => {
                let message = read.checked()?;
                let decision = self.release_now(now, &message, caller, group, events)?;
                let about = DecisionContext::release(&message, &id);
                reply::write_release(out, &decision, &about);
                Ok(())
            }
        });
        let Err(wrong) = answered else { return };
        let problem = first(caller, RouteClass::Decide, wrong);
        let (raw, shard) = (raw(), problem.is_elsewhere().map(Shard));
        match (raw.and_then(|raw| self.free_hint(raw, None, &problem)), raw, shard) {
            (Some((hint, detail)), raw, shard) => {
                let decision = self.note_unrecorded(now, &hint, detail, events);
                reply::write_acquire(out, &decision, &about_hint(&hint, &id));
                if let (Some(shard), Some(raw)) = (shard, raw) {
                    self.tell_owner(shard, caller, Forwarded::post("/v1/batch", one_op(raw)));
                }
            }
            (None, Some(raw), Some(shard)) => {
                let left = Left { at: out.len(), shard, op: Bytes::copy_from_slice(raw) };
                self.elsewhere.left.borrow_mut().push(left);
            }
            (None, ..) => out.put_slice(&problem.to_json()),
        }
    }

    /// `POST /v1/explain`
    pub(super) async fn explain(&self, call: &Call<'_>, allowed: Allowed, body: Incoming) -> HandlerResult {
        let body = call.peer.collect(body, self.knobs().body_bytes_max).await?;
        let format = body_format(call.head, &body)?;
        let read = AcquireBody::parse(&body, format, call.head.uri.query())?;
        let message = read.request()?;
        // The very checks of an acquire, in its order.
        self.in_order(&message)?;
        allowed.access().need(RouteClass::Explain, Some(message.tenant))?;
        if let Some(response) = self.owners_answer(message.tenant, call.head, &body, allowed.access()).await? {
            return Ok(response);
        }
        let (_, access) = allowed.into_parts();
        let now = self.app.deciding.clock.now();
        let (body, query) = (body, call.head.uri.query().map(str::to_owned));
        // Who holds the seats, and whom a pseudonym means, is found by reading the whole tenant.
        self.answer_blocking(move |app| {
            let read = AcquireBody::parse(&body, format, query.as_deref())?;
            let (sight, message) = (app.publishing.sight(&access), read.request()?);
            let explanation = match sight.is_clear() {
                true => app.deciding.engine.explain(now, &message),
                false => sight.explain(&app.deciding.engine, now, &message),
            };
            Ok(explained(now, explanation))
        })
        .await
    }

    fn allow_unrecorded(
        &self,
        head: &request::Parts,
        caller: &Caller,
        body: &Bytes,
        hint: &Hint,
        detail: Detail,
    ) -> Response<ReplyBody> {
        let decision = self.pass_unrecorded(hint, detail);
        if let Some(shard) = hint.tenant.as_deref().and_then(|tenant| self.shard_elsewhere(tenant))
            && !is_forwarded(head)
        {
            self.tell_owner(shard, caller, Forwarded::of(head, body.clone()));
        }
        let id = self.decision_id();
        let format = body_format(head, body).unwrap_or(BodyFormat::Json);
        let format = reply_format(&head.headers, format);
        acquire_response(&mut self.buffer.borrow_mut(), format, false, &decision, &about_hint(hint, &id))
    }
}

/// The operations of a batch.
enum Batch<'a> {
    /// All of the right form, and what they were read from.
    Read { body: &'a [u8], ops: Vec<Op<'a>> },
    /// As they were sent, for at least one of them is not.
    Raw(Vec<&'a [u8]>),
}

impl<'a> Batch<'a> {
    fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        match read_batch(body) {
            Some(ops) => Ok(Batch::Read { body, ops }),
            None => batch_ops(body).map(Batch::Raw),
        }
    }

    fn len(&self) -> usize {
        match self {
            Batch::Read { ops, .. } => ops.len(),
            Batch::Raw(ops) => ops.len(),
        }
    }
}

/// A batch of one operation.
fn one_op(op: &[u8]) -> Vec<u8> {
    [&b"{\"ops\":["[..], op, b"]}"].concat()
}

fn sender(caller: &Caller) -> Sender {
    if caller.is_ok() { Sender::Permitted } else { Sender::Unknown }
}

fn about_hint<'a>(hint: &'a Hint, decision_id: &'a str) -> DecisionContext<'a> {
    DecisionContext {
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

fn explained(now: Now, explanation: usherd_engine::Explanation) -> Explanation {
    let steps = explanation.steps.into_iter();
    let steps = steps.map(|step| Step { rule: step.rule.to_owned(), input: step.input, outcome: step.outcome });
    let frees_next = explanation.frees_next_ms.map(|at| FreesNext {
        in_s: at.saturating_sub(now.uptime_ms).div_ceil(1_000),
        by: "the earliest session that ends unless it is renewed".to_owned(),
    });
    Explanation {
        code: explanation.code.into(),
        detail: explanation.detail.into(),
        allow: explanation.code.allows(),
        message: reply::message(explanation.code, explanation.detail).to_owned(),
        held: explanation.held,
        quota: explanation.quota,
        steps: steps.collect(),
        holders: explanation.holders.iter().map(|(kind, count)| ((*kind).into(), *count)).collect(),
        frees_next,
        would_allow: explanation.would_allow,
    }
}
