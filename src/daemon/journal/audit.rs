//! The records as an audit trail: whether they are as they were written, and what they tell, as JSON lines.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use usherd_engine::session::{GoneRecord, SessionRecord};

use super::codec::{Audit, Hash, RecordKind};
use super::decode::{Entries, Entry, Flaw, Record, any_record_in};
use super::files::{SegmentHead, Tail, segment_name, snapshot_name};
use super::recovery::{Catalogue, Damage, read, snapshot_records};
use super::storage::Storage;
use super::{Commit, JournalError};

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segments read.
    pub segments: u64,
    /// Snapshots read.
    pub snapshots: u64,
    /// Records of segments read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The link of the last record: write it down elsewhere to prove later that nothing before it changed.
    pub last_hash: Hash,
    /// Every file that is not as it was written, with the first bad place; empty where all is well.
    pub bad: Vec<Damage>,
    /// The end of the last segment is an interrupted write: the file and the first byte of it.
    pub torn: Option<(String, u64)>,
}

/// How often a journal is looked at anew before something in it counts as bad.
const LOOKS_MAX: usize = 8;

/// Reads every segment and snapshot and checks checksums, sequence and chain. Changes nothing; the daemon may
/// be running, and then the last record may look torn. What looks bad is looked at again: files come and go
/// meanwhile, and only what is bad twice is.
///
/// # Errors
/// Where the disk fails, or a file is of a newer release.
pub fn verify<S: Storage>(storage: &S) -> Result<Verified, JournalError> {
    let mut last = look(storage)?;
    for _ in 1..LOOKS_MAX {
        if last.bad.is_empty() {
            break;
        }
        let again = look(storage)?;
        if again.bad == last.bad {
            break;
        }
        last = again;
    }
    Ok(last)
}

fn look<S: Storage>(storage: &S) -> Result<Verified, JournalError> {
    let mut verified = Verified::default();
    let catalogue = Catalogue::read(storage)?;
    walk(storage, &catalogue, &mut verified, &mut |_| Ok(()))?;
    for number in &catalogue.snapshots {
        let name = snapshot_name(*number);
        verified.snapshots += 1;
        let mut at = 0;
        let result = read(storage, &name, u64::MAX)?.and_then(|bytes| {
            verified.bytes += bytes.len() as u64;
            snapshot_records(&bytes, &mut at, |record| Entries::new(record.payload).try_for_each(|e| e.map(drop)))
        });
        match result {
            Ok((head, _)) if head.number == *number => {}
            Ok(_) => verified.bad.push(Damage::new(name, 0, Flaw::Chain)),
            Err(flaw) => verified.bad.push(Damage::new(name, at as u64, flaw)),
        }
    }
    Ok(verified)
}

/// Which entries are exported, by their wall clock, milliseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub from_utc_ms: i64,
    /// The first that is not.
    pub until_utc_ms: i64,
}

impl Span {
    /// Everything.
    pub const ALL: Span = Span { from_utc_ms: i64::MIN, until_utc_ms: i64::MAX };
}

/// Writes the entries of all sound records as JSON lines, oldest first; gives the number of lines. A bad
/// record ends the export of its segment, not of those after it.
///
/// # Errors
/// Where the disk or the output fails, or a file is of a newer release.
pub fn export<S: Storage>(storage: &S, span: Span, output: &mut impl Write) -> Result<u64, JournalError> {
    let mut lines = 0;
    let catalogue = Catalogue::read(storage)?;
    walk(storage, &catalogue, &mut Verified::default(), &mut |record| {
        for (utc_ms, entry) in Entries::new(record.payload).map_while(Result::ok) {
            if (span.from_utc_ms..span.until_utc_ms).contains(&utc_ms) {
                serde_json::to_writer(&mut *output, &Line::of(utc_ms, &entry)).map_err(io::Error::from)?;
                output.write_all(b"\n")?;
                lines += 1;
            }
        }
        Ok(())
    })?;
    Ok(lines)
}

type Each<'a> = dyn FnMut(&Record<'_>) -> io::Result<()> + 'a;

/// Goes through all segments from the oldest on.
fn walk<S: Storage>(
    storage: &S,
    catalogue: &Catalogue,
    verified: &mut Verified,
    each: &mut Each<'_>,
) -> Result<(), JournalError> {
    let mut tails: BTreeMap<u64, Tail> = BTreeMap::new();
    for segment in &catalogue.segments {
        let name = segment_name(segment.number);
        let (head, after_head) = match &segment.head {
            Ok(sound) => sound,
            // Void: the segment after it goes on with the one before it.
            Err(_) if skipped(catalogue, segment.number) => continue,
            Err(flaw) => {
                let last = catalogue.segments.last().is_some_and(|last| last.number == segment.number);
                let bytes = read(storage, &name, u64::MAX)?.unwrap_or_default();
                if flaw.torn() && last && !any_record_in(bytes.get(1..).unwrap_or_default()) {
                    verified.torn = Some((name, 0));
                } else {
                    verified.bad.push(Damage::new(name, 0, flaw));
                }
                continue;
            }
        };
        let before = tails.get(&head.previous.segment);
        if !tails.is_empty() && before != Some(&head.previous) && !skipped(catalogue, segment.number) {
            let flaw = if before.is_some() { Flaw::Chain } else { Flaw::Content("the segment before it is missing") };
            verified.bad.push(Damage::new(name.clone(), 0, flaw));
        }
        let next = catalogue.after(segment.number).map(|(head, _)| *head);
        let tail = records(storage, &name, *after_head, next, verified, each)?;
        verified.last_hash = tail.hash;
        tails.insert(segment.number, tail);
    }
    Ok(())
}

/// True if a later segment declares this one void.
fn skipped(catalogue: &Catalogue, number: u64) -> bool {
    catalogue.segments.iter().any(|later| match &later.head {
        Ok((head, _)) => later.number > number && head.previous.segment < number,
        Err(_) => false,
    })
}

/// Goes through the records of one segment; gives where it got to.
fn records<S: Storage>(
    storage: &S,
    name: &str,
    mut tail: Tail,
    next: Option<SegmentHead>,
    verified: &mut Verified,
    each: &mut Each<'_>,
) -> Result<Tail, JournalError> {
    let bytes = match read(storage, name, u64::MAX)? {
        Ok(bytes) => bytes,
        Err(flaw) => {
            verified.bad.push(Damage::new(name.to_owned(), 0, flaw));
            return Ok(tail);
        }
    };
    verified.segments += 1;
    verified.records += 1;
    verified.bytes += bytes.len() as u64;
    let declared = next.map_or(bytes.len() as u64, |next| next.previous.bytes);
    while tail.bytes < declared {
        let rest = bytes.get(tail.bytes as usize..declared.min(bytes.len() as u64) as usize).unwrap_or_default();
        let sound = Record::parse(rest).and_then(|record| {
            record.follows(tail.seq, tail.hash)?;
            match record.kind {
                RecordKind::Group => Entries::new(record.payload).try_for_each(|entry| entry.map(drop))?,
                _ => return Err(Flaw::Content("a record of this kind has no place here")),
            }
            Ok(record)
        });
        match sound {
            Ok(record) => {
                each(&record).map_err(|error| JournalError::io("write the export", error))?;
                verified.records += 1;
                tail = Tail {
                    bytes: tail.bytes + record.bytes() as u64,
                    seq: record.seq,
                    hash: record.hash,
                    segment: tail.segment,
                };
            }
            Err(Flaw::Newer(format)) => return Err(JournalError::Newer { file: name.to_owned(), format }),
            Err(flaw) => {
                let after = bytes.get(tail.bytes as usize + 1..).unwrap_or_default();
                if next.is_none() && flaw.torn() && !any_record_in(after) {
                    verified.torn = Some((name.to_owned(), tail.bytes));
                } else {
                    verified.bad.push(Damage::new(name.to_owned(), tail.bytes, flaw));
                }
                break;
            }
        }
    }
    Ok(tail)
}

/// One line of an export; empty fields are left out.
#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    time: String,
    #[serde(rename = "type")]
    what: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    tenant: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    session: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<bool>,
    #[serde(skip_serializing_if = "str::is_empty")]
    code: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    freed: Option<bool>,
    #[serde(skip_serializing_if = "str::is_empty")]
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    actor: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl<'a> Line<'a> {
    fn of(utc_ms: i64, entry: &Entry<'a>) -> Self {
        let line = match entry {
            Entry::Put { session, fresh } => Line::put(session, *fresh),
            Entry::Gone(gone) => Line::gone(gone),
            Entry::Node { node, epoch } => Line { what: "node", node, epoch: Some(*epoch), ..Line::default() },
            Entry::Audit(audit) => Line::audit(audit),
            Entry::Mark { key, value } => Line { what: "mark", text: key, count: Some(*value), ..Line::default() },
        };
        Line { time: time(utc_ms), ..line }
    }

    fn put(session: &SessionRecord<'a>, fresh: bool) -> Self {
        Line {
            what: if fresh { "began" } else { "changed" },
            tenant: session.tenant,
            session: session.session,
            subject: session.subject,
            kind: Some(session.kind.as_str()),
            counts: Some(session.counts),
            code: session.first.as_str(),
            node: session.node,
            epoch: session.epoch,
            seq: session.seq,
            ..Line::default()
        }
    }

    fn gone(gone: &GoneRecord<'a>) -> Self {
        Line {
            what: if gone.was_live { "ended" } else { "tombstone" },
            tenant: gone.tenant,
            session: gone.session,
            subject: gone.subject,
            kind: gone.was_live.then(|| gone.kind.as_str()),
            counts: gone.was_live.then_some(gone.counts),
            reason: gone.reason.as_str(),
            freed: gone.was_live.then_some(gone.freed),
            node: gone.tombstone.map_or("", |(node, _)| node),
            epoch: gone.tombstone.map(|(_, stamp)| stamp.epoch),
            seq: gone.tombstone.map(|(_, stamp)| stamp.seq),
            ..Line::default()
        }
    }

    fn audit(audit: &Audit<'a>) -> Self {
        Line {
            what: audit.kind.as_str(),
            tenant: audit.tenant,
            session: audit.session,
            subject: audit.subject,
            code: audit.code.map_or("", |code| code.as_str()),
            detail: audit.detail.map_or("", |detail| detail.as_str()),
            node: audit.node,
            actor: audit.actor,
            text: audit.text,
            count: (audit.count != 1).then_some(audit.count),
            ..Line::default()
        }
    }
}

/// RFC 3339 with milliseconds; the bare number where the calendar does not reach.
fn time(utc_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(utc_ms)
        .map_or_else(|| utc_ms.to_string(), |at| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

impl Commit {
    /// True if the answer may go out.
    pub const fn answers(self) -> bool {
        !matches!(self, Commit::Fenced)
    }
}
