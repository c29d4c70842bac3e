//! The seat word under loom: every interleaving of a few threads, with the memory orders as written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by a panic that it failed")]
#![allow(dead_code, unreachable_pub, reason = "the seats come with more than their protocol")]

#[path = "../crates/engine/src/seats.rs"]
mod seats;
#[path = "seats/sync.rs"]
mod sync;

/// The checker's types, which `sync` lets it watch.
mod checker {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64};
}

use loom::sync::Arc;
use loom::thread;

use seats::{Seats, Taken, Terms};

fn seats(quota: u32, held: u32) -> Arc<Seats> {
    let seats = sync::watched(|| Seats::new(0));
    seats.set(0, Some(quota.max(held)), 0, false);
    (0..held).for_each(|_| assert!(take(&seats)));
    seats.set(0, Some(quota), 0, false);
    Arc::new(seats)
}

/// Takes a seat; true if it did, and never above the quota of the same instant (V2).
fn take(seats: &Seats) -> bool {
    match seats.take(10, Terms::default()) {
        Taken::Seat { word, over } => {
            assert!(!over && word.quota().is_some_and(|quota| word.held() <= quota), "{word:?}");
            true
        }
        Taken::Full(word) => {
            assert!(word.quota().is_some_and(|quota| word.held() >= quota), "I4: {word:?}");
            false
        }
        other => panic!("{other:?}"),
    }
}

fn model(preemptions: Option<usize>, test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(test);
}

#[test]
fn one_seat_is_taken_once() {
    model(None, || {
        let seats = seats(1, 0);
        let other = Arc::clone(&seats);
        let theirs = thread::spawn(move || take(&other));
        let mine = take(&seats);
        assert!(mine ^ theirs.join().unwrap(), "V8");
        assert_eq!(seats.read().held(), 1);
    });
}

#[test]
fn three_threads_share_two_seats() {
    model(Some(3), || {
        let seats = seats(2, 0);
        let others: Vec<_> = (0..2)
            .map(|_| {
                let seats = Arc::clone(&seats);
                thread::spawn(move || take(&seats))
            })
            .collect();
        let mine = u32::from(take(&seats));
        let taken = others.into_iter().map(|other| u32::from(other.join().unwrap())).sum::<u32>() + mine;
        assert_eq!((taken, seats.read().held()), (2, 2), "V8");
    });
}

#[test]
fn a_freed_seat_is_not_lost() {
    model(None, || {
        let seats = seats(1, 1);
        let other = Arc::clone(&seats);
        let freed = thread::spawn(move || other.free(10, false).unwrap());
        let mine = take(&seats);
        let word = freed.join().unwrap();
        assert!(word.held() <= 1);
        assert_eq!(seats.read().held(), u32::from(mine));
        assert!(mine || take(&seats), "I3");
    });
}

#[test]
fn a_quota_change_neither_gives_nor_takes() {
    model(Some(3), || {
        let seats = seats(2, 1);
        let (a, b) = (Arc::clone(&seats), Arc::clone(&seats));
        let change = thread::spawn(move || a.set(10, Some(1), 0, false));
        let churn = thread::spawn(move || {
            let taken = take(&b);
            b.free(10, false).unwrap();
            taken
        });
        let (before, after) = change.join().unwrap();
        assert_eq!(before.held(), after.held(), "V7");
        let taken = churn.join().unwrap();
        assert_eq!(seats.read().held(), u32::from(taken));
        assert_eq!(seats.read().quota(), Some(1));
    });
}

#[test]
fn seat_time_is_one_cut_or_none() {
    model(None, || {
        let seats = seats(2, 0);
        let other = Arc::clone(&seats);
        let taken = thread::spawn(move || assert!(take(&other)));
        if let Some(usage) = seats.usage(30) {
            assert_eq!(usage.seat_ms, u64::from(usage.word.held()) * 20, "I28");
        }
        taken.join().unwrap();
        assert_eq!(seats.usage(30).unwrap().seat_ms, 20);
    });
}
