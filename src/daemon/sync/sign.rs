//! The other side: makes keys, and bundles that [`super::envelope`] takes.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::Serialize;

use super::envelope::{MAGIC, SCHEMA, signed_text};
use super::ratchet::Hash;
use crate::daemon::text::hex;

/// A private key. Its secret half leaves it by [`SigningKey::to_pkcs8`] only.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", hex(&self.public()))
    }
}

impl SigningKey {
    /// A new one, from the randomness of the system.
    ///
    /// # Errors
    /// The system has none.
    pub fn generate() -> Result<Self, String> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| "the system gives no random numbers".to_owned())?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// One that was kept.
    ///
    /// # Errors
    /// The bytes are not a PKCS#8 document of an Ed25519 key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, String> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8)
            .map_err(|error| format!("not the PKCS#8 document of an Ed25519 key: {error}"))?;
        Ok(SigningKey { pair, pkcs8: pkcs8.to_vec() })
    }

    /// As it is kept: secret.
    pub fn to_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The half that everybody may know.
    pub fn public(&self) -> [u8; 32] {
        let mut public = [0; 32];
        public.copy_from_slice(self.pair.public_key().as_ref());
        public
    }

    /// An envelope around a payload.
    pub fn seal(&self, key_id: &str, payload: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&signed_text(payload));
        [format!("{MAGIC} {key_id} {}\n", hex(signature.as_ref())).as_bytes(), payload].concat()
    }
}

/// The contents of a payload.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// For whom.
    pub installation: &'a str,
    /// Above the one before; not 0.
    pub serial: u64,
    /// When it is made.
    pub issued: DateTime<Utc>,
    /// From when on it holds.
    pub not_before: DateTime<Utc>,
    /// Until when.
    pub expires: DateTime<Utc>,
    /// The payload that it follows.
    pub previous: Option<Hash>,
    /// Tenant ids and the texts of their files.
    pub records: &'a BTreeMap<String, String>,
}

impl Draft<'_> {
    /// The payload.
    ///
    /// # Errors
    /// It cannot be written as JSON: a fault of the program.
    pub fn payload(&self) -> Result<Vec<u8>, String> {
        #[derive(Serialize)]
        struct Wire<'a> {
            schema: u64,
            installation: &'a str,
            serial: u64,
            issued: String,
            not_before: String,
            expires: String,
            previous: String,
            records: &'a BTreeMap<String, String>,
        }
        let at = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let wire = Wire {
            schema: SCHEMA,
            installation: self.installation,
            serial: self.serial,
            issued: at(self.issued),
            not_before: at(self.not_before),
            expires: at(self.expires),
            previous: self.previous.map(|hash| hex(&hash)).unwrap_or_default(),
            records: self.records,
        };
        serde_json::to_vec(&wire).map_err(|error| error.to_string())
    }
}
