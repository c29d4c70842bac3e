//! Acquire and release by the short way: a plain request that is decided as it stands, or left to the long way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::Method;
use usherd_contract::body::{AcquireBody, Body as _, ReleaseBody};
use usherd_contract::format::{BodyFormat, ReplyFormat};
use usherd_engine::{Decision, Now};

use super::ask::{Caller, Committed};
use super::{InFlight, Worker};
use crate::daemon::clock::monotonic_ns;
use crate::daemon::edge::{Peer, Plain};
use crate::daemon::http::reply::{self, DecisionContext, write_acquire, write_plain, write_release};
use crate::daemon::journal::Commit;
use crate::daemon::metrics::{self, Route};

/// The head of an answer, once that may go out.
pub(super) struct Head<'a> {
    worker: &'a Worker,
    committed: Committed<'a>,
    in_flight: Option<(metrics::InFlight<'a>, InFlight<'a>)>,
    route: Route,
    format: ReplyFormat,
    denied_as_status: bool,
    began_ns: u64,
}

impl Future for Head<'_> {
    type Output = Option<&'static str>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<&'static str>> {
        let commit = ready!(Pin::new(&mut self.committed).poll(cx));
        self.in_flight = None;
        if commit == Commit::Fenced {
            // The long way says so.
            return Poll::Ready(None);
        }
        let status = if self.denied_as_status { 403 } else { 200 };
        self.worker.shard.http(self.route, &Method::POST, status, monotonic_ns().saturating_sub(self.began_ns));
        Poll::Ready(Some(reply::head(self.format, self.denied_as_status, commit == Commit::NotDurable)))
    }
}

impl Worker {
    /// Decides a plain request of somebody who may ask, and writes the answer's body. Whatever is not in order is not
    /// decided: `None`.
    pub(super) fn answer_plain(&self, request: &Plain<'_>, body: &mut Vec<u8>, peer: &Peer) -> Option<Head<'_>> {
        // A cluster may have to pass it on, or to take it back: the long way knows how.
        if self.app.deciding.shards.is_some() {
            return None;
        }
        let route = match request.target {
            "/v1/acquire" => Route::Acquire,
            "/v1/release" => Route::Release,
            _ => return None,
        };
        let began_ns = monotonic_ns();
        let caller: Caller = Ok(self.known(request.host, request.authorization, peer)?);
        self.ready().ok()?;
        let format = BodyFormat::of(request.content_type, request.body)?;
        if request.body.len() > self.knobs().body_bytes_max || self.is_overloaded(100) {
            return None;
        }
        let in_flight = Some((self.shard.in_flight(), InFlight::new(&self.in_flight)));
        let answers = ReplyFormat::of(request.accept.into_iter(), format);
        let (now, written) = (self.app.deciding.clock.now(), (format, answers, body));
        let (committed, denied_as_status) = match route {
            Route::Acquire => self.acquire_plain(now, request.body, &caller, peer, written)?,
            _ => (self.release_plain(now, request.body, &caller, peer, written)?, false),
        };
        Some(Head { worker: self, committed, in_flight, route, format: answers, denied_as_status, began_ns })
    }

    fn acquire_plain(
        &self,
        now: Now,
        asked: &[u8],
        caller: &Caller,
        peer: &Peer,
        (format, answers, body): (BodyFormat, ReplyFormat, &mut Vec<u8>),
    ) -> Option<(Committed<'_>, bool)> {
        let read = AcquireBody::parse(asked, format, None).ok()?;
        let message = read.request().ok()?;
        let (decided, committed) =
            self.decide(now, |worker, group, events| worker.acquire_now(now, &message, caller, group, events));
        let decision = decided.ok()?;
        if message.node.is_some() {
            peer.mark_node();
        }
        self.write_decision((answers, body), &decision, |buffer, id| {
            write_acquire(buffer, &decision, &DecisionContext::acquire(&message, id));
        });
        Some((committed, read.wants_status() && decision.code.denies()))
    }

    fn release_plain(
        &self,
        now: Now,
        asked: &[u8],
        caller: &Caller,
        peer: &Peer,
        (format, answers, body): (BodyFormat, ReplyFormat, &mut Vec<u8>),
    ) -> Option<Committed<'_>> {
        let read = ReleaseBody::parse(asked, format, None).ok()?;
        let message = read.checked().ok()?;
        let (decided, committed) =
            self.decide(now, |worker, group, events| worker.release_now(now, &message, caller, group, events));
        let decision = decided.ok()?;
        if message.node.is_some() {
            peer.mark_node();
        }
        self.write_decision((answers, body), &decision, |buffer, id| {
            write_release(buffer, &decision, &DecisionContext::release(&message, id));
        });
        Some(committed)
    }

    /// Writes a decision as it was asked for; `json` with a number of its own.
    fn write_decision(
        &self,
        (answers, body): (ReplyFormat, &mut Vec<u8>),
        decision: &Decision,
        json: impl FnOnce(&mut BytesMut, &str),
    ) {
        match answers {
            ReplyFormat::Json => {
                let id = self.decision_id();
                self.write(body, |buffer| json(buffer, &id));
            }
            ReplyFormat::Plain => write_plain(body, decision),
        }
    }
}
