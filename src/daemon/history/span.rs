//! A span of the history, an hour of five minutes or a day of hours: in memory, and as a file from which one
//! tenant is read without the others.
//!
//! ```text
//! magic, version | start | seconds of a slot | slots | milliseconds observed in each | taken in | index at | crc
//! groups of tenants, ascending: length, crc, rows
//! index: crc, groups, and of each where it is and its first tenant
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use usherd_engine::Name;

use super::codec::{put_row, take_row};
use super::slot::Row;
use crate::daemon::varint::{Reader, put_varint};

const MAGIC: &[u8; 8] = b"ushhist\x01";
/// Tenants whose rows are read together.
const GROUP_ROWS: usize = 32;
/// Slots of a span at most: the hours of a day, or the five minutes of an hour.
pub(super) const SLOTS_MAX: usize = 24;
/// Longest head: magic, numbers and checksum.
const HEAD_BYTES_MAX: usize = 8 + 10 * (SLOTS_MAX + 5) + 4;
/// Longest index or group that is read; what claims more is damaged.
const PART_BYTES_MAX: u64 = 1 << 28;

/// The head of a span: its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// When it begins, seconds since 1970 UTC.
    pub start_s: i64,
    /// How long a slot is, seconds.
    pub slot_s: u32,
    /// How long the daemon looked, in each slot, milliseconds.
    pub observed_ms: Vec<u64>,
    /// The log that is taken in already, so that a crash does not take it in twice.
    pub taken_in: u64,
}

impl Head {
    /// A span in which nothing was seen yet.
    pub fn new(start_s: i64, slot_s: u32, slots: usize) -> Self {
        Head { start_s, slot_s, observed_ms: vec![0; slots.min(SLOTS_MAX)], taken_in: 0 }
    }

    /// When a slot begins, seconds since 1970 UTC.
    pub fn slot_start_s(&self, at: u8) -> i64 {
        self.start_s + i64::from(self.slot_s) * i64::from(at)
    }

    /// Which slot an instant lies in.
    pub fn slot_at(&self, at_s: i64) -> Option<u8> {
        let at = at_s.checked_sub(self.start_s)?.div_euclid(self.slot_s.max(1).into());
        u8::try_from(at).ok().filter(|at| usize::from(*at) < self.observed_ms.len())
    }
}

/// A span in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The head.
    pub head: Head,
    /// Tenants of whom something is known.
    pub rows: BTreeMap<Name, Row>,
}

impl Span {
    /// Takes in another reading of the same span.
    pub fn add(&mut self, other: &Span) {
        for (own, more) in self.head.observed_ms.iter_mut().zip(&other.head.observed_ms) {
            *own += more;
        }
        for (tenant, row) in &other.rows {
            self.rows.entry(tenant.clone()).or_default().add(row);
        }
    }

    /// As a file.
    pub fn encode(&self) -> Vec<u8> {
        let rows: Vec<_> = self.rows.iter().collect();
        let mut groups = Vec::new();
        let mut index = Vec::new();
        put_varint(&mut index, rows.len().div_ceil(GROUP_ROWS) as u64);
        let mut bytes = Vec::new();
        for group in rows.chunks(GROUP_ROWS) {
            bytes.clear();
            group.iter().for_each(|(tenant, row)| put_row(&mut bytes, tenant, row));
            put_varint(&mut index, groups.len() as u64);
            put_varint(&mut index, group[0].0.len() as u64);
            index.extend_from_slice(group[0].0.as_bytes());
            put_part(&mut groups, &bytes);
        }
        let mut file = self.encode_head(groups.len() as u64);
        file.extend_from_slice(&groups);
        put_part(&mut file, &index);
        file
    }

    fn encode_head(&self, groups_bytes: u64) -> Vec<u8> {
        let head = &self.head;
        let mut bytes = MAGIC.to_vec();
        put_varint(&mut bytes, head.start_s.unsigned_abs());
        put_varint(&mut bytes, head.slot_s.into());
        put_varint(&mut bytes, head.observed_ms.len() as u64);
        head.observed_ms.iter().for_each(|ms| put_varint(&mut bytes, *ms));
        put_varint(&mut bytes, head.taken_in);
        put_varint(&mut bytes, groups_bytes);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// Length, checksum, bytes.
pub(super) fn put_part(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes the part that [`put_part`] wrote; `None` where it is cut off or damaged.
pub(super) fn take_part<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let mut ahead = reader.clone();
    let mut number = || Some(u32::from_le_bytes(ahead.take(4)?.try_into().ok()?));
    let (length, crc) = (number()?, number()?);
    let part = ahead.take(length as usize).filter(|part| crc32c::crc32c(part) == crc)?;
    *reader = ahead;
    Some(part)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is damaged"))
}

/// A span on disk.
#[derive(Debug)]
pub(super) struct SpanFile {
    file: File,
    /// The head.
    pub head: Head,
    groups_at: u64,
    groups_bytes: u64,
}

impl SpanFile {
    /// Opens one and reads what it is about.
    ///
    /// # Errors
    /// Of the file system; `InvalidData` where it is damaged, or of a newer release.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut bytes = [0; HEAD_BYTES_MAX];
        let length = read_at_most(&file, &mut bytes, 0)?;
        let bytes = &bytes[..length];
        let (head, groups_bytes, groups_at) = take_head(bytes).ok_or_else(|| damaged("its head"))?;
        Ok(SpanFile { file, head, groups_at, groups_bytes })
    }

    /// One tenant's row; `None` where nothing is known of it.
    ///
    /// # Errors
    /// As [`SpanFile::open`].
    pub(super) fn row(&self, tenant: &str) -> io::Result<Option<Row>> {
        let index = self.part(self.groups_at + self.groups_bytes)?;
        let Some(at) = group_of(&index, tenant).ok_or_else(|| damaged("its index"))? else { return Ok(None) };
        let group = self.part(self.groups_at + at)?;
        let mut reader = Reader { bytes: &group };
        while !reader.bytes.is_empty() {
            let (name, row) = take_row(&mut reader).ok_or_else(|| damaged("a row"))?;
            if name == tenant {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Sees every row, ascending by tenant.
    ///
    /// # Errors
    /// As [`SpanFile::open`].
    pub(super) fn each(&self, mut see: impl FnMut(Name, Row)) -> io::Result<()> {
        let mut at = 0;
        while at < self.groups_bytes {
            let group = self.part(self.groups_at + at)?;
            at += group.len() as u64 + 8;
            let mut reader = Reader { bytes: &group };
            while !reader.bytes.is_empty() {
                let (name, row) = take_row(&mut reader).ok_or_else(|| damaged("a row"))?;
                see(name, row);
            }
        }
        Ok(())
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`SpanFile::open`].
    pub(super) fn load(&self) -> io::Result<Span> {
        let mut rows = BTreeMap::new();
        self.each(|tenant, row| _ = rows.insert(tenant, row))?;
        Ok(Span { head: self.head.clone(), rows })
    }

    fn part(&self, at: u64) -> io::Result<Vec<u8>> {
        let mut head = [0; 8];
        self.file.read_exact_at(&mut head, at)?;
        let [a, b, c, d, ..] = head;
        let length = u64::from(u32::from_le_bytes([a, b, c, d]));
        if length > PART_BYTES_MAX.min(self.file.metadata()?.len()) {
            return Err(damaged("a length"));
        }
        let mut bytes = head.to_vec();
        bytes.resize(8 + length as usize, 0);
        self.file.read_exact_at(&mut bytes[8..], at + 8)?;
        let part = take_part(&mut Reader { bytes: &bytes }).ok_or_else(|| damaged("a checksum"))?;
        Ok(part.to_vec())
    }
}

fn read_at_most(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn take_head(bytes: &[u8]) -> Option<(Head, u64, u64)> {
    let mut reader = Reader { bytes: bytes.strip_prefix(MAGIC)? };
    let start_s = i64::try_from(reader.varint()?).ok()?;
    let slot_s = reader.varint()?.try_into().ok()?;
    let slots = reader.varint().filter(|slots| *slots <= SLOTS_MAX as u64)?;
    let observed_ms = (0..slots).map(|_| reader.varint()).collect::<Option<Vec<_>>>()?;
    let (taken_in, groups_bytes) = (reader.varint()?, reader.varint()?);
    let read = bytes.len() - reader.bytes.len();
    let crc = u32::from_le_bytes(reader.take(4)?.try_into().ok()?);
    let sound = crc32c::crc32c(&bytes[..read]) == crc;
    sound.then_some((Head { start_s, slot_s, observed_ms, taken_in }, groups_bytes, read as u64 + 4))
}

/// Where the group is that a tenant would be in; the outer `None` where the index makes no sense.
fn group_of(index: &[u8], tenant: &str) -> Option<Option<u64>> {
    let mut reader = Reader { bytes: index };
    let mut found = None;
    for _ in 0..reader.varint()? {
        let at = reader.varint()?;
        let length = usize::try_from(reader.varint()?).ok()?;
        if reader.take(length)? > tenant.as_bytes() {
            break;
        }
        found = Some(at);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::history::slot::Slot;

    fn span(tenants: usize) -> Span {
        let mut span = Span { head: Head::new(1_795_392_000, 300, 12), ..Span::default() };
        span.head.observed_ms[3] = 300_000;
        span.head.taken_in = 77;
        for tenant in 0..tenants {
            let mut row = Row::default();
            let peak = tenant as u32;
            row.put(3, &Slot { peak, demand: peak, seat_ms: 9, ..Slot::default() });
            row.levels.add(tenant as u32, 5, 1);
            span.rows.insert(Name::from(format!("t{tenant:05}")), row);
        }
        span
    }

    /// A file of version 1, as it was written once; it must be read for good.
    const GOLDEN: &[u8] = include_bytes!("golden/span");

    #[test]
    fn the_golden_file_is_read_and_written_as_it_stands() {
        let mut span = span(2);
        let unlimited = Slot { peak: 3, demand: 5, seat_ms: 1 << 33, saturated_ms: 4, denials: 6, ..Slot::default() };
        let limited = Slot { quota: Some(0), denials_true: 7, ..unlimited };
        let row = span.rows.get_mut("t00001").unwrap();
        row.put(5, &unlimited);
        row.put(11, &limited);
        row.levels.add(300, 1 << 20, 9);
        assert_eq!(span.encode(), GOLDEN);
        let (_folder, path) = written(GOLDEN);
        assert_eq!(SpanFile::open(&path).unwrap().load().unwrap(), span);
    }

    fn written(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("span");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn a_file_gives_back_all_and_each() {
        for tenants in [0, 1, 31, 32, 33, 1_000] {
            let span = span(tenants);
            let (_folder, path) = written(&span.encode());
            let file = SpanFile::open(&path).unwrap();
            assert_eq!(file.load().unwrap(), span);
            for (tenant, row) in &span.rows {
                assert_eq!(file.row(tenant).unwrap().as_ref(), Some(row), "{tenant} of {tenants}");
            }
            for absent in ["", "a", "t00000x", "t99999", "z"] {
                assert_eq!(file.row(absent).unwrap(), None, "{absent} of {tenants}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let span = span(40);
        let whole = span.encode();
        let (_folder, path) = written(&whole);
        let sound = |path: &Path| SpanFile::open(path).and_then(|file| Ok((file.load()?, file.row("t00039")?)));
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).unwrap();
            if let Ok((_, row)) = sound(&path) {
                panic!("a flipped bit at {at} went unseen: {row:?}");
            }
        }
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(sound(&path).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn spans_add_up_and_know_their_slots() {
        let mut one = span(2);
        one.add(&span(3));
        assert_eq!((one.head.observed_ms[3], one.rows.len()), (600_000, 3));
        assert_eq!(one.rows["t00001"].slots, [(3, Slot { peak: 1, demand: 1, seat_ms: 18, ..Slot::default() })]);
        let head = &one.head;
        assert_eq!((head.slot_at(head.start_s), head.slot_at(head.start_s + 3_599)), (Some(0), Some(11)));
        assert_eq!((head.slot_at(head.start_s - 1), head.slot_at(head.start_s + 3_600)), (None, None));
        assert_eq!(head.slot_start_s(3), head.start_s + 900);
    }
}
