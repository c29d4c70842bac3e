//! The races of the rule book, section 12, with real threads.
//!
//! Many small tenants stand for many rounds: all threads walk through them in the same order, whoever is
//! first at one waits a moment for company, and what came of it is looked at after a whole batch.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use parking_lot::Mutex;
use usherd_engine::plan::{Entitled, Limits, Plan, Policy, TenantPlan};
use usherd_engine::session::{
    Acquire, Changes, Code, Decision, GoneRecord, Kind, Now, Release, SessionRecord, Standing,
};
use usherd_engine::{Engine, SessionFilter};

use crate::history::{Event, Op, Seen, Spec, linearizable};

const NOW: Now = Now { uptime_ms: 1_000, utc_ms: 1_780_000_000_000 };

fn engine(tenants: usize, seats: u32) -> (Engine, Vec<String>) {
    let names: Vec<String> = (0..tenants).map(|i| format!("t{i}")).collect();
    let engine = Engine::new(Limits::default());
    engine.install(NOW, plan(&names, seats), &mut ());
    (engine, names)
}

fn plan(names: &[String], seats: u32) -> Plan {
    let policy = Arc::new(Policy::default());
    let tenants = names.iter().map(|id| TenantPlan {
        id: id.as_str().into(),
        entitled: Entitled { standing: Standing::Active, seats: Some(seats) },
        policy: Arc::clone(&policy),
        reserve: Vec::new(),
        pool: None,
    });
    Plan { tenants: tenants.collect(), ..Plan::default() }
}

fn acquire(engine: &Engine, tenant: &str, subject: &str, session: &str) -> Decision {
    let mut ask = Acquire::new(tenant, subject, session, Kind::Desktop);
    ask.ttl_s = Some(86_400);
    engine.acquire(NOW, &ask, &mut ()).unwrap()
}

fn release(engine: &Engine, tenant: &str, session: &str) -> Decision {
    engine.release(NOW, &Release::new(tenant, session), &mut ())
}

fn held(engine: &Engine, tenant: &str) -> u32 {
    engine.tenant(NOW, tenant).unwrap().held
}

/// Waits a moment until so many threads have come, so that they go on at the same instant.
fn meet(here: &AtomicU32, wanted: u32) {
    here.fetch_add(1, Ordering::SeqCst);
    for _ in 0..300 {
        if here.load(Ordering::SeqCst) >= wanted {
            return;
        }
        std::hint::spin_loop();
    }
    std::thread::yield_now();
}

/// Runs `act(thread, batch)` in all threads at once and `look(batch)` in between.
fn crowd(threads: usize, batches: usize, act: impl Fn(usize, usize) + Sync, mut look: impl FnMut(usize)) {
    let barrier = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        for me in 0..threads {
            let (barrier, act) = (&barrier, &act);
            scope.spawn(move || {
                for batch in 0..batches {
                    barrier.wait();
                    act(me, batch);
                    barrier.wait();
                }
            });
        }
        for batch in 0..batches {
            barrier.wait();
            barrier.wait();
            look(batch);
        }
    });
}

/// (i) One free seat, 64 threads, 100,000 rounds: exactly one gets it, 63 are told that it is full (V8).
#[test]
fn one_seat_goes_to_exactly_one_of_64() {
    const ROUNDS: usize = 500;
    let (engine, tenants) = engine(ROUNDS, 1);
    let ids: Vec<String> = (0..64).map(|me| format!("u{me}")).collect();
    let (new, full) = (AtomicU32::new(0), AtomicU32::new(0));
    let here: Vec<AtomicU32> = tenants.iter().map(|_| AtomicU32::new(0)).collect();
    crowd(
        64,
        200,
        |me, _| {
            for (tenant, here) in tenants.iter().zip(&here) {
                meet(here, 2);
                let d = acquire(&engine, tenant, &ids[me], &ids[me]);
                assert_eq!(d.held, 1, "held and quota are one cut");
                match d.code {
                    Code::AllowNew => new.fetch_add(1, Ordering::Relaxed),
                    Code::DenyFull => full.fetch_add(1, Ordering::Relaxed),
                    code => panic!("{code}"),
                };
            }
        },
        |_| {
            assert_eq!(new.swap(0, Ordering::Relaxed) as usize, ROUNDS);
            assert_eq!(full.swap(0, Ordering::Relaxed) as usize, ROUNDS * 63);
            for (tenant, here) in tenants.iter().zip(&here) {
                here.store(0, Ordering::SeqCst);
                assert_eq!(held(&engine, tenant), 1);
                let sessions = engine.sessions(tenant, &SessionFilter::default(), "", 9).unwrap();
                assert_eq!(sessions.len(), 1);
                assert_eq!(release(&engine, tenant, &sessions[0].session).code, Code::ReleasedLast);
            }
        },
    );
}

/// (ii) One subject, 64 threads: at every quiescent point it is seated exactly when it has a claim (V1, V9).
#[test]
fn one_subject_never_has_two_seats() {
    let (engine, tenants) = engine(1, 3);
    let tenant = tenants[0].as_str();
    let ids: Vec<String> = (0..16).map(|i| format!("s{i}")).collect();
    crowd(
        64,
        600,
        |me, batch| {
            let mut rng = fastrand::Rng::with_seed((me * 1_000_003 + batch) as u64);
            for _ in 0..20 {
                let session = &ids[rng.usize(..ids.len())];
                let d = if rng.bool() {
                    acquire(&engine, tenant, "anna", session)
                } else {
                    release(&engine, tenant, session)
                };
                assert!(d.held <= 1, "{d:?}");
            }
        },
        |_| {
            let sessions = engine.sessions(tenant, &SessionFilter::default(), "", 99).unwrap().len();
            assert_eq!(held(&engine, tenant), u32::from(sessions > 0), "V1 with {sessions} sessions");
        },
    );
    ids.iter().for_each(|session| _ = release(&engine, tenant, session));
    assert_eq!(held(&engine, tenant), 0, "I5");
}

/// (iii) The quota flaps between 0 and 100 by reload while 1,000 subjects churn (V2, V7, V10).
#[test]
fn a_flapping_quota_takes_and_gives_nothing_wrongly() {
    let (engine, tenants) = engine(1, 100);
    let tenant = tenants[0].as_str();
    let ids: Vec<String> = (0..1_000).map(|i| format!("u{i}")).collect();
    let (stop, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for seats in [0, 100] {
                    changes.fetch_add(1, Ordering::SeqCst);
                    engine.install(NOW, plan(&tenants, seats), &mut ());
                    changes.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                }
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let before = changes.load(Ordering::SeqCst);
                let (first, then) = (engine.tenant(NOW, tenant).unwrap(), engine.tenant(NOW, tenant).unwrap());
                let still = before.is_multiple_of(2) && changes.load(Ordering::SeqCst) == before;
                assert!(!still || then.over() <= first.over(), "V10: {first:?} {then:?}");
            }
        });
        let churn = |me: u64| {
            let mut rng = fastrand::Rng::with_seed(me);
            for _ in 0..150_000 {
                let id = &ids[rng.usize(..ids.len())];
                let d = if rng.bool() { acquire(&engine, tenant, id, id) } else { release(&engine, tenant, id) };
                let quota = d.quota.unwrap();
                assert!(d.code != Code::AllowNew || d.held <= quota, "V2: {d:?}");
                assert!(d.code != Code::DenyFull || d.held >= quota, "I4: {d:?}");
            }
        };
        let workers: Vec<_> = (0..4).map(|me| scope.spawn(move || churn(me))).collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        stop.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|end| end.unwrap());
    });
    let sessions = engine.sessions(tenant, &SessionFilter::default(), "", 9_999).unwrap();
    assert_eq!(held(&engine, tenant) as usize, sessions.len(), "V1 at rest");
}

/// (iv) Every acquire and its release, shuffled over threads, twice each, while nodes come, go and are
/// swept: nothing is left (V5, V6), and at every rest the tallies agree (V14).
#[test]
fn shuffled_messages_and_dying_nodes_leave_nothing_behind() {
    const CLAIMS: usize = 40;
    let (engine, tenants) = engine(2, 7);
    let ids: Vec<String> = (0..CLAIMS).map(|i| format!("c{i}")).collect();
    let nodes = ["n0", "n1"];
    let scripts: Vec<Mutex<Vec<(usize, u64)>>> = (0..8).map(|_| Mutex::default()).collect();
    let deal = |batch: usize| {
        let mut all: Vec<(usize, u64)> = (0..CLAIMS).flat_map(|c| [(c, 1), (c, 1), (c, 2), (c, 2)]).collect();
        fastrand::Rng::with_seed(batch as u64).shuffle(&mut all);
        for (i, message) in all.into_iter().enumerate() {
            scripts[i % scripts.len()].lock().push(message);
        }
    };
    deal(0);
    nodes.iter().for_each(|node| _ = engine.hello(NOW, node, 1, &mut ()));
    let act = |me: usize, batch: usize| {
        let epoch = batch as u64 + 1;
        let mut rng = fastrand::Rng::with_seed((batch * 64 + me) as u64);
        for (claim, step) in std::mem::take(&mut *scripts[me].lock()) {
            let (tenant, id, node) = (tenants[claim % 2].as_str(), ids[claim].as_str(), nodes[claim / 2 % 2]);
            let kind = if claim % 3 == 0 { Kind::Guest } else { Kind::Desktop };
            let (epoch, seq) = (Some(epoch), Some(claim as u64 * 10 + step));
            if step == 1 {
                let ask = Acquire { node: Some(node), epoch, seq, ..Acquire::new(tenant, &ids[claim / 4], id, kind) };
                engine.acquire(NOW, &ask, &mut ()).unwrap();
            } else {
                engine.release(NOW, &Release { node: Some(node), epoch, seq, ..Release::new(tenant, id) }, &mut ());
            }
            if rng.u8(..10) == 0 {
                let _ = engine.inventory(NOW, nodes[rng.usize(..2)], batch as u64 + 1, 0, &[], &mut ());
                engine.expire(NOW, &mut ());
            }
        }
    };
    crowd(8, 1_500, act, |batch| {
        for tenant in &tenants {
            let left = engine.sessions(tenant, &SessionFilter::default(), "", 999).unwrap();
            assert!(left.is_empty(), "V6, batch {batch}: {left:?}");
            assert_eq!(held(&engine, tenant), 0);
        }
        assert_eq!(engine.session_total(), 0, "V14");
        assert!(Kind::ALL.iter().all(|k| engine.session_count(*k, true) == 0), "V14");
        nodes.iter().for_each(|node| _ = engine.hello(NOW, node, batch as u64 + 2, &mut ()));
        deal(batch + 1);
    });
}

/// (iv), the other half: epochs, losses and inventories race with claims; at every rest the views agree.
#[test]
fn tallies_agree_whatever_happens_to_the_nodes() {
    let (engine, tenants) = engine(2, 5);
    let ids: Vec<String> = (0..24).map(|i| format!("c{i}")).collect();
    let epoch = AtomicU64::new(1);
    let act = |me: usize, batch: usize| {
        let mut rng = fastrand::Rng::with_seed((batch * 64 + me) as u64);
        let now = Now { uptime_ms: NOW.uptime_ms + batch as u64 * 500, ..NOW };
        for seq in 0..40u64 {
            let (tenant, id) = (tenants[rng.usize(..2)].as_str(), ids[rng.usize(..ids.len())].as_str());
            let (node, e) = (["n0", "n1"][rng.usize(..2)], epoch.load(Ordering::Relaxed));
            match rng.u8(..40) {
                0 => _ = engine.hello(now, node, epoch.fetch_add(1, Ordering::Relaxed) + 1, &mut ()),
                1 => _ = engine.heartbeat(now, node, e, &mut ()),
                2 => _ = engine.goodbye(now, node, e, &mut ()),
                3 => engine.expire(Now { uptime_ms: now.uptime_ms + rng.u64(..40_000), ..now }, &mut ()),
                4..=5 => {
                    let listed =
                        Acquire { seq: Some(seq), ..Acquire::new(tenant, &ids[rng.usize(..6)], id, Kind::Desktop) };
                    _ = engine.inventory(now, node, e, seq, &[listed], &mut ());
                }
                6..=20 => _ = engine.release(now, &Release::new(tenant, id), &mut ()),
                _ => {
                    let kind = [Kind::Desktop, Kind::Call, Kind::Mobile, Kind::Phone][rng.usize(..4)];
                    let mut ask = Acquire::new(tenant, &ids[rng.usize(..6)], id, kind);
                    ask.direction = (kind == Kind::Call).then_some(usherd_engine::Direction::ALL[rng.usize(..3)]);
                    (ask.node, ask.epoch, ask.ttl_s) = (Some(node), Some(e), Some(60));
                    ask.existing = rng.u8(..10) == 0;
                    _ = engine.acquire(now, &ask, &mut ());
                }
            }
        }
    };
    crowd(4, 3_000, act, |batch| {
        let mut by_kind = vec![(0, 0); Kind::ALL.len()];
        let mut total = 0;
        for tenant in &tenants {
            let view = engine.tenant(NOW, tenant).unwrap();
            let sessions = engine.sessions(tenant, &SessionFilter::default(), "", 999).unwrap();
            let claimants: BTreeSet<_> = sessions.iter().filter(|s| s.counts).map(|s| &s.subject).collect();
            assert_eq!(view.held as usize, claimants.len(), "V1, batch {batch}");
            assert_eq!(view.sessions as usize, sessions.len(), "V14, batch {batch}");
            let channels = sessions.iter().filter(|s| s.external).count();
            assert_eq!((view.channels_inbound + view.channels_outbound) as usize, channels, "L3, batch {batch}");
            for s in &sessions {
                let tally = &mut by_kind[s.kind as usize];
                *if s.counts { &mut tally.0 } else { &mut tally.1 } += 1;
            }
            total += sessions.len();
        }
        assert_eq!(engine.session_total() as usize, total, "V14, batch {batch}");
        for (kind, tally) in Kind::ALL.iter().zip(&by_kind) {
            let told = (engine.session_count(*kind, true), engine.session_count(*kind, false));
            assert_eq!(told, *tally, "V14 of {kind}, batch {batch}");
        }
    });
}

/// Pages, snapshots and holders meet each session that stays exactly once, while the table around them grows to
/// thousands and shrinks to nothing again.
#[test]
fn readers_meet_what_stays_exactly_once() {
    struct Told(Vec<String>);
    impl Changes for Told {
        fn put(&mut self, session: &SessionRecord<'_>, _: bool) {
            self.0.push(session.session.to_owned());
        }
        fn gone(&mut self, _: &GoneRecord<'_>) {}
        fn node(&mut self, _: &str, _: u64) {}
    }
    const CYCLES: u32 = 8;
    let (engine, tenants) = engine(1, 10_000);
    let tenant = tenants[0].as_str();
    let stays: Vec<String> = (0..300).map(|at| format!("stays-{at:04}")).collect();
    let comes: Vec<String> = (0..6_000).map(|at| format!("comes-{at:04}")).collect();
    stays.iter().for_each(|name| _ = acquire(&engine, tenant, name, name));
    let cycles = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while cycles.fetch_add(1, Ordering::Relaxed) < CYCLES {
                comes.iter().for_each(|name| _ = acquire(&engine, tenant, name, name));
                comes.iter().for_each(|name| _ = release(&engine, tenant, name));
            }
        });
        while cycles.load(Ordering::Relaxed) <= CYCLES {
            let (mut pages, mut after) = (Vec::new(), String::new());
            loop {
                let page = engine.sessions(tenant, &SessionFilter::default(), &after, 500).unwrap();
                let Some(last) = page.last() else { break };
                after = last.session.to_string();
                pages.extend(page.into_iter().map(|view| view.session.to_string()));
            }
            let mut told = Told(Vec::new());
            engine.snapshot(NOW, &mut told);
            told.0.sort();
            for all in [pages, told.0] {
                let met = all.iter().filter(|name| name.starts_with("stays"));
                assert!(met.eq(&stays), "one is missing, or came twice: {all:?}");
            }
        }
    });
    assert_eq!(held(&engine, tenant) as usize, stays.len());
}

/// (v) The last release races with a new claim of the same subject and with somebody who waits: one of the
/// legal outcomes, never two seats, never a lost one.
#[test]
fn the_last_release_races_with_a_new_claim_and_a_waiting_one() {
    const ROUNDS: usize = 500;
    let (engine, tenants) = engine(ROUNDS, 1);
    let seen: Vec<Mutex<Vec<Event>>> = (0..ROUNDS).map(|_| Mutex::default()).collect();
    let here: Vec<AtomicU32> = tenants.iter().map(|_| AtomicU32::new(0)).collect();
    let ops = [
        Op::Release { tenant: 0, session: 0 },
        Op::Acquire { tenant: 0, subject: 0, session: 1 },
        Op::Acquire { tenant: 0, subject: 1, session: 2 },
    ];
    tenants.iter().for_each(|tenant| assert_eq!(acquire(&engine, tenant, "anna", "s0").code, Code::AllowNew));
    crowd(
        3,
        150,
        |me, _| {
            for ((tenant, seen), here) in tenants.iter().zip(&seen).zip(&here) {
                meet(here, 2);
                let d = match me {
                    0 => release(&engine, tenant, "s0"),
                    1 => acquire(&engine, tenant, "anna", "s1"),
                    _ => acquire(&engine, tenant, "bob", "s2"),
                };
                let answer = Seen { code: Some(d.code), held: d.held, quota: 1 };
                seen.lock().push(Event { op: ops[me], seen: answer, called: 0, returned: u64::MAX });
            }
        },
        |batch| {
            let start = Spec { sessions: [[Some(0), None, None, None], [None; 4]], quotas: [1, 0], pool: None };
            here.iter().for_each(|here| here.store(0, Ordering::SeqCst));
            for (tenant, seen) in tenants.iter().zip(&seen) {
                let events = std::mem::take(&mut *seen.lock());
                assert!(linearizable(&events, start, None), "batch {batch}: {events:?}");
                assert_eq!(held(&engine, tenant), 1, "batch {batch}: {events:?}");
                let (s1, s2) = (release(&engine, tenant, "s1"), release(&engine, tenant, "s2"));
                assert!(s1.code == Code::ReleasedLast || s2.code == Code::ReleasedLast);
                assert_eq!(acquire(&engine, tenant, "anna", "s0").code, Code::AllowNew);
            }
        },
    );
}
