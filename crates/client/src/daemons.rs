//! The daemons of a client: the connections to each address, and the one that is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::connector::Dial;
use super::exchange::Exchange;
use super::options::{Address, Options};

/// The daemons, in the order of the options; there is at least one.
pub(super) struct Daemons {
    each: Vec<(Address, Exchange)>,
    current: AtomicUsize,
    /// The one that knew this node last.
    greeted: AtomicUsize,
    /// Wakes the tasks that wait for a daemon which is not in use any more.
    moved: Notify,
}

impl Daemons {
    pub(super) fn new(options: &Options, dial: &Arc<dyn Dial>) -> Self {
        let exchange = |address: &Address| {
            let token = options.token.as_deref();
            Exchange::new(Arc::clone(dial), address.clone(), token, options.limits.in_flight_max)
        };
        Daemons {
            each: options.addresses().map(|address| (address.clone(), exchange(address))).collect(),
            current: AtomicUsize::new(0),
            greeted: AtomicUsize::new(0),
            moved: Notify::new(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.each.len()
    }

    /// The one in use: it answered last.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Acquire)
    }

    /// Uses another one in place of this; false where this one is not in use any more.
    pub(super) fn replace(&self, from: usize, to: usize) -> bool {
        let replaced = self.current.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if replaced {
            self.moved.notify_waiters();
        }
        replaced
    }

    /// Waits until another one than this is in use.
    pub(super) async fn until_left(&self, at: usize) {
        loop {
            let moved = self.moved.notified();
            if self.current() != at {
                return;
            }
            moved.await;
        }
    }

    /// Notes that this one knows this node.
    pub(super) fn greeted_by(&self, at: usize) {
        self.greeted.store(at, Ordering::Release);
    }

    /// The one that knew this node last.
    pub(super) fn greeted(&self) -> usize {
        self.greeted.load(Ordering::Acquire)
    }

    pub(super) fn address(&self, at: usize) -> &Address {
        &self.each[at].0
    }

    pub(super) fn exchange(&self, at: usize) -> &Exchange {
        &self.each[at].1
    }

    /// Closes what is kept of all: none of them answers.
    pub(super) fn close_kept(&self) {
        self.each.iter().for_each(|(_, exchange)| exchange.close_kept());
    }
}
