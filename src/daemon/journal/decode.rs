//! Bytes back into records and entries; any bytes give an answer, never a panic.

use usherd_engine::session::{
    Class, Code, Detail, Device, Direction, GoneRecord, Kind, Leg, Reason, SessionRecord, Stamp,
};

use super::codec::{
    ABSENT, Audit, AuditKind, FORMAT, HEADER_BYTES, Hash, MAGIC, PAYLOAD_BYTES_MAX, RecordKind, TEXT_BYTES_MAX,
    checksum, flag, link, tag,
};
use crate::daemon::varint::Reader;

/// The fault of bytes that should be a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The file ends within the record.
    Cut,
    /// It does not begin like a record.
    Magic,
    /// The checksum does not fit.
    Checksum,
    /// A record of a newer release, by its format number (I16).
    Newer(u8),
    /// A sound record that is not the next one: duplicated, left out or out of order.
    Sequence,
    /// A sound record that does not continue the chain: foreign or exchanged.
    Chain,
    /// A sound record that has no place here, or whose contents make no sense.
    Content(&'static str),
}

impl Flaw {
    /// True if an interrupted write leaves this.
    pub const fn torn(self) -> bool {
        matches!(self, Flaw::Cut | Flaw::Magic | Flaw::Checksum)
    }
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Flaw::Cut => f.write_str("record is incomplete"),
            Flaw::Magic => f.write_str("not the beginning of a record"),
            Flaw::Checksum => f.write_str("checksum does not fit"),
            Flaw::Newer(format) => write!(f, "format {format} of a newer release"),
            Flaw::Sequence => f.write_str("record out of sequence"),
            Flaw::Chain => f.write_str("record does not continue the chain"),
            Flaw::Content(what) => f.write_str(what),
        }
    }
}

/// A record whose checksum fits, borrowed from its file.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The purpose.
    pub kind: RecordKind,
    /// Its number in the chain.
    pub seq: u64,
    /// Its link.
    pub hash: Hash,
    /// Its entries, see [`Entries`].
    pub payload: &'a [u8],
    header: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads the record at the beginning of `bytes`.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
            let seen = bytes.len().min(MAGIC.len());
            return Err(if bytes[..seen] == MAGIC[..seen] { Flaw::Cut } else { Flaw::Magic });
        };
        if header[..4] != MAGIC {
            return Err(Flaw::Magic);
        }
        let length = u32_at(header, 8) as usize;
        if length > PAYLOAD_BYTES_MAX || length > rest.len() {
            return Err(Flaw::Cut);
        }
        let payload = &rest[..length];
        if checksum(&header[..HEADER_BYTES - 4], payload) != u32_at(header, HEADER_BYTES - 4) {
            return Err(Flaw::Checksum);
        }
        if header[4] > FORMAT {
            return Err(Flaw::Newer(header[4]));
        }
        if header[4] == 0 || header[6..8] != [0, 0] {
            return Err(Flaw::Content("header makes no sense"));
        }
        let kind = RecordKind::from_byte(header[5]).ok_or(Flaw::Content("unknown kind of record"))?;
        let mut hash = Hash::default();
        hash.0.copy_from_slice(&header[20..36]);
        let mut seq = [0; 8];
        seq.copy_from_slice(&header[12..20]);
        Ok(Record { kind, seq: u64::from_le_bytes(seq), hash, payload, header })
    }

    /// Checks that it is the record after `seq` with link `previous`.
    ///
    /// # Errors
    /// [`Flaw::Sequence`] or [`Flaw::Chain`].
    pub fn follows(&self, seq: u64, previous: Hash) -> Result<(), Flaw> {
        if self.seq != seq.wrapping_add(1) {
            return Err(Flaw::Sequence);
        }
        if link(previous, self.header, self.payload) != self.hash {
            return Err(Flaw::Chain);
        }
        Ok(())
    }

    /// Length with its header, in bytes.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// True if a sound record begins anywhere in `bytes`. The work is limited: beyond it the answer is yes,
/// which costs a start in degraded state and never a record.
pub(super) fn any_record_in(bytes: &[u8]) -> bool {
    let mut budget = bytes.len().saturating_mul(8).saturating_add(1 << 20);
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == MAGIC[0]) {
        at += found;
        match Record::parse(&bytes[at..]) {
            Ok(_) | Err(Flaw::Newer(_) | Flaw::Content(_)) => return true,
            Err(Flaw::Checksum) => {
                let cost = HEADER_BYTES + u32_at(bytes, at + 8) as usize;
                let Some(rest) = budget.checked_sub(cost) else { return true };
                budget = rest;
            }
            Err(_) => {}
        }
        at += 1;
    }
    false
}

/// One entry of a group, borrowed from its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A session is live or changed; `fresh` where it was not live before.
    Put {
        /// The session.
        session: SessionRecord<'a>,
        /// True if it was not live before.
        fresh: bool,
    },
    /// A session left, or a tombstone was laid.
    Gone(GoneRecord<'a>),
    /// A node is known by this epoch.
    Node {
        /// Its name.
        node: &'a str,
        /// Its boot number.
        epoch: u64,
    },
    /// Something that changed no session.
    Audit(Audit<'a>),
    /// A number that only grows.
    Mark {
        /// Whose number.
        key: &'a str,
        /// The number.
        value: u64,
    },
}

/// The entries of a payload, each with its wall clock in milliseconds since 1970 UTC.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    reader: Reader<'a>,
    utc_ms: i64,
}

impl<'a> Entries<'a> {
    /// The entries of this payload.
    pub const fn new(payload: &'a [u8]) -> Self {
        Entries { reader: Reader { bytes: payload }, utc_ms: 0 }
    }

    fn read(&mut self) -> Option<(i64, Entry<'a>)> {
        let reader = &mut self.reader;
        let mut tag = reader.byte()?;
        while tag == tag::TIME {
            self.utc_ms = reader.signed()?;
            tag = reader.byte()?;
        }
        let entry = match tag {
            tag::PUT => reader.put(self.utc_ms)?,
            tag::GONE => Entry::Gone(reader.gone()?),
            tag::NODE => Entry::Node { node: reader.text()?, epoch: reader.varint()? },
            tag::AUDIT => Entry::Audit(reader.audit()?),
            tag::MARK => Entry::Mark { key: reader.text()?, value: reader.varint()? },
            _ => return None,
        };
        Some((self.utc_ms, entry))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(i64, Entry<'a>), Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.bytes.is_empty() {
            return None;
        }
        match self.read() {
            Some(entry) => Some(Ok(entry)),
            None => {
                self.reader.bytes = &[];
                Some(Err(Flaw::Content("entry makes no sense")))
            }
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn signed(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.varint()?;
        if length > TEXT_BYTES_MAX as u64 {
            return None;
        }
        std::str::from_utf8(self.take(length as usize)?).ok()
    }

    pub(super) fn hash(&mut self) -> Option<Hash> {
        let mut hash = Hash::default();
        hash.0.copy_from_slice(self.take(16)?);
        Some(hash)
    }

    fn word<T>(&mut self, from_number: fn(u8) -> Option<T>) -> Option<T> {
        from_number(self.byte()?)
    }

    fn optional_word<T>(&mut self, from_number: fn(u8) -> Option<T>) -> Option<Option<T>> {
        match self.byte()? {
            ABSENT => Some(None),
            number => from_number(number).map(Some),
        }
    }

    fn optional_varint(&mut self, present: bool) -> Option<Option<u64>> {
        if present { self.varint().map(Some) } else { Some(None) }
    }

    fn put(&mut self, utc_ms: i64) -> Option<Entry<'a>> {
        let kind = self.word(Kind::from_number)?;
        let direction = self.optional_word(Direction::from_number)?;
        let leg = self.word(Leg::from_number)?;
        let device = self.optional_word(Device::from_number)?;
        let class = self.optional_word(Class::from_number)?;
        let first = self.word(Code::from_number)?;
        let flags = self.byte()?;
        let epoch = self.optional_varint(flags & flag::EPOCH != 0)?;
        let seq = self.optional_varint(flags & flag::SEQ != 0)?;
        let ttl_s = match self.optional_varint(flags & flag::TTL != 0)? {
            Some(ttl_s) => Some(u32::try_from(ttl_s).ok()?),
            None => None,
        };
        let started_utc_ms = self.signed()?.wrapping_add(utc_ms);
        let version = self.varint()?;
        let session = SessionRecord {
            tenant: self.text()?,
            session: self.text()?,
            subject: self.text()?,
            kind,
            direction,
            leg,
            device,
            class,
            counts: flags & flag::COUNTS != 0,
            external: flags & flag::EXTERNAL != 0,
            group: self.text()?,
            node: self.text()?,
            epoch,
            seq,
            ttl_s,
            first,
            started_utc_ms,
            version,
        };
        Some(Entry::Put { session, fresh: flags & flag::FRESH != 0 })
    }

    fn gone(&mut self) -> Option<GoneRecord<'a>> {
        let kind = self.word(Kind::from_number)?;
        let reason = self.word(Reason::from_number)?;
        let flags = self.byte()?;
        let version = self.varint()?;
        let (tenant, session, subject) = (self.text()?, self.text()?, self.text()?);
        let tombstone = if flags & flag::TOMBSTONE != 0 {
            Some((self.text()?, Stamp { epoch: self.varint()?, seq: self.varint()? }))
        } else {
            None
        };
        Some(GoneRecord {
            tenant,
            session,
            subject,
            kind,
            counts: flags & flag::COUNTS != 0,
            reason,
            freed: flags & flag::FREED != 0,
            was_live: flags & flag::WAS_LIVE != 0,
            tombstone,
            version,
        })
    }

    fn audit(&mut self) -> Option<Audit<'a>> {
        Some(Audit {
            kind: self.word(AuditKind::from_number)?,
            code: self.optional_word(Code::from_number)?,
            detail: self.optional_word(Detail::from_number)?,
            count: self.varint()?,
            tenant: self.text()?,
            subject: self.text()?,
            session: self.text()?,
            node: self.text()?,
            actor: self.text()?,
            text: self.text()?,
        })
    }
}
