//! Scripts of Asterisk over FastAGI, answered by the agent: in time, whatever the daemon does.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::process::Usherd;

use super::beside::Place;

fn place(more: &str) -> (Place, Usherd, Usherd, SocketAddr) {
    started(Place::new(&format!("[agi]\nlisten = \"127.0.0.1:0\"\n{more}")))
}

fn started(place: Place) -> (Place, Usherd, Usherd, SocketAddr) {
    let (daemon, agent) = (place.daemon(), place.agent());
    place.until_connected();
    let at = scripts_at(&agent);
    (place, daemon, agent, at)
}

/// Where an agent answers scripts.
pub(super) fn scripts_at(agent: &Usherd) -> SocketAddr {
    let said = agent.said.last().unwrap();
    let at = said.split(['"', '(', ')', ' ']).find_map(|word| word.parse::<SocketAddr>().ok());
    at.unwrap_or_else(|| panic!("{said}"))
}

/// Runs a script as Asterisk does: the variables that it gets, in their order.
pub(super) fn run(at: SocketAddr, request: &str) -> Vec<(String, String)> {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "agi_network: yes\nagi_network_script: {request}\nagi_request: agi://{at}/{request}\nagi_uniqueid: 1.7\n\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut variables = Vec::new();
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let line = line.unwrap();
        let (name, value) = line.strip_prefix("SET VARIABLE ").unwrap().split_once(' ').unwrap();
        variables.push((name.to_owned(), value.trim_matches('"').to_owned()));
        stream.write_all(b"200 result=1\n").unwrap();
    }
    variables
}

fn code_and_allow(variables: &[(String, String)]) -> (&str, &str) {
    assert_eq!(
        variables.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["USHERD_CODE", "USHERD_ALLOW", "USHERD_MESSAGE", "USHERD_SIP_CODE"]
    );
    (&variables[0].1, &variables[1].1)
}

const ANNA: &str = "acquire?tenant=acme&subject=anna&session=pbx-1-1.7&kind=call&direction=outbound&to=0301";

#[test]
fn a_script_is_answered_by_the_daemon_while_it_answers() {
    let (place, daemon, _agent, at) = place("");
    assert_eq!(code_and_allow(&run(at, ANNA)), ("allow.new", "1"));
    assert_eq!(code_and_allow(&run(at, "release?tenant=acme&session=pbx-1-1.7")), ("released.last", "1"));
    for at_most in 0..10 {
        place.ask("/v1/acquire", &format!("tenant=acme&subject=u{at_most}&session=d{at_most}&kind=desktop&ttl_s=600"));
    }
    let denied = run(at, ANNA);
    assert_eq!((code_and_allow(&denied), denied[3].1.as_str()), (("deny.full", "0"), "403"));
    for (script, code) in [
        ("acquire?tenant=acme&subject=anna&session=x&kind=call&direction=inbound", "allow.free"),
        ("acquire?tenant=??&kind=call&to=112", "allow.free"),
        ("acquire?tenant=acme&kind=call", "error"),
        ("dial?tenant=acme", "error"),
    ] {
        let variables = run(at, script);
        assert_eq!(code_and_allow(&variables), (code, "1"), "{script}: {variables:?}");
    }
    drop(daemon);
}

#[test]
fn a_script_does_not_wait_for_a_daemon_that_hangs_or_is_gone() {
    let place = Place::new("[agi]\nlisten = \"127.0.0.1:0\"\n");
    place.deadline_ms(200);
    let (_place, daemon, _agent, at) = started(place);
    daemon.pause();
    for round in 0..5 {
        let began = monotonic_ns();
        let variables = run(at, &ANNA.replace("1.7", &format!("1.{round}")));
        let waited_ms = (monotonic_ns() - began) / 1_000_000;
        assert_eq!(code_and_allow(&variables), ("allow.over", "1"), "{variables:?}");
        // It hangs until the end of the test; a busy machine adds some to the deadline.
        assert!(waited_ms < 10_000, "{waited_ms} ms");
    }
    daemon.kill();
    assert_eq!(code_and_allow(&run(at, ANNA)), ("allow.over", "1"));
}

#[test]
fn a_node_set_to_deny_denies_undecided_calls_but_never_help() {
    let place_deny = Place::new("[agi]\nlisten = \"127.0.0.1:0\"\n");
    let path = place_deny.path("agent.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[daemon]\n", "[daemon]\non_unreachable = \"deny\"\n")).unwrap();
    let agent = place_deny.agent();
    let said = agent.said.last().unwrap();
    let at = said.split(['"', '(', ')', ' ']).find_map(|word| word.parse::<SocketAddr>().ok()).unwrap();
    assert_eq!(code_and_allow(&run(at, ANNA)), ("unavailable", "0"));
    assert_eq!(code_and_allow(&run(at, &ANNA.replace("0301", "112"))), ("allow.free", "1"));
}
