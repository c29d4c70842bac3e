//! How often an address may fail to say who it is: a bucket for each, which fills again with time.

use std::collections::HashMap;
use std::net::IpAddr;

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
}

/// The failures that each address may still make.
#[derive(Debug, Default)]
pub(super) struct Failures {
    by_address: HashMap<IpAddr, Bucket>,
    others: Option<Bucket>,
    pruned_ms: u64,
}

impl Failures {
    /// Takes one failure out of the bucket of an address.
    ///
    /// # Errors
    /// It is empty; seconds until it is not.
    pub(super) fn count(&mut self, address: Option<IpAddr>, limit: FailureLimit, now_ms: u64) -> Result<(), u32> {
        let full = Bucket { left_milli: u64::from(limit.burst) * 1_000, filled_ms: now_ms };
        let pruned_long_ago = now_ms.saturating_sub(self.pruned_ms) >= PRUNE_EVERY_MS;
        if self.by_address.len() >= FAILING_ADDRESSES_MAX && pruned_long_ago {
            self.pruned_ms = now_ms;
            self.by_address.retain(|_, bucket| {
                bucket.refill(limit, now_ms);
                bucket.left_milli < full.left_milli
            });
        }
        let has_room = self.by_address.len() < FAILING_ADDRESSES_MAX;
        let bucket = match address {
            Some(address) if has_room || self.by_address.contains_key(&address) => {
                self.by_address.entry(address).or_insert(full)
            }
            _ => self.others.get_or_insert(full),
        };
        bucket.refill(limit, now_ms);
        if let Some(left) = bucket.left_milli.checked_sub(1_000) {
            bucket.left_milli = left;
            return Ok(());
        }
        let wait_ms = (1_000 - bucket.left_milli).saturating_mul(60) / u64::from(limit.per_minute.max(1));
        Err(u32::try_from(wait_ms.div_ceil(1_000)).unwrap_or(u32::MAX).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_failures_is_bounded() {
        let (mut failures, limit) = (Failures::default(), FailureLimit { burst: 1, per_minute: 1 });
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
