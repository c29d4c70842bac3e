//! The circuit breaker: when a daemon hangs, calls stop waiting for it, so that not each call costs its deadline.
//!
//! Closed: every call asks. After several questions in a row without an answer, or when the node's heartbeat is
//! not answered either, it opens: no call asks, all are decided by `on_unreachable` at once, and the heartbeat
//! tries in the background. A heartbeat that is answered half opens it: one call at a time asks, for a daemon may
//! answer heartbeats and yet not decide; the others do not wait for that. An answer to that call closes it, and so
//! does the inventory that follows, once it was taken in.

/// The state of the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open,
    HalfOpen { asking: bool },
}

/// The change that an observation made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    None,
    Opened,
    Closed,
}

#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    misses: u32,
    misses_max: u32,
}

impl Breaker {
    pub(super) fn new(misses_max: u32) -> Self {
        Breaker { state: State::Closed, misses: 0, misses_max }
    }

    /// True if a call may ask; [`Breaker::answered`] or [`Breaker::missed`] or [`Breaker::left`] follows.
    pub(super) fn admit(&mut self) -> bool {
        match self.state {
            State::Closed => true,
            State::Open | State::HalfOpen { asking: true } => false,
            State::HalfOpen { asking: false } => {
                self.state = State::HalfOpen { asking: true };
                true
            }
        }
    }

    /// The daemon decided something.
    pub(super) fn answered(&mut self) -> Transition {
        self.misses = 0;
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => Transition::None,
            _ => Transition::Closed,
        }
    }

    /// A call waited and got no answer.
    pub(super) fn missed(&mut self) -> Transition {
        self.misses = self.misses.saturating_add(1);
        match self.state {
            State::Closed if self.misses < self.misses_max => Transition::None,
            State::Closed => self.open(),
            // It was said already that calls do not wait.
            State::Open | State::HalfOpen { .. } => {
                self.state = State::Open;
                Transition::None
            }
        }
    }

    /// A call that asked was given up before its end.
    pub(super) fn left(&mut self) {
        if let State::HalfOpen { .. } = self.state {
            self.state = State::HalfOpen { asking: false };
        }
    }

    /// The node's own messages are not answered either.
    pub(super) fn open(&mut self) -> Transition {
        match std::mem::replace(&mut self.state, State::Open) {
            State::Closed => Transition::Opened,
            _ => Transition::None,
        }
    }

    /// A heartbeat was answered. Whether calls may try again by this.
    pub(super) fn heard(&mut self) -> bool {
        let opened = self.state == State::Open;
        if opened {
            self.state = State::HalfOpen { asking: false };
        }
        opened
    }

    /// No call asks.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Every call asks.
    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_open_it_and_an_answered_trial_closes_it() {
        let mut breaker = Breaker::new(3);
        for turn in [Transition::None, Transition::None, Transition::Opened] {
            assert!(breaker.admit());
            assert_eq!(breaker.missed(), turn);
        }
        assert!(!breaker.admit());
        breaker.heard();
        assert!(breaker.admit(), "one tries");
        assert!(!breaker.admit(), "the others do not wait");
        assert_eq!(breaker.missed(), Transition::None);
        assert!(!breaker.admit(), "until the next heartbeat");
        breaker.heard();
        assert!(breaker.admit());
        assert_eq!(breaker.answered(), Transition::Closed);
        assert!(breaker.admit() && breaker.admit() && breaker.is_closed());
    }

    #[test]
    fn an_answer_between_misses_keeps_it_closed() {
        let mut breaker = Breaker::new(2);
        for _ in 0..5 {
            assert_eq!((breaker.missed(), breaker.answered()), (Transition::None, Transition::None));
        }
    }

    #[test]
    fn who_tries_and_leaves_lets_the_next_one_try() {
        let mut breaker = Breaker::new(1);
        assert_eq!(breaker.open(), Transition::Opened);
        breaker.heard();
        assert!(breaker.admit() && !breaker.admit());
        breaker.left();
        assert!(breaker.admit());
    }
}
