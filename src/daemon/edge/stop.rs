//! How a connection learns that it is to end.

use std::pin::Pin;
use std::task::{Context, Waker};

use tokio::sync::watch;

/// Ready once a stop was asked for, and whatever came before that can be read: poll it after reading.
pub(super) async fn asked(mut shutdown: watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|on| *on).await;
    // The runtime looks at its sockets before it goes on with who yielded.
    tokio::task::yield_now().await;
}

/// [`asked`] for a connection that looks in each of its turns: while nothing happens, a look costs a load.
pub(super) struct Stop {
    shutdown: watch::Receiver<bool>,
    asked: Pin<Box<dyn Future<Output = ()>>>,
    /// Whom a change wakes.
    woken: Option<Waker>,
    is_asked: bool,
}

impl Stop {
    pub(super) fn new(shutdown: watch::Receiver<bool>) -> Self {
        Stop { asked: Box::pin(asked(shutdown.clone())), shutdown, woken: None, is_asked: false }
    }

    /// True from when it was asked for. Poll it after reading.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let is_known = self.woken.as_ref().is_some_and(|woken| woken.will_wake(cx.waker()));
        // An error: whoever could ask is gone, which is a stop too.
        if self.is_asked || (is_known && !self.shutdown.has_changed().unwrap_or(true)) {
            return self.is_asked;
        }
        self.is_asked = self.asked.as_mut().poll(cx).is_ready();
        // Once it has begun to stop, it is polled to its end.
        self.woken = (!*self.shutdown.borrow()).then(|| cx.waker().clone());
        self.is_asked
    }
}
