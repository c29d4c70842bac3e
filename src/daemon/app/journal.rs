//! The journal of a daemon: in a folder of its own, or in a store that a cluster shares.

use std::sync::Arc;

use crate::daemon::etcd::{Answer, Fault, Store, Txn};
use crate::daemon::journal::etcd::{Etcd, EtcdSnapshot};
use crate::daemon::journal::storage::Folder;
use crate::daemon::journal::{
    self, Commit, Counters, Epoch, JournalError, Keep, Local, LocalSnapshot, RecordBuilder, Recovered, Ring, Shard,
    Trimmed,
};

/// Whatever store a cluster shares.
#[derive(Clone)]
pub struct AnyStore(pub Arc<dyn Store>);

impl Store for AnyStore {
    fn txn(&self, txn: &Txn) -> Result<Answer, Fault> {
        self.0.txn(txn)
    }

    fn forget_before(&self, revision: u64) -> Result<(), Fault> {
        self.0.forget_before(revision)
    }
}

/// The journal of a cluster.
pub type ClusterJournal = Etcd<AnyStore>;

/// The journal of a daemon.
pub enum Journal {
    /// On one machine.
    Local(Box<Local<Folder>>),
    /// Of a cluster.
    Cluster(Arc<ClusterJournal>),
}

/// A snapshot of either.
pub enum Snapshot {
    /// Of one machine.
    Local(Box<LocalSnapshot<Folder>>),
    /// Of a cluster.
    Cluster(EtcdSnapshot),
}

impl Journal {
    /// The journal of the cluster, where it is that.
    pub fn cluster(&self) -> Option<&Arc<ClusterJournal>> {
        match self {
            Journal::Local(_) => None,
            Journal::Cluster(journal) => Some(journal),
        }
    }
}

/// The same call on whichever it is.
macro_rules! either {
    ($self:ident, $journal:ident => $call:expr) => {
        match $self {
            Journal::Local($journal) => $call,
            Journal::Cluster($journal) => $call,
        }
    };
}

impl journal::Journal for Journal {
    type Snapshot = Snapshot;

    fn acquire(&self, shard: Shard) -> Result<Epoch, JournalError> {
        either!(self, journal => journal.acquire(shard))
    }

    fn replay(&self, shard: Shard) -> Result<Recovered, JournalError> {
        either!(self, journal => journal.replay(shard))
    }

    fn commit(&self, epoch: Epoch, group: &mut RecordBuilder) -> Commit {
        either!(self, journal => journal.commit(epoch, group))
    }

    fn snapshot_begin(&self, epoch: Epoch) -> Result<Snapshot, JournalError> {
        Ok(match self {
            Journal::Local(journal) => Snapshot::Local(Box::new(journal.snapshot_begin(epoch)?)),
            Journal::Cluster(journal) => Snapshot::Cluster(journal.snapshot_begin(epoch)?),
        })
    }

    fn snapshot_chunk(&self, snapshot: &mut Snapshot, group: &mut RecordBuilder) -> Result<(), JournalError> {
        match (self, snapshot) {
            (Journal::Local(journal), Snapshot::Local(snapshot)) => journal.snapshot_chunk(snapshot, group),
            (Journal::Cluster(journal), Snapshot::Cluster(snapshot)) => journal.snapshot_chunk(snapshot, group),
            _ => Err(JournalError::UnknownShard),
        }
    }

    fn snapshot_mark(&self, snapshot: &mut Snapshot) {
        match (self, snapshot) {
            (Journal::Local(journal), Snapshot::Local(snapshot)) => journal.snapshot_mark(snapshot),
            (Journal::Cluster(journal), Snapshot::Cluster(snapshot)) => journal.snapshot_mark(snapshot),
            _ => {}
        }
    }

    fn snapshot_end(&self, snapshot: Snapshot) -> Result<(), JournalError> {
        match (self, snapshot) {
            (Journal::Local(journal), Snapshot::Local(snapshot)) => journal.snapshot_end(*snapshot),
            (Journal::Cluster(journal), Snapshot::Cluster(snapshot)) => journal.snapshot_end(snapshot),
            _ => Err(JournalError::UnknownShard),
        }
    }

    fn trim(&self, epoch: Epoch, keep: Keep, now_utc_ms: i64) -> Result<Trimmed, JournalError> {
        either!(self, journal => journal.trim(epoch, keep, now_utc_ms))
    }

    fn degraded(&self) -> Option<String> {
        either!(self, journal => journal.degraded())
    }

    fn confirms(&self) -> Commit {
        either!(self, journal => journal.confirms())
    }

    fn lost(&self, why: &str) {
        either!(self, journal => journal.lost(why));
    }

    fn check(&self) {
        either!(self, journal => journal.check());
    }

    fn answers_wait(&self) -> bool {
        either!(self, journal => journal.answers_wait())
    }

    fn is_sure(&self) -> bool {
        either!(self, journal => journal.is_sure())
    }

    fn confirm(&self) -> Commit {
        either!(self, journal => journal.confirm())
    }

    fn ring(&self) -> Option<&Ring> {
        either!(self, journal => journal.ring())
    }

    fn counters(&self) -> &Counters {
        either!(self, journal => journal.counters())
    }
}
