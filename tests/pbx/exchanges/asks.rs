//! For which calls the dial plans ask, read from the files themselves: emergencies, deliveries, and what phones write.

use super::dialplan::{Channel, Dialplan, End, matches};
use super::switch::Switch;
use super::templates::{Written, encoded, recipe};
use crate::emergency::rows;
use crate::process::{Site, Usherd};

const PLANS: [&str; 2] = ["extensions_usherd.conf", "extensions_usherd_agi.conf"];

/// A caller of these variables in one of Asterisk's dial plans, and what it asked for.
fn through_asterisk(
    file: &str,
    arguments: &str,
    variables: &[(&str, &str)],
    answer: &mut dyn FnMut(&Written) -> String,
) -> (End, Vec<Written>) {
    let plan = Dialplan::shipped(file);
    let mut asked = Vec::new();
    let mut answers = |written: &Written| {
        asked.push(written.clone());
        answer(written)
    };
    let mut all = vec![("CHANNEL", "PJSIP/20-00000001"), ("UNIQUEID", "1700000100.42")];
    all.extend(variables);
    let end = Channel::new(&plan, &all, &mut answers).ask(arguments);
    (end, asked)
}

fn refuses(_: &Written) -> String {
    "deny.full tenant".to_owned()
}

/// A caller in FreeSWITCH; it ended, what it asked for, and what the other end would know.
fn through_freeswitch(
    variables: &[(&str, &str)],
    answer: &mut dyn FnMut(&Written) -> String,
) -> (Option<End>, Vec<Written>, bool) {
    let mut asked = Vec::new();
    let mut answers = |written: &Written| {
        asked.push(written.clone());
        ("200", answer(written))
    };
    let mut all = vec![("uuid", "6c1e9a7e"), ("usherd_subject", "20"), ("usherd_direction", "outbound")];
    all.extend(variables);
    let mut call = Switch::new(&all, &mut answers);
    let end = call.execute("usherd_ask");
    let hands_on = call.exported.contains_key("usherd_inbound") && !call.variables.contains_key("usherd_inbound");
    (end, asked, hands_on)
}

#[test]
fn emergency_numbers_are_known_as_in_the_table_c14() {
    let opensips = recipe("opensips/usherd.cfg");
    let opensips = opensips.split("if ($rU =~ \"").nth(1).unwrap().split('"').next().unwrap();
    // Each of these lists the digit 0 for an outside line.
    for row in rows().into_iter().filter(|row| row.for_all && row.prefix != "9") {
        for file in PLANS {
            let arguments = format!("20,{},outbound", encoded(&row.dialled));
            let (end, asked) = through_asterisk(file, &arguments, &[], &mut refuses);
            assert_eq!(asked.is_empty(), row.is_emergency, "{file}: {}", row.dialled);
            assert_eq!(matches!(end, End::Dialled(_)), row.is_emergency, "{file}: {}: {end:?}", row.dialled);
        }
        let (end, asked, _) = through_freeswitch(&[("usherd_to", &row.dialled)], &mut refuses);
        assert_eq!((asked.is_empty(), end.is_none()), (row.is_emergency, row.is_emergency), "{}", row.dialled);
        assert_eq!(matches("-E", opensips, &row.dialled), row.is_emergency, "{}", row.dialled);
    }
}

#[test]
fn an_emergency_call_leaves_asterisk_by_its_own_context_however_it_is_written() {
    for file in PLANS {
        for dialled in ["112", "+112", "112#", "1-1-2", "(112)", " 112 ", "1/1.2"] {
            let (end, _) = through_asterisk(file, &format!("20,{},outbound", encoded(dialled)), &[], &mut refuses);
            assert_eq!(end, End::Dialled("PJSIP/112@trunk".to_owned()), "{dialled}");
        }
    }
}

#[test]
fn what_delivers_a_call_is_not_asked_for_and_a_consultation_is_c5_c6_c8() {
    let own = "1700000100.42";
    for (variables, is_asked) in [
        (&[("BLINDTRANSFER", "PJSIP/21-00000002")][..], false),
        (&[("FORWARDERNAME", "PJSIP/21-00000002")], false),
        (&[("USHERD_INBOUND", "1")], false),
        (&[("USHERD_CALLER", "1700000099.7")], false),
        (&[("USHERD_CALLER", own)], true),
        (&[("USHERD_INBOUND", "1"), ("ATTENDEDTRANSFER", "PJSIP/21-00000002")], true),
        (&[("USHERD_INBOUND", "1"), ("ATTENDEDTRANSFER", "x"), ("BLINDTRANSFER", "PJSIP/21-2")], false),
        (&[], true),
    ] {
        for file in PLANS {
            let (end, asked) = through_asterisk(file, "20,0301234,outbound", variables, &mut refuses);
            assert_eq!(!asked.is_empty(), is_asked, "{file}: {variables:?}");
            assert_eq!(end == End::Returned, !is_asked, "{file}: {variables:?}");
        }
    }
    let number = ("usherd_to", "0301234");
    let (end, asked, _) = through_freeswitch(&[number, ("usherd_inbound", "true")], &mut refuses);
    assert_eq!((end, asked.len()), (None, 0));
    let (end, asked, hands_on) = through_freeswitch(&[number], &mut |_| "allow.new".to_owned());
    assert_eq!((end, asked.len(), hands_on), (None, 1, true), "the other end can be handed on");
}

#[test]
fn arguments_that_a_phone_has_mixed_up_are_asked_for_in_the_name_of_its_channel() {
    for file in PLANS {
        for bare in ["20,112,0301234,outbound", "n)(o,0301234,outbound", "20,112,(,0301234,outbound", "20,0301234"] {
            let (end, asked) = through_asterisk(file, bare, &[], &mut refuses);
            assert_eq!((end, asked.len()), (End::Refused("21".to_owned()), 1), "{bare}");
            assert!(asked[0].body.contains("subject=PJSIP%2F20&"), "{bare}: {asked:?}");
            assert!(asked[0].body.contains("&direction=outbound&"), "{bare}: {asked:?}");
            assert!(asked[0].body.ends_with("&to="), "{bare}: {asked:?}");
        }
        let (_, asked) = through_asterisk(file, ",0301234,outbound", &[], &mut refuses);
        assert!(asked[0].body.contains("subject=PJSIP%2F20&"), "a phone without a number: {asked:?}");
        let of_the_pbx = [("CHANNEL", "Local/0301234@from-phones-00000001;2")];
        let (end, asked) = through_asterisk(file, ",0301234,outbound", &of_the_pbx, &mut refuses);
        assert_eq!((end, asked.len()), (End::Returned, 0), "a call of the PBX itself");
    }
}

#[test]
fn a_line_break_in_a_name_or_number_is_no_line_of_its_own() {
    for file in PLANS {
        let arguments = "20%0D%0AUSHERD_CODE:%20x,0301%0D%0A,outbound";
        let plan = Dialplan::shipped(file);
        let mut answers = refuses;
        let lines =
            [("CHANNEL", "PJSIP/20-1"), ("CALLERID(num)", "20\r\nagi_network_script: x"), ("CALLERID(dnid)", "1\n")];
        let mut call = Channel::new(&plan, &lines, &mut answers);
        call.ask(arguments);
        for (name, value) in &call.variables {
            let is_sent = name.starts_with("USHERD_") || file.contains("agi") && name.starts_with("CALLERID");
            assert!(!is_sent || !value.contains(['\r', '\n']), "{file}: {name} is {value:?}");
        }
    }
}

#[test]
fn asterisk_keeps_what_usherd_must_hear_again_unless_an_agent_is_beside() {
    const ENTRY: &str = "DB(usherd/42/1700000100.42)";
    for file in PLANS {
        let plan = Dialplan::shipped(file);
        for (epoch, asked, released, is_kept_meanwhile, is_kept_then) in [
            ("", "allow.new", "released.last", true, false),
            ("1700000000", "allow.new", "ignore.stale", true, false),
            ("", "allow.new", "", true, true),
            ("", "", "", true, true),
            ("", "deny.full tenant", "released.none", false, false),
            ("none", "allow.new", "", false, false),
        ] {
            let mut answers =
                |written: &Written| if written.target.ends_with("acquire") { asked } else { released }.to_owned();
            let variables = [
                ("CHANNEL", "PJSIP/20-1"),
                ("UNIQUEID", "1700000100.42"),
                ("EPOCH", "1700000100"),
                ("USHERD_EPOCH", epoch),
            ];
            let mut call = Channel::new(&plan, &variables, &mut answers);
            call.ask("20,0301234,outbound");
            let case = format!("{file}: {epoch}, {asked}, {released}");
            assert_eq!(call.variables.contains_key(ENTRY), is_kept_meanwhile, "{case}");
            assert_eq!(call.originated.len(), usize::from(is_kept_meanwhile), "{case}: a keeper");
            call.hang_up();
            assert_eq!(call.variables.contains_key(ENTRY), is_kept_then, "{case}");
            if is_kept_then {
                assert!(call.variables[ENTRY].starts_with("1700000100tenant=acme&subject=20&session=pbx1-"), "{case}");
                assert_eq!(call.variables["USHERD_DUE"], "1", "{case}");
            }
        }
    }
}

/// A daemon with one seat, asked by the recipe's own words.
fn one_seat() -> (Site, Usherd) {
    let site = Site::new("", &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n")]);
    let usherd = site.start();
    (site, usherd)
}

/// What the daemon answers to a form, whichever way it was written.
fn answered(usherd: &Usherd, written: &Written) -> String {
    let (path, form) = match written.target.split_once('?') {
        Some((path, query)) => (path, query.to_owned()),
        None => (written.target.as_str(), written.body.clone()),
    };
    let path = if path.starts_with("/v1/") { path.to_owned() } else { format!("/v1{path}") };
    usherd.client().post(&path, &form).body
}

#[test]
fn an_epoch_that_usherd_does_not_take_costs_no_count() {
    let (_site, usherd) = one_seat();
    for node in ["pbx1", "fs1"] {
        assert_eq!(usherd.client().post(&format!("/v1/nodes/{node}/hello"), "epoch=1700000000").status, 200);
    }
    usherd.client().post("/v1/acquire", "tenant=acme&subject=x&session=x&kind=call&direction=outbound&ttl_s=600");
    for file in PLANS {
        let (end, asked) =
            through_asterisk(file, "20,0301234,outbound", &[], &mut |written| answered(&usherd, written));
        assert_eq!((end, asked.len()), (End::Refused("21".to_owned()), 2), "{file}: once with an order, once without");
    }
    let (end, asked, _) = through_freeswitch(&[("usherd_to", "0301234")], &mut |written| answered(&usherd, written));
    assert_eq!((end, asked.len()), (Some(End::Refused("CALL_REJECTED".to_owned())), 2));
}

#[test]
fn what_usherd_cannot_take_is_asked_for_in_other_words() {
    let (_site, usherd) = one_seat();
    usherd.client().post("/v1/acquire", "tenant=acme&subject=x&session=x&kind=call&direction=outbound&ttl_s=600");
    let long = "7".repeat(200);
    for file in PLANS {
        for (who, number, questions) in [(long.as_str(), "0301", 2), ("20%0D%0A", "0301", 1), ("20", long.as_str(), 1)]
        {
            let arguments = format!("{who},{number},outbound");
            let (end, asked) = through_asterisk(file, &arguments, &[], &mut |written| answered(&usherd, written));
            assert_eq!((end, asked.len()), (End::Refused("21".to_owned()), questions), "{file}: {arguments}");
        }
    }
}
