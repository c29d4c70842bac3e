//! The handler of requests: all that the edge asks of the layer above.

use std::future::Future;

use http::{Request, Response};
use hyper::body::Incoming;
use usherd_contract::agi::{Variable, variables_of_silence};

use super::peer::Peer;
use super::session::Talk;
use crate::daemon::http::body::ReplyBody;

/// Answers requests. One per core; it is never moved to another.
pub trait Handler: 'static {
    /// Answers one request. What it waits for must have a limit; a panic becomes a 503.
    fn handle(&self, request: Request<Incoming>, peer: &Peer) -> impl Future<Output = Response<ReplyBody>>;

    /// Answers the whole commands at the front of `bytes` (RESP, API 6a), in their order, into the talk; gives how
    /// many bytes they were, and what the answers wait for: `false` where they must not go out.
    fn commands<'a>(
        &'a self,
        bytes: &[u8],
        talk: &mut Talk,
        peer: &Peer,
    ) -> (usize, impl Future<Output = bool> + use<'a, Self>) {
        let _ = (bytes, peer);
        talk.close();
        (0, std::future::ready(true))
    }

    /// Answers a script of Asterisk by channel variables; `head` is whole. What it waits for must have a limit; a
    /// panic lets the call go out.
    fn script(&self, head: &[u8], peer: &Peer) -> impl Future<Output = [Variable; 4]> {
        let _ = (head, peer);
        std::future::ready(variables_of_silence("nobody answers scripts here"))
    }
}
