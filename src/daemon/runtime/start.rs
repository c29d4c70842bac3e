//! Starting and stopping: configuration, sockets, runtimes, recovery, drain.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{self, Builder};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::dispatcher;
use super::prepare::{Prepared, StartError};
use super::puller;
use super::sockets::{Passed, Socket};
use crate::daemon::access::auth::Role;
use crate::daemon::api::Worker;
use crate::daemon::app::{App, ListenerInfo};
use crate::daemon::clock::Clock;
use crate::daemon::config::{self, Address, ClientCertificates, Config};
use crate::daemon::edge;
use crate::daemon::edge::tls::Served;
use crate::daemon::edge::{EdgeStats, Listener, Protocol, tls};
use crate::daemon::log::panics;

/// How a daemon is started.
pub struct Options {
    /// Its `usherd.toml`.
    pub config: PathBuf,
    /// Where it gets the time.
    pub clock: Arc<dyn Clock>,
    /// Sockets that the service manager passed; they take the place of those in the configuration.
    pub passed: Vec<Passed>,
    /// True if it logs, to the standard error stream, and listens to signals.
    pub as_process: bool,
}

/// A running daemon. Dropping it stops it.
pub struct Daemon {
    app: App,
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
    served: Option<Arc<Served>>,
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
        panics::watch();
        let clock = Arc::clone(&options.clock);
        let prepared = Prepared::new(&options.config, clock, options.as_process)?;
        let workers = workers(prepared.config());
        let sites = bind(prepared.config(), options.passed, workers)?;
        let listeners = sites.iter().map(|site| ListenerInfo {
            name: site.name.clone(),
            address: site.address.clone(),
            roles: site.roles.clone(),
            is_plain_http: site.protocol == Protocol::Http1 && site.tls.is_none(),
            tls: site.served.clone(),
            stats: Arc::clone(&site.stats),
        });
        let control = prepared.control(listeners.collect(), workers)?;
        let (app, stop, ready) = (control.app.clone(), control.stop.clone(), control.ready.subscribe());
        let stopped = stop.subscribe();
        let mut threads = start_workers(&app, sites, workers, &stopped)?;
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || control.run());
        threads.push(thread.map_err(|why| StartError::failed("start the control thread", why))?);
        let (carrying, until) = (app.clone(), stopped.clone());
        let thread =
            std::thread::Builder::new().name("webhooks".to_owned()).spawn(move || dispatcher::run(&carrying, until));
        threads.push(thread.map_err(|why| StartError::failed("start the thread of the webhooks", why))?);
        let (pulling, until) = (app.clone(), stopped);
        let thread = std::thread::Builder::new().name("sync".to_owned()).spawn(move || puller::run(&pulling, until));
        threads.push(thread.map_err(|why| StartError::failed("start the thread that pulls records", why))?);
        Ok(Daemon { app, stop, ready, threads })
    }

    /// The parts of the daemon; for tests, and for code that embeds it.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// The TCP address of the main listener, or of the first there is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.app.serving.listeners.iter().find_map(|listener| listener.address.parse().ok())
    }

    /// Waits until it decides; `false` where that took longer, or it ended before.
    pub fn wait_ready(&self, patience: Duration) -> bool {
        let mut ready = self.ready.clone();
        let Ok(runtime) = Builder::new_current_thread().enable_time().build() else { return false };
        runtime.block_on(async {
            tokio::time::timeout(patience, ready.wait_for(|ready| *ready)).await.is_ok_and(|r| r.is_ok())
        })
    }

    /// Asks it to stop: no new connections, answers in progress are finished.
    pub fn stop(&self) {
        self.app.serving.set_draining();
        self.stop.send_replace(true);
    }

    /// Waits until it has stopped; `false` where it ended because it could not go on, or without its disk, which is
    /// logged.
    pub fn wait(mut self) -> bool {
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.app.serving.is_ready() && !self.app.serving.is_unfinished()
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

/// Runtimes that decide.
fn workers(config: &Config) -> usize {
    match config.settings.server.workers as usize {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        workers => workers.min(256),
    }
}

/// The name of the listener of `[agi]`; a socket that the service manager passes by this name speaks FastAGI, too.
const AGI: &str = "agi";

fn bind(config: &Config, passed: Vec<Passed>, workers: usize) -> Result<Vec<Site>, StartError> {
    let server = &config.settings.server;
    let mut sites = Vec::new();
    let plain = |name: String, address: String, bound: Bound| Site {
        protocol: if name == AGI { Protocol::Agi } else { Protocol::Http1 },
        name,
        address,
        bound,
        tls: None,
        served: None,
        roles: Vec::new(),
        stats: Arc::default(),
    };
    for passed in passed {
        let bound = share(passed.socket, workers)
            .map_err(|why| StartError::failed(format!("share the socket {}", passed.address), why))?;
        let for_scripts = config.settings.agi.listen.is_some_and(|listen| listen.to_string() == passed.address);
        let name = match passed.name {
            _ if for_scripts => AGI.to_owned(),
            name if name.is_empty() => format!("systemd-{}", sites.len()),
            name => name,
        };
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
    if let Some(listen) = config.settings.agi.listen.filter(|listen| !is_passed(&listen.to_string())) {
        wanted.push((AGI.to_owned(), Address::Tcp(listen), None));
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
            let tls = listener.tls.as_ref().map(|files| acceptor(config, files, site.protocol)).transpose()?;
            (site.tls, site.served) = tls.unzip();
            site.roles = listener.roles.iter().filter_map(|role| Role::from_word(role.as_str())).collect();
        }
        sites.push(site);
    }
    if sites.is_empty() {
        return Err(StartError::failed(
            "listen",
            "there is neither [server] listen, nor unix_socket, nor a [[listener]]",
        ));
    }
    Ok(sites)
}

fn bind_one(address: &Address, workers: usize) -> Result<Bound, StartError> {
    match address {
        Address::Tcp(address) => {
            let failed = |why: io::Error| {
                StartError::failed(
                    format!("listen on {address}"),
                    format!("{why}; is another daemon running? see [server] listen"),
                )
            };
            let first = edge::listener::bind_tcp(*address).map_err(failed)?;
            let address = first.local_addr().map_err(failed)?;
            let mut all = vec![first];
            for _ in 1..workers {
                all.push(edge::listener::bind_tcp(address).map_err(failed)?);
            }
            Ok(Bound::Tcp(address, all))
        }
        Address::Unix(path) => {
            let failed = |why: io::Error| StartError::failed(format!("listen on {path}"), why);
            let socket = edge::listener::bind_unix(Path::new(path)).map_err(failed)?;
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

fn acceptor(
    config: &Config,
    files: &config::Tls,
    protocol: Protocol,
) -> Result<(TlsAcceptor, Arc<Served>), StartError> {
    let (cert_file, key_file) = (&files.cert_file, &files.key_file);
    let folder = config.main().parent().unwrap_or(Path::new("."));
    let read = |file: &str| {
        let path = folder.join(file);
        std::fs::read(&path).map_err(|why| StartError::failed(format!("read {}", path.display()), why))
    };
    let (certificates, key) = (read(cert_file)?, read(key_file)?);
    let authorities = (!files.client_ca_file.is_empty()).then(|| read(&files.client_ca_file)).transpose()?;
    let pem = tls::TlsFiles {
        certificates: &certificates,
        key: &key,
        client_authorities: authorities.as_deref(),
        client_certificate_required: files.client_certificates == ClientCertificates::Required,
    };
    let failed = |why| StartError::failed("use the TLS files of a [[listener]]", why);
    let (acceptor, certificate) = tls::acceptor(&pem, protocol).map_err(failed)?;
    Ok((acceptor, Arc::new(Served { certificate, cert_file: folder.join(cert_file), key_file: folder.join(key_file) })))
}

/// Tasks that a runtime runs before it looks whether other sockets are ready: a call waits for no more than these.
const TASKS_BETWEEN_SOCKETS: u32 = 16;

/// Threads beside each of those that decide, for what reads or changes much: they take turns, so that many readers
/// cannot take the processors from decisions.
const THREADS_ASIDE: usize = 4;
/// How much these stand back where there are fewer processors than work: a third of the share of who decides.
const NICENESS_ASIDE: i32 = 5;

/// One thread, one runtime, one handle of every socket each.
fn start_workers(
    app: &App,
    mut sites: Vec<Site>,
    workers: usize,
    stopped: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let mut threads = Vec::with_capacity(workers);
    for number in 0..workers {
        let app = app.clone();
        let stopped = stopped.clone();
        let mine: Vec<_> = sites.iter_mut().filter_map(Site::handle).collect();
        let thread = std::thread::Builder::new().name(format!("decide-{number}")).spawn(move || {
            // One queue for everything: a `LocalSet` in a runtime would have a second one.
            let runtime = Builder::new_current_thread()
                .enable_all()
                .event_interval(TASKS_BETWEEN_SOCKETS)
                .max_blocking_threads(THREADS_ASIDE)
                .on_thread_start(stand_back)
                .build_local(runtime::LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(work(app, number, mine, stopped)),
                Err(error) => tracing::error!(%error, number, "a runtime cannot be started"),
            }
        });
        threads.push(thread.map_err(|why| StartError::failed("start a thread", why))?);
    }
    Ok(threads)
}

/// Makes the calling thread, on Linux it alone, give way to those that decide.
fn stand_back() {
    // Without it, it works all the same.
    let _ = rustix::process::nice(NICENESS_ASIDE);
}

/// The part of a site that one runtime serves.
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

async fn work(app: App, number: usize, handles: Vec<Handle>, stopped: watch::Receiver<bool>) {
    let edge = Arc::clone(&app.serving.edge);
    let worker = Rc::new(Worker::new(app, number));
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
        let (worker, edge, stopped) = (Rc::clone(&worker), Arc::clone(&edge), stopped.clone());
        serving.push(tokio::task::spawn_local(edge::serve(listener, worker, edge, stopped)));
    }
    for served in serving {
        if let Err(error) = served.await {
            tracing::error!(%error, "serving a listener ended in a panic");
        }
    }
}
