//! Histories of real threads, and whether any order of their operations explains them (Wing, Gong, Lowe).

use std::collections::HashSet;

use usherd_engine::session::Code;

pub(crate) const TENANTS: [&str; 2] = ["left", "right"];
pub(crate) const SUBJECTS: [&str; 3] = ["anna", "bob", "cara"];
pub(crate) const SESSIONS: [&str; 4] = ["s0", "s1", "s2", "s3"];

/// One operation on one of two tenants.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Acquire {
        tenant: usize,
        subject: usize,
        session: usize,
    },
    Release {
        tenant: usize,
        session: usize,
    },
    /// A scrape.
    Read {
        tenant: usize,
    },
    /// A schedule's change of the quota.
    Entitle {
        tenant: usize,
        quota: u32,
    },
    /// A reload with one changed quota.
    Install {
        tenant: usize,
        quota: u32,
    },
}

/// The answer: held and quota as one cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) code: Option<Code>,
    pub(crate) held: u32,
    pub(crate) quota: u32,
}

/// One operation of a history, with the logical instants of its call and its return.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) op: Op,
    pub(crate) seen: Seen,
    pub(crate) called: u64,
    pub(crate) returned: u64,
}

/// The sequential meaning: who has which session, and the quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Spec {
    /// Per tenant and session: its subject.
    pub(crate) sessions: [[Option<u8>; 4]; 2],
    pub(crate) quotas: [u32; 2],
    /// Capacity of the pool of both.
    pub(crate) pool: Option<u32>,
}

impl Spec {
    pub(crate) fn held(&self, tenant: usize) -> u32 {
        let has = |subject: u8| self.sessions[tenant].contains(&Some(subject));
        (0..SUBJECTS.len() as u8).filter(|s| has(*s)).count() as u32
    }

    fn acquire(&mut self, tenant: usize, subject: usize, session: usize) -> Code {
        let subject = subject as u8;
        match self.sessions[tenant][session] {
            Some(owner) if owner == subject => return Code::AllowSame,
            Some(_) => return Code::DenyConflict,
            None => {}
        }
        let seated = self.sessions[tenant].contains(&Some(subject));
        let free = self.held(tenant) < self.quotas[tenant]
            && self.pool.is_none_or(|seats| self.held(0) + self.held(1) < seats);
        if !seated && !free {
            return Code::DenyFull;
        }
        self.sessions[tenant][session] = Some(subject);
        if seated { Code::AllowHeld } else { Code::AllowNew }
    }

    fn release(&mut self, tenant: usize, session: usize) -> Code {
        let Some(subject) = self.sessions[tenant][session].take() else { return Code::ReleasedNone };
        if self.sessions[tenant].contains(&Some(subject)) { Code::ReleasedMore } else { Code::ReleasedLast }
    }

    /// Does one operation, and says what it must have seen.
    fn step(&mut self, op: Op) -> Seen {
        let (tenant, code) = match op {
            Op::Acquire { tenant, subject, session } => (tenant, Some(self.acquire(tenant, subject, session))),
            Op::Release { tenant, session } => (tenant, Some(self.release(tenant, session))),
            Op::Read { tenant } => (tenant, None),
            Op::Entitle { tenant, quota } | Op::Install { tenant, quota } => {
                self.quotas[tenant] = quota;
                return Seen { code: None, held: 0, quota };
            }
        };
        Seen { code, held: self.held(tenant), quota: self.quotas[tenant] }
    }
}

/// True if some order of the events, true to their calls and returns, is what the specification does from
/// `start` to `end`.
pub(crate) fn linearizable(events: &[Event], start: Spec, end: Option<Spec>) -> bool {
    search(events, 0, start, end, &mut HashSet::new())
}

fn search(events: &[Event], done: u64, spec: Spec, end: Option<Spec>, dead: &mut HashSet<(u64, Spec)>) -> bool {
    if done.count_ones() as usize == events.len() {
        return end.is_none_or(|end| end == spec);
    }
    if !dead.insert((done, spec)) {
        return false;
    }
    let open = || events.iter().enumerate().filter(|(i, _)| done & (1 << i) == 0);
    let first_return = open().map(|(_, e)| e.returned).min().unwrap_or(u64::MAX);
    open().filter(|(_, e)| e.called < first_return).any(|(i, e)| {
        let mut next = spec;
        next.step(e.op) == e.seen && search(events, done | (1 << i), next, end, dead)
    })
}
