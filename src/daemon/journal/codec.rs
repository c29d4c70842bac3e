//! How a turn's decisions become bytes: one group record with a chained header, and the entries in it.

use sha2::{Digest, Sha256};
use usherd_engine::session::{Changes, Class, Code, Detail, Device, Direction, GoneRecord, SessionRecord};

use crate::daemon::varint::put_varint;

/// The format that this release writes; it reads this one and older ones, and refuses newer ones (I16).
pub const FORMAT: u8 = 1;
/// Length of a record's header, in bytes; the same in every format, so that a newer one is known as such.
pub const HEADER_BYTES: usize = 40;
/// Longest payload of one record, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;
/// Longest name or text of an entry, in bytes; what is longer is cut at a character.
pub const TEXT_BYTES_MAX: usize = 1024;

/// The first bytes of every record. No name can contain them: the header that follows holds zeros.
pub(super) const MAGIC: [u8; 4] = [0xb5, b'u', b'j', b'r'];
const CRC_AT: usize = HEADER_BYTES - 4;
const HASHED: usize = 20;

/// A link of the chain: the first half of SHA-256 over the previous link, the header and the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 16]);

/// The purpose of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// The decisions of one or more turns.
    Group = 1,
    /// The first record of a segment; it names the record before it.
    SegmentHead = 2,
    /// The first record of a snapshot; it names where replay goes on.
    SnapshotHead = 3,
    /// Live state.
    SnapshotChunk = 4,
    /// The last record of a snapshot.
    SnapshotEnd = 5,
}

impl RecordKind {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => RecordKind::Group,
            2 => RecordKind::SegmentHead,
            3 => RecordKind::SnapshotHead,
            4 => RecordKind::SnapshotChunk,
            5 => RecordKind::SnapshotEnd,
            _ => return None,
        })
    }
}

pub(super) mod tag {
    pub(in super::super) const TIME: u8 = 1;
    pub(in super::super) const PUT: u8 = 2;
    pub(in super::super) const GONE: u8 = 3;
    pub(in super::super) const NODE: u8 = 4;
    pub(in super::super) const AUDIT: u8 = 5;
    pub(in super::super) const MARK: u8 = 6;
}

pub(super) mod flag {
    pub(in super::super) const COUNTS: u8 = 1;
    pub(in super::super) const EXTERNAL: u8 = 2;
    pub(in super::super) const FRESH: u8 = 4;
    pub(in super::super) const EPOCH: u8 = 8;
    pub(in super::super) const SEQ: u8 = 16;
    pub(in super::super) const TTL: u8 = 32;
    pub(in super::super) const FREED: u8 = 2;
    pub(in super::super) const WAS_LIVE: u8 = 4;
    pub(in super::super) const TOMBSTONE: u8 = 8;
}

/// The beginning of the key of a mark that says of a node that it is not known any more; its name follows.
pub(super) const FORGOTTEN: &str = "forgotten/";

/// Stands for "absent" where a word of a vocabulary is optional.
pub(super) const ABSENT: u8 = u8::MAX;

usherd_contract::vocabulary! {
    /// The kind of an audit entry.
    AuditKind {
        /// A decision that changed nothing, above all a denial.
        Decision = 0 => "decision",
        /// How many decisions of this tenant and code were left out since the last one recorded.
        Suppressed = 1 => "suppressed",
        /// An admin did something.
        Admin = 2 => "admin",
        /// The configuration was reloaded or refused.
        Reload = 3 => "reload",
        /// A subscription request was accepted or refused.
        Request = 4 => "request",
        /// The daemon itself: start, stop, degraded, healed.
        System = 5 => "system",
    }
}

/// Something worth keeping that changes no session; empty texts are left out of exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit<'a> {
    /// The kind.
    pub kind: AuditKind,
    /// The decision's code, where it was one.
    pub code: Option<Code>,
    /// The decision's detail, where it was one.
    pub detail: Option<Detail>,
    /// Number of decisions it stands for; 1 but for [`AuditKind::Suppressed`].
    pub count: u64,
    /// The tenant.
    pub tenant: &'a str,
    /// The subject that asked for a seat.
    pub subject: &'a str,
    /// The session asked for.
    pub session: &'a str,
    /// The asking node.
    pub node: &'a str,
    /// The actor: the accessor id of a credential, never the secret.
    pub actor: &'a str,
    /// Anything else, for people.
    pub text: &'a str,
}

impl<'a> Audit<'a> {
    /// An entry of this kind with every other field empty.
    pub const fn new(kind: AuditKind) -> Self {
        Audit {
            kind,
            code: None,
            detail: None,
            count: 1,
            tenant: "",
            subject: "",
            session: "",
            node: "",
            actor: "",
            text: "",
        }
    }
}

/// The buffer of one record: the engine and the daemon write entries into it, the journal seals it.
///
/// It is the [`Changes`] that the engine is given, so that a change is encoded in the critical section of
/// its session and nowhere else. Encoding allocates nothing but the buffer, which is used again.
#[derive(Debug)]
pub struct RecordBuilder {
    bytes: Vec<u8>,
    entries: u32,
    version_max: u64,
    utc_ms: i64,
    written_utc_ms: Option<i64>,
    /// The place in the ring up to which it holds everything; 0 where it is in none.
    ring_end: u64,
    /// It lets somebody have a seat, or says so again.
    grants: bool,
}

impl Default for RecordBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordBuilder {
    /// An empty group.
    pub fn new() -> Self {
        RecordBuilder {
            bytes: vec![0; HEADER_BYTES],
            entries: 0,
            version_max: 0,
            utc_ms: 0,
            written_utc_ms: None,
            ring_end: 0,
            grants: false,
        }
    }

    /// The wall clock of the entries that follow, milliseconds since 1970 UTC. For the tombstones of a
    /// snapshot it is the instant at which they were laid.
    pub fn at(&mut self, utc_ms: i64) {
        self.utc_ms = utc_ms;
    }

    /// Something that changes no session, for the audit trail.
    pub fn audit(&mut self, audit: &Audit<'_>) {
        self.begin(tag::AUDIT);
        self.bytes.extend_from_slice(&[
            audit.kind.number(),
            audit.code.map_or(ABSENT, Code::number),
            audit.detail.map_or(ABSENT, Detail::number),
        ]);
        self.varint(audit.count);
        for text in [audit.tenant, audit.subject, audit.session, audit.node, audit.actor, audit.text] {
            self.text(text);
        }
    }

    /// A number that only grows and must be remembered, such as the highest serial seen of a key (I23).
    pub fn mark(&mut self, key: &str, value: u64) {
        self.begin(tag::MARK);
        self.text(key);
        self.varint(value);
    }

    /// Number of entries.
    pub const fn entries(&self) -> u32 {
        self.entries
    }

    /// True if there is nothing to commit.
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Length of the payload, in bytes.
    pub fn payload_bytes(&self) -> usize {
        self.bytes.len() - HEADER_BYTES
    }

    /// The highest session version among the entries, 0 where none has one.
    pub const fn version_max(&self) -> u64 {
        self.version_max
    }

    /// The wall clock of the last entry, milliseconds since 1970 UTC.
    pub const fn utc_ms(&self) -> i64 {
        self.utc_ms
    }

    /// Empties it and keeps the memory, up to `bytes_max` of it.
    pub fn clear(&mut self, bytes_max: usize) {
        self.bytes.truncate(HEADER_BYTES);
        self.bytes.shrink_to(bytes_max);
        self.entries = 0;
        self.version_max = 0;
        self.written_utc_ms = None;
        self.ring_end = 0;
        self.grants = false;
    }

    /// Appends everything of another group: two turns become one record.
    pub fn absorb(&mut self, other: &RecordBuilder) {
        if other.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(&other.bytes[HEADER_BYTES..]);
        self.entries = self.entries.saturating_add(other.entries);
        self.version_max = self.version_max.max(other.version_max);
        self.utc_ms = other.utc_ms;
        self.written_utc_ms = other.written_utc_ms;
        self.ring_end = self.ring_end.max(other.ring_end);
        self.grants |= other.grants;
    }

    /// A record's payload again, to be committed once more.
    pub(super) fn absorb_payload(&mut self, payload: &[u8], ring_end: u64) {
        self.bytes.extend_from_slice(payload);
        self.entries = self.entries.saturating_add(1);
        self.ring_end = ring_end;
    }

    /// The whole buffer: room for a header, and the payload.
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// It is in the ring, which ends at this place now.
    pub(super) fn kept_until(&mut self, ring_end: u64) {
        self.ring_end = ring_end;
    }

    /// The place in the ring up to which it holds everything; 0 where it is in none.
    pub(super) const fn ring_end(&self) -> u64 {
        self.ring_end
    }

    /// True if a session in it needs a seat, which may have become free by what another group says.
    pub(super) const fn grants(&self) -> bool {
        self.grants
    }

    /// Writes the header: place and link in the chain, checksum. Returns the new link.
    pub(super) fn seal(&mut self, kind: RecordKind, seq: u64, previous: Hash) -> Hash {
        let length = (self.bytes.len() - HEADER_BYTES) as u32;
        self.bytes[0..4].copy_from_slice(&MAGIC);
        self.bytes[4..8].copy_from_slice(&[FORMAT, kind as u8, 0, 0]);
        self.bytes[8..12].copy_from_slice(&length.to_le_bytes());
        self.bytes[12..20].copy_from_slice(&seq.to_le_bytes());
        let hash = link(previous, &self.bytes[..HASHED], &self.bytes[HEADER_BYTES..]);
        self.bytes[20..36].copy_from_slice(&hash.0);
        let crc = checksum(&self.bytes[..CRC_AT], &self.bytes[HEADER_BYTES..]);
        self.bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        hash
    }

    /// The entries, as they will be in the record.
    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The whole record; meaningful only after sealing.
    pub(super) fn sealed(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins a record that holds one fixed structure instead of entries.
    pub(super) fn raw(&mut self) -> &mut Self {
        self.clear(usize::MAX);
        self.entries = 1;
        self
    }

    pub(super) fn varint(&mut self, value: u64) {
        put_varint(&mut self.bytes, value);
    }

    pub(super) fn signed(&mut self, value: i64) {
        self.varint(((value << 1) ^ (value >> 63)) as u64);
    }

    pub(super) fn text(&mut self, text: &str) {
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.varint(end as u64);
        self.bytes.extend_from_slice(&text.as_bytes()[..end]);
    }

    pub(super) fn hash(&mut self, hash: Hash) {
        self.bytes.extend_from_slice(&hash.0);
    }

    fn begin(&mut self, tag: u8) {
        if self.written_utc_ms != Some(self.utc_ms) {
            self.bytes.push(tag::TIME);
            self.signed(self.utc_ms);
            self.written_utc_ms = Some(self.utc_ms);
        }
        self.bytes.push(tag);
        self.entries = self.entries.saturating_add(1);
    }

    fn optional(&mut self, value: Option<u64>) {
        if let Some(value) = value {
            self.varint(value);
        }
    }
}

const fn bit(flag: u8, set: bool) -> u8 {
    if set { flag } else { 0 }
}

impl Changes for RecordBuilder {
    fn put(&mut self, session: &SessionRecord<'_>, fresh: bool) {
        self.begin(tag::PUT);
        self.bytes.extend_from_slice(&[
            session.kind.number(),
            session.direction.map_or(ABSENT, Direction::number),
            session.leg.number(),
            session.device.map_or(ABSENT, Device::number),
            session.class.map_or(ABSENT, Class::number),
            session.first.number(),
            bit(flag::COUNTS, session.counts)
                | bit(flag::EXTERNAL, session.external)
                | bit(flag::FRESH, fresh)
                | bit(flag::EPOCH, session.epoch.is_some())
                | bit(flag::SEQ, session.seq.is_some())
                | bit(flag::TTL, session.ttl_s.is_some()),
        ]);
        self.optional(session.epoch);
        self.optional(session.seq);
        self.optional(session.ttl_s.map(u64::from));
        self.signed(session.started_utc_ms.wrapping_sub(self.utc_ms));
        self.varint(session.version);
        for text in [session.tenant, session.session, session.subject, session.group, session.node] {
            self.text(text);
        }
        self.version_max = self.version_max.max(session.version);
        self.grants |= session.counts;
    }

    fn gone(&mut self, gone: &GoneRecord<'_>) {
        self.begin(tag::GONE);
        self.bytes.extend_from_slice(&[
            gone.kind.number(),
            gone.reason.number(),
            bit(flag::COUNTS, gone.counts)
                | bit(flag::FREED, gone.freed)
                | bit(flag::WAS_LIVE, gone.was_live)
                | bit(flag::TOMBSTONE, gone.tombstone.is_some()),
        ]);
        self.varint(gone.version);
        for text in [gone.tenant, gone.session, gone.subject] {
            self.text(text);
        }
        if let Some((node, stamp)) = gone.tombstone {
            self.text(node);
            self.varint(stamp.epoch);
            self.varint(stamp.seq);
        }
        self.version_max = self.version_max.max(gone.version);
    }

    fn node(&mut self, node: &str, epoch: u64) {
        self.begin(tag::NODE);
        self.text(node);
        self.varint(epoch);
    }

    /// As a mark, which an older release reads and takes no notice of: it still knows the node then.
    fn forgotten(&mut self, node: &str) {
        self.mark(&format!("{FORGOTTEN}{node}"), 1);
    }
}

/// CRC32C over the header without its checksum, and the payload.
pub(super) fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), payload)
}

/// The link that follows `previous` with this header and payload.
pub(super) fn link(previous: Hash, header: &[u8], payload: &[u8]) -> Hash {
    let mut digest = Sha256::new();
    digest.update(previous.0);
    digest.update(&header[..HASHED]);
    digest.update(payload);
    let mut hash = Hash::default();
    hash.0.copy_from_slice(&digest.finalize()[..16]);
    hash
}

#[cfg(test)]
mod tests {
    use super::super::decode::{Entries, Entry, Flaw, Record};
    use super::*;

    #[test]
    fn numbers_and_texts_round_trip_and_long_texts_are_cut() {
        let mut group = RecordBuilder::new();
        for value in [0, 1, 0x7f, 0x80, u64::from(u32::MAX), u64::MAX] {
            group.mark(&"ü".repeat(1_000), value);
        }
        for utc_ms in [i64::MIN, -1, 0, 1, i64::MAX] {
            group.at(utc_ms);
            group.node("n", 1);
        }
        group.seal(RecordKind::Group, 1, Hash::default());
        let record = Record::parse(group.sealed()).unwrap();
        record.follows(0, Hash::default()).unwrap();
        let entries: Vec<(i64, Entry<'_>)> = Entries::new(record.payload).map(Result::unwrap).collect();
        let cut = "ü".repeat(TEXT_BYTES_MAX / 2);
        let value = |at: usize| match entries[at].1 {
            Entry::Mark { key, value } if key == cut => value,
            other => panic!("{other:?}"),
        };
        assert_eq!([value(0), value(3), value(4), value(5)], [0, 0x80, u64::from(u32::MAX), u64::MAX]);
        let times: Vec<i64> = entries[6..].iter().map(|(utc_ms, _)| *utc_ms).collect();
        assert_eq!(times, [i64::MIN, -1, 0, 1, i64::MAX]);
    }

    #[test]
    fn a_payload_of_nonsense_is_a_flaw() {
        for payload in [&b"\x00"[..], b"\x02", b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x06\x01\xff\x00"] {
            let entries: Vec<_> = Entries::new(payload).collect();
            assert!(matches!(entries[..], [Err(Flaw::Content(_))]), "{payload:?}: {entries:?}");
        }
    }

    #[test]
    fn absorbing_is_the_same_as_writing_one_after_the_other() {
        let (mut one, mut other, mut both) = (RecordBuilder::new(), RecordBuilder::new(), RecordBuilder::new());
        for (group, utc_ms) in [(&mut one, 5), (&mut other, 9)] {
            for group in [group, &mut both] {
                group.at(utc_ms);
                group.node("n", utc_ms as u64);
            }
        }
        one.absorb(&other);
        let read = |group: &RecordBuilder| {
            Entries::new(&group.sealed()[HEADER_BYTES..]).map(|entry| format!("{entry:?}")).collect::<Vec<_>>()
        };
        assert_eq!(read(&one), read(&both));
        assert_eq!((one.entries(), one.utc_ms()), (2, 9));
    }

    /// A record of marks as this format has it on disk: they are frozen, and an older release reads them, too.
    const GOLDEN: &str = include_str!("golden/marks.hex");

    /// The first instant of 2020, after the clock went back once.
    const BACK_ONCE: u64 = (1 << 44) | 1_577_836_800_000;

    #[test]
    fn what_marks_look_like_on_disk_is_frozen() {
        let mut group = RecordBuilder::new();
        group.at(1_780_000_000_000);
        group.node("pbx-1", 7);
        group.mark("clock/trusted", 1_780_000_000_000);
        group.mark("clock/trusted", BACK_ONCE);
        group.forgotten("pbx-1");
        group.seal(RecordKind::Group, 1, Hash::default());
        let hex: String = group.sealed().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN.trim());
    }

    #[test]
    fn the_frozen_marks_say_the_same_today() {
        let digits: Vec<char> = GOLDEN.trim().chars().collect();
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect();
        let record = Record::parse(&bytes).unwrap();
        record.follows(0, Hash::default()).unwrap();
        let mut state = super::super::state::State::default();
        for entry in Entries::new(record.payload) {
            let (utc_ms, entry) = entry.unwrap();
            state.apply(utc_ms, &entry, false);
        }
        let found = state.into_recovered();
        assert!(found.nodes.is_empty(), "{:?}", found.nodes);
        assert_eq!(found.marks, [("clock/trusted".into(), BACK_ONCE)], "that a node is forgotten is not kept");
    }
}
