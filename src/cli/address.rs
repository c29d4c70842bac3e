//! Where the running daemon is: `--addr`, or the sockets that its configuration names, the Unix socket first.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use usherd_contract::file;

use super::failure::Failure;
use crate::daemon::config::MAIN_BYTES_MAX;
use crate::daemon::outgoing::{Target, Trust};

/// Port where none is written (API 1).
pub(super) const PORT: u16 = 7788;
/// Port of `https` where none is written.
const TLS_PORT: u16 = 443;
/// Where the shipped socket unit listens.
const UNIX_SOCKET_OF_THE_UNIT: &str = "/run/usherd/usherd.sock";

/// One place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// `host:port`.
    Tcp(String),
    /// `host:port`, over TLS.
    Tls(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host_port) => f.write_str(host_port),
            Address::Tls(host_port) => write!(f, "https://{host_port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// Reads `http://host:port`, `https://host:port`, `host:port`, `host`, `unix:/path` or `/path`.
    ///
    /// # Errors
    /// It is none of these.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::usage(format!("--addr {text:?} {why}"))
                .fix("write host:port, http://host:port, https://host:port or unix:/path/of/the.sock")
        };
        let unix = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:"));
        if let Some(path) = unix.or_else(|| text.starts_with('/').then_some(text)) {
            return if path.is_empty() { Err(wrong("names no path")) } else { Ok(Address::Unix(path.into())) };
        }
        let (rest, usual, address): (_, _, fn(String) -> Address) = match text.strip_prefix("https://") {
            Some(rest) => (rest, TLS_PORT, Address::Tls),
            None => (text.strip_prefix("http://").unwrap_or(text), PORT, Address::Tcp),
        };
        let host_port = rest.strip_suffix('/').unwrap_or(rest);
        if host_port.is_empty() || host_port.contains(['/', '@', '?', '#', ' ']) {
            return Err(wrong("is not an address"));
        }
        match port_of(host_port) {
            Port::Absent => Ok(address(format!("{host_port}:{usual}"))),
            Port::Good => Ok(address(host_port.to_owned())),
            Port::Bad => Err(wrong("has no port between 1 and 65535")),
        }
    }

    /// Where a request to it goes; `trust` is for TLS.
    pub(super) fn target<'a>(&'a self, trust: Option<&'a Trust>) -> Target<'a> {
        match self {
            Address::Unix(path) => Target::Unix(path),
            Address::Tcp(host_port) | Address::Tls(host_port) => {
                let (host, port) = host_port.rsplit_once(':').unwrap_or((host_port, ""));
                Target::Host { host, port: port.parse().unwrap_or(PORT), trust }
            }
        }
    }
}

enum Port {
    Absent,
    Good,
    Bad,
}

fn port_of(host_port: &str) -> Port {
    // The colons of a bare IPv6 address are not those before a port.
    let after_host = host_port.rfind(']').map_or(host_port, |end| &host_port[end..]);
    match after_host.rsplit_once(':') {
        None => Port::Absent,
        Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => Port::Good,
        Some(_) => Port::Bad,
    }
}

/// The configuration that verbs without `--config` mean, if there is one (API 7).
pub(super) fn default_config() -> Option<PathBuf> {
    ["config/usherd.toml", "/etc/usherd/usherd.toml"].iter().map(PathBuf::from).find(|path| path.is_file())
}

/// Where to look for the daemon, in this order; never empty.
///
/// A configuration that cannot be read or is wrong is passed over: to look at a running daemon must work just
/// then.
pub(super) fn candidates(addr: Option<&str>, config: Option<&Path>) -> Result<Vec<Address>, Failure> {
    if let Some(text) = addr {
        return Ok(vec![Address::parse(text)?]);
    }
    let path = config.map(Path::to_path_buf).or_else(default_config);
    let table = path.as_deref().and_then(read_table).unwrap_or_default();
    let sockets = unix_sockets(&table).into_iter().chain([UNIX_SOCKET_OF_THE_UNIT.to_owned()]);
    let mut all: Vec<Address> = Vec::new();
    for socket in sockets.map(PathBuf::from).filter(|path| path.exists()) {
        if !all.contains(&Address::Unix(socket.clone())) {
            all.push(Address::Unix(socket));
        }
    }
    all.push(Address::Tcp(tcp_address(&table)));
    Ok(all)
}

fn read_table(path: &Path) -> Option<toml::Table> {
    file::read(path, MAIN_BYTES_MAX).and_then(file::text).ok()?.parse().ok()
}

fn unix_sockets(table: &toml::Table) -> Vec<String> {
    let listeners = table.get("listener").and_then(toml::Value::as_array).into_iter().flatten();
    let plain = listeners.filter(|listener| listener.get("protocol").is_none_or(|word| word.as_str() == Some("http1")));
    let sections = table.get("server").into_iter().chain(plain);
    let paths = sections.filter_map(|section| section.get("unix_socket")?.as_str());
    paths.filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

fn tcp_address(table: &toml::Table) -> String {
    let listen = table.get("server").and_then(|server| server.get("listen")?.as_str()?.parse::<SocketAddr>().ok());
    match listen.filter(|address| address.port() != 0) {
        Some(address) if address.ip().is_unspecified() => format!("127.0.0.1:{}", address.port()),
        Some(address) => address.to_string(),
        None => format!("127.0.0.1:{PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_an_address() {
        let tcp = |text: &str| Address::Tcp(text.to_owned());
        let tls = |text: &str| Address::Tls(text.to_owned());
        let unix = |text: &str| Address::Unix(PathBuf::from(text));
        for (text, expected) in [
            ("localhost", tcp("localhost:7788")),
            ("pbx-1:7788", tcp("pbx-1:7788")),
            ("http://127.0.0.1:9000", tcp("127.0.0.1:9000")),
            ("http://127.0.0.1:9000/", tcp("127.0.0.1:9000")),
            ("https://pbx-1", tls("pbx-1:443")),
            ("https://[::1]:7789/", tls("[::1]:7789")),
            ("[::1]:7788", tcp("[::1]:7788")),
            ("[::1]", tcp("[::1]:7788")),
            ("unix:/run/usherd.sock", unix("/run/usherd.sock")),
            ("unix:///run/usherd.sock", unix("/run/usherd.sock")),
            ("unix:state/usherd.sock", unix("state/usherd.sock")),
            ("/run/usherd.sock", unix("/run/usherd.sock")),
        ] {
            assert_eq!(Address::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_a_usage_error_that_says_why() {
        for text in [
            "",
            "unix:",
            "https://",
            "https://a:0",
            "https://a/b",
            "a:0",
            "a:70000",
            "a:http",
            "http://a/b",
            "user@host",
        ] {
            let failure = Address::parse(text).unwrap_err();
            assert_eq!(failure.code, super::super::failure::USAGE, "{text}");
            assert!(!failure.fix.is_empty(), "{text}");
        }
    }

    #[test]
    fn the_configuration_says_where_the_daemon_is() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("usherd.sock");
        let config = dir.path().join("usherd.toml");
        let text = format!("[server]\nlisten = \"0.0.0.0:9001\"\nunix_socket = {:?}\n", socket.to_str().unwrap());
        std::fs::write(&config, text).unwrap();
        let tcp = Address::Tcp("127.0.0.1:9001".to_owned());
        assert_eq!(candidates(None, Some(&config)).unwrap().last(), Some(&tcp));
        std::fs::write(&socket, "").unwrap();
        let found = candidates(None, Some(&config)).unwrap();
        assert_eq!((found.first(), found.last()), (Some(&Address::Unix(socket)), Some(&tcp)));
        assert_eq!(candidates(Some("a:1"), Some(&config)).unwrap(), [Address::Tcp("a:1".to_owned())]);
    }

    #[test]
    fn a_broken_configuration_does_not_hide_the_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("usherd.toml");
        std::fs::write(&config, "[server\nlisten=").unwrap();
        let found = candidates(None, Some(&config)).unwrap();
        assert_eq!(found.last(), Some(&Address::Tcp("127.0.0.1:7788".to_owned())));
    }
}
