//! Acquire and release: by names, from bodies of bytes, cache-resident.

use std::hint::black_box;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use usherd_contract::body::{AcquireBody, Body as _, ReleaseBody};
use usherd_engine::{Code, Name};

use crate::measure::{Goal, alternate, cpu_of, median, ratio, row, thread_cpu_ns};
use crate::world::{Decider, NOW, Names, Shape, Viewed, chosen, full};

/// Pairs of one measurement, from a choice whose names fit into the first cache.
pub(crate) const CHOICE: usize = 200;

/// The yardstick: one map with many shards and a fast hasher; by numbers, and by the names that the engine
/// is given. The first is the stricter one: it neither hashes nor compares a text.
pub(crate) struct Yardstick {
    numbers: DashMap<u64, u64, RandomState>,
    names: DashMap<Name, u64, RandomState>,
}

impl Yardstick {
    pub(crate) fn new(shape: &Shape) -> Self {
        let capacity = shape.sessions as usize;
        let new = || DashMap::with_capacity_and_hasher_and_shard_amount(capacity, RandomState::default(), 256);
        let yardstick = Yardstick {
            numbers: new(),
            names: DashMap::with_capacity_and_hasher_and_shard_amount(capacity, RandomState::default(), 256),
        };
        let mut names = Names::default();
        for session in 0..shape.sessions {
            shape.name(session, &mut names);
            yardstick.numbers.insert(key(session), 1);
            yardstick.names.insert(Name::from(&names.session), 1);
        }
        yardstick
    }

    /// Removes each session by its id, and puts it back.
    pub(crate) fn by_names(&self, names: &[Names]) {
        for names in names {
            let old = self.names.remove(names.session.as_str());
            black_box(self.names.insert(Name::from(&names.session), old.map_or(0, |(_, value)| value + 1)));
        }
    }
}

fn key(session: u32) -> u64 {
    u64::from(session) << 16 | 0x2a
}

pub(crate) fn pair(engine: &impl Decider, names: &[Names]) {
    for names in names {
        let released = engine.release(NOW, &names.release(), &mut ());
        debug_assert!(released.code != Code::ReleasedNone);
        black_box(engine.acquire(NOW, &names.acquire(), &mut ()).code.allows());
    }
}

/// The same with a node, an epoch and a growing number: a release leaves a tombstone, an acquire replaces it.
fn numbered(engine: &Viewed, names: &[Names], seq: &mut u64) {
    for names in names {
        let mut release = names.release();
        *seq += 2;
        (release.node, release.epoch, release.seq) = (Some("pbx1"), Some(7), Some(*seq - 1));
        black_box(Decider::release(engine, NOW, &release, &mut ()));
        let mut acquire = names.acquire();
        (acquire.node, acquire.epoch, acquire.seq) = (Some("pbx1"), Some(7), Some(*seq));
        black_box(Decider::acquire(engine, NOW, &acquire, &mut ()).code.allows());
    }
}

/// The bodies that the wire brings, one pair each.
pub(crate) struct Bodies {
    form: (Vec<u8>, Vec<u8>),
    json: (Vec<u8>, Vec<u8>),
}

impl Bodies {
    pub(crate) fn of(names: &Names) -> Self {
        let Names { tenant, subject, session } = names;
        let form =
            format!("tenant={tenant}&subject={subject}&session={session}&kind=call&direction=outbound&ttl_s=3600");
        let json = format!(
            r#"{{"tenant":"{tenant}","subject":"{subject}","session":"{session}","kind":"call","direction":"outbound","ttl_s":3600}}"#
        );
        Bodies {
            form: (form.into_bytes(), format!("tenant={tenant}&session={session}").into_bytes()),
            json: (json.into_bytes(), format!(r#"{{"tenant":"{tenant}","session":"{session}"}}"#).into_bytes()),
        }
    }
}

fn from_form(engine: &Viewed, bodies: &[Bodies]) {
    for body in bodies {
        let read = ReleaseBody::from_form(&body.form.1).unwrap_or_else(|_| panic!("a release"));
        black_box(engine.release(NOW, &read.checked().unwrap_or_else(|_| panic!("a release")), &mut ()));
        let read = AcquireBody::from_form(&body.form.0).unwrap_or_else(|_| panic!("an acquire"));
        black_box(engine.acquire(NOW, &read.checked().unwrap_or_else(|_| panic!("an acquire")), &mut ()).code.allows());
    }
}

pub(crate) fn from_json(engine: &impl Decider, bodies: &[Bodies]) {
    for body in bodies {
        let read = ReleaseBody::from_json(&body.json.1).unwrap_or_else(|_| panic!("a release"));
        black_box(engine.release(NOW, &read.checked().unwrap_or_else(|_| panic!("a release")), &mut ()));
        let read = AcquireBody::from_json(&body.json.0).unwrap_or_else(|_| panic!("an acquire"));
        black_box(engine.acquire(NOW, &read.checked().unwrap_or_else(|_| panic!("an acquire")), &mut ()).code.allows());
    }
}

/// CPU nanoseconds per pair of: map by number, map by name, by names, from forms, from JSON, with numbers.
fn measure(shape: &Shape, rounds: usize, choices: usize) -> [Vec<f64>; 6] {
    let engine = full(shape);
    let yardstick = Yardstick::new(shape);
    let mut random = fastrand::Rng::with_seed(20_261_122);
    let mut seq = 1;
    let result = alternate(rounds, |which| {
        let mut ns = 0.0;
        for _ in 0..choices {
            let (sessions, names) = chosen(shape, &mut random, CHOICE);
            let bodies: Vec<Bodies> =
                if matches!(which, 3 | 4) { names.iter().map(Bodies::of).collect() } else { Vec::new() };
            ns += match which {
                0 => cpu_of(|| {
                    for session in &sessions {
                        let old = yardstick.numbers.remove(&key(*session));
                        black_box(yardstick.numbers.insert(key(*session), old.map_or(0, |(_, value)| value + 1)));
                    }
                }),
                1 => cpu_of(|| yardstick.by_names(&names)),
                2 => cpu_of(|| pair(&engine, &names)),
                3 => cpu_of(|| from_form(&engine, &bodies)),
                4 => cpu_of(|| from_json(&engine, &bodies)),
                _ => cpu_of(|| numbered(&engine, &names, &mut seq)),
            };
        }
        ns / (choices * CHOICE) as f64
    });
    let held: u32 = (0..shape.tenants.min(100))
        .map(|at| engine.tenant(NOW, &format!("tenant-{at:05}")).map_or(0, |t| t.held))
        .sum();
    assert_eq!(
        held,
        shape.sessions / shape.tenants / shape.sessions_per_subject * shape.tenants.min(100),
        "seats leaked"
    );
    result
}

/// A million live sessions of 10,000 tenants.
pub(crate) fn million() {
    let [numbers, names, ids, form, json, numbered] = measure(&Shape::MILLION, 9, 200);
    let ns = |values: &[f64]| format!("{:.0} ns", median(values));
    println!("yardstick, 1 M: DashMap remove+insert by number {}, by session id {}", ns(&numbers), ns(&names));
    row("pair by names, 1 M / map by number", ratio(&ids, &numbers), "x", Goal::AtMost(2.2), &ns(&ids));
    row("pair by names, 1 M / map by session id", ratio(&ids, &names), "x", Goal::AtMost(2.2), "");
    row("pair from forms, 1 M / map by number", ratio(&form, &numbers), "x", Goal::AtMost(4.0), &ns(&form));
    row("pair from JSON, 1 M / map by number", ratio(&json, &numbers), "x", Goal::AtMost(4.0), &ns(&json));
    row("pair from forms, 1 M / map by session id", ratio(&form, &names), "x", Goal::AtMost(4.0), "");
    row("pair from JSON, 1 M / map by session id", ratio(&json, &names), "x", Goal::AtMost(4.0), "");
    row(
        "pair with node, epoch, seq and tombstones, 1 M / by number",
        ratio(&numbered, &numbers),
        "x",
        Goal::None,
        &ns(&numbered),
    );
}

/// Everything within the caches of the core.
pub(crate) fn resident() {
    let [numbers, names, ids, form, json, numbered] = measure(&Shape::RESIDENT, 9, 300);
    let ns = |values: &[f64]| format!("{:.0} ns", median(values));
    println!("yardstick, 5,000: DashMap remove+insert by number {}, by session id {}", ns(&numbers), ns(&names));
    row("pair by names, 5,000 / map by number", ratio(&ids, &numbers), "x", Goal::AtMost(0.6), &ns(&ids));
    row("pair by names, 5,000 / map by session id", ratio(&ids, &names), "x", Goal::AtMost(0.6), "");
    row("pair from forms, 5,000 / map by number", ratio(&form, &numbers), "x", Goal::None, &ns(&form));
    row("pair from JSON, 5,000 / map by number", ratio(&json, &numbers), "x", Goal::None, &ns(&json));
    row(
        "pair with node, epoch, seq and tombstones, 5,000 / by number",
        ratio(&numbered, &numbers),
        "x",
        Goal::None,
        &ns(&numbered),
    );
}

/// Pairs by names and nothing else for five seconds of CPU, for a profiler.
pub(crate) fn endless(shape: &Shape) {
    let engine = full(shape);
    let mut random = fastrand::Rng::with_seed(1);
    let (began, mut pairs) = (thread_cpu_ns(), 0);
    while thread_cpu_ns() - began < 5_000_000_000 {
        let (_, names) = chosen(shape, &mut random, CHOICE);
        for _ in 0..if shape.tenants > 100 { 1 } else { 20 } {
            pair(&engine, &names);
            pairs += CHOICE;
        }
    }
    println!("{pairs} pairs");
}
