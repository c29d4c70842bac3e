//! usherd hangs, is gone, or comes back; Asterisk is killed: calls go on, and the books are right afterwards.

use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::lab::{Lab, PLANS, Plan};
use crate::kamailio::sip::{Phone, hang_up};
use crate::process::wait_for;

/// One call that goes out, is taken, and ends. (Without a time-out of its own it never would, while usherd stands.)
fn goes_out(lab: &Lab, anna: &mut Phone, trunk: &mut Phone, id: &str) {
    let call = anna.invite("20", "0301234", id, "");
    let invite = trunk.receive("INVITE ", None);
    let (call, _) = lab.talk(anna, call, trunk, &invite);
    hang_up(anna, call, trunk);
}

#[test]
fn a_usherd_that_hung_has_no_seat_left_over_from_calls_that_ended_meanwhile() {
    let lab = Lab::new(Plan::Curl, 1);
    let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
    lab.usherd().pause();
    for number in 0..12 {
        goes_out(&lab, &mut anna, &mut trunk, &format!("hung{number}"));
    }
    lab.usherd().signal(Signal::CONT);
    // Whatever the kernel kept is answered before this call.
    goes_out(&lab, &mut anna, &mut trunk, "behind");
    wait_for("the books to be empty", || (lab.sessions().is_empty() && lab.held() == 0).then_some(()));
}

#[test]
fn a_usherd_that_is_gone_lets_calls_out_at_once_and_is_asked_again_when_it_is_back() {
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
fn a_usherd_that_restarts_amid_a_call_keeps_its_seat_and_hears_of_its_end() {
    for plan in PLANS {
        let mut lab = Lab::new(plan, 1);
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        let call = anna.invite("20", "0301234", "long", "");
        let invite = trunk.receive("INVITE ", None);
        let (call, _) = lab.talk(&mut anna, call, &mut trunk, &invite);
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
struct Node(Child);

impl Node {
    fn start(lab: &Lab, epoch: &str) -> Self {
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
        Node(script.spawn().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn with_usherd_node_the_calls_of_a_killed_asterisk_end_with_its_next_start() {
    for plan in PLANS {
        let mut lab = Lab::new(plan, 3);
        let told = |lab: &Lab, epoch: &str| {
            let shown = format!("USHERD_EPOCH={epoch}");
            wait_for("Asterisk to know its epoch", || lab.cli("dialplan show globals").contains(&shown).then_some(()));
        };
        let node = Node::start(&lab, "1700000000");
        told(&lab, "1700000000");
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        anna.invite("20", "0301234", "lost", "");
        trunk.receive("INVITE ", None);
        assert_eq!(lab.sessions()[0]["epoch"], 1_700_000_000_u64, "{plan:?}");
        lab.kill_asterisk();
        drop(node);
        assert_eq!(lab.held(), 1, "nobody released it");
        lab.start_asterisk();
        let _node = Node::start(&lab, "1700000060");
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
        let call = anna.invite("20", "0301234", "counted", "");
        let invite = trunk.receive("INVITE ", None);
        let (call, _) = lab.talk(&mut anna, call, &mut trunk, &invite);
        assert_eq!(lab.held(), 1, "{plan:?}");
        let other = bob.invite("21", "0301234", "full", "");
        assert_eq!(bob.outcome(&other), 403, "{plan:?}");
        hang_up(&mut anna, call, &mut trunk);
        lab.until_held(0);
    }
}
