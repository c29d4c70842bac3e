//! The record of addresses that were cut off lately: the next connections of each are heard later, the more the
//! oftener.

use std::net::IpAddr;
use std::time::Duration;

use super::address::address_key;
use crate::daemon::bounded::BoundedMap;

/// Addresses that are remembered; beyond it the one that was cut off longest ago is forgotten.
const ADDRESSES_MAX: usize = 4_096;
/// In this time half of what somebody did is forgotten, milliseconds.
const FORGIVEN_MS: u64 = 10_000;
/// How much later the next connection is heard after the first time; twice as much after each further one.
const DELAY_FIRST: Duration = Duration::from_millis(20);
/// The longest that a connection from elsewhere waits.
const DELAY_MAX: Duration = Duration::from_secs(1);
/// The longest that a connection from this host waits: a call that a script here asks for is still answered before
/// the 50 ms are over after which a node stops waiting.
const DELAY_LOCAL_MAX: Duration = Duration::from_millis(40);

/// How often addresses were cut off lately.
#[derive(Debug)]
pub(super) struct Conduct {
    cuts: BoundedMap<IpAddr, Cuts>,
}

impl Default for Conduct {
    fn default() -> Self {
        Conduct { cuts: BoundedMap::new(ADDRESSES_MAX) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Cuts {
    count: u32,
    at_ms: u64,
}

impl Cuts {
    /// The cuts that still count at this time.
    fn left(self, now_ms: u64) -> u32 {
        let halvings = now_ms.saturating_sub(self.at_ms) / FORGIVEN_MS;
        self.count.checked_shr(halvings.min(u64::from(u32::BITS)) as u32).unwrap_or(0)
    }
}

impl Conduct {
    /// A connection of this address was cut off; `now_ms` is monotonic.
    pub(super) fn cut(&self, address: IpAddr, now_ms: u64) {
        let key = address_key(address);
        let none = || Cuts { count: 0, at_ms: now_ms };
        let add = |cuts: &mut Cuts| *cuts = Cuts { count: cuts.left(now_ms).saturating_add(1), at_ms: now_ms };
        while self.cuts.with(key, none, add).is_none() {
            self.make_room(now_ms);
        }
    }

    fn make_room(&self, now_ms: u64) {
        self.cuts.retain(|_, cuts| cuts.left(now_ms) > 0);
        if self.cuts.is_full()
            && let Some(oldest) = self.cuts.lowest(|cuts| cuts.at_ms)
        {
            self.cuts.remove_if(&oldest, |_| true);
        }
    }

    /// How much later the next connection of this address is heard; `now_ms` is monotonic.
    pub(super) fn delay(&self, address: IpAddr, now_ms: u64) -> Duration {
        if self.cuts.is_empty() {
            return Duration::ZERO;
        }
        let key = address_key(address);
        let left = self.cuts.get_mut(&key).map_or(0, |cuts| cuts.left(now_ms));
        if left == 0 {
            self.cuts.remove_if(&key, |cuts| cuts.left(now_ms) == 0);
            return Duration::ZERO;
        }
        let most = if address.to_canonical().is_loopback() { DELAY_LOCAL_MAX } else { DELAY_MAX };
        DELAY_FIRST.saturating_mul(1 << (left - 1).min(16)).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn the_next_connection_waits_longer_each_time_up_to_a_limit() {
        let conduct = Conduct::default();
        assert_eq!(conduct.delay(ip(1), 0), Duration::ZERO);
        let mut delays = Vec::new();
        for _ in 0..8 {
            conduct.cut(ip(1), 0);
            delays.push(conduct.delay(ip(1), 0).as_millis());
        }
        assert_eq!(delays, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        assert_eq!(conduct.delay(ip(2), 0), Duration::ZERO, "nobody else waits");
    }

    #[test]
    fn it_is_forgiven_and_then_forgotten() {
        let conduct = Conduct::default();
        for _ in 0..4 {
            conduct.cut(ip(1), 0);
        }
        assert_eq!(conduct.delay(ip(1), FORGIVEN_MS).as_millis(), 40);
        assert_eq!(conduct.delay(ip(1), FORGIVEN_MS * 3), Duration::ZERO);
        assert!(conduct.cuts.is_empty());
        conduct.cut(ip(1), u64::MAX);
        assert_eq!(conduct.delay(ip(1), 0).as_millis(), 20, "a clock that goes back");
    }

    #[test]
    fn on_this_host_nobody_waits_longer_than_a_node_does() {
        let conduct = Conduct::default();
        let here = "::ffff:127.0.0.9".parse().unwrap();
        for _ in 0..100 {
            conduct.cut(here, 0);
        }
        assert_eq!(conduct.delay(here, 0), DELAY_LOCAL_MAX);
    }

    #[test]
    fn the_memory_is_bounded_and_the_oldest_goes() {
        let conduct = Conduct::default();
        for number in 0..ADDRESSES_MAX as u32 + 10 {
            conduct.cut(IpAddr::from(number.to_be_bytes()), u64::from(number));
        }
        assert_eq!(conduct.cuts.len(), ADDRESSES_MAX);
        assert_eq!(conduct.delay(IpAddr::from(0_u32.to_be_bytes()), 5_000), Duration::ZERO);
        assert!(conduct.delay(IpAddr::from((ADDRESSES_MAX as u32).to_be_bytes()), 5_000) > Duration::ZERO);
    }
}
