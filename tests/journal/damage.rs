//! Every bit flipped, every cut, every record duplicated, left out, exchanged or foreign is seen (I13).

use usherd::daemon::journal::audit::verify;
use usherd::daemon::journal::{Flaw, Journal, JournalError, Local, Record, Shard};

use super::disk::{Disk, Image};
use super::model::{State, Workload, open, options, play};

const GROUPS: usize = 14;

/// A small journal with a snapshot in the middle and several segments after it.
fn reference(identity: u128) -> (Image, Workload) {
    let workload = Workload::new(3, GROUPS);
    let disk = Disk::default();
    for (from, to) in [(0, 6), (6, GROUPS)] {
        let journal =
            Local::new(disk.clone(), usherd::daemon::journal::LocalOptions { identity, ..options(true, 400) });
        let epoch = journal.acquire(Shard::ALL).unwrap();
        journal.replay(Shard::ALL).unwrap();
        play((&journal, epoch), &disk, &workload, (from, to), 4);
    }
    (disk.image(), workload)
}

fn last(image: &Image, kind: &str) -> String {
    image.names().into_iter().rfind(|name| name.starts_with(kind)).unwrap()
}

/// Where each record of a file begins, and where the last one ends.
fn borders(bytes: &[u8]) -> Vec<usize> {
    let mut at = vec![0];
    while let Ok(record) = Record::parse(&bytes[at[at.len() - 1]..]) {
        at.push(at[at.len() - 1] + record.bytes());
    }
    assert_eq!(at.last(), Some(&bytes.len()));
    at
}

/// A changed journal gives the same state, or says that it is degraded; with `end` it may also have lost
/// records from the end, as an interrupted write does. A second start finds the same.
fn check(what: &str, image: &Image, workload: &Workload, end: bool) -> bool {
    let disk = Disk::of(image.clone());
    let (journal, _, recovered) = open(&disk, true, 400).unwrap_or_else(|error| panic!("{what}: {error}"));
    let state = State::of(&recovered);
    let same = state == workload.states[GROUPS];
    let shorter = end && workload.is_between(&state, 0, GROUPS);
    assert!(same || shorter || recovered.degraded.is_some(), "{what}: another state, and not said so");
    drop(journal);
    let (_, _, again) = open(&disk, true, 400).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(State::of(&again), state, "{what}: {:?} then {:?}", recovered.degraded, again.degraded);
    assert_eq!(again.degraded.is_some(), recovered.degraded.is_some(), "{what}: {:?}", recovered.degraded);
    recovered.degraded.is_some()
}

#[test]
fn the_reference_is_sound() {
    let (image, workload) = reference(1);
    assert!(image.names().len() > 5, "{:?}", image.names());
    assert!(!check("untouched", &image, &workload, false));
    let verified = verify(&Disk::of(image)).unwrap();
    assert_eq!((verified.bad, verified.torn), (vec![], None));
    assert!(verified.records > GROUPS as u64);
}

#[test]
fn every_bit_matters_or_is_missed_loudly() {
    let (image, workload) = reference(1);
    let last = last(&image, "segment-");
    let (mut flips, mut degraded) = (0u64, 0u64);
    for name in image.names() {
        let bytes = image.bytes(&name);
        let borders = borders(&bytes);
        for bit in 0..bytes.len() * 8 {
            let mut changed = image.clone();
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            changed.put(&name, flipped);
            let end = name == last && bit / 8 >= borders[borders.len() - 2];
            flips += 1;
            degraded += u64::from(check(&format!("{name} bit {bit}"), &changed, &workload, end));
            let found = verify(&Disk::of(changed)).unwrap();
            assert!(!found.bad.is_empty() || (end && found.torn.is_some()), "{name} bit {bit}: not seen by verify");
        }
    }
    println!("{flips} bits flipped, {degraded} of them said to be damage, the others harmless");
    assert!(degraded > flips / 4);
}

#[test]
fn every_cut_is_seen() {
    let (image, workload) = reference(1);
    let last = last(&image, "segment-");
    for name in image.names() {
        let bytes = image.bytes(&name);
        for length in 0..bytes.len() {
            let mut changed = image.clone();
            changed.put(&name, bytes[..length].to_vec());
            check(&format!("{name} cut to {length}"), &changed, &workload, name == last);
        }
        let mut changed = image.clone();
        changed.remove(&name);
        check(&format!("{name} removed"), &changed, &workload, name == last);
        for tail in [vec![0; 100], b"foreign text".to_vec()] {
            let mut changed = image.clone();
            changed.put(&name, [bytes.clone(), tail].concat());
            check(&format!("{name} with a tail"), &changed, &workload, false);
        }
    }
}

#[test]
fn records_duplicated_left_out_exchanged_and_foreign_are_seen() {
    let (image, workload) = reference(1);
    let (foreign, _) = reference(2);
    let last = last(&image, "segment-");
    let mut variants = 0;
    for name in image.names() {
        let (bytes, other) = (image.bytes(&name), foreign.bytes(&name));
        let (at, at_other) = (borders(&bytes), borders(&other));
        let records: Vec<&[u8]> = at.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
        let others: Vec<&[u8]> = at_other.windows(2).map(|w| &other[w[0]..w[1]]).collect();
        let mut try_it = |what: &str, records: Vec<&[u8]>, end: bool| {
            let mut changed = image.clone();
            changed.put(&name, records.concat());
            let found = verify(&Disk::of(changed.clone())).unwrap();
            // What lies behind the end that the next segment declares is void, whatever it is.
            let void = name != last && records.concat().starts_with(&bytes);
            assert!(!found.bad.is_empty() || end || void, "{name} {what}: not seen by verify");
            check(&format!("{name} {what}"), &changed, &workload, end);
            variants += 1;
        };
        for i in 0..records.len() {
            let mut twice = records.clone();
            twice.insert(i, records[i]);
            try_it(&format!("record {i} twice"), twice, false);
            let mut without = records.clone();
            without.remove(i);
            try_it(&format!("without record {i}"), without, name == last && i + 1 == records.len());
            let mut with_foreign = records.clone();
            with_foreign[i] = others[i];
            // A snapshot of the same state may begin alike: its links begin with nothing.
            if with_foreign != records {
                try_it(&format!("foreign record {i}"), with_foreign, false);
            }
            for j in i + 1..records.len() {
                let mut swapped = records.clone();
                swapped.swap(i, j);
                try_it(&format!("records {i} and {j} exchanged"), swapped, false);
            }
        }
        let mut changed = image.clone();
        changed.put(&name, other);
        check(&format!("{name} foreign"), &changed, &workload, false);
        for second in image.names() {
            let mut changed = image.clone();
            changed.put(&name, image.bytes(&second));
            changed.put(&second, bytes.clone());
            check(&format!("{name} and {second} exchanged"), &changed, &workload, false);
        }
    }
    println!("{variants} variants");
}

#[test]
fn any_bytes_at_all_are_survived() {
    let (image, _) = reference(1);
    let mut rng = fastrand::Rng::with_seed(11);
    for round in 0..2_000 {
        let mut changed = image.clone();
        for name in image.names() {
            let mut bytes = image.bytes(&name);
            match rng.u8(0..4) {
                0 => bytes.iter_mut().for_each(|byte| *byte = rng.u8(..)),
                1 => {
                    let (from, to) = (rng.usize(0..bytes.len()), rng.usize(0..bytes.len()));
                    bytes.copy_within(from.min(to)..from.max(to), rng.usize(0..=from.min(to)));
                }
                2 => bytes.truncate(rng.usize(0..bytes.len())),
                _ => {}
            }
            changed.put(&name, bytes);
        }
        let disk = Disk::of(changed);
        drop(open(&disk, true, 400).unwrap_or_else(|error| panic!("round {round}: {error}")));
    }
}

#[test]
fn damaged_files_are_set_aside_and_kept() {
    let (image, workload) = reference(1);
    let name = last(&image, "snapshot-");
    let mut bytes = image.bytes(&name);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut changed = image.clone();
    changed.put(&name, bytes.clone());
    let disk = Disk::of(changed);
    let (journal, epoch, recovered) = open(&disk, true, 400).unwrap();
    assert_eq!(recovered.set_aside, [format!("{name}.damaged-1")]);
    assert!(recovered.degraded.unwrap().contains(&name));
    assert_eq!(disk.image().bytes(&format!("{name}.damaged-1")), bytes);
    // A checkpoint makes it whole.
    let mut snapshot = journal.snapshot_begin(epoch).unwrap();
    let mut feed = usherd::daemon::journal::Feed::new(&journal, &mut snapshot);
    workload.feed(GROUPS, &mut feed);
    feed.finish().unwrap();
    journal.snapshot_mark(&mut snapshot);
    journal.snapshot_end(snapshot).unwrap();
    drop(journal);
    let (_, _, recovered) = open(&disk, true, 400).unwrap();
    assert_eq!(recovered.degraded, None);
    assert_eq!(State::of(&recovered), workload.states[GROUPS]);
}

#[test]
fn a_newer_release_is_refused_by_its_format() {
    let (image, _) = reference(1);
    for name in image.names() {
        let mut bytes = image.bytes(&name);
        let at = borders(&bytes);
        let end = at[at.len() - 2];
        bytes[end + 4] = 2;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[end..end + 36]), &bytes[end + 40..]);
        bytes[end + 36..end + 40].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(Record::parse(&bytes[end..]), Err(Flaw::Newer(2))));
        let mut changed = image.clone();
        changed.put(&name, bytes);
        let disk = Disk::of(changed.clone());
        let needed = name == last(&image, "snapshot-") || name == last(&image, "segment-");
        match open(&disk, true, 400) {
            Err(JournalError::Newer { file, format: 2 }) => {
                assert_eq!(file, name);
                assert_eq!(disk.image().names(), changed.names(), "nothing is touched");
            }
            Err(error) => panic!("{name}: {error}"),
            Ok(_) => assert!(!needed, "{name} was read"),
        }
    }
}
