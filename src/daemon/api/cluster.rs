//! The cluster: as this member sees it, and as its operators change it.

use std::time::Duration;

use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use usherd_contract::answers::Done;

use super::bodies::{HandOver, Leave};
use super::elsewhere::{is_forwarded, passed_on};
use super::routes::{Allowed, Call, HandlerResult};
use super::{Worker, json};
use crate::answers::cluster::{Cluster, ClusterCounts, ClusterMember, ClusterStatus, HandedOver, Leaving};
use crate::daemon::app::{App, Deciding, EtcdHealth, Membership};
use crate::daemon::cluster::{Counts, Forwarded, Owners, Reason, Shards};
use crate::daemon::http::Problem;
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::journal::{Audit, AuditKind, Shard};
use crate::daemon::metrics::ClusterStats;

/// Largest body, bytes.
const BODY_BYTES_MAX: usize = 4_096;
/// How long it is waited until a shard has its new owner.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(2);

/// The state of the cluster; `None` where the daemon belongs to none.
pub(super) fn status(deciding: &Deciding) -> Option<ClusterStatus> {
    let shards = deciding.shards.as_ref()?;
    let owners = shards.owners();
    let owned = |name: &str| {
        let mine = owners.of.iter().enumerate().filter(|(_, owner)| owner.as_deref() == Some(name));
        mine.map(|(shard, _)| shard as u32).collect()
    };
    let members = owners.members.iter().map(|member| ClusterMember {
        name: member.name.clone(),
        advertise: member.advertise.clone(),
        version: member.version.clone(),
        alive: member.is_alive,
        leaving: member.is_leaving,
        shards: owned(&member.name),
    });
    let journal = deciding.committer.get().and_then(|committer| committer.journal()?.cluster());
    Some(ClusterStatus {
        member: shards.member().to_owned(),
        members: members.collect(),
        missing: shards.missing().into_iter().map(|shard| shard.0).collect(),
        proven_ms_ago: journal.and_then(|journal| journal.proven_ago()).map(|ago| ago.as_millis() as u64),
        cut_off: shards.refused().or_else(|| journal.and_then(|journal| journal.cut_off())),
        owners: owners.of.clone(),
    })
}

/// The cluster for a scrape; `None` where the daemon belongs to none.
pub(super) fn stats<'a>(deciding: &'a Deciding, decides: &'a dyn Fn(&str) -> bool) -> Option<ClusterStats<'a>> {
    let shards = deciding.shards.as_ref()?;
    let (seen, counts) = (shards.owners(), &shards.counts);
    let owner = |name: &Option<String>| {
        let name = name.clone().unwrap_or_default();
        let is_alive = seen.member(&name).is_some_and(|member| member.is_alive);
        (name, is_alive)
    };
    Some(ClusterStats {
        decides,
        owners: seen.of.iter().map(owner).collect(),
        proven_age_seconds: proven_ago(deciding).map(|ago| ago.as_secs_f64()),
        takeovers: takeovers(counts).collect(),
        forwarded: Counts::read(&counts.forwarded),
        fenced: Counts::read(&counts.fenced),
        provisional: Counts::read(&counts.provisional),
        refused: Counts::read(&counts.refused),
    })
}

fn takeovers(counts: &Counts) -> impl Iterator<Item = (&'static str, u64)> {
    Reason::ALL.iter().zip(&counts.taken).map(|(reason, count)| (reason.as_str(), Counts::read(count)))
}

/// How long ago the last transaction was sent that was committed.
fn proven_ago(deciding: &Deciding) -> Option<Duration> {
    deciding.committer.get()?.journal()?.cluster()?.proven_ago()
}

/// `GET /v1/cluster`; waits for etcd.
fn whole(app: &App) -> Result<Cluster, Problem> {
    let deciding = &app.deciding;
    let (shards, status) = deciding.shards.as_ref().zip(status(deciding)).ok_or_else(on_one_machine)?;
    let EtcdHealth { endpoints, alarms } = membership(deciding)?.etcd_health();
    Ok(Cluster { status, etcd: endpoints, alarms, counts: counts(&shards.counts) })
}

fn counts(counts: &Counts) -> ClusterCounts {
    let read = Counts::read;
    ClusterCounts {
        forwarded: read(&counts.forwarded),
        fenced: read(&counts.fenced),
        provisional: read(&counts.provisional),
        refused: read(&counts.refused),
        takeovers: takeovers(counts).map(|(reason, count)| (reason.to_owned(), count)).collect(),
    }
}

fn on_one_machine() -> Problem {
    Problem::new(ProblemKind::NotFound, "this daemon belongs to no cluster: usherd.toml has no [cluster]")
}

fn membership(deciding: &Deciding) -> Result<&Membership, Problem> {
    deciding.membership.get().ok_or_else(|| Problem::unavailable(1, "the daemon does not take part in its cluster yet"))
}

/// A body in JSON.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::malformed("the body is not as it must be").error("", error.to_string()))
}

/// Checks a hand-over against what is seen.
fn check(asked: &HandOver, owners: &Owners) -> Result<(), Problem> {
    if asked.shard as usize >= owners.of.len() {
        let last = owners.of.len().saturating_sub(1);
        return Err(Problem::malformed("there is no such shard").error("/shard", format!("must be 0 to {last}")));
    }
    let to: String = asked.to.chars().take(64).collect();
    match owners.member(&asked.to) {
        None => {
            let known: Vec<&str> = owners.members.iter().map(|member| member.name.as_str()).collect();
            let what = format!("must be one of {}", known.join(", "));
            Err(Problem::malformed(format!("the cluster has no member {to:?}")).error("/to", what))
        }
        Some(member) if !member.is_alive => {
            Err(Problem::new(ProblemKind::Conflict, format!("{to} shows no sign of life; see `usherd cluster status`")))
        }
        Some(member) if member.is_leaving => {
            let detail =
                format!("{to} is leaving and would give it away again; `usherd cluster leave --stay` there first");
            Err(Problem::new(ProblemKind::Conflict, detail))
        }
        Some(_) => Ok(()),
    }
}

/// Waits until a shard has this owner; false where that takes too long.
async fn has_owner(shards: &Shards, shard: Shard, name: &str) -> bool {
    let until = Instant::now() + HANDED_OVER_WITHIN;
    let mut changes = shards.changes();
    loop {
        changes.mark_unchanged();
        if shards.owners().owner(shard).is_some_and(|owner| owner.name == name) {
            return true;
        }
        if !matches!(timeout_at(until, changes.changed()).await, Ok(Ok(()))) {
            return false;
        }
    }
}

impl Worker {
    /// `GET /v1/cluster`
    pub(super) async fn cluster(&self, allowed: Allowed) -> HandlerResult {
        let access = allowed.access();
        if !access.tenants.is_empty() {
            let detail = format!("{} is for some tenants only, and the cluster is everybody's", access.id);
            return Err(Problem::new(ProblemKind::NotPermitted, detail));
        }
        if self.app.deciding.shards.is_none() {
            return Err(on_one_machine());
        }
        self.answer_blocking(whole).await
    }

    /// `POST /v1/cluster/handover` with `shard` and `to`
    pub(super) async fn hand_over(&self, call: &Call<'_>, allowed: Allowed, body: Incoming) -> HandlerResult {
        let shards = self.app.deciding.shards.as_ref().ok_or_else(on_one_machine)?;
        let body = call.peer.collect(body, BODY_BYTES_MAX).await?;
        let asked: HandOver = read(&body)?;
        let owners = shards.owners();
        check(&asked, &owners)?;
        let shard = Shard(asked.shard);
        let nobody = || Problem::unavailable(1, format!("nobody owns shard {} at present", asked.shard));
        let owner = owners.owner(shard).filter(|owner| owner.is_alive).ok_or_else(nobody)?;
        if owner.name == asked.to {
            let detail = format!("{} owns shard {} already", asked.to, asked.shard);
            return Err(Problem::new(ProblemKind::Conflict, detail));
        }
        if shards.term(shard) == 0 {
            // Also where it is this one's by what was seen last: it is being read, or was lost a moment ago.
            if owner.name == shards.member() || is_forwarded(call.head) {
                return Err(Problem::unavailable(1, format!("shard {} moves; ask again", asked.shard)));
            }
            let request = Forwarded::of(call.head, body.clone());
            let patience = HANDED_OVER_WITHIN + self.patience();
            let told = self.elsewhere.peers.ask(shards, owner, allowed.access(), &request, patience).await;
            let failed =
                |why| Problem::unavailable(1, format!("{}, which owns shard {}: {why}", owner.name, asked.shard));
            return told.map(passed_on).map_err(failed);
        }
        let control = &membership(&self.app.deciding)?.control;
        self.note_order(&allowed, &format!("hand shard {} over to {}", asked.shard, asked.to)).await;
        control.hand_over(shard, asked.to.clone());
        let done = has_owner(shards, shard, &asked.to).await;
        let (from, to) = (shards.member().to_owned(), asked.to);
        Ok(json(&HandedOver { code: Done::Ok.into(), shard: asked.shard, from, to, done }))
    }

    /// `POST /v1/cluster/leave` with `leave`
    pub(super) async fn leave(&self, call: &Call<'_>, allowed: Allowed, body: Incoming) -> HandlerResult {
        let shards = self.app.deciding.shards.as_ref().ok_or_else(on_one_machine)?;
        let Leave { leave } = read(&call.peer.collect(body, BODY_BYTES_MAX).await?)?;
        let control = &membership(&self.app.deciding)?.control;
        self.note_order(&allowed, if leave { "leave the cluster" } else { "take part in the cluster again" }).await;
        control.leave(leave);
        Ok(json(&Leaving { code: Done::Ok.into(), member: shards.member().to_owned(), leaving: leave }))
    }

    /// Keeps in log and audit trail who ordered something.
    async fn note_order(&self, allowed: &Allowed, text: &str) {
        let actor = &allowed.access().id;
        tracing::info!(actor, "{text}");
        let now = self.app.deciding.clock.now();
        let (_, committed) = self.decide(now, |_, group, _| {
            if let Some(group) = group {
                group.audit(&Audit { actor, text, ..Audit::new(AuditKind::Admin) });
            }
        });
        committed.await;
    }
}
