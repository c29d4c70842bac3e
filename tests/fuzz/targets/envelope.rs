//! A bundle that nobody signed, one that somebody put his hands on, and one that says anything at all under a good
//! signature: refused with a word, or taken as exactly what it says.
//!
//! The first byte of an input chooses what the rest is: see `fuzz_target!` below. Signatures are made here, with
//! a key that is the same in every run, so that an input is short and can be written by hand.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, Duration, Utc};
use libfuzzer_sys::fuzz_target;
use usherd::daemon::sync::envelope::{open, sha256, verify};
use usherd::daemon::text::hex;
use usherd::daemon::sync::sign::{Draft, SigningKey};
use usherd::daemon::sync::{Admission, Bundle, Hash, Limits, Ratchet, Refusal, RefusalCode, Trust};

const KEY: &str = "2026a";
const INSTALLATION: &str = "berlin-1";
const LIMITS: Limits = Limits { bundle_bytes: 4_096, records: 3, record_bytes: 256 };
const SERIAL: u64 = 10;

/// The parts that do not change between inputs.
struct Desk {
    key: SigningKey,
    keys: BTreeMap<String, [u8; 32]>,
    /// Signed, and one serial above what was taken.
    good: Vec<u8>,
    /// The bundle of [`SERIAL`] was taken.
    ratchet: Ratchet,
}

static DESK: LazyLock<Desk> = LazyLock::new(|| {
    let key = key(1);
    let keys = BTreeMap::from([(KEY.to_owned(), key.public()), ("2026b".to_owned(), self::key(2).public())]);
    let taken = sha256(&payload(SERIAL, None, "kind = \"paid\"\nseats = 3\n"));
    let good = key.seal(KEY, &payload(SERIAL + 1, Some(taken), "kind = \"paid\"\nseats = 4\n"));
    Desk { key, keys, good, ratchet: Ratchet::default().taken(KEY, SERIAL, taken) }
});

fn key(number: u8) -> SigningKey {
    // PKCS#8 v1 of an Ed25519 seed.
    let head = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    SigningKey::from_pkcs8(&[&head[..], &[number; 32]].concat()).unwrap()
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_348_800, 0).unwrap()
}

fn payload(serial: u64, previous: Option<Hash>, acme: &str) -> Vec<u8> {
    let records = BTreeMap::from([("acme".to_owned(), acme.to_owned())]);
    let (issued, expires) = (now(), now() + Duration::days(90));
    let draft =
        Draft { installation: INSTALLATION, serial, issued, not_before: issued, expires, previous, records: &records };
    draft.payload().unwrap()
}

/// The verdict, which is the same every time, changes nothing, and where it is a refusal says which and why.
fn judge(bytes: &[u8], ratchet: &Ratchet) -> Result<(Bundle, Admission), Refusal> {
    let trust = Trust { keys: &DESK.keys, installation: INSTALLATION, limits: LIMITS };
    let (keys, before) = (DESK.keys.clone(), ratchet.clone());
    let verdict = verify(bytes, &trust, ratchet, now());
    assert_eq!((&keys, &before), (&DESK.keys, ratchet), "a verdict changes nothing");
    assert_eq!(verdict, verify(bytes, &trust, ratchet, now()));
    if let Err(refusal) = &verdict {
        assert!(RefusalCode::ALL.contains(&refusal.code) && !refusal.what.is_empty(), "{refusal}");
        assert!(!matches!(refusal.code, RefusalCode::Rejected | RefusalCode::Shrinks), "not of an envelope: {refusal}");
        assert!(refusal.to_string().len() < 2_048, "a foreign text makes a long message: {refusal}");
    } else {
        assert!(open(bytes, &trust).is_ok() && bytes.len() <= LIMITS.bundle_bytes);
    }
    verdict
}

/// Bytes that were not signed as they are: whatever is in them, it is never taken.
fn foreign(bytes: &[u8]) {
    if bytes == DESK.good {
        assert_eq!(judge(bytes, &DESK.ratchet).unwrap().1, Admission::Fresh);
        return;
    }
    for ratchet in [&Ratchet::default(), &DESK.ratchet] {
        assert!(judge(bytes, ratchet).is_err(), "taken: {}", String::from_utf8_lossy(bytes));
    }
}

/// The good bundle after a list of edits: four bytes each, where (two), how, and with what.
fn edited(script: &[u8]) -> Vec<u8> {
    let mut bytes = DESK.good.clone();
    for edit in script.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % (bytes.len() + 1);
        let (how, value) = (edit[2] % 6, edit[3]);
        let end = (at + usize::from(value)).min(bytes.len());
        match how {
            0 if at < bytes.len() => bytes[at] ^= value,
            1 => bytes.insert(at, value),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => bytes.extend_from_within(at..end),
            _ => bytes[at..end].make_ascii_uppercase(),
        }
    }
    bytes
}

/// Anything under a good signature: what is taken says word for word what a lenient reader of JSON finds in it,
/// is in time and above what was taken, and is a repetition, no news, the next time.
fn signed(payload: &[u8]) {
    let bytes = DESK.key.seal(KEY, payload);
    let Ok((bundle, admission)) = judge(&bytes, &DESK.ratchet) else {
        return;
    };
    let said: serde_json::Value = serde_json::from_slice(payload).unwrap();
    let at = |name: &str| said[name].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    assert_eq!((said["schema"].as_u64(), said.as_object().unwrap().len()), (Some(1), 8));
    assert_eq!((said["installation"].as_str(), bundle.installation.as_str()), (Some(INSTALLATION), INSTALLATION));
    assert_eq!(said["serial"].as_u64(), Some(bundle.serial));
    assert_eq!((at("issued"), at("not_before"), at("expires")), (bundle.issued, bundle.not_before, bundle.expires));
    assert_eq!(said["previous"].as_str().unwrap(), bundle.previous.map(|hash| hex(&hash)).unwrap_or_default());
    let records: BTreeMap<_, _> =
        said["records"].as_object().unwrap().iter().map(|(id, t)| (&**id, t.as_str())).collect();
    assert_eq!(records, bundle.records.iter().map(|(id, text)| (&**id, Some(&**text))).collect());
    assert!(records.len() <= LIMITS.records && bundle.records.values().all(|text| text.len() <= LIMITS.record_bytes));
    assert_eq!((bundle.key.as_str(), bundle.public_key, bundle.sha256), (KEY, DESK.key.public(), sha256(payload)));

    let ahead = now() + Duration::minutes(5);
    assert!(bundle.not_before <= ahead && bundle.issued <= ahead && bundle.expires > now());
    if admission == Admission::Repeated {
        assert_eq!(Some(bundle.sha256), DESK.ratchet.last);
        return;
    }
    assert!(bundle.serial > SERIAL && bundle.previous.is_none_or(|previous| Some(previous) == DESK.ratchet.last));
    let mut next = DESK.ratchet.taken(KEY, bundle.serial, bundle.sha256);
    assert_eq!(judge(&bytes, &next).unwrap().1, Admission::Repeated);
    assert!(judge(&DESK.good, &next).is_err() || bundle.sha256 == sha256_of_good(), "what it followed is taken again");
    if let Some(above) = bundle.serial.checked_add(1) {
        next.raise(KEY, above);
        assert_eq!(judge(&bytes, &next).unwrap_err().code, RefusalCode::Replayed);
    }
}

fn sha256_of_good() -> Hash {
    let end = DESK.good.iter().position(|byte| *byte == b'\n').unwrap();
    sha256(&DESK.good[end + 1..])
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return foreign(input) };
    match choice {
        // `e`: an edit script on a good bundle.
        b'e' => foreign(&edited(rest)),
        // `p`: a payload that is signed as it is.
        b'p' => signed(rest),
        // `h`: a header for the payload of the good bundle.
        b'h' => {
            let end = DESK.good.iter().position(|byte| *byte == b'\n').unwrap();
            foreign(&[rest, &DESK.good[end..]].concat());
        }
        // `k`: a payload signed by a key that is not known, in the name of one that is.
        b'k' => foreign(&key(3).seal(KEY, rest)),
        // Anything else: the bytes as they are.
        _ => foreign(input),
    }
});
