//! A million sessions: the memory they take, and the time until they are back after a restart.

use std::io::Write as _;

use usherd::daemon::journal::storage::Folder;
use usherd::daemon::journal::{Commit, Feed, Journal, Local, LocalOptions, RecordBuilder, Recovered, Shard};
use usherd_engine::Code;

use crate::dashmaps::DashMaps;
use crate::measure::{Goal, cpu_of, median, row, thread_cpu_ns, wall_ns};
use crate::world::{Decider, Ids, NOW, Names, Shape, Viewed, full, with_tenants};

/// Resident bytes per session, each measured in a process of its own: what was freed before does not hide.
pub(crate) fn memory() {
    let forms = [
        ("1", "short", 185.0, "20 byte ids"),
        ("2", "short", 160.0, "20 byte ids"),
        ("1", "long", 185.0, "36 byte ids"),
        ("1", "uuid", 185.0, "UUIDs for both"),
        ("2", "uuid", 185.0, "UUIDs for both"),
    ];
    for (per_subject, ids, goal, named) in forms {
        let [per_session, per_tenant] = in_child("engine", per_subject, ids);
        let name = format!("memory per session, {per_subject} per subject, {named}");
        let [maps, _] = in_child("dashmaps", per_subject, ids);
        let beside = format!("{maps:.0} on three DashMaps; and {per_tenant:.0} bytes per empty tenant");
        row(&name, per_session, " bytes", Goal::AtMost(goal), &beside);
    }
}

fn in_child(decider: &str, per_subject: &str, ids: &str) -> [f64; 2] {
    let exe = std::env::current_exe().unwrap();
    let output = std::process::Command::new(exe).args(["memory-child", decider, per_subject, ids]).output().unwrap();
    let figures: Vec<f64> =
        String::from_utf8_lossy(&output.stdout).split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [per_session, per_tenant] = figures[..] else { panic!("{output:?}") };
    [per_session, per_tenant]
}

/// Prints bytes per session and bytes per tenant.
pub(crate) fn memory_child(args: &[String]) {
    let shape = Shape {
        sessions_per_subject: args.get(1).and_then(|arg| arg.parse().ok()).unwrap_or(1),
        ids: match args.get(2).map(String::as_str) {
            Some("long") => Ids::Long,
            Some("uuid") => Ids::Uuid,
            _ => Ids::Short,
        },
        ..Shape::MILLION
    };
    match args.first().map(String::as_str) {
        Some("dashmaps") => print_memory::<DashMaps>(&shape),
        _ => print_memory::<Viewed>(&shape),
    }
}

fn print_memory<D: Decider>(shape: &Shape) {
    let empty = resident_bytes();
    let decider = D::with_tenants(shape);
    let tenants = resident_bytes();
    let mut names = Names::default();
    for session in 0..shape.sessions {
        shape.name(session, &mut names);
        let code = decider.acquire(NOW, &names.acquire(), &mut ()).code;
        assert!(matches!(code, Code::AllowNew | Code::AllowHeld));
    }
    let full = resident_bytes();
    println!("{} {}", (full - tenants) / f64::from(shape.sessions), (tenants - empty) / f64::from(shape.tenants));
}

fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap();
    pages * 4_096.0
}

/// From the files of the journal to an engine that decides, with the tenants of the configuration.
pub(crate) fn recovery() {
    let shape = Shape::MILLION;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = || Local::new(Folder::at(folder.path()).unwrap(), LocalOptions::default());
    {
        let journal = open();
        let epoch = journal.acquire(Shard::ALL).unwrap();
        journal.replay(Shard::ALL).unwrap();
        let engine = with_tenants(&shape);
        let mut group = RecordBuilder::new();
        let mut names = Names::default();
        for session in 0..shape.sessions {
            shape.name(session, &mut names);
            group.at(NOW.utc_ms);
            assert!(engine.acquire(NOW, &names.acquire(), &mut group).code.allows());
            if session % 10 == 9 {
                assert_eq!(journal.commit(epoch, &mut group), Commit::Durable);
                group.clear(1 << 20);
            }
        }
    }
    report(&shape, "recovery of 1 M from 100,000 records", &open);
    {
        let journal = open();
        let epoch = journal.acquire(Shard::ALL).unwrap();
        let recovered = journal.replay(Shard::ALL).unwrap();
        let mut snapshot = journal.snapshot_begin(epoch).unwrap();
        let mut feed = Feed::new(&journal, &mut snapshot);
        recovered.feed(&mut feed);
        feed.finish().unwrap();
        journal.snapshot_mark(&mut snapshot);
        journal.snapshot_end(snapshot).unwrap();
    }
    report(&shape, "recovery of 1 M from a snapshot", &open);
    let filled = cpu_of(|| drop(full(&shape))) / 1e9;
    row("(all 1 M acquired, and dropped)", filled, " s", Goal::None, "");
    let _ = std::io::stdout().flush();
}

fn report(shape: &Shape, what: &str, open: &dyn Fn() -> Local<Folder>) {
    let (mut whole, mut cpu, mut reading) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        let journal = open();
        let (began, cpu_began) = (wall_ns(), thread_cpu_ns());
        let _epoch = journal.acquire(Shard::ALL).unwrap();
        let recovered = journal.replay(Shard::ALL).unwrap();
        reading.push(seconds(wall_ns() - began));
        let engine = with_tenants(shape);
        let lost = restore(&engine, &recovered);
        whole.push(seconds(wall_ns() - began));
        cpu.push(seconds(thread_cpu_ns() - cpu_began));
        assert_eq!((lost, recovered.sessions.len()), (0, shape.sessions as usize));
    }
    let beside = format!("CPU of the thread {:.2} s, reading {:.2} s", median(&cpu), median(&reading));
    row(what, median(&whole), " s", Goal::AtMost(3.0), &beside);
}

fn restore(engine: &usherd_engine::Engine, recovered: &Recovered) -> u32 {
    let sessions = recovered.sessions.iter().map(|session| session.record());
    engine.restore(NOW, sessions, &[], &recovered.nodes, recovered.version_max)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
