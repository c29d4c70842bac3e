//! `usherd doctor`: a healthy installation is told to be so, and each thing that is broken is named by it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::canned::Canned;
use super::daemon::Office;
use super::run;

/// Verdict and text of each check, by a run in JSON.
fn examined(arguments: &[&str], expected: i32) -> Vec<(String, String, String)> {
    let mut all = vec!["doctor", "-o", "json"];
    all.extend(arguments);
    let (out, err) = run(&all, expected);
    assert!(err.is_empty(), "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = report["checks"].as_array().unwrap().iter();
    rows.map(|row| {
        let (verdict, check) = (word(row, "verdict"), word(row, "check"));
        let help = !word(row, "why").is_empty() && !word(row, "fix").is_empty();
        assert!(help || matches!(verdict.as_str(), "ok" | "note"), "{check} does not say why or how: {row}");
        (verdict, check, word(row, "what"))
    })
    .collect()
}

#[track_caller]
fn finds(rows: &[(String, String, String)], verdict: &str, check: &str, what: &str) {
    let found = rows.iter().any(|row| row.0 == verdict && row.1 == check && row.2.contains(what));
    assert!(found, "no {verdict} {check} with {what:?} in {rows:#?}");
}

fn private(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
}

fn doctor(office: &Office, arguments: &[&str], expected: i32) -> Vec<(String, String, String)> {
    let config = office.path("usherd.toml");
    examined(&[&["--config", config.to_str().unwrap()], arguments].concat(), expected)
}

#[test]
fn a_healthy_installation_is_told_to_be_so() {
    let office = Office::open(2);
    let rows = doctor(&office, &[], 0);
    // What the machine is like, on which this runs, is no matter of the installation.
    let ours =
        rows.iter().filter(|row| !matches!(row.1.as_str(), "time sync" | "room" | "service" | "socket" | "state"));
    let bad: Vec<_> = ours.filter(|row| matches!(row.0.as_str(), "warn" | "fail")).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(!rows.iter().any(|row| row.2.contains("open to every user")), "{rows:#?}");
    for check in
        ["configuration", "access", "journal", "daemon", "durability", "listener", "in force", "release", "clock"]
    {
        finds(&rows, "ok", check, "");
    }
    for check in ["tenants", "latency", "descriptors", "history"] {
        finds(&rows, "ok", check, "");
    }
    let told = office.ask(&["doctor"], 0);
    assert!(told.lines().any(|line| line.starts_with("ok    daemon ")), "{told}");
    assert!(told.lines().last().unwrap().contains(" checks: "), "{told}");
    let health = office.ask(&["doctor", "--health"], 0);
    assert_eq!(health.lines().count(), 2, "{health}");
}

#[test]
fn what_is_broken_on_the_machine_is_named() {
    let mut office = Office::open(2);
    office.ask(&["acquire", "acme", "anna", "d1", "desktop", "--ttl", "600"], 0);
    office.ask(&["acquire", "acme", "bob", "d2", "desktop", "--ttl", "600"], 0);
    finds(&doctor(&office, &[], 0), "warn", "tenants", "1 of 1 tenants are full");
    doctor(&office, &["--strict"], 1);
    finds(&doctor(&office, &["--node", "pbx9"], 1), "fail", "node", "pbx9 was never heard");

    let state = office.path("state");
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    finds(&doctor(&office, &[], 0), "warn", "state", "mode 755");
    private(&state);

    let main = office.path("usherd.toml");
    let good = std::fs::read_to_string(&main).unwrap();
    std::fs::write(&main, format!("{good}\n[nodes]\nlease_s = -1\n")).unwrap();
    office.ask(&["reload"], 78);
    let rows = doctor(&office, &[], 1);
    finds(&rows, "fail", "configuration", "lease_s");
    finds(&rows, "fail", "in force", "the last reload was rejected");

    // The daemon does not listen there before it is started again.
    std::fs::write(&main, good.replace("listen = \"\"", "listen = \"127.0.0.1:1\"")).unwrap();
    finds(&doctor(&office, &[], 1), "fail", "listener", "nobody listens on 127.0.0.1:1");
    std::fs::write(&main, &good).unwrap();

    office.stop();
    finds(&doctor(&office, &[], 1), "fail", "daemon", "cannot be reached");
    office.ask(&["doctor", "--health"], 1);

    let journal = std::fs::read_dir(state.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let largest = journal.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&largest, bytes).unwrap();
    finds(&doctor(&office, &[], 1), "fail", "journal", "not as it was written");
    std::fs::remove_dir_all(&state).unwrap();
    finds(&doctor(&office, &[], 1), "fail", "state", "does not exist");
    assert!(!state.exists(), "the doctor makes what it should look at");
}

#[test]
fn what_the_files_leave_open_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("usherd.toml");
    std::fs::create_dir(dir.path().join("tenants.d")).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["usherd.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(dir.path().join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
    let listener =
        "[[listener]]\nlisten = \"127.0.0.1:7743\"\ntls = { cert_file = \"CERT\", key_file = \"key.pem\" }\n";
    for (text, verdict, check, what) in [
        ("", "warn", "configuration", "has no tenants"),
        ("[server]\nlisten = \"0.0.0.0:7788\"\ninsecure = true\n", "warn", "access", "0.0.0.0:7788 can be reached"),
        (&listener.replace("CERT", "cert.pem"), "fail", "certificate", "expired on 2020-01-01"),
        (&listener.replace("CERT", "cert.pem"), "warn", "certificate", "may read the key"),
        (&listener.replace("CERT", "key.pem"), "fail", "certificate", "no certificate"),
        (&listener.replace("CERT", "none.pem"), "fail", "certificate", "none.pem"),
    ] {
        std::fs::write(&main, text).unwrap();
        let rows = examined(&["--config", main.to_str().unwrap(), "--addr", "127.0.0.1:1"], 1);
        finds(&rows, verdict, check, what);
    }
    let rows = examined(&["--config", "/nowhere/usherd.toml", "--addr", "127.0.0.1:1"], 1);
    finds(&rows, "fail", "configuration", "/nowhere/usherd.toml");
}

/// Answers of a daemon in which all is well.
fn well() -> [(&'static str, Value); 7] {
    let at = chrono::DateTime::from_timestamp_nanos(0).max(usherd_clock());
    let bands = json!({"full": 0, "over": 0});
    [
        ("GET /readyz?verbose", json!({"ready": true, "durability": "written", "degraded": null})),
        ("GET /v1/admin/config", json!({"hash": "", "main": "u.toml", "last_reload_successful": true})),
        (
            "GET /v1/overview",
            json!({"version": env!("CARGO_PKG_VERSION"), "at": at.to_rfc3339(), "tenants": 1, "bands": bands,
                "time": {"clock_steps": 0, "wall_clock_trusted": true}, "sync": null}),
        ),
        ("GET /v1/nodes?limit=1000", json!({"nodes": []})),
        ("GET /v1/admin/webhooks", json!({"webhooks": []})),
        ("POST /v1/explain", json!({})),
        ("GET /metrics", json!("process_open_fds 3\nprocess_max_fds 1024\n")),
    ]
}

fn usherd_clock() -> chrono::DateTime<chrono::Utc> {
    use usherd::daemon::clock::{Clock, SystemClock};
    chrono::DateTime::from_timestamp_millis(SystemClock::start().now().utc_ms).unwrap()
}

#[test]
fn what_the_daemon_says_of_itself_is_judged() {
    let silent =
        json!({"nodes": [{"node": "pbx1", "epoch": 1, "state": "silent", "last_seen": "2026-01-01T00:00:00Z"}]});
    let (overview, hooks) = ("GET /v1/overview", "GET /v1/admin/webhooks");
    for (path, key, value, verdict, check, what) in [
        ("GET /readyz?verbose", "degraded", json!("disk full"), "fail", "durability", "disk full"),
        ("GET /readyz?verbose", "ready", json!(false), "fail", "daemon", "not ready"),
        ("GET /v1/admin/config", "from_last_good", json!(true), "fail", "in force", "last good"),
        ("GET /v1/admin/config", "hash", json!("other"), "warn", "in force", "something other than these files"),
        (overview, "version", json!("0.0.1"), "warn", "release", "the daemon is 0.0.1"),
        (overview, "at", json!("2020-01-01T00:00:00Z"), "warn", "clock", "apart"),
        (overview, "time", json!({"wall_clock_trusted": false}), "fail", "clock", "jumped"),
        (overview, "sync", json!({"stale": true, "confirmed_at": "T"}), "fail", "sync", "stale"),
        (overview, "history", json!({"problem": "disk full"}), "warn", "history", "disk full"),
        (hooks, "webhooks", json!([{"name": "crm", "state": "failing"}]), "warn", "webhooks", "crm"),
        (overview, "bands", json!({"over": 1}), "warn", "tenants", "more than their quota"),
        ("GET /v1/nodes?limit=1000", "nodes", silent["nodes"].clone(), "warn", "nodes", "pbx1 (last heard 2026-01-01"),
    ] {
        let mut answers = well();
        let answer = answers.iter_mut().find(|answer| answer.0 == path).unwrap();
        answer.1[key] = value;
        let texts: Vec<(&str, String)> = answers.iter().map(|(path, answer)| (*path, answer.to_string())).collect();
        let answers: Vec<(&str, u16, &str)> = texts.iter().map(|(path, text)| (*path, 200, text.as_str())).collect();
        let daemon = Canned::with(&answers);
        let config = super::shipped("config/usherd.toml");
        let arguments = ["doctor", "-o", "json", "--addr", &daemon.address, "--config", &config];
        let output = super::usherd(&arguments).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = report["checks"].as_array().unwrap().iter();
        let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        let rows: Vec<_> = rows.map(|row| (word(row, "verdict"), word(row, "check"), word(row, "what"))).collect();
        finds(&rows, verdict, check, what);
    }
}

#[test]
fn a_daemon_that_wants_a_token_or_is_another_program_is_told() {
    let forbidden = r#"{"title":"Not permitted","status":401}"#;
    let ready = r#"{"ready":true,"durability":"written"}"#;
    let daemon = Canned::with(&[
        ("GET /readyz?verbose", 200, ready),
        ("GET /v1/overview", 401, forbidden),
        ("GET /v1/admin/config", 401, forbidden),
        ("GET /v1/nodes?limit=1000", 401, forbidden),
        ("POST /v1/explain", 401, forbidden),
        ("GET /metrics", 401, forbidden),
    ]);
    let config = super::shipped("config/usherd.toml");
    let output = super::usherd(&["doctor", "--addr", &daemon.address, "--config", &config]).output().unwrap();
    let told = super::out(&output);
    assert!(told.contains("note  overview") && told.contains("--token-file"), "{told}");
    let other = Canned::with(&[]);
    let (told, _) = run(&["doctor", "--health", "--addr", &other.address], 1);
    assert!(told.contains("whoever answers there is not usherd"), "{told}");
}
