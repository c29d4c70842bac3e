//! Snapshot and log of a shard give its state again, whoever owned it before.

use super::{Etcd, Term};
use crate::daemon::etcd::{Found, Op, Store, Txn};
use crate::daemon::journal::codec::{Hash, RecordKind};
use crate::daemon::journal::decode::{Entries, Flaw, Record};
use crate::daemon::journal::files::SnapshotEnd;
use crate::daemon::journal::recovery::snapshot_records;
use crate::daemon::journal::state::State;
use crate::daemon::journal::{JournalError, Recovered, Shard};

/// Parts of a snapshot that are read at once: some megabytes.
const PARTS_AT_ONCE: u64 = 16;
/// Records that are read at once: mostly kilobytes, eight megabytes at most.
const RECORDS_AT_ONCE: u64 = 64;

/// The snapshot that counts: `1 GENERATION SEQ HASH`, in hexadecimal digits; the first is the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pointer {
    /// Which snapshot.
    pub(super) generation: u64,
    /// The record before it.
    pub(super) seq: u64,
    /// Its link.
    pub(super) hash: Hash,
}

const POINTER_FORMAT: u8 = 1;

impl Pointer {
    pub(super) fn write(&self) -> String {
        let hash = u128::from_be_bytes(self.hash.0);
        format!("{POINTER_FORMAT:x} {:016x} {:016x} {hash:032x}", self.generation, self.seq)
    }

    pub(super) fn read(text: &[u8]) -> Result<Self, Flaw> {
        const FLAW: Flaw = Flaw::Content("the pointer to the snapshot makes no sense");
        let text = std::str::from_utf8(text).map_err(|_| FLAW)?;
        let words: Vec<&str> = text.split(' ').collect();
        let format = words.first().and_then(|word| u8::from_str_radix(word, 16).ok()).ok_or(FLAW)?;
        if format > POINTER_FORMAT {
            return Err(Flaw::Newer(format));
        }
        let [_, generation, seq, hash] = words.as_slice() else { return Err(FLAW) };
        let number = |word: &str| u64::from_str_radix(word, 16).map_err(|_| FLAW);
        let hash = u128::from_str_radix(hash, 16).map_err(|_| FLAW)?;
        Ok(Pointer { generation: number(generation)?, seq: number(seq)?, hash: Hash(hash.to_be_bytes()) })
    }
}

/// The state while it is read.
#[derive(Default)]
struct Reading {
    state: State,
    recovered: Recovered,
    flaws: Vec<String>,
    newer: Option<(String, u8)>,
}

impl Reading {
    fn flaw(&mut self, key: &str, flaw: Flaw) {
        match flaw {
            Flaw::Newer(format) => self.newer = Some((key.to_owned(), format)),
            flaw => self.flaws.push(format!("{key}: {flaw}")),
        }
    }

    fn apply(&mut self, payload: &[u8], is_snapshot: bool) -> Result<(), Flaw> {
        for entry in Entries::new(payload) {
            let (utc_ms, entry) = entry?;
            self.state.apply(utc_ms, &entry, is_snapshot);
        }
        Ok(())
    }
}

impl<S: Store> Etcd<S> {
    /// Reads a shard back; where it is owned, records may follow from now on.
    pub(super) fn read_back(&self, shard: Shard) -> Result<Recovered, JournalError> {
        self.owner_key(shard)?;
        let mut reading = Reading::default();
        let pointer_key = self.keys.pointer(shard);
        let pointer = self.found("read the pointer to a snapshot", Op::get(&pointer_key))?.into_iter().next();
        let pointer = match pointer.map(|found| Pointer::read(&found.value)) {
            None => Pointer::default(),
            Some(Ok(pointer)) => pointer,
            Some(Err(flaw)) => {
                reading.flaw(&pointer_key, flaw);
                Pointer::default()
            }
        };
        if pointer.generation > 0 {
            self.read_snapshot(shard, pointer, &mut reading)?;
        }
        let mut term = Term { seq: pointer.seq, hash: pointer.hash, generation: pointer.generation, ..Term::default() };
        self.read_log(shard, &mut term, &mut reading)?;
        let Reading { state, recovered, flaws, newer } = reading;
        if let Some((file, format)) = newer {
            return Err(JournalError::Newer { file, format });
        }
        let Recovered { records, bytes, .. } = recovered;
        let mut recovered = state.into_recovered();
        term.version_max = recovered.version_max;
        (recovered.records, recovered.bytes) = (records, bytes);
        (recovered.last_seq, recovered.last_hash) = (term.seq, term.hash);
        recovered.degraded = (!flaws.is_empty()).then(|| flaws.join("; "));
        if let Some(known) = self.held.lock().0.get_mut(&shard) {
            *known = Term { fence: known.fence, is_replayed: true, ..term };
        }
        Ok(recovered)
    }

    fn read_snapshot(&self, shard: Shard, pointer: Pointer, reading: &mut Reading) -> Result<(), JournalError> {
        let prefix = self.keys.snapshot(shard, pointer.generation);
        let mut bytes = Vec::new();
        let mut from = prefix.clone();
        loop {
            let page = self.page("read a snapshot", &from, &prefix, PARTS_AT_ONCE)?;
            let Some(last) = page.last() else { break };
            from = format!("{}\0", last.key);
            page.iter().for_each(|part| bytes.extend_from_slice(&part.value));
        }
        let mut at = 0;
        let mut records = 0;
        let read = snapshot_records(&bytes, &mut at, |record| {
            records += 1;
            reading.apply(record.payload, true)
        });
        reading.recovered.records += records;
        reading.recovered.bytes += bytes.len() as u64;
        match read {
            Ok((_, SnapshotEnd { version_max, .. })) => {
                reading.state.version_max = reading.state.version_max.max(version_max);
            }
            Err(flaw) => reading.flaw(&prefix, flaw),
        }
        Ok(())
    }

    fn read_log(&self, shard: Shard, term: &mut Term, reading: &mut Reading) -> Result<(), JournalError> {
        let prefix = self.keys.log(shard);
        let mut from = self.keys.record(shard, term.seq + 1);
        loop {
            let page = self.page("read the log", &from, &prefix, RECORDS_AT_ONCE)?;
            let Some(last) = page.last() else { return Ok(()) };
            from = format!("{}\0", last.key);
            for found in &page {
                reading.recovered.records += 1;
                reading.recovered.bytes += found.value.len() as u64;
                if let Err(flaw) = follow(term, &found.value, reading) {
                    reading.flaw(&found.key, flaw);
                }
            }
        }
    }

    fn page(&self, what: &'static str, from: &str, prefix: &str, keys_max: u64) -> Result<Vec<Found>, JournalError> {
        let to = crate::daemon::etcd::after_prefix(prefix);
        self.found(what, Op::Get { from: from.to_owned(), to, keys_max, is_keys_only: false })
    }

    fn found(&self, what: &'static str, op: Op) -> Result<Vec<Found>, JournalError> {
        let answer = self.ask(what, &Txn { then: vec![op], ..Txn::default() })?;
        Ok(answer.outcomes.into_iter().flat_map(|outcome| outcome.found).collect())
    }
}

/// Applies a record. One that does not follow the one before it is a flaw, and what it says holds all the same: the order
/// of records does not matter.
fn follow(term: &mut Term, bytes: &[u8], reading: &mut Reading) -> Result<(), Flaw> {
    let record = Record::parse(bytes)?;
    let follows = record.follows(term.seq, term.hash);
    if record.kind != RecordKind::Group {
        return Err(Flaw::Content("a record of this kind has no place here"));
    }
    reading.apply(record.payload, false)?;
    (term.seq, term.hash) = (record.seq, record.hash);
    follows
}
