//! The hooks by which a client reports to code that counts or logs: closed vocabularies, never a subject's name (U6).

use std::time::Duration;

use usherd_contract::words::{Code, Direction, Kind};

use super::verdict::{Source, Unreachable};

/// Takes the reports of a client, to count or to log them. Every method does nothing unless implemented; they
/// are called on the way of a call, so they must not wait.
pub trait Hooks: Send + Sync + 'static {
    /// A question was answered, by the daemon or by this node.
    fn verdict(&self, verdict: &VerdictSeen) {
        let _ = verdict;
    }

    /// Another event happened.
    fn event(&self, event: Event) {
        let _ = event;
    }
}

/// Hooks that do nothing.
impl Hooks for () {}

/// The part of a verdict that a metric may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictSeen {
    /// The kind of session that was asked about.
    pub kind: Kind,
    /// The direction of a call.
    pub direction: Option<Direction>,
    /// The verdict.
    pub allow: bool,
    /// The source of the decision.
    pub source: Source,
    /// The daemon's code, where it answered.
    pub code: Option<Code>,
    /// The daemon that answered, by its place among [`Options::addresses`](super::Options::addresses), from 0.
    pub daemon: Option<usize>,
    /// The time that the question waited; zero where the daemon was not asked.
    pub waited: Duration,
}

/// An event other than a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The daemon knows this node: it answered hello.
    Greeted,
    /// A hello, a heartbeat, an inventory or a batch of reports was not answered well.
    Missed(Unreachable),
    /// The daemon does not know this node (any more): hello and an inventory follow.
    Forgotten,
    /// The daemon knew a newer epoch of this node: the client goes on with this one, the next, as if it had started
    /// anew (G8), and reports what lives here. The clock went back since the last start; or another process speaks as
    /// this node, and then one of the two is soon told [`Event::EpochRefused`]. A node with a boot counter stores this
    /// epoch.
    EpochRaised(u64),
    /// The daemon knows a newer epoch of this node, also after the client has raised its own: another process
    /// speaks as this node. The answers of the daemon mean nothing any more (they are all `ignore.stale`, which
    /// allows): end one of the two, or give it a name of its own.
    EpochRefused,
    /// An inventory was taken in (G9).
    Inventory {
        /// Listed and known.
        kept: u32,
        /// Listed and stored by this: sessions that were allowed while the daemon did not answer.
        adopted: u32,
        /// Known to the daemon, and not here.
        removed: u32,
        /// Listed and not taken.
        ignored: u32,
    },
    /// An inventory is larger than the daemon accepts (413); raise its `max_inventory_bytes`.
    InventoryTooLarge,
    /// A question is asked once more, on a new connection or at another address.
    Retried,
    /// Another daemon is in use from now on, since the one before did not answer; its place among
    /// [`Options::addresses`](super::Options::addresses), from 0.
    Moved(usize),
    /// Several questions in a row went unanswered, or the node's own messages, at every address: calls do not wait any
    /// more.
    Paused,
    /// A daemon answers again.
    Resumed,
    /// A release or a report was not accepted as it was (a problem in its place of a batch); it is given up,
    /// and the next inventory makes up for it.
    ReportRefused,
    /// The queue of reports is full: this one is left to the next inventory.
    ReportsFull,
}
