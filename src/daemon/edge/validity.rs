//! From when until when a certificate is valid, read from its PEM file.

use chrono::{DateTime, Utc};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// From when until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first instant.
    pub from: DateTime<Utc>,
    /// The last instant.
    pub until: DateTime<Utc>,
}

/// The validity of the first certificate of a PEM file: the one that a listener shows.
///
/// # Errors
/// There is no certificate in it, or it is not one of X.509.
pub fn validity(pem: &[u8]) -> Result<Validity, String> {
    let first = CertificateDer::pem_slice_iter(pem).next().ok_or("there is no certificate in it")?;
    let first = first.map_err(|error| format!("it is no PEM file: {error}"))?;
    of_der(&first).ok_or_else(|| "it is no X.509 certificate".to_owned())
}

/// The validity of a certificate.
pub(super) fn of_der(der: &[u8]) -> Option<Validity> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let instant = |time: x509_parser::time::ASN1Time| DateTime::from_timestamp(time.timestamp(), 0);
    let validity = certificate.validity();
    Some(Validity { from: instant(validity.not_before)?, until: instant(validity.not_after)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_from_when_until_when() {
        let mut params = rcgen::CertificateParams::new(vec!["usherd.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2057, 3, 4);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let read = validity(certificate.pem().as_bytes()).unwrap();
        assert_eq!(
            (read.from.to_string(), read.until.to_string()),
            ("2026-01-02 00:00:00 UTC".into(), "2057-03-04 00:00:00 UTC".into())
        );
        let der = certificate.der();
        for length in 0..der.len() {
            // Whatever is cut off is no certificate, and no panic.
            assert!(of_der(&der[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        assert!(validity(b"").is_err());
        assert!(validity(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }
}
