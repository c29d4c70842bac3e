//! What all parts of a running daemon share.

pub mod names;
pub mod node_addresses;
pub mod recorder;
pub mod reload_request;
pub mod timeline;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, NaiveDate};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use usherd_contract::node_calls::InventoryBody;
use usherd_engine::{Engine, Name, Now, TenantView};
use usherd_subscription::civil::{self, civil};
use usherd_subscription::entitlement::Timelines;

use crate::daemon::access::auth::{Access, Authenticator, Role};
use crate::daemon::clock::Clock;
use crate::daemon::config::{Config, Effective, Problem as ConfigProblem, Running};
use crate::daemon::edge;
use crate::daemon::edge::tls::Served;
use crate::daemon::edge::{Edge, EdgeStats};
use crate::daemon::events::Events;
use crate::daemon::history::History;
use crate::daemon::journal::sampler::Sampler;
use crate::daemon::journal::storage::Folder;
use crate::daemon::journal::watermarks::Marks;
use crate::daemon::journal::{Committer, Local, TurnWriter};
use crate::daemon::log::LogControl;
use crate::daemon::metrics::scrapes::Scrapes;
use crate::daemon::metrics::{HistogramStats, Metrics};
use crate::daemon::sync::keeper::{Confirmation, Keeper};
use crate::daemon::sync::status::Status as SyncStatus;
use crate::daemon::text::rfc3339;
use crate::daemon::webhook::board::Board;
use names::{Pseudonyms, Sight};
use node_addresses::NodeAddresses;
use reload_request::Request as ReloadRequest;
use timeline::Timeline;

/// The journal of a daemon on one machine.
pub type Journal = Local<Folder>;

/// What all parts of a running daemon share.
pub struct App {
    /// Who decides.
    pub engine: Engine,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// What happened lately.
    pub events: Arc<Events>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The scrapes that wait to be answered.
    pub scrapes: Arc<Scrapes>,
    /// Connection counts and limits of all listeners.
    pub edge: Arc<Edge>,
    /// The addresses of nodes, for the next start.
    pub node_addresses: Arc<NodeAddresses>,
    /// Counters of each listener, by name.
    pub listeners: Vec<ListenerInfo>,
    /// Who may do what.
    pub auth: ArcSwap<Authenticator>,
    /// Which denials are written to the audit trail in a storm.
    pub sampler: Mutex<Sampler>,
    /// Whether the wall clock can be trusted.
    pub timeline: Mutex<Timeline>,
    /// What the journal remembers beside the sessions.
    pub marks: Marks,
    /// Peaks and denials since midnight.
    pub today: Today,
    /// What stands for names that a reader may not see.
    pub pseudonyms: Pseudonyms,
    /// What was used and wanted over months.
    pub history: History,
    /// Where reloads are asked for.
    pub reloads: mpsc::Sender<ReloadRequest>,
    /// Changes what is logged.
    pub log: Option<LogControl>,
    /// Limits that a reload may change, at hand for every request.
    pub knobs: ArcSwap<Knobs>,
    /// How long commits of the journal took.
    pub commits: Arc<CommitTimes>,
    /// Marks the answers of this run.
    pub boot: u32,
    /// Runtimes that decide.
    pub workers: usize,
    /// What is held of the publisher of tenant records.
    pub keeper: Keeper,
    /// How pulling them went.
    pub sync_status: SyncStatus,
    /// What is shown of the webhooks.
    pub webhooks: Board,
    /// What is in force, and the one way in which it becomes another.
    pub running: Running,
    pub(super) state: Mutex<ConfigState>,
    pub(super) committer: OnceLock<Arc<Committer<Journal>>>,
    /// What was damaged in the journal at the start, until the nodes had time to report what they carry.
    pub(super) damage: Mutex<Option<String>>,
    pub(super) ready: AtomicBool,
    pub(super) draining: AtomicBool,
    /// It stopped before all that was decided was written.
    pub(super) unfinished: AtomicBool,
}

/// Limits that a reload may change, at hand for every request.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// Largest request body, bytes.
    pub body_bytes_max: usize,
    /// Largest inventory, bytes.
    pub inventory_bytes_max: usize,
    /// Most sessions of one inventory: what is made of them has room beside other bodies.
    pub inventory_sessions_max: usize,
    /// Most operations of one batch.
    pub batch_operations_max: usize,
    /// Requests in progress on one runtime beyond which new seats are turned away.
    pub in_flight_max: u32,
    /// For the next part of a body that is streamed.
    pub body_deadline: Duration,
    /// For the client to take the next part of an answer that is streamed.
    pub write_deadline: Duration,
}

impl Knobs {
    /// As configured, for this number of runtimes.
    pub fn of(config: &Config, workers: usize) -> Self {
        let server = &config.settings.server;
        Knobs {
            body_bytes_max: server.max_body_bytes as usize,
            inventory_bytes_max: server.max_inventory_bytes as usize,
            inventory_sessions_max: server.request_bodies_bytes_max as usize / 8 * 3 / InventoryBody::SESSION_BYTES,
            batch_operations_max: server.batch_operations_max as usize,
            in_flight_max: server.requests_in_flight_max.div_ceil(workers.max(1) as u32),
            body_deadline: Duration::from_millis(server.body_deadline_ms.into()),
            write_deadline: Duration::from_millis(server.write_deadline_ms.into()),
        }
    }
}

/// The limits of the edge as configured.
pub fn edge_limits(config: &Config) -> edge::Limits {
    let server = &config.settings.server;
    let ms = |ms: u32| Duration::from_millis(ms.into());
    let body_deadline = ms(server.body_deadline_ms);
    edge::Limits {
        first_byte_deadline: ms(server.first_byte_deadline_ms),
        head_deadline: ms(server.head_deadline_ms),
        body_deadline,
        answer_deadline: body_deadline + Duration::from_secs(20),
        write_deadline: ms(server.write_deadline_ms),
        idle_deadline: Duration::from_secs(server.idle_deadline_s.into()),
        connection_age: Duration::from_secs(server.connection_age_s.into()),
        drain_deadline: ms(server.drain_deadline_ms),
        buf_bytes_max: server.max_head_bytes as usize,
        bodies_bytes_max: server.request_bodies_bytes_max as usize,
        connections_max: server.connections_max,
        connections_reserved_for_nodes: server.connections_reserved_for_nodes,
        connections_per_address_max: server.connections_per_address_max,
        ..edge::Limits::default()
    }
}

/// How long commits of the journal took: a histogram that waits for nobody.
#[derive(Debug, Default)]
pub struct CommitTimes {
    counts: [AtomicU64; COMMIT_SECONDS.len() + 1],
    sum_ns: AtomicU64,
}

const COMMIT_SECONDS: [f64; 12] = [2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 2.5e-2, 1e-1, 1.0];

impl CommitTimes {
    /// A commit took so many nanoseconds.
    pub fn observe(&self, nanos: u64) {
        let seconds = nanos as f64 / 1e9;
        let bucket = COMMIT_SECONDS.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was observed so far.
    pub fn read(&self) -> CommitCounts {
        CommitCounts {
            counts: std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed)),
            sum_seconds: self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }
}

/// A reading of [`CommitTimes`].
#[derive(Clone, Copy, Debug)]
pub struct CommitCounts {
    counts: [u64; COMMIT_SECONDS.len() + 1],
    sum_seconds: f64,
}

impl CommitCounts {
    /// For the exposition.
    pub fn stats(&self) -> HistogramStats<'_> {
        HistogramStats { bounds_seconds: &COMMIT_SECONDS, counts: &self.counts, sum_seconds: self.sum_seconds }
    }
}

/// One listener of the daemon.
#[derive(Debug)]
pub struct ListenerInfo {
    /// What logs, metrics and problems call it.
    pub name: String,
    /// Where it listens: `127.0.0.1:7788`, or the path of a Unix socket.
    pub address: String,
    /// Whose requests it takes; empty: everybody's.
    pub roles: Vec<Role>,
    /// Whether it speaks HTTP/1 in the clear, so that the daemon can ask itself there.
    pub is_plain_http: bool,
    /// The certificate that it shows, where it speaks TLS.
    pub tls: Option<Arc<Served>>,
    /// Its counters.
    pub stats: Arc<EdgeStats>,
}

/// How the configuration in force came to be.
#[derive(Debug, Default)]
pub struct ConfigState {
    /// When it was taken up, milliseconds since 1970 UTC.
    pub loaded_utc_ms: i64,
    /// Whether the last attempt succeeded.
    pub successful: bool,
    /// What was wrong with the last attempt, until one succeeds.
    pub problems: Vec<ConfigProblem>,
    /// It comes from the last good copy, because the files were bad at the start.
    pub from_last_good: bool,
    /// Certificates of listeners that could not be used by the last attempt: those before are shown.
    pub certificates: Vec<ConfigProblem>,
    /// The settings that the daemon was started with.
    pub started: Vec<Effective>,
    /// Keys whose values were changed since, and take effect with the next start only.
    pub waits_for_restart: Vec<String>,
}

impl App {
    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.running.get()
    }

    /// The present instant.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// The wall clock as far as it is trusted, milliseconds since 1970 UTC (H5).
    pub fn trusted_utc_ms(&self, now: Now) -> i64 {
        let timelines = self.timelines(now);
        timelines.old.unwrap_or(timelines.wall).timestamp_millis()
    }

    /// Whether the wall clock is trusted (H5).
    pub fn is_clock_trusted(&self, now: Now) -> bool {
        self.timelines(now).old.is_none()
    }

    /// The timelines that subscriptions follow at an instant (H5).
    pub fn timelines(&self, now: Now) -> Timelines {
        self.timeline.lock().at(now)
    }

    /// When the publisher of synced records stands by them now; to be dated anew where nobody trusts the clock (H5).
    pub fn confirmation(&self, now: Now) -> Confirmation {
        let at = self.timelines(now);
        let doubted_uptime_ms = at.old.map(|_| now.uptime_ms);
        Confirmation { at: at.old.unwrap_or(at.wall), doubted_uptime_ms }
    }

    /// The clock is trusted from now on: what synced records were confirmed at is put right, and not in force yet.
    /// `false` where a reload is under way: then it is to be tried again.
    pub(super) fn redate_confirmation(&self, now: Now) -> bool {
        self.keeper.redate(now);
        self.keeper.confirmed_at().is_none_or(|at| self.running.try_confirm(at))
    }

    /// The civil date in the billing zone, by the wall clock as far as it is trusted.
    pub fn date(&self, now: Now) -> NaiveDate {
        let trusted = DateTime::from_timestamp_millis(self.trusted_utc_ms(now)).unwrap_or_default();
        civil(self.config().settings.time_zone.0, trusted).date()
    }

    /// Goes on with the day of before the start, as the history knows it.
    pub(super) fn begin_today(&self, now: Now) {
        let date = self.date(now);
        let midnight = civil::midnight(self.config().settings.time_zone.0, date, civil::Edge::Start);
        self.today.begin(date, self.history.since(midnight.timestamp()));
    }

    /// How somebody sees the names of subjects.
    pub fn sight(&self, access: &Access) -> Sight<'_> {
        Sight::new(&self.pseudonyms, access.sees_names())
    }

    /// Whether decisions are made: the journal is recovered and the configuration installed.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Whether a stop was asked for.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Commits what is decided; `None` before recovery.
    pub fn committer(&self) -> Option<&Arc<Committer<Journal>>> {
        self.committer.get()
    }

    /// A writer for one runtime; `None` before recovery.
    pub fn writer(&self) -> Option<TurnWriter<Journal>> {
        Some(self.committer()?.writer())
    }

    /// What was asked of the journal.
    pub fn durability(&self) -> &'static str {
        self.committer().map_or("none", |committer| committer.durability().as_str())
    }

    /// Who writes what is decided: `none`, `inline`, `hand-off` or `ring`.
    pub fn journal_form(&self) -> &'static str {
        self.committer().map_or("none", |committer| committer.form().as_str())
    }

    /// Why decisions are not durable at present, or what was lost at the start and is being learned again.
    pub fn degraded(&self) -> Option<String> {
        let damage = || self.damage.lock().clone();
        self.committer().and_then(|committer| committer.degraded()).or_else(damage)
    }

    /// The configuration's state, as `/v1/admin/config` and the overview show it.
    pub fn config_state(&self) -> Value {
        let state = self.state.lock();
        let problem = state.problems.first().map(|problem| problem.message.clone());
        let config = self.config();
        json!({
            "hash": config.hash,
            "loaded_at": rfc3339(state.loaded_utc_ms),
            "last_reload_successful": state.successful,
            "last_error": problem,
            "from_last_good": state.from_last_good,
            "waits_for_restart": state.waits_for_restart,
            "tenants_rejected": config.rejected.len(),
            "tenants_away": config.away.len(),
            "certificates_unusable": state.certificates.len(),
        })
    }
}

/// Peaks and denials since midnight in the billing zone, those of before a restart included.
#[derive(Debug, Default)]
pub struct Today(Mutex<Day>);

#[derive(Debug, Default)]
struct Day {
    date: NaiveDate,
    tenants: HashMap<Name, OfDay>,
}

/// What is known of one tenant's day. Its table counts denials since it was made, which may have been yesterday.
#[derive(Clone, Copy, Debug, Default)]
struct OfDay {
    peak: u32,
    /// Denials of today that the table does not count: of before a restart, or of a table that is gone.
    earlier: u64,
    /// Whose counts `from` and `seen` are; `None` before the first look.
    generation: Option<u64>,
    /// What the table had counted when the day began.
    from: u64,
    /// What it had counted when it was looked at last.
    seen: u64,
}

impl OfDay {
    fn follow(&mut self, view: &TenantView) {
        if self.generation != Some(view.generation) {
            self.earlier += self.seen.saturating_sub(self.from);
            (self.generation, self.from) = (Some(view.generation), 0);
        }
        self.seen = view.denials;
    }
}

/// What a tenant reached since midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TodayView {
    /// Most seats held at once.
    pub peak: u32,
    /// Denials.
    pub denials: u64,
}

impl Today {
    /// Begins with what the history knows of this date: of each tenant the peak and the denials.
    pub fn begin(&self, date: NaiveDate, known: HashMap<Name, (u32, u64)>) {
        let of_day = |(peak, earlier)| OfDay { peak, earlier, ..OfDay::default() };
        let tenants = known.into_iter().map(|(tenant, known)| (tenant, of_day(known))).collect();
        *self.0.lock() = Day { date, tenants };
    }

    /// Takes over the peak of a window that ended; a new date begins a new day.
    pub fn note(&self, date: NaiveDate, ended: &[(TenantView, u32)]) {
        let mut day = self.0.lock();
        if day.date != date {
            day.date = date;
            day.tenants.clear();
            for (view, _) in ended {
                let (generation, denials) = (Some(view.generation), view.denials);
                let begun = OfDay { peak: view.held, earlier: 0, generation, from: denials, seen: denials };
                day.tenants.insert(view.id.clone(), begun);
            }
            return;
        }
        for (view, peak) in ended {
            let known = day.tenants.entry(view.id.clone()).or_default();
            known.peak = known.peak.max(*peak);
            known.follow(view);
        }
    }

    /// What a tenant reached, up to this view of it.
    pub fn of(&self, tenant: &str, view: &TenantView) -> TodayView {
        let mut known = self.0.lock().tenants.get(tenant).copied().unwrap_or_default();
        known.follow(view);
        let denials = known.earlier + known.seen.saturating_sub(known.from);
        TodayView { peak: known.peak.max(view.peak_now), denials }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use usherd_engine::Standing;

    fn view(generation: u64, denials: u64, held: u32) -> TenantView {
        TenantView {
            id: "acme".into(),
            generation,
            standing: Standing::Active,
            quota: Some(9),
            held,
            peak: held,
            peak_now: held,
            sessions: 0,
            channels_inbound: 0,
            channels_outbound: 0,
            channels_limit: None,
            denials,
            seat_ms: None,
            saturated_ms: None,
            configured: true,
        }
    }

    #[test]
    fn today_is_the_history_plus_the_counts_of_the_table_since() {
        let (date, today) = (NaiveDate::from_ymd_opt(2026, 11, 22).unwrap(), Today::default());
        let of = |view: &TenantView| {
            let TodayView { peak, denials } = today.of("acme", view);
            (peak, denials)
        };
        today.begin(date, HashMap::from([("acme".into(), (5, 7))]));
        assert_eq!(of(&view(1, 0, 0)), (5, 7), "before the restart");
        assert_eq!(of(&view(1, 2, 6)), (6, 9), "and in the first five minutes");
        today.note(date, &[(view(1, 3, 2), 8)]);
        assert_eq!(of(&view(1, 4, 1)), (8, 11));
        assert_eq!(of(&view(2, 1, 1)), (8, 11), "a table that is gone took three with it, and one came since");
        today.note(date, &[(view(2, 1, 1), 1)]);
        assert_eq!(of(&view(2, 2, 1)), (8, 12));
        today.note(date.succ_opt().unwrap(), &[(view(2, 5, 3), 4)]);
        assert_eq!((of(&view(2, 5, 3)), of(&view(2, 6, 1))), ((3, 0), (3, 1)));
        today.begin(date, HashMap::new());
        assert_eq!(of(&view(1, 3, 1)), (1, 3), "a first run loses none");
    }
}
