//! A tenant in depth, put together from several answers, and what is read out of one answer more than once.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use usherd_contract::words::Kind;

use crate::answers::events::Event;
use crate::answers::sessions::{SessionRow, SubjectRow};
use crate::answers::tenants::{Tenant, TenantFigures};
use crate::answers::usage::{Usage, UsagePoint};

/// A subject that holds a seat, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Holder {
    /// The subject.
    pub subject: String,
    /// The claims, the oldest first; none where the seat lingers after the last.
    pub claims: Vec<SessionRow>,
}

/// One tenant in depth.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Detail {
    /// The tenant.
    pub tenant: Tenant,
    /// The holders of seats, by name.
    pub holders: Vec<Holder>,
    /// Sessions by kind: with a claim, without.
    pub sessions: Vec<(&'static str, u64, u64)>,
    /// True if there is more than was read.
    pub cut: bool,
    /// How full it was, point by point; empty where the daemon keeps no history.
    pub usage: Vec<(DateTime<Utc>, UsagePoint)>,
}

impl Detail {
    /// A tenant with its sessions, its subjects and its usage.
    pub(super) fn new(
        tenant: Tenant,
        sessions: &[SessionRow],
        subjects: Vec<SubjectRow>,
        usage: &Usage,
        cut: bool,
    ) -> Self {
        let seated = subjects.into_iter().filter(|row| row.seated).map(|row| row.subject);
        Detail {
            tenant,
            holders: holders(sessions, seated),
            sessions: by_kind(sessions),
            cut,
            usage: usage.usage.iter().filter_map(|point| Some((point.at.instant()?, point.clone()))).collect(),
        }
    }
}

fn holders(sessions: &[SessionRow], seated: impl Iterator<Item = String>) -> Vec<Holder> {
    let mut claims: BTreeMap<&str, Vec<SessionRow>> = BTreeMap::new();
    for session in sessions.iter().filter(|session| session.counts) {
        claims.entry(session.subject.as_deref().unwrap_or_default()).or_default().push(session.clone());
    }
    let names: BTreeSet<String> = seated.chain(claims.keys().map(|&subject| subject.to_owned())).collect();
    names
        .into_iter()
        .map(|subject| {
            let mut claims = claims.remove(subject.as_str()).unwrap_or_default();
            claims.sort_by_cached_key(|claim| (claim.started.instant(), claim.session.clone()));
            Holder { subject, claims }
        })
        .collect()
}

fn by_kind(sessions: &[SessionRow]) -> Vec<(&'static str, u64, u64)> {
    let count = |kind: &str, counts: bool| {
        sessions.iter().filter(|session| *session.kind == *kind && session.counts == counts).count() as u64
    };
    let all = Kind::ALL.iter().map(|kind| kind.as_str()).map(|kind| (kind, count(kind, true), count(kind, false)));
    all.filter(|(_, claims, free)| claims + free > 0).collect()
}

/// Held over quota; unlimited is never full, and a seat of none is more than full.
pub(super) fn fullness(of: &TenantFigures) -> f64 {
    match of.quota {
        None => 0.0,
        Some(0) if of.held == 0 => 0.0,
        Some(0) => f64::INFINITY,
        Some(quota) => f64::from(of.held) / f64::from(quota),
    }
}

/// `desktop d1`, `outbound call c7`
pub(super) fn described(session: &SessionRow) -> String {
    joined([session.direction.as_deref(), Some(&session.kind), Some(&session.session)], " ")
}

/// Seats held and the quota after an event, as `10/10`; empty where it does not tell them.
pub(super) fn seats_after(event: &Event) -> String {
    let quota = event.quota.flatten().map_or_else(|| "unlim".to_owned(), |quota| quota.to_string());
    event.held.map(|held| format!("{held}/{quota}")).unwrap_or_default()
}

/// The words that are there.
pub(super) fn joined<const N: usize>(words: [Option<&str>; N], gap: &str) -> String {
    words.into_iter().flatten().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(gap)
}
