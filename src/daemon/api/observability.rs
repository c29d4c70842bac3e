//! For machines that watch (API 6): metrics, liveness, readiness, service discovery.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use usherd_subscription::entitlement::State;

use super::cluster;
use super::routes::{Call, HandlerResult};
use super::{Worker, json, overview, text, typed};
use crate::answers::overview::{Ready, ReadyConfig};
use crate::answers::words::DurabilityNow;
use crate::daemon::access::auth::{Asked, RouteClass};
use crate::daemon::app::{App, Configuration, ListenerInfo};
use crate::daemon::config::Config;
use crate::daemon::edge::stats::{AcceptError, Broken, Deadline, Refusal};
use crate::daemon::http::{Problem, ReplyBody};
use crate::daemon::journal::Journal as _;
use crate::daemon::log::panics;
use crate::daemon::metrics::{
    CONTENT_TYPE as EXPOSITION, ChangeKind, ConfigState, EventStats, Faults, JournalStats, ListenerFaults, Metrics,
    ScheduledChange, ScrapeInput, ScrapeShard, service_discovery,
};
use crate::daemon::text::utc;

impl Worker {
    /// True if the caller of an open route may read everything.
    fn is_reader(&self, call: &Call<'_>) -> bool {
        let mut auth = self.auth.borrow_mut();
        let asked = Asked::Head { head: call.head, by_any_name: false };
        auth.load().recognise(asked, call.peer, || self.app.deciding.clock.now().uptime_ms).is_some_and(|access| {
            let may_read = access.tenants.is_empty() && access.may(RouteClass::Read, None);
            may_read && self.need_listener(access, call.peer).is_ok()
        })
    }

    /// The process answers; whether it decides is for `/readyz`.
    pub(super) fn livez(&self) -> Response<ReplyBody> {
        typed(StatusCode::OK, "text/plain", Bytes::from_static(b"ok\n"))
    }

    /// Checks that decisions are made.
    pub(super) fn ready(&self) -> Result<(), Problem> {
        if self.app.serving.is_ready() {
            return Ok(());
        }
        Err(Problem::unavailable(1, "the journal is being read; inbound and emergency calls are allowed meanwhile"))
    }

    /// `GET /readyz[?verbose]`. What is wrong is told in words to who may read everything, for these may name files and
    /// tenants; all others see what is well and what is not.
    pub(super) fn readyz(&self, call: &Call<'_>) -> HandlerResult {
        let (deciding, serving) = (&self.app.deciding, &self.app.serving);
        let ready = serving.is_ready() && !serving.is_draining();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        if !call.query()?.is_set("verbose")? {
            let body = if ready { &b"ok\n"[..] } else { b"not ready\n" };
            return Ok(typed(status, "text/plain", Bytes::from_static(body)));
        }
        let (degraded, config) = (deciding.degraded(), self.app.configuration.show());
        let durability = if degraded.is_some() { DurabilityNow::Degraded } else { deciding.durability().into() };
        let mut answer = Ready {
            ready,
            recovered: serving.is_ready(),
            draining: serving.is_draining(),
            durability: durability.into(),
            config: ReadyConfig::Outcome(config.outcome.clone()),
            ..Ready::default()
        };
        if self.is_reader(call) {
            let config_in_force = self.app.configuration.running.get();
            answer.degraded = Some(degraded);
            answer.journal_form = Some(deciding.journal_form().into());
            answer.config = ReadyConfig::Whole(config);
            answer.time = Some(overview::time(deciding, &config_in_force, deciding.clock.now()));
            answer.cluster = cluster::status(deciding);
        }
        Ok(typed(status, "application/json", text(&answer)))
    }

    /// `GET /metrics[?shard=i/n]`
    pub(super) async fn metrics(&self, call: &Call<'_>) -> HandlerResult {
        if self.is_overloaded(50) {
            return Err(Problem::unavailable(5, "too many requests at once: scrapes are the first to wait"));
        }
        let query = call.query()?;
        let shard = match query.get("shard") {
            None => None,
            Some(word) => {
                Some(ScrapeShard::parse(&word).ok_or_else(|| query.fault("shard", "must be i/n, as 3/16".to_owned()))?)
            }
        };
        call.peer.room_for_answer()?;
        let app = self.app.clone();
        let scraped = self
            .app
            .publishing
            .scrapes
            .get(shard, move || scrape(&app, shard).map(|text| app.serving.edge.answers().hold(text)));
        let body = scraped.await.ok_or_else(|| Problem::unavailable(5, "the scrape failed; see the log"))?;
        let mut response = Response::new(ReplyBody::shared(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(EXPOSITION));
        Ok(response)
    }

    /// `GET /v1/prometheus/sd`
    pub(super) fn service_discovery(&self, call: &Call<'_>) -> HandlerResult {
        let host = call.head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let target = host
            .map(str::to_owned)
            .or_else(|| self.app.serving.listeners.first().map(|listener| listener.address.clone()));
        let shards = self.app.publishing.metrics.shards_offered(self.app.configuration.running.get().tenants.len());
        Ok(json(&service_discovery(&[target.as_deref().unwrap_or("")], shards)))
    }
}

/// One exposition; `None` where it cannot be encoded, which is logged.
fn scrape(app: &App, shard: Option<ScrapeShard>) -> Option<Bytes> {
    let App { deciding, publishing, configuration, serving } = app;
    let now = deciding.clock.now();
    let config = configuration.running.get();
    let in_force = deciding.timelines(now);
    let state_of =
        |tenant: &str| config.tenants.get(tenant).map_or(State::Ended, |tenant| tenant.entitlement(in_force).state);
    let connections: Vec<(&str, u64)> =
        serving.listeners.iter().map(|listener| (listener.name.as_str(), listener.stats.open())).collect();
    let mut scheduled = scheduled(&config, utc(now));
    scheduled.retain(|change| deciding.decides(change.tenant));
    let state = config_state(configuration, &config);
    let commits = deciding.commits.read();
    let degraded = deciding.degraded().is_some();
    let journal = deciding.committer.get().and_then(|committer| {
        let counters = committer.journal()?.counters();
        Some(JournalStats {
            records: counters.records(),
            bytes: counters.bytes(),
            errors: counters.errors(),
            not_durable: committer.not_durable(),
            ring_used_ratio: committer.ring_used_ratio(),
            commits: commits.stats(),
            degraded,
        })
    });
    let decides = |tenant: &str| deciding.decides(tenant);
    let input = ScrapeInput {
        engine: &deciding.engine,
        now,
        subscription_state: &state_of,
        connections: &connections,
        request_bodies_bytes: serving.edge.bodies().used(),
        answers_bytes: serving.edge.answers().used(),
        answers_refused: serving.edge.answers().refused(),
        config: state,
        scheduled: &scheduled,
        journal: journal.unwrap_or_default(),
        events: EventStats {
            subscribers: u64::from(publishing.events.subscribers()),
            dropped: publishing.events.dropped(),
        },
        clock_steps: deciding.timeline.lock().steps(),
        cluster: cluster::stats(deciding, &decides),
    };
    see_faults(&publishing.metrics, &serving.listeners, deciding.engine.impossible_total());
    let mut out = Vec::with_capacity(64 << 10);
    match publishing.metrics.render(&input, shard, &mut out) {
        Ok(()) => {
            out.shrink_to_fit();
            Some(out.into())
        }
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            None
        }
    }
}

/// The next booking of each tenant.
fn scheduled(config: &Config, at: DateTime<Utc>) -> Vec<ScheduledChange<'_>> {
    let booked = config.tenants.values().filter_map(|tenant| {
        let change_at = tenant.entitlement(at).next_change_at?;
        let (before, then) = (tenant.entitlement(at), tenant.entitlement(change_at));
        let kind = match (before.seats, then.seats) {
            _ if then.state == State::Ended => ChangeKind::Cancellation,
            (Some(before), Some(then)) if then < before => ChangeKind::Reduction,
            (None, Some(_)) => ChangeKind::Reduction,
            // Another state with the same seats, such as a sync that runs out: nothing was booked.
            (before, then) if before == then => return None,
            _ => ChangeKind::Increase,
        };
        let at_utc_ms = change_at.timestamp_millis();
        Some(ScheduledChange { tenant: tenant.id.as_str(), at_utc_ms, kind, seats: then.seats })
    });
    booked.collect()
}

/// Tells the metrics what went wrong at the edge and elsewhere.
fn see_faults(metrics: &Metrics, listeners: &[ListenerInfo], impossible: u64) {
    let listeners: Vec<_> = listeners
        .iter()
        .map(|listener| {
            let stats = &listener.stats;
            ListenerFaults {
                listener: &listener.name,
                refused: Refusal::ALL.iter().map(|why| (why.as_str(), stats.refused(*why))).collect(),
                deadlines: Deadline::ALL.iter().map(|which| (which.as_str(), stats.ended_by(*which))).collect(),
                broken: Broken::ALL.iter().map(|why| (why.as_str(), stats.broken_by(*why))).collect(),
                accept_errors: AcceptError::ALL
                    .iter()
                    .map(|why| (why.as_str(), stats.accept_errors_by(*why)))
                    .collect(),
            }
        })
        .collect();
    metrics.see_faults(&Faults { listeners: &listeners, panics: panics::seen(), impossible });
}

/// The configuration as seen from outside.
fn config_state(configuration: &Configuration, config: &Config) -> ConfigState {
    let state = configuration.state.lock();
    ConfigState {
        last_reload_successful: state.successful,
        last_success_utc_ms: state.loaded_utc_ms,
        tenants_rejected: config.rejected.len() as u64,
        hash: config.hash.get(..12).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0),
    }
}
