//! The journal in a folder: append-only segments, snapshots, and one owner at a time.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::codec::{Group, Hash, RecordKind};
use super::files::{SegmentHead, SnapshotEnd, SnapshotHead, Tail, segment_name, snapshot_name, unfinished_name};
use super::recovery::{Catalogue, Damage, recover};
use super::state::Recovered;
use super::storage::Storage;
use super::{Commit, Counters, Epoch, Feed, Journal, JournalError, Keep, Shard, Trimmed};

/// Buffers of finished records keep at most so much memory, in bytes.
pub(super) const BUFFER_BYTES_MAX: usize = 1 << 20;
/// Snapshots kept: the newest, and one to fall back to.
const SNAPSHOTS_KEPT: usize = 2;

/// How a local journal works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalOptions {
    /// Whether a commit returns only when the record is on disk (`synced`).
    pub sync: bool,
    /// A segment that has become so long is followed by a new one, bytes.
    pub segment_bytes_max: u64,
    /// What the chain of a new journal begins with, so that no two journals share a record.
    pub identity: u128,
}

impl Default for LocalOptions {
    fn default() -> Self {
        LocalOptions { sync: false, segment_bytes_max: 64 << 20, identity: fastrand::u128(..) }
    }
}

/// A journal in a folder.
pub struct Local<S: Storage> {
    storage: S,
    options: LocalOptions,
    keeper: Mutex<Keeper<S>>,
    degraded: Mutex<Option<String>>,
    /// Something was decided that no record holds; the next segment says so.
    gap: AtomicBool,
    /// Number of failures so far: a snapshot heals only those before it began.
    failures: AtomicU64,
    counters: Counters,
}

/// What only the owner changes.
struct Keeper<S: Storage> {
    lock: Option<S::Lock>,
    epoch: Epoch,
    /// The segment that is written; `None` before replay, and after a failure: it is never written again.
    file: Option<S::File>,
    /// Segments that were ended and may not be on disk yet.
    retired: Vec<S::File>,
    tail: Tail,
    next_number: u64,
    version_max: u64,
    utc_ms: i64,
    buffer: Group,
}

/// A snapshot that is being written to a local journal.
pub struct LocalSnapshot<S: Storage> {
    head: SnapshotHead,
    file: Option<S::File>,
    seq: u64,
    hash: Hash,
    entries: u64,
    failures: u64,
    mark: Option<SnapshotEnd>,
    unsynced: Vec<S::File>,
}

impl<S: Storage> Local<S> {
    /// A journal in this folder. Nothing is touched before [`Journal::acquire`].
    pub fn new(storage: S, options: LocalOptions) -> Self {
        let keeper = Keeper {
            lock: None,
            epoch: Epoch(0),
            file: None,
            retired: Vec::new(),
            tail: Tail::default(),
            next_number: 1,
            version_max: 0,
            utc_ms: 0,
            buffer: Group::new(),
        };
        Local {
            storage,
            options,
            keeper: Mutex::new(keeper),
            degraded: Mutex::new(Some("not recovered yet".to_owned())),
            gap: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    /// The folder.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Appends a sealed record; a short write is a failure, because the rest would fail as well.
    fn append(&self, file: &S::File, bytes: &[u8]) -> io::Result<()> {
        match self.storage.append(file, bytes)? {
            written if written == bytes.len() => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::StorageFull, "the disk took only a part")),
        }
    }

    fn note_failure(&self, keeper: &mut Keeper<S>, what: &str, error: &io::Error) {
        keeper.file = None;
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.counters.failed();
        *self.degraded.lock() = Some(format!("cannot {what}: {error}"));
    }

    /// Ends the segment and begins the next one.
    fn roll(&self, keeper: &mut Keeper<S>) -> io::Result<()> {
        let gap = self.gap.load(Ordering::Relaxed);
        let number = keeper.next_number;
        keeper.next_number += 1;
        let head = SegmentHead { number, previous: keeper.tail, gap, utc_ms: keeper.utc_ms };
        let file = self.storage.create(&segment_name(number))?;
        let mut buffer = std::mem::take(&mut keeper.buffer);
        let hash = head.encode(&mut buffer);
        let bytes = buffer.sealed().len() as u64;
        let written = self.append(&file, buffer.sealed());
        keeper.buffer = buffer;
        written?;
        if self.options.sync {
            self.storage.sync(&file)?;
            self.storage.sync_dir()?;
        }
        if let Some(ended) = keeper.file.replace(file) {
            keeper.retired.push(ended);
        }
        keeper.tail = Tail { segment: number, bytes, seq: keeper.tail.seq + 1, hash };
        if gap {
            self.gap.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes the group at the tail.
    fn write(&self, keeper: &mut Keeper<S>, group: &mut Group) -> io::Result<()> {
        let Some(file) = keeper.file.clone() else {
            return Err(io::Error::other("the journal is degraded"));
        };
        if group.payload_bytes() > super::PAYLOAD_BYTES_MAX {
            return Err(io::Error::other("one turn decided more than a record can hold"));
        }
        let hash = group.seal(RecordKind::Group, keeper.tail.seq + 1, keeper.tail.hash);
        let bytes = group.sealed().len() as u64;
        self.append(&file, group.sealed())?;
        if self.options.sync {
            self.storage.sync(&file)?;
        }
        let Tail { segment, bytes: before, seq, .. } = keeper.tail;
        keeper.tail = Tail { segment, bytes: before + bytes, seq: seq + 1, hash };
        keeper.version_max = keeper.version_max.max(group.version_max());
        keeper.utc_ms = keeper.utc_ms.max(group.utc_ms());
        self.counters.committed(bytes);
        Ok(())
    }

    fn begin(&self, keeper: &mut Keeper<S>) -> Result<LocalSnapshot<S>, JournalError> {
        let previous = keeper.tail;
        let failures = self.failures.load(Ordering::Relaxed);
        if let Err(error) = self.roll(keeper) {
            self.note_failure(keeper, "begin a segment", &error);
            return Err(JournalError::io("begin a segment", error));
        }
        let head = SnapshotHead { number: keeper.tail.segment, previous, repaired: String::new() };
        let unsynced = std::mem::take(&mut keeper.retired);
        Ok(LocalSnapshot {
            head,
            file: None,
            seq: 0,
            hash: Hash::default(),
            entries: 0,
            failures,
            mark: None,
            unsynced,
        })
    }

    fn mark(keeper: &Keeper<S>, snapshot: &mut LocalSnapshot<S>) {
        let Tail { seq, hash, .. } = keeper.tail;
        snapshot.mark = Some(SnapshotEnd { seq, hash, version_max: keeper.version_max, entries: 0 });
        snapshot.unsynced.extend(keeper.retired.iter().cloned());
        snapshot.unsynced.extend(keeper.file.clone());
    }

    /// The file of a snapshot, made when the first chunk comes.
    fn snapshot_file(&self, snapshot: &mut LocalSnapshot<S>) -> io::Result<S::File> {
        if let Some(file) = &snapshot.file {
            return Ok(file.clone());
        }
        let file = self.storage.create(&unfinished_name(snapshot.head.number))?;
        snapshot.file = Some(file.clone());
        let mut group = Group::new();
        snapshot.hash = snapshot.head.encode(&mut group);
        snapshot.seq = 1;
        self.append(&file, group.sealed())?;
        Ok(file)
    }

    fn chunk(&self, snapshot: &mut LocalSnapshot<S>, group: &mut Group) -> io::Result<()> {
        let file = self.snapshot_file(snapshot)?;
        let hash = group.seal(RecordKind::SnapshotChunk, snapshot.seq + 1, snapshot.hash);
        self.append(&file, group.sealed())?;
        snapshot.seq += 1;
        snapshot.hash = hash;
        snapshot.entries += u64::from(group.entries());
        Ok(())
    }

    /// A snapshot is worth nothing without the records up to its mark.
    fn sync_segments(&self, snapshot: &LocalSnapshot<S>) -> io::Result<()> {
        for segment in &snapshot.unsynced {
            self.storage.sync(segment)?;
        }
        self.storage.sync_dir()
    }

    /// What a process that was killed wrote may still be in memory only: it must be on disk before the next
    /// segment names it.
    fn settle(&self, segment: u64) -> io::Result<()> {
        if segment != 0 {
            match self.storage.open(&segment_name(segment)) {
                Ok(file) => self.storage.sync(&file)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.storage.sync_dir()
    }

    fn end(&self, snapshot: &mut LocalSnapshot<S>) -> io::Result<()> {
        let file = self.snapshot_file(snapshot)?;
        let Some(mark) = snapshot.mark else {
            return Err(io::Error::other("the snapshot was not marked"));
        };
        let end = SnapshotEnd { entries: snapshot.entries, ..mark };
        let mut group = Group::new();
        end.encode(&mut group, snapshot.seq + 1, snapshot.hash);
        self.append(&file, group.sealed())?;
        self.storage.sync(&file)?;
        self.storage.rename(&unfinished_name(snapshot.head.number), &snapshot_name(snapshot.head.number))?;
        self.storage.sync_dir()
    }

    /// After damage: a new segment, a snapshot of what was recovered, and only then the damaged files are
    /// set aside, so that a crash in between loses nothing that was still there.
    fn repair(&self, keeper: &mut Keeper<S>, found: &mut Recovered, damage: &[Damage]) -> Result<(), JournalError> {
        self.gap.store(true, Ordering::Relaxed);
        let mut snapshot = self.begin(keeper)?;
        snapshot.head.repaired = found.degraded.clone().unwrap_or_default();
        let mut feed = Feed::new(self, &mut snapshot);
        found.feed(&mut feed);
        feed.finish()?;
        Self::mark(keeper, &mut snapshot);
        self.sync_segments(&snapshot)
            .and_then(|()| self.end(&mut snapshot))
            .map_err(|error| JournalError::io("write a snapshot", error))?;
        let listed = self.storage.list().map_err(|error| JournalError::io("list the folder", error))?;
        let mut names: Vec<String> = listed.into_iter().map(|file| file.name).collect();
        for file in damage.iter().map(|damage| &damage.file) {
            if !names.contains(file) {
                continue;
            }
            let free = (1u32..).map(|n| format!("{file}.damaged-{n}")).find(|aside| !names.contains(aside));
            let Some(aside) = free else { continue };
            self.storage.rename(file, &aside).map_err(|error| JournalError::io("set a file aside", error))?;
            names.retain(|name| name != file);
            names.push(aside.clone());
            found.set_aside.push(aside);
        }
        self.storage.sync_dir().map_err(|error| JournalError::io("set a file aside", error))
    }

    fn remove_old_snapshots(&self, catalogue: &Catalogue) -> io::Result<()> {
        let old = catalogue.snapshots.len().saturating_sub(SNAPSHOTS_KEPT);
        for number in &catalogue.snapshots[..old] {
            self.storage.remove(&snapshot_name(*number))?;
        }
        for name in &catalogue.unfinished {
            self.storage.remove(name)?;
        }
        Ok(())
    }

    /// Removes covered segments from the oldest on, each one for good before the next, so that what is left
    /// is always without holes.
    fn remove_segments(&self, catalogue: &Catalogue, keep: Keep, now_utc_ms: i64) -> io::Result<Trimmed> {
        let kept = catalogue.snapshots.len().saturating_sub(SNAPSHOTS_KEPT);
        let covered = catalogue.snapshots.get(kept).copied().unwrap_or(0);
        let sizes = self.storage.list()?;
        let size = |number| {
            let name = segment_name(number);
            sizes.iter().find(|listed| listed.name == name).map_or(0, |listed| listed.bytes)
        };
        let mut all: u64 = catalogue.segments.iter().map(|segment| size(segment.number)).sum();
        let mut trimmed = Trimmed::default();
        for pair in catalogue.segments.windows(2) {
            let [segment, next] = pair else { continue };
            let ended = next.head.as_ref().map_or(i64::MIN, |(head, _)| head.utc_ms);
            let too_old = now_utc_ms.saturating_sub(ended) > keep.age_ms;
            if segment.number >= covered || !(too_old || all > keep.bytes) {
                break;
            }
            self.storage.remove(&segment_name(segment.number))?;
            self.storage.sync_dir()?;
            let bytes = size(segment.number);
            all -= bytes;
            trimmed.segments += 1;
            trimmed.bytes += bytes;
        }
        Ok(trimmed)
    }
}

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
        let mut recovery = recover(&self.storage, &catalogue)?;
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
        let result = if let Err(error) = self.settle(keeper.tail.segment) {
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
        if let Err(error) = result {
            self.note_failure(&mut keeper, "make the journal ready", &io::Error::other(error.to_string()));
            self.gap.store(true, Ordering::Relaxed);
        }
        Ok(recovery.recovered)
    }

    fn commit(&self, epoch: Epoch, group: &mut Group) -> Commit {
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
                if keeper.tail.bytes >= self.options.segment_bytes_max
                    && let Err(error) = self.roll(&mut keeper)
                {
                    self.note_failure(&mut keeper, "begin a segment", &error);
                }
                return Commit::Durable;
            }
            Some(Err(error)) => self.note_failure(&mut keeper, "write the journal", &error),
            None => {}
        }
        keeper.version_max = keeper.version_max.max(group.version_max());
        self.gap.store(true, Ordering::Relaxed);
        self.counters.went_on();
        Commit::NotDurable
    }

    fn snapshot_begin(&self, epoch: Epoch) -> Result<LocalSnapshot<S>, JournalError> {
        let mut keeper = self.keeper.lock();
        if keeper.epoch != epoch {
            return Err(JournalError::Fenced);
        }
        self.begin(&mut keeper)
    }

    fn snapshot_chunk(&self, snapshot: &mut LocalSnapshot<S>, group: &mut Group) -> Result<(), JournalError> {
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
        let keeper = self.keeper.lock();
        if self.failures.load(Ordering::Relaxed) == snapshot.failures && keeper.file.is_some() {
            *self.degraded.lock() = None;
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

    fn degraded(&self) -> Option<String> {
        self.degraded.lock().clone()
    }

    fn lost(&self, why: &str) {
        self.gap.store(true, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.counters.went_on();
        *self.degraded.lock() = Some(why.to_owned());
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}
