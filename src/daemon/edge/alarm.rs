//! The deadlines of requests: of HTTP/1 they are cells that the one timer of their connection looks at.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The time of a connection's turn, and the instant at which its requests must be looked at again.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// When the turn began; `None` for a connection that does not poll its requests itself.
    turn: Cell<Option<Instant>>,
    next: Cell<Option<Instant>>,
}

impl Alarm {
    /// An alarm for a connection that polls its requests in its own turn, and once it is due.
    pub(super) fn of_turns() -> Self {
        Alarm { turn: Cell::new(Some(Instant::now())), next: Cell::new(None) }
    }

    /// The connection is about to be polled: the clock is read once for all deadlines that are looked at now.
    pub(super) fn begin_turn(&self) {
        if self.turn.get().is_some() {
            self.turn.set(Some(Instant::now()));
        }
    }

    /// When the requests must be looked at, if nothing wakes them before.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next.get()
    }

    /// It was due: the requests are polled next, and say when they want it again.
    pub(super) fn went_off(&self) {
        self.next.set(None);
        self.begin_turn();
    }

    /// Completes with the future, or with `None` once that has kept us waiting for so long. One that is ready at once
    /// costs no look at a clock, and one of a connection with turns no timer.
    pub(super) async fn within<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let (mut due, mut timer): (Option<Instant>, Option<Pin<Box<Sleep>>>) = (None, None);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            let due = *due.get_or_insert_with(|| Instant::now() + limit);
            match self.turn.get() {
                Some(now) if now >= due => Poll::Ready(None),
                Some(_) => {
                    let next = self.next.get().map_or(due, |next| next.min(due));
                    self.next.set(Some(next));
                    Poll::Pending
                }
                None => timer.get_or_insert_with(|| Box::pin(sleep_until(due))).as_mut().poll(cx).map(|()| None),
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    fn run<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn what_is_ready_is_not_held_up_and_the_rest_is_given_up() {
        for alarm in [Alarm::default(), Alarm::of_turns()] {
            assert_eq!(run(alarm.within(LIMIT, ready(7))), Some(7));
            assert_eq!(alarm.next(), None);
        }
        assert_eq!(run(async { Alarm::default().within(LIMIT, pending::<()>()).await }), None);
    }

    #[test]
    fn in_turns_the_earliest_deadline_is_told_and_comes_true() {
        let alarm = Alarm::of_turns();
        let mut waiting = pin!(alarm.within(LIMIT, alarm.within(LIMIT * 9, pending::<()>())));
        run(poll_fn(|cx| {
            assert!(waiting.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        }));
        let due = alarm.next().unwrap();
        assert!(due <= Instant::now() + LIMIT, "from the first look on, however long the turn was before");
        run(async move { tokio::time::sleep_until(due).await });
        run(poll_fn(|cx| {
            assert!(waiting.as_mut().poll(cx).is_pending(), "the turn is the same still");
            alarm.went_off();
            assert_eq!(alarm.next(), None);
            assert_eq!(waiting.as_mut().poll(cx), Poll::Ready(None));
            Poll::Ready(())
        }));
    }
}
