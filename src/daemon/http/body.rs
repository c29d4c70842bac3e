//! Bodies with limits: requests are collected up to a size and a deadline, replies are whole or streamed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming, SizeHint};
use tokio::sync::mpsc;

use super::peer::Peer;
use super::problem::{Problem, ProblemKind};
use super::stats::Deadline;

/// The body of a reply.
#[derive(Debug)]
pub enum ReplyBody {
    /// All of it, at once.
    Full(Option<Bytes>),
    /// What a [`ReplySender`] sends until it is dropped.
    Stream(mpsc::Receiver<Bytes>),
}

impl ReplyBody {
    /// A body without bytes.
    pub const fn empty() -> Self {
        ReplyBody::Full(None)
    }

    /// A body that is known now.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        ReplyBody::Full((!bytes.is_empty()).then_some(bytes))
    }

    /// A body that is sent bit by bit, with at most `chunks_max` chunks waiting; a client that takes none
    /// for `write_deadline` ends it.
    pub fn stream(chunks_max: usize, write_deadline: Duration) -> (ReplySender, Self) {
        let (chunks, body) = mpsc::channel(chunks_max.max(1));
        (ReplySender { chunks, write_deadline }, ReplyBody::Stream(body))
    }
}

impl ReplyBody {
    /// The next part of at most `bytes_max`; a streamed chunk is as large as it was sent.
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<Option<Bytes>> {
        match self {
            ReplyBody::Full(Some(bytes)) if bytes.len() > bytes_max => Poll::Ready(Some(bytes.split_to(bytes_max))),
            ReplyBody::Full(bytes) => Poll::Ready(bytes.take()),
            ReplyBody::Stream(chunks) => chunks.poll_recv(cx),
        }
    }

    pub(super) fn is_sent(&self) -> bool {
        matches!(self, ReplyBody::Full(None))
    }

    pub(super) fn size(&self) -> SizeHint {
        match self {
            ReplyBody::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            ReplyBody::Stream(_) => SizeHint::default(),
        }
    }
}

/// Sends the chunks of a streamed reply; dropping it ends the reply.
#[derive(Debug)]
pub struct ReplySender {
    chunks: mpsc::Sender<Bytes>,
    write_deadline: Duration,
}

impl ReplySender {
    /// Sends a chunk, waiting while the client is behind.
    ///
    /// # Errors
    /// The client is gone or did not take anything for the write deadline; stop sending.
    pub async fn send(&self, chunk: Bytes) -> Result<(), Gone> {
        if chunk.is_empty() {
            return Ok(());
        }
        match self.chunks.try_send(chunk) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Gone),
            Err(mpsc::error::TrySendError::Full(chunk)) => {
                self.chunks.send_timeout(chunk, self.write_deadline).await.map_err(|_| Gone)
            }
        }
    }

    /// Completes when the client is gone.
    pub async fn gone(&self) {
        self.chunks.closed().await;
    }
}

/// The client of a streamed reply is gone, or as good as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Why a request body could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// 413: over the route's limit, in bytes.
    TooLarge(usize),
    /// 408: not complete in time.
    TooSlow,
    /// 400: cut off, or not HTTP.
    Broken,
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Problem {
        match error {
            BodyError::TooLarge(max) => {
                Problem::new(ProblemKind::TooLarge, format!("the body is longer than {max} bytes"))
            }
            BodyError::TooSlow => Problem::new(ProblemKind::Timeout, "the body did not come in time"),
            BodyError::Broken => Problem::malformed("the body was cut off or its framing is wrong"),
        }
    }
}

impl Peer {
    /// Reads a whole request body of at most `bytes_max`, within the body deadline. One that is here
    /// already costs no timer and no copy.
    ///
    /// # Errors
    /// [`BodyError`], each with its status.
    pub async fn collect(&self, body: Incoming, bytes_max: usize) -> Result<Bytes, BodyError> {
        if body.size_hint().lower() > bytes_max as u64 {
            self.stats.count_too_large();
            return Err(BodyError::TooLarge(bytes_max));
        }
        let mut gathering = std::pin::pin!(gather(body, bytes_max));
        let mut deadline = None;
        let limit = self.limits.body_deadline;
        let gathered = std::future::poll_fn(|cx| {
            if let Poll::Ready(gathered) = gathering.as_mut().poll(cx) {
                return Poll::Ready(gathered);
            }
            let deadline = deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
            deadline.as_mut().poll(cx).map(|()| Err(BodyError::TooSlow))
        })
        .await;
        match gathered {
            Err(BodyError::TooLarge(_)) => self.stats.count_too_large(),
            Err(BodyError::TooSlow) => self.stats.count_deadline(Deadline::Body),
            _ => {}
        }
        gathered
    }

    /// Reads the next part of a body that is handled as a stream; `None` at its end. Each part has the
    /// body deadline for itself.
    ///
    /// # Errors
    /// [`BodyError::TooSlow`] or [`BodyError::Broken`].
    pub async fn next_chunk(&self, body: &mut Incoming) -> Result<Option<Bytes>, BodyError> {
        match tokio::time::timeout(self.limits.body_deadline, next_data(body)).await {
            Ok(chunk) => chunk,
            Err(_) => {
                self.stats.count_deadline(Deadline::Body);
                Err(BodyError::TooSlow)
            }
        }
    }
}

async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, BodyError> {
    loop {
        match std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Err(_)) => return Err(BodyError::Broken),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn gather(mut body: Incoming, bytes_max: usize) -> Result<Bytes, BodyError> {
    let Some(first) = next_data(&mut body).await? else { return Ok(Bytes::new()) };
    let mut whole = BytesMut::new();
    let mut only = Some(first);
    loop {
        let had = only.as_ref().map_or(whole.len(), Bytes::len);
        if had > bytes_max {
            return Err(BodyError::TooLarge(bytes_max));
        }
        let Some(next) = (if body.is_end_stream() { None } else { next_data(&mut body).await? }) else {
            return Ok(only.unwrap_or_else(|| whole.freeze()));
        };
        if had + next.len() > bytes_max {
            return Err(BodyError::TooLarge(bytes_max));
        }
        if let Some(first) = only.take() {
            whole.reserve(first.len() + next.len());
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&next);
    }
}
