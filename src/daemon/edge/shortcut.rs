//! The short way of plain requests: answered from the buffer that they were read into, past the reader of HTTP.
//!
//! It only ever takes a request that it can answer whole, while the connection is between two requests. All else it
//! hands over to hyper from its first byte, and looks again once hyper has answered that and waits for the next.

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use chrono::DateTime;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::commands::Scratch;
use super::handler::Handler;
use super::peer::Peer;
use super::plain::{Seen, see};
use super::stream::Guarded;
use super::vitals::{InProgress, Vitals};
use crate::daemon::clock::wall_seconds;

/// The longest request that is looked at; longer ones hyper reads as they come.
const READ_BYTES: usize = 8 * 1024;

/// The bytes of a date in a head.
type Date = [u8; 29];

thread_local! {
    /// The second that was last written into a head, and its text.
    static DATE: Cell<(i64, Date)> = const { Cell::new((i64::MIN, [b' '; 29])) };
}

/// The head of an answer as far as its handler tells it.
type Answering<'h> = Pin<Box<dyn Future<Output = Option<&'static str>> + 'h>>;

/// An answer that must not go out yet.
struct Waiting<'h> {
    head: Answering<'h>,
    body: Vec<u8>,
    /// The request, should it have to be answered another way in the end.
    request: Vec<u8>,
    /// Ends when this does.
    _progress: InProgress,
}

/// The short way of one connection.
pub(super) struct Shortcut<'h, H> {
    handler: &'h H,
    peer: &'h Peer,
    vitals: &'h Rc<Vitals>,
    scratch: &'h Scratch,
    waiting: Option<Waiting<'h>>,
}

impl<'h, H: Handler> Shortcut<'h, H> {
    /// The short way to a handler; `None` where that answers no plain requests.
    pub(super) fn new(handler: &'h H, peer: &'h Peer, vitals: &'h Rc<Vitals>, scratch: &'h Scratch) -> Option<Self> {
        H::ANSWERS_PLAIN.then_some(Shortcut { handler, peer, vitals, scratch, waiting: None })
    }

    /// Answers what it can. `true`: it did, and more may have come; `false`: the connection is hyper's to poll.
    pub(super) fn poll<S>(&mut self, stream: &RefCell<Guarded<S>>, closes: bool, cx: &mut Context<'_>) -> Poll<bool>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = &mut *stream.borrow_mut();
        if let Some(waiting) = &mut self.waiting {
            let head = ready!(waiting.head.as_mut().poll(cx));
            let Some(Waiting { body, request, .. }) = self.waiting.take() else { return Poll::Pending };
            return Poll::Ready(self.tell(stream, head, &body, &request, closes));
        }
        if closes || !stream.is_between_requests() {
            return Poll::Ready(false);
        }
        if !self.vitals.may_answer() {
            return Poll::Pending;
        }
        let mut scratch = self.scratch.0.borrow_mut();
        if scratch.len() < READ_BYTES {
            scratch.resize(READ_BYTES, 0);
        }
        let mut room = ReadBuf::new(&mut scratch[..READ_BYTES]);
        if let Err(error) = ready!(stream.poll_read_more(cx, &mut room)) {
            stream.fail(error);
            return Poll::Ready(false);
        }
        self.poll_answer(stream, room.filled(), cx)
    }

    fn poll_answer<S>(&mut self, stream: &mut Guarded<S>, bytes: &[u8], cx: &mut Context<'_>) -> Poll<bool> {
        let plain = match see(bytes, self.peer.limits.headers_max) {
            Seen::Plain(plain) => plain,
            Seen::Other(whole) => {
                stream.hand_over(bytes, whole);
                return Poll::Ready(false);
            }
        };
        let mut body = Vec::new();
        // A panic touches this request alone, as on the long way, which answers it.
        let answered = std::panic::catch_unwind(AssertUnwindSafe(|| self.handler.plain(&plain, &mut body, self.peer)));
        if answered.is_err() {
            self.peer.stats.count_panic();
            self.vitals.fail_next();
        }
        let Ok(Some(mut head)) = answered else {
            stream.hand_over(bytes, Some(bytes.len()));
            return Poll::Ready(false);
        };
        let progress = InProgress::begin(self.vitals);
        match Pin::new(&mut head).poll(cx) {
            Poll::Ready(head) => Poll::Ready(self.tell(stream, head, &body, bytes, false)),
            Poll::Pending => {
                let request = bytes.to_vec();
                self.waiting = Some(Waiting { head: Box::pin(head), body, request, _progress: progress });
                Poll::Pending
            }
        }
    }

    /// Gathers an answer, or hands its request over; `true` for an answer.
    fn tell<S>(
        &self,
        stream: &mut Guarded<S>,
        head: Option<&'static str>,
        body: &[u8],
        request: &[u8],
        closes: bool,
    ) -> bool {
        let Some(head) = head else {
            stream.hand_over(request, Some(request.len()));
            return false;
        };
        self.peer.stats.count_request();
        let out = stream.gather();
        out.reserve(head.len() + body.len() + 96);
        out.extend_from_slice(head.as_bytes());
        if closes {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"content-length: ");
        out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
        out.extend_from_slice(b"\r\ndate: ");
        out.extend_from_slice(&date());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
        true
    }
}

/// The present second as heads have it, written anew when it is another.
fn date() -> Date {
    let now = wall_seconds();
    let (second, mut date) = DATE.get();
    if second != now {
        let text = DateTime::from_timestamp(now, 0).unwrap_or_default().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        // Of a year with five digits the end is cut off.
        date.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte);
        DATE.set((now, date));
    }
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_rfc_9110() {
        let date = date();
        let text = std::str::from_utf8(&date).unwrap();
        assert!(DateTime::parse_from_rfc2822(text).is_ok() && text.ends_with(" GMT"), "{text}");
        assert_eq!(date, super::date());
    }
}
