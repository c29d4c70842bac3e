//! A tenant's seats in one atomic word: held, quota and standing always form a true pair.
//!
//! Beside the word stand sums from which exact seat-seconds follow: every change of `held` adds or takes
//! its instant, so that `sum + held * now` is the integral. A reader takes the sums as valid only where
//! the word did not move meanwhile and every change it counts has been added (the low byte of the sum
//! counts changes too), so it never makes a writer wait.

use super::sync::{AtomicU32, AtomicU64, Ordering};

/// Largest number of seats that a word can count, held or as a quota.
pub(crate) const SEATS_MAX: u32 = (1 << 20) - 1;

const QUOTA_SHIFT: u32 = 20;
const UNLIMITED: u64 = 1 << 40;
const GATED: u64 = 1 << 41;
const STANDING_SHIFT: u32 = 42;
const STANDING_MASK: u64 = 0b11 << STANDING_SHIFT;
const TICK: u64 = 1 << 44;
const FIELD: u64 = SEATS_MAX as u64;
/// Changes that may be under way while a reader looks; more threads than this never share a tenant.
const CHANGE_BITS: u32 = 8;

/// One consistent reading of a tenant's seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeatState(u64);

impl SeatState {
    /// Nothing held, nothing to hold.
    pub(crate) const NOTHING: SeatState = SeatState(0);

    /// Subjects that hold a seat (H).
    pub(crate) fn held(self) -> u32 {
        (self.0 & FIELD) as u32
    }

    /// Q; `None` is unlimited (F5).
    pub(crate) fn quota(self) -> Option<u32> {
        (self.0 & UNLIMITED == 0).then_some(((self.0 >> QUOTA_SHIFT) & FIELD) as u32)
    }

    /// Position of the standing in its vocabulary; 0 is active.
    pub(crate) fn standing(self) -> u8 {
        ((self.0 & STANDING_MASK) >> STANDING_SHIFT) as u8
    }

    /// True if seats change hands only under the tenant's gate (reservations, pools).
    pub(crate) fn gated(self) -> bool {
        self.0 & GATED != 0
    }

    /// True if no seat is free.
    pub(crate) fn full(self) -> bool {
        self.quota().is_some_and(|quota| self.held() >= quota) || self.held() == SEATS_MAX
    }

    fn tick(self) -> u64 {
        self.0 / TICK
    }
}

/// The terms for a subject that asks for a seat.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// May go above the quota (F3).
    pub over: bool,
    /// Goes on although the subscription is not active (D5: existing).
    pub inactive: bool,
    /// The caller holds the tenant's gate.
    pub gate_held: bool,
}

/// The outcome of asking for a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Taken; the word right after. `over` where it went above the quota.
    Seat {
        /// The word right after.
        word: SeatState,
        /// True if no seat was free.
        over: bool,
    },
    /// No seat is free (V2).
    Full(SeatState),
    /// The subscription is not active.
    Inactive(SeatState),
    /// The gate must be held for this tenant.
    Gated,
}

/// The seats of one tenant, alone on their cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Seats {
    word: AtomicU64,
    seat_ms: AtomicU64,
    saturated_ms: AtomicU64,
    peak: AtomicU32,
    peak_before: AtomicU32,
    strays: AtomicU32,
}

/// Seats over time, as one consistent cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// The word of the cut.
    pub word: SeatState,
    /// Sum over all seats of the time they were held, milliseconds.
    pub seat_ms: u64,
    /// Time with no free seat, milliseconds.
    pub saturated_ms: u64,
}

impl Seats {
    /// No seat held; quota 0, active, not gated.
    pub(crate) fn new(now_ms: u64) -> Self {
        Seats {
            word: AtomicU64::new(0),
            seat_ms: AtomicU64::new(0),
            saturated_ms: AtomicU64::new(0u64.wrapping_sub(now_ms)),
            peak: AtomicU32::new(0),
            peak_before: AtomicU32::new(0),
            strays: AtomicU32::new(0),
        }
    }

    /// The word as it is.
    pub(crate) fn read(&self) -> SeatState {
        SeatState(self.word.load(Ordering::Acquire))
    }

    /// Takes a seat where the terms and the word allow it, in one step (D1, V2).
    pub(crate) fn take(&self, now_ms: u64, terms: Terms) -> Taken {
        let mut old = self.read();
        loop {
            if old.gated() && !terms.gate_held {
                return Taken::Gated;
            }
            if old.standing() != 0 && !terms.inactive {
                return Taken::Inactive(old);
            }
            if (old.full() && !terms.over) || old.held() == SEATS_MAX {
                return Taken::Full(old);
            }
            match self.swap(old, old.0 + 1, now_ms) {
                Ok(word) => return Taken::Seat { word, over: old.full() },
                Err(now) => old = now,
            }
        }
    }

    /// Gives a seat back (E1); `None` where the gate must be held for it.
    pub(crate) fn free(&self, now_ms: u64, gate_held: bool) -> Option<SeatState> {
        let mut old = self.read();
        loop {
            if old.gated() && !gate_held {
                return None;
            }
            if old.held() == 0 {
                self.count_stray();
            }
            debug_assert!(old.held() > 0, "a seat was given back that nobody held");
            match self.swap(old, old.0 - u64::from(old.held() > 0), now_ms) {
                Ok(word) => return Some(word),
                Err(now) => old = now,
            }
        }
    }

    /// A seat was given back that some count did not know of.
    pub(crate) fn count_stray(&self) {
        self.strays.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was so: never, or the program has a fault.
    pub(crate) fn strays(&self) -> u32 {
        self.strays.load(Ordering::Relaxed)
    }

    /// Sets quota, standing and gate in one step; ends nothing (F1, V7). Quotas above [`SEATS_MAX`] are cut to it.
    pub(crate) fn set(&self, now_ms: u64, quota: Option<u32>, standing: u8, gated: bool) -> (SeatState, SeatState) {
        let mut fresh = match quota {
            Some(quota) => u64::from(quota.min(SEATS_MAX)) << QUOTA_SHIFT,
            None => UNLIMITED,
        };
        fresh |= (u64::from(standing) << STANDING_SHIFT) & STANDING_MASK;
        if gated {
            fresh |= GATED;
        }
        let mut old = self.read();
        loop {
            let kept = old.0 & (FIELD | !(TICK - 1));
            match self.swap(old, kept | fresh, now_ms) {
                Ok(word) => return (old, word),
                Err(now) => old = now,
            }
        }
    }

    /// Seats over time; `None` where the word kept moving, so that the caller shows its last reading.
    pub(crate) fn usage(&self, now_ms: u64) -> Option<Usage> {
        for _ in 0..16 {
            let word = self.read();
            let sum = self.seat_ms.load(Ordering::Acquire);
            let saturated = self.saturated_ms.load(Ordering::Acquire);
            if self.read() != word || (sum ^ word.tick()) & ((1 << CHANGE_BITS) - 1) != 0 {
                continue;
            }
            let live = u64::from(word.held()).wrapping_mul(now_ms) << CHANGE_BITS;
            let seat_ms = sum.wrapping_add(live).cast_signed() >> CHANGE_BITS;
            let saturated_ms = if word.full() { saturated.wrapping_add(now_ms) } else { saturated };
            // A change may carry an instant after the reader's: then the sum is short of nothing.
            let whole = |ms: i64| ms.max(0).cast_unsigned();
            return Some(Usage { word, seat_ms: whole(seat_ms), saturated_ms: whole(saturated_ms.cast_signed()) });
        }
        None
    }

    /// The highest number of seats held in the present and the previous window.
    pub(crate) fn peak(&self) -> u32 {
        self.peak_now().max(self.peak_before.load(Ordering::Relaxed))
    }

    /// The highest number of seats held in the present window.
    pub(crate) fn peak_now(&self) -> u32 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Begins a new window of peaks, and answers the peak of the one that ended.
    pub(crate) fn roll_peak(&self) -> u32 {
        let ended = self.peak.swap(self.read().held(), Ordering::Relaxed);
        self.peak_before.store(ended, Ordering::Relaxed);
        ended
    }

    /// One compare-and-swap, with the change counted in the word and added to the sums.
    fn swap(&self, old: SeatState, fresh: u64, now_ms: u64) -> Result<SeatState, SeatState> {
        let new = SeatState(fresh.wrapping_add(TICK));
        match self.word.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                self.add_to_sums(old, new, now_ms);
                Ok(new)
            }
            Err(now) => Err(SeatState(now)),
        }
    }

    fn add_to_sums(&self, old: SeatState, new: SeatState, now_ms: u64) {
        match (old.full(), new.full()) {
            (false, true) => _ = self.saturated_ms.fetch_sub(now_ms, Ordering::Relaxed),
            (true, false) => _ = self.saturated_ms.fetch_add(now_ms, Ordering::Relaxed),
            _ => {}
        }
        let mut add = 1u64;
        if new.tick() & ((1 << CHANGE_BITS) - 1) == 0 {
            // The low byte wraps with this change: take back what it would carry into the milliseconds.
            add = add.wrapping_sub(1 << CHANGE_BITS);
        }
        let instant = now_ms << CHANGE_BITS;
        match new.held().cmp(&old.held()) {
            std::cmp::Ordering::Greater => {
                add = add.wrapping_sub(instant);
                if new.held() > self.peak.load(Ordering::Relaxed) {
                    self.peak.fetch_max(new.held(), Ordering::Relaxed);
                }
            }
            std::cmp::Ordering::Less => add = add.wrapping_add(instant),
            std::cmp::Ordering::Equal => {}
        }
        self.seat_ms.fetch_add(add, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(seats: &Seats, now_ms: u64, quota: u32) {
        seats.set(now_ms, Some(quota), 0, false);
    }

    #[test]
    fn a_seat_is_taken_only_below_the_quota() {
        let seats = Seats::new(0);
        assert!(matches!(seats.take(0, Terms::default()), Taken::Full(_)));
        quota(&seats, 0, 1);
        assert!(matches!(seats.take(0, Terms::default()), Taken::Seat { over: false, .. }));
        assert!(matches!(seats.take(0, Terms::default()), Taken::Full(_)));
        let over = Terms { over: true, ..Terms::default() };
        assert!(matches!(seats.take(0, over), Taken::Seat { over: true, .. }));
        assert_eq!(seats.read().held(), 2);
    }

    #[test]
    fn lowering_the_quota_ends_nothing() {
        let seats = Seats::new(0);
        quota(&seats, 0, 20);
        for _ in 0..20 {
            seats.take(0, Terms::default());
        }
        quota(&seats, 0, 15);
        assert_eq!((seats.read().held(), seats.read().quota()), (20, Some(15)));
    }

    #[test]
    fn seat_seconds_are_the_exact_integral_over_many_changes() {
        let seats = Seats::new(1_000);
        quota(&seats, 1_000, 2);
        let (mut now, mut expected, mut saturated) = (1_000, 0, 0);
        for step in 0..10_000u64 {
            let held = u64::from(seats.read().held());
            let wait = step % 7;
            now += wait;
            expected += held * wait;
            saturated += if held >= 2 { wait } else { 0 };
            if step % 4 < 2 {
                seats.take(now, Terms::default());
            } else {
                seats.free(now, false);
            }
            let usage = seats.usage(now).unwrap();
            assert_eq!((usage.seat_ms, usage.saturated_ms), (expected, saturated), "step {step}");
        }
    }

    #[test]
    fn a_seat_that_nobody_held_is_counted_and_changes_nothing() {
        let seats = Seats::new(0);
        quota(&seats, 0, 9);
        // A build with assertions says so, and one without goes on.
        let freed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| seats.free(0, false)));
        assert_eq!(freed.is_err(), cfg!(debug_assertions));
        assert_eq!((seats.strays(), seats.read().held()), (1, 0));
    }

    #[test]
    fn peaks_cover_the_present_and_the_previous_window() {
        let seats = Seats::new(0);
        quota(&seats, 0, 9);
        for _ in 0..5 {
            seats.take(0, Terms::default());
        }
        for _ in 0..4 {
            seats.free(0, false);
        }
        assert_eq!(seats.peak(), 5);
        assert_eq!(seats.roll_peak(), 5);
        assert_eq!((seats.peak(), seats.peak_now()), (5, 1));
        assert_eq!(seats.roll_peak(), 1);
        assert_eq!(seats.peak(), 1);
    }
}
