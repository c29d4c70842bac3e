//! The parts of a running daemon that its rooms share.

mod commit_times;
mod configuration;
mod deciding;
mod journal;
mod knobs;
mod membership;
pub mod names;
pub mod node_addresses;
mod publishing;
pub mod recorder;
pub mod reload_request;
mod serving;
pub mod timeline;
mod today;

use std::sync::Arc;

pub use commit_times::{CommitCounts, CommitTimes};
pub use configuration::{ConfigState, Configuration};
pub use deciding::Deciding;
pub use journal::{AnyStore, ClusterJournal, Journal};
pub use knobs::{Knobs, edge_limits};
pub use membership::{EtcdHealth, Membership};
pub use publishing::Publishing;
pub use serving::{ListenerInfo, Serving};
pub use today::{Today, TodayView};

/// A running daemon in four parts. Who needs one or two of them takes these, not the whole.
#[derive(Clone)]
pub struct App {
    /// The part that a decision needs.
    pub deciding: Arc<Deciding>,
    /// The part that is shown to others.
    pub publishing: Arc<Publishing>,
    /// The configuration, in force and as it becomes another.
    pub configuration: Arc<Configuration>,
    /// The listeners, and from when until when they are answered.
    pub serving: Arc<Serving>,
}
