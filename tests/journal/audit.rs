//! Verification, export and purge of the audit trail.

use usherd::daemon::journal::audit::{Span, export, verify};
use usherd::daemon::journal::{Audit, AuditKind, Commit, Feed, Journal, Keep, RecordBuilder};
use usherd_engine::session::{Changes, Code, Detail, GoneRecord, Kind, Reason, Stamp};

use super::disk::Disk;
use super::model::{UTC_MS, Workload, open, record, utc};

#[test]
fn an_export_tells_everything_in_lines() {
    let disk = Disk::default();
    let (journal, epoch, _) = open(&disk, false, 1 << 20).unwrap();
    let mut group = RecordBuilder::new();
    group.at(UTC_MS + 7);
    group.put(&record("acme", "call-1", "anna \"x\"", 1, 1), true);
    group.gone(&GoneRecord {
        tenant: "acme",
        session: "call-1",
        subject: "anna",
        kind: Kind::Call,
        counts: true,
        reason: Reason::Admin,
        freed: true,
        was_live: true,
        tombstone: Some(("pbx-1", Stamp { epoch: 3, seq: 9 })),
        version: 2,
    });
    group.at(UTC_MS + 1_000);
    group.audit(&Audit {
        code: Some(Code::DenyFull),
        detail: Some(Detail::Pool),
        tenant: "acme",
        subject: "bert",
        node: "pbx-1",
        actor: "tok-7",
        count: 3,
        ..Audit::new(AuditKind::Suppressed)
    });
    group.node("pbx-1", 3);
    assert_eq!(journal.commit(epoch, &mut group), Commit::Durable);
    let mut output = Vec::new();
    assert_eq!(export(&disk, Span::ALL, &mut output).unwrap(), 4);
    let lines: Vec<serde_json::Value> =
        output.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!(lines[0]["type"], "began");
    assert_eq!(lines[0]["subject"], "anna \"x\"");
    assert_eq!(lines[0]["time"], "2026-01-01T00:00:00.007Z");
    assert_eq!(
        lines[1],
        serde_json::json!({"time": "2026-01-01T00:00:00.007Z", "type": "ended", "tenant": "acme", "session": "call-1",
            "subject": "anna", "kind": "call", "counts": true, "reason": "admin", "freed": true,
            "node": "pbx-1", "epoch": 3, "seq": 9})
    );
    assert_eq!(
        lines[2],
        serde_json::json!({"time": "2026-01-01T00:00:01.000Z", "type": "suppressed", "tenant": "acme",
            "subject": "bert", "code": "deny.full", "detail": "pool", "node": "pbx-1", "actor": "tok-7", "count": 3})
    );
    assert_eq!(lines[3]["type"], "node");
    let mut some = Vec::new();
    let span = Span { from_utc_ms: UTC_MS + 1_000, until_utc_ms: i64::MAX };
    assert_eq!(export(&disk, span, &mut some).unwrap(), 2);
}

#[test]
fn verification_names_the_first_bad_record() {
    let workload = Workload::new(1, 10);
    let disk = Disk::default();
    let (journal, epoch, _) = open(&disk, true, 300).unwrap();
    (0..10).for_each(|at| assert_eq!(journal.commit(epoch, &mut workload.group(at)), Commit::Durable));
    let verified = verify(&disk).unwrap();
    assert_eq!((verified.bad.len(), verified.torn), (0, None));
    let mut image = disk.image();
    let name = image.names()[0].clone();
    let mut bytes = image.bytes(&name);
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    image.put(&name, bytes);
    let bad = verify(&Disk::of(image)).unwrap().bad;
    assert_eq!((bad[0].file.as_str(), bad[0].what.as_str()), (name.as_str(), "checksum does not fit"));
    assert!(bad[0].offset > 0);
}

#[test]
fn purge_takes_whole_covered_segments_and_no_more() {
    let workload = Workload::new(1, 20);
    let disk = Disk::default();
    let (journal, epoch, _) = open(&disk, true, 300).unwrap();
    (0..10).for_each(|at| assert_eq!(journal.commit(epoch, &mut workload.group(at)), Commit::Durable));
    let segments = || disk.image().names().iter().filter(|name| name.starts_with("segment-")).count();
    let before = segments();
    let (nothing, everything) = (Keep { age_ms: 0, bytes: 0 }, Keep { age_ms: i64::MAX, bytes: u64::MAX });
    assert_eq!(journal.trim(epoch, nothing, utc(100)).unwrap().segments, 0, "no snapshot covers them");
    let mut snapshot = journal.snapshot_begin(epoch).unwrap();
    let mut feed = Feed::new(&journal, &mut snapshot);
    workload.feed(10, &mut feed);
    feed.finish().unwrap();
    journal.snapshot_mark(&mut snapshot);
    journal.snapshot_end(snapshot).unwrap();
    assert_eq!(journal.trim(epoch, everything, utc(100)).unwrap().segments, 0, "all are wanted");
    let some = Keep { age_ms: 4_000, bytes: u64::MAX };
    let trimmed = journal.trim(epoch, some, utc(10)).unwrap().segments;
    assert!(trimmed > 0 && (trimmed as usize) < before, "{trimmed} of {before}");
    assert_eq!(journal.trim(epoch, nothing, utc(10)).unwrap().segments as usize, before - trimmed as usize);
    assert_eq!(segments(), 1);
    let verified = verify(&disk).unwrap();
    assert_eq!((verified.bad.len(), verified.segments), (0, 1));
}
