//! A usherd that is slow: its answers are waited for and count, and too late ones hold neither a call nor a seat.

use std::ops::Range;
use std::time::Duration;

use usherd_testkit::kamailio::lab::{Lab, Sipp, Transport, free_port, phones_ip, trunk_ip, users};
use usherd_testkit::kamailio::sip::{Phone, connect, hang_up};
use usherd_testkit::relay::{Pace, Relay};
use usherd_testkit::wait::eventually;

const AT_ONCE: Pace = Pace::After(Duration::ZERO);

/// A Kamailio that asks over a wire of the test's.
fn behind_relay(transport: Transport, seats: u32) -> (Lab, Relay) {
    let mut lab = Lab::idle_over(transport, seats);
    let relay = lab.start_kamailio_behind_relay();
    (lab, relay)
}

fn milliseconds(ms: u64) -> Pace {
    Pace::After(Duration::from_millis(ms))
}

#[test]
fn a_slow_answer_is_waited_for_and_decides() {
    // Well below the time-out of one second. SIPp's clock is a few milliseconds coarse.
    slow_answers(Transport::Http, 300, 280.0..1_000.0);
}

#[test]
fn a_slow_answer_is_waited_for_and_decides_over_redis() {
    // Well below the time-out of 500 ms, which is tried twice.
    slow_answers(Transport::Redis, 120, 100.0..500.0);
}

fn slow_answers(transport: Transport, delay_ms: u64, waits_ms: Range<f64>) {
    let (lab, relay) = behind_relay(transport, 3);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    relay.answers(milliseconds(delay_ms));
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(7), &["-r", "100", "-d", "3000"]);
    callers.until_answered(3);
    let longest = callers.longest_ms();
    assert_eq!(lab.held(), 3);
    assert_eq!(callers.done().up_and_refused(), (3, 4));
    assert!(waits_ms.contains(&longest), "{longest} ms");
    lab.until_held(0);
    assert_eq!((lab.statistic("usherd_allowed"), lab.statistic("usherd_denied")), (3, 4));
    assert_eq!(lab.statistic("usherd_unanswered"), 0, "nobody gave up on an answer");
    assert_eq!(lab.decided("allow.over"), 0.0);
}

#[test]
fn who_queues_behind_a_slow_usherd_waits_a_second_at_most() {
    a_queue(Transport::Http, 400);
}

#[test]
fn a_call_behind_a_slow_usherd_waits_a_second_over_redis() {
    a_queue(Transport::Redis, 120);
}

/// Eight at once are asked for; forty come at once.
fn a_queue(transport: Transport, delay_ms: u64) {
    let (lab, relay) = behind_relay(transport, 40);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    relay.answers(milliseconds(delay_ms));
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(40), &["-r", "1000", "-d", "5000"]);
    callers.until_answered(40);
    let longest = callers.longest_ms();
    // The second, the answer that was asked for last, and two busy cores.
    assert!(longest < 2_000.0, "{longest} ms");
    let (allowed, unanswered) = (lab.statistic("usherd_allowed"), lab.statistic("usherd_unanswered"));
    assert!(allowed >= 16 && allowed + unanswered == 40, "{allowed} allowed, {unanswered} went out unasked");
    // Who was not asked for is booked all the same.
    lab.until_held(40);
    assert_eq!(callers.done().up_and_refused(), (40, 0));
    relay.answers(AT_ONCE);
    lab.until_held(0);
    assert_eq!(lab.sessions().len(), 0);
}

#[test]
fn an_answer_after_the_timeout_leaves_no_seat() {
    late_answers(Transport::Http, 900.0..2_000.0);
}

#[test]
fn an_answer_after_the_timeout_leaves_no_seat_over_redis() {
    late_answers(Transport::Redis, 900.0..2_000.0);
}

fn late_answers(transport: Transport, waits_ms: Range<f64>) {
    // Two are booked though nobody hears of it, four are refused though nobody hears of it.
    let (lab, relay) = behind_relay(transport, 2);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    relay.answers(milliseconds(2_500));
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(6), &["-r", "1000", "-d", "2000"]);
    callers.until_answered(6);
    let longest = callers.longest_ms();
    assert!(waits_ms.contains(&longest), "{longest} ms");
    assert_eq!(lab.held(), 2, "it did decide");
    assert_eq!(callers.done().up_and_refused(), (6, 0));
    // All have ended while every answer comes too late: their releases wait.
    assert_eq!(lab.statistic("usherd_unanswered"), 6);
    relay.answers(AT_ONCE);
    lab.until_held(0);
    eventually("the releases", || (lab.statistic("usherd_released") == 6).then_some(()));
    assert_eq!((lab.held(), lab.sessions().len()), (0, 0));
}

#[test]
fn a_question_that_arrives_after_its_release_books_nothing_t065() {
    late_question(Transport::Http);
}

#[test]
fn a_question_after_its_release_books_nothing_over_redis_t065() {
    late_question(Transport::Redis);
}

fn late_question(transport: Transport) {
    let (lab, relay) = behind_relay(transport, 1);
    let mut trunk = Phone::new(trunk_ip(), lab.trunk_port, lab.kamailio_port);
    let mut anna = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
    relay.questions(Pace::Held);
    let call = anna.invite("anna", "0301234567", "late", "");
    // Nothing of it has reached usherd, and the call goes out.
    let invite = trunk.receive("INVITE ", None);
    let (call, _) = connect(&mut anna, call, &mut trunk, &invite, "t");
    hang_up(&mut anna, call, &mut trunk);
    relay.questions(AT_ONCE);
    eventually("its release", || (lab.statistic("usherd_released") == 1).then_some(()));
    assert_eq!((lab.decided("allow.new"), lab.decided("ignore.stale")), (0.0, 0.0), "it is still on its way");
    relay.let_go();
    eventually("the late question", || (lab.decided("ignore.stale") >= 1.0).then_some(()));
    assert_eq!((lab.decided("allow.new"), lab.held(), lab.sessions().len()), (0.0, 0, 0));
}
