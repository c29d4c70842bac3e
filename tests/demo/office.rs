//! The day of the office: what is said, what the daemon says meanwhile, and the two commands.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;
use usherd_testkit::demo::{Demo, assert_gone, shell};

const TENANT: &str = "/v1/tenants/office-lindenhof";

#[test]
fn a_morning_is_told_from_the_first_seat_to_the_figures() {
    // In order, and without the minutes: on a busy machine somebody comes later than planned.
    let mut demo = Demo::start(&["--speed", "900", "--until", "12:30"]);
    for words in [
        "  Clara's mobile is paired: allow.new, the first",
        "  Clara has a paired mobile, an open client, and calls",
        "  The door bell rings: allow.new",
        "Lena logs in at the hot desk: allow.free service",
        "Olga calls from the hot desk: allow.new. The seat is Olga's",
        "  The meeting room dials out and takes the last seat: allow.new, 16 of 16",
        "  The fax is refused: deny.full tenant, SIP 403",
        "  A customer calls Nils, who has no seat: it passes",
        "  Nils opens the client and is refused: deny.full tenant",
        "  The kitchen dials 112: it passes without a seat",
        "  The lift makes its test call: allow.over, 17 of 16",
        "  To have 20 seats",
        "  The door bell rings: allow.over",
        "The fax tries again: allow.new",
        "  The caretaker calls from a cordless phone",
        "  The gateway of the cordless phones loses its power, and the call of the",
        "  Lunch:",
        "  The day in figures:",
        "what if",
    ] {
        demo.wait_for(words);
    }
    let folder = demo.folder();
    assert_eq!(demo.finish().code(), Some(0), "{}", demo.said);
    assert_gone(&folder);
    let passed = demo.said.lines().find_map(|line| line.trim().strip_prefix("calls in ")).unwrap();
    let numbers: Vec<u32> = passed.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    assert!(numbers[0] > 30 && numbers[0] == numbers[1], "every call that came in passed: {passed}");
    assert!(!demo.said.contains("unanswered") && !demo.said.contains("did not pass"), "{}", demo.said);
    assert!(!demo.said.contains('\x1b') && !demo.said.contains('\r'), "a file has no colours: {}", demo.said);
    let shown = |line: &&str| line.starts_with(char::is_numeric) || line.starts_with("       ");
    let longest = demo.said.lines().filter(shown).map(|line| line.chars().count()).max();
    assert!(longest <= Some(80 + 40), "{}", demo.said);
    let refused =
        demo.said.lines().filter(|line| line.contains("refused") && line.starts_with(char::is_numeric)).count();
    assert!(refused <= 8, "a terminal is not flooded: {}", demo.said);
}

#[test]
fn the_two_commands_raise_the_quota_and_cut_no_call() {
    let mut demo = Demo::start(&["--speed", "90", "--from", "10:20"]);
    demo.wait_for("To have 20 seats");
    let released = demo.listen("released");
    let first = demo.wait_for("  sed ");
    let second = demo.wait_for("reload");
    assert!(demo.folder().join("tenants.d/office-lindenhof.toml").is_file());
    let full = demo.get(TENANT);
    assert_eq!(full["quota"], 16);
    let mut above =
        calls(&demo).into_iter().filter(|call| call["class"] == "lift" || call["class"] == "door").count() as u64;
    above += full["quota"].as_u64().unwrap();
    assert!(full["held"].as_u64() >= Some(16) && full["held"].as_u64().unwrap() <= above.max(17), "{full}");
    let me = "tenant=office-lindenhof&subject=me&session=me-1&kind=call&ttl_s=3600";
    assert_eq!(demo.post("/v1/acquire", &format!("{me}&direction=outbound")), "deny.full tenant");
    assert_eq!(demo.post("/v1/acquire", &format!("{me}&direction=inbound")), "allow.free inbound");
    let before = ids(&calls(&demo));
    assert!(before.len() >= 3, "calls are running: {before:?}");

    shell(&first);
    let told = shell(&second);
    assert!(told.contains("16 -> 20") || told.contains("no changes"), "{told}");
    assert_eq!(demo.get(TENANT)["quota"], 20);
    let after = ids(&calls(&demo));
    let ended: BTreeSet<String> =
        released.try_iter().filter(|event| event["reason"] == "node").map(|event| session(&event)).collect();
    let cut: Vec<&String> = before.iter().filter(|call| !after.contains(*call) && !ended.contains(*call)).collect();
    assert!(cut.is_empty(), "{cut:?} of {before:?}");

    let line = demo.wait_for("The quota is 20 now, not 16");
    assert!(line.contains("by reload"), "{line}");
    demo.wait_for("running before and goes on");
    demo.wait_for("The fax tries again: allow.new");
    demo.wait_for("Nils opens the client again: allow.new");
    let folder = demo.folder();
    assert_eq!(demo.stop(Signal::TERM).code(), Some(0), "{}", demo.said);
    assert!(demo.said.contains("Stopped."), "{}", demo.said);
    assert_gone(&folder);
    let reasons: BTreeSet<String> =
        released.iter().map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect();
    assert!(reasons.iter().all(|reason| reason == "node"), "only those who called ended calls: {reasons:?}");
}

fn calls(demo: &Demo) -> Vec<Value> {
    let listed = demo.get(&format!("{TENANT}/sessions?kind=call&counts=true"));
    listed["sessions"].as_array().unwrap().clone()
}

fn session(row: &Value) -> String {
    row["session"].as_str().unwrap().to_owned()
}

fn ids(calls: &[Value]) -> BTreeSet<String> {
    calls.iter().map(session).collect()
}

#[test]
fn a_phone_that_dies_gives_its_seat_back_by_itself() {
    let mut demo = Demo::start(&["--speed", "120", "--from", "11:14", "--until", "11:45"]);
    demo.wait_for("The caretaker calls from a cordless phone: allow.new");
    demo.wait_for("loses its power, and the call of the");
    let held = || demo.get(&format!("{TENANT}/subjects/caretaker"))["seated"].clone();
    assert_eq!(held(), true, "nobody told the daemon");
    demo.wait_for("taken for lost");
    demo.wait_for("the seat of the caretaker is free by itself");
    assert_eq!(demo.finish().code(), Some(0), "{}", demo.said);
}

#[test]
fn the_next_day_begins_with_the_pairings_of_the_last() {
    let mut demo = Demo::start(&["--speed", "3600", "--from", "17:30"]);
    demo.wait_for("The day in figures");
    let second = demo.wait_for("day, ");
    assert!(!second.contains("Saturday") && !second.contains("Sunday"), "{second}");
    demo.wait_for(" of 16 seats are held");
    demo.wait_for("The meeting room dials out and takes the last seat");
    demo.wait_for("A customer calls Nils");
    let (config, nodes) = (demo.get("/v1/overview"), demo.get("/v1/nodes"));
    assert_eq!(config["time"]["steps"].as_u64().unwrap_or(0), 0, "its clock never jumped: {config}");
    assert!(nodes["nodes"].as_array().unwrap().iter().all(|node| node["state"] == "up"), "{nodes}");
    let folder = demo.folder();
    assert_eq!(demo.stop(Signal::INT).code(), Some(0), "{}", demo.said);
    assert_gone(&folder);
}

#[test]
fn a_folder_that_was_named_stays_and_is_a_good_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("shown to a colleague");
    let mut demo = Demo::start(&["--speed", "3600", "--until", "07:50", "--dir", folder.to_str().unwrap()]);
    assert_eq!(demo.finish().code(), Some(0), "{}", demo.said);
    let main = folder.join("usherd.toml");
    let checked = usherd_testkit::process::usherd(&["config", "check", main.to_str().unwrap()]).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let verified =
        usherd_testkit::process::usherd(&["journal", "verify", "--config", main.to_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8_lossy(&verified.stdout).starts_with("valid: "), "{verified:?}");
}
