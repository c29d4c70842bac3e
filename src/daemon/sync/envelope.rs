//! The signed envelope of a bundle of tenant records: opened and judged, without I/O and without a clock (I23).
//!
//! A bundle is one header line, `usherd-records-1 <key id> <128 hexadecimal digits>`, and the payload behind
//! it. The signature is over the magic word, a line feed and the payload's exact bytes, so that a signature
//! made for something else is never one of a bundle. Nothing is parsed before the signature is good.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};
use sha2::{Digest as _, Sha256};
use usherd_engine::session::check_tenant;

use super::ratchet::{Hash, Ratchet, Seen};
use super::refusal::{Refusal, RefusalCode};
use crate::daemon::config::is_key_id;
use crate::daemon::text::{hex, unhex};

/// First word of the header line; signed before the payload, with a line feed.
pub const MAGIC: &str = "usherd-records-1";
/// Longest header line, its line feed included, bytes.
pub const HEADER_BYTES_MAX: usize = 512;
/// How far the clock of who signs may be ahead of ours, seconds.
pub const SKEW_S: i64 = 300;
/// The schema of payloads that this release reads.
pub const SCHEMA: u64 = 1;
const SIGNATURE_BYTES: usize = 64;

/// The largest size of a bundle and its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The whole envelope, bytes.
    pub bundle_bytes: usize,
    /// Records in it.
    pub records: usize,
    /// One record, bytes.
    pub record_bytes: usize,
}

/// The trust by which a bundle is judged: the settings of an installation.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// Public keys by their ids.
    pub keys: &'a BTreeMap<String, [u8; 32]>,
    /// The name that bundles must be made for.
    pub installation: &'a str,
    /// How large they may be.
    pub limits: Limits,
}

/// A bundle whose signature and form are good; whether it is to be taken now says [`admit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The id of the key that signed it.
    pub key: String,
    /// The key itself: an id may be given to another one later.
    pub public_key: [u8; 32],
    /// Whom it is for.
    pub installation: String,
    /// Its number; each is above the one before.
    pub serial: u64,
    /// SHA-256 of its payload.
    pub sha256: Hash,
    /// When it was made.
    pub issued: DateTime<Utc>,
    /// From when on it holds.
    pub not_before: DateTime<Utc>,
    /// Until when it may be taken or confirmed.
    pub expires: DateTime<Utc>,
    /// SHA-256 of the payload that it follows; `None` where it begins a chain.
    pub previous: Option<Hash>,
    /// Tenant ids and the texts of their files, sorted.
    pub records: BTreeMap<String, Arc<str>>,
}

/// The place of a good bundle, seen from the highest serial of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Its serial is above all seen.
    Fresh,
    /// It is the very one that was taken last.
    Repeated,
}

#[derive(Deserialize)]
struct Probe {
    schema: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    #[serde(rename = "schema")]
    _schema: u64,
    installation: String,
    serial: u64,
    issued: DateTime<Utc>,
    not_before: DateTime<Utc>,
    expires: DateTime<Utc>,
    previous: String,
    records: Records,
}

/// Records by id, where an id that stands twice is an error: JSON readers differ in which one they take.
struct Records(BTreeMap<String, Arc<str>>);

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Records;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tenant ids and the texts of their files")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Records, A::Error> {
                let mut records = BTreeMap::new();
                while let Some((id, text)) = map.next_entry::<String, Arc<str>>()? {
                    if records.contains_key(&id) {
                        return Err(A::Error::custom(format_args!("the record {id:?} stands twice")));
                    }
                    records.insert(id, text);
                }
                Ok(Records(records))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Checks that a bundle is good and to be taken now: [`open`], then [`admit`]. Changes nothing.
///
/// # Errors
/// The first check that it fails.
pub fn verify(
    bytes: &[u8],
    trust: &Trust<'_>,
    ratchet: &Ratchet,
    now: DateTime<Utc>,
) -> Result<(Bundle, Admission), Refusal> {
    let bundle = open(bytes, trust)?;
    let admission = admit(&bundle, ratchet, now)?;
    Ok((bundle, admission))
}

/// Checks, in this order: size, header line, key, signature; then, of the payload: JSON, schema,
/// installation, form, number and size of the records. Time and serial are the matter of [`admit`].
///
/// # Errors
/// The first check that it fails.
pub fn open(bytes: &[u8], trust: &Trust<'_>) -> Result<Bundle, Refusal> {
    let most = trust.limits.bundle_bytes;
    if bytes.len() > most {
        return Err(RefusalCode::TooLarge.because(format!("the bundle has {} bytes, {most} are allowed", bytes.len())));
    }
    let (key, signature, payload) = split(bytes)?;
    let Some(public_key) = trust.keys.get(key) else {
        let known = trust.keys.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(RefusalCode::UnknownKey.because(format!("the bundle is signed by key `{key}`; known: {known}")));
    };
    UnparsedPublicKey::new(&ED25519, public_key).verify(&signed_text(payload), &signature).map_err(|_| {
        RefusalCode::BadSignature.because(format!("the signature is not one of key `{key}` over these bytes"))
    })?;
    parse(payload, key, *public_key, trust)
}

/// The text of a payload that is signed.
pub(super) fn signed_text(payload: &[u8]) -> Vec<u8> {
    [MAGIC.as_bytes(), b"\n", payload].concat()
}

/// Checks that an opened bundle is to be taken now: time (5 minutes of skew before its beginning), serial, chain.
///
/// # Errors
/// The first check that it fails.
pub fn admit(bundle: &Bundle, ratchet: &Ratchet, now: DateTime<Utc>) -> Result<Admission, Refusal> {
    in_time(bundle, now)?;
    if let Some(seen) = ratchet.keys.get(&bundle.key) {
        if ratchet.is_at(&bundle.key, bundle.serial, bundle.sha256) {
            return Ok(Admission::Repeated);
        }
        // Where only the journal remembers the serial, nothing of that bundle is held any more: it is taken again.
        let is_lost = bundle.serial == seen.serial && seen.sha256.is_none();
        if bundle.serial <= seen.serial && !is_lost {
            let what = format!("its serial is {}, and {} was seen of key `{}`", bundle.serial, seen.serial, bundle.key);
            return Err(RefusalCode::Replayed.because(what));
        }
        follows(bundle, seen)?;
    }
    Ok(Admission::Fresh)
}

/// Checks that the bundle right after the one that was taken names that one. Where serials between them were missed,
/// as by an installation that was off, nobody here can know what it should name.
fn follows(bundle: &Bundle, seen: &Seen) -> Result<(), Refusal> {
    match (bundle.previous, seen.sha256) {
        (Some(previous), Some(taken)) if bundle.serial == seen.serial + 1 && previous != taken => {
            let what = format!("it follows payload {}, and {} was taken last", hex(&previous), hex(&taken));
            Err(RefusalCode::BrokenChain.because(what))
        }
        _ => Ok(()),
    }
}

/// Checks that a bundle may be taken, or confirmed, at an instant.
///
/// # Errors
/// Too early or too late.
pub fn in_time(bundle: &Bundle, now: DateTime<Utc>) -> Result<(), Refusal> {
    let ahead = now.checked_add_signed(Duration::seconds(SKEW_S)).unwrap_or(now);
    let begins = bundle.not_before.max(bundle.issued);
    if begins > ahead {
        return Err(RefusalCode::NotYetValid.because(format!("it holds from {begins} on, and it is {now}")));
    }
    if bundle.expires <= now {
        return Err(RefusalCode::Expired.because(format!("it expired at {}, and it is {now}", bundle.expires)));
    }
    Ok(())
}

/// Key id, signature and payload of an envelope. There is one way only to write a header, so that no other
/// bytes are the same bundle.
fn split(bytes: &[u8]) -> Result<(&str, [u8; SIGNATURE_BYTES], &[u8]), Refusal> {
    let wrong = |what: &str| RefusalCode::Malformed.because(format!("the header line {what}"));
    let head = &bytes[..bytes.len().min(HEADER_BYTES_MAX)];
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        return Err(wrong(&format!("does not end within {HEADER_BYTES_MAX} bytes")));
    };
    let line = std::str::from_utf8(&head[..end]).map_err(|_| wrong("is not UTF-8"))?;
    let mut words = line.split(' ');
    let (Some(MAGIC), Some(key), Some(signature), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(wrong(&format!("is not `{MAGIC} KEY-ID SIGNATURE`")));
    };
    if !is_key_id(key) {
        return Err(wrong("names a key whose id is not 1 to 32 of a-z 0-9 . _ -"));
    }
    let signature = unhex(signature).ok_or_else(|| wrong("has no signature of 128 lower-case hexadecimal digits"))?;
    Ok((key, signature, &bytes[end + 1..]))
}

fn parse(payload: &[u8], key: &str, public_key: [u8; 32], trust: &Trust<'_>) -> Result<Bundle, Refusal> {
    let bad = |what: String| RefusalCode::BadPayload.because(what);
    let json =
        |error: serde_json::Error| RefusalCode::BadPayload.because(format!("the payload is not as agreed: {error}"));
    let Probe { schema } = serde_json::from_slice(payload).map_err(json)?;
    if schema != SCHEMA {
        return Err(RefusalCode::UnknownSchema.because(format!("its schema is {schema}, this release reads {SCHEMA}")));
    }
    let found: Payload = serde_json::from_slice(payload).map_err(json)?;
    if found.installation != trust.installation {
        let what = format!("it is for {:?}, this is {:?}", cut(&found.installation), trust.installation);
        return Err(RefusalCode::WrongInstallation.because(what));
    }
    if found.serial == 0 || found.expires <= found.not_before {
        return Err(bad("the serial is 0, or it expires before it begins".to_owned()));
    }
    let previous = match found.previous.as_str() {
        "" => None,
        text => Some(unhex(text).ok_or_else(|| bad("`previous` is neither empty nor a SHA-256".to_owned()))?),
    };
    check_records(&found.records.0, &trust.limits)?;
    Ok(Bundle {
        key: key.to_owned(),
        public_key,
        installation: found.installation,
        serial: found.serial,
        sha256: sha256(payload),
        issued: found.issued,
        not_before: found.not_before,
        expires: found.expires,
        previous,
        records: found.records.0,
    })
}

fn check_records(records: &BTreeMap<String, Arc<str>>, limits: &Limits) -> Result<(), Refusal> {
    if records.len() > limits.records {
        let what = format!("it has {} records, {} are allowed", records.len(), limits.records);
        return Err(RefusalCode::TooManyRecords.because(what));
    }
    for (id, text) in records {
        let mut faults = Vec::new();
        check_tenant(id, &mut faults);
        if !faults.is_empty() {
            return Err(RefusalCode::BadRecord.because(format!("{:?} is not a tenant id", cut(id))));
        }
        if text.len() > limits.record_bytes {
            let what = format!("the record `{id}` has {} bytes, {} are allowed", text.len(), limits.record_bytes);
            return Err(RefusalCode::BadRecord.because(what));
        }
    }
    Ok(())
}

/// SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// A foreign text as far as a message shows it.
fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}
