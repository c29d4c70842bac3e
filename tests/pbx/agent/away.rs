//! The daemon is away or hangs, the agent is killed: calls go on at once, and nothing is lost.

use std::time::Duration;

use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::wait::eventually;

use super::beside::{Place, held, sessions, until_sessions};
use super::fake::Fake;

#[test]
fn releases_wait_on_disk_also_when_the_agent_is_killed() {
    let place = Place::new("");
    place.deadline_ms(2_000);
    let (daemon, agent) = (place.daemon(), place.agent());
    for session in ["c1", "c2", "c3"] {
        assert_eq!(place.acquire(session, session), "allow.new");
    }
    assert_eq!(place.release("c3"), "released.last");
    daemon.kill();
    for session in ["c1", "c2"] {
        assert_eq!(place.release(session), "released.more unreachable");
    }
    agent.kill();
    let agent = place.agent();
    place.until_agent("the releases of before", |look| look["releases_waiting"] == 2);
    agent.kill();
    let daemon = place.daemon();
    assert_eq!(held(&daemon), 2, "its journal knows no better");
    let _agent = place.agent();
    until_sessions(&daemon, &[]);
    place.until_agent("an empty spool", |look| look["releases_waiting"] == 0);
    assert_eq!(std::fs::metadata(place.path("spool/releases")).unwrap().len(), 0);
}

#[test]
fn damaged_spool_lines_are_set_aside_and_the_others_sent() {
    let place = Place::new("");
    place.deadline_ms(2_000);
    let (daemon, agent) = (place.daemon(), place.agent());
    place.acquire("anna", "c1");
    place.acquire("bob", "c2");
    daemon.kill();
    place.release("c1");
    place.release("c2");
    agent.kill();
    let path = place.path("spool/releases");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (daemon, _agent) = (place.daemon(), place.agent());
    until_sessions(&daemon, &["call anna c1"]);
    place.until_agent("the damage to be counted", |look| look["spool_damaged"] == 1);
    assert!(place.path("spool/releases.damaged").exists());
}

#[test]
fn a_daemon_that_hangs_holds_no_call_up_i9() {
    let place = Place::new("");
    place.deadline_ms(1_000);
    let (daemon, _agent) = (place.daemon(), place.agent());
    assert_eq!(place.acquire("anna", "c1"), "allow.new");
    daemon.pause();
    for number in 0..5 {
        let begun = monotonic_ns();
        assert_eq!(place.acquire("bob", &format!("d{number}")), "allow.over unreachable");
        let took = Duration::from_nanos(monotonic_ns() - begun);
        // It hangs until the end of the test; a busy machine adds some to the second of the deadline.
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
    let body = r#"{"tenant":"acme","subject":"bob","session":"j1","kind":"call","direction":"outbound"}"#;
    let (status, answer) = place.ask("/v1/acquire", body);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["code"], &answer["allow"]), (200, &"allow.over".into(), &true.into()));
    assert!(answer["unreachable"].is_string() && answer.get("held").is_none(), "{answer}");
    let inbound = "tenant=acme&session=i1&kind=call&direction=inbound";
    assert_eq!(place.ask("/v1/acquire", inbound), (200, "allow.free inbound".to_owned()));
    assert_eq!(place.ask("/v1/acquire", "emergency=1"), (200, "allow.free emergency".to_owned()));
    daemon.signal(rustix::process::Signal::CONT);
    // What was let through is reported when it answers again (G7).
    eventually("bob's calls to be adopted", || (sessions(&daemon).len() >= 7).then_some(()));
}

#[test]
fn the_next_daemon_is_asked_when_the_one_in_use_dies() {
    let (place, other) = (Place::new(""), Place::new(""));
    let at = |of: &Place| format!("unix:{}", of.path("usherd.sock").display());
    let both = format!("address = [{:?}, {:?}]", at(&place), at(&other));
    place.edit(&format!("address = {:?}", at(&place)), &both);
    // Each decides alone here, so the second must be greeted within this.
    place.deadline_ms(4_000);
    let (first, second, mut agent) = (place.daemon(), other.daemon(), place.agent());
    place.until_agent("the first", |look| look["connected"] == true && look["address"] == at(&place));
    assert_eq!(place.acquire("anna", "c1"), "allow.new");
    assert_eq!(sessions(&second), Vec::<String>::new());
    first.kill();
    assert_eq!(place.acquire("bob", "c2"), "allow.new", "by the second, within the deadline");
    until_sessions(&second, &["call anna c1", "call bob c2"]);
    assert!(agent.until_says("is asked here from now on").contains(&at(&other)));
    place.until_agent("the second", |look| look["connected"] == true && look["address"] == at(&other));
    let told = place.command().arg("--status").output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains(&at(&other)) && !told.contains(&at(&place)), "{told}");
    let metrics = place.ask("/metrics", "").1;
    for (name, of, value) in [("daemon_in_use", &place, 0), ("daemon_in_use", &other, 1), ("answers_total", &place, 1)]
    {
        let line = format!("usherd_agent_{name}{{address=\"{}\"}} {value}\n", at(of));
        assert!(metrics.contains(&line), "no {line} in {metrics}");
    }
    assert!(metrics.contains("usherd_agent_moved_total 1\n"), "{metrics}");
    // The first comes back, without what it knew, and nothing changes until the second fails.
    place.forget();
    let first = place.daemon();
    assert_eq!(place.release("c1"), "released.last");
    assert_eq!(held(&second), 1);
    second.kill();
    assert_eq!(place.acquire("cara", "c3"), "allow.new");
    until_sessions(&first, &["call bob c2", "call cara c3"]);
}

#[test]
fn on_unreachable_deny_is_no_decision_about_a_licence_i10() {
    let place = Place::new("");
    let path = place.path("agent.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[daemon]\n", "[daemon]\non_unreachable = \"deny\"\n")).unwrap();
    let _agent = place.agent();
    let ask = "tenant=acme&subject=anna&session=c1&kind=call&direction=outbound&status=1";
    let (status, problem) = place.ask("/v1/acquire", ask);
    assert_eq!(status, 503, "{problem}");
    assert!(!problem.contains("deny.") && problem.contains("on_unreachable"), "{problem}");
    assert_eq!(place.ask("/v1/acquire", &ask.replace("outbound", "inbound")).0, 200);
}

#[test]
fn a_killed_agent_keeps_every_seat_until_it_knows_better_g8_g9() {
    let fake = Fake::play("asterisk-restart.txt");
    let sections = format!("[asterisk]\naddress = \"{}\"\nuser = \"usherd\"\nsecret_file = \"secret\"\n", fake.address);
    let place = Place::new(&sections);
    let (daemon, agent) = (place.daemon(), place.agent());
    fake.reached("listed");
    until_sessions(&daemon, &["call anna c1", "call bob c2"]);
    agent.kill();
    let mut agent = place.agent();
    agent.until_says("usherd knows this node");
    // Beyond lease and grace: the seats live by the new agent's heartbeats, though it has seen no PBX yet.
    for _ in 0..40 {
        assert_eq!(held(&daemon), 2);
        usherd_testkit::wait::pause(Duration::from_millis(200));
    }
    fake.open("listed");
    until_sessions(&daemon, &["call bob c2", "call cara c3"]);
}

#[test]
fn a_boot_number_behind_the_daemons_is_raised_and_kept_g5() {
    let place = Place::new("");
    let daemon = place.daemon();
    let later = u64::MAX / 2;
    let hello = format!("{{\"epoch\":{later}}}");
    assert_eq!(daemon.client().post("/v1/nodes/pbx-1/hello", &hello).status, 200);
    let mut agent = place.agent();
    agent.until_says("goes on with the next one");
    agent.until_says("usherd knows this node");
    assert_eq!(place.acquire("anna", "c1"), "allow.new");
    // No answer waits for the disk that keeps it.
    let kept =
        || std::fs::read_to_string(place.path("spool/boot")).is_ok_and(|boot| boot.contains(&(later + 1).to_string()));
    eventually("the number to be kept", || kept().then_some(()));
    agent.kill();
    let mut agent = place.agent();
    agent.until_says("usherd knows this node");
    assert!(!agent.said.join("\n").contains("goes on with the next one"), "it was kept");
    assert_eq!(daemon.client().get("/v1/nodes").json()["nodes"][0]["epoch"], later + 1);
    assert_eq!(sessions(&daemon), ["call anna c1"], "a restart ends no call");
}

#[test]
fn a_daemon_that_lost_everything_is_told_again_g10() {
    let place = Place::new("");
    place.deadline_ms(2_000);
    let (daemon, _agent) = (place.daemon(), place.agent());
    for session in ["c1", "c2"] {
        assert_eq!(place.acquire("anna", session), if session == "c1" { "allow.new" } else { "allow.held" });
    }
    daemon.kill();
    place.forget();
    assert_eq!(place.release("c2"), "released.more unreachable");
    let daemon = place.daemon();
    until_sessions(&daemon, &["call anna c1"]);
    assert_eq!(place.release("c1"), "released.last");
}
