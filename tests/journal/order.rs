//! One order over cores: whatever a kill leaves, nobody has a seat whose release is not there (I1, I11).

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tokio::runtime::Builder;
use tokio::task::{LocalSet, yield_now};
use usherd::daemon::journal::ring::Ring;
use usherd::daemon::journal::{
    Commit, Committer, Durability, Form, Hooks, Journal, Local, RecordBuilder, Shard, TurnWriter,
};
use usherd_engine::Engine;
use usherd_engine::plan::{Entitled, Limits, Plan, Policy, TenantPlan};
use usherd_engine::session::{Acquire, Code, Kind, Now, Release, Standing};

use super::disk::{Disk, Image, Loss, PATIENCE};
use super::model::options;

const NOW: Now = Now { uptime_ms: 1_000, utc_ms: 1_780_000_000_000 };
const SEATS: u32 = 3;
const SEGMENT_BYTES: u64 = 1 << 20;
/// A ring with room for all of a run, and one that fills up.
const RINGS: [u64; 2] = [64 << 10, 700];

type Shared = Arc<Committer<Local<Disk>>>;
type Writer = TurnWriter<Local<Disk>>;
type Ticket<'a> = usherd::daemon::journal::Ticket<'a, Local<Disk>>;

fn engine() -> Engine {
    let engine = Engine::new(Limits::default());
    let mut plan = Plan::default();
    plan.tenants.push(TenantPlan {
        id: "acme".into(),
        entitled: Entitled { standing: Standing::Active, seats: Some(SEATS) },
        policy: Arc::new(Policy::default()),
        reserve: Vec::new(),
        pool: None,
    });
    engine.install(NOW, plan, &mut ());
    engine
}

fn open(disk: &Disk, ring: Option<u64>) -> (Arc<Local<Disk>>, usherd::daemon::journal::Epoch) {
    let journal = Local::new(disk.clone(), options(false, SEGMENT_BYTES));
    if let Some(bytes) = ring {
        journal.set_ring(Ring::new(disk.memory(), bytes));
    }
    let epoch = journal.acquire(Shard::ALL).unwrap();
    journal.replay(Shard::ALL).unwrap();
    (Arc::new(journal), epoch)
}

fn committer(disk: &Disk, form: Form, ring: Option<u64>, hooks: Hooks) -> Shared {
    let (journal, epoch) = open(disk, ring);
    let committer = match form {
        Form::Inline => Committer::inline(journal, epoch, Durability::Written, hooks),
        _ => Committer::new(journal, epoch, Durability::Written, hooks).unwrap(),
    };
    assert_eq!(committer.form(), form);
    committer
}

/// The subjects that have a seat after a kill at this moment.
fn seated(image: &Image, ring: Option<u64>) -> BTreeSet<String> {
    let disk = Disk::of(image.after(Loss::Kill, &mut Rng::with_seed(0)));
    let journal = Local::new(disk.clone(), options(false, SEGMENT_BYTES));
    if let Some(bytes) = ring {
        journal.set_ring(Ring::new(disk.memory(), bytes));
    }
    journal.acquire(Shard::ALL).unwrap();
    let found = journal.replay(Shard::ALL).unwrap();
    assert_eq!(found.degraded, None);
    found.sessions.iter().map(|session| session.record()).filter(|s| s.counts).map(|s| s.subject.to_owned()).collect()
}

fn take(engine: &Engine, group: &mut RecordBuilder, subject: &str, session: &str) -> bool {
    let ask = Acquire { ttl_s: Some(86_400), ..Acquire::new("acme", subject, session, Kind::Desktop) };
    !engine.acquire(NOW, &ask, group).unwrap().code.denies()
}

fn give_back(engine: &Engine, group: &mut RecordBuilder, session: &str) -> Code {
    engine.release(NOW, &Release::new("acme", session), group).code
}

fn in_a_runtime(work: impl Future<Output = ()>) {
    LocalSet::new().block_on(&Builder::new_current_thread().enable_time().build().unwrap(), work);
}

/// Asks for seats and gives them back, one or some in a message, and lets the others go on before it waits.
async fn call(engine: &Engine, writer: Writer, mut rng: Rng, me: usize, messages: usize) {
    let mut live = [false; 4];
    for _ in 0..messages {
        let at = rng.usize(..live.len());
        let both = rng.u8(..4) == 0;
        let ((), ticket) = writer.record(NOW.utc_ms, |group| {
            for at in at..live.len().min(at + 1 + usize::from(both)) {
                let session = format!("s{me}-{at}");
                if live[at] {
                    assert_ne!(give_back(engine, group, &session), Code::ReleasedNone);
                    live[at] = false;
                } else {
                    live[at] = take(engine, group, &format!("person-{}", rng.u8(..7)), &session);
                }
            }
        });
        for _ in 0..rng.u8(..4) {
            yield_now().await;
        }
        assert_ne!(ticket.await, Commit::Fenced);
    }
}

fn check(disk: &Disk, ring: Option<u64>, whence: &str) -> usize {
    let film = disk.take_film();
    for (at, image) in film.iter().enumerate() {
        let seated = seated(image, ring);
        assert!(seated.len() <= SEATS as usize, "{whence}, image {at}: {seated:?} have {SEATS} seats");
    }
    film.len()
}

/// Several runtimes played by one thread, so that a seed gives the same run again.
fn played_by_one_thread(seed: u64) -> usize {
    let disk = Disk::default();
    let engine = engine();
    let committer = committer(&disk, Form::Inline, None, Hooks::default());
    disk.film();
    in_a_runtime(async {
        let writers: Vec<Writer> = (0..3).map(|_| committer.writer()).collect();
        let mut calls: Vec<_> = (0..9)
            .map(|me| {
                let rng = Rng::with_seed(seed * 100 + me as u64);
                Box::pin(call(&engine, writers[me % 3].clone(), rng, me, 12))
            })
            .collect();
        std::future::poll_fn(|context| {
            calls.retain_mut(|call| call.as_mut().poll(context).is_pending());
            if calls.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    });
    check(&disk, None, &format!("seed {seed}"))
}

fn played_by_threads(seed: u64, form: Form, ring: Option<u64>) -> usize {
    let disk = Disk::default();
    let engine = engine();
    let committer = committer(&disk, form, ring, Hooks::default());
    disk.film();
    std::thread::scope(|scope| {
        for runtime in 0..3 {
            let (engine, committer) = (&engine, &committer);
            scope.spawn(move || {
                in_a_runtime(async {
                    let writer = committer.writer();
                    let mut calls: Vec<_> = (0..3)
                        .map(|me| {
                            let rng = Rng::with_seed(seed * 100 + runtime * 10 + me);
                            Box::pin(call(engine, writer.clone(), rng, (runtime * 3 + me) as usize, 20))
                        })
                        .collect();
                    std::future::poll_fn(|context| {
                        calls.retain_mut(|call| call.as_mut().poll(context).is_pending());
                        if calls.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
                    })
                    .await;
                });
            });
        }
    });
    committer.close();
    check(&disk, ring, &format!("seed {seed}, {form:?}"))
}

/// A release whose turn is open, and the grant of its seat on another core, which is answered.
fn a_grant_beside_an_open_release(form: Form, ring: Option<u64>) -> BTreeSet<String> {
    let disk = Disk::default();
    let engine = engine();
    let committer = committer(&disk, form, ring, Hooks::default());
    let mut left = BTreeSet::new();
    in_a_runtime(async {
        let (one, other) = (committer.writer(), committer.writer());
        for person in ["anna", "bert", "carl"] {
            let (taken, ticket) = one.record(5, |group| take(&engine, group, person, person));
            assert_eq!((taken, ticket.await), (true, Commit::Durable));
        }
        let (_, released) = one.record(5, |group| give_back(&engine, group, "anna"));
        let (taken, granted) = other.record(5, |group| take(&engine, group, "dora", "dora"));
        assert_eq!((taken, granted.await), (true, Commit::Durable));
        left = seated(&disk.image(), ring);
        assert_eq!(released.await, Commit::Durable);
    });
    left
}

const FORMS: [(Form, Option<u64>); 3] = [(Form::Inline, None), (Form::HandOff, None), (Form::Ring, Some(RINGS[0]))];

#[test]
fn a_grant_is_committed_with_the_release_that_made_room() {
    for (form, ring) in FORMS {
        let left = a_grant_beside_an_open_release(form, ring);
        assert_eq!(left.iter().collect::<Vec<_>>(), ["bert", "carl", "dora"], "{form:?}");
    }
}

#[test]
fn no_kill_leaves_a_seat_too_many() {
    let mut images = 0;
    for seed in 0..400 {
        images += played_by_one_thread(seed);
    }
    for seed in 0..60 {
        images += played_by_threads(seed, Form::HandOff, None);
        for bytes in RINGS {
            images += played_by_threads(seed, Form::Ring, Some(bytes));
        }
    }
    println!("{images} kills");
}

/// An answer that confirms what may be kept nowhere yet waits for a turn without entries. A message after it that brings
/// nothing either does not close that turn.
#[test]
fn an_answer_of_an_empty_turn_is_not_forgotten() {
    let disk = Disk::default();
    let engine = engine();
    let committer = committer(&disk, Form::HandOff, None, Hooks::default());
    in_a_runtime(async {
        let (one, other, third) = (committer.writer(), committer.writer(), committer.writer());
        disk.hold_calls(true);
        one.record(5, |group| take(&engine, group, "anna", "anna")).1.commit_detached();
        disk.until_somebody_stands();
        let ((), confirms) = other.record(5, |_| ());
        disk.hold_calls(false);
        assert_eq!(third.record(5, |_| ()).1.await, Commit::Durable);
        let ((), after) = other.record(5, |_| ());
        for ticket in [confirms, after] {
            assert_eq!(tokio::time::timeout(PATIENCE, ticket).await, Ok(Commit::Durable));
        }
    });
}

/// A decision elsewhere that has made room and goes on: the grant of that room stays open with its answer, and neither
/// its thread nor who grants nothing waits. Then the decision ends, by a panic if so.
fn grant_amid_a_long_decision(hooks: Hooks, panics: bool, amid: impl AsyncFnOnce(&Writer, &mut Ticket<'_>)) {
    let disk = Disk::default();
    let ring = Some(RINGS[0]);
    let engine = engine();
    let committer = committer(&disk, Form::Ring, ring, hooks);
    let (freed, until_freed) = std::sync::mpsc::sync_channel(1);
    let (go_on, until_told) = std::sync::mpsc::sync_channel::<()>(1);
    let (one, long) = (committer.writer(), committer.writer());
    in_a_runtime(async {
        for person in ["anna", "bert", "carl"] {
            let (taken, ticket) = one.record(5, |group| take(&engine, group, person, person));
            assert_eq!((taken, ticket.await), (true, Commit::Durable));
        }
    });
    std::thread::scope(|scope| {
        let (engine, long, freed) = (&engine, &long, &freed);
        let deciding = scope.spawn(move || {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let (_, ticket) = long.record(5, |group| {
                    give_back(engine, group, "anna");
                    freed.send(()).unwrap();
                    until_told.recv_timeout(PATIENCE).unwrap();
                    assert!(!panics, "as told");
                });
                ticket.commit_detached();
            }))
        });
        until_freed.recv_timeout(PATIENCE).unwrap();
        in_a_runtime(async {
            let other = committer.writer();
            let (taken, mut granted) = other.record(5, |group| take(engine, group, "dora", "dora"));
            assert!(taken && tokio::time::timeout(Duration::from_millis(20), &mut granted).await.is_err());
            let (_, released) = one.record(5, |group| give_back(engine, group, "bert"));
            assert_eq!(released.await, Commit::Durable, "it depends on nobody");
            assert_eq!(seated(&disk.image(), ring), ["anna", "carl"].map(str::to_owned).into());
            amid(&other, &mut granted).await;
            go_on.send(()).unwrap();
            granted.await;
        });
        assert_eq!(deciding.join().unwrap().is_err(), panics);
    });
    committer.close();
    assert_eq!(seated(&disk.image(), ring), ["carl", "dora"].map(str::to_owned).into());
}

#[test]
fn a_grant_waits_for_the_decision_that_made_room() {
    for panics in [false, true] {
        grant_amid_a_long_decision(Hooks::default(), panics, async |_, _| ());
    }
}

static CLOCK_NS: AtomicU64 = AtomicU64::new(0);

#[test]
fn a_grant_waits_no_longer_for_a_decision_than_for_a_disk() {
    let hooks = Hooks { clock_ns: || CLOCK_NS.load(Ordering::Relaxed), ..Hooks::default() };
    grant_amid_a_long_decision(hooks, false, async |other, granted| {
        CLOCK_NS.store(40_000_000, Ordering::Relaxed);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut *granted).await.is_err(), "not for long yet");
        CLOCK_NS.store(40_000_001, Ordering::Relaxed);
        assert_eq!(Pin::new(&mut *granted).await, Commit::NotDurable);
        let (_, ticket) = other.record(5, |group| group.mark("k", 1));
        assert_eq!(ticket.await, Commit::NotDurable, "those of the same turn do not wait either");
    });
}

/// A build that commits each turn alone must be caught, or a green run above means nothing:
/// `cargo nextest run --test journal --features canary-turn-order is_caught`.
#[cfg(feature = "canary-turn-order")]
#[test]
fn turns_that_are_committed_alone_is_caught() {
    for (form, ring) in FORMS {
        let left = a_grant_beside_an_open_release(form, ring);
        assert_eq!(left.len(), 4, "{form:?}: a seat too many, which the tests above do not allow");
    }
    let caught = (0..40).any(|seed| std::panic::catch_unwind(|| played_by_one_thread(seed)).is_err());
    assert!(caught, "40 runs of cores that do not wait for one another left nobody with a seat too many");
}
