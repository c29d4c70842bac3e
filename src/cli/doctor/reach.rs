//! The check of the addresses: each of the configuration is listened on, and how long a decision takes from here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use serde_json::json;

use super::finding::Finding;
use crate::cli::client::{Ask, Client};
use crate::cli::failure::Failure;
use crate::daemon::clock::monotonic_ns;
use crate::daemon::config::{Address, Config, Settings};

const CHECK: &str = "listener";
const LATENCY: &str = "latency";
/// How long a connection on this machine may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often is measured.
const SAMPLES: usize = 20;

/// An address of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Door {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Door::Tcp(address) => address.fmt(f),
            Door::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Door {
    fn knock(&self) -> io::Result<()> {
        match self {
            Door::Tcp(address) => TcpStream::connect_timeout(&from_here(*address), PATIENCE).map(drop),
            Door::Unix(path) => UnixStream::connect(path).map(drop),
        }
    }
}

/// Where to knock for an address that means all of a machine.
fn from_here(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn doors(settings: &Settings, folder: &Path) -> Vec<Door> {
    let unix = |path: &str| Door::Unix(folder.join(path));
    let server = &settings.server;
    let main = server.listen.into_iter().map(Door::Tcp);
    let socket = Some(server.unix_socket.as_str()).filter(|path| !path.is_empty()).map(unix);
    let further = settings.listeners.iter().map(|listener| match &listener.address {
        Address::Tcp(address) => Door::Tcp(*address),
        Address::Unix(path) => unix(path),
    });
    let all = main.chain(socket).chain(further).chain(settings.agi.listen.map(Door::Tcp));
    all.filter(|door| !matches!(door, Door::Tcp(address) if address.port() == 0)).collect()
}

/// Knocks at every address of the configuration.
pub(super) fn listeners(config: &Config) -> Vec<Finding> {
    let folder = config.main().parent().unwrap_or(Path::new(""));
    let doors = doors(&config.settings, folder);
    let knocked: Vec<(Door, io::Result<()>)> = doors.into_iter().map(|door| (door.clone(), door.knock())).collect();
    judge_doors(&knocked)
}

fn judge_doors(knocked: &[(Door, io::Result<()>)]) -> Vec<Finding> {
    let open: Vec<String> =
        knocked.iter().filter(|(_, result)| result.is_ok()).map(|(door, _)| door.to_string()).collect();
    let closed = knocked.iter().filter_map(|(door, result)| Some((door, result.as_ref().err()?)));
    let mut findings: Vec<Finding> = closed.map(|(door, error)| shut(door, error)).collect();
    if !open.is_empty() {
        findings.insert(0, Finding::ok(CHECK, format!("{} can be reached", open.join(", "))));
    }
    findings
}

fn shut(door: &Door, error: &io::Error) -> Finding {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let fix = "run `sudo usherd doctor`, or join the group of the socket";
        return Finding::note(CHECK, format!("this user may not connect to {door}"), fix);
    }
    Finding::fail(
        CHECK,
        format!("nobody listens on {door}: {error}"),
        "nodes with this address reach nobody, and allow every call",
        "a new address takes effect at a restart; usherd.socket must have it too (systemctl edit usherd.socket)",
    )
}

/// Asks for some decisions, which changes nothing, and judges how long they took.
pub(super) fn latency(client: &Client, tenant: &str, deadline_ms: u32) -> Finding {
    let body = json!({
        "tenant": tenant, "subject": "usherd-doctor", "session": "usherd-doctor", "kind": "call",
        "direction": "outbound", "ttl_s": 60,
    });
    let mut took_us = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let before = monotonic_ns();
        match client.ask_ok(&Ask::post("/v1/explain", &body)) {
            Ok(_) => took_us.push(monotonic_ns().saturating_sub(before) / 1_000),
            Err(Failure { what, fix, .. }) => return Finding::note(LATENCY, what, fix),
        }
    }
    took_us.sort_unstable();
    judge_latency(took_us[SAMPLES / 2], took_us[SAMPLES - 1], deadline_ms)
}

fn judge_latency(median_us: u64, slowest_us: u64, deadline_ms: u32) -> Finding {
    let ms = |us: u64| format!("{}.{} ms", us / 1_000, us % 1_000 / 100);
    let what =
        format!("a decision takes {} from here, the slowest of {SAMPLES} took {}", ms(median_us), ms(slowest_us));
    let deadline_us = u64::from(deadline_ms) * 1_000;
    let why = format!("nodes wait {deadline_ms} ms (nodes.deadline_ms) and then let the call go, uncounted");
    let fix = "check the load of the machine and the network (top, ping), and at usherd_decision_duration_seconds";
    match () {
        () if median_us > deadline_us => Finding::fail(LATENCY, what, why, fix),
        () if slowest_us > deadline_us || median_us * 2 > deadline_us => Finding::warn(LATENCY, what, why, fix),
        () => Finding::ok(LATENCY, what),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{self, *};
    use super::*;

    #[test]
    fn latency_is_judged_by_the_deadline_of_the_nodes() {
        let table: [(u64, u64, Verdict); 4] =
            [(400, 3_000, Ok), (400, 60_000, Warn), (26_000, 30_000, Warn), (51_000, 90_000, Fail)];
        for (median, slowest, verdict) in table {
            assert_eq!(judge_latency(median, slowest, 50).verdict, verdict, "{median} {slowest}");
        }
        assert!(judge_latency(1_290, 3_000, 50).what.contains("1.2 ms"));
    }

    #[test]
    fn every_address_is_knocked_at() {
        let mut settings = Settings::default();
        settings.server.listen = Some("0.0.0.0:7788".parse().unwrap());
        settings.server.unix_socket = "u.sock".into();
        settings.agi.listen = Some("127.0.0.1:0".parse().unwrap());
        let doors = doors(&settings, Path::new("/etc/usherd"));
        assert_eq!(doors, [Door::Tcp("0.0.0.0:7788".parse().unwrap()), Door::Unix("/etc/usherd/u.sock".into())]);
        assert_eq!(from_here("0.0.0.0:7788".parse().unwrap()).to_string(), "127.0.0.1:7788");
        assert_eq!(from_here("[::]:7788".parse().unwrap()).to_string(), "[::1]:7788");
        let refused = || Err(io::Error::from(io::ErrorKind::ConnectionRefused));
        let findings = judge_doors(&[(doors[0].clone(), std::result::Result::Ok(())), (doors[1].clone(), refused())]);
        let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Ok, Fail]);
        let forbidden = shut(&doors[1], &io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(forbidden.verdict, Note);
    }
}
