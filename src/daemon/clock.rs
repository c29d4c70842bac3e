//! The only file that reads the OS clocks: everything else is told the time.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use usherd_engine::Now;

/// Tells the time, once per request, at the edge.
pub trait Clock: Send + Sync + 'static {
    /// The present instant: monotonic for leases (H1), wall clock for contracts (H2).
    fn now(&self) -> Now;

    /// True if the wall clock is known to follow a time server; `None` where nobody can tell.
    fn is_synchronised(&self) -> Option<bool> {
        None
    }
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
        Now { uptime_ms, utc_ms: utc_ms_of(SystemTime::now()) }
    }

    fn is_synchronised(&self) -> Option<bool> {
        // All zeros only asks.
        let mut asked = rtime_clock::adjtime::Timex::new();
        match rtime_clock::adjtime::adjtimex(&mut asked) {
            Ok(_) => Some(asked.0.status & STA_UNSYNC == 0),
            // Not allowed to ask, as in the sandbox of the shipped unit: then what systemd-timesyncd says counts.
            Err(_) => is_marked(Path::new(TIMESYNC_MARK), self.now().utc_ms).then_some(true),
        }
    }
}

/// Processor time that the calling thread has used, nanoseconds: how long it worked, whoever else had the core meanwhile.
pub fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// The file that systemd-timesyncd touches each time it has looked at the clock; it stays for the whole boot.
const TIMESYNC_MARK: &str = "/run/systemd/timesync/synchronized";
/// How far from the present clock the mark may lie: timesyncd asks at least every 2048 s, and two answers may be lost.
/// A clock that somebody sets by hand to another day is far from it, before and behind.
const TIMESYNC_MARK_APART_MAX: Duration = Duration::from_secs(3 * 2_048);

/// True if a time service left its mark near the instant that the clock shows.
fn is_marked(mark: &Path, utc_ms: i64) -> bool {
    let Ok(marked) = std::fs::metadata(mark).and_then(|mark| mark.modified()) else { return false };
    u128::from(utc_ms.abs_diff(utc_ms_of(marked))) <= TIMESYNC_MARK_APART_MAX.as_millis()
}

/// Milliseconds since 1970 UTC.
fn utc_ms_of(wall: SystemTime) -> i64 {
    match wall.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}

/// The kernel's own word for "nobody keeps this clock" (`adjtimex(2)`): cleared by a time service, and set again by
/// the kernel where that was silent for hours.
const STA_UNSYNC: i32 = 0x0040;

/// A clock that hurries: for demonstrations, in which a day passes while somebody watches. Leases, contracts and what
/// people are shown all go by it, so a daemon cannot tell the difference; only its timers wait in real time. At speed 0
/// it stands.
#[derive(Debug)]
pub struct HurriedClock(Mutex<Pace>);

/// Since when, and from which instant, time passes so many times as fast.
#[derive(Clone, Copy, Debug)]
struct Pace {
    since: Instant,
    from: Now,
    speed: u32,
}

impl Pace {
    #[allow(clippy::disallowed_methods, reason = "this is the place")]
    fn new(from: Now, speed: u32) -> Self {
        Pace { since: Instant::now(), from, speed }
    }

    fn now(&self) -> Now {
        let passed_ms = self.since.elapsed().as_micros() as u64 * u64::from(self.speed) / 1_000;
        Now { uptime_ms: self.from.uptime_ms + passed_ms, utc_ms: self.from.utc_ms + passed_ms as i64 }
    }
}

impl HurriedClock {
    /// A clock that shows `utc_ms` (milliseconds since 1970 UTC) now, and runs `speed` times as fast as the machine's.
    pub fn start(utc_ms: i64, speed: u32) -> Self {
        // A second of head start, so that no instant of the process is 0.
        HurriedClock(Mutex::new(Pace::new(Now { uptime_ms: 1_000, utc_ms }, speed)))
    }

    /// Goes on at another speed; no instant is left out.
    pub fn set_speed(&self, speed: u32) {
        let mut pace = self.0.lock();
        *pace = Pace::new(pace.now(), speed);
    }

    /// How long it really takes until the clock shows an instant, milliseconds since 1970 UTC; zero where it did.
    pub fn real_time_until(&self, utc_ms: i64) -> Duration {
        let pace = *self.0.lock();
        let left_ms = u64::try_from(utc_ms - pace.now().utc_ms).unwrap_or(0);
        Duration::from_micros(left_ms.saturating_mul(1_000) / u64::from(pace.speed.max(1)))
    }
}

impl Clock for HurriedClock {
    fn now(&self) -> Now {
        self.0.lock().now()
    }
}

/// Monotonic nanoseconds, to measure how long something took; never to decide anything by.
pub fn monotonic_ns() -> u64 {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64
}

/// The second that the wall clock of the machine shows, since 1970 UTC, for the heads of answers; some milliseconds late.
pub fn wall_seconds() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec
}

/// A clock that stands until it is moved: for tests and simulations. Nobody sees it half moved.
#[derive(Debug)]
pub struct ManualClock(Mutex<Now>, Mutex<Option<bool>>);

impl ManualClock {
    /// A clock that stands at an instant; nobody knows whether it is right.
    pub fn new(now: Now) -> Self {
        ManualClock(Mutex::new(now), Mutex::new(None))
    }

    /// Says whether it follows a time server.
    pub fn synchronise(&self, is: Option<bool>) {
        *self.1.lock() = is;
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

    fn is_synchronised(&self) -> Option<bool> {
        *self.1.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_service_mark_proves_only_a_clock_near_it() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("synchronized");
        let at = |s: u64| UNIX_EPOCH + Duration::from_secs(s);
        assert!(!is_marked(&mark, 1_795_000_000_000), "there is none");
        std::fs::File::create(&mark).unwrap().set_modified(at(1_795_000_000)).unwrap();
        for (now_s, is) in [
            (1_795_000_000, true),
            (1_795_002_100, true),
            (1_795_006_144, true),
            (1_795_006_145, false),
            (1_794_993_856, true),
            (1_794_993_855, false),
            (1_893_456_000, false),
            (0, false),
        ] {
            assert_eq!(is_marked(&mark, now_s * 1_000), is, "{now_s}");
        }
    }
}
