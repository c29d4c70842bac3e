//! Listening sockets that the service manager opened for us, so that no connection is refused in a restart.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use socket2::SockRef;

/// Most sockets that are taken.
pub const PASSED_SOCKETS_MAX: usize = 64;

/// The kind of a socket that was passed.
#[derive(Debug)]
pub enum Socket {
    /// An IPv4 or IPv6 address.
    Tcp(TcpListener),
    /// A path.
    Unix(UnixListener),
}

/// One socket that was passed.
#[derive(Debug)]
pub struct Passed {
    /// `FileDescriptorName=` of its unit; empty where there is none.
    pub name: String,
    /// Where it listens: `127.0.0.1:7788` or `/run/usherd/usherd.sock`.
    pub address: String,
    /// It.
    pub socket: Socket,
}

/// Takes every socket that was passed, in their order; empty where the process was started otherwise.
///
/// Call it once, before the first thread is started: it removes `LISTEN_FDS` and `LISTEN_PID` from the
/// environment, so that a child cannot take the sockets for its own.
///
/// # Errors
/// A passed descriptor is no listening stream socket, or there are too many: the unit file is wrong, and to
/// go on without would look as if it worked.
pub fn passed() -> io::Result<Vec<Passed>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut sockets = ListenFd::from_env();
    if sockets.len() > PASSED_SOCKETS_MAX {
        return Err(io::Error::other(format!(
            "{} sockets were passed, {PASSED_SOCKETS_MAX} are allowed",
            sockets.len()
        )));
    }
    let mut all = Vec::with_capacity(sockets.len());
    for index in 0..sockets.len() {
        let name = names.next().unwrap_or_default().to_owned();
        let socket = take(&mut sockets, index).map_err(|error| {
            io::Error::other(format!(
                "socket {index} of the socket unit ({name}) is of no use: {error}; use ListenStream="
            ))
        })?;
        all.push(Passed { name, address: socket.address(), socket });
    }
    Ok(all)
}

fn take(sockets: &mut ListenFd, index: usize) -> io::Result<Socket> {
    let socket = match sockets.take_unix_listener(index) {
        Ok(Some(unix)) => Socket::Unix(unix),
        _ => match sockets.take_tcp_listener(index)? {
            Some(tcp) => Socket::Tcp(tcp),
            None => return Err(io::Error::other("it was taken before")),
        },
    };
    let listens = match &socket {
        Socket::Tcp(tcp) => SockRef::from(tcp).is_listener()?,
        Socket::Unix(unix) => SockRef::from(unix).is_listener()?,
    };
    if listens { Ok(socket) } else { Err(io::Error::other("it does not listen (Accept=yes?)")) }
}

impl Socket {
    fn address(&self) -> String {
        match self {
            Socket::Tcp(tcp) => tcp.local_addr().map(|address| address.to_string()).unwrap_or_default(),
            Socket::Unix(unix) => {
                let address = unix.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map(|path| path.display().to_string()).unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;
    use std::process::{Command, Stdio};

    use super::*;

    /// Gives the shell two descriptors where it can take them, and lets it hand them on as systemd would.
    const PASS_TWO: &str = r#"exec 3<&0 4<&2 </dev/null 2>/dev/null
        export LISTEN_FDS=2 LISTEN_FDNAMES=http:local LISTEN_PID=$$ USHERD_TEST_CHILD="$1"
        exec "$0" --exact daemon::runtime::sockets::tests::child --nocapture"#;

    fn pass(first: OwnedFd, second: OwnedFd, expected: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-c", PASS_TWO]).arg(std::env::current_exe().unwrap()).arg(expected);
        let output = shell.stdin(Stdio::from(first)).stderr(Stdio::from(second)).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
    }

    #[test]
    fn child() {
        let Ok(expected) = std::env::var("USHERD_TEST_CHILD") else { return };
        let told = match passed() {
            Ok(all) => {
                let one = |p: &Passed| format!("{}={}", p.name, p.address);
                assert!(std::env::var_os("LISTEN_FDS").is_none(), "a child of ours would take them for its own");
                all.iter().map(one).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        };
        assert!(told.contains(&expected), "{told} instead of {expected}");
    }

    #[test]
    fn sockets_of_both_kinds_are_taken_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usherd.sock");
        let unix = UnixListener::bind(&path).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let expected = format!("http={} local={}", tcp.local_addr().unwrap(), path.display());
        pass(tcp.into(), unix.into(), &expected);
    }

    #[test]
    fn a_socket_of_another_kind_is_refused_and_named() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let datagram = UnixDatagram::unbound().unwrap();
        pass(tcp.into(), datagram.into(), "socket 1 of the socket unit (local) is of no use");
    }

    #[test]
    fn started_by_hand_there_is_nothing_to_take() {
        if std::env::var_os("LISTEN_FDS").is_none() {
            assert!(passed().unwrap().is_empty());
        }
    }
}
