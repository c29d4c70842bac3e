//! What all parts of a running daemon share.

mod commit_times;
mod knobs;
pub mod names;
pub mod node_addresses;
pub mod recorder;
pub mod reload_request;
pub mod timeline;
mod today;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use chrono::{DateTime, NaiveDate};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use usherd_engine::{Engine, Now};
use usherd_subscription::civil::{self, civil};
use usherd_subscription::entitlement::Timelines;

use crate::daemon::access::auth::{Access, Authenticator, Role};
use crate::daemon::clock::Clock;
use crate::daemon::config::{Config, Effective, Problem as ConfigProblem, Running};
use crate::daemon::edge::tls::Served;
use crate::daemon::edge::{Edge, EdgeStats};
use crate::daemon::events::Events;
use crate::daemon::history::History;
use crate::daemon::journal::sampler::Sampler;
use crate::daemon::journal::storage::Folder;
use crate::daemon::journal::watermarks::Marks;
use crate::daemon::journal::{Committer, Local, TurnWriter};
use crate::daemon::log::LogControl;
use crate::daemon::metrics::Metrics;
use crate::daemon::metrics::scrapes::Scrapes;
use crate::daemon::sync::keeper::{Confirmation, Keeper};
use crate::daemon::sync::status::Status as SyncStatus;
use crate::daemon::text::rfc3339;
use crate::daemon::webhook::board::Board;
pub use commit_times::{CommitCounts, CommitTimes};
pub use knobs::{Knobs, edge_limits};
use names::{Pseudonyms, Sight};
use node_addresses::NodeAddresses;
use reload_request::Request as ReloadRequest;
use timeline::Timeline;
pub use today::{Today, TodayView};

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
