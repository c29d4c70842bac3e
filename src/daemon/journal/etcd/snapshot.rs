//! The live state of every shard as the log's next beginning: parts first, then one transaction that makes them count.

use std::collections::BTreeMap;

use super::replay::Pointer;
use super::split::split;
use super::{Etcd, Term};
use crate::daemon::etcd::{Compare, Op, Store, Txn};
use crate::daemon::journal::codec::{Hash, RecordBuilder, RecordKind};
use crate::daemon::journal::files::{SnapshotEnd, SnapshotHead, Tail};
use crate::daemon::journal::{Epoch, JournalError, Shard};

/// A snapshot of the shards that were held when it began.
pub struct EtcdSnapshot {
    shards: BTreeMap<Shard, Parts>,
    failures: u64,
}

/// The snapshot of one shard.
struct Parts {
    fence: u64,
    pointer: Pointer,
    /// Parts that are written.
    parts: u32,
    /// The chain of its own records.
    seq: u64,
    hash: Hash,
    entries: u64,
    end: Option<SnapshotEnd>,
}

impl<S: Store> Etcd<S> {
    pub(super) fn begin_snapshot(&self, epoch: Epoch) -> Result<EtcdSnapshot, JournalError> {
        let held = self.held.lock();
        if !held.is_owner(epoch) {
            return Err(JournalError::Fenced);
        }
        let parts = |term: &Term| Parts {
            fence: term.fence,
            pointer: Pointer { generation: term.generation + 1, seq: term.seq, hash: term.hash },
            parts: 0,
            seq: 0,
            hash: Hash::default(),
            entries: 0,
            end: None,
        };
        // One that was replayed is not in the live state before it is decided here.
        let live = held.0.iter().filter(|(shard, term)| self.terms.of(**shard) == term.fence);
        let shards = live.map(|(shard, term)| (*shard, parts(term))).collect();
        Ok(EtcdSnapshot { shards, failures: self.failures.load(std::sync::atomic::Ordering::Relaxed) })
    }

    pub(super) fn add_to_snapshot(
        &self,
        snapshot: &mut EtcdSnapshot,
        group: &mut RecordBuilder,
    ) -> Result<(), JournalError> {
        let shards: Vec<Shard> = snapshot.shards.keys().copied().collect();
        let parts = split(group.payload(), self.options.shards, &shards).map_err(|flaw| failed(&flaw.to_string()))?;
        for (shard, records) in parts.records {
            let Some(of) = snapshot.shards.get_mut(&shard) else { continue };
            for mut record in records {
                self.begin_part(shard, of)?;
                of.entries += u64::from(record.entries());
                of.hash = record.seal(RecordKind::SnapshotChunk, of.seq + 1, of.hash);
                of.seq += 1;
                self.put_part(shard, of, &record)?;
            }
        }
        Ok(())
    }

    pub(super) fn mark_snapshot(&self, snapshot: &mut EtcdSnapshot) {
        let held = self.held.lock();
        for (shard, parts) in &mut snapshot.shards {
            if let Some(term) = held.0.get(shard).filter(|term| term.fence == parts.fence) {
                let Term { seq, hash, version_max, .. } = *term;
                parts.end = Some(SnapshotEnd { seq, hash, version_max, entries: 0 });
            }
        }
    }

    /// A shard that is not owned any more is left to its owner.
    pub(super) fn end_snapshot(&self, snapshot: EtcdSnapshot) -> Result<(), JournalError> {
        for (shard, mut parts) in snapshot.shards {
            let Some(end) = parts.end else { continue };
            self.begin_part(shard, &mut parts)?;
            let mut record = RecordBuilder::new();
            SnapshotEnd { entries: parts.entries, ..end }.encode(&mut record, parts.seq + 1, parts.hash);
            self.put_part(shard, &mut parts, &record)?;
            if self.make_it_count(shard, &parts)?
                && let Some(term) = self.held.lock().0.get_mut(&shard)
            {
                term.generation = term.generation.max(parts.pointer.generation);
            }
        }
        if self.failures.load(std::sync::atomic::Ordering::Relaxed) == snapshot.failures {
            self.degraded.lock().take();
        }
        Ok(())
    }

    /// Writes the head where nothing is written yet.
    fn begin_part(&self, shard: Shard, parts: &mut Parts) -> Result<(), JournalError> {
        if parts.parts > 0 {
            return Ok(());
        }
        let Pointer { generation, seq, hash } = parts.pointer;
        let head = SnapshotHead {
            number: generation,
            previous: Tail { segment: 0, bytes: 0, seq, hash },
            repaired: String::new(),
        };
        let mut record = RecordBuilder::new();
        parts.hash = head.encode(&mut record);
        parts.seq = 1;
        self.put_part(shard, parts, &record)
    }

    fn put_part(&self, shard: Shard, parts: &mut Parts, record: &RecordBuilder) -> Result<(), JournalError> {
        let key = self.keys.part(shard, parts.pointer.generation, parts.parts);
        parts.parts += 1;
        // What an abandoned snapshot of this number left would stand behind it.
        let then = match parts.parts {
            1 => vec![Op::Delete {
                from: format!("{key}\0"),
                to: self.keys.snapshot(shard, parts.pointer.generation + 1),
            }],
            _ => Vec::new(),
        };
        let then = then.into_iter().chain([Op::put(key, record.sealed())]).collect();
        self.if_owned("write a snapshot", shard, parts, then).map(drop)
    }

    /// Names it as the one that counts; what is in it leaves the log, and older ones go.
    fn make_it_count(&self, shard: Shard, parts: &Parts) -> Result<bool, JournalError> {
        let Pointer { generation, seq, .. } = parts.pointer;
        let then = vec![
            Op::put(self.keys.pointer(shard), parts.pointer.write()),
            Op::Delete { from: self.keys.log(shard), to: self.keys.record(shard, seq + 1) },
            Op::Delete { from: self.keys.snapshots(shard), to: self.keys.snapshot(shard, generation) },
        ];
        self.if_owned("make a snapshot count", shard, parts, then)
    }

    fn if_owned(&self, what: &'static str, shard: Shard, parts: &Parts, then: Vec<Op>) -> Result<bool, JournalError> {
        let compares = vec![Compare::Created { key: self.keys.owner(shard), revision: parts.fence }];
        Ok(self.ask(what, &Txn { compares, then, otherwise: Vec::new() })?.held)
    }
}

fn failed(why: &str) -> JournalError {
    JournalError::io("write a snapshot", std::io::Error::other(why.to_owned()))
}
