//! How often an address may fail to say who it is: a bucket for each, which fills again with time.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::daemon::bounded::BoundedMap;

/// Addresses whose failures are counted one by one; beyond it they share one bucket.
const FAILING_ADDRESSES_MAX: usize = 10_000;
/// Between two looks for forgiven addresses in a full table, milliseconds.
const PRUNE_EVERY_MS: u64 = 1_000;

/// How failures are limited: never successes, so never a release, a renewal or a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureLimit {
    /// Failures of one address at once.
    pub burst: u32,
    /// Failures of one address that are forgiven each minute.
    pub per_minute: u32,
}

impl Default for FailureLimit {
    fn default() -> Self {
        FailureLimit { burst: 20, per_minute: 20 }
    }
}

/// A bucket of failures that may still happen, in thousandths.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left_milli: u64,
    filled_ms: u64,
}

impl Bucket {
    fn refill(&mut self, limit: FailureLimit, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.filled_ms);
        let refill = passed_ms.saturating_mul(u64::from(limit.per_minute)) / 60;
        self.left_milli = self.left_milli.saturating_add(refill).min(u64::from(limit.burst) * 1_000);
        self.filled_ms = self.filled_ms.max(now_ms);
    }

    /// Takes one failure out.
    ///
    /// # Errors
    /// It is empty; seconds until it is not.
    fn take(&mut self, limit: FailureLimit, now_ms: u64) -> Result<(), u32> {
        self.refill(limit, now_ms);
        if let Some(left) = self.left_milli.checked_sub(1_000) {
            self.left_milli = left;
            return Ok(());
        }
        let wait_ms = (1_000 - self.left_milli).saturating_mul(60) / u64::from(limit.per_minute.max(1));
        Err(u32::try_from(wait_ms.div_ceil(1_000)).unwrap_or(u32::MAX).max(1))
    }
}

/// The failures that each address may still make.
#[derive(Debug)]
pub(super) struct Failures {
    by_address: BoundedMap<IpAddr, Bucket>,
    others: Mutex<Option<Bucket>>,
    pruned_ms: AtomicU64,
}

impl Default for Failures {
    fn default() -> Self {
        Failures {
            by_address: BoundedMap::new(FAILING_ADDRESSES_MAX),
            others: Mutex::default(),
            pruned_ms: AtomicU64::new(0),
        }
    }
}

impl Failures {
    /// Takes one failure out of the bucket of an address.
    ///
    /// # Errors
    /// It is empty; seconds until it is not.
    pub(super) fn count(&self, address: Option<IpAddr>, limit: FailureLimit, now_ms: u64) -> Result<(), u32> {
        let full = Bucket { left_milli: u64::from(limit.burst) * 1_000, filled_ms: now_ms };
        if self.by_address.is_full() {
            self.prune(limit, now_ms, full);
        }
        let own = |address| self.by_address.with(address, || full, |bucket| bucket.take(limit, now_ms));
        let counted = address.and_then(own);
        counted.unwrap_or_else(|| self.others.lock().get_or_insert(full).take(limit, now_ms))
    }

    /// Forgets forgiven addresses; one thread at a time, and none where that was lately.
    fn prune(&self, limit: FailureLimit, now_ms: u64, full: Bucket) {
        let pruned_ms = self.pruned_ms.load(Ordering::Relaxed);
        let is_due = now_ms.saturating_sub(pruned_ms) >= PRUNE_EVERY_MS;
        let begin = || self.pruned_ms.compare_exchange(pruned_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && begin().is_ok() {
            self.by_address.retain(|_, bucket| {
                bucket.refill(limit, now_ms);
                bucket.left_milli < full.left_milli
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_failures_is_bounded() {
        let (failures, limit) = (Failures::default(), FailureLimit { burst: 1, per_minute: 1 });
        for n in 0..FAILING_ADDRESSES_MAX + 100 {
            let address = IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
            let _ = failures.count(Some(address), limit, 0);
        }
        assert_eq!(failures.by_address.len(), FAILING_ADDRESSES_MAX);
        assert!(failures.count(Some(IpAddr::from([9, 9, 9, 9])), limit, 0).is_err(), "the shared bucket");
        assert!(failures.count(Some(IpAddr::from([9, 9, 9, 9])), limit, 60_000).is_ok());
        assert_eq!(failures.by_address.len(), 1, "forgiven addresses are forgotten");
    }
}
