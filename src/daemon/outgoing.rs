//! Requests that go out: one a connection, with a limit on everything, no redirects, nothing remembered.
//!
//! `usherd-client` connects by itself: it keeps its connections, tells a PBX apart why one failed, and is published without
//! any of this.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;

use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use usherd_contract::file;

/// Largest head of an answer, bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Largest file of authorities, or of a certificate with its chain, bytes.
const PEM_BYTES_MAX: usize = 4 << 20;

/// Where a request goes.
pub(crate) enum Target<'a> {
    /// A Unix socket.
    Unix(&'a Path),
    /// A port of a host: by name or address, one of IPv6 in brackets; over TLS where it must prove its name.
    Host { host: &'a str, port: u16, trust: Option<&'a Trust> },
}

impl<'a> Target<'a> {
    /// The host that a URL names.
    pub(crate) fn new(url: &Uri, host: &'a str, trust: Option<&'a Trust>) -> Self {
        let port = url.port_u16().unwrap_or(if trust.is_some() { 443 } else { 80 });
        Target::Host { host, port, trust }
    }
}

/// Authorities that are trusted.
pub(crate) struct Trust {
    tls: TlsConnector,
    key: &'static str,
}

impl Trust {
    /// Those of a PEM file relative to `folder`, or those of the machine where the path is empty. Files and the
    /// machine's roots change under a running daemon, so it makes this anew for each request. `key` is what the
    /// configuration or the command line calls the file.
    ///
    /// # Errors
    /// The file cannot be read or holds none, or the machine has none.
    pub(crate) fn new(ca_file: &Path, folder: &Path, key: &'static str) -> Result<Self, String> {
        Self::known_by(None, ca_file, folder, key)
    }

    /// The same; who connects shows this certificate where it is asked for one.
    ///
    /// # Errors
    /// As [`Trust::new`], or a file of the certificate cannot be read, or they do not fit together.
    pub(crate) fn known_by(
        identity: Option<&Identity<'_>>,
        ca_file: &Path,
        folder: &Path,
        key: &'static str,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        if ca_file.as_os_str().is_empty() {
            let found = rustls_native_certs::load_native_certs();
            let (good, _) = roots.add_parsable_certificates(found.certs);
            if good == 0 {
                return Err(format!("this machine has no trusted certificates; install them, or name a file as {key}"));
            }
        } else {
            let path = folder.join(ca_file);
            let wrong = |why: &dyn Display| format!("{key} {}: {why}", path.display());
            let pem = file::read(&path, PEM_BYTES_MAX).map_err(|why| wrong(&why))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"it holds no certificate"));
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots);
        let mut config = match identity {
            Some(identity) => identity.shown_by(builder, folder)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Trust { tls: TlsConnector::from(Arc::new(config)), key })
    }
}

/// The files of a client's certificate, PEM.
pub(crate) struct Identity<'a> {
    /// The certificate and its chain.
    pub(crate) cert_file: &'a Path,
    /// Its private key.
    pub(crate) key_file: &'a Path,
}

impl Identity<'_> {
    fn shown_by(
        &self,
        builder: ConfigBuilder<ClientConfig, WantsClientCert>,
        folder: &Path,
    ) -> Result<ClientConfig, String> {
        let (cert_file, key_file) = (folder.join(self.cert_file), folder.join(self.key_file));
        let wrong = |path: &Path, why: &dyn Display| format!("the client's certificate: {}: {why}", path.display());
        let pem = file::read(&cert_file, PEM_BYTES_MAX).map_err(|why| wrong(&cert_file, &why))?;
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| wrong(&cert_file, &error))?;
        let pem = file::read(&key_file, PEM_BYTES_MAX).map_err(|why| wrong(&key_file, &why))?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(&key_file, &error))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| wrong(&cert_file, &error))
    }
}

/// A connection, whatever carries it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to a target. The caller bounds the time.
///
/// # Errors
/// The name is not found, nobody takes the connection, or whoever does is not trusted, which is `InvalidData`. The text
/// says where and why.
pub(crate) async fn connect(target: &Target<'_>) -> io::Result<Box<dyn Stream>> {
    let (host, port, trust) = match target {
        Target::Host { host, port, trust } => (host, *port, trust),
        Target::Unix(path) => {
            let told = |error: io::Error| io::Error::new(error.kind(), format!("unix:{}: {error}", path.display()));
            return Ok(Box::new(UnixStream::connect(path).await.map_err(told)?));
        }
    };
    let bare = host.trim_matches(['[', ']']);
    let untrusted = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let name = trust.map(|_| ServerName::try_from(bare.to_owned())).transpose();
    let name = name.map_err(|_| untrusted(format!("{host} is not the name of a server")))?;
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{host}:{port}: {error}"));
    let stream = TcpStream::connect((bare, port)).await.map_err(told)?;
    stream.set_nodelay(true).map_err(told)?;
    let (Some(trust), Some(name)) = (trust, name) else { return Ok(Box::new(stream)) };
    let told = |error| untrusted(format!("{host}:{port} is not trusted: {}", why_untrusted(&error, trust.key)));
    Ok(Box::new(trust.tls.connect(name, stream).await.map_err(told)?))
}

/// Why a server is not trusted, and what to do about it; `key` names the file of authorities.
fn why_untrusted(error: &io::Error, key: &str) -> String {
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
        other => format!("its certificate is not valid: {other}; see {key}"),
    }
}

/// An answer, whose connection ends when it is dropped.
pub(crate) struct Answer {
    /// Its head, and the body as it comes.
    pub(crate) response: Response<Incoming>,
    _connection: JoinSet<hyper::Result<()>>,
}

/// Sends the only request of a connection. The caller bounds the time, and the body of the answer.
///
/// # Errors
/// No answer in HTTP/1.1.
pub(crate) async fn send(stream: Box<dyn Stream>, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
    let mut builder = http1::Builder::new();
    let (mut sender, connection) = builder.max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await?;
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    Ok(Answer { response: sender.send_request(request).await?, _connection: connections })
}
