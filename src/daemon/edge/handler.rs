//! The handler of requests: all that the edge asks of the layer above.

use std::future::Future;

use http::{Request, Response};
use hyper::body::Incoming;
use usherd_contract::agi::{Variable, variables_of_silence};

use super::peer::Peer;
use super::plain::Plain;
use super::session::Talk;
use crate::daemon::http::body::ReplyBody;

/// Answers requests. One per core; it is never moved to another.
pub trait Handler: 'static {
    /// Answers one request. What it waits for must have a limit; a panic becomes a 503.
    fn handle(&self, request: Request<Incoming>, peer: &Peer) -> impl Future<Output = Response<ReplyBody>>;

    /// True if [`Self::plain`] answers anything.
    const ANSWERS_PLAIN: bool = false;

    /// Answers a plain request that needs nothing but a decision: its body into `body`, and the head until its length
    /// as the future says, once the answer may go out. Where either is `None`, [`Self::handle`] answers the request.
    fn plain<'a>(
        &'a self,
        request: &Plain<'_>,
        body: &mut Vec<u8>,
        peer: &Peer,
    ) -> Option<impl Future<Output = Option<&'static str>> + Unpin + use<'a, Self>> {
        let _ = (request, body, peer);
        None::<std::future::Ready<Option<&'static str>>>
    }

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
