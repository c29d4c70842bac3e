//! TLS for a listener: its certificate, and which client certificates it takes.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::protocol::Protocol;

/// The files of a TLS listener, as PEM.
#[derive(Clone)]
pub struct TlsFiles<'a> {
    /// The certificate and its chain.
    pub certificates: &'a [u8],
    /// Its private key.
    pub key: &'a [u8],
    /// The authorities whose client certificates are taken; `None` asks for none.
    pub client_authorities: Option<&'a [u8]>,
    /// Whether a client without a certificate is turned away at the handshake.
    pub client_certificate_required: bool,
}

/// What was wrong with the files of a TLS listener; never shows key material.
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

/// Makes the acceptor of a listener. ALPN offers the listener's protocol and nothing else.
///
/// # Errors
/// What could not be read or does not fit together.
pub fn acceptor(files: &TlsFiles<'_>, protocol: Protocol) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(files.certificates, "the certificate file")?;
    let key = PrivateKeyDer::from_pem_slice(files.key).map_err(|e| wrong("the key file")(&e))?;
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
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if files.client_certificate_required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|e| wrong("the client authorities")(&e))?)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|e| wrong("the certificate and the key")(&e))?;
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::H2c => vec![b"h2".to_vec()],
        // It has no name there.
        Protocol::Resp => Vec::new(),
    };
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The DNS names and URIs that a verified client certificate is for.
pub(super) fn certificate_names(connection: &rustls::ServerConnection) -> Vec<String> {
    let Some(certificate) = connection.peer_certificates().and_then(<[_]>::first) else { return Vec::new() };
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_dns_names().chain(certificate.valid_uri_names()).map(str::to_owned).collect()
}
