//! How a client gets a connection to the daemon: TCP, TLS, a Unix socket, or what the caller brings.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

/// Makes connections to the daemon; implement it to put something else than sockets in between.
pub trait Connector: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Opens one. The client bounds the time.
    ///
    /// # Errors
    /// What the network says.
    fn connect(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}
