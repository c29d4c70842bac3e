//! A scenario as text: one line per step, what is expected behind the arrow.

use std::sync::Arc;

use usherd_engine::plan::{Billing, Entitled, Limits, Plan, Policy, PoolPlan, TenantPlan};
use usherd_engine::session::{Acquire, Class, Decision, Direction, Fault, Kind, Leg, Name, Now, Release, Standing};
use usherd_engine::{EndOutcome, NodeFault};

use super::machine::Machine;

/// One scenario.
pub struct Row {
    /// Its number in the rule book, or a name of our own.
    pub id: &'static str,
    /// The rules it shows.
    pub rules: &'static str,
    /// Its steps; what each word does is in its `World`.
    pub script: &'static str,
}

/// Makes the machine that a scenario is put to.
pub type Make = fn(Limits) -> Box<dyn Machine>;

struct World {
    make: Make,
    machine: Box<dyn Machine>,
    plan: Plan,
    now: Now,
}

/// Runs a scenario; panics with its line where an answer differs.
pub fn check(row: &Row, make: Make) {
    let now = Now { uptime_ms: 1_000_000, utc_ms: 1_780_000_000_000 };
    let mut world = World { make, machine: make(Limits::default()), plan: Plan::default(), now };
    world.plan.tenants.push(tenant_plan("acme", Some(2)));
    world.install();
    for (number, line) in row.script.lines().map(str::trim).enumerate() {
        if line.is_empty() {
            continue;
        }
        let (times, line) = match line.strip_prefix("times ").and_then(|rest| rest.split_once(' ')) {
            Some((times, rest)) => (times.parse().unwrap(), rest),
            None => (1, line),
        };
        for i in 1..=times {
            let line = line.replace('#', &i.to_string());
            let (step, expected) = match line.split_once("->") {
                Some((step, expected)) => (step.trim(), Some(expected.trim())),
                None => (line.as_str(), None),
            };
            let got = world.step(step);
            if let Some(expected) = expected {
                for word in expected.split_whitespace() {
                    let found = got.split_whitespace().any(|w| w == word);
                    assert!(found, "{} line {number}: {line}\n  wanted {word}, got: {got}", row.id);
                }
            }
        }
    }
}

fn tenant_plan(id: &str, seats: Option<u32>) -> TenantPlan {
    let entitled = Entitled { standing: Standing::Active, seats };
    TenantPlan { id: id.into(), entitled, policy: Arc::default(), reserve: Vec::new(), pool: None }
}

fn number(word: &str) -> Option<u32> {
    (word != "unlimited").then(|| word.parse().unwrap_or_else(|_| panic!("not a number: {word}")))
}

fn millis(word: &str) -> u64 {
    match word.strip_suffix("ms") {
        Some(ms) => ms.parse().unwrap(),
        None => word.strip_suffix('s').and_then(|s| s.parse::<u64>().ok()).unwrap() * 1000,
    }
}

/// The words of an answer: code, detail, held (a bare number), `q=`, `first=`, `ttl=`, `retry=`, `sip=`.
fn words(d: &Decision) -> String {
    let quota = d.quota.map_or("unlimited".to_owned(), |q| q.to_string());
    let first = d.first.map_or("none", |c| c.as_str());
    let detail = if d.detail.as_str().is_empty() { "plain" } else { d.detail.as_str() };
    let ttl = d.ttl_ms.map_or("none".to_owned(), |t| t.to_string());
    let Decision { code, held, retry_after_s, sip_code, .. } = d;
    format!("{code} {detail} {held} q={quota} first={first} ttl={ttl} retry={retry_after_s} sip={sip_code}")
}

fn refused(r: NodeFault) -> String {
    match r {
        NodeFault::UnknownEpoch { known: None } => "unknown_epoch known=none".to_owned(),
        NodeFault::UnknownEpoch { known: Some(known) } => format!("unknown_epoch known={known}"),
        NodeFault::StaleEpoch { known } => format!("stale_epoch known={known}"),
        NodeFault::Limit => "limit".to_owned(),
    }
}

fn closed(c: EndOutcome) -> String {
    match c {
        EndOutcome::NotFound => "not_found".to_owned(),
        EndOutcome::NeedsForce => "needs_force".to_owned(),
        EndOutcome::Done { count } => format!("done {count}"),
    }
}

fn set(policy: &mut Policy, assignment: &str) {
    let (key, value) = assignment.split_once('=').unwrap();
    let billing = || if value == "free" { Billing::Free } else { Billing::Count };
    let names = || value.split(',').filter(|w| !w.is_empty()).map(Name::from).collect();
    match key {
        "internal_calls" => policy.internal_calls = billing(),
        "service_calls" => policy.service_calls = billing(),
        "guests" => policy.guests = billing(),
        "connectors" => policy.connectors = billing(),
        "transfer_out" => policy.transfer_out_until_end = value == "charge_until_end",
        "transferred_outbound" => policy.transferred_outbound_follows = value == "follow",
        "never_deny" => policy.never_deny = value.split(',').filter_map(Class::from_word).collect(),
        "emergency_numbers" => policy.emergency_numbers = names(),
        "trunk_prefix" => policy.trunk_prefix = value.into(),
        "mobile_offline" => policy.mobile_offline_ms = millis(value),
        "linger" => policy.seat_linger_ms = millis(value),
        "channels_per_seat" => policy.channels_per_seat = value.parse().unwrap(),
        "channels_extra" => policy.channels_extra = value.parse().unwrap(),
        "channels_enforce" => policy.channels_enforce = value == "true",
        "end_drain" => policy.end_drain_ms = millis(value),
        "retry" => policy.retry_after_s = value.parse().unwrap(),
        "sip" => policy.sip_code = value.parse().unwrap(),
        _ => panic!("no such key: {key}"),
    }
}

/// `@node:epoch:seq`, each part but the node optional.
fn origin(word: &str) -> (&str, Option<u64>, Option<u64>) {
    let mut parts = word.split(':');
    let number = |parts: &mut std::str::Split<'_, char>| parts.next().map(|n| n.parse().unwrap());
    (parts.next().unwrap(), number(&mut parts), number(&mut parts))
}

fn parse_acquire<'a>(kind: &str, args: &[&'a str]) -> Acquire<'a> {
    let (kind, direction) = match kind {
        "out" => (Kind::Call, Some(Direction::Outbound)),
        "int" => (Kind::Call, Some(Direction::Internal)),
        "in" => (Kind::Call, Some(Direction::Inbound)),
        other => (Kind::from_word(other).unwrap_or_else(|| panic!("no such step: {other}")), None),
    };
    let mut a = Acquire::new("acme", args[1], args[0], kind);
    (a.direction, a.ttl_s) = (direction, (kind != Kind::Mobile).then_some(86_400));
    a.subject = a.subject.filter(|s| *s != "-");
    a.session = a.session.filter(|s| *s != "-");
    let mut ttl = None;
    for word in &args[2..] {
        if let Some(from) = word.strip_prefix('@') {
            let (node, epoch, seq) = origin(from);
            (a.node, a.epoch, a.seq, a.ttl_s) = (Some(node), epoch, seq, None);
            continue;
        }
        match word.split_once('=') {
            Some(("t", tenant)) => a.tenant = tenant,
            Some(("ttl", value)) => ttl = Some(value.parse().ok()),
            Some(("leg", leg)) => a.leg = Leg::from_word(leg).unwrap(),
            Some(("class", class)) => a.class = Class::from_word(class),
            Some(("to", to)) => a.to = Some(to),
            Some(("group", group)) => a.group = Some(group),
            Some(("external", value)) => a.external = Some(value == "true"),
            _ if *word == "existing" => a.existing = true,
            _ if *word == "emergency" => a.emergency = true,
            _ => panic!("no such word: {word}"),
        }
    }
    a.ttl_s = ttl.unwrap_or(a.ttl_s);
    a
}

impl World {
    fn install(&mut self) {
        self.machine.install(self.now, &self.plan);
    }

    fn tenant_mut(&mut self, id: &str) -> &mut TenantPlan {
        self.plan.tenants.iter_mut().find(|t| t.id == id).unwrap_or_else(|| panic!("no tenant {id}"))
    }

    fn advance(&mut self, ms: u64) {
        self.now.uptime_ms += ms;
        self.now.utc_ms += ms as i64;
    }

    /// One step: the plan, the clock, a look, or a message.
    fn step(&mut self, step: &str) -> String {
        let mut args: Vec<&str> = step.split_whitespace().collect();
        let verb = args.remove(0);
        let tenant = args.iter().find_map(|w| w.strip_prefix("t=")).unwrap_or("acme");
        if self.plan_step(verb, &args, tenant) {
            self.install();
            return String::new();
        }
        let now = self.now;
        let epoch = |i: usize| args[i].parse::<u64>().unwrap();
        match verb {
            "after" | "clock" => {
                self.advance(millis(args[0]));
                if verb == "after" {
                    self.machine.expire(self.now);
                }
            }
            "wall" => self.now.utc_ms += args[0].parse::<i64>().unwrap() * 1000,
            "restart" => self.machine.restart(now),
            "entitle" | "standing" => {
                let mut entitled = self.tenant_mut(tenant).entitled;
                if verb == "entitle" {
                    entitled.seats = number(args[0]);
                } else {
                    entitled.standing = Standing::ALL.iter().copied().find(|s| s.as_str() == args[0]).unwrap();
                }
                self.tenant_mut(tenant).entitled = entitled;
                assert!(self.machine.entitle(now, tenant, entitled));
            }
            "release" => return self.release(&args, tenant),
            "hello" | "goodbye" => {
                let moved = if verb == "hello" {
                    self.machine.hello(now, args[0], epoch(1))
                } else {
                    self.machine.goodbye(now, args[0], epoch(1))
                };
                return moved.map_or_else(refused, |m| format!("ok dropped={} orphaned={}", m.dropped, m.orphaned));
            }
            "heartbeat" => {
                return self.machine.heartbeat(now, args[0], epoch(1)).map_or_else(refused, |()| "ok".into());
            }
            "inventory" => return self.inventory(&args, tenant),
            "end" => return closed(self.machine.end_session(now, tenant, args[0], args.contains(&"force"))),
            "end-subject" => return closed(self.machine.end_subject(now, tenant, args[0], args.contains(&"force"))),
            "see" => return self.look(&args, tenant),
            "see-pool" => return self.pool(args[0]),
            kind => return self.acquire(&parse_acquire(kind, &args)),
        }
        String::new()
    }

    /// Steps that change the configuration.
    fn plan_step(&mut self, verb: &str, args: &[&str], tenant: &str) -> bool {
        match verb {
            "quota" => self.tenant_mut(tenant).entitled.seats = number(args[0]),
            "tenant" => self.plan.tenants.push(tenant_plan(args[0], number(args[1]))),
            "drop" => self.plan.tenants.retain(|t| t.id != args[0]),
            "pool" => {
                self.plan.pools.retain(|p| p.id != args[0]);
                self.plan.pools.push(PoolPlan { id: args[0].into(), seats: args[1].parse().unwrap() });
            }
            "join" => self.tenant_mut(tenant).pool = Some(args[0].into()),
            "leave" => self.tenant_mut(tenant).pool = None,
            "default" => self.plan.default_tenant = Some(args[0].into()),
            "reserve" => {
                let groups = args.iter().filter(|w| !w.starts_with("t=")).map(|w| w.split_once('=').unwrap());
                let reserve = groups.map(|(group, seats)| (group.into(), seats.parse().unwrap())).collect();
                self.tenant_mut(tenant).reserve = reserve;
            }
            "policy" => {
                let mut policy = (*self.tenant_mut(tenant).policy).clone();
                args.iter().filter(|w| !w.starts_with("t=")).for_each(|w| set(&mut policy, w));
                self.tenant_mut(tenant).policy = Arc::new(policy);
            }
            "unknown" => {
                let mut policy = (*self.plan.unknown).clone();
                args.iter().for_each(|w| set(&mut policy, w));
                self.plan.unknown = Arc::new(policy);
            }
            "limits" => {
                let mut limits = Limits::default();
                for (key, value) in args.iter().map(|w| w.split_once('=').unwrap()) {
                    *match key {
                        "sessions" => &mut limits.sessions_max,
                        "per_tenant" => &mut limits.sessions_per_tenant_max,
                        "tombstones" => &mut limits.tombstones_per_tenant_max,
                        _ => &mut limits.nodes_max,
                    } = value.parse().unwrap();
                }
                self.machine = (self.make)(limits);
            }
            _ => return false,
        }
        true
    }

    /// Explains first: the same answer, and nothing has changed by it.
    fn acquire(&mut self, a: &Acquire<'_>) -> String {
        let explained = self.machine.explain(self.now, a);
        let answer = self.machine.acquire(self.now, a);
        let decided = answer.as_ref().ok().map(|d| (d.code, d.detail));
        assert!(decided.is_none() || explained == decided, "explain: {explained:?}, acquire: {decided:?} for {a:?}");
        match answer {
            Ok(decision) => words(&decision),
            Err(Fault { field, .. }) => format!("fault {field}"),
        }
    }

    fn release(&mut self, args: &[&str], tenant: &str) -> String {
        let mut r = Release::new(tenant, args[0]);
        r.transferred = args.contains(&"transferred");
        if let Some(from) = args.iter().find_map(|w| w.strip_prefix('@')) {
            let (node, epoch, seq) = origin(from);
            (r.node, r.epoch, r.seq) = (Some(node), epoch, seq);
        }
        words(&self.machine.release(self.now, &r))
    }

    /// `inventory node epoch seq kind/session/subject[/seq] …`
    fn inventory(&mut self, args: &[&str], tenant: &str) -> String {
        let entry = |word: &&'_ str| -> bool { word.contains('/') };
        let list: Vec<Vec<&str>> = args.iter().filter(|w| entry(w)).map(|w| w.split('/').collect()).collect();
        let mut sessions = Vec::new();
        for parts in &list {
            let mut a = parse_acquire(parts[0], &[parts[1], parts[2]]);
            (a.tenant, a.ttl_s) = (tenant, None);
            a.seq = parts.get(3).map(|seq| seq.parse().unwrap());
            sessions.push(a);
        }
        let (epoch, seq) = (args[1].parse().unwrap(), args[2].parse().unwrap());
        match self.machine.inventory(self.now, args[0], epoch, seq, &sessions) {
            Ok(l) => {
                format!("kept={} adopted={} removed={} ignored={}", l.kept, l.adopted, l.removed, l.ignored)
            }
            Err(why) => refused(why),
        }
    }

    fn pool(&self, pool: &str) -> String {
        let Some(p) = self.machine.pool(pool) else { return "unknown".to_owned() };
        format!(
            "licensed={} unassigned={} unused={} in_use={} over={}",
            p.licensed, p.unassigned, p.unused, p.in_use, p.over
        )
    }

    /// `see` the tenant's figures, or `see SESSION`.
    fn look(&self, args: &[&str], tenant: &str) -> String {
        let session = args.first().filter(|w| !w.starts_with("t="));
        if let Some(id) = session {
            let all = self.machine.sessions(tenant);
            let Some(s) = all.iter().find(|s| s.id == *id) else { return "gone".to_owned() };
            let state = if s.orphan { "orphan" } else { "live" };
            let counts = if s.counts { "counts" } else { "free" };
            let node = if s.node.is_empty() { "-" } else { s.node.as_str() };
            let seq = s.seq.map_or("none".to_owned(), |seq| seq.to_string());
            return format!("{state} {counts} subject={} node={node} seq={seq} first={}", s.subject, s.first);
        }
        let Some(t) = self.machine.tenant(tenant) else { return "unknown".to_owned() };
        let quota = t.quota.map_or("unlimited".to_owned(), |q| q.to_string());
        format!(
            "{} held={} over={} sessions={} in={} out={} q={quota}",
            t.standing, t.held, t.over, t.sessions, t.channels_in, t.channels_out
        )
    }
}
