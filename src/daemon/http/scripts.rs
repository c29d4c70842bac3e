//! One FastAGI connection: one script, whose answer is channel variables that are set one after the other.

use std::future::poll_fn;
use std::io;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::handler::Handler;
use super::limits::Limits;
use super::peer::Peer;
use super::stats::Deadline;
use crate::daemon::agi::{REPLY_BYTES_MAX, Reply, Variable, head_bytes, reply, set_variable, variables_of_fault};

/// What is read at once, bytes.
const READ_BYTES: usize = 2 * 1024;
/// Lines that may come instead of a reply, as `HANGUP` does.
const ASIDES_MAX: usize = 4;

/// Why a script ended before its variables were set. The call goes on without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The connection broke, or what came was not FastAGI.
    Broken,
    Cut(Deadline),
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Ended::Broken
    }
}

/// Serves one script, and ends.
pub(super) async fn serve<S, H>(stream: S, handler: Rc<H>, peer: Rc<Peer>, mut shutdown: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let limits = &peer.limits;
    let mut talk = Talk { stream, unread: Vec::new() };
    let drained = async {
        let _ = shutdown.wait_for(|on| *on).await;
        sleep(limits.drain_deadline).await;
    };
    let ended = tokio::select! {
        ended = talk.script(&*handler, &peer) => ended,
        () = drained => Err(Ended::Cut(Deadline::Drain)),
    };
    match ended {
        Ok(()) => {}
        Err(Ended::Broken) => peer.stats.count_broken(),
        Err(Ended::Cut(deadline)) => peer.stats.count_deadline(deadline),
    }
    let _ = timeout(limits.linger_deadline, talk.end()).await;
}

struct Talk<S> {
    stream: S,
    /// What came and was not looked at yet.
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    async fn script<H: Handler>(&mut self, handler: &H, peer: &Peer) -> Result<(), Ended> {
        let limits = &peer.limits;
        let head = timeout(limits.head_deadline, self.head()).await.map_err(|_| Ended::Cut(Deadline::Head))??;
        peer.count_request();
        for variable in &answered(handler, &head, peer).await {
            timeout(limits.write_deadline, self.set(variable)).await.map_err(|_| Ended::Cut(Deadline::Write))??;
        }
        Ok(())
    }

    /// The head, its empty line included.
    async fn head(&mut self) -> Result<Vec<u8>, Ended> {
        loop {
            if let Some(length) = head_bytes(&self.unread).map_err(|_| Ended::Broken)? {
                let behind = self.unread.split_off(length);
                return Ok(std::mem::replace(&mut self.unread, behind));
            }
            self.read().await?;
        }
    }

    /// Sets a variable and waits for the reply: Asterisk reads the next command only then.
    async fn set(&mut self, variable: &Variable) -> Result<(), Ended> {
        self.stream.write_all(set_variable(variable).as_bytes()).await?;
        self.stream.flush().await?;
        for _ in 0..=ASIDES_MAX {
            match reply(&self.line().await?) {
                Reply::Done => return Ok(()),
                Reply::HungUp => {}
                Reply::Refused => break,
            }
        }
        Err(Ended::Broken)
    }

    async fn line(&mut self) -> Result<Vec<u8>, Ended> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let behind = self.unread.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.unread, behind));
            }
            if self.unread.len() > REPLY_BYTES_MAX {
                return Err(Ended::Broken);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), Ended> {
        let mut bytes = [0; READ_BYTES];
        match self.stream.read(&mut bytes).await? {
            0 => Err(Ended::Broken),
            read => {
                self.unread.extend_from_slice(&bytes[..read]);
                Ok(())
            }
        }
    }

    /// Ends our side, then reads what still comes: a reset would take the last command from Asterisk.
    async fn end(&mut self) -> Result<(), Ended> {
        self.stream.shutdown().await?;
        self.unread.clear();
        let mut left = Limits::LINGER_BYTES_MAX;
        let mut bytes = [0; READ_BYTES];
        while left > 0 {
            match self.stream.read(&mut bytes).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok(())
    }
}

/// Asks the handler behind a wall: a panic or a stuck one touches this script alone, and lets the call go out (I10).
async fn answered<H: Handler>(handler: &H, head: &[u8], peer: &Peer) -> [Variable; 4] {
    let mut handling = std::pin::pin!(handler.script(head, peer));
    let walled = poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx))) {
        Ok(poll) => poll,
        Err(_) => {
            peer.stats.count_panic();
            Poll::Ready(variables_of_fault("an internal error"))
        }
    });
    timeout(peer.limits.answer_deadline, walled).await.unwrap_or_else(|_| {
        peer.stats.count_deadline(Deadline::Answer);
        variables_of_fault("no answer in time")
    })
}
