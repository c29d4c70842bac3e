//! The daemon as one host of the simulation: its own HTTP service and journal, on a simulated network and clock.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use usherd::daemon::Prepared;
use usherd::daemon::access::auth::TokenHash;
use usherd::daemon::app::App;
use usherd::daemon::clock::ManualClock;
use usherd::daemon::edge::peer::PeerAddress;
use usherd::daemon::edge::{Protocol, serve_stream};
use usherd_engine::Now;

/// The name of the host.
pub(crate) const DAEMON: &str = "daemon";
/// Where it listens.
pub(crate) const PORT: u16 = 7788;
/// The token of the nodes.
pub(crate) const TOKEN: &str = "ush_node_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
/// How often nodes list what lives on them, seconds; the longest time until what went wrong is put right.
pub(crate) const INVENTORY_SECONDS: u64 = 10;

/// The tenants, and their seats.
pub(crate) const TENANTS: [(&str, u32); 3] = [("small", 8), ("middle", 40), ("large", 500)];

/// A folder with a configuration and a journal, which outlives the crashes of the daemon in it.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    /// Of the daemon that runs at present.
    app: RefCell<Option<App>>,
    hung: Rc<Hung>,
    pub(crate) starts: Cell<u32>,
}

impl Site {
    pub(crate) fn new() -> Rc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let tenants = folder.path().join("tenants.d");
        std::fs::create_dir(&tenants).unwrap();
        for (id, seats) in TENANTS {
            std::fs::write(
                tenants.join(format!("{id}.toml")),
                format!("id = \"{id}\"\nkind = \"nfr\"\nseats = {seats}\n"),
            )
            .unwrap();
        }
        let main = format!(
            "[nodes]\nheartbeat_s = 1\nlease_s = 3\ngrace_s = 5\nlearning_s = 5\ninventory_s = {INVENTORY_SECONDS}\n\
             [journal]\ndurability = \"written\"\n\
             [[auth.tokens]]\nid = \"pbx\"\nrole = \"node\"\nsha256 = \"{}\"\n",
            TokenHash::of(TOKEN).to_hex()
        );
        std::fs::write(folder.path().join("usherd.toml"), main).unwrap();
        let now = Now { uptime_ms: 1_000, utc_ms: 1_780_000_000_000 };
        Rc::new(Site {
            folder,
            clock: Arc::new(ManualClock::new(now)),
            app: RefCell::default(),
            hung: Rc::default(),
            starts: Cell::new(0),
        })
    }

    /// The daemon that runs at present.
    pub(crate) fn app(&self) -> App {
        self.app.borrow().as_ref().expect("the daemon runs").clone()
    }

    /// It was killed: nothing of it is left but its folder.
    pub(crate) fn forget(&self) {
        self.app.take();
        self.hang(false);
    }

    /// From now on it accepts connections, and reads and writes nothing; or does again.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hung.now.set(hangs);
        self.hung.over.notify_waiters();
    }

    /// The life of one daemon, until the host is crashed.
    pub(crate) async fn run(self: Rc<Self>) -> turmoil::Result {
        let prepared = Prepared::new(&self.folder.path().join("usherd.toml"), Arc::clone(&self.clock) as _, false)?;
        let daemon = prepared.embedded()?;
        let app = daemon.app().clone();
        let (worker, edge) = (Rc::new(daemon.worker()), Arc::clone(&app.serving.edge));
        self.app.replace(Some(app));
        self.starts.set(self.starts.get() + 1);
        let listener = turmoil::net::TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)).await?;
        let deciding = tokio::task::spawn_local(daemon.run());
        let (_stop, shutdown) = watch::channel(false);
        loop {
            let (stream, from) = listener.accept().await?;
            assert!(!deciding.is_finished(), "the daemon goes on");
            let stream = Stalling { stream, hung: Rc::clone(&self.hung), waiting: None };
            let address = PeerAddress::Ip(from.ip());
            let served =
                serve_stream(stream, Protocol::Http1, address, Rc::clone(&worker), Arc::clone(&edge), shutdown.clone());
            tokio::task::spawn_local(served);
        }
    }
}

/// The switch by which the daemon hangs. No `watch`: that wakes in an order that no seed says.
#[derive(Default)]
struct Hung {
    now: Cell<bool>,
    over: Notify,
}

/// A stream of a daemon that may hang.
struct Stalling<S> {
    stream: S,
    hung: Rc<Hung>,
    waiting: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<S> Stalling<S> {
    fn poll_awake(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.hung.now.get() {
            let hung = Rc::clone(&self.hung);
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(async move { hung.over.notified().await }));
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        self.waiting = None;
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_awake(cx));
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_awake(cx));
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
