//! Starting and stopping: configuration, sockets, runtimes, recovery, drain.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::DateTime;
use parking_lot::Mutex;
use tokio::runtime::{self, Builder};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::daemon::api::Worker;
use crate::daemon::app::{App, CommitTimes, ConfigState, Journal, Knobs, ListenerInfo, Today};
use crate::daemon::clock::Clock;
use crate::daemon::config::{self, Address, Boot, Config, Word as _};
use crate::daemon::control;
use crate::daemon::events::Events;
use crate::daemon::http::auth::Role;
use crate::daemon::http::{self, Edge, EdgeStats, Listener, Protocol, tls};
use crate::daemon::journal::storage::Folder;
use crate::daemon::journal::sampler::Sampler;
use crate::daemon::journal::{Epoch, Journal as _, JournalError, LocalOptions, Shard};
use crate::daemon::log;
use crate::daemon::marks::Marks;
use crate::daemon::metrics::{BuildInfo, Metrics};
use crate::daemon::sync::keeper::{DiskAndState, Keeper};
use crate::daemon::sync::puller;
use crate::daemon::sync::status::Status as SyncStatus;
use crate::daemon::text::utc;
use crate::daemon::{reload, reload_request};
use crate::daemon::sockets::{Passed, Socket};
use crate::daemon::timeline::Timeline;
use crate::engine::Engine;

/// How a daemon is started.
pub struct Options {
    /// Its `usherd.toml`.
    pub config: PathBuf,
    /// Where it gets the time.
    pub clock: Arc<dyn Clock>,
    /// Sockets that the service manager passed; they take the place of those in the configuration.
    pub passed: Vec<Passed>,
    /// Whether it logs, to the standard error stream, and listens to signals.
    pub as_process: bool,
}

/// Why a daemon could not be started.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is bad, and there is no last good one.
    Config(Vec<config::Problem>),
    /// Something else; what was tried, and how it failed.
    Failed {
        /// What was tried.
        what: String,
        /// How it failed.
        why: String,
    },
}

impl StartError {
    fn failed(what: impl Into<String>, why: impl fmt::Display) -> Self {
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

/// A running daemon. Dropping it stops it.
pub struct Daemon {
    app: Arc<App>,
    stop: watch::Sender<bool>,
    ready: watch::Receiver<bool>,
    threads: Vec<JoinHandle<()>>,
}

/// A socket that every runtime serves, each by a handle of its own.
enum Bound {
    Tcp(SocketAddr, Vec<std::net::TcpListener>),
    Unix(Vec<std::os::unix::net::UnixListener>),
}

/// A listener before the runtimes are started.
struct Site {
    name: String,
    address: String,
    bound: Bound,
    protocol: Protocol,
    tls: Option<TlsAcceptor>,
    roles: Vec<Role>,
    stats: Arc<EdgeStats>,
}

impl Daemon {
    /// Starts a daemon. It listens when this returns, allows inbound and emergency calls, and decides as
    /// soon as its journal is recovered.
    ///
    /// # Errors
    /// The configuration, the sockets, or the state directory.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let now = options.clock.now();
        let utc = DateTime::from_timestamp_millis(now.utc_ms).unwrap_or_default();
        let from_systemd = std::env::var("STATE_DIRECTORY").ok();
        let files = DiskAndState { from_systemd: from_systemd.as_deref(), now: utc };
        let boot = config::load_for_boot(&files, &options.config, from_systemd.as_deref(), utc).map_err(StartError::Config)?;
        let log = match options.as_process {
            true => {
                let log = &boot.config.settings.log;
                Some(log::start(&log.filter, log.format).map_err(|why| StartError::failed("start logging", why))?)
            }
            false => None,
        };
        reload::log_warnings(&boot.config.warnings);
        let state_dir = boot.config.state_dir(from_systemd.as_deref());
        let (journal, epoch) = open_journal(&boot.config, &state_dir)?;
        let workers = workers(&boot.config);
        let sites = bind(&boot.config, options.passed, workers)?;
        let (reloads, reload_requests) = mpsc::channel(reload_request::QUEUE_MAX);
        let (keeper, problem) = Keeper::recall(&state_dir, &boot.config.settings, utc);
        if let Some(why) = problem {
            tracing::error!(why, "what is stored of the publisher of tenant records is not used; the next pull brings it anew");
        }
        let app = Arc::new(app(boot, &options.clock, &sites, reloads, log, workers, keeper)?);
        let (stop, stopped) = watch::channel(false);
        let (ready_sender, ready) = watch::channel(false);
        let mut threads = start_workers(&app, sites, workers, &stopped)?;
        let control = control::Control {
            app: Arc::clone(&app),
            journal,
            epoch,
            state_dir,
            reloads: reload_requests,
            stop: stop.clone(),
            ready: ready_sender,
            as_process: options.as_process,
        };
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || control.run());
        threads.push(thread.map_err(|why| StartError::failed("start the control thread", why))?);
        let (pulling, until) = (Arc::clone(&app), stopped);
        let thread = std::thread::Builder::new().name("sync".to_owned()).spawn(move || puller::run(&pulling, until));
        threads.push(thread.map_err(|why| StartError::failed("start the thread that pulls records", why))?);
        Ok(Daemon { app, stop, ready, threads })
    }

    /// What it consists of; for tests, and for who embeds it.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The TCP address of the main listener, or of the first there is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.app.listeners.iter().find_map(|listener| listener.address.parse().ok())
    }

    /// Waits until it decides; `false` where that took longer, or it ended before.
    pub fn wait_ready(&self, patience: Duration) -> bool {
        let mut ready = self.ready.clone();
        let Ok(runtime) = Builder::new_current_thread().enable_time().build() else { return false };
        runtime.block_on(async { tokio::time::timeout(patience, ready.wait_for(|ready| *ready)).await.is_ok_and(|r| r.is_ok()) })
    }

    /// Asks it to stop: no new connections, answers in progress are finished.
    pub fn stop(&self) {
        self.app.draining.store(true, Ordering::Release);
        self.stop.send_replace(true);
    }

    /// Waits until it has stopped; `false` where it ended because it could not go on, which is logged.
    pub fn wait(mut self) -> bool {
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.app.is_ready()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn open_journal(config: &Config, state_dir: &Path) -> Result<(Arc<Journal>, Epoch), StartError> {
    let folder = state_dir.join("journal");
    let failed = |why: &dyn fmt::Display| {
        StartError::failed(format!("use the state directory {}", state_dir.display()), format!("{why}; set [server] state_dir to a folder that this user may write"))
    };
    let storage = Folder::at(&folder).map_err(|why| failed(&why))?;
    let journal = &config.settings.journal;
    let options = LocalOptions {
        sync: journal.durability == config::Durability::Synced,
        segment_bytes_max: journal.segment_bytes,
        ..LocalOptions::default()
    };
    let journal = Arc::new(Journal::new(storage, options));
    match journal.acquire(Shard::ALL) {
        Ok(epoch) => Ok((journal, epoch)),
        Err(why @ JournalError::Locked) => {
            Err(StartError::failed(format!("use the state directory {}", state_dir.display()), format!("{why}; stop that one first")))
        }
        Err(why) => Err(failed(&why)),
    }
}

/// Runtimes that decide.
fn workers(config: &Config) -> usize {
    match config.settings.server.workers as usize {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        workers => workers.min(256),
    }
}

fn bind(config: &Config, passed: Vec<Passed>, workers: usize) -> Result<Vec<Site>, StartError> {
    let server = &config.settings.server;
    let mut sites = Vec::new();
    let plain = |name: String, address: String, bound: Bound| Site {
        name,
        address,
        bound,
        protocol: Protocol::Http1,
        tls: None,
        roles: Vec::new(),
        stats: Arc::default(),
    };
    for passed in passed {
        let bound = share(passed.socket, workers).map_err(|why| StartError::failed(format!("share the socket {}", passed.address), why))?;
        let name = if passed.name.is_empty() { format!("systemd-{}", sites.len()) } else { passed.name };
        sites.push(plain(name, passed.address, bound));
    }
    let is_passed = |address: &str| sites.iter().any(|site| site.address == address);
    let mut wanted = Vec::new();
    if let Some(listen) = server.listen.filter(|listen| !is_passed(&listen.to_string())) {
        wanted.push(("main".to_owned(), Address::Tcp(listen), None));
    }
    if !server.unix_socket.is_empty() && !is_passed(&server.unix_socket) {
        wanted.push(("unix".to_owned(), Address::Unix(server.unix_socket.clone()), None));
    }
    for (at, listener) in config.settings.listeners.iter().enumerate() {
        wanted.push((format!("listener-{}", at + 1), listener.address.clone(), Some(listener)));
    }
    for (name, address, listener) in wanted {
        let bound = bind_one(&address, workers)?;
        let shown = match &bound {
            Bound::Tcp(address, _) => address.to_string(),
            Bound::Unix(_) => match &address {
                Address::Unix(path) => path.clone(),
                Address::Tcp(address) => address.to_string(),
            },
        };
        let mut site = plain(name, shown, bound);
        if let Some(listener) = listener {
            site.protocol = match listener.protocol {
                config::Protocol::Http1 => Protocol::Http1,
                config::Protocol::H2c => Protocol::H2c,
                config::Protocol::Resp => Protocol::Resp,
            };
            site.tls = listener.tls.as_ref().map(|files| acceptor(config, files, site.protocol)).transpose()?;
            site.roles = listener.roles.iter().filter_map(|role| Role::from_word(role.as_str())).collect();
        }
        sites.push(site);
    }
    if sites.is_empty() {
        return Err(StartError::failed("listen", "there is neither [server] listen, nor unix_socket, nor a [[listener]]"));
    }
    Ok(sites)
}

fn bind_one(address: &Address, workers: usize) -> Result<Bound, StartError> {
    match address {
        Address::Tcp(address) => {
            let failed = |why: io::Error| {
                StartError::failed(format!("listen on {address}"), format!("{why}; is another daemon running? see [server] listen"))
            };
            let first = http::listener::bind_tcp(*address).map_err(failed)?;
            let address = first.local_addr().map_err(failed)?;
            let mut all = vec![first];
            for _ in 1..workers {
                all.push(http::listener::bind_tcp(address).map_err(failed)?);
            }
            Ok(Bound::Tcp(address, all))
        }
        Address::Unix(path) => {
            let failed = |why: io::Error| StartError::failed(format!("listen on {path}"), why);
            let socket = http::listener::bind_unix(Path::new(path)).map_err(failed)?;
            share(Socket::Unix(socket), workers).map_err(failed)
        }
    }
}

/// One handle of a socket for each runtime: whoever is free accepts.
fn share(socket: Socket, workers: usize) -> io::Result<Bound> {
    match socket {
        Socket::Tcp(socket) => {
            let address = socket.local_addr()?;
            let mut all = Vec::with_capacity(workers);
            for _ in 1..workers {
                all.push(socket.try_clone()?);
            }
            all.push(socket);
            Ok(Bound::Tcp(address, all))
        }
        Socket::Unix(socket) => {
            let mut all = Vec::with_capacity(workers);
            for _ in 1..workers {
                all.push(socket.try_clone()?);
            }
            all.push(socket);
            Ok(Bound::Unix(all))
        }
    }
}

fn acceptor(config: &Config, files: &config::Tls, protocol: Protocol) -> Result<TlsAcceptor, StartError> {
    let folder = config.main().parent().unwrap_or(Path::new("."));
    let read = |file: &str| {
        let path = folder.join(file);
        std::fs::read(&path).map_err(|why| StartError::failed(format!("read {}", path.display()), why))
    };
    let (certificates, key) = (read(&files.cert_file)?, read(&files.key_file)?);
    let authorities = (!files.client_ca_file.is_empty()).then(|| read(&files.client_ca_file)).transpose()?;
    let files = tls::TlsFiles {
        certificates: &certificates,
        key: &key,
        client_authorities: authorities.as_deref(),
        client_certificate_required: authorities.is_some(),
    };
    tls::acceptor(&files, protocol).map_err(|why| StartError::failed("use the TLS files of a [[listener]]", why))
}

fn app(
    boot: Boot,
    clock: &Arc<dyn Clock>,
    sites: &[Site],
    reloads: mpsc::Sender<reload_request::Request>,
    log: Option<log::LogControl>,
    workers: usize,
    keeper: Keeper,
) -> Result<App, StartError> {
    let now = clock.now();
    let config = &boot.config;
    let settings = &config.settings;
    let build = BuildInfo {
        version: env!("CARGO_PKG_VERSION"),
        revision: option_env!("USHERD_REVISION").unwrap_or("unknown"),
        rustc: option_env!("USHERD_RUSTC").unwrap_or("unknown"),
    };
    let metrics = Metrics::new(&build).map_err(|why| StartError::failed("register metrics", why))?;
    let state = ConfigState {
        loaded_utc_ms: now.utc_ms,
        successful: boot.problems.is_empty(),
        from_last_good: !boot.problems.is_empty(),
        problems: boot.problems,
    };
    let listeners = sites.iter().map(|site| ListenerInfo {
        name: site.name.clone(),
        address: site.address.clone(),
        roles: site.roles.clone(),
        stats: Arc::clone(&site.stats),
    });
    Ok(App {
        engine: Engine::new(settings.server.limits()),
        clock: Arc::clone(clock),
        // Ids go on from the time of day, so that those of an earlier run are seen as gone.
        events: Arc::new(Events::new(settings.events.buffered_max as usize, now.utc_ms.unsigned_abs())),
        metrics,
        edge: Arc::new(Edge::new(edge_limits(config))),
        listeners: listeners.collect(),
        auth: ArcSwap::from_pointee(reload::authenticator(config)),
        sampler: Mutex::new(Sampler::new(20, 60, 10_000)),
        timeline: Mutex::new(Timeline::new(now)),
        marks: Marks::default(),
        today: Today::default(),
        reloads,
        log,
        knobs: ArcSwap::from_pointee(Knobs::of(config, workers)),
        commits: Arc::new(CommitTimes::default()),
        boot: fastrand::u32(..),
        workers,
        // Records of the last good copy do not know when they were confirmed.
        running: config::Running::new(boot.config.confirmed(keeper.confirmed_at().unwrap_or_else(|| utc(now)))),
        keeper,
        sync_status: SyncStatus::default(),
        state: Mutex::new(state),
        committer: OnceLock::new(),
        damage: Mutex::new(None),
        ready: AtomicBool::new(false),
        draining: AtomicBool::new(false),
    })
}

fn edge_limits(config: &Config) -> http::Limits {
    let server = &config.settings.server;
    let ms = |ms: u32| Duration::from_millis(ms.into());
    let body_deadline = ms(server.body_deadline_ms);
    http::Limits {
        first_byte_deadline: ms(server.first_byte_deadline_ms),
        head_deadline: ms(server.head_deadline_ms),
        body_deadline,
        answer_deadline: body_deadline + Duration::from_secs(20),
        write_deadline: ms(server.write_deadline_ms),
        idle_deadline: Duration::from_secs(server.idle_deadline_s.into()),
        connection_age: Duration::from_secs(server.connection_age_s.into()),
        drain_deadline: ms(server.drain_deadline_ms),
        buf_bytes_max: server.max_head_bytes as usize,
        connections_max: server.connections_max,
        connections_reserved_for_nodes: server.connections_reserved_for_nodes,
        connections_per_address_max: server.connections_per_address_max,
        ..http::Limits::default()
    }
}

/// One thread, one runtime, one handle of every socket each.
fn start_workers(app: &Arc<App>, mut sites: Vec<Site>, workers: usize, stopped: &watch::Receiver<bool>) -> Result<Vec<JoinHandle<()>>, StartError> {
    let mut threads = Vec::with_capacity(workers);
    for number in 0..workers {
        let app = Arc::clone(app);
        let stopped = stopped.clone();
        let mine: Vec<_> = sites.iter_mut().filter_map(Site::handle).collect();
        let thread = std::thread::Builder::new().name(format!("decide-{number}")).spawn(move || {
            // One queue for everything: a `LocalSet` in a runtime would have a second one.
            let runtime = Builder::new_current_thread().enable_all().build_local(runtime::LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(work(app, number, mine, stopped)),
                Err(error) => tracing::error!(%error, number, "a runtime cannot be started"),
            }
        });
        threads.push(thread.map_err(|why| StartError::failed("start a thread", why))?);
    }
    Ok(threads)
}

/// What one runtime serves of a site.
struct Handle {
    name: String,
    socket: Socket,
    protocol: Protocol,
    tls: Option<TlsAcceptor>,
    stats: Arc<EdgeStats>,
}

impl Site {
    fn handle(&mut self) -> Option<Handle> {
        let socket = match &mut self.bound {
            Bound::Tcp(_, all) => Socket::Tcp(all.pop()?),
            Bound::Unix(all) => Socket::Unix(all.pop()?),
        };
        let (protocol, tls, stats) = (self.protocol, self.tls.clone(), Arc::clone(&self.stats));
        Some(Handle { name: self.name.clone(), socket, protocol, tls, stats })
    }
}

async fn work(app: Arc<App>, number: usize, handles: Vec<Handle>, stopped: watch::Receiver<bool>) {
    let worker = Rc::new(Worker::new(Arc::clone(&app), number));
    let mut serving = Vec::new();
    for handle in handles {
        let listener = match handle.socket {
            Socket::Tcp(socket) => Listener::tcp(&handle.name, socket, handle.protocol),
            Socket::Unix(socket) => Listener::unix(&handle.name, socket, handle.protocol),
        };
        let mut listener = match listener {
            Ok(listener) => listener.with_stats(handle.stats),
            Err(error) => {
                tracing::error!(%error, listener = handle.name, "a listener cannot be served");
                continue;
            }
        };
        if let Some(tls) = handle.tls {
            listener = listener.with_tls(tls);
        }
        let (worker, edge, stopped) = (Rc::clone(&worker), Arc::clone(&app.edge), stopped.clone());
        serving.push(tokio::task::spawn_local(http::serve(listener, worker, edge, stopped)));
    }
    for served in serving {
        if let Err(error) = served.await {
            tracing::error!(%error, "serving a listener ended in a panic");
        }
    }
}
