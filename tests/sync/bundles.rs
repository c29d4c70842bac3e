//! A publisher's desk: keys, drafts and sealed bundles.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use usherd::daemon::sync::envelope::sha256;
use usherd::daemon::sync::sign::{Draft, SigningKey};
use usherd::daemon::sync::{Hash, Limits, Trust};

pub(crate) const INSTALLATION: &str = "berlin-1";
pub(crate) const KEY: &str = "2026a";

pub(crate) fn t(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(crate) fn noon() -> DateTime<Utc> {
    t("2026-11-22T12:00:00Z")
}

/// The contents of a bundle; valid from noon for 90 days unless they are changed.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) installation: String,
    pub(crate) serial: u64,
    pub(crate) issued: DateTime<Utc>,
    pub(crate) not_before: DateTime<Utc>,
    pub(crate) expires: DateTime<Utc>,
    pub(crate) previous: Option<Hash>,
    pub(crate) records: BTreeMap<String, String>,
}

impl Desk {
    pub(crate) fn new(serial: u64, records: &[(&str, &str)]) -> Self {
        Desk {
            installation: INSTALLATION.to_owned(),
            serial,
            issued: noon(),
            not_before: noon(),
            expires: noon() + Duration::days(90),
            previous: None,
            records: records.iter().map(|(id, text)| ((*id).to_owned(), (*text).to_owned())).collect(),
        }
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        let draft = Draft {
            installation: &self.installation,
            serial: self.serial,
            issued: self.issued,
            not_before: self.not_before,
            expires: self.expires,
            previous: self.previous,
            records: &self.records,
        };
        draft.payload().unwrap()
    }

    pub(crate) fn hash(&self) -> Hash {
        sha256(&self.payload())
    }

    pub(crate) fn seal(&self, key: &SigningKey) -> Vec<u8> {
        key.seal(KEY, &self.payload())
    }
}

/// The same keys in every run, from a number.
pub(crate) fn key(number: u8) -> SigningKey {
    // PKCS#8 v1 of an Ed25519 seed.
    let mut pkcs8 =
        vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    pkcs8.extend_from_slice(&[number; 32]);
    SigningKey::from_pkcs8(&pkcs8).unwrap()
}

pub(crate) fn limits() -> Limits {
    Limits { bundle_bytes: 4_096, records: 3, record_bytes: 256 }
}

pub(crate) fn trust(keys: &BTreeMap<String, [u8; 32]>) -> Trust<'_> {
    Trust { keys, installation: INSTALLATION, limits: limits() }
}

pub(crate) fn keys() -> BTreeMap<String, [u8; 32]> {
    BTreeMap::from([(KEY.to_owned(), key(1).public()), ("2026b".to_owned(), key(2).public())])
}
