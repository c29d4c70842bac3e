//! The way of one question: which address is asked next, and for how long.

use std::time::Duration;

use tokio::time::Instant;

use super::verdict::Unreachable;

/// The least that a try gets, as far as the deadline leaves as much for another one.
const TRY_MIN: Duration = Duration::from_millis(50);

/// An address on the way.
#[derive(Debug)]
struct Stop {
    at: usize,
    /// It gets no other try: one was over a new connection, or waited for hello.
    last: bool,
    /// The reason why the try before this one failed there.
    why: Option<Unreachable>,
}

/// The addresses in the order in which one question tries them, each once, and two of them a second time: one whose
/// connection broke, at once, for it may have been a kept one that the daemon closed; and, if time is left when all
/// were tried, the first, over a new connection.
#[derive(Debug)]
pub(super) struct Route {
    stops: Vec<Stop>,
    here: usize,
    end: Instant,
    try_min: Duration,
}

impl Route {
    /// A way over these addresses, at least one, that takes so long at most.
    pub(super) fn new(order: &[usize], began: Instant, budget: Duration) -> Self {
        Route {
            stops: order.iter().map(|at| Stop { at: *at, last: false, why: None }).collect(),
            here: 0,
            end: began + budget,
            try_min: TRY_MIN.min(budget / 2),
        }
    }

    /// The address whose turn it is.
    pub(super) fn at(&self) -> usize {
        self.stops[self.here].at
    }

    /// The address that was asked first.
    pub(super) fn first(&self) -> usize {
        self.stops[0].at
    }

    /// True if this try takes a new connection.
    pub(super) fn is_fresh(&self) -> bool {
        self.stops[self.here].last
    }

    /// The end of the try that begins now.
    ///
    /// Every try that is left gets an equal share, and a single address two tries: a daemon that is well answers in a
    /// fraction of that, also where it writes to disk first; and what may be wrong with one try (a lost packet, a
    /// connection that leads nowhere, a daemon that was replaced) is not wrong with the next, so it deserves as long. A
    /// try that fails at once leaves its time to the others.
    pub(super) fn until(&self, now: Instant) -> Instant {
        let here = &self.stops[self.here];
        let others = self.stops.iter().enumerate().filter(|(at, stop)| *at != self.here && stop.why.is_none()).count();
        let tries = match here.why {
            Some(Unreachable::NotGreeted) => 1,
            None if !here.last && self.stops.len() == 1 => 2,
            _ => 1 + u32::try_from(others).unwrap_or(u32::MAX - 1),
        };
        let left = self.end.saturating_duration_since(now);
        now + (left / tries).max(self.try_min).min(left)
    }

    /// Takes the same address once more, over a new connection.
    pub(super) fn again(&mut self) {
        self.stops[self.here].last = true;
    }

    /// The try failed for this reason: goes on to the next one, or returns false where there is none.
    pub(super) fn goes_on(&mut self, why: Unreachable, now: Instant) -> bool {
        let here = &mut self.stops[self.here];
        here.why = Some(why);
        if !here.last && (why.is_of_connection() || why == Unreachable::NotGreeted) {
            here.last = true;
            return true;
        }
        if !why.is_of_one_daemon() || now >= self.end {
            return false;
        }
        // The first again has a place behind the last.
        let next = self.here + 1;
        if next < self.stops.len() && self.stops[next].why.is_none() {
            self.here = next;
            return true;
        }
        let first = &mut self.stops[0];
        let deserves = first.why.is_some_and(|why| why.is_of_connection() || why == Unreachable::Timeout);
        if first.last || !deserves {
            return false;
        }
        first.last = true;
        self.here = 0;
        true
    }

    /// The addresses that were asked, each with the reason why its last try failed.
    pub(super) fn asked(&self) -> impl Iterator<Item = (usize, Option<Unreachable>)> + '_ {
        let stops = self.stops.iter().enumerate().filter(|(at, stop)| *at == self.here || stop.why.is_some());
        stops.map(|(_, stop)| (stop.at, stop.why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tries of a question where each takes as long as it may, or fails at once: address and milliseconds.
    fn tries(order: &[usize], budget_ms: u64, why: impl Fn(usize) -> Unreachable) -> Vec<(usize, u128)> {
        let began = Instant::now();
        let mut now = began;
        let mut route = Route::new(order, began, Duration::from_millis(budget_ms));
        let mut tries = Vec::new();
        loop {
            let (at, until) = (route.at(), route.until(now));
            let why = why(at);
            tries.push((at, (until - now).as_millis()));
            if why == Unreachable::Timeout {
                now = until;
            }
            if !route.goes_on(why, now) {
                return tries;
            }
        }
    }

    #[test]
    fn every_try_leaves_room_for_another_one() {
        use Unreachable::{NotReady, Overloaded, Refused, Timeout};
        for (order, budget_ms, why, expected) in [
            // One address: half the time for each of two tries.
            (&[0][..], 50, [Timeout; 3], &[(0, 25), (0, 25)][..]),
            (&[0], 200, [Timeout; 3], &[(0, 100), (0, 100)]),
            (&[0], 50, [Refused; 3], &[(0, 25), (0, 50)]),
            (&[0], 50, [NotReady; 3], &[(0, 25)]),
            // Several: an equal share of what is left, never less than 50 ms but for want of time.
            (&[1, 0], 250, [Timeout; 3], &[(1, 125), (0, 125)]),
            (&[2, 0, 1], 300, [Timeout; 3], &[(2, 100), (0, 100), (1, 100)]),
            (&[2, 0, 1], 50, [Timeout; 3], &[(2, 25), (0, 25)]),
            (&[2, 0, 1], 120, [Timeout; 3], &[(2, 50), (0, 50), (1, 20)]),
            // What fails at once leaves its time to the others.
            (&[0, 1], 50, [Refused, Timeout, Timeout], &[(0, 25), (0, 25), (1, 50)]),
            (&[0, 1], 50, [NotReady, Timeout, Timeout], &[(0, 25), (1, 50)]),
            (&[0, 1], 50, [Timeout, Refused, Timeout], &[(0, 25), (1, 25), (1, 25), (0, 25)]),
            (&[0, 1], 50, [Refused; 3], &[(0, 25), (0, 25), (1, 50), (1, 50)]),
            // Asked less often, not elsewhere.
            (&[0, 1], 50, [Overloaded; 3], &[(0, 25)]),
        ] {
            assert_eq!(tries(order, budget_ms, |at| why[at]), expected, "{order:?} {budget_ms} ms {why:?}");
        }
    }
}
