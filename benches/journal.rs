//! The cost of the journal for a decision, by writer and by callers, that of its order over cores, and the time until a
//! million sessions are back.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that cannot go on ends, and prints sizes")]

#[path = "support/measure.rs"]
mod measure;

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use usherd::daemon::journal::ring_file::open_ring;
use usherd::daemon::journal::storage::Folder;
use usherd::daemon::journal::{
    Commit, Committer, Durability, Epoch, Feed, Form, Hooks, Journal, Local, LocalOptions, RecordBuilder, Recovered,
    Shard,
};
use usherd_engine::session::{Changes, Code, Direction, Kind, Leg, SessionRecord};

const LIVE: u64 = 1_000_000;
/// Rounds by turns, and the decisions of each runtime in one.
const ROUNDS: usize = 15;
const DECISIONS: u64 = 16_000;

fn open(folder: &Path, sync: bool) -> (Local<Folder>, Epoch, Recovered) {
    let options = LocalOptions { sync, ..LocalOptions::default() };
    let journal = Local::new(Folder::at(folder).unwrap(), options);
    let epoch = journal.acquire(Shard::ALL).unwrap();
    let recovered = journal.replay(Shard::ALL).unwrap();
    (journal, epoch, recovered)
}

/// The same with a ring on a tmpfs.
fn open_with_ring(folder: &Path, memory: &Path) -> (Local<Folder>, Epoch, Recovered) {
    let journal = Local::new(Folder::at(folder).unwrap(), LocalOptions::default());
    let epoch = journal.acquire(Shard::ALL).unwrap();
    journal.set_ring(open_ring(memory, folder, 64 << 20).unwrap());
    let recovered = journal.replay(Shard::ALL).unwrap();
    (journal, epoch, recovered)
}

/// Names as a PBX gives them.
fn names(at: u64) -> (String, String, String) {
    (format!("tenant-{:05}", at % 10_000), format!("{:08x}-{at:08x}@pbx", at * 7919), format!("user-{at}"))
}

fn record<'a>(tenant: &'a str, session: &'a str, subject: &'a str, version: u64) -> SessionRecord<'a> {
    SessionRecord {
        tenant,
        session,
        subject,
        kind: Kind::Call,
        direction: Some(Direction::Outbound),
        leg: Leg::Originate,
        device: None,
        class: None,
        counts: true,
        external: true,
        group: "",
        node: "pbx-1",
        epoch: Some(1_795_348_800),
        seq: Some(version),
        ttl_s: None,
        first: Code::AllowNew,
        started_utc_ms: 1_795_348_800_000,
        version,
    }
}

/// Rounds in which each caller records one decision and waits for its answer.
fn turns(c: &mut Criterion) {
    let mut group = c.benchmark_group("journal turn");
    group.measurement_time(Duration::from_secs(3));
    for callers in [1u64, 16, 128] {
        group.throughput(Throughput::Elements(callers));
        for form in [Form::Nothing, Form::Inline, Form::HandOff, Form::Ring] {
            let (folder, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
            let (journal, epoch, _) = if form == Form::Ring {
                open_with_ring(folder.path(), memory.path())
            } else {
                open(folder.path(), false)
            };
            let (journal, hooks) = (Arc::new(journal), Hooks::default());
            let committer = match form {
                Form::Nothing => Committer::new(journal, epoch, Durability::None, hooks).unwrap(),
                Form::Inline => Committer::inline(journal, epoch, Durability::Written, hooks),
                Form::HandOff | Form::Ring | Form::Cluster => {
                    Committer::new(journal, epoch, Durability::Written, hooks).unwrap()
                }
            };
            assert_eq!(committer.form(), form);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let local = tokio::task::LocalSet::new();
            let writer = committer.writer();
            let mut version = 0;
            group.bench_function(BenchmarkId::new(form.as_str(), callers), |b| {
                b.iter(|| {
                    local.block_on(&runtime, async {
                        let waiting: Vec<_> = (0..callers)
                            .map(|caller| {
                                version += 1;
                                let (writer, version) = (writer.clone(), version);
                                tokio::task::spawn_local(async move {
                                    let (tenant, session, subject) = names(caller);
                                    let put = record(&tenant, &session, &subject, version);
                                    writer.record(5, |group| group.put(&put, true)).1.await
                                })
                            })
                            .collect();
                        for one in waiting {
                            assert_eq!(one.await.unwrap(), Commit::Durable);
                        }
                    });
                });
            });
        }
    }
    group.finish();
}

/// The one order over cores: two runtimes on two threads that grant, and so take along what is open on the other,
/// against the same two whose sessions need no seat, and so commit alone. CPU of both for a decision, by turns.
fn order(_: &mut Criterion) {
    println!("load {}", measure::load());
    for form in [Form::HandOff, Form::Ring] {
        for callers in [1, 16] {
            let (folder, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
            let (journal, epoch, _) = if form == Form::Ring {
                open_with_ring(folder.path(), memory.path())
            } else {
                open(folder.path(), false)
            };
            let committer = Committer::new(Arc::new(journal), epoch, Durability::Written, Hooks::default()).unwrap();
            let [on, off] = measure::alternate(ROUNDS, |which| cpu_of_two(&committer, callers, which == 0));
            let beside = format!("{:.0} against {:.0} ns", measure::median(&on), measure::median(&off));
            let name = format!("order over two cores, {}, {callers} callers each", form.as_str());
            measure::row(&name, measure::ratio(&on, &off), "x", measure::Goal::None, &beside);
        }
    }
}

/// CPU of two runtimes for a decision and its answer, nanoseconds.
fn cpu_of_two(committer: &Arc<Committer<Local<Folder>>>, callers: u64, counts: bool) -> f64 {
    let begin = Barrier::new(2);
    std::thread::scope(|scope| {
        let runtimes = [0, 1].map(|number| {
            let begin = &begin;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let local = tokio::task::LocalSet::new();
                let writer = committer.writer();
                begin.wait();
                measure::cpu_of(|| {
                    local.block_on(&runtime, async {
                        for turn in 0..DECISIONS / callers {
                            let waiting: Vec<_> = (0..callers)
                                .map(|caller| {
                                    let writer = writer.clone();
                                    tokio::task::spawn_local(async move {
                                        let (tenant, session, subject) = names(number * callers + caller);
                                        let put =
                                            SessionRecord { counts, ..record(&tenant, &session, &subject, turn + 1) };
                                        writer.record(5, |group| group.put(&put, true)).1.await
                                    })
                                })
                                .collect();
                            for one in waiting {
                                assert_eq!(one.await.unwrap(), Commit::Durable);
                            }
                        }
                    });
                })
            })
        });
        runtimes.map(|runtime| runtime.join().unwrap()).iter().sum::<f64>() / (2 * DECISIONS) as f64
    })
}

/// From records of ten sessions each, and from a snapshot.
fn recovery(c: &mut Criterion) {
    let mut group = c.benchmark_group("recovery of a million sessions");
    group.sample_size(10).throughput(Throughput::Elements(LIVE));
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let read = |folder: &Path| {
        let (_, _, recovered) = open(folder, false);
        assert_eq!((recovered.sessions.len() as u64, &recovered.degraded), (LIVE, &None));
        recovered
    };
    group.bench_function("records", |b| b.iter_batched(|| (), |()| read(folder.path()), BatchSize::PerIteration));
    let (journal, epoch, found) = open(folder.path(), false);
    println!("{} records, {} bytes", found.records, found.bytes);
    let mut snapshot = journal.snapshot_begin(epoch).unwrap();
    let mut feed = Feed::new(&journal, &mut snapshot);
    found.feed(&mut feed);
    feed.finish().unwrap();
    journal.snapshot_mark(&mut snapshot);
    journal.snapshot_end(snapshot).unwrap();
    drop((journal, found));
    group.bench_function("snapshot", |b| b.iter_batched(|| (), |()| read(folder.path()), BatchSize::PerIteration));
    group.finish();
}

fn fill(folder: &Path) {
    let (journal, epoch, _) = open(folder, false);
    let mut group = RecordBuilder::new();
    for at in 0..LIVE {
        let (tenant, session, subject) = names(at);
        group.at(1_795_348_800_000 + at as i64);
        group.put(&record(&tenant, &session, &subject, at + 1), true);
        if at % 10 == 9 {
            assert_eq!(journal.commit(epoch, &mut group), Commit::Durable);
            group.clear(1 << 20);
        }
    }
}

criterion_group!(benches, turns, order, recovery);
criterion_main!(benches);
