//! For which calls the dial plans ask, read from the files themselves: emergencies, deliveries, and what phones write.

use usherd_testkit::emergency::rows;
use usherd_testkit::process::{Site, Usherd};

use super::DIALOG;
use super::dialplan::{Channel, Dialplan, End, matches};
use super::switch::Switch;
use super::templates::{Written, encoded, opensips, recipe};

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
        let said = answer(written);
        (if said.starts_with('{') { "400" } else { "200" }, said)
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
fn an_emergency_call_uses_its_own_context_however_written() {
    for file in PLANS {
        for dialled in ["112", "+112", "112#", "1-1-2", "(112)", " 112 ", "1/1.2"] {
            let (end, _) = through_asterisk(file, &format!("20,{},outbound", encoded(dialled)), &[], &mut refuses);
            assert_eq!(end, End::Dialled("PJSIP/112@trunk".to_owned()), "{dialled}");
        }
    }
}

#[test]
fn a_consultation_is_asked_for_and_a_delivery_is_not_c5_c6_c8() {
    let own = "1700000100.42";
    for (variables, is_asked) in [
        (&[("FORWARDERNAME", "PJSIP/21-00000002")][..], false),
        // A caller whom the called one sends on: the first call may have been free.
        (&[("BLINDTRANSFER", "PJSIP/21-00000002")], true),
        (&[("BLINDTRANSFER", "PJSIP/21-00000002"), ("USHERD_CALLER", own)], true),
        (&[("BLINDTRANSFER", "PJSIP/21-00000002"), ("USHERD_CALLER", "1700000099.7")], false),
        (&[("BLINDTRANSFER", "PJSIP/21-00000002"), ("USHERD_INBOUND", "1")], false),
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
fn asterisk_asks_a_second_daemon_where_the_first_does_not() {
    let named = ("USHERD_SECOND", "http://192.0.2.2:7788");
    let unavailable = r#"{"type":"/problems/unavailable","status":503}"#;
    for (variables, first, second, addresses, end) in [
        (&[named][..], "", "allow.new", 2, End::Returned),
        (&[named], unavailable, "allow.new", 2, End::Returned),
        (&[named], "", "deny.full tenant", 2, End::Refused("21".to_owned())),
        (&[named], "", "", 2, End::Returned),
        (&[named], "allow.new", "deny.full tenant", 1, End::Returned),
        (&[named], "deny.full tenant", "allow.new", 1, End::Refused("21".to_owned())),
        (&[], "", "deny.full tenant", 1, End::Returned),
    ] {
        let mut answer = |written: &Written| {
            let said = if written.target.starts_with("http://192.0.2.2:7788/") { second } else { first };
            said.to_owned()
        };
        let (ended, asked) = through_asterisk(PLANS[0], "20,0301234,outbound", variables, &mut answer);
        assert_eq!((ended, asked.len()), (end, addresses), "{variables:?} {first} {second}: {asked:?}");
        assert!(asked.iter().all(|written| written.body == asked[0].body), "the same numbers: {asked:?}");
    }
    // It is released where it was asked for last.
    let plan = Dialplan::shipped(PLANS[0]);
    let mut told = Vec::new();
    let mut answers = |written: &Written| {
        told.push(written.target.clone());
        if written.target.starts_with('/') { String::new() } else { "allow.new".to_owned() }
    };
    let mut call = Channel::new(&plan, &[("CHANNEL", "PJSIP/20-1"), ("UNIQUEID", "1.2"), named], &mut answers);
    assert_eq!((call.ask("20,0301234,outbound"), call.hang_up()), (End::Returned, End::Returned));
    assert_eq!(told[1..], ["http://192.0.2.2:7788/v1/acquire", "http://192.0.2.2:7788/v1/release"]);
}

#[test]
fn mixed_up_arguments_are_asked_in_the_name_of_the_channel() {
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
fn a_phone_with_a_hyphen_in_its_name_is_somebody_of_its_own() {
    for file in PLANS {
        for (channel, subject) in [
            ("PJSIP/acme-101-00000012", "PJSIP%2Facme-101"),
            ("PJSIP/20-00000012", "PJSIP%2F20"),
            ("SIP/lobby-door-2-0000001f", "SIP%2Flobby-door-2"),
            ("Console/dsp", "Console%2Fdsp"),
        ] {
            let named = [("CHANNEL", channel)];
            let wanted = format!("subject={subject}&");
            let (_, asked) = through_asterisk(file, ",0301234,outbound", &named, &mut refuses);
            assert!(asked[0].body.contains(&wanted), "{file}: {channel}: {asked:?}");
            let mut malformed = |_: &Written| "{\"type\":\"/problems/malformed\"}".to_owned();
            let (end, asked) = through_asterisk(file, "20,0301234,outbound", &named, &mut malformed);
            assert_eq!((end, asked.len()), (End::Returned, 2), "{file}: {channel}");
            assert!(asked[1].body.contains(&wanted), "{file}: {channel}: {asked:?}");
        }
    }
}

#[test]
fn only_what_was_malformed_is_asked_again_in_other_words() {
    for file in PLANS {
        for (problem, questions) in [("malformed", 2), ("unavailable", 1), ("rate", 1), ("not-permitted", 1)] {
            let mut answer = |_: &Written| format!("{{\"type\":\"/problems/{problem}\"}}");
            let (end, asked) = through_asterisk(file, "20,0301234,outbound", &[], &mut answer);
            assert_eq!((end, asked.len()), (End::Returned, questions), "{file}: {problem}");
        }
    }
}

#[test]
fn a_call_asked_for_twice_stays_with_the_first_subject_c20() {
    const ENTRY: &str = "DB(usherd/42/1700000100.42)";
    for file in PLANS {
        let (_site, usherd) = one_seat();
        let plan = Dialplan::shipped(file);
        let mut answers = |written: &Written| answered(&usherd, written);
        let variables = [("CHANNEL", "PJSIP/20-1"), ("UNIQUEID", "1700000100.42"), ("EPOCH", "1700000100")];
        let mut call = Channel::new(&plan, &variables, &mut answers);
        assert_eq!(call.ask("20,0301234,outbound"), End::Returned);
        let kept = call.variables[ENTRY].clone();
        // The trunk was busy: the second route, with the number that it shows.
        assert_eq!(call.ask("4930555,0301234,outbound"), End::Returned, "{file}");
        assert_eq!(call.variables["USHERD_CODE"], "allow.same", "{file}");
        assert_eq!(call.variables[ENTRY], kept, "{file}: what is renewed");
        assert_eq!(usherd.client().list("/v1/tenants/acme/sessions", "sessions")[0]["subject"], "20", "{file}");
        call.hang_up();
        assert_eq!(usherd.client().get("/v1/tenants/acme").json()["held"], 0, "{file}");
    }
}

#[test]
fn only_a_decision_about_seats_refuses_c20() {
    let opensips = recipe("opensips/usherd.cfg");
    let opensips = opensips.split("$avp(usherd_code) =~ \"").nth(1).unwrap().split('"').next().unwrap();
    for (code, refuses) in [
        ("deny.full tenant", true),
        ("deny.full pool", true),
        ("deny.inactive ended", true),
        ("deny.unknown_tenant", true),
        ("deny.conflict", false),
        ("deny.fuller", false),
        ("ignore.stale", false),
        ("", false),
    ] {
        for file in PLANS {
            // The letters that are left of a code and its detail say no more of where it ends.
            if code != "deny.fuller" {
                let (end, _) = through_asterisk(file, "20,0301234,outbound", &[], &mut |_| code.to_owned());
                assert_eq!(end == End::Refused("21".to_owned()), refuses, "{file}: {code}");
            }
        }
        let (end, ..) = through_freeswitch(&[("usherd_to", "0301234")], &mut |_| code.to_owned());
        assert_eq!(end.is_some(), refuses, "freeswitch: {code}");
        assert_eq!(matches("-E", opensips, code), refuses, "opensips: {code}");
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
fn asterisk_keeps_reports_to_repeat_unless_it_has_an_agent() {
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

/// The daemon's answer to a form, whichever way it was written.
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
    let longer = format!("0112{}30", "-".repeat(64));
    for (who, number, questions) in [
        (long.as_str(), "0301", 2),
        ("20\r\n", "0301", 2),
        ("20", long.as_str(), 2),
        ("20", &longer, 2),
        ("20", "0301", 1),
    ] {
        let variables = [("usherd_subject", who), ("usherd_to", number), ("network_addr", "192.0.2.7")];
        let (end, asked, _) = through_freeswitch(&variables, &mut |written| answered(&usherd, written));
        let refused = Some(End::Refused("CALL_REJECTED".to_owned()));
        assert_eq!((end, asked.len()), (refused, questions), "freeswitch: {who}, {number}");
        assert!(questions == 1 || asked[1].target.contains("&subject=ip-192.0.2.7&"), "{asked:?}");
    }
    let emergency = format!("112{}", "-".repeat(64));
    let variables = [("usherd_to", emergency.as_str()), ("network_addr", "192.0.2.7")];
    let (end, ..) = through_freeswitch(&variables, &mut |written| answered(&usherd, written));
    assert_eq!(end, None, "usherd knows an emergency, however long it is");
    for (who, number, said) in [
        ("20", long.as_str(), "/problems/malformed"),
        // What the script asks for then.
        ("ip-192.0.2.7", "", "deny.full"),
        ("20", &emergency, "allow.free emergency"),
    ] {
        let variables = DIALOG.map(|(name, value)| match name {
            "avp(usherd_subject)" => (name, who),
            "avp(usherd_to)" => (name, number),
            _ => (name, value),
        });
        assert!(answered(&usherd, &opensips("acquire", &variables)).contains(said), "opensips: {who}, {number}");
    }
    let answer = recipe("opensips/usherd.cfg").split("route[usherd_answer]").nth(1).unwrap().to_owned();
    let again = answer.split("route(usherd_question)").next().unwrap();
    for line in ["$avp(usherd_status) == 400", "$avp(usherd_plain) = 1;", "= \"ip-\" + $si;", "$avp(usherd_to) = \"\";"]
    {
        assert!(again.contains(line), "{line}");
    }
}

#[test]
fn a_nameless_freeswitch_phone_is_counted_by_its_address() {
    let number = ("usherd_to", "0301234");
    let unnamed = [number, ("usherd_subject", ""), ("network_addr", "192.0.2.7")];
    let (end, asked, _) = through_freeswitch(&unnamed, &mut refuses);
    assert_eq!((end.is_some(), asked.len()), (true, 1));
    assert!(asked[0].target.contains("&subject=ip-192.0.2.7&"), "{asked:?}");
    let (end, asked, _) = through_freeswitch(&[number, ("usherd_subject", "")], &mut refuses);
    assert_eq!((end, asked.len()), (None, 0));
}

#[test]
fn the_proxies_send_valid_names_unchanged_and_no_others_a1() {
    let names = [
        "20",
        "+4930123",
        "a b",
        "Jürgen",
        "漢字",
        "😀",
        "\u{10ffff}",
        "\u{a0}",
        "\u{7ff}",
        "\u{800}",
        "\u{d7ff}",
        "\u{e000}",
        "\u{ffff}",
        "\u{10000}",
        "o\"neil\\",
        "{}",
        "~",
        "\u{7f}",
        "\u{80}",
        "\u{9f}",
        "a\n",
        "\u{1b}[0m",
    ];
    let mut all: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    // No UTF-8: cut, too long, a surrogate, beyond the end, and alone.
    for bytes in ["c3", "c328", "c0af", "e28228", "eda080", "f4908080", "f8888080", "80", "ff", "61e282", "f0828282"] {
        let byte = |at: usize| u8::from_str_radix(&bytes[at..at + 2], 16).unwrap();
        all.push((0..bytes.len()).step_by(2).map(byte).collect());
    }
    for (file, variable, and) in [
        ("kamailio/usherd.cfg", "$var(usherd_bytes) =~ \"", "|"),
        ("opensips/usherd.cfg", "$var(usherd_bytes) =~ \"", ""),
    ] {
        let text = recipe(file);
        let pattern = text.split(variable).nth(1).unwrap().split('"').next().unwrap();
        for name in &all {
            let mut faults = Vec::new();
            let text = String::from_utf8(name.clone());
            if let Ok(text) = &text {
                usherd_contract::names::check_subject(text, &mut faults);
            }
            let is_taken = text.is_ok() && faults.is_empty();
            let hexa: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(matches("-E", pattern, &hexa), is_taken, "{file}: {hexa}");
        }
        // What parts the entries of the book.
        assert_eq!(matches("-E", pattern, "617c62"), and.is_empty(), "{file}");
    }
}
