//! Each kind of thing really happens, and is told once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::office::{Office, PAID};
use crate::receiver::Manner;

/// A place within the first record of a file of the journal, bytes from its beginning.
const FIRST_RECORD: usize = 40;

/// How many messages there are about each thing. One that was under way when the daemon stopped may come again, with the
/// id that it had: it is one message.
fn told(office: &Office) -> BTreeMap<String, usize> {
    let got = office.receiver.got();
    let messages: BTreeMap<&str, String> = got.iter().map(|got| (got.header("webhook-id"), got.about())).collect();
    let mut counts = BTreeMap::new();
    for about in messages.into_values() {
        *counts.entry(about).or_insert(0) += 1;
    }
    counts
}

/// The message about one thing, once there is one.
fn about(office: &Office, about: &str) -> Value {
    crate::office::wait(about, || office.abouts().iter().any(|got| got == about), || format!("{:?}", office.abouts()));
    let got = office.receiver.got().into_iter().find(|got| got.about() == about).unwrap();
    let json = got.json();
    assert_eq!(json.get("subject"), json["data"].get("tenant"), "{json:#}");
    json["data"].clone()
}

/// Flips a byte in the first record of each file of the journal, so that nothing behind it is known, however much it is.
fn damage(office: &Office) {
    for entry in std::fs::read_dir(office.daemon.path("state/journal")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(byte) = bytes.get_mut(FIRST_RECORD) {
            *byte ^= 0xff;
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

fn a_node_is_lost_and_back(office: &Office) {
    assert_eq!(office.call("POST", "/v1/nodes/n1/hello", "{\"epoch\": 1}").0, 200);
    office.after(1);
    let app = office.daemon.app();
    crate::office::wait(
        "a look at the node",
        || app.deciding.engine.nodes(app.deciding.clock.now())[0].up,
        String::new,
    );
    office.after(1);
    office.after(20);
    assert_eq!(about(office, "node.lost")["node"], "n1");
    assert_eq!(office.call("POST", "/v1/nodes/n1/hello", "{\"epoch\": 2}").0, 200);
    office.after(1);
    assert_eq!(about(office, "node.back")["node"], "n1");
}

#[test]
fn ten_kinds_of_things_happen_and_each_is_told_once() {
    let types = "types = [\"denied\", \"full\", \"over\", \"node_lost\", \"node_back\", \"state_changed\", \"reminder\", \
                 \"config_rejected\", \"sync_failed\", \"journal_degraded\", \"journal_whole\", \"emergency\"]";
    let mut office = Office::start(types);
    assert_eq!(
        (office.acquire("acme", "anna"), office.acquire("acme", "ben")),
        ("allow.new".to_owned(), "allow.new".to_owned())
    );
    office.after(1);
    assert_eq!(about(&office, "tenant.full"), json!({"tenant": "acme", "held": 2, "quota": 2}));

    assert_eq!(office.acquire("acme", "cleo"), "deny.full");
    let denied = json!({"tenant": "acme", "kind": "desktop", "code": "deny.full", "detail": "tenant", "held": 2, "quota": 2, "count": 1});
    assert_eq!(about(&office, "seat.denied"), denied, "nobody is named");

    let call = json!({"tenant": "acme", "subject": "cleo", "kind": "call", "direction": "outbound", "to": "112"});
    assert_eq!(office.call("POST", "/v1/acquire", &call.to_string()).0, 200);
    let emergency = json!({"tenant": "acme", "kind": "call", "code": "allow.free", "detail": "emergency", "count": 1});
    assert_eq!(about(&office, "call.emergency"), emergency, "nobody is named");

    office.daemon.write("acme", &format!("{PAID}1\n"));
    assert_eq!(office.reload(), 200);
    let changed = about(&office, "subscription.changed");
    assert_eq!(
        (&changed["seats_before"], &changed["seats"], &changed["state"]),
        (&json!(2), &json!(1), &json!("active"))
    );
    office.after(1);
    assert_eq!(about(&office, "tenant.over"), json!({"tenant": "acme", "held": 2, "quota": 1}));

    office.daemon.write("leaving", &format!("{PAID}3\ncancel_at = \"2026-11-24\"\n"));
    assert_eq!(office.reload(), 200);
    assert!(about(&office, "subscription.reminder")["message"].as_str().unwrap().contains("ends in"));

    office.daemon.write("acme", "kind = \"payd\"\n");
    assert_eq!(office.reload(), 200);
    let rejected = about(&office, "config.rejected");
    assert!(rejected["message"].as_str().unwrap().contains("acme.toml:1:8"), "{rejected}");
    office.daemon.write("acme", &format!("{PAID}1\n"));
    assert_eq!(office.reload(), 200);

    a_node_is_lost_and_back(&office);

    let key = "0".repeat(62) + "aa";
    let sync = format!(
        "{types}\n[sync]\nurl = \"https://localhost:1/x\"\ninstallation = \"i\"\npublic_keys = {{ k = \"{key}\" }}\n"
    );
    // The source names the installation from here on.
    office.configure(&sync);
    assert!(about(&office, "sync.failed")["message"].as_str().unwrap().contains("localhost:1"));

    office.daemon.stop();
    damage(&office);
    office.boot();
    assert!(about(&office, "journal.degraded")["message"].as_str().unwrap().contains("degraded"));
    office.after(61);
    about(&office, "journal.whole");

    let twice = ["sync.failed", "subscription.reminder"];
    let all = || twice.iter().all(|about| told(&office).get(*about) >= Some(&2));
    crate::office::wait("what comes again after the restart", all, || format!("{:?}", office.abouts()));
    let got = office.receiver.got();
    let ids: BTreeSet<&str> = got.iter().map(|got| got.header("webhook-id")).collect();
    assert!(got.len() - ids.len() <= 1, "one at a time is under way, and comes again: {:?}", office.abouts());
    let mut counts = told(&office);
    // The sync fails at each try, and says so again after the restart: how many tries there were is the clock's affair.
    assert!(counts.remove("sync.failed") >= Some(2), "{counts:?}");
    // The damaged journal forgot the reminder.
    let once = [
        "call.emergency",
        "config.rejected",
        "journal.degraded",
        "journal.whole",
        "node.back",
        "node.lost",
        "seat.denied",
    ];
    let once = once.into_iter().chain(["subscription.changed", "tenant.full", "tenant.over"]);
    let expected: BTreeMap<String, usize> =
        once.map(|about| (about.to_owned(), 1)).chain([("subscription.reminder".to_owned(), 2)]).collect();
    assert_eq!(counts, expected);
}

#[test]
fn a_booked_change_is_told_at_its_second() {
    let office = Office::start("types = [\"state_changed\"]");
    let booked = "[[change]]\neffective_at = \"2026-11-22T12:01:00Z\"\nseats = 1\n";
    office.daemon.write("acme", &format!("{PAID}2\n{booked}"));
    assert_eq!(office.reload(), 200);
    let data = |at: usize| office.got(at + 1)[at].json()["data"].clone();
    assert_eq!((&data(0)["state"], &data(0)["state_before"]), (&json!("pending_change"), &json!("active")));
    office.after(59);
    assert_eq!(office.receiver.got().len(), 1);
    office.after(1);
    assert_eq!(
        (&data(1)["state"], &data(1)["seats"], &data(1)["seats_before"]),
        (&json!("active"), &json!(1), &json!(2))
    );
    std::fs::remove_file(office.daemon.path("tenants.d/acme.toml")).unwrap();
    assert_eq!(office.reload(), 200);
    assert_eq!((&data(2)["state"], &data(2)["seats"]), (&json!("ended"), &json!(0)));
}

#[test]
fn a_storm_of_100_000_denials_is_a_few_messages_that_add_up() {
    let office = Office::start("types = [\"denied\"]\nnames = true\ndenied_per_minute_max = 5");
    for tenant in 0..20 {
        office.daemon.write(&format!("t{tenant}"), &format!("{PAID}0\n"));
    }
    assert_eq!(office.reload(), 200);
    office.settled();
    for batch in 0..100 {
        let ops = (0..1_000).map(|n| {
            json!({"op": "acquire", "tenant": format!("t{}", n % 20), "subject": format!("u{n}"), "session": format!("s{batch}-{n}"), "kind": "desktop", "ttl_s": 60})
        });
        let (status, _) = office.call("POST", "/v1/batch", &json!({"ops": ops.collect::<Vec<_>>()}).to_string());
        assert_eq!(status, 200);
    }
    office.settled();
    office.after(60);
    office.after(60);
    let sum = || {
        let got = office.receiver.got();
        let counts: Vec<u64> = got.iter().map(|got| got.json()["data"]["count"].as_u64().unwrap()).collect();
        (counts.iter().sum::<u64>(), got.len())
    };
    crate::office::wait("all of them", || sum().0 == 100_000, || format!("{:?}", sum()));
    let missed = office.abouts().iter().filter(|about| *about == "events.missed").count();
    println!("100,000 denials were told in {} messages, {missed} of them of events missed", sum().1);
    assert!(sum().1 - missed <= 3 * 6 && missed <= 3, "{:?}", sum());
    let got = office.receiver.got();
    let first = got.iter().find(|got| got.about() == "seat.denied").unwrap();
    assert!(first.json()["data"]["subject"].as_str().unwrap().starts_with('u'), "names = true names");
    assert!(
        !office.daemon.app().publishing.events.is_awake(1),
        "nobody listens: grants and releases are not kept for it"
    );
}

#[test]
fn a_receiver_of_some_tenants_hears_of_nothing_else() {
    let office = Office::start("tenants = [\"other\"]");
    office.daemon.write("other", &format!("{PAID}0\n"));
    assert_eq!(office.reload(), 200);
    office.daemon.write("bad", "x");
    assert_eq!(office.reload(), 200);
    assert_eq!(
        (office.acquire("acme", "a"), office.acquire("acme", "b"), office.acquire("acme", "c")),
        ("allow.new".into(), "allow.new".into(), "deny.full".into())
    );
    office.after(2);
    assert_eq!(office.acquire("other", "a"), "deny.full");
    office.got(1);
    office.settled();
    assert_eq!(office.abouts(), ["seat.denied"]);
    assert_eq!(office.receiver.got()[0].json()["subject"], "other");
}

#[test]
fn a_webhook_switched_off_keeps_its_queue_and_gets_no_more() {
    let office = Office::start("");
    office.receiver.behave(Manner::Say("500 Oops"));
    office.acquire("unknown", "a");
    office.try_number(1);
    office.configure("enabled = false");
    office.settled();
    office.receiver.behave(Manner::Take);
    office.acquire("unknown2", "a");
    office.after(600);
    assert_eq!(
        (office.hook()["state"].as_str(), office.hook()["queued"].as_u64(), office.tries().len()),
        (Some("off"), Some(1), 1)
    );
    office.configure("enabled = true");
    assert_eq!(office.try_number(2)["result"], "delivered");
    assert_eq!(office.got(2)[0].header("webhook-id"), office.got(2)[1].header("webhook-id"));
}
