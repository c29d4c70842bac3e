//! Callers that ask and go: a question that was read is carried out, whatever the connection does then (API 1).

use std::io::{Read, Write};
use std::net::Shutdown;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use usherd_testkit::process::Usherd;

use super::beside::{Place, held, until_sessions};
use super::scripts::scripts_at;

/// Askers that go away, of each kind.
const ASKERS: usize = 100;

fn post(path: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: agent\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn place() -> (Place, Usherd, Usherd) {
    let main = "[[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"resp\"\n[agi]\nlisten = \"127.0.0.1:0\"\n";
    let seats = format!("id = \"acme\"\nkind = \"nfr\"\nseats = {}\n", 10 * ASKERS);
    let place = Place::with("[agi]\nlisten = \"127.0.0.1:0\"\n", main, &[("acme", &seats)]);
    place.deadline_ms(10_000);
    let (daemon, agent) = (place.daemon(), place.agent());
    place.until_connected();
    (place, daemon, agent)
}

fn rest(mut stream: impl Read) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

impl Place {
    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path("agent.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

#[test]
fn a_release_is_carried_out_though_its_script_is_gone() {
    let (place, daemon, _agent) = place();
    for at in 0..ASKERS {
        assert_eq!(place.acquire(&format!("u{at}"), &format!("c{at}")), "allow.new");
    }
    assert_eq!(held(&daemon), ASKERS as u64);
    for at in 0..ASKERS {
        let mut stream = place.connect();
        stream.write_all(&post("/v1/release", &format!("tenant=acme&session=c{at}"))).unwrap();
        if at % 2 == 0 {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        drop(stream);
    }
    until_sessions(&daemon, &[]);
}

#[test]
fn who_ends_only_its_own_side_is_answered() {
    let (place, daemon, _agent) = place();
    for at in 0..ASKERS {
        let mut stream = place.connect();
        let body = format!("tenant=acme&subject=u{at}&session=c{at}&kind=desktop");
        stream.write_all(&post("/v1/acquire", &body)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = rest(stream);
        assert!(answer.ends_with("allow.new"), "{at}: {answer}");
    }
    assert_eq!(held(&daemon), ASKERS as u64);
    for at in 0..ASKERS {
        let mut stream = place.connect();
        stream.write_all(&post("/v1/release", &format!("tenant=acme&session=c{at}"))).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = rest(stream);
        assert!(answer.ends_with("released.last"), "{at}: {answer}");
    }
    until_sessions(&daemon, &[]);
}

#[test]
fn an_acquire_of_a_gone_script_is_booked_and_releasable() {
    let (place, daemon, _agent) = place();
    let sessions: Vec<String> = (0..10).map(|at| format!("desktop u{at} c{at}")).collect();
    for at in 0..10 {
        let body = format!("tenant=acme&subject=u{at}&session=c{at}&kind=desktop");
        place.connect().write_all(&post("/v1/acquire", &body)).unwrap();
    }
    until_sessions(&daemon, &sessions.iter().map(String::as_str).collect::<Vec<_>>());
    for at in 0..10 {
        assert_eq!(place.release(&format!("c{at}")), "released.last");
    }
    until_sessions(&daemon, &[]);
}

#[test]
fn no_protocol_of_the_daemon_or_the_agent_forgets_what_it_read() {
    let (_place, daemon, agent) = place();
    let [http, resp, agi] = daemon.addresses[..] else { panic!("{:?}", daemon.addresses) };
    let script = |verb: &str, form: &str| format!("agi_network_script: {verb}?{form}\n\n").into_bytes();
    let ways = [("http", http), ("resp", resp), ("agi", agi), ("agent", scripts_at(&agent))];
    let request = |way: &str, release: bool, at: usize| {
        let form = format!("tenant=acme&subject=u{at}&session={way}{at}&kind=desktop&ttl_s=600");
        match (way, release) {
            ("http", false) => post("/v1/acquire", &form),
            ("http", true) => post("/v1/release", &form),
            ("resp", false) => format!("CU.ACQUIRE acme u{at} resp{at} desktop ttl_s 600\r\n").into_bytes(),
            ("resp", true) => format!("CU.RELEASE acme resp{at}\r\n").into_bytes(),
            (_, false) => script("acquire", &form),
            (_, true) => script("release", &form),
        }
    };
    for release in [false, true] {
        for (way, address) in ways {
            for at in 0..ASKERS / 4 {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(&request(way, release, at)).unwrap();
                if at % 2 == 0 {
                    stream.shutdown(Shutdown::Write).unwrap();
                }
            }
        }
        let mut expected = Vec::new();
        if !release {
            let all =
                ways.iter().flat_map(|(way, _)| (0..ASKERS / 4).map(move |at| format!("desktop u{at} {way}{at}")));
            expected.extend(all);
            expected.sort();
        }
        until_sessions(&daemon, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
