//! Calls by many users at once: who gets a seat, and that every seat comes back.

use usherd_testkit::kamailio::lab::{Sipp, users};
use usherd_testkit::kamailio::sip::Dialog;
use usherd_testkit::wait::eventually;

use super::lab::{Lab, PLANS, Plan};

const PHONES: &str = "127.0.0.1";
const TRUNK: &str = "127.0.0.2";

fn with_users(plan: Plan, seats: u32, count: u32) -> Lab {
    let mut lab = Lab::idle(plan, seats, "", true);
    lab.add_users(count);
    lab.configure("", "");
    lab.start_asterisk();
    lab
}

#[test]
fn of_thirty_users_at_once_twenty_get_the_twenty_seats() {
    for plan in PLANS {
        let lab = with_users(plan, 20, 30);
        let mut trunk = lab.trunk();
        let callers = Sipp::caller_at((PHONES, lab.sip_port), "caller-held", PHONES, &users(30), &["-r", "1000"]);
        let mut calls: Vec<Dialog> = (0..20).map(|_| lab.take(&mut trunk)).collect();
        // However late a busy Asterisk takes the last INVITE: all talk until everybody was decided.
        eventually("thirty decisions", || (lab.decided("allow.new") + lab.decided("deny.full") >= 30.0).then_some(()));
        assert_eq!((lab.decided("allow.new"), lab.decided("deny.full"), lab.unasked()), (20.0, 10.0, 0), "{plan:?}");
        assert_eq!((lab.held(), lab.sessions().len()), (20, 20), "{plan:?}");
        for call in &mut calls {
            trunk.within(call, "BYE", "");
        }
        assert_eq!(callers.done().up_and_refused(), (20, 10), "{plan:?}");
        assert!(!trunk.received("INVITE "), "{plan:?}: nobody else is called");
        lab.until_held(0);
        assert_eq!(lab.sessions().len(), 0);
        assert_eq!(lab.metric("usherd_releases_total", "reason=\"node\""), 20.0, "each by its node, none by a timer");
    }
}

#[test]
fn calls_that_come_and_go_leave_the_books_balanced() {
    let lab = with_users(Plan::Curl, 6, 80);
    let _trunk = Sipp::callee("callee", TRUNK, lab.trunk_port);
    let callers =
        Sipp::caller_at((PHONES, lab.sip_port), "caller-announced", PHONES, &users(80), &["-r", "8", "-d", "1500"]);
    let (up, refused) = callers.done().up_and_refused();
    assert!(up + refused == 80 && up >= 20 && refused > 0, "{up} up, {refused} refused: the quota must matter");
    assert_eq!(lab.unasked(), 0, "each was decided");
    lab.until_held(0);
    let tenant = lab.usherd().client().get("/v1/tenants/acme").json();
    assert_eq!((tenant["peak"].as_u64(), tenant["sessions"].as_u64()), (Some(6), Some(0)), "{tenant}");
    assert_eq!(lab.decided("allow.new"), up as f64);
    assert_eq!(lab.metric("usherd_releases_total", "reason=\"node\""), up as f64);
}

#[test]
fn without_a_seat_only_inbound_and_emergency_calls_go_through() {
    for plan in PLANS {
        let lab = Lab::new(plan, 0);
        let (mut trunk, mut anna, mut bob) = (lab.trunk(), lab.phone("20"), lab.phone("21"));
        let own = anna.invite("20", "0301234", "own", "");
        assert_eq!(anna.outcome(&own), 403, "{plan:?}");
        for (number, dialled) in
            ["112", "110", "0112", "0110", "+112", "112#", "0112#", "+0110"].into_iter().enumerate()
        {
            lab.call(&mut anna, "20", dialled, &format!("emergency{number}"), &mut trunk);
        }
        lab.call(&mut trunk, "0176", "21", "inbound", &mut bob);
        assert_eq!(lab.metric("usherd_decisions_total", "code=\"allow"), 0.0, "{plan:?}: neither is asked for");
        assert_eq!((lab.held(), lab.sessions().len()), (0, 0));
    }
}

#[test]
fn two_calls_of_one_user_hold_one_seat() {
    for plan in PLANS {
        let lab = Lab::new(plan, 1);
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        let (mut first, _) = lab.call(&mut anna, "20", "0301", "first", &mut trunk);
        let (mut second, _) = lab.call(&mut anna, "20", "0302", "second", &mut trunk);
        assert_eq!((lab.held(), lab.sessions().len()), (1, 2), "{plan:?}");
        anna.within(&mut first, "BYE", "");
        eventually("the first to end", || (lab.sessions().len() == 1).then_some(()));
        assert_eq!(lab.held(), 1);
        anna.within(&mut second, "BYE", "");
        lab.until_held(0);
    }
}

#[test]
fn the_page_can_be_checked_as_it_says() {
    let lab = Lab::new(Plan::Curl, 1);
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/pbx/asterisk/README.md")).unwrap();
    let file = page.split("usherd-check <<'END'\n").nth(1).unwrap().split("END\n").next().unwrap();
    let mut trunk = lab.trunk();
    lab.call_file(file);
    trunk.receive("INVITE sip:0301234@", None);
    assert_eq!(lab.sessions()[0]["subject"], "20");
    assert!(lab.cli("dialplan show usherd-ask").contains("usherd-ask"));
}
