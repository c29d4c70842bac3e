//! The FastAGI listener as Asterisk meets it: one script for each connection, one command at a time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::process::{Site, Usherd};
use usherd_testkit::wait::{PATIENCE, eventually};

use super::exchanges::channel as channel_of;
use super::exchanges::templates::asterisk_agi;

const LISTEN: &str = "[agi]\nlisten = \"127.0.0.1:0\"\n";
const ACME: &str = "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n";

/// The variables that `AGI()` left on the channel.
#[derive(Debug, PartialEq, Eq)]
struct Channel {
    code: String,
    allow: String,
    message: String,
    sip_code: String,
}

/// An Asterisk that runs one script at this address.
struct Asterisk(BufReader<TcpStream>);

impl Asterisk {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Asterisk(BufReader::new(stream))
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The head as Asterisk 18 writes it for `AGI(agi://127.0.0.1:4573/SCRIPT,ARGUMENTS)`.
    fn head(&mut self, script: &str, arguments: &[&str]) {
        let mut head =
            format!("agi_network: yes\nagi_network_script: {script}\nagi_request: agi://127.0.0.1:4573/{script}\n");
        head += "agi_channel: PJSIP/20-00000001\nagi_language: en\nagi_type: PJSIP\nagi_uniqueid: 1700000100.42\nagi_version: 18.20.2\n\
                 agi_callerid: 20\nagi_calleridname: Anna\nagi_callingpres: 0\nagi_callingani2: 0\nagi_callington: 0\nagi_callingtns: 0\n\
                 agi_dnid: 0301234\nagi_rdnis: unknown\nagi_context: usherd-ask\nagi_extension: s\nagi_priority: 11\nagi_enhanced: 0.0\n\
                 agi_accountcode: \nagi_threadid: 140\n";
        for (at, argument) in arguments.iter().enumerate() {
            head += &format!("agi_arg_{}: {argument}\n", at + 1);
        }
        self.send(&(head + "\n"));
    }

    /// The next command, or nothing where the script is over.
    fn command(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).unwrap() > 0).then(|| line.trim_end().to_owned())
    }

    /// Carries out what the script wants, until it ends.
    fn run(&mut self) -> Vec<(String, String)> {
        let mut set = Vec::new();
        while let Some(command) = self.command() {
            let (name, value) =
                command.strip_prefix("SET VARIABLE ").and_then(|rest| rest.split_once(' ')).expect(&command);
            set.push((name.to_owned(), value.strip_prefix('"').unwrap().strip_suffix('"').unwrap().to_owned()));
            self.send("200 result=1\n");
        }
        set
    }
}

fn ask(address: SocketAddr, script: &str, arguments: &[&str]) -> Channel {
    let mut asterisk = Asterisk::connect(address);
    asterisk.head(script, arguments);
    channel(asterisk.run())
}

fn channel(set: Vec<(String, String)>) -> Channel {
    let names: Vec<_> = set.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["USHERD_CODE", "USHERD_ALLOW", "USHERD_MESSAGE", "USHERD_SIP_CODE"]);
    let [code, allow, message, sip_code] =
        set.into_iter().map(|(_, value)| value).collect::<Vec<_>>().try_into().unwrap();
    Channel { code, allow, message, sip_code }
}

fn said(code: &str, allow: &str, message: &str, sip_code: &str) -> Channel {
    Channel { code: code.into(), allow: allow.into(), message: message.into(), sip_code: sip_code.into() }
}

fn start(main: &str) -> (Site, Usherd, SocketAddr) {
    let site = Site::new(&format!("{LISTEN}{main}"), &[("acme", ACME)]);
    let usherd = site.start();
    let scripts = *usherd.addresses.last().unwrap();
    assert_ne!(scripts, usherd.address());
    (site, usherd, scripts)
}

const CALL: &str = "acquire?tenant=acme&subject=20&session=pbx1-1.1&kind=call&direction=outbound&node=pbx1&ttl_s=60";

#[test]
fn a_script_takes_a_seat_and_another_gives_it_back() {
    let (_site, usherd, scripts) = start("");
    assert_eq!(ask(scripts, CALL, &[]), said("allow.new", "1", "A licence was taken.", ""));
    let full = said("deny.full", "0", "All licences are in use. Please try again later.", "403");
    let other = ["session=pbx1-1.2", "kind=call", "direction=outbound", "ttl_s=60"];
    assert_eq!(ask(scripts, "acquire?tenant=acme&subject=J%C3%B6rg%20%26%20Co", &other), full);
    assert_eq!(
        ask(scripts, "release?tenant=acme&session=pbx1-1.1", &[]),
        said("released.last", "1", "The licence is free again.", "")
    );
    assert_eq!(ask(scripts, "acquire?tenant=acme&subject=J%C3%B6rg%20%26%20Co", &other).code, "allow.new");
    let sessions = usherd.client().list("/v1/tenants/acme/sessions", "sessions");
    assert_eq!(sessions[0]["subject"], "Jörg & Co");
    assert_eq!(ask(scripts, "release", &["tenant=acme", "session=pbx1-1.2"]).code, "released.last");
    assert_eq!(ask(scripts, "release", &["tenant=acme", "session=pbx1-1.2"]).code, "released.none");
}

#[test]
fn the_dial_plan_of_the_recipe_is_answered() {
    let (_site, usherd, scripts) = start("");
    for epoch in ["", "1700000000", "none"] {
        let [acquire, release] = ["acquire", "release"].map(|verb| {
            let written = asterisk_agi(verb, &channel_of(epoch));
            format!("{}?{}", written.target.trim_start_matches('/'), written.body)
        });
        assert_eq!(ask(scripts, &acquire, &[]).code, "allow.new");
        assert_eq!(ask(scripts, &acquire, &[]).code, "allow.same");
        assert_eq!(ask(scripts, CALL, &[]).code, "deny.full");
        assert_eq!(ask(scripts, &release, &[]).code, "released.last");
        assert_eq!(ask(scripts, &release, &[]).code, "released.none");
        assert_eq!(usherd.client().get("/v1/tenants/acme").json()["held"], 0);
        let late = ask(scripts, &acquire, &[]);
        assert_eq!(
            (late.code.as_str(), late.allow.as_str()),
            (if epoch == "none" { "allow.new" } else { "ignore.stale" }, "1")
        );
    }
}

#[test]
fn what_is_wrong_lets_the_call_go_out_and_says_so_c20() {
    let (_site, usherd, scripts) = start("");
    for (script, arguments, wrong) in [
        (
            "explain?tenant=acme",
            &[][..],
            "the script is neither acquire nor release; write AGI(agi://HOST:4573/acquire?tenant=...)",
        ),
        ("", &[], "no script is named; write AGI(agi://HOST:4573/acquire?tenant=...)"),
        ("acquire", &["tenant"], "an argument of AGI() is not key=value"),
        (
            "acquire?tenant=acme&subject=20&session=x&kind=call&ttl_s=60",
            &[],
            "direction is required for a call: outbound, internal or inbound",
        ),
        ("acquire?tenant=ACME&kind=fax", &[], "kind must be one of desktop, mobile, phone, connector, guest, call"),
        ("release?tenant=acme", &[], "session must be 1-128 bytes of printable ASCII"),
    ] {
        let answer = ask(scripts, script, arguments);
        assert_eq!(
            (answer.code.as_str(), answer.allow.as_str(), answer.sip_code.as_str()),
            ("error", "1", ""),
            "{script}"
        );
        assert!(answer.message.contains(wrong), "{script}: {answer:?}");
    }
    assert_eq!(usherd.client().get("/v1/tenants/acme").json()["held"], 0);
}

#[test]
fn a_web_page_cannot_run_a_script() {
    let (_site, usherd, scripts) = start("");
    let attack = format!("agi_network_script: {CALL}\n\n");
    for front in [
        "POST / HTTP/1.1\r\n",
        "get /v1/acquire HTTP/1.1\r\nHost: x\r\n\r\n",
        "Options * HTTP/1.1\r\n\r\n",
        "Host: x\n",
        "PATCH /\n",
    ] {
        let mut page = Asterisk::connect(scripts);
        // It may be ended while it still sends.
        let _ = page.0.get_mut().write_all(front.as_bytes());
        let _ = page.0.get_mut().write_all(attack.as_bytes());
        assert_eq!(page.command(), None, "{front:?}");
    }
    assert_eq!(usherd.client().get("/v1/tenants/acme").json()["held"], 0);
}

#[test]
fn emergency_and_inbound_calls_are_always_allowed_i8() {
    let (_site, usherd, scripts) = start("");
    assert_eq!(ask(scripts, CALL, &[]).code, "allow.new");
    for (script, message) in [
        (
            "acquire?tenant=acme&subject=21&session=e1&kind=call&direction=outbound&to=112",
            "Emergency calls are always allowed.",
        ),
        ("acquire?to=110", "Emergency calls are always allowed."),
        ("acquire?emergency=1&seq=wrong", "Emergency calls are always allowed."),
        ("acquire?tenant=acme&session=i1&kind=call&direction=inbound&ttl_s=60", "Incoming calls need no licence."),
        ("acquire?tenant=nobody&session=i2&kind=call&direction=inbound&ttl_s=60", "Incoming calls need no licence."),
    ] {
        assert_eq!(ask(scripts, script, &[]), said("allow.free", "1", message, ""), "{script}");
    }
    assert_eq!(usherd.client().get("/v1/tenants/acme").json()["held"], 1);
}

#[test]
fn scripts_need_no_token_but_are_nodes_on_this_listener_only() {
    let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let (_site, usherd, scripts) =
        start(&format!("[[auth.tokens]]\nid = \"x\"\nrole = \"admin\"\nsha256 = \"{sha256}\"\n"));
    assert_eq!(ask(scripts, CALL, &[]).code, "allow.new");
    let answer = usherd.client().post("/v1/release", "tenant=acme&session=pbx1-1.1");
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(ask(scripts, "release?tenant=acme&session=pbx1-1.1", &[]).code, "released.last");
}

#[test]
fn a_caller_who_hangs_up_meanwhile_disturbs_nothing() {
    let (_site, usherd, scripts) = start("");
    let mut asterisk = Asterisk::connect(scripts);
    asterisk.head(CALL, &[]);
    assert_eq!(asterisk.command().unwrap(), "SET VARIABLE USHERD_CODE \"allow.new\"");
    asterisk.send("HANGUP\n200 result=1\n");
    assert_eq!(asterisk.run().len(), 3, "the rest is set all the same");
    // The hangup handler of the dial plan.
    assert_eq!(ask(scripts, "release?tenant=acme&session=pbx1-1.1", &[]).code, "released.last");
    assert_eq!(usherd.client().get("/v1/tenants/acme").json()["held"], 0);
}

/// Connections that the listener has open.
fn open(usherd: &Usherd) -> Option<u64> {
    let metrics = usherd.client().get("/metrics").body;
    let line = metrics.lines().find(|line| line.starts_with("usherd_connections{listener=\"agi\"}"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn hostile_peers_are_cut_and_cost_no_other_call() {
    let deadlines = "[server]\nfirst_byte_deadline_ms = 150\nhead_deadline_ms = 150\nwrite_deadline_ms = 150\n";
    let (_site, usherd, scripts) = start(deadlines);
    let cut = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(scripts).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be cut while it still sends.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    assert_eq!(cut(b""), "", "nothing is sent");
    assert_eq!(cut(b"agi_network: yes\n"), "", "the head never ends");
    assert_eq!(cut(&b"agi_x: 1\n".repeat(200)), "", "too many lines");
    assert_eq!(cut(&[b'x'; 100_000]), "", "an endless line");
    assert_eq!(cut(&[0xff, 0x00, b'\n', b'\n']), "SET VARIABLE USHERD_CODE \"error\"\n", "wrong bytes, and no reply");
    assert_eq!(
        cut(b"agi_network_script: acquire?to=112\n\nx\n"),
        "SET VARIABLE USHERD_CODE \"allow.free\"\n",
        "a wrong reply"
    );
    let endless = [b"agi_network_script: acquire?to=112\n\n".as_slice(), &[b'2'; 50_000]].concat();
    assert_eq!(cut(&endless), "SET VARIABLE USHERD_CODE \"allow.free\"\n", "an endless reply");
    let asides = b"agi_network_script: acquire?to=112\n\nHANGUP\nHANGUP\nHANGUP\nHANGUP\nHANGUP\nHANGUP\n";
    assert_eq!(cut(asides), "SET VARIABLE USHERD_CODE \"allow.free\"\n", "asides without a reply");
    for half in ["agi_network: yes\nagi_netw", "agi_network_script: acquire?to=112\n\n"] {
        TcpStream::connect(scripts).and_then(|mut stream| stream.write_all(half.as_bytes())).unwrap();
    }
    let silent: Vec<_> = (0..50).map(|_| TcpStream::connect(scripts).unwrap()).collect();
    assert!(open(&usherd) > Some(0));
    let began = monotonic_ns();
    assert_eq!(ask(scripts, CALL, &[]).code, "allow.new");
    assert!(Duration::from_nanos(monotonic_ns() - began) < Duration::from_secs(5));
    drop(silent);
    eventually("all of them to be gone", || (open(&usherd) == Some(0)).then_some(()));
}

#[test]
fn scripts_in_progress_are_finished_when_the_daemon_stops() {
    let (_site, usherd, scripts) = start("");
    let mut asterisk = Asterisk::connect(scripts);
    asterisk.head(CALL, &[]);
    assert_eq!(asterisk.command().unwrap(), "SET VARIABLE USHERD_CODE \"allow.new\"");
    usherd.signal(rustix::process::Signal::TERM);
    eventually("no new scripts", || TcpStream::connect(scripts).is_err().then_some(()));
    asterisk.send("200 result=1\n");
    assert_eq!(asterisk.run().len(), 3);
    assert_eq!(usherd.terminate(), Some(0));
}

#[test]
fn nothing_listens_for_scripts_unless_it_is_said() {
    let site = Site::new("", &[("acme", ACME)]);
    let usherd = site.start();
    assert_eq!(usherd.addresses.len(), 1);
}
