//! One connection is spoken with as its listener is configured.

use std::rc::Rc;

use tokio::sync::watch;

use super::alarm::Alarm;
use super::commands::{self, Scratch};
use super::handler::Handler;
use super::peer::Peer;
use super::protocol::Protocol;
use super::socket::Transport;
use super::vitals::Version;
use super::{connection, scripts};

/// Serves a connection until it ends, is cut by a deadline, or has drained after `shutdown` turned true.
pub(super) async fn speak<S, H>(
    stream: S,
    protocol: Protocol,
    handler: Rc<H>,
    mut peer: Peer,
    scratch: Rc<Scratch>,
    shutdown: watch::Receiver<bool>,
) where
    S: Transport + 'static,
    H: Handler,
{
    if protocol == Protocol::Http1 {
        peer.alarm = Rc::new(Alarm::of_turns());
    }
    let peer = Rc::new(peer);
    // Boxed one by one, so that a connection takes the room of its own protocol.
    match protocol {
        Protocol::Http1 => Box::pin(connection::serve(stream, Version::One, handler, peer, scratch, shutdown)).await,
        Protocol::H2c => Box::pin(connection::serve(stream, Version::Two, handler, peer, scratch, shutdown)).await,
        Protocol::Resp => Box::pin(commands::serve(stream, handler, peer, scratch, shutdown)).await,
        Protocol::Agi => Box::pin(scripts::serve(stream, handler, peer, shutdown)).await,
    }
}
