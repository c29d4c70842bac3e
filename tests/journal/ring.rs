//! The ring: what it took survives a kill at every instruction, and nothing else comes out of it (I11-I13).

use std::sync::Arc;

use fastrand::Rng;
use usherd::daemon::journal::ring::Ring;
use usherd::daemon::journal::{
    Commit, Committer, Durability, Epoch, Feed, Form, Hooks, Journal, Local, RecordBuilder, Recovered, Shard,
};
use usherd_engine::session::Changes;

use super::disk::{Disk, Fault, Image, Loss};
use super::model::{State, Workload, options, record};

const GROUPS: usize = 30;
/// Holds a few turns, so that it fills up and begins anew.
const RING_BYTES: u64 = 2_000;
const SEGMENT_BYTES: u64 = 900;

fn open(disk: &Disk) -> (Local<Disk>, Epoch, Recovered) {
    let journal = Local::new(disk.clone(), options(false, SEGMENT_BYTES));
    journal.set_ring(Ring::new(disk.memory(), RING_BYTES));
    let epoch = journal.acquire(Shard::ALL).unwrap();
    let recovered = journal.replay(Shard::ALL).unwrap();
    (journal, epoch, recovered)
}

/// A life of a daemon: turns go into the ring, and from time to time what came together goes into the chain.
struct Life<'a> {
    journal: Local<Disk>,
    epoch: Epoch,
    disk: &'a Disk,
    workload: &'a Workload,
    queued: RecordBuilder,
    /// Groups that the queue has, by number of the first and of the one behind the last.
    queued_from: usize,
    at: usize,
    acked: usize,
    took: usize,
}

impl<'a> Life<'a> {
    fn begin(disk: &'a Disk, workload: &'a Workload, at: usize) -> Self {
        let (journal, epoch, recovered) = open(disk);
        assert_eq!(recovered.degraded, None);
        Life { journal, epoch, disk, workload, queued: RecordBuilder::new(), queued_from: at, at, acked: at, took: 0 }
    }

    fn decide(&mut self) {
        self.disk.told(self.acked, self.at + 1);
        let mut group = self.workload.group(self.at);
        let kept = self.journal.ring().unwrap().append(&mut group);
        self.queued.absorb(&group);
        self.at += 1;
        self.took += usize::from(kept);
        if kept && self.acked + 1 == self.at {
            self.acked = self.at;
        } else {
            self.copy();
        }
        self.disk.told(self.acked, self.at);
    }

    fn copy(&mut self) {
        if self.queued.is_empty() {
            return;
        }
        let outcome = self.journal.commit(self.epoch, &mut self.queued);
        if outcome == Commit::Durable && self.acked >= self.queued_from {
            self.acked = self.at;
        }
        self.queued.clear(usize::MAX);
        self.queued_from = self.at;
        self.disk.told(self.acked, self.at);
    }

    fn checkpoint(&mut self, rng: &mut Rng, until: usize) -> bool {
        self.copy();
        let Ok(mut snapshot) = self.journal.snapshot_begin(self.epoch) else { return false };
        if self.at < until {
            self.decide();
        }
        if rng.bool() {
            self.copy();
        }
        let mut feed = Feed::new(&self.journal, &mut snapshot);
        self.workload.feed(self.at, &mut feed);
        if feed.finish().is_err() {
            return false;
        }
        if self.at < until {
            self.decide();
        }
        self.copy();
        self.journal.snapshot_mark(&mut snapshot);
        let healed = self.journal.snapshot_end(snapshot).is_ok();
        if healed && self.at < until {
            self.decide();
        }
        healed
    }

    fn run(&mut self, rng: &mut Rng, until: usize) {
        while self.at < until {
            self.decide();
            if rng.u8(0..3) == 0 {
                self.copy();
            }
            if rng.u8(0..6) == 0 {
                self.checkpoint(rng, until);
            }
        }
    }
}

fn check(workload: &Workload, image: &Image, loss: Loss, rng: &mut Rng) -> Result<(), String> {
    let disk = Disk::of(image.after(loss, rng));
    let (journal, _, recovered) = open(&disk);
    let state = State::of(&recovered);
    if loss == Loss::Kill {
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
    if recovered.ring_ignored > 0 {
        return Err("its own ring was taken for another's".to_owned());
    }
    drop(journal);
    let (_, _, again) = open(&disk);
    if State::of(&again) != state || again.ring_records > 0 {
        return Err(format!("the second recovery differs, and took {} from the ring", again.ring_records));
    }
    Ok(())
}

#[test]
fn a_kill_at_every_instruction_loses_nothing_that_the_ring_took() {
    let first = std::env::var("USHERD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1u64);
    let seeds = std::env::var("USHERD_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(12u64);
    let (mut crashes, mut took) = (0, 0);
    for seed in first..first + seeds {
        let workload = Workload::new(seed, GROUPS);
        let mut rng = Rng::with_seed(seed);
        let disk = Disk::default();
        disk.film();
        for part in 1..=3 {
            let from = (part - 1) * GROUPS / 3;
            let mut life = Life::begin(&disk, &workload, from);
            life.run(&mut rng, part * GROUPS / 3);
            took += life.took;
            // Killed with whatever waits; the next life finds it.
        }
        for (call, image) in disk.take_film().iter().enumerate() {
            for loss in Loss::ALL {
                crashes += 1;
                let checked = check(&workload, image, loss, &mut rng);
                checked.unwrap_or_else(|what| panic!("seed {seed}, call {call}, {loss:?}: {what}"));
            }
        }
    }
    println!("seeds {first}..{}: {crashes} crashes, {took} turns in the ring", first + seeds);
    assert!(took > 0);
}

#[test]
fn a_kill_while_it_recovers_changes_nothing() {
    let workload = Workload::new(3, GROUPS);
    let mut rng = Rng::with_seed(3);
    let disk = Disk::default();
    disk.film();
    Life::begin(&disk, &workload, 0).run(&mut rng, GROUPS);
    for image in disk.take_film().iter().step_by(7) {
        let disk = Disk::of(image.after(Loss::Kill, &mut rng));
        let expected = State::of(&open(&Disk::of(disk.image())).2);
        disk.film();
        drop(open(&disk));
        for image in disk.take_film() {
            let (_, _, again) = open(&Disk::of(image.after(Loss::Kill, &mut rng)));
            assert_eq!(State::of(&again), expected);
            assert_eq!((again.degraded, again.ring_ignored), (None, 0));
        }
    }
}

/// A copy that fails: what the ring took before is there after a kill, at every call after it, and once healed all is.
#[test]
fn a_disk_fault_at_any_call_loses_nothing_of_the_ring() {
    let mut runs = 0;
    for fault in Fault::ALL {
        for lasting in [false, true] {
            for at in 1.. {
                let what = format!("{fault:?}, lasting {lasting}, call {at}");
                let workload = Workload::new(5, GROUPS);
                let mut rng = Rng::with_seed(at);
                let disk = Disk::default();
                let mut life = Life::begin(&disk, &workload, 0);
                let before = disk.calls();
                disk.fail(at, fault, lasting);
                disk.film();
                life.run(&mut Rng::with_seed(9), GROUPS);
                let reached = disk.calls() - before >= at;
                for image in disk.take_film() {
                    let (_, _, recovered) = open(&Disk::of(image.after(Loss::Kill, &mut rng)));
                    let state = State::of(&recovered);
                    let whole = workload.is_between(&state, image.acked, image.issued);
                    assert!(whole || recovered.degraded.is_some(), "{what}: {:?}", workload.reached(&state));
                    assert_eq!(recovered.ring_ignored, 0, "{what}");
                }
                disk.works_again();
                if life.journal.degraded().is_some() {
                    assert!(life.checkpoint(&mut rng, GROUPS), "{what}");
                }
                life.copy();
                assert_eq!(life.journal.degraded(), None, "{what}");
                let mut last = workload.group(GROUPS - 1);
                assert_eq!(life.journal.commit(life.epoch, &mut last), Commit::Durable, "{what}");
                assert!(life.journal.ring().unwrap().is_open(), "{what}: it takes turns again");
                drop(life);
                let (_, _, recovered) = open(&disk);
                assert_eq!(State::of(&recovered), workload.states[GROUPS], "{what}");
                assert_eq!((recovered.degraded, recovered.ring_records), (None, 0), "{what}");
                runs += 1;
                if !reached {
                    break;
                }
            }
        }
    }
    println!("{runs} faults");
}

#[test]
fn a_ring_of_another_journal_or_of_another_time_is_left_alone() {
    let workload = Workload::new(7, 8);
    let mut rng = Rng::with_seed(7);
    let disk = Disk::default();
    let old = disk.image();
    let mut life = Life::begin(&disk, &workload, 0);
    (0..2).for_each(|_| life.decide());
    drop(life);
    let with_ring = disk.image();
    // The disk of before, as a back-up brings it back.
    let (_, _, recovered) = open(&Disk::of(with_ring.with_files_of(&old)));
    assert_eq!((recovered.ring_records, recovered.ring_ignored), (0, 2));
    assert!(recovered.sessions.is_empty());
    // A run without the ring went on meanwhile: what waits in it is older than that.
    let without = Disk::of(with_ring.after(Loss::Kill, &mut rng));
    let journal = Local::new(without.clone(), options(false, SEGMENT_BYTES));
    let epoch = journal.acquire(Shard::ALL).unwrap();
    journal.replay(Shard::ALL).unwrap();
    for at in 4..8 {
        assert_eq!(journal.commit(epoch, &mut workload.group(at)), Commit::Durable);
    }
    drop(journal);
    let (_, _, recovered) = open(&without);
    assert_eq!((recovered.ring_records, recovered.ring_ignored), (0, 2));
    // And its own, with every bit of it flipped once, gives what it took or less, and never anything else.
    for bit in (0..with_ring.ring_bytes() * 8).step_by(5) {
        let (_, _, recovered) = open(&Disk::of(with_ring.with_flipped_bit(bit)));
        assert!(workload.is_between(&State::of(&recovered), 0, 2), "bit {bit}");
        assert_eq!(recovered.degraded, None, "bit {bit}");
    }
}

#[test]
fn a_ring_with_a_flipped_bit_takes_what_comes_after() {
    let workload = Workload::new(11, 12);
    let mut rng = Rng::with_seed(11);
    let disk = Disk::default();
    disk.film();
    Life::begin(&disk, &workload, 0).run(&mut rng, 12);
    for (call, image) in disk.take_film().iter().enumerate().step_by(3) {
        let killed = image.after(Loss::Kill, &mut rng);
        for bit in (0..killed.ring_bytes() * 8).step_by(61) {
            let disk = Disk::of(killed.with_flipped_bit(bit));
            let (journal, epoch, recovered) = open(&disk);
            let version = recovered.version_max + 1;
            let mut later = RecordBuilder::new();
            later.at(5);
            later.put(&record("t", "later", "anna", 1, version), true);
            let kept = journal.ring().unwrap().append(&mut later);
            assert!(kept, "call {call}, bit {bit}: it is open and has room");
            assert_eq!(journal.commit(epoch, &mut later), Commit::Durable, "call {call}, bit {bit}");
            drop(journal);
            let (_, _, again) = open(&disk);
            let found = again.sessions.iter().any(|session| &*session.session == "later");
            assert!(found && again.ring_records == 0, "call {call}, bit {bit}: {found}, {}", again.ring_records);
        }
    }
}

#[test]
fn answers_of_a_ring_wait_for_no_disk() {
    let disk = Disk::default();
    let (journal, epoch, _) = open(&disk);
    let committer = Committer::new(Arc::new(journal), epoch, Durability::Written, Hooks::default()).unwrap();
    assert_eq!(committer.form(), Form::Ring);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let writer = committer.writer();
        for at in 0..200 {
            let name = format!("s{at}");
            let (_, ticket) = writer.record(5, |group| group.put(&record("t", &name, "anna", 1, at + 1), true));
            assert_eq!(ticket.await, Commit::Durable);
        }
        assert_eq!(writer.settled().await, Commit::Durable);
    });
    committer.checkpoint(|_| ()).unwrap_or_else(|error| panic!("{error}"));
    committer.close();
    drop(committer);
    assert!(State::of(&open(&disk).2).sessions.is_empty(), "the checkpoint held nothing");
}
