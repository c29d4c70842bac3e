//! Texts that phones write, and numbers that are dialled: none decides by itself whether a call is asked for.

use usherd_testkit::emergency::{escaped, rows};
use usherd_testkit::kamailio::sip::hang_up;

use super::lab::{Lab, PLANS};

#[test]
fn whatever_a_phone_calls_itself_or_dials_it_is_asked_for() {
    let long = "7".repeat(100);
    let callers = [
        ("", "20,112", "0301234"),
        ("\"l,m\" ", "20", "0301234"),
        ("\"n)(o\" ", "n)(o", "0301234"),
        ("\"q\\\"r\" ", "20%22,112", "0301234"),
        ("", "20,112,(", "0301234"),
        ("", "20,(112", "0301234)"),
        ("", "20$%7BEXTEN%7D", "0301234"),
        ("", "20%22%20%7C%20%221", "0301234"),
        ("", "%FF", "0301234"),
        ("", "20%0D%0A", "0301234"),
        // As lines of the head that a script gets, or of an event.
        ("", "20%0D%0Aagi_network_script:%20acquire%3Fto=112", "0301234"),
        ("", "20", "0301%0D%0Aagi_network_script:%20acquire%3Fto=112"),
        ("", &"7".repeat(150), "0301234"),
        ("", "20", "0301234,112"),
        ("", "20", "0112,1"),
        ("", "20", "0301234)(112"),
        ("", "20", &format!("0{long}")),
        ("", "20", &format!("0112{}30", "-".repeat(64))),
    ];
    for plan in PLANS {
        let lab = Lab::new(plan, 0);
        let mut liar = lab.liar();
        let calls: Vec<_> = callers
            .iter()
            .enumerate()
            .map(|(number, (name, from, to))| {
                let target = format!("sip:{to}@acme.example");
                liar.invite_named(name, from, &target, &format!("liar{number}"), "")
            })
            .collect();
        for (call, said) in calls.iter().zip(&callers) {
            assert_eq!(liar.outcome(call), 403, "{plan:?}: {said:?}");
        }
        assert!(!lab.trunk().received("INVITE "), "{plan:?}");
    }
}

#[test]
fn an_admin_who_forgot_the_encoding_loses_no_count() {
    let extensions = "[from-phones]\nexten => _5X.,1,Gosub(usherd-ask,s,1(${CALLERID(num)},${EXTEN},outbound))\n same => n,Dial(PJSIP/${EXTEN}@trunk)\n";
    for plan in PLANS {
        let lab = Lab::with(plan, 0, extensions, "");
        let mut liar = lab.liar();
        for (number, (from, to)) in
            [("20,112", "501234"), ("n)(o", "501234"), ("20,112,(", "501234"), ("20", "501234,112"), ("20,(112", "50)")]
                .into_iter()
                .enumerate()
        {
            let call = liar.invite(from, to, &format!("bare{number}"), "");
            assert_eq!(liar.outcome(&call), 403, "{plan:?}: {from}, {to}");
        }
    }
}

#[test]
fn who_is_counted_by_the_phone_is_not_taken_for_its_neighbour() {
    let extensions = "[from-phones]\nexten => _5X.,1,Gosub(usherd-ask,s,1(${CALLERID(num)},${EXTEN},outbound))\n same => n,Dial(PJSIP/${EXTEN}@trunk)\n";
    for plan in PLANS {
        let mut lab = Lab::idle(plan, 5, "", true);
        lab.liar = "acme-door-2";
        lab.configure(extensions, "");
        lab.start_asterisk();
        let (mut liar, mut trunk) = (lab.liar(), lab.trunk());
        // Its number mixes up the arguments.
        let (call, _) = lab.call(&mut liar, "20,112", "501234", "by-phone", &mut trunk);
        assert_eq!(lab.sessions()[0]["subject"], "PJSIP/acme-door-2", "{plan:?}");
        hang_up(&mut liar, call, &mut trunk);
        lab.until_held(0);
    }
}

#[test]
fn a_person_is_counted_by_the_number_as_it_is() {
    for plan in PLANS {
        let lab = Lab::new(plan, 5);
        let (mut liar, mut trunk) = (lab.liar(), lab.trunk());
        for (number, from) in ["20", "+4930123", "a&x", "20,112"].into_iter().enumerate() {
            let (mut call, _) = lab.call(&mut liar, from, "0301234", &format!("name{number}"), &mut trunk);
            assert_eq!(lab.sessions()[0]["subject"], from, "{plan:?}");
            liar.within(&mut call, "BYE", "");
            trunk.receive("BYE ", None);
            lab.until_held(0);
        }
    }
}

#[test]
fn emergency_numbers_are_known_as_in_the_table_c14() {
    for plan in PLANS {
        // Whatever the example has no extension for is sent on, as from a context that takes everything.
        let lab = Lab::with(
            plan,
            0,
            "[from-phones]\nexten => _.,1,Gosub(usherd-ask,s,1(20,${URIENCODE(${EXTEN})},outbound))\n same => n,Dial(PJSIP/1@trunk)\n",
            "",
        );
        let (mut anna, mut trunk) = (lab.liar(), lab.trunk());
        // The recipe lists the digit 0 for an outside line.
        let rows: Vec<_> = rows().into_iter().filter(|row| row.prefix != "9" && row.for_all).collect();
        let sent = rows.iter().filter(|row| row.as_request_uri("acme.example").is_some());
        let mut refused = Vec::new();
        for row in sent {
            let target = format!("sip:{}@acme.example", escaped(&row.dialled));
            let call = anna.invite_uri("20", &target, &format!("row{}", row.line), "");
            if row.is_emergency {
                let invite = trunk.receive("INVITE ", None);
                trunk.answer(&invite, "486 Busy Here", "t", "");
                assert_ne!(anna.outcome(&call), 403, "{plan:?}: {}", row.dialled);
            } else {
                // They hear the announcement all at once.
                refused.push((call, &row.dialled));
            }
        }
        for (call, dialled) in refused {
            assert_eq!(anna.outcome(&call), 403, "{plan:?}: {dialled}");
        }
        assert_eq!(lab.sessions().len(), 0);
    }
}
