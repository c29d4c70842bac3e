//! How a client gets a connection to a daemon: TCP, TLS, a Unix socket, or what the caller brings.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::options::{Address, Options};
use super::verdict::Unreachable;

/// Makes connections to the daemons; implement it to use something other than sockets.
pub trait Connector: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Opens one to the daemon at this address, which is one of the client's options. The client bounds the time.
    ///
    /// # Errors
    /// An error of the network.
    fn connect(&self, address: &Address) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// A connection of any connector.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// A connector of any kind of connection.
pub(super) trait Dial: Send + Sync {
    fn dial<'a>(&'a self, address: &'a Address) -> Dialling<'a>;
}

impl<C: Connector> Dial for C {
    fn dial<'a>(&'a self, address: &'a Address) -> Dialling<'a> {
        Box::pin(async {
            let stream = self.connect(address).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// Connects to the addresses of the options.
pub(super) struct Sockets {
    /// None where no address is `https`.
    tls: Option<TlsConnector>,
}

impl Sockets {
    /// # Errors
    /// The certificates to trust, or the host's name, cannot be used.
    pub(super) fn new(options: &Options) -> Result<Self, String> {
        let mut tls = None;
        for address in options.addresses() {
            if let Address::Https { host, .. } = address {
                server_name(host)?;
                if tls.is_none() {
                    tls = Some(self::tls(options)?);
                }
            }
        }
        Ok(Sockets { tls })
    }
}

impl Connector for Sockets {
    type Stream = Box<dyn Stream>;

    async fn connect(&self, address: &Address) -> io::Result<Self::Stream> {
        let tcp = match address {
            Address::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Http { host, port } | Address::Https { host, port } => {
                let host = without_brackets(host);
                let addresses: Vec<SocketAddr> =
                    lookup_host((host, *port)).await.map_err(|why| unresolved(host, &why))?.collect();
                TcpStream::connect(addresses.as_slice()).await?
            }
        };
        tcp.set_nodelay(true)?;
        match (&self.tls, address) {
            (Some(tls), Address::Https { host, .. }) => {
                let name = server_name(host).map_err(io::Error::other)?;
                Ok(Box::new(tls.connect(name, tcp).await?))
            }
            _ => Ok(Box::new(tcp)),
        }
    }
}

/// The host's name has no address.
#[derive(Debug)]
struct Unresolved(String);

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Unresolved {}

fn unresolved(host: &str, why: &io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, Unresolved(format!("{host:?} has no address: {why}")))
}

/// The reason why there is no connection.
pub(super) fn reason(why: &io::Error) -> Unreachable {
    let inner = why.get_ref();
    if inner.is_some_and(|inner| inner.is::<Unresolved>()) {
        return Unreachable::Unresolved;
    }
    if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return reason_of_tls(tls);
    }
    match why.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Unreachable::Refused,
        io::ErrorKind::TimedOut => Unreachable::Timeout,
        _ => Unreachable::Connection,
    }
}

fn reason_of_tls(why: &rustls::Error) -> Unreachable {
    let rustls::Error::InvalidCertificate(why) = why else { return Unreachable::Tls };
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Unreachable::TlsUntrusted,
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Unreachable::TlsExpired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Unreachable::TlsWrongName
        }
        // A certificate that is its own authority, and is not one of those that are trusted.
        CertificateError::Other(_) => Unreachable::TlsUntrusted,
        _ => Unreachable::Tls,
    }
}

/// The host of an address as the resolver takes it.
fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The name that a host's certificate must have.
fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(without_brackets(host).to_owned()).map_err(|why| format!("{host:?}: {why}"))
}

fn tls(options: &Options) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?
        .with_root_certificates(trusted(options.ca_pem.as_deref())?);
    let config = match options.identity_pem.as_deref() {
        Some(pem) => {
            let unread = |why| format!("identity_pem cannot be read: {why}");
            let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(unread)?;
            let key = PrivateKeyDer::from_pem_slice(pem).map_err(unread)?;
            config.with_client_auth_cert(chain, key).map_err(|why| format!("identity_pem cannot be used: {why}"))?
        }
        None => config.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Those of the PEM, or those that the machine trusts.
fn trusted(ca_pem: Option<&[u8]>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|why| format!("ca_pem cannot be read: {why}"))?;
                roots.add(certificate).map_err(|why| format!("ca_pem holds no certificate of an authority: {why}"))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err("no authority is trusted: ca_pem is empty, or this machine trusts none".to_owned());
    }
    Ok(roots)
}
