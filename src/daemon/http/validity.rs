//! From when until when a certificate is valid, read from its PEM file.

use chrono::{DateTime, NaiveDateTime, Utc};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version in a certificate, which the oldest ones leave out.
const VERSION: u8 = 0xa0;

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

/// RFC 5280, 4.1: Certificate { TBSCertificate { version?, serial, signature, issuer, validity, …
fn of_der(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(der, &[SEQUENCE])?;
    let (to_be_signed, _) = element(certificate, &[SEQUENCE])?;
    let rest = element(to_be_signed, &[VERSION]).map_or(to_be_signed, |(_, rest)| rest);
    let (_, rest) = element(rest, &[INTEGER])?;
    let (_, rest) = element(rest, &[SEQUENCE])?;
    let (_, rest) = element(rest, &[SEQUENCE])?;
    let (validity, _) = element(rest, &[SEQUENCE])?;
    let (from, until) = element(validity, &[UTC_TIME, GENERALIZED_TIME])?;
    let (until, _) = element(until, &[UTC_TIME, GENERALIZED_TIME])?;
    Some(Validity { from: instant(from)?, until: instant(until)? })
}

/// The contents of the first element, if it is of one of these types, and what follows it.
fn element<'a>(der: &'a [u8], types: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (kind, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        // More than four bytes of length would be no certificate.
        let bytes = usize::from(first & 0x7f);
        let (length, rest) = if (1..=4).contains(&bytes) { rest.split_at_checked(bytes)? } else { return None };
        (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
    };
    let (contents, after) = rest.split_at_checked(length)?;
    types.contains(kind).then_some((contents, after))
}

/// `YYMMDDHHMMSSZ` up to 2049, `YYYYMMDDHHMMSSZ` from then on.
fn instant(text: &[u8]) -> Option<DateTime<Utc>> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match text.len() {
        13 if text.get(..2)? < "50" => format!("20{text}"),
        13 => format!("19{text}"),
        _ => text.to_owned(),
    };
    Some(NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?.and_utc())
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, Timelike};

    use super::*;

    #[test]
    fn instants_of_both_notations() {
        for (text, expected) in [
            ("261122134501Z", Some((2026, 11, 45))),
            ("491231235959Z", Some((2049, 12, 59))),
            ("500101000000Z", Some((1950, 1, 0))),
            ("21000101000000Z", Some((2100, 1, 0))),
            ("2611221345Z", None),
            ("261322134501Z", None),
            ("€61122134501", None),
            ("", None),
        ] {
            let at = instant(text.as_bytes());
            assert_eq!(at.map(|at| (at.year(), at.month(), at.minute())), expected, "{text}");
        }
    }

    #[test]
    fn a_certificate_says_from_when_until_when() {
        let mut params = rcgen::CertificateParams::new(vec!["usherd.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2057, 3, 4);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let read = validity(certificate.pem().as_bytes()).unwrap();
        assert_eq!((read.from.to_string(), read.until.to_string()), ("2026-01-02 00:00:00 UTC".into(), "2057-03-04 00:00:00 UTC".into()));
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
