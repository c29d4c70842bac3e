//! Client certificates: asked for, and taken as a credential where their chain is good; a bad one is none at all.
//!
//! A caller without a good certificate must not be turned away at the handshake: nobody would answer its inbound and
//! emergency calls (I8). So what is shown is never refused for its chain, and who shows it has a name only where the
//! chain was found good within this very handshake. Sessions are not resumed, so there is no other way to a name.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::socket::Transport;

tokio::task_local! {
    /// The names of the certificate whose chain was found good in the handshake that runs.
    static FOUND_GOOD: Rc<RefCell<Vec<String>>>;
}

/// Shakes hands: the connection, and the DNS names and URIs of the client's certificate; none where it shows none,
/// or one whose chain is not good.
///
/// # Errors
/// The handshake failed: it is no TLS, the client distrusts us, or it has not the key of its certificate; `TimedOut`
/// where it took longer than `within`, and then the connection is reset.
pub(super) async fn accept<S: Transport>(
    acceptor: &TlsAcceptor,
    socket: S,
    within: Duration,
) -> io::Result<(TlsStream<S>, Vec<String>)> {
    let names: Rc<RefCell<Vec<String>>> = Rc::default();
    let mut handshake = acceptor.accept(socket);
    let Ok(shaken) = timeout(within, FOUND_GOOD.scope(Rc::clone(&names), &mut handshake)).await else {
        if let Some(socket) = handshake.get_ref() {
            socket.give_up();
        }
        return Err(io::ErrorKind::TimedOut.into());
    };
    Ok((shaken?, names.take()))
}

/// The verifier of client certificates, from PEM: authorities, and their lists of revoked certificates where there are
/// any.
///
/// # Errors
/// A sentence that says what could not be read.
pub(super) fn verifier(
    roots: RootCertStore,
    pem: &[u8],
    is_required: bool,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let lists = lists.map_err(|error| error.to_string())?;
    let strict = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls(lists)
        .allow_unknown_revocation_status()
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(Asking { strict, is_required }))
}

/// Asks for a certificate, and judges it; refuses a bad one only where a good one is required.
#[derive(Debug)]
struct Asking {
    strict: Arc<dyn ClientCertVerifier>,
    is_required: bool,
}

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.strict.verify_client_cert(end_entity, intermediates, now) {
            Ok(verified) => {
                // Outside of `accept` nobody learns the names.
                let _ = FOUND_GOOD.try_with(|names| *names.borrow_mut() = names_of(end_entity));
                Ok(verified)
            }
            Err(error) if self.is_required => Err(error),
            Err(_) => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unless_unreadable(certificate, self.strict.verify_tls12_signature(message, certificate, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unless_unreadable(certificate, self.strict.verify_tls13_signature(message, certificate, signed))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

/// A signature counts, but where there is no reading the certificate, as one of X.509 version 1: its key is not known
/// then, and neither is its chain, so that it is nobody's credential.
fn unless_unreadable(
    certificate: &CertificateDer<'_>,
    verified: Result<HandshakeSignatureValid, Error>,
) -> Result<HandshakeSignatureValid, Error> {
    match verified {
        Err(_) if webpki::EndEntityCert::try_from(certificate).is_err() => Ok(HandshakeSignatureValid::assertion()),
        verified => verified,
    }
}

fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_dns_names().chain(certificate.valid_uri_names()).map(str::to_owned).collect()
}
