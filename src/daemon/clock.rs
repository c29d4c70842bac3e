//! The only file that reads the OS clocks: everything else is told the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::engine::Now;

/// Tells the time, once per request, at the edge.
pub trait Clock: Send + Sync + 'static {
    /// The present instant: monotonic for leases (H1), wall clock for contracts (H2).
    fn now(&self) -> Now;
}

/// The clocks of the machine.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Uptime counts from here.
    #[allow(clippy::disallowed_methods, reason = "this is the place")]
    pub fn start() -> Self {
        SystemClock { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the place")]
    fn now(&self) -> Now {
        // A second of head start, so that no instant of the process is 0.
        let uptime_ms = self.started.elapsed().as_millis() as u64 + 1_000;
        let utc_ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        };
        Now { uptime_ms, utc_ms }
    }
}

/// Monotonic nanoseconds, to measure how long something took; never to decide anything by.
pub fn monotonic_ns() -> u64 {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64
}

/// A clock that stands until it is moved: for tests and simulations. Nobody sees it half moved.
#[derive(Debug)]
pub struct ManualClock(Mutex<Now>);

impl ManualClock {
    /// A clock that stands at an instant.
    pub fn new(now: Now) -> Self {
        ManualClock(Mutex::new(now))
    }

    /// Lets time pass, milliseconds.
    pub fn advance(&self, by_ms: u64) {
        let mut now = self.0.lock();
        now.uptime_ms += by_ms;
        now.utc_ms += by_ms as i64;
    }

    /// Moves the wall clock alone, milliseconds.
    pub fn step_wall(&self, by_ms: i64) {
        self.0.lock().utc_ms += by_ms;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.0.lock()
    }
}
