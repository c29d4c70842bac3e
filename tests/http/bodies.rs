//! Bodies that never end: together they hold no more than their budget, and calls that are always allowed still are.

use std::io::Write;
use std::net::TcpStream;

use crate::access::entry;
use crate::client;
use crate::daemon::{Answer, Running};
use crate::lists::exposition;

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 3\n";
/// A budget of 1 MiB, and a deadline that no test here waits for.
const SMALL: &str = "[server]\nmax_body_bytes = 262144\nmax_inventory_bytes = 262144\n\
    request_bodies_bytes_max = 1048576\nbody_deadline_ms = 60000\nwrite_deadline_ms = 60000\n";
const BUDGET: u64 = 1 << 20;

/// A request whose body has told a length and begins so; the rest does not come.
fn begun(daemon: &Running, path: &str, length: usize, body: &[u8]) -> TcpStream {
    let mut stream = client::tcp(daemon.address());
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    stream
}

/// The answer to a request whose body was begun; it may not wait for the rest.
fn answered(daemon: &Running, path: &str, length: usize, body: &[u8]) -> Answer {
    let request = format!("POST {path} HTTP/1.1\r\n\r\n");
    // Whose rest is waited for is not answered within the client's patience.
    client::finish(begun(daemon, path, length, body), request.as_bytes())
}

fn held(daemon: &Running) -> u64 {
    exposition(&daemon.get("/metrics").body)["usherd_request_bodies_bytes"] as u64
}

/// Waits until so many bytes more than `before` are held for a body that was begun, or it was refused and holds
/// nothing: it grows, or gives back, no more. Whether it is held.
fn is_held(daemon: &Running, stream: &TcpStream, before: u64, bytes: usize) -> bool {
    stream.set_nonblocking(true).unwrap();
    let is_refused = || {
        let mut answer = [0; 4_096];
        let read = stream.peek(&mut answer).unwrap_or_default();
        String::from_utf8_lossy(&answer[..read]).contains("request_bodies_bytes_max")
    };
    daemon.wait_until("a body to be held or refused", |daemon| {
        let was_refused = is_refused();
        let held = held(daemon);
        if was_refused { held == before } else { held >= before + bytes as u64 }
    });
    !is_refused()
}

/// Begins one body after the other until there is no room at all, not even for the beginning of an acquire.
fn fill(daemon: &Running, path: &str) -> Vec<TcpStream> {
    let mut all = Vec::new();
    // Small ones take what larger ones leave.
    for length in [15_000, 500] {
        loop {
            let before = held(daemon);
            let stream = begun(daemon, path, length, &vec![b'x'; length - 1]);
            if !is_held(daemon, &stream, before, length - 1) {
                break;
            }
            all.push(stream);
        }
    }
    all
}

#[test]
fn beyond_the_budget_only_calls_that_are_always_allowed_pass() {
    let daemon = Running::start(SMALL, &[("acme", PAID)]);
    assert_eq!(held(&daemon), 0);
    // Half for everybody, an eighth for calls; the rest is kept for nodes.
    let crowd = fill(&daemon, "/v1/acquire");
    let all = held(&daemon);
    assert!(all > BUDGET * 5 / 8 - 1_000 && all <= BUDGET * 5 / 8, "{all}");
    // More than the room of a call's first bytes and all that may be left.
    let filler = "&x=".to_owned() + &"y".repeat(60_000);
    for (fields, allowed) in [
        ("kind=call&direction=inbound&tenant=acme&session=a", "allow.free inbound"),
        ("emergency=true&kind=call&direction=outbound&tenant=acme", "allow.free emergency"),
        ("kind=call&direction=outbound&to=112&tenant=acme", "allow.free emergency"),
    ] {
        let answer = answered(&daemon, "/v1/acquire", 262_144, (fields.to_owned() + &filler).as_bytes());
        assert_eq!((answer.status, answer.decision().as_str()), (200, allowed), "{answer:?}");
    }
    let answer = answered(&daemon, "/v1/acquire?emergency=1", 262_144, filler.as_bytes());
    assert_eq!((answer.status, answer.decision().as_str()), (200, "allow.free emergency"));
    let outbound = "kind=call&direction=outbound&tenant=acme&subject=a&session=b".to_owned() + &filler;
    for path in ["/v1/acquire", "/v1/release", "/v1/batch", "/v1/explain"] {
        let answer = answered(&daemon, path, 262_144, outbound.as_bytes());
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
        assert!(answer.body.contains("request_bodies_bytes_max"), "{answer:?}");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    // What is here as a whole needs no room.
    let seat = "tenant=acme&subject=anna&session=s1&kind=desktop&node=n1&epoch=1&seq=1&ttl_s=60";
    assert_eq!(daemon.form("/v1/acquire", seat).body, "allow.new");
    assert_eq!(daemon.form("/v1/release", "tenant=acme&session=s1").body, "released.last");
    // A node has a share of its own.
    let hello = begun(&daemon, "/v1/nodes/n1/hello", 200_000, &[b' '; 60_000]);
    daemon.wait_until("the body of a node to be held", |daemon| held(daemon) > BUDGET * 5 / 8);
    drop((hello, crowd));
    daemon.wait_until("all of it to be given back", |daemon| held(daemon) == 0);
}

#[test]
fn lines_without_an_end_have_the_budget_too() {
    let daemon = Running::start(SMALL, &[("acme", PAID)]);
    let head = "POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
        Content-Type: application/x-ndjson\r\nContent-Length: 1000000\r\n\r\n";
    // Seven eighths of the budget have room for six of these lines at most; who finds none is answered and ended.
    let mut crowd = Vec::new();
    for _ in 0..16 {
        let before = held(&daemon);
        let mut stream = client::tcp(daemon.address());
        stream.write_all(&[head.as_bytes(), &[b'x'; 150_000]].concat()).unwrap();
        if is_held(&daemon, &stream, before, 150_000) {
            crowd.push(stream);
        }
    }
    assert!((1..=6).contains(&crowd.len()), "{}", crowd.len());
    assert!(held(&daemon) <= BUDGET, "{}", held(&daemon));
    drop(crowd);
    daemon.wait_until("all of it to be given back", |daemon| held(daemon) == 0);
}

#[test]
fn who_may_not_ask_is_not_waited_for() {
    let daemon = Running::start(&(SMALL.to_owned() + &entry("node", 'a', "")), &[("acme", PAID)]);
    let filler = "&x=".to_owned() + &"y".repeat(100_000);
    let outbound = "kind=call&direction=outbound&tenant=acme&subject=a&session=b".to_owned() + &filler;
    for path in ["/v1/acquire", "/v1/release", "/v1/explain", "/v1/nodes/n1/hello", "/v1/nodes/n1/inventory"] {
        let answer = answered(&daemon, path, 200_000, outbound.as_bytes());
        assert_eq!(answer.status, 401, "{path}: {answer:?}");
    }
    for (fields, allowed) in [
        ("kind=call&direction=inbound&tenant=acme&session=a", "allow.free inbound"),
        ("emergency=true&kind=call&direction=outbound&tenant=acme", "allow.free emergency"),
    ] {
        let answer = answered(&daemon, "/v1/acquire", 200_000, (fields.to_owned() + &filler).as_bytes());
        assert_eq!((answer.status, answer.decision().as_str()), (200, allowed), "{answer:?}");
    }
}

#[test]
fn an_emergency_passes_whatever_becomes_of_its_body() {
    let main = "[server]\nmax_body_bytes = 4096\nbody_deadline_ms = 300\n";
    let daemon = Running::start(main, &[("acme", PAID)]);
    let call = "emergency=true&kind=call&direction=outbound&tenant=acme&x=";
    for (length, body) in
        [(10_000, call.to_owned() + &"y".repeat(9_000)), (10_000, call.to_owned()), (1_000, call.to_owned())]
    {
        let answer = answered(&daemon, "/v1/acquire", length, body.as_bytes());
        assert_eq!((answer.status, answer.decision().as_str()), (200, "allow.free emergency"), "{length}: {answer:?}");
    }
    // An inbound call that is wrong by its own fault is told so.
    let inbound = "kind=call&direction=inbound&tenant=acme&x=".to_owned() + &"y".repeat(9_000);
    assert_eq!(answered(&daemon, "/v1/acquire", 10_000, inbound.as_bytes()).status, 413);
    assert_eq!(answered(&daemon, "/v1/acquire", 1_000, b"kind=call&direction=inbound").status, 408);
}

/// An inventory of so many sessions, each as short as can be.
fn inventory(seq: usize, sessions: usize) -> serde_json::Value {
    let all: Vec<_> = (0..sessions).map(|at| serde_json::json!({ "session": at.to_string(), "kind": "x" })).collect();
    serde_json::json!({ "epoch": 1, "seq": seq, "sessions": all })
}

#[test]
fn what_is_made_of_an_inventory_has_the_budget_too() {
    let daemon = Running::start(SMALL, &[("acme", PAID)]);
    assert_eq!(daemon.post("/v1/nodes/n1/hello", &serde_json::json!({ "epoch": 1 })).status, 200);
    // 70 KB that would become some megabytes.
    let many = daemon.post("/v1/nodes/n1/inventory", &inventory(1, 2_500));
    assert_eq!(many.status, 413, "{many:?}");
    // Long enough to be read aside, and few enough sessions: wrong, but not too many.
    let filler = |seq| {
        let mut some = inventory(seq, 400);
        some["filler"] = "y".repeat(40_000).into();
        some
    };
    assert_eq!(daemon.post("/v1/nodes/n1/inventory", &filler(2)).status, 400);
    // From the address of a node its share is full, and then that of the others.
    let crowd = fill(&daemon, "/v1/nodes/n1/inventory");
    assert!(held(&daemon) > BUDGET * 7 / 8 - 1_000, "{}", held(&daemon));
    let full = daemon.post("/v1/nodes/n1/inventory", &filler(3));
    assert_eq!(full.status, 503, "{full:?}");
    assert!(full.body.contains("request_bodies_bytes_max"), "{full:?}");
    drop(crowd);
    daemon.wait_until("all of it to be given back", |daemon| held(daemon) == 0);
    assert_eq!(daemon.post("/v1/nodes/n1/inventory", &filler(4)).status, 400);
}
