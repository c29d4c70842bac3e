//! Where decisions wait for the disk: a ring in memory that outlives the process, and is on no disk that can hang.
//!
//! A turn is written into the ring by the thread that decided it, once, and its answers go out; the committing thread
//! copies it into the chain of segments. A note at the beginning of the ring says which part of it is in the chain
//! already, tied to the last record by number and link, so that a ring of another journal, or of another state of this
//! one, is never taken for its own. It is written before a copy is tried (what the copy's record will be) and after it
//! (that it is there), so that a start finds exactly what is missing, whichever instruction was the last.
//!
//! Like the page cache, it survives a crash of the process, but not a power cut. Format 1 is frozen: header and
//! notes as `Note::encode` has them, frames as `frame` has them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::codec::{HEADER_BYTES, Hash, RecordBuilder, checksum};

/// The bytes of the ring's own notes at its beginning.
pub const RING_HEAD_BYTES: u64 = 4_096;
/// The format that this release writes, and the only one it reads; one of another number is left alone.
const RING_FORMAT: u8 = 1;
const NOTE_BYTES: usize = 128;
const NOTE_AT: [u64; 2] = [0, 2_048];
const NOTE_MAGIC: [u8; 4] = [0xb5, b'u', b'j', b'n'];
const FRAME_MAGIC: [u8; 4] = [0xb5, b'u', b'j', b'q'];
const CRC_AT: usize = HEADER_BYTES - 4;

/// Bytes that survive the end of the process: a file on tmpfs, or what a test puts in its place.
pub trait Memory: Send + Sync + 'static {
    /// Writes all of these at this place.
    ///
    /// # Errors
    /// Of the memory; any part may be written then.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Reads as many bytes from this place.
    ///
    /// # Errors
    /// Of the memory, or it ends before.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// It is not needed any more.
    fn discard(&self) {}
}

/// The facts about the ring's content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    number: u64,
    capacity: u64,
    /// Everything before this place is in the chain, or in a snapshot.
    pub(super) copied: u64,
    /// The record that was the chain's last then.
    pub(super) seq: u64,
    pub(super) hash: Hash,
    /// Once the chain has a record of this number, everything before `intent` is in it; 0 for none.
    pub(super) intent_seq: u64,
    pub(super) intent: u64,
    /// Once there is this snapshot or a later one, everything before `covered` is in it; 0 for none.
    pub(super) snapshot: u64,
    pub(super) covered: u64,
}

impl Note {
    fn encode(&self) -> [u8; NOTE_BYTES] {
        let mut bytes = [0; NOTE_BYTES];
        bytes[0..4].copy_from_slice(&NOTE_MAGIC);
        bytes[4] = RING_FORMAT;
        bytes[8..24].copy_from_slice(&self.hash.0);
        for (at, number) in self.numbers().into_iter().enumerate() {
            bytes[24 + 8 * at..32 + 8 * at].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..NOTE_BYTES - 4]);
        bytes[NOTE_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    const fn numbers(&self) -> [u64; 8] {
        let Note { number, capacity, copied, seq, intent_seq, intent, snapshot, covered, .. } = *self;
        [number, capacity, copied, seq, intent_seq, intent, snapshot, covered]
    }

    fn decode(bytes: &[u8; NOTE_BYTES]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        if content[..4] != NOTE_MAGIC
            || content[4] != RING_FORMAT
            || crc32c::crc32c(content) != u32::from_le_bytes(*crc)
        {
            return None;
        }
        let mut hash = Hash::default();
        hash.0.copy_from_slice(&bytes[8..24]);
        let number = |at: usize| {
            let bytes = content.get(24 + 8 * at..)?.first_chunk::<8>()?;
            Some(u64::from_le_bytes(*bytes))
        };
        Some(Note {
            number: number(0)?,
            capacity: number(1)?,
            copied: number(2)?,
            seq: number(3)?,
            hash,
            intent_seq: number(4)?,
            intent: number(5)?,
            snapshot: number(6)?,
            covered: number(7)?,
        })
    }
}

/// The newest note that can be read; `None` where there is none, as in a new ring.
fn newest(memory: &dyn Memory) -> Option<Note> {
    let read = |at: u64| {
        let mut bytes = [0; NOTE_BYTES];
        memory.read_at(&mut bytes, at).ok()?;
        Note::decode(&bytes)
    };
    NOTE_AT.into_iter().filter_map(read).max_by_key(|note| note.number)
}

/// Turns one group into a frame for this place, in its own buffer.
fn frame(group: &mut RecordBuilder, at: u64) -> &[u8] {
    let bytes = group.buffer();
    let (header, payload) = bytes.split_at_mut(HEADER_BYTES);
    header.fill(0);
    header[0..4].copy_from_slice(&FRAME_MAGIC);
    header[4] = RING_FORMAT;
    header[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[12..20].copy_from_slice(&at.to_le_bytes());
    let crc = checksum(&header[..CRC_AT], payload);
    header[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// A turn that was found in the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The place behind it.
    pub(super) end: u64,
    pub(super) payload: Vec<u8>,
}

/// A ring; see the module.
pub struct Ring {
    memory: Box<dyn Memory>,
    capacity: u64,
    /// The place of the next frame. Places only grow; a place is at `place % capacity` of the memory.
    end: AtomicU64,
    copied: AtomicU64,
    /// It takes nothing: before recovery, and while the chain has a hole that a snapshot must heal.
    closed: AtomicBool,
    note: Mutex<Note>,
}

impl Ring {
    /// A ring in this memory, of so many bytes without [`RING_HEAD_BYTES`]; one that holds something keeps its size.
    /// It takes nothing before a recovery has read it.
    pub fn new(memory: impl Memory, bytes: u64) -> Self {
        let note = newest(&memory).unwrap_or(Note { capacity: bytes, ..Note::default() });
        let ring = Ring {
            memory: Box::new(memory),
            capacity: note.capacity,
            end: AtomicU64::new(note.copied),
            copied: AtomicU64::new(note.copied),
            closed: AtomicBool::new(true),
            note: Mutex::new(note),
        };
        let end = ring.frames(note.copied).last().map_or(note.copied, |frame| frame.end);
        ring.end.store(end, Ordering::Relaxed);
        ring
    }

    /// How many bytes an earlier run made it for; `None` where it is new or cannot be read.
    pub fn bytes_of(memory: &dyn Memory) -> Option<u64> {
        Some(newest(memory)?.capacity)
    }

    /// Keeps what a turn decided; `false` where it cannot: it is full, closed, or the memory fails. Call it from one
    /// thread at a time, in the order in which the same groups are committed.
    pub fn append(&self, group: &mut RecordBuilder) -> bool {
        if self.closed.load(Ordering::Acquire) {
            return false;
        }
        let at = self.end.load(Ordering::Relaxed);
        let bytes = (group.payload_bytes() + HEADER_BYTES) as u64;
        let used = at - self.copied.load(Ordering::Acquire);
        if bytes > self.capacity - used || self.write(frame(group, at), at).is_err() {
            return false;
        }
        self.end.store(at + bytes, Ordering::Release);
        group.kept_until(at + bytes);
        true
    }

    /// How much of it waits for the disk, 0 to 1.
    pub fn used_ratio(&self) -> f64 {
        let used = self.end.load(Ordering::Relaxed).saturating_sub(self.copied.load(Ordering::Relaxed));
        used as f64 / self.capacity.max(1) as f64
    }

    /// How much it takes, bytes.
    pub fn bytes_max(&self) -> usize {
        usize::try_from(self.capacity).unwrap_or(usize::MAX)
    }

    /// True if it takes anything at present.
    pub fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    /// It is not needed any more: all of it is in the chain, and nothing will come.
    pub fn discard(&self) {
        self.closed.store(true, Ordering::Release);
        self.memory.discard();
    }

    pub(super) fn note(&self) -> Note {
        *self.note.lock()
    }

    /// The turns from a place on, up to the first that is not there wholly.
    pub(super) fn frames(&self, from: u64) -> impl Iterator<Item = Frame> {
        let mut at = from;
        std::iter::from_fn(move || {
            let frame = self.frame(at)?;
            at = frame.end;
            Some(frame)
        })
    }

    /// The chain's next record will be everything before this place.
    pub(super) fn intend(&self, end: u64, seq: u64) {
        if self.is_open() {
            self.change(|note| (note.intent, note.intent_seq) = (end, seq));
        }
    }

    /// Everything before this place is in the chain, whose last record is this one.
    pub(super) fn copied(&self, end: u64, seq: u64, hash: Hash) {
        self.change(|note| {
            *note = Note { copied: end, seq, hash, intent: 0, intent_seq: 0, ..*note };
        });
        self.copied.store(end, Ordering::Release);
    }

    /// The chain's last record is this one, and what was not copied still is not.
    pub(super) fn follow(&self, seq: u64, hash: Hash) {
        self.change(|note| (note.seq, note.hash) = (seq, hash));
    }

    /// Everything before this place is in the snapshot of this number, once there is one.
    pub(super) fn covered(&self, end: u64, snapshot: u64) {
        self.change(|note| *note = Note { snapshot, covered: end, intent: 0, intent_seq: 0, ..*note });
    }

    /// A copy failed: nothing more is taken until [`Ring::open`], and what is there stays for the next start.
    pub(super) fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.change(|note| (note.intent, note.intent_seq) = (0, 0));
        }
    }

    /// Takes turns from now on.
    pub(super) fn open(&self) {
        self.closed.store(false, Ordering::Release);
    }

    /// Where the next frame goes.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    fn change(&self, change: impl FnOnce(&mut Note)) {
        let mut note = self.note.lock();
        change(&mut note);
        note.number += 1;
        if self.memory.write_at(&note.encode(), NOTE_AT[(note.number % 2) as usize]).is_err() {
            // What it says of itself is not to be relied on any more.
            self.closed.store(true, Ordering::Release);
        }
    }

    fn frame(&self, at: u64) -> Option<Frame> {
        let mut header = [0; HEADER_BYTES];
        self.read(&mut header, at)?;
        let length = u32::from_le_bytes(*header.get(8..)?.first_chunk()?);
        let place = u64::from_le_bytes(*header.get(12..)?.first_chunk()?);
        let known = header[..4] == FRAME_MAGIC && header[4] == RING_FORMAT && place == at;
        if !known || u64::from(length) + HEADER_BYTES as u64 > self.capacity {
            return None;
        }
        let mut payload = vec![0; length as usize];
        self.read(&mut payload, at + HEADER_BYTES as u64)?;
        let crc = u32::from_le_bytes(*header.last_chunk()?);
        (checksum(&header[..CRC_AT], &payload) == crc)
            .then_some(Frame { end: at + HEADER_BYTES as u64 + u64::from(length), payload })
    }

    /// Splits what crosses the end of the memory: where each part is, and its length.
    fn places(&self, bytes: usize, at: u64) -> [(u64, usize); 2] {
        let from = at % self.capacity;
        let first = usize::try_from(self.capacity - from).unwrap_or(usize::MAX).min(bytes);
        [(RING_HEAD_BYTES + from, first), (RING_HEAD_BYTES, bytes - first)]
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let [(place, first), (again, rest)] = self.places(bytes.len(), at);
        self.memory.write_at(&bytes[..first], place)?;
        if rest > 0 { self.memory.write_at(&bytes[first..], again) } else { Ok(()) }
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Option<()> {
        if self.capacity == 0 || bytes.len() as u64 > self.capacity {
            return None;
        }
        let [(place, first), (again, _)] = self.places(bytes.len(), at);
        let (head, tail) = bytes.split_at_mut(first);
        self.memory.read_at(head, place).ok()?;
        if tail.is_empty() { Some(()) } else { self.memory.read_at(tail, again).ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The content of the ring must be read by the next release: a change here is a change of the format.
    #[test]
    fn the_format_is_what_it_was() {
        let mut hash = Hash::default();
        hash.0.iter_mut().zip(0..).for_each(|(byte, at)| *byte = at);
        let note =
            Note { number: 1, capacity: 2, copied: 3, seq: 4, hash, intent_seq: 5, intent: 6, snapshot: 7, covered: 8 };
        let golden = concat!(
            "b5756a6e01000000000102030405060708090a0b0c0d0e0f010000000000000002000000000000000300000000000000",
            "040000000000000005000000000000000600000000000000070000000000000008000000000000000000000000000000",
            "000000000000000000000000000000000000000000000000000000003b59a018",
        );
        assert_eq!(hex(&note.encode()), golden);
        assert_eq!(Note::decode(&note.encode()), Some(note));
        let mut group = RecordBuilder::new();
        group.at(5);
        group.mark("k", 7);
        let golden = "b5756a7101000000060000004d000000000000000000000000000000000000000000000048e62253010a06016b07";
        assert_eq!(hex(frame(&mut group, 77)), golden);
    }
}
