//! Legs that deliver a call: transfers, forwarding, follow-me (rules C5 to C9, T189). No seat may be missing for them.

use usherd_testkit::kamailio::sip::hang_up;

use super::lab::{Lab, PLANS, refer};

#[test]
fn a_blind_transfer_of_an_inbound_call_needs_no_seat_t189() {
    for plan in PLANS {
        let lab = Lab::new(plan, 0);
        let (mut trunk, mut bob) = (lab.trunk(), lab.phone("21"));
        let (_, mut of_bob) = lab.call(&mut trunk, "0176", "21", "inbound", &mut bob);
        refer(&mut bob, &mut of_bob, "0309876");
        trunk.receive("INVITE sip:0309876@", None);
        assert_eq!((lab.held(), lab.sessions().len()), (0, 0), "{plan:?}");
    }
}

#[test]
fn an_inbound_call_that_a_phone_forwards_needs_no_seat_t189() {
    for plan in PLANS {
        let lab = Lab::new(plan, 0);
        let (mut trunk, mut bob) = (lab.trunk(), lab.phone("21"));
        trunk.invite("0176", "21", "inbound", "");
        let invite = bob.receive("INVITE ", None);
        bob.answer(&invite, "302 Moved Temporarily", "t", "Contact: <sip:0309876@acme.example>\r\n");
        trunk.receive("INVITE sip:0309876@", None);
        assert_eq!((lab.held(), lab.sessions().len()), (0, 0), "{plan:?}");
    }
}

#[test]
fn follow_me_through_the_own_context_needs_no_seat_t189() {
    let extensions =
        "[from-trunk]\nexten => 60,1,Set(__USHERD_INBOUND=1)\n same => n,Dial(PJSIP/21&Local/0309876@from-phones)\n";
    for plan in PLANS {
        let lab = Lab::with(plan, 0, extensions, "");
        let (mut trunk, mut bob) = (lab.trunk(), lab.phone("21"));
        trunk.invite("0176", "60", "inbound", "");
        bob.receive("INVITE ", None);
        trunk.receive("INVITE sip:0309876@", None);
        assert_eq!((lab.held(), lab.sessions().len()), (0, 0), "{plan:?}");
    }
}

#[test]
fn what_an_own_call_dials_on_delivers_it() {
    // Free inside, and a colleague who is reached outside: the leg to there starts nothing.
    let extensions = "[from-phones]\nexten => 70,1,Gosub(usherd-ask,s,1(20,70,internal))\n same => n,Dial(Local/0309876@from-phones)\n";
    for plan in PLANS {
        let lab = Lab::with(plan, 0, extensions, "[sessions]\ninternal_calls = \"free\"\n");
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        anna.invite("20", "70", "internal", "");
        trunk.receive("INVITE sip:0309876@", None);
        assert_eq!(lab.held(), 0, "{plan:?}");
    }
}

#[test]
fn a_call_handed_to_a_colleague_gives_its_seat_back_c8() {
    for plan in PLANS {
        let lab = Lab::new(plan, 1);
        let (mut trunk, mut anna, mut bob) = (lab.trunk(), lab.phone("20"), lab.phone("21"));
        let (mut call, _) = lab.call(&mut anna, "20", "0301234", "own", &mut trunk);
        assert_eq!(lab.held(), 1);
        refer(&mut anna, &mut call, "21");
        bob.receive("INVITE ", None);
        lab.until_held(0);
        assert_eq!(lab.sessions().len(), 0, "{plan:?}: nobody is asked for the outside number");
    }
}

#[test]
fn a_caller_sent_on_by_a_colleague_keeps_one_seat() {
    for plan in PLANS {
        let lab = Lab::new(plan, 1);
        let (mut trunk, mut anna, mut bob) = (lab.trunk(), lab.phone("20"), lab.phone("21"));
        let (call, mut of_bob) = lab.call(&mut anna, "20", "21", "own", &mut bob);
        refer(&mut bob, &mut of_bob, "0309876");
        let invite = trunk.receive("INVITE sip:0309876@", None);
        trunk.answer(&invite, "180 Ringing", "t", "");
        assert_eq!((lab.held(), lab.sessions().len()), (1, 1), "{plan:?}");
        anna.within(&mut call.clone(), "BYE", "");
        lab.until_held(0);
    }
}

#[test]
fn a_caller_sent_outside_by_a_colleague_needs_a_seat_c2() {
    for plan in PLANS {
        let lab = Lab::with(plan, 0, "", "[sessions]\ninternal_calls = \"free\"\n");
        let (mut trunk, mut anna, mut bob) = (lab.trunk(), lab.phone("20"), lab.phone("21"));
        let (_call, mut of_bob) = lab.call(&mut anna, "20", "21", "own", &mut bob);
        refer(&mut bob, &mut of_bob, "0309876");
        usherd_testkit::wait::eventually("the answer of usherd", || (lab.decided("deny.full") == 1.0).then_some(()));
        anna.receive("BYE ", None);
        assert!(!trunk.received("INVITE "), "{plan:?}: nobody is called");
    }
}

#[test]
fn a_second_route_as_somebody_else_is_the_same_call_c20() {
    let extensions = "[from-phones]\nexten => _5X.,1,Gosub(usherd-ask,s,1(20,${EXTEN:1},outbound))\n same => n,Dial(PJSIP/${EXTEN:1}@trunk)\n \
                      same => n,Set(CALLERID(num)=4930555)\n same => n,Gosub(usherd-ask,s,1(${CALLERID(num)},${EXTEN:1},outbound))\n \
                      same => n,Dial(PJSIP/${EXTEN:1}@trunk)\n";
    for plan in PLANS {
        let lab = Lab::with(plan, 1, extensions, "");
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        let call = anna.invite("20", "50301234", "own", "");
        let busy = trunk.receive("INVITE ", None);
        trunk.answer(&busy, "486 Busy Here", "t", "");
        trunk.receive("ACK ", None);
        let invite = trunk.receive("INVITE ", None);
        let (call, _) = lab.talk(&mut anna, call, &mut trunk, &invite);
        assert_eq!((lab.held(), lab.sessions()[0]["subject"].clone()), (1, "20".into()), "{plan:?}");
        hang_up(&mut anna, call, &mut trunk);
        lab.until_held(0);
    }
}

#[test]
fn a_consultation_needs_a_seat_and_leaves_the_first_call_c6() {
    for plan in PLANS {
        let lab = Lab::new(plan, 1);
        let (mut trunk, mut bob, mut cara) = (lab.trunk(), lab.phone("21"), lab.phone("22"));
        let (inbound, of_bob) = lab.call(&mut trunk, "0176", "21", "inbound", &mut bob);
        assert_eq!(lab.held(), 0);
        let (consultation, _) = lab.call(&mut bob, "21", "22", "consultation", &mut cara);
        assert_eq!(lab.held(), 1, "{plan:?}");
        hang_up(&mut bob, consultation, &mut cara);
        lab.until_held(0);
        // Without a seat the second call is refused, and the first goes on.
        lab.usherd()
            .client()
            .post("/v1/acquire", "tenant=acme&subject=x&session=x&kind=call&direction=outbound&ttl_s=600");
        let refused = bob.invite("21", "22", "refused", "");
        assert_eq!(bob.outcome(&refused), 403);
        hang_up(&mut trunk, inbound, &mut bob);
        drop(of_bob);
    }
}

#[test]
fn a_consultation_ends_with_its_attended_transfer_c7_t026() {
    for plan in PLANS {
        let lab = Lab::new(plan, 1);
        let (mut trunk, mut bob) = (lab.trunk(), lab.phone("21"));
        let (_, mut of_bob) = lab.call(&mut trunk, "0176", "21", "inbound", &mut bob);
        let consultation = bob.invite("21", "0309876", "consultation", "");
        let invite = trunk.receive("INVITE sip:0309876@", None);
        let (consultation, _) = lab.talk(&mut bob, consultation, &mut trunk, &invite);
        assert_eq!(lab.held(), 1, "{plan:?}");
        refer(&mut bob, &mut of_bob, &format!("0309876@acme.example?Replaces={}", consultation.replaces()));
        lab.until_held(0);
        assert_eq!(lab.sessions().len(), 0, "{plan:?}");
        let outside = lab.cli("core show channels concise").matches("PJSIP/trunk-").count();
        assert_eq!(outside, 2, "{plan:?}: they talk on");
    }
}

#[test]
fn hold_changes_nothing_c9_t029() {
    for plan in PLANS {
        let lab = Lab::new(plan, 1);
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        let (mut call, _) = lab.call(&mut anna, "20", "0301234", "own", &mut trunk);
        anna.hold(&mut call);
        assert_eq!((lab.held(), lab.sessions().len()), (1, 1), "{plan:?}");
        hang_up(&mut anna, call, &mut trunk);
        lab.until_held(0);
    }
}

#[test]
fn parking_ends_the_seat_and_retrieving_needs_none_c9_t028() {
    let extensions = "[from-phones]\ninclude => parkedcalls\n";
    for plan in PLANS {
        let lab = Lab::with(plan, 1, extensions, "");
        let (mut trunk, mut bob, mut cara) = (lab.trunk(), lab.phone("21"), lab.phone("22"));
        let (mut call, _) = lab.call(&mut bob, "21", "0301234", "own", &mut trunk);
        refer(&mut bob, &mut call, "700");
        usherd_testkit::wait::eventually("the call to be parked", || {
            lab.cli("parking show default").contains("PJSIP/trunk-").then_some(())
        });
        lab.until_held(0);
        let taken = cara.invite("22", "701", "taken", "");
        assert_eq!(cara.outcome(&taken), 200, "{plan:?}");
        assert_eq!((lab.held(), lab.sessions().len()), (0, 0), "{plan:?}");
    }
}

#[test]
fn picking_up_a_ringing_call_needs_no_seat_c9_t031() {
    let extensions = "[from-phones]\nexten => _*8XX,1,PickupChan(PJSIP/${EXTEN:2}-,p)\n";
    for plan in PLANS {
        let lab = Lab::with(plan, 0, extensions, "");
        let (mut trunk, mut bob, mut cara) = (lab.trunk(), lab.phone("21"), lab.phone("22"));
        trunk.invite("0176", "21", "inbound", "");
        let invite = bob.receive("INVITE ", None);
        bob.answer(&invite, "180 Ringing", "t", "");
        trunk.receive(" 180 ", None);
        let taken = cara.invite("22", "*821", "taken", "");
        assert_eq!(cara.outcome(&taken), 200, "{plan:?}");
        trunk.receive(" 200 ", Some("inbound"));
        assert_eq!((lab.held(), lab.sessions().len()), (0, 0), "{plan:?}");
    }
}

#[test]
fn a_consultation_by_phone_keys_during_inbound_is_asked_for_c6() {
    // One key for a number outside: the prompt in between may swallow others.
    let extensions = "[from-trunk]\nexten => 61,1,Set(__USHERD_INBOUND=1)\n same => n,Dial(PJSIP/21,,tT)\n\
                      [from-phones]\nexten => 7,1,Gosub(usherd-ask,s,1(21,0309876,outbound))\n same => n,Dial(PJSIP/0309876@trunk)\n";
    let lab = Lab::with(super::lab::Plan::Curl, 0, extensions, "");
    let (mut trunk, mut bob) = (lab.trunk(), lab.phone("21"));
    let (_, mut of_bob) = lab.call(&mut trunk, "0176", "61", "inbound", &mut bob);
    for key in ["*", "2"] {
        bob.press(&mut of_bob, key);
    }
    usherd_testkit::wait::eventually("the question whom to call", || {
        lab.log().contains("Playing 'pbx-transfer").then_some(())
    });
    bob.press(&mut of_bob, "7");
    usherd_testkit::wait::eventually("the answer of usherd", || {
        lab.log().contains("USHERD_CODE=deny.full").then_some(())
    });
    assert!(!trunk.received("INVITE sip:0309"), "nobody is called");
}
