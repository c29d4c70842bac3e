//! Trust in the wall clock: its steps against the monotonic clock and across a stop, and what follows (H5).
//!
//! Reads no clock. The control thread shows it an instant at least once a second. A request between a step
//! and the next look is decided by the plan that is installed, which did not change: nothing is lost by it.

use chrono::DateTime;
use usherd_engine::Now;

use usherd_subscription::entitlement::Timelines;

/// By how much the clocks may drift apart between two looks, or go back over a stop, milliseconds; slewing never
/// comes near it.
const APART_MS: u64 = 60_000;
/// How long a clock that stepped is not trusted alone, milliseconds of uptime.
pub const WINDOW_MS: u64 = 600_000;
/// How long a daemon may be stopped before the clock that it finds is taken for a step, milliseconds.
const STOPPED_MS_MAX: i64 = 48 * 3_600_000;

/// The result of a look at the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing new.
    Nothing,
    /// The wall clock stepped.
    Step(Step),
    /// The wait is over: the wall clock is trusted again.
    Trusted,
}

/// A step of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The time without the step, milliseconds since 1970 UTC; at a start the last instant that was trusted.
    pub expected_utc_ms: i64,
    /// The time that it shows.
    pub utc_ms: i64,
}

/// The conditions on which the wall clock is trusted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The ten minutes end at this uptime, milliseconds.
    pub until_uptime_ms: u64,
    /// And somebody has to know that the clock is right: the kernel, or a person. So after a step over a stop.
    pub for_proof: bool,
}

/// The wall clock as it was last trusted, while it is not.
#[derive(Clone, Copy, Debug)]
struct Window {
    anchor: Now,
    wait: Wait,
}

impl Window {
    fn is_open(&self, now: Now) -> bool {
        now.uptime_ms < self.wait.until_uptime_ms || self.wait.for_proof
    }
}

/// The state machine of H5.
#[derive(Debug)]
pub struct Timeline {
    last: Now,
    window: Option<Window>,
    steps: u64,
}

impl Timeline {
    /// Trusts the wall clock as it is.
    pub fn new(now: Now) -> Self {
        Timeline { last: now, window: None, steps: 0 }
    }

    /// Begins where a journal ends: the clock is a step where it shows an instant before the last one that was trusted
    /// (milliseconds since 1970 UTC), or more than two days after it.
    pub fn resume(&mut self, now: Now, trusted_utc_ms: i64) -> Option<Step> {
        self.last = now;
        if follows(trusted_utc_ms, now.utc_ms) {
            return None;
        }
        self.steps += 1;
        let anchor = Now { uptime_ms: now.uptime_ms, utc_ms: trusted_utc_ms };
        let wait = Wait { until_uptime_ms: now.uptime_ms + WINDOW_MS, for_proof: true };
        self.window = Some(Window { anchor, wait });
        Some(Step { expected_utc_ms: trusted_utc_ms, utc_ms: now.utc_ms })
    }

    /// Takes note of the present instant. A step inside the ten minutes counts again and begins them anew;
    /// the old timeline goes on from the last time that was trusted. A clock that comes back to where a stop left it
    /// needs no proof any more.
    pub fn observe(&mut self, now: Now) -> Seen {
        let was_open = self.window.is_some();
        self.window = self.window.filter(|window| window.is_open(now));
        let last = std::mem::replace(&mut self.last, now);
        if !stepped(last, now) {
            return if was_open && self.window.is_none() { Seen::Trusted } else { Seen::Nothing };
        }
        self.steps += 1;
        let anchor = self.window.map_or(last, |window| window.anchor);
        let for_proof =
            self.window.is_some_and(|window| window.wait.for_proof) && !follows(progressed(anchor, now), now.utc_ms);
        let wait = Wait { until_uptime_ms: now.uptime_ms + WINDOW_MS, for_proof };
        self.window = Some(Window { anchor, wait });
        Seen::Step(Step { expected_utc_ms: progressed(last, now), utc_ms: now.utc_ms })
    }

    /// Somebody knows that the clock is right: the kernel, which is kept by a time server, or a person. The ten
    /// minutes go on.
    pub fn prove(&mut self) {
        if let Some(window) = &mut self.window {
            window.wait.for_proof = false;
        }
    }

    /// The wait at an instant; `None` while the wall clock is trusted.
    pub fn wait(&self, now: Now) -> Option<Wait> {
        self.window.filter(|window| window.is_open(now)).map(|window| window.wait)
    }

    /// The timelines at an instant, also at one that was not observed yet. Changes nothing.
    pub fn at(&self, now: Now) -> Timelines {
        let open = self.window.filter(|window| window.is_open(now));
        let anchor = open.map(|window| window.anchor).or_else(|| stepped(self.last, now).then_some(self.last));
        let utc = |utc_ms| DateTime::from_timestamp_millis(utc_ms).unwrap_or_default();
        Timelines {
            wall: utc(now.utc_ms),
            old: anchor.map(|anchor| utc(progressed(anchor, now))),
            trusted: anchor.map(|anchor| utc(anchor.utc_ms)),
        }
    }

    /// Steps since the start, that of the start included.
    pub const fn steps(&self) -> u64 {
        self.steps
    }
}

/// The wall clock, where it goes on from an instant as the monotonic one does.
fn progressed(from: Now, now: Now) -> i64 {
    let by_ms = i128::from(now.uptime_ms) - i128::from(from.uptime_ms);
    i64::try_from(i128::from(from.utc_ms) + by_ms).unwrap_or(now.utc_ms)
}

fn stepped(last: Now, now: Now) -> bool {
    now.utc_ms.abs_diff(progressed(last, now)) > APART_MS
}

/// True if a clock may show this after a stop.
fn follows(trusted_utc_ms: i64, utc_ms: i64) -> bool {
    let later_ms = i128::from(utc_ms) - i128::from(trusted_utc_ms);
    (-i128::from(APART_MS)..=i128::from(STOPPED_MS_MAX)).contains(&later_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const YEAR: i64 = 365 * 86_400_000;

    fn at(uptime_ms: u64, ahead_ms: i64) -> Now {
        Now { uptime_ms, utc_ms: 1_780_000_000_000 + uptime_ms as i64 + ahead_ms }
    }

    /// How far the old timeline is behind the wall clock, where it counts.
    fn behind(timeline: &Timeline, now: Now) -> Option<i64> {
        let at = timeline.at(now);
        at.old.map(|old| (at.wall - old).num_milliseconds())
    }

    #[test]
    fn a_corrected_step_counts_twice_and_keeps_its_anchor_t110() {
        let mut timeline = Timeline::new(at(0, 0));
        assert_eq!(timeline.observe(at(1_000, 0)), Seen::Nothing);
        assert_eq!(behind(&timeline, at(2_000, YEAR)), Some(YEAR), "seen by whoever comes before the next look");
        let step = Step { expected_utc_ms: at(2_000, 0).utc_ms, utc_ms: at(2_000, YEAR).utc_ms };
        assert_eq!(timeline.observe(at(2_000, YEAR)), Seen::Step(step));
        let corrected = 2_000 + 4 * MINUTE;
        assert_eq!(behind(&timeline, at(corrected - 1, YEAR)), Some(YEAR));
        assert!(matches!(timeline.observe(at(corrected, 0)), Seen::Step(_)));
        assert_eq!((timeline.steps(), behind(&timeline, at(corrected, 0))), (2, Some(0)));
        assert_eq!(timeline.observe(at(corrected + 10 * MINUTE - 1, 0)), Seen::Nothing);
        assert_eq!(timeline.observe(at(corrected + 10 * MINUTE, 0)), Seen::Trusted);
        assert_eq!(behind(&timeline, at(corrected + 10 * MINUTE, 0)), None);
    }

    #[test]
    fn a_step_that_stays_is_trusted_after_ten_minutes_t112() {
        let mut timeline = Timeline::new(at(0, 0));
        let back = -2 * 3_600_000;
        assert!(matches!(timeline.observe(at(1_000, back)), Seen::Step(_)));
        assert_eq!(behind(&timeline, at(10 * MINUTE, back)), Some(back));
        assert_eq!(timeline.observe(at(1_000 + 10 * MINUTE, back)), Seen::Trusted);
        assert_eq!(behind(&timeline, at(1_000 + 10 * MINUTE, back)), None);
        assert!(matches!(timeline.observe(at(2_000 + 10 * MINUTE, 0)), Seen::Step(_)));
        assert_eq!(
            behind(&timeline, at(2_000 + 10 * MINUTE, 0)),
            Some(-back),
            "the new anchor is the trusted wall clock"
        );
    }

    #[test]
    fn drift_and_small_steps_are_none() {
        let mut timeline = Timeline::new(at(0, 0));
        for second in 1..5_000u64 {
            let slewed = at(second * 1_000, second as i64 * 50);
            assert_eq!(timeline.observe(slewed), Seen::Nothing);
        }
        let last = 5_000_000;
        assert_eq!(timeline.observe(at(last, 4_999 * 50 + 60_000)), Seen::Nothing);
        assert!(matches!(timeline.observe(at(last, 4_999 * 50 - 1)), Seen::Step(_)));
        assert_eq!(timeline.steps(), 1);
    }

    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_clock_that_a_stop_left_elsewhere_waits_for_a_proof_t180() {
        for (ahead, is_step) in [
            (-YEAR, true),
            (-61_000, true),
            (-60_000, false),
            (0, false),
            (48 * HOUR, false),
            (48 * HOUR + 1, true),
            (YEAR, true),
        ] {
            let mut timeline = Timeline::new(at(0, ahead));
            assert_eq!(timeline.resume(at(0, ahead), at(0, 0).utc_ms).is_some(), is_step, "{ahead}");
            assert_eq!(behind(&timeline, at(MINUTE, ahead)), is_step.then_some(ahead), "{ahead}");
            assert_eq!(timeline.observe(at(20 * MINUTE, ahead)), Seen::Nothing, "{ahead}: not without a proof");
            assert_eq!(timeline.wait(at(20 * MINUTE, ahead)).is_some_and(|wait| wait.for_proof), is_step);
            timeline.prove();
            let trusted = if is_step { Seen::Trusted } else { Seen::Nothing };
            assert_eq!(timeline.observe(at(20 * MINUTE + 1, ahead)), trusted, "{ahead}");
            assert_eq!(behind(&timeline, at(20 * MINUTE + 1, ahead)), None);
            assert_eq!(timeline.steps(), u64::from(is_step));
        }
    }

    #[test]
    fn a_proof_does_not_shorten_the_ten_minutes() {
        let mut timeline = Timeline::new(at(0, YEAR));
        timeline.resume(at(0, YEAR), at(0, 0).utc_ms);
        timeline.prove();
        assert_eq!(timeline.observe(at(10 * MINUTE - 1, YEAR)), Seen::Nothing);
        assert_eq!(behind(&timeline, at(10 * MINUTE - 1, YEAR)), Some(YEAR));
        assert_eq!(timeline.observe(at(10 * MINUTE, YEAR)), Seen::Trusted);
    }

    #[test]
    fn a_clock_back_where_the_stop_left_it_needs_no_proof() {
        for (back, needs_proof) in [(0, false), (20 * HOUR, false), (-HOUR, true), (3 * YEAR, true)] {
            let mut timeline = Timeline::new(at(0, YEAR));
            timeline.resume(at(0, YEAR), at(0, 0).utc_ms);
            assert!(matches!(timeline.observe(at(5 * MINUTE, back)), Seen::Step(_)));
            assert_eq!(timeline.observe(at(15 * MINUTE - 1, back)), Seen::Nothing, "{back}");
            let seen = timeline.observe(at(15 * MINUTE, back));
            assert_eq!(seen, if needs_proof { Seen::Nothing } else { Seen::Trusted }, "{back}");
        }
    }

    #[test]
    fn absurd_clocks_do_not_overflow() {
        let mut timeline = Timeline::new(Now { uptime_ms: 0, utc_ms: i64::MAX });
        for utc_ms in [i64::MIN, 0, i64::MAX] {
            assert!(matches!(timeline.observe(Now { uptime_ms: 1, utc_ms }), Seen::Step(_) | Seen::Nothing));
            timeline.at(Now { uptime_ms: u64::MAX, utc_ms: i64::MIN });
        }
        for (trusted, utc_ms) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN)] {
            assert!(timeline.resume(Now { uptime_ms: 1, utc_ms }, trusted).is_some());
            timeline.at(Now { uptime_ms: u64::MAX, utc_ms });
        }
    }
}
