//! Request bodies, collected up to a size and a deadline.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};

use super::peer::Peer;
use super::problem::{Problem, ProblemKind};
use super::stats::Deadline;

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
            Err(BodyError::TooSlow) => self.cut(Deadline::Body),
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
                self.cut(Deadline::Body);
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
