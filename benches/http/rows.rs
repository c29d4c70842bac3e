//! The rows of the table: who is measured against whom.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::client::{Framing, Place, Ring};
use crate::measure::{Goal, alternate, median, ratio, row};
use crate::pace::{paced, scrape_until};
use crate::postgres::Postgres;
use crate::redis::Redis;
use crate::requests;
use crate::server::{SERVER_CORE, Server};

/// How long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub rounds: usize,
    pub requests: u64,
    pub seconds: u32,
}

impl Effort {
    pub(crate) const FULL: Effort = Effort { rounds: 7, requests: 40_000, seconds: 4 };
    pub(crate) const QUICK: Effort = Effort { rounds: 3, requests: 10_000, seconds: 1 };
}

const CONNECTIONS: usize = 64;
const SLOT_MOST: Duration = Duration::from_millis(1_500);
/// Bytes of the answer to an acquire as JSON, and as text: what bare hyper answers too.
const JSON_REPLY: usize = 262;
const FORM_REPLY: usize = 9;

fn tcp(server: &Server) -> Place {
    Place::Tcp(server.tcp)
}

fn ring(place: &Place, requests: impl Fn(usize) -> Vec<Vec<u8>>) -> Ring {
    let mut ring = Ring::new(place, Framing::Http, CONNECTIONS, requests);
    ring.warm_up(checked);
    ring
}

fn checked(answer: &[u8]) {
    let text = String::from_utf8_lossy(answer);
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let right = ["allow.new", "allow.held", "released.last", "released.more", "xxxxxxxxx"];
    assert!(right.iter().any(|code| text.contains(code)), "{text}");
}

/// One who is measured: a ring, and how to read the CPU of its server.
struct Turn<'a> {
    ring: Ring,
    cpu_ns: Box<dyn Fn() -> u64 + 'a>,
    requests: u64,
    /// Decisions of one request.
    decisions: f64,
    rates: Vec<f64>,
}

impl<'a> Turn<'a> {
    fn http(server: &'a Server, place: &Place, requests: impl Fn(usize) -> Vec<Vec<u8>>, effort: Effort) -> Self {
        let cpu_ns = Box::new(move || server.cpu_ns());
        Turn { ring: ring(place, requests), cpu_ns, requests: effort.requests, decisions: 1.0, rates: Vec::new() }
    }

    /// CPU nanoseconds of the server per decision.
    fn take(&mut self) -> f64 {
        let before = (self.cpu_ns)();
        let done = self.ring.run(self.requests, SLOT_MOST);
        let decisions = done.requests as f64 * self.decisions;
        self.rates.push(decisions / done.wall_ns as f64 * 1e9);
        ((self.cpu_ns)() - before) as f64 / decisions
    }

    fn beside(&self, cpu: &[f64]) -> String {
        format!("{:.2} us, {:.0}/s", median(cpu) / 1e3, median(&self.rates))
    }
}

/// HTTP by CPU: bare hyper, no journal, written, form, batch, Unix socket.
pub(crate) fn cpu(effort: Effort) {
    let bare_json = Server::bare(JSON_REPLY);
    let bare_form = Server::bare(FORM_REPLY);
    let none = Server::daemon("none", 1_000, Some(SERVER_CORE));
    let written = Server::daemon("written", 1_000, Some(SERVER_CORE));
    let unix = |server: &Server| Place::unix(&server.unix);
    let mut turns = [
        Turn::http(&bare_json, &tcp(&bare_json), requests::json, effort),
        Turn::http(&none, &tcp(&none), requests::json, effort),
        Turn::http(&written, &tcp(&written), requests::json, effort),
        Turn::http(&bare_form, &tcp(&bare_form), requests::form, effort),
        Turn::http(&none, &tcp(&none), requests::form, effort),
        Turn::http(&bare_json, &unix(&bare_json), requests::json, effort),
        Turn::http(&none, &unix(&none), requests::json, effort),
        Turn::http(&written, &unix(&written), requests::json, effort),
        Turn::http(&none, &tcp(&none), requests::batch, effort),
        Turn::http(&written, &tcp(&written), requests::batch, effort),
    ];
    for turn in &mut turns[8..] {
        turn.requests = effort.requests / 40;
        turn.decisions = 100.0;
    }
    let values: [Vec<f64>; 10] = alternate(effort.rounds, |which| turns[which].take());
    let percent = |of: usize, to: usize| 100.0 * ratio(&values[to], &values[of]);
    let beside = |at: usize| turns[at].beside(&values[at]);
    row("bare hyper, reply of the same size, TCP", median(&values[0]) / 1e3, " us", Goal::None, &beside(0));
    row("JSON, journal none / bare hyper, TCP", percent(1, 0), " %", Goal::AtLeast(82.0), &beside(1));
    row("form, journal none / bare hyper, TCP", percent(4, 3), " %", Goal::AtLeast(85.0), &beside(4));
    row("JSON, written / none, TCP", percent(2, 1), " %", Goal::AtLeast(88.0), &beside(2));
    row("bare hyper, Unix socket", median(&values[5]) / 1e3, " us", Goal::None, &beside(5));
    row("JSON, journal none / bare hyper, Unix socket", percent(6, 5), " %", Goal::AtLeast(75.0), &beside(6));
    row("JSON, written / none, Unix socket", percent(7, 6), " %", Goal::None, &beside(7));
    row("batch of 100, journal none, per decision", median(&values[8]) / 1e3, " us", Goal::None, &beside(8));
    row("batch of 100, written, per decision", median(&values[9]) / 1e3, " us", Goal::None, &beside(9));
}

/// RecordBuilder fsync: 128 callers at once, by throughput and by CPU.
pub(crate) fn synced(effort: Effort) {
    let none = Server::daemon("none", 1_000, Some(SERVER_CORE));
    let synced = Server::daemon("synced", 1_000, Some(SERVER_CORE));
    let mut turns = [&none, &synced].map(|server| {
        let mut ring = Ring::new(&tcp(server), Framing::Http, 128, requests::json);
        ring.warm_up(checked);
        Turn {
            ring,
            cpu_ns: Box::new(|| server.cpu_ns()),
            requests: effort.requests,
            decisions: 1.0,
            rates: Vec::new(),
        }
    });
    let values: [Vec<f64>; 2] = alternate(effort.rounds, |which| turns[which].take());
    let rates = 100.0 * ratio(&turns[1].rates, &turns[0].rates);
    row("synced / none, 128 callers, by throughput", rates, " %", Goal::AtLeast(65.0), &turns[1].beside(&values[1]));
    row(
        "synced / none, 128 callers, by CPU",
        100.0 * ratio(&values[0], &values[1]),
        " %",
        Goal::None,
        &turns[0].beside(&values[0]),
    );
}

/// The same decision as a Lua script.
pub(crate) fn redis(effort: Effort) {
    let Some(redis) = Redis::start() else {
        return println!("redis: left out, there is no redis-server");
    };
    let written = Server::daemon("written", 1_000, Some(SERVER_CORE));
    let lua = |place: &Place, pipelined: usize| {
        let mut ring = Ring::new(place, Framing::Lines(pipelined), CONNECTIONS, |at| {
            requests::redis(at, &redis.acquire, &redis.release, pipelined)
        });
        ring.warm_up(|answer| {
            assert!(
                answer.starts_with(b"+allow.new") || answer.starts_with(b"+released.last"),
                "{}",
                String::from_utf8_lossy(answer)
            )
        });
        Turn {
            ring,
            cpu_ns: Box::new(|| redis.cpu_ns()),
            requests: effort.requests / pipelined as u64 * 2,
            decisions: pipelined as f64,
            rates: Vec::new(),
        }
    };
    let unix = Place::unix(&written.unix);
    let mut turns = [
        lua(&redis.tcp, 1),
        Turn::http(&written, &tcp(&written), requests::json, effort),
        lua(&Place::unix(&redis.unix), 1),
        Turn::http(&written, &unix, requests::json, effort),
        lua(&redis.tcp, 16),
        Turn::http(&written, &tcp(&written), requests::batch, effort),
    ];
    turns[4].requests *= 4;
    (turns[5].requests, turns[5].decisions) = (effort.requests / 40, 100.0);
    let values: [Vec<f64>; 6] = alternate(effort.rounds, |which| turns[which].take());
    let beside = |ours: usize, theirs: usize| {
        let rates = ratio(&turns[ours].rates, &turns[theirs].rates);
        format!(
            "{}; Redis {}; by throughput {rates:.2}x",
            turns[ours].beside(&values[ours]),
            turns[theirs].beside(&values[theirs])
        )
    };
    row(
        "JSON, written / Redis Lua, TCP, by CPU",
        ratio(&values[0], &values[1]),
        "x",
        Goal::AtLeast(1.5),
        &beside(1, 0),
    );
    row(
        "JSON, written / Redis Lua, Unix socket, by CPU",
        ratio(&values[2], &values[3]),
        "x",
        Goal::AtLeast(1.5),
        &beside(3, 2),
    );
    row(
        "batch of 100 / Redis Lua pipelined 16, per decision",
        ratio(&values[4], &values[5]),
        "x",
        Goal::AtLeast(6.0),
        &beside(5, 4),
    );
}

/// The RESP listener and a Redis with the same decision as a Lua script, asked by the same client.
pub(crate) fn resp(effort: Effort) {
    let Some(redis) = Redis::start() else {
        return println!("resp: left out, there is no redis-server");
    };
    let written = Server::daemon("written", 1_000, Some(SERVER_CORE));
    let turn = |place: &Place, pipelined: usize, ours: bool| {
        let requests = |at| match ours {
            true => requests::commands(at, pipelined),
            false => requests::redis(at, &redis.acquire, &redis.release, pipelined),
        };
        let mut ring = Ring::new(place, Framing::Lines(pipelined), CONNECTIONS, requests);
        ring.warm_up(|answer| {
            assert!(
                answer.starts_with(b"+allow.new") || answer.starts_with(b"+released.last"),
                "{}",
                String::from_utf8_lossy(answer)
            )
        });
        let cpu_ns: Box<dyn Fn() -> u64> =
            if ours { Box::new(|| written.cpu_ns()) } else { Box::new(|| redis.cpu_ns()) };
        Turn {
            ring,
            cpu_ns,
            requests: effort.requests * 4 / if pipelined > 1 { 4 } else { 1 },
            decisions: pipelined as f64,
            rates: Vec::new(),
        }
    };
    let (ours, theirs) = (Place::Tcp(written.resp), redis.tcp.clone());
    let (ours_unix, theirs_unix) = (Place::unix(&written.resp_unix), Place::unix(&redis.unix));
    let mut turns = [
        turn(&theirs, 1, false),
        turn(&ours, 1, true),
        turn(&theirs_unix, 1, false),
        turn(&ours_unix, 1, true),
        turn(&theirs, 16, false),
        turn(&ours, 16, true),
        turn(&theirs_unix, 16, false),
        turn(&ours_unix, 16, true),
    ];
    let values: [Vec<f64>; 8] = alternate(effort.rounds, |which| turns[which].take());
    let names = ["TCP", "Unix socket", "pipeline 16, TCP", "pipeline 16, Unix socket"];
    for (at, (name, goal)) in names.iter().zip([2.0, 2.0, 6.0, 6.0]).enumerate() {
        let (theirs, ours) = (at * 2, at * 2 + 1);
        let rates = ratio(&turns[ours].rates, &turns[theirs].rates);
        let beside = format!(
            "{}; Redis {}; by throughput {rates:.2}x",
            turns[ours].beside(&values[ours]),
            turns[theirs].beside(&values[theirs])
        );
        row(
            &format!("RESP, written / Redis Lua, {name}, by CPU"),
            ratio(&values[theirs], &values[ours]),
            "x",
            Goal::AtLeast(goal),
            &beside,
        );
    }
}

/// The same by `redis-benchmark`, the same arguments for both: calls of persons that have none yet.
pub(crate) fn redis_benchmark(effort: Effort) {
    let Some(redis) = Redis::start().filter(|_| crate::server::has("redis-benchmark")) else {
        return println!("redis-benchmark: left out, there is no redis-server or no redis-benchmark");
    };
    let written = Server::daemon("written", 1_000, Some(SERVER_CORE));
    let unix = |path: &std::path::Path| vec!["-s".to_owned(), path.display().to_string()];
    let tcp = |address: std::net::SocketAddr| {
        ["-h", &address.ip().to_string(), "-p", &address.port().to_string()].map(str::to_owned).to_vec()
    };
    let Place::Tcp(redis_tcp) = redis.tcp else { return };
    let places = [tcp(redis_tcp), tcp(written.resp), unix(&redis.unix), unix(&written.resp_unix)];
    for (row_of, (pipelined, goal)) in [(1, 1.5), (16, 4.0)].into_iter().enumerate() {
        let requests = effort.requests * if pipelined > 1 { 3 } else { 1 };
        let mut rates = [const { Vec::new() }; 4];
        let cpu: [Vec<f64>; 4] = alternate(effort.rounds, |which| {
            let cpu_ns = || if which % 2 == 0 { redis.cpu_ns() } else { written.cpu_ns() };
            let before = cpu_ns();
            // A tenant of its own for each row, so that no seat is ever refused.
            let tenant = format!("large-{}", row_of * 2 + which / 2);
            let (session, claims, seats) =
                (format!("s:{tenant}:s__rand_int__"), format!("c:{tenant}:"), format!("t:{tenant}"));
            let theirs = ["EVALSHA", &redis.acquire, "3", &session, &claims, &seats, "u__rand_int__", "3600"];
            let ours = [
                "CU.ACQUIRE",
                &tenant,
                "u__rand_int__",
                "s__rand_int__",
                "call",
                "direction",
                "outbound",
                "ttl_s",
                "3600",
            ];
            let words = if which % 2 == 0 { &theirs[..] } else { &ours };
            rates[which].push(crate::redis::benchmark(&places[which], requests, pipelined, words));
            (cpu_ns() - before) as f64 / requests as f64
        });
        for (at, name) in ["TCP", "Unix socket"].iter().enumerate() {
            let (theirs, ours) = (at * 2, at * 2 + 1);
            let beside = format!(
                "{:.2} us against {:.2} us of CPU; {:.0}/s against {:.0}/s, {:.2}x",
                median(&cpu[ours]) / 1e3,
                median(&cpu[theirs]) / 1e3,
                median(&rates[ours]),
                median(&rates[theirs]),
                ratio(&rates[ours], &rates[theirs])
            );
            row(
                &format!("redis-benchmark, pipeline {pipelined}, {name}, by CPU"),
                ratio(&cpu[theirs], &cpu[ours]),
                "x",
                Goal::AtLeast(goal),
                &beside,
            );
        }
    }
}

/// The same decision as a function, every commit on the disk.
pub(crate) fn postgres(effort: Effort) {
    let postgres = match Postgres::start() {
        Ok(postgres) => postgres,
        Err(why) => return println!("postgres: left out, {why}"),
    };
    let synced = Server::daemon("synced", 1_000, Some(SERVER_CORE));
    let mut ring = Ring::new(&Place::unix(&synced.unix), Framing::Http, 128, requests::json);
    ring.warm_up(checked);
    postgres.decisions_per_second(128, 1);
    let [ours, theirs] = alternate(effort.rounds.min(5), |which| match which {
        0 => {
            let done = ring.run(u64::MAX, Duration::from_secs(effort.seconds.div_ceil(2).into()));
            done.requests as f64 / done.wall_ns as f64 * 1e9
        }
        _ => postgres.decisions_per_second(128, effort.seconds.max(2)),
    });
    let beside = format!("{:.0}/s against {:.0}/s, 128 callers, Unix socket", median(&ours), median(&theirs));
    row("full decision, synced / PostgreSQL function", ratio(&ours, &theirs), "x", Goal::AtLeast(5.0), &beside);
}

/// 10,000 requests a second: alone, during scrapes of 10,000 tenants in 16 parts, and of all in one.
pub(crate) fn latency(effort: Effort) {
    // The threads of the daemon may use both cores: a scrape is encoded beside the runtime that decides.
    let server = Server::daemon("written", 10_000, None);
    let time = Duration::from_secs(effort.seconds.min(3).into());
    let place = tcp(&server);
    let parts = [0, 16, 1];
    let (scrapes, bytes) = ([const { AtomicU64::new(0) }; 3], [const { AtomicU64::new(0) }; 3]);
    let mut percentiles = [const { [Vec::new(), Vec::new(), Vec::new()] }; 3];
    let [without, shards, whole] = alternate(effort.rounds.min(5), |which| {
        let stop = AtomicBool::new(false);
        let latencies = std::thread::scope(|scope| {
            if parts[which] > 0 {
                scope.spawn(|| {
                    scrapes[which]
                        .fetch_add(scrape_until(&place, parts[which], &stop, &bytes[which]), Ordering::Relaxed)
                });
            }
            let latencies = paced(&place, requests::json, 10_000, 20, time);
            stop.store(true, Ordering::Relaxed);
            latencies
        });
        for (values, percent) in percentiles[which].iter_mut().zip([50.0, 99.0, 99.9]) {
            values.push(latencies.percentile(percent));
        }
        latencies.percentile(99.9)
    });
    let shown = |at: usize| {
        let [p50, p99, p999] = percentiles[at].each_ref().map(|values| median(values));
        let scrapes = scrapes[at].load(Ordering::Relaxed);
        let size = bytes[at].load(Ordering::Relaxed) / scrapes.max(1) / 1_000;
        format!("p50 {p50:.0}, p99 {p99:.0}, p99.9 {p999:.0} us; {scrapes} scrapes of {size} KB")
    };
    row("p99.9 of a grant at 10,000/s", median(&without), " us", Goal::None, &shown(0));
    row("p99.9 during scrapes of 16 parts / without", ratio(&shards, &without), "x", Goal::AtMost(1.5), &shown(1));
    row("p99.9 during scrapes of all in one / without", ratio(&whole, &without), "x", Goal::None, &shown(2));
}

/// JSON or batches without a journal for five seconds, for a profiler.
pub(crate) fn endless(requests: fn(usize) -> Vec<Vec<u8>>, durability: &str) {
    let server = Server::daemon(durability, 1_000, Some(SERVER_CORE));
    let mut turn = Turn::http(&server, &tcp(&server), requests, Effort::FULL);
    turn.requests = u64::MAX;
    println!("{:.0} ns per request", turn.take());
}
