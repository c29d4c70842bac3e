//! A PBX node that asks until the daemon dies, and remembers what it was told and what it waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use serde_json::{Value, json};
use usherd_testkit::http::{Answer, Client};

const SESSIONS: usize = 60;
/// Few, so that subjects have several claims, also of other callers.
const SUBJECTS: usize = 40;

/// The state of a session that the daemon acknowledged last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Known {
    /// It was let in: tenant, subject, and whether it needs a seat; by this message.
    Live { tenant: &'static str, subject: String, counts: bool, message: Value },
    /// It was released after having been let in by the first message, by the second.
    Gone { tenant: &'static str, acquire: Value, release: Value },
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Acquire { session: String, tenant: &'static str, subject: String, counts: bool, message: Value },
    Release { session: String, tenant: &'static str, message: Value },
}

impl Op {
    pub(crate) fn session(&self) -> &str {
        match self {
            Op::Acquire { session, .. } | Op::Release { session, .. } => session,
        }
    }

    /// The state of its session once it was let in, or released.
    fn outcome(&self, known: &BTreeMap<String, Known>) -> (String, Option<Known>) {
        let session = self.session().to_owned();
        let after = match (self, known.get(&session)) {
            (Op::Acquire { tenant, subject, counts, message, .. }, _) => {
                let (subject, message) = (subject.clone(), message.clone());
                Some(Known::Live { tenant, subject, counts: *counts, message })
            }
            (Op::Release { tenant, message, .. }, Some(Known::Live { message: acquire, .. })) => {
                Some(Known::Gone { tenant, acquire: acquire.clone(), release: message.clone() })
            }
            (Op::Release { .. }, before) => before.cloned(),
        };
        (session, after)
    }
}

pub(crate) struct Caller {
    number: usize,
    rng: Rng,
    seq: u64,
    batches: bool,
    pub(crate) known: BTreeMap<String, Known>,
    /// Sent, and not answered when the daemon died: one record, so all of it or nothing.
    pub(crate) in_flight: Vec<Op>,
    pub(crate) acknowledged: u64,
    /// The sessions known at the last answer that said nothing of its durability; they survive.
    durable: BTreeMap<String, Known>,
    /// The changes of each answer after it that said that it may be forgotten: all up to one of them are there.
    degraded: Vec<BTreeMap<String, Option<Known>>>,
    pub(crate) answered_degraded: u64,
    /// Sessions of which it is not known which message was the last that was kept.
    pub(crate) unsure: BTreeSet<String>,
}

impl Caller {
    /// Odd ones are nodes with lease, epoch and seq; even ones give each session a life of its own.
    pub(crate) fn new(number: usize, seed: u64, batches: bool) -> Self {
        let rng = Rng::with_seed(seed.wrapping_mul(31).wrapping_add(number as u64));
        Caller {
            number,
            rng,
            seq: 0,
            batches,
            known: BTreeMap::new(),
            in_flight: Vec::new(),
            acknowledged: 0,
            durable: BTreeMap::new(),
            degraded: Vec::new(),
            answered_degraded: 0,
            unsure: BTreeSet::new(),
        }
    }

    pub(crate) fn is_node(&self) -> bool {
        self.number % 2 == 1
    }

    fn node(&self) -> String {
        format!("pbx-{}", self.number)
    }

    /// Asks until the connection breaks, which it may only after `killed` was set.
    pub(crate) fn work(&mut self, address: SocketAddr, killed: &AtomicBool) {
        self.in_flight.clear();
        self.unsure.clear();
        self.durable.clone_from(&self.known);
        let done = self.talk(address);
        if let Err(error) = done {
            assert!(killed.load(Ordering::SeqCst), "caller {}: {error} while the daemon should live", self.number);
        }
    }

    fn talk(&mut self, address: SocketAddr) -> std::io::Result<()> {
        let mut client = Client::connect(address)?;
        if self.is_node() {
            // A restarted daemon wants to hear who is there; the epoch is the same: no call of ours ended.
            let answer = client.ask("POST", &format!("/v1/nodes/{}/hello", self.node()), "{\"epoch\":7}")?;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        loop {
            if self.is_node() && self.rng.u8(..) < 16 {
                let answer = client.ask("POST", &format!("/v1/nodes/{}/heartbeat", self.node()), "{\"epoch\":7}")?;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
            let size = if self.batches && self.rng.bool() { self.rng.usize(2..12) } else { 1 };
            let mut ops: Vec<Op> = Vec::with_capacity(size);
            while ops.len() < size {
                let op = self.invent();
                if ops.iter().all(|other| other.session() != op.session()) {
                    ops.push(op);
                }
            }
            self.in_flight = ops;
            let (results, is_durable) = self.send(&mut client)?;
            let mut told = BTreeMap::new();
            for (op, result) in std::mem::take(&mut self.in_flight).into_iter().zip(results) {
                let session = op.session().to_owned();
                self.learn(op, &result);
                let known = self.known.get(&session).cloned();
                told.insert(session, known);
            }
            self.degraded.push(told);
            if is_durable {
                // And so is all that came before it.
                std::mem::take(&mut self.degraded).into_iter().for_each(|told| apply(&mut self.durable, told));
            } else {
                self.answered_degraded += 1;
            }
        }
    }

    fn invent(&mut self) -> Op {
        let session = format!("c{}-{}", self.number, self.rng.usize(..SESSIONS));
        self.seq += 1;
        match self.known.get(&session) {
            Some(Known::Live { tenant, .. }) if self.rng.u8(..) < 200 => {
                let tenant = *tenant;
                Op::Release {
                    message: self.stamped(json!({"op": "release", "tenant": tenant, "session": session})),
                    session,
                    tenant,
                }
            }
            // A renewal, by the same message with a new seq.
            Some(Known::Live { tenant, subject, counts, message }) => {
                let (tenant, subject, counts) = (*tenant, subject.clone(), *counts);
                let message = self.stamped(message.clone());
                Op::Acquire { session, tenant, subject, counts, message }
            }
            _ => self.invent_acquire(session),
        }
    }

    fn invent_acquire(&mut self, session: String) -> Op {
        let tenant = if self.rng.u8(..) < 200 { "large" } else { "small" };
        let subject = format!("subject-{}", self.rng.usize(..SUBJECTS));
        let mut message = json!({"op": "acquire", "tenant": tenant, "session": session, "subject": subject});
        let counts = match self.rng.u8(..4) {
            0 => {
                (message["kind"], message["direction"]) = ("call".into(), "outbound".into());
                true
            }
            1 => {
                (message["kind"], message["direction"]) = ("call".into(), "inbound".into());
                false
            }
            2 => {
                message["kind"] = "mobile".into();
                true
            }
            _ => {
                message["kind"] = "desktop".into();
                true
            }
        };
        if !self.is_node() {
            message["ttl_s"] = 86_400.into();
        }
        Op::Acquire { message: self.stamped(message), session, tenant, subject, counts }
    }

    fn stamped(&self, mut message: Value) -> Value {
        if self.is_node() {
            (message["node"], message["epoch"], message["seq"]) = (self.node().into(), 7.into(), self.seq.into());
        }
        message
    }

    fn send(&self, client: &mut Client) -> std::io::Result<(Vec<Value>, bool)> {
        let message = |op: &Op| match op {
            Op::Acquire { message, .. } | Op::Release { message, .. } => message.clone(),
        };
        if let [op] = self.in_flight.as_slice() {
            let path = if matches!(op, Op::Acquire { .. }) { "/v1/acquire" } else { "/v1/release" };
            let answer = client.ask("POST", path, &message(op).to_string())?;
            return Ok((vec![good(&answer)], answer.is_durable()));
        }
        let ops: Vec<Value> = self.in_flight.iter().map(message).collect();
        let answer = client.ask("POST", "/v1/batch", &json!({ "ops": ops }).to_string())?;
        let results = good(&answer)["results"].as_array().unwrap().clone();
        assert_eq!(results.len(), ops.len());
        Ok((results, answer.is_durable()))
    }

    /// Takes an answer to heart, if it is the right one.
    fn learn(&mut self, op: Op, result: &Value) {
        let code = result["code"].as_str().unwrap_or_else(|| panic!("{op:?}: {result}"));
        self.acknowledged += 1;
        match op {
            Op::Acquire { session, tenant, subject, counts, message } => {
                let known = matches!(self.known.get(&session), Some(Known::Live { .. }));
                let right: &[&str] = match (known, counts, tenant) {
                    (_, false, _) => &["allow.free"],
                    (true, ..) => &["allow.same"],
                    (false, _, "large") => &["allow.new", "allow.held"],
                    _ => &["allow.new", "allow.held", "deny.full"],
                };
                assert!(right.contains(&code), "{message}: {result}, not one of {right:?}");
                if code != "deny.full" {
                    self.known.insert(session, Known::Live { tenant, subject, counts, message });
                }
            }
            Op::Release { session, tenant, message } => {
                let Some(Known::Live { counts, message: acquire, .. }) = self.known.remove(&session) else {
                    panic!("{session} was not live")
                };
                let right: &[&str] = if counts { &["released.last", "released.more"] } else { &["released.none"] };
                assert!(right.contains(&code), "{message}: {result}, not one of {right:?}");
                self.known.insert(session, Known::Gone { tenant, acquire, release: message });
            }
        }
    }

    /// Finds up to which of the answers that may be forgotten all is there; `fits` tells whether something known is,
    /// or that nothing is known of a session. What came after that one is forgotten, and what was in flight with it.
    pub(crate) fn forget_what_is_lost(&mut self, fits: impl Fn(&str, Option<&Known>) -> bool) {
        let degraded = std::mem::take(&mut self.degraded);
        if degraded.is_empty() {
            return;
        }
        self.unsure = degraded.iter().flat_map(BTreeMap::keys).cloned().collect();
        self.unsure.extend(self.in_flight.iter().map(|op| op.session().to_owned()));
        let all_fit = |known: &BTreeMap<String, Known>, asked: &BTreeSet<String>| {
            asked.iter().all(|session| fits(session, known.get(session)))
        };
        // All of it, and what was in flight: a small tenant may have denied that.
        let mut whole = self.known.clone();
        apply(&mut whole, self.in_flight.iter().map(|op| op.outcome(&self.known)).collect());
        let denied = |op: &&Op| matches!(op, Op::Acquire { tenant: "small", .. });
        let open: BTreeSet<String> = self.in_flight.iter().filter(denied).map(|op| op.session().to_owned()).collect();
        if !self.in_flight.is_empty() && all_fit(&whole, &self.unsure.difference(&open).cloned().collect()) {
            return;
        }
        let mut known = self.durable.clone();
        let mut found = None;
        for told in degraded.into_iter().map(Some).chain([None]) {
            if all_fit(&known, &self.unsure) {
                found = Some(known.clone());
            }
            apply(&mut known, told.unwrap_or_default());
        }
        // Where none fits, what was told last is compared, and the comparison says what is wrong.
        if let Some(known) = found {
            self.known = known;
            self.in_flight.clear();
        }
    }

    /// Settles the requests that were in flight: each session is there or not.
    pub(crate) fn settle(&mut self, is_there: impl Fn(&str, &str) -> bool) {
        for op in std::mem::take(&mut self.in_flight) {
            match op {
                Op::Acquire { session, tenant, subject, counts, message } => {
                    if is_there(tenant, &session) {
                        self.known.insert(session, Known::Live { tenant, subject, counts, message });
                    }
                }
                Op::Release { session, tenant, message } => {
                    let Some(Known::Live { message: acquire, .. }) = self.known.get(&session).cloned() else {
                        continue;
                    };
                    if !is_there(tenant, &session) {
                        self.known.insert(session, Known::Gone { tenant, acquire, release: message });
                    }
                }
            }
        }
    }

    /// One of those that fit, by chance.
    pub(crate) fn any<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        (!all.is_empty()).then(|| &all[self.rng.usize(..all.len())])
    }
}

fn good(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn apply(known: &mut BTreeMap<String, Known>, told: BTreeMap<String, Option<Known>>) {
    for (session, told) in told {
        match told {
            Some(told) => known.insert(session, told),
            None => known.remove(&session),
        };
    }
}
