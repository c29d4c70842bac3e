//! Bad input of every kind: each is named, changes nothing, and is counted.

use serde_json::{Value, json};
use usherd_testkit::files::write_tenant;

use crate::daemon::{Answer, Running};
use crate::lists::exposition;

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 3\n";
const JSON: &str = "Content-Type: application/json\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// All that can be seen of the state.
fn seen(daemon: &Running) -> Vec<String> {
    let lists = ["/v1/tenants", "/v1/tenants/acme/sessions", "/v1/tenants/acme/subjects", "/v1/nodes"];
    let mut all: Vec<String> = lists.iter().map(|path| daemon.get(path).body).collect();
    all.push(daemon.get("/v1/admin/config").json()["hash"].to_string());
    all
}

fn started() -> Running {
    let main = "[server]\nmax_body_bytes = 4096\nmax_inventory_bytes = 65536\nbatch_operations_max = 3\n";
    let daemon = Running::start(main, &[("acme", PAID)]);
    assert_eq!(daemon.form("/v1/nodes/n1/hello", "epoch=7").status, 200);
    let live = "tenant=acme&subject=anna&session=d1&kind=desktop&node=n1&epoch=7&seq=1";
    assert_eq!(daemon.form("/v1/acquire", live).body, "allow.new");
    daemon
}

fn good() -> Value {
    json!({ "tenant": "acme", "subject": "bob", "session": "d2", "kind": "desktop", "ttl_s": 60 })
}

/// The good request with some fields changed; null takes one away.
fn with(changes: Value) -> String {
    let mut body = good();
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => _ = body.as_object_mut().unwrap().remove(key),
            value => body[key] = value.clone(),
        }
    }
    body.to_string()
}

fn refused(daemon: &Running, path: &str, headers: &str, body: &str, status: u16, pointers: &[&str], allowed: &str) {
    let answer: Answer = daemon.call("POST", path, headers, body);
    assert_eq!(answer.status, status, "{path} {body:.200}: {answer:?}");
    assert_eq!(answer.pointers(), pointers, "{path} {body:.200}: {answer:?}");
    assert!(answer.body.contains(allowed), "{path} {body:.200}: {allowed:?} is not in {answer:?}");
}

#[test]
fn who_is_refused_for_its_epoch_is_told_the_known_one_g5() {
    let daemon = started();
    for (path, body, known) in [
        ("/v1/nodes/n1/hello", json!({ "epoch": 6 }), Some(7)),
        ("/v1/nodes/n1/heartbeat", json!({ "epoch": 6 }), Some(7)),
        ("/v1/nodes/n1/goodbye", json!({ "epoch": 8 }), Some(7)),
        ("/v1/nodes/n1/inventory", json!({ "epoch": 8, "seq": 99, "sessions": [] }), Some(7)),
        ("/v1/nodes/nobody/heartbeat", json!({ "epoch": 6 }), None),
    ] {
        let answer = daemon.call("POST", path, JSON, &body.to_string());
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, problem["known_epoch"].as_u64()), (409, known), "{path}: {answer:?}");
        assert_eq!(problem.get("known_epoch").is_some(), known.is_some(), "absent where none is known");
    }
    // One more is taken.
    assert_eq!(daemon.call("POST", "/v1/nodes/n1/hello", JSON, r#"{"epoch":8}"#).status, 200);
}

#[test]
fn a_wrong_request_is_refused_field_by_field() {
    let daemon = started();
    let before = seen(&daemon);
    let long = "x".repeat(129);
    let number = "a whole number, 0 to 18446744073709551615";
    let cases = [
        (json!({ "tenant": null }), &["/tenant"][..], "1-64 of a-z 0-9 . _ -"),
        (json!({ "tenant": "Acme" }), &["/tenant"], "1-64 of a-z 0-9 . _ -"),
        (json!({ "tenant": 7 }), &["/tenant"], "must be a string"),
        (json!({ "subject": null }), &["/subject"], "is required"),
        (json!({ "subject": long }), &["/subject"], "1-128 bytes"),
        (json!({ "subject": "a\u{7}b" }), &["/subject"], "without control characters"),
        (json!({ "subject": "a\u{85}b" }), &["/subject"], "without control characters"),
        (json!({ "subject": ["a"] }), &["/subject"], "must be a string"),
        (json!({ "session": null }), &["/session"], "is required"),
        (json!({ "session": long }), &["/session"], "1-128 bytes of printable ASCII"),
        (json!({ "session": "a\nb" }), &["/session"], "printable ASCII"),
        (json!({ "session": "ü" }), &["/session"], "printable ASCII"),
        (json!({ "kind": null }), &["/kind"], "desktop, mobile, phone, connector, guest, call"),
        (json!({ "kind": "pigeon" }), &["/kind"], "desktop, mobile, phone, connector, guest, call"),
        (json!({ "kind": "call" }), &["/direction"], "outbound, internal or inbound"),
        (json!({ "kind": "call", "direction": "up" }), &["/direction"], "outbound, internal, inbound"),
        (json!({ "leg": "third" }), &["/leg"], "originate, deliver, service, system"),
        (json!({ "device": "fridge" }), &["/device"], "desk, dect, sip, desktop, mobile, function"),
        (json!({ "class": "first" }), &["/class"], "fax, lift, door, conference, room, other"),
        (json!({ "external": "yes" }), &["/external"], "true or false"),
        (json!({ "existing": 1 }), &["/existing"], "true or false"),
        (json!({ "to": "9".repeat(65) }), &["/to"], "64"),
        (json!({ "group": "a b" }), &["/group"], "1-64 bytes of printable ASCII without blanks"),
        (json!({ "node": "n".repeat(65), "epoch": 1 }), &["/node"], "1-64 bytes"),
        (json!({ "node": "n1", "seq": 4 }), &["/epoch"], "is required where seq is given"),
        (json!({ "epoch": 4 }), &["/node"], "is required where epoch is given"),
        (json!({ "node": "n1", "epoch": -1 }), &["/epoch"], number),
        (json!({ "node": "n1", "epoch": 1.5 }), &["/epoch"], number),
        (json!({ "node": "n1", "epoch": 1, "seq": "4" }), &["/seq"], number),
        (json!({ "ttl_s": 0 }), &["/ttl_s"], "1 to 86400"),
        (json!({ "ttl_s": 86_401 }), &["/ttl_s"], "1 to 86400"),
        (json!({ "ttl_s": null }), &["/ttl_s"], ""),
        (
            json!({ "kind": "x", "tenant": [], "ttl_s": -1, "session": long }),
            &["/tenant", "/kind", "/ttl_s", "/session"],
            "allowed",
        ),
    ];
    let count = cases.len();
    for (changes, pointers, allowed) in cases {
        let allowed = if allowed == "allowed" { "" } else { allowed };
        refused(&daemon, "/v1/acquire", JSON, &with(changes), 400, pointers, allowed);
    }
    let twice = "{\"tenant\":\"a\",\"tenant\":\"b\"}";
    for broken in ["{", "{\"tenant\":\"acme\",}", "[]", "7", "nonsense", twice, "\u{0}"] {
        refused(&daemon, "/v1/acquire", JSON, broken, 400, &[""], "");
    }
    let twice = "tenant=acme&tenant=other&subject=b&session=c&kind=phone";
    refused(&daemon, "/v1/acquire", FORM, twice, 400, &["/tenant"], "");
    refused(&daemon, "/v1/acquire", JSON, &with(json!({ "x": "y".repeat(5_000) })), 413, &[], "longer than 4096 bytes");
    assert_eq!(seen(&daemon), before);
    refused(&daemon, "/v1/acquire", JSON, &with(json!({ "ttl_s": null, "node": "stranger" })), 400, &["/ttl_s"], "");
    assert_eq!(seen(&daemon)[..3], before[..3]);
    let counted = exposition(&daemon.get("/metrics").body);
    let of = |status: u16| {
        counted[&format!("usherd_http_requests_total{{route=\"acquire\",method=\"POST\",status=\"{status}\"}}")]
    };
    assert_eq!((of(400), of(413)), ((count + 9) as f64, 1.0));
}

#[test]
fn a_wrong_release_batch_or_node_call_is_refused() {
    let daemon = started();
    let before = seen(&daemon);
    let long = "x".repeat(129);
    for (path, body, status, pointers, allowed) in [
        ("/v1/release", json!({ "tenant": "acme" }), 400, &["/session"][..], "1-128 bytes of printable ASCII"),
        ("/v1/release", json!({ "tenant": "acme", "session": long }), 400, &["/session"], "1-128"),
        (
            "/v1/release",
            json!({ "tenant": "acme", "session": "d1", "node": "n1", "seq": 9 }),
            400,
            &["/epoch"],
            "is required",
        ),
        ("/v1/batch", json!({ "ops": "d1" }), 400, &["/ops"], "a list"),
        ("/v1/batch", json!({ "op": "release" }), 400, &["/ops"], "is required"),
        ("/v1/batch", json!({ "ops": [1, 2, 3, 4] }), 413, &[], "at most 3"),
        ("/v1/nodes/n1/hello", json!({}), 400, &["/epoch"], "is required"),
        ("/v1/nodes/n1/hello", json!({ "epoch": "8" }), 400, &["/epoch"], "a whole number"),
        ("/v1/nodes/n1/hello", json!({ "epoch": 6 }), 409, &["/epoch"], "at least 7"),
        ("/v1/nodes/n1/heartbeat", json!({ "epoch": 6 }), 409, &["/epoch"], "known epoch is 7"),
        ("/v1/nodes/nobody/inventory", json!({ "epoch": 6, "seq": 1, "sessions": [] }), 409, &["/epoch"], "say hello"),
        ("/v1/nodes/n1/goodbye", json!({ "epoch": 8 }), 409, &["/epoch"], "known epoch is 7"),
        ("/v1/nodes/a%20b/hello", json!({ "epoch": 8 }), 400, &["/node"], "without blanks"),
        (
            "/v1/nodes/n1/inventory",
            json!({ "epoch": 8, "seq": 99, "sessions": [] }),
            409,
            &["/epoch"],
            "/problems/unknown-epoch",
        ),
        (
            "/v1/nodes/n1/inventory",
            json!({ "epoch": 6, "seq": 99, "sessions": [] }),
            409,
            &["/epoch"],
            "known epoch is 7",
        ),
        ("/v1/nodes/n1/inventory", json!({ "sessions": [] }), 400, &["/epoch", "/seq"], "is required"),
        ("/v1/nodes/n1/inventory", json!({ "epoch": 7, "seq": 99 }), 400, &["/sessions"], "a list"),
        (
            "/v1/nodes/n1/inventory",
            json!({ "epoch": 7, "seq": 99, "sessions": [good(), { "tenant": "acme", "subject": "b", "session": "c", "kind": "kite" }] }),
            400,
            &["/sessions/1/kind"],
            "desktop, mobile",
        ),
        (
            "/v1/nodes/n1/inventory",
            json!({ "epoch": 7, "seq": 99, "sessions": vec![good(); 900] }),
            413,
            &[],
            "65536 bytes",
        ),
    ] {
        refused(&daemon, path, JSON, &body.to_string(), status, pointers, allowed);
    }
    assert_eq!(daemon.call("POST", "/v1/nodes/n1/hello", "Content-Type: text/xml\r\n", "<a/>").status, 415);
    assert_eq!(seen(&daemon), before);
}

#[test]
fn a_wrong_configuration_is_refused_with_file_line_and_column() {
    let daemon = started();
    let before = seen(&daemon);
    for (file, text, line, column, key, message) in [
        (
            "acme",
            format!("{}seats = -1\n", &PAID[..PAID.find("seats").unwrap()]),
            3,
            9,
            "seats",
            "must not be negative",
        ),
        ("acme", PAID.replace("= 3", "= 1.5"), 3, 9, "seats", "not a fraction"),
        ("acme", PAID.replace("seats", "seatz"), 3, 1, "seatz", "unknown key"),
        ("acme", format!("{PAID}[reserve]\na = 2\nb = 2\n"), 6, 5, "reserve.b", "reserves more than there is"),
        ("acme", format!("id = \"other\"\n{PAID}"), 1, 6, "id", "other"),
        ("other", format!("id = \"acme\"\n{PAID}"), 1, 6, "id", "acme"),
        (
            "acme",
            format!(
                "{PAID}[[change]]\neffective_at = 2027-02-01\nseats = 1\n[[change]]\neffective_at = 2027-01-01\nseats = 2\n"
            ),
            8,
            16,
            "change[1].effective_at",
            "",
        ),
        (
            "acme",
            format!(
                "{PAID}[[change]]\neffective_at = 2027-02-01\nseats = 1\n[[change]]\neffective_at = 2027-02-01\nseats = 2\n"
            ),
            8,
            16,
            "change[1].effective_at",
            "",
        ),
        ("acme", "kind = ".to_owned(), 1, 8, "", ""),
    ] {
        write_tenant(daemon.folder.path(), file, &text);
        let answer = daemon.call("POST", "/v1/admin/reload?force=1", "", "");
        assert_eq!((answer.status, &answer.json()["code"]), (200, &json!("partly")), "{text}: {answer:?}");
        let rejected = answer.json()["rejected"][0].clone();
        assert_eq!((&rejected["tenant"], &rejected["kept"]), (&json!(file), &json!(file == "acme")), "{rejected}");
        let problems = rejected["problems"].as_array().unwrap().clone();
        let here = |problem: &&Value| problem["line"] == line && problem["column"] == column;
        let problem =
            problems.iter().find(here).unwrap_or_else(|| panic!("{text}: not at {line}:{column}: {problems:#?}"));
        assert!(problem["file"].as_str().unwrap().ends_with(&format!("tenants.d/{file}.toml")), "{problem}");
        assert!(
            problem["key_path"].as_str().unwrap().starts_with(key)
                && problem["message"].as_str().unwrap().contains(message),
            "{problem}"
        );
        let config = daemon.get("/v1/admin/config").json();
        assert_eq!((&config["tenants_rejected"], &config["rejected"][0]), (&json!(1), &rejected));
        assert_eq!(exposition(&daemon.get("/metrics").body)["usherd_config_tenants_rejected"], 1.0);
        assert_eq!(seen(&daemon), before);
        if file != "acme" {
            std::fs::remove_file(daemon.folder.path().join(format!("tenants.d/{file}.toml"))).unwrap();
        }
        write_tenant(daemon.folder.path(), "acme", PAID);
    }
    let counted = exposition(&daemon.get("/metrics").body);
    assert_eq!(counted["usherd_config_reloads_total{result=\"rejected\",trigger=\"http\"}"], 0.0);
    assert_eq!(daemon.call("POST", "/v1/admin/reload", "", "").json()["code"], "unchanged");
    assert_eq!(seen(&daemon), before);
}
