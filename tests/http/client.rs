//! Clients that know nothing of the daemon: HTTP/1 over anything, HTTP/2 with prior knowledge, TLS.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::sync::mpsc;

use crate::daemon::Answer;
use crate::spec;

/// No answer takes longer, or the test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One HTTP/1 request; everything until the peer closes; held against the document.
pub(crate) fn ask(mut stream: impl Read + Write, request: &[u8]) -> Answer {
    stream.write_all(request).unwrap();
    stream.flush().unwrap();
    finish(stream, request)
}

/// The answer to a request that was sent, held against the document.
pub(crate) fn finish(mut stream: impl Read, request: &[u8]) -> Answer {
    let mut answer = Vec::new();
    // TLS peers may close without saying so; what counts is what came.
    let ended = stream.read_to_end(&mut answer);
    assert!(!answer.is_empty(), "no answer: {ended:?}");
    let answer = Answer::parse(&answer);
    let head = String::from_utf8_lossy(request);
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    spec::check(method, path, &answer);
    answer
}

pub(crate) fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The text of a request that closes its connection.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A body that is sent in parts, as they are given.
pub(crate) struct Parts(mpsc::UnboundedReceiver<Bytes>);

impl Parts {
    /// A body, and where its parts are given; dropping that ends it.
    pub(crate) fn new() -> (mpsc::UnboundedSender<Bytes>, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Parts(receiver))
    }

    /// A body that is here at once.
    pub(crate) fn whole(body: &str) -> Self {
        let (sender, parts) = Parts::new();
        sender.send(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        parts
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|part| part.map(Frame::data).map(Ok))
    }
}

/// Runs a client that waits, for a bounded time.
pub(crate) fn wait<T>(client: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, client).await.unwrap() })
}

/// An HTTP/2 connection without TLS and without a question before it.
pub(crate) async fn h2c(address: SocketAddr) -> SendRequest<Parts> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// One request on an HTTP/2 connection, for a path or a whole URI; held against the document.
pub(crate) async fn ask_h2(
    sender: &mut SendRequest<Parts>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Parts,
) -> Answer {
    let uri = if path.starts_with('/') { format!("http://localhost{path}") } else { path.to_owned() };
    let uri: http::Uri = uri.parse().unwrap();
    let path = uri.path().to_owned();
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    let status = response.status().as_u16();
    let lines = response.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    let head = std::iter::once(format!("HTTP/2 {status}")).chain(lines).collect::<Vec<_>>().join("\r\n");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer = Answer { status, head, body: String::from_utf8(body.to_vec()).unwrap() };
    spec::check(method, &path, &answer);
    answer
}

/// A TLS connection that trusts one authority and may show a certificate (both PEM).
pub(crate) fn tls(address: SocketAddr, authority: &str, own: Option<(&str, &str)>) -> impl Read + Write + use<> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            // Whatever it is: a client of another make may show what rustls would not.
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            let shown = CertifiedKey::new(chain, any_supported_type(&key).unwrap());
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    rustls::StreamOwned::new(connection, tcp(address))
}
