//! The disk fails at every call, once or for good: grants go on, nothing lies, and it heals (I14).

use usherd::daemon::journal::{Commit, Feed, Journal, JournalError, RecordBuilder};

use super::disk::{Disk, Fault, Loss};
use super::model::{Op, State, Workload, open, play};

const GROUPS: usize = 16;

/// A checkpoint of the state after all groups.
fn heal<J: Journal>(
    journal: &J,
    epoch: usherd::daemon::journal::Epoch,
    workload: &Workload,
) -> Result<(), JournalError> {
    let mut snapshot = journal.snapshot_begin(epoch)?;
    let mut feed = Feed::new(journal, &mut snapshot);
    workload.feed(GROUPS, &mut feed);
    feed.finish()?;
    journal.snapshot_mark(&mut snapshot);
    journal.snapshot_end(snapshot)
}

fn run(sync: bool, fault: Fault, lasting: bool, at: u64) -> bool {
    let what = format!("sync {sync}, {fault:?}, lasting {lasting}, call {at}");
    let workload = Workload::new(5, GROUPS);
    let disk = Disk::default();
    let (journal, epoch, _) = open(&disk, sync, 400).unwrap();
    let before = disk.calls();
    disk.fail(at, fault, lasting);
    let acked = play((&journal, epoch), &disk, &workload, (0, GROUPS), 4);
    let calls = disk.calls() - before;
    assert_eq!(journal.degraded().is_some() || journal.counters().errors() > 0, calls >= at, "{what}");
    if acked < GROUPS {
        assert!(journal.counters().not_durable() > 0, "{what}");
    }
    disk.works_again();
    // Killed now: what was acknowledged as durable is there.
    let mut rng = fastrand::Rng::with_seed(at);
    let (_, _, recovered) = open(&Disk::of(disk.image().after(Loss::Kill, &mut rng)), sync, 400).unwrap();
    let state = State::of(&recovered);
    let whole = workload.is_between(&state, acked, GROUPS);
    assert!(whole || recovered.degraded.is_some(), "{what}: acked {acked}, found {:?}", workload.reached(&state));
    // Or healed, and killed then: everything is there.
    if journal.degraded().is_some() {
        heal(&journal, epoch, &workload).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    assert_eq!(journal.degraded(), None, "{what}");
    assert_eq!(journal.commit(epoch, &mut workload.group(GROUPS - 1)), Commit::Durable, "{what}");
    let loss = if sync { Loss::All } else { Loss::Kill };
    let (_, _, recovered) = open(&Disk::of(disk.image().after(loss, &mut rng)), sync, 400).unwrap();
    assert_eq!(State::of(&recovered), workload.states[GROUPS], "{what}");
    assert_eq!(recovered.degraded, None, "{what}");
    calls >= at
}

#[test]
fn a_fault_at_every_call_until_the_run_completes() {
    let mut runs = 0;
    for sync in [false, true] {
        for fault in Fault::ALL {
            for lasting in [false, true] {
                runs += (1..).take_while(|at| run(sync, fault, lasting, *at)).count();
            }
        }
    }
    println!("{runs} faults");
    assert!(runs > 100);
}

#[test]
fn a_failed_segment_is_never_written_again() {
    let workload = Workload::new(5, GROUPS);
    let disk = Disk::default();
    let (journal, epoch, _) = open(&disk, true, 1 << 20).unwrap();
    assert_eq!(journal.commit(epoch, &mut workload.group(0)), Commit::Durable);
    disk.fail(1, Fault::Short, false);
    assert_eq!(journal.commit(epoch, &mut workload.group(1)), Commit::NotDurable);
    let writes = disk.writes();
    assert_eq!(journal.commit(epoch, &mut workload.group(2)), Commit::NotDurable);
    assert_eq!(disk.writes(), writes);
    assert!(journal.degraded().unwrap().contains("write the journal"));
    assert_eq!((journal.counters().errors(), journal.counters().not_durable()), (1, 2));
}

#[test]
fn a_fault_during_recovery_is_no_end() {
    let workload = Workload::new(9, GROUPS);
    let disk = Disk::default();
    let (journal, epoch, _) = open(&disk, true, 400).unwrap();
    play((&journal, epoch), &disk, &workload, (0, GROUPS), 5);
    drop(journal);
    let mut damaged = disk.image();
    let name = damaged.names().into_iter().rfind(|name| name.starts_with("segment-")).unwrap();
    let mut bytes = damaged.bytes(&name);
    bytes[60] ^= 4;
    damaged.put(&name, bytes);
    for image in [disk.image(), damaged] {
        let (_, _, recovered) = open(&Disk::of(image.clone()), true, 400).unwrap();
        let (expected, degraded) = (State::of(&recovered), recovered.degraded.is_some());
        for fault in Fault::ALL {
            for lasting in [false, true] {
                for at in 1.. {
                    let disk = Disk::of(image.clone());
                    disk.fail(at, fault, lasting);
                    let first = open(&disk, true, 400);
                    let reached = disk.calls() >= at;
                    if let Ok((journal, epoch, recovered)) = &first {
                        if !lasting {
                            assert_eq!(State::of(recovered), expected, "{fault:?} at {at}");
                        }
                        // Grants go on whatever it is.
                        let mut group = RecordBuilder::new();
                        Op::Denied { tenant: "t".to_owned() }.encode(&mut group);
                        assert_ne!(journal.commit(*epoch, &mut group), Commit::Fenced);
                    }
                    drop(first);
                    disk.works_again();
                    let (_, _, again) = open(&disk, true, 400).unwrap();
                    let same = State::of(&again) == expected && again.degraded.is_some() == degraded;
                    assert!(same || again.degraded.is_some(), "{fault:?} at {at}, lasting {lasting}");
                    if !reached {
                        break;
                    }
                }
            }
        }
    }
}
