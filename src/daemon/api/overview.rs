//! The whole daemon at a glance (API 4).

use std::cmp::Reverse;
use std::sync::Arc;

use usherd_contract::word::Word;
use usherd_engine::{Engine, Kind, Now, PoolView};
use usherd_subscription::civil::TZ_DATA_VERSION;

use super::Worker;
use super::fullest::{Fullest, share};
use super::queries::name_of;
use super::routes::{Allowed, Call, HandlerResult};
use super::whole::Whole;
use crate::answers::Timestamp;
use crate::answers::events::Event;
use crate::answers::overview::{
    DENIALS_MAX, FULLEST_MAX, FullestRow, HistoryState, JournalState, KindCount, NextChangeOf, NodeCount, Overview,
    PoolRow, Time,
};
use crate::answers::words::{Band, WaitsFor};
use crate::daemon::app::names::Sight;
use crate::daemon::app::{App, Deciding};
use crate::daemon::config::Config;
use crate::daemon::events::{EventType, Events};
use crate::daemon::history::History;
use crate::daemon::http::Problem;
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::text::{rfc3339, utc};

/// `GET /v1/overview`
fn overview(app: &App, now: Now, sight: Sight<'_>) -> Overview {
    let App { deciding, publishing, configuration, serving } = app;
    let (engine, config) = (&deciding.engine, configuration.running.get());
    let (mut held, mut quota, mut over, mut tenants) = (0u64, 0u64, 0u64, 0u64);
    let mut in_band = [0u64; Band::ALL.len()];
    let mut fullest = Fullest::default();
    engine.each_tenant(now, |view| {
        if !deciding.decides(&view.id) {
            return;
        }
        tenants += 1;
        held += u64::from(view.held);
        quota += u64::from(view.quota.unwrap_or(0));
        over += u64::from(view.over());
        fullest.see(view);
        in_band[Band::of(view.held, view.quota) as usize] += 1;
    });
    let by_kind = Kind::ALL.iter().zip(engine.sessions_by_kind());
    let by_kind = by_kind.map(|(kind, [free, counting])| ((*kind).into(), KindCount { counting, free }));
    Overview {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: serving.is_ready(),
        at: rfc3339(now.utc_ms).into(),
        tenants,
        held,
        quota,
        over,
        bands: Band::ALL.iter().map(|band| (*band).into()).zip(in_band).collect(),
        fullest: fullest_rows(engine, &config, now, fullest),
        denials: denials(&publishing.events, sight),
        sessions: by_kind.collect(),
        pools: engine.pools().iter().map(pool_row).collect(),
        nodes: node_count(engine, now),
        journal: JournalState { durability: deciding.durability().into(), degraded: deciding.degraded() },
        config: configuration.show(),
        time: time(deciding, &config, now),
        next_change: next_change_of_all(&config, now),
        history: history(&publishing.history, &config),
        sync: configuration.sync_status.show(&config, &configuration.keeper, deciding.timelines(now)),
        missing: Vec::new(),
    }
}

fn pool_row(pool: &PoolView) -> PoolRow {
    PoolRow {
        pool: pool.id.to_string(),
        licensed: pool.licensed,
        unassigned: pool.unassigned(),
        assigned_unused: pool.assigned_unused(),
        in_use: pool.in_use,
        over: pool.over(),
    }
}

/// A name that never said hello has no lease to lose, and nobody waits for who said goodbye.
fn node_count(engine: &Engine, now: Now) -> NodeCount {
    let mut nodes = engine.nodes(now);
    nodes.retain(|node| node.epoch.is_some() && !node.left);
    let up = nodes.iter().filter(|node| node.up).count();
    NodeCount { up, silent: nodes.len() - up }
}

fn fullest_rows(engine: &Engine, config: &Config, now: Now, fullest: Fullest) -> Vec<FullestRow> {
    // One that a reload has just made unlimited is not full any more.
    let rows = fullest.ids().filter_map(|id| {
        let view = engine.tenant(now, &id)?;
        Some(FullestRow {
            tenant: view.id.to_string(),
            name: name_of(config, &view).to_owned(),
            quota: view.quota?,
            held: view.held,
            free: view.free()?,
            over: view.over(),
            band: Band::of(view.held, view.quota).into(),
        })
    });
    rows.collect()
}

/// The latest denials, the newest first.
fn denials(events: &Events, sight: Sight<'_>) -> Vec<Event> {
    let latest = events.latest(EventType::Denied, DENIALS_MAX);
    let lines = latest.iter().map(|(id, event)| sight.event(event).to_json(*id));
    lines.filter_map(|line| serde_json::from_str(&line).ok()).collect()
}

/// The records of the past.
fn history(history: &History, config: &Config) -> HistoryState {
    let status = history.status();
    let from = |at: Option<i64>| at.map(|at| rfc3339(at * 1_000).into());
    HistoryState {
        bytes: status.bytes,
        bytes_max: config.settings.history.bytes_max,
        from: from(status.from_s),
        detail_from: from(status.detail_from_s),
        problem: status.problem,
    }
}

/// By which time subscriptions go.
pub(super) fn time(deciding: &Deciding, config: &Config, now: Now) -> Time {
    let timeline = deciding.timeline.lock();
    let waits_for =
        timeline.wait(now).map(|wait| if wait.for_proof { WaitsFor::Confirmation } else { WaitsFor::TenMinutes });
    Time {
        zone: config.settings.time_zone.0.name().to_owned(),
        tz_data: TZ_DATA_VERSION.to_owned(),
        clock_steps: timeline.steps(),
        wall_clock_trusted: timeline.at(now).old.is_none(),
        waits_for: waits_for.map(Word::from),
        synchronised: deciding.clock.is_synchronised(),
    }
}

fn next_change_of_all(config: &Config, now: Now) -> Option<NextChangeOf> {
    let (at, id) = config.next_change(utc(now))?;
    let then = config.tenants.get(id)?.entitlement(at);
    Some(NextChangeOf {
        tenant: id.to_string(),
        at: rfc3339(at.timestamp_millis()).into(),
        seats: then.seats,
        state: then.state.into(),
    })
}

/// Figures of tenants are added up; nodes are those of who hears most of them; all else is of the member asked.
impl Whole for Overview {
    fn join(&mut self, others: Vec<Self>, missing: Vec<String>, _: usize) {
        self.missing = missing;
        for other in others {
            self.tenants += other.tenants;
            self.held += other.held;
            self.quota += other.quota;
            self.over += other.over;
            for (band, count) in other.bands {
                *self.bands.entry(band).or_default() += count;
            }
            for (kind, count) in other.sessions {
                let sum = self.sessions.entry(kind).or_default();
                sum.counting += count.counting;
                sum.free += count.free;
            }
            let known = (self.nodes.up + self.nodes.silent).max(other.nodes.up + other.nodes.silent);
            self.nodes.up = self.nodes.up.max(other.nodes.up);
            self.nodes.silent = known - self.nodes.up;
            self.fullest.extend(other.fullest);
            self.denials.extend(other.denials);
            self.journal.degraded = self.journal.degraded.take().or(other.journal.degraded);
        }
        self.fullest.sort_by_cached_key(|row| (Reverse((share(row.held, row.quota), row.held)), row.tenant.clone()));
        self.fullest.truncate(FULLEST_MAX);
        // Stable: of one member they are in the right order.
        self.denials.sort_by_key(|event| Reverse(event.at.as_ref().and_then(Timestamp::instant)));
        self.denials.truncate(DENIALS_MAX);
    }
}

impl Worker {
    /// `GET /v1/overview`
    pub(super) async fn overview(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let access = Arc::clone(allowed.access());
        if !access.tenants.is_empty() {
            let detail = format!("{} is for some tenants only; ask for each at /v1/tenants/{{tenant}}", access.id);
            return Err(Problem::new(ProblemKind::NotPermitted, detail));
        }
        let now = self.app.deciding.clock.now();
        let read = move |app: &App| Ok(overview(app, now, app.publishing.sight(&access)));
        self.answer_whole(call, &allowed, usize::MAX, read).await
    }
}
