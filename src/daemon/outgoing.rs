//! Asks others over HTTPS: one request a connection, with a limit on everything, no redirects, nothing remembered.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::daemon::config::{Disk, Files as _};

/// Largest head of an answer, bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Largest file of authorities, bytes.
const CA_BYTES_MAX: usize = 4 << 20;

/// Whom to trust: a PEM file of authorities relative to `folder`, or those of the machine where none is named.
/// Read anew each time, since files and the machine's roots change under a running daemon. `key` is what the
/// configuration calls the file.
///
/// # Errors
/// The file cannot be read or holds none, or the machine has none.
pub(super) fn connector(ca_file: &str, folder: &Path, key: &str) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    if ca_file.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        let (good, _) = roots.add_parsable_certificates(found.certs);
        if good == 0 {
            return Err(format!("this machine has no trusted certificates; install them, or name a file as {key}"));
        }
    } else {
        let path = folder.join(ca_file);
        let wrong = |why: &dyn Display| format!("{key} {}: {why}", path.display());
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

/// A connection in the clear.
///
/// # Errors
/// The name is not found, or nobody takes the connection.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| format!("{host}:{port}: {error}"))
}

/// A connection to who can prove its name. `key` is what the configuration calls the file of authorities.
///
/// # Errors
/// As [`connect`], or its certificate is not trusted.
pub(super) async fn connect_tls(
    tls: &TlsConnector,
    host: &str,
    port: u16,
    key: &str,
) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host} is not the name of a server"))?;
    let stream = connect(host, port).await?;
    tls.connect(name, stream)
        .await
        .map_err(|error| format!("{host}:{port} is not trusted: {}", why_untrusted(&error, key)))
}

/// Why a server is not trusted, and what to do about it; `key` names the file of authorities.
fn why_untrusted(error: &std::io::Error, key: &str) -> String {
    use rustls::{CertificateError as Fault, Error};
    let found = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let Some(Error::InvalidCertificate(fault)) = found else { return format!("{error}; see {key}") };
    match fault {
        Fault::UnknownIssuer => format!(
            "its certificate is signed by no authority that is trusted here; name that authority, or the certificate \
             itself if it is self-signed, in the file {key}"
        ),
        Fault::BadSignature => {
            format!("its certificate is signed by another authority than that of the same name in {key}")
        }
        Fault::Expired | Fault::ExpiredContext { .. } => {
            "its certificate has expired; renew it there, and look at the clock here".to_owned()
        }
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
            "its certificate is not valid yet; look at both clocks".to_owned()
        }
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
            format!("its certificate is for another name ({fault}); ask for a name that stands in it")
        }
        // What `openssl req -x509` makes where it is not told otherwise.
        other if other.to_string().contains("CaUsedAsEndEntity") => format!(
            "its certificate is self-signed as that of an authority; make it anew for a server, with openssl by \
             `-addext basicConstraints=critical,CA:FALSE`, and name it in the file {key}; or sign one with this \
             authority and name the authority there"
        ),
        other => format!("its certificate is not good: {other}; see {key}"),
    }
}

/// One request, one answer, which `read` makes something of; the connection goes with the future that holds it.
///
/// # Errors
/// No answer, or what `read` says.
pub(super) async fn exchange<S, B, T>(
    stream: S,
    request: Request<B>,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, String>,
) -> Result<T, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("no HTTP/1.1: {error}"))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
        read(response).await
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
