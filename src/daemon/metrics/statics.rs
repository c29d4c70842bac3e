//! The families whose series are few: through the `prometheus` crate, set at a scrape.

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Counter, Encoder, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result,
    TextEncoder,
};
use usherd_engine::{Engine, Kind, NodeView, TenantView, Work};
use usherd_subscription::entitlement::State;

use super::faults::{FaultCounters, Faults};
use super::input::{BuildInfo, ScheduledChange, ScrapeInput};
use super::maker::{Maker, raise};
use super::words::{Band, ChangeKind, ReloadResult, ReloadTrigger, SyncResult, WebhookResult};

/// Both values of a yes-or-no label, by the value.
const BOOLS: [&str; 2] = ["false", "true"];
const DIRECTIONS: [&str; 2] = ["inbound", "outbound"];

/// Sums over all tenants, from one pass.
#[derive(Clone, Debug, Default)]
pub(super) struct Fleet {
    pub(super) held: u64,
    quota: u64,
    over: u64,
    channels: [u64; 2],
    bands: [i64; Band::ALL.len()],
    states: [i64; State::ALL.len()],
}

impl Fleet {
    pub(super) fn add(&mut self, view: &TenantView, state: impl FnOnce(&str) -> State) {
        self.held += u64::from(view.held);
        self.quota += u64::from(view.quota.unwrap_or(0));
        self.over += u64::from(view.over());
        self.channels[0] += u64::from(view.channels_inbound);
        self.channels[1] += u64::from(view.channels_outbound);
        self.bands[Band::of(view.held, view.quota) as usize] += 1;
        if view.configured {
            self.states[state(&view.id) as usize] += 1;
        }
    }
}

/// The table, from above.
struct Table {
    seats_in_use: IntGauge,
    seats_quota: IntGauge,
    seats_over: IntGauge,
    seats_peak: IntGauge,
    seat_seconds: Counter,
    tenants: IntGaugeVec,
    subscriptions: IntGaugeVec,
    sessions: IntGaugeVec,
    sessions_limited: IntCounter,
    channels: IntGaugeVec,
    holds: IntCounterVec,
    holds_long: IntCounterVec,
    hold_longest: GaugeVec,
    nodes: IntGaugeVec,
}

impl Table {
    fn new(make: &Maker) -> Result<Self> {
        Ok(Table {
            seats_in_use: make.gauge("usherd_seats_in_use", "Seats held, of all tenants.")?,
            seats_quota: make.gauge("usherd_seats_quota", "Quotas of all tenants together, as far as they are limited.")?,
            seats_over: make.gauge("usherd_seats_over", "Seats held above the quota of their tenant.")?,
            seats_peak: make.gauge(
                "usherd_seats_in_use_peak",
                "Most seats seen held at once, looked at about every second, in the present and the previous window of 5 minutes.",
            )?,
            seat_seconds: make.add(Counter::new(
                "usherd_seat_seconds_total",
                "Seats held, summed over time; its rate is the exact mean occupancy.",
            ))?,
            tenants: make.gauges("usherd_tenants", "Tenants by how much of their quota they use.", &["band"])?,
            subscriptions: make.gauges("usherd_subscriptions", "Configured tenants by the state of their subscription.", &["state"])?,
            sessions: make.gauges("usherd_sessions", "Live sessions by kind, and whether they need a seat.", &["kind", "counts"])?,
            sessions_limited: make.counter(
                "usherd_sessions_limited_total",
                "Requests that met a limit of the daemon on live sessions.",
            )?,
            channels: make.gauges("usherd_channels_in_use", "Trunk lines in use.", &["direction"])?,
            holds: make.counters(
                "usherd_table_holds_total",
                "Holds of a lock of the table by other work than decisions.",
                &["work"],
            )?,
            holds_long: make.counters("usherd_table_holds_long_total", "Holds of a lock of the table by other work than decisions, of more than 20 microseconds of processor time.", &["work"])?,
            hold_longest: make.float_gauges(
                "usherd_table_hold_longest_seconds",
                "The longest hold of a lock of the table by other work than decisions since the start, processor time.",
                &["work"],
            )?,
            nodes: make.gauges("usherd_nodes", "Nodes that said hello, by whether their lease holds.", &["state"])?,
        })
    }

    fn set(&self, fleet: &Fleet, seat_ms: u64, peak: u64, engine: &Engine, nodes: &[NodeView]) {
        self.seats_in_use.set(int(fleet.held));
        self.seats_quota.set(int(fleet.quota));
        self.seats_over.set(int(fleet.over));
        self.seats_peak.set(int(peak));
        self.seat_seconds.reset();
        self.seat_seconds.inc_by(thousandths(seat_ms));
        for band in Band::ALL {
            self.tenants.with_label_values(&[band.as_str()]).set(fleet.bands[*band as usize]);
        }
        for state in State::ALL {
            self.subscriptions.with_label_values(&[state.as_str()]).set(fleet.states[*state as usize]);
        }
        for (kind, sessions) in Kind::ALL.iter().zip(engine.sessions_by_kind()) {
            for (counts, sessions) in BOOLS.iter().zip(sessions) {
                self.sessions.with_label_values(&[kind.as_str(), counts]).set(i64::from(sessions));
            }
        }
        raise(&self.sessions_limited, engine.limited_total());
        for (direction, lines) in DIRECTIONS.iter().zip(fleet.channels) {
            self.channels.with_label_values(&[direction]).set(int(lines));
        }
        for work in Work::ALL {
            let (times, labels) = (engine.hold_times(*work), [work.as_str()]);
            raise(&self.holds.with_label_values(&labels), times.count);
            raise(&self.holds_long.with_label_values(&labels), times.long);
            self.hold_longest.with_label_values(&labels).set(times.longest_ns as f64 / 1e9);
        }
        let up = nodes.iter().filter(|node| node.up).count();
        let silent = nodes.iter().filter(|node| !node.up && !node.left && node.epoch.is_some()).count();
        self.nodes.with_label_values(&["up"]).set(int(up as u64));
        self.nodes.with_label_values(&["silent"]).set(int(silent as u64));
    }
}

/// The daemon around the table.
struct Service {
    connections: IntGaugeVec,
    request_bodies: IntGauge,
    answers: IntGauge,
    answers_refused: IntCounter,
    reload_successful: IntGauge,
    reload_success_at: Gauge,
    config_hash: IntGauge,
    tenants_rejected: IntGauge,
    reloads: IntCounterVec,
    sync_runs: IntCounterVec,
    sync_success_at: Gauge,
    scheduled: IntGaugeVec,
    scheduled_next: GaugeVec,
    clock_steps: IntCounter,
    journal_records: IntCounter,
    journal_bytes: IntCounter,
    journal_errors: IntCounter,
    journal_not_durable: IntCounter,
    journal_ring_used: Gauge,
    journal_degraded: IntGauge,
    event_subscribers: IntGauge,
    events_dropped: IntCounter,
    webhook_deliveries: IntCounterVec,
    webhook_queue: IntGauge,
    tls_expiry: IntGaugeVec,
}

impl Service {
    fn new(make: &Maker) -> Result<Self> {
        let ([request_bodies, answers], answers_refused) = edge_memory(make)?;
        let [reload_successful, config_hash, tenants_rejected] = config_gauges(make)?;
        let [journal_records, journal_bytes, journal_errors, journal_not_durable] = journal_counters(make)?;
        Ok(Service {
            connections: make.gauges("usherd_connections", "Open connections.", &["listener"])?,
            request_bodies,
            answers,
            answers_refused,
            reload_successful,
            reload_success_at: make.add(Gauge::new(
                "usherd_config_last_reload_success_timestamp_seconds",
                "When a configuration was last taken; 0 for never.",
            ))?,
            config_hash,
            tenants_rejected,
            reloads: make.counters(
                "usherd_config_reloads_total",
                "Attempts to load the configuration, by trigger and result.",
                &["trigger", "result"],
            )?,
            sync_runs: make.counters(
                "usherd_sync_runs_total",
                "Tries to pull tenant records, by result.",
                &["result"],
            )?,
            sync_success_at: make.add(Gauge::new(
                "usherd_sync_last_success_timestamp_seconds",
                "When the publisher of tenant records was last heard and agreed; 0 for never.",
            ))?,
            scheduled: make.gauges(
                "usherd_scheduled_changes",
                "Booked changes that are still to come.",
                &["change"],
            )?,
            scheduled_next: make.add(GaugeVec::new(
                Opts::new(
                    "usherd_scheduled_change_next_timestamp_seconds",
                    "When the next of them takes effect; 0 for none.",
                ),
                &["change"],
            ))?,
            clock_steps: make
                .counter("usherd_clock_steps_total", "Steps of the wall clock against the monotonic one.")?,
            journal_records,
            journal_bytes,
            journal_errors,
            journal_not_durable,
            journal_ring_used: make.add(Gauge::new(
                "usherd_journal_ring_used_ratio",
                "How much of the ring in memory waits for the disk; 0 where there is none.",
            ))?,
            journal_degraded: make.gauge(
                "usherd_journal_degraded",
                "Whether decisions go on without being written as durably as configured.",
            )?,
            event_subscribers: make.gauge("usherd_event_subscribers", "Listeners to the event stream.")?,
            events_dropped: make.counter("usherd_events_dropped_total", "Events that a slow listener missed.")?,
            webhook_deliveries: make.counters(
                "usherd_webhook_deliveries_total",
                "Messages of webhooks and their tries, by what came of them.",
                &["result"],
            )?,
            webhook_queue: make
                .gauge("usherd_webhook_queue_messages", "Messages that wait for the receivers of webhooks.")?,
            tls_expiry: make.gauges(
                "usherd_tls_certificate_expiry_timestamp_seconds",
                "When the certificate that a listener shows expires, or the first of its chain.",
                &["listener"],
            )?,
        })
    }

    fn set(&self, input: &ScrapeInput<'_>) {
        self.connections.reset();
        for (listener, open) in input.connections {
            self.connections.with_label_values(&[listener]).add(int(*open));
        }
        self.request_bodies.set(int(input.request_bodies_bytes));
        self.answers.set(int(input.answers_bytes));
        raise(&self.answers_refused, input.answers_refused);
        self.reload_successful.set(i64::from(input.config.last_reload_successful));
        self.reload_success_at.set(utc_seconds(input.config.last_success_utc_ms));
        self.config_hash.set(int(input.config.hash & ((1 << 48) - 1)));
        self.tenants_rejected.set(int(input.config.tenants_rejected));
        raise(&self.clock_steps, input.clock_steps);
        raise(&self.journal_records, input.journal.records);
        raise(&self.journal_bytes, input.journal.bytes);
        raise(&self.journal_errors, input.journal.errors);
        raise(&self.journal_not_durable, input.journal.not_durable);
        self.journal_ring_used.set(input.journal.ring_used_ratio);
        self.journal_degraded.set(i64::from(input.journal.degraded));
        self.event_subscribers.set(int(input.events.subscribers));
        raise(&self.events_dropped, input.events.dropped);
        self.set_scheduled(input.scheduled);
    }

    fn set_scheduled(&self, changes: &[ScheduledChange<'_>]) {
        for kind in ChangeKind::ALL {
            let of_kind = changes.iter().filter(|change| change.kind == *kind);
            let next = of_kind.clone().map(|change| change.at_utc_ms).min();
            self.scheduled.with_label_values(&[kind.as_str()]).set(int(of_kind.count() as u64));
            self.scheduled_next.with_label_values(&[kind.as_str()]).set(utc_seconds(next.unwrap_or(0)));
        }
    }
}

/// Counters of what the journal wrote, and of what it could not.
fn journal_counters(make: &Maker) -> Result<[IntCounter; 4]> {
    Ok([
        make.counter("usherd_journal_records_total", "Records written to the journal.")?,
        make.counter("usherd_journal_bytes_total", "Bytes written to the journal.")?,
        make.counter("usherd_journal_errors_total", "Writes and syncs of the journal that failed.")?,
        make.counter(
            "usherd_journal_not_durable_total",
            "Answers that went out without being as durable as configured.",
        )?,
    ])
}

/// Gauges of what the edge holds for clients, and a counter of what it refused for that.
fn edge_memory(make: &Maker) -> Result<([IntGauge; 2], IntCounter)> {
    let gauges = [
        make.gauge(
            "usherd_request_bodies_bytes",
            "What unfinished request bodies hold, against server.request_bodies_bytes_max.",
        )?,
        make.gauge("usherd_answers_bytes", "What large answers hold that wait for their readers; 32 MiB at the most.")?,
    ];
    let refused = make.counter(
        "usherd_answers_refused_total",
        "Answers to readers that were refused because those that wait hold what they may.",
    )?;
    Ok((gauges, refused))
}

/// The last attempt to load the configuration, the hash of what is in force, and the tenant files that are not taken.
fn config_gauges(make: &Maker) -> Result<[IntGauge; 3]> {
    Ok([
        make.gauge(
            "usherd_config_last_reload_successful",
            "Whether the last attempt to load the configuration was taken.",
        )?,
        make.gauge("usherd_config_hash", "48 bits of the hash of the configuration in force.")?,
        make.gauge(
            "usherd_config_tenants_rejected",
            "Tenant files that are not taken: their tenants keep their last good record, or are none.",
        )?,
    ])
}

/// All of them, with their registry.
pub(super) struct Statics {
    registry: Registry,
    table: Table,
    service: Service,
    faults: FaultCounters,
}

impl Statics {
    pub(super) fn new(build: &BuildInfo<'_>) -> Result<Self> {
        let make = Maker(Registry::new());
        let table = Table::new(&make)?;
        let service = Service::new(&make)?;
        let faults = FaultCounters::new(&make)?;
        for trigger in ReloadTrigger::ALL {
            for result in ReloadResult::ALL {
                service.reloads.with_label_values(&[trigger.as_str(), result.as_str()]);
            }
        }
        for result in SyncResult::ALL {
            service.sync_runs.with_label_values(&[result.as_str()]);
        }
        for result in WebhookResult::ALL {
            service.webhook_deliveries.with_label_values(&[result.as_str()]);
        }
        let info = make.gauges("usherd_build_info", "What runs here; always 1.", &["version", "revision", "rustc"])?;
        info.with_label_values(&[build.version, build.revision, build.rustc]).set(1);
        make.0.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Statics { registry: make.0, table, service, faults })
    }

    pub(super) fn reloaded(&self, trigger: ReloadTrigger, result: ReloadResult) {
        self.service.reloads.with_label_values(&[trigger.as_str(), result.as_str()]).inc();
    }

    pub(super) fn synced(&self, result: SyncResult, success_utc_ms: Option<i64>) {
        self.service.sync_runs.with_label_values(&[result.as_str()]).inc();
        if let Some(at) = success_utc_ms {
            self.service.sync_success_at.set(utc_seconds(at));
        }
    }

    pub(super) fn webhook(&self, result: WebhookResult) {
        self.service.webhook_deliveries.with_label_values(&[result.as_str()]).inc();
    }

    pub(super) fn see_faults(&self, faults: &Faults<'_>) {
        self.faults.set(faults);
    }

    pub(super) fn webhooks_waiting(&self, messages: usize) {
        self.service.webhook_queue.set(int(messages as u64));
    }

    pub(super) fn set_tls_expiries(&self, expiries: &[(&str, i64)]) {
        self.service.tls_expiry.reset();
        for (listener, at) in expiries {
            self.service.tls_expiry.with_label_values(&[listener]).set(*at);
        }
    }

    /// Sets everything and writes it.
    pub(super) fn write(
        &self,
        input: &ScrapeInput<'_>,
        fleet: &Fleet,
        seat_ms: u64,
        peak: u64,
        nodes: &[NodeView],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.table.set(fleet, seat_ms, peak, input.engine, nodes);
        self.service.set(input);
        TextEncoder::new().encode(&self.registry.gather(), out)
    }
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970 UTC as seconds; nothing is before that.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of this era fit")]
pub(super) fn utc_seconds(utc_ms: i64) -> f64 {
    utc_ms.max(0) as f64 / 1_000.0
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seat seconds of a fleet lose milliseconds after 285 years of 1,000 seats"
)]
fn thousandths(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}
