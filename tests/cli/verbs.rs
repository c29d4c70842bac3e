//! Verbs against canned answers: what is asked, what is shown, and how it ends.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use super::canned::Canned;
use super::{finish, run, usherd};

const DENIED: &str = r#"{"code":"deny.full","allow":false,"detail":"tenant","message":"All 10 seats are taken.","tenant":"acme","subject":"anna","session":"c1","held":10,"quota":10,"over":0,"retry_after_s":60,"sip_code":403,"decision_id":"1-2"}"#;
const GRANTED: &str = r#"{"code":"allow.new","allow":true,"detail":"","tenant":"acme","held":4,"quota":null}"#;
const TENANT: &str = r#"{"tenant":"acme","state":"active","quota":10,"held":9,"free":1,"over":0,"peak_today":9,"denials_today":2,"next_change":{"at":"2026-06-16T12:03:07Z","seats":14}}"#;

/// Asks the canned daemon; times are in UTC so that the test does not depend on the zone.
fn ask(daemon: &Canned, arguments: &[&str], expected: i32) -> (String, String) {
    let mut all = vec!["--addr", daemon.address.as_str(), "--utc"];
    all.extend(arguments);
    run(&all, expected)
}

#[test]
fn a_list_is_followed_to_its_end() {
    let pages = &[
        (
            "GET /v1/tenants?state=active&limit=1000",
            200,
            r#"{"tenants":[{"tenant":"a","held":1,"quota":5,"band":"below_50"}],"next":"a"}"#,
        ),
        (
            "GET /v1/tenants?state=active&after=a&limit=1000",
            200,
            r#"{"tenants":[{"tenant":"b","held":12,"quota":null}],"next":"b"}"#,
        ),
        ("GET /v1/tenants?state=active&after=b&limit=1000", 200, r#"{"tenants":[]}"#),
    ];
    let daemon = Canned::with(pages);
    let (out, _) = ask(&daemon, &["tenants", "--state", "active"], 0);
    assert_eq!(out, "TENANT  HELD      QUOTA  BAND\na          1          5  below_50\nb         12  unlimited\n");
    let (out, _) = ask(&daemon, &["tenants", "--state", "active", "-o", "csv"], 0);
    assert_eq!(out, "tenant,held,quota,band\na,1,5,below_50\nb,12,,\n");
    let (out, _) = ask(&daemon, &["tenants", "--state", "active", "-o", "json"], 0);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["tenants"].as_array().unwrap().len(), 2);
    assert!(answer.get("next").is_none());
}

#[test]
fn a_limit_ends_a_list_and_says_where_to_go_on() {
    let daemon =
        Canned::with(&[("GET /v1/nodes?limit=1", 200, r#"{"nodes":[{"node":"n1","state":"up"}],"next":"n1"}"#)]);
    let (out, _) = ask(&daemon, &["nodes", "--limit", "1", "-o", "json"], 0);
    assert_eq!(out, "{\"next\":\"n1\",\"nodes\":[{\"node\":\"n1\",\"state\":\"up\"}]}\n");
}

#[test]
fn a_daemon_that_turns_in_circles_does_not_keep_us() {
    let daemon = Canned::with(&[
        ("GET /v1/nodes?limit=1000", 200, r#"{"nodes":[{"node":"n1"}],"next":"n1"}"#),
        ("GET /v1/nodes?after=n1&limit=1000", 200, r#"{"nodes":[],"next":"n1"}"#),
    ]);
    ask(&daemon, &["nodes"], 0);
}

#[test]
fn sessions_are_filtered_by_the_daemon() {
    let row = r#"{"sessions":[{"session":"c/1","subject":"anna","kind":"call","direction":"outbound","counts":true,"node":"n1","started":"2026-06-16T12:03:07Z"}]}"#;
    let daemon =
        Canned::with(&[("GET /v1/tenants/acme/sessions?kind=call&node=n%201&counts=true&limit=1000", 200, row)]);
    let arguments = ["sessions", "acme", "--kind", "call", "--node", "n 1", "--counts", "true"];
    let (out, _) = ask(&daemon, &arguments, 0);
    let mut lines = out.lines();
    assert_eq!(
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["SESSION", "SUBJECT", "KIND", "DIRECTION", "COUNTS", "NODE", "STARTED"]
    );
    assert!(lines.next().unwrap().ends_with("yes     n1    2026-06-16 12:03:07 UTC"), "{out}");
}

#[test]
fn one_tenant_is_shown_field_by_field() {
    let daemon = Canned::with(&[("GET /v1/tenants/acme", 200, TENANT)]);
    let (out, _) = ask(&daemon, &["tenants", "acme"], 0);
    assert!(out.contains("next_change.at") && out.contains("2026-06-16 12:03:07 UTC"), "{out}");
    let (out, _) = ask(&daemon, &["tenants", "acme", "-o", "json"], 0);
    assert_eq!(out, format!("{TENANT}\n"), "JSON is what the daemon answered");
}

#[test]
fn a_denial_is_1_and_a_grant_is_0() {
    let daemon = Canned::with(&[("POST /v1/acquire", 200, DENIED)]);
    let (out, err) =
        ask(&daemon, &["acquire", "acme", "anna", "c1", "call", "--direction", "outbound", "--ttl", "60"], 1);
    assert_eq!((out.as_str(), err.as_str()), ("deny.full tenant: 10 of 10 seats held. All 10 seats are taken.\n", ""));
    let asked = daemon.asked();
    assert_eq!(asked.header("content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    let expected = serde_json::json!({"tenant": "acme", "subject": "anna", "session": "c1", "kind": "call", "direction": "outbound", "ttl_s": 60});
    assert_eq!(body, expected);
    let daemon = Canned::with(&[("POST /v1/acquire", 200, GRANTED)]);
    let (out, _) = ask(&daemon, &["acquire", "acme", "-", "-", "call", "--emergency", "--to", "112"], 0);
    assert_eq!(out, "allow.new: 4 of unlimited seats held\n");
    let body: serde_json::Value = serde_json::from_str(&daemon.asked().body).unwrap();
    assert_eq!(body, serde_json::json!({"tenant": "acme", "kind": "call", "emergency": true, "to": "112"}));
}

#[test]
fn the_words_and_fields_of_another_release_are_read() {
    let newer = r#"{"code":"deny.tide","allow":false,"detail":"ebb","moon":{"full":true},"held":1,"quota":2,"steps":[{"rule":"T1","input":"sea","outcome":"low","depth":3}],"holders":{"hologram":1}}"#;
    let daemon = Canned::with(&[("POST /v1/acquire", 200, newer), ("POST /v1/explain", 200, newer)]);
    let (out, _) = ask(&daemon, &["acquire", "acme", "anna", "c1", "call"], 1);
    assert_eq!(out, "deny.tide ebb: 1 of 2 seats held\n");
    let (csv, _) = ask(&daemon, &["acquire", "acme", "anna", "c1", "call", "-o", "csv"], 1);
    assert!(csv.starts_with("code,detail,held,quota,") && csv.contains("moon"), "CSV has all columns: {csv}");
    let (out, _) = ask(&daemon, &["explain", "acme", "anna", "c1", "call"], 1);
    assert!(out.contains("sea: low") && out.contains("holders.hologram"), "{out}");
    let (csv, _) = ask(&daemon, &["explain", "acme", "anna", "c1", "call", "-o", "csv"], 1);
    assert_eq!(csv, "rule,input,outcome,depth\nT1,sea,low,3\n");
    let older = Canned::with(&[("POST /v1/explain", 200, r#"{"code":"allow.new"}"#)]);
    let (out, _) = ask(&older, &["explain", "acme", "anna", "c1", "call"], 0);
    assert_eq!(out, "allow.new: 0 of unlimited seats held\n");
    let odd = Canned::with(&[("POST /v1/acquire", 200, r#"{"code":7}"#), ("POST /v1/release", 200, "<html>")]);
    let (_, err) = ask(&odd, &["acquire", "acme", "anna", "c1", "call"], 1);
    assert!(err.contains("with another answer than was asked for: invalid type"), "{err}");
    let (_, err) = ask(&odd, &["release", "acme", "c1"], 1);
    assert!(err.contains("not JSON"), "{err}");
}

#[test]
fn a_release_never_fails() {
    let daemon = Canned::with(&[("POST /v1/release", 200, r#"{"code":"released.none","held":0,"quota":10}"#)]);
    let (out, _) =
        ask(&daemon, &["release", "acme", "c1", "--node", "n1", "--epoch", "3", "--seq", "9", "--why", "transfer"], 0);
    assert_eq!(out, "released.none: 0 of 10 seats held\n");
    let body: serde_json::Value = serde_json::from_str(&daemon.asked().body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"tenant": "acme", "session": "c1", "node": "n1", "epoch": 3, "seq": 9, "why": "transfer"})
    );
}

#[test]
fn an_explanation_has_its_steps() {
    let answer = r#"{"code":"deny.full","detail":"tenant","held":10,"quota":10,"steps":[{"rule":"D3 F6 F7","input":"held 10, quota 10","outcome":"full"}],"holders":{"call":3,"desktop":7},"would_allow":["a higher quota"]}"#;
    let daemon = Canned::with(&[("POST /v1/explain", 200, answer)]);
    let (out, _) = ask(&daemon, &["explain", "acme", "anna", "c1", "call", "--direction", "outbound"], 1);
    let rule = "\n\nWithout a free seat the request is denied (D3 F6 F7)\n    held 10, quota 10: full\n\n";
    for part in ["deny.full tenant: 10 of 10 seats held", rule, "holders.desktop", "a higher quota"] {
        assert!(out.contains(part), "{part} in {out}");
    }
    let (out, _) = ask(&daemon, &["explain", "acme", "anna", "c1", "call", "--direction", "outbound", "-o", "csv"], 1);
    assert_eq!(out, "rule,input,outcome\nD3 F6 F7,\"held 10, quota 10\",full\n");
}

#[test]
fn a_monitoring_plugin_says_it_in_one_line() {
    let daemon = Canned::with(&[("GET /v1/tenants/acme", 200, TENANT)]);
    let (out, _) = ask(&daemon, &["check", "tenant", "acme", "--warn", "80%", "--crit", "95%"], 1);
    assert_eq!(
        out,
        "USHERD WARNING - acme: 9 of 10 seats held (90%) | held=9;8;10;0;10 over=0;;;0 peak_today=9;;;0 denials_today=2;;;0\n"
    );
    ask(&daemon, &["check", "tenant", "acme", "--warn", "10", "--crit", "12"], 0);
    ask(&daemon, &["check", "tenant", "acme", "--warn", "5", "--crit", "9"], 2);
    let (out, err) = ask(&daemon, &["check", "tenant", "nobody"], 3);
    assert!(out.starts_with("USHERD UNKNOWN - nobody: ") && out.lines().count() == 1 && err.is_empty(), "{out}{err}");
    let (out, _) = run(&["check", "tenant", "acme", "--addr", "127.0.0.1:1"], 3);
    assert!(out.starts_with("USHERD UNKNOWN"), "{out}");
}

#[test]
fn the_state_of_the_daemon_decides_the_exit_code() {
    let overview = r#"{"version":"0.1.0","ready":true,"held":3,"nodes":{"up":1}}"#;
    let daemon = Canned::with(&[("GET /v1/overview", 200, overview), ("GET /readyz?verbose", 200, "ok")]);
    let (out, _) = ask(&daemon, &["status"], 0);
    assert!(out.contains("nodes.up") && out.contains("ready") && out.contains("yes"), "{out}");
    let daemon = Canned::with(&[("GET /v1/overview", 200, "{}"), ("GET /readyz?verbose", 503, "recovering")]);
    let (_, err) = ask(&daemon, &["status"], 1);
    assert!(err.contains("not ready: recovering"), "{err}");
    let daemon = Canned::with(&[("GET /v1/overview", 503, "{}"), ("GET /readyz?verbose", 503, "reading the journal")]);
    let (_, err) = ask(&daemon, &["status"], 1);
    assert!(err.contains("not ready: reading the journal"), "{err}");
}

#[test]
fn a_reload_waits_for_its_outcome() {
    let diff = r#"{"applied":true,"diff":{"added":[],"removed":[],"changed":[{"tenant":"acme","quota_before":20,"quota_after":14,"held":17,"what":[],"consequences":["3 stay above it"]}],"settings":[]}}"#;
    let daemon = Canned::with(&[("POST /v1/admin/reload", 200, diff)]);
    let (out, _) = ask(&daemon, &["reload"], 0);
    assert_eq!(out, "~ tenant acme: 20 -> 14 seats, 17 held\n    3 stay above it\n");
    let daemon = Canned::with(&[("POST /v1/admin/reload?dry_run=1&force=1", 200, r#"{"diff":{}}"#)]);
    let (out, _) = ask(&daemon, &["plan", "--force"], 0);
    assert_eq!(out, "no changes\n");
    let odd = r#"{"diff":{},"warnings":[{"severity":"warning","code":"explicit_instant","file":"a.toml","line":5,"column":16,"message":"it differs","help":"fix it"}]}"#;
    let daemon = Canned::with(&[("POST /v1/admin/reload?dry_run=1", 200, odd)]);
    let (out, _) = ask(&daemon, &["plan"], 0);
    assert_eq!(out, "no changes\nwarning[explicit_instant]: a.toml:5:16: it differs\n  help: fix it\n");
    let (csv, _) = ask(&daemon, &["plan", "-o", "csv"], 0);
    assert!(csv.ends_with("warning,a.toml:5:16,it differs\n"), "{csv}");
    let bad = r#"{"file":"a.toml","line":3,"column":9,"code":"invalid","message":"no number","help":"write 10"}"#;
    let partly = format!(
        r#"{{"code":"partly","diff":{{}},"rejected":[{{"tenant":"a","file":"a.toml","kept":true,"problems":[{bad}]}}],"away":["b.toml"],"certificates":[{bad}]}}"#
    );
    let daemon = Canned::with(&[("POST /v1/admin/reload", 200, &partly)]);
    let (out, _) = ask(&daemon, &["reload"], 1);
    let told = "error[invalid]: a.toml:3:9: no number\n  help: write 10\n";
    assert_eq!(
        out,
        format!(
            "no changes\nb.toml is missing or drops tenants; they stay for removal_delay_s\n! tenant a: its file is not \
             taken; it keeps its last good record\n{told}{told}"
        )
    );
    let (csv, _) = ask(&daemon, &["reload", "-o", "csv"], 1);
    assert_eq!(csv.matches("rejected,a.toml:3:9,no number").count(), 2, "{csv}");
    let rejected = r#"{"title":"Understood and rejected","status":422,"detail":"2 errors","problems":[{"file":"tenants.d/acme.toml","line":3,"column":9,"message":"seats is no number","help":"write seats = 10"}]}"#;
    let daemon = Canned::with(&[("POST /v1/admin/reload", 422, rejected)]);
    let (out, err) = ask(&daemon, &["reload"], 78);
    assert!(
        out.is_empty() && err.contains("tenants.d/acme.toml:3:9: seats is no number\n  help: write seats = 10"),
        "{out}{err}"
    );
}

#[test]
fn a_node_is_forgotten_by_name_and_by_force_where_that_is_asked() {
    let refused = r#"{"title":"In conflict with what is there","status":409,"detail":"node n 1 is up: stop it first, or add ?force=1"}"#;
    let daemon = Canned::with(&[
        ("DELETE /v1/nodes/n%201", 409, refused),
        ("DELETE /v1/nodes/n%201?force=1", 200, r#"{"code":"forgotten","epoch":9223372036854775807,"orphaned":3}"#),
        ("DELETE /v1/nodes/n2", 200, r#"{"code":"forgotten","epoch":null,"orphaned":0}"#),
    ]);
    let (out, err) = ask(&daemon, &["node", "forget", "n 1"], 1);
    assert!(out.is_empty() && err.contains("is up: stop it first"), "{err}");
    let (out, _) = ask(&daemon, &["node", "forget", "n 1", "--force"], 0);
    assert_eq!(out, "n 1 is forgotten: its epoch was 9223372036854775807, 3 sessions wait for it or another node\n");
    let (out, _) = ask(&daemon, &["node", "forget", "n2"], 0);
    assert_eq!(out, "n2 is forgotten: it had no epoch, 0 sessions wait for it or another node\n");
}

#[test]
fn events_are_shown_as_they_come() {
    let stream = concat!(
        r#"{"id":1,"type":"granted","at":"2026-06-16T12:03:07Z","tenant":"acme","subject":"anna","code":"allow.new","held":4,"quota":10}"#,
        "\n",
        r#"{"id":2,"type":"denied","at":"2026-06-16T12:03:08Z","tenant":"acme","code":"deny.full","detail":"tenant"}"#,
        "\n",
    );
    let daemon = Canned::with(&[("GET /v1/events?tenant=acme&types=granted%2Cdenied", 200, stream)]);
    let arguments = ["events", "--tenant", "acme", "--types", "granted,denied", "--since", "7", "--limit", "1"];
    let (out, _) = ask(&daemon, &arguments, 0);
    assert_eq!(out, "2026-06-16 12:03:07 UTC  granted  acme  anna  allow.new  4/10\n");
    let asked = daemon.asked();
    assert_eq!((asked.header("accept"), asked.header("last-event-id")), (Some("application/x-ndjson"), Some("7")));
    let (out, _) = ask(&daemon, &["events", "--tenant", "acme", "--types", "granted,denied", "-o", "json"], 1);
    assert_eq!(out, stream, "the stream ended and nobody asked for an end: that is a failure");
    let (out, _) =
        ask(&daemon, &["events", "--tenant", "acme", "--types", "granted,denied", "--limit", "2", "-o", "csv"], 0);
    assert_eq!(out.lines().nth(2).unwrap(), "2,2026-06-16T12:03:08Z,denied,acme,,,,deny.full,tenant,,,");
}

#[test]
fn a_problem_is_told_in_full() {
    let problem = r#"{"title":"The request is malformed","status":400,"detail":"1 field is wrong","errors":[{"pointer":"/ttl_s","detail":"is required"}]}"#;
    let daemon = Canned::with(&[("POST /v1/acquire", 400, problem), ("GET /v1/nodes?limit=1000", 401, "{}")]);
    let (out, err) = ask(&daemon, &["acquire", "acme", "anna", "d1", "desktop"], 1);
    assert!(out.is_empty() && err.contains("1 field is wrong\n  ttl_s is required"), "{err}");
    let (_, err) = ask(&daemon, &["nodes"], 1);
    assert!(err.contains("401") && err.contains("--token-file"), "{err}");
}

#[test]
fn the_token_is_shown_to_the_daemon_only() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "\nush_viewer_abc\n").unwrap();
    let daemon = Canned::with(&[("GET /v1/nodes?limit=1000", 200, r#"{"nodes":[]}"#)]);
    ask(&daemon, &["nodes", "--token-file", file.to_str().unwrap()], 0);
    assert_eq!(daemon.asked().header("authorization"), Some("Bearer ush_viewer_abc"));
    let mut command = usherd(&["nodes"]);
    finish(command.env("USHERD_TOKEN", "ush_viewer_env").env("USHERD_ADDR", &daemon.address), 0);
    assert_eq!(daemon.asked().header("authorization"), Some("Bearer ush_viewer_env"));
}

#[test]
fn who_is_not_there_is_named_with_a_way_out() {
    let (out, err) = run(&["nodes", "--addr", "127.0.0.1:1"], 1);
    assert!(
        out.is_empty() && err.contains("127.0.0.1:1: ") && err.contains("help: start it with `usherd serve`"),
        "{err}"
    );
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("usherd.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let (_, err) = run(&["nodes", "--addr", &format!("unix:{}", socket.display())], 1);
    assert!(err.contains("cannot be reached (unix:"), "{err}");
}

#[test]
fn a_daemon_that_says_nothing_is_waited_for_only_so_long() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("usherd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (_, err) = run(&["nodes", "--timeout", "1", "--addr", socket.to_str().unwrap()], 1);
    assert!(err.contains("did not answer within 1 s"), "{err}");
    drop(listener);
}

#[test]
fn the_configured_socket_goes_first_and_the_next_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("usherd.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let daemon = Canned::with(&[("GET /v1/nodes?limit=1000", 200, r#"{"nodes":[{"node":"n1"}]}"#)]);
    let config = dir.path().join("usherd.toml");
    let text = format!("[server]\nlisten = {:?}\nunix_socket = {:?}\n", daemon.address, socket.to_str().unwrap());
    std::fs::write(&config, text).unwrap();
    let (out, _) = run(&["nodes", "--config", config.to_str().unwrap()], 0);
    assert!(out.contains("n1"), "{out}");
    assert_eq!(daemon.asked().line, "GET /v1/nodes?limit=1000");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = usherd(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
