//! Waiting for what a test asserts, never for a guess.

use std::sync::mpsc::channel;
use std::time::Duration;

use usherd::daemon::clock::monotonic_ns;

/// No test waits longer than this for one thing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks again and again, with a pause, until there is something.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_or(look, || what.to_owned())
}

/// The same; what it waited for is told at the end, with what is known by then.
pub fn eventually_or<T>(mut look: impl FnMut() -> Option<T>, what: impl FnOnce() -> String) -> T {
    let until = monotonic_ns() + PATIENCE.as_nanos() as u64;
    while monotonic_ns() < until {
        if let Some(found) = look() {
            return found;
        }
        pause(PAUSE);
    }
    panic!("waited in vain for {}", what())
}

/// The same as [`eventually`] where other tasks go on meanwhile, each look a yes or no.
pub async fn eventually_async(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(patience, looking).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

/// Lets time pass: for the moment of a fault, and between two looks; never for logic.
pub fn pause(time: Duration) {
    let (keep, nobody) = channel::<()>();
    let _ = nobody.recv_timeout(time);
    drop(keep);
}
