//! Journals of every format, as they were written once: read to the letter, and the newest still written so.
//!
//! `USHERD_WRITE_GOLDEN=1 cargo nextest run --test journal golden::` writes what is missing in the folder of the format
//! that this release writes. It touches nothing that is there: a golden file is made once.

use std::path::PathBuf;

use usherd::daemon::journal::audit::{Span, export, verify};
use usherd::daemon::journal::{Audit, AuditKind, Commit, FORMAT, Feed, Journal, RecordBuilder, Recovered};
use usherd_engine::session::{
    Changes, Class, Code, Detail, Device, Direction, GoneRecord, Kind, Leg, Reason, SessionRecord, Stamp,
};

use super::disk::{Disk, Image};
use super::model::open;

/// When it was written: 2026-11-22 12:00 UTC.
const NOON_MS: i64 = 1_795_348_800_000;

/// A session of which everything optional is said.
const FULL: SessionRecord<'static> = SessionRecord {
    tenant: "acme",
    session: "call-1",
    subject: "Jörg \"x\"",
    kind: Kind::Call,
    direction: Some(Direction::Outbound),
    leg: Leg::Deliver,
    device: Some(Device::Function),
    class: Some(Class::Lift),
    counts: true,
    external: true,
    group: "Vertrieb-Süd",
    node: "pbx-1",
    epoch: Some(1_795_300_000),
    seq: Some(u64::MAX),
    ttl_s: Some(86_400),
    first: Code::AllowOver,
    started_utc_ms: NOON_MS - 1,
    version: 1,
};

/// A session of which nothing optional is said.
const BARE: SessionRecord<'static> = SessionRecord {
    tenant: "acme",
    session: "anna",
    subject: "anna",
    kind: Kind::Desktop,
    direction: None,
    leg: Leg::Originate,
    device: None,
    class: None,
    counts: false,
    external: false,
    group: "",
    node: "",
    epoch: None,
    seq: None,
    ttl_s: None,
    first: Code::AllowNew,
    started_utc_ms: NOON_MS + 90_000,
    version: 2,
};

/// The end of a session of which everything optional is said.
const ENDED: GoneRecord<'static> = GoneRecord {
    tenant: "acme",
    session: "call-1",
    subject: "Jörg \"x\"",
    kind: Kind::Call,
    counts: true,
    reason: Reason::Node,
    freed: true,
    was_live: true,
    tombstone: Some(("pbx-1", Stamp { epoch: 1_795_300_000, seq: u64::MAX })),
    version: 300,
};

/// The end of one of which nothing is.
const LAID: GoneRecord<'static> =
    GoneRecord { subject: "", counts: false, freed: false, was_live: false, tombstone: None, ..ENDED };

/// Sessions that have each word of format 1 once; a later word is for a later format to show.
fn words() -> Vec<SessionRecord<'static>> {
    let mut all = Vec::new();
    let mut one = |tenant, session, record| {
        let version = 10 + all.len() as u64;
        all.push(SessionRecord { tenant, session, version, ..record });
    };
    for kind in &Kind::ALL[..6] {
        one("kind", kind.as_str(), SessionRecord { kind: *kind, ..BARE });
    }
    for direction in &Direction::ALL[..3] {
        one("direction", direction.as_str(), SessionRecord { direction: Some(*direction), ..BARE });
    }
    for leg in &Leg::ALL[..4] {
        one("leg", leg.as_str(), SessionRecord { leg: *leg, ..BARE });
    }
    for device in &Device::ALL[..6] {
        one("device", device.as_str(), SessionRecord { device: Some(*device), ..BARE });
    }
    for class in &Class::ALL[..6] {
        one("class", class.as_str(), SessionRecord { class: Some(*class), ..BARE });
    }
    for first in &Code::ALL[..13] {
        one("code", first.as_str(), SessionRecord { first: *first, ..BARE });
    }
    all
}

/// Ends for each reason of format 1.
fn ends() -> Vec<GoneRecord<'static>> {
    let reasons = Reason::ALL[..7].iter().zip(100..);
    reasons
        .map(|(reason, version)| GoneRecord {
            tenant: "reason",
            session: reason.as_str(),
            reason: *reason,
            version,
            ..LAID
        })
        .collect()
}

/// The decisions before the snapshot: every entry, every word, with and without what is optional.
fn before() -> Vec<RecordBuilder> {
    let (mut first, mut second, mut third) = (RecordBuilder::new(), RecordBuilder::new(), RecordBuilder::new());
    first.at(NOON_MS);
    first.node("pbx-1", 1_795_300_000);
    first.put(&FULL, true);
    first.put(&BARE, false);
    first.at(NOON_MS + 1_000);
    first.mark("schedule/settled", 1_795_348_800_000);
    first.mark("serial/k1", 7);
    first.node("pbx-gone", 1);
    second.at(NOON_MS + 2_000);
    words().iter().for_each(|session| second.put(session, true));
    ends().iter().for_each(|gone| second.gone(gone));
    second.gone(&GoneRecord { session: "of-before", version: 200, was_live: false, ..ENDED });
    second.forgotten("pbx-gone");
    third.at(NOON_MS + 3_000);
    for kind in &AuditKind::ALL[..6] {
        third.audit(&Audit { text: kind.as_str(), ..Audit::new(*kind) });
    }
    for code in &Code::ALL[..13] {
        third.audit(&Audit { code: Some(*code), text: code.as_str(), ..Audit::new(AuditKind::Decision) });
    }
    for detail in &Detail::ALL[..18] {
        third.audit(&Audit { detail: Some(*detail), text: detail.as_str(), ..Audit::new(AuditKind::Decision) });
    }
    third.audit(&Audit {
        kind: AuditKind::Suppressed,
        code: Some(Code::DenyFull),
        detail: Some(Detail::Pool),
        count: 3,
        tenant: "acme",
        subject: "bert",
        session: "call-2",
        node: "pbx-1",
        actor: "tok-7",
        text: "Straße",
    });
    vec![first, second, third]
}

/// The decisions after it.
fn after() -> Vec<RecordBuilder> {
    let (mut first, mut second) = (RecordBuilder::new(), RecordBuilder::new());
    first.at(NOON_MS + 60_000);
    first.gone(&ENDED);
    first.put(&SessionRecord { version: 301, ttl_s: Some(60), ..BARE }, false);
    first.put(&SessionRecord { session: "older", version: 302, ..BARE }, true);
    first.put(&SessionRecord { session: "older", version: 9, subject: "nobody", ..BARE }, true);
    second.at(NOON_MS + 61_000);
    second.node("pbx-2", 9);
    second.mark("serial/k1", 8);
    second.mark("serial/k1", 6);
    vec![first, second]
}

/// The sessions, tombstones, nodes and marks that it stands for.
struct Listed {
    sessions: Vec<SessionRecord<'static>>,
    /// Session, number of its last message, when it was laid, version.
    tombstones: Vec<(&'static str, u64, i64, u64)>,
    nodes: &'static [(&'static str, u64)],
    marks: &'static [(&'static str, u64)],
    /// The highest version, and the wall clock of the last entry.
    last: (u64, i64),
}

/// At the snapshot.
fn listed_before() -> Listed {
    let mut sessions = words();
    sessions.extend([FULL, BARE]);
    Listed {
        sessions,
        tombstones: vec![("of-before", u64::MAX, NOON_MS + 2_000, 200)],
        nodes: &[("pbx-1", 1_795_300_000)],
        marks: &[("schedule/settled", 1_795_348_800_000), ("serial/k1", 7)],
        last: (200, NOON_MS + 3_000),
    }
}

/// At the end.
fn listed() -> Listed {
    let mut sessions = words();
    sessions.push(SessionRecord { version: 301, ttl_s: Some(60), ..BARE });
    sessions.push(SessionRecord { session: "older", version: 302, ..BARE });
    Listed {
        sessions,
        tombstones: vec![("call-1", u64::MAX, NOON_MS + 60_000, 300), ("of-before", u64::MAX, NOON_MS + 2_000, 200)],
        nodes: &[("pbx-1", 1_795_300_000), ("pbx-2", 9)],
        marks: &[("schedule/settled", 1_795_348_800_000), ("serial/k1", 8)],
        last: (302, NOON_MS + 61_000),
    }
}

/// Holds what was found to what is listed, all of it.
fn hold(found: &Recovered, listed: &Listed) {
    let text = |sessions: &mut dyn Iterator<Item = SessionRecord<'_>>| {
        let mut lines: Vec<String> = sessions.map(|record| format!("{record:?}")).collect();
        lines.sort();
        lines
    };
    let sessions = text(&mut found.sessions.iter().map(|session| session.record()));
    assert_eq!(sessions, text(&mut listed.sessions.iter().copied()));
    let mut tombstones: Vec<_> = found
        .tombstones
        .iter()
        .map(|laid| {
            assert_eq!((&*laid.tenant, &*laid.node, laid.stamp.epoch), ("acme", "pbx-1", 1_795_300_000));
            (&*laid.session, laid.stamp.seq, laid.laid_utc_ms, laid.version)
        })
        .collect();
    tombstones.sort_unstable();
    assert_eq!(tombstones, listed.tombstones);
    let pairs = |all: &[(usherd_engine::Name, u64)]| {
        all.iter().map(|(key, value)| (key.to_string(), *value)).collect::<Vec<_>>()
    };
    let expected = |all: &[(&str, u64)]| all.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect::<Vec<_>>();
    assert_eq!(pairs(&found.nodes), expected(listed.nodes));
    assert_eq!(pairs(&found.marks), expected(listed.marks));
    assert_eq!((found.version_max, found.last_utc_ms), listed.last);
}

fn commit(disk: &Disk, groups: &mut [RecordBuilder], with_snapshot: bool) {
    let (journal, epoch, found) = open(disk, false, 1 << 20).unwrap();
    assert_eq!(found.degraded, None);
    let (before, after) = groups.split_at_mut(3);
    before.iter_mut().for_each(|group| assert_eq!(journal.commit(epoch, group), Commit::Durable));
    if with_snapshot {
        let state = {
            let (_, _, found) = open(&Disk::of(disk.image()), false, 1 << 20).unwrap();
            found
        };
        hold(&state, &listed_before());
        let mut snapshot = journal.snapshot_begin(epoch).unwrap();
        let mut feed = Feed::new(&journal, &mut snapshot);
        feed.at(NOON_MS + 3_000);
        let mut sorted = state.clone();
        sorted.sessions.sort_by(|a, b| (&a.tenant, &a.session).cmp(&(&b.tenant, &b.session)));
        sorted.feed(&mut feed);
        feed.finish().unwrap();
        journal.snapshot_mark(&mut snapshot);
        journal.snapshot_end(snapshot).unwrap();
    }
    after.iter_mut().for_each(|group| assert_eq!(journal.commit(epoch, group), Commit::Durable));
}

/// A segment, a snapshot, and the segment after it.
fn sound() -> Image {
    let disk = Disk::default();
    commit(&disk, &mut before().into_iter().chain(after()).collect::<Vec<_>>(), true);
    disk.image()
}

/// The same after a bit fell over in the second segment: one more segment that tells of a gap, a snapshot that tells
/// what was repaired, and what was set aside.
fn repaired() -> Image {
    let mut image = sound();
    let name = "segment-0000000000000002.log";
    let mut bytes = image.bytes(name);
    bytes[120] ^= 1;
    image.put(name, bytes);
    let disk = Disk::of(image);
    drop(open(&disk, false, 1 << 20).unwrap());
    disk.image()
}

fn folder(format: u8, which: &str) -> PathBuf {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/daemon/journal/golden");
    golden.join(format!("format-{format}")).join(which)
}

/// The committed files.
fn committed(format: u8, which: &str) -> Image {
    let folder = folder(format, which);
    let files = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}; format {FORMAT} needs golden files", folder.display()));
    let mut image = Image::default();
    for file in files {
        let file = file.unwrap();
        image.put(file.file_name().to_str().unwrap(), std::fs::read(file.path()).unwrap());
    }
    image
}

/// Writes what is not there yet, where that is asked for.
fn write_golden(which: &str, image: &Image) {
    if std::env::var_os("USHERD_WRITE_GOLDEN").is_none() {
        return;
    }
    let folder = folder(FORMAT, which);
    std::fs::create_dir_all(&folder).unwrap();
    for name in image.names() {
        let path = folder.join(&name);
        if !path.exists() {
            std::fs::write(&path, image.bytes(&name)).unwrap();
        }
    }
}

#[test]
fn the_newest_format_is_written_as_it_stands() {
    for (which, image) in [("sound", sound()), ("repaired", repaired())] {
        write_golden(which, &image);
        let golden = committed(FORMAT, which);
        assert_eq!(image.names(), golden.names(), "{which}");
        for name in golden.names() {
            assert_eq!(image.bytes(&name), golden.bytes(&name), "{which}/{name} is frozen");
        }
    }
}

#[test]
fn format_1_replays_as_listed_with_and_without_snapshot() {
    let mut image = committed(1, "sound");
    assert_eq!(image.names().len(), 3);
    for what in ["with", "without"] {
        let disk = Disk::of(image.clone());
        let verified = verify(&disk).unwrap();
        assert_eq!((verified.bad, verified.torn, verified.segments), (Vec::new(), None, 2), "{what} the snapshot");
        let (_, _, found) = open(&disk, false, 1 << 20).unwrap();
        assert_eq!((&found.degraded, &found.tail_cut, &found.set_aside), (&None, &None, &Vec::new()), "{what}");
        hold(&found, &listed());
        image.remove("snapshot-0000000000000002.snap");
    }
}

#[test]
fn format_1_after_a_repair_says_what_was_lost_and_has_the_rest() {
    let image = committed(1, "repaired");
    let (_, _, found) = open(&Disk::of(image), false, 1 << 20).unwrap();
    let why = "repaired after damage: segment-0000000000000002.log at byte 67: checksum does not fit";
    assert_eq!(found.degraded.as_deref(), Some(why));
    hold(&found, &listed_before());
}

#[test]
fn format_1_tells_every_entry_as_a_line() {
    let mut lines = Vec::new();
    export(&Disk::of(committed(1, "sound")), Span::ALL, &mut lines).unwrap();
    let path = folder(1, "sound.jsonl");
    if std::env::var_os("USHERD_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, &lines).unwrap();
    }
    assert_eq!(String::from_utf8(lines).unwrap(), std::fs::read_to_string(path).unwrap());
}
