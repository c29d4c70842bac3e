//! The seat word under shuttle: long random schedules of more threads than loom can exhaust.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by a panic that it failed")]
#![allow(dead_code, unreachable_pub, reason = "the seats come with more than their protocol")]

#[path = "../crates/engine/src/seats.rs"]
mod seats;
#[path = "seats/sync.rs"]
mod sync;

/// The checker's types, which `sync` lets it watch.
mod checker {
    pub(crate) use shuttle::sync::atomic::{AtomicU32, AtomicU64};
}

use shuttle::sync::Arc;
use shuttle::thread;

use seats::{Seats, Taken, Terms};

/// Threads that take, give back and go above the quota while it changes.
fn churn() {
    let seats = Arc::new(sync::watched(|| Seats::new(0)));
    seats.set(0, Some(2), 0, false);
    let workers: Vec<_> = (0..4)
        .map(|me| {
            let seats = Arc::clone(&seats);
            thread::spawn(move || {
                let mut mine = 0u32;
                for i in 0..6u64 {
                    let over = me == 0 && i % 3 == 0;
                    match seats.take(i, Terms { over, ..Terms::default() }) {
                        Taken::Seat { word, over: above } => {
                            let fits = word.quota().is_none_or(|quota| word.held() <= quota);
                            assert!(fits || (over && above), "V2: {word:?}");
                            mine += 1;
                        }
                        Taken::Full(word) => assert!(word.full() && !over, "I4: {word:?}"),
                        other => panic!("{other:?}"),
                    }
                    if mine > 0 && i % 2 == 1 {
                        seats.free(i, false).unwrap();
                        mine -= 1;
                    }
                }
                mine
            })
        })
        .collect();
    for quota in [0, 3, 1, 2] {
        let (before, after) = seats.set(7, Some(quota), 0, false);
        assert_eq!(before.held(), after.held(), "V7");
        thread::yield_now();
    }
    let held: u32 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    assert_eq!(seats.read().held(), held, "I5");
    assert_eq!(seats.read().quota(), Some(2));
    assert!(seats.usage(100).is_some(), "the sums are settled at rest");
}

#[test]
fn random_schedules() {
    shuttle::check_random(churn, 50_000);
}

#[test]
fn schedules_with_rare_priority_changes() {
    shuttle::check_pct(churn, 50_000, 4);
}
