//! Accepted sockets: what the kernel may hold for one, and how one is given up.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// Most bytes of our answers that the kernel may hold for a client that does not read; it takes twice as much for its
/// own bookkeeping. Left alone it would grow to megabytes for each connection.
pub(super) const SEND_BUFFER_BYTES: usize = 32 * 1024;
/// Most bytes of a client's requests that the kernel may hold before we read them; it takes twice as much, too.
pub(super) const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// How long the kernel may still try to deliver our last bytes to a client that takes none, once we are gone.
const LAST_BYTES_MAX: Duration = Duration::from_secs(10);

/// The stream under a connection.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Throws away what the client has not taken yet, and resets the connection, as soon as this is dropped: the
    /// kernel would keep it for a minute for somebody who does not read.
    fn give_up(&self) {}

    /// Throws away what the client has not taken yet some seconds after this is dropped, unless it takes more.
    fn give_up_soon(&self) {}
}

impl<T: Transport> Transport for TlsStream<T> {
    fn give_up(&self) {
        self.get_ref().0.give_up();
    }

    fn give_up_soon(&self) {
        self.get_ref().0.give_up_soon();
    }
}

impl Transport for Socket {
    // A Unix socket hands its bytes to the client at once: nothing is left to throw away.
    fn give_up(&self) {
        if let Socket::Tcp(tcp) = self {
            let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
        }
    }

    fn give_up_soon(&self) {
        if let Socket::Tcp(tcp) = self {
            let _ = SockRef::from(tcp).set_tcp_user_timeout(Some(LAST_BYTES_MAX));
        }
    }
}

/// Limits what the kernel holds for a socket, or for those that a listening TCP socket will accept.
///
/// # Errors
/// The socket takes no options.
pub(super) fn limit_buffers(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)
}

/// A connection that did not come from a listener of ours; its owner sees to its buffers.
#[derive(Debug)]
pub(super) struct Given<S>(pub(super) S);

impl<S: AsyncRead + AsyncWrite + Unpin> Transport for Given<S> {}

impl<S: AsyncRead + Unpin> AsyncRead for Given<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Given<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

/// An accepted socket, before any protocol.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Completes when there is something to read, or nothing will ever come. Readiness alone may be a
    /// false alarm, so it looks.
    pub(super) async fn readable(&self) -> io::Result<()> {
        let mut byte = [0_u8; 1];
        loop {
            let seen = match self {
                Socket::Tcp(tcp) => {
                    tcp.readable().await?;
                    tcp.try_io(Interest::READABLE, || Ok(recv(tcp, &mut byte, RecvFlags::PEEK)?))
                }
                Socket::Unix(unix) => {
                    unix.readable().await?;
                    unix.try_io(Interest::READABLE, || Ok(recv(unix, &mut byte, RecvFlags::PEEK)?))
                }
            };
            match seen {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Looks at what has come without taking it; what `judge` says of it, `true` where it cannot be seen. After `false`
    /// [`Self::more`] waits for what comes later.
    pub(super) fn look(&self, room: &mut [u8], judge: impl Fn(&[u8]) -> bool) -> bool {
        let more_is_needed = || io::Error::from(io::ErrorKind::WouldBlock);
        let judged = |seen: usize, room: &[u8]| if judge(&room[..seen]) { Ok(()) } else { Err(more_is_needed()) };
        let looked = match self {
            Socket::Tcp(tcp) => tcp.try_io(Interest::READABLE, || {
                let (seen, _) = recv(tcp, &mut *room, RecvFlags::PEEK)?;
                judged(seen, room)
            }),
            Socket::Unix(unix) => unix.try_io(Interest::READABLE, || {
                let (seen, _) = recv(unix, &mut *room, RecvFlags::PEEK)?;
                judged(seen, room)
            }),
        };
        !matches!(looked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Completes when more has come than was looked at, or nothing will: `false`.
    pub(super) async fn more(&self) -> bool {
        let ready = match self {
            Socket::Tcp(tcp) => tcp.ready(Interest::READABLE).await,
            Socket::Unix(unix) => unix.ready(Interest::READABLE).await,
        };
        ready.is_ok_and(|ready| !ready.is_read_closed())
    }
}

macro_rules! either {
    ($socket:expr, $inner:ident => $call:expr) => {
        match $socket.get_mut() {
            Socket::Tcp($inner) => $call,
            Socket::Unix($inner) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, inner => Pin::new(inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
