//! Puts short scripts to the real engine from real threads and records what they saw, round after round.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use usherd_engine::plan::{Entitled, Limits, Plan, Policy, PoolPlan, TenantPlan};
use usherd_engine::session::{Acquire, Kind, Now, Release, Standing};
use usherd_engine::{Engine, SessionFilter, Work};

use crate::history::{Event, Op, SESSIONS, SUBJECTS, Seen, Spec, TENANTS, linearizable};

const NOW: Now = Now { uptime_ms: 1_000, utc_ms: 1_780_000_000_000 };

/// A plan with these quotas.
fn plan(quotas: [u32; 2], pool: Option<u32>) -> Plan {
    let policy = Arc::new(Policy::default());
    let mut plan = Plan::default();
    plan.pools.extend(pool.map(|seats| PoolPlan { id: "pool".into(), seats }));
    for (tenant, seats) in TENANTS.into_iter().zip(quotas) {
        plan.tenants.push(TenantPlan {
            id: tenant.into(),
            entitled: Entitled { standing: Standing::Active, seats: Some(seats) },
            policy: Arc::clone(&policy),
            reserve: Vec::new(),
            pool: pool.map(|_| "pool".into()),
        });
    }
    plan
}

/// The engine, the logical clock, and what the threads are to do.
struct Stage {
    engine: Engine,
    clock: AtomicU64,
    round: AtomicUsize,
    done: AtomicUsize,
    scripts: Vec<Mutex<Vec<Op>>>,
    events: Vec<Mutex<Vec<Event>>>,
    /// The last installed quotas: an install brings both, so only one thread of a round installs.
    quotas: Mutex<[u32; 2]>,
    pool: Option<u32>,
}

impl Stage {
    fn act(&self, op: Op) -> Seen {
        let engine = &self.engine;
        let decision = match op {
            Op::Acquire { tenant, subject, session } => {
                let mut ask = Acquire::new(TENANTS[tenant], SUBJECTS[subject], SESSIONS[session], Kind::Desktop);
                ask.ttl_s = Some(86_400);
                engine.acquire(NOW, &ask, &mut ()).unwrap()
            }
            Op::Release { tenant, session } => {
                engine.release(NOW, &Release::new(TENANTS[tenant], SESSIONS[session]), &mut ())
            }
            Op::Read { tenant } => {
                let view = engine.tenant(NOW, TENANTS[tenant]).unwrap();
                return Seen { code: None, held: view.held, quota: view.quota.unwrap() };
            }
            Op::Entitle { tenant, quota } | Op::Install { tenant, quota } => {
                let mut quotas = self.quotas.lock();
                quotas[tenant] = quota;
                if matches!(op, Op::Install { .. }) {
                    engine.install(NOW, plan(*quotas, self.pool), &mut ());
                } else {
                    let entitled = Entitled { standing: Standing::Active, seats: Some(quota) };
                    engine.entitle(NOW, TENANTS[tenant], entitled, &mut ());
                }
                return Seen { code: None, held: 0, quota };
            }
        };
        Seen { code: Some(decision.code), held: decision.held, quota: decision.quota.unwrap() }
    }

    fn play(&self, me: usize) {
        let script = std::mem::take(&mut *self.scripts[me].lock());
        let mut events = Vec::with_capacity(script.len());
        for op in script {
            let called = self.clock.fetch_add(1, Ordering::SeqCst);
            let seen = self.act(op);
            let returned = self.clock.fetch_add(1, Ordering::SeqCst);
            events.push(Event { op, seen, called, returned });
        }
        *self.events[me].lock() = events;
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// The state of the table when nobody is at it.
    fn quiescent(&self, quotas: [u32; 2]) -> Spec {
        let mut spec = Spec { sessions: [[None; 4]; 2], quotas, pool: self.pool };
        for (t, tenant) in TENANTS.into_iter().enumerate() {
            let clients = SessionFilter { kind: Some(Kind::Desktop), ..SessionFilter::default() };
            for view in self.engine.sessions(tenant, &clients, "", 100).unwrap() {
                let session = SESSIONS.iter().position(|s| view.session == *s).unwrap();
                let subject = SUBJECTS.iter().position(|s| view.subject == *s).unwrap();
                spec.sessions[t][session] = Some(subject as u8);
            }
            let held = self.engine.tenant(NOW, tenant).unwrap().held;
            assert_eq!(held, spec.held(t), "V1 at rest: {spec:?}");
        }
        let in_use: u32 = self.engine.pools().iter().map(|p| p.in_use).sum();
        assert!(self.pool.is_none() || in_use == spec.held(0) + spec.held(1), "the pool at rest: {spec:?}");
        spec
    }
}

fn wait(until: impl Fn() -> bool) {
    let mut spins = 0u32;
    while !until() {
        spins += 1;
        if spins.is_multiple_of(2_000) { std::thread::yield_now() } else { std::hint::spin_loop() }
    }
}

/// Phones come and go: 2,000 on top of 200, so that the table is sometimes small and mostly not.
fn phones(stage: &Stage) {
    let names: Vec<String> = (0..2_200).map(|at| format!("phone-{at}")).collect();
    let ask = |name| Acquire { ttl_s: Some(86_400), ..Acquire::new(TENANTS[0], name, name, Kind::Phone) };
    while stage.round.load(Ordering::SeqCst) != usize::MAX {
        for name in &names {
            stage.engine.acquire(NOW, &ask(name), &mut ()).unwrap();
        }
        for name in &names {
            stage.engine.release(NOW, &Release::new(TENANTS[0], name), &mut ());
        }
    }
}

/// Whatever walks through a table.
fn readers(stage: &Stage) {
    let ask = Acquire { ttl_s: Some(60), ..Acquire::new(TENANTS[0], SUBJECTS[0], SESSIONS[0], Kind::Desktop) };
    while stage.round.load(Ordering::SeqCst) != usize::MAX {
        let clients = SessionFilter { kind: Some(Kind::Desktop), ..SessionFilter::default() };
        let listed = stage.engine.sessions(TENANTS[0], &clients, "", 100).unwrap();
        assert!(listed.len() <= SESSIONS.len(), "a session is listed once: {listed:?}");
        stage.engine.snapshot(NOW, &mut ());
        assert!(stage.engine.explain(NOW, &ask).held <= 9);
        stage.engine.expire(NOW, &mut ());
    }
}

/// The parameters of a run of histories.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) threads: usize,
    pub(crate) ops: usize,
    pub(crate) histories: usize,
    pub(crate) pool: bool,
    /// Phones come and go meanwhile by the hundreds, so that the table gets more stripes and fewer again, and somebody
    /// lists it, takes snapshots of it and has decisions explained.
    pub(crate) grows: bool,
}

/// One thread's part of a history. Only the first thread changes quotas.
fn script(rng: &mut fastrand::Rng, run: Run, me: usize) -> Vec<Op> {
    let (tenants, subjects) = (if run.pool { 2 } else { 1 }, SUBJECTS.len());
    let op = |rng: &mut fastrand::Rng| {
        let (tenant, session) = (rng.usize(..tenants), rng.usize(..SESSIONS.len()));
        match rng.u8(..100) {
            0..=49 => Op::Acquire { tenant, subject: rng.usize(..subjects), session },
            50..=89 => Op::Release { tenant, session },
            90..=95 if me == 0 => match rng.bool() {
                true => Op::Entitle { tenant, quota: rng.u32(..3) },
                false => Op::Install { tenant, quota: rng.u32(..3) },
            },
            _ => Op::Read { tenant },
        }
    };
    (0..run.ops).map(|_| op(rng)).collect()
}

/// Runs histories until all are done or one cannot be explained; answers how many ran and the bad one.
pub(crate) fn record(run: Run) -> (usize, Option<(Spec, Vec<Event>)>) {
    let pool = run.pool.then_some(2);
    let stage = Stage {
        engine: Engine::new(Limits::default()),
        clock: AtomicU64::new(0),
        round: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        scripts: (0..run.threads).map(|_| Mutex::default()).collect(),
        events: (0..run.threads).map(|_| Mutex::default()).collect(),
        quotas: Mutex::new([1, 1]),
        pool,
    };
    stage.engine.measure_holds(|| 0);
    stage.engine.install(NOW, plan([1, 1], pool), &mut ());
    std::thread::scope(|scope| {
        if run.grows {
            scope.spawn(|| phones(&stage));
            scope.spawn(|| readers(&stage));
        }
        for me in 1..run.threads {
            let stage = &stage;
            scope.spawn(move || {
                for round in 1..=run.histories {
                    wait(|| stage.round.load(Ordering::SeqCst) >= round);
                    if stage.round.load(Ordering::SeqCst) == usize::MAX {
                        return;
                    }
                    stage.play(me);
                }
            });
        }
        let mut rng = fastrand::Rng::with_seed(run.seed);
        let mut bad = None;
        let mut ran = 0;
        let mut start = stage.quiescent([1, 1]);
        while ran < run.histories && bad.is_none() {
            ran += 1;
            for me in 0..run.threads {
                *stage.scripts[me].lock() = script(&mut rng, run, me);
            }
            stage.done.store(0, Ordering::SeqCst);
            stage.round.store(ran, Ordering::SeqCst);
            stage.play(0);
            wait(|| stage.done.load(Ordering::SeqCst) == run.threads);
            let events: Vec<Event> =
                stage.events.iter().flat_map(|events| std::mem::take(&mut *events.lock())).collect();
            let quotas = *stage.quotas.lock();
            let end = stage.quiescent(quotas);
            if !linearizable(&events, start, Some(end)) {
                bad = Some((start, events));
            }
            start = end;
        }
        stage.round.store(usize::MAX, Ordering::SeqCst);
        let resized = stage.engine.hold_times(Work::Growth).count;
        assert!(!run.grows || resized > 20, "the table grew or shrank {resized} times in {ran} histories");
        (ran, bad)
    })
}
