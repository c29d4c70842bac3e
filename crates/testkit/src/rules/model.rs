//! The naive model of the rule book's section 2: plain lists, one message after the other, no cleverness.

use std::sync::Arc;

use usherd_engine::plan::{Limits, Plan, Policy};
use usherd_engine::session::{
    Acquire, Class, Code, Decision, Detail, Direction, Fault, Kind, Name, Now, Release, Stamp, Standing,
};

use super::classes::{Need, classify, emergency};

/// A session that lives.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its name.
    pub id: Name,
    /// Whose it is.
    pub subject: Name,
    /// The kind of session.
    pub kind: Kind,
    /// Of a call.
    pub direction: Option<Direction>,
    pub(crate) external: bool,
    pub(crate) counts: bool,
    /// The node that reported it.
    pub node: Option<Name>,
    /// The start of its node.
    pub epoch: Option<u64>,
    /// The number of its last message.
    pub seq: Option<u64>,
    pub(crate) ttl_s: Option<u32>,
    pub(crate) first: Code,
    pub(crate) renewed: u64,
    /// Put back by a restart and not confirmed since: only the learning time ends it.
    pub(crate) restored: bool,
    /// How long it waits for its node.
    pub orphan_until: Option<u64>,
}

impl Session {
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        Some(Stamp { epoch: self.epoch?, seq: self.seq? })
    }
}

/// A seat that is held.
#[derive(Clone, Debug)]
pub struct Seat {
    pub(crate) subject: Name,
    /// Reservation group; empty where none.
    pub(crate) group: Name,
    /// How long it waits for its subject.
    pub linger_until: Option<u64>,
}

/// A record that keeps out late messages about a session that ended.
#[derive(Clone, Debug)]
pub struct Tombstone {
    pub(crate) session: Name,
    pub(crate) node: Name,
    pub(crate) stamp: Stamp,
    /// When it goes.
    pub until: u64,
}

/// A tenant with what lives and what is held.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its name.
    pub id: Name,
    pub(crate) standing: Standing,
    pub(crate) quota: Option<u32>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) reserve: Vec<(Name, u32)>,
    pub(crate) pool: Option<Name>,
    /// The live sessions.
    pub sessions: Vec<Session>,
    /// The seats that are held.
    pub seats: Vec<Seat>,
    /// The oldest first.
    pub tombstones: Vec<Tombstone>,
    /// When clients leave, once the subscription ended (J6).
    pub(crate) drain_at: Option<u64>,
}

/// A PBX.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) name: Name,
    pub(crate) epoch: u64,
    pub(crate) greeted: bool,
    /// When it was last heard of; `None` while it has no lease.
    pub seen: Option<u64>,
}

/// All there is.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub(crate) limits: Limits,
    /// The configuration.
    pub plan: Plan,
    /// All tenants.
    pub tenants: Vec<Tenant>,
    /// All nodes.
    pub nodes: Vec<Node>,
    /// An inventory is being read: it answers for itself what tombstones mean to it (G9).
    pub(crate) listing: bool,
    /// Seats that became free by the end of their linger, since the last restart.
    pub lingered: i64,
}

/// The subject matter of a message: a tenant, and ids with their prefix.
#[derive(Clone, Copy)]
struct About<'a> {
    tenant: usize,
    id: &'a str,
    subject: &'a str,
}

impl Tenant {
    pub(crate) fn find(&self, session: &str) -> Option<usize> {
        self.sessions.iter().position(|s| s.id == session)
    }

    pub(crate) fn held(&self) -> u32 {
        self.seats.len() as u32
    }

    pub(crate) fn claims(&self, subject: &str) -> usize {
        self.sessions.iter().filter(|s| s.counts && s.subject == subject).count()
    }

    pub(crate) fn channels(&self) -> u32 {
        self.sessions.iter().filter(|s| s.external).count() as u32
    }

    fn answer(&self, code: Code, detail: Detail) -> Decision {
        answer(code, detail, self.held(), self.quota, &self.policy)
    }

    /// The seats that stay free for other groups than `group` (F6).
    fn reserved_for_others(&self, quota: u32, group: &str) -> u32 {
        let (mut left, mut kept) = (quota, 0);
        for (name, seats) in &self.reserve {
            let seats = (*seats).min(left);
            left -= seats;
            if name != group {
                let held = self.seats.iter().filter(|s| s.group == *name).count() as u32;
                kept += seats.saturating_sub(held);
            }
        }
        kept
    }

    /// Lays a tombstone, or renews the one that stands (G5).
    pub(crate) fn bury(&mut self, now: u64, life: u64, max: u32, session: &str, node: &str, mut stamp: Stamp) {
        self.tombstones.retain(|t| t.until > now);
        if let Some(i) = self.tombstones.iter().position(|t| t.session == session) {
            let old = self.tombstones.remove(i);
            if old.node == node {
                stamp = stamp.max(old.stamp);
            }
        }
        self.tombstones.push(Tombstone { session: session.into(), node: node.into(), stamp, until: now + life });
        while self.tombstones.len() > max as usize {
            self.tombstones.remove(0);
        }
    }

    /// True if a message is not newer than the tombstone of its session (G5).
    pub(crate) fn buried(&self, now: u64, session: &str, node: Option<&str>, stamp: Option<Stamp>) -> bool {
        let Some(stamp) = stamp else { return false };
        let stands = |t: &&Tombstone| t.session == session && t.until > now && Some(t.node.as_str()) == node;
        self.tombstones.iter().find(stands).is_some_and(|t| stamp <= t.stamp)
    }

    /// Takes a session out, and its subject's seat where that was the last claim.
    pub(crate) fn end(&mut self, i: usize, linger_until: Option<u64>) -> (Session, Code, Detail) {
        let session = self.sessions.remove(i);
        if !session.counts {
            return (session, Code::ReleasedNone, Detail::None);
        }
        if self.claims(&session.subject) > 0 {
            return (session, Code::ReleasedMore, Detail::None);
        }
        let Some(seat) = self.seats.iter().position(|s| s.subject == session.subject) else {
            panic!("a claim without a seat: {session:?}");
        };
        if linger_until.is_some() {
            self.seats[seat].linger_until = linger_until;
            return (session, Code::ReleasedMore, Detail::Linger);
        }
        self.seats.remove(seat);
        (session, Code::ReleasedLast, Detail::None)
    }
}

fn answer(code: Code, detail: Detail, held: u32, quota: Option<u32>, policy: &Policy) -> Decision {
    let (retry_after_s, sip_code) = if code.denies() { (policy.retry_after_s, policy.sip_code) } else { (0, 0) };
    Decision { code, detail, first: None, held, quota, ttl_ms: None, retry_after_s, sip_code }
}

impl Model {
    /// Without any tenant yet.
    pub fn new(limits: Limits) -> Self {
        Model { limits, ..Model::default() }
    }

    pub(crate) fn index(&self, tenant: &str) -> Option<usize> {
        self.tenants.iter().position(|t| t.id == tenant)
    }

    pub(crate) fn node(&mut self, node: &str) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|n| n.name == node)
    }

    /// Every message of a node renews its lease, unless it comes from before its last start.
    pub(crate) fn seen(&mut self, now: u64, node: Option<&str>, epoch: Option<u64>) {
        if let Some(node) = node.and_then(|n| self.node(n))
            && epoch.is_none_or(|e| e >= node.epoch)
        {
            node.seen = Some(now);
        }
    }

    /// The tenant that decides, and what its ids are prefixed with (D4).
    pub(crate) fn home(&self, tenant: &str) -> Option<(usize, String)> {
        if let Some(i) = self.index(tenant) {
            return Some((i, String::new()));
        }
        let default = self.plan.default_tenant.as_ref()?;
        Some((self.index(default)?, format!("{tenant}/")))
    }

    pub(crate) fn pool_in_use(&self, pool: &str) -> u32 {
        self.tenants.iter().filter(|t| t.pool.as_deref() == Some(pool)).map(Tenant::held).sum()
    }

    fn older_epoch(&mut self, a: &Acquire<'_>) -> bool {
        let known = a.node.and_then(|n| self.node(n)).map(|n| n.epoch);
        matches!((known, a.epoch), (Some(known), Some(epoch)) if epoch < known)
    }

    /// True if the message's node is known, so that its lease ends what it carries.
    fn leased(&mut self, a: &Acquire<'_>) -> bool {
        a.node.is_some_and(|n| self.node(n).is_some())
    }

    fn room_for_a_session(&self, tenant: usize) -> bool {
        let all: usize = self.tenants.iter().map(|t| t.sessions.len()).sum();
        all < self.limits.sessions_max as usize
            && self.tenants[tenant].sessions.len() < self.limits.sessions_per_tenant_max as usize
    }

    /// Checks that a subject of `group` may take a seat; the error is what is full.
    fn seat_free(&self, tenant: usize, group: &str) -> Result<(), Detail> {
        let t = &self.tenants[tenant];
        if t.quota.is_some_and(|q| t.held() >= q) {
            return Err(Detail::Tenant);
        }
        let pool = self.plan.pools.iter().find(|p| Some(&p.id) == t.pool.as_ref());
        if pool.is_some_and(|p| self.pool_in_use(&p.id) >= p.seats) {
            return Err(Detail::Pool);
        }
        if t.quota.is_some_and(|q| t.held() + t.reserved_for_others(q, group) >= q) {
            return Err(Detail::Reservation);
        }
        Ok(())
    }

    /// How long a session lives without renewal, as the one who asked for it may know.
    fn life_ms(&mut self, now: u64, tenant: usize, session: usize) -> Option<u64> {
        let s = self.tenants[tenant].sessions[session].clone();
        let leased = s.kind != Kind::Mobile && s.node.as_ref().is_some_and(|n| self.node(n).is_some());
        let own = [Model::time_out(&self.tenants[tenant], &s), s.orphan_until].into_iter().flatten().min();
        let own = own.map(|at| at.saturating_sub(now));
        own.into_iter().chain(leased.then_some(self.plan.timers.lease_ms)).min()
    }

    /// Takes over what a renewal says, and makes an orphan live again.
    pub(crate) fn renew(s: &mut Session, now: u64, a: &Acquire<'_>, leased: bool) {
        if s.node.as_deref() != a.node {
            (s.node, s.epoch, s.seq) = (a.node.map(Name::from), a.epoch, a.seq);
        } else if let Some(stamp) = a.stamp() {
            (s.epoch, s.seq) = (Some(stamp.epoch), Some(stamp.seq));
        }
        s.ttl_s = a.ttl_s.or(s.ttl_s).or(if leased || s.kind == Kind::Mobile { None } else { Some(86_400) });
        (s.renewed, s.restored) = (now, false);
        s.orphan_until = None;
    }

    fn store(&mut self, now: u64, about: About<'_>, a: &Acquire<'_>, counts: bool, first: Code) {
        let About { tenant, id, subject } = about;
        let leased = self.leased(a);
        let t = &mut self.tenants[tenant];
        t.sessions.retain(|s| s.id != id);
        t.tombstones.retain(|s| s.session != id);
        t.sessions.push(Session {
            id: id.into(),
            subject: subject.into(),
            kind: a.kind,
            direction: a.direction,
            external: a.is_external(),
            counts,
            node: a.node.map(Name::from),
            epoch: a.epoch,
            seq: a.seq,
            ttl_s: a.ttl_s.or(if leased || a.kind == Kind::Mobile { None } else { Some(86_400) }),
            first,
            renewed: now,
            restored: false,
            orphan_until: None,
        });
    }

    /// Records what needs no seat; answers how long it lives.
    fn record_free(&mut self, now: u64, about: About<'_>, a: &Acquire<'_>) -> Option<u64> {
        let About { tenant, id, .. } = about;
        if self.older_epoch(a) {
            return None;
        }
        let leased = self.leased(a);
        match self.tenants[tenant].find(id) {
            Some(i) => {
                let s = &mut self.tenants[tenant].sessions[i];
                if s.counts {
                    return None;
                }
                if late(s, a.node, a.epoch, a.seq) {
                    return self.life_ms(now, tenant, i);
                }
                Model::renew(s, now, a, leased);
            }
            None => {
                let blocked = !self.listing && self.tenants[tenant].buried(now, id, a.node, a.stamp());
                if blocked || !self.room_for_a_session(tenant) {
                    return None;
                }
                self.store(now, about, a, false, Code::AllowFree);
            }
        }
        let i = self.tenants[tenant].find(id)?;
        self.life_ms(now, tenant, i)
    }

    pub(crate) fn acquire(&mut self, now: Now, a: &Acquire<'_>) -> Result<Decision, Fault> {
        self.seen(now.uptime_ms, a.node, a.epoch);
        self.decide(now.uptime_ms, a)
    }

    /// Decides in the order of D5.
    pub(crate) fn decide(&mut self, now: u64, a: &Acquire<'_>) -> Result<Decision, Fault> {
        let known = self.index(a.tenant);
        let policy = known.map_or(&self.plan.unknown, |i| &self.tenants[i].policy).clone();
        let free = if emergency(a, &policy) {
            Some(Detail::Emergency)
        } else if let Need::Free(detail) = classify(a, &policy) {
            Some(detail)
        } else {
            None
        };
        if let Some(detail) = free {
            let Some(i) = known else { return Ok(answer(Code::AllowFree, detail, 0, Some(0), &policy)) };
            let mut d = self.tenants[i].answer(Code::AllowFree, detail);
            if let (Some(id), true) = (a.session, detail != Detail::Emergency) {
                let about = About { tenant: i, id, subject: a.subject.unwrap_or("") };
                d.ttl_ms = self.record_free(now, about, a);
            }
            return Ok(d);
        }
        let Some((t, prefix)) = self.home(a.tenant) else {
            return Ok(answer(Code::DenyUnknownTenant, Detail::None, 0, Some(0), &policy));
        };
        if a.subject.is_none() {
            return Err(Fault::new("subject", "is required"));
        }
        if !self.leased(a) && a.ttl_s.is_none() && a.kind != Kind::Mobile {
            return Err(Fault::new("ttl_s", "is required"));
        }
        let id = format!("{prefix}{}", a.session.unwrap_or(""));
        let subject = format!("{prefix}{}", a.subject.unwrap_or(""));
        let lifeline = a.class.is_some_and(|c: Class| policy.never_deny.contains(&c));
        let follow = classify(a, &policy) == Need::Counts { follow: true };
        Ok(self.claim(now, About { tenant: t, id: &id, subject: &subject }, a, lifeline, follow))
    }

    /// Decides from "claim id known" on (D5).
    fn claim(&mut self, now: u64, about: About<'_>, a: &Acquire<'_>, lifeline: bool, follow: bool) -> Decision {
        let About { tenant: t, id, subject } = about;
        let (older, leased) = (self.older_epoch(a), self.leased(a));
        let known = self.tenants[t].find(id);
        if let Some(i) = known.filter(|i| self.tenants[t].sessions[*i].counts) {
            let s = &mut self.tenants[t].sessions[i];
            if s.subject != subject {
                return self.tenants[t].answer(Code::DenyConflict, Detail::None);
            }
            if older || late(s, a.node, a.epoch, a.seq) {
                return self.tenants[t].answer(Code::IgnoreStale, Detail::None);
            }
            Model::renew(s, now, a, leased);
            let first = Some(s.first);
            let ttl_ms = self.life_ms(now, t, i);
            return Decision { first, ttl_ms, ..self.tenants[t].answer(Code::AllowSame, Detail::None) };
        }
        if older || (!self.listing && self.tenants[t].buried(now, id, a.node, a.stamp())) {
            return self.tenants[t].answer(Code::IgnoreStale, Detail::None);
        }
        let inactive = match self.tenants[t].standing {
            Standing::Active => None,
            Standing::Ended => Some(Detail::Ended),
            Standing::Suspended => Some(Detail::Suspended),
            Standing::Stale => Some(Detail::Stale),
        };
        if let Some(why) = inactive.filter(|_| !a.existing) {
            if !lifeline {
                return self.tenants[t].answer(Code::DenyInactive, why);
            }
            let ttl_ms = self.record_free(now, about, a);
            return Decision { ttl_ms, ..self.tenants[t].answer(Code::AllowFree, Detail::Lifeline) };
        }
        let tenant = &self.tenants[t];
        if tenant.policy.channels_enforce
            && a.is_external()
            && !lifeline
            && !a.existing
            && tenant.quota.is_some_and(|q| {
                tenant.channels() >= q * tenant.policy.channels_per_seat + tenant.policy.channels_extra
            })
        {
            return tenant.answer(Code::DenyFull, Detail::Channels);
        }
        let group = a.group.filter(|g| tenant.reserve.iter().any(|(name, _)| name == g)).unwrap_or("");
        let code = if tenant.seats.iter().any(|s| s.subject == subject) {
            Code::AllowHeld
        } else {
            match self.seat_free(t, group) {
                Ok(()) => Code::AllowNew,
                Err(_) if a.existing || lifeline || follow => Code::AllowOver,
                Err(full) => return tenant.answer(Code::DenyFull, full),
            }
        };
        if known.is_none() && !self.room_for_a_session(t) {
            let code = if a.existing || lifeline { Code::AllowOver } else { Code::DenyFull };
            return tenant.answer(code, Detail::Limit);
        }
        self.store(now, about, a, true, code);
        let seats = &mut self.tenants[t].seats;
        match seats.iter_mut().find(|s| s.subject == subject) {
            Some(seat) => seat.linger_until = None,
            None => seats.push(Seat { subject: subject.into(), group: group.into(), linger_until: None }),
        }
        let last = self.tenants[t].sessions.len() - 1;
        let ttl_ms = self.life_ms(now, t, last);
        Decision { ttl_ms, ..self.tenants[t].answer(code, Detail::None) }
    }

    pub(crate) fn release(&mut self, now: Now, r: &Release<'_>) -> Decision {
        let now = now.uptime_ms;
        self.seen(now, r.node, r.epoch);
        let Some((t, prefix)) = self.home(r.tenant) else {
            return answer(Code::ReleasedNone, Detail::None, 0, Some(0), &self.plan.unknown);
        };
        let id = format!("{prefix}{}", r.session);
        let (life, max) = (self.plan.timers.tombstone_ms, self.limits.tombstones_per_tenant_max);
        let t = &mut self.tenants[t];
        let mut outcome = (Code::ReleasedNone, Detail::None);
        if let Some(i) = t.find(&id) {
            let s = &mut t.sessions[i];
            let elsewhere = r.node.is_some() && r.node != s.node.as_deref();
            if elsewhere || late(s, r.node, r.epoch, r.seq) {
                return t.answer(Code::IgnoreStale, Detail::None);
            }
            let outbound_call = s.counts && s.kind == Kind::Call && s.direction == Some(Direction::Outbound);
            if r.transferred && t.policy.transfer_out_until_end && outbound_call {
                if let Some(stamp) = r.stamp() {
                    (s.epoch, s.seq) = (Some(stamp.epoch), Some(stamp.seq));
                }
                return t.answer(Code::ReleasedMore, Detail::Linger);
            }
            let linger = t.policy.seat_linger_ms;
            let (_, code, detail) = t.end(i, (linger > 0).then_some(now + linger));
            outcome = (code, detail);
        }
        if let (Some(stamp), Some(node)) = (r.stamp(), r.node) {
            t.bury(now, life, max, &id, node, stamp);
        }
        t.answer(outcome.0, outcome.1)
    }
}

/// True if a message of the session's own node is older than the last one applied to it (G5).
pub(crate) fn late(s: &Session, node: Option<&str>, epoch: Option<u64>, seq: Option<u64>) -> bool {
    let (Some(epoch), Some(own)) = (epoch, s.epoch) else { return false };
    let seqs = seq.zip(s.seq);
    s.node.as_deref() == node && (epoch < own || (epoch == own && seqs.is_some_and(|(seq, own)| seq < own)))
}
