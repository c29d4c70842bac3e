//! The next step: seeded, mostly sensible, often late, twice, lost or out of order.

use fastrand::Rng;
use usherd_engine::plan::Entitled;
use usherd_engine::session::{Class, Direction, Kind, Leg, Standing};
use usherd_testkit::rules::model::{Model, Session};

use crate::op::{Ask, Config, Give, NODES, Op, SESSIONS, SUBJECTS, TENANTS, TIMERS};

/// The senders: where each node stands, and what is still on its way.
#[derive(Clone, Debug)]
pub(crate) struct Senders {
    epochs: [u64; 3],
    seqs: [u64; 3],
    bag: Vec<Op>,
    config: Config,
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn chance(rng: &mut Rng, percent: u8) -> bool {
    rng.u8(..100) < percent
}

fn maybe<T>(rng: &mut Rng, percent: u8, value: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    chance(rng, percent).then(|| value(rng))
}

fn seats(rng: &mut Rng) -> Option<u32> {
    if chance(rng, 5) { None } else { Some(rng.u32(..5)) }
}

fn standing(rng: &mut Rng) -> Standing {
    if chance(rng, 70) { Standing::Active } else { pick(rng, Standing::ALL) }
}

/// A first or a changed configuration.
pub(crate) fn config(rng: &mut Rng, last: Option<Config>) -> Config {
    let mut entitled = |percent| maybe(rng, percent, |rng| Entitled { standing: standing(rng), seats: seats(rng) });
    let tenants = [entitled(95), entitled(95), entitled(95), entitled(95)];
    let mut config = Config {
        tenants,
        pooled: [chance(rng, 80), chance(rng, 80), chance(rng, 80)],
        pool_seats: rng.u32(..7),
        default_tenant: chance(rng, 30),
        reserve: [(0, 0); 4],
        keys: rng.u16(..) & rng.u16(..),
        linger_ms: if chance(rng, 30) { 300 } else { 0 },
    };
    for reserve in &mut config.reserve {
        if chance(rng, 30) {
            *reserve = (rng.u32(..3), rng.u32(..2));
        }
    }
    match last {
        // Often only the quotas change.
        Some(last) if chance(rng, 60) => Config { tenants: config.tenants, pool_seats: config.pool_seats, ..last },
        _ => config,
    }
}

impl Senders {
    pub(crate) fn new(config: Config) -> Self {
        Senders { epochs: [1; 3], seqs: [0; 3], bag: Vec::new(), config }
    }

    /// The next step. It looks at the model only to hit what is there: a deadline, a live session.
    pub(crate) fn next(&mut self, rng: &mut Rng, model: &Model, now: u64) -> Op {
        if !self.bag.is_empty() && chance(rng, 12) {
            let i = rng.usize(..self.bag.len());
            return if chance(rng, 40) { self.bag[i].clone() } else { self.bag.swap_remove(i) };
        }
        let op = self.fresh(rng, model, now);
        let message =
            !matches!(op, Op::Advance { .. } | Op::Expire | Op::Install(_) | Op::Restart | Op::Entitle { .. });
        if message && self.bag.len() < 24 && chance(rng, 15) {
            self.bag.push(op.clone());
            if chance(rng, 50) {
                return Op::Expire;
            }
        }
        op
    }

    /// Follows a step that was chosen elsewhere: epochs and numbers go on, and it may come again late.
    pub(crate) fn saw(&mut self, op: &Op) {
        let (node, epoch, seq) = match op {
            Op::Acquire(ask) => (ask.node, ask.epoch, ask.seq),
            Op::Release(give) => (give.node, give.epoch, give.seq),
            Op::Hello { node, epoch } => (Some(*node), Some(*epoch), None),
            Op::Inventory { node, epoch, seq, .. } => (Some(*node), Some(*epoch), Some(*seq)),
            Op::Install(config) => {
                self.config = *config;
                return;
            }
            Op::Entitle { tenant, standing, seats } => {
                self.config.tenants[*tenant] = Some(Entitled { standing: *standing, seats: *seats });
                return;
            }
            _ => return,
        };
        if let (Some(node), Some(epoch)) = (node, epoch) {
            if epoch > self.epochs[node] {
                (self.epochs[node], self.seqs[node]) = (epoch, 0);
            }
            self.seqs[node] = self.seqs[node].max(seq.unwrap_or(0));
        }
        if self.bag.len() < 8 {
            self.bag.push(op.clone());
        }
    }

    fn fresh(&mut self, rng: &mut Rng, model: &Model, now: u64) -> Op {
        let node = rng.usize(..NODES.len());
        let epoch = self.epoch(rng, node);
        match rng.u32(..1000) {
            0..=449 => Op::Acquire(self.ask(rng)),
            450..=469 => self.again(rng, model).map_or(Op::Expire, Op::Acquire),
            470..=699 => Op::Release(self.give(rng, model)),
            700..=769 => Op::Advance { ms: self.step(rng, model, now) },
            770..=834 => Op::Expire,
            835..=864 => self.hello(rng, node),
            865..=899 => Op::Heartbeat { node, epoch },
            900..=907 => Op::Goodbye { node, epoch },
            908..=929 => self.inventory(rng, model, node, epoch),
            930..=934 => {
                let (tenant, session) = (rng.usize(..TENANTS.len()), rng.usize(..SESSIONS.len()));
                Op::EndSession { tenant, session, force: rng.bool() }
            }
            935..=938 => {
                let (tenant, subject) = (rng.usize(..TENANTS.len()), rng.usize(..SUBJECTS.len()));
                Op::EndSubject { tenant, subject, force: rng.bool() }
            }
            939..=973 => self.entitle(rng),
            974..=989 => {
                self.config = config(rng, Some(self.config));
                Op::Install(self.config)
            }
            990..=997 => Op::Jump { ms: rng.i64(-4_000_000_000..4_000_000_000) },
            _ => Op::Restart,
        }
    }

    fn entitle(&mut self, rng: &mut Rng) -> Op {
        let tenant = rng.usize(..4);
        let (standing, seats) = (standing(rng), seats(rng));
        if self.config.tenants[tenant].is_none() {
            return Op::Expire;
        }
        self.config.tenants[tenant] = Some(Entitled { standing, seats });
        Op::Entitle { tenant, standing, seats }
    }

    fn hello(&mut self, rng: &mut Rng, node: usize) -> Op {
        let epoch = match rng.u8(..10) {
            0..=4 => self.epochs[node],
            5 => self.epochs[node].saturating_sub(1),
            _ => {
                self.epochs[node] += rng.u64(1..3);
                self.seqs[node] = 0;
                self.epochs[node]
            }
        };
        Op::Hello { node, epoch }
    }

    fn epoch(&self, rng: &mut Rng, node: usize) -> u64 {
        match rng.u8(..20) {
            0 => self.epochs[node].saturating_sub(1),
            1 => self.epochs[node] + 1,
            _ => self.epochs[node],
        }
    }

    fn seq(&mut self, rng: &mut Rng, node: usize) -> u64 {
        self.seqs[node] += rng.u64(1..3);
        match rng.u8(..10) {
            0 => rng.u64(..self.seqs[node] + 1),
            1 => self.seqs[node].saturating_sub(1),
            _ => self.seqs[node],
        }
    }

    /// Node, epoch and seq of a message.
    fn origin(&mut self, rng: &mut Rng) -> (Option<usize>, Option<u64>, Option<u64>) {
        if chance(rng, 12) {
            return (None, None, None);
        }
        let node = rng.usize(..NODES.len());
        match rng.u8(..20) {
            0 => (Some(node), None, None),
            1 => (Some(node), Some(self.epoch(rng, node)), None),
            _ => (Some(node), Some(self.epoch(rng, node)), Some(self.seq(rng, node))),
        }
    }

    fn ask(&mut self, rng: &mut Rng) -> Ask {
        let kind = match rng.u8(..10) {
            0..=4 => Kind::Call,
            5..=6 => Kind::Desktop,
            7 => Kind::Mobile,
            _ => pick(rng, Kind::ALL),
        };
        let direction = if kind == Kind::Call || chance(rng, 5) { Some(pick(rng, Direction::ALL)) } else { None };
        let plain = [Leg::Originate; 6];
        let leg = if chance(rng, 30) { pick(rng, Leg::ALL) } else { pick(rng, &plain) };
        let (node, epoch, seq) = self.origin(rng);
        let ttl_percent = if node.is_none() { 90 } else { 30 };
        Ask {
            tenant: if chance(rng, 5) { 4 } else { rng.usize(..4) },
            subject: rng.usize(..SUBJECTS.len()),
            session: rng.usize(..SESSIONS.len()),
            kind,
            direction,
            leg,
            class: maybe(rng, 12, |rng| pick(rng, Class::ALL)),
            to: maybe(rng, 6, |rng| pick(rng, &["112", "0112", "110", "123", "0", ""])),
            emergency: chance(rng, 2),
            external: maybe(rng, 20, Rng::bool),
            group: maybe(rng, 25, |rng| rng.usize(..3)),
            node,
            epoch,
            seq,
            ttl_s: maybe(rng, ttl_percent, |rng| rng.u32(1..4)),
            existing: chance(rng, 10),
        }
    }

    /// A renewal of something that lives, through its own node.
    fn again(&mut self, rng: &mut Rng, model: &Model) -> Option<Ask> {
        let (tenant, session) = live(rng, model, |_| true)?;
        let mut ask = self.ask(rng);
        (ask.tenant, ask.session, ask.kind, ask.direction) =
            (tenant, index(&SESSIONS, &session.id)?, session.kind, session.direction);
        ask.subject = index(&SUBJECTS, &session.subject)?;
        ask.node = session.node.as_ref().and_then(|n| index(&NODES, n));
        (ask.epoch, ask.seq) = match ask.node {
            Some(node) => (Some(self.epoch(rng, node)), Some(self.seq(rng, node))),
            None => (None, None),
        };
        Some(ask)
    }

    fn give(&mut self, rng: &mut Rng, model: &Model) -> Give {
        let (node, epoch, seq) = self.origin(rng);
        let tenant = if chance(rng, 5) { 4 } else { rng.usize(..4) };
        let session = rng.usize(..SESSIONS.len());
        let mut give = Give { tenant, session, node, epoch, seq, transferred: chance(rng, 15) };
        if chance(rng, 60)
            && let Some((tenant, session)) = live(rng, model, |_| true)
            && let Some(id) = index(&SESSIONS, &session.id)
        {
            (give.tenant, give.session) = (tenant, id);
            give.node = session.node.as_ref().and_then(|n| index(&NODES, n));
            (give.epoch, give.seq) = match give.node {
                Some(node) => (Some(self.epoch(rng, node)), Some(self.seq(rng, node))),
                None => (None, None),
            };
        }
        give
    }

    fn inventory(&mut self, rng: &mut Rng, model: &Model, node: usize, epoch: u64) -> Op {
        let seq = self.seq(rng, node);
        let mut list = Vec::new();
        for _ in 0..rng.u8(..6) {
            let theirs = |s: &Session| s.node.as_deref() == Some(NODES[node]);
            let mut ask = self.ask(rng);
            if chance(rng, 70)
                && let Some((tenant, session)) = live(rng, model, theirs)
                && let (Some(id), Some(subject)) = (index(&SESSIONS, &session.id), index(&SUBJECTS, &session.subject))
            {
                (ask.tenant, ask.session, ask.subject) = (tenant, id, subject);
                (ask.kind, ask.direction) = (session.kind, session.direction);
            }
            ask.seq = maybe(rng, 70, |rng| rng.u64(..self.seqs[node] + 2));
            list.push(ask);
        }
        Op::Inventory { node, epoch, seq, list }
    }

    /// How far the clock goes: a little, or right to, before or behind the next thing due.
    fn step(&self, rng: &mut Rng, model: &Model, now: u64) -> u64 {
        if chance(rng, 40) {
            return rng.u64(..TIMERS.lease_ms / 2);
        }
        let mut due = ends(model);
        due.extend(model.tenants.iter().flat_map(|t| &t.tombstones).map(|b| b.until));
        due.retain(|at| *at >= now);
        if due.is_empty() || chance(rng, 3) {
            return rng.u64(..5_000);
        }
        let soon = if chance(rng, 80) { due.iter().copied().min().unwrap_or(now) } else { pick(rng, &due) };
        (soon + rng.u64(..3)).saturating_sub(1).saturating_sub(now)
    }
}

fn index(names: &[&str], name: &str) -> Option<usize> {
    names.iter().position(|n| *n == name)
}

/// Any live session of a configured tenant.
fn live<'m>(rng: &mut Rng, model: &'m Model, which: impl Fn(&Session) -> bool) -> Option<(usize, &'m Session)> {
    let all = model.tenants.iter().flat_map(|t| t.sessions.iter().map(move |s| (t, s)));
    let fitting: Vec<_> = all.filter(|(_, s)| which(s)).collect();
    let (tenant, session) = *fitting.get(rng.usize(..fitting.len().max(1)))?;
    Some((index(&TENANTS, &tenant.id)?, session))
}

/// Every instant at which a session, a seat or a lease ends by itself.
pub(crate) fn ends(model: &Model) -> Vec<u64> {
    let mut due: Vec<u64> = model.nodes.iter().filter_map(|n| n.seen).map(|seen| seen + TIMERS.lease_ms).collect();
    for t in &model.tenants {
        due.extend(t.seats.iter().filter_map(|s| s.linger_until));
        for s in &t.sessions {
            due.extend([Model::time_out(t, s), Model::drain(t, s), s.orphan_until].into_iter().flatten());
        }
    }
    due
}
