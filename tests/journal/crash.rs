//! A crash at every call of the disk, with every kind of loss (I11, I12); and canaries that must be caught.

use fastrand::Rng;
use usherd::daemon::journal::{
    Commit, Counters, Epoch, Journal, JournalError, Keep, Local, RecordBuilder, Recovered, Shard, Trimmed,
};

use super::disk::{Disk, Image, Loss};
use super::model::{State, Workload, open, options, play};

const GROUPS: usize = 24;

/// Runs the workload in three lives of a daemon and gives the disk at every call.
fn film<J: Journal>(workload: &Workload, disk: &Disk, make: impl Fn() -> J) -> Vec<Image> {
    disk.film();
    for life in 0..3 {
        let journal = make();
        let epoch = journal.acquire(Shard::ALL).unwrap();
        let recovered = journal.replay(Shard::ALL).unwrap();
        let span = (life * GROUPS / 3, (life + 1) * GROUPS / 3);
        assert_eq!(recovered.degraded, None);
        play((&journal, epoch), disk, workload, span, 4);
        let keep = Keep { age_ms: 3_000, bytes: 1 << 20 };
        journal.trim(epoch, keep, super::model::utc(span.1)).unwrap();
    }
    disk.take_film()
}

/// Checks the state after this crash.
fn check(workload: &Workload, image: &Image, loss: Loss, sync: bool, rng: &mut Rng) -> Result<(), String> {
    let disk = Disk::of(image.after(loss, rng));
    let (journal, _, recovered) = open(&disk, sync, 300).map_err(|error| format!("{error}"))?;
    let state = State::of(&recovered);
    let promised = sync || loss == Loss::Kill;
    if promised {
        if let Some(why) = &recovered.degraded {
            return Err(format!("degraded without damage: {why}"));
        }
        if !workload.is_between(&state, image.acked, image.issued) {
            let reached = workload.reached(&state);
            return Err(format!("acked {}, issued {}, found {reached:?}", image.acked, image.issued));
        }
    } else if recovered.degraded.is_none() && !workload.is_between(&state, 0, image.issued) {
        return Err("a state that never was, and not said so".to_owned());
    }
    drop(journal);
    let (journal, _, again) = open(&disk, sync, 300).map_err(|error| format!("{error}"))?;
    if State::of(&again) != state || again.degraded.is_some() != recovered.degraded.is_some() {
        return Err(format!("the second recovery differs: {:?}, then {:?}", recovered.degraded, again.degraded));
    }
    drop(journal);
    Ok(())
}

fn crashes<J: Journal>(seed: u64, sync: bool, lies: bool, make: impl Fn(&Disk) -> J) -> Result<u64, String> {
    let workload = Workload::new(seed, GROUPS);
    let mut rng = Rng::with_seed(seed ^ 0x5eed);
    let disk = Disk::new(lies);
    let mut crashes = 0;
    for (call, image) in film(&workload, &disk, || make(&disk)).iter().enumerate() {
        for loss in Loss::ALL {
            for _ in 0..if loss == Loss::Kill || loss == Loss::All { 1 } else { 4 } {
                crashes += 1;
                check(&workload, image, loss, sync, &mut rng)
                    .map_err(|what| format!("seed {seed}, call {call}, {loss:?}, sync {sync}: {what}"))?;
            }
        }
    }
    Ok(crashes)
}

fn local(disk: &Disk, sync: bool) -> Local<Disk> {
    Local::new(disk.clone(), options(sync, 300))
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_comes_back() {
    let first = std::env::var("USHERD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1u64);
    let seeds = std::env::var("USHERD_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(10u64);
    let mut all = 0;
    for seed in first..first + seeds {
        for sync in [false, true] {
            all += crashes(seed, sync, false, |disk| local(disk, sync)).unwrap_or_else(|what| panic!("{what}"));
        }
    }
    println!("seeds {first}..{}: {all} crashes", first + seeds);
}

/// Says durable and writes later: the bug that the checker is for.
struct Eager {
    inner: Local<Disk>,
    late: parking_lot::Mutex<Option<RecordBuilder>>,
}

impl Journal for Eager {
    type Snapshot = <Local<Disk> as Journal>::Snapshot;

    fn acquire(&self, shard: Shard) -> Result<Epoch, JournalError> {
        self.inner.acquire(shard)
    }
    fn replay(&self, shard: Shard) -> Result<Recovered, JournalError> {
        self.inner.replay(shard)
    }
    fn commit(&self, epoch: Epoch, group: &mut RecordBuilder) -> Commit {
        let mut copy = RecordBuilder::new();
        copy.absorb(group);
        if let Some(mut late) = self.late.lock().replace(copy) {
            self.inner.commit(epoch, &mut late);
        }
        Commit::Durable
    }
    fn snapshot_begin(&self, epoch: Epoch) -> Result<Self::Snapshot, JournalError> {
        self.inner.snapshot_begin(epoch)
    }
    fn snapshot_chunk(&self, snapshot: &mut Self::Snapshot, group: &mut RecordBuilder) -> Result<(), JournalError> {
        self.inner.snapshot_chunk(snapshot, group)
    }
    fn snapshot_mark(&self, snapshot: &mut Self::Snapshot) {
        self.inner.snapshot_mark(snapshot);
    }
    fn snapshot_end(&self, snapshot: Self::Snapshot) -> Result<(), JournalError> {
        self.inner.snapshot_end(snapshot)
    }
    fn trim(&self, epoch: Epoch, keep: Keep, now_utc_ms: i64) -> Result<Trimmed, JournalError> {
        self.inner.trim(epoch, keep, now_utc_ms)
    }
    fn degraded(&self) -> Option<String> {
        self.inner.degraded()
    }
    fn lost(&self, why: &str) {
        self.inner.lost(why);
    }
    fn counters(&self) -> &Counters {
        self.inner.counters()
    }
}

#[test]
fn canary_acknowledging_before_the_write_is_caught() {
    let caught = crashes(1, false, false, |disk| Eager { inner: local(disk, false), late: Default::default() });
    assert!(caught.is_err(), "{caught:?}");
}

#[test]
fn canary_a_sync_that_does_nothing_is_caught() {
    let caught = crashes(1, true, true, |disk| local(disk, true));
    assert!(caught.is_err(), "{caught:?}");
}

#[test]
fn a_crash_during_recovery_changes_nothing() {
    let workload = Workload::new(7, GROUPS);
    let disk = Disk::default();
    let images = film(&workload, &disk, || local(&disk, true));
    let mut rng = Rng::with_seed(7);
    for image in images.iter().step_by(3) {
        let crashed = image.after(Loss::Garbled, &mut rng);
        let (_, _, recovered) = open(&Disk::of(crashed.clone()), true, 300).unwrap();
        let expected = State::of(&recovered);
        let disk = Disk::of(crashed);
        disk.film();
        drop(open(&disk, true, 300).unwrap());
        for image in disk.take_film() {
            for loss in Loss::ALL {
                let (_, _, again) = open(&Disk::of(image.after(loss, &mut rng)), true, 300).unwrap();
                assert_eq!(State::of(&again), expected, "{loss:?}");
                assert_eq!(again.degraded, None);
            }
        }
    }
}
