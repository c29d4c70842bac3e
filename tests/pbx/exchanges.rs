//! Requests of PBXs that Debian does not package, byte for byte, and the answers of the daemon.
//!
//! The fixtures are whole requests as the PBX's HTTP client writes them: `CURL()` of Asterisk, mod_curl of FreeSWITCH
//! and rest_client of OpenSIPS, all of them libcurl. Their bodies are worked out from the shipped recipes as well, so
//! that neither changes without the other.

mod asks;
pub(super) mod dialplan;
pub(super) mod switch;
pub(super) mod templates;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::process::{Site, Usherd};
use usherd_testkit::wait::{eventually, pause};

use switch::Switch;
use templates::{Written, asterisk, asterisk_agi, freeswitch, opensips, recipe};

const EPOCH: &str = "1700000000";
const SUBJECT: &str = "Jörg & Söhne";
const CHANNELS: [(&str, &str); 9] = [
    ("CHANNEL", "PJSIP/20-00000001"),
    ("ARG1", SUBJECT),
    ("ARG2", "0301234"),
    ("ARG3", "outbound"),
    ("UNIQUEID", "1700000100.42"),
    ("usherd_subject", SUBJECT),
    ("usherd_to", "0301234"),
    ("usherd_direction", "outbound"),
    ("uuid", "6c1e9a7e-3f0b-4c6e-9d59-0a8f4b1f7c11"),
];
const DIALOG: [(&str, &str); 8] = [
    // The same of the request and of the event at its end.
    ("$DLG_did", "3a2.1f0c4e67"),
    ("$param(id)", "3a2.1f0c4e67"),
    ("avp(usherd_subject)", SUBJECT),
    ("avp(usherd_to)", "0301234"),
    ("$avp(usherd_direction)", "outbound"),
    ("$shv(usherd_epoch)", EPOCH),
    // The MD5 of a84b4c76e66710@pbx.example.
    ("ci{s.md5}", "b98b30b6c3e45d10b83ea7094ecd51d2"),
    ("param(callid){s.md5}", "b98b30b6c3e45d10b83ea7094ecd51d2"),
];

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pbx/exchanges").join(format!("{name}.http"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The variables of a caller's channel, in an Asterisk or FreeSWITCH of this boot number.
pub(super) fn channel(epoch: &str) -> Vec<(&str, &str)> {
    let mut all = CHANNELS.to_vec();
    all.extend([("USHERD_EPOCH", epoch), ("usherd_epoch", epoch)]);
    all
}

/// A POST as libcurl writes it for Asterisk and FreeSWITCH.
fn by_agent(agent: &str, written: &Written) -> String {
    let (target, body) = (&written.target, &written.body);
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nHost: 127.0.0.1:7788\r\nUser-Agent: {agent}\r\nAccept: */*\r\nContent-Length: {length}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}"
    )
}

/// The same for OpenSIPS, which names no agent, and its content type itself.
fn by_opensips(written: &Written) -> String {
    let (target, body) = (&written.target, &written.body);
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nHost: 127.0.0.1:7788\r\nAccept: */*\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn the_fixtures_are_what_the_recipes_write() {
    for verb in ["acquire", "release"] {
        for (suffix, epoch) in [("", EPOCH), ("-nothing-beside", ""), ("-unordered", "none")] {
            let written = by_agent("asterisk-libcurl-agent/1.0", &asterisk(verb, &channel(epoch)));
            assert_eq!(String::from_utf8(fixture(&format!("asterisk-{verb}{suffix}"))).unwrap(), written);
            let written = by_agent("freeswitch-curl/1.0", &freeswitch(verb, &channel(epoch)));
            assert_eq!(String::from_utf8(fixture(&format!("freeswitch-{verb}{suffix}"))).unwrap(), written);
            assert_eq!(
                asterisk_agi(verb, &channel(epoch)).body,
                asterisk(verb, &channel(epoch)).body,
                "both dial plans of Asterisk say the same"
            );
        }
        let written = by_opensips(&opensips(verb, &DIALOG));
        assert_eq!(String::from_utf8(fixture(&format!("opensips-{verb}"))).unwrap(), written);
    }
}

/// The bytes that the real libcurl writes for this, taken by a listener of ours.
fn by_libcurl(arguments: &[&str], target: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut curl = Command::new("curl")
        .args(["--silent", "--max-time", "20", "--connect-to", &format!("::127.0.0.1:{port}")])
        .args(arguments)
        .arg(format!("http://127.0.0.1:7788{target}"))
        .spawn()
        .expect("curl is missing: apt-get install curl");
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = Vec::new();
    let whole = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.split_once("\r\n\r\n")
            .is_some_and(|(head, body)| head.contains(&format!("Content-Length: {}", body.len())))
    };
    while !whole(&bytes) {
        let mut buffer = [0_u8; 4_096];
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..read]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(curl.wait().unwrap().success());
    String::from_utf8(bytes).unwrap()
}

#[test]
fn libcurl_writes_the_heads_of_the_fixtures() {
    for verb in ["acquire", "release"] {
        let written = asterisk(verb, &channel(EPOCH));
        let sent =
            by_libcurl(&["--user-agent", "asterisk-libcurl-agent/1.0", "--data", &written.body], &written.target);
        assert_eq!(sent.as_bytes(), fixture(&format!("asterisk-{verb}")));
        let written = freeswitch(verb, &channel(EPOCH));
        let sent = by_libcurl(&["--user-agent", "freeswitch-curl/1.0", "--data", ""], &written.target);
        assert_eq!(sent.as_bytes(), fixture(&format!("freeswitch-{verb}")));
        let written = opensips(verb, &DIALOG);
        let header = "Content-Type: application/x-www-form-urlencoded";
        let sent = by_libcurl(&["--user-agent", "", "--header", header, "--data", &written.body], &written.target);
        assert_eq!(sent.as_bytes(), fixture(&format!("opensips-{verb}")));
    }
}

/// One kept connection that shows answers as they are on the wire, but for the time.
struct Line(TcpStream);

impl Line {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(usherd_testkit::wait::PATIENCE)).unwrap();
        Line(stream)
    }

    fn exchange(&mut self, request: &[u8]) -> String {
        self.0.write_all(request).unwrap();
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && head.contains(&format!("content-length: {}\r\n", body.len()))
            {
                let lines = text.split("\r\n").map(|line| if line.starts_with("date: ") { "date: *" } else { line });
                return lines.collect::<Vec<_>>().join("\r\n");
            }
            let mut buffer = [0_u8; 4_096];
            let read = self.0.read(&mut buffer).unwrap();
            assert!(read > 0, "{text}");
            bytes.extend_from_slice(&buffer[..read]);
        }
    }
}

fn said(code: &str) -> String {
    let length = code.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncache-control: no-store\r\ncontent-length: {length}\r\ndate: *\r\n\r\n{code}"
    )
}

const NODES: [(&str, &str); 3] = [("asterisk", "pbx1"), ("freeswitch", "fs1"), ("opensips", "os1")];

fn one_seat() -> (Site, Usherd) {
    let site = Site::new("", &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n")]);
    let usherd = site.start();
    (site, usherd)
}

#[test]
fn a_call_of_each_pbx_takes_the_seat_and_gives_it_back() {
    let (_site, usherd) = one_seat();
    let mut client = usherd.client();
    for (pbx, _) in NODES {
        let (acquire, release) = (fixture(&format!("{pbx}-acquire")), fixture(&format!("{pbx}-release")));
        let mut line = Line::to(usherd.address());
        assert_eq!(line.exchange(&acquire), said("allow.new"), "{pbx}");
        let sessions = client.list("/v1/tenants/acme/sessions", "sessions");
        assert_eq!(sessions[0]["subject"], SUBJECT, "{pbx}: nothing is lost in the encoding");
        // libcurl sends a POST again by itself when a kept connection died on it.
        assert_eq!(Line::to(usherd.address()).exchange(&acquire), said("allow.same"), "{pbx}");
        let other = client.post("/v1/acquire", "tenant=acme&subject=x&session=x&kind=call&direction=outbound&ttl_s=60");
        assert_eq!(other.body, "deny.full tenant", "{pbx}");
        assert_eq!(line.exchange(&release), said("released.last"), "{pbx}");
        assert_eq!(client.held("acme"), 0, "{pbx}");
        // The caller's leg and a time-out of the dialog may both tell it.
        assert_eq!(line.exchange(&release), said("released.none"), "{pbx}");
    }
}

#[test]
fn the_refusal_is_what_the_recipes_look_for() {
    let (_site, usherd) = one_seat();
    let mut client = usherd.client();
    client.post("/v1/acquire", "tenant=acme&subject=x&session=x&kind=call&direction=outbound&ttl_s=60");
    for (pbx, _) in NODES {
        let mut line = Line::to(usherd.address());
        assert_eq!(line.exchange(&fixture(&format!("{pbx}-acquire"))), said("deny.full tenant"), "{pbx}");
        assert_eq!(line.exchange(&fixture(&format!("{pbx}-release"))), said("released.none"), "{pbx}");
    }
    for (file, looks_for) in [
        ("asterisk/extensions_usherd.conf", "\"^deny[.](full|inactive|unknown_tenant)\" ${USHERD_CODE})}?denied"),
        ("freeswitch/dialplan/usherd.xml", "expression=\"^(deny\\.(full|inactive|unknown_tenant))\\b\""),
        ("opensips/usherd.cfg", "$avp(usherd_code) =~ \"^deny\\.(full|inactive|unknown_tenant)( |$)\""),
    ] {
        assert!(recipe(file).contains(looks_for), "{file}");
    }
}

#[test]
fn no_other_answer_looks_like_a_refusal_i10() {
    let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let site = Site::new(&format!("[[auth.tokens]]\nid = \"x\"\nrole = \"node\"\nsha256 = \"{sha256}\"\n"), &[]);
    let open = Site::new("", &[]);
    let (with_tokens, without) = (site.start(), open.start());
    let call = "tenant=acme&subject=x&session=x&kind=call&direction=outbound&ttl_s=60";
    for (usherd, path, body, status) in [
        (&with_tokens, "/v1/acquire", call, 401),
        (&with_tokens, "/v1/acquire", "subject=deny.full&kind=deny.full", 401),
        (&without, "/v1/acquire", "kind=call", 400),
        (&without, "/v1/acquire", "subject=deny.full&kind=deny.full", 400),
        (&without, "/v1/deny.full", call, 404),
        (&without, "/livez", call, 405),
    ] {
        let answer = usherd.client().post(path, body);
        assert_eq!(answer.status, status, "{answer:?}");
        // FreeSWITCH and OpenSIPS want status 200 as well; Asterisk sees the body only, and keeps these letters of it.
        let kept: String =
            answer.body.chars().filter(|letter| letter.is_ascii_lowercase() || "._".contains(*letter)).collect();
        assert!(!kept.starts_with("deny.") && !kept.starts_with("allow."), "{answer:?}");
    }
    assert!(recipe("asterisk/extensions_usherd.conf").contains("Set(USHERD_CODE=${FILTER(a-z._,${CURL("));
    assert!(recipe("freeswitch/dialplan/usherd.xml").contains("field=\"${curl_response_code}\" expression=\"^200$\""));
    assert!(recipe("opensips/usherd.cfg").contains("$rc > 0 && $avp(usherd_status) == 200 && $avp(usherd_code)"));
}

#[test]
fn a_release_that_overtakes_its_acquire_is_not_undone_by_it_g5() {
    let (_site, usherd) = one_seat();
    let mut client = usherd.client();
    for (pbx, _) in NODES {
        let mut line = Line::to(usherd.address());
        assert_eq!(line.exchange(&fixture(&format!("{pbx}-release"))), said("released.none"), "{pbx}");
        assert_eq!(line.exchange(&fixture(&format!("{pbx}-acquire"))), said("ignore.stale"), "{pbx}");
        assert_eq!(client.held("acme"), 0, "{pbx}");
    }
}

#[test]
fn without_a_helper_a_late_acquire_takes_no_seat_either_g5() {
    let (_site, usherd) = one_seat();
    let mut client = usherd.client();
    for pbx in ["asterisk", "freeswitch"] {
        let mut line = Line::to(usherd.address());
        assert_eq!(line.exchange(&fixture(&format!("{pbx}-acquire-nothing-beside"))), said("allow.new"), "{pbx}");
        assert_eq!(line.exchange(&fixture(&format!("{pbx}-release-nothing-beside"))), said("released.last"), "{pbx}");
        assert_eq!(line.exchange(&fixture(&format!("{pbx}-acquire-nothing-beside"))), said("ignore.stale"), "{pbx}");
        assert_eq!(client.held("acme"), 0, "{pbx}");
    }
}

#[test]
fn a_freeswitch_renewal_keeps_the_seat_and_late_takes_none() {
    for (epoch, renewed, behind) in [("", "allow.same", "ignore.stale"), ("none", "", "")] {
        let (_site, usherd) = one_seat();
        let mut line = Line::to(usherd.address());
        let mut codes = Vec::new();
        let mut answers = |written: &Written| {
            let answer = line.exchange(by_agent("freeswitch-curl/1.0", written).as_bytes());
            codes.push(answer.split("\r\n\r\n").nth(1).unwrap().to_owned());
            ("200", codes.last().unwrap().clone())
        };
        let variables = channel(epoch);
        let mut call = Switch::new(&variables, &mut answers);
        call.execute("usherd_ask");
        call.renew();
        call.hang_up();
        // The scheduler may be about to send it when the channel ends.
        call.renew();
        let all = ["allow.new", renewed, "released.last", "released.none", behind];
        assert_eq!(codes, all.into_iter().filter(|code| !code.is_empty()).collect::<Vec<_>>());
        assert_eq!(usherd.client().held("acme"), 0);
    }
}

#[test]
fn a_second_attempt_with_the_call_id_of_the_first_is_counted() {
    let (_site, usherd) = one_seat();
    let mut client = usherd.client();
    let of = |verb: &str, dialog: &str| {
        let variables = DIALOG.map(|(name, value)| (name, if value == "3a2.1f0c4e67" { dialog } else { value }));
        by_opensips(&opensips(verb, &variables)).into_bytes()
    };
    let mut line = Line::to(usherd.address());
    assert_eq!(line.exchange(&of("acquire", "3a2.1")), said("allow.new"));
    // 407, 422 or 486: the dialog ends, and the phone asks again, with the same Call-ID.
    assert_eq!(line.exchange(&of("release", "3a2.1")), said("released.last"));
    assert_eq!(line.exchange(&of("acquire", "3a2.2")), said("allow.new"));
    // The end of the first may also come behind the second's beginning.
    assert_eq!(line.exchange(&of("acquire", "3a2.3")), said("allow.held"));
    assert_eq!(line.exchange(&of("release", "3a2.2")), said("released.more"));
    assert_eq!(client.held("acme"), 1);
    assert_eq!(line.exchange(&of("release", "3a2.3")), said("released.last"));
}

#[test]
fn a_request_that_timed_out_at_the_pbx_leaves_no_seat_behind() {
    for (pbx, _) in NODES {
        let (_site, usherd) = one_seat();
        usherd.pause();
        // Both wait in the kernel; whichever is read first, the call is over.
        let mut gave_up = Line::to(usherd.address());
        gave_up.0.write_all(&fixture(&format!("{pbx}-acquire"))).unwrap();
        drop(gave_up);
        let mut release = Line::to(usherd.address());
        release.0.write_all(&fixture(&format!("{pbx}-release"))).unwrap();
        usherd.signal(rustix::process::Signal::CONT);
        let answer = release.exchange(b"");
        assert!(answer.contains("\r\n\r\nreleased."), "{answer}");
        let mut client = usherd.client();
        eventually("both to be decided", || {
            let metrics = client.get("/metrics").body;
            let decided = |code: &str| {
                metrics.lines().any(|line| line.starts_with("usherd_decisions_total") && line.contains(code))
            };
            (decided("released.") && (decided("allow.new") || decided("ignore.stale"))).then_some(())
        });
        assert_eq!(client.held("acme"), 0, "{pbx}");
    }
}

#[test]
fn calls_of_before_a_restart_of_the_pbx_end_with_the_hello_g8() {
    let (_site, usherd) = one_seat();
    let mut client = usherd.client();
    let epoch: u64 = EPOCH.parse().unwrap();
    let mut hello = |node: &str, later: u64| {
        let answer = client.post(&format!("/v1/nodes/{node}/hello"), &format!("epoch={}", epoch + later));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["dropped"].as_u64().unwrap()
    };
    for (pbx, node) in NODES {
        let mut line = Line::to(usherd.address());
        let acquire = fixture(&format!("{pbx}-acquire"));
        assert_eq!(hello(node, 0), 0);
        assert_eq!(line.exchange(&acquire), said("allow.new"), "{pbx}");
        assert_eq!(hello(node, 1), 1, "{pbx}: restarted");
        assert_eq!(line.exchange(&acquire), said("ignore.stale"), "{pbx}: it comes from before the restart");
        if pbx != "opensips" {
            assert_eq!(line.exchange(&fixture(&format!("{pbx}-acquire-unordered"))), said("allow.new"), "{pbx}");
            assert_eq!(hello(node, 2), 1, "{pbx}: restarted");
        }
    }
}

#[test]
fn an_opensips_call_outlives_usherds_restart_not_its_own_g10() {
    let timers = "[nodes]\nheartbeat_s = 1\nlease_s = 2\ngrace_s = 1\nlearning_s = 1\n";
    let site = Site::new(timers, &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n")]);
    let usherd = site.start();
    let epoch: u64 = EPOCH.parse().unwrap();
    let tell = |usherd: &Usherd, what: &str, epoch: u64| {
        let answer = usherd.client().post(&format!("/v1/nodes/os1/{what}"), &format!("epoch={epoch}"));
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    tell(&usherd, "hello", epoch);
    assert_eq!(Line::to(usherd.address()).exchange(&fixture("opensips-acquire")), said("allow.new"));
    usherd.kill();
    // The next tick greets the usherd that is back. That it lists nothing ends nothing, for thrice the learning time.
    let usherd = site.start();
    tell(&usherd, "hello", epoch);
    let until = monotonic_ns() + 3_000_000_000;
    while monotonic_ns() < until {
        tell(&usherd, "heartbeat", epoch);
        assert_eq!(usherd.client().held("acme"), 1);
        pause(Duration::from_millis(50));
    }
    tell(&usherd, "hello", epoch + 1);
    assert_eq!(usherd.client().held("acme"), 0);
}
