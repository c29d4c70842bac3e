//! The boot number of a node: taken from the clock at the start, and raised once where the daemon knows a higher one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use usherd_contract::names::EPOCH_MAX;

/// The wall clock in milliseconds since 1970 UTC: a good epoch for a node without a boot counter of its own.
///
/// An epoch must grow from start to start (G5). Where the clock may go back between two starts, keep a counter
/// on disk instead and give it to [`Options::new`](super::Options::new).
#[expect(clippy::disallowed_methods, reason = "a node's epoch is taken once, at its start; nothing is decided by it")]
pub fn wall_clock_epoch() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// The epoch with which a client speaks.
#[derive(Debug)]
pub(super) struct Epoch {
    number: AtomicU64,
    /// When it was raised, until the daemon has kept to it for a lease.
    raised: Mutex<Option<Instant>>,
}

impl Epoch {
    pub(super) fn new(number: u64) -> Self {
        Epoch { number: AtomicU64::new(number), raised: Mutex::new(None) }
    }

    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The daemon knows this node by a higher epoch: takes the next one, or `None` where it must not.
    ///
    /// A clock that went back needs one step. Where that did not last a lease, another process speaks as this node,
    /// and two that raise for ever would end each other's calls for ever: so a process that is refused after its
    /// step stays refused, and of two processes the one that has not made its step yet keeps the name.
    pub(super) fn raise(&self, known: Option<u64>) -> Option<u64> {
        let mut raised = self.raised.lock();
        let next = known?.checked_add(1).filter(|next| *next > self.number() && *next <= EPOCH_MAX)?;
        if raised.is_some() {
            return None;
        }
        *raised = Some(Instant::now());
        self.number.store(next, Ordering::Release);
        Some(next)
    }

    /// The daemon answered by this epoch. Another process of this name would have spoken within a lease.
    pub(super) fn stands(&self, lease: Duration) {
        let mut raised = self.raised.lock();
        if raised.is_some_and(|since| since.elapsed() > lease) {
            *raised = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_never_raised_above_what_a_daemon_takes() {
        let epoch = Epoch::new(7);
        for known in [EPOCH_MAX, u64::MAX - 1, u64::MAX] {
            assert_eq!(epoch.raise(Some(known)), None);
        }
        assert_eq!(epoch.raise(Some(EPOCH_MAX - 1)), Some(EPOCH_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn an_epoch_is_raised_once_until_it_stood_for_a_lease() {
        let lease = Duration::from_secs(15);
        let epoch = Epoch::new(7);
        for (known, raised) in [(None, None), (Some(6), None), (Some(u64::MAX), None), (Some(9), Some(10))] {
            assert_eq!(epoch.raise(known), raised, "{known:?}");
        }
        epoch.stands(lease);
        assert_eq!(epoch.raise(Some(11)), None, "another process took the name back at once");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(epoch.raise(Some(11)), None, "that it was refused all the time is no reason");
        epoch.stands(lease);
        assert_eq!((epoch.raise(Some(11)), epoch.number()), (Some(12), 12));
    }
}
