//! The timers of nodes: what `[nodes]` says, with its defaults.

use usherd_engine::plan::Timers;

use super::words::OnUnreachable;

/// `[nodes]` (rule book 2 G).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    /// How often a node says that it lives, seconds.
    pub heartbeat_s: u32,
    /// How long it may be silent, seconds.
    pub lease_s: u32,
    /// How long an orphan keeps its seat, seconds.
    pub grace_s: u32,
    /// How long presence that an agent watches outlives its PBX, seconds; told to nodes at hello (G6).
    pub presence_grace_s: u32,
    /// How often a node sends its inventory, seconds.
    pub inventory_s: u32,
    /// How long a release is remembered, seconds.
    pub tombstone_s: u32,
    /// The grace after a restart, seconds.
    pub learning_s: u32,
    /// How long a node waits for a decision, milliseconds.
    pub deadline_ms: u32,
    /// The behaviour of a node when nobody answers (G7).
    pub on_unreachable: OnUnreachable,
}

impl Default for Nodes {
    fn default() -> Self {
        Nodes {
            heartbeat_s: 5,
            lease_s: 15,
            grace_s: 30,
            presence_grace_s: 30,
            inventory_s: 60,
            tombstone_s: 300,
            learning_s: 60,
            deadline_ms: 50,
            on_unreachable: OnUnreachable::Allow,
        }
    }
}

impl Nodes {
    /// The timers as the engine takes them.
    pub fn timers(&self) -> Timers {
        Timers {
            lease_ms: u64::from(self.lease_s) * 1_000,
            grace_ms: u64::from(self.grace_s) * 1_000,
            tombstone_ms: u64::from(self.tombstone_s) * 1_000,
            learning_ms: u64::from(self.learning_s) * 1_000,
        }
    }
}
