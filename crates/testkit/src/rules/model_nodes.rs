//! The naive model, second half: nodes, time, plans, admins, restarts, and what is seen from outside.

use usherd_engine::plan::{Entitled, Plan};
use usherd_engine::session::{Acquire, Code, Decision, Detail, Fault, Kind, Name, Now, Release, Stamp, Standing};
use usherd_engine::{EndOutcome, InventoryReport, NodeFault, NodeReport};

use super::machine::{Machine, PoolState, SessionState, TenantState};
use super::model::{Model, Node, Session, Tenant, late};

impl Tenant {
    /// Changes standing and quota; only becoming ended touches sessions (J6, V7).
    fn set(&mut self, now: u64, entitled: Entitled) {
        let ends = entitled.standing == Standing::Ended && self.standing != Standing::Ended;
        (self.standing, self.quota) = (entitled.standing, entitled.seats);
        if self.standing == Standing::Active {
            self.drain_at = None;
        }
        if ends {
            self.end_where(|s| s.counts && s.kind == Kind::Mobile);
            self.drain_at = self.drain_at.or(Some(now + self.policy.end_drain_ms));
        }
    }

    /// Ends what matches, without linger.
    fn end_where(&mut self, which: impl Fn(&Session) -> bool) -> u32 {
        let mut count = 0;
        while let Some(i) = self.sessions.iter().position(&which) {
            self.end(i, None);
            count += 1;
        }
        count
    }
}

impl Model {
    /// Everything of a node that is not a mobile becomes an orphan.
    fn orphan(&mut self, node: &str, until: u64, which: impl Fn(&Session) -> bool) -> u32 {
        let mut count = 0;
        for s in self.tenants.iter_mut().flat_map(|t| &mut t.sessions) {
            let theirs = s.node.as_deref() == Some(node) && s.kind != Kind::Mobile;
            if theirs && s.orphan_until.is_none() && which(s) {
                s.orphan_until = Some(until);
                count += 1;
            }
        }
        count
    }

    /// The node, where it is known by this epoch.
    fn current(&mut self, node: &str, epoch: u64) -> Result<&mut Node, NodeFault> {
        match self.node(node) {
            None => Err(NodeFault::UnknownEpoch { known: None }),
            Some(n) if n.epoch != epoch => Err(NodeFault::UnknownEpoch { known: Some(n.epoch) }),
            Some(n) => Ok(n),
        }
    }

    fn list(&mut self, now: Now, at: Stamp, a: &Acquire<'_>) -> InventoryReport {
        let one = |kept, adopted, ignored| InventoryReport { kept, adopted, ignored, removed: 0 };
        let stamp = Stamp { epoch: at.epoch, seq: a.seq.unwrap_or(at.seq) };
        let Some((t, prefix)) = self.home(a.tenant) else { return one(0, 0, 1) };
        let id = format!("{prefix}{}", a.session.unwrap_or(""));
        let subject = format!("{prefix}{}", a.subject.unwrap_or(""));
        if let Some(i) = self.tenants[t].find(&id) {
            let s = &mut self.tenants[t].sessions[i];
            if s.counts && s.subject != subject {
                return one(0, 0, 1);
            }
            let newer = late(s, a.node, Some(stamp.epoch), Some(stamp.seq));
            let (epoch, seq) = (s.epoch, s.seq);
            Model::renew(s, now.uptime_ms, &Acquire { seq: Some(stamp.seq), ..a.clone() }, true);
            if newer {
                (s.epoch, s.seq) = (epoch, seq);
            }
            return one(1, 0, 0);
        }
        let buried = self.tenants[t]
            .tombstones
            .iter()
            .any(|b| b.session == id && b.until > now.uptime_ms && Some(b.node.as_str()) == a.node && b.stamp > at);
        if buried {
            return one(0, 0, 1);
        }
        self.listing = true;
        let adopted = self.acquire(now, &Acquire { seq: Some(stamp.seq), existing: true, ..a.clone() });
        self.listing = false;
        let stored = adopted.is_ok() && self.tenants[t].find(&id).is_some();
        one(0, u32::from(stored), u32::from(!stored))
    }

    /// When a session ends by time-out.
    pub fn time_out(t: &Tenant, s: &Session) -> Option<u64> {
        let offline = t.policy.mobile_offline_ms;
        match s.kind {
            Kind::Mobile => (offline > 0).then_some(s.renewed + offline),
            _ if s.restored => None,
            _ => s.ttl_s.map(|ttl| s.renewed + u64::from(ttl) * 1000),
        }
    }

    /// When a session ends because its subscription ended (J6).
    pub fn drain(t: &Tenant, s: &Session) -> Option<u64> {
        let client = s.counts && matches!(s.kind, Kind::Desktop | Kind::Guest);
        t.drain_at.filter(|_| client)
    }

    fn lose_nodes(&mut self, now: u64) {
        let timers = self.plan.timers;
        let lost = |n: &&mut Node| n.seen.is_some_and(|seen| seen + timers.lease_ms <= now);
        let mut names = Vec::new();
        for node in self.nodes.iter_mut().filter(lost) {
            (node.seen, node.greeted) = (None, false);
            names.push(node.name.clone());
        }
        for name in names {
            self.orphan(&name, now + timers.grace_ms, |_| true);
        }
    }
}

impl Machine for Model {
    fn install(&mut self, now: Now, plan: &Plan) {
        let now = now.uptime_ms;
        self.plan = plan.clone();
        let gone = |t: &Tenant| !plan.tenants.iter().any(|p| p.id == t.id);
        let dropped = |t: &&Tenant| gone(t) && t.sessions.is_empty();
        self.lingered += self.tenants.iter().filter(dropped).map(|t| i64::from(t.held())).sum::<i64>();
        self.tenants.retain(|t| !dropped(&t));
        for t in self.tenants.iter_mut().filter(|t| gone(t)) {
            t.set(now, Entitled { standing: Standing::Ended, seats: Some(0) });
        }
        for p in &plan.tenants {
            if self.index(&p.id).is_none() {
                self.tenants.push(Tenant {
                    id: p.id.clone(),
                    standing: Standing::Active,
                    quota: Some(0),
                    policy: p.policy.clone(),
                    reserve: Vec::new(),
                    pool: None,
                    sessions: Vec::new(),
                    seats: Vec::new(),
                    tombstones: Vec::new(),
                    drain_at: None,
                });
            }
            let Some(i) = self.index(&p.id) else { continue };
            let t = &mut self.tenants[i];
            if t.policy.mobile_offline_ms != p.policy.mobile_offline_ms {
                t.sessions.iter_mut().filter(|s| s.kind == Kind::Mobile).for_each(|s| s.renewed = now);
            }
            (t.policy, t.reserve, t.pool) = (p.policy.clone(), p.reserve.clone(), p.pool.clone());
            t.set(now, p.entitled);
        }
    }

    fn entitle(&mut self, now: Now, tenant: &str, entitled: Entitled) -> bool {
        let Some(i) = self.index(tenant) else { return false };
        self.tenants[i].set(now.uptime_ms, entitled);
        true
    }

    fn acquire(&mut self, now: Now, message: &Acquire<'_>) -> Result<Decision, Fault> {
        Model::acquire(self, now, message)
    }

    fn explain(&mut self, now: Now, message: &Acquire<'_>) -> Option<(Code, Detail)> {
        self.clone().decide(now.uptime_ms, message).ok().map(|d| (d.code, d.detail))
    }

    fn release(&mut self, now: Now, message: &Release<'_>) -> Decision {
        Model::release(self, now, message)
    }

    fn hello(&mut self, now: Now, node: &str, epoch: u64) -> Result<NodeReport, NodeFault> {
        let now = now.uptime_ms;
        let full = self.nodes.len() >= self.limits.nodes_max as usize;
        let was_away = self.node(node).is_some_and(|n| !n.greeted);
        match self.node(node).map(|n| n.epoch) {
            None if full => return Err(NodeFault::Limit),
            None => self.nodes.push(Node { name: node.into(), epoch, greeted: true, seen: Some(now) }),
            Some(known) if epoch < known => return Err(NodeFault::StaleEpoch { known }),
            Some(known) => {
                if let Some(n) = self.node(node) {
                    (n.epoch, n.greeted, n.seen) = (epoch, true, Some(now));
                }
                if epoch == known {
                    let sessions = self.tenants.iter_mut().flat_map(|t| &mut t.sessions);
                    let lives_on = |s: &&mut Session| {
                        s.node.as_deref() == Some(node)
                            && s.orphan_until.is_some()
                            && s.ttl_s.is_some()
                            && s.kind != Kind::Mobile
                            && s.epoch.is_none_or(|e| e == epoch)
                    };
                    for s in sessions.filter(|s| was_away && lives_on(s)) {
                        (s.renewed, s.restored, s.orphan_until) = (now, false, None);
                    }
                    return Ok(NodeReport { dropped: 0, orphaned: 0 });
                }
            }
        }
        let before = |s: &Session| s.epoch.is_none_or(|e| e < epoch);
        let calls = |s: &Session| s.node.as_deref() == Some(node) && s.kind == Kind::Call && before(s);
        let dropped = self.tenants.iter_mut().map(|t| t.end_where(calls)).sum();
        let orphaned = self.orphan(node, now + self.plan.timers.grace_ms, before);
        Ok(NodeReport { dropped, orphaned })
    }

    fn heartbeat(&mut self, now: Now, node: &str, epoch: u64) -> Result<(), NodeFault> {
        let full = self.nodes.len() >= self.limits.nodes_max as usize;
        let Some(n) = self.node(node) else {
            if full {
                return Err(NodeFault::Limit);
            }
            self.nodes.push(Node { name: node.into(), epoch, greeted: false, seen: Some(now.uptime_ms) });
            return Err(NodeFault::UnknownEpoch { known: None });
        };
        if n.epoch == epoch {
            n.seen = Some(now.uptime_ms);
        }
        if n.epoch != epoch || !n.greeted {
            return Err(NodeFault::UnknownEpoch { known: Some(n.epoch) });
        }
        Ok(())
    }

    fn goodbye(&mut self, now: Now, node: &str, epoch: u64) -> Result<NodeReport, NodeFault> {
        let n = self.current(node, epoch)?;
        (n.seen, n.greeted) = (None, false);
        let orphaned = self.orphan(node, now.uptime_ms + self.plan.timers.grace_ms, |_| true);
        Ok(NodeReport { dropped: 0, orphaned })
    }

    fn inventory(
        &mut self,
        now: Now,
        node: &str,
        epoch: u64,
        seq: u64,
        sessions: &[Acquire<'_>],
    ) -> Result<InventoryReport, NodeFault> {
        let n = self.current(node, epoch)?;
        (n.seen, n.greeted) = (Some(now.uptime_ms), true);
        let at = Stamp { epoch, seq };
        let mut sum = InventoryReport::default();
        let mut listed: Vec<(usize, Name)> = Vec::new();
        for a in sessions {
            let one = self.list(now, at, &Acquire { node: Some(node), epoch: Some(epoch), ..a.clone() });
            sum.kept += one.kept;
            sum.adopted += one.adopted;
            sum.ignored += one.ignored;
            if let Some((t, prefix)) = self.home(a.tenant) {
                listed.push((t, format!("{prefix}{}", a.session.unwrap_or("")).into()));
            }
        }
        let (life, max) = (self.plan.timers.tombstone_ms, self.limits.tombstones_per_tenant_max);
        for (i, t) in self.tenants.iter_mut().enumerate() {
            let missing = |s: &Session| {
                s.node.as_deref() == Some(node)
                    && s.epoch.is_none_or(|e| e == epoch)
                    && s.kind != Kind::Mobile
                    && !listed.iter().any(|(t, id)| *t == i && *id == s.id)
                    && s.stamp().is_none_or(|stamp| stamp <= at)
            };
            while let Some(j) = t.sessions.iter().position(missing) {
                let (s, _, _) = t.end(j, None);
                t.bury(now.uptime_ms, life, max, &s.id, node, at);
                sum.removed += 1;
            }
        }
        Ok(sum)
    }

    fn end_session(&mut self, now: Now, tenant: &str, session: &str, force: bool) -> EndOutcome {
        let (life, max) = (self.plan.timers.tombstone_ms, self.limits.tombstones_per_tenant_max);
        let Some(t) = self.tenants.iter_mut().find(|t| t.id == tenant) else { return EndOutcome::NotFound };
        let Some(i) = t.find(session) else { return EndOutcome::NotFound };
        if t.sessions[i].kind == Kind::Call && !force {
            return EndOutcome::NeedsForce;
        }
        let (s, _, _) = t.end(i, None);
        if let (Some(stamp), Some(node)) = (s.stamp(), &s.node) {
            t.bury(now.uptime_ms, life, max, &s.id, node, stamp);
        }
        EndOutcome::Done { count: 1 }
    }

    fn end_subject(&mut self, now: Now, tenant: &str, subject: &str, force: bool) -> EndOutcome {
        let Some(i) = self.index(tenant) else { return EndOutcome::NotFound };
        let theirs = self.tenants[i].sessions.iter().filter(|s| s.subject == subject);
        let ids: Vec<(Name, Kind)> = theirs.map(|s| (s.id.clone(), s.kind)).collect();
        if ids.is_empty() {
            return EndOutcome::NotFound;
        }
        if !force && ids.iter().any(|(_, kind)| *kind == Kind::Call) {
            return EndOutcome::NeedsForce;
        }
        for (id, _) in &ids {
            self.end_session(now, tenant, id, true);
        }
        EndOutcome::Done { count: ids.len() as u32 }
    }

    fn expire(&mut self, now: Now) {
        let now = now.uptime_ms;
        self.lose_nodes(now);
        let (life, max) = (self.plan.timers.tombstone_ms, self.limits.tombstones_per_tenant_max);
        for t in &mut self.tenants {
            for i in (0..t.sessions.len()).rev() {
                let s = &t.sessions[i];
                let ttl = Model::time_out(t, s);
                let other = [Model::drain(t, s), s.orphan_until].into_iter().flatten().min();
                let by_ttl = ttl.is_some_and(|at| at <= now && other.is_none_or(|o| at <= o));
                if !by_ttl && other.is_none_or(|at| at > now) {
                    continue;
                }
                let (s, _, _) = t.end(i, None);
                if let (true, Some(stamp), Some(node)) = (by_ttl, s.stamp(), &s.node) {
                    t.bury(now, life, max, &s.id, node, stamp);
                }
            }
            t.drain_at = t.drain_at.filter(|at| *at > now);
            let held = t.seats.len();
            t.seats.retain(|s| s.linger_until.is_none_or(|at| at > now));
            self.lingered += (held - t.seats.len()) as i64;
        }
    }

    fn restart(&mut self, now: Now) {
        let (now, timers) = (now.uptime_ms, self.plan.timers);
        let planned = |t: &Tenant| self.plan.tenants.iter().any(|p| p.id == t.id);
        self.tenants.retain(|t| planned(t) || !t.sessions.is_empty());
        self.lingered = 0;
        for t in &mut self.tenants {
            t.seats.retain(|s| s.linger_until.is_none());
            t.tombstones.retain(|b| b.until > now);
            if !planned(t) {
                (t.policy, t.pool) = (self.plan.unknown.clone(), None);
                t.reserve.clear();
            }
            let reserve = &t.reserve;
            let named = |group: &Name| reserve.iter().any(|(name, _)| name == group);
            t.seats.iter_mut().filter(|s| !named(&s.group)).for_each(|s| s.group = Name::default());
            t.drain_at = (t.standing == Standing::Ended).then_some(now + t.policy.end_drain_ms);
            for s in &mut t.sessions {
                let leased = self.nodes.iter().any(|n| Some(&n.name) == s.node.as_ref());
                let waits = s.kind != Kind::Mobile && (leased || s.ttl_s.is_none());
                (s.renewed, s.restored) = (now, waits);
                s.orphan_until = waits.then_some(now + timers.learning_ms);
            }
        }
        self.nodes.iter_mut().for_each(|n| (n.greeted, n.seen) = (false, Some(now)));
    }

    fn tenant(&self, tenant: &str) -> Option<TenantState> {
        let t = &self.tenants[self.index(tenant)?];
        let inbound = |s: &&Session| s.direction == Some(usherd_engine::session::Direction::Inbound);
        let channels_in = t.sessions.iter().filter(|s| s.external).filter(inbound).count() as u32;
        Some(TenantState {
            standing: t.standing,
            quota: t.quota,
            held: t.held(),
            over: t.quota.map_or(0, |q| t.held().saturating_sub(q)),
            sessions: t.sessions.len() as u32,
            channels_in,
            channels_out: t.channels() - channels_in,
        })
    }

    fn sessions(&self, tenant: &str) -> Vec<SessionState> {
        let Some(i) = self.index(tenant) else { return Vec::new() };
        let mut all: Vec<SessionState> = self.tenants[i]
            .sessions
            .iter()
            .map(|s| SessionState {
                id: s.id.clone(),
                subject: s.subject.clone(),
                kind: s.kind,
                direction: s.direction,
                counts: s.counts,
                node: s.node.clone().unwrap_or_default(),
                epoch: s.epoch,
                seq: s.seq,
                orphan: s.orphan_until.is_some(),
                first: s.first,
                deadline: [Model::time_out(&self.tenants[i], s), s.orphan_until].into_iter().flatten().min(),
            })
            .collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    fn pool(&self, pool: &str) -> Option<PoolState> {
        let licensed = u64::from(self.plan.pools.iter().find(|p| p.id == pool)?.seats);
        let in_use = u64::from(self.pool_in_use(pool));
        let theirs = self.tenants.iter().filter(|t| t.pool.as_deref() == Some(pool));
        let assigned: u64 = theirs.filter_map(|t| t.quota).map(u64::from).sum();
        Some(PoolState {
            licensed,
            unassigned: licensed.saturating_sub(assigned),
            unused: assigned.saturating_sub(in_use),
            in_use,
            over: in_use.saturating_sub(licensed),
        })
    }
}
