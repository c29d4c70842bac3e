//! One request and its answer over a connection that nobody else uses meanwhile.
//!
//! A connection carries one request at a time and is kept for the next. A caller that gives up on an answer drops the
//! future, and the connection is closed with it: a late answer can never be taken for another's.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request};
use http_body_util::Full;
use hyper::body::Body as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::connector::{Dial, reason};
use super::options::Address;
use super::verdict::Unreachable;

/// An answer.
#[derive(Debug)]
pub(super) struct Replied {
    pub status: u16,
    pub body: Vec<u8>,
}

/// The connections to a daemon.
pub(super) struct Exchange {
    dial: Arc<dyn Dial>,
    address: Address,
    host: HeaderValue,
    token: Option<HeaderValue>,
    idle: Mutex<Vec<Connection>>,
    idle_max: usize,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: Driver,
}

/// The task that moves a connection's bytes; it ends with the connection.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Exchange {
    pub(super) fn new(dial: Arc<dyn Dial>, address: Address, token: Option<&str>, idle_max: u32) -> Self {
        let token = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
        let token = token.map(|mut token| {
            token.set_sensitive(true);
            token
        });
        let host = HeaderValue::from_str(&address.authority()).unwrap_or(HeaderValue::from_static("localhost"));
        Exchange { dial, address, host, token, idle: Mutex::default(), idle_max: idle_max as usize }
    }

    /// Sends a body and reads an answer of at most so many bytes. `fresh`: over a new connection. `on_wire` is
    /// called just before the daemon may hear of it. The caller bounds the time.
    ///
    /// # Errors
    /// Why there is no connection or why it broke, or [`Unreachable::Protocol`] for what is no HTTP or too long.
    pub(super) async fn post(
        &self,
        path: &str,
        body: Bytes,
        fresh: bool,
        answer_bytes_max: u32,
        on_wire: impl FnOnce() + Send,
    ) -> Result<Replied, Unreachable> {
        let kept = if fresh { None } else { self.kept() };
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.sender.ready().await.map_err(|_| Unreachable::Connection)?;
        on_wire();
        let replied = connection.sender.send_request(self.request(path, body)?).await.map_err(|why| lost(&why))?;
        let status = replied.status().as_u16();
        let body = collect(replied.into_body(), answer_bytes_max as usize).await?;
        self.keep(connection);
        Ok(Replied { status, body })
    }

    fn request(&self, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Unreachable> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .body(Full::new(body))
            .map_err(|_| Unreachable::Protocol)?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<Connection, Unreachable> {
        let stream = self.dial.dial(&self.address).await.map_err(|why| reason(&why))?;
        let (sender, driven) = http1::handshake(TokioIo::new(stream)).await.map_err(|why| lost(&why))?;
        let driver = tokio::spawn(async move {
            let _ = driven.await;
        });
        Ok(Connection { sender, _driver: Driver(driver) })
    }

    /// The connection that was used last, for it is the least likely to have been closed.
    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        while let Some(connection) = idle.pop() {
            if !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < self.idle_max && !connection.sender.is_closed() {
            idle.push(connection);
        }
    }

    /// Closes what is kept: it leads to a daemon that does not answer.
    pub(super) fn close_kept(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
    }
}

fn lost(why: &hyper::Error) -> Unreachable {
    if why.is_parse() {
        return Unreachable::Protocol;
    }
    // TLS 1.3 says only after the handshake that a client certificate is missing.
    let of_tls = why.source().and_then(|source| source.downcast_ref::<io::Error>()).map(reason);
    of_tls.filter(|reason| *reason == Unreachable::Tls).unwrap_or(Unreachable::Connection)
}

async fn collect(mut body: hyper::body::Incoming, bytes_max: usize) -> Result<Vec<u8>, Unreachable> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|why| lost(&why))?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > bytes_max {
                return Err(Unreachable::Protocol);
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}
