//! Requests to subscriptions: decided, written down, in force with the answer, and on record.

use serde_json::json;
use usherd_testkit::files::write_tenant;

use crate::daemon::Running;

const ACME: &str = "# the office in the Lindenhof\nkind = \"paid\"\nstart = \"2026-06-16\"\nseats = 16 # since June\n\n[[addon]]\nid = \"season\"\nseats = 5\n";

fn ask(daemon: &Running, tenant: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
    let answer = daemon.post(&format!("/v1/tenants/{tenant}/subscription"), body);
    (answer.status, answer.json())
}

fn file(daemon: &Running) -> String {
    std::fs::read_to_string(daemon.folder.path().join("tenants.d/acme.toml")).unwrap()
}

#[test]
fn what_is_accepted_is_in_force_with_the_answer_j9_j10() {
    let daemon = Running::start("", &[("acme", ACME)]);
    let (status, planned) = ask(&daemon, "acme", &json!({"request": "add", "seats": 4, "dry_run": true}));
    assert_eq!((status, &planned["accepted"], &planned["seats"]), (200, &json!(true), &json!(25)));
    assert_eq!(file(&daemon), ACME, "a dry run writes nothing");
    let (status, reduced) = ask(&daemon, "acme", &json!({"request": "reduce", "seats": 10}));
    assert_eq!((status, &reduced["effective_at"]), (200, &json!("2027-06-15T22:00:00Z")), "{reduced}");
    assert_eq!(reduced["change"], "subscription@2027-06-15T22:00:00Z");
    assert_eq!(reduced["schedule"][0]["seats"], 10);
    let (_, added) = ask(&daemon, "acme", &json!({"request": "add", "seats": 4, "object": "subscription"}));
    assert_eq!((&added["effective_at"], &added["seats"]), (&json!("2026-11-22T12:00:00Z"), &json!(25)));
    // 21 to 25 seats at 801 a seat; 9 of 30 days are left.
    assert_eq!(
        (&added["charge_cents"], &added["credit_cents"], &added["monthly_cents"]),
        (&json!(3_204), &json!(2_243), &json!(20_025))
    );
    assert_eq!(daemon.get("/v1/tenants/acme").json()["quota"], 25, "no reload has to be asked for");
    let text = file(&daemon);
    assert!(
        text.starts_with("# the office in the Lindenhof\n") && text.contains("seats = 16 # since June\n"),
        "{text}"
    );
    // What is asked for is meant, however much it drops.
    let (status, ended) = ask(&daemon, "acme", &json!({"request": "cancel", "when": "immediate", "actor": "operator"}));
    assert_eq!((status, &ended["state"], &ended["seats"]), (200, &json!("ended"), &json!(0)));
    let answer = daemon.form("/v1/acquire", "tenant=acme&subject=anna&session=d1&kind=desktop&ttl_s=60");
    assert_eq!(answer.body, "deny.inactive ended");
}

/// An error would have the client send it again, and each time it would be booked again.
#[test]
fn a_change_that_waits_for_a_reload_is_accepted_and_says_so() {
    let all: Vec<String> = (1..6).map(|n| format!("t{n}")).collect();
    let mut tenants = vec![("acme", ACME)];
    tenants.extend(all.iter().map(|id| (id.as_str(), "kind = \"nfr\"\nseats = 9\n")));
    let daemon = Running::start("", &tenants);
    // Five tenants lose most of their seats in the files: that is stopped until somebody means it.
    for id in &all {
        let path = daemon.folder.path().join(format!("tenants.d/{id}.toml"));
        std::fs::write(path, "kind = \"nfr\"\nseats = 1\n").unwrap();
    }
    let asked = json!({"request": "add", "seats": 4, "object": "subscription"});
    let (status, added) = ask(&daemon, "acme", &asked);
    assert_eq!((status, &added["accepted"]), (200, &json!(true)), "{added}");
    assert!(added["waiting"].as_str().unwrap().contains("--force"), "{added}");
    assert_eq!(daemon.get("/v1/tenants/acme").json()["quota"], 21, "not yet");
    assert_eq!(daemon.call("POST", "/v1/admin/reload?force=1", "", "").status, 200);
    assert_eq!(daemon.get("/v1/tenants/acme").json()["quota"], 25);
    let (_, again) = ask(&daemon, "acme", &asked);
    assert_eq!((&again["seats"], again.get("waiting")), (&json!(29), None), "{again}");
}

#[test]
fn refusals_have_their_codes_and_change_nothing() {
    let daemon = Running::start("", &[("acme", ACME)]);
    for (body, refusal, earliest) in [
        (json!({"request": "reduce", "seats": 16}), "not_a_reduction", None),
        (json!({"request": "reduce", "seats": 0}), "use_cancel", None),
        (json!({"request": "cancel", "when": "immediate"}), "not_immediate", Some("2027-06-15T22:00:00Z")),
        (json!({"request": "cancel", "when": "2026-11-20"}), "needs_operator", None),
        (json!({"request": "cancel", "when": "2026-11-23", "actor": "operator"}), "future_date", None),
        (json!({"request": "cancel", "when": "2026-10-31", "actor": "operator"}), "before_period", None),
        (json!({"request": "suspend"}), "needs_operator", None),
        (json!({"request": "upgrade", "seats": 3}), "not_a_trial", None),
        (json!({"request": "add", "seats": 1_000_000}), "too_many_seats", None),
        (json!({"request": "add", "seats": 1, "object": "addon:winter"}), "unknown_object", None),
        (json!({"request": "revoke", "change": "subscription@cancel"}), "unknown_change", None),
    ] {
        let (status, answer) = ask(&daemon, "acme", &body);
        assert_eq!((status, answer["refusal"].as_str()), (409, Some(refusal)), "{body}");
        assert_eq!(answer["earliest_at"].as_str(), earliest, "{body}");
        assert!(answer["message"].as_str().unwrap().len() > 10, "{answer}");
    }
    assert_eq!(file(&daemon), ACME);
}

#[test]
fn malformed_requests_name_every_field() {
    let daemon = Running::start("", &[("acme", ACME)]);
    for (body, pointers) in [
        (json!({}), vec!["/request"]),
        (json!({"request": "add"}), vec!["/seats"]),
        (json!({"request": "add", "seats": 1_000_001}), vec!["/seats"]),
        (json!({"request": "add", "seats": -1}), vec!["/seats"]),
        (json!({"request": "revoke"}), vec!["/change"]),
        (json!({"request": "suspend", "seats": 1, "when": "immediate"}), vec!["/seats", "/when"]),
        (json!({"request": "cancel", "when": "2026-02-30"}), vec!["/when"]),
        (json!({"request": "cancel", "actor": "boss", "object": "addon:"}), vec!["/actor", "/object"]),
        (json!({"request": "add", "seats": 1, "force": true}), vec!["/force"]),
        (json!({"request": 1, "dry_run": "yes"}), vec!["/dry_run", "/request"]),
    ] {
        let answer = daemon.post("/v1/tenants/acme/subscription", &body);
        assert_eq!(
            (answer.status, answer.pointers()),
            (400, pointers.into_iter().map(str::to_owned).collect()),
            "{body}"
        );
    }
    let (status, _) = ask(&daemon, "nowhere", &json!({"request": "add", "seats": 1}));
    assert_eq!(status, 404);
    assert_eq!(daemon.get("/v1/tenants/acme/subscription").status, 405);
    assert_eq!(file(&daemon), ACME);
}

#[test]
fn what_would_not_fit_the_pool_is_not_written_f7() {
    let main = "[[pool]]\nid = \"provider\"\nseats = 22\n";
    let acme = ACME.replace("kind =", "pool = \"provider\"\nkind =");
    let daemon = Running::start(main, &[("acme", &acme)]);
    let (status, answer) = ask(&daemon, "acme", &json!({"request": "add", "seats": 2}));
    assert_eq!(status, 409);
    assert!(answer["errors"][0]["detail"].as_str().unwrap().contains("pool `provider` has 22 seats"), "{answer}");
    assert_eq!(file(&daemon), acme);
    assert_eq!(ask(&daemon, "acme", &json!({"request": "add", "seats": 1})).0, 200);
}

#[test]
fn a_bad_file_stops_requests_of_its_own_tenant_only_t175() {
    let broken = "kind = \"paid\"\n";
    let daemon = Running::start("", &[("acme", ACME), ("broken", ACME)]);
    write_tenant(daemon.folder.path(), "broken", broken);
    let (status, answer) = ask(&daemon, "broken", &json!({"request": "add", "seats": 2}));
    assert_eq!(status, 409, "{answer}");
    assert!(answer["errors"][0]["detail"].as_str().unwrap().contains("broken.toml"), "{answer}");
    assert_eq!(std::fs::read_to_string(daemon.folder.path().join("tenants.d/broken.toml")).unwrap(), broken);
    assert_eq!(ask(&daemon, "acme", &json!({"request": "add", "seats": 2})).0, 200);
    assert_eq!(daemon.get("/v1/tenants/acme").json()["quota"], 23);
    assert_eq!(daemon.get("/v1/tenants/broken").json()["quota"], 21, "it keeps its last good record");
    // Nor does a file that is away for a moment end anything when another tenant's request is taken up.
    std::fs::remove_file(daemon.folder.path().join("tenants.d/broken.toml")).unwrap();
    assert_eq!(ask(&daemon, "acme", &json!({"request": "add", "seats": 1})).0, 200);
    assert_eq!(daemon.get("/v1/tenants/broken").json()["quota"], 21);
    // What is wrong with the daemon's own file concerns all.
    let main = daemon.folder.path().join("usherd.toml");
    let text = std::fs::read_to_string(&main).unwrap();
    std::fs::write(&main, format!("{text}\n[polcy]\n")).unwrap();
    assert_eq!(ask(&daemon, "acme", &json!({"request": "add", "seats": 1})).0, 409);
}

#[test]
fn the_audit_trail_has_who_asked_for_what() {
    let mut daemon = Running::start("", &[("acme", ACME)]);
    ask(&daemon, "acme", &json!({"request": "add", "seats": 4}));
    ask(&daemon, "acme", &json!({"request": "suspend"}));
    daemon.stop();
    let mut found = String::new();
    collect(daemon.folder.path(), &mut found);
    assert!(
        found.contains("customer asked: add 4 (subscription): accepted as subscription@2026-11-22T12:00:00Z"),
        "not on record"
    );
    assert!(
        found.contains("customer asked: suspend (subscription): refused: needs_operator"),
        "a refusal is on record too"
    );
}

/// Everything that stands in files below a folder, as text.
fn collect(folder: &std::path::Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, into);
        } else if let Ok(bytes) = std::fs::read(&path) {
            into.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
}
