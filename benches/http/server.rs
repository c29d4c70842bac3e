//! Servers under measurement: the daemon and a bare hyper in child processes of this program, on one core.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::time::{ClockId, clock_gettime};
use usherd::daemon::clock::SystemClock;
use usherd::daemon::{Daemon, Options};

/// Where servers run; clients run on [`CLIENT_CORE`].
pub(crate) const SERVER_CORE: &str = "0";
/// Where clients run.
pub(crate) const CLIENT_CORE: &str = "1";

/// Tenants of a million seats each.
pub(crate) const LARGE: usize = 4;

/// A child process that serves, and tells how much CPU it took.
pub(crate) struct Server {
    child: Child,
    asks: ChildStdin,
    tells: RefCell<BufReader<ChildStdout>>,
    pub tcp: SocketAddr,
    pub unix: PathBuf,
    /// Where the daemon speaks RESP.
    pub resp: SocketAddr,
    pub resp_unix: PathBuf,
    _folder: tempfile::TempDir,
    /// Where its ring is, as under the shipped unit.
    memory: Option<tempfile::TempDir>,
}

impl Server {
    /// A daemon with so many tenants of 64 seats, all of them in its scrapes, and a ring where there is a tmpfs.
    pub(crate) fn daemon(durability: &str, tenants: u32, core: Option<&str>) -> Self {
        Server::daemon_with(durability, tenants, core, "")
    }

    /// The same with more in its configuration.
    pub(crate) fn daemon_with(durability: &str, tenants: u32, core: Option<&str>, more: &str) -> Self {
        let folder = folder();
        let memory = tempfile::tempdir_in("/dev/shm").ok();
        let ring_dir = memory.as_ref().map(|memory| memory.path().display().to_string()).unwrap_or_default();
        let mut config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nunix_socket = \"{}\"\nworkers = 1\n[journal]\ndurability = \"{durability}\"\nring_dir = \"{ring_dir}\"\n[metrics]\ntenants = \"all\"\n",
            folder.path().join("sock").display()
        );
        for at in 0..tenants {
            assert!(
                write!(
                    config,
                    "[[tenant]]\nid = \"tenant-{at:05}\"\nkind = \"paid\"\nstart = \"2026-01-01\"\nseats = 64\n"
                )
                .is_ok()
            );
        }
        for at in 0..LARGE {
            assert!(write!(config, "[[tenant]]\nid = \"large-{at}\"\nkind = \"nfr\"\nseats = 1000000\n").is_ok());
        }
        for listen in [
            "listen = \"127.0.0.1:0\"".to_owned(),
            format!("unix_socket = \"{}\"", folder.path().join("resp").display()),
        ] {
            assert!(write!(config, "[[listener]]\n{listen}\nprotocol = \"resp\"\n").is_ok());
        }
        config.push_str(more);
        config.insert_str(0, "tenants_dir = \"\"\n");
        std::fs::write(folder.path().join("usherd.toml"), config).unwrap();
        let mut server = Server::start("daemon", folder, core);
        server.memory = memory;
        server
    }

    /// hyper and nothing else: reads the body, answers so many bytes.
    pub(crate) fn bare(reply_bytes: usize) -> Self {
        Server::start(&format!("bare:{reply_bytes}"), folder(), Some(SERVER_CORE))
    }

    fn start(what: &str, folder: tempfile::TempDir, core: Option<&str>) -> Self {
        let mut command = on_core(core, &std::env::current_exe().unwrap().display().to_string());
        command.arg("child").arg(what).arg(folder.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let asks = child.stdin.take().unwrap();
        let mut tells = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        tells.read_line(&mut line).unwrap();
        let mut told =
            line.split_whitespace().map(|word| word.parse().unwrap_or_else(|_| panic!("the child said {line:?}")));
        let tcp = told.next().unwrap_or_else(|| panic!("the child said nothing"));
        let resp = told.next().unwrap_or(tcp);
        let (unix, resp_unix) = (folder.path().join("sock"), folder.path().join("resp"));
        Server { child, asks, tells: RefCell::new(tells), tcp, unix, resp, resp_unix, _folder: folder, memory: None }
    }

    /// CPU nanoseconds of the whole process so far.
    pub(crate) fn cpu_ns(&self) -> u64 {
        (&self.asks).write_all(b"cpu\n").unwrap();
        let mut line = String::new();
        self.tells.borrow_mut().read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = (&self.asks).write_all(b"end\n");
        let _ = self.child.wait();
    }
}

/// A folder on a disk, not in memory: `synced` means a disk.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A command, bound to a core where that is possible.
pub(crate) fn on_core(core: Option<&str>, program: &str) -> Command {
    match core {
        Some(core) if has("taskset") => {
            let mut command = Command::new("taskset");
            command.args(["-c", core, program]);
            command
        }
        _ => Command::new(program),
    }
}

/// True if a program can be found.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    program.contains('/') && Path::new(program).exists()
        || std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The child's side: serve, and answer questions on the standard streams until told to end.
pub(crate) fn child(what: &str, folder: &Path) {
    match what.split_once(':') {
        Some(("bare", bytes)) => bare(bytes.parse().unwrap(), folder),
        _ => {
            let options = Options {
                config: folder.join("usherd.toml"),
                clock: Arc::new(SystemClock::start()),
                passed: Vec::new(),
                as_process: false,
            };
            let daemon = Daemon::start(options).unwrap_or_else(|error| panic!("{error}"));
            assert!(daemon.wait_ready(Duration::from_secs(60)), "not ready");
            let resp = daemon.app().serving.listeners.iter().find(|listener| listener.name == "listener-1").unwrap();
            println!("{} {}", daemon.address().unwrap(), resp.address);
            questions();
            daemon.stop();
            daemon.wait();
        }
    }
}

fn questions() {
    for line in std::io::stdin().lock().lines() {
        match line.as_deref() {
            Ok("cpu") => {
                let at = clock_gettime(ClockId::ProcessCPUTime);
                println!("{}", at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64);
            }
            _ => return,
        }
    }
}

async fn fixed(request: Request<Incoming>, reply: Bytes) -> Result<Response<Full<Bytes>>, Infallible> {
    let read = request.into_body().collect().await;
    let mut response = Response::new(Full::new(if read.is_ok() { reply } else { Bytes::new() }));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response.headers_mut().insert("cache-control", http::HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn one<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static>(stream: S, reply: Bytes) {
    let service = service_fn(move |request| fixed(request, reply.clone()));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(None).pipeline_flush(true);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn bare(bytes: usize, folder: &Path) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = std::os::unix::net::UnixListener::bind(folder.join("sock")).unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    unix.set_nonblocking(true).unwrap();
    let reply = Bytes::from(vec![b'x'; bytes]);
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let tcp = tokio::net::TcpListener::from_std(listener).unwrap();
            let unix = tokio::net::UnixListener::from_std(unix).unwrap();
            loop {
                tokio::select! {
                    Ok((stream, _)) = tcp.accept() => {
                        let _ = stream.set_nodelay(true);
                        tokio::task::spawn_local(one(stream, reply.clone()));
                    }
                    Ok((stream, _)) = unix.accept() => {
                        tokio::task::spawn_local(one(stream, reply.clone()));
                    }
                }
            }
        });
    };
    std::thread::spawn(serve);
    println!("{address}");
    questions();
    std::process::exit(0);
}
