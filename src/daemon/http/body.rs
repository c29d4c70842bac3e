//! Bodies of replies: whole, or streamed with a bound on what waits.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::SizeHint;
use tokio::sync::mpsc;

/// The body of a reply.
#[derive(Debug)]
pub enum ReplyBody {
    /// All of it, at once.
    Full(Option<Bytes>),
    /// The same, of an answer that several readers share, and that is counted already.
    Shared(Option<Bytes>),
    /// The bytes that a [`ReplySender`] sends until it is dropped.
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

    /// A body that others are sent, too; it was counted where it was made.
    pub fn shared(bytes: Bytes) -> Self {
        ReplyBody::Shared((!bytes.is_empty()).then_some(bytes))
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
    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<Option<Bytes>> {
        match self {
            ReplyBody::Full(Some(bytes)) | ReplyBody::Shared(Some(bytes)) if bytes.len() > bytes_max => {
                Poll::Ready(Some(bytes.split_to(bytes_max)))
            }
            ReplyBody::Full(bytes) | ReplyBody::Shared(bytes) => Poll::Ready(bytes.take()),
            ReplyBody::Stream(chunks) => chunks.poll_recv(cx),
        }
    }

    pub(crate) fn is_sent(&self) -> bool {
        matches!(self, ReplyBody::Full(None) | ReplyBody::Shared(None))
    }

    pub(crate) fn size(&self) -> SizeHint {
        match self {
            ReplyBody::Full(bytes) | ReplyBody::Shared(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
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
