//! The phone systems that are measured: tenants, people, calls, and who asks at random.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use usherd_engine::{
    Acquire, Changes, Code, Decision, Direction, Engine, Entitled, Kind, Limits, Now, Plan, Policy, Release, Standing,
    TenantPlan, View,
};

use crate::dashmaps::DashMaps;

/// An hour after the start of the machine, 2026-11-22 12:00 UTC.
pub(crate) const NOW: Now = Now { uptime_ms: 3_600_000, utc_ms: 1_795_348_800_000 };

/// How many of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub sessions: u32,
    pub tenants: u32,
    pub sessions_per_subject: u32,
    pub ids: Ids,
}

/// The form of the ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// Session ids of 20 bytes, persons of 15.
    Short,
    /// Session ids of 36 bytes, persons of 15.
    Long,
    /// UUIDs of 36 bytes for both.
    Uuid,
}

impl Shape {
    pub(crate) const MILLION: Shape =
        Shape { sessions: 1_000_000, tenants: 10_000, sessions_per_subject: 1, ids: Ids::Short };
    /// Fits into the caches of a core.
    pub(crate) const RESIDENT: Shape = Shape { sessions: 5_000, tenants: 50, sessions_per_subject: 1, ids: Ids::Short };

    /// Names of one session, written over those before.
    pub(crate) fn name(&self, session: u32, names: &mut Names) {
        self.name_of(session, 0, names);
    }

    /// Names of the session of a later person in the place of an earlier one; no two who live have the same.
    pub(crate) fn name_of(&self, session: u32, generation: u32, names: &mut Names) {
        use std::fmt::Write as _;
        let (tenant, number) = (session % self.tenants, session / self.tenants);
        let mut subject = number / self.sessions_per_subject;
        if generation > 0 {
            // A number of four digits, as before.
            subject = (subject + generation * (self.sessions / self.tenants / self.sessions_per_subject)) % 10_000;
        }
        names.tenant.clear();
        names.subject.clear();
        names.session.clear();
        let spread = session.wrapping_mul(2_654_435_761) ^ generation.wrapping_mul(2_246_822_507);
        let person = (subject << 16 ^ tenant).wrapping_mul(2_654_435_761);
        let wrote = write!(names.tenant, "tenant-{tenant:05}")
            .and(match self.ids {
                Ids::Uuid => write!(names.subject, "{person:08x}-51d3-4a7b-8e2c-{subject:04x}{tenant:08x}"),
                Ids::Short | Ids::Long => write!(names.subject, "user-{subject:04}@{tenant:05}"),
            })
            .and(match self.ids {
                Ids::Short => write!(names.session, "pbx1-{spread:08x}.{session:06}"),
                Ids::Long | Ids::Uuid => write!(names.session, "{spread:08x}-6b1f-4c2e-9d0a-0000{session:08x}"),
            });
        assert!(wrote.is_ok());
    }
}

/// Names of one session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub tenant: String,
    pub subject: String,
    pub session: String,
}

impl Names {
    pub(crate) fn acquire(&self) -> Acquire<'_> {
        Acquire {
            direction: Some(Direction::Outbound),
            ttl_s: Some(3_600),
            ..Acquire::new(&self.tenant, &self.subject, &self.session, Kind::Call)
        }
    }

    pub(crate) fn release(&self) -> Release<'_> {
        Release::new(&self.tenant, &self.session)
    }
}

/// An engine with the tenants of a shape, and no session yet.
pub(crate) fn with_tenants(shape: &Shape) -> Viewed {
    Viewed::with_tenants(shape)
}

/// The one that decides.
pub(crate) trait Decider: Sync + Sized {
    /// The tenants of a shape with so many seats each, and no session yet.
    fn with_seats(shape: &Shape, seats: u32) -> Self;
    fn acquire(&self, now: Now, message: &Acquire<'_>, changes: &mut impl Changes) -> Decision;
    fn release(&self, now: Now, message: &Release<'_>, changes: &mut impl Changes) -> Decision;
    /// Seats held by a tenant, the peak, and the sum of seat time, milliseconds.
    fn seats(&self, now: Now, tenant: &str) -> (u32, u32, u64);

    /// The tenants of a shape, and no session yet.
    fn with_tenants(shape: &Shape) -> Self {
        Self::with_seats(shape, shape.sessions / shape.tenants * 5 / 4)
    }

    /// The same with all sessions of the shape.
    fn full(shape: &Shape) -> Self {
        let decider = Self::with_tenants(shape);
        let mut names = Names::default();
        for session in 0..shape.sessions {
            shape.name(session, &mut names);
            let code = decider.acquire(NOW, &names.acquire(), &mut ()).code;
            assert!(matches!(code, Code::AllowNew | Code::AllowHeld), "{code:?}");
        }
        decider
    }
}

/// The engine as the daemon asks it: each thread keeps what it saw of the plan and the nodes.
pub(crate) struct Viewed {
    engine: Engine,
    number: u64,
}

impl Deref for Viewed {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Viewed {
    fn new(engine: Engine) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Viewed { engine, number: NUMBERS.fetch_add(1, Ordering::Relaxed) }
    }

    fn with<R>(&self, act: impl FnOnce(&Engine, &mut View) -> R) -> R {
        thread_local! {
            static KEPT: RefCell<Option<(u64, View)>> = const { RefCell::new(None) };
        }
        KEPT.with_borrow_mut(|kept| {
            if kept.as_ref().is_none_or(|(number, _)| *number != self.number) {
                *kept = Some((self.number, self.engine.view()));
            }
            let Some((_, view)) = kept else { unreachable!("it was just made") };
            act(&self.engine, view)
        })
    }
}

impl Decider for Viewed {
    fn with_seats(shape: &Shape, seats: u32) -> Self {
        let engine = Engine::new(Limits::default());
        let policy = Arc::new(Policy::default());
        let tenants = (0..shape.tenants).map(|at| TenantPlan {
            id: format!("tenant-{at:05}").into(),
            entitled: Entitled { standing: Standing::Active, seats: Some(seats) },
            policy: Arc::clone(&policy),
            reserve: Vec::new(),
            pool: None,
        });
        engine.install(NOW, Plan { tenants: tenants.collect(), ..Plan::default() }, &mut ());
        Viewed::new(engine)
    }

    fn acquire(&self, now: Now, message: &Acquire<'_>, changes: &mut impl Changes) -> Decision {
        let decided = self.with(|engine, view| engine.acquire_by(view, now, message, changes));
        decided.unwrap_or_else(|fault| panic!("{fault:?}"))
    }

    fn release(&self, now: Now, message: &Release<'_>, changes: &mut impl Changes) -> Decision {
        self.with(|engine, view| engine.release_by(view, now, message, changes))
    }

    fn seats(&self, now: Now, tenant: &str) -> (u32, u32, u64) {
        self.engine.tenant(now, tenant).map_or((0, 0, 0), |view| (view.held, view.peak, view.seat_ms.unwrap_or(0)))
    }
}

impl Decider for DashMaps {
    fn with_seats(shape: &Shape, seats: u32) -> Self {
        let persons = shape.sessions / shape.sessions_per_subject;
        DashMaps::new(NOW, shape.tenants, seats, shape.sessions as usize, persons as usize)
    }

    fn acquire(&self, now: Now, message: &Acquire<'_>, changes: &mut impl Changes) -> Decision {
        DashMaps::acquire(self, now, message, changes)
    }

    fn release(&self, now: Now, message: &Release<'_>, changes: &mut impl Changes) -> Decision {
        DashMaps::release(self, now, message, changes)
    }

    fn seats(&self, now: Now, tenant: &str) -> (u32, u32, u64) {
        DashMaps::seats(self, now, tenant).unwrap_or_default()
    }
}

/// An engine with the tenants and all sessions of the shape.
pub(crate) fn full(shape: &Shape) -> Viewed {
    Viewed::full(shape)
}

/// A random choice of sessions with their names at hand: reading them costs the caller nothing.
pub(crate) fn chosen(shape: &Shape, random: &mut fastrand::Rng, count: usize) -> (Vec<u32>, Vec<Names>) {
    let sessions: Vec<u32> = (0..count).map(|_| random.u32(0..shape.sessions)).collect();
    let names = sessions.iter().map(|session| {
        let mut names = Names::default();
        shape.name(*session, &mut names);
        names
    });
    let names = names.collect();
    (sessions, names)
}
