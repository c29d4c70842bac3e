//! The events of the client: each is counted, and logged where an operator needs to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::{debug, error, info, warn};
use usherd_client::{Event, Hooks, Source, Unreachable, VerdictSeen};

use super::counters::{Counters, Missed};
use super::writer::Writer;

/// Counts and logs the client's events.
pub struct ClientHooks {
    /// The counters.
    pub counters: Arc<Counters>,
    /// The writer, which keeps the boot number.
    pub writer: Arc<Writer>,
    /// The addresses of usherd, in the order of the configuration.
    pub daemons: Vec<String>,
    /// The place of the one in use, from 0.
    pub in_use: AtomicUsize,
}

impl ClientHooks {
    fn address(&self) -> &str {
        self.daemons.get(self.in_use.load(Ordering::Relaxed)).map_or("", String::as_str)
    }

    /// Notes that a message that no call waits for was not answered well. A repeated reason is logged once.
    fn missed(&self, why: Unreachable) {
        self.counters.count("missed", why.as_str());
        let missed = Missed::from(why);
        if self.counters.missed.lock().replace(missed) == Some(missed) {
            debug!(why = missed.why, "usherd did not answer a message that no call waits for");
        } else {
            let address = self.address();
            warn!(why = missed.why, address, help = missed.help, "usherd did not answer a message of this node");
        }
    }

    /// Notes the source of a verdict. Any but a decision of usherd is logged once, until there is a decision again.
    fn question(&self, source: Source) {
        let mut last = self.counters.unanswered.lock();
        match source {
            Source::Daemon => *last = None,
            Source::Inbound | Source::Emergency => {}
            // The node's own messages log the reason.
            Source::Unreachable(Unreachable::Paused | Unreachable::NotGreeted) => {}
            Source::Malformed | Source::Unreachable(_) => {
                if last.replace(source) == Some(source) {
                    return;
                }
                let help = match source {
                    Source::Unreachable(why) => why.help(),
                    _ => "usherd does not understand it: the script is told what is wrong with it",
                };
                let address = self.address();
                warn!(why = source.as_str(), address, help, "a question got no decision; this is said once");
            }
        }
    }
}

impl Hooks for ClientHooks {
    fn verdict(&self, verdict: &VerdictSeen) {
        self.counters.count("questions", verdict.source.as_str());
        if !verdict.allow {
            self.counters.count("refused", verdict.source.as_str());
        }
        if let Some(daemon) = verdict.daemon {
            *self.counters.answers.lock().entry(daemon).or_default() += 1;
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
                self.writer.epoch(epoch);
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
            Event::Moved(daemon) => {
                *self.counters.missed.lock() = None;
                self.in_use.store(daemon, Ordering::Relaxed);
                self.counters.count("moved", "");
                warn!(
                    address = self.address(),
                    "usherd did not answer where it was asked, and is asked here from now on"
                );
            }
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
