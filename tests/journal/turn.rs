//! One write per turn, nobody forgotten: several runtimes and one journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::LocalSet;
use usherd::daemon::journal::{Commit, Committer, Durability, Epoch, Hooks, Journal, Local, Shard};
use usherd_engine::session::Changes;

use super::disk::{Disk, Fault, PATIENCE};
use super::model::{State, open, options, record};

fn committer(disk: &Disk, durability: Durability) -> Arc<Committer<Local<Disk>>> {
    let journal = Local::new(disk.clone(), options(durability == Durability::Synced, 1 << 20));
    let epoch = journal.acquire(Shard::ALL).unwrap();
    journal.replay(Shard::ALL).unwrap();
    Committer::new(Arc::new(journal), epoch, durability, Hooks::default()).unwrap()
}

fn in_a_runtime(work: impl Future<Output = ()>) {
    LocalSet::new().block_on(&Builder::new_current_thread().enable_time().build().unwrap(), work);
}

fn sessions(disk: &Disk) -> usize {
    State::of(&open(disk, false, 1 << 20).unwrap().2).sessions.len()
}

#[test]
fn a_turn_is_one_write_and_one_sync() {
    for durability in [Durability::None, Durability::Written, Durability::Synced] {
        let disk = Disk::default();
        let committer = committer(&disk, durability);
        let (writes, syncs) = (disk.writes(), disk.syncs());
        in_a_runtime(async {
            let writer = committer.writer();
            let tasks: Vec<_> = (0..50u64)
                .map(|at| {
                    let writer = writer.clone();
                    tokio::task::spawn_local(async move {
                        let name = format!("s{at}");
                        let put = record("t", &name, "anna", at, at + 1);
                        let (echo, ticket) = writer.record(5, |group| {
                            group.put(&put, true);
                            at
                        });
                        assert_eq!((echo, ticket.await), (at, Commit::Durable));
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        let expected = if durability == Durability::None { 0 } else { 1 };
        assert_eq!(disk.writes() - writes, expected, "{durability:?}");
        assert_eq!(disk.syncs() - syncs, u64::from(durability == Durability::Synced), "{durability:?}");
        drop(committer);
        assert_eq!(sessions(&disk), 50 * expected as usize);
    }
}

#[test]
fn nothing_encoded_is_ready_at_once() {
    let disk = Disk::default();
    let committer = committer(&disk, Durability::Written);
    let writer = committer.writer();
    let writes = disk.writes();
    in_a_runtime(async {
        let ((), ticket) = writer.record(5, |_| ());
        assert_eq!(ticket.await, Commit::Durable);
        assert_eq!(writer.settled().await, Commit::Durable);
    });
    assert_eq!(disk.writes(), writes);
}

#[test]
fn a_dropped_ticket_loses_nothing_and_holds_up_nobody() {
    for durability in [Durability::Written, Durability::Synced] {
        for kill in 0..8u32 {
            let disk = Disk::default();
            let committer = committer(&disk, durability);
            in_a_runtime(async {
                let writer = committer.writer();
                // Never polled.
                drop(writer.record(5, |group| group.put(&record("t", "dropped", "anna", 1, 1), true)));
                let tasks: Vec<_> = (0..3u64)
                    .map(|at| {
                        let writer = writer.clone();
                        tokio::task::spawn_local(async move {
                            let name = format!("s{at}");
                            let (_, ticket) =
                                writer.record(5, |group| group.put(&record("t", &name, "anna", at, at + 2), true));
                            ticket.await
                        })
                    })
                    .collect();
                // They have recorded and one of them leads; then some of them are cancelled.
                tokio::task::yield_now().await;
                for (at, task) in tasks.iter().enumerate() {
                    if kill & (1 << at) != 0 {
                        task.abort();
                    }
                }
                for task in tasks {
                    assert!(task.await.map_or(true, |outcome| outcome == Commit::Durable));
                }
            });
            drop(committer);
            // A task that was cancelled before it ran recorded nothing; here all have run.
            assert_eq!(sessions(&disk), 4, "{durability:?}, killed {kill:#b}");
        }
    }
}

fn hammer(committer: &Arc<Committer<Local<Disk>>>, runtime: u64, versions: &AtomicU64) {
    in_a_runtime(async {
        let writer = committer.writer();
        let tasks: Vec<_> = (0..8u64)
            .map(|task| {
                let writer = writer.clone();
                async move {
                    for at in 0..50u64 {
                        let name = format!("s{runtime}-{task}-{at}");
                        let version = versions.fetch_add(1, Ordering::Relaxed) + 1;
                        let (_, ticket) =
                            writer.record(5, |group| group.put(&record("t", &name, "anna", at, version), true));
                        assert_eq!(ticket.await, Commit::Durable);
                        if at % 7 == 0 {
                            assert_eq!(writer.settled().await, Commit::Durable);
                        }
                        tokio::task::yield_now().await;
                    }
                }
            })
            .collect();
        // The tasks borrow the counter: they run side by side within this future.
        let mut tasks: Vec<_> = tasks.into_iter().map(Box::pin).collect();
        std::future::poll_fn(|context| {
            tasks.retain_mut(|task| task.as_mut().poll(context).is_pending());
            if tasks.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    });
}

#[test]
fn several_runtimes_share_a_journal() {
    for durability in [Durability::Written, Durability::Synced] {
        let disk = Disk::default();
        let committer = committer(&disk, durability);
        let versions = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for runtime in 0..3 {
                let (committer, versions) = (&committer, &versions);
                scope.spawn(move || hammer(committer, runtime, versions));
            }
        });
        assert_eq!(committer.degraded(), None);
        drop(committer);
        assert_eq!(sessions(&disk), 3 * 8 * 50, "{durability:?}");
    }
}

/// A table with its own lock, as the engine has: changes are encoded within it, a checkpoint reads it.
#[test]
fn a_checkpoint_amid_decisions_forgets_and_resurrects_nothing() {
    use std::collections::BTreeMap;
    use usherd_engine::session::{GoneRecord, Kind, Reason};

    for durability in [Durability::Written, Durability::Synced] {
        for seed in 0..10u64 {
            let disk = Disk::default();
            let committer = committer(&disk, durability);
            let table = parking_lot::Mutex::new((0u64, BTreeMap::<String, u64>::new()));
            std::thread::scope(|scope| {
                for runtime in 0..2u64 {
                    let (committer, table) = (&committer, &table);
                    scope.spawn(move || {
                        in_a_runtime(async {
                            let mut rng = fastrand::Rng::with_seed(seed * 2 + runtime);
                            let writer = committer.writer();
                            for _ in 0..300 {
                                let name = format!("s{}", rng.u8(0..8));
                                let (_, ticket) = writer.record(5, |group| {
                                    let mut table = table.lock();
                                    table.0 += 1;
                                    let version = table.0;
                                    if table.1.remove(&name).is_some() {
                                        group.gone(&GoneRecord {
                                            tenant: "t",
                                            session: &name,
                                            subject: "anna",
                                            kind: Kind::Call,
                                            counts: true,
                                            reason: Reason::Node,
                                            freed: true,
                                            was_live: true,
                                            tombstone: None,
                                            version,
                                        });
                                    } else {
                                        group.put(&record("t", &name, "anna", 1, version), true);
                                        table.1.insert(name.clone(), version);
                                    }
                                });
                                if rng.bool() {
                                    assert_eq!(ticket.await, Commit::Durable);
                                } else {
                                    // Left open, so that turns of both runtimes overlap.
                                    std::mem::forget(ticket);
                                }
                            }
                            assert_eq!(writer.settled().await, Commit::Durable);
                        });
                    });
                }
                for _ in 0..10 {
                    let made = committer.checkpoint(|feed| {
                        let names: Vec<String> = (0..8).map(|at| format!("s{at}")).collect();
                        for name in names {
                            let table = table.lock();
                            if let Some(version) = table.1.get(&name) {
                                feed.put(&record("t", &name, "anna", 1, *version), false);
                            }
                        }
                    });
                    made.unwrap();
                }
            });
            committer.close();
            drop(committer);
            let state = State::of(&open(&disk, false, 1 << 20).unwrap().2);
            let found: Vec<&String> = state.sessions.keys().map(|(_, session)| session).collect();
            let table = table.into_inner().1;
            assert_eq!(found, table.keys().collect::<Vec<_>>(), "{durability:?}, seed {seed}");
        }
    }
}

/// A grant whose turn is open while its release is committed by another runtime: where a snapshot begins
/// between the two, the grant must not come after it. The second half is the canary: without the pause
/// between turns the released session is back.
#[test]
fn a_snapshot_never_begins_within_a_turn() {
    use usherd::daemon::journal::Feed;
    use usherd_engine::session::{GoneRecord, Kind, Reason};

    let gone = GoneRecord {
        tenant: "t",
        session: "s",
        subject: "anna",
        kind: Kind::Call,
        counts: true,
        reason: Reason::Node,
        freed: true,
        was_live: true,
        tombstone: None,
        version: 2,
    };
    for (paused, expected) in [(true, 0), (false, 1)] {
        let disk = Disk::default();
        let committer = committer(&disk, Durability::Written);
        let (one, other) = (committer.writer(), committer.writer());
        in_a_runtime(async {
            let (_, granted) = one.record(5, |group| group.put(&record("t", "s", "anna", 1, 1), true));
            let (_, released) = other.record(5, |group| group.gone(&gone));
            assert_eq!(released.await, Commit::Durable);
            if paused {
                committer.checkpoint(|_| ()).unwrap();
            } else {
                let journal = committer.journal().unwrap();
                let mut snapshot = journal.snapshot_begin(Epoch(1)).unwrap();
                Feed::new(&**journal, &mut snapshot).finish().unwrap();
                journal.snapshot_mark(&mut snapshot);
                journal.snapshot_end(snapshot).unwrap();
            }
            assert_eq!(granted.await, Commit::Durable);
        });
        drop((one, other, committer));
        assert_eq!(sessions(&disk), expected, "paused {paused}");
    }
}

#[test]
fn a_failing_disk_lets_answers_go() {
    for durability in [Durability::Written, Durability::Synced] {
        let disk = Disk::default();
        let committer = committer(&disk, durability);
        disk.fail(1, Fault::Enospc, true);
        in_a_runtime(async {
            let writer = committer.writer();
            for at in 0..3 {
                let (_, ticket) = writer.record(5, |group| group.put(&record("t", "s", "anna", 1, at + 1), true));
                assert_eq!(ticket.await, Commit::NotDurable);
            }
            assert_eq!(writer.record(5, |_| ()).1.await, Commit::NotDurable, "what it confirms is kept nowhere");
            assert_eq!(writer.settled().await, Commit::NotDurable);
        });
        assert!(committer.degraded().is_some());
        assert_eq!([0, 29_999, 30_000].map(|uptime_ms| committer.heal_due(uptime_ms, 30_000)), [true, false, true]);
        assert!(committer.checkpoint(|_| ()).is_err());
        disk.works_again();
        committer.checkpoint(|feed| feed.put(&record("t", "s", "anna", 1, 3), false)).unwrap();
        assert!(!committer.heal_due(90_000, 30_000));
        assert_eq!(committer.degraded(), None);
        in_a_runtime(async {
            let writer = committer.writer();
            assert_eq!([writer.record(5, |_| ()).1.await, writer.settled().await], [Commit::Durable; 2]);
        });
        drop(committer);
        assert_eq!(sessions(&disk), 1);
    }
}

#[test]
fn no_answer_goes_out_before_its_record_is_safe() {
    use super::disk::Loss;
    let mut rng = fastrand::Rng::with_seed(21);
    let mut crashes = 0;
    for durability in [Durability::Written, Durability::Synced] {
        let disk = Disk::default();
        let committer = committer(&disk, durability);
        disk.film();
        in_a_runtime(async {
            let writer = committer.writer();
            for at in 0..30u64 {
                disk.told(at as usize, at as usize + 1);
                let name = format!("s{at:02}");
                let (_, ticket) = writer.record(5, |group| group.put(&record("t", &name, "anna", at, at + 1), true));
                assert_eq!(ticket.await, Commit::Durable);
                disk.told(at as usize + 1, at as usize + 1);
                if at % 10 == 9 {
                    let known = |feed: &mut usherd::daemon::journal::Feed<'_, Local<Disk>>| {
                        for at in 0..=at {
                            feed.put(&record("t", &format!("s{at:02}"), "anna", at, at + 1), false);
                        }
                    };
                    committer.checkpoint(known).unwrap();
                }
            }
        });
        for image in disk.take_film() {
            let losses: &[Loss] = if durability == Durability::Synced { &Loss::ALL } else { &[Loss::Kill] };
            for loss in losses {
                let found = sessions(&Disk::of(image.after(*loss, &mut rng)));
                let told = image.acked..=image.issued;
                assert!(told.contains(&found), "{durability:?}, {loss:?}: {found} of {told:?}");
                crashes += 1;
            }
        }
    }
    println!("seed 21: {crashes} crashes");
}

#[test]
fn the_last_answer_may_outlive_its_runtime() {
    let disk = Disk::default();
    let committer = committer(&disk, Durability::Synced);
    disk.hold_syncs(true);
    let runtime = Builder::new_current_thread().build().unwrap();
    let writer = committer.writer();
    drop(committer);
    let task = runtime.spawn(async move {
        let (_, ticket) = writer.record(5, |group| group.put(&record("t", "s", "anna", 1, 1), true));
        ticket.await
    });
    runtime.block_on(async {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    });
    // The runtime goes with the task in it, and the committer with the task.
    drop(task);
    let end = std::thread::spawn(move || drop(runtime));
    disk.hold_syncs(false);
    end.join().unwrap();
    assert_eq!(sessions(&disk), 1);
}

#[test]
fn a_deposed_owner_answers_nobody() {
    let disk = Disk::default();
    let committer = committer(&disk, Durability::Written);
    let later: Epoch = committer.journal().unwrap().acquire(Shard::ALL).unwrap();
    assert!(later > Epoch(0));
    in_a_runtime(async {
        let writer = committer.writer();
        let (_, ticket) = writer.record(5, |group| group.put(&record("t", "s", "anna", 1, 1), true));
        assert_eq!(ticket.await, Commit::Fenced);
    });
}

static CLOCK_NS: AtomicU64 = AtomicU64::new(0);

#[test]
fn a_disk_that_hangs_holds_up_no_answer_for_long() {
    let disk = Disk::default();
    let journal = Local::new(disk.clone(), options(true, 1 << 20));
    let epoch = journal.acquire(Shard::ALL).unwrap();
    journal.replay(Shard::ALL).unwrap();
    let hooks = Hooks { clock_ns: || CLOCK_NS.load(Ordering::Relaxed), ..Hooks::default() };
    let committer = Committer::new(Arc::new(journal), epoch, Durability::Synced, hooks).unwrap();
    disk.hold_syncs(true);
    in_a_runtime(async {
        let writer = committer.writer();
        let (_, mut ticket) = writer.record(5, |group| group.put(&record("t", "s1", "anna", 1, 1), true));
        assert!(tokio::time::timeout(Duration::from_millis(5), &mut ticket).await.is_err());
        assert!(!committer.watch(250), "not for long yet");
        CLOCK_NS.store(251_000_000, Ordering::Relaxed);
        // The thread may not have begun yet when the clock moved.
        while !committer.watch(250) {
            tokio::task::yield_now().await;
            CLOCK_NS.fetch_add(251_000_000, Ordering::Relaxed);
        }
        assert_eq!(ticket.await, Commit::NotDurable);
        let (_, ticket) = writer.record(5, |group| group.put(&record("t", "s2", "anna", 1, 2), true));
        assert_eq!(ticket.await, Commit::NotDurable, "those after it do not wait either");
        CLOCK_NS.fetch_add(1_000_000_000, Ordering::Relaxed);
        assert_eq!(committer.degraded().as_deref(), Some("the disk is slow"));
    });
    disk.hold_syncs(false);
    committer.close();
    assert_eq!(committer.degraded(), None);
    drop(committer);
    assert_eq!(sessions(&disk), 2, "late, but there");
}

static CONFIRM_NS: AtomicU64 = AtomicU64::new(0);

/// A message that comes again records nothing, and is told what the first one could not be told yet.
#[test]
fn who_confirms_what_is_kept_nowhere_waits_as_long_as_it_does() {
    let disk = Disk::default();
    let journal = Local::new(disk.clone(), options(true, 1 << 20));
    let epoch = journal.acquire(Shard::ALL).unwrap();
    journal.replay(Shard::ALL).unwrap();
    let hooks = Hooks { clock_ns: || CONFIRM_NS.load(Ordering::Relaxed), ..Hooks::default() };
    let committer = Committer::new(Arc::new(journal), epoch, Durability::Synced, hooks).unwrap();
    in_a_runtime(async {
        let (one, other) = (committer.writer(), committer.writer());
        assert_eq!(other.record(5, |_| ()).1.await, Commit::Durable);
        disk.hold_syncs(true);
        let (_, mut first) = one.record(5, |group| group.put(&record("t", "s1", "anna", 1, 1), true));
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut first).await.is_err());
        let (_, mut again) = other.record(5, |_| ());
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut again).await.is_err(), "it is not kept yet");
        CONFIRM_NS.store(40_000_001, Ordering::Relaxed);
        assert_eq!([first.await, again.await], [Commit::NotDurable; 2]);
        assert_eq!(other.record(5, |_| ()).1.await, Commit::NotDurable, "it still is not");
        disk.hold_syncs(false);
        while other.record(5, |_| ()).1.await != Commit::Durable {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    committer.close();
    drop(committer);
    assert_eq!(sessions(&disk), 1);
}

static WATCH_NS: AtomicU64 = AtomicU64::new(0);

/// Nobody has to ask for it: a thread of the committer sees to it, also for who is queued behind what hangs.
#[test]
fn an_answer_waits_forty_milliseconds_for_a_disk_and_no_longer() {
    let disk = Disk::default();
    let journal = Local::new(disk.clone(), options(true, 1 << 20));
    let epoch = journal.acquire(Shard::ALL).unwrap();
    journal.replay(Shard::ALL).unwrap();
    let hooks = Hooks { clock_ns: || WATCH_NS.load(Ordering::Relaxed), ..Hooks::default() };
    let committer = Committer::new(Arc::new(journal), epoch, Durability::Synced, hooks).unwrap();
    disk.hold_syncs(true);
    in_a_runtime(async {
        let (one, other) = (committer.writer(), committer.writer());
        let (_, mut first) = one.record(5, |group| group.put(&record("t", "s1", "anna", 1, 1), true));
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut first).await.is_err());
        WATCH_NS.store(30_000_000, Ordering::Relaxed);
        let (_, mut second) = other.record(5, |group| group.put(&record("t", "s2", "anna", 1, 2), true));
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut second).await.is_err());
        WATCH_NS.store(40_000_000, Ordering::Relaxed);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut first).await.is_err(), "not for long yet");
        assert_eq!(committer.not_durable(), 0);
        WATCH_NS.store(40_000_001, Ordering::Relaxed);
        assert_eq!([first.await, second.await], [Commit::NotDurable; 2]);
        assert_eq!(committer.not_durable(), 2);
        WATCH_NS.store(999_999_999, Ordering::Relaxed);
        assert_eq!(committer.degraded(), None, "a busy disk is slow for a moment all day long");
        WATCH_NS.store(1_000_000_000, Ordering::Relaxed);
        assert_eq!(committer.degraded().as_deref(), Some("the disk is slow"), "for a second");
    });
    disk.hold_syncs(false);
    committer.close();
    assert_eq!(committer.degraded(), None);
    drop(committer);
    assert_eq!(sessions(&disk), 2, "late, but there");
}

/// A checkpoint on a disk that hangs, as it begins or amid the table: the table's locks and those of the turns are free
/// meanwhile.
#[test]
fn a_checkpoint_that_hangs_holds_up_no_turn() {
    for durability in [Durability::Written, Durability::Synced] {
        for hangs_amid in [false, true] {
            record_beside_a_checkpoint_that_hangs(durability, hangs_amid);
        }
    }
}

fn record_beside_a_checkpoint_that_hangs(durability: Durability, hangs_amid: bool) {
    let disk = Disk::default();
    let committer = committer(&disk, durability);
    disk.hold_calls(!hangs_amid);
    std::thread::scope(|scope| {
        let checkpoint = scope.spawn(|| {
            committer.checkpoint(|feed| {
                if hangs_amid {
                    disk.hold_calls(true);
                }
                for at in 0..10_000 {
                    feed.put(&record("t", &format!("s{at}"), "anna", 1, at + 1), false);
                }
            })
        });
        disk.until_somebody_stands();
        let (done, recorded) = std::sync::mpsc::channel();
        let writer = committer.writer();
        scope.spawn(move || {
            // Each of these would wait for the disk if the checkpoint held the turn.
            for at in 0..100 {
                drop(writer.record(5, |group| group.put(&record("t", "s", "anna", 1, 20_000 + at), true)));
            }
            done.send(()).unwrap();
        });
        let in_time = recorded.recv_timeout(PATIENCE);
        let was_over = checkpoint.is_finished();
        disk.hold_calls(false);
        checkpoint.join().unwrap().unwrap();
        assert_eq!((in_time, was_over), (Ok(()), false), "{durability:?}, amid the table: {hangs_amid}");
    });
}
