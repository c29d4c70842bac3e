//! The counters of the agent and of its client.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use usherd_client::{Source, Unreachable};

/// The reason why the node's own messages do not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The word for metrics and logs.
    pub why: &'static str,
    /// The cause, and where to fix it.
    pub help: &'static str,
}

impl Missed {
    pub(super) const EPOCH_REFUSED: Self = Missed {
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
    /// Questions that a daemon answered, by its place in the configuration.
    pub(super) answers: Mutex<BTreeMap<usize, u64>>,
    /// The last fault that the node's own messages met on the way to usherd.
    pub(super) missed: Mutex<Option<Missed>>,
    /// The last source of a question that got no decision: `Malformed`, or a reason.
    pub(super) unanswered: Mutex<Option<Source>>,
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
