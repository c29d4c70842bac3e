//! Listening sockets: bound here or passed in, TCP or Unix, with or without TLS.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockRef, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::peer::PeerAddress;
use super::protocol::Protocol;
use super::socket::{Socket, limit_buffers};
use super::stats::EdgeStats;

/// Connections that the kernel keeps for us until we accept them.
const BACKLOG: i32 = 4_096;
/// Silence after which the kernel asks whether the other host is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// Between two such questions; three without an answer end the connection.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
/// How long sent bytes may stay without acknowledgement.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// A bound socket and how it is served. Make it inside the runtime that will serve it.
#[derive(Debug)]
pub struct Listener {
    pub(super) name: Rc<str>,
    pub(super) protocol: Protocol,
    pub(super) tls: Option<TlsAcceptorDebug>,
    pub(super) stats: Arc<EdgeStats>,
    source: Source,
}

/// An acceptor, whose keys do not appear in debug output.
#[derive(Clone)]
pub(super) struct TlsAcceptorDebug(pub(super) TlsAcceptor);

impl std::fmt::Debug for TlsAcceptorDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptor")
    }
}

#[derive(Debug)]
enum Source {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// A listener on a bound TCP socket. Accepted connections inherit its options.
    ///
    /// # Errors
    /// The socket does not take them, or there is no runtime.
    pub fn tcp(name: &str, socket: std::net::TcpListener, protocol: Protocol) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        set_options(&SockRef::from(&socket))?;
        Ok(Listener::new(name, Source::Tcp(TcpListener::from_std(socket)?), protocol))
    }

    /// A listener on a bound Unix socket.
    ///
    /// # Errors
    /// There is no runtime.
    pub fn unix(name: &str, socket: StdUnixListener, protocol: Protocol) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Listener::new(name, Source::Unix(UnixListener::from_std(socket)?), protocol))
    }

    fn new(name: &str, source: Source, protocol: Protocol) -> Self {
        Listener { name: Rc::from(name), protocol, tls: None, stats: Arc::default(), source }
    }

    /// Speaks TLS.
    #[must_use]
    pub fn with_tls(mut self, acceptor: TlsAcceptor) -> Self {
        self.tls = Some(TlsAcceptorDebug(acceptor));
        self
    }

    /// Counts into these statistics, shared by the cores that serve the same listener.
    #[must_use]
    pub fn with_stats(mut self, stats: Arc<EdgeStats>) -> Self {
        self.stats = stats;
        self
    }

    /// Its counters.
    pub fn stats(&self) -> Arc<EdgeStats> {
        Arc::clone(&self.stats)
    }

    /// Where it listens, for TCP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.source {
            Source::Tcp(tcp) => tcp.local_addr().ok(),
            Source::Unix(_) => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Socket, PeerAddress)> {
        match &self.source {
            Source::Tcp(tcp) => {
                let (stream, from) = tcp.accept().await?;
                // One that waited since before we had the listening socket has inherited nothing of it.
                limit_buffers(&SockRef::from(&stream))?;
                Ok((Socket::Tcp(stream), PeerAddress::Ip(from.ip().to_canonical())))
            }
            Source::Unix(unix) => {
                let (stream, _) = unix.accept().await?;
                let uid = stream.peer_cred()?.uid();
                // It inherits nothing of its listener.
                limit_buffers(&SockRef::from(&stream))?;
                Ok((Socket::Unix(stream), PeerAddress::Unix { uid }))
            }
        }
    }
}

/// Sets the options that every TCP connection inherits from its listening socket.
fn set_options(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    limit_buffers(socket)
}

/// Binds a TCP socket that several cores may share by binding it once each; the kernel spreads the
/// connections.
///
/// # Errors
/// As the kernel says.
pub fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    set_options(&SockRef::from(&socket))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds a Unix socket with mode 0660. One that is left over is removed if nobody answers on it.
///
/// # Errors
/// `AddrInUse` if somebody does, or if the path is something else than a socket; otherwise as the kernel says.
pub fn bind_unix(path: &Path) -> io::Result<StdUnixListener> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "there is something else than a socket"));
        }
        Ok(_) => match StdUnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody answers there")),
        },
    }
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    // Nobody can connect before `listen`, so the mode is right before the first one can.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_unix_socket_goes_and_a_live_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usherd.sock");
        let first = bind_unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(bind_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(bind_unix(&path).unwrap());
        let file = folder.path().join("file");
        std::fs::write(&file, "keep me").unwrap();
        assert_eq!(bind_unix(&file).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read(&file).unwrap(), b"keep me");
    }

    #[test]
    fn two_cores_can_bind_one_port() {
        let first = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(bind_tcp(first.local_addr().unwrap()).is_ok());
    }
}
