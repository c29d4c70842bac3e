//! Puts one step to the engine and to the model, and compares everything that can be seen of both.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use usherd_engine::plan::{Entitled, Limits};
use usherd_engine::session::{Code, Decision, Direction, Fault, Kind, Now};
use usherd_engine::{EndOutcome, InventoryReport, NodeFault, NodeReport};
use usherd_testkit::rules::machine::{Machine, TenantState};
use usherd_testkit::rules::model::Model;
use usherd_testkit::rules::real::Real;

use crate::op::{Config, NODES, Op, SESSIONS, SUBJECTS, TENANTS};
use crate::workload::ends;

/// The answer to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Silence,
    Decided(Decision),
    Faulty(&'static str),
    Moved(Result<NodeReport, NodeFault>),
    Beat(Result<(), NodeFault>),
    Listed(Result<InventoryReport, NodeFault>),
    Closed(EndOutcome),
}

fn decided(answer: Result<Decision, Fault>) -> Outcome {
    match answer {
        // Both speak of denials only; elsewhere they are nobody's business.
        Ok(d) if !d.code.denies() => Outcome::Decided(Decision { retry_after_s: 0, sip_code: 0, ..d }),
        Ok(d) => Outcome::Decided(d),
        Err(fault) => Outcome::Faulty(fault.field),
    }
}

pub(crate) fn apply(machine: &mut dyn Machine, now: Now, op: &Op) -> Outcome {
    match op {
        Op::Acquire(ask) => decided(machine.acquire(now, &ask.message())),
        Op::Release(give) => decided(Ok(machine.release(now, &give.message()))),
        Op::Hello { node, epoch } => Outcome::Moved(machine.hello(now, NODES[*node], *epoch)),
        Op::Heartbeat { node, epoch } => Outcome::Beat(machine.heartbeat(now, NODES[*node], *epoch)),
        Op::Goodbye { node, epoch } => Outcome::Moved(machine.goodbye(now, NODES[*node], *epoch)),
        Op::Inventory { node, epoch, seq, list } => {
            let messages: Vec<_> = list.iter().map(crate::op::Ask::message).collect();
            Outcome::Listed(machine.inventory(now, NODES[*node], *epoch, *seq, &messages))
        }
        Op::EndSession { tenant, session, force } => {
            Outcome::Closed(machine.end_session(now, TENANTS[*tenant], SESSIONS[*session], *force))
        }
        Op::EndSubject { tenant, subject, force } => {
            Outcome::Closed(machine.end_subject(now, TENANTS[*tenant], SUBJECTS[*subject], *force))
        }
        Op::Entitle { tenant, standing, seats } => {
            machine.entitle(now, TENANTS[*tenant], Entitled { standing: *standing, seats: *seats });
            Outcome::Silence
        }
        Op::Install(config) => {
            machine.install(now, &config.plan());
            Outcome::Silence
        }
        Op::Expire => {
            machine.expire(now);
            Outcome::Silence
        }
        Op::Restart => {
            machine.restart(now);
            Outcome::Silence
        }
        Op::Advance { .. } | Op::Jump { .. } => Outcome::Silence,
    }
}

/// True if a step can change a tenant's sessions; the others are looked at less often.
fn touches(op: &Op, name: &str) -> bool {
    // What is not configured may draw from the default tenant.
    let of = |tenant: usize| TENANTS[tenant] == name || TENANTS[3] == name;
    match op {
        Op::Acquire(ask) => of(ask.tenant),
        Op::Release(give) => of(give.tenant),
        Op::EndSession { tenant, .. } | Op::EndSubject { tenant, .. } | Op::Entitle { tenant, .. } => of(*tenant),
        Op::Advance { .. } | Op::Jump { .. } | Op::Heartbeat { .. } => false,
        _ => true,
    }
}

/// Engine and model side by side.
pub(crate) struct Pair {
    pub(crate) real: Real,
    pub(crate) model: Model,
    pub(crate) now: Now,
    last: VecDeque<(u64, Op, Outcome)>,
    over: BTreeMap<&'static str, u32>,
    steps: u64,
    seat_ms: BTreeMap<&'static str, u64>,
    history: bool,
}

impl Pair {
    pub(crate) fn new(limits: Limits, config: Config) -> Self {
        let mut pair = Pair {
            real: Real::new(limits),
            model: Model::new(limits),
            now: Now { uptime_ms: 50_000, utc_ms: 1_780_000_000_000 },
            last: VecDeque::new(),
            over: BTreeMap::new(),
            steps: 0,
            seat_ms: BTreeMap::new(),
            history: std::env::var_os("SEED").is_some(),
        };
        pair.step(&Op::Install(config));
        pair
    }

    /// One step of both.
    ///
    /// # Panics
    /// Where they differ, or where an invariant does not hold.
    pub(crate) fn step(&mut self, op: &Op) {
        self.steps += 1;
        match op {
            Op::Advance { ms } => self.advance(*ms),
            Op::Jump { ms } => self.now.utc_ms += ms,
            _ => {}
        }
        let explained = match op {
            Op::Acquire(ask) if self.steps.is_multiple_of(5) => self.real.explain(self.now, &ask.message()),
            _ => None,
        };
        let expected = apply(&mut self.model, self.now, op);
        let got = apply(&mut self.real, self.now, op);
        self.remember(op, &got);
        assert_eq!(got, expected, "the engine (left) answers otherwise than the model");
        if let (Some(explained), Outcome::Decided(d)) = (explained, &got) {
            assert_eq!(explained, (d.code, d.detail), "explain (left) says something else than acquire");
        }
        if matches!(op, Op::Restart) {
            self.learn();
            self.seat_ms.clear();
        }
        self.compare(op, &got);
    }

    fn advance(&mut self, ms: u64) {
        self.now.uptime_ms += ms;
        self.now.utc_ms += ms as i64;
        for tenant in TENANTS {
            if let Some(t) = self.model.tenant(tenant) {
                *self.seat_ms.entry(tenant).or_default() += u64::from(t.held) * ms;
            }
        }
    }

    fn remember(&mut self, op: &Op, got: &Outcome) {
        if self.history {
            println!("{:>7} {op:?} -> {got:?}", self.now.uptime_ms);
            return;
        }
        if self.last.len() == 30 {
            self.last.pop_front();
        }
        self.last.push_back((self.now.uptime_ms, op.clone(), got.clone()));
    }

    /// After a restart the engine spreads the learning time over a quarter more (I15); the model follows.
    fn learn(&mut self) {
        let learning = self.model.plan.timers.learning_ms;
        let earliest = self.now.uptime_ms + learning;
        for t in &mut self.model.tenants {
            let seen = self.real.sessions(&t.id);
            for s in &mut t.sessions {
                // Renewals that change nothing else are not written: the number is the journal's.
                let record = &self.real.journal.live[&(t.id.clone(), s.id.clone())];
                (s.epoch, s.seq) = (record.epoch, record.seq);
            }
            for s in t.sessions.iter_mut().filter(|s| s.orphan_until.is_some()) {
                let Some(real) = seen.iter().find(|r| r.id == s.id) else { continue };
                let window = earliest..=earliest + learning / 4;
                assert!(real.deadline.is_some_and(|at| window.contains(&at)), "{} waits otherwise", s.id);
                s.orphan_until = real.deadline;
            }
        }
    }

    fn compare(&mut self, op: &Op, got: &Outcome) {
        for tenant in TENANTS {
            let real = self.real.tenant(tenant);
            let model = self.model.tenant(tenant);
            assert_eq!(real, model, "{tenant}: the engine (left) looks otherwise than the model");
            let Some(state) = real else {
                self.over.remove(tenant);
                self.seat_ms.remove(tenant);
                continue;
            };
            if !self.steps.is_multiple_of(16) && !touches(op, tenant) {
                continue;
            }
            let sessions = self.real.sessions(tenant);
            let expected = self.model.sessions(tenant);
            assert_eq!(sessions, expected, "{tenant}: the engine (left) holds other sessions than the model");
            self.invariants(tenant, &state, &sessions, op, got);
        }
        assert_eq!(self.real.pool("provider"), self.model.pool("provider"), "F8: the pool");
        let due = ends(&self.model).into_iter().min();
        if let (Some(due), next) = (due, self.real.engine.next_deadline()) {
            assert!(next.is_some_and(|next| next <= due), "due at {due}, but the engine would sleep until {next:?}");
        }
        if self.steps.is_multiple_of(32) || matches!(op, Op::Restart) {
            self.compare_journal();
        }
    }

    /// The invariants of the engine alone (rule book 12, RELIABILITY I1-I5).
    fn invariants(
        &mut self,
        tenant: &'static str,
        state: &TenantState,
        sessions: &[usherd_testkit::rules::machine::SessionState],
        op: &Op,
        got: &Outcome,
    ) {
        let claimants: BTreeSet<_> = sessions.iter().filter(|s| s.counts).map(|s| &s.subject).collect();
        let model = self.model.tenants.iter().find(|t| t.id == tenant);
        let lingering = model.map_or(0, |t| t.seats.iter().filter(|s| s.linger_until.is_some()).count());
        assert_eq!(state.held as usize, claimants.len() + lingering, "V1: {tenant}");
        assert_eq!(state.sessions as usize, sessions.len(), "V14: {tenant}");
        let grew = state.over > self.over.insert(tenant, state.over).unwrap_or(0);
        let may = match (op, got) {
            (Op::Entitle { .. } | Op::Install(_) | Op::Inventory { .. } | Op::Restart, _) => true,
            (_, Outcome::Decided(d)) => d.code == Code::AllowOver,
            _ => false,
        };
        assert!(!grew || may, "V10: the excess of {tenant} grew");
        if let (Op::Acquire(ask), Outcome::Decided(d)) = (op, got) {
            let called = ask.kind == Kind::Call && ask.direction == Some(Direction::Inbound);
            assert!(!d.code.denies() || !(called || ask.emergency), "V3");
        }
        if let (Op::Acquire(ask), Outcome::Decided(d)) = (op, got)
            && d.code == Code::AllowNew
            && TENANTS[ask.tenant] == tenant
        {
            assert!(state.quota.is_none_or(|q| state.held <= q), "V2: {tenant}");
        }
    }

    fn compare_journal(&self) {
        let mut held = 0;
        let mut live = 0;
        for tenant in TENANTS {
            let Some(state) = self.real.tenant(tenant) else { continue };
            let view = self.real.engine.tenant(self.now, tenant);
            let seat_ms = view.and_then(|v| v.seat_ms);
            assert_eq!(seat_ms, Some(self.seat_ms.get(tenant).copied().unwrap_or(0)), "{tenant}: seat time");
            held += i64::from(state.held);
            for s in self.real.sessions(tenant) {
                let record = self.real.journal.live.get(&(tenant.into(), s.id.clone()));
                let told = record.map(|r| (&r.subject, r.kind, r.counts, &r.node, r.first));
                let holds = Some((&s.subject, s.kind, s.counts, &s.node, s.first));
                assert_eq!(told, holds, "{tenant}/{}: the journal (left) knows it otherwise", s.id);
                live += 1;
            }
        }
        assert_eq!(self.real.journal.live.len(), live, "the journal holds what the engine does not");
        let lingering = self.model.lingered;
        assert_eq!(self.real.journal.seats - lingering, held, "I5: grants less frees are what is held");
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.last.iter().for_each(|(at, op, got)| eprintln!("{at:>7} {op:?} -> {got:?}"));
        }
    }
}
