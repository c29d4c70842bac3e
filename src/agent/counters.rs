//! What the agent counts of itself and of its client, and what of it is worth a line in the log.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tracing::{debug, error, info, warn};

use super::spool;
use crate::client::{Event, Hooks, Source, Unreachable, VerdictSeen};

/// Why the node's own messages do not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The word for metrics and logs.
    pub why: &'static str,
    /// What it is, and where to mend it.
    pub help: &'static str,
}

impl Missed {
    const EPOCH_REFUSED: Self = Missed {
        why: "epoch_refused",
        help: "usherd knows a newer boot number of this node again: two processes speak as it; end one, or give it \
               another `node.name`",
    };
}

impl From<Unreachable> for Missed {
    fn from(why: Unreachable) -> Self {
        Missed { why: why.as_str(), help: why.help() }
    }
}

/// Counters by name and label; the names are those of the text exposition.
#[derive(Debug, Default)]
pub struct Counters {
    counts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    /// What is wrong with the line to usherd, as the node's own messages found last.
    missed: Mutex<Option<Missed>>,
    /// The same of questions; `Malformed` and the reasons that an answer gave.
    unanswered: Mutex<Option<Source>>,
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

    /// Why the node's own messages do not get through; `None` where they do.
    pub fn missed(&self) -> Option<Missed> {
        *self.missed.lock()
    }

    /// All of them, sorted.
    pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.counts.lock().iter().map(|((name, label), count)| (*name, *label, *count)).collect()
    }
}

/// Takes what the client tells.
pub struct Told {
    /// Where it is counted.
    pub counters: std::sync::Arc<Counters>,
    /// The spool's folder, which holds the boot number.
    pub folder: std::path::PathBuf,
    /// Where usherd is asked.
    pub address: String,
}

impl Told {
    /// A message that no call waits for was not answered well. The same reason again and again is one line.
    fn missed(&self, why: Unreachable) {
        self.counters.count("missed", why.as_str());
        let missed = Missed::from(why);
        if self.counters.missed.lock().replace(missed) == Some(missed) {
            debug!(why = missed.why, "usherd did not answer a message that no call waits for");
        } else {
            let address = self.address.as_str();
            warn!(why = missed.why, address, help = missed.help, "usherd did not answer a message of this node");
        }
    }

    /// A question was answered, or was not. Whatever is no decision is said once, until there is one again.
    fn question(&self, source: Source) {
        let mut last = self.counters.unanswered.lock();
        match source {
            Source::Daemon => *last = None,
            Source::Inbound | Source::Emergency => {}
            // Why is said by the node's own messages.
            Source::Unreachable(Unreachable::Paused | Unreachable::NotGreeted) => {}
            Source::Malformed | Source::Unreachable(_) => {
                if last.replace(source) == Some(source) {
                    return;
                }
                let help = match source {
                    Source::Unreachable(why) => why.help(),
                    _ => "usherd does not understand it: the script is told what is wrong with it",
                };
                let address = self.address.as_str();
                warn!(why = source.as_str(), address, help, "a question got no decision; this is said once");
            }
        }
    }
}

impl Hooks for Told {
    fn verdict(&self, verdict: &VerdictSeen) {
        self.counters.count("questions", verdict.source.as_str());
        if !verdict.allow {
            self.counters.count("refused", verdict.source.as_str());
        }
        self.question(verdict.source);
    }

    fn event(&self, event: Event) {
        match event {
            Event::Greeted => {
                *self.counters.missed.lock() = None;
                info!("usherd knows this node");
            }
            Event::Missed(why) => self.missed(why),
            Event::Forgotten => info!("usherd does not know this node any more; it is told everything again"),
            Event::EpochRaised(epoch) => {
                warn!(epoch, "usherd knew a newer boot number of this node, which goes on with the next one");
                // Once in a life, and no call waits for it. Unkept, the next start is told the same.
                if let Err(why) = spool::keep_epoch(&self.folder, epoch) {
                    error!(%why, "the boot number cannot be kept in the spool's folder");
                }
            }
            Event::EpochRefused => {
                *self.counters.missed.lock() = Some(Missed::EPOCH_REFUSED);
                error!("{}", Missed::EPOCH_REFUSED.help);
            }
            Event::Inventory { kept, adopted, removed, ignored } => {
                self.counters.count("inventories", "");
                debug!(kept, adopted, removed, ignored, "usherd took an inventory");
            }
            Event::InventoryTooLarge => error!("the inventory is larger than usherd's inventory_bytes_max"),
            Event::Retried => self.counters.count("retried", ""),
            Event::Paused => {
                let missed = self.counters.missed().unwrap_or(Unreachable::Timeout.into());
                warn!(
                    why = missed.why,
                    help = missed.help,
                    "usherd cannot be asked; calls are decided by on_unreachable until it can"
                );
            }
            Event::Resumed => info!("usherd answers again"),
            Event::ReportRefused => {
                self.counters.count("reports_refused", "");
                warn!("usherd refused a report; the next inventory says how it is");
            }
            Event::ReportsFull => {
                self.counters.count("reports_full", "");
                error!("too many reports wait for usherd; the next inventory says how it is");
            }
        }
    }
}
