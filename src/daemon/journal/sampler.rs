//! In a storm not every denial is recorded: a token bucket per tenant and code, and how many were left out.

use usherd_engine::session::{Code, Name};

use crate::daemon::bounded::BoundedMap;

/// Says which decisions are recorded. Time comes in; nothing waits.
#[derive(Debug)]
pub struct Sampler {
    per_minute: u32,
    burst: u32,
    buckets: BoundedMap<(Name, Code), Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Thousandths of an entry.
    tokens: u64,
    filled_ms: u64,
    suppressed: u64,
}

/// The action for one decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// Record it, and before it how many of its kind were left out since the last one, where not 0.
    Record {
        /// Decisions left out.
        suppressed: u64,
    },
    /// Leave it out; it is counted.
    Suppress,
}

/// Decisions of one tenant and code that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// The tenant.
    pub tenant: Name,
    /// The code.
    pub code: Code,
    /// How many.
    pub count: u64,
}

impl Sampler {
    /// At most `burst` at once and `per_minute` in the long run, of each tenant and code; `buckets_max` pairs
    /// are told apart at a time, and what is beyond them is left out and not counted.
    pub fn new(burst: u32, per_minute: u32, buckets_max: usize) -> Self {
        Sampler { per_minute, burst, buckets: BoundedMap::new(buckets_max) }
    }

    /// Decides about one decision at `uptime_ms`.
    pub fn sample(&self, uptime_ms: u64, tenant: &str, code: Code) -> Sample {
        let full = u64::from(self.burst) * 1000;
        let new = || Bucket { tokens: full, filled_ms: uptime_ms, suppressed: 0 };
        let sampled = self.buckets.with((Name::new(tenant), code), new, |bucket| {
            let elapsed_ms = uptime_ms.saturating_sub(bucket.filled_ms);
            // Thousandths of a token per millisecond are tokens per second; the rest of the division is kept.
            let gained = elapsed_ms.saturating_mul(u64::from(self.per_minute)) / 60;
            if gained > 0 {
                bucket.tokens = bucket.tokens.saturating_add(gained).min(full);
                bucket.filled_ms = uptime_ms;
            }
            if bucket.tokens < 1000 {
                bucket.suppressed += 1;
                return Sample::Suppress;
            }
            bucket.tokens -= 1000;
            Sample::Record { suppressed: std::mem::take(&mut bucket.suppressed) }
        });
        sampled.unwrap_or(Sample::Suppress)
    }

    /// Takes out what was left out, to be recorded; and forgets pairs that have been quiet. Call it every so
    /// often, so that the last storm is told of even when nothing follows it.
    pub fn sweep(&self, uptime_ms: u64) -> Vec<Suppressed> {
        let full_ms = u64::from(self.burst).saturating_mul(60_000) / u64::from(self.per_minute.max(1));
        let mut suppressed = Vec::new();
        self.buckets.retain(|(tenant, code), bucket| {
            let count = std::mem::take(&mut bucket.suppressed);
            if count > 0 {
                suppressed.push(Suppressed { tenant: tenant.clone(), code: *code, count });
            }
            uptime_ms.saturating_sub(bucket.filled_ms) < full_ms
        });
        suppressed.sort_unstable_by(|a, b| (&a.tenant, a.code).cmp(&(&b.tenant, b.code)));
        suppressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_sampled_and_counted() {
        let sampler = Sampler::new(2, 60, 10);
        let storm: Vec<Sample> = (0..5).map(|at| sampler.sample(at, "t", Code::DenyFull)).collect();
        assert_eq!(storm[..2], [Sample::Record { suppressed: 0 }; 2]);
        assert_eq!(storm[2..], [Sample::Suppress; 3]);
        assert_eq!(sampler.sample(5, "other", Code::DenyFull), Sample::Record { suppressed: 0 });
        assert_eq!(sampler.sample(5, "t", Code::DenyInactive), Sample::Record { suppressed: 0 });
        assert_eq!(sampler.sample(1_100, "t", Code::DenyFull), Sample::Record { suppressed: 3 });
        assert_eq!(sampler.sample(1_101, "t", Code::DenyFull), Sample::Suppress);
        let left = sampler.sweep(1_102);
        assert_eq!(left, [Suppressed { tenant: Name::new("t"), code: Code::DenyFull, count: 1 }]);
        assert_eq!(sampler.sweep(1_000_000), []);
        assert!(sampler.buckets.is_empty());
    }

    #[test]
    fn the_number_of_buckets_is_limited() {
        let sampler = Sampler::new(1, 1, 1);
        assert_eq!(sampler.sample(0, "a", Code::DenyFull), Sample::Record { suppressed: 0 });
        assert_eq!(sampler.sample(0, "b", Code::DenyFull), Sample::Suppress);
    }
}
