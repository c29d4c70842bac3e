//! The journal remembers: what was decided survives, and is the audit trail.
//!
//! One event-loop turn is one [`RecordBuilder`] of entries and one record. [`TurnWriter`] collects them, a
//! [`Journal`] keeps them, [`Local`] is the one in a folder. Layer: daemon, above `engine::session` only.
//!
//! Why the order of records does not matter, and a snapshot may be taken while decisions go on: every entry
//! carries the version of its session, and an entry is encoded inside the critical section of its session.
//! A snapshot begins with a new segment while no turn is half written ([`Committer::checkpoint`]), so
//! whatever ended after something in the new segment began is itself in the new segment.
//!
//! One order does matter: a grant is kept only with the release that made room for it, also where another core decided
//! that; `order` sees to it.

pub mod audit;
mod codec;
mod decode;
pub mod etcd;
mod files;
mod form;
mod local;
mod open;
mod order;
mod owner;
mod pieces;
mod queue;
mod recovery;
pub mod ring;
pub mod ring_file;

pub mod sampler;
mod state;
pub mod storage;
mod turn;
pub mod watermarks;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

pub use crate::answers::words::Durability;
pub use codec::{
    Audit, AuditKind, FORMAT, HEADER_BYTES, Hash, PAYLOAD_BYTES_MAX, RecordBuilder, RecordKind, TEXT_BYTES_MAX,
};
pub use decode::{Entries, Entry, Flaw, Record};
pub use form::{DISK_PATIENCE_NS, Form, Hooks};
pub use local::{Local, LocalOptions, LocalSnapshot};
pub use pieces::{Pieces, TakesEntries};
pub use recovery::Damage;
pub use ring::Ring;
pub use state::{Recovered, Session, TailCut, Tombstone};
pub use turn::{Checkpoint, Committer, Ticket, TurnWriter};

use usherd_engine::session::{Changes, GoneRecord, SessionRecord};

/// A set of tenants that one owner decides; the local back end has only [`Shard::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard(pub u32);

impl Shard {
    /// All tenants.
    pub const ALL: Shard = Shard(0);

    /// The shard of a tenant where there are so many: FNV-1a of 64 bits over its id, the halves of it folded together by
    /// exclusive or, modulo their number. It is on the disks of clusters and must stay as it is.
    pub fn of(tenant: &str, shards: u32) -> Self {
        let hash = tenant
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Shard((hash ^ (hash >> 32)) as u32 % shards.max(1))
    }
}

/// The term of an owner: a later owner of the shard has a higher one, and fences the earlier out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Each shard by the term in which it is held: for who commits for several.
    pub const EACH: Epoch = Epoch(u64::MAX);
}

/// The outcome of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// It is as durable as was asked for.
    Durable,
    /// The journal is degraded; the answer goes out all the same (I14).
    NotDurable,
    /// Another owner has the shard; the answer must not go out.
    Fenced,
    /// Nobody knows yet whether it is kept, or will be. Only what takes no seat may be answered for.
    Unknown,
}

/// The part of the audit trail that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Segments whose last record is older go, milliseconds.
    pub age_ms: i64,
    /// The oldest segments go while all together are longer, bytes.
    pub bytes: u64,
}

/// The result of a trim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Number of segments.
    pub segments: u64,
    /// Their length, bytes.
    pub bytes: u64,
}

/// Why a journal could not do something.
#[derive(Debug)]
pub enum JournalError {
    /// Another process has the folder.
    Locked,
    /// A file of a newer release; this one must not touch it (I16).
    Newer {
        /// The file.
        file: String,
        /// Its format number.
        format: u8,
    },
    /// Another owner has the shard.
    Fenced,
    /// There is no such shard here.
    UnknownShard,
    /// The disk failed.
    Io {
        /// The step that was tried.
        what: &'static str,
        /// How it failed.
        source: io::Error,
    },
}

impl JournalError {
    pub(crate) fn io(what: &'static str, source: io::Error) -> Self {
        JournalError::Io { what, source }
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalError::Locked => f.write_str("the state directory is in use by another process"),
            JournalError::Newer { file, format } => {
                write!(f, "{file} is of format {format}, written by a newer release; this one reads up to {FORMAT}")
            }
            JournalError::Fenced => f.write_str("another owner has taken over"),
            JournalError::UnknownShard => f.write_str("this journal has no such shard"),
            JournalError::Io { what, source } => write!(f, "cannot {what}: {source}"),
        }
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JournalError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Keeps group records, one owner per shard. Calls may wait for a disk or a network: back ends that take
/// time are called from a thread of their own, with one commit in flight.
pub trait Journal: Send + Sync + 'static {
    /// A snapshot that is being written.
    type Snapshot: Send;

    /// Becomes the owner; whoever was it before is fenced from now on.
    ///
    /// # Errors
    /// Where the shard is held by somebody who cannot be fenced, or the back end fails.
    fn acquire(&self, shard: Shard) -> Result<Epoch, JournalError>;

    /// Gives back what is remembered of the shard, and makes ready to commit. The same again gives the same
    /// (I12).
    ///
    /// # Errors
    /// Where nothing is known of the state: a newer format, a back end that fails. Damage is no error but
    /// [`Recovered::degraded`].
    fn replay(&self, shard: Shard) -> Result<Recovered, JournalError>;

    /// Keeps a group as one record, wholly or not at all; seals the buffer in place.
    fn commit(&self, epoch: Epoch, group: &mut RecordBuilder) -> Commit;

    /// Begins a snapshot: replay goes on with the record that is committed next. The caller sees to it that
    /// no group is half encoded at this moment.
    ///
    /// # Errors
    /// [`JournalError::Fenced`], or the back end fails; it is degraded then.
    fn snapshot_begin(&self, epoch: Epoch) -> Result<Self::Snapshot, JournalError>;

    /// Adds a part of the live state.
    ///
    /// # Errors
    /// Where the back end fails; drop the snapshot then.
    fn snapshot_chunk(&self, snapshot: &mut Self::Snapshot, group: &mut RecordBuilder) -> Result<(), JournalError>;

    /// Everything that the snapshot may have seen is committed now: it is valid only with these records.
    fn snapshot_mark(&self, snapshot: &mut Self::Snapshot);

    /// Makes it the one that replay begins with, wholly or not at all. Heals a degraded journal.
    ///
    /// # Errors
    /// Where the back end fails; the one before stays.
    fn snapshot_end(&self, snapshot: Self::Snapshot) -> Result<(), JournalError>;

    /// Removes records that a snapshot covers and nobody wants to keep.
    ///
    /// # Errors
    /// Where the back end fails.
    fn trim(&self, epoch: Epoch, keep: Keep, now_utc_ms: i64) -> Result<Trimmed, JournalError>;

    /// Why decisions are not durable at present (I14), for people; `None` while they are.
    fn degraded(&self) -> Option<String>;

    /// The outcome for an answer that confirms what was recorded earlier.
    fn confirms(&self) -> Commit {
        if self.degraded().is_some() { Commit::NotDurable } else { Commit::Durable }
    }

    /// Something outside of the journal lost a group that is not coming back: degraded until a snapshot.
    fn lost(&self, why: &str);

    /// Sees whether what is written to is still where a start would look for it; degraded where it is not.
    fn check(&self) {}

    /// True if no answer goes out before what it says is kept, however long that takes: another owner may decide
    /// otherwise meanwhile.
    fn answers_wait(&self) -> bool {
        false
    }

    /// True if an answer that needs no record may go out at once, for this is surely the owner.
    fn is_sure(&self) -> bool {
        true
    }

    /// Makes sure, and gives the outcome for an answer that needs no record. It may wait, as a commit does.
    fn confirm(&self) -> Commit {
        self.confirms()
    }

    /// Where decisions wait for the disk; `None` where there is no such place, or the back end needs none.
    fn ring(&self) -> Option<&Ring> {
        None
    }

    /// Its counters.
    fn counters(&self) -> &Counters;
}

/// The counters of the journal since it was opened; for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    not_durable: AtomicU64,
}

impl Counters {
    /// Records committed.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Failures of the disk.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Groups that were answered for without being durable.
    pub fn not_durable(&self) -> u64 {
        self.not_durable.load(Ordering::Relaxed)
    }

    pub(super) fn committed(&self, bytes: u64) {
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn went_on(&self) {
        self.not_durable.fetch_add(1, Ordering::Relaxed);
    }
}

/// Size at which a part of a snapshot is written, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;

/// Takes the live state for a snapshot: give it every session by [`Changes::put`], every tombstone by
/// [`Feed::at`] and [`Changes::gone`], every node by [`Changes::node`], every mark by [`Feed::mark`]. Much of it is
/// written as it comes, the rest by [`Feed::finish`].
pub struct Feed<'a, J: Journal> {
    journal: &'a J,
    snapshot: &'a mut J::Snapshot,
    group: RecordBuilder,
    failure: Option<JournalError>,
    entries: u64,
}

impl<'a, J: Journal> Feed<'a, J> {
    /// Feeds this snapshot.
    pub fn new(journal: &'a J, snapshot: &'a mut J::Snapshot) -> Self {
        Feed { journal, snapshot, group: RecordBuilder::new(), failure: None, entries: 0 }
    }

    /// When the tombstones that follow were laid, milliseconds since 1970 UTC.
    pub fn at(&mut self, utc_ms: i64) {
        self.group.at(utc_ms);
    }

    /// A number that must be remembered.
    pub fn mark(&mut self, key: &str, value: u64) {
        self.group.mark(key, value);
        self.fed();
    }

    /// True if the back end failed, so that going on is of no use.
    pub const fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Writes what is left and gives the number of entries.
    ///
    /// # Errors
    /// The first failure of the back end.
    pub fn finish(mut self) -> Result<u64, JournalError> {
        self.flush();
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.entries),
        }
    }

    /// Writes what has come together, once it is much: a snapshot holds no lock of the table, and a disk may take its
    /// time.
    fn fed(&mut self) {
        self.entries += 1;
        if self.group.payload_bytes() >= CHUNK_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.group.is_empty() && self.failure.is_none() {
            self.failure = self.journal.snapshot_chunk(self.snapshot, &mut self.group).err();
        }
        self.group.clear(usize::MAX);
    }
}

impl<J: Journal> Changes for Feed<'_, J> {
    fn put(&mut self, session: &SessionRecord<'_>, fresh: bool) {
        self.group.put(session, fresh);
        self.fed();
    }

    fn gone(&mut self, gone: &GoneRecord<'_>) {
        self.group.gone(gone);
        self.fed();
    }

    fn node(&mut self, node: &str, epoch: u64) {
        self.group.node(node, epoch);
        self.fed();
    }

    fn forgotten(&mut self, node: &str) {
        self.group.forgotten(node);
        self.fed();
    }
}
