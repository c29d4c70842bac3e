//! One FastAGI connection: one script, whose answer is channel variables that are set one after the other.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use usherd_contract::agi::{Broken, Talk, Variable, variables_of_silence};

use super::handler::Handler;
use super::peer::Peer;
use super::socket::Transport;
use super::stats::{self, Deadline};

/// Why a script ended before its variables were set. The call goes on without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The connection broke, or what came was not FastAGI.
    Broken,
    Cut(Deadline),
}

impl From<Broken> for Ended {
    fn from(_: Broken) -> Self {
        Ended::Broken
    }
}

/// Serves one script, and ends.
pub(super) async fn serve<S, H>(stream: S, handler: Rc<H>, peer: Rc<Peer>, mut shutdown: watch::Receiver<bool>)
where
    S: Transport,
    H: Handler,
{
    let limits = &peer.limits;
    let mut talk = Talk::new(stream);
    let drained = async {
        let _ = shutdown.wait_for(|on| *on).await;
        sleep(limits.drain_deadline).await;
    };
    let ended = tokio::select! {
        ended = run(&mut talk, &*handler, &peer) => ended,
        () = drained => Err(Ended::Cut(Deadline::Drain)),
    };
    match ended {
        Ok(()) => {}
        Err(Ended::Broken) => peer.stats.count_broken(stats::Broken::Protocol),
        Err(Ended::Cut(deadline)) => {
            peer.cut(deadline);
            return talk.stream().give_up();
        }
    }
    if timeout(limits.linger_deadline, talk.end()).await.is_err() {
        talk.stream().give_up_soon();
    }
}

/// Reads the script, and sets the variables that answer it, each within its deadline.
async fn run<S, H>(talk: &mut Talk<S>, handler: &H, peer: &Peer) -> Result<(), Ended>
where
    S: Transport,
    H: Handler,
{
    let limits = &peer.limits;
    let head = timeout(limits.head_deadline, talk.head()).await.map_err(|_| Ended::Cut(Deadline::Head))??;
    peer.count_request();
    for variable in &answered(handler, &head, peer).await {
        timeout(limits.write_deadline, talk.set(variable)).await.map_err(|_| Ended::Cut(Deadline::Write))??;
    }
    Ok(())
}

/// Asks the handler behind a wall: a panic or a stuck one touches this script alone, and lets the call go out (I10).
async fn answered<H: Handler>(handler: &H, head: &[u8], peer: &Peer) -> [Variable; 4] {
    let mut handling = std::pin::pin!(handler.script(head, peer));
    let walled = poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx))) {
        Ok(poll) => poll,
        Err(_) => {
            peer.stats.count_panic();
            Poll::Ready(variables_of_silence("an internal error"))
        }
    });
    timeout(peer.limits.answer_deadline, walled).await.unwrap_or_else(|_| {
        peer.stats.count_deadline(Deadline::Answer);
        variables_of_silence("no answer in time")
    })
}
