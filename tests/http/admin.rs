//! Administration: ending by hand, reloads, the configuration's state, the log level, bad files at the start.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use serde_json::json;
use usherd::daemon::clock::ManualClock;
use usherd_engine::Now;
use usherd_testkit::files::{files, write_tenant};

use crate::daemon::{NOON_UTC_MS, Running};

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 10\n";

#[test]
fn what_is_live_is_ended_by_hand_and_calls_only_by_force() {
    let daemon = Running::start("", &[("acme", PAID)]);
    for (session, rest) in [
        ("m1", "subject=anna&kind=mobile"),
        ("d1", "subject=bob&kind=desktop&ttl_s=600"),
        ("c1", "subject=bob&kind=call&direction=outbound&ttl_s=600"),
        ("c2", "subject=cara&kind=call&direction=inbound"),
    ] {
        assert!(daemon.form("/v1/acquire", &format!("tenant=acme&session={session}&{rest}")).body.starts_with("allow"));
    }
    for (path, status, count) in [
        ("acme/sessions/nothing", 404, None),
        ("acme/subjects/nobody?force=1", 404, None),
        ("nowhere/sessions/c1?force=1", 404, None),
        ("acme/sessions/c1", 409, None),
        ("acme/sessions/c2?force=0", 409, None),
        ("acme/sessions/c2?force=False", 409, None),
        ("acme/sessions/c2?force=off", 409, None),
        ("acme/sessions/c2?force=maybe", 400, None),
        ("acme/subjects/bob", 409, None),
        ("acme/sessions/m1", 200, Some(1)),
        ("acme/sessions/m1", 404, None),
        ("acme/subjects/bob?force=1", 200, Some(2)),
        ("acme/sessions/c2?force", 200, Some(1)),
    ] {
        let answer = daemon.call("DELETE", &format!("/v1/tenants/{path}"), "", "");
        assert_eq!((answer.status, answer.json()["count"].as_u64()), (status, count), "{path}");
    }
    let tenant = daemon.get("/v1/tenants/acme").json();
    assert_eq!((&tenant["held"], &tenant["sessions"]), (&json!(0), &json!(0)));
}

#[test]
fn warnings_are_shown_and_nothing_is_rejected_for_them_j8() {
    let acme = format!("{PAID}cancel_at = \"2027-07-01\"\n");
    let daemon = Running::start("", &[("acme", &acme)]);
    for answer in [daemon.get("/v1/admin/config"), daemon.call("POST", "/v1/admin/reload?dry_run=1", "", "")] {
        assert_eq!(answer.status, 200, "{answer:?}");
        let warning = answer.json()["warnings"][0].take();
        assert_eq!(
            (&warning["severity"], &warning["code"], &warning["key_path"]),
            (&json!("warning"), &json!("explicit_instant"), &json!("cancel_at"))
        );
    }
    assert_eq!(daemon.reload_with("acme", PAID).json()["warnings"], json!([]));
    assert_eq!(daemon.get("/v1/admin/config").json()["warnings"], json!([]));
}

#[test]
fn what_waits_for_a_restart_is_told_until_it_is_as_it_was() {
    let daemon = Running::start("", &[("acme", PAID)]);
    let main = daemon.folder.path().join("usherd.toml");
    let before = std::fs::read_to_string(&main).unwrap();
    let waits = || daemon.get("/v1/admin/config").json()["waits_for_restart"].clone();
    assert_eq!(waits(), json!([]));
    for (text, waiting) in [
        (format!("{before}\n[deny]\nsip_code = 480\n[events]\nbuffered_max = 77\n"), json!(["events.buffered_max"])),
        (before.clone(), json!([])),
    ] {
        std::fs::write(&main, text).unwrap();
        daemon.wait_until("the change", |daemon| {
            daemon.call("POST", "/v1/admin/reload", "", "");
            waits() == waiting
        });
        assert_eq!(daemon.get("/v1/overview").json()["config"]["waits_for_restart"], waiting);
    }
}

#[test]
fn a_reload_tells_what_it_does_and_may_be_tried_first() {
    let daemon = Running::start("", &[("acme", PAID), ("b", PAID)]);
    for n in 0..6 {
        daemon.form("/v1/acquire", &format!("tenant=acme&subject=u{n}&session=m{n}&kind=mobile"));
    }
    let hash = || daemon.get("/v1/admin/config").json()["hash"].clone();
    let before = hash();
    assert_eq!(daemon.call("POST", "/v1/admin/reload", "", "").json()["code"], "unchanged");
    // The watch would take it up by itself: what is read here is not the same file twice.
    write_tenant(daemon.folder.path(), "acme", &PAID.replace("= 10", "= 5"));
    let planned = daemon.call("POST", "/v1/admin/reload?dry_run=1", "", "").json();
    if planned["diff"]["changed"][0].is_object() {
        let change = &planned["diff"]["changed"][0];
        assert_eq!(
            (&planned["code"], &change["quota_before"], &change["quota_after"], &change["held"]),
            (&json!("planned"), &json!(10), &json!(5), &json!(6))
        );
        assert!(change["consequences"].to_string().contains('1'), "{change}");
    }
    daemon.wait_until("the change", |daemon| {
        daemon.call("POST", "/v1/admin/reload", "", "");
        daemon.get("/v1/tenants/acme").json()["quota"] == 5
    });
    assert_ne!(hash(), before);
    assert_eq!(daemon.get("/v1/tenants/acme").json()["over"], 1);
    let config = daemon.get("/v1/admin/config").json();
    assert!(
        config["tenants"]["acme"].as_str().unwrap().ends_with("acme.toml")
            && config["main"].as_str().unwrap().ends_with("usherd.toml")
    );
}

#[test]
fn a_note_of_a_reload_is_short_and_plain() {
    let daemon = Running::start("", &[("acme", PAID)]);
    for (note, status) in
        [("acme%3A%20asked", 200), ("two%0Alines", 400), (&"x".repeat(501), 400), (&"x".repeat(500), 200)]
    {
        let answer = daemon.call("POST", &format!("/v1/admin/reload?note={note}"), "", "");
        assert_eq!(answer.status, status, "{note:.20}");
        assert!(status == 200 || answer.pointers() == ["/note"], "{answer:?}");
    }
}

#[test]
fn half_of_all_tenants_go_only_by_force() {
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let daemon = Running::start("", &ids.map(|id| (id, PAID)));
    for gone in &ids[4..] {
        std::fs::remove_file(daemon.folder.path().join(format!("tenants.d/{gone}.toml"))).unwrap();
    }
    for path in ["/v1/admin/reload", "/v1/admin/reload?dry_run=1"] {
        let refused = daemon.call("POST", path, "", "");
        assert_eq!(refused.status, 422, "{refused:?}");
        assert!(refused.json()["problems"][0]["message"].as_str().unwrap().contains("force"), "{refused:?}");
    }
    assert_eq!(daemon.get("/v1/tenants").json()["tenants"].as_array().unwrap().len(), 9);
    let planned = daemon.call("POST", "/v1/admin/reload?dry_run=1&force=1", "", "");
    assert_eq!(planned.json()["diff"]["removed"].as_array().unwrap().len(), 5);
    assert_eq!(daemon.call("POST", "/v1/admin/reload?force=1", "", "").json()["code"], "applied");
    assert_eq!(daemon.get("/v1/tenants").json()["tenants"].as_array().unwrap().len(), 4);
}

#[test]
fn a_tenant_that_is_used_goes_by_force_or_after_a_while() {
    let daemon = Running::start("", &[("acme", PAID), ("b", PAID)]);
    daemon.form("/v1/acquire", "tenant=acme&subject=anna&session=m1&kind=mobile");
    std::fs::remove_file(daemon.folder.path().join("tenants.d/acme.toml")).unwrap();
    let refused = daemon.call("POST", "/v1/admin/reload", "", "");
    assert_eq!((refused.status, &refused.json()["forceable"]), (422, &json!(true)));
    assert_eq!(refused.json()["problems"][0]["code"], "in_use");
    let later = daemon.call("POST", "/v1/admin/reload?removals=delayed", "", "").json();
    assert!(later["away"][0].as_str().unwrap().ends_with("tenants.d/acme.toml"), "{later}");
    let config = daemon.get("/v1/admin/config").json();
    assert_eq!((&config["tenants_away"], &config["away"]), (&json!(1), &later["away"]));
    assert_eq!(daemon.get("/v1/tenants/acme").json()["held"], 1, "nothing has ended");
    assert_eq!(daemon.call("POST", "/v1/admin/reload?removals=never", "", "").status, 400);
    assert_eq!(daemon.call("POST", "/v1/admin/reload?force=1", "", "").status, 200);
    assert_eq!(daemon.get("/v1/tenants/acme").json()["quota"], 0);
    assert!(daemon.get("/v1/admin/config").json()["tenants"].get("acme").is_none());
}

/// Seen by the daemon's own watch, whoever took the file away.
#[test]
fn a_vanished_file_takes_effect_after_its_delay_t186() {
    let daemon = Running::start("", &[("acme", PAID), ("b", PAID)]);
    daemon.form("/v1/acquire", "tenant=acme&subject=anna&session=m1&kind=mobile");
    let file = daemon.folder.path().join("tenants.d/acme.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let away = |daemon: &Running| daemon.get("/v1/admin/config").json()["tenants_away"].as_u64().unwrap();
    let quota = |daemon: &Running, tenant: &str| daemon.get(&format!("/v1/tenants/{tenant}")).json()["quota"].clone();
    std::fs::remove_file(&file).unwrap();
    daemon.wait_until("the watch to miss it", |daemon| away(daemon) == 1);
    daemon.clock.advance(29_000);
    // The files are read again meanwhile, for another one has changed.
    write_tenant(daemon.folder.path(), "b", &PAID.replace("= 10", "= 11"));
    daemon.wait_until("the other file", |daemon| quota(daemon, "b") == 11);
    assert_eq!((quota(&daemon, "acme"), away(&daemon)), (json!(10), 1));
    std::fs::write(&file, &text).unwrap();
    daemon.wait_until("it to be back", |daemon| away(daemon) == 0);
    assert_eq!(daemon.get("/v1/tenants/acme").json()["held"], 1, "nothing has ended");
    std::fs::remove_file(&file).unwrap();
    daemon.wait_until("the watch to miss it again", |daemon| away(daemon) == 1);
    daemon.clock.advance(30_000);
    daemon.wait_until("it to be gone", |daemon| quota(daemon, "acme") == 0 && away(daemon) == 0);
}

#[test]
fn a_bad_tenant_file_is_shown_and_stops_no_other_tenant_t175() {
    let daemon = Running::start("", &[("acme", PAID), ("b", PAID)]);
    write_tenant(daemon.folder.path(), "acme", "kind = \"paid\"\nseats = -3\n");
    let asked = "{\"request\":\"add\",\"seats\":4,\"actor\":\"operator\"}";
    let json = "Content-Type: application/json\r\n";
    assert_eq!(daemon.call("POST", "/v1/tenants/b/subscription", json, asked).status, 200);
    assert_eq!(daemon.get("/v1/tenants/b").json()["quota"], 14);
    let own = daemon.call("POST", "/v1/tenants/acme/subscription", json, asked);
    assert_eq!(own.status, 409);
    assert!(own.body.contains("must not be negative") && own.body.contains("acme.toml:2"), "{}", own.body);
    assert_eq!(daemon.get("/v1/tenants/acme").json()["quota"], 10, "it keeps its last good record");
    let ready = daemon.get("/readyz?verbose").json();
    assert_eq!((&ready["ready"], &ready["config"]["tenants_rejected"]), (&json!(true), &json!(1)));
    assert_eq!(ready["config"]["last_reload_successful"], true);
    let events = daemon.get("/v1/overview").json();
    assert_eq!(events["config"]["tenants_rejected"], 1);
}

#[test]
fn bad_files_at_the_start_leave_the_last_good_ones_in_force() {
    let mut daemon = Running::start("", &[("acme", PAID)]);
    daemon.form("/v1/acquire", "tenant=acme&subject=anna&session=m1&kind=mobile");
    daemon.stop();
    write_tenant(daemon.folder.path(), "acme", "kind = \"paid\"\nseats = -3\n");
    daemon.restart();
    assert_eq!(daemon.get("/v1/tenants/acme").json()["quota"], 10);
    assert_eq!(daemon.get("/v1/tenants/acme").json()["held"], 1);
    let config = daemon.get("/v1/admin/config").json();
    assert_eq!((&config["from_last_good"], &config["tenants_rejected"]), (&json!(false), &json!(1)));
    assert!(config["rejected"].to_string().contains("must not be negative"), "{config}");
    assert_eq!(daemon.reload_with("acme", &PAID.replace("= 10", "= 11")).status, 200);
    assert_eq!(daemon.get("/v1/tenants/acme").json()["quota"], 11);
    assert_eq!(daemon.get("/v1/admin/config").json()["tenants_rejected"], 0);
    // Its own file is one unit: bad as a whole, the last good configuration as a whole.
    daemon.stop();
    let main = daemon.folder.path().join("usherd.toml");
    let text = std::fs::read_to_string(&main).unwrap();
    std::fs::write(&main, format!("{text}\n[polcy]\n")).unwrap();
    daemon.restart();
    assert_eq!(daemon.get("/v1/tenants/acme").json()["quota"], 11);
    let config = daemon.get("/v1/admin/config").json();
    assert_eq!((&config["from_last_good"], &config["last_reload_successful"]), (&json!(true), &json!(false)));
    std::fs::write(&main, text).unwrap();
    assert_eq!(daemon.call("POST", "/v1/admin/reload", "", "").status, 200);
    let config = daemon.get("/v1/admin/config").json();
    assert_eq!((&config["from_last_good"], &config["last_reload_successful"]), (&json!(false), &json!(true)));
}

#[test]
fn the_log_level_is_changed_for_a_while() {
    let quiet = Running::start("", &[]);
    let put = |daemon: &Running, body: &str| {
        daemon.call("PUT", "/v1/admin/log-level", "Content-Type: application/json\r\n", body)
    };
    assert_eq!(put(&quiet, "{\"filter\":\"info\"}").status, 503, "this one does not log by itself");
    let folder = files("[server]\nworkers = 1\n[log]\nfilter = \"off\"\n", &[]);
    // Only one daemon of a process may log: it is this one.
    let clock = Arc::new(ManualClock::new(Now { uptime_ms: 1_000_000, utc_ms: NOON_UTC_MS }));
    let daemon = Running::start_on(folder, clock, true);
    daemon.wait_until("it is ready", |daemon| daemon.get("/readyz").status == 200);
    let changed = put(&daemon, "{\"filter\":\"off,usherd::none=debug\",\"for_s\":60}").json();
    assert_eq!((&changed["code"], &changed["until"]), (&json!("ok"), &json!("2026-11-22T12:01:00Z")));
    assert!(put(&daemon, "{\"filter\":\"off\"}").json()["until"].is_null());
    for (body, pointers) in [
        ("{\"filter\":\"off,usherd=loudly\"}", &["/filter"][..]),
        ("{\"for_s\":5}", &["/filter"]),
        ("{\"filter\":7,\"for_s\":-1}", &["/filter", "/for_s"]),
        ("{\"filter\":\"off\",\"for_s\":86401}", &["/for_s"]),
        ("{\"filter\":\"off\",\"fore\":1}", &["/fore"]),
        ("[\"off\"]", &[""]),
        ("oops", &[""]),
    ] {
        let answer = put(&daemon, body);
        assert_eq!(
            (answer.status, answer.pointers().iter().map(String::as_str).collect::<Vec<_>>()),
            (400, pointers.to_vec()),
            "{body}"
        );
    }
    assert_eq!(put(&daemon, &format!("{{\"filter\":\"{}\"}}", "x".repeat(5_000))).status, 413);
}

#[test]
fn no_epoch_is_taken_that_nothing_can_follow() {
    let daemon = Running::start(crate::resp::LISTENER, &[("acme", PAID)]);
    let (most, beyond) = (1u64 << 63, (1u64 << 63) + 1);
    for epoch in [beyond, u64::MAX] {
        for verb in ["hello", "heartbeat", "goodbye"] {
            let path = format!("/v1/nodes/n1/{verb}");
            for answer in
                [daemon.post(&path, &json!({ "epoch": epoch })), daemon.form(&path, &format!("epoch={epoch}"))]
            {
                assert_eq!(
                    (answer.status, &answer.json()["errors"][0]["pointer"]),
                    (400, &json!("/epoch")),
                    "{answer:?}"
                );
                assert!(answer.body.contains("9223372036854775808"), "{answer:?}");
            }
        }
        let about = json!({ "tenant": "acme", "subject": "anna", "session": "c1", "node": "n1", "epoch": epoch, "seq": 1, "kind": "mobile" });
        assert_eq!(daemon.post("/v1/acquire", &about).status, 400);
        let about = json!({ "tenant": "acme", "session": "c1", "node": "n1", "epoch": epoch, "seq": 1 });
        assert_eq!(daemon.post("/v1/release", &about).status, 400);
        let list = json!({ "epoch": epoch, "seq": 1, "sessions": [] });
        assert_eq!(daemon.post("/v1/nodes/n1/inventory", &list).status, 400);
        let said = crate::resp::ask(&daemon, &["CU.NODE", "n1", "hello", &epoch.to_string()]);
        assert!(said.starts_with("-ERR"), "{said}");
    }
    assert_eq!(daemon.get("/v1/nodes").json()["nodes"], json!([]));
    assert_eq!(daemon.post("/v1/nodes/n1/hello", &json!({ "epoch": most })).status, 200);
}

#[test]
fn a_node_is_forgotten_by_hand_and_may_come_with_any_epoch() {
    let daemon = Running::start("", &[("acme", PAID)]);
    let forget = |path: &str| daemon.call("DELETE", &format!("/v1/nodes/{path}"), "", "");
    let hello = |epoch: u64| daemon.post("/v1/nodes/n1/hello", &json!({ "epoch": epoch })).status;
    assert_eq!(forget("n1").status, 404);
    assert_eq!((hello(1 << 63), hello(1)), (200, 409));
    let client = "tenant=acme&session=d1&subject=anna&kind=desktop&node=n1&epoch=9223372036854775808&seq=1";
    assert!(daemon.form("/v1/acquire", client).body.starts_with("allow.new"));
    let refused = forget("n1");
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body.contains("is up"), "{refused:?}");
    assert_eq!(daemon.post("/v1/nodes/n1/goodbye", &json!({ "epoch": 1u64 << 63 })).status, 200);
    assert!(forget("n1").body.contains("1 sessions"));
    let forgotten = forget("n1?force=1");
    assert_eq!((forgotten.status, &forgotten.json()["epoch"]), (200, &json!(1u64 << 63)), "{forgotten:?}");
    assert_eq!(hello(1), 200);
    let ended = daemon.form("/v1/release", "tenant=acme&session=d1&node=n1&epoch=1&seq=2");
    assert!(ended.body.starts_with("released.last"), "{ended:?}");
    assert_eq!(daemon.call("GET", "/v1/nodes/n1", "", "").status, 405);
}

#[test]
fn a_clock_that_is_trusted_needs_nobodys_word() {
    let daemon = Running::start("", &[("acme", PAID)]);
    let answer = daemon.call("POST", "/v1/admin/clock/trust", "", "");
    assert_eq!((answer.status, &answer.json()["trusted_at"]), (200, &json!(null)), "{answer:?}");
    let time = daemon.get("/readyz?verbose").json()["time"].clone();
    assert_eq!((&time["wall_clock_trusted"], &time["waits_for"]), (&json!(true), &json!(null)));
}

/// So much that it is not done where decisions are made: the answers are the same.
#[test]
fn a_large_tenant_is_read_and_ended_aside_with_the_same_answers() {
    let acme = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 10000\n";
    let daemon = Running::start("", &[("acme", acme)]);
    assert_eq!(daemon.post("/v1/nodes/n1/hello", &json!({ "epoch": 1 })).status, 200);
    let session = |i: usize, kind: &str| json!({ "tenant": "acme", "subject": format!("u{}", i % 4_500), "session": format!("d{i}"), "kind": kind });
    let list = |count: usize| json!({ "epoch": 1, "seq": 1, "sessions": (0..count).map(|i| session(i, "desktop")).collect::<Vec<_>>() });
    let taken = daemon.post("/v1/nodes/n1/inventory", &list(5_000)).json();
    assert_eq!(
        (&taken["adopted"], &taken["kept"], &taken["removed"]),
        (&json!(5_000), &json!(0), &json!(0)),
        "{taken}"
    );
    let taken = daemon.post("/v1/nodes/n1/inventory", &list(4_600)).json();
    assert_eq!(
        (&taken["adopted"], &taken["kept"], &taken["removed"]),
        (&json!(0), &json!(4_600), &json!(400)),
        "{taken}"
    );
    assert_eq!(daemon.post("/v1/nodes/n1/inventory", &json!({ "epoch": 2, "seq": 1, "sessions": [] })).status, 409);
    let wrong = json!({ "epoch": 1, "seq": 2, "sessions": [session(1, "desktop"), session(2, "nonsense")] });
    assert_eq!(daemon.post("/v1/nodes/n1/inventory", &wrong).json()["errors"][0]["pointer"], "/sessions/1/kind");
    let why = daemon.form("/v1/explain", "tenant=acme&subject=x&session=y&kind=desktop&ttl_s=60").json();
    assert_eq!((&why["code"], &why["holders"]["desktop"]), (&json!("allow.new"), &json!(4_600)));
    let ended = daemon.call("DELETE", "/v1/tenants/acme/subjects/u1", "", "");
    assert_eq!((ended.status, &ended.json()["count"]), (200, &json!(2)), "{ended:?}");
    let said = daemon.post("/v1/nodes/n1/hello", &json!({ "epoch": 2 })).json();
    assert_eq!((&said["dropped"], &said["orphaned"]), (&json!(0), &json!(4_598)), "{said}");
    assert_eq!(daemon.post("/v1/nodes/n1/hello", &json!({ "epoch": 1 })).status, 409);
    assert_eq!(daemon.post("/v1/nodes/n1/goodbye", &json!({ "epoch": 2 })).json()["orphaned"], 0);
    let one = "tenant=acme&subject=one&kind=desktop&ttl_s=600";
    for i in 0..600 {
        assert!(daemon.form("/v1/acquire", &format!("{one}&session=o{i}")).body.starts_with("allow"));
    }
    let ended = daemon.call("DELETE", "/v1/tenants/acme/subjects/one", "", "");
    assert_eq!(&ended.json()["count"], &json!(600), "in more than one piece");
    // Who asked for it may be gone before it is done: it is done.
    for i in 0..600 {
        assert!(daemon.form("/v1/acquire", &format!("{one}&session=o{i}")).body.starts_with("allow"));
    }
    let mut stream = TcpStream::connect(daemon.address()).unwrap();
    stream.write_all(b"DELETE /v1/tenants/acme/subjects/one HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    drop(stream);
    daemon.wait_until("all of them to end", |daemon| daemon.get("/v1/tenants/acme/subjects/one").status == 404);
}

#[test]
fn limits_of_connections_change_with_a_reload() {
    let patient = "[server]\nhead_deadline_ms = 3600000\nconnections_per_address_max = 50\n";
    let daemon = Running::start(patient, &[("acme", PAID)]);
    let main = daemon.folder.path().join("usherd.toml");
    let text = std::fs::read_to_string(&main).unwrap();
    // Two connections and no third.
    let few = text.replace("_max = 50", "_max = 2") + "[journal]\ndurability = \"synced\"\n";
    std::fs::write(&main, &few).unwrap();
    let told = daemon.call("POST", "/v1/admin/reload", "", "");
    assert_eq!(told.status, 200, "{told:?}");
    let refused = |daemon: &Running| {
        let mut third = crate::client::tcp(daemon.address());
        third.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").is_err()
            || !matches!(third.read(&mut [0; 64]), Ok(1..))
    };
    // That of the reload may still count when the first ones come.
    let held = std::cell::RefCell::new(Vec::new());
    daemon.wait_until("a third connection to be refused", |daemon| {
        held.borrow_mut().push(crate::client::tcp(daemon.address()));
        refused(daemon)
    });
    drop(held);
    daemon.wait_until("their places to be free", |daemon| !refused(daemon));
    // Half a head is cut off soon, which it was not before.
    std::fs::write(&main, few.replace("= 3600000", "= 50")).unwrap();
    let told = daemon.call("POST", "/v1/admin/reload", "", "");
    assert_eq!(told.status, 200, "{told:?}");
    let mut stream = crate::client::tcp(daemon.address());
    stream.write_all(b"GET / HT").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, b"");
}
