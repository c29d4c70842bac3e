//! Asks the publisher: one HTTPS request with a limit on everything, no redirects, nothing remembered.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, ETAG, HOST, IF_NONE_MATCH, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::daemon::config::{Disk, Files as _, Publisher};

/// Largest head of an answer, bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Longest ETag that is given back, bytes.
const ETAG_BYTES_MAX: usize = 256;
/// Largest file of authorities, bytes.
const CA_BYTES_MAX: usize = 4 << 20;
/// Largest file with a token, bytes.
const TOKEN_BYTES_MAX: usize = 4 << 10;

/// What the publisher answered.
#[derive(Debug)]
pub enum Answer {
    /// Nothing is new (304).
    NotModified,
    /// A bundle (200).
    Bundle {
        /// Its bytes.
        bytes: Vec<u8>,
        /// What to ask with for news only; empty: nothing.
        etag: String,
    },
    /// More bytes than allowed.
    TooLarge,
}

/// Asks for the bundle; files are relative to `folder`. With an ETag, only for news.
///
/// # Errors
/// What failed, where, and how it is mended; never shows the token.
pub async fn fetch(publisher: &Publisher, folder: &Path, etag: Option<&str>) -> Result<Answer, String> {
    let uri: Uri = publisher.url.parse().map_err(|error| format!("sync.url cannot be read: {error}"))?;
    let host = uri.host().ok_or("sync.url names no host")?.trim_matches(['[', ']']).to_owned();
    let patience = Duration::from_secs(publisher.timeout_s.into());
    let request = request(publisher, folder, &uri, etag)?;
    let tls = connector(publisher, folder)?;
    let whole = async {
        let stream = timeout(patience, connect(&tls, &host, uri.port_u16().unwrap_or(443)))
            .await
            .map_err(|_| format!("{host} did not take the connection within {} s", publisher.timeout_s))??;
        exchange(stream, request, publisher.bundle_bytes_max as usize).await.map_err(|why| format!("{host}: {why}"))
    };
    timeout(patience, whole)
        .await
        .map_err(|_| format!("{host} did not finish its answer within {} s; see sync.timeout_s", publisher.timeout_s))?
}

fn request(
    publisher: &Publisher,
    folder: &Path,
    uri: &Uri,
    etag: Option<&str>,
) -> Result<Request<Empty<Bytes>>, String> {
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("usherd/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/octet-stream");
    if let Some(etag) = etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    if !publisher.token_file.is_empty() {
        let path = folder.join(&publisher.token_file);
        let wrong = |why: &str| format!("sync.token_file {} {why}", path.display());
        let bytes = Disk.read(&path, TOKEN_BYTES_MAX).map_err(|why| wrong(&why))?;
        let token = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8"))?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| wrong("holds no token: one line of printable characters"))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Empty::new()).map_err(|error| format!("sync.url cannot be asked for: {error}"))
}

/// Whom to trust: read anew each time, since files and the machine's roots change under a running daemon.
fn connector(publisher: &Publisher, folder: &Path) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    if publisher.ca_file.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        let (good, _) = roots.add_parsable_certificates(found.certs);
        if good == 0 {
            return Err(
                "this machine has no trusted certificates; install them, or name a file as sync.ca_file".to_owned()
            );
        }
    } else {
        let path = folder.join(&publisher.ca_file);
        let wrong = |why: &dyn std::fmt::Display| format!("sync.ca_file {}: {why}", path.display());
        let pem = Disk.read(&path, CA_BYTES_MAX).map_err(|why| wrong(&why))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() {
            return Err(wrong(&"it holds no certificate"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn connect(tls: &TlsConnector, host: &str, port: u16) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host} is not the name of a server"))?;
    let stream = TcpStream::connect((host, port)).await.map_err(|error| format!("{host}:{port}: {error}"))?;
    tls.connect(name, stream).await.map_err(|error| format!("{host}:{port} is not trusted: {error}; see sync.ca_file"))
}

/// One request, one answer; the connection goes with the future that holds it.
async fn exchange(
    stream: TlsStream<TcpStream>,
    request: Request<Empty<Bytes>>,
    bytes_max: usize,
) -> Result<Answer, String> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("no HTTP/1.1: {error}"))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
        let status = response.status();
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        let etag = etag.filter(|etag| etag.len() <= ETAG_BYTES_MAX).unwrap_or_default().to_owned();
        match status {
            StatusCode::OK => Ok(match collect(response.into_body(), bytes_max).await? {
                Some(bytes) => Answer::Bundle { bytes, etag },
                None => Answer::TooLarge,
            }),
            StatusCode::NOT_MODIFIED => Ok(Answer::NotModified),
            status if status.is_redirection() => {
                Err(format!("it answers {status}, and redirects are not followed; write the new address as sync.url"))
            }
            status => Err(format!("it answers {status}")),
        }
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    let mut is_over = false;
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            _ = &mut connection, if !is_over => is_over = true,
        }
    }
}

/// The whole body; `None` where it is larger than allowed, which is known before it is held.
async fn collect(mut body: Incoming, bytes_max: usize) -> Result<Option<Vec<u8>>, String> {
    if body.size_hint().lower() > bytes_max as u64 {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off after {} bytes: {error}", bytes.len()))?;
        let Some(part) = frame.data_ref() else { continue };
        if bytes.len() + part.len() > bytes_max {
            return Ok(None);
        }
        bytes.extend_from_slice(part);
    }
    Ok(Some(bytes))
}
