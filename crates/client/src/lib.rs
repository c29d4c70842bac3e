//! The client of a PBX node: it asks in time, allows where the daemon does not answer, and reports that later.
//!
#![doc = include_str!("../README.md")]
//!
//! # The model
//! A node asks before something starts that may need a seat ([`Client::acquire`]), acts on the [`Verdict`], and says
//! when it ended ([`Client::release`]). The client does the rest of the contract: it says hello, keeps the node's
//! lease by heartbeats, numbers every message, remembers what lives on the node, and tells the daemon all of it now
//! and then, so that both agree again whatever was lost in between.
//!
//! **Telephony first.** Inbound calls, legs that deliver them, and emergency calls are allowed here, at the first
//! poll, without a look at the network; the daemon hears of them afterwards. Everything else waits for the daemon,
//! at most [`Options::deadline`] (50 ms): half of it for a try on a kept connection, the other half for a second one
//! with the same numbers on a new connection. Then [`OnUnreachable`] decides, which allows unless told otherwise.
//! A question that is not well formed is allowed too, and says what was wrong with it: a defect of the node's own
//! never stops a call (C20).
//!
//! **Several daemons** of one cluster may be named ([`Options::other_addresses`]). A question goes to the one that
//! answered last. Where that cannot be reached, does not answer within its share of the deadline (an equal one for
//! each address that is left, at least 50 ms or half of the whole), or answers with an error, 503 among them, the next
//! one is asked with the same numbers, and is the one in use from then on ([`Event::Moved`]); the first is used again
//! only when that one fails in its turn. Hello, heartbeats, inventories and reports go to the one in use. It greets
//! this node anew only if it does not know it. Each address is paused by itself, and calls stop waiting where all are.
//!
//! **Afterwards the daemon learns the truth.** What was allowed without it is remembered as unconfirmed and reported
//! with `existing`, which the daemon adopts, above the quota if need be (G7). What was asked and not answered may be
//! booked yet, so its release is sent in any case. Releases and reports wait in a queue and are sent in batches until
//! each is acknowledged; sending one twice changes nothing, because of its number (G5). An inventory, at connect and
//! every `inventory_s`, puts right what is left: what is missing in it has ended (G9), except pairings, which only a
//! release ends (B2).
//!
//! **A daemon that hangs** and is the only one does not cost every call its deadline: after [`Limits::misses_max`]
//! questions in a row without an answer, or two heartbeats, no call waits any more ([`Unreachable::Paused`]) until a
//! heartbeat is answered; then one call at a time tries, and an answer to it, or to the inventory that follows, ends
//! the pause.
//!
//! **Limits** have an answer each ([`Limits`]): beyond them a call is allowed, and the reason is counted.
//!
//! **What dies with the process** is the ledger. A node that starts anew says hello with a higher epoch: its calls
//! are dropped, its clients keep their seats for the grace time, its pairings stay (G8). It then adopts what still
//! runs ([`Client::adopt`]), and releases once more the pairings that ended around its death.
//!
//! **An epoch that went back** with the clock is refused by the daemon, which says the one it knows; the client takes
//! the next one by itself, once ([`Event::EpochRaised`]). Two processes that speak as one node would do so in turn and
//! end each other's calls: so the one that is refused within a lease after its step reports that
//! ([`Event::EpochRefused`]) and lets calls through, until it is ended or named otherwise.
//!
//! Counting and logging is the caller's, through [`Hooks`].

mod ask;
mod asking;
mod breaker;
mod connector;
mod daemons;
mod epoch;
mod exchange;
mod hooks;
mod keeper;
mod ledger;
mod options;
mod reporter;
mod route;
mod shared;
mod verdict;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use ask::{Ask, Ended};
pub use connector::Connector;
pub use epoch::wall_clock_epoch;
pub use hooks::{Event, Hooks, VerdictSeen};
pub use ledger::Remembered;
pub use options::{Address, AddressFault, Limits, OnUnreachable, Options};
pub use usherd_contract::names::{Fault, Name};
pub use usherd_contract::words::{Class, Code, Detail, Device, Direction, Kind, Leg};
pub use verdict::{Answer, Source, Unreachable, Verdict};

use connector::{Dial, Sockets};
use daemons::Daemons;
use shared::{Link, Shared};

/// The reason why a client could not be started.
#[derive(Debug)]
pub enum StartFault {
    /// Options that are not valid.
    Options(Vec<Fault>),
    /// The certificates to trust cannot be used; how it failed.
    Tls(String),
}

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartFault::Options(faults) => {
                let faults: Vec<String> =
                    faults.iter().map(|fault| format!("{} {}", fault.field, fault.what)).collect();
                f.write_str(&faults.join("; "))
            }
            StartFault::Tls(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StartFault {}

/// The status of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// True if the daemon answered hello, and every heartbeat since.
    pub connected: bool,
    /// The daemon in use, by its place among [`Options::addresses`], from 0: it answered last.
    pub daemon: usize,
    /// The epoch that it uses: that of its options, unless the daemon knew a higher one ([`Event::EpochRaised`]).
    pub epoch: u64,
    /// True if no call waits for a daemon, because all of them left several without an answer.
    pub paused: bool,
    /// Sessions remembered.
    pub sessions: usize,
    /// The sessions among these that were allowed here and are still to be adopted.
    pub unconfirmed: usize,
    /// Releases and reports that wait to be sent.
    pub reports: usize,
    /// Questions that wait for an answer.
    pub in_flight: usize,
}

/// The client of one node. Cheap to clone; when the last clone is dropped its background work ends, and the
/// daemon takes the node for lost once its lease is over (G6): call [`Client::goodbye`] before.
#[derive(Clone)]
pub struct Client {
    running: Arc<Running>,
}

/// The background tasks, which run until this is dropped.
struct Running {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Client {
    /// Starts a client; hello, heartbeats, inventories and reports run in the background from now on. Needs a
    /// tokio runtime with time and I/O.
    ///
    /// # Errors
    /// [`StartFault`]. That the daemon cannot be reached is none: calls are allowed, and it is tried again.
    pub fn start(options: Options, hooks: impl Hooks) -> Result<Self, StartFault> {
        let sockets = Sockets::new(&options).map_err(StartFault::Tls)?;
        Self::start_over(options, sockets, hooks)
    }

    /// Starts a client over the caller's own connections.
    ///
    /// # Errors
    /// [`StartFault::Options`].
    pub fn start_over(options: Options, connector: impl Connector, hooks: impl Hooks) -> Result<Self, StartFault> {
        options.check().map_err(StartFault::Options)?;
        let options = options.in_plain_numbers();
        let dial: Arc<dyn Dial> = Arc::new(connector);
        let daemons = Daemons::new(&options, &dial);
        let shared = Arc::new(Shared::new(options, daemons, Box::new(hooks)));
        let (speaking, reporting) = (Arc::clone(&shared), Arc::clone(&shared));
        let tasks = [
            tokio::spawn(async move { keeper::run(&speaking).await }),
            tokio::spawn(async move { reporter::run(&reporting).await }),
        ];
        Ok(Client { running: Arc::new(Running { shared, tasks }) })
    }

    fn shared(&self) -> &Shared {
        &self.running.shared
    }

    /// Asks if this may happen. Always answers within [`Options::deadline`].
    ///
    /// Inbound and emergency calls are allowed at the first poll, without waiting. What is allowed with
    /// a session id is remembered until [`Client::release`]. Dropping the future before it is ready gives the
    /// session back.
    pub async fn acquire(&self, ask: &Ask) -> Verdict {
        self.shared().acquire(ask).await
    }

    /// The verdict of this node alone, where it needs no daemon: inbound and emergency calls, malformed
    /// questions. `None`: [`Client::acquire`] would ask. What is allowed is remembered and reported, as there.
    pub fn decide_alone(&self, ask: &Ask) -> Option<Verdict> {
        self.shared().decide_alone(ask)
    }

    /// True if a dialled text is an emergency call as far as this node knows, however it is written (C14).
    pub fn is_emergency_number(&self, dialled: &str) -> bool {
        self.shared().is_emergency_number(dialled)
    }

    /// Remembers a session that runs already and has it adopted in the background (G7): never waits, never refused.
    ///
    /// # Errors
    /// Every fault of a question that is not well formed; nothing is remembered.
    pub fn adopt(&self, ask: &Ask) -> Result<(), Vec<Fault>> {
        ask.check()?;
        self.shared().note(&Ask { existing: true, ..ask.clone() });
        Ok(())
    }

    /// Releases a session. Never waits and never fails: it is sent in the background until the daemon acknowledges it.
    pub fn release(&self, tenant: &str, session: &str, ended: Ended) {
        let told = self.shared().ledger.lock().release((tenant.into(), session.into()), ended);
        self.shared().tell(told);
    }

    /// Releases a session for a caller who wants to know the result: waits up to [`Options::deadline`] for the daemon's
    /// answer. `None` where it did not come by then; the release is sent in the background all the same.
    pub async fn release_asked(&self, tenant: &str, session: &str, ended: Ended) -> Option<(Code, Detail)> {
        let shared = self.shared();
        let (answering, answer) = oneshot::channel();
        let (told, seq) = {
            let mut ledger = shared.ledger.lock();
            let told = ledger.release((tenant.into(), session.into()), ended);
            let seq = ledger.last_seq();
            if told == Some(true) && shared.link() == Link::Greeted {
                // Under the ledger's lock: nobody can have sent it yet.
                shared.awaited.lock().insert(seq, answering);
            }
            (told, seq)
        };
        shared.tell(told);
        if told == Some(false) {
            // The daemon never heard of it, and need not.
            return Some((Code::ReleasedNone, Detail::None));
        }
        let answered = timeout(shared.options.deadline, answer).await.ok().and_then(Result::ok);
        if answered.is_none() {
            shared.awaited.lock().remove(&seq);
        }
        answered
    }

    /// Sends inventories from now on, the first one soon: what is remembered is all that lives. Does nothing
    /// without [`Options::withhold_inventories`].
    pub fn allow_inventories(&self) {
        let shared = self.shared();
        if shared.withheld.swap(false, Ordering::AcqRel) {
            shared.ledger.lock().need_inventory();
            shared.suspect.notify_one();
        }
    }

    /// Everything that is remembered, in no order.
    pub fn sessions(&self) -> Vec<Remembered> {
        self.shared().ledger.lock().sessions().collect()
    }

    /// Its status. Walks through every session that is remembered.
    pub fn status(&self) -> Status {
        let shared = self.shared();
        let paused = shared.breakers.lock().all_open();
        let ledger = shared.ledger.lock();
        Status {
            connected: shared.link() == Link::Greeted,
            daemon: shared.daemons.current(),
            epoch: shared.epoch.number(),
            paused,
            sessions: ledger.sessions().count(),
            unconfirmed: ledger.sessions().filter(|session| !session.confirmed).count(),
            reports: ledger.reports(),
            in_flight: ledger.asking(),
        }
    }

    /// The address of the daemon in use: it answered last.
    pub fn address(&self) -> &Address {
        let daemons = &self.shared().daemons;
        daemons.address(daemons.current())
    }

    /// Every address, in the order of the options.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.shared().options.addresses()
    }

    /// For an agent that watches the clients of a PBX: how long a client that cannot be reached keeps its seat, seconds
    /// (G6), as the daemon said at the last hello; 30 until it has.
    pub fn presence_grace_s(&self) -> u32 {
        self.shared().presence_grace_s.load(Ordering::Relaxed)
    }

    /// The node's name.
    pub fn node(&self) -> &Name {
        &self.shared().options.node
    }

    /// Waits until the daemon knows this node; `false` where that took longer than `patience`. Nothing needs
    /// to wait for this: questions wait by themselves, within their deadline.
    pub async fn connected(&self, patience: Duration) -> bool {
        timeout(patience, self.shared().until_link(|link| link == Link::Greeted)).await.is_ok()
    }

    /// Waits until every release and report is acknowledged; `false` where that took longer than `patience`.
    pub async fn flush(&self, patience: Duration) -> bool {
        let flushed = async {
            loop {
                let settled = self.shared().settled.notified();
                if self.shared().ledger.lock().reports() == 0 {
                    return;
                }
                settled.await;
            }
        };
        timeout(patience, flushed).await.is_ok()
    }

    /// A planned shutdown: sends what waits, as far as `patience` goes, then says goodbye (the grace starts
    /// now) and ends the background work. Returns true if the daemon heard it. Later questions are answered as if
    /// the daemon could not be asked, and nothing is remembered any more.
    pub async fn goodbye(&self, patience: Duration) -> bool {
        self.flush(patience).await;
        self.shared().set_link(Link::Closed);
        for task in &self.running.tasks {
            task.abort();
        }
        keeper::goodbye(self.shared()).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.shared().options).field("status", &self.status()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes ask from whatever thread has the call.
    #[test]
    fn questions_may_be_asked_from_any_thread() {
        fn is_send<T: Send>(_: fn() -> T) {}
        is_send(|| async {
            let client: Option<Client> = None;
            if let Some(client) = client {
                client.acquire(&Ask::new("t", "s", "d", Kind::Desktop)).await;
                client.goodbye(Duration::ZERO).await;
            }
        });
    }
}
