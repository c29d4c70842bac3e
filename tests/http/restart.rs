//! After a restart nodes find their share of the connections, whoever came first.

use std::net::{SocketAddr, TcpStream};

use usherd::daemon::edge::stats::Refusal;

use crate::client::{self, PATIENCE, request};
use crate::daemon::Running;

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 1\n";
/// Eight in all, of which four are for nodes.
const LIMITS: &str = "[server]\nconnections_max = 8\nconnections_reserved_for_nodes = 4\n";

/// A connection from an address of this host's own.
fn from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&format!("{address}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// True if a request from an address is answered, and not closed at once.
fn is_answered(daemon: &Running, address: &str, method: &str, path: &str, body: &str) -> bool {
    use std::io::{Read as _, Write as _};
    let mut stream = from(address, daemon.address());
    let mut answer = Vec::new();
    let _ = stream.write_all(request(method, path, "", body).as_bytes());
    let _ = stream.read_to_end(&mut answer);
    answer.starts_with(b"HTTP/1.1 200")
}

/// Connections that say nothing and take all that is not for nodes. Each runtime has a queue of its own, so that a
/// later one may be let in before them: that all were judged is waited for.
fn strangers(daemon: &Running) -> Vec<TcpStream> {
    let held: Vec<TcpStream> = (0..6).map(|_| from("127.0.0.9", daemon.address())).collect();
    daemon.wait_until("the strangers' share to be taken", |daemon| {
        let listeners = daemon.daemon().app().serving.listeners.iter();
        listeners.map(|listener| listener.stats.refused(Refusal::Full)).sum::<u64>() == 2
    });
    assert!(!is_answered(daemon, "127.0.0.8", "GET", "/livez", ""), "no more strangers");
    held
}

#[test]
fn a_node_is_let_in_after_a_restart_though_strangers_came_first() {
    let mut daemon = Running::start(LIMITS, &[("acme", PAID)]);
    assert!(is_answered(&daemon, "127.0.0.5", "POST", "/v1/nodes/pbx/hello", "epoch=1"));
    for round in 0..2 {
        daemon.restart();
        let held = strangers(&daemon);
        assert!(is_answered(&daemon, "127.0.0.5", "POST", "/v1/nodes/pbx/hello", "epoch=2"), "round {round}");
        drop(held);
    }
    let file = daemon.folder.path().join("state/node-addresses");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.starts_with("usherd node addresses 1\n") && kept.ends_with(" 127.0.0.5\n"), "{kept}");
    // A day later than the longest that an address is kept, by a clock that somebody has to say is right.
    daemon.stop();
    daemon.clock.advance(91 * 86_400_000);
    daemon.restart();
    assert_eq!(daemon.call("POST", "/v1/admin/clock/trust", "", "").status, 200);
    daemon.clock.advance(600_000);
    daemon.wait_until("the address to go", |daemon| {
        daemon.clock.advance(1_000);
        std::fs::read_to_string(&file).is_ok_and(|kept| !kept.contains("127.0.0.5"))
    });
    daemon.restart();
    let held = strangers(&daemon);
    assert!(!is_answered(&daemon, "127.0.0.5", "POST", "/v1/nodes/pbx/hello", "epoch=3"), "it is a stranger again");
    drop(held);
}

#[test]
fn it_is_written_while_running_and_damage_is_no_obstacle() {
    let mut daemon = Running::start(LIMITS, &[("acme", PAID)]);
    assert!(is_answered(&daemon, "127.0.0.5", "POST", "/v1/nodes/pbx/hello", "epoch=1"));
    let file = daemon.folder.path().join("state/node-addresses");
    daemon.wait_until("the file", |daemon| {
        daemon.clock.advance(1_000);
        std::fs::read_to_string(&file).is_ok_and(|kept| kept.contains(" 127.0.0.5\n"))
    });
    daemon.stop();
    std::fs::write(&file, "usherd node addresses 9\nsomething else\n").unwrap();
    daemon.restart();
    assert_eq!(client::ask(client::tcp(daemon.address()), request("GET", "/livez", "", "").as_bytes()).status, 200);
    assert!(is_answered(&daemon, "127.0.0.5", "POST", "/v1/nodes/pbx/hello", "epoch=2"));
    daemon.stop();
    assert!(std::fs::read_to_string(&file).unwrap().ends_with(" 127.0.0.5\n"));
}
