//! Request bodies, collected up to a size, a deadline and a budget for all of them.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;

use bytes::Bytes;
use hyper::body::{Body, Incoming};

use super::bodies::{Held, Share};
use super::peer::Peer;
use super::stats::Deadline;
use crate::daemon::http::problem::{Problem, ProblemKind};

/// The first bytes of a body, in which an emergency or an inbound call is still looked for where the rest cannot be
/// had.
pub const FIRST_BYTES: usize = 16 * 1024;
/// The fewest bytes that a body grows by.
const GROWTH_BYTES_MIN: usize = 4 * 1024;
/// When to ask again where all bodies together are too large.
const RETRY_AFTER_FULL_SECONDS: u32 = 1;

/// Why a request body could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// 413: over the route's limit, in bytes.
    TooLarge(usize),
    /// 408: not complete in time.
    TooSlow,
    /// 400: cut off, or not HTTP.
    Broken,
    /// 503: all unfinished bodies together hold what they may.
    NoRoom,
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Problem {
        match error {
            BodyError::TooLarge(max) => {
                Problem::new(ProblemKind::TooLarge, format!("the body is longer than {max} bytes"))
            }
            BodyError::TooSlow => Problem::new(ProblemKind::Timeout, "the body did not come in time"),
            BodyError::Broken => Problem::malformed("the body was cut off or its framing is wrong"),
            BodyError::NoRoom => Problem::unavailable(
                RETRY_AFTER_FULL_SECONDS,
                "the unfinished bodies of all requests hold what they may; send again, or raise \
                 server.request_bodies_bytes_max",
            ),
        }
    }
}

/// A body as it came, and its part of the budget for as long as it is kept.
#[derive(Debug)]
pub struct Gathered {
    bytes: Bytes,
    held: Held,
}

impl Gathered {
    /// Holds so many bytes more of the budget, for what is made of the body.
    ///
    /// # Errors
    /// There is no room.
    pub fn hold_more(&mut self, bytes: usize) -> Result<(), BodyError> {
        let all = self.held.bytes().saturating_add(bytes);
        if self.held.reach(all) { Ok(()) } else { Err(BodyError::NoRoom) }
    }
}

impl Deref for Gathered {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

/// A body that could not be had whole.
#[derive(Debug)]
pub struct Unfinished {
    /// Why.
    pub error: BodyError,
    /// The result.
    pub began: Gathered,
}

impl From<Unfinished> for Problem {
    fn from(unfinished: Unfinished) -> Problem {
        unfinished.error.into()
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after {} bytes", self.error, self.began.len())
    }
}

/// Whose body is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Callers that may ask.
    Permitted,
    /// Callers that may not, and could still report a call that is always allowed.
    Unknown,
}

impl Peer {
    /// Reads a whole request body of at most `bytes_max`, of somebody who may ask, within the body deadline and the
    /// budget of all bodies. One that is here already costs no timer, no copy and nothing of the budget.
    ///
    /// # Errors
    /// [`BodyError`], each with its status.
    pub async fn collect(&self, body: Incoming, bytes_max: usize) -> Result<Gathered, BodyError> {
        if body.size_hint().lower() > bytes_max as u64 {
            self.stats.count_too_large();
            return Err(BodyError::TooLarge(bytes_max));
        }
        let mut gathering = Gathering::new(self, Sender::Permitted, &body);
        let ended = self.in_time(gathering.run(body, bytes_max)).await;
        ended.map(|()| gathering.end())
    }

    /// As [`Self::collect`], of a body that may be about a call which is always allowed: what came of it is handed
    /// over also where the rest cannot be had, and its first [`FIRST_BYTES`] have a share of the budget for
    /// themselves. Who is not known has only that.
    ///
    /// # Errors
    /// Why it is not whole, and what came.
    pub async fn collect_call(&self, body: Incoming, bytes_max: usize, sender: Sender) -> Result<Gathered, Unfinished> {
        let mut gathering = Gathering::new(self, sender, &body);
        gathering.is_call = true;
        let ended = self.in_time(gathering.run(body, bytes_max)).await;
        let began = gathering.end();
        match ended {
            Ok(()) => Ok(began),
            Err(error) => Err(Unfinished { error, began }),
        }
    }

    /// The room of a body that is read by its sender's lines.
    pub fn room(&self, sender: Sender) -> Room {
        Room(Held::new(&self.bodies, self.share(sender)))
    }

    fn share(&self, sender: Sender) -> Share {
        match sender {
            Sender::Unknown => Share::Calls,
            Sender::Permitted if self.pass.is_node() => Share::Nodes,
            Sender::Permitted => Share::Others,
        }
    }

    /// Holds the reading of a body to its deadline, and counts what went wrong.
    async fn in_time(&self, reading: impl Future<Output = Result<(), BodyError>>) -> Result<(), BodyError> {
        let ended = self.alarm.within(self.limits.body_deadline, reading).await.unwrap_or(Err(BodyError::TooSlow));
        match ended {
            Err(BodyError::TooLarge(_)) => self.stats.count_too_large(),
            Err(BodyError::TooSlow) => self.cut(Deadline::Body),
            _ => {}
        }
        ended
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

/// The part of the budget that a body read line by line holds, until it is dropped.
#[derive(Debug)]
pub struct Room(Held);

impl Room {
    /// True if there is room for so many bytes in all.
    pub fn reach(&mut self, bytes: usize) -> bool {
        self.0.reach(bytes)
    }
}

/// A body on its way in.
struct Gathering {
    /// It, while it is one piece: no copy, and it lies in the buffer of its connection.
    only: Bytes,
    /// It, once it is several.
    whole: Vec<u8>,
    held: Held,
    is_call: bool,
    /// Its length where the client told it.
    told: Option<usize>,
}

impl Gathering {
    fn new(peer: &Peer, sender: Sender, body: &Incoming) -> Self {
        let held = Held::new(&peer.bodies, peer.share(sender));
        let told = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        Gathering { only: Bytes::new(), whole: Vec::new(), held, is_call: false, told }
    }

    fn len(&self) -> usize {
        self.only.len().max(self.whole.len())
    }

    async fn run(&mut self, mut body: Incoming, bytes_max: usize) -> Result<(), BodyError> {
        while let Some(next) = next_data(&mut body).await? {
            let len = self.len() + next.len();
            if len > bytes_max {
                self.keep_beginning(next);
                return Err(BodyError::TooLarge(bytes_max));
            }
            if self.len() == 0 {
                self.only = next;
                if body.is_end_stream() {
                    return Ok(());
                }
                if !self.hold(len) {
                    return Err(BodyError::NoRoom);
                }
                continue;
            }
            if !self.make_room(len, bytes_max) {
                self.keep_beginning(next);
                return Err(BodyError::NoRoom);
            }
            self.append(&next);
            if body.is_end_stream() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn append(&mut self, next: &[u8]) {
        if self.whole.is_empty() {
            self.whole.extend_from_slice(&std::mem::take(&mut self.only));
        }
        self.whole.extend_from_slice(next);
    }

    /// Makes room for so many bytes in all, and some more, so that each byte is copied twice at the most.
    fn make_room(&mut self, len: usize, bytes_max: usize) -> bool {
        if self.whole.capacity() >= len {
            return true;
        }
        let grown = (self.whole.capacity() * 2).max(GROWTH_BYTES_MIN).min(self.told.unwrap_or(bytes_max)).max(len);
        if !self.hold(grown) {
            return false;
        }
        self.whole.reserve_exact(grown - self.whole.len());
        true
    }

    fn hold(&mut self, bytes: usize) -> bool {
        if self.is_call && bytes <= FIRST_BYTES { self.held.reach_for_call(bytes) } else { self.held.reach(bytes) }
    }

    /// The body ends here, too early: what is at hand still belongs to its first bytes.
    fn keep_beginning(&mut self, next: Bytes) {
        let left = FIRST_BYTES.saturating_sub(self.len());
        let next = next.slice(..next.len().min(left));
        match self.len() {
            _ if !self.is_call => {}
            0 => self.only = next,
            _ => self.append(&next),
        }
    }

    fn end(self) -> Gathered {
        let bytes = if self.whole.is_empty() { self.only } else { Bytes::from(self.whole) };
        Gathered { bytes, held: self.held }
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
