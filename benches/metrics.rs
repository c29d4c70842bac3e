//! A scrape of 10,000 tenants, against the same series through a registry: nanoseconds per series, and the ratio.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "it measures")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use prometheus::{Encoder, GaugeVec, Opts, Registry, TextEncoder};
use rustix::time::{ClockId, clock_gettime};
use usherd::daemon::metrics::{
    BuildInfo, ConfigState, EventStats, JournalStats, Metrics, ScrapeInput, ScrapeShard, TenantExport, TenantMode,
};
use usherd_engine::{Acquire, Code, Detail, Engine, Entitled, Kind, Limits, Now, Plan, Policy, Standing, TenantPlan};
use usherd_subscription::entitlement::State;

const TENANTS: usize = 10_000;
const FAMILIES: [&str; 7] = [
    "usherd_tenant_seats_in_use",
    "usherd_tenant_seats_in_use_peak",
    "usherd_tenant_seats_quota",
    "usherd_tenant_seat_seconds_total",
    "usherd_tenant_saturated_seconds_total",
    "usherd_tenant_denials_total",
    "usherd_tenant_channels_in_use",
];

fn at(ms: u64) -> Now {
    Now { uptime_ms: 1_000_000 + ms, utc_ms: 1_700_000_000_000 }
}

fn engine() -> Engine {
    let engine = Engine::new(Limits::default());
    let policy = Arc::new(Policy::default());
    let tenants = (0..TENANTS).map(|tenant| TenantPlan {
        id: format!("customer-{tenant:05}").into(),
        entitled: Entitled { standing: Standing::Active, seats: Some(20) },
        policy: Arc::clone(&policy),
        reserve: Vec::new(),
        pool: None,
    });
    engine.install(at(0), Plan { tenants: tenants.collect(), ..Plan::default() }, &mut ());
    for tenant in 0..TENANTS {
        for subject in 0..tenant % 22 {
            let (tenant, subject) = (format!("customer-{tenant:05}"), format!("s{subject}"));
            let message = Acquire { ttl_s: Some(86_400), ..Acquire::new(&tenant, &subject, &subject, Kind::Desktop) };
            engine.acquire(at(1), &message, &mut ()).unwrap();
        }
    }
    engine
}

fn metrics() -> Arc<Metrics> {
    let metrics = Metrics::new(&BuildInfo { version: "0", revision: "0", rustc: "0" }).unwrap();
    metrics.export_tenants(TenantExport { mode: TenantMode::All, ..TenantExport::default() });
    metrics
}

/// One whole scrape of every tenant as a single shard, fleet included.
fn live(metrics: &Metrics, engine: &Engine, now: Now, out: &mut Vec<u8>) {
    let input = ScrapeInput {
        engine,
        now,
        subscription_state: &|_| State::Active,
        connections: &[],
        request_bodies_bytes: 0,
        answers_bytes: 0,
        answers_refused: 0,
        config: ConfigState::default(),
        scheduled: &[],
        journal: JournalStats::default(),
        events: EventStats::default(),
        clock_steps: 0,
        cluster: None,
    };
    out.clear();
    metrics.render(&input, ScrapeShard::parse("1/1"), out).unwrap();
}

/// The same series through a registry.
struct Rival {
    registry: Registry,
    families: Vec<GaugeVec>,
}

impl Rival {
    fn new() -> Self {
        let registry = Registry::new();
        let make = |name: &&str| {
            let family = GaugeVec::new(Opts::new(*name, "The same series."), &["tenant"]).unwrap();
            registry.register(Box::new(family.clone())).unwrap();
            family
        };
        let families = FAMILIES.iter().map(make).collect();
        Rival { registry, families }
    }

    fn scrape(&self, engine: &Engine, now: Now, out: &mut Vec<u8>) {
        engine.each_tenant(now, |view| {
            let values = [
                f64::from(view.held),
                f64::from(view.peak),
                f64::from(view.quota.unwrap_or(0)),
                view.seat_ms.unwrap_or(0) as f64 / 1e3,
                view.saturated_ms.unwrap_or(0) as f64 / 1e3,
                view.denials as f64,
                f64::from(view.channels_inbound + view.channels_outbound),
            ];
            for (family, value) in self.families.iter().zip(values) {
                family.with_label_values(&[&view.id]).set(value);
            }
        });
        out.clear();
        TextEncoder::new().encode(&self.registry.gather(), out).unwrap();
    }
}

/// CPU time of this thread: the machine may have other things to do.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn timed(run: impl FnOnce()) -> Duration {
    let began = cpu();
    run();
    cpu() - began
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn scrapes(criterion: &mut Criterion) {
    let (engine, all, rival) = (engine(), metrics(), Rival::new());
    let (mut out, mut other) = (Vec::new(), Vec::new());
    let (mut ours, mut theirs, mut bare, mut fleet) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let without = metrics();
    without.export_tenants(TenantExport { mode: TenantMode::None, ..TenantExport::default() });
    for round in 0..15 {
        let now = at(60_000 + round * 1_000);
        ours.push(timed(|| live(&all, &engine, now, &mut out)));
        fleet.push(timed(|| live(&without, &engine, now, &mut other)));
        theirs.push(timed(|| rival.scrape(&engine, now, &mut other)));
        bare.push(timed(|| engine.each_tenant(now, |view| _ = black_box(view))));
    }
    let series = (TENANTS * FAMILIES.len()) as f64;
    let per = |time: Duration| time.as_nanos() as f64 / series;
    let (ours, theirs, bare, fleet) = (median(ours), median(theirs), median(bare), median(fleet));
    println!("{TENANTS} tenants, {series} series of theirs, {} bytes", out.len());
    println!("live table: {ours:?} with the fleet, {:.1} ns per series", per(ours));
    println!("  of which  {fleet:?} without tenants' series, of which {bare:?} to read the table");
    println!("  so that a tenant's series costs {:.1} ns", per(ours.saturating_sub(fleet)));
    println!("registry:   {theirs:?}, {:.1} ns per series", per(theirs));
    println!("ratio:      {:.1}", theirs.as_secs_f64() / ours.as_secs_f64());

    let mut tick = 100_000;
    criterion.bench_function("scrape of 10,000 tenants", |bencher| {
        bencher.iter(|| {
            tick += 1;
            live(&all, &engine, at(tick), &mut out);
        });
    });
    let shard = all.shard();
    criterion.bench_function("count one decision", |bencher| {
        bencher.iter(|| {
            tick += 1;
            shard.decision(Some(Kind::Call), Code::AllowNew, Detail::None, black_box(tick % 4_000));
        });
    });
}

criterion_group!(benches, scrapes);
criterion_main!(benches);
