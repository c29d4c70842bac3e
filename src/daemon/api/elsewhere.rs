//! Messages for tenants that another daemon of the cluster decides: passed on, one hop and no more.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, request};
use tokio::time::{Instant, timeout_at};
use usherd_contract::problem;
use usherd_engine::{Code, Decision, Detail};

use super::verb::Verb;
use crate::daemon::access::auth::Access;
use crate::daemon::cluster::{FORWARDED, Forwarded, PeerAnswer, Peers, Session, Shards};
use crate::daemon::http::problem::{ELSEWHERE, ProblemKind};
use crate::daemon::http::{Problem, ReplyBody};
use crate::daemon::journal::Shard;

/// Before an owner that did not answer is asked again.
const REST: Duration = Duration::from_millis(20);

/// A shard with the fence by which a decision was made.
pub(super) type Term = (Shard, u64);

/// The meaning of a turn of decisions for the answer that tells of it.
#[derive(Default)]
pub(super) struct Stake {
    /// The terms by which it was decided.
    pub(super) terms: Vec<Term>,
    /// Sessions in it that took a seat, or whose seat may not be recorded yet.
    pub(super) seated: Vec<Session>,
    /// One of these was there before: its record is that of another turn.
    pub(super) is_shared: bool,
    /// Releases in it, as they would be sent.
    pub(super) released: Vec<(Shard, Bytes)>,
    /// Denials in it.
    pub(super) denied: u32,
    /// Decisions in it.
    pub(super) decisions: u32,
    /// Those of calls that are allowed in any case, so that their answers wait for nothing.
    pub(super) free: u32,
}

/// An operation that is to be decided elsewhere, and where its answer belongs in what is being written.
pub(super) struct Left {
    pub(super) at: usize,
    pub(super) shard: Shard,
    pub(super) op: Bytes,
}

/// A message as a form that is to be decided elsewhere, and where its answer belongs.
pub(super) struct LeftForm {
    pub(super) at: usize,
    pub(super) shard: Shard,
    pub(super) verb: Verb,
    pub(super) form: Bytes,
    pub(super) wants_json: bool,
}

/// The part of a runtime that has to do with other daemons.
#[derive(Default)]
pub(super) struct Elsewhere {
    pub(super) peers: Peers,
    /// Of what is being decided.
    pub(super) stake: RefCell<Stake>,
    /// The operations of what is being decided that are left to others.
    pub(super) left: RefCell<Vec<Left>>,
    /// The same of messages that are forms.
    pub(super) forms: RefCell<Vec<LeftForm>>,
    /// Calls of which an owner is being told.
    pub(super) told: Rc<Cell<u32>>,
}

/// The end of an attempt to have something decided elsewhere.
pub(super) enum Asked {
    /// By the owner.
    Answered(PeerAnswer),
    /// The shard is decided here by now.
    Here,
}

/// The decision that an answer tells.
pub(super) fn decision_of(answer: &PeerAnswer) -> Result<Decision, Problem> {
    let wrong = || Problem::unavailable(1, "another daemon of the cluster answered what this one does not know");
    if !answer.status.is_success() {
        let problem: problem::Problem<'_> = serde_json::from_slice(&answer.body).map_err(|_| wrong())?;
        let kind = ProblemKind::from_word(&problem.kind).ok_or_else(wrong)?;
        return Err(Problem::new(kind, problem.detail.into_owned()));
    }
    let told: usherd_contract::answers::Decision = serde_json::from_slice(&answer.body).map_err(|_| wrong())?;
    Ok(Decision {
        code: Code::from_word(&told.code).ok_or_else(wrong)?,
        detail: Detail::from_word(&told.detail).unwrap_or(Detail::None),
        first: told.first.as_ref().and_then(|code| Code::from_word(code)),
        held: told.held,
        quota: told.quota,
        ttl_ms: told.ttl_s.map(|ttl_s| ttl_s.saturating_mul(1_000)),
        retry_after_s: told.retry_after_s.unwrap_or_default(),
        sip_code: told.sip_code.unwrap_or_default(),
    })
}

/// The answers of a batch, each as it was written.
pub(super) fn results(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    #[derive(serde::Deserialize)]
    struct Results<'a> {
        #[serde(borrow)]
        results: Vec<&'a serde_json::value::RawValue>,
    }
    let read: Results<'_> = serde_json::from_slice(body).ok()?;
    Some(read.results.iter().map(|result| result.get().as_bytes().to_vec()).collect())
}

/// True if another daemon asks, in whose stead nobody else is asked again.
pub(super) fn is_forwarded(head: &request::Parts) -> bool {
    head.headers.contains_key(FORWARDED)
}

/// An answer of another daemon, as this one's.
pub(super) fn passed_on(answer: PeerAnswer) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::full(answer.body));
    *response.status_mut() = answer.status;
    for (name, value) in &answer.headers {
        let is_of_connection = [http::header::CONNECTION, http::header::CONTENT_LENGTH, http::header::DATE]
            .contains(name)
            || *name == http::header::TRANSFER_ENCODING;
        if !is_of_connection {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    response
}

pub(super) async fn ask_owner(
    peers: &Peers,
    shards: &Arc<Shards>,
    shard: Shard,
    access: &Access,
    request: &Forwarded,
    patience: Duration,
) -> Result<Asked, Problem> {
    let until = Instant::now() + patience;
    let mut changes = shards.changes();
    let mut why = format!("nobody owns shard {} at present", shard.0);
    loop {
        changes.mark_unchanged();
        if shards.term(shard) != 0 {
            return Ok(Asked::Here);
        }
        let owners = shards.owners();
        let owner = owners.owner(shard).filter(|owner| owner.is_alive && owner.name != shards.member());
        if let Some(owner) = owner {
            let left = until.saturating_duration_since(Instant::now());
            match peers.ask(shards, owner, access, request, left).await {
                // It may have lost the shard a moment ago.
                Ok(answer) if answer.headers.contains_key(ELSEWHERE) => why = format!("shard {} moves", shard.0),
                Ok(answer) => return Ok(Asked::Answered(answer)),
                Err(error) => why = format!("{}, which owns shard {}: {error}", owner.name, shard.0),
            }
        }
        if Instant::now() >= until {
            return Err(Problem::unavailable(1, format!("{why}; ask again, or apply on_unreachable")));
        }
        // Whatever changes, and at the latest after a moment, it is looked again.
        let _ = timeout_at((Instant::now() + REST).min(until), changes.changed()).await;
    }
}
