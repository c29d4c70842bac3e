//! A journal in a folder as whoever owns it sees it: replay, commit, snapshot, trim.

use std::io;
use std::sync::atomic::Ordering;

use super::codec::{Hash, RecordBuilder};
use super::files::{segment_name, unfinished_name};
use super::local::{Local, LocalSnapshot};
use super::recovery::{Catalogue, recover};
use super::ring::Ring;
use super::state::Recovered;
use super::storage::Storage;
use super::{Commit, Counters, Epoch, Journal, JournalError, Keep, Shard, Trimmed};

impl<S: Storage> Journal for Local<S> {
    type Snapshot = LocalSnapshot<S>;

    fn acquire(&self, shard: Shard) -> Result<Epoch, JournalError> {
        if shard != Shard::ALL {
            return Err(JournalError::UnknownShard);
        }
        let mut keeper = self.keeper.lock();
        if keeper.lock.is_none() {
            let lock = self.storage.lock().map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => JournalError::Locked,
                _ => JournalError::io("lock the state directory", error),
            })?;
            keeper.lock = Some(lock);
        }
        keeper.epoch = Epoch(keeper.epoch.0 + 1);
        Ok(keeper.epoch)
    }

    fn replay(&self, shard: Shard) -> Result<Recovered, JournalError> {
        if shard != Shard::ALL {
            return Err(JournalError::UnknownShard);
        }
        let mut keeper = self.keeper.lock();
        keeper.file = None;
        keeper.retired.clear();
        let catalogue = Catalogue::read(&self.storage)?;
        let mut recovery = recover(&self.storage, &catalogue, self.ring.get())?;
        let found = &mut recovery.recovered;
        keeper.tail = recovery.tail;
        if keeper.tail.segment == 0 {
            keeper.tail.hash = Hash(self.options.identity.to_le_bytes());
        }
        keeper.next_number = catalogue.next_number;
        keeper.version_max = found.version_max;
        keeper.utc_ms = found.last_utc_ms;
        self.gap.store(false, Ordering::Relaxed);
        *self.degraded.lock() = None;
        if let Some(ring) = self.ring.get() {
            // From here on the chain goes on: what an earlier run meant to append is there, or never will be.
            ring.close();
            ring.copied(recovery.ring_from, recovery.tail.seq, recovery.tail.hash);
            keeper.ring_seen = recovery.ring_from;
        }
        let result = if let Err(error) = self.sync_last_segment(keeper.tail.segment) {
            Err(JournalError::io("sync the last segment", error))
        } else if recovery.damage.is_empty() {
            for name in &catalogue.unfinished {
                // A left-over takes room and nothing else: the next trim tries again.
                let _ = self.storage.remove(name);
            }
            self.roll(&mut keeper).map_err(|error| JournalError::io("begin a segment", error))
        } else {
            self.repair(&mut keeper, found, &recovery.damage)
        };
        let result = result.and_then(|()| {
            self.tell_ring(&keeper);
            let taken = self.take_in(&mut keeper, &recovery.frames);
            taken.map_err(|error| JournalError::io("write what waited in the ring", error))
        });
        // All of it is in the live state, and so in the next snapshot.
        keeper.ring_seen = self.ring.get().map_or(0, Ring::end);
        self.recall_unrecorded(&mut recovery.recovered);
        if result.is_ok() {
            self.tell_ring(&keeper);
            self.note_whole(&mut keeper);
        }
        if let Err(error) = result {
            self.ring.get().inspect(|ring| ring.close());
            self.note_failure(&mut keeper, "make the journal ready", &io::Error::other(error.to_string()));
            self.gap.store(true, Ordering::Relaxed);
        }
        Ok(recovery.recovered)
    }

    fn commit(&self, epoch: Epoch, group: &mut RecordBuilder) -> Commit {
        if group.is_empty() {
            return Commit::Durable;
        }
        let mut keeper = self.keeper.lock();
        if keeper.epoch != epoch {
            return Commit::Fenced;
        }
        let result = if keeper.file.is_some() { Some(self.write(&mut keeper, group)) } else { None };
        match result {
            Some(Ok(())) => {
                if keeper.tail.bytes >= self.options.segment_bytes_max {
                    match self.roll(&mut keeper) {
                        Ok(()) => self.tell_ring(&keeper),
                        Err(error) => self.note_failure(&mut keeper, "begin a segment", &error),
                    }
                }
                return Commit::Durable;
            }
            Some(Err(error)) => self.note_failure(&mut keeper, "write the journal", &error),
            None => {}
        }
        if let Some(ring) = self.ring.get() {
            keeper.ring_seen = keeper.ring_seen.max(group.ring_end());
            ring.close();
        }
        keeper.version_max = keeper.version_max.max(group.version_max());
        self.note_unrecorded(&mut keeper, group);
        self.gap.store(true, Ordering::Relaxed);
        self.counters.went_on();
        Commit::NotDurable
    }

    fn snapshot_begin(&self, epoch: Epoch) -> Result<LocalSnapshot<S>, JournalError> {
        let mut keeper = self.keeper.lock();
        if keeper.epoch != epoch {
            return Err(JournalError::Fenced);
        }
        let snapshot = self.begin(&mut keeper)?;
        if let Some(ring) = self.ring.get() {
            ring.covered(keeper.ring_seen, snapshot.head.number);
            self.tell_ring(&keeper);
        }
        Ok(snapshot)
    }

    fn snapshot_chunk(&self, snapshot: &mut LocalSnapshot<S>, group: &mut RecordBuilder) -> Result<(), JournalError> {
        self.chunk(snapshot, group).map_err(|error| {
            self.counters.failed();
            JournalError::io("write a snapshot", error)
        })
    }

    fn snapshot_mark(&self, snapshot: &mut LocalSnapshot<S>) {
        Self::mark(&self.keeper.lock(), snapshot);
    }

    fn snapshot_end(&self, mut snapshot: LocalSnapshot<S>) -> Result<(), JournalError> {
        if let Err(error) = self.sync_segments(&snapshot) {
            let mut keeper = self.keeper.lock();
            self.note_failure(&mut keeper, "sync the journal", &error);
            self.gap.store(true, Ordering::Relaxed);
            return Err(JournalError::io("sync the journal", error));
        }
        if let Err(error) = self.end(&mut snapshot) {
            self.counters.failed();
            let _ = self.storage.remove(&unfinished_name(snapshot.head.number));
            return Err(JournalError::io("write a snapshot", error));
        }
        let mut keeper = self.keeper.lock();
        if self.failures.load(Ordering::Relaxed) == snapshot.failures && keeper.file.is_some() {
            *self.degraded.lock() = None;
            self.note_whole(&mut keeper);
        }
        Ok(())
    }

    fn trim(&self, epoch: Epoch, keep: Keep, now_utc_ms: i64) -> Result<Trimmed, JournalError> {
        if self.keeper.lock().epoch != epoch {
            return Err(JournalError::Fenced);
        }
        self.storage.sync_dir().map_err(|error| JournalError::io("sync the folder", error))?;
        let catalogue = Catalogue::read(&self.storage)?;
        self.remove_old_snapshots(&catalogue)
            .and_then(|()| self.remove_segments(&catalogue, keep, now_utc_ms))
            .map_err(|error| JournalError::io("remove old records", error))
    }

    fn check(&self) {
        let mut keeper = self.keeper.lock();
        let Some(file) = &keeper.file else { return };
        if !self.storage.is_there(&segment_name(keeper.tail.segment), file) {
            let gone = io::Error::other("somebody removed or replaced the folder; a new one is begun within a minute");
            self.note_failure(&mut keeper, "find the files of the journal", &gone);
            self.gap.store(true, Ordering::Relaxed);
            self.ring.get().inspect(|ring| ring.close());
        }
    }

    fn degraded(&self) -> Option<String> {
        self.degraded.lock().clone()
    }

    fn lost(&self, why: &str) {
        self.gap.store(true, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.counters.went_on();
        *self.degraded.lock() = Some(why.to_owned());
    }

    fn ring(&self) -> Option<&Ring> {
        self.ring.get()
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}
