//! How fast: run by hand with `cargo test --release --test journal speed -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use usherd::daemon::journal::storage::Folder;
use usherd::daemon::journal::{Commit, Committer, Durability, Feed, Group, Hooks, Journal, Local, Shard};
use usherd::engine::session::Changes;

use super::model::{options, record};

#[expect(clippy::disallowed_methods, reason = "a measurement is about real time")]
fn timed<R>(what: &str, work: impl FnOnce() -> R) -> R {
    let began = Instant::now();
    let result = work();
    println!("{what}: {:?}", began.elapsed());
    result
}

fn open(folder: &std::path::Path, sync: bool) -> Local<Folder> {
    Local::new(Folder::at(folder).unwrap(), options(sync, 64 << 20))
}

fn names(at: u64) -> (String, String, String) {
    (format!("tenant-{:05}", at % 10_000), format!("{:08x}-{at:08x}@pbx", at * 7919), format!("user-{at}"))
}

#[test]
#[ignore = "measures"]
fn a_million_live_sessions() {
    const LIVE: u64 = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), false);
    let epoch = journal.acquire(Shard::ALL).unwrap();
    journal.replay(Shard::ALL).unwrap();
    timed("a million sessions in 100,000 records of 10", || {
        let mut group = Group::new();
        for at in 0..LIVE {
            let (tenant, session, subject) = names(at);
            group.at(1_767_225_600_000 + at as i64);
            group.put(&record(&tenant, &session, &subject, at % 64, at + 1), true);
            if at % 10 == 9 {
                assert_eq!(journal.commit(epoch, &mut group), Commit::Durable);
                group.clear(1 << 20);
            }
        }
    });
    drop(journal);
    let journal = open(folder.path(), false);
    let epoch = journal.acquire(Shard::ALL).unwrap();
    let found = timed("recovery from records", || journal.replay(Shard::ALL).unwrap());
    assert_eq!((found.sessions.len() as u64, found.degraded.clone()), (LIVE, None));
    println!("{} records, {} bytes", found.records, found.bytes);
    timed("snapshot", || {
        let mut snapshot = journal.snapshot_begin(epoch).unwrap();
        let mut feed = Feed::new(&journal, &mut snapshot);
        found.feed(&mut feed);
        feed.finish().unwrap();
        journal.snapshot_mark(&mut snapshot);
        journal.snapshot_end(snapshot).unwrap();
    });
    drop(found);
    drop(journal);
    let journal = open(folder.path(), false);
    journal.acquire(Shard::ALL).unwrap();
    let found = timed("recovery from the snapshot", || journal.replay(Shard::ALL).unwrap());
    assert_eq!((found.sessions.len() as u64, found.degraded.clone()), (LIVE, None));
    println!("{} records, {} bytes", found.records, found.bytes);
}

#[test]
#[ignore = "measures"]
fn turns() {
    const TURNS: u64 = 20_000;
    for (durability, turns) in [(Durability::None, TURNS), (Durability::Written, TURNS), (Durability::Synced, 500)] {
        for callers in [1u64, 16, 128] {
            let folder = tempfile::tempdir().unwrap();
            let journal = Arc::new(open(folder.path(), durability == Durability::Synced));
            let epoch = journal.acquire(Shard::ALL).unwrap();
            journal.replay(Shard::ALL).unwrap();
            let committer = Committer::new(journal, epoch, durability, Hooks::default()).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let what = format!("{}, {callers} callers, {turns} rounds", durability.as_str());
            timed(&what, || {
                tokio::task::LocalSet::new().block_on(&runtime, async {
                    let writer = committer.writer();
                    let tasks: Vec<_> = (0..callers)
                        .map(|caller| {
                            let writer = writer.clone();
                            tokio::task::spawn_local(async move {
                                let (tenant, session, subject) = names(caller);
                                for at in 0..turns {
                                    let put = record(&tenant, &session, &subject, 1, at);
                                    let (_, ticket) = writer.record(5, |group| group.put(&put, true));
                                    ticket.await;
                                    tokio::task::yield_now().await;
                                }
                            })
                        })
                        .collect();
                    for task in tasks {
                        task.await.unwrap();
                    }
                });
            });
        }
    }
}
