//! The order of connections on a runtime: those of nodes at once, all others in turns with the loop between them.
//!
//! A runtime runs whatever is ready in the order in which it became ready. Ten thousand connections that are always
//! ready would each delay a call by their share; here they delay it by one round, however many they are.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use crate::daemon::clock::monotonic_ns;

/// The nanoseconds that all that are not nodes may take of a runtime before it looks at its sockets again.
const ROUND_NS: u64 = 200_000;
/// Most of those who wait that one round lets go on.
const CALLED_MAX: u64 = 64;
/// Most of one line that are called at a time.
const CALLED_OF_LINE_MAX: u64 = 4;

thread_local! {
    static TURNS: Rc<Turns> = Rc::default();
}

/// The turns of one runtime, which is one thread.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The nanoseconds that were taken in this round.
    spent_ns: Cell<u64>,
    /// How long a turn takes by late experience, nanoseconds.
    turn_ns: Cell<u64>,
    /// The lines in which somebody waits, the longest first.
    waiting: RefCell<VecDeque<Rc<Line>>>,
    /// True if somebody begins the next round.
    is_kept: Cell<bool>,
}

/// Those of one connection that wait: it has its turn however many requests it carries.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// One that is gone stays until it is called.
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    is_queued: Cell<bool>,
}

#[derive(Debug, Default)]
struct Waiter {
    waker: RefCell<Option<Waker>>,
    is_called: Cell<bool>,
}

/// A place in a line for as long as its owner lives.
#[derive(Default)]
struct Standing(Option<Rc<Waiter>>);

impl Drop for Standing {
    fn drop(&mut self) {
        if let Some(waiter) = &self.0 {
            waiter.waker.take();
        }
    }
}

impl Line {
    /// Calls the first of those who wait; how many.
    fn call(&self, most: u64) -> u64 {
        let mut called = 0;
        let mut waiting = self.waiting.borrow_mut();
        while called < most {
            let Some(waiter) = waiting.pop_front() else { break };
            if let Some(waker) = waiter.waker.take() {
                waiter.is_called.set(true);
                waker.wake();
                called += 1;
            }
        }
        called
    }
}

impl Turns {
    /// The turns of the runtime that this thread runs.
    pub(super) fn here() -> Rc<Self> {
        TURNS.with(Rc::clone)
    }

    /// Runs a future in turns of its line; at once wherever `at_once` says so when it is looked at.
    pub(super) async fn run<F: Future>(
        self: &Rc<Self>,
        line: &Rc<Line>,
        at_once: impl Fn() -> bool,
        mut future: Pin<&mut F>,
    ) -> F::Output {
        let mut standing = Standing::default();
        poll_fn(move |cx| {
            if at_once() {
                return future.as_mut().poll(cx);
            }
            ready!(self.poll_turn(line, &mut standing, cx));
            let began = monotonic_ns();
            let polled = future.as_mut().poll(cx);
            self.spent_ns.set(self.spent_ns.get().saturating_add(monotonic_ns().saturating_sub(began)));
            polled
        })
        .await
    }

    /// Ready when it is this one's turn: at once while nobody waits and the round has time left.
    fn poll_turn(self: &Rc<Self>, line: &Rc<Line>, standing: &mut Standing, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(waiter) = &standing.0 {
            if waiter.is_called.get() {
                standing.0 = None;
                return Poll::Ready(());
            }
            waiter.waker.borrow_mut().get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
            return Poll::Pending;
        }
        if !self.is_kept.get() && self.spent_ns.get() < ROUND_NS {
            return Poll::Ready(());
        }
        let waiter = Rc::new(Waiter { waker: RefCell::new(Some(cx.waker().clone())), is_called: Cell::new(false) });
        line.waiting.borrow_mut().push_back(Rc::clone(&waiter));
        standing.0 = Some(waiter);
        if !line.is_queued.replace(true) {
            self.waiting.borrow_mut().push_back(Rc::clone(line));
        }
        if !self.is_kept.replace(true) {
            tokio::task::spawn_local(Keeper(Rc::clone(self)).keep());
        }
        Poll::Pending
    }

    /// Begins a round: calls as many of those who wait as it has time for, and says how many; so many were called
    /// in the round before.
    fn begin_round(&self, called_before: u64) -> u64 {
        let spent = self.spent_ns.take();
        if let Some(each) = spent.checked_div(called_before) {
            self.turn_ns.set((self.turn_ns.get() * 3 + each) / 4);
        }
        let most = (ROUND_NS / self.turn_ns.get().max(1)).clamp(1, CALLED_MAX);
        let mut called = 0;
        while called < most {
            let Some(line) = self.waiting.borrow_mut().pop_front() else { break };
            called += line.call((most - called).min(CALLED_OF_LINE_MAX));
            let is_longer = !line.waiting.borrow().is_empty();
            line.is_queued.set(is_longer);
            if is_longer {
                self.waiting.borrow_mut().push_back(line);
            }
        }
        called
    }
}

/// Begins rounds until nobody waits; also where the runtime ends first, the next one can have its own.
struct Keeper(Rc<Turns>);

impl Keeper {
    async fn keep(self) {
        let mut called = 0;
        loop {
            // The runtime looks at its sockets before it goes on with who yielded.
            pin!(tokio::task::yield_now()).await;
            called = self.0.begin_round(called);
            if called == 0 {
                return;
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.is_kept.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::{LocalSet, yield_now};

    use super::*;

    /// Keeps the thread busy, and lets others go on as often.
    async fn hog(turns: u32, each: Duration) {
        for _ in 0..turns {
            let until = monotonic_ns() + each.as_nanos() as u64;
            while monotonic_ns() < until {
                std::hint::spin_loop();
            }
            yield_now().await;
        }
    }

    fn local<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, future)
    }

    #[test]
    fn a_connection_of_a_node_waits_for_one_round_only() {
        const CROWD: usize = 200;
        let looks = local(async {
            let over = Rc::new(Cell::new(false));
            let crowd: Vec<_> = (0..CROWD)
                .map(|_| {
                    tokio::task::spawn_local(async {
                        Turns::here().run(&Rc::default(), || false, pin!(hog(4, Duration::from_micros(100)))).await;
                    })
                })
                .collect();
            let node = tokio::task::spawn_local({
                let over = Rc::clone(&over);
                async move {
                    let mut looks = 0;
                    let looking = async {
                        while !over.get() {
                            looks += 1;
                            yield_now().await;
                        }
                    };
                    Turns::here().run(&Rc::default(), || true, pin!(looking)).await;
                    looks
                }
            });
            for one in crowd {
                one.await.unwrap();
            }
            over.set(true);
            node.await.unwrap()
        });
        // Without turns it would look once for every turn of all: some five times.
        assert!(looks > 4 * CROWD / 4, "{looks} looks");
    }

    #[test]
    fn one_line_of_many_does_not_keep_another_waiting() {
        let (many_left, ended) = local(async {
            let (turns, many) = (Turns::here(), Rc::new(Line::default()));
            let left = Rc::new(Cell::new(0));
            for _ in 0..1_000 {
                let (turns, many, left) = (Rc::clone(&turns), Rc::clone(&many), Rc::clone(&left));
                left.set(left.get() + 1);
                tokio::task::spawn_local(async move {
                    turns.run(&many, || false, pin!(hog(1, Duration::from_micros(100)))).await;
                    left.set(left.get() - 1);
                });
            }
            yield_now().await;
            turns.run(&Rc::default(), || false, pin!(hog(1, Duration::from_micros(100)))).await;
            (left.get(), turns.waiting.borrow().len())
        });
        assert!(many_left > 900, "{many_left} left, {ended} lines");
        TURNS.with(|turns| turns.waiting.borrow_mut().clear());
    }

    #[test]
    fn nobody_is_forgotten_and_who_is_gone_holds_nobody_up() {
        local(async {
            let crowd: Vec<_> = (0..300)
                .map(|_| {
                    tokio::task::spawn_local(async {
                        Turns::here().run(&Rc::default(), || false, pin!(hog(3, Duration::from_micros(20)))).await;
                    })
                })
                .collect();
            yield_now().await;
            for (number, one) in crowd.iter().enumerate() {
                if number % 3 == 0 {
                    one.abort();
                }
            }
            let mut ended = 0;
            for one in crowd {
                ended += u32::from(one.await.is_ok());
            }
            assert!(ended >= 200, "{ended}");
        });
        // A second runtime on the same thread has its own keeper.
        local(async {
            Turns::here().spent_ns.set(ROUND_NS);
            Turns::here().run(&Rc::default(), || false, pin!(std::future::ready(()))).await;
        });
        assert!(Turns::here().waiting.borrow().is_empty());
    }

    #[test]
    fn while_there_is_time_nobody_waits() {
        local(async {
            let turns = Rc::new(Turns::default());
            let (mut inner, line) = (pin!(std::future::ready(())), Rc::default());
            let mut running = pin!(turns.run(&line, || false, inner.as_mut()));
            assert!(poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx).is_ready())).await);
            assert!(turns.waiting.borrow().is_empty());
        });
    }
}
