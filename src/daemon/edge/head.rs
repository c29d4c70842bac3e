//! The first head of a connection: it stays in the kernel until it is whole, for a reader of HTTP takes room for tens
//! of heads at once.

use std::pin::pin;

use tokio::sync::watch;
use tokio::time::timeout;

use super::commands::Scratch;
use super::limits::Limits;
use super::socket::Socket;
use super::stats::Deadline;
use super::stop;

/// Most bytes that are looked at; a longer head is for the reader to judge.
const LOOKED_AT_BYTES: usize = 16 * 1024;

/// Completes when there is something to tell the client: its head is whole, wrong or too long, or it sends no more.
///
/// # Errors
/// The head was not whole in time, or not soon enough once the daemon was to stop.
pub(super) async fn come(
    socket: &Socket,
    scratch: &Scratch,
    limits: &Limits,
    shutdown: watch::Receiver<bool>,
) -> Result<(), Deadline> {
    let look = || {
        let mut seen = scratch.0.borrow_mut();
        if seen.len() < LOOKED_AT_BYTES {
            seen.resize(LOOKED_AT_BYTES, 0);
        }
        socket.look(&mut seen[..LOOKED_AT_BYTES], is_for_reader)
    };
    if look() {
        return Ok(());
    }
    let mut waiting = pin!(async {
        loop {
            if !socket.more().await || look() {
                return;
            }
        }
    });
    tokio::select! {
        come = timeout(limits.head_deadline, &mut waiting) => return come.map_err(|_| Deadline::Head),
        () = stop::asked(shutdown) => {}
    }
    // What has begun before a stop may be finished.
    timeout(limits.drain_deadline, waiting).await.map_err(|_| Deadline::Drain)
}

/// True if more bytes would change nothing.
fn is_for_reader(bytes: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; Limits::HEADERS_ON_STACK];
    bytes.is_empty()
        || bytes.len() >= LOOKED_AT_BYTES
        || !matches!(httparse::Request::new(&mut headers).parse(bytes), Ok(httparse::Status::Partial))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beginning_of_a_good_head_waits() {
        for waits in ["G", "GET / HTTP/1.1\r\n", "POST /v1/acquire HTTP/1.1\r\nHost: u\r\nConte", "\r\n", "\r\nGET"] {
            assert!(!is_for_reader(waits.as_bytes()), "{waits:?}");
        }
        for told in
            ["", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\n\nx", "\x16\x03\x01", "GET / HTTP/1.1\r\na b: c\r\n"]
        {
            assert!(is_for_reader(told.as_bytes()), "{told:?}");
        }
        assert!(is_for_reader(&[b'x'; LOOKED_AT_BYTES]), "too long");
    }
}
