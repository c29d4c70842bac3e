//! usherd hangs, is gone, or comes back; Kamailio is killed: calls go on, and the books are right afterwards.

use std::ops::Range;

use rustix::process::Signal;
use usherd_testkit::kamailio::lab::{Lab, Sipp, Transport, phones_ip, trunk_ip, users};
use usherd_testkit::wait::eventually;

/// Longest that a call may wait for a usherd that is gone.
const GONE_MS_MAX: f64 = 600.0;

#[test]
fn calls_pass_while_usherd_hangs_and_are_booked_later() {
    // The time-out of http_client, which knows whole seconds only, and two busy cores.
    while_it_hangs(&Lab::over(Transport::Http, 5), 900.0..2_000.0);
}

#[test]
fn calls_pass_while_usherd_hangs_and_are_booked_over_redis() {
    // The time-out of a command, twice, and two busy cores.
    while_it_hangs(&Lab::over(Transport::Redis, 5), 900.0..2_000.0);
}

fn while_it_hangs(lab: &Lab, longest_ms: Range<f64>) {
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    lab.usherd().pause();
    let callers = Sipp::caller(lab, "caller", phones_ip(), &users(40), &["-r", "20", "-d", "10000"]);
    callers.until_answered(40);
    lab.usherd().signal(Signal::CONT);
    lab.until_held(40);
    let longest = callers.longest_ms();
    assert_eq!(callers.done().up_and_refused(), (40, 0));
    assert!(longest_ms.contains(&longest), "{longest} ms");
    lab.until_held(0);
    assert_eq!(lab.sessions().len(), 0);
}

#[test]
fn calls_pass_while_usherd_is_gone_and_are_booked_later() {
    while_it_is_gone(Lab::over(Transport::Http, 5));
}

#[test]
fn calls_pass_while_usherd_is_gone_and_are_booked_over_redis() {
    while_it_is_gone(Lab::over(Transport::Redis, 5));
}

fn while_it_is_gone(mut lab: Lab) {
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    lab.usherd.take().unwrap().kill();
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(40), &["-r", "20", "-d", "10000"]);
    callers.until_answered(40);
    // It comes back without its books, so that Kamailio must tell it everything.
    std::fs::remove_dir_all(lab.site.path("state")).unwrap();
    lab.usherd = Some(lab.site.start());
    lab.until_held(40);
    let longest = callers.longest_ms();
    assert_eq!(callers.done().up_and_refused(), (40, 0));
    assert!(longest < GONE_MS_MAX, "{longest} ms");
    lab.until_held(0);
    assert_eq!(lab.statistic("usherd_unanswered"), 40);
}

#[test]
fn the_second_daemon_is_asked_when_the_first_is_gone() {
    for transport in [Transport::Http, Transport::Redis] {
        the_second_is_asked(transport, Signal::KILL, GONE_MS_MAX);
    }
}

#[test]
fn the_second_daemon_is_asked_when_the_first_hangs() {
    // The time-outs of the first, as where there is no second.
    for transport in [Transport::Http, Transport::Redis] {
        the_second_is_asked(transport, Signal::STOP, 2_000.0);
    }
}

/// Both decide alone, so the second does not know this Kamailio until that has said hello.
fn the_second_is_asked(transport: Transport, fault: Signal, longest_ms_max: f64) {
    let mut lab = Lab::idle_over(transport, 5);
    let (_site, second) = lab.second(1);
    lab.start_kamailio();
    let kamailio = lab.kamailio.as_ref().unwrap();
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let callers = |count| Sipp::caller(&lab, "caller", phones_ip(), &users(count), &["-r", "20", "-d", "3000"]);
    assert_eq!(callers(2).done().up_and_refused(), (2, 0));
    assert_eq!((lab.decided("allow.new"), second.client().sum("usherd_decisions_total", "")), (2.0, 0.0));
    lab.usherd().signal(fault);
    let meanwhile = callers(4);
    meanwhile.until_answered(4);
    assert!(meanwhile.longest_ms() < longest_ms_max, "{transport:?}: {} ms", meanwhile.longest_ms());
    assert_eq!(meanwhile.done().up_and_refused(), (4, 0));
    kamailio.until_says("the other daemon is asked from now on");
    eventually("hello to the second", || (kamailio.said().matches("greeted as pbx1").count() == 2).then_some(()));
    eventually("the calls of before to end", || (second.client().held("acme") == 0).then_some(()));
    let last = callers(2);
    assert_eq!(last.done().up_and_refused(), (1, 1), "{transport:?}: the second has one seat, and decides");
    assert!(!kamailio.said().contains("usherd does not answer"), "{}", kamailio.said());
    eventually("the release", || (second.client().held("acme") == 0).then_some(()));
}

#[test]
fn inbound_and_emergency_do_not_wait_for_a_hanging_usherd() {
    let lab = Lab::new(0);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let _phones = Sipp::callee("callee", phones_ip(), lab.phones_port);
    lab.usherd().pause();
    let inbound = Sipp::caller(&lab, "caller", trunk_ip(), &"outside;200;\n".repeat(20), &["-r", "100", "-d", "500"]);
    let emergency = Sipp::caller(&lab, "caller", phones_ip(), &"anna;112;\n".repeat(20), &["-r", "100", "-d", "500"]);
    for calls in [inbound, emergency] {
        calls.until_answered(20);
        assert!(calls.longest_ms() < GONE_MS_MAX, "{} ms", calls.longest_ms());
        assert_eq!(calls.done().up_and_refused(), (20, 0));
    }
    assert_eq!(lab.statistic("usherd_unanswered"), 0, "nobody was asked");
}

#[test]
fn calls_of_a_killed_kamailio_end_with_its_next_hello() {
    let mut lab = Lab::new(30);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(20), &["-r", "100", "-d", "60000"]);
    lab.until_held(20);
    lab.kamailio.take().unwrap().kill();
    drop(callers);
    assert_eq!(lab.held(), 20, "nobody released them");
    lab.start_kamailio();
    lab.until_held(0);
    assert_eq!(lab.metric("usherd_releases_total", "reason=\"epoch\""), 20.0);
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(30), &["-r", "100", "-d", "500"]);
    assert_eq!(callers.done().up_and_refused(), (30, 0));
}

#[test]
fn two_of_one_name_do_not_fight_for_it_for_ever() {
    two_of_one_name(Transport::Http);
}

#[test]
fn two_of_one_name_do_not_fight_for_it_for_ever_over_redis() {
    two_of_one_name(Transport::Redis);
}

fn two_of_one_name(transport: Transport) {
    let lab = Lab::over(transport, 0);
    let said = |what: &str| lab.kamailio.as_ref().unwrap().until_says(what);
    // Another one of its name greets usherd, and once more when this one has taken the name back.
    let other = |epoch: u64| {
        let hello = format!("{{\"epoch\":{epoch}}}");
        assert_eq!(lab.usherd().client().post("/v1/nodes/pbx1/hello", &hello).status, 200);
    };
    let epoch = || lab.usherd().client().get("/v1/nodes").json()["nodes"][0]["epoch"].as_u64();
    other(2_000_000_000);
    said("greeted as pbx1, epoch 2000000001");
    other(2_000_000_005);
    said("usherd refuses the hello");
    // Nobody waits for that, and nobody is refused for it.
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(2), &["-d", "1000"]);
    assert_eq!(callers.done().up_and_refused(), (2, 0));
    assert_eq!((epoch(), lab.statistic("usherd_unanswered")), (Some(2_000_000_005), 2));
}

#[test]
fn a_clock_that_was_set_back_does_not_keep_kamailio_from_asking() {
    known_by(Transport::Http, 2_000_000_000);
    known_by(Transport::Redis, 2_000_000_000);
}

#[test]
fn a_node_known_by_milliseconds_does_not_stop_kamailio() {
    // As an agent counts; and where the last digits overflow.
    known_by(Transport::Http, 1_700_000_000_123);
    known_by(Transport::Redis, 1_699_999_999_999);
}

fn known_by(transport: Transport, epoch: u64) {
    let mut lab = Lab::idle_over(transport, 1);
    let later = format!("{{\"epoch\":{epoch}}}");
    assert_eq!(lab.usherd().client().post("/v1/nodes/pbx1/hello", &later).status, 200);
    lab.start_kamailio();
    assert_eq!(lab.usherd().client().get("/v1/nodes").json()["nodes"][0]["epoch"].as_u64(), Some(epoch + 1));
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(2), &["-d", "1000"]);
    assert_eq!(callers.done().up_and_refused(), (1, 1), "{transport:?}");
}

#[test]
fn a_node_known_by_the_last_epoch_is_reported_with_help() {
    let lab = Lab::new(1);
    let last = format!("{{\"epoch\":{}}}", 1_u64 << 63);
    assert_eq!(lab.usherd().client().post("/v1/nodes/pbx1/hello", &last).status, 200);
    lab.kamailio.as_ref().unwrap().until_says("usherd node forget pbx1");
}
