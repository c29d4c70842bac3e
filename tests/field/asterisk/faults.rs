//! usherd hangs, is gone, or comes back; Asterisk is killed: calls go on, and the books are right afterwards.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::kamailio::lab::{Sipp, users};
use usherd_testkit::kamailio::sip::{Dialog, Phone, hang_up};
use usherd_testkit::process::Killed;
use usherd_testkit::wait::eventually;

use super::lab::{Lab, PLANS, Plan};

const PHONES: &str = "127.0.0.1";
const TRUNK: &str = "127.0.0.2";

/// A call that goes out and is taken. Nobody waits longer for that than the shipped file says.
fn talks(lab: &Lab, anna: &mut Phone, trunk: &mut Phone, id: &str) -> Dialog {
    let dialled = monotonic_ns();
    let call = anna.invite("20", "0301234", id, "");
    let invite = trunk.receive("INVITE ", None);
    let waited = Duration::from_nanos(monotonic_ns() - dialled);
    assert!(waited < lab.plan.waits_max(), "{:?}: {id} waited {waited:?}", lab.plan);
    lab.talk(anna, call, trunk, &invite).0
}

/// The same, which ends.
fn goes_out(lab: &Lab, anna: &mut Phone, trunk: &mut Phone, id: &str) {
    let call = talks(lab, anna, trunk, id);
    hang_up(anna, call, trunk);
}

/// Everything was told, and nothing is held; also not by what the kernel kept, which is answered before a further call.
fn until_nothing_is_left(lab: &Lab, anna: &mut Phone, trunk: &mut Phone) {
    eventually("all ends to be told", || (lab.kept() == 0).then_some(()));
    goes_out(lab, anna, trunk, "behind");
    eventually("the books to be empty", || {
        (lab.sessions().is_empty() && lab.held() == 0 && lab.kept() == 0).then_some(())
    });
}

#[test]
fn calls_that_ended_while_usherd_hung_leave_no_seat() {
    let lab = Lab::new(Plan::Curl, 1);
    let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
    lab.usherd().pause();
    for number in 0..12 {
        goes_out(&lab, &mut anna, &mut trunk, &format!("hung{number}"));
    }
    assert_eq!(lab.unasked(), 12);
    lab.usherd().signal(Signal::CONT);
    until_nothing_is_left(&lab, &mut anna, &mut trunk);
}

#[test]
fn forty_calls_within_a_hang_of_usherd_leave_no_seat() {
    let mut lab = Lab::idle(Plan::Curl, 40, "", true);
    lab.add_users(40);
    lab.configure("", "");
    lab.start_asterisk();
    lab.usherd().pause();
    let hangs = monotonic_ns();
    let called = Sipp::callee("callee", TRUNK, lab.trunk_port);
    let callers =
        Sipp::caller_at((PHONES, lab.sip_port), "caller-announced", PHONES, &users(40), &["-r", "40", "-d", "500"]);
    callers.until_answered(40);
    let longest = Duration::from_secs_f64(callers.longest_ms() / 1_000.0);
    assert_eq!(callers.done().up_and_refused(), (40, 0));
    assert!(longest < Plan::Curl.waits_max(), "{longest:?}");
    assert_eq!((lab.unasked(), lab.kept()), (40, 40), "no end was taken");
    // A hang of three seconds, or as much longer as the calls took.
    eventually("three seconds", || (monotonic_ns() - hangs > 3_000_000_000).then_some(()));
    lab.usherd().signal(Signal::CONT);
    drop(called);
    until_nothing_is_left(&lab, &mut lab.phone("20"), &mut lab.trunk());
    eventually("the forty questions to be read", || {
        (lab.decided("allow.new") + lab.decided("allow.same") + lab.decided("ignore.stale") >= 41.0).then_some(())
    });
    assert_eq!((lab.held(), lab.sessions().len()), (0, 0));
}

#[test]
fn a_caller_who_gives_up_while_usherd_hangs_leaves_no_seat() {
    for plan in PLANS {
        let lab = Lab::new(plan, 1);
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        lab.usherd().pause();
        let call = anna.invite("20", "0301234", "given-up", "");
        anna.receive("100 ", None);
        anna.cancel(&call);
        lab.usherd().signal(Signal::CONT);
        until_nothing_is_left(&lab, &mut anna, &mut trunk);
    }
}

#[test]
fn the_end_of_an_unanswered_call_is_reported_after_an_outage() {
    for plan in PLANS {
        let mut lab = Lab::new(plan, 1);
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        let call = talks(&lab, &mut anna, &mut trunk, "long");
        lab.until_held(1);
        // From here on the keeper would look at the list in a minute only, if nobody told it.
        eventually("the first renewal", || (lab.decided("allow.same") == 1.0).then_some(()));
        lab.usherd.take().unwrap().kill();
        hang_up(&mut anna, call, &mut trunk);
        lab.usherd = Some(lab.site.start());
        assert_eq!(lab.held(), 1, "{plan:?}: its books say so");
        let back = monotonic_ns();
        lab.until_held(0);
        // A turn of 5 s, the 2 s that a question before may have taken, and busy cores.
        let waited = Duration::from_nanos(monotonic_ns() - back);
        assert!(waited < Duration::from_secs(20), "{plan:?}: {waited:?}");
        until_nothing_is_left(&lab, &mut anna, &mut trunk);
    }
}

#[test]
fn a_call_let_out_while_usherd_was_gone_is_booked_later() {
    for plan in PLANS {
        let mut lab = Lab::new(plan, 0);
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        lab.usherd.take().unwrap().kill();
        let call = talks(&lab, &mut anna, &mut trunk, "unasked");
        lab.usherd = Some(lab.site.start());
        lab.until_held(1);
        assert_eq!(lab.decided("allow.over"), 1.0, "{plan:?}");
        hang_up(&mut anna, call, &mut trunk);
        lab.until_held(0);
        eventually("the list to be empty", || (lab.kept() == 0).then_some(()));
    }
}

#[test]
fn a_long_call_is_renewed_beyond_its_ttl_and_a_lost_one_is_not() {
    for plan in PLANS {
        let mut lab = Lab::idle(plan, 2, "", true);
        // The keeper looks every 5 s.
        lab.hurried = vec![("ttl_s=900", "ttl_s=12"), ("${EPOCH} + 60]", "${EPOCH} + 1]")];
        lab.configure("", "");
        lab.start_asterisk();
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        lab.usherd().client().post(
            "/v1/acquire",
            "tenant=acme&subject=x&session=x&kind=call&direction=outbound&ttl_s=12&node=pbx1&epoch=1&seq=1",
        );
        let call = talks(&lab, &mut anna, &mut trunk, "long");
        assert_eq!(lab.held(), 2);
        lab.cli("dialplan reload");
        eventually("four renewals", || (lab.decided("allow.same") >= 4.0).then_some(()));
        assert_eq!(lab.sessions().len(), 1, "{plan:?}");
        assert_eq!(lab.sessions()[0]["subject"], "20", "{plan:?}: the other is over");
        hang_up(&mut anna, call, &mut trunk);
        lab.until_held(0);
        eventually("the keeper to go", || (!lab.cli("core show channels").contains("usherd-keep")).then_some(()));
    }
}

#[test]
fn alone_a_killed_asterisk_frees_its_seats_with_its_next_call() {
    for plan in PLANS {
        let mut lab = Lab::new(plan, 3);
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        talks(&lab, &mut anna, &mut trunk, "lost");
        eventually("the list to be on disk", || (lab.kept() == 1).then_some(()));
        // Asterisk writes its database within a second.
        usherd_testkit::wait::pause(Duration::from_secs(2));
        lab.kill_asterisk();
        assert_eq!(lab.held(), 1, "nobody released it");
        lab.start_asterisk();
        let mut bob = lab.phone("21");
        bob.invite("21", "0301234", "next", "");
        trunk.receive("INVITE ", None);
        eventually("the lost one to end", || (lab.sessions().len() == 1).then_some(()));
        assert_eq!(lab.sessions()[0]["subject"], "21", "{plan:?}");
    }
}

#[test]
fn calls_pass_at_once_while_usherd_is_gone_and_ask_later() {
    for plan in PLANS {
        let mut lab = Lab::new(plan, 0);
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        lab.usherd.take().unwrap().kill();
        goes_out(&lab, &mut anna, &mut trunk, "gone");
        lab.usherd = Some(lab.site.start());
        let call = anna.invite("20", "0301234", "back", "");
        assert_eq!(anna.outcome(&call), 403, "{plan:?}");
    }
}

#[test]
fn a_call_keeps_its_seat_over_a_restart_and_reports_its_end() {
    for plan in PLANS {
        let mut lab = Lab::new(plan, 1);
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        let (call, _) = lab.call(&mut anna, "20", "0301234", "long", &mut trunk);
        lab.usherd.take().unwrap().kill();
        lab.usherd = Some(lab.site.start());
        assert_eq!((lab.held(), lab.sessions().len()), (1, 1), "{plan:?}");
        hang_up(&mut anna, call, &mut trunk);
        lab.until_held(0);
    }
}

#[test]
fn a_caller_who_gives_up_while_it_rings_leaves_no_seat() {
    for plan in PLANS {
        let lab = Lab::new(plan, 1);
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        let call = anna.invite("20", "0301234", "ringing", "");
        let invite = trunk.receive("INVITE ", None);
        trunk.answer(&invite, "180 Ringing", "t", "");
        anna.receive("180 ", None);
        assert_eq!(lab.held(), 1, "{plan:?}: ringing counts");
        anna.cancel(&call);
        lab.until_held(0);
        assert_eq!(lab.sessions().len(), 0);
    }
}

/// The shipped script beside this Asterisk.
fn start_node(lab: &Lab, epoch: &str) -> Killed {
    let programs = lab.site.path("programs");
    std::fs::create_dir_all(&programs).unwrap();
    let asterisk = programs.join("asterisk");
    std::fs::write(&asterisk, format!("#!/bin/sh\nexec {} \"$@\"\n", lab.cli_command())).unwrap();
    std::os::unix::fs::chown(&asterisk, None, None).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&asterisk, mode).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/pbx/node/usherd-node"));
    script.args(["pbx1", "asterisk"]).env("PATH", path).env("USHERD_EPOCH", epoch).env("USHERD_HEARTBEAT_S", "0.1");
    script.env("USHERD_URL", format!("http://{}", lab.usherd().address())).stdin(Stdio::null());
    Killed(script.spawn().unwrap())
}

#[test]
fn usherd_node_ends_the_calls_of_a_killed_asterisk() {
    for plan in PLANS {
        let mut lab = Lab::new(plan, 3);
        let told = |lab: &Lab, epoch: &str| {
            let shown = format!("USHERD_EPOCH={epoch}");
            eventually("Asterisk to know its epoch", || {
                lab.cli("dialplan show globals").contains(&shown).then_some(())
            });
        };
        let node = start_node(&lab, "1700000000");
        told(&lab, "1700000000");
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        anna.invite("20", "0301234", "lost", "");
        trunk.receive("INVITE ", None);
        assert_eq!(lab.sessions()[0]["epoch"], 1_700_000_000_u64, "{plan:?}");
        lab.kill_asterisk();
        drop(node);
        assert_eq!(lab.held(), 1, "nobody released it");
        lab.start_asterisk();
        let _node = start_node(&lab, "1700000060");
        lab.until_held(0);
        told(&lab, "1700000060");
        anna.invite("20", "0301234", "next", "");
        trunk.receive("INVITE ", None);
        assert_eq!(lab.sessions()[0]["epoch"], 1_700_000_060_u64, "{plan:?}");
    }
}

#[test]
fn an_epoch_that_usherd_does_not_take_costs_no_count() {
    for plan in PLANS {
        let lab = Lab::new(plan, 1);
        // An agent, or usherd-node that has not told Asterisk yet, is at usherd with an epoch of its own.
        assert_eq!(lab.usherd().client().post("/v1/nodes/pbx1/hello", "epoch=1700000000").status, 200);
        let (mut trunk, mut anna, mut bob) = (lab.trunk(), lab.phone("20"), lab.phone("21"));
        let (call, _) = lab.call(&mut anna, "20", "0301234", "counted", &mut trunk);
        assert_eq!(lab.held(), 1, "{plan:?}");
        let other = bob.invite("21", "0301234", "full", "");
        assert_eq!(bob.outcome(&other), 403, "{plan:?}");
        hang_up(&mut anna, call, &mut trunk);
        lab.until_held(0);
    }
}
