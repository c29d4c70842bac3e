//! The files of a local journal: their names, and the records at their ends.

use super::codec::{Hash, RecordBuilder, RecordKind};
use super::decode::{Flaw, Record};
use crate::daemon::varint::Reader;

/// More than any head needs, in bytes.
pub(super) const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// The kind of a file of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Segment(u64),
    Snapshot(u64),
    Unfinished(u64),
    Damaged(u64),
}

impl FileKind {
    /// The kind that a name stands for; `None` for files that are not the journal's.
    pub(super) fn of(name: &str) -> Option<Self> {
        let (stem, number) = name.split_once('-')?;
        let (digits, extension) = number.split_once('.')?;
        if digits.len() != 16 || digits.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let number = u64::from_str_radix(digits, 16).ok()?;
        Some(match (stem, extension) {
            ("segment", "log") => FileKind::Segment(number),
            ("snapshot", "snap") => FileKind::Snapshot(number),
            ("snapshot", "tmp") => FileKind::Unfinished(number),
            (_, extension) if extension.contains("damaged-") => FileKind::Damaged(number),
            _ => return None,
        })
    }

    /// The number in the name; none is given twice.
    pub(super) const fn number(self) -> u64 {
        match self {
            FileKind::Segment(n) | FileKind::Snapshot(n) | FileKind::Unfinished(n) | FileKind::Damaged(n) => n,
        }
    }
}

pub(super) fn segment_name(number: u64) -> String {
    format!("segment-{number:016x}.log")
}

pub(super) fn snapshot_name(number: u64) -> String {
    format!("snapshot-{number:016x}.snap")
}

pub(super) fn unfinished_name(number: u64) -> String {
    format!("snapshot-{number:016x}.tmp")
}

/// A place in the chain: the record last written, and where it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// The segment of the last record; 0 before the first.
    pub(super) segment: u64,
    /// Where that record ends, in bytes from the beginning of its segment.
    pub(super) bytes: u64,
    /// Its number.
    pub(super) seq: u64,
    /// Its link.
    pub(super) hash: Hash,
}

/// The first record of a segment. What lies between `previous` and this segment is declared void by it: a
/// torn tail, a failed write, a segment that was never begun properly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub(super) number: u64,
    pub(super) previous: Tail,
    /// True if something was decided between `previous` and this segment that no record holds (I14).
    pub(super) gap: bool,
    pub(super) utc_ms: i64,
}

impl SegmentHead {
    pub(super) fn encode(&self, group: &mut RecordBuilder) -> Hash {
        let raw = group.raw();
        raw.varint(self.number);
        raw.varint(self.previous.segment);
        raw.varint(self.previous.bytes);
        raw.hash(self.previous.hash);
        raw.varint(u64::from(self.gap));
        raw.signed(self.utc_ms);
        group.seal(RecordKind::SegmentHead, self.previous.seq.wrapping_add(1), self.previous.hash)
    }

    /// Reads the head of segment `number` and gives the place after it, too.
    pub(super) fn decode(bytes: &[u8], number: u64) -> Result<(Self, Tail), Flaw> {
        let record = Record::parse(bytes)?;
        let mut reader = Reader { bytes: record.payload };
        let mut read = || {
            let number = reader.varint()?;
            let (segment, bytes, hash) = (reader.varint()?, reader.varint()?, reader.hash()?);
            let previous = Tail { segment, bytes, seq: record.seq.checked_sub(1)?, hash };
            Some(SegmentHead { number, previous, gap: reader.varint()? != 0, utc_ms: reader.signed()? })
        };
        let head = read().ok_or(Flaw::Content("head of a segment makes no sense"))?;
        if record.kind != RecordKind::SegmentHead || head.number != number {
            return Err(Flaw::Content("not the head of this segment"));
        }
        record.follows(head.previous.seq, head.previous.hash)?;
        let tail = Tail { segment: number, bytes: record.bytes() as u64, seq: record.seq, hash: record.hash };
        Ok((head, tail))
    }
}

/// The first record of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SnapshotHead {
    /// Its number: replay goes on with the segment of this number.
    pub(super) number: u64,
    /// The place before that segment.
    pub(super) previous: Tail,
    /// Not empty where a recovery wrote it after damage: what was damaged.
    pub(super) repaired: String,
}

/// The last record of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SnapshotEnd {
    /// The segments must reach at least to this record.
    pub(super) seq: u64,
    pub(super) hash: Hash,
    pub(super) version_max: u64,
    pub(super) entries: u64,
}

impl SnapshotHead {
    pub(super) fn encode(&self, group: &mut RecordBuilder) -> Hash {
        let raw = group.raw();
        raw.varint(self.number);
        raw.varint(self.previous.segment);
        raw.varint(self.previous.bytes);
        raw.varint(self.previous.seq);
        raw.hash(self.previous.hash);
        raw.text(&self.repaired);
        group.seal(RecordKind::SnapshotHead, 1, Hash::default())
    }

    pub(super) fn decode(record: &Record<'_>) -> Option<Self> {
        let mut reader = Reader { bytes: record.payload };
        let number = reader.varint()?;
        let (segment, bytes, seq) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let previous = Tail { segment, bytes, seq, hash: reader.hash()? };
        Some(SnapshotHead { number, previous, repaired: reader.text()?.to_owned() })
    }
}

impl SnapshotEnd {
    pub(super) fn encode(&self, group: &mut RecordBuilder, seq: u64, previous: Hash) -> Hash {
        let raw = group.raw();
        raw.varint(self.seq);
        raw.hash(self.hash);
        raw.varint(self.version_max);
        raw.varint(self.entries);
        group.seal(RecordKind::SnapshotEnd, seq, previous)
    }

    pub(super) fn decode(record: &Record<'_>) -> Option<Self> {
        let mut reader = Reader { bytes: record.payload };
        Some(SnapshotEnd {
            seq: reader.varint()?,
            hash: reader.hash()?,
            version_max: reader.varint()?,
            entries: reader.varint()?,
        })
    }
}
