//! Faults that are survived are counted, and every count is in a scrape: from the start with 0, and then it moves.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::client;
use crate::daemon::Running;

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 1\n";
/// Every reason of every family with a listener in it.
const REASONS: [(&str, &[&str]); 4] = [
    ("usherd_connections_refused_total", &["full", "address", "exhausted", "handshake"]),
    (
        "usherd_connection_deadlines_total",
        &["first_byte", "head", "body", "answer", "write", "idle", "age", "drain", "linger"],
    ),
    ("usherd_connections_broken_total", &["transport", "protocol", "panic"]),
    ("usherd_accept_errors_total", &["aborted", "other"]),
];

/// A series of the next scrape; `None` where it is not there.
fn series(daemon: &Running, name: &str) -> Option<u64> {
    let scrape = client::ask(client::unix(&daemon.socket()), client::request("GET", "/metrics", "", "").as_bytes());
    let line = scrape.body.lines().find(|line| line.split(' ').next() == Some(name)).map(str::to_owned)?;
    line.rsplit(' ').next()?.parse().ok()
}

fn reason(family: &str, listener: &str, reason: &str) -> String {
    format!("{family}{{listener=\"{listener}\",reason=\"{reason}\"}}")
}

fn started(main: &str) -> (Running, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("usherd.sock");
    let main = format!("[server]\nworkers = 1\nunix_socket = \"{}\"\n{main}", socket.display());
    (Running::start(&main, &[("acme", PAID)]), place)
}

#[test]
fn every_reason_is_there_from_the_start() {
    let (daemon, _place) = started("[[listener]]\nlisten = \"127.0.0.2:0\"\nprotocol = \"resp\"\n");
    let names: Vec<String> =
        daemon.daemon().app().serving.listeners.iter().map(|listener| listener.name.clone()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for (family, reasons) in REASONS {
        for listener in &names {
            for why in reasons {
                assert_eq!(series(&daemon, &reason(family, listener, why)), Some(0), "{family} {listener} {why}");
            }
        }
    }
    for name in ["usherd_impossible_total", "usherd_journal_not_durable_total"] {
        assert_eq!(series(&daemon, name), Some(0), "{name}");
    }
    assert!(series(&daemon, "usherd_panics_total").is_some(), "of the process, in which other tests may run");
}

#[test]
fn what_happens_at_the_edge_moves_its_counter() {
    let limits = "connections_per_address_max = 3\nfirst_byte_deadline_ms = 200\nhead_deadline_ms = 200\nbody_deadline_ms = 200\n";
    let (daemon, _place) = started(&format!("{limits}[[listener]]\nlisten = \"127.0.0.2:0\"\nprotocol = \"resp\"\n"));
    let main =
        daemon.daemon().app().serving.listeners.iter().find(|l| l.address == daemon.address().to_string()).unwrap();
    let main = main.name.clone();
    let moves = |family: &str, listener: &str, why: &str| {
        let name = reason(family, listener, why);
        daemon.wait_until(&name, |daemon| series(daemon, &name) >= Some(1));
    };
    let say = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(daemon.address()).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    let held: Vec<_> = (0..6).map(|_| TcpStream::connect(daemon.address()).unwrap()).collect();
    moves("usherd_connections_refused_total", &main, "address");
    let cut = reason("usherd_connection_deadlines_total", &main, "first_byte");
    daemon.wait_until(&cut, |daemon| series(daemon, &cut) >= Some(3));
    drop(held);
    daemon.wait_until("room for others", |daemon| daemon.daemon().app().serving.edge.gate().open() == 0);
    let half = say(b"GET /livez HT");
    moves("usherd_connection_deadlines_total", &main, "head");
    drop(half);
    let body = say(b"POST /v1/acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nt");
    moves("usherd_connection_deadlines_total", &main, "body");
    drop(body);
    // It is over once the client has closed too.
    let mut garbage = say(b"\x01\x02\r\n\r\n");
    let _ = garbage.read_to_end(&mut Vec::new());
    drop(garbage);
    moves("usherd_connections_broken_total", &main, "protocol");
    let mut page = TcpStream::connect(daemon.listener("listener-1")).unwrap();
    page.write_all(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nPING\r\n").unwrap();
    let _ = page.read_to_end(&mut Vec::new());
    moves("usherd_connections_broken_total", "listener-1", "protocol");
}

#[test]
fn a_full_house_is_counted() {
    let (daemon, _place) = started("connections_max = 9\nconnections_reserved_for_nodes = 5\n");
    let held: Vec<_> = (0..8).map(|_| TcpStream::connect(daemon.address()).unwrap()).collect();
    let main =
        daemon.daemon().app().serving.listeners.iter().find(|l| l.address == daemon.address().to_string()).unwrap();
    let name = reason("usherd_connections_refused_total", &main.name, "full");
    daemon.wait_until(&name, |daemon| series(daemon, &name) >= Some(1));
    drop(held);
}

#[test]
fn a_panic_of_any_thread_is_counted() {
    let (daemon, _place) = started("");
    let before = series(&daemon, "usherd_panics_total").unwrap();
    assert!(std::thread::spawn(|| panic!("a panic that a test wants")).join().is_err());
    assert!(series(&daemon, "usherd_panics_total") > Some(before));
}
