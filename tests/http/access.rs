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
        "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {viewer}\r\nAccept: application/x-ndjson\r\n\r\n"
    )
    .unwrap();
    let mut first = [0; 1];
    heard.read_exact(&mut first).unwrap();
    as_token(&daemon, &admin, "POST", "/v1/acquire", "tenant=other&subject=secret&session=s1&kind=desktop&ttl_s=60");
    as_token(&daemon, &admin, "POST", "/v1/nodes/other-pbx/hello", "epoch=1");
    crate::daemon::write_tenant(daemon.folder.path(), "other", &format!("{PAID}name = \"Secret\"\n"));
    // The daemon may have seen the new file by itself before it was asked.
    let code = as_token(&daemon, &admin, "POST", "/v1/admin/reload", "").json()["code"].clone();
    assert!(code == "applied" || code == "unchanged", "{code}");
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

/// Asks by a name, or by none at all as HTTP/1.0 may, on a connection of its own.
fn ask_of(daemon: &Running, host: Option<&str>, headers: &str, method: &str, path: &str, body: &str) -> Answer {
    let (version, host) = host.map_or(("1.0", String::new()), |host| ("1.1", format!("Host: {host}\r\n")));
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/{version}\r\n{host}Connection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    client::ask(client::tcp(daemon.address), request.as_bytes())
}

/// What people ask, or a page that they look at.
const OF_PEOPLE: [(&str, &str, &str); 8] = [
    ("GET", "/v1/overview", ""),
    ("GET", "/v1/tenants/acme/sessions", ""),
    ("GET", "/v1/nodes", ""),
    ("GET", "/v1/size?types=1,2,3,4", ""),
    ("POST", "/v1/explain", "tenant=acme&subject=a&session=a&kind=phone"),
    ("GET", "/v1/admin/config", ""),
    ("POST", "/v1/admin/reload", ""),
    ("GET", "/v1/events?tenant=nobody&types=nonsense", ""),
];

#[test]
fn without_a_credential_loopback_is_trusted_only_by_a_name_that_no_foreign_page_can_have() {
    let main = "[server]\nauth_failures_per_minute = 1000\nnames = [\"PBX1.example\"]\n";
    let daemon = Running::start(main, &[("acme", PAID)]);
    let port = daemon.address.port();
    let ours = [
        None,
        Some("127.0.0.1"),
        Some(&*format!("127.0.0.1:{port}")),
        Some("[::1]:7788"),
        Some("LOCALHOST"),
        Some("usherd.localhost:7788"),
        Some("pbx1.example:7788"),
        Some("pbx1.Example."),
    ];
    let foreign = ["rebound.example", &format!("rebound.example:{port}"), "pbx1.example.rebound.example", "127.1", ""];
    for (method, path, body) in OF_PEOPLE {
        for host in ours {
            let status = ask_of(&daemon, host, "", method, path, body).status;
            assert_eq!(status, if path.ends_with("nonsense") { 400 } else { 200 }, "{path} of {host:?}");
        }
        for host in foreign {
            let answer = ask_of(&daemon, Some(host), "Sec-Fetch-Site: same-origin\r\n", method, path, body);
            let problem = answer.json();
            assert_eq!((answer.status, &problem["type"]), (401, &json!("/problems/not-permitted")), "{path} of {host}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(&format!("{host:?}")) && detail.contains("server.names"), "{detail}");
            assert!(detail.contains("show a token"), "{detail}");
        }
    }
    // Both names count where a request has two.
    assert_eq!(ask_of(&daemon, Some("a.example\r\nHost: localhost"), "", "GET", "/v1/overview", "").status, 401);
    let whole = format!("http://rebound.example:{port}/v1/overview");
    let request = format!("GET {whole} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut stream = client::tcp(daemon.address);
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    assert_eq!(client::finish(stream, b"GET /v1/overview HTTP/1.1").status, 401);
}

#[test]
fn what_nodes_and_prometheus_ask_is_answered_by_any_name() {
    let daemon = Running::start("", &[("acme", PAID)]);
    let seat = "tenant=acme&subject=a&session=a&kind=desktop&node=n1&epoch=1&seq=1";
    let listed = json!({ "epoch": 1, "seq": 2, "sessions": [
        { "tenant": "acme", "subject": "a", "session": "a", "kind": "desktop", "seq": 1 }] });
    let batch = json!({ "ops": [{ "op": "release", "tenant": "acme", "session": "b" }] });
    let rows = [
        ("POST", "/v1/nodes/n1/hello", "epoch=1".to_owned()),
        ("POST", "/v1/nodes/n1/heartbeat", "epoch=1".into()),
        ("POST", "/v1/acquire", seat.into()),
        ("POST", "/v1/nodes/n1/inventory", listed.to_string()),
        ("POST", "/v1/batch", batch.to_string()),
        ("POST", "/v1/release", "tenant=acme&session=a&node=n1&epoch=1&seq=3".into()),
        ("POST", "/v1/nodes/n1/goodbye", "epoch=1".into()),
        ("GET", "/metrics", String::new()),
        ("GET", "/v1/prometheus/sd", String::new()),
        ("GET", "/livez", String::new()),
        ("GET", "/readyz?verbose", String::new()),
        ("GET", "/openapi.json", String::new()),
        ("GET", "/", String::new()),
    ];
    for host in ["licences.pbx.example", "licences", "evil.example"] {
        for (method, path, body) in &rows {
            let kind = if body.starts_with('{') { "Content-Type: application/json\r\n" } else { "" };
            let answer = ask_of(&daemon, Some(host), kind, method, path, body);
            assert_eq!(answer.status, 200, "{path} of {host}: {answer:?}");
        }
    }
}

#[test]
fn a_token_or_the_unix_socket_is_asked_for_no_name_and_http_2_is_as_http_1() {
    let name = "Host: rebound.example\r\n";
    let daemon = Running::start(&credentials(), &[("acme", PAID)]);
    let header = format!("Authorization: Bearer {}\r\n", token("viewer", 'a'));
    assert_eq!(ask_of(&daemon, Some("rebound.example"), &header, "GET", "/v1/overview", "").status, 200);
    let bare = ask_of(&daemon, Some("rebound.example"), "", "GET", "/v1/overview", "");
    assert_eq!((bare.status, &bare.json()["detail"]), (401, &json!("a credential is needed")));

    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("usherd.sock");
    let listeners = format!(
        "[server]\nunix_socket = \"{}\"\n[[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"h2c\"\n",
        socket.display()
    );
    let daemon = Running::start(&listeners, &[("acme", PAID)]);
    let request = format!("GET /v1/overview HTTP/1.1\r\n{name}Connection: close\r\n\r\n");
    assert_eq!(client::ask(client::unix(&daemon.socket()), request.as_bytes()).status, 200);
    let address = daemon.listener("listener-1");
    client::wait(async {
        for (host, wanted) in [("localhost", 200), ("[::1]:1", 200), ("rebound.example:7788", 401)] {
            let mut sender = client::h2c(address).await;
            let uri = format!("http://{host}/v1/overview");
            let answer = client::ask_h2(&mut sender, "GET", &uri, &[], client::Parts::whole("")).await;
            assert_eq!(answer.status, wanted, "{host}");
        }
        let mut sender = client::h2c(address).await;
        let (uri, form) = ("http://rebound.example/v1/acquire", "tenant=acme&subject=a&session=h&kind=desktop&ttl_s=9");
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = client::ask_h2(&mut sender, "POST", uri, &headers, client::Parts::whole(form)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "allow.new"));
    });
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
