//! Calls by many users at once: who gets a seat, and that every seat comes back.

use std::time::Duration;

use usherd_testkit::kamailio::lab::{Lab, Sipp, Transport, free_port, phones_ip, trunk_ip, users};
use usherd_testkit::kamailio::sip::Phone;
use usherd_testkit::wait::{eventually, pause};

#[test]
fn of_fifty_users_at_once_thirty_get_the_thirty_seats() {
    fifty_users_at_once(&Lab::over(Transport::Http, 30));
}

#[test]
fn thirty_of_fifty_users_at_once_get_a_seat_over_redis() {
    fifty_users_at_once(&Lab::over(Transport::Redis, 30));
}

fn fifty_users_at_once(lab: &Lab) {
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let callers = Sipp::caller(lab, "caller", phones_ip(), &users(50), &["-r", "1000", "-d", "3000"]);
    lab.until_held(30);
    let counts = callers.done();
    assert_eq!(counts.up_and_refused(), (30, 20), "{counts:?}");
    lab.until_held(0);
    assert_eq!(lab.decided("allow.new"), 30.0);
    assert_eq!(lab.decided("deny.full"), 20.0);
    assert_eq!(lab.metric("usherd_releases_total", "reason=\"node\""), 30.0, "each by its node, none by a timer");
    assert_eq!((lab.statistic("usherd_allowed"), lab.statistic("usherd_denied")), (30, 20));
}

#[test]
fn hundreds_of_calls_leave_the_books_balanced() {
    let lab = Lab::new(50);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(400), &["-r", "80", "-d", "1000"]);
    let (up, refused) = callers.done().up_and_refused();
    assert_eq!(up + refused, 400);
    assert!(up >= 200 && refused > 0, "{up} up, {refused} refused: the quota must matter");
    lab.until_held(0);
    let tenant = lab.usherd().client().get("/v1/tenants/acme").json();
    assert_eq!((tenant["peak"].as_u64(), tenant["sessions"].as_u64()), (Some(50), Some(0)), "{tenant}");
    assert_eq!(lab.decided("allow.new"), up as f64);
    assert_eq!(lab.metric("usherd_releases_total", "reason=\"node\""), up as f64);
    assert_eq!(lab.statistic("usherd_unanswered"), 0);
}

#[test]
fn inventories_amid_calls_take_and_give_no_seat() {
    let lab = Lab::new(50);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let mut callers = Sipp::caller(&lab, "caller", phones_ip(), &users(120), &["-r", "15", "-d", "6000"]);
    let mut most = 0;
    while !callers.has_ended() {
        // Due again, every second: a call that is being asked for must not be adopted, nor an old one be ended.
        lab.kamcmd(["pv.shvSet", "usherd_report", "int", "1"]);
        most = most.max(lab.statistic("active_dialogs"));
        pause(Duration::from_millis(100));
    }
    // Had a list ended calls that run, others would have taken their seats. A few of these are just ending.
    assert!((40..=53).contains(&most), "{most} calls up at once with 50 seats");
    let (up, refused) = callers.done().up_and_refused();
    assert!(up >= 50 && refused > 0 && up + refused == 120, "{up} up, {refused} refused: the quota must matter");
    lab.until_held(0);
    let inventories = lab.metric("usherd_http_requests_total", "route=\"inventory\"");
    assert!(inventories >= 8.0, "{inventories} inventories");
    // A call that ended is in no list any more, which may come before its release: then the list has ended it.
    let ended = ["node", "inventory"].map(|by| lab.metric("usherd_releases_total", &format!("reason=\"{by}\"")));
    assert_eq!(ended.iter().sum::<f64>(), up as f64, "each once: {ended:?}");
    assert_eq!(lab.decided("allow.over"), 0.0);
}

#[test]
fn five_calls_of_one_user_hold_one_seat() {
    let lab = Lab::new(1);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let five = "anna;0301234567;\n".repeat(5);
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &five, &["-r", "50", "-d", "2000"]);
    eventually("five calls", || (lab.sessions().len() == 5).then_some(()));
    assert_eq!(lab.held(), 1);
    assert_eq!(callers.done().up_and_refused(), (5, 0));
    lab.until_held(0);
    assert_eq!(lab.decided("allow.held"), 4.0);
}

#[test]
fn without_a_seat_only_inbound_and_emergency_calls_go_through() {
    let lab = Lab::new(0);
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let _phones = Sipp::callee("callee", phones_ip(), lab.phones_port);
    let own = Sipp::caller(&lab, "caller", phones_ip(), &users(10), &["-r", "100", "-d", "500"]);
    let inbound = Sipp::caller(&lab, "caller", trunk_ip(), &"outside;200;\n".repeat(10), &["-r", "100", "-d", "500"]);
    // As dialled, with the outside line in front, and with the plus that some phones put before every number.
    let emergency = "anna;112;\nben;0112;\ncara;+112;\ndora;110;";
    let emergency = Sipp::caller(&lab, "caller", phones_ip(), emergency, &["-r", "100", "-d", "500"]);
    assert_eq!(own.done().up_and_refused(), (0, 10));
    assert_eq!(inbound.done().up_and_refused(), (10, 0));
    assert_eq!(emergency.done().up_and_refused(), (4, 0));
    assert_eq!(lab.metric("usherd_decisions_total", "code=\"allow"), 0.0, "inbound and emergency are not asked for");
    assert_eq!((lab.held(), lab.sessions().len()), (0, 0));
}

#[test]
fn emergency_numbers_are_known_as_in_the_table_c14() {
    let mut lab = Lab::new(0);
    for prefix in ["-", "0", "9"] {
        lab.kamailio = None;
        let define = format!("USHERD_TRUNK_PREFIX=\"{}\"", prefix.trim_matches('-'));
        lab.extra = vec![define];
        lab.start_kamailio();
        let mut trunk = Phone::new(trunk_ip(), lab.trunk_port, lab.kamailio_port);
        let mut phones = Phone::new(phones_ip(), lab.phones_port, lab.kamailio_port);
        let mut anna = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
        for row in usherd_testkit::emergency::rows().into_iter().filter(|row| row.prefix == prefix) {
            let Some(target) = row.as_request_uri("acme.example") else { continue };
            let id = format!("row{}", row.line);
            anna.invite_uri("anna", &target, &id, "");
            match (row.is_emergency, row.for_all) {
                (true, _) if row.dialled.is_ascii() => drop(trunk.receive("INVITE ", Some(&id))),
                // What no phone can write, or only in letters of other alphabets, usherd knows when it is asked. Where it
                // goes then is for the site to say: this one sends to the phones what is no number of the trunk's.
                (true, _) => drop(phones.receive("INVITE ", Some(&id))),
                (false, true) => drop(anna.receive(" 403 ", Some(&id))),
                // A recipe may take a digit in front for an outside line.
                (false, false) => eventually(&row.dialled, || {
                    (trunk.received_of("INVITE ", &id) || anna.received_of(" 403 ", &id)).then_some(())
                }),
            }
        }
    }
}
