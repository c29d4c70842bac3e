//! A hundred thousand forgeries against an installation that has taken a bundle: none is taken.
//!
//! `USHERD_SEED=n` replays a run, `USHERD_ROUNDS=n` makes it longer.

use chrono::Duration;
use fastrand::Rng;
use usherd::daemon::sync::envelope::verify;
use usherd::daemon::sync::{Admission, Ratchet};

use crate::bundles::{Desk, KEY, key, keys, noon, trust};

const ROUNDS: u64 = 120_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn desk(serial: u64) -> Desk {
    let seats = format!("kind = \"paid\"\nseats = {serial}\n");
    Desk::new(serial, &[("acme", &seats)])
}

/// Something that was signed, and is not to be taken.
fn signed_but_wrong(rng: &mut Rng) -> Vec<u8> {
    let mut wrong = desk(rng.u64(12..1_000));
    let days = Duration::days(rng.i64(1..400));
    match rng.u8(0..7) {
        0 => wrong.serial = rng.u64(0..10),
        1 => (wrong.serial, wrong.expires) = (10, noon() + Duration::days(91)),
        2 => wrong.installation = format!("berlin-{}", rng.u64(2..)),
        3 => (wrong.not_before, wrong.expires) = (noon() - days - days, noon() - days),
        4 => (wrong.not_before, wrong.expires) = (noon() + days, noon() + days + days),
        5 => (wrong.serial, wrong.previous) = (11, Some([rng.u8(..); 32])),
        _ => _ = wrong.records.insert(format!("Tenant {}", rng.u8(..)), String::new()),
    }
    wrong.seal(&key(1))
}

/// A good bundle that somebody put his hands on.
fn tampered(rng: &mut Rng, good: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = rng.choice(good).unwrap().clone();
    let at = rng.usize(0..bytes.len());
    match rng.u8(0..10) {
        0..=3 => bytes[at] ^= 1 << rng.u8(0..8),
        4 => bytes.truncate(at),
        5 => bytes.extend((0..rng.usize(1..20)).map(|_| b' ')),
        6 => bytes.insert(at, rng.u8(..)),
        7 => {
            let run = rng.usize(1..=(bytes.len() - at).min(40));
            bytes[at..at + run].iter_mut().for_each(|byte| *byte ^= rng.u8(1..));
        }
        8 => {
            // The header of one over the payload of another.
            let other = rng.choice(good).unwrap();
            let end = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n').unwrap();
            bytes = [&bytes[..end(&bytes)], &other[end(other)..]].concat();
            if good.contains(&bytes) {
                bytes.clear();
            }
        }
        _ => bytes = key(rng.u8(3..)).seal(KEY, &desk(rng.u64(11..)).payload()),
    }
    if good.contains(&bytes) { bytes[..at].to_vec() } else { bytes }
}

#[test]
fn no_forgery_cut_or_replay_is_ever_taken_i23() {
    let seed = setting("USHERD_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("USHERD_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let keys = keys();
    let tenth = verify(&desk(10).seal(&key(1)), &trust(&keys), &Ratchet::default(), noon()).unwrap().0;
    let ratchet = Ratchet::default().taken(KEY, 10, tenth.sha256);
    let before = ratchet.clone();
    let good: Vec<Vec<u8>> = (11..27).map(|serial| desk(serial).seal(&key(1))).collect();
    for round in 0..setting("USHERD_ROUNDS").unwrap_or(ROUNDS) {
        let (what, bytes) = match round % 4 {
            0 => ("signed but wrong", signed_but_wrong(&mut rng)),
            _ => ("tampered", tampered(&mut rng, &good)),
        };
        let verdict = verify(&bytes, &trust(&keys), &ratchet, noon());
        assert!(verdict.is_err(), "USHERD_SEED={seed} round {round}: {what} was taken: {verdict:?}");
        // The guard is no wall: what is good is still taken.
        if round % 1_000 == 0 {
            let (_, admission) = verify(rng.choice(&good).unwrap(), &trust(&keys), &ratchet, noon()).unwrap();
            assert_eq!(admission, Admission::Fresh);
        }
    }
    assert_eq!(ratchet, before);
}
