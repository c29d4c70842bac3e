//! TLS for a listener: its certificate, which can be renewed while it listens, and which of clients it takes.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::client_certificates;
use super::protocol::Protocol;
use super::validity::of_der;

/// The files of a TLS listener, as PEM.
#[derive(Clone)]
pub struct TlsFiles<'a> {
    /// The certificate and its chain.
    pub certificates: &'a [u8],
    /// Its private key.
    pub key: &'a [u8],
    /// The authorities whose client certificates are taken, and what they revoked; `None` asks for none.
    pub client_authorities: Option<&'a [u8]>,
    /// True if a client without a good certificate is turned away at the handshake.
    pub client_certificate_required: bool,
}

/// The fault of the files of a TLS listener; never shows key material.
#[derive(Debug)]
pub struct TlsError(String);

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

fn wrong(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> TlsError {
    move |error| TlsError(format!("{what}: {error}"))
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|e| wrong(what)(&e))?;
    if found.is_empty() { Err(TlsError(format!("{what}: no certificate in it"))) } else { Ok(found) }
}

/// The certificate that a listener shows. Another can take its place: who connects from then on sees that.
#[derive(Debug)]
pub struct Certificate(ArcSwap<CertifiedKey>);

impl Certificate {
    /// The certificate and its chain, and its private key, as PEM.
    ///
    /// # Errors
    /// A sentence that says what could not be read or does not fit together.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        certified(chain, key).map(|key| Certificate(ArcSwap::from_pointee(key)))
    }

    /// Takes up another one; `false` where it is the one that is shown.
    ///
    /// # Errors
    /// As [`Certificate::new`]; then the one before stays.
    pub fn renew(&self, chain: &[u8], key: &[u8]) -> Result<bool, TlsError> {
        let renewed = certified(chain, key)?;
        let is_new = renewed.cert != self.0.load().cert;
        if is_new {
            self.0.store(Arc::new(renewed));
        }
        Ok(is_new)
    }

    /// When the first certificate of the chain expires, seconds since 1970 UTC; `None` where none can be read.
    pub fn expires_s(&self) -> Option<i64> {
        let shown = self.0.load();
        shown.cert.iter().filter_map(|der| Some(of_der(der)?.until.timestamp())).min()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// A certificate that is shown, with the files that it is read from.
#[derive(Debug)]
pub struct Served {
    /// It.
    pub certificate: Arc<Certificate>,
    /// The chain, PEM.
    pub cert_file: PathBuf,
    /// The private key, PEM.
    pub key_file: PathBuf,
}

impl Served {
    /// Looks whether other ones stand in its files.
    ///
    /// # Errors
    /// A file cannot be read, or as [`Certificate::renew`].
    pub fn renew(&self) -> Result<bool, String> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        self.certificate.renew(&read(&self.cert_file)?, &read(&self.key_file)?).map_err(|error| error.to_string())
    }
}

fn certified(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(chain, "the certificate file")?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| wrong("the key file")(&e))?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(|e| wrong("the certificate and the key")(&e))
}

/// Makes the acceptor of a listener, and the certificate that it shows. ALPN offers the listener's protocol and
/// nothing else.
///
/// # Errors
/// A sentence that says what could not be read or does not fit together.
pub fn acceptor(files: &TlsFiles<'_>, protocol: Protocol) -> Result<(TlsAcceptor, Arc<Certificate>), TlsError> {
    let provider = Arc::new(default_provider());
    let certificate = Arc::new(Certificate::new(files.certificates, files.key)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong("the protocol versions")(&e))?;
    let builder = match files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem, "the client authorities")? {
                roots.add(certificate).map_err(|e| wrong("the client authorities")(&e))?;
            }
            let verifier =
                client_certificates::verifier(roots, pem, files.client_certificate_required, Arc::clone(&provider));
            builder.with_client_cert_verifier(verifier.map_err(|e| wrong("the client authorities")(&e))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::clone(&certificate) as Arc<_>);
    if files.client_authorities.is_some() {
        // Who resumes a session shows no certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::H2c => vec![b"h2".to_vec()],
        // It has no name there.
        Protocol::Resp | Protocol::Agi => Vec::new(),
    };
    Ok((TlsAcceptor::from(Arc::new(config)), certificate))
}
