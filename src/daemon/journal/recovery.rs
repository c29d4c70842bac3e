//! Snapshot plus the records after it gives the state again; damage is told apart from a torn tail (I11-I13).

use std::io;

use super::JournalError;
use super::codec::{Hash, RecordKind};
use super::decode::{Entries, Flaw, Record, any_record_in};
use super::files::{
    FileKind, HEAD_BYTES_MAX, SegmentHead, SnapshotEnd, SnapshotHead, Tail, segment_name, snapshot_name,
};
use super::ring::{Frame, Note, Ring};
use super::state::{Recovered, State, TailCut};
use super::storage::Storage;

/// Something that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where, in bytes from its beginning.
    pub offset: u64,
    /// The damage, in words.
    pub what: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.offset, self.what)
    }
}

impl Damage {
    pub(super) fn new(file: String, offset: u64, what: impl ToString) -> Self {
        Damage { file, offset, what: what.to_string() }
    }
}

/// A segment and what its head says.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) head: Result<(SegmentHead, Tail), Flaw>,
}

/// The files of a journal, in order of their numbers.
pub(super) struct Catalogue {
    pub(super) names: Vec<String>,
    pub(super) segments: Vec<Segment>,
    pub(super) snapshots: Vec<u64>,
    pub(super) unfinished: Vec<String>,
    /// Above every number in use.
    pub(super) next_number: u64,
}

impl Catalogue {
    /// Lists the folder and reads the heads of the segments.
    ///
    /// # Errors
    /// Where the disk fails, or a head is of a newer release (I16).
    pub(super) fn read<S: Storage>(storage: &S) -> Result<Self, JournalError> {
        let listed = storage.list().map_err(|error| JournalError::io("list the folder", error))?;
        let names: Vec<String> = listed.into_iter().map(|listed| listed.name).collect();
        let mut all =
            Catalogue { names, segments: Vec::new(), snapshots: Vec::new(), unfinished: Vec::new(), next_number: 1 };
        for name in &all.names {
            let Some(kind) = FileKind::of(name) else { continue };
            all.next_number = all.next_number.max(kind.number().saturating_add(1));
            match kind {
                FileKind::Segment(number) => all.segments.push(Segment { number, head: Err(Flaw::Cut) }),
                FileKind::Snapshot(number) => all.snapshots.push(number),
                FileKind::Unfinished(_) => all.unfinished.push(name.clone()),
                FileKind::Damaged(_) => {}
            }
        }
        all.segments.sort_unstable_by_key(|segment| segment.number);
        all.snapshots.sort_unstable();
        for segment in &mut all.segments {
            let name = segment_name(segment.number);
            segment.head = match read(storage, &name, HEAD_BYTES_MAX)? {
                Ok(bytes) => SegmentHead::decode(&bytes, segment.number),
                Err(flaw) => Err(flaw),
            };
            if let Err(Flaw::Newer(format)) = segment.head {
                return Err(JournalError::Newer { file: name, format });
            }
        }
        Ok(all)
    }

    pub(super) fn head(&self, number: u64) -> Option<&Segment> {
        let at = self.segments.binary_search_by_key(&number, |segment| segment.number).ok()?;
        self.segments.get(at)
    }

    /// The segment that goes on where `number` ends: the last one that says so. Those between the two are
    /// void: nothing in them was ever answered for.
    pub(super) fn after(&self, number: u64) -> Option<(&SegmentHead, Tail)> {
        self.segments.iter().rev().take_while(|segment| segment.number > number).find_map(|segment| {
            let (head, tail) = segment.head.as_ref().ok()?;
            (head.previous.segment == number).then_some((head, *tail))
        })
    }
}

/// Records that the chain may have beyond the one that the ring names.
const RECORDS_UNTOLD: u64 = 2;

/// The state of a recovery.
pub(super) struct Recovery {
    pub(super) recovered: Recovered,
    pub(super) tail: Tail,
    pub(super) damage: Vec<Damage>,
    /// Up to where the ring is in the chain, and what it holds beyond that; the state has it.
    pub(super) ring_from: u64,
    pub(super) frames: Vec<Frame>,
}

/// Rebuilds the state from the disk and the ring; changes nothing on disk.
///
/// # Errors
/// Where the disk fails in a way that is not damage, or a file is of a newer release (I16).
pub(super) fn recover<S: Storage>(
    storage: &S,
    catalogue: &Catalogue,
    ring: Option<&Ring>,
) -> Result<Recovery, JournalError> {
    let mut walk = Walk::new(storage, catalogue);
    walk.anchor = ring.map(Ring::note);
    walk.look_for_anchor();
    let mut start = None;
    for number in catalogue.snapshots.iter().rev() {
        walk.state = State::default();
        if let Some(found) = walk.snapshot(*number)? {
            start = Some(found);
            break;
        }
    }
    match &start {
        Some((head, end)) => walk.after_snapshot(head, *end)?,
        None => walk.whole_chain()?,
    }
    let snapshot = start.map_or(0, |(head, _)| head.number);
    let (ring_from, frames) = ring.map_or_else(Default::default, |ring| walk.ring(ring, snapshot));
    let Walk { tail, .. } = walk;
    let (recovered, damage) = walk.finish();
    Ok(Recovery { recovered, tail, damage, ring_from, frames })
}

/// Reads a file. A disk that twice cannot read one place is damage; anything else is an error.
pub(super) fn read<S: Storage>(storage: &S, name: &str, bytes_max: u64) -> Result<Result<Vec<u8>, Flaw>, JournalError> {
    let transient = |error: &io::Error| error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    let first = storage.read(name, bytes_max);
    let result = if first.as_ref().is_err_and(transient) { storage.read(name, bytes_max) } else { first };
    match result {
        Ok(bytes) => Ok(Ok(bytes)),
        Err(error) if transient(&error) => Ok(Err(Flaw::Content("the disk cannot read it"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Err(Flaw::Content("it is missing"))),
        Err(error) => Err(JournalError::io("read a file", error)),
    }
}

/// One pass over the chain.
struct Walk<'a, S> {
    storage: &'a S,
    catalogue: &'a Catalogue,
    state: State,
    tail: Tail,
    end: Option<SnapshotEnd>,
    damage: Vec<Damage>,
    notes: Vec<String>,
    tail_cut: Option<TailCut>,
    records: u64,
    bytes: u64,
    /// The ring's note about the chain; `anchored` is true if the chain has the record that it names.
    anchor: Option<Note>,
    anchored: bool,
    ring_records: u64,
    ring_ignored: u64,
}

impl<'a, S: Storage> Walk<'a, S> {
    fn new(storage: &'a S, catalogue: &'a Catalogue) -> Self {
        Walk {
            storage,
            catalogue,
            state: State::default(),
            tail: Tail::default(),
            end: None,
            damage: Vec::new(),
            notes: Vec::new(),
            tail_cut: None,
            records: 0,
            bytes: 0,
            anchor: None,
            anchored: false,
            ring_records: 0,
            ring_ignored: 0,
        }
    }

    /// Sees whether the place that was reached is the one that the ring names.
    fn look_for_anchor(&mut self) {
        self.anchored |= self.anchor.is_some_and(|note| note.seq == self.tail.seq && note.hash == self.tail.hash);
    }

    /// The frames that the ring holds beyond the chain, applied; and the place from which on it does.
    fn ring(&mut self, ring: &Ring, snapshot: u64) -> (u64, Vec<Frame>) {
        let note = ring.note();
        let mut from = note.copied;
        if note.snapshot > 0 && snapshot >= note.snapshot {
            from = from.max(note.covered);
        }
        if self.anchored && note.intent_seq > 0 && self.tail.seq >= note.intent_seq {
            from = from.max(note.intent);
        }
        // A copy and the head of the next segment may have come after the note, and no more: what is in the ring is of
        // before everything else. Behind damage the record may be among those that are lost; the place of the ring
        // says whose it is.
        let went_on = self.tail.seq > note.seq.saturating_add(RECORDS_UNTOLD);
        if self.damage.is_empty() && (went_on || !self.anchored) {
            self.ring_ignored = ring.frames(from).count() as u64;
            return (ring.end(), Vec::new());
        }
        let mut frames = Vec::new();
        for frame in ring.frames(from) {
            let entries: Result<Vec<_>, Flaw> = Entries::new(&frame.payload).collect();
            let Ok(entries) = entries else { break };
            entries.iter().for_each(|(utc_ms, entry)| self.state.apply(*utc_ms, entry, false));
            frames.push(frame);
        }
        self.ring_records = frames.len() as u64;
        (from, frames)
    }

    /// Loads a snapshot; `None` where it is damaged.
    fn snapshot(&mut self, number: u64) -> Result<Option<(SnapshotHead, SnapshotEnd)>, JournalError> {
        let name = snapshot_name(number);
        let bytes = match read(self.storage, &name, u64::MAX)? {
            Ok(bytes) => bytes,
            Err(flaw) => {
                self.damage.push(Damage::new(name, 0, flaw));
                return Ok(None);
            }
        };
        let mut at = 0;
        let state = &mut self.state;
        let records = &mut self.records;
        let result = snapshot_records(&bytes, &mut at, |record| {
            *records += 1;
            apply(state, record, true)
        });
        self.bytes += bytes.len() as u64;
        let flaw = match result {
            Ok((head, end)) if head.number == number => match self.catalogue.head(number).map(|s| &s.head) {
                Some(Ok((segment, _))) if segment.previous != head.previous => Flaw::Chain,
                _ => return Ok(Some((head, end))),
            },
            Ok(_) => Flaw::Content("not the snapshot of this name"),
            Err(Flaw::Newer(format)) => return Err(JournalError::Newer { file: name, format }),
            Err(flaw) => flaw,
        };
        self.damage.push(Damage::new(name, at as u64, flaw));
        Ok(None)
    }

    fn after_snapshot(&mut self, head: &SnapshotHead, end: SnapshotEnd) -> Result<(), JournalError> {
        self.tail = head.previous;
        self.look_for_anchor();
        self.end = Some(end);
        self.state.version_max = self.state.version_max.max(end.version_max);
        if !head.repaired.is_empty() {
            self.notes.push(format!("repaired after damage: {}", head.repaired));
        }
        let flaw = match self.catalogue.head(head.number).map(|segment| &segment.head) {
            Some(Ok(_)) => return self.segments(head.number),
            Some(Err(flaw)) => *flaw,
            None => Flaw::Content("it is missing"),
        };
        self.damage.push(Damage::new(segment_name(head.number), 0, flaw));
        Ok(())
    }

    fn whole_chain(&mut self) -> Result<(), JournalError> {
        self.state = State::default();
        let oldest = || self.catalogue.segments.iter().find_map(|segment| segment.head.as_ref().ok());
        let Some((head, _)) = self.catalogue.after(0).or_else(|| oldest().map(|(head, tail)| (head, *tail))) else {
            return self.after_the_end(0);
        };
        if head.previous.segment != 0 {
            let what = "the records before it are missing, and no snapshot holds them";
            self.damage.push(Damage::new(segment_name(head.number), 0, what));
        }
        self.segments(head.number)
    }

    /// Applies segment after segment until the chain ends or breaks.
    fn segments(&mut self, first: u64) -> Result<(), JournalError> {
        let known = self.damage.len();
        let mut number = first;
        loop {
            let next = self.catalogue.after(number).map(|(head, _)| *head);
            self.segment(number, next.as_ref())?;
            if self.damage.len() > known {
                return Ok(());
            }
            match next {
                Some(head) if head.previous != self.tail => {
                    self.damage.push(Damage::new(segment_name(head.number), 0, Flaw::Chain));
                    return Ok(());
                }
                Some(head) => {
                    if head.gap {
                        self.notes.push(format!("decisions before {} were not recorded", segment_name(head.number)));
                    }
                    number = head.number;
                }
                None => break,
            }
        }
        self.after_the_end(number)?;
        match self.end {
            Some(end) if self.tail.seq < end.seq && self.damage.len() == known => {
                let what = "the segments end before their snapshot does";
                self.damage.push(Damage::new(segment_name(self.tail.segment), self.tail.bytes, what));
            }
            _ => {}
        }
        Ok(())
    }

    fn segment(&mut self, number: u64, next: Option<&SegmentHead>) -> Result<(), JournalError> {
        let name = segment_name(number);
        let Some(Ok((head, after_head))) = self.catalogue.head(number).map(|segment| &segment.head) else {
            self.damage.push(Damage::new(name, 0, Flaw::Cut));
            return Ok(());
        };
        let bytes = match read(self.storage, &name, u64::MAX)? {
            Ok(bytes) => bytes,
            Err(flaw) => {
                self.damage.push(Damage::new(name, 0, flaw));
                return Ok(());
            }
        };
        self.bytes += bytes.len() as u64;
        self.records += 1;
        self.tail = *after_head;
        self.look_for_anchor();
        self.state.utc_ms = self.state.utc_ms.max(head.utc_ms);
        let declared = next.map(|next| usize::try_from(next.previous.bytes).unwrap_or(usize::MAX));
        let content = &bytes[..declared.unwrap_or(usize::MAX).min(bytes.len())];
        let mut flaw = self.check_end();
        let mut at = after_head.bytes as usize;
        while flaw.is_none() && at < content.len() {
            match self.record(&content[at..]) {
                Ok(length) => at += length,
                Err(found) => flaw = Some(found),
            }
        }
        match flaw {
            Some(Flaw::Newer(format)) => return Err(JournalError::Newer { file: name, format }),
            Some(flaw) if next.is_none() && flaw.torn() && !any_record_in(&content[at + 1..]) => {
                self.tail_cut = Some(TailCut { file: name, offset: at as u64, bytes: (bytes.len() - at) as u64 });
            }
            Some(flaw) => self.damage.push(Damage::new(name, at as u64, flaw)),
            None if declared.is_some_and(|declared| declared != at) => {
                self.damage.push(Damage::new(name, at as u64, Flaw::Cut));
            }
            None => {}
        }
        Ok(())
    }

    fn record(&mut self, bytes: &[u8]) -> Result<usize, Flaw> {
        let record = Record::parse(bytes)?;
        record.follows(self.tail.seq, self.tail.hash)?;
        if record.kind != RecordKind::Group {
            return Err(Flaw::Content("a record of this kind has no place here"));
        }
        apply(&mut self.state, &record, false)?;
        self.records += 1;
        self.tail.seq = record.seq;
        self.tail.hash = record.hash;
        self.tail.bytes += record.bytes() as u64;
        self.look_for_anchor();
        self.check_end().map_or(Ok(record.bytes()), Err)
    }

    /// The record that the snapshot names as its last must be the one that it knew.
    fn check_end(&self) -> Option<Flaw> {
        let end = self.end?;
        (end.seq == self.tail.seq && end.hash != self.tail.hash).then_some(Flaw::Chain)
    }

    /// Files after the end of the chain may only be segments that were never begun properly.
    fn after_the_end(&mut self, last: u64) -> Result<(), JournalError> {
        for segment in self.catalogue.segments.iter().filter(|segment| segment.number > last) {
            let name = segment_name(segment.number);
            match read(self.storage, &name, u64::MAX)? {
                Ok(bytes) if any_record_in(&bytes) => {
                    self.damage.push(Damage::new(name, 0, "it does not continue the chain"));
                    return Ok(());
                }
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => self.tail_cut = Some(TailCut { file: name, offset: 0, bytes: bytes.len() as u64 }),
                Err(flaw) => {
                    self.damage.push(Damage::new(name, 0, flaw));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> (Recovered, Vec<Damage>) {
        let mut recovered = self.state.into_recovered();
        let notes: Vec<String> = self.damage.iter().map(Damage::to_string).chain(self.notes).collect();
        recovered.degraded = (!notes.is_empty()).then(|| notes.join("; "));
        recovered.tail_cut = self.tail_cut;
        recovered.last_hash = self.tail.hash;
        recovered.last_seq = self.tail.seq;
        recovered.records = self.records;
        recovered.bytes = self.bytes;
        recovered.ring_records = self.ring_records;
        recovered.ring_ignored = self.ring_ignored;
        (recovered, self.damage)
    }
}

fn apply(state: &mut State, record: &Record<'_>, snapshot: bool) -> Result<(), Flaw> {
    for entry in Entries::new(record.payload) {
        let (utc_ms, entry) = entry?;
        state.apply(utc_ms, &entry, snapshot);
    }
    Ok(())
}

/// Reads a whole snapshot, giving its chunks to `chunk`; `at` is where it got to.
pub(super) fn snapshot_records(
    bytes: &[u8],
    at: &mut usize,
    mut chunk: impl FnMut(&Record<'_>) -> Result<(), Flaw>,
) -> Result<(SnapshotHead, SnapshotEnd), Flaw> {
    let (mut seq, mut hash) = (0, Hash::default());
    let mut head = None;
    loop {
        let record = Record::parse(&bytes[*at..])?;
        record.follows(seq, hash)?;
        (seq, hash) = (record.seq, record.hash);
        match (record.kind, &head) {
            (RecordKind::SnapshotHead, None) => {
                head = Some(SnapshotHead::decode(&record).ok_or(Flaw::Content("head of a snapshot makes no sense"))?);
            }
            (RecordKind::SnapshotChunk, Some(_)) => chunk(&record)?,
            (RecordKind::SnapshotEnd, Some(_)) => {
                let end = SnapshotEnd::decode(&record).ok_or(Flaw::Content("end of a snapshot makes no sense"))?;
                *at += record.bytes();
                let head = head.ok_or(Flaw::Content("a snapshot without a head"))?;
                return if *at == bytes.len() { Ok((head, end)) } else { Err(Flaw::Content("bytes after its end")) };
            }
            _ => return Err(Flaw::Content("a record of this kind has no place here")),
        }
        *at += record.bytes();
    }
}
