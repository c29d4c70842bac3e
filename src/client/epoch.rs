//! The boot number of a node: the one place of the client that reads a clock.

/// The wall clock in milliseconds since 1970 UTC: a good epoch for a node without a boot counter of its own.
///
/// An epoch must grow from start to start (G5). Where the clock may go back between two starts, keep a counter
/// on disk instead and give it to [`Options::new`](super::Options::new).
#[expect(clippy::disallowed_methods, reason = "a node's epoch is taken once, at its start; nothing is decided by it")]
pub fn wall_clock_epoch() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
