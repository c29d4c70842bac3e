//! Events as they happen: server-sent events and NDJSON, resuming, gaps, filters, limits.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::client;
use crate::daemon::{Answer, Running};
use crate::spec;

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 2\n";

/// One listener, and what it heard so far.
struct Listener {
    stream: TcpStream,
    path: String,
    heard: Vec<u8>,
}

impl Listener {
    fn new(daemon: &Running, path: &str, headers: &str) -> Self {
        let mut stream = client::tcp(daemon.address());
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut listener = Listener { stream, path: path.to_owned(), heard: Vec::new() };
        listener.until("the head", |heard| heard.contains("\r\n\r\n"));
        listener
    }

    fn until(&mut self, what: &str, enough: impl Fn(&str) -> bool) {
        while !enough(&String::from_utf8_lossy(&self.heard)) {
            let mut part = [0; 4_096];
            let read = self.stream.read(&mut part).unwrap_or_else(|error| panic!("{what}: {error}: {}", self.text()));
            assert!(read > 0, "closed before {what}: {}", self.text());
            self.heard.extend_from_slice(&part[..read]);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.heard).into_owned()
    }

    fn answer(&self) -> Answer {
        // What was heard is no whole body: its end is put behind it.
        let mut whole = self.heard.clone();
        whole.extend_from_slice(b"0\r\n\r\n");
        let answer = Answer::parse(&whole);
        spec::check("GET", &self.path, &answer);
        answer
    }

    /// Waits for so many events.
    fn events(&mut self, count: usize) -> Vec<Value> {
        self.until("its events", |heard| heard.matches("\"type\":").count() >= count && heard.ends_with("\r\n"));
        spec::lines(&self.answer().body)
    }
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

fn acquire(daemon: &Running, tenant: &str, subject: &str) {
    daemon.form("/v1/acquire", &format!("tenant={tenant}&subject={subject}&session={subject}&kind=desktop&ttl_s=600"));
}

#[test]
fn a_listener_hears_what_it_wants_and_resumes_where_it_was() {
    let daemon = Running::start("", &[("acme", PAID), ("other", PAID)]);
    let mut all = Listener::new(&daemon, "/v1/events", "");
    let mut scripts =
        Listener::new(&daemon, "/v1/events?tenant=acme&types=denied,%20released", "Accept: application/x-ndjson\r\n");
    for subject in ["a", "b", "c"] {
        acquire(&daemon, "acme", subject);
    }
    acquire(&daemon, "other", "a");
    daemon.form("/v1/release", "tenant=acme&session=a");
    daemon.form("/v1/acquire", "tenant=acme&to=112&kind=call");
    daemon.form("/v1/nodes/n1/hello", "epoch=1");
    daemon.reload_with("acme", &format!("{PAID}name = \"A\"\n"));
    let heard = all.events(8);
    assert_eq!(types(&heard), ["granted", "granted", "denied", "granted", "released", "emergency", "node", "config"]);
    let ids: Vec<u64> = heard.iter().map(|event| event["id"].as_u64().unwrap()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    assert_eq!(heard[2]["subject"], "c");
    let sse = all.answer().body;
    assert!(sse.starts_with(": usherd events\n\n"), "{sse}");
    assert!(sse.contains(&format!("id: {}\nevent: denied\ndata: {{\"id\":{}", ids[2], ids[2])), "{sse}");
    assert_eq!(types(&scripts.events(2)), ["denied", "released"]);
    assert_eq!(scripts.answer().header("content-type"), Some("application/x-ndjson"));
    for headers in [format!("Last-Event-ID: {}\r\n", ids[4]), String::new()] {
        let path = if headers.is_empty() { format!("/v1/events?after={}", ids[4]) } else { "/v1/events".to_owned() };
        let mut resumed = Listener::new(&daemon, &path, &headers);
        assert_eq!(types(&resumed.events(3)), ["emergency", "node", "config"]);
    }
}

#[test]
fn what_is_gone_is_said_to_be_gone() {
    let daemon = Running::start("[events]\nbuffered_max = 3\n", &[("acme", &PAID.replace("= 2", "= 0"))]);
    for subject in ["a", "b", "c", "d", "e"] {
        acquire(&daemon, "acme", subject);
    }
    for after in ["1", "18446744073709551615", "18446744073709551614"] {
        let mut late = Listener::new(&daemon, "/v1/events", &format!("Last-Event-ID: {after}\r\n"));
        let heard = late.events(4);
        assert_eq!(types(&heard), ["gap", "denied", "denied", "denied"], "{after}");
        assert_eq!(heard[0]["resumes_at"], heard[1]["id"]);
        assert_eq!(heard[1]["subject"], "c");
        assert!(late.answer().body.contains("event: gap\ndata: "));
    }
    let bad = daemon.call("GET", "/v1/events", "Last-Event-ID: x\r\n", "");
    assert_eq!(bad.status, 400);
}

#[test]
fn listeners_are_limited_and_their_places_come_back() {
    let daemon = Running::start("[events]\nsubscribers_max = 2\n", &[("acme", PAID)]);
    let first = Listener::new(&daemon, "/v1/events", "");
    let _second = Listener::new(&daemon, "/v1/events", "");
    let third = daemon.get("/v1/events");
    assert_eq!((third.status, third.header("retry-after")), (429, Some("5")));
    drop(first);
    daemon.wait_until("a place", |daemon| {
        // A client may close its side and still read: that it has gone shows when something is written to it.
        acquire(daemon, "acme", "a");
        daemon.form("/v1/release", "tenant=acme&session=a");
        daemon.call("HEAD", "/v1/events", "", "").status == 200
    });
}
