//! The reference decides as the engine does, and its seats are right under threads: else no figure of it counts.

use std::collections::{HashMap, HashSet};
use std::sync::Barrier;

use usherd_engine::{Code, Decision, Detail, Now};

use crate::dashmaps::DashMaps;
use crate::world::{Decider, Ids, NOW, Names, Shape, Viewed};

const THREADS: u32 = 4;
const ROUNDS: u32 = 60;
const STEPS: u32 = 400;
const QUOTA: u32 = 8;
const ONE: Shape = Shape { sessions: 1_000, tenants: 1, sessions_per_subject: 1, ids: Ids::Short };
const TENANT: &str = "tenant-00000";

fn names(person: u32, session: u32) -> Names {
    Names { tenant: TENANT.to_owned(), subject: format!("user-{person}"), session: format!("call-{session}") }
}

/// Stops the bench where one of them is wrong.
pub(crate) fn all() {
    // A thread that fails ends the program: the others would wait for it.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |failure| {
        told(failure);
        std::process::exit(1);
    }));
    alike();
    let maps = DashMaps::with_seats(&ONE, QUOTA);
    one_seat_each(&maps, || Some(maps.kept()));
    one_seat_each(&Viewed::with_seats(&ONE, QUOTA), || None);
    freed_at_once(&DashMaps::with_seats(&ONE, THREADS));
    freed_at_once(&Viewed::with_seats(&ONE, THREADS));
    let _ = std::panic::take_hook();
}

/// The same random messages to both are answered alike, to the field.
fn alike() {
    let (engine, maps) = (Viewed::with_seats(&ONE, QUOTA), DashMaps::with_seats(&ONE, QUOTA));
    let mut random = fastrand::Rng::with_seed(12);
    let mut now = NOW;
    for step in 0..50_000 {
        now = Now { uptime_ms: now.uptime_ms + random.u64(0..3), utc_ms: now.utc_ms + 1 };
        let names = names(random.u32(0..16), random.u32(0..24));
        let (ours, theirs): (Decision, Decision) = if random.bool() {
            let mut message = names.acquire();
            message.ttl_s = Some(random.u32(3_000..3_600));
            let theirs = maps.acquire(now, &message, &mut ());
            (Decider::acquire(&engine, now, &message, &mut ()), theirs)
        } else {
            let message = names.release();
            let theirs = maps.release(now, &message, &mut ());
            (Decider::release(&engine, now, &message, &mut ()), theirs)
        };
        assert_eq!(ours, theirs, "step {step}: {names:?}");
    }
    assert_eq!(Decider::seats(&engine, now, TENANT), Decider::seats(&maps, now, TENANT), "seats, peak, seat time");
}

/// More persons than seats, each with sessions in all threads: never above the quota, never two seats for one.
fn one_seat_each(decider: &impl Decider, kept: impl Fn() -> Option<(usize, usize)> + Sync) {
    let meet = Barrier::new(THREADS as usize);
    let live: Vec<parking_lot::Mutex<HashMap<u32, u32>>> = (0..THREADS).map(|_| Default::default()).collect();
    let work = &|thread: u32| {
        let mut random = fastrand::Rng::with_seed(u64::from(thread));
        for _ in 0..ROUNDS {
            for _ in 0..STEPS {
                let (person, number) = (random.u32(0..12), random.u32(0..6));
                let session = thread * 6 + number;
                let mut mine = live[thread as usize].lock();
                let names = names(person, session);
                let answer = if mine.contains_key(&session) && random.bool() {
                    mine.remove(&session);
                    let answer = decider.release(NOW, &names.release(), &mut ());
                    assert!(matches!(answer.code, Code::ReleasedLast | Code::ReleasedMore), "{answer:?}");
                    answer
                } else {
                    let answer = decider.acquire(NOW, &names.acquire(), &mut ());
                    match mine.get(&session) {
                        Some(holder) if *holder == person => assert_eq!(answer.code, Code::AllowSame),
                        Some(_) => assert_eq!(answer.code, Code::DenyConflict),
                        None if answer.code.allows() => _ = mine.insert(session, person),
                        None => assert_eq!((answer.code, answer.detail), (Code::DenyFull, Detail::Tenant)),
                    }
                    answer
                };
                assert!(answer.held <= QUOTA, "above the quota: {answer:?}");
            }
            // All threads stand still: as many seats as persons with sessions.
            if meet.wait().is_leader() {
                let maps: Vec<_> = live.iter().map(|mine| mine.lock().clone()).collect();
                let persons: HashSet<u32> = maps.iter().flat_map(|mine| mine.values().copied()).collect();
                let sessions = maps.iter().map(HashMap::len).sum::<usize>();
                assert_eq!(decider.seats(NOW, TENANT).0 as usize, persons.len(), "one seat for each person");
                assert!(kept().is_none_or(|kept| kept == (persons.len(), sessions)), "{:?}", kept());
            }
            meet.wait();
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|thread| _ = scope.spawn(move || work(thread))));
}

/// As many seats as threads, each thread with one person at a time: nobody is ever refused.
fn freed_at_once(decider: &impl Decider) {
    let work = &|thread: u32| {
        for step in 0..ROUNDS * STEPS {
            let names = names(thread * 2 + step % 2, thread);
            let answer = decider.acquire(NOW, &names.acquire(), &mut ());
            assert_eq!(answer.code, Code::AllowNew, "a seat that was freed was not to be had: {answer:?}");
            assert_eq!(decider.release(NOW, &names.release(), &mut ()).code, Code::ReleasedLast);
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|thread| _ = scope.spawn(move || work(thread))));
    assert_eq!(decider.seats(NOW, TENANT).0, 0, "seats leaked");
}
