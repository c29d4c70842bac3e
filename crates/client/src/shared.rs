//! The state that the questions, the node's own messages and the reports of one client share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use usherd_contract::words::{Code, Detail};

use super::breaker::{Breakers, Transition};
use super::daemons::Daemons;
use super::epoch::Epoch;
use super::exchange::Replied;
use super::hooks::{Event, Hooks};
use super::ledger::Ledger;
use super::options::Options;
use super::verdict::Unreachable;
use super::wire::Sender;

/// Seconds that watched presence outlives its PBX until the daemon says otherwise.
const PRESENCE_GRACE_S: u32 = 30;

/// The state of the link between node and daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Hello is in flight; questions wait for it within their deadline.
    Greeting,
    /// The daemon knows this node, and what lives on it.
    Greeted,
    /// The node's own messages are not answered.
    Away,
    /// Goodbye was said.
    Closed,
}

/// A message that no call waits for.
pub(super) struct Aside<'a> {
    pub path: &'a str,
    pub body: Bytes,
    /// Over a new connection.
    pub fresh: bool,
    /// How long an answer may take.
    pub patience: Duration,
    pub answer_bytes_max: u32,
}

pub(super) struct Shared {
    pub options: Options,
    pub epoch: Epoch,
    pub hooks: Box<dyn Hooks>,
    pub daemons: Daemons,
    pub ledger: Mutex<Ledger>,
    pub breakers: Mutex<Breakers>,
    /// Seconds that watched presence outlives its PBX, as the daemon said last (G6).
    pub presence_grace_s: AtomicU32,
    /// True while inventories may not be sent yet.
    pub withheld: AtomicBool,
    /// The callers that wait for the daemon's answer to a release, by its number.
    pub awaited: Mutex<HashMap<u64, oneshot::Sender<(Code, Detail)>>>,
    link: Mutex<Link>,
    /// Wakes the tasks that wait for another link, in the order in which they came.
    linked: Notify,
    /// Wakes the task that speaks for the node: something may be wrong with the daemon.
    pub suspect: Notify,
    /// Wakes the task that sends reports.
    pub reports: Notify,
    /// Wakes the tasks that wait for reports to be sent.
    pub settled: Notify,
}

impl Shared {
    pub(super) fn new(options: Options, daemons: Daemons, hooks: Box<dyn Hooks>) -> Self {
        let limits = options.limits;
        Shared {
            epoch: Epoch::new(options.epoch),
            hooks,
            breakers: Mutex::new(Breakers::new(daemons.count(), limits.misses_max)),
            daemons,
            presence_grace_s: AtomicU32::new(PRESENCE_GRACE_S),
            withheld: AtomicBool::new(options.withhold_inventories),
            awaited: Mutex::new(HashMap::new()),
            ledger: Mutex::new(Ledger::new(
                options.first_seq,
                limits.sessions_max,
                limits.in_flight_max,
                limits.reports_max,
            )),
            link: Mutex::new(Link::Greeting),
            linked: Notify::new(),
            suspect: Notify::new(),
            reports: Notify::new(),
            settled: Notify::new(),
            options,
        }
    }

    pub(super) fn sender(&self) -> Sender<'_> {
        Sender { node: &self.options.node, epoch: self.epoch.number() }
    }

    pub(super) fn link(&self) -> Link {
        *self.link.lock()
    }

    /// Sets the link; after goodbye nothing changes it.
    pub(super) fn set_link(&self, link: Link) {
        let mut now = self.link.lock();
        if *now != Link::Closed {
            *now = link;
            drop(now);
            self.linked.notify_waiters();
        }
    }

    /// A daemon does not know this node, though another one did: questions wait until it does.
    pub(super) fn greet_anew(&self) {
        let mut link = self.link.lock();
        if *link == Link::Greeted {
            *link = Link::Greeting;
        }
    }

    /// Uses another daemon in place of one that does not answer; false where that one is not in use any more.
    pub(super) fn move_on(&self, from: usize, to: usize) -> bool {
        let moved = from != to && self.daemons.replace(from, to);
        if moved {
            self.hooks.event(Event::Moved(to));
        }
        moved
    }

    /// Waits until the link is in one of these states.
    pub(super) async fn until_link(&self, wanted: impl Fn(Link) -> bool) -> Link {
        loop {
            let linked = self.linked.notified();
            let link = self.link();
            if wanted(link) {
                return link;
            }
            linked.await;
        }
    }

    /// Passes on what the ledger said of a report: there is one, there is none, or there was no room for it.
    pub(super) fn tell(&self, reported: Option<bool>) {
        match reported {
            Some(true) => self.reports.notify_one(),
            Some(false) => {}
            None => self.hooks.event(Event::ReportsFull),
        }
    }

    /// Passes on what the breakers said.
    pub(super) fn transitioned(&self, turn: Transition) {
        match turn {
            Transition::None => {}
            Transition::Opened => self.hooks.event(Event::Paused),
            Transition::Closed => self.hooks.event(Event::Resumed),
        }
    }

    /// Sends a message that no call waits for to one daemon, and gives it up when another one than `current` comes into
    /// use.
    ///
    /// # Errors
    /// Why it was not answered.
    pub(super) async fn post_aside(&self, current: usize, at: usize, aside: Aside<'_>) -> Result<Replied, Unreachable> {
        let exchange = self.daemons.exchange(at);
        let posting = exchange.post(aside.path, aside.body, aside.fresh, aside.answer_bytes_max, || {});
        let replied = tokio::select! {
            // In this order, so that a simulation is what its seed says.
            biased;
            replied = timeout(aside.patience, posting) => replied,
            () = self.daemons.until_left(current) => return Err(Unreachable::Timeout),
        };
        replied.unwrap_or_else(|_| {
            exchange.close_kept();
            Err(Unreachable::Timeout)
        })
    }
}
