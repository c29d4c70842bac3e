//! The journal in a folder: append-only segments, snapshots, and one owner at a time.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::codec::{Hash, RecordBuilder, RecordKind};
use super::files::{SegmentHead, SnapshotEnd, SnapshotHead, Tail, segment_name, snapshot_name, unfinished_name};
use super::recovery::{Catalogue, Damage};
use super::ring::{Frame, Ring};
use super::state::Recovered;
use super::storage::Storage;
use super::{Counters, Epoch, Feed, JournalError, Keep, Trimmed};

/// Buffers of finished records keep at most so much memory, in bytes.
pub(super) const BUFFER_BYTES_MAX: usize = 1 << 20;
/// Begins the word of what was not recorded.
const UNRECORDED: &str = "unrecorded";
/// Most of the ring that becomes one record at a start, bytes.
const LEFTOVER_BYTES_MAX: usize = 256 << 10;
/// Snapshots kept: the newest, and one to fall back to.
const SNAPSHOTS_KEPT: usize = 2;

/// How a local journal works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalOptions {
    /// True if a commit returns only when the record is on disk (`synced`).
    pub sync: bool,
    /// A segment that has become so long is followed by a new one, bytes.
    pub segment_bytes_max: u64,
    /// The first link of a new journal's chain, so that no two journals share a record.
    pub identity: u128,
}

impl Default for LocalOptions {
    fn default() -> Self {
        LocalOptions { sync: false, segment_bytes_max: 64 << 20, identity: fastrand::u128(..) }
    }
}

/// A journal in a folder.
pub struct Local<S: Storage> {
    pub(super) storage: S,
    pub(super) options: LocalOptions,
    pub(super) keeper: Mutex<Keeper<S>>,
    pub(super) degraded: Mutex<Option<String>>,
    /// Where decisions wait for the disk.
    pub(super) ring: OnceLock<Ring>,
    /// Something was decided that no record holds; the next segment says so.
    pub(super) gap: AtomicBool,
    /// Number of failures so far: a snapshot heals only those before it began.
    pub(super) failures: AtomicU64,
    pub(super) counters: Counters,
}

/// The state that only the owner changes.
pub(super) struct Keeper<S: Storage> {
    pub(super) lock: Option<S::Lock>,
    pub(super) epoch: Epoch,
    /// The segment that is written; `None` before replay, and after a failure: it is never written again.
    pub(super) file: Option<S::File>,
    /// Segments that were ended and may not be on disk yet.
    pub(super) retired: Vec<S::File>,
    pub(super) tail: Tail,
    pub(super) next_number: u64,
    pub(super) version_max: u64,
    pub(super) utc_ms: i64,
    /// How far the ring was seen: what was decided up to there was committed, or could not be.
    pub(super) ring_seen: u64,
    /// Changes that were answered for and are in no record, since it was whole.
    unrecorded: u64,
    buffer: RecordBuilder,
}

/// A snapshot that is being written to a local journal.
pub struct LocalSnapshot<S: Storage> {
    pub(super) head: SnapshotHead,
    file: Option<S::File>,
    seq: u64,
    hash: Hash,
    entries: u64,
    pub(super) failures: u64,
    mark: Option<SnapshotEnd>,
    unsynced: Vec<S::File>,
}

impl<S: Storage> Local<S> {
    /// A journal in this folder. Nothing is touched before [`Journal::acquire`](super::Journal::acquire).
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
            ring_seen: 0,
            unrecorded: 0,
            buffer: RecordBuilder::new(),
        };
        Local {
            storage,
            options,
            keeper: Mutex::new(keeper),
            degraded: Mutex::new(Some("not recovered yet".to_owned())),
            ring: OnceLock::new(),
            gap: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    /// Lets decisions wait in this ring; before the replay, which reads what an earlier run left in it. The second one
    /// is ignored.
    pub fn set_ring(&self, ring: Ring) {
        let _ = self.ring.set(ring);
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

    pub(super) fn note_failure(&self, keeper: &mut Keeper<S>, what: &str, error: &io::Error) {
        keeper.file = None;
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.counters.failed();
        *self.degraded.lock() = Some(format!("cannot {what}: {error}"));
    }

    /// Ends the segment and begins the next one.
    pub(super) fn roll(&self, keeper: &mut Keeper<S>) -> io::Result<()> {
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
    pub(super) fn write(&self, keeper: &mut Keeper<S>, group: &mut RecordBuilder) -> io::Result<()> {
        let Some(file) = keeper.file.clone() else {
            return Err(io::Error::other("the journal is degraded"));
        };
        if group.payload_bytes() > super::PAYLOAD_BYTES_MAX {
            return Err(io::Error::other("one turn decided more than a record can hold"));
        }
        let hash = group.seal(RecordKind::Group, keeper.tail.seq + 1, keeper.tail.hash);
        let bytes = group.sealed().len() as u64;
        if let Some(ring) = self.ring.get() {
            ring.intend(keeper.ring_seen.max(group.ring_end()), keeper.tail.seq + 1);
        }
        self.append(&file, group.sealed())?;
        if self.options.sync {
            self.storage.sync(&file)?;
        }
        let Tail { segment, bytes: before, seq, .. } = keeper.tail;
        keeper.tail = Tail { segment, bytes: before + bytes, seq: seq + 1, hash };
        keeper.version_max = keeper.version_max.max(group.version_max());
        keeper.utc_ms = keeper.utc_ms.max(group.utc_ms());
        keeper.ring_seen = keeper.ring_seen.max(group.ring_end());
        self.counters.committed(bytes);
        self.tell_ring(keeper);
        Ok(())
    }

    /// Leaves word of what no record holds, for a start that comes before the journal is healed. A disk that takes
    /// nothing may take this, which replaces what is there; where it does not, the next start knows of nothing.
    pub(super) fn note_unrecorded(&self, keeper: &mut Keeper<S>, group: &RecordBuilder) {
        let before = keeper.unrecorded;
        keeper.unrecorded += u64::from(group.entries());
        if before == 0 || keeper.unrecorded.ilog2() > before.ilog2() {
            let _ = self.storage.note(&format!("{UNRECORDED} {}", keeper.unrecorded));
        }
    }

    /// Everything that was decided is in a record or a snapshot.
    pub(super) fn note_whole(&self, keeper: &mut Keeper<S>) {
        keeper.unrecorded = 0;
        let _ = self.storage.note("whole");
    }

    /// Says what an earlier run could not record.
    pub(super) fn recall_unrecorded(&self, found: &mut Recovered) {
        let noted = self.storage.noted();
        let Some(count) = noted.as_deref().and_then(|word| word.strip_prefix(UNRECORDED)) else { return };
        let why = format!(
            "the disk had failed: at least {} changes were answered and not recorded, and are missing",
            count.trim()
        );
        found.degraded = Some(found.degraded.take().map_or(why.clone(), |known| format!("{known}; {why}")));
    }

    /// Tells the ring how much of it is in the chain; one that was closed takes turns again once a snapshot healed
    /// the chain.
    pub(super) fn tell_ring(&self, keeper: &Keeper<S>) {
        let Some(ring) = self.ring.get() else { return };
        let Tail { seq, hash, .. } = keeper.tail;
        if ring.is_open() || self.degraded.lock().is_none() {
            ring.copied(keeper.ring_seen, seq, hash);
            ring.open();
        } else {
            ring.follow(seq, hash);
        }
    }

    /// Turns the frames that the ring held beyond the chain into records. Nothing of them is lost where that fails:
    /// they stay in the ring for the next start, and in the snapshot that heals the journal.
    pub(super) fn take_in(&self, keeper: &mut Keeper<S>, frames: &[Frame]) -> io::Result<()> {
        let mut group = RecordBuilder::new();
        for (at, frame) in frames.iter().enumerate() {
            group.absorb_payload(&frame.payload, frame.end);
            if group.payload_bytes() >= LEFTOVER_BYTES_MAX || at + 1 == frames.len() {
                self.write(keeper, &mut group)?;
                group.clear(usize::MAX);
            }
        }
        Ok(())
    }

    pub(super) fn begin(&self, keeper: &mut Keeper<S>) -> Result<LocalSnapshot<S>, JournalError> {
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

    pub(super) fn mark(keeper: &Keeper<S>, snapshot: &mut LocalSnapshot<S>) {
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
        let mut group = RecordBuilder::new();
        snapshot.hash = snapshot.head.encode(&mut group);
        snapshot.seq = 1;
        self.append(&file, group.sealed())?;
        Ok(file)
    }

    pub(super) fn chunk(&self, snapshot: &mut LocalSnapshot<S>, group: &mut RecordBuilder) -> io::Result<()> {
        let file = self.snapshot_file(snapshot)?;
        let hash = group.seal(RecordKind::SnapshotChunk, snapshot.seq + 1, snapshot.hash);
        self.append(&file, group.sealed())?;
        snapshot.seq += 1;
        snapshot.hash = hash;
        snapshot.entries += u64::from(group.entries());
        Ok(())
    }

    /// A snapshot is worth nothing without the records up to its mark.
    pub(super) fn sync_segments(&self, snapshot: &LocalSnapshot<S>) -> io::Result<()> {
        for segment in &snapshot.unsynced {
            self.storage.sync(segment)?;
        }
        self.storage.sync_dir()
    }

    /// Syncs what a process that was killed wrote and may still be in memory only: it must be on disk before the next
    /// segment names it.
    pub(super) fn sync_last_segment(&self, segment: u64) -> io::Result<()> {
        if segment != 0 {
            match self.storage.open(&segment_name(segment)) {
                Ok(file) => self.storage.sync(&file)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.storage.sync_dir()
    }

    pub(super) fn end(&self, snapshot: &mut LocalSnapshot<S>) -> io::Result<()> {
        let file = self.snapshot_file(snapshot)?;
        let Some(mark) = snapshot.mark else {
            return Err(io::Error::other("the snapshot was not marked"));
        };
        let end = SnapshotEnd { entries: snapshot.entries, ..mark };
        let mut group = RecordBuilder::new();
        end.encode(&mut group, snapshot.seq + 1, snapshot.hash);
        self.append(&file, group.sealed())?;
        self.storage.sync(&file)?;
        self.storage.rename(&unfinished_name(snapshot.head.number), &snapshot_name(snapshot.head.number))?;
        self.storage.sync_dir()
    }

    /// After damage: a new segment, a snapshot of what was recovered, and only then the damaged files are
    /// set aside, so that a crash in between loses nothing that was still there.
    pub(super) fn repair(
        &self,
        keeper: &mut Keeper<S>,
        found: &mut Recovered,
        damage: &[Damage],
    ) -> Result<(), JournalError> {
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

    pub(super) fn remove_old_snapshots(&self, catalogue: &Catalogue) -> io::Result<()> {
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
    pub(super) fn remove_segments(&self, catalogue: &Catalogue, keep: Keep, now_utc_ms: i64) -> io::Result<Trimmed> {
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
