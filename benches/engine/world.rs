//! The phone systems that are measured: tenants, people, calls, and who asks at random.

use std::sync::Arc;

use usherd_engine::{
    Acquire, Code, Direction, Engine, Entitled, Kind, Limits, Now, Plan, Policy, Release, Standing, TenantPlan,
};

/// An hour after the start of the machine, 2026-11-22 12:00 UTC.
pub(crate) const NOW: Now = Now { uptime_ms: 3_600_000, utc_ms: 1_795_348_800_000 };

/// How many of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub sessions: u32,
    pub tenants: u32,
    pub sessions_per_subject: u32,
    /// Session ids of 36 bytes, as UUIDs, instead of 20.
    pub long_ids: bool,
}

impl Shape {
    pub(crate) const MILLION: Shape =
        Shape { sessions: 1_000_000, tenants: 10_000, sessions_per_subject: 1, long_ids: false };
    /// Fits into the caches of a core.
    pub(crate) const RESIDENT: Shape = Shape { sessions: 5_000, tenants: 50, sessions_per_subject: 1, long_ids: false };

    /// Names of one session, written over those before.
    pub(crate) fn name(&self, session: u32, names: &mut Names) {
        use std::fmt::Write as _;
        let (tenant, number) = (session % self.tenants, session / self.tenants);
        let subject = number / self.sessions_per_subject;
        names.tenant.clear();
        names.subject.clear();
        names.session.clear();
        let spread = session.wrapping_mul(2_654_435_761);
        let wrote = write!(names.tenant, "tenant-{tenant:05}")
            .and(write!(names.subject, "user-{subject:04}@{tenant:05}"))
            .and(match self.long_ids {
                true => write!(names.session, "{spread:08x}-6b1f-4c2e-9d0a-0000{session:08x}"),
                false => write!(names.session, "pbx1-{spread:08x}.{session:06}"),
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
pub(crate) fn with_tenants(shape: &Shape) -> Engine {
    let engine = Engine::new(Limits::default());
    let policy = Arc::new(Policy::default());
    let seats = shape.sessions / shape.tenants * 5 / 4;
    let tenants = (0..shape.tenants).map(|at| TenantPlan {
        id: format!("tenant-{at:05}").into(),
        entitled: Entitled { standing: Standing::Active, seats: Some(seats) },
        policy: Arc::clone(&policy),
        reserve: Vec::new(),
        pool: None,
    });
    engine.install(NOW, Plan { tenants: tenants.collect(), ..Plan::default() }, &mut ());
    engine
}

/// The same with all sessions of the shape.
pub(crate) fn full(shape: &Shape) -> Engine {
    let engine = with_tenants(shape);
    let mut names = Names::default();
    for session in 0..shape.sessions {
        shape.name(session, &mut names);
        let code = engine.acquire(NOW, &names.acquire(), &mut ()).map(|decision| decision.code);
        assert!(matches!(code, Ok(Code::AllowNew | Code::AllowHeld)), "{code:?}");
    }
    engine
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
