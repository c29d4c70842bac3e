//! The circuit breakers: when a daemon hangs, calls stop waiting for it, so that not each call costs its deadline.
//!
//! Closed: every call asks. After several questions in a row without an answer, or when the node's heartbeat is
//! not answered either, it opens: no call asks, all are decided by `on_unreachable` at once, and the heartbeat
//! tries in the background. A heartbeat that is answered half opens it: one call at a time asks, for a daemon may
//! answer heartbeats and yet not decide; the others do not wait for that. An answer to that call closes it, and so
//! does the inventory that follows, once it was taken in.
//!
//! Every address has one. Calls stop waiting where none is closed any more.

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open,
    HalfOpen { asking: bool },
}

/// The change that an observation made for the client as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    None,
    /// The last one that was closed is not any more.
    Opened,
    /// One is closed, and none was.
    Closed,
}

impl Transition {
    /// This one, or that where this is none.
    pub(super) fn or(self, that: Transition) -> Transition {
        if self == Transition::None { that } else { self }
    }
}

#[derive(Clone, Debug)]
struct Breaker {
    state: State,
    misses: u32,
}

/// The breakers of all addresses.
#[derive(Debug)]
pub(super) struct Breakers {
    each: Vec<Breaker>,
    misses_max: u32,
}

impl Breakers {
    pub(super) fn new(addresses: usize, misses_max: u32) -> Self {
        Breakers { each: vec![Breaker { state: State::Closed, misses: 0 }; addresses], misses_max }
    }

    /// The addresses in the order in which they are tried: this one, the others as they follow it in the list, and
    /// at last those of the others that do not answer, as far as is known.
    pub(super) fn order(&self, current: usize) -> Vec<usize> {
        let count = self.each.len();
        let mut order: Vec<usize> = (current..count).chain(0..current).collect();
        if let Some(others) = order.get_mut(1..) {
            others.sort_by_key(|at| !self.is_closed(*at));
        }
        order
    }

    /// The order in which a call tries the addresses; `None` where it may ask nobody. It was admitted to the first of
    /// them, and must be to each that it goes on to.
    pub(super) fn begin(&mut self, current: usize) -> Option<Vec<usize>> {
        let mut order = self.order(current);
        let first = order.iter().position(|at| self.admit(*at))?;
        order.rotate_left(first);
        Some(order)
    }

    /// True if a call may ask; [`Breakers::answered`] or [`Breakers::missed`] or [`Breakers::left`] follows.
    pub(super) fn admit(&mut self, at: usize) -> bool {
        let state = &mut self.each[at].state;
        match *state {
            State::Closed => true,
            State::Open | State::HalfOpen { asking: true } => false,
            State::HalfOpen { asking: false } => {
                *state = State::HalfOpen { asking: true };
                true
            }
        }
    }

    /// The daemon decided something.
    pub(super) fn answered(&mut self, at: usize) -> Transition {
        self.change(|each, _| each[at] = Breaker { state: State::Closed, misses: 0 })
    }

    /// A call waited and got no answer.
    pub(super) fn missed(&mut self, at: usize) -> Transition {
        self.change(|each, misses_max| {
            let breaker = &mut each[at];
            breaker.misses = breaker.misses.saturating_add(1);
            if breaker.state != State::Closed || breaker.misses >= misses_max {
                breaker.state = State::Open;
            }
        })
    }

    /// A call that asked was given up before its end.
    pub(super) fn left(&mut self, at: usize) {
        let state = &mut self.each[at].state;
        if let State::HalfOpen { .. } = state {
            *state = State::HalfOpen { asking: false };
        }
    }

    /// The node's own messages are not answered there either.
    pub(super) fn open(&mut self, at: usize) -> Transition {
        self.change(|each, _| each[at].state = State::Open)
    }

    /// The node's own messages are not answered anywhere.
    pub(super) fn open_all(&mut self) -> Transition {
        self.change(|each, _| each.iter_mut().for_each(|breaker| breaker.state = State::Open))
    }

    /// A heartbeat was answered. Whether calls may try again by this.
    pub(super) fn heard(&mut self, at: usize) -> bool {
        let opened = self.each[at].state == State::Open;
        if opened {
            self.each[at].state = State::HalfOpen { asking: false };
        }
        opened
    }

    /// No call asks anybody.
    pub(super) fn all_open(&self) -> bool {
        self.each.iter().all(|breaker| breaker.state == State::Open)
    }

    /// Every call asks there.
    pub(super) fn is_closed(&self, at: usize) -> bool {
        self.each[at].state == State::Closed
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<Breaker>, u32)) -> Transition {
        let any_closed = |each: &[Breaker]| each.iter().any(|breaker| breaker.state == State::Closed);
        let before = any_closed(&self.each);
        change(&mut self.each, self.misses_max);
        match (before, any_closed(&self.each)) {
            (true, false) => Transition::Opened,
            (false, true) => Transition::Closed,
            _ => Transition::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_open_it_and_an_answered_trial_closes_it() {
        let mut breaker = Breakers::new(1, 3);
        for turn in [Transition::None, Transition::None, Transition::Opened] {
            assert!(breaker.admit(0));
            assert_eq!(breaker.missed(0), turn);
        }
        assert!(!breaker.admit(0));
        breaker.heard(0);
        assert!(breaker.admit(0), "one tries");
        assert!(!breaker.admit(0), "the others do not wait");
        assert_eq!(breaker.missed(0), Transition::None);
        assert!(!breaker.admit(0), "until the next heartbeat");
        breaker.heard(0);
        assert!(breaker.admit(0));
        assert_eq!(breaker.answered(0), Transition::Closed);
        assert!(breaker.admit(0) && breaker.admit(0) && breaker.is_closed(0));
    }

    #[test]
    fn an_answer_between_misses_keeps_it_closed() {
        let mut breaker = Breakers::new(1, 2);
        for _ in 0..5 {
            assert_eq!((breaker.missed(0), breaker.answered(0)), (Transition::None, Transition::None));
        }
    }

    #[test]
    fn who_tries_and_leaves_lets_the_next_one_try() {
        let mut breaker = Breakers::new(1, 1);
        assert_eq!(breaker.open(0), Transition::Opened);
        breaker.heard(0);
        assert!(breaker.admit(0) && !breaker.admit(0));
        breaker.left(0);
        assert!(breaker.admit(0));
    }

    #[test]
    fn calls_stop_waiting_where_no_address_answers_any_more() {
        let mut breakers = Breakers::new(3, 1);
        assert_eq!((breakers.missed(1), breakers.begin(1)), (Transition::None, Some(vec![2, 0, 1])));
        assert_eq!((breakers.open(2), breakers.begin(2)), (Transition::None, Some(vec![0, 1, 2])));
        assert_eq!((breakers.begin(0), breakers.all_open()), (Some(vec![0, 1, 2]), false));
        assert_eq!((breakers.missed(0), breakers.all_open()), (Transition::Opened, true));
        assert_eq!((breakers.begin(0), breakers.open_all()), (None, Transition::None));
        assert!(breakers.heard(2) && !breakers.all_open());
        assert_eq!(breakers.begin(0), Some(vec![2, 0, 1]), "one tries");
        assert_eq!(breakers.begin(0), None, "the others do not wait");
        assert_eq!((breakers.answered(2), breakers.answered(0)), (Transition::Closed, Transition::None));
        assert_eq!(breakers.order(0), [0, 2, 1]);
    }
}
