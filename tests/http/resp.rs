//! The same contract over RESP: order, pipelines, cut and wrong bytes, credentials, deadlines, and real clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::access::{entry, token};
use crate::client;
use crate::daemon::Running;

/// A listener for `usherd.toml`; the last of the file.
pub(crate) const LISTENER: &str = "[[listener]]\nlisten = \"127.0.0.2:0\"\nprotocol = \"resp\"\n";
const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 2\n";

/// A client that knows the protocol and nothing of the daemon.
pub(crate) struct Talk<S> {
    pub(crate) stream: S,
    got: Vec<u8>,
}

impl<S: Read + Write> Talk<S> {
    pub(crate) fn new(stream: S) -> Self {
        Talk { stream, got: Vec::new() }
    }

    pub(crate) fn send(&mut self, words: &[&str]) {
        self.stream.write_all(&encoded(words)).unwrap();
    }

    pub(crate) fn ask(&mut self, words: &[&str]) -> String {
        self.send(words);
        self.reply()
    }

    /// The next reply: `+`, `-` and `:` as they came, strings bare, arrays and maps with blanks between.
    pub(crate) fn reply(&mut self) -> String {
        let line = self.line();
        let (kind, rest) = line.split_at(1);
        match kind {
            "$" => {
                let length = rest.parse::<usize>().unwrap() + 2;
                while self.got.len() < length {
                    assert!(self.read(), "closed within a string");
                }
                let bytes: Vec<u8> = self.got.drain(..length).collect();
                String::from_utf8(bytes).unwrap().strip_suffix("\r\n").unwrap().to_owned()
            }
            "*" | "%" => {
                let count = rest.parse::<usize>().unwrap() * if kind == "%" { 2 } else { 1 };
                (0..count).map(|_| self.reply()).collect::<Vec<_>>().join(" ")
            }
            _ => line,
        }
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.got.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.got.drain(..at + 2).collect();
                return String::from_utf8(line).unwrap().trim_end().to_owned();
            }
            assert!(self.read(), "closed after {:?}", String::from_utf8_lossy(&self.got));
        }
    }

    fn read(&mut self) -> bool {
        let mut part = [0; 16_384];
        let read = self.stream.read(&mut part).unwrap_or(0);
        self.got.extend_from_slice(&part[..read]);
        read > 0
    }

    /// Everything until the daemon closes.
    fn rest(mut self) -> String {
        while self.read() {}
        String::from_utf8(self.got).unwrap()
    }
}

fn encoded(words: &[&str]) -> Vec<u8> {
    let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{words}", words.matches('$').count()).into_bytes()
}

fn talk(daemon: &Running) -> Talk<TcpStream> {
    Talk::new(client::tcp(daemon.listener("listener-1")))
}

/// One command on a connection of its own.
pub(crate) fn ask(daemon: &Running, words: &[impl AsRef<str>]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    talk(daemon).ask(&words)
}

fn started(main: &str) -> Running {
    Running::start(&format!("{main}\n{LISTENER}"), &[("acme", PAID)])
}

const ANNA: [&str; 9] = ["CU.ACQUIRE", "acme", "anna", "c1", "call", "direction", "outbound", "ttl_s", "60"];

#[test]
fn replies_keep_the_order_of_a_pipeline_wherever_it_is_cut() {
    let pipeline = [
        &["PING"][..],
        &ANNA,
        &["CU.ACQUIRE", "acme", "anna", "d1", "desktop", "ttl_s", "60"],
        &["CU.RELEASE", "acme", "c1"],
        &["CU.NOTHING"],
        &["CU.RELEASE", "acme", "d1"],
        &["CU.STATUS", "acme"],
    ];
    let bytes: Vec<u8> = pipeline.iter().flat_map(|words| encoded(words)).collect();
    let daemon = started("");
    for cut in (0..bytes.len()).step_by(7) {
        let mut talk = talk(&daemon);
        talk.stream.write_all(&bytes[..cut]).unwrap();
        // What is whole is answered before the rest comes.
        let whole = (0..=pipeline.len())
            .rev()
            .find(|n| pipeline[..*n].iter().map(|w| encoded(w).len()).sum::<usize>() <= cut)
            .unwrap();
        let mut replies: Vec<String> = (0..whole).map(|_| talk.reply()).collect();
        talk.stream.write_all(&bytes[cut..]).unwrap();
        replies.extend((whole..pipeline.len()).map(|_| talk.reply()));
        let wrong = replies.remove(4);
        assert!(wrong.starts_with("-ERR there is no command \"CU.NOTHING\""), "{wrong}");
        let wanted =
            ["+PONG", "+allow.new", "+allow.held", "+released.more", "+released.last", "+active held=0 quota=2 over=0"];
        assert_eq!(replies, wanted, "cut at {cut}");
    }
}

#[test]
fn faults_are_answered_and_nonsense_ends_the_connection() {
    let daemon = started("");
    let mut talk = talk(&daemon);
    for (words, said) in [
        (&["CU.ACQUIRE", "acme"][..], "-ERR write CU.ACQUIRE tenant subject session kind"),
        (&["CU.ACQUIRE", "acme", "a", "b", "call", "direction"], "-ERR write CU.ACQUIRE"),
        (&["CU.ACQUIRE", "acme", "a", "b", "fish"], "-ERR kind must be one of desktop"),
        (
            &["CU.ACQUIRE", "Acme!", "a", "b", "call", "direction", "up", "ttl_s", "soon"],
            "-ERR direction must be one of",
        ),
        (&["CU.ACQUIRE", "acme", "a", "b", "call", "direction", "outbound"], "-ERR ttl_s"),
        (&["CU.ACQUIRE", "acme", "a", "b", "call", "kind", "call"], "-ERR kind is given twice"),
        (&["CU.RELEASE", "acme"], "-ERR write CU.RELEASE"),
        (&["CU.NODE", "pbx1", "heartbeat", "3"], "-ERR unknown_epoch node pbx1 is not known"),
        (&["CU.NODE", "pbx1", "hello", "x"], "-ERR the epoch is not a whole number"),
        (&["CU.NODE", "pbx1", "sleep", "1"], "-ERR write CU.NODE"),
        (&["CU.STATUS", "nobody"], "-ERR tenant \"nobody\" is not configured"),
        (&["SELECT", "1"], "-ERR there is no command"),
        (&["HELLO", "4"], "-NOPROTO"),
    ] {
        let reply = talk.ask(words);
        assert!(reply.starts_with(said), "{words:?}: {reply}");
    }
    assert_eq!(talk.ask(&ANNA), "+allow.new", "a wrong command harms none after it");
    talk.stream.write_all(b"*1\r\n:5\r\n").unwrap();
    let rest = talk.rest();
    assert!(rest.starts_with("-ERR a command is an array of bulk strings"), "{rest}");
}

#[test]
fn inline_commands_json_and_both_versions_of_the_protocol() {
    let daemon = started("");
    let mut talk = talk(&daemon);
    talk.stream.write_all(b"CU.ACQUIRE acme \"anna b\" c1 call direction outbound ttl_s 60\r\n\r\nPING\r\n").unwrap();
    assert_eq!([talk.reply(), talk.reply()], ["+allow.new", "+PONG"]);
    let json: serde_json::Value =
        serde_json::from_str(&talk.ask(&["CU.RELEASE", "acme", "c1", "format", "json"])).unwrap();
    assert_eq!((&json["code"], &json["held"]), (&"released.last".into(), &0.into()));
    let json = talk.ask(&[&ANNA[..], &["format", "json"]].concat());
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["code"], "allow.new", "{json}");
    let json: serde_json::Value = serde_json::from_str(&talk.ask(&["CU.STATUS", "acme", "format", "json"])).unwrap();
    assert_eq!(json, daemon.get("/v1/tenants/acme").json());
    let json: serde_json::Value =
        serde_json::from_str(&talk.ask(&["CU.NODE", "pbx1", "hello", "7", "format", "json"])).unwrap();
    assert_eq!((&json["heartbeat_s"], &json["lease_s"]), (&5.into(), &15.into()));
    for (version, first) in [("2", b'*'), ("3", b'%')] {
        talk.send(&["HELLO", version, "SETNAME", "pbx"]);
        let mut kind = [0];
        talk.stream.read_exact(&mut kind).unwrap();
        talk.got.extend_from_slice(&kind);
        assert_eq!(kind[0], first);
        assert!(talk.reply().contains("server usherd"));
    }
    talk.send(&["QUIT"]);
    assert_eq!(talk.rest(), "+OK\r\n");
}

#[test]
fn a_token_is_asked_for_and_holds_for_its_tenant() {
    let main = format!("{}{}", entry("node", 'a', "tenants = [\"acme\"]"), entry("viewer", 'a', ""));
    let daemon = Running::start(&format!("{main}\n{LISTENER}"), &[("acme", PAID), ("other", PAID)]);
    let mut talk = talk(&daemon);
    assert!(talk.ask(&ANNA).starts_with("-NOAUTH a credential is required"));
    assert!(talk.ask(&["AUTH", "nonsense"]).starts_with("-NOAUTH the token is not valid"));
    assert_eq!(talk.ask(&["AUTH", &token("node", 'a')]), "+OK");
    assert_eq!(talk.ask(&ANNA), "+allow.new");
    assert!(talk.ask(&["CU.RELEASE", "other", "c1"]).starts_with("-NOAUTH node-a is not for this tenant"));
    assert!(talk.ask(&["CU.STATUS", "acme"]).starts_with("-NOAUTH"), "a node does not read");
    assert_eq!(talk.ask(&["CU.ACQUIRE", "other", "-", "c1", "call", "direction", "inbound"]), "+allow.free inbound");
    assert!(talk.ask(&["HELLO", "3", "AUTH", "default", &token("viewer", 'a')]).contains("usherd"));
    assert_eq!(talk.ask(&["CU.STATUS", "acme"]), "+active held=1 quota=2 over=0");
    assert!(talk.ask(&ANNA).starts_with("-NOAUTH"), "a viewer does not ask");
}

#[test]
fn an_endless_command_is_cut_and_a_stop_waits_for_a_begun_one() {
    let daemon = started("[server]\nhead_deadline_ms = 300\n");
    let (mut slow, idle) = (talk(&daemon), talk(&daemon));
    slow.stream.write_all(b"*1\r\n$4\r\nPI").unwrap();
    assert_eq!(slow.rest(), "", "cut off");
    let stats = || {
        daemon
            .daemon()
            .app()
            .serving
            .listeners
            .iter()
            .find(|listener| listener.name == "listener-1")
            .map(|l| l.stats.clone())
            .unwrap()
    };
    assert_eq!(stats().ended_by(usherd::daemon::edge::stats::Deadline::Head), 1);
    let daemon = started("");
    let mut begun = talk(&daemon);
    assert_eq!(begun.ask(&["PING"]), "+PONG");
    begun.stream.write_all(b"*1\r\n$4\r\nPI").unwrap();
    let mut quiet = talk(&daemon);
    assert_eq!(quiet.ask(&["PING"]), "+PONG");
    daemon.daemon().stop();
    assert_eq!(quiet.rest(), "", "an idle connection is closed at once");
    begun.stream.write_all(b"NG\r\n").unwrap();
    assert_eq!(begun.rest(), "+PONG\r\n");
    drop(idle);
}

#[test]
fn what_is_answered_survives_a_restart() {
    let mut daemon = started("");
    assert_eq!(ask(&daemon, &ANNA), "+allow.new");
    daemon.restart();
    assert_eq!(ask(&daemon, &["CU.STATUS", "acme"]), "+active held=1 quota=2 over=0");
    assert_eq!(ask(&daemon, &["CU.RELEASE", "acme", "c1"]), "+released.last");
}

/// Runs a client of Redis against the daemon; what it printed.
fn run(daemon: &Running, program: &str, args: &[&str]) -> String {
    let address = daemon.listener("listener-1");
    let mut command = Command::new(program);
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]).args(args);
    let output =
        command.output().unwrap_or_else(|why| panic!("{program}: {why}; it is in the Debian package redis-tools"));
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_clients_of_redis_work_against_it() {
    let daemon = started("");
    assert_eq!(run(&daemon, "redis-cli", &ANNA).trim(), "allow.new");
    assert_eq!(run(&daemon, "redis-cli", &["-3", "CU.STATUS", "acme"]).trim(), "active held=1 quota=2 over=0");
    assert!(run(&daemon, "redis-cli", &["INFO"]).contains("server_name:usherd"));
    for pipeline in ["1", "16"] {
        let load = ["-n", "2000", "-c", "10", "-r", "1000", "-q", "--csv", "-P", pipeline];
        let call = ["CU.ACQUIRE", "acme", "anna", "s__rand_int__", "call", "direction", "outbound", "ttl_s", "60"];
        let printed = run(&daemon, "redis-benchmark", &[&load[..], &call].concat());
        assert!(printed.contains("\"CU.ACQUIRE acme anna") && !printed.contains("rror"), "{printed}");
    }
    let tenant = daemon.get("/v1/tenants/acme").json();
    assert_eq!(tenant["held"], 1, "one person, one seat");
    assert!(tenant["sessions"].as_u64().unwrap() > 500, "{tenant}");
}

#[test]
fn a_client_that_does_not_read_is_left_and_the_others_go_on() {
    let daemon = started("[server]\nwrite_deadline_ms = 300\n");
    let mut deaf = talk(&daemon);
    deaf.stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let pipeline = encoded(&["PING", &"x".repeat(4_000)]).repeat(8_000);
    // It is cut off while it writes, or after it.
    let _ = deaf.stream.write_all(&pipeline);
    let mut talk = talk(&daemon);
    assert_eq!(talk.ask(&ANNA), "+allow.new");
    daemon.wait_until("the deaf client to be left", |daemon| {
        let listener =
            daemon.daemon().app().serving.listeners.iter().find(|listener| listener.name == "listener-1").unwrap();
        listener.stats.ended_by(usherd::daemon::edge::stats::Deadline::Write) == 1
    });
}

/// The bytes that a hostile page makes a browser send to a local port: lines of our own stand where its body does.
const ATTACK: &str = "CU.RELEASE acme c1\r\nCU.ACQUIRE acme eve e1 desktop ttl_s 600\r\nCU.NODE pbx1 hello 100\r\n";

#[test]
fn a_web_page_cannot_command_it() {
    let daemon = started("");
    assert_eq!(ask(&daemon, &ANNA), "+allow.new");
    for method in
        ["POST", "GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "post", "Options", "TRACE", "CONNECT", "QUERY"]
    {
        let head = format!("{method} / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n", ATTACK.len());
        for (request, cut) in [
            (format!("{head}{ATTACK}"), 0),
            (format!("{head}{ATTACK}"), 2),
            (format!("{head}{ATTACK}"), head.len() - 3),
            (format!("\r\n \"{method}\" / HTTP/1.1\r\n{ATTACK}"), 5),
            (format!("PING\r\n{head}{ATTACK}"), 9),
        ] {
            let mut page = talk(&daemon);
            // It may be ended while it still sends.
            let _ = page.stream.write_all(&request.as_bytes()[..cut]);
            let _ = page.stream.flush();
            if request.starts_with("PING") {
                assert_eq!(page.reply(), "+PONG", "what came before is answered");
            }
            let _ = page.stream.write_all(&request.as_bytes()[cut..]);
            assert_eq!(page.rest(), "", "{request:?} cut at {cut}");
        }
    }
    for front in ["Host: x", "HOST:x", "HTTP/1.1 200 OK"] {
        let mut page = talk(&daemon);
        let _ = page.stream.write_all(format!("{front}\r\n{ATTACK}").as_bytes());
        assert_eq!(page.rest(), "", "{front}");
    }
    // What else has no command's name: the header of a request, TLS, a proxy that tells for whom it asks.
    for front in ["User-Agent: x", "\u{16}\u{3}\u{1}", "PROXY TCP4 10.0.0.1 10.0.0.2 1 2"] {
        let mut page = talk(&daemon);
        let _ = page.stream.write_all(format!("{front}\r\n{ATTACK}").as_bytes());
        let rest = page.rest();
        assert!(rest.starts_with("-ERR ") && rest.matches("\r\n").count() == 1, "{front}: {rest}");
    }
    assert_eq!(ask(&daemon, &["CU.STATUS", "acme"]), "+active held=1 quota=2 over=0");
    assert_eq!(ask(&daemon, &ANNA), "+allow.same", "the session was not ended");
    assert_eq!(ask(&daemon, &["CU.NODE", "pbx1", "hello", "7"]), "+ok", "the node was not locked out");
    // As the name of a command in an array it is one that is not known.
    assert!(ask(&daemon, &["GET", "x"]).starts_with("-ERR there is no command"));
}

#[test]
fn a_credential_with_nodes_speaks_only_of_those() {
    let main = entry("node", 'a', "tenants = [\"acme\"]\nnodes = [\"na\"]");
    let daemon = started(&main);
    let mut talk = talk(&daemon);
    assert_eq!(talk.ask(&["AUTH", &token("node", 'a')]), "+OK");
    let of = |node| ["CU.ACQUIRE", "acme", "anna", "d1", "desktop", "node", node, "ttl_s", "60"];
    assert!(talk.ask(&of("nb")).starts_with("-NOAUTH node-a may not speak as node nb"));
    assert_eq!(talk.ask(&of("na")), "+allow.new");
    assert!(talk.ask(&["CU.RELEASE", "acme", "d1", "node", "nb"]).starts_with("-NOAUTH"));
    assert!(talk.ask(&["CU.NODE", "nb", "hello", "1"]).starts_with("-NOAUTH"));
    let inbound = ["CU.ACQUIRE", "acme", "-", "c1", "call", "direction", "inbound", "node", "nb"];
    assert_eq!(talk.ask(&inbound), "+allow.free inbound");
    assert_eq!(talk.ask(&["CU.RELEASE", "acme", "d1", "node", "na"]), "+released.last");
}
