//! Every check of an envelope, each with a bundle that fails it and it alone.

use chrono::Duration;
use usherd::daemon::sync::envelope::{MAGIC, verify};
use usherd::daemon::sync::{Admission, Ratchet, RefusalCode};

use crate::bundles::{Desk, KEY, key, keys, noon, trust};

const ACME: &[(&str, &str)] = &[("acme", "kind = \"paid\"\nseats = 3\n")];

fn judged(bytes: &[u8], ratchet: &Ratchet) -> Result<Admission, RefusalCode> {
    let keys = keys();
    let verdict = verify(bytes, &trust(&keys), ratchet, noon());
    verdict.map(|(_, admission)| admission).map_err(|refusal| {
        assert!(refusal.to_string().starts_with(refusal.code.as_str()) && refusal.to_string().len() > 30, "{refusal}");
        refusal.code
    })
}

fn check(bytes: &[u8], expected: Result<Admission, RefusalCode>) {
    assert_eq!(judged(bytes, &Ratchet::default()), expected, "{}", String::from_utf8_lossy(bytes));
}

fn with(change: impl FnOnce(&mut Desk)) -> Vec<u8> {
    let mut desk = Desk::new(7, ACME);
    change(&mut desk);
    desk.seal(&key(1))
}

fn payload(text: &str) -> Vec<u8> {
    key(1).seal(KEY, text.as_bytes())
}

#[test]
fn a_good_bundle_is_opened_with_everything_in_it() {
    let keys = keys();
    let (bundle, admission) = verify(&with(|_| ()), &trust(&keys), &Ratchet::default(), noon()).unwrap();
    assert_eq!((bundle.serial, bundle.key.as_str(), admission), (7, KEY, Admission::Fresh));
    assert_eq!((bundle.records.len(), &*bundle.records["acme"]), (1, ACME[0].1));
    assert_eq!(bundle.sha256, Desk::new(7, ACME).hash());
}

#[test]
fn a_foreign_envelope_is_refused_before_any_parsing_i23() {
    let good = with(|_| ());
    let line = good.iter().position(|byte| *byte == b'\n').unwrap();
    let (head, body) = (String::from_utf8(good[..line].to_vec()).unwrap(), &good[line + 1..]);
    let under = |head: &str| [head.as_bytes(), b"\n", body].concat();
    for bytes in [
        Vec::new(),
        b"\n".to_vec(),
        good[..line].to_vec(),
        vec![b'a'; 4_096],
        under(&head.replace("usherd-records-1", "usherd-records-2")),
        under(&head.replace(' ', "  ")),
        under(&format!("{head} more")),
        under(&format!("{head}\r")),
        under(&head.to_uppercase().replace("USHERD-RECORDS-1", MAGIC)),
        under(&head[..head.len() - 1]),
        under(&format!("{MAGIC} {} {}", "k".repeat(33), "0".repeat(128))),
    ] {
        check(&bytes, Err(RefusalCode::Malformed));
    }
    check(&vec![b'\n'; 4_097], Err(RefusalCode::TooLarge));
    check(&under(&head.replace("2026a", "2027x")), Err(RefusalCode::UnknownKey));
    check(&under(&head.replace("2026a", "2026b")), Err(RefusalCode::BadSignature));
    check(&key(3).seal(KEY, body), Err(RefusalCode::BadSignature));
    check(&key(3).seal(KEY, b"{ not even JSON"), Err(RefusalCode::BadSignature));
    check(&[&good[..], b"\n"].concat(), Err(RefusalCode::BadSignature));
}

#[test]
fn a_signature_over_the_bare_payload_is_none_of_a_bundle() {
    // Somebody may get the key to sign a text of his choice elsewhere, but not with our magic word before it.
    let good = with(|_| ());
    let body = &good[good.iter().position(|byte| *byte == b'\n').unwrap() + 1..];
    let doubled = [MAGIC.as_bytes(), b"\n", body].concat();
    check(&key(1).seal(KEY, &doubled), Err(RefusalCode::BadPayload));
}

#[test]
fn what_is_signed_but_not_as_agreed_is_refused() {
    let good = String::from_utf8(Desk::new(7, ACME).payload()).unwrap();
    check(&payload(&good), Ok(Admission::Fresh));
    for (from, to, code) in [
        ("\"schema\":1", "\"schema\":2", RefusalCode::UnknownSchema),
        ("\"schema\":1", "\"schema\":2,\"colour\":3", RefusalCode::UnknownSchema),
        ("\"schema\":1,", "", RefusalCode::BadPayload),
        ("\"schema\":1", "\"schema\":1,\"colour\":3", RefusalCode::BadPayload),
        ("\"schema\":1", "\"schema\":1,\"schema\":1", RefusalCode::BadPayload),
        ("\"serial\":7", "\"serial\":-7", RefusalCode::BadPayload),
        ("\"serial\":7", "\"serial\":0", RefusalCode::BadPayload),
        ("\"serial\":7", "\"serial\":7.5", RefusalCode::BadPayload),
        ("\"previous\":\"\"", "\"previous\":\"abc\"", RefusalCode::BadPayload),
        ("2026-11-22T12", "2026-13-22T12", RefusalCode::BadPayload),
        ("berlin-1", "berlin-2", RefusalCode::WrongInstallation),
        ("berlin-1", "", RefusalCode::WrongInstallation),
        ("{\"acme\":", "{\"acme\":\"\",\"acme\":", RefusalCode::BadPayload),
        ("{\"acme\":", "{\"Acme\":", RefusalCode::BadRecord),
        ("{\"acme\":", "{\"../acme\":", RefusalCode::BadRecord),
        ("{\"acme\":", "{\"a\":\"\",\"b\":\"\",\"c\":\"\",\"acme\":", RefusalCode::TooManyRecords),
        ("seats", &"s".repeat(300), RefusalCode::BadRecord),
        ("}}", "}}{}", RefusalCode::BadPayload),
    ] {
        assert!(good.contains(from), "{from}");
        check(&payload(&good.replacen(from, to, 1)), Err(code));
    }
}

#[test]
fn a_bundle_holds_from_its_beginning_to_before_its_end() {
    let min = Duration::minutes;
    for (begins, issued, ends, expected) in [
        (min(5), min(5), min(60), Ok(Admission::Fresh)),
        (min(6), min(0), min(60), Err(RefusalCode::NotYetValid)),
        (min(0), min(6), min(60), Err(RefusalCode::NotYetValid)),
        (min(-60), min(-60), min(1), Ok(Admission::Fresh)),
        (min(-60), min(-60), min(0), Err(RefusalCode::Expired)),
        (min(-60), min(-60), min(-1), Err(RefusalCode::Expired)),
        (min(-10), min(-10), min(-20), Err(RefusalCode::BadPayload)),
    ] {
        let bytes = with(|desk| {
            (desk.not_before, desk.issued, desk.expires) = (noon() + begins, noon() + issued, noon() + ends);
        });
        check(&bytes, expected);
    }
}

#[test]
fn a_serial_goes_up_or_the_bundle_is_the_very_same_i23() {
    let keys = keys();
    let (seventh, _) = verify(&with(|_| ()), &trust(&keys), &Ratchet::default(), noon()).unwrap();
    let ratchet = Ratchet::default().taken(KEY, 7, seventh.sha256);
    let mut remembered = ratchet.clone();
    remembered.raise(KEY, 9);
    let fresh = Ok(Admission::Fresh);
    let replayed = Err(RefusalCode::Replayed);
    let previous = Some(seventh.sha256);
    let foreign = Some([9; 32]);
    for (serial, follows, text, expected, after_9) in [
        (7, None, "kind = \"paid\"\nseats = 3\n", Ok(Admission::Repeated), replayed),
        (7, None, "kind = \"paid\"\nseats = 4\n", replayed, replayed),
        (6, None, "kind = \"paid\"\nseats = 3\n", replayed, replayed),
        (8, None, "kind = \"paid\"\nseats = 3\n", fresh, replayed),
        // Of the ninth only the number is remembered: nothing of it is held, and it is taken.
        (9, None, "kind = \"paid\"\nseats = 3\n", fresh, fresh),
        (10, None, "kind = \"paid\"\nseats = 3\n", fresh, fresh),
        (10, previous, "kind = \"paid\"\nseats = 3\n", fresh, fresh),
        (8, previous, "kind = \"paid\"\nseats = 3\n", fresh, replayed),
        (8, foreign, "kind = \"paid\"\nseats = 3\n", Err(RefusalCode::BrokenChain), replayed),
        (9, foreign, "kind = \"paid\"\nseats = 3\n", fresh, fresh),
        (10, foreign, "kind = \"paid\"\nseats = 3\n", fresh, fresh),
        (u64::MAX, previous, "kind = \"paid\"\nseats = 3\n", fresh, fresh),
    ] {
        let bytes = with(|desk| {
            (desk.serial, desk.previous) = (serial, follows);
            desk.records.insert("acme".to_owned(), text.to_owned());
        });
        assert_eq!(judged(&bytes, &ratchet), expected, "{serial} {follows:?}");
        assert_eq!(judged(&bytes, &remembered), after_9, "{serial} {follows:?}, after 9");
        if follows.is_none() {
            check(&bytes, fresh);
        }
    }
    let mut lower = ratchet.clone();
    lower.raise(KEY, 3);
    assert_eq!(lower, ratchet, "a mark that is lower takes nothing back");
}
