//! The parts of a running daemon that its rooms share.

mod commit_times;
mod configuration;
mod deciding;
mod knobs;
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
pub use deciding::{Deciding, Journal};
pub use knobs::{Knobs, edge_limits};
pub use publishing::Publishing;
pub use serving::{ListenerInfo, Serving};
pub use today::{Today, TodayView};

/// A running daemon: four parts, each of which goes to who needs no other.
#[derive(Clone)]
pub struct App {
    /// What a decision needs.
    pub deciding: Arc<Deciding>,
    /// What is shown to others.
    pub publishing: Arc<Publishing>,
    /// What is in force.
    pub configuration: Arc<Configuration>,
    /// Where it is asked, and from when until when it decides.
    pub serving: Arc<Serving>,
}
