//! The real table under real threads: every history must have an order that explains it (D6, I3, I4).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by a panic that it failed")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is the seed and the history to replay it by")]

#[path = "concurrency/history.rs"]
mod history;
#[cfg(not(feature = "canary-release-order"))]
#[path = "concurrency/races.rs"]
mod races;
#[path = "concurrency/recorder.rs"]
mod recorder;

use recorder::{Run, record};

/// How many times as many histories; for long runs.
#[cfg(not(feature = "canary-release-order"))]
fn times() -> usize {
    std::env::var("USHERD_HISTORIES_TIMES").ok().and_then(|value| value.parse().ok()).unwrap_or(1)
}

#[cfg(not(feature = "canary-release-order"))]
fn check(run: Run) {
    let run = Run { histories: run.histories * times(), ..run };
    let (ran, bad) = record(run);
    if let Some((start, mut events)) = bad {
        events.sort_by_key(|e| e.called);
        events.iter().for_each(|e| eprintln!("{:>4}-{:<4} {:?} -> {:?}", e.called, e.returned, e.op, e.seen));
        panic!("history {ran} of seed {} has no order from {start:?}", run.seed);
    }
}

#[cfg(not(feature = "canary-release-order"))]
mod linearizability {
    use super::*;

    #[test]
    fn two_threads() {
        check(Run { seed: 1, threads: 2, ops: 8, histories: 30_000, pool: false, grows: false });
    }

    #[test]
    fn three_threads() {
        check(Run { seed: 2, threads: 3, ops: 5, histories: 10_000, pool: false, grows: false });
    }

    #[test]
    fn four_threads() {
        check(Run { seed: 3, threads: 4, ops: 4, histories: 10_000, pool: false, grows: false });
    }

    #[test]
    fn two_threads_while_the_table_grows_and_shrinks() {
        check(Run { seed: 5, threads: 2, ops: 8, histories: 15_000, pool: false, grows: true });
    }

    #[test]
    fn three_threads_while_the_table_grows_and_shrinks() {
        check(Run { seed: 6, threads: 3, ops: 5, histories: 5_000, pool: false, grows: true });
    }

    #[test]
    fn two_threads_two_tenants_one_pool() {
        check(Run { seed: 4, threads: 2, ops: 8, histories: 15_000, pool: true, grows: false });
    }
}

/// A build with the wrong order of release must be caught, or a green run above means nothing:
/// `cargo test --test concurrency --features canary-release-order`.
#[cfg(feature = "canary-release-order")]
#[test]
fn the_wrong_release_order_is_caught() {
    let caught = (0..40).any(|seed| {
        let (_, bad) = record(Run { seed, threads: 2, ops: 8, histories: 10_000, pool: false, grows: false });
        bad.is_some()
    });
    assert!(caught, "400,000 histories of a wrong engine were all explained");
}
