//! One step of a simulated life: everything that can be said to the engine, by small numbers.

use std::sync::Arc;

use usherd_engine::plan::{Billing, Entitled, Plan, Policy, PoolPlan, TenantPlan, Timers};
use usherd_engine::session::{Acquire, Class, Direction, Kind, Leg, Release, Standing};

/// The first three may share a pool; the last is never configured.
pub(crate) const TENANTS: [&str; 5] = ["north", "south", "west", "solo", "ghost"];
pub(crate) const SUBJECTS: [&str; 6] = ["anna", "bob", "cara", "dave", "eve", "fred"];
pub(crate) const SESSIONS: [&str; 12] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11"];
pub(crate) const NODES: [&str; 3] = ["n0", "n1", "n2"];
pub(crate) const GROUPS: [&str; 3] = ["desk", "door", "none"];

/// Short, so that everything ends often.
pub(crate) const TIMERS: Timers = Timers { lease_ms: 700, grace_ms: 900, tombstone_ms: 2_500, learning_ms: 1_100 };

/// An acquire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) tenant: usize,
    pub(crate) subject: usize,
    pub(crate) session: usize,
    pub(crate) kind: Kind,
    pub(crate) direction: Option<Direction>,
    pub(crate) leg: Leg,
    pub(crate) class: Option<Class>,
    pub(crate) to: Option<&'static str>,
    pub(crate) emergency: bool,
    pub(crate) external: Option<bool>,
    pub(crate) group: Option<usize>,
    pub(crate) node: Option<usize>,
    pub(crate) epoch: Option<u64>,
    pub(crate) seq: Option<u64>,
    pub(crate) ttl_s: Option<u32>,
    pub(crate) existing: bool,
}

impl Ask {
    pub(crate) fn message(&self) -> Acquire<'static> {
        let mut a = Acquire::new(TENANTS[self.tenant], SUBJECTS[self.subject], SESSIONS[self.session], self.kind);
        (a.direction, a.leg, a.class, a.to) = (self.direction, self.leg, self.class, self.to);
        (a.emergency, a.external, a.existing) = (self.emergency, self.external, self.existing);
        (a.group, a.node) = (self.group.map(|g| GROUPS[g]), self.node.map(|n| NODES[n]));
        (a.epoch, a.seq, a.ttl_s) = (self.epoch, self.seq, self.ttl_s);
        a
    }
}

/// A release.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Give {
    pub(crate) tenant: usize,
    pub(crate) session: usize,
    pub(crate) node: Option<usize>,
    pub(crate) epoch: Option<u64>,
    pub(crate) seq: Option<u64>,
    pub(crate) transferred: bool,
}

impl Give {
    pub(crate) fn message(&self) -> Release<'static> {
        let mut r = Release::new(TENANTS[self.tenant], SESSIONS[self.session]);
        (r.node, r.epoch, r.seq) = (self.node.map(|n| NODES[n]), self.epoch, self.seq);
        r.transferred = self.transferred;
        r
    }
}

/// A configuration, by small numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// Standing, quota and whether it is configured, for the first four tenants.
    pub(crate) tenants: [Option<Entitled>; 4],
    /// Which of the first three draw from the pool.
    pub(crate) pooled: [bool; 3],
    pub(crate) pool_seats: u32,
    pub(crate) default_tenant: bool,
    /// Seats set aside per tenant for `desk` and `door`.
    pub(crate) reserve: [(u32, u32); 4],
    /// One bit per key of the policy.
    pub(crate) keys: u16,
    pub(crate) linger_ms: u64,
}

impl Config {
    fn policy(&self) -> Policy {
        let bit = |n: u16| self.keys & (1 << n) != 0;
        let billing = |n| if bit(n) { Billing::Free } else { Billing::Count };
        Policy {
            internal_calls: billing(0),
            service_calls: billing(1),
            guests: billing(2),
            connectors: billing(3),
            transfer_out_until_end: bit(4),
            transferred_outbound_follows: bit(5),
            never_deny: if bit(6) { vec![Class::Lift, Class::Door] } else { vec![Class::Lift] },
            trunk_prefix: if bit(7) { "0".into() } else { "".into() },
            mobile_offline_ms: if bit(8) { 4_000 } else { 0 },
            channels_enforce: bit(9),
            channels_per_seat: 2,
            channels_extra: u32::from(bit(10)),
            end_drain_ms: 1_700,
            seat_linger_ms: self.linger_ms,
            ..Policy::default()
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        let policy = Arc::new(self.policy());
        let mut plan = Plan { timers: TIMERS, ..Plan::default() };
        plan.pools.push(PoolPlan { id: "provider".into(), seats: self.pool_seats });
        plan.default_tenant = self.default_tenant.then(|| TENANTS[3].into());
        for (i, entitled) in self.tenants.iter().enumerate() {
            let Some(entitled) = *entitled else { continue };
            let (desk, door) = self.reserve[i];
            let groups = [(GROUPS[0].into(), desk), (GROUPS[1].into(), door)];
            plan.tenants.push(TenantPlan {
                id: TENANTS[i].into(),
                entitled,
                policy: policy.clone(),
                reserve: groups.into_iter().filter(|(_, seats)| *seats > 0).collect(),
                pool: (i < 3 && self.pooled[i]).then(|| "provider".into()),
            });
        }
        plan
    }
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Acquire(Ask),
    Release(Give),
    Hello {
        node: usize,
        epoch: u64,
    },
    Heartbeat {
        node: usize,
        epoch: u64,
    },
    Goodbye {
        node: usize,
        epoch: u64,
    },
    Inventory {
        node: usize,
        epoch: u64,
        seq: u64,
        list: Vec<Ask>,
    },
    EndSession {
        tenant: usize,
        session: usize,
        force: bool,
    },
    EndSubject {
        tenant: usize,
        subject: usize,
        force: bool,
    },
    Entitle {
        tenant: usize,
        standing: Standing,
        seats: Option<u32>,
    },
    Install(Config),
    /// The monotonic clock goes on, and nobody looks.
    Advance {
        ms: u64,
    },
    /// Somebody looks at what is due.
    Expire,
    /// The wall clock jumps.
    Jump {
        ms: i64,
    },
    Restart,
}
