//! The usage history at 100,000 tenants with a million seats in use: what a second's look, five minutes, an hour and
//! a question cost, bytes on disk and in memory, and what a decision pays for being remembered.
//!
//! `cargo bench --bench history` takes half a minute; `-- TENANTS` another number of tenants.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "it measures")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use usherd::daemon::history::History;
use usherd::daemon::history::store::Limits as Kept;
use usherd::daemon::history::usage::Step;
use usherd_engine::{Acquire, Engine, Entitled, Kind, Limits, Now, Plan, Policy, Release, Standing, TenantPlan};

const SEATS_EACH: u32 = 10;
/// 2026-11-22 12:00 UTC.
const BEGIN_MS: i64 = 1_795_348_800_000;
const ALL: (i64, i64) = (0, i64::MAX / 2);
const KEPT: Kept = Kept { detail_days: 14, days: 400, bytes_max: u64::MAX };
/// Rounds of each figure, of which the median counts.
const ROUNDS: usize = 7;

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn wall() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn timed(clock: fn() -> Duration, run: impl FnOnce()) -> Duration {
    let began = clock();
    run();
    clock() - began
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

fn name(tenant: usize) -> String {
    format!("customer-{tenant:06}")
}

fn engine(tenants: usize) -> Engine {
    let engine = Engine::new(Limits { sessions_max: 4_000_000, ..Limits::default() });
    let policy = Arc::new(Policy::default());
    let plans = (0..tenants).map(|tenant| TenantPlan {
        id: name(tenant).into(),
        entitled: Entitled { standing: Standing::Active, seats: Some(SEATS_EACH + 2) },
        policy: Arc::clone(&policy),
        reserve: Vec::new(),
        pool: None,
    });
    engine.install(now(0), Plan { tenants: plans.collect(), ..Plan::default() }, &mut ());
    for tenant in 0..tenants {
        for subject in 0..SEATS_EACH {
            take(&engine, now(0), &name(tenant), &format!("s{subject}"));
        }
    }
    engine
}

fn now(ms: u64) -> Now {
    Now { uptime_ms: 1_000_000 + ms, utc_ms: BEGIN_MS + ms as i64 }
}

fn take(engine: &Engine, now: Now, tenant: &str, subject: &str) -> u32 {
    let ask = Acquire { ttl_s: Some(86_400), ..Acquire::new(tenant, subject, subject, Kind::Desktop) };
    engine.acquire(now, &ask, &mut ()).unwrap().held
}

fn give(engine: &Engine, now: Now, tenant: &str, subject: &str) {
    let release = Release { tenant, session: subject, node: None, epoch: None, seq: None, transferred: false };
    engine.release(now, &release, &mut ());
}

fn settle(history: &History) {
    while history.waiting() > 0 {
        std::thread::yield_now();
    }
}

/// Measures decisions: pairs of acquire and release that take a seat, with and without telling the history.
fn decisions(engine: &Engine, history: &History, tenants: usize) {
    let names: Vec<String> = (0..tenants).map(name).collect();
    let pairs = 200_000.min(tenants * 4);
    let run = |told: bool| {
        timed(cpu, || {
            for at in 0..pairs {
                let tenant = &names[at * 7_919 % tenants];
                let held = take(engine, now(0), tenant, "guest");
                if told {
                    history.demand.granted(tenant, "guest", held);
                }
                give(engine, now(0), tenant, "guest");
            }
        })
    };
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(run(false));
        with.push(run(true));
        history.demand.drain(0, |_, told| _ = black_box(told));
    }
    let each = |time: Duration| time.as_nanos() as f64 / pairs as f64;
    let (without, with) = (each(median(without)), each(median(with)));
    println!("a pair of decisions: {without:.0} ns, remembered {with:.0} ns: {:.2}x", with / without);
}

fn main() {
    let tenants = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(100_000);
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(tenants);
    let before = resident_bytes();
    let history = History::open(folder.path(), BEGIN_MS, KEPT);
    decisions(&engine, &history, tenants);
    let (mut looks, mut closes, mut ms) = (Vec::new(), Vec::new(), 0);
    // Two hours, the seconds left out that are like the others; somebody comes and goes everywhere.
    for slot in 1..=24u64 {
        for second in [1, 2, 150, 299] {
            ms = (slot - 1) * 300_000 + second * 1_000;
            looks.push(timed(cpu, || _ = history.look(&engine, now(ms), now(ms).utc_ms)));
        }
        for tenant in 0..tenants {
            let held = take(&engine, now(ms), &name(tenant), "guest");
            history.demand.granted(&name(tenant), "guest", held);
            give(&engine, now(ms), &name(tenant), "guest");
        }
        ms = slot * 300_000;
        closes.push(timed(cpu, || _ = history.look(&engine, now(ms), now(ms).utc_ms)));
        settle(&history);
    }
    let grown = resident_bytes() - before;
    println!("{tenants} tenants, {} seats in use", tenants * SEATS_EACH as usize);
    println!("a look every second: {:.1} ms", median(looks).as_secs_f64() * 1e3);
    println!("closing five minutes: {:.0} ms, every five minutes", median(closes).as_secs_f64() * 1e3);
    println!("memory: {:.0} bytes per tenant, with use all the time", grown as f64 / tenants as f64);
    let hour = std::fs::metadata(folder.path().join("history/hour-2026-11-22T12")).unwrap().len();
    let each = hour as f64 / tenants as f64;
    println!(
        "disk: {each:.0} bytes per tenant and hour, {:.1} KB a day, 14 days of all: {:.1} GB",
        each * 24.0 / 1e3,
        hour as f64 * 336.0 / 1e9
    );
    questions(&history, &folder.path().join("history"), tenants);
}

/// One tenant's fortnight, from as many files as there are then.
fn questions(history: &History, folder: &Path, tenants: usize) {
    let source = folder.join("hour-2026-11-22T12");
    for day in 1..=14 {
        for hour in 0..24 {
            std::fs::hard_link(&source, folder.join(format!("hour-2026-11-{:02}T{hour:02}", day + 1))).unwrap();
        }
    }
    let ask = |step: Step| {
        let times = (0..ROUNDS).map(|round| {
            let tenant = name(round * 7_919 % tenants);
            timed(wall, || _ = black_box(history.usage(&tenant, &|| None, ALL, step, |at| at).unwrap()))
        });
        median(times.collect()).as_secs_f64() * 1e3
    };
    println!("a fortnight of five minutes of one tenant, 338 files: {:.0} ms", ask(Step::FiveMinutes));
    let times = (0..ROUNDS).map(|_| timed(wall, || _ = black_box(history.demand_of(&name(7), &|| None, ALL).unwrap())));
    println!("its demand: {:.0} ms", median(times.collect()).as_secs_f64() * 1e3);
}
