//! The real engine behind the trait, with everything it reports kept as a journal would keep it.

use std::collections::BTreeMap;

use usherd_engine::plan::{Entitled, Limits, Plan};
use usherd_engine::session::{
    Acquire, Changes, Class, Code, Decision, Detail, Device, Direction, Fault, GoneRecord, Kind, Leg, Name, Now,
    Release, SessionRecord,
};
use usherd_engine::{EndOutcome, Engine, InventoryReport, NodeFault, NodeReport, RestoredTombstone, SessionFilter};

use super::machine::{Machine, PoolState, SessionState, TenantState};

/// Tenant and session.
pub type Key = (Name, Name);

/// A session record of one's own.
#[derive(Clone, Debug)]
pub struct Written {
    tenant: Name,
    session: Name,
    /// Whose it is.
    pub subject: Name,
    /// The kind of session.
    pub kind: Kind,
    direction: Option<Direction>,
    leg: Leg,
    device: Option<Device>,
    class: Option<Class>,
    /// True if it needs a seat.
    pub counts: bool,
    external: bool,
    group: Name,
    /// The node that reported it.
    pub node: Name,
    /// The start of its node.
    pub epoch: Option<u64>,
    /// The number of its last message.
    pub seq: Option<u64>,
    ttl_s: Option<u32>,
    /// The answer to its first question.
    pub first: Code,
    started_utc_ms: i64,
    version: u64,
}

impl Written {
    fn record(&self) -> SessionRecord<'_> {
        SessionRecord {
            tenant: &self.tenant,
            session: &self.session,
            subject: &self.subject,
            kind: self.kind,
            direction: self.direction,
            leg: self.leg,
            device: self.device,
            class: self.class,
            counts: self.counts,
            external: self.external,
            group: &self.group,
            node: &self.node,
            epoch: self.epoch,
            seq: self.seq,
            ttl_s: self.ttl_s,
            first: self.first,
            started_utc_ms: self.started_utc_ms,
            version: self.version,
        }
    }
}

/// The contents of a journal: the newest record of everything.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// The sessions.
    pub live: BTreeMap<Key, Written>,
    /// With the instant at which it was laid.
    tombstones: BTreeMap<Key, (RestoredTombstone, u64)>,
    nodes: BTreeMap<Name, u64>,
    /// Highest version of each session, live or gone.
    versions: BTreeMap<Key, u64>,
    /// Seats taken less seats freed, as the records tell it: grants of fresh claims, and `freed`.
    pub seats: i64,
    now: u64,
}

impl Journal {
    fn version(&mut self, key: &Key, version: u64) {
        let last = self.versions.entry(key.clone()).or_default();
        assert!(version > *last, "version {version} of {key:?} is not above {last}");
        *last = version;
    }

    /// Subjects with at least one claim, of one tenant.
    fn claimants(&self, tenant: &str) -> usize {
        let theirs = self.live.values().filter(|s| s.tenant == tenant && s.counts);
        theirs.map(|s| &s.subject).collect::<std::collections::BTreeSet<_>>().len()
    }
}

impl Changes for Journal {
    fn put(&mut self, s: &SessionRecord<'_>, fresh: bool) {
        let key = (Name::from(s.tenant), Name::from(s.session));
        self.version(&key, s.version);
        let counted = self.live.get(&key).is_some_and(|old| old.counts);
        assert!(!fresh || !counted, "a fresh claim over a live one: {s:?}");
        assert!(counted || !s.counts || fresh, "a claim that began unheard: {s:?}");
        if fresh && s.counts && matches!(s.first, Code::AllowNew | Code::AllowOver) {
            self.seats += 1;
        }
        self.tombstones.remove(&key);
        self.live.insert(
            key,
            Written {
                tenant: s.tenant.into(),
                session: s.session.into(),
                subject: s.subject.into(),
                kind: s.kind,
                direction: s.direction,
                leg: s.leg,
                device: s.device,
                class: s.class,
                counts: s.counts,
                external: s.external,
                group: s.group.into(),
                node: s.node.into(),
                epoch: s.epoch,
                seq: s.seq,
                ttl_s: s.ttl_s,
                first: s.first,
                started_utc_ms: s.started_utc_ms,
                version: s.version,
            },
        );
    }

    fn gone(&mut self, g: &GoneRecord<'_>) {
        let key = (Name::from(g.tenant), Name::from(g.session));
        self.version(&key, g.version);
        let old = self.live.remove(&key);
        assert_eq!(old.is_some(), g.was_live, "was_live: {g:?}");
        if let Some(old) = old {
            assert_eq!((&*old.subject, old.kind, old.counts), (g.subject, g.kind, g.counts));
        }
        self.seats -= i64::from(g.freed);
        self.tombstones.remove(&key);
        if let Some((node, stamp)) = g.tombstone {
            let (tenant, session) = key.clone();
            let tombstone =
                RestoredTombstone { tenant, session, node: node.into(), stamp, version: g.version, left_ms: 0 };
            self.tombstones.insert(key, (tombstone, self.now));
        }
    }

    fn node(&mut self, node: &str, epoch: u64) {
        let last = self.nodes.insert(node.into(), epoch);
        assert!(last.is_none_or(|last| last <= epoch), "{node} went back from {last:?} to {epoch}");
    }
}

/// The engine and its journal.
#[derive(Debug)]
pub struct Real {
    limits: Limits,
    plan: Plan,
    /// The engine, which decides.
    pub engine: Engine,
    /// The journal of what it reported.
    pub journal: Journal,
}

impl Real {
    /// Without any tenant yet.
    pub fn new(limits: Limits) -> Self {
        Real { limits, plan: Plan::default(), engine: Engine::new(limits), journal: Journal::default() }
    }

    fn at(&mut self, now: Now) -> &mut Journal {
        self.journal.now = now.uptime_ms;
        &mut self.journal
    }
}

impl Machine for Real {
    fn install(&mut self, now: Now, plan: &Plan) {
        self.plan = plan.clone();
        self.at(now);
        self.engine.install(now, plan.clone(), &mut self.journal);
        // A tenant that is dropped takes its tombstones with it.
        let engine = &self.engine;
        self.journal.tombstones.retain(|(tenant, _), _| engine.tenant(now, tenant).is_some());
    }

    fn entitle(&mut self, now: Now, tenant: &str, entitled: Entitled) -> bool {
        if let Some(t) = self.plan.tenants.iter_mut().find(|t| t.id == tenant) {
            t.entitled = entitled;
        }
        self.at(now);
        self.engine.entitle(now, tenant, entitled, &mut self.journal)
    }

    fn acquire(&mut self, now: Now, message: &Acquire<'_>) -> Result<Decision, Fault> {
        self.at(now);
        self.engine.acquire(now, message, &mut self.journal)
    }

    fn explain(&mut self, now: Now, message: &Acquire<'_>) -> Option<(Code, Detail)> {
        let explanation = self.engine.explain(now, message);
        Some((explanation.code, explanation.detail))
    }

    fn release(&mut self, now: Now, message: &Release<'_>) -> Decision {
        self.at(now);
        self.engine.release(now, message, &mut self.journal)
    }

    fn hello(&mut self, now: Now, node: &str, epoch: u64) -> Result<NodeReport, NodeFault> {
        self.at(now);
        self.engine.hello(now, node, epoch, &mut self.journal)
    }

    fn heartbeat(&mut self, now: Now, node: &str, epoch: u64) -> Result<(), NodeFault> {
        self.at(now);
        self.engine.heartbeat(now, node, epoch, &mut self.journal)
    }

    fn goodbye(&mut self, now: Now, node: &str, epoch: u64) -> Result<NodeReport, NodeFault> {
        self.at(now);
        self.engine.goodbye(now, node, epoch, &mut self.journal)
    }

    fn inventory(
        &mut self,
        now: Now,
        node: &str,
        epoch: u64,
        seq: u64,
        sessions: &[Acquire<'_>],
    ) -> Result<InventoryReport, NodeFault> {
        self.at(now);
        self.engine.inventory(now, node, epoch, seq, sessions, &mut self.journal)
    }

    fn end_session(&mut self, now: Now, tenant: &str, session: &str, force: bool) -> EndOutcome {
        self.at(now);
        self.engine.end_session(now, tenant, session, force, &mut self.journal)
    }

    fn end_subject(&mut self, now: Now, tenant: &str, subject: &str, force: bool) -> EndOutcome {
        self.at(now);
        self.engine.end_subject(now, tenant, subject, force, &mut self.journal)
    }

    fn expire(&mut self, now: Now) {
        self.at(now);
        self.engine.expire(now, &mut self.journal);
    }

    fn restart(&mut self, now: Now) {
        let mut journal = std::mem::take(&mut self.journal);
        self.engine = Engine::new(self.limits);
        self.at(now);
        self.engine.install(now, self.plan.clone(), &mut self.journal);
        let life = self.plan.timers.tombstone_ms;
        let planned = |tenant: &Name| self.plan.tenants.iter().any(|t| t.id == *tenant);
        let lives = |tenant: &Name| planned(tenant) || journal.live.values().any(|s| s.tenant == *tenant);
        // A tenant that is dropped takes its tombstones with it, for the restart after this one, too.
        let kept: Vec<Key> = journal.tombstones.keys().filter(|(tenant, _)| lives(tenant)).cloned().collect();
        journal.tombstones.retain(|key, _| kept.contains(key));
        let standing = journal.tombstones.values().filter(|(_, laid)| laid + life > now.uptime_ms);
        let tombstones: Vec<RestoredTombstone> =
            standing.map(|(t, laid)| RestoredTombstone { left_ms: laid + life - now.uptime_ms, ..t.clone() }).collect();
        let nodes: Vec<(Name, u64)> = journal.nodes.iter().map(|(node, epoch)| (node.clone(), *epoch)).collect();
        let floor = journal.versions.values().copied().max().unwrap_or(0);
        let lost = self.engine.restore(now, journal.live.values().map(Written::record), &tombstones, &nodes, floor);
        assert_eq!(lost, 0, "sessions were lost by a restart");
        let held: usize = self.held_by_claims(&journal);
        self.journal = Journal { seats: held as i64, ..journal };
    }

    fn tenant(&self, tenant: &str) -> Option<TenantState> {
        let t = self.engine.tenant(Now { uptime_ms: 0, utc_ms: 0 }, tenant)?;
        Some(TenantState {
            standing: t.standing,
            quota: t.quota,
            held: t.held,
            over: t.over(),
            sessions: t.sessions,
            channels_in: t.channels_inbound,
            channels_out: t.channels_outbound,
        })
    }

    fn sessions(&self, tenant: &str) -> Vec<SessionState> {
        let all = self.engine.sessions(tenant, &SessionFilter::default(), "", 1_000).unwrap_or_default();
        let state = |s: usherd_engine::SessionView| SessionState {
            id: s.session,
            subject: s.subject,
            kind: s.kind,
            direction: s.direction,
            counts: s.counts,
            node: s.node,
            epoch: s.epoch,
            seq: s.seq,
            orphan: s.orphan,
            first: s.first,
            deadline: s.deadline_ms,
        };
        all.into_iter().map(state).collect()
    }

    fn pool(&self, pool: &str) -> Option<PoolState> {
        let p = self.engine.pools().into_iter().find(|p| p.id == pool)?;
        Some(PoolState {
            licensed: u64::from(p.licensed),
            unassigned: p.unassigned(),
            unused: p.assigned_unused(),
            in_use: u64::from(p.in_use),
            over: u64::from(p.over()),
        })
    }
}

impl Real {
    fn held_by_claims(&self, journal: &Journal) -> usize {
        let tenants: std::collections::BTreeSet<&Name> = journal.live.values().map(|s| &s.tenant).collect();
        tenants.into_iter().map(|t| journal.claimants(t)).sum()
    }
}
