//! Who may do what: tokens by role, tenant and node; wrong ones; the calls that pass nevertheless.

use serde_json::json;
use usherd::daemon::http::auth::TokenHash;

use crate::client;
use crate::daemon::{Answer, Running};

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 1\n";

pub(crate) fn token(role: &str, letter: char) -> String {
    format!("ush_{role}_{}", letter.to_string().repeat(43))
}

/// An entry of `[[auth.tokens]]`.
pub(crate) fn entry(role: &str, letter: char, rest: &str) -> String {
    let hash = TokenHash::of(&token(role, letter)).to_hex();
    format!("[[auth.tokens]]\nid = \"{role}-{letter}\"\nrole = \"{role}\"\nsha256 = \"{hash}\"\n{rest}\n")
}

fn as_token(daemon: &Running, token: &str, method: &str, path: &str, body: &str) -> Answer {
    daemon.call(method, path, &format!("Authorization: Bearer {token}\r\n"), body)
}

fn credentials() -> String {
    [
        entry("node", 'a', ""),
        entry("node", 'b', "tenants = [\"acme\"]"),
        entry("node", 'c', "tenants = [\"acme\"]\nnodes = [\"n1\"]"),
        entry("node", 'd', "nodes = [\"n2\"]"),
        entry("viewer", 'a', ""),
        entry("viewer", 'b', "tenants = [\"acme\"]\nnames = true"),
        entry("scrape", 'a', ""),
        entry("admin", 'a', ""),
        entry("admin", 'b', "tenants = [\"acme\"]"),
        entry("sync", 'a', ""),
    ]
    .concat()
}

#[test]
fn a_role_may_do_what_is_its_own_and_nothing_else() {
    let daemon = Running::start(&credentials(), &[("acme", PAID), ("other", PAID)]);
    let seat = |tenant: &str| format!("tenant={tenant}&subject=a&session=a&kind=phone");
    let rows: [(&str, &str, &str, String, &str); 13] = [
        ("decide acme", "POST", "/v1/acquire", seat("acme"), "node-a node-b node-c node-d admin-a admin-b"),
        ("decide other", "POST", "/v1/acquire", seat("other"), "node-a node-d admin-a"),
        ("explain other", "POST", "/v1/explain", seat("other"), "node-a node-d viewer-a admin-a"),
        ("release other", "POST", "/v1/release", "tenant=other&session=x".into(), "node-a node-d admin-a"),
        ("hello n1", "POST", "/v1/nodes/n1/hello", "epoch=1".into(), "node-a node-c admin-a"),
        ("hello n2", "POST", "/v1/nodes/n2/hello", "epoch=1".into(), "node-a node-d admin-a"),
        ("read acme", "GET", "/v1/tenants/acme", String::new(), "viewer-a viewer-b admin-a admin-b"),
        ("read other", "GET", "/v1/tenants/other/sessions", String::new(), "viewer-a admin-a"),
        ("overview", "GET", "/v1/overview", String::new(), "viewer-a admin-a"),
        ("size", "GET", "/v1/size?types=1,2,3,4", String::new(), "viewer-a viewer-b admin-a admin-b"),
        ("metrics", "GET", "/metrics", String::new(), "viewer-a scrape-a admin-a"),
        ("reload", "POST", "/v1/admin/reload", String::new(), "admin-a"),
        ("config", "GET", "/v1/admin/config", String::new(), "admin-a"),
    ];
    for (what, method, path, body, allowed) in rows {
        for who in
            ["node-a", "node-b", "node-c", "node-d", "viewer-a", "viewer-b", "scrape-a", "admin-a", "admin-b", "sync-a"]
        {
            let (role, letter) = who.split_once('-').unwrap();
            let answer = as_token(&daemon, &token(role, letter.chars().next().unwrap()), method, path, &body);
            let wanted = if allowed.split(' ').any(|other| other == who) { 200 } else { 401 };
            assert_eq!(answer.status, wanted, "{what} as {who}: {answer:?}");
        }
    }
}

#[test]
fn a_token_for_a_tenant_neither_sees_nor_changes_another() {
    use std::io::{Read as _, Write as _};
    let daemon = Running::start(&credentials(), &[("acme", PAID), ("other", PAID)]);
    let (admin, viewer, own_admin, node) =
        (token("admin", 'a'), token("viewer", 'b'), token("admin", 'b'), token("node", 'c'));
    let mut heard = client::tcp(daemon.address);
    write!(
        heard,
        "GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {viewer}\r\nAccept: application/x-ndjson\r\n\r\n"
    )
    .unwrap();
    let mut first = [0; 1];
    heard.read_exact(&mut first).unwrap();
    as_token(&daemon, &admin, "POST", "/v1/acquire", "tenant=other&subject=secret&session=s1&kind=desktop&ttl_s=60");
    as_token(&daemon, &admin, "POST", "/v1/nodes/other-pbx/hello", "epoch=1");
    crate::daemon::write_tenant(daemon.folder.path(), "other", &format!("{PAID}name = \"Secret\"\n"));
    assert_eq!(as_token(&daemon, &admin, "POST", "/v1/admin/reload", "").json()["code"], "applied");
    as_token(&daemon, &admin, "POST", "/v1/acquire", "tenant=acme&subject=anna&session=s1&kind=desktop&ttl_s=60");
    let mut text = String::new();
    while !text.contains("anna") {
        let mut part = [0; 4_096];
        let read = heard.read(&mut part).unwrap();
        assert!(read > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    assert!(!text.to_lowercase().contains("secret") && !text.contains("other"), "{text}");
    for path in ["/v1/tenants", "/v1/nodes", "/v1/tenants/acme/sessions"] {
        let answer = as_token(&daemon, &viewer, "GET", path, "");
        assert!(answer.status == 200 && !answer.body.contains("other"), "{answer:?}");
    }
    for path in ["/v1/tenants/other", "/v1/tenants/nowhere", "/v1/events?tenant=other"] {
        assert_eq!(as_token(&daemon, &viewer, "GET", path, "").status, 401, "{path}");
    }
    for path in ["/v1/tenants/other/sessions/s1?force=1", "/v1/tenants/other/subjects/secret?force=1"] {
        assert_eq!(as_token(&daemon, &own_admin, "DELETE", path, "").status, 401, "{path}");
    }
    assert_eq!(as_token(&daemon, &own_admin, "DELETE", "/v1/tenants/acme/sessions/s1", "").status, 200);
    let listed = json!({ "epoch": 1, "seq": 1, "sessions": [{ "tenant": "other", "subject": "x", "session": "y", "kind": "phone" }] });
    as_token(&daemon, &node, "POST", "/v1/nodes/n1/hello", "epoch=1");
    assert_eq!(as_token(&daemon, &node, "POST", "/v1/nodes/n1/inventory", &listed.to_string()).status, 401);
    let batch = json!({ "ops": [
        { "op": "release", "tenant": "other", "session": "s1" },
        { "op": "acquire", "tenant": "acme", "subject": "x", "session": "y", "kind": "phone" },
        { "op": "acquire", "tenant": "other", "session": "z", "kind": "call", "direction": "inbound" },
    ] });
    let results = as_token(&daemon, &node, "POST", "/v1/batch", &batch.to_string()).json()["results"].clone();
    assert_eq!(
        (&results[0]["status"], &results[1]["code"], &results[2]["code"], &results[2]["held"]),
        (&json!(401), &json!("allow.free"), &json!("allow.free"), &json!(0))
    );
    assert_eq!(as_token(&daemon, &admin, "GET", "/v1/tenants/other", "").json()["sessions"], 1);
}

#[test]
fn a_wrong_token_is_401_and_inbound_and_emergency_pass_nevertheless() {
    let main = format!("[server]\nauth_failures_per_minute = 30\n{}", entry("node", 'a', ""));
    let daemon = Running::start(&main, &[("acme", PAID)]);
    let wrong = [
        "Bearer nonsense",
        "Basic YTpi",
        "Bearer",
        &format!("Bearer {}", token("node", 'z')),
        &format!("Bearer {}", token("admin", 'a')),
    ];
    let seat = "tenant=acme&subject=a&session=a&kind=desktop&ttl_s=9";
    for header in wrong.iter().map(|value| format!("Authorization: {value}\r\n")).chain([String::new()]) {
        let answer = daemon.call("POST", "/v1/acquire", &header, seat);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{header}");
        for (pass, want) in [
            ("tenant=acme&session=b&kind=call&direction=inbound", "allow.free inbound"),
            ("tenant=nobody&kind=call&direction=inbound&seq=0", "allow.free inbound"),
            ("tenant=acme&to=112&kind=call", "allow.free emergency"),
            ("emergency=1", "allow.free emergency"),
        ] {
            let answer = daemon.call("POST", "/v1/acquire", &header, pass);
            assert_eq!((answer.status, answer.body.as_str()), (200, want), "{header}{pass}");
        }
    }
    // Beyond the rate of failures all are 429, but those that pass anyway and those that are right.
    daemon.wait_until("too many failures", |daemon| daemon.form("/v1/acquire", seat).status == 429);
    assert_eq!(daemon.form("/v1/acquire", "emergency=1&kind=call").body, "allow.free emergency");
    assert_eq!(daemon.form("/v1/acquire", "tenant=a&kind=call&direction=inbound").body, "allow.free inbound");
    assert_eq!(as_token(&daemon, &token("node", 'a'), "POST", "/v1/acquire", seat).decision(), "allow.new");
    for open in ["/livez", "/readyz", "/openapi.json"] {
        assert_eq!(daemon.get(open).status, 200, "{open}");
    }
    assert_eq!(as_token(&daemon, &token("node", 'a'), "GET", "/metrics", "").status, 401);
}

#[test]
fn a_page_of_another_origin_is_not_trusted_for_coming_from_loopback() {
    let daemon = Running::start("", &[("acme", PAID)]);
    let seat = "tenant=acme&subject=a&session=a&kind=desktop&ttl_s=9";
    for (site, wanted) in [("cross-site", 401), ("same-site", 401), ("", 401), ("same-origin", 200), ("none", 200)] {
        let header = format!("Sec-Fetch-Site: {site}\r\n");
        assert_eq!(daemon.call("POST", "/v1/acquire", &header, seat).status, wanted, "{site}");
        assert_eq!(daemon.call("GET", "/v1/overview", &header, "").status, wanted, "{site}");
        assert_eq!(daemon.call("POST", "/v1/admin/reload", &header, "").status, wanted, "{site}");
        assert_eq!(daemon.call("POST", "/v1/acquire", &header, "emergency=1&kind=call").status, 200, "{site}");
    }
}

#[test]
fn an_emergency_is_seen_in_any_body() {
    let daemon = Running::start(
        "",
        &[("acme", &format!("{PAID}sessions.emergency_numbers = [\"112\", \"911\"]\nsessions.trunk_prefix = \"0\"\n"))],
    );
    let json = "Content-Type: application/json\r\n";
    for (headers, body) in [
        (json, "{\"emergency\":true}"),
        (json, "{\"emergency\":\"true\",\"kind\":7,\"tenant\":[]}"),
        (json, "{\"emergency\":true,\"session\":\"cut of"),
        (json, "{\"to\":\"112\",\"kind\":\"nonsense\"}"),
        (json, "{\"tenant\":\"acme\",\"to\":\"0911\",\"kind\":\"call\"}"),
        (json, "{\"to\":112}"),
        ("Content-Type: text/xml\r\n", "emergency=1"),
        ("", "to=110&kind=%ff"),
        ("", "emergency=true&ttl_s=nonsense"),
    ] {
        let answer = daemon.call("POST", "/v1/acquire", headers, body);
        assert_eq!((answer.status, answer.decision().as_str()), (200, "allow.free emergency"), "{body}");
        assert_eq!(daemon.call("POST", "/v1/acquire?status=1", headers, body).status, 200);
    }
    let batch = "{\"ops\":[{\"op\":\"acquire\",\"emergency\":true,\"seq\":\"x\"},{\"op\":\"acquire\",\"to\":\"112\"},{\"op\":\"acquire\",\"to\":\"1\"}]}";
    let results = daemon.call("POST", "/v1/batch", json, batch).json()["results"].clone();
    assert_eq!(
        (&results[0]["detail"], &results[1]["detail"], &results[2]["status"]),
        (&json!("emergency"), &json!("emergency"), &json!(400))
    );
    assert_eq!(daemon.get("/v1/tenants/acme").json()["sessions"], 0, "nothing is recorded");
    assert_eq!(daemon.form("/v1/explain", "tenant=acme&to=0911&kind=call").decision(), "allow.free emergency");
}
