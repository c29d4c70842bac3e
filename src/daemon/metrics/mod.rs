//! The answer to Prometheus: the fleet, and tenants, encoded from the live table (METRICS).
//!
//! The hot path counts into a [`Shard`] of its own runtime. A scrape reads the table once, so that sums and
//! tenants are one cut; scrapes come one after the other, and no decision waits for one.

mod cluster;
mod discovery;
mod faults;
mod input;
mod maker;
pub mod route;
mod rows;
pub mod scrapes;
mod shard;
mod statics;
mod tenants;
mod text;
mod words;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

pub use cluster::ClusterStats;
pub use discovery::{service_discovery, shards_for};
pub use faults::{Faults, ListenerFaults, Reasons};
pub use input::{BuildInfo, ConfigState, EventStats, HistogramStats, JournalStats, ScheduledChange, ScrapeInput};
pub use route::Route;
pub use shard::{InFlight, Shard};
pub use tenants::{SHARDS_MAX, ScrapeShard, TENANTS_UNSHARDED_MAX, TenantExport, TenantMode};
pub use text::CONTENT_TYPE;
pub use words::{Band, ChangeKind, ReloadResult, ReloadTrigger, SyncResult, WebhookResult};

use rows::Rows;
use shard::Cells;
use statics::{Fleet, Statics, utc_seconds};
use text::Text;
use usherd_engine::{NodeView, Now};

/// Most sets of cells; whoever asks for more shares one.
const CELLS_MAX: usize = 64;
/// Nodes with a series of their own; the others share `_other`.
const NODES_MAX: usize = 1_000;
const OTHER_NODE: &str = "_other";
const PEAK_WINDOW_MS: u64 = 300_000;

/// All metrics of the process. One per process; share it.
pub struct Metrics {
    statics: Statics,
    cells: Mutex<Dealt>,
    peak: Mutex<Peak>,
    exporter: Mutex<Exporter>,
}

/// The cells that were given out.
#[derive(Default)]
struct Dealt {
    cells: Vec<Arc<Cells>>,
    asked: usize,
}

/// The state that a scrape keeps for the next one.
#[derive(Default)]
struct Exporter {
    export: TenantExport,
    rows: Rows,
}

impl Metrics {
    /// All families, at zero.
    ///
    /// # Errors
    /// Two families have the same name: a fault of the program.
    pub fn new(build: &BuildInfo<'_>) -> prometheus::Result<Arc<Self>> {
        Ok(Arc::new(Metrics {
            statics: Statics::new(build)?,
            cells: Mutex::default(),
            peak: Mutex::default(),
            exporter: Mutex::default(),
        }))
    }

    /// Counters for one more runtime. Call it once per runtime: its cells stay for good, so that what was
    /// counted does, and from the 65th call on they are shared.
    pub fn shard(&self) -> Shard {
        let mut dealt = self.cells.lock();
        let at = dealt.asked % CELLS_MAX;
        dealt.asked += 1;
        if at == dealt.cells.len() {
            dealt.cells.push(Arc::new(Cells::new()));
        }
        Shard { cells: Arc::clone(&dealt.cells[at]) }
    }

    /// Sets which tenants get series of their own.
    pub fn export_tenants(&self, export: TenantExport) {
        self.exporter.lock().export = export;
    }

    /// How many shards `/v1/prometheus/sd` offers for so many tenants: one, unless all are exported.
    pub fn shards_offered(&self, tenants: usize) -> u32 {
        if self.exporter.lock().export.mode == TenantMode::All { shards_for(tenants) } else { 1 }
    }

    /// The configuration was loaded, or not.
    pub fn reloaded(&self, trigger: ReloadTrigger, result: ReloadResult) {
        self.statics.reloaded(trigger, result);
    }

    /// Records were pulled, or not; `success_utc_ms` where the publisher was heard and agrees.
    pub fn synced(&self, result: SyncResult, success_utc_ms: Option<i64>) {
        self.statics.synced(result, success_utc_ms);
    }

    /// Something came of a message of a webhook.
    pub fn webhook(&self, result: WebhookResult) {
        self.statics.webhook(result);
    }

    /// So many messages wait for the receivers of webhooks.
    pub fn webhooks_waiting(&self, messages: usize) {
        self.statics.webhooks_waiting(messages);
    }

    /// Takes over what went wrong since the start; call it before a scrape.
    pub fn see_faults(&self, faults: &Faults<'_>) {
        let _no_scrape_meanwhile = self.exporter.lock();
        self.statics.see_faults(faults);
    }

    /// Sets when the certificates in use expire, by listener, seconds since 1970 UTC.
    pub fn set_tls_expiries(&self, expiries: &[(&str, i64)]) {
        let _no_scrape_meanwhile = self.exporter.lock();
        self.statics.set_tls_expiries(expiries);
    }

    /// Takes note of the seats that the whole fleet holds, for their peak. Call it about every second; it waits for
    /// no scrape.
    pub fn see_held(&self, now: Now, held: u64) {
        self.peak.lock().see(now.uptime_ms, held);
    }

    /// Appends an exposition of type [`CONTENT_TYPE`]. A shard holds its tenants only, and the first of them
    /// the fleet too, so that all shards together hold every series once.
    ///
    /// Call it off the decision runtimes. It keeps about 170 bytes per tenant between scrapes, and needs no
    /// memory beyond that and `out`.
    ///
    /// # Errors
    /// A family cannot be encoded: a fault of the program.
    pub fn render(
        &self,
        input: &ScrapeInput<'_>,
        shard: Option<ScrapeShard>,
        out: &mut Vec<u8>,
    ) -> prometheus::Result<()> {
        let mut exporter = self.exporter.lock();
        let Exporter { export, rows } = &mut *exporter;
        let now_ms = input.now.uptime_ms;
        let booked = booked(input);
        let mut fleet = Fleet::default();
        rows.collect(input.engine, input.now, export.keep(), |row, view| {
            row.is_here = input.cluster.as_ref().is_none_or(|cluster| (cluster.decides)(&row.id));
            if row.is_here {
                fleet.add(view, input.subscription_state);
            }
            row.scheduled =
                if booked.is_empty() { None } else { booked.get(row.id.as_str()).map(|change| change.seats) };
        });
        if shard.is_none_or(ScrapeShard::is_first) {
            let peak = self.peak.lock().see(now_ms, fleet.held);
            let nodes = input.engine.nodes(input.now);
            self.statics.write(input, &fleet, rows.seat_ms(), peak, &nodes, out)?;
            let mut text = Text::new(out);
            let cells = self.cells.lock().cells.clone();
            shard::write(&cells, &mut text);
            write_journal(&input.journal, &mut text);
            if let Some(cluster) = &input.cluster {
                cluster::write(cluster, &mut text);
            }
            write_nodes(input.now, &nodes, &mut text);
        }
        let choice = tenants::choose(export, &mut rows.list, now_ms, shard);
        if choice.fell_back {
            let (tenants, shards) = (rows.list.len(), shards_for(rows.list.len()));
            let told = format!(
                "# metrics.tenants = \"all\": {tenants} tenants are too many for one scrape, so these are the top ones; ask for shard=1/{shards} to {shards}/{shards}, as /v1/prometheus/sd offers.\n"
            );
            out.extend_from_slice(told.as_bytes());
        }
        let mut text = Text::new(out);
        text.family("usherd_metrics_tenants_exported", "gauge", "Tenants with series of their own in this answer.");
        text.whole("usherd_metrics_tenants_exported", &[], choice.rows.len() as u64);
        text.family(
            "usherd_metrics_tenants_omitted",
            "gauge",
            "Tenants of this answer's shard without series of their own.",
        );
        text.whole("usherd_metrics_tenants_omitted", &[], choice.omitted as u64);
        if export.mode != TenantMode::None {
            tenants::write(&rows.list, &choice, out);
        }
        Ok(())
    }
}

/// The next booked change of each tenant that has one.
fn booked<'a>(input: &ScrapeInput<'a>) -> HashMap<&'a str, ScheduledChange<'a>, foldhash::fast::RandomState> {
    let mut next: HashMap<&str, ScheduledChange<'_>, _> = HashMap::default();
    for change in input.scheduled {
        let first = next.entry(change.tenant).or_insert(*change);
        if change.at_utc_ms < first.at_utc_ms {
            *first = *change;
        }
    }
    next
}

fn write_journal(journal: &JournalStats<'_>, text: &mut Text<'_>) {
    let name = "usherd_journal_commit_duration_seconds";
    text.family(name, "histogram", "Time that one commit of the journal took.");
    let commits = &journal.commits;
    text.histogram(name, &[], commits.bounds_seconds.iter().copied(), commits.counts, commits.sum_seconds);
}

/// When each node was last heard of; `_other` tells of the most silent of the rest.
fn write_nodes(now: Now, nodes: &[NodeView], text: &mut Text<'_>) {
    let name = "usherd_node_last_seen_timestamp_seconds";
    text.family(
        name,
        "gauge",
        "When a node was last heard of; _other is the most silent of those beyond the first 1,000.",
    );
    let seen_at = |node: &NodeView| {
        let ago = i64::try_from(now.uptime_ms.saturating_sub(node.last_seen_ms)).unwrap_or(i64::MAX);
        utc_seconds(now.utc_ms.saturating_sub(ago))
    };
    let leased = nodes.iter().filter(|node| node.epoch.is_some() && !node.left);
    let mut others: Option<f64> = None;
    for (at, node) in leased.enumerate() {
        let seen_at = seen_at(node);
        // A node that calls itself `_other` must not make that series a second time.
        if at < NODES_MAX && node.node != OTHER_NODE {
            text.real(name, "", &[("node", &node.node)], seen_at);
        } else {
            others = Some(others.map_or(seen_at, |other| other.min(seen_at)));
        }
    }
    if let Some(seen_at) = others {
        text.real(name, "", &[("node", OTHER_NODE)], seen_at);
    }
}

/// The highest of the present and the previous window.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    window: u64,
    present: u64,
    previous: u64,
}

impl Peak {
    fn see(&mut self, now_ms: u64, held: u64) -> u64 {
        let window = now_ms / PEAK_WINDOW_MS;
        if window > self.window {
            self.previous = if window == self.window + 1 { self.present } else { 0 };
            self.present = 0;
            self.window = window;
        }
        self.present = self.present.max(held);
        self.present.max(self.previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_the_fleet_lasts_for_two_windows() {
        let mut peak = Peak::default();
        for (minute, held, expected) in [(1, 5, 5), (2, 9, 9), (4, 1, 9), (6, 2, 9), (11, 3, 3), (30, 1, 1)] {
            assert_eq!(peak.see(minute * 60_000, held), expected, "minute {minute}");
        }
    }

    #[test]
    fn shards_share_cells_only_when_there_are_too_many() {
        let metrics = Metrics::new(&BuildInfo { version: "1", revision: "r", rustc: "c" }).unwrap();
        let shards: Vec<Shard> = (0..=CELLS_MAX).map(|_| metrics.shard()).collect();
        assert!(!Arc::ptr_eq(&shards[0].cells, &shards[1].cells));
        assert!(Arc::ptr_eq(&shards[0].cells, &shards[CELLS_MAX].cells));
        assert_eq!(metrics.cells.lock().cells.len(), CELLS_MAX);
    }
}
