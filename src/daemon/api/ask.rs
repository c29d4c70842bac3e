//! A message that was read is decided, whatever protocol brought it: HTTP, RESP, or a script of Asterisk.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use usherd_contract::body::{AcquireBody, Body as _, ReleaseBody};
use usherd_contract::hint::{Hint, emergency_hint, inbound_hint};
use usherd_engine::{Acquire, Code, Decision, Detail, Fault, Kind, Now, Release};

use super::elsewhere::Stake;
use super::verb::Verb;
use super::{Worker, unfenced};
use crate::daemon::access::auth::{Access, Asked, RouteClass};
use crate::daemon::app::Journal;
use crate::daemon::app::recorder::Recorder;
use crate::daemon::clock::monotonic_ns;
use crate::daemon::cluster::{Counts, End, Forwarded};
use crate::daemon::edge::Peer;
use crate::daemon::events::{Event, EventType};
use crate::daemon::http::Problem;
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::journal::sampler::Sample;
use crate::daemon::journal::{Audit, AuditKind, Commit, RecordBuilder, Shard, Ticket};

/// The sender of a message, or why that is not known yet.
pub(super) type Caller = Result<Arc<Access>, Problem>;

/// Ready when what was decided is as durable as was asked for. Before recovery nothing is.
pub(super) struct Committed<'a> {
    ticket: Option<Ticket<'a, Journal>>,
    /// The meaning of it for the answer, in a cluster.
    stake: Stake,
    worker: &'a Worker,
}

impl Future for Committed<'_> {
    type Output = Commit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Commit> {
        let Some(shards) = &self.worker.app.deciding.shards else {
            return self.ticket.as_mut().map_or(Poll::Ready(Commit::NotDurable), |ticket| Pin::new(ticket).poll(cx));
        };
        if self.stake.decisions > 0 && self.stake.decisions == self.stake.free {
            // It is recorded all the same, once somebody can.
            return Poll::Ready(Commit::Durable);
        }
        let commit = match &mut self.ticket {
            Some(ticket) => ready!(Pin::new(ticket).poll(cx)),
            None => Commit::NotDurable,
        };
        // A record that one shard has lost is one of the others all the same; and what needed no record is void where
        // somebody else decides by now.
        let is_mine = self.stake.terms.iter().all(|(shard, fence)| shards.term(*shard) == *fence);
        let commit = match (commit, is_mine) {
            (_, false) => {
                Counts::one(&shards.counts.fenced);
                Commit::Fenced
            }
            (Commit::Fenced, true) => Commit::Durable,
            (Commit::Unknown, true) if self.worker.keep_unsettled(&self.stake) => Commit::NotDurable,
            (commit, true) => commit,
        };
        let end = if commit == Commit::Unknown { End::Refused } else { End::Told };
        let seated = std::mem::take(&mut self.stake.seated);
        self.worker.end_unsettled(seated, end);
        Poll::Ready(commit)
    }
}

impl Drop for Committed<'_> {
    fn drop(&mut self) {
        // Nobody hears of it; it is recorded all the same.
        let seated = std::mem::take(&mut self.stake.seated);
        self.worker.end_unsettled(seated, End::Told);
    }
}

/// The problem for the sender of a wrong message: a sender that may not send it at all is told that, and nothing of its
/// form.
pub(super) fn first(caller: &Caller, class: RouteClass, wrong: impl Into<Problem>) -> Problem {
    match caller {
        // Not ready: then the credential was good.
        Err(refused) if refused.kind() == ProblemKind::Unavailable => wrong.into(),
        Err(refused) => refused.clone(),
        Ok(access) => access.need(class, None).err().unwrap_or_else(|| wrong.into()),
    }
}

impl Worker {
    /// Decides the fields of a form (API 2), as text that came by another way than HTTP; inbound and emergency
    /// calls are allowed in spite of any problem that is not their own (I8). Waits until the decision is as
    /// durable as was asked for.
    ///
    /// # Errors
    /// Whatever HTTP would answer with another status than 200: the caller allows then, and says why.
    pub(super) async fn ask_form(&self, verb: Verb, form: &[u8], caller: &Caller) -> Result<Decision, Problem> {
        let _in_flight = super::InFlight::new(&self.in_flight);
        let now = self.app.deciding.clock.now();
        let of_asker = |wrong| first(caller, RouteClass::Decide, wrong);
        let decided = match verb {
            Verb::Acquire => self.ask_acquire(now, form, caller).await.map_err(of_asker),
            Verb::Release => self.ask_release(now, form, caller).await.map_err(of_asker),
        };
        let Err(problem) = decided else { return decided };
        let shard = problem.is_elsewhere().map(Shard);
        if verb == Verb::Acquire
            && let Some((hint, detail)) = self.free_hint(form, None, &problem)
        {
            if let Some(shard) = shard {
                self.tell_owner(shard, caller, Forwarded::form(verb.target(), form.to_vec()));
            }
            return Ok(self.pass_unrecorded(&hint, detail));
        }
        match shard {
            Some(shard) => self.ask_form_elsewhere(verb, shard, &Bytes::copy_from_slice(form), caller).await,
            None => Err(problem),
        }
    }

    async fn ask_acquire(&self, now: Now, form: &[u8], caller: &Caller) -> Result<Decision, Problem> {
        let read = AcquireBody::from_form(form)?;
        let message = read.request()?;
        let decide = |worker: &Self, group: Option<&mut RecordBuilder>, events: &mut Vec<Event>| {
            worker.acquire_now(now, &message, caller, group, events)
        };
        let (decision, commit) = self.decide_durably(now, decide).await?;
        self.unless_unsettled(decision, commit)
    }

    async fn ask_release(&self, now: Now, form: &[u8], caller: &Caller) -> Result<Decision, Problem> {
        let read = ReleaseBody::from_form(form)?;
        let message = read.checked()?;
        let decide = |worker: &Self, group: Option<&mut RecordBuilder>, events: &mut Vec<Event>| {
            worker.release_now(now, &message, caller, group, events)
        };
        self.decide_durably(now, decide).await.map(|(decision, _)| decision)
    }

    /// The sender, if the listener takes their messages, once decisions are made at all.
    pub(super) fn caller(&self, asked: Asked<'_>, peer: &Peer) -> Caller {
        let access = self.access(asked, peer)?;
        self.ready()?;
        Ok(access)
    }

    /// Decides, and waits until it is as durable as was asked for, or may wait no longer; which it was, an answer says
    /// by [`marked`](super::marked).
    pub(super) async fn decide_durably<R, D>(&self, now: Now, decide: D) -> Result<(R, Commit), Problem>
    where
        D: FnOnce(&Self, Option<&mut RecordBuilder>, &mut Vec<Event>) -> Result<R, Problem>,
    {
        let (result, committed) = self.decide(now, decide);
        Ok((result?, unfenced(committed.await)?))
    }

    /// An acquire within a turn: its shape, who asks, overload, then the engine (D5).
    pub(super) fn acquire_now(
        &self,
        now: Now,
        message: &Acquire<'_>,
        caller: &Caller,
        group: Option<&mut RecordBuilder>,
        events: &mut Vec<Event>,
    ) -> Result<Decision, Problem> {
        let access = caller.as_ref().map_err(Clone::clone)?;
        access.need(RouteClass::Decide, Some(message.tenant))?;
        self.need_here(message.tenant)?;
        self.need_node(access, message.tenant, message.session, message.node)?;
        self.in_order(message)?;
        self.shed(message)?;
        let session = self.begin_unsettled(message);
        let decided = self.decide_acquire(now, message, access, group, events);
        let decided = decided.map_err(|fault| Problem::from_faults(&[fault]));
        self.note_stake(session, decided.as_ref());
        decided
    }

    /// A release within a turn; never turned away for overload (I27).
    pub(super) fn release_now(
        &self,
        now: Now,
        message: &Release<'_>,
        caller: &Caller,
        group: Option<&mut RecordBuilder>,
        events: &mut Vec<Event>,
    ) -> Result<Decision, Problem> {
        let access = caller.as_ref().map_err(Clone::clone)?;
        access.need(RouteClass::Decide, Some(message.tenant))?;
        self.need_here(message.tenant)?;
        self.need_node(access, message.tenant, Some(message.session), message.node)?;
        self.note_release(message);
        Ok(self.decide_release(now, message, group, events))
    }

    /// Checks that somebody may speak as the node of a message. One that names none is of the node of its session, for
    /// those who may speak as some nodes only: to leave the name out opens no other's sessions.
    fn need_node(
        &self,
        access: &Access,
        tenant: &str,
        session: Option<&str>,
        node: Option<&str>,
    ) -> Result<(), Problem> {
        if node.is_some() || access.nodes.is_empty() {
            return access.need_node(node);
        }
        let known = session.and_then(|session| self.app.deciding.engine.session(tenant, session));
        let node = known.map(|known| known.node).filter(|node| !node.is_empty());
        access.need_node(node.as_deref())
    }

    /// Decides and encodes, and gives what the answer has to wait for. Before recovery nothing is encoded.
    pub(super) fn decide<R>(
        &self,
        now: Now,
        decide: impl FnOnce(&Self, Option<&mut RecordBuilder>, &mut Vec<Event>) -> R,
    ) -> (R, Committed<'_>) {
        let mut events = Vec::new();
        self.elsewhere.stake.take();
        let (result, ticket) = match self.writer() {
            Some(writer) => {
                let (result, ticket) = writer.record(now.utc_ms, |group| decide(self, Some(group), &mut events));
                (result, Some(ticket))
            }
            None => (decide(self, None, &mut events), None),
        };
        for event in events {
            self.app.publishing.events.publish(event);
        }
        let stake = self.elsewhere.stake.take();
        let ticket = match self.writer() {
            // What it found there may be in a turn of another runtime.
            Some(writer) if stake.is_shared => {
                if let Some(own) = ticket {
                    own.commit_detached();
                }
                Some(writer.settled())
            }
            _ => ticket,
        };
        (result, Committed { ticket, stake, worker: self })
    }

    fn decide_acquire(
        &self,
        now: Now,
        message: &Acquire<'_>,
        access: &Access,
        group: Option<&mut RecordBuilder>,
        events: &mut Vec<Event>,
    ) -> Result<Decision, Fault> {
        let began = monotonic_ns();
        let awake = self.app.publishing.events.is_awake(now.uptime_ms);
        let (engine, mut view) = (&self.app.deciding.engine, self.view.borrow_mut());
        let decided = match group {
            Some(group) => {
                let listening = awake.then_some(&mut *events);
                let mut recorder = Recorder::new(group, &self.shard, listening, now.utc_ms);
                let decided = engine.acquire_by(&mut view, now, message, &mut recorder);
                if let Ok(decision) = &decided
                    && (decision.code.denies() || decision.detail == Detail::Emergency)
                {
                    self.audit(now, message, decision, access, group);
                }
                decided
            }
            None => engine.acquire_by(&mut view, now, message, &mut ()),
        };
        drop(view);
        let decision = decided?;
        self.shard.decision(Some(message.kind), decision.code, decision.detail, monotonic_ns().saturating_sub(began));
        self.remember(now, message, &decision);
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

    /// Tells the history who wanted a seat of whom, and at which level of demand.
    fn remember(&self, now: Now, message: &Acquire<'_>, decision: &Decision) {
        let is_denied = decision.code.denies() && decision.code != Code::DenyUnknownTenant;
        let is_granted = matches!(decision.code, Code::AllowNew | Code::AllowOver);
        let (true, Some(subject)) = (is_denied || is_granted, message.subject) else { return };
        let engine = &self.app.deciding.engine;
        let lender = engine.default_tenant_for(&mut self.view.borrow_mut(), message.tenant, subject);
        let (tenant, subject) = match &lender {
            Some((lender, subject)) => (lender.as_str(), subject.as_str()),
            None => (message.tenant, subject),
        };
        let demand = &self.app.publishing.history.demand;
        if is_denied {
            demand.denied(tenant, subject, decision.held, now.uptime_ms);
        } else {
            demand.granted(tenant, subject, decision.held);
        }
    }

    pub(super) fn decide_release(
        &self,
        now: Now,
        message: &Release<'_>,
        group: Option<&mut RecordBuilder>,
        events: &mut Vec<Event>,
    ) -> Decision {
        let began = monotonic_ns();
        let listening = self.app.publishing.events.is_awake(now.uptime_ms).then_some(events);
        let (engine, mut view) = (&self.app.deciding.engine, self.view.borrow_mut());
        let decision = match group {
            Some(group) => {
                let mut recorder = Recorder::new(group, &self.shard, listening, now.utc_ms);
                engine.release_by(&mut view, now, message, &mut recorder)
            }
            None => engine.release_by(&mut view, now, message, &mut ()),
        };
        drop(view);
        self.shard.decision(None, decision.code, decision.detail, monotonic_ns().saturating_sub(began));
        decision
    }

    /// Denials and emergency calls go to the audit trail; of a storm of denials only some.
    fn audit(&self, now: Now, message: &Acquire<'_>, decision: &Decision, access: &Access, group: &mut RecordBuilder) {
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
            match self.app.deciding.sampler.sample(now.uptime_ms, message.tenant, decision.code) {
                Sample::Suppress => return,
                Sample::Record { suppressed: 0 } => {}
                Sample::Record { suppressed } => {
                    let left_out = Audit {
                        kind: AuditKind::Suppressed,
                        count: suppressed,
                        subject: "",
                        session: "",
                        node: "",
                        ..audit
                    };
                    group.audit(&left_out);
                }
            }
        }
        audit.count = 1;
        group.audit(&audit);
    }

    /// Checks that a request is in order; an emergency call need not be (C14).
    pub(super) fn in_order(&self, message: &Acquire<'_>) -> Result<(), Problem> {
        match message.check() {
            Err(faults) if self.free_pass(message) != Some(Detail::Emergency) => Err(Problem::from_faults(&faults)),
            _ => Ok(()),
        }
    }

    /// The reason to allow a request whatever else is the case: emergency, or inbound.
    fn free_pass(&self, message: &Acquire<'_>) -> Option<Detail> {
        let emergency =
            message.emergency || message.to.is_some_and(|to| self.app.deciding.engine.is_emergency(message.tenant, to));
        if emergency {
            return Some(Detail::Emergency);
        }
        message.is_inbound().then_some(Detail::Inbound)
    }

    /// Under overload new outbound seats are turned away; never a release, a renewal, inbound or emergency (I27).
    fn shed(&self, message: &Acquire<'_>) -> Result<(), Problem> {
        if !self.is_overloaded(100) || self.free_pass(message).is_some() {
            return Ok(());
        }
        let known =
            message.session.is_some_and(|session| self.app.deciding.engine.session(message.tenant, session).is_some());
        if known {
            Ok(())
        } else {
            Err(Problem::unavailable(1, "too many requests at once; ask again, or apply on_unreachable"))
        }
    }

    /// The call that is allowed in spite of a problem: an emergency call that can be recognised at all (C14), and an
    /// inbound one unless it is the request itself that is wrong (I8, C20).
    pub(super) fn free_hint(&self, body: &[u8], query: Option<&str>, problem: &Problem) -> Option<(Hint, Detail)> {
        let known = |tenant: Option<&str>, to: &str| self.app.deciding.engine.is_emergency(tenant.unwrap_or(""), to);
        if let Some(hint) = emergency_hint(body, query, known) {
            return Some((hint, Detail::Emergency));
        }
        inbound_hint(body, query).filter(|_| problem.lets_inbound_pass()).map(|hint| (hint, Detail::Inbound))
    }

    /// Counts, and tells, the allow of a call that must pass although nothing is recorded of it.
    pub(super) fn note_unrecorded(&self, now: Now, hint: &Hint, detail: Detail, events: &mut Vec<Event>) -> Decision {
        let decision = free_answer(detail);
        self.shard.decision(Some(Kind::Call), decision.code, decision.detail, 0);
        if detail == Detail::Emergency {
            let mut told =
                Event::plain(EventType::Emergency, now.utc_ms, "allowed although the request was not in order");
            told.tenant = hint.tenant.as_deref().unwrap_or("").chars().take(64).collect::<String>().into();
            events.push(told);
        }
        decision
    }

    /// As [`Self::note_unrecorded`], outside a turn.
    pub(super) fn pass_unrecorded(&self, hint: &Hint, detail: Detail) -> Decision {
        let mut events = Vec::new();
        let decision = self.note_unrecorded(self.app.deciding.clock.now(), hint, detail, &mut events);
        events.into_iter().for_each(|event| self.app.publishing.events.publish(event));
        decision
    }
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
        direction: message.direction,
        class: message.class,
        group: message.group.unwrap_or("").into(),
        code: Some(decision.code),
        detail: decision.detail,
        seats: Some((decision.held, decision.quota)),
        ..Event::plain(kind, now.utc_ms, "")
    }
}
