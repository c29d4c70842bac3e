//! A connection that did not come from a listener of ours: a simulated network, an embedding program.

use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::accept::Edge;
use super::commands::Scratch;
use super::dispatch::speak;
use super::handler::Handler;
use super::peer::{Peer, PeerAddress};
use super::protocol::Protocol;
use super::socket::Given;
use super::stats::EdgeStats;

/// Serves one connection of the caller's, with the limits and deadlines of the edge, until it ends or
/// has drained after `shutdown` turned true (or its sender is gone). It stays on the runtime that calls this.
/// A connection beyond the limits is dropped at once.
pub async fn serve_stream<S, H>(
    stream: S,
    protocol: Protocol,
    address: PeerAddress,
    handler: Rc<H>,
    edge: Arc<Edge>,
    shutdown: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handler,
{
    let ip = match address {
        PeerAddress::Ip(ip) => Some(ip),
        PeerAddress::Unix { .. } => None,
    };
    let Ok(pass) = edge.gate().admit(ip) else { return };
    let peer = Peer {
        address,
        listener: Rc::from("given"),
        names: Vec::new(),
        encrypted: false,
        pass,
        limits: edge.limits(),
        stats: Arc::new(EdgeStats::default()),
        bodies: Arc::clone(edge.bodies()),
        answers: Arc::clone(edge.answers()),
        alarm: Rc::default(),
        // Its owner decides who goes on when, and may replay it from a seed.
        turns: None,
    };
    speak(Given(stream), protocol, handler, peer, Rc::new(Scratch::new()), shutdown).await;
}
