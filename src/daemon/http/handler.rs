//! What answers requests: all that the edge asks of the layer above.

use std::future::Future;

use http::{Request, Response};
use hyper::body::Incoming;

use super::body::ReplyBody;
use super::peer::Peer;

/// Answers requests. One per core; it is never moved to another.
pub trait Handler: 'static {
    /// Answers one request. What it waits for must have a limit; a panic becomes a 503.
    fn handle(&self, request: Request<Incoming>, peer: &Peer) -> impl Future<Output = Response<ReplyBody>>;
}
