//! The questions of a runtime to the other daemons of its cluster.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Response, request};
use serde::de::DeserializeOwned;
use usherd_engine::{Acquire, Code, Decision, Detail, Name, Release};

use super::Worker;
use super::ask::Caller;
use super::elsewhere::{Asked, Left, Stake, ask_owner, decision_of, is_forwarded, passed_on, results};
use super::routes::{Allowed, Call};
use super::verb::Verb;
use crate::daemon::access::auth::{Access, Role};
use crate::daemon::cluster::{Counts, End, Forwarded, PeerAnswer, Session};
use crate::daemon::http::{Problem, ReplyBody};
use crate::daemon::journal::{Commit, Journal as _, Shard};

/// Calls that were allowed here and of which an owner is still to be told, of one runtime at once; more are not told.
const TOLD_MAX: u32 = 1_000;
/// Between two looks whether the store answers again.
const UNSETTLED_REST: Duration = Duration::from_millis(100);
/// How long it is tried to tell an owner of a call that was allowed without it.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// Where a message was decided.
pub(super) enum Placed<R> {
    Here(R),
    /// With the owner's answer.
    Elsewhere(Response<ReplyBody>),
    /// Nowhere: it is decided here by now.
    Again,
}

impl Worker {
    /// Checks that a tenant is decided here; notes by which term.
    pub(super) fn need_here(&self, tenant: &str) -> Result<(), Problem> {
        let Some(shards) = &self.app.deciding.shards else { return Ok(()) };
        let Some(home) = self.app.deciding.engine.home(tenant) else { return Ok(()) };
        let shard = shards.shard(&home);
        let fence = shards.term(shard);
        if fence == 0 {
            return Err(Problem::elsewhere(shard.0));
        }
        let terms = &mut self.elsewhere.stake.borrow_mut().terms;
        if terms.last() != Some(&(shard, fence)) {
            terms.push((shard, fence));
        }
        Ok(())
    }

    /// The session of a message, of which others may wait for a record, too; before it is decided.
    pub(super) fn begin_unsettled(&self, message: &Acquire<'_>) -> Option<Session> {
        let shards = self.app.deciding.shards.as_ref()?;
        let session = (Name::from(message.tenant), Name::from(message.session?));
        shards.unsettled.begin(session.clone());
        Some(session)
    }

    /// Notes what a decision means for its answer.
    pub(super) fn note_stake(&self, session: Option<Session>, decision: Result<&Decision, &Problem>) {
        let Some(shards) = &self.app.deciding.shards else { return };
        let mut stake = self.elsewhere.stake.borrow_mut();
        let is_seated = match decision.map(|decision| (decision.code, decision.detail)) {
            Ok((Code::AllowNew | Code::AllowOver | Code::AllowHeld, _)) => true,
            Ok((Code::AllowSame, _)) => {
                let is_shared = session.as_ref().is_some_and(|session| shards.unsettled.is_shared(session));
                stake.is_shared |= is_shared;
                is_shared
            }
            Ok((Code::AllowFree, Detail::Inbound | Detail::Emergency)) => {
                stake.free += 1;
                false
            }
            Ok((code, _)) => {
                stake.denied += u32::from(code.denies());
                false
            }
            Err(_) => false,
        };
        stake.decisions += u32::from(decision.is_ok());
        match session {
            Some(session) if is_seated => stake.seated.push(session),
            Some(session) => {
                drop(stake);
                self.end_unsettled([session], End::Nothing);
            }
            None => {}
        }
    }

    /// Requests about sessions end; seats that nobody was told of, and that were refused, are given back, so that asking
    /// again does not find them.
    pub(super) fn end_unsettled(&self, sessions: impl IntoIterator<Item = Session>, end: End) {
        let Some(shards) = &self.app.deciding.shards else { return };
        let back: Vec<Session> =
            sessions.into_iter().filter(|session| shards.unsettled.ended(session.clone(), end)).collect();
        if back.is_empty() {
            return;
        }
        let (now, writer) = (self.app.deciding.clock.now(), self.app.deciding.writer());
        let Some(writer) = writer else { return };
        // In a turn of its own: this one may be open.
        let mut events = Vec::new();
        let ((), ticket) = writer.record(now.utc_ms, |group| {
            for (tenant, session) in &back {
                Counts::one(&shards.counts.refused);
                self.decide_release(now, &Release::new(tenant, session), Some(&mut *group), &mut events);
            }
        });
        ticket.commit_detached();
        events.into_iter().for_each(|event| self.app.publishing.events.publish(event));
    }

    /// Notes a release, should it have to be told to somebody else.
    pub(super) fn note_release(&self, message: &Release<'_>) {
        let Some(shards) = &self.app.deciding.shards else { return };
        let Some(home) = self.app.deciding.engine.home(message.tenant) else { return };
        let Release { tenant, session, node, epoch, seq, transferred } = message;
        let why = if *transferred { "transferred" } else { "" };
        let mut body = serde_json::json!({ "tenant": tenant, "session": session, "why": why });
        for (key, value) in
            [("node", node.map(Into::into)), ("epoch", epoch.map(Into::into)), ("seq", seq.map(Into::into))]
        {
            if let Some(value) = value {
                body[key] = value;
            }
        }
        let mut stake = self.elsewhere.stake.borrow_mut();
        stake.decisions += 1;
        stake.released.push((shards.shard(&home), body.to_string().into()));
    }

    /// The store of the cluster has no answer: whether the seats that were taken may be kept.
    pub(super) fn keep_unsettled(&self, stake: &Stake) -> bool {
        let Some(shards) = &self.app.deciding.shards else { return true };
        let shard = |tenant: &Name| self.app.deciding.engine.home(tenant).map(|home| shards.shard(&home));
        let mut keeps = stake.denied == 0;
        for (tenant, _) in &stake.seated {
            keeps = keeps && shard(tenant).is_none_or(|shard| shards.take_provisional(shard));
        }
        if keeps {
            stake.seated.iter().for_each(|_| Counts::one(&shards.counts.provisional));
            stake.released.iter().for_each(|(shard, body)| self.tell_release(*shard, body));
        }
        keeps
    }

    /// The shard of a tenant that is decided elsewhere; `None` where it is decided here.
    pub(super) fn shard_elsewhere(&self, tenant: &str) -> Option<Shard> {
        let shards = self.app.deciding.shards.as_ref()?;
        let shard = shards.shard(&self.app.deciding.engine.home(tenant)?);
        (shards.term(shard) == 0).then_some(shard)
    }

    /// How long a message waits for an owner: as long as its node waits for an answer.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(self.app.configuration.running.get().settings.nodes.deadline_ms.into())
    }

    /// Has the owner of a shard answer a request.
    ///
    /// # Errors
    /// 503: nobody owns it, or the owner does not answer, for as long as a node waits.
    pub(super) async fn ask_owner(&self, shard: Shard, access: &Access, request: &Forwarded) -> Result<Asked, Problem> {
        let Some(shards) = &self.app.deciding.shards else { return Ok(Asked::Here) };
        let asked = ask_owner(&self.elsewhere.peers, shards, shard, access, request, self.patience()).await?;
        if let Asked::Answered(_) = asked {
            Counts::one(&shards.counts.forwarded);
        }
        Ok(asked)
    }

    /// Tells the owner of a call that was allowed here, so that lists know it; nobody waits for that.
    pub(super) fn tell_owner(&self, shard: Shard, caller: &Caller, request: Forwarded) {
        let (Some(shards), Ok(access)) = (self.app.deciding.shards.clone(), caller.clone()) else { return };
        let told = Rc::clone(&self.elsewhere.told);
        if told.get() >= TOLD_MAX {
            return;
        }
        told.set(told.get() + 1);
        let peers = self.elsewhere.peers.clone();
        tokio::task::spawn_local(async move {
            // A list that lacks it is all that is lost.
            let _ = ask_owner(&peers, &shards, shard, &access, &request, TOLD_WITHIN).await;
            told.set(told.get() - 1);
        });
    }

    /// Tells every other member that lives what a node said, and gives their answers.
    pub(super) async fn told_to_others<A: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        allowed: &Allowed,
        body: Bytes,
    ) -> Vec<A> {
        if self.app.deciding.shards.is_none() || is_forwarded(call.head) {
            return Vec::new();
        }
        let asked = self.ask_others(allowed.access(), &Forwarded::of(call.head, body), self.patience()).await;
        let answers = asked.iter().filter_map(|(_, answer)| answer.as_ref());
        let taken = answers.filter(|answer| answer.status.is_success());
        taken.filter_map(|answer| serde_json::from_slice(&answer.body).ok()).collect()
    }

    /// Tells every other member that lives that a node does; one that does not know it by this epoch hears its hello.
    pub(super) fn pass_heartbeat_on(&self, call: &Call<'_>, allowed: &Allowed, body: Bytes) {
        let Some(shards) = self.app.deciding.shards.as_ref().filter(|_| !is_forwarded(call.head)) else { return };
        let heartbeat = Forwarded::of(call.head, body);
        // The last one: a node may be called so.
        let Some((node, query)) = heartbeat.target.rsplit_once("/heartbeat") else { return };
        let hello = Forwarded { target: format!("{node}/hello{query}"), ..heartbeat.clone() };
        for member in shards.others() {
            let (peers, shards, patience) = (self.elsewhere.peers.clone(), Arc::clone(shards), self.patience());
            let (access, heartbeat, hello) = (Arc::clone(allowed.access()), heartbeat.clone(), hello.clone());
            tokio::task::spawn_local(async move {
                // One that cannot be told now is told by the next heartbeat.
                let told = peers.ask(&shards, &member, &access, &heartbeat, patience).await;
                if told.is_ok_and(|answer| answer.status == http::StatusCode::CONFLICT) {
                    let _ = peers.ask(&shards, &member, &access, &hello, patience).await;
                }
            });
        }
    }

    /// The answer to an acquire. A new seat that could not be recorded in time was given back, and is refused where the store
    /// has no answer; so is a denial by who may not be the one to decide any more.
    ///
    /// # Errors
    /// 503: the store answers, and was too slow for this time.
    pub(super) fn unless_unsettled(&self, decision: Decision, commit: Commit) -> Result<Decision, Problem> {
        let needs_record = matches!(
            decision.code,
            Code::AllowNew | Code::AllowOver | Code::AllowHeld | Code::DenyFull | Code::DenyConflict
        );
        if commit != Commit::Unknown || !needs_record {
            return Ok(decision);
        }
        let committer = self.app.deciding.committer.get();
        let journal = committer.and_then(|committer| committer.journal()?.cluster());
        if journal.is_some_and(|journal| journal.cut_off().is_none()) {
            return Err(Problem::unavailable(
                1,
                "the store of the cluster is slow; ask again, or apply on_unreachable",
            ));
        }
        Ok(Decision { code: Code::DenyInactive, detail: Detail::NoMajority, ttl_ms: None, ..decision })
    }

    /// A release was taken while the store had no answer. Should it turn out that another member decides by then, it hears
    /// of it.
    fn tell_release(&self, shard: Shard, body: &Bytes) {
        let Some(shards) = self.app.deciding.shards.clone() else { return };
        let Some(journal) = self.app.deciding.committer.get().and_then(|committer| committer.journal().cloned()) else {
            return;
        };
        let told = Rc::clone(&self.elsewhere.told);
        if told.get() >= TOLD_MAX {
            return;
        }
        told.set(told.get() + 1);
        let (peers, request) = (self.elsewhere.peers.clone(), Forwarded::post(Verb::Release.target(), body.clone()));
        let access = Access::new(shards.member(), Role::Node);
        tokio::task::spawn_local(async move {
            while shards.term(shard) != 0 && !journal.is_sure() {
                tokio::time::sleep(UNSETTLED_REST).await;
            }
            // Where it is decided here still, it is recorded by now.
            let _ = ask_owner(&peers, &shards, shard, &access, &request, TOLD_WITHIN).await;
            told.set(told.get() - 1);
        });
    }

    /// Asks every other member that lives the same, at the same time; gives each name, and its answer where there is one.
    pub(super) async fn ask_others(
        &self,
        access: &Access,
        request: &Forwarded,
        patience: Duration,
    ) -> Vec<(String, Option<PeerAnswer>)> {
        let Some(shards) = &self.app.deciding.shards else { return Vec::new() };
        let mut asked = tokio::task::JoinSet::new();
        for member in shards.others() {
            let (peers, shards) = (self.elsewhere.peers.clone(), Arc::clone(shards));
            let (access, request) = (access.clone(), request.clone());
            asked.spawn_local(async move {
                let answer = peers.ask(&shards, &member, &access, &request, patience).await;
                (member.name, answer.ok())
            });
        }
        asked.join_all().await
    }
}

impl Worker {
    /// Passes a message on where it is decided elsewhere, as it came. `is_free`: the call is allowed here, in spite of the
    /// problem.
    pub(super) async fn or_elsewhere<R>(
        &self,
        head: &request::Parts,
        body: &Bytes,
        caller: &Caller,
        decided: Result<R, Problem>,
        is_free: impl Fn(&Problem) -> bool,
    ) -> Result<Placed<R>, Problem> {
        let problem = match decided {
            Ok(decided) => return Ok(Placed::Here(decided)),
            Err(problem) => problem,
        };
        let (Some(shard), Ok(access)) = (problem.is_elsewhere(), caller) else { return Err(problem) };
        if is_forwarded(head) || is_free(&problem) {
            return Err(problem);
        }
        match self.ask_owner(Shard(shard), access, &Forwarded::of(head, body.clone())).await? {
            Asked::Answered(answer) => Ok(Placed::Elsewhere(passed_on(answer))),
            Asked::Here => Ok(Placed::Again),
        }
    }

    /// Has the owner of a shard decide a form.
    pub(super) async fn ask_form_elsewhere(
        &self,
        verb: Verb,
        shard: Shard,
        form: &Bytes,
        caller: &Caller,
    ) -> Result<Decision, Problem> {
        let access = caller.as_ref().map_err(Clone::clone)?;
        match self.ask_owner(shard, access, &Forwarded::form(verb.target(), form.clone())).await? {
            Asked::Answered(answer) => decision_of(&answer),
            Asked::Here => Err(Problem::elsewhere(shard.0)),
        }
    }

    /// The answer of a tenant's owner to a request about it; `None` where it is decided here.
    pub(super) async fn owners_answer(
        &self,
        tenant: &str,
        head: &request::Parts,
        body: &Bytes,
        access: &Access,
    ) -> Result<Option<Response<ReplyBody>>, Problem> {
        let Some(shard) = self.shard_elsewhere(tenant) else { return Ok(None) };
        if is_forwarded(head) {
            return Err(Problem::elsewhere(shard.0));
        }
        match self.ask_owner(shard, access, &Forwarded::of(head, body.clone())).await? {
            Asked::Answered(answer) => Ok(Some(passed_on(answer))),
            Asked::Here => Ok(None),
        }
    }

    /// Has the operations that were left to others decided, those of one owner in their order, and puts each answer where it
    /// belongs.
    pub(super) async fn with_left(
        &self,
        out: BytesMut,
        left: Vec<Left>,
        caller: &Caller,
        is_forwarded: bool,
    ) -> BytesMut {
        if left.is_empty() {
            return out;
        }
        let mut answers: Vec<Vec<u8>> = left.iter().map(|left| Problem::elsewhere(left.shard.0).to_json()).collect();
        let mut shards: Vec<Shard> = left.iter().map(|left| left.shard).collect();
        shards.sort();
        shards.dedup();
        for shard in shards {
            let (Ok(access), false) = (caller, is_forwarded) else { break };
            let mine: Vec<usize> = (0..left.len()).filter(|at| left[*at].shard == shard).collect();
            let ops: Vec<&[u8]> = mine.iter().map(|at| &*left[*at].op).collect();
            let body = [&b"{\"ops\":["[..], &ops.join(&b','), b"]}"].concat();
            let told = match self.ask_owner(shard, access, &Forwarded::post("/v1/batch", body)).await {
                Ok(Asked::Answered(answer)) => results(&answer.body).ok_or_else(|| answer.body.to_vec()),
                // It came here meanwhile: the sender asks again.
                Ok(Asked::Here) => continue,
                Err(problem) => Err(problem.to_json()),
            };
            for (number, at) in mine.iter().enumerate() {
                answers[*at] = match &told {
                    Ok(results) => results.get(number).cloned().unwrap_or_default(),
                    Err(problem) => problem.clone(),
                };
            }
        }
        let mut whole = BytesMut::with_capacity(out.len() + answers.iter().map(Vec::len).sum::<usize>());
        let mut from = 0;
        for (left, answer) in left.iter().zip(&answers) {
            whole.extend_from_slice(&out[from..left.at]);
            whole.extend_from_slice(answer);
            from = left.at;
        }
        whole.extend_from_slice(&out[from..]);
        whole
    }
}
