//! The text of a scrape: complete, well-formed, without a series twice, and with counters that never fall.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "metrics/scraped.rs"]
mod scraped;
#[path = "metrics/shipped.rs"]
mod shipped;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use usherd::daemon::cluster::Reason as TakeOver;
use usherd::daemon::edge::stats::{AcceptError, Broken, Deadline, Refusal};
use usherd::daemon::metrics::{
    Band, BuildInfo, CONTENT_TYPE, ChangeKind, ClusterStats, ConfigState, EventStats, Faults, HistogramStats,
    JournalStats, ListenerFaults, Metrics, ReloadResult, ReloadTrigger, Route, ScheduledChange, ScrapeInput,
    ScrapeShard, SyncResult, TenantExport, TenantMode, WebhookResult,
};
use usherd_engine::{
    Acquire, Code, Detail, Direction, Engine, Entitled, Kind, Limits, Now, Plan, Policy, Reason, Release, Standing,
    TenantPlan, Work,
};

use usherd_subscription::entitlement::State;

const BUILD: BuildInfo<'_> = BuildInfo { version: "0.1.0", revision: "abc\"d", rustc: "1.88" };

/// The catalogue, as far as it is filled by now.
const FAMILIES: &[(&str, &str)] = &[
    ("usherd_seats_in_use", "gauge"),
    ("usherd_seats_quota", "gauge"),
    ("usherd_seats_over", "gauge"),
    ("usherd_seats_in_use_peak", "gauge"),
    ("usherd_seat_seconds_total", "counter"),
    ("usherd_tenants", "gauge"),
    ("usherd_subscriptions", "gauge"),
    ("usherd_sessions", "gauge"),
    ("usherd_sessions_limited_total", "counter"),
    ("usherd_table_holds_total", "counter"),
    ("usherd_table_holds_long_total", "counter"),
    ("usherd_table_hold_longest_seconds", "gauge"),
    ("usherd_channels_in_use", "gauge"),
    ("usherd_decisions_total", "counter"),
    ("usherd_releases_total", "counter"),
    ("usherd_decision_duration_seconds", "histogram"),
    ("usherd_http_requests_total", "counter"),
    ("usherd_http_request_duration_seconds", "histogram"),
    ("usherd_http_requests_in_flight", "gauge"),
    ("usherd_connections", "gauge"),
    ("usherd_request_bodies_bytes", "gauge"),
    ("usherd_answers_bytes", "gauge"),
    ("usherd_answers_refused_total", "counter"),
    ("usherd_nodes", "gauge"),
    ("usherd_node_last_seen_timestamp_seconds", "gauge"),
    ("usherd_config_last_reload_successful", "gauge"),
    ("usherd_config_last_reload_success_timestamp_seconds", "gauge"),
    ("usherd_config_hash", "gauge"),
    ("usherd_config_tenants_rejected", "gauge"),
    ("usherd_config_reloads_total", "counter"),
    ("usherd_sync_runs_total", "counter"),
    ("usherd_sync_last_success_timestamp_seconds", "gauge"),
    ("usherd_scheduled_changes", "gauge"),
    ("usherd_scheduled_change_next_timestamp_seconds", "gauge"),
    ("usherd_clock_steps_total", "counter"),
    ("usherd_journal_records_total", "counter"),
    ("usherd_journal_bytes_total", "counter"),
    ("usherd_journal_errors_total", "counter"),
    ("usherd_journal_not_durable_total", "counter"),
    ("usherd_journal_ring_used_ratio", "gauge"),
    ("usherd_journal_degraded", "gauge"),
    ("usherd_journal_commit_duration_seconds", "histogram"),
    ("usherd_shard_owner", "gauge"),
    ("usherd_shard_takeovers_total", "counter"),
    ("usherd_cluster_proven_age_seconds", "gauge"),
    ("usherd_forwarded_requests_total", "counter"),
    ("usherd_fenced_answers_total", "counter"),
    ("usherd_provisional_grants_total", "counter"),
    ("usherd_unsettled_refusals_total", "counter"),
    ("usherd_event_subscribers", "gauge"),
    ("usherd_events_dropped_total", "counter"),
    ("usherd_webhook_deliveries_total", "counter"),
    ("usherd_webhook_queue_messages", "gauge"),
    ("usherd_connections_refused_total", "counter"),
    ("usherd_connection_deadlines_total", "counter"),
    ("usherd_connections_broken_total", "counter"),
    ("usherd_accept_errors_total", "counter"),
    ("usherd_panics_total", "counter"),
    ("usherd_impossible_total", "counter"),
    ("usherd_tls_certificate_expiry_timestamp_seconds", "gauge"),
    ("usherd_metrics_tenants_exported", "gauge"),
    ("usherd_metrics_tenants_omitted", "gauge"),
    ("usherd_build_info", "gauge"),
    ("usherd_tenant_seats_in_use", "gauge"),
    ("usherd_tenant_seats_in_use_peak", "gauge"),
    ("usherd_tenant_seats_quota", "gauge"),
    ("usherd_tenant_seat_seconds_total", "counter"),
    ("usherd_tenant_saturated_seconds_total", "counter"),
    ("usherd_tenant_denials_total", "counter"),
    ("usherd_tenant_channels_in_use", "gauge"),
    ("usherd_tenant_scheduled_seats_quota", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_open_fds", "gauge"),
    ("process_max_fds", "gauge"),
    ("process_virtual_memory_bytes", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_threads", "gauge"),
];

fn at(seconds: u64) -> Now {
    Now { uptime_ms: 1_000_000 + seconds * 1_000, utc_ms: 1_700_000_000_000 + (seconds * 1_000) as i64 }
}

fn plan(tenants: impl IntoIterator<Item = (String, Option<u32>)>) -> Plan {
    let policy = Arc::new(Policy::default());
    let tenants = tenants.into_iter().map(|(id, seats)| TenantPlan {
        id: id.into(),
        entitled: Entitled { standing: Standing::Active, seats },
        policy: Arc::clone(&policy),
        reserve: Vec::new(),
        pool: None,
    });
    Plan { tenants: tenants.collect(), ..Plan::default() }
}

fn engine(tenants: impl IntoIterator<Item = (String, Option<u32>)>) -> Engine {
    let engine = Engine::new(Limits::default());
    engine.install(at(0), plan(tenants), &mut ());
    engine
}

fn numbered(count: usize, seats: u32) -> Vec<(String, Option<u32>)> {
    (0..count).map(|at| (format!("t{at:05}"), Some(seats))).collect()
}

fn desktop(engine: &Engine, now: Now, tenant: &str, subject: &str) -> Code {
    let message = Acquire { ttl_s: Some(86_400), ..Acquire::new(tenant, subject, subject, Kind::Desktop) };
    engine.acquire(now, &message, &mut ()).unwrap().code
}

fn input<'a>(engine: &'a Engine, now: Now) -> ScrapeInput<'a> {
    ScrapeInput {
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
    }
}

fn metrics(mode: TenantMode) -> Arc<Metrics> {
    let metrics = Metrics::new(&BUILD).unwrap();
    metrics.export_tenants(TenantExport { mode, ..TenantExport::default() });
    metrics
}

fn render(metrics: &Metrics, input: &ScrapeInput<'_>, shard: Option<&str>) -> Scrape {
    let mut out = Vec::new();
    let shard = shard.map(|shard| ScrapeShard::parse(shard).unwrap());
    metrics.render(input, shard, &mut out).unwrap();
    Scrape::parse(String::from_utf8(out).unwrap())
}

/// An exposition, read with every rule of the format that a duplicate or a torn family would break.
struct Scrape {
    text: String,
    families: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
    labels: Vec<(String, Vec<(String, String)>)>,
}

impl Scrape {
    fn parse(text: String) -> Self {
        let (mut families, mut samples, mut labels) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let (mut helped, mut current) = (BTreeSet::new(), String::new());
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert!(helped.contains(name), "{name} has no help");
                assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
                current = name.to_owned();
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, own) = read_labels(series);
                let suffixes =
                    if families[&current] == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
                let of_family = |suffix: &&str| name.strip_suffix(*suffix) == Some(current.as_str());
                assert!(suffixes.iter().any(of_family), "{line} is not of {current}");
                let value = if value == "+Inf" { f64::INFINITY } else { value.parse().unwrap() };
                assert!(value >= 0.0, "{line} is below zero");
                let mut key = own.clone();
                key.sort();
                assert!(samples.insert(format!("{name}{key:?}"), value).is_none(), "{series} comes twice");
                labels.push((name, own));
            }
        }
        Scrape { text, families, samples, labels }
    }

    fn value(&self, series: &str) -> f64 {
        let (name, mut labels) = read_labels(series);
        labels.sort();
        *self.samples.get(&format!("{name}{labels:?}")).unwrap_or_else(|| panic!("{series} is missing"))
    }

    fn tenants(&self) -> BTreeSet<String> {
        let own = self.labels.iter().filter(|(name, _)| name == "usherd_tenant_seats_in_use");
        own.map(|(_, labels)| labels[0].1.clone()).collect()
    }

    fn is_cumulative(&self, series: &str) -> bool {
        let name = series.split('[').next().unwrap();
        let family = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        self.families.get(name).or_else(|| self.families.get(family)).is_some_and(|kind| kind != "gauge")
    }
}

fn read_labels(series: &str) -> (String, Vec<(String, String)>) {
    let Some((name, rest)) = series.split_once('{') else { return (series.to_owned(), Vec::new()) };
    let mut rest = rest;
    let mut labels = Vec::new();
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => match chars.next().unwrap().1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((label.trim_start_matches(',').to_owned(), value));
        rest = &after[end + 1..];
    }
    assert_eq!(rest, "}", "{series}");
    (name.to_owned(), labels)
}

/// A cluster of two shards, of which one has no owner.
fn cluster<'a>(decides: &'a dyn Fn(&str) -> bool) -> ClusterStats<'a> {
    ClusterStats {
        decides,
        owners: vec![("alpha".to_owned(), true), (String::new(), false)],
        proven_age_seconds: Some(0.25),
        takeovers: vec![("silent", 2), ("unowned", 1)],
        forwarded: 3,
        fenced: 4,
        provisional: 5,
        refused: 6,
    }
}

/// A scrape in which everything is told of something.
fn full() -> Scrape {
    let metrics = metrics(TenantMode::All);
    let engine =
        engine([("acme".into(), Some(2)), ("big".into(), None), ("empty".into(), Some(0)), ("busy".into(), Some(10))]);
    engine.hello(at(0), "pbx\"1\\", 1, &mut ()).unwrap();
    engine.hello(at(0), "_other", 1, &mut ()).unwrap();
    for subject in ["anna", "ben", "cleo"] {
        desktop(&engine, at(1), "acme", subject);
        desktop(&engine, at(1), "big", subject);
    }
    for subject in 0..9 {
        desktop(&engine, at(1), "busy", &format!("s{subject}"));
    }
    let call = Acquire { direction: Some(Direction::Inbound), ..Acquire::new("busy", "s1", "call-1", Kind::Call) };
    engine.acquire(at(1), &call, &mut ()).unwrap();
    let shard = metrics.shard();
    shard.decision(Some(Kind::Desktop), Code::AllowNew, Detail::None, 700);
    shard.release(Reason::Ttl);
    shard.http(Route::Acquire, &http::Method::POST, 200, 9_000);
    metrics.reloaded(ReloadTrigger::Start, ReloadResult::Applied);
    metrics.set_tls_expiries(&[("main", 1_800_000_000)]);
    let faults = |listener, full| ListenerFaults {
        listener,
        refused: vec![("full", full), ("address", 0)],
        deadlines: vec![("head", 2)],
        broken: vec![("protocol", 3)],
        accept_errors: vec![("aborted", 4)],
    };
    let listeners = [faults("main", 5), faults("unix", 1), faults("main", 6)];
    metrics.see_faults(&Faults { listeners: &listeners, panics: 7, impossible: 8 });
    metrics.see_faults(&Faults::default());
    let change = |tenant, at_utc_ms, kind, seats| ScheduledChange { tenant, at_utc_ms, kind, seats };
    let scrape = ScrapeInput {
        subscription_state: &|tenant| match tenant {
            "acme" => State::PendingChange,
            "big" => State::Trial,
            _ => State::Active,
        },
        connections: &[("main", 3), ("unix", 1), ("main", 4)],
        config: ConfigState {
            last_reload_successful: true,
            last_success_utc_ms: 1_700_000_000_500,
            hash: u64::MAX,
            tenants_rejected: 3,
        },
        scheduled: &[
            change("acme", 1_700_000_900_000, ChangeKind::Reduction, Some(1)),
            change("acme", 1_700_000_800_000, ChangeKind::Increase, Some(5)),
        ],
        journal: JournalStats {
            records: 12,
            bytes: 3_400,
            errors: 1,
            not_durable: 5,
            ring_used_ratio: 0.25,
            commits: HistogramStats { bounds_seconds: &[0.00001, 0.01], counts: &[3, 2, 1], sum_seconds: 0.5 },
            degraded: true,
        },
        events: EventStats { subscribers: 2, dropped: 7 },
        clock_steps: 1,
        cluster: Some(cluster(&|_| true)),
        ..input(&engine, at(11))
    };
    render(&metrics, &scrape, None)
}

#[test]
fn every_family_of_the_catalogue_is_there_with_its_type() {
    let scrape = full();
    for (family, kind) in FAMILIES {
        assert_eq!(scrape.families.get(*family).map(String::as_str), Some(*kind), "{family}");
    }
    let known: HashSet<&str> = FAMILIES.iter().map(|(family, _)| *family).collect();
    for family in scrape.families.keys() {
        assert!(known.contains(family.as_str()), "{family} is not in the catalogue");
    }
    assert_eq!(CONTENT_TYPE, "text/plain; version=0.0.4");
}

#[test]
fn a_member_tells_of_its_own_tenants_and_of_its_cluster() {
    let metrics = metrics(TenantMode::All);
    let engine = engine(numbered(10, 2));
    for (at, tenant) in [(1, "t00002"), (1, "t00003"), (9, "t00003")] {
        desktop(&engine, self::at(at), tenant, &format!("s{at}"));
    }
    let here = std::cell::Cell::new(3);
    let decides = |tenant: &str| tenant[1..].parse::<u32>().unwrap() < here.get();
    let seen = |now| {
        let input = ScrapeInput { cluster: Some(cluster(&decides)), ..input(&engine, now) };
        render(&metrics, &input, None)
    };
    let scrape = seen(at(11));
    assert_eq!(scrape.tenants(), ["t00000", "t00001", "t00002"].map(str::to_owned).into());
    let figures = |scrape: &Scrape, name: &str| scrape.value(name);
    assert_eq!(figures(&scrape, "usherd_seats_in_use"), 1.0);
    assert_eq!(figures(&scrape, "usherd_seats_quota"), 6.0);
    assert_eq!(figures(&scrape, "usherd_tenants{band=\"idle\"}"), 2.0);
    assert_eq!(figures(&scrape, "usherd_subscriptions{state=\"active\"}"), 3.0);
    assert_eq!(figures(&scrape, "usherd_metrics_tenants_omitted"), 0.0);
    assert_eq!(figures(&scrape, "usherd_shard_owner{shard=\"0\",member=\"alpha\"}"), 1.0);
    assert_eq!(figures(&scrape, "usherd_shard_owner{shard=\"1\",member=\"\"}"), 0.0);
    assert_eq!(figures(&scrape, "usherd_shard_takeovers_total{reason=\"silent\"}"), 2.0);
    let sums = ["forwarded_requests", "fenced_answers", "provisional_grants", "unsettled_refusals"];
    assert_eq!(sums.map(|name| figures(&scrape, &format!("usherd_{name}_total"))), [3.0, 4.0, 5.0, 6.0]);
    let seconds = figures(&scrape, "usherd_seat_seconds_total");
    here.set(4);
    let more = seen(at(11));
    assert_eq!((figures(&more, "usherd_seats_in_use"), more.tenants().len()), (3.0, 4));
    here.set(0);
    let none = seen(at(11));
    assert_eq!((none.tenants().len(), figures(&none, "usherd_seats_in_use")), (0, 0.0));
    assert!(figures(&none, "usherd_seat_seconds_total") >= seconds, "a counter does not fall with a shard");
    let alone = render(&metrics, &input(&engine, at(11)), None);
    assert!(alone.tenants().len() == 10 && !alone.text.contains("usherd_shard_owner"));
    let early = ClusterStats { proven_age_seconds: None, ..cluster(&decides) };
    let early = render(&metrics, &ScrapeInput { cluster: Some(early), ..input(&engine, at(11)) }, None);
    assert_eq!(figures(&early, "usherd_cluster_proven_age_seconds"), f64::INFINITY);
}

#[test]
fn the_figures_are_those_of_the_table() {
    let scrape = full();
    for (series, expected) in [
        ("usherd_seats_in_use", 14.0),
        ("usherd_seats_quota", 12.0),
        ("usherd_seats_over", 0.0),
        ("usherd_seats_in_use_peak", 14.0),
        ("usherd_seat_seconds_total", 140.0),
        ("usherd_tenants{band=\"full\"}", 1.0),
        ("usherd_tenants{band=\"90_to_100\"}", 1.0),
        ("usherd_tenants{band=\"idle\"}", 1.0),
        ("usherd_tenants{band=\"over\"}", 0.0),
        ("usherd_subscriptions{state=\"pending_change\"}", 1.0),
        ("usherd_subscriptions{state=\"active\"}", 2.0),
        ("usherd_subscriptions{state=\"ended\"}", 0.0),
        ("usherd_sessions{kind=\"desktop\",counts=\"true\"}", 14.0),
        ("usherd_sessions{kind=\"call\",counts=\"false\"}", 1.0),
        ("usherd_sessions{kind=\"mobile\",counts=\"true\"}", 0.0),
        ("usherd_channels_in_use{direction=\"inbound\"}", 1.0),
        ("usherd_nodes{state=\"up\"}", 2.0),
        ("usherd_node_last_seen_timestamp_seconds{node=\"pbx\\\"1\\\\\"}", 1_700_000_000.0),
        ("usherd_node_last_seen_timestamp_seconds{node=\"_other\"}", 1_700_000_000.0),
        ("usherd_connections{listener=\"main\"}", 7.0),
        ("usherd_connections_refused_total{listener=\"main\",reason=\"full\"}", 11.0),
        ("usherd_connections_refused_total{listener=\"main\",reason=\"address\"}", 0.0),
        ("usherd_connections_refused_total{listener=\"unix\",reason=\"full\"}", 1.0),
        ("usherd_connection_deadlines_total{listener=\"main\",reason=\"head\"}", 4.0),
        ("usherd_connections_broken_total{listener=\"unix\",reason=\"protocol\"}", 3.0),
        ("usherd_accept_errors_total{listener=\"main\",reason=\"aborted\"}", 8.0),
        ("usherd_panics_total", 7.0),
        ("usherd_impossible_total", 8.0),
        ("usherd_config_hash", ((1u64 << 48) - 1) as f64),
        ("usherd_config_last_reload_success_timestamp_seconds", 1_700_000_000.5),
        ("usherd_config_tenants_rejected", 3.0),
        ("usherd_config_reloads_total{trigger=\"start\",result=\"applied\"}", 1.0),
        ("usherd_config_reloads_total{trigger=\"watch\",result=\"rejected\"}", 0.0),
        ("usherd_scheduled_changes{change=\"cancellation\"}", 0.0),
        ("usherd_scheduled_change_next_timestamp_seconds{change=\"reduction\"}", 1_700_000_900.0),
        ("usherd_journal_commit_duration_seconds_bucket{le=\"0.01\"}", 5.0),
        ("usherd_journal_commit_duration_seconds_count", 6.0),
        ("usherd_tenant_seats_in_use{tenant=\"acme\"}", 2.0),
        ("usherd_tenant_seats_quota{tenant=\"big\"}", f64::INFINITY),
        ("usherd_tenant_seat_seconds_total{tenant=\"acme\"}", 20.0),
        ("usherd_tenant_saturated_seconds_total{tenant=\"acme\"}", 10.0),
        ("usherd_tenant_denials_total{tenant=\"acme\"}", 1.0),
        ("usherd_tenant_channels_in_use{tenant=\"busy\"}", 1.0),
        ("usherd_tenant_scheduled_seats_quota{tenant=\"acme\"}", 5.0),
        ("usherd_metrics_tenants_exported", 4.0),
        ("usherd_metrics_tenants_omitted", 0.0),
    ] {
        assert_eq!(scrape.value(series), expected, "{series}");
    }
    assert!(!scrape.text.contains("usherd_tenant_scheduled_seats_quota{tenant=\"big\"}"));
}

#[test]
fn label_values_come_from_closed_sets() {
    fn words<T: Copy>(all: &[T], word: fn(T) -> &'static str) -> Vec<&'static str> {
        all.iter().map(|value| word(*value)).collect()
    }
    let sets: HashMap<&str, Vec<&str>> = HashMap::from([
        ("band", words(Band::ALL, Band::as_str)),
        ("kind", [words(Kind::ALL, Kind::as_str), vec![""]].concat()),
        ("counts", vec!["true", "false"]),
        ("direction", vec!["inbound", "outbound"]),
        ("code", words(Code::ALL, Code::as_str)),
        ("detail", words(Detail::ALL, Detail::as_str)),
        ("reason", {
            let of_edge = [words(Refusal::ALL, Refusal::as_str), words(Deadline::ALL, Deadline::as_str)].concat();
            let errors = [words(Broken::ALL, Broken::as_str), words(AcceptError::ALL, AcceptError::as_str)].concat();
            let takeovers = words(&TakeOver::ALL, TakeOver::as_str);
            [words(Reason::ALL, Reason::as_str), of_edge, errors, takeovers].concat()
        }),
        ("route", words(Route::ALL, Route::as_str)),
        ("trigger", words(ReloadTrigger::ALL, ReloadTrigger::as_str)),
        ("result", {
            let of_sync =
                [words(ReloadResult::ALL, ReloadResult::as_str), words(SyncResult::ALL, SyncResult::as_str)].concat();
            [of_sync, words(WebhookResult::ALL, WebhookResult::as_str)].concat()
        }),
        ("change", words(ChangeKind::ALL, ChangeKind::as_str)),
        ("work", words(Work::ALL, Work::as_str)),
        ("method", vec!["GET", "HEAD", "POST", "PUT", "DELETE", "other"]),
    ]);
    let open = ["tenant", "node", "listener", "le", "version", "revision", "rustc", "shard", "member"];
    let states = [words(State::ALL, State::as_str), vec!["up", "silent"]].concat();
    for (name, labels) in full().labels {
        for (label, value) in labels {
            let allowed = match label.as_str() {
                "state" => states.contains(&value.as_str()),
                "status" => value == "other" || value.parse::<u16>().is_ok_and(|status| (100..600).contains(&status)),
                label if open.contains(&label) => true,
                label => sets.get(label).is_some_and(|set| set.contains(&value.as_str())),
            };
            assert!(allowed, "{name}: {label}={value:?}");
        }
    }
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { panic!("promtool is missing: install the Debian package `prometheus`") };
    child.stdin.take().unwrap().write_all(full().text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_shipped_scrape_example_is_a_configuration_of_prometheus() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus/scrape.yml");
    let output = Command::new("promtool").args(["check", "config", file]).output();
    let Ok(output) = output else { panic!("promtool is missing: install the Debian package `prometheus`") };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn top_shows_the_largest_and_noticeable_and_sums_the_rest() {
    let engine = engine(numbered(2_000, 3));
    for tenant in 0..60 {
        desktop(&engine, at(1), &format!("t{tenant:05}"), "anna");
    }
    desktop(&engine, at(1), "t00059", "ben");
    for subject in ["anna", "ben", "cleo", "dora"] {
        desktop(&engine, at(1), "t01999", subject);
    }
    let metrics = metrics(TenantMode::Top);
    let scrape = render(&metrics, &input(&engine, at(2)), None);
    let first = scrape.tenants();
    assert_eq!(first.len(), 50);
    assert!(first.contains("t00059") && first.contains("t01999") && !first.contains("t00055"));
    assert_eq!(scrape.value("usherd_metrics_tenants_omitted"), 1_950.0);
    // Others grow: those of before keep their place for half an hour.
    for tenant in 1_000..1_050 {
        for subject in ["anna", "ben"] {
            desktop(&engine, at(3), &format!("t{tenant:05}"), subject);
        }
    }
    let later = render(&metrics, &input(&engine, at(60)), None).tenants();
    assert!(later.is_superset(&first) && later.len() == 98, "{}", later.len());
    engine.release(at(61), &Release::new("t01999", "anna"), &mut ());
    let much_later = render(&metrics, &input(&engine, at(60 + 1_801)), None).tenants();
    // It is not among the largest any more, but it denied somebody within the hour.
    assert!(much_later.contains("t01999") && much_later.len() == 51, "{}", much_later.len());
}

#[test]
fn all_beyond_a_thousand_tenants_is_told_in_shards() {
    let engine = engine(numbered(1_500, 3));
    let metrics = metrics(TenantMode::All);
    let whole = render(&metrics, &input(&engine, at(1)), None);
    assert_eq!(whole.value("usherd_metrics_tenants_omitted"), 1_450.0);
    assert!(whole.text.contains("# metrics.tenants = \"all\": 1500 tenants are too many"));
    assert_eq!(metrics.shards_offered(1_500), 2);
    let shards: Vec<Scrape> =
        ["1/2", "2/2"].iter().map(|shard| render(&metrics, &input(&engine, at(1)), Some(shard))).collect();
    assert!(shards[0].tenants().is_disjoint(&shards[1].tenants()));
    assert_eq!(shards[0].tenants().len() + shards[1].tenants().len(), 1_500);
    assert!(shards[0].families.contains_key("usherd_seats_in_use"));
    assert!(!shards[1].families.contains_key("usherd_seats_in_use"));
    for wrong in ["0/2", "3/2", "1/0", "1/1025", "1", "", "-1/2", "+1/2", "1/2/3", "a/b", "1/99999999999"] {
        assert_eq!(ScrapeShard::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn watch_shows_those_that_are_named_and_none_shows_none() {
    let engine = engine(numbered(20, 3));
    let metrics = metrics(TenantMode::Watch);
    let watch = ["t00003", "t00007", "gone"].map(Into::into).into();
    metrics.export_tenants(TenantExport { mode: TenantMode::Watch, watch, ..TenantExport::default() });
    let scrape = render(&metrics, &input(&engine, at(1)), None);
    assert_eq!(scrape.tenants(), ["t00003".to_owned(), "t00007".to_owned()].into());
    metrics.export_tenants(TenantExport { mode: TenantMode::None, ..TenantExport::default() });
    let scrape = render(&metrics, &input(&engine, at(1)), None);
    assert!(scrape.tenants().is_empty());
    assert_eq!(scrape.value("usherd_metrics_tenants_omitted"), 20.0);
}

#[test]
fn a_node_beyond_the_first_thousand_is_one_of_the_others() {
    let engine = engine([]);
    for node in 0..1_005 {
        engine.hello(at(node), &format!("n{node}"), 1, &mut ()).unwrap();
    }
    let scrape = render(&metrics(TenantMode::None), &input(&engine, at(1_005)), None);
    assert_eq!(scrape.value("usherd_node_last_seen_timestamp_seconds{node=\"_other\"}"), 1_700_001_000.0);
    let nodes = scrape.labels.iter().filter(|(name, _)| name == "usherd_node_last_seen_timestamp_seconds");
    assert_eq!(nodes.count(), 1_001);
}

#[test]
fn nobody_is_woken_for_a_node_that_said_goodbye() {
    let engine = engine([]);
    for node in ["left", "lost"] {
        engine.hello(at(0), node, 1, &mut ()).unwrap();
    }
    engine.goodbye(at(1), "left", 1, &mut ()).unwrap();
    let scrape = render(&metrics(TenantMode::None), &input(&engine, at(20)), None);
    assert_eq!(scrape.value("usherd_nodes{state=\"silent\"}"), 1.0);
    let nodes = scrape.labels.iter().filter(|(name, _)| name == "usherd_node_last_seen_timestamp_seconds");
    assert_eq!(nodes.map(|(_, labels)| labels[0].1.as_str()).collect::<Vec<_>>(), ["lost"]);
}

#[test]
fn seat_time_of_a_tenant_that_is_gone_stays_in_the_sum() {
    let engine = engine(numbered(3, 3));
    let metrics = metrics(TenantMode::All);
    desktop(&engine, at(0), "t00001", "anna");
    assert_eq!(render(&metrics, &input(&engine, at(10)), None).value("usherd_seat_seconds_total"), 10.0);
    engine.release(at(10), &Release::new("t00001", "anna"), &mut ());
    engine.install(at(10), plan(numbered(1, 3)), &mut ());
    assert_eq!(render(&metrics, &input(&engine, at(20)), None).value("usherd_seat_seconds_total"), 10.0);
    // It comes back, and others with it: counters go on from where the table says.
    engine.install(at(20), plan(numbered(9, 3)), &mut ());
    desktop(&engine, at(20), "t00001", "anna");
    let scrape = render(&metrics, &input(&engine, at(25)), None);
    assert_eq!(scrape.value("usherd_seat_seconds_total"), 15.0);
    assert_eq!(scrape.value("usherd_tenant_seat_seconds_total{tenant=\"t00001\"}"), 5.0);
}

#[test]
fn counters_never_fall_while_seats_move() {
    let engine = engine(numbered(8, 2));
    let metrics = metrics(TenantMode::All);
    let (stop, clock) = (AtomicBool::new(false), AtomicU64::new(1_000_000));
    let now = || {
        let uptime_ms = clock.fetch_add(1, Ordering::Relaxed);
        Now { uptime_ms, utc_ms: 1_700_000_000_000 + uptime_ms as i64 }
    };
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (engine, stop, now, shard) = (&engine, &stop, &now, metrics.shard());
            scope.spawn(move || {
                for turn in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (tenant, subject) = (format!("t{:05}", turn % 8), format!("s{thread}{}", turn % 5));
                    let code = desktop(engine, now(), &tenant, &subject);
                    shard.decision(Some(Kind::Desktop), code, Detail::None, turn % 1_000);
                    if turn % 3 > 0 {
                        let released = engine.release(now(), &Release::new(&tenant, &subject), &mut ());
                        shard.decision(None, released.code, released.detail, 100);
                        shard.release(Reason::Node);
                    }
                    if thread == 0 && turn % 5_000 == 0 {
                        engine.install(now(), plan(numbered(8 + (turn as usize / 5_000) % 2, 2)), &mut ());
                    }
                }
            });
        }
        // Also where an assertion fails: nobody would end the churn then.
        let _stop = StopOnDrop(&stop);
        let mut before: Option<Scrape> = None;
        for _ in 0..300 {
            let scrape = render(&metrics, &input(&engine, now()), None);
            let each: f64 = scrape
                .tenants()
                .iter()
                .map(|t| scrape.value(&format!("usherd_tenant_seats_in_use{{tenant=\"{t}\"}}")))
                .sum();
            assert_eq!(scrape.value("usherd_seats_in_use"), each, "one scrape is one cut");
            if let Some(before) = &before {
                for (series, value) in before.samples.iter().filter(|(series, _)| before.is_cumulative(series)) {
                    // The ninth tenant comes and goes.
                    let now = scrape.samples.get(series);
                    assert!(now.is_some() || series.contains("t00008"), "{series} is gone");
                    let begins_anew = series.contains("t00008");
                    assert!(begins_anew || now.is_some_and(|now| now >= value), "{series}: {value} then {now:?}");
                }
            }
            before = Some(scrape);
        }
    });
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
