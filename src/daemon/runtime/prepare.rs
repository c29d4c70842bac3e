//! A daemon before its sockets and threads: configuration read, journal opened, everything in its place.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::DateTime;
use tokio::sync::{mpsc, watch};
use usherd_engine::Now;

use super::announce::log_warnings;
use super::certificates::{self, folder};
use super::control::Control;
use super::shards::Joining;
use super::signals::outlive_file_size_limit;
use super::take_up::authenticator;
use crate::daemon::api::Worker;
use crate::daemon::app::node_addresses::NodeAddresses;
use crate::daemon::app::reload_request;
use crate::daemon::app::{
    App, ConfigState, Configuration, Deciding, Journal, ListenerInfo, Publishing, Serving, edge_limits,
};
use crate::daemon::clock::Clock;
use crate::daemon::config::{self, Boot, Config};
use crate::daemon::edge::Edge;
use crate::daemon::events::Events;
use crate::daemon::history::History;
use crate::daemon::history::store::Limits as HistoryLimits;
use crate::daemon::journal::ring_file::{left_ring, open_ring};
use crate::daemon::journal::storage::Folder;
use crate::daemon::journal::{Epoch, Journal as _, JournalError, Local, LocalOptions, Shard};
use crate::daemon::log;
use crate::daemon::metrics::{BuildInfo, Metrics};
use crate::daemon::sync::keeper::{DiskAndState, Keeper};
use crate::daemon::text::utc;

/// Why a daemon could not be started.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is bad, and there is no last good one.
    Config(Vec<config::Problem>),
    /// Something else; what was tried, and how it failed.
    Failed {
        /// The step that was tried.
        what: String,
        /// How it failed.
        why: String,
    },
}

impl StartError {
    pub(super) fn failed(what: impl Into<String>, why: impl fmt::Display) -> Self {
        StartError::Failed { what: what.into(), why: why.to_string() }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(problems) => f.write_str(&config::render_problems(problems, false)),
            StartError::Failed { what, why } => write!(f, "cannot {what}: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A daemon before its sockets and threads.
pub struct Prepared {
    boot: Boot,
    clock: Arc<dyn Clock>,
    as_process: bool,
    log: Option<log::LogControl>,
    journal: Arc<Journal>,
    epoch: Epoch,
    joining: Option<Joining>,
    state_dir: PathBuf,
    keeper: Keeper,
}

impl Prepared {
    /// Reads the configuration and takes the state directory. `as_process`: it logs, and listens to signals.
    ///
    /// # Errors
    /// The configuration, or the state directory.
    pub fn new(config: &Path, clock: Arc<dyn Clock>, as_process: bool) -> Result<Self, StartError> {
        let now = clock.now();
        let utc = DateTime::from_timestamp_millis(now.utc_ms).unwrap_or_default();
        let from_systemd = std::env::var("STATE_DIRECTORY").ok();
        let files = DiskAndState { from_systemd: from_systemd.as_deref() };
        let boot = config::load_for_boot(&files, config, from_systemd.as_deref(), utc).map_err(StartError::Config)?;
        let log = match as_process {
            true => {
                let log = &boot.config.settings.log;
                Some(log::start(&log.filter, log.format).map_err(|why| StartError::failed("start logging", why))?)
            }
            false => None,
        };
        if as_process && let Err(error) = outlive_file_size_limit() {
            tracing::warn!(%error, "a limit on the size of files will end this process instead of failing a write");
        }
        log_warnings(&boot.config.warnings);
        let state_dir = boot.config.state_dir(from_systemd.as_deref());
        let (journal, epoch, joining) = match &boot.config.settings.cluster {
            None => {
                let (journal, epoch) = open_journal(&boot.config, &state_dir)?;
                (journal, epoch, None)
            }
            Some(section) => {
                let joining =
                    Joining::new(&boot.config, section).map_err(|why| StartError::failed("join the cluster", why))?;
                (Arc::new(Journal::Cluster(Arc::clone(&joining.journal))), Epoch::EACH, Some(joining))
            }
        };
        let (keeper, problem) = Keeper::recall(&state_dir, &boot.config.settings);
        if let Some(why) = problem {
            tracing::error!(
                why,
                "what is stored of the publisher of tenant records is not used; the next pull fetches it again"
            );
        }
        Ok(Prepared { boot, clock, as_process, log, journal, epoch, joining, state_dir, keeper })
    }

    /// The configuration that it starts with.
    pub fn config(&self) -> &Config {
        &self.boot.config
    }

    /// Puts it together for these listeners, and as many runtimes that decide.
    pub(super) fn control(self, listeners: Vec<ListenerInfo>, workers: usize) -> Result<Control, StartError> {
        let now = self.clock.now();
        let (reloads, reload_requests) = mpsc::channel(reload_request::QUEUE_MAX);
        let config = &self.boot.config;
        let mut deciding = Deciding::new(now, config, self.clock, workers);
        deciding.shards = self.joining.as_ref().map(|joining| Arc::clone(&joining.shards));
        let publishing = publishing(now, config, &self.state_dir, self.log)?;
        let serving = serving(config, &self.state_dir, listeners);
        let configuration = configuration(now, self.boot, reloads, self.keeper);
        let app = App {
            deciding: Arc::new(deciding),
            publishing: Arc::new(publishing),
            configuration: Arc::new(configuration),
            serving: Arc::new(serving),
        };
        Ok(Control {
            app,
            journal: self.journal,
            epoch: self.epoch,
            joining: self.joining,
            state_dir: self.state_dir,
            reloads: reload_requests,
            stop: watch::Sender::new(false),
            ready: watch::Sender::new(false),
            as_process: self.as_process,
            on_one_thread: false,
        })
    }

    /// A daemon on the caller's runtime, clock and connections: for simulations, and for who embeds it.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub fn embedded(self) -> Result<Embedded, StartError> {
        let control = Control { on_one_thread: true, ..self.control(Vec::new(), 1)? };
        Ok(Embedded { control })
    }
}

/// A daemon without sockets and threads of its own. Give each connection to
/// [`serve_stream`](crate::daemon::edge::serve_stream) with one [`Worker`] for all, and run [`Embedded::run`] beside
/// them.
pub struct Embedded {
    control: Control,
}

impl Embedded {
    /// The parts of the daemon.
    pub fn app(&self) -> &App {
        &self.control.app
    }

    /// Answers its requests.
    pub fn worker(&self) -> Worker {
        Worker::new(self.control.app.clone(), 0)
    }

    /// Recovers the journal, then does what is due, until the future is dropped; inside a `LocalSet`. Dropping
    /// is as a crash: what was answered is in the journal.
    ///
    /// # Errors
    /// The journal cannot be read, which is what ends it.
    pub async fn run(self) -> Result<(), JournalError> {
        self.control.serve().await
    }
}

fn open_journal(config: &Config, state_dir: &Path) -> Result<(Arc<Journal>, Epoch), StartError> {
    let folder = state_dir.join("journal");
    let failed = |why: &dyn fmt::Display| {
        StartError::failed(
            format!("use the state directory {}", state_dir.display()),
            format!("{why}; set [server] state_dir to a folder that this user may write"),
        )
    };
    let storage = Folder::at(&folder).map_err(|why| failed(&why))?;
    let journal = &config.settings.journal;
    let options = LocalOptions {
        sync: journal.durability == config::Durability::Synced,
        segment_bytes_max: journal.segment_bytes,
        ..LocalOptions::default()
    };
    let journal = Local::new(storage, options);
    match journal.acquire(Shard::ALL) {
        Ok(epoch) => {
            give_ring(config, &folder, &journal);
            Ok((Arc::new(Journal::Local(Box::new(journal))), epoch))
        }
        Err(why @ JournalError::Locked) => Err(StartError::failed(
            format!("use the state directory {}", state_dir.display()),
            format!("{why}; stop that one first"),
        )),
        Err(why) => Err(failed(&why)),
    }
}

/// Lets decisions wait for the disk in memory, where that is wanted and possible. What an earlier run left there is
/// read in any case.
fn give_ring(config: &Config, folder: &Path, journal: &Local<Folder>) {
    let settings = &config.settings.journal;
    if settings.ring_dir.is_empty() {
        return;
    }
    let ring_dir = Path::new(&settings.ring_dir);
    if settings.durability != config::Durability::Written {
        if let Some(ring) = left_ring(ring_dir, folder) {
            journal.set_ring(ring);
        }
        return;
    }
    match open_ring(ring_dir, folder, settings.ring_bytes) {
        Ok(ring) => journal.set_ring(ring),
        Err(why) if settings.ring_dir == config::Journal::default().ring_dir => {
            tracing::info!(why, "no ring: answers wait for the thread that writes, 40 ms at most");
        }
        Err(why) => tracing::warn!(why, "journal.ring_dir cannot be used: answers wait for the thread that writes"),
    }
}

fn publishing(
    now: Now,
    config: &Config,
    state_dir: &Path,
    log: Option<log::LogControl>,
) -> Result<Publishing, StartError> {
    let settings = &config.settings;
    let history = History::open(state_dir, now.utc_ms, HistoryLimits::of(&settings.history));
    let build = BuildInfo {
        version: env!("CARGO_PKG_VERSION"),
        revision: option_env!("USHERD_REVISION").unwrap_or("unknown"),
        rustc: option_env!("USHERD_RUSTC").unwrap_or("unknown"),
    };
    let metrics = Metrics::new(&build).map_err(|why| StartError::failed("register metrics", why))?;
    // Ids go on from the time of day, so that those of an earlier run are seen as gone.
    let events = Events::new(settings.events.buffered_max as usize, now.utc_ms.unsigned_abs());
    Ok(Publishing::new(events, metrics, history, log))
}

fn serving(config: &Config, state_dir: &Path, listeners: Vec<ListenerInfo>) -> Serving {
    let edge = Edge::new(edge_limits(config));
    let node_addresses = NodeAddresses::recall(state_dir, edge.gate());
    Serving::new(listeners, edge, node_addresses)
}

fn configuration(
    now: Now,
    boot: Boot,
    reloads: mpsc::Sender<reload_request::Request>,
    keeper: Keeper,
) -> Configuration {
    let config = &boot.config;
    let state = ConfigState {
        loaded_utc_ms: now.utc_ms,
        successful: boot.problems.is_empty(),
        from_last_good: !boot.problems.is_empty(),
        problems: boot.problems,
        certificates: certificates::look(&config.settings, folder(config), utc(now)),
        started: config.effective.clone(),
        waits_for_restart: Vec::new(),
    };
    // Records of the last good copy do not know when they were confirmed.
    let running = config::Running::new(config.confirmed(keeper.confirmed_at().unwrap_or_else(|| utc(now))));
    running.away_since(now.uptime_ms);
    Configuration::new(running, authenticator(config), reloads, keeper, state)
}
