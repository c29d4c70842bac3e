//! The accept loop: lets connections in one by one, and never ends because of one.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::io::Errno;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::answers::Answers;
use super::bodies::Bodies;
use super::client_certificates;
use super::commands::Scratch;
use super::dispatch::speak;
use super::gate::Gate;
use super::handler::Handler;
use super::head;
use super::limits::Limits;
use super::listener::{Listener, TlsAcceptorDebug};
use super::peer::{Peer, PeerAddress};
use super::protocol::Protocol;
use super::socket::{Socket, Transport as _};
use super::stats::{AcceptError, Broken, Deadline, EdgeStats, Refusal};
use super::stop;
use super::turns::Turns;

/// Rest after running out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// Connections that are let in before the others have a turn.
const ACCEPTED_AT_ONCE_MAX: u32 = 8;
/// How long at a stop who has said nothing yet may begin: as long as the way from connecting to the first byte takes.
const LAST_WORD: Duration = Duration::from_millis(100);

/// The state that all listeners on all cores share.
#[derive(Debug)]
pub struct Edge {
    limits: ArcSwap<Limits>,
    gate: Arc<Gate>,
    bodies: Arc<Bodies>,
    answers: Arc<Answers>,
}

impl Edge {
    /// An edge with these limits.
    pub fn new(limits: Limits) -> Self {
        let gate = Arc::new(Gate::new(&limits));
        let bodies = Arc::new(Bodies::new(limits.bodies_bytes_max));
        let answers = Arc::new(Answers::new(limits.answers_bytes_max));
        Edge { limits: ArcSwap::from_pointee(limits), gate, bodies, answers }
    }

    /// Other limits from the next connection on; those that are open keep theirs, and what is held already stays.
    pub fn set_limits(&self, limits: Limits) {
        self.gate.set_limits(&limits);
        self.bodies.set_max(limits.bodies_bytes_max);
        self.answers.set_max(limits.answers_bytes_max);
        self.limits.store(Arc::new(limits));
    }

    /// The connection counts of all listeners.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The unfinished request bodies of all listeners.
    pub fn bodies(&self) -> &Arc<Bodies> {
        &self.bodies
    }

    /// The large answers of all listeners that wait for their readers.
    pub fn answers(&self) -> &Arc<Answers> {
        &self.answers
    }

    /// The limits of the next connection.
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }
}

/// The state that the tasks of one listener share.
struct Shared<H> {
    handler: Rc<H>,
    edge: Arc<Edge>,
    stats: Arc<EdgeStats>,
    name: Rc<str>,
    protocol: Protocol,
    tls: Option<TlsAcceptorDebug>,
    shutdown: watch::Receiver<bool>,
    live: Live,
    scratch: Rc<Scratch>,
}

/// How many connection tasks of this listener on this core are alive.
#[derive(Default)]
struct Live {
    count: Cell<usize>,
    none: Notify,
}

struct Alive<H>(Rc<Shared<H>>);

impl<H> Alive<H> {
    fn new(shared: &Rc<Shared<H>>) -> Self {
        shared.live.count.set(shared.live.count.get() + 1);
        shared.stats.count_accepted();
        Alive(Rc::clone(shared))
    }
}

impl<H> Drop for Alive<H> {
    fn drop(&mut self) {
        self.0.stats.count_closed();
        let left = self.0.live.count.get().saturating_sub(1);
        self.0.live.count.set(left);
        if left == 0 {
            self.0.live.none.notify_waiters();
        }
    }
}

/// Serves a listener until `shutdown` turns true (or its sender is gone), then drains: no new connection,
/// idle ones close, answers in progress have `drain_deadline`. Needs a current-thread runtime inside a
/// `LocalSet` (or a `LocalRuntime`); connections stay on it.
pub async fn serve<H: Handler>(
    listener: Listener,
    handler: Rc<H>,
    edge: Arc<Edge>,
    mut shutdown: watch::Receiver<bool>,
) {
    let shared = Rc::new(Shared {
        handler,
        edge: Arc::clone(&edge),
        stats: Arc::clone(&listener.stats),
        name: Rc::clone(&listener.name),
        protocol: listener.protocol,
        tls: listener.tls.clone(),
        shutdown: shutdown.clone(),
        live: Live::default(),
        scratch: Rc::new(Scratch::new()),
    });
    let (mut spare, mut at_once) = (Spare::new(), 0);
    loop {
        let accepted = tokio::select! {
            _ = shutdown.wait_for(|on| *on) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, address)) => {
                admit(&shared, socket, address);
                at_once = (at_once + 1) % ACCEPTED_AT_ONCE_MAX;
                if at_once == 0 {
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if is_exhausted(&error) => {
                shared.stats.count_refused(Refusal::Exhausted);
                spare.shed(&listener).await;
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
            Err(error) => {
                let aborted = Errno::from_io_error(&error) == Some(Errno::CONNABORTED);
                let why = if aborted { AcceptError::Aborted } else { AcceptError::Other };
                shared.stats.count_accept_error(why);
                tokio::task::yield_now().await;
            }
        }
    }
    drop(listener);
    // Each connection ends itself within the drain deadline; the second is for a busy core.
    let _ = timeout(edge.limits().drain_deadline + Duration::from_secs(1), all_gone(&shared.live)).await;
}

async fn all_gone(live: &Live) {
    loop {
        let none = live.none.notified();
        if live.count.get() == 0 {
            return;
        }
        none.await;
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// A descriptor to give up when there are no others, so that a waiting client is turned away instead of
/// left hanging.
struct Spare(Option<File>);

impl Spare {
    fn new() -> Self {
        Spare(File::open("/dev/null").ok())
    }

    async fn shed(&mut self, listener: &Listener) {
        if self.0.take().is_some() {
            let _ = timeout(Duration::from_millis(1), listener.accept()).await;
        }
        self.0 = File::open("/dev/null").ok();
    }
}

fn admit<H: Handler>(shared: &Rc<Shared<H>>, socket: Socket, address: PeerAddress) {
    let ip = match address {
        PeerAddress::Ip(ip) => Some(ip),
        PeerAddress::Unix { .. } => None,
    };
    let pass = match shared.edge.gate.admit(ip) {
        Ok(pass) => pass,
        Err(refusal) => return shared.stats.count_refused(refusal),
    };
    let alive = Alive::new(shared);
    let peer = Peer {
        address,
        listener: Rc::clone(&shared.name),
        names: Vec::new(),
        encrypted: shared.tls.is_some(),
        pass,
        limits: shared.edge.limits(),
        stats: Arc::clone(&shared.stats),
        bodies: Arc::clone(&shared.edge.bodies),
        answers: Arc::clone(&shared.edge.answers),
        alarm: Rc::default(),
        turns: Some(Turns::here()),
    };
    tokio::task::spawn_local(async move { greet(&alive.0, socket, peer).await });
}

/// Waits for the first byte, which costs a silent client nothing but a descriptor, then serves.
async fn greet<H: Handler>(shared: &Rc<Shared<H>>, socket: Socket, peer: Peer) {
    let limits = Arc::clone(&peer.limits);
    let delay = peer.pass.delay();
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    tokio::select! {
        // In this order: what came before a stop is answered.
        biased;
        first = timeout(limits.first_byte_deadline, socket.readable()) => match first {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return shared.stats.count_broken(Broken::Transport),
            Err(_) => return shared.stats.count_deadline(Deadline::FirstByte),
        },
        // Who has just come is about to speak: closing now would break off a request that nobody could take back.
        () = stop::asked(shared.shutdown.clone()) => match timeout(LAST_WORD, socket.readable()).await {
            Ok(Ok(())) => {}
            _ => return,
        },
    }
    let turns = Turns::here();
    let node = peer.pass.node_flag();
    // Boxed: who has not said anything yet takes no room for what it may say.
    let mut serving = Box::pin(serve_one(shared, socket, peer));
    turns.run(&Rc::default(), || node.get(), serving.as_mut()).await;
}

async fn serve_one<H: Handler>(shared: &Rc<Shared<H>>, socket: Socket, mut peer: Peer) {
    let (handler, scratch, shutdown) =
        (Rc::clone(&shared.handler), Rc::clone(&shared.scratch), shared.shutdown.clone());
    let Some(TlsAcceptorDebug(acceptor)) = &shared.tls else {
        if shared.protocol == Protocol::Http1
            && let Err(cut) = head::come(&socket, &scratch, &peer.limits, shutdown.clone()).await
        {
            peer.cut(cut);
            return socket.give_up();
        }
        return speak(socket, shared.protocol, handler, peer, scratch, shutdown).await;
    };
    match Box::pin(client_certificates::accept(acceptor, socket, peer.limits.head_deadline)).await {
        Ok((stream, names)) => {
            peer.names = names;
            speak(stream, shared.protocol, handler, peer, scratch, shutdown).await;
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => peer.cut(Deadline::Head),
        Err(_) => shared.stats.count_refused(Refusal::Handshake),
    }
}
