//! The client of a PBX node: asks in time, allows where nobody answers, and reports it later.

mod ask;
mod connector;
mod epoch;
mod hooks;
mod options;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

pub use ask::{Ask, Ended};
pub use connector::Connector;
pub use epoch::wall_clock_epoch;
pub use hooks::{Event, Hooks, VerdictSeen};
pub use options::{Address, AddressFault, Limits, OnUnreachable, Options};
pub use verdict::{Answer, Source, Unreachable, Verdict};

use crate::engine::{Fault, Name};

/// Why a client could not be started.
#[derive(Debug)]
pub enum StartFault {
    /// Options that cannot be.
    Options(Vec<Fault>),
    /// The certificates to trust cannot be used; how it failed.
    Tls(String),
}

/// What lives on this node, as the client remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The question with which it came.
    pub ask: Ask,
    /// Number of its message.
    pub seq: u64,
    /// Whether the daemon is known to have it; `false` = it was allowed here and is still to be adopted.
    pub confirmed: bool,
}

/// How a client is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The daemon answered hello, and every heartbeat since.
    pub connected: bool,
    /// Calls do not wait for the daemon: it left several without an answer.
    pub paused: bool,
    /// Sessions remembered.
    pub sessions: usize,
    /// Of these, allowed here and still to be adopted.
    pub unconfirmed: usize,
    /// Releases and reports that wait to be sent.
    pub reports: usize,
    /// Questions that wait for an answer.
    pub in_flight: usize,
}

/// The client of one node. Cheap to clone; when the last clone is dropped its background work ends, and the
/// daemon takes the node for lost (G6): call [`Client::goodbye`] before.
#[derive(Clone)]
pub struct Client {
    inner: Arc<()>,
}

impl Client {
    /// Starts a client; hello, heartbeats, inventories and reports run in the background from now on. Needs a
    /// tokio runtime with time and I/O.
    ///
    /// # Errors
    /// [`StartFault`]. That the daemon cannot be reached is none: calls are allowed, and it is tried again.
    pub fn start(options: Options, hooks: impl Hooks) -> Result<Self, StartFault> {
        let _ = (options, hooks);
        Err(StartFault::Options(Vec::new()))
    }

    /// The same, over connections of the caller's.
    ///
    /// # Errors
    /// [`StartFault::Options`].
    pub fn start_over(options: Options, connector: impl Connector, hooks: impl Hooks) -> Result<Self, StartFault> {
        let _ = (options, connector, hooks);
        Err(StartFault::Options(Vec::new()))
    }

    /// May this happen? Answers within [`Options::deadline`], always.
    ///
    /// Inbound and emergency calls are allowed at the first poll: nothing is waited for. What is allowed with
    /// a session id is remembered until [`Client::release`]. Dropping the future before it is ready gives the
    /// session back.
    pub async fn acquire(&self, ask: &Ask) -> Verdict {
        let _ = (ask, &self.inner, ask::digits, Address::authority);
        Verdict::of(true, Source::Malformed)
    }

    /// The verdict of this node alone, where it needs nobody: inbound and emergency calls, malformed
    /// questions. `None`: [`Client::acquire`] would ask. What is allowed is remembered and reported, as there.
    pub fn decide_alone(&self, ask: &Ask) -> Option<Verdict> {
        let _ = ask;
        None
    }

    /// Remembers what runs already and has it adopted in the background (G7): never waits, never refused.
    ///
    /// # Errors
    /// Every fault of a question that is not well formed; nothing is remembered.
    pub fn adopt(&self, ask: &Ask) -> Result<(), Vec<Fault>> {
        let _ = ask;
        Ok(())
    }

    /// This ended. Never waits and never fails: it is sent in the background until the daemon acknowledges it.
    pub fn release(&self, tenant: &str, session: &str, ended: Ended) {
        let _ = (tenant, session, ended);
    }

    /// Everything that is remembered, in no order.
    pub fn sessions(&self) -> Vec<Remembered> {
        Vec::new()
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        Status::default()
    }

    /// The node's name.
    pub fn node(&self) -> &Name {
        const NONE: &Name = &Name::const_new("");
        NONE
    }

    /// Waits until every release and report is acknowledged; `false` where that took longer than `patience`.
    pub async fn flush(&self, patience: Duration) -> bool {
        let _ = patience;
        true
    }

    /// A planned shutdown: sends what waits, as far as `patience` goes, then says goodbye (the grace starts
    /// now) and ends the background work. Whether the daemon heard it. Later questions are answered as if
    /// nobody could be asked.
    pub async fn goodbye(&self, patience: Duration) -> bool {
        let _ = patience;
        false
    }
}
