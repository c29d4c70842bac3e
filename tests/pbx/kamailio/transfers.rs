//! Legs that deliver a call: transfers, forks, forwarding. No seat may be missing for them (C5 to C9).

use usherd_testkit::kamailio::lab::{Lab, free_port, phones_ip, trunk_ip};
use usherd_testkit::kamailio::sip::{Dialog, Phone, connect, hang_up};
use usherd_testkit::wait::eventually;

/// The trunk side and the side of the phones.
fn parties(lab: &Lab) -> (Phone, Phone) {
    (
        Phone::new(trunk_ip(), lab.trunk_port, lab.kamailio_port),
        Phone::new(phones_ip(), lab.phones_port, lab.kamailio_port),
    )
}

#[test]
fn a_blind_transfer_of_an_inbound_call_needs_no_seat_t025() {
    let lab = Lab::new(0);
    let (mut trunk, mut phones) = parties(&lab);
    let inbound = trunk.invite("outside", "bob", "inbound", "");
    let invite = phones.receive("INVITE ", None);
    let (_, mut bob) = connect(&mut trunk, inbound, &mut phones, &invite, "bob");
    // Bob sends the caller to a colleague, and the caller's side calls there.
    phones.within(&mut bob, "REFER", "Refer-To: <sip:cara@acme.example>\r\nReferred-By: <sip:bob@acme.example>\r\n");
    let refer = trunk.receive("REFER ", None);
    trunk.answer(&refer, "202 Accepted", "", "");
    phones.receive(" 202 ", None);
    let moved = trunk.invite("outside", "cara", "moved", "Referred-By: <sip:bob@acme.example>\r\n");
    let invite = phones.receive("INVITE ", Some("moved"));
    let (moved, _) = connect(&mut trunk, moved, &mut phones, &invite, "cara");
    hang_up(&mut phones, bob, &mut trunk);
    assert_eq!((lab.held(), lab.sessions().len()), (0, 0));
    hang_up(&mut trunk, moved, &mut phones);
}

#[test]
fn a_callee_sent_on_needs_no_seat_but_a_forged_referral_does() {
    let lab = Lab::new(1);
    let (mut trunk, mut phones) = parties(&lab);
    let mut anna = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
    let call = anna.invite("anna", "bob", "internal", "");
    let invite = phones.receive("INVITE ", None);
    let (mut call, bob) = connect(&mut anna, call, &mut phones, &invite, "bob");
    assert_eq!(lab.held(), 1, "anna's, who calls");
    // Nobody was referred to this number: a header alone makes no delivery.
    let referred = "Referred-By: <sip:anna@acme.example>\r\n";
    let forged = phones.invite("bob", "0301234567", "forged", referred);
    phones.receive(" 403 ", Some(&forged.call_id));
    // Anna sends bob to an outside number. The leg is anna's wish, but bob's phone makes it (C8).
    anna.within(&mut call, "REFER", &format!("Refer-To: <sip:0309876543@acme.example>\r\n{referred}"));
    let refer = phones.receive("REFER ", None);
    phones.answer(&refer, "202 Accepted", "", "");
    anna.receive(" 202 ", None);
    let moved = phones.invite("bob", "0309876543", "moved", referred);
    let invite = trunk.receive("INVITE ", Some("moved"));
    let (moved, _) = connect(&mut phones, moved, &mut trunk, &invite, "outside");
    hang_up(&mut phones, bob, &mut anna);
    lab.until_held(0);
    hang_up(&mut phones, moved, &mut trunk);
}

#[test]
fn an_attended_transfer_holds_a_seat_until_it_is_done_t026() {
    let lab = Lab::new(1);
    let (mut trunk, mut phones) = parties(&lab);
    let inbound = trunk.invite("outside", "bob", "inbound", "");
    let invite = phones.receive("INVITE ", None);
    let (_, mut bob) = connect(&mut trunk, inbound, &mut phones, &invite, "bob");
    assert_eq!(lab.held(), 0);
    // Bob asks cara first: that is a call of his own (C6).
    let consultation = phones.invite("bob", "cara", "consultation", "");
    let invite = phones.receive("INVITE ", Some("consultation"));
    let mut cara = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
    let (consultation, of_cara) = connect(&mut phones, consultation, &mut cara, &invite, "cara");
    assert_eq!(lab.held(), 1);
    // Then he connects the two: the caller's side calls cara in place of him.
    let refer_to = format!("Refer-To: <sip:cara@acme.example?Replaces={}>\r\n", consultation.replaces());
    phones.within(&mut bob, "REFER", &refer_to);
    let refer = trunk.receive("REFER ", None);
    trunk.answer(&refer, "202 Accepted", "", "");
    phones.receive(" 202 ", None);
    let moved = trunk.invite("outside", "cara", "moved", "Replaces: consultation\r\n");
    let invite = phones.receive("INVITE ", Some("moved"));
    let (moved, _) = connect(&mut trunk, moved, &mut phones, &invite, "cara2");
    hang_up(&mut cara, of_cara, &mut phones);
    lab.until_held(0);
    hang_up(&mut phones, bob, &mut trunk);
    assert_eq!(lab.sessions().len(), 0, "the caller and cara talk on without a seat");
    hang_up(&mut trunk, moved, &mut phones);
}

/// The callee sends the caller to another number; both sides of it, up to the 202.
fn refer(callee: &mut Phone, own: &mut Dialog, caller: &mut Phone, refer_to: &str) {
    let headers = format!("Refer-To: <{refer_to}>\r\nReferred-By: <sip:callee@acme.example>\r\n");
    callee.within(own, "REFER", &headers);
    let refer = caller.receive("REFER ", Some(&own.call_id));
    caller.answer(&refer, "202 Accepted", "", "");
    callee.receive(" 202 ", Some(&own.call_id));
}

#[test]
fn a_caller_sent_on_keeps_one_seat_until_the_new_leg_ends() {
    let lab = Lab::new(1);
    let (mut trunk, mut phones) = parties(&lab);
    let mut anna = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
    let call = anna.invite("anna", "0301234567", "first", "");
    let invite = trunk.receive("INVITE ", None);
    let (_, mut outside) = connect(&mut anna, call, &mut trunk, &invite, "outside");
    refer(&mut trunk, &mut outside, &mut anna, "sip:0309876543@acme.example");
    // Anna's own call to somebody new, though not by her wish: asked for like the first, for the same seat.
    let moved = anna.invite("anna", "0309876543", "moved", "Referred-By: <sip:callee@acme.example>\r\n");
    let invite = trunk.receive("INVITE ", Some("moved"));
    let (moved, _) = connect(&mut anna, moved, &mut trunk, &invite, "other");
    assert_eq!((lab.held(), lab.sessions().len()), (1, 2));
    assert_eq!(lab.decided("allow.held"), 1.0);
    hang_up(&mut trunk, outside, &mut anna);
    eventually("the first leg to end", || (lab.sessions().len() == 1).then_some(()));
    assert_eq!(lab.held(), 1, "anna still talks on an own call");
    let refused = phones.invite("ben", "0301234567", "full", "");
    phones.receive(" 403 ", Some(&refused.call_id));
    hang_up(&mut anna, moved, &mut trunk);
    lab.until_held(0);
}

#[test]
fn a_referral_by_the_callee_gives_no_free_call_after_the_seat() {
    let lab = Lab::new(1);
    let (mut trunk, mut phones) = parties(&lab);
    let mut anna = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
    let call = anna.invite("anna", "bob", "internal", "");
    let invite = phones.receive("INVITE ", None);
    let (_, mut bob) = connect(&mut anna, call, &mut phones, &invite, "bob");
    refer(&mut phones, &mut bob, &mut anna, "sip:0309876543@acme.example");
    hang_up(&mut phones, bob, &mut anna);
    lab.until_held(0);
    // Now the seat is ben's; a friendly colleague does not make one.
    let call = phones.invite("ben", "0301234567", "ben", "");
    let invite = trunk.receive("INVITE ", Some("ben"));
    let (ben, _) = connect(&mut phones, call, &mut trunk, &invite, "outside");
    let referred = "Referred-By: <sip:callee@acme.example>\r\n";
    for refused in ["moved", "again"] {
        anna.invite("anna", "0309876543", refused, referred);
        anna.receive(" 403 ", Some(refused));
    }
    hang_up(&mut phones, ben, &mut trunk);
    lab.until_held(0);
    // With a seat free she gets it, also when the first leg has ended already.
    let moved = anna.invite("anna", "0309876543", "late", referred);
    let invite = trunk.receive("INVITE ", Some("late"));
    let (_, other) = connect(&mut anna, moved, &mut trunk, &invite, "other");
    assert_eq!(lab.held(), 1);
    hang_up(&mut trunk, other, &mut anna);
    lab.until_held(0);
}

#[test]
fn an_attended_transfer_ends_the_callees_seat_not_the_callers() {
    let lab = Lab::new(2);
    let (_trunk, mut phones) = parties(&lab);
    let [mut anna, mut cara] = [(); 2].map(|()| Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port));
    let call = anna.invite("anna", "bob", "internal", "");
    let invite = phones.receive("INVITE ", None);
    let (_, mut bob) = connect(&mut anna, call, &mut phones, &invite, "bob");
    assert_eq!(lab.held(), 1, "anna's, who calls");
    let consultation = phones.invite("bob", "cara", "consultation", "");
    let invite = phones.receive("INVITE ", Some("consultation"));
    let (consultation, of_cara) = connect(&mut phones, consultation, &mut cara, &invite, "cara");
    assert_eq!(lab.held(), 2, "and bob's, who consults (C6)");
    let refer_to = format!("sip:cara@acme.example?Replaces={}", consultation.replaces());
    refer(&mut phones, &mut bob, &mut anna, &refer_to);
    let moved = anna.invite("anna", "cara", "moved", "Replaces: consultation\r\n");
    let invite = phones.receive("INVITE ", Some("moved"));
    let (moved, _) = connect(&mut anna, moved, &mut phones, &invite, "cara2");
    hang_up(&mut cara, of_cara, &mut phones);
    lab.until_held(1);
    hang_up(&mut phones, bob, &mut anna);
    eventually("one call to be left", || (lab.sessions().len() == 1).then_some(()));
    assert_eq!((lab.held(), lab.sessions()[0]["subject"].as_str()), (1, Some("anna")));
    hang_up(&mut anna, moved, &mut phones);
    lab.until_held(0);
}

#[test]
fn the_emergency_desk_may_send_a_caller_on_without_a_seat_c14() {
    let lab = Lab::new(0);
    let (mut trunk, _phones) = parties(&lab);
    let mut anna = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
    let call = anna.invite("anna", "112", "help", "");
    let invite = trunk.receive("INVITE ", None);
    let (_, mut desk) = connect(&mut anna, call, &mut trunk, &invite, "desk");
    refer(&mut trunk, &mut desk, &mut anna, "sip:0301122334@acme.example");
    let moved = anna.invite("anna", "0301122334", "moved", "Referred-By: <sip:callee@acme.example>\r\n");
    let invite = trunk.receive("INVITE ", Some("moved"));
    let (moved, _) = connect(&mut anna, moved, &mut trunk, &invite, "hospital");
    hang_up(&mut trunk, desk, &mut anna);
    assert_eq!((lab.held(), lab.statistic("usherd_asked")), (0, 0));
    hang_up(&mut anna, moved, &mut trunk);
}

#[test]
fn a_call_forked_to_two_devices_needs_no_seat_t032() {
    let second = free_port(phones_ip());
    let lab = Lab::with(0, &[&format!("PHONES_TWO=\"{}:{second}\"", phones_ip())]);
    let (mut trunk, mut desk) = parties(&lab);
    let mut dect = Phone::new(phones_ip(), second, lab.kamailio_port);
    let inbound = trunk.invite("outside", "bob", "inbound", "");
    let at_desk = desk.receive("INVITE ", None);
    let at_dect = dect.receive("INVITE ", None);
    desk.answer(&at_desk, "180 Ringing", "desk", "");
    // Only a branch that is known to ring is cancelled, and two processes of Kamailio may swap two messages.
    trunk.receive(" 180 ", Some(&inbound.call_id));
    let (inbound, _) = connect(&mut trunk, inbound, &mut dect, &at_dect, "dect");
    let cancel = desk.receive("CANCEL ", None);
    desk.answer(&cancel, "200 OK", "desk", "");
    desk.answer(&at_desk, "487 Request Terminated", "desk", "");
    assert_eq!((lab.held(), lab.sessions().len()), (0, 0));
    hang_up(&mut trunk, inbound, &mut dect);
}

#[test]
fn an_inbound_call_forwarded_to_outside_needs_no_seat() {
    let lab = Lab::new(0);
    let (mut trunk, mut phones) = parties(&lab);
    let inbound = trunk.invite("outside", "bob", "inbound", "");
    let invite = phones.receive("INVITE ", None);
    phones.answer(&invite, "302 Moved Temporarily", "bob", "Contact: <sip:01701234567@acme.example>\r\n");
    let invite = trunk.receive("INVITE sip:0170", None);
    // Both ends are the trunk: one socket plays them one after the other.
    trunk.answer(&invite, "180 Ringing", "mobile", "");
    trunk.receive(" 180 ", Some(&inbound.call_id));
    assert_eq!((lab.held(), lab.sessions().len()), (0, 0));
    assert_eq!(lab.statistic("usherd_asked"), 0);
}

#[test]
fn a_diversion_header_counts_only_where_it_is_trusted() {
    let lab = Lab::new(0);
    let (_trunk, mut phones) = parties(&lab);
    let diverted = "Diversion: <sip:bob@acme.example>;reason=unconditional\r\n";
    let call = phones.invite("bob", "01701234567", "untrusted", diverted);
    phones.receive(" 403 ", Some(&call.call_id));
    let trusting = Lab::with(0, &["USHERD_TRUST_DIVERSION"]);
    let (mut trunk, mut phones) = parties(&trusting);
    let call = phones.invite("bob", "01701234567", "trusted", diverted);
    let invite = trunk.receive("INVITE ", None);
    let (call, _) = connect(&mut phones, call, &mut trunk, &invite, "mobile");
    assert_eq!(trusting.held(), 0);
    hang_up(&mut phones, call, &mut trunk);
}
