//! The features of Kamailio 6 alone: a question that no process waits for, and a time-out in milliseconds.

use std::time::Duration;

use rustix::process::Signal;
use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::kamailio::lab::{Lab, Sipp, Transport, free_port, phones_ip, trunk_ip, users};
use usherd_testkit::kamailio::sip::{Phone, connect, hang_up};
use usherd_testkit::place::newer_root;
use usherd_testkit::relay::Pace;
use usherd_testkit::wait::eventually;

fn idle(seats: u32) -> Lab {
    // An older Kamailio would not take the files.
    newer_root();
    Lab::idle_over(Transport::HttpAsync, seats)
}

fn lab(seats: u32) -> Lab {
    let mut lab = idle(seats);
    lab.start_kamailio();
    lab
}

#[test]
fn of_fifty_users_at_once_thirty_get_the_thirty_seats() {
    let lab = lab(30);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(50), &["-r", "1000", "-d", "3000"]);
    lab.until_held(30);
    let counts = callers.done();
    assert_eq!(counts.up_and_refused(), (30, 20), "{counts:?}");
    lab.until_held(0);
    assert_eq!(lab.decided("allow.new"), 30.0);
    assert_eq!((lab.statistic("usherd_allowed"), lab.statistic("usherd_denied")), (30, 20));
    assert_eq!(lab.statistic("usherd_unanswered"), 0, "each was decided");
}

#[test]
fn without_a_seat_only_inbound_and_emergency_calls_go_through() {
    let lab = lab(0);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let _phones = Sipp::callee("callee", phones_ip(), lab.phones_port);
    let own = Sipp::caller(&lab, "caller", phones_ip(), &users(10), &["-r", "100", "-d", "500"]);
    let inbound = Sipp::caller(&lab, "caller", trunk_ip(), &"outside;200;\n".repeat(10), &["-r", "100", "-d", "500"]);
    let emergency = Sipp::caller(&lab, "caller", phones_ip(), "anna;112;\nben;0112;\ncara;+112;", &["-d", "500"]);
    assert_eq!(own.done().up_and_refused(), (0, 10));
    assert_eq!(inbound.done().up_and_refused(), (10, 0));
    assert_eq!(emergency.done().up_and_refused(), (3, 0));
    assert_eq!((lab.held(), lab.sessions().len()), (0, 0));
}

#[test]
fn calls_pass_while_usherd_hangs_and_are_booked_later() {
    let lab = lab(5);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    lab.usherd().pause();
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(40), &["-r", "20", "-d", "10000"]);
    callers.until_answered(40);
    lab.usherd().signal(Signal::CONT);
    lab.until_held(40);
    let longest = callers.longest_ms();
    assert_eq!(callers.done().up_and_refused(), (40, 0));
    let time_out = time_out_ms();
    assert!((0.8 * time_out..time_out + 1_000.0).contains(&longest), "{longest} ms");
    lab.until_held(0);
    assert_eq!(lab.sessions().len(), 0);
}

/// How long a question of the shipped file may take; a busy machine may need another second.
fn time_out_ms() -> f64 {
    let file = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/pbx/kamailio/usherd-http-6.cfg"));
    let file = file.unwrap();
    file.split("#!define USHERD_TIMEOUT_MS ").nth(1).unwrap().lines().next().unwrap().parse().unwrap()
}

#[test]
fn forty_calls_within_a_hang_of_usherd_leave_no_seat() {
    let lab = lab(40);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    lab.usherd().pause();
    let hangs = monotonic_ns();
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(40), &["-r", "40", "-d", "500"]);
    callers.until_answered(40);
    let longest = callers.longest_ms();
    assert_eq!(callers.done().up_and_refused(), (40, 0));
    assert!(longest < time_out_ms() + 1_000.0, "{longest} ms");
    // A hang of three seconds, or as much longer as the calls took.
    eventually("three seconds", || (monotonic_ns() - hangs > 3_000_000_000).then_some(()));
    assert_eq!((lab.statistic("usherd_unanswered"), lab.statistic("usherd_released")), (40, 0));
    lab.usherd().signal(Signal::CONT);
    eventually("all releases", || (lab.statistic("usherd_released") == 40).then_some(()));
    // Who was asked for before the first silence is behind its release, whichever is read first.
    let asked = lab.statistic("usherd_asked") as f64;
    eventually("the questions to be read", || {
        (lab.decided("allow.new") + lab.decided("ignore.stale") >= asked).then_some(())
    });
    lab.until_held(0);
    assert_eq!(lab.sessions().len(), 0);
}

#[test]
fn an_answer_that_comes_too_late_takes_no_seat() {
    let mut lab = idle(1);
    let relay = lab.start_kamailio_behind_relay();
    let mut trunk = Phone::new(trunk_ip(), lab.trunk_port, lab.kamailio_port);
    let mut anna = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
    relay.answers(Pace::After(Duration::from_millis(600)));
    let call = anna.invite("anna", "0301234567", "late", "");
    let invite = trunk.receive("INVITE ", Some("late"));
    let (call, _) = connect(&mut anna, call, &mut trunk, &invite, "t");
    relay.answers(Pace::After(Duration::ZERO));
    lab.until_held(1);
    hang_up(&mut anna, call, &mut trunk);
    lab.until_held(0);
    assert_eq!(lab.statistic("usherd_unanswered"), 1);
}

#[test]
fn a_call_given_up_while_the_answer_is_pending_leaves_no_seat() {
    let lab = lab(1);
    let mut trunk = Phone::new(trunk_ip(), lab.trunk_port, lab.kamailio_port);
    let mut anna = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
    lab.usherd().pause();
    let call = anna.invite("anna", "0301234567", "pending", "");
    eventually("the call to be asked for", || (lab.statistic("usherd_asked") == 1).then_some(()));
    anna.cancel(&call);
    lab.usherd().signal(Signal::CONT);
    eventually("its release", || (lab.statistic("usherd_released") == 1).then_some(()));
    lab.until_held(0);
    assert!(!trunk.received("INVITE "), "nobody is called any more");
}

#[test]
fn a_subject_reaches_usherd_as_it_is() {
    let lab = lab(5);
    let mut trunk = Phone::new(trunk_ip(), lab.trunk_port, lab.kamailio_port);
    let mut phone = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
    for (number, user) in ["+4930123", "a&x", "20,112"].into_iter().enumerate() {
        let id = format!("subject{number}");
        let call = phone.invite(user, "0301234567", &id, "");
        let invite = trunk.receive("INVITE ", Some(&id));
        let (call, _) = connect(&mut phone, call, &mut trunk, &invite, "t");
        assert_eq!(lab.sessions()[0]["subject"], user);
        hang_up(&mut phone, call, &mut trunk);
        lab.until_held(0);
    }
}

#[test]
fn calls_of_a_killed_kamailio_end_with_its_next_hello() {
    let mut lab = lab(10);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(10), &["-r", "100", "-d", "60000"]);
    lab.until_held(10);
    lab.kamailio.take().unwrap().kill();
    drop(callers);
    lab.start_kamailio();
    lab.until_held(0);
    assert_eq!(lab.metric("usherd_releases_total", "reason=\"epoch\""), 10.0);
}
