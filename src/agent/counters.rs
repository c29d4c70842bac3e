//! What the agent counts of itself and of its client, and what of it is worth a line in the log.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tracing::{debug, error, info, warn};

use crate::client::{Event, Hooks, VerdictSeen};

/// Counters by name and label; the names are those of the text exposition.
#[derive(Debug, Default)]
pub struct Counters {
    counts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Counters {
    /// Counts one of this name with this label; empty = without a label.
    pub fn count(&self, name: &'static str, label: &'static str) {
        self.add(name, label, 1);
    }

    /// Counts several.
    pub fn add(&self, name: &'static str, label: &'static str, number: u64) {
        *self.counts.lock().entry((name, label)).or_default() += number;
    }

    /// All of them, sorted.
    pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.counts.lock().iter().map(|((name, label), count)| (*name, *label, *count)).collect()
    }
}

/// Takes what the client tells.
pub struct Told(pub std::sync::Arc<Counters>);

impl Hooks for Told {
    fn verdict(&self, verdict: &VerdictSeen) {
        self.0.count("questions", verdict.source.as_str());
        if !verdict.allow {
            self.0.count("refused", verdict.source.as_str());
        }
    }

    fn event(&self, event: Event) {
        match event {
            Event::Greeted => info!("usherd knows this node"),
            Event::Missed(why) => {
                self.0.count("missed", why.as_str());
                debug!(why = why.as_str(), "usherd did not answer a message that no call waits for");
            }
            Event::Forgotten => info!("usherd does not know this node any more; it is told everything again"),
            Event::EpochRefused => {
                error!(
                    "usherd knows a newer boot number of this node: two processes speak as it, or a spool was put back; once there is only one, remove `boot` from the spool's folder and restart"
                );
            }
            Event::Inventory { kept, adopted, removed, ignored } => {
                self.0.count("inventories", "");
                debug!(kept, adopted, removed, ignored, "usherd took an inventory");
            }
            Event::InventoryTooLarge => error!("the inventory is larger than usherd's inventory_bytes_max"),
            Event::Retried => self.0.count("retried", ""),
            Event::Paused => warn!("usherd does not answer; calls are let through without asking until it does"),
            Event::Resumed => info!("usherd answers again"),
            Event::ReportRefused => {
                self.0.count("reports_refused", "");
                warn!("usherd refused a report; the next inventory says how it is");
            }
            Event::ReportsFull => {
                self.0.count("reports_full", "");
                error!("too many reports wait for usherd; the next inventory says how it is");
            }
        }
    }
}
