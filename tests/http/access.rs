//! Rights: tokens by role, tenant and node; wrong ones; the calls that pass nevertheless.

use serde_json::json;
use usherd::daemon::access::auth::TokenHash;
use usherd_testkit::files::write_tenant;

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
    let mut heard = client::tcp(daemon.address());
    write!(
        heard,
        "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {viewer}\r\nAccept: application/x-ndjson\r\n\r\n"
    )
    .unwrap();
    let mut first = [0; 1];
    heard.read_exact(&mut first).unwrap();
    as_token(&daemon, &admin, "POST", "/v1/acquire", "tenant=other&subject=secret&session=s1&kind=desktop&ttl_s=60");
    as_token(&daemon, &admin, "POST", "/v1/nodes/other-pbx/hello", "epoch=1");
    write_tenant(daemon.folder.path(), "other", &format!("{PAID}name = \"Secret\"\n"));
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
fn a_wrong_token_is_401_but_inbound_and_emergency_pass() {
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
    let delivers = "tenant=acme&subject=a&session=c&kind=call&direction=outbound&leg=deliver";
    assert_eq!(daemon.form("/v1/acquire", delivers).body, "allow.free inbound", "it delivers a call that came in (C5)");
    assert_eq!(as_token(&daemon, &token("node", 'a'), "POST", "/v1/acquire", seat).decision(), "allow.new");
    for open in ["/livez", "/readyz", "/openapi.json"] {
        assert_eq!(daemon.get(open).status, 200, "{open}");
    }
    assert_eq!(as_token(&daemon, &token("node", 'a'), "GET", "/metrics", "").status, 401);
}

#[test]
fn only_the_sender_of_a_malformed_token_is_told_so() {
    let entry = |id: &str, role: &str, token: &str| {
        let hash = TokenHash::of(token).to_hex();
        format!("[[auth.tokens]]\nid = \"{id}\"\nrole = \"{role}\"\nsha256 = \"{hash}\"\n")
    };
    let of_another_role = token("viewer", 'z');
    let main = entry("home", "node", "correct horse battery staple") + &entry("role", "node", &of_another_role);
    let daemon = Running::start(&main, &[("acme", PAID)]);
    for (token, told) in
        [("correct horse battery staple", "make a new one"), (&of_another_role, "make a new one"), ("x", "not valid")]
    {
        let answer = as_token(&daemon, token, "POST", "/v1/release", "tenant=acme&session=a");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(answer.status == 401 && detail.contains(told), "{token}: {answer:?}");
    }
}

#[test]
fn a_foreign_page_is_not_trusted_for_coming_from_loopback() {
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
fn a_foreign_page_is_a_stranger_whatever_its_browser_says() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("usherd.sock");
    let main = format!(
        "[server]\nauth_failures_per_minute = 1000\nunix_socket = \"{}\"\n[[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"h2c\"\n",
        socket.display()
    );
    let daemon = Running::start(&main, &[("acme", PAID)]);
    let port = daemon.address().port();
    let h2_port = daemon.listener("listener-1").port();
    let seat = "tenant=acme&subject=a&session=a&kind=desktop&ttl_s=9";
    let rows = [
        ("POST", "/v1/acquire", seat),
        ("POST", "/v1/release", "tenant=acme&session=b"),
        ("POST", "/v1/nodes/n1/hello", "epoch=1"),
        ("POST", "/v1/explain", seat),
        ("GET", "/v1/overview", ""),
        ("GET", "/metrics", ""),
        ("POST", "/v1/admin/reload", ""),
    ];
    let origins = |port: u16| {
        [
            (format!("http://127.0.0.1:{port}"), true),
            ("null".to_owned(), false),
            ("http://evil.example".to_owned(), false),
            (format!("http://evil.example:{port}"), false),
            (format!("http://localhost:{port}"), false),
            ("http://127.0.0.1".to_owned(), false),
            (format!("http://127.0.0.1:{}", port ^ 1), false),
            (String::new(), false),
        ]
    };
    for (method, path, body) in rows {
        for (origin, ours) in origins(port) {
            for site in ["", "Sec-Fetch-Site: same-origin\r\n", "Sec-Fetch-Site: none\r\n"] {
                let headers = format!("Origin: {origin}\r\n{site}");
                let host = format!("127.0.0.1:{port}");
                let wanted = if ours { 200 } else { 401 };
                let status = ask_of(&daemon, Some(&host), &headers, method, path, body).status;
                assert_eq!(status, wanted, "{path} {headers}");
                let length = body.len();
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
                );
                let status = client::ask(client::unix(&daemon.socket()), request.as_bytes()).status;
                assert_eq!(status, wanted, "unix {path} {headers}");
            }
        }
        client::wait(async {
            let mut sender = client::h2c(daemon.listener("listener-1")).await;
            for (origin, ours) in origins(h2_port) {
                let uri = format!("http://127.0.0.1:{h2_port}{path}");
                let form = ("content-type", "application/x-www-form-urlencoded");
                let headers = [form, ("origin", origin.as_str()), ("sec-fetch-site", "same-origin")];
                let answer = client::ask_h2(&mut sender, method, &uri, &headers, client::Parts::whole(body)).await;
                assert_eq!(answer.status, if ours { 200 } else { 401 }, "h2 {path} {origin}");
            }
        });
    }
    // A page under a name that it gave our address is of our origin for the browser.
    let rebound = format!("rebound.example:{port}");
    let headers = format!("Origin: http://{rebound}\r\nSec-Fetch-Site: same-origin\r\n");
    for (method, path, body) in rows {
        assert_eq!(ask_of(&daemon, Some(&rebound), &headers, method, path, body).status, 401, "{path}");
    }
    for pass in ["emergency=1&kind=call", "tenant=acme&session=c&kind=call&direction=inbound"] {
        let answer = ask_of(&daemon, Some("127.0.0.1"), "Origin: null\r\n", "POST", "/v1/acquire", pass);
        assert!(answer.status == 200 && answer.body.starts_with("allow.free"), "{answer:?}");
    }
    assert_eq!(daemon.get("/v1/tenants/acme").json()["sessions"], 1, "nothing was recorded of strangers");
}

#[test]
fn a_request_has_one_host() {
    let daemon = Running::start("", &[("acme", PAID)]);
    let seat = "tenant=acme&subject=a&session=a&kind=desktop&ttl_s=9";
    let rows = [
        ("POST", "/v1/acquire", seat),
        ("POST", "/v1/release", "tenant=acme&session=b"),
        ("POST", "/v1/nodes/n1/hello", "epoch=1"),
        ("GET", "/v1/overview", ""),
        ("GET", "/metrics", ""),
        ("GET", "/v1/prometheus/sd", ""),
        ("GET", "/livez", ""),
        ("GET", "/readyz", ""),
        ("GET", "/openapi.json", ""),
        ("GET", "/", ""),
    ];
    let ask = |version: &str, hosts: &[&str], method: &str, path: &str, body: &str| {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/{version}\r\n{hosts}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        client::ask(client::tcp(daemon.address()), request.as_bytes())
    };
    for (version, hosts, wanted) in [
        ("1.1", &["localhost"][..], 200),
        ("1.0", &[], 200),
        ("1.1", &[], 400),
        ("1.1", &["localhost", "localhost"], 400),
        ("1.0", &["localhost", "evil.example"], 400),
        ("1.1", &["localhost, evil.example"], 400),
        ("1.1", &["a@localhost"], 400),
    ] {
        for (method, path, body) in rows {
            let answer = ask(version, hosts, method, path, body);
            assert_eq!(answer.status, wanted, "{path} HTTP/{version} {hosts:?}: {answer:?}");
            if wanted == 400 {
                let problem = answer.json();
                assert_eq!(problem["type"], "/problems/malformed", "{problem}");
                assert!(problem["detail"].as_str().unwrap().contains("Host"), "{problem}");
            }
        }
        let seats = format!(
            "{{\"ops\":[{{\"op\":\"acquire\",\"tenant\":\"acme\",\"subject\":\"a\",\"session\":\"{version}{}\",\"kind\":\"desktop\",\"ttl_s\":9}}]}}",
            hosts.len()
        );
        let results = ask(version, hosts, "POST", "/v1/batch", &seats).json()["results"].clone();
        assert_eq!(results[0]["status"] == 400, wanted == 400, "{results}");
        for pass in ["emergency=1&kind=call", "tenant=acme&session=c&kind=call&direction=inbound"] {
            let answer = ask(version, hosts, "POST", "/v1/acquire", pass);
            assert!(answer.status == 200 && answer.body.starts_with("allow.free"), "{hosts:?} {answer:?}");
        }
    }
}

#[test]
fn a_proxied_request_needs_a_credential_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("usherd.sock");
    let server = format!("[server]\nauth_failures_per_minute = 1000\nunix_socket = \"{}\"\n", socket.display());
    let seat = "tenant=acme&subject=a&session=a&kind=desktop&ttl_s=9";
    let rows = [
        ("POST", "/v1/acquire", seat),
        ("POST", "/v1/nodes/n1/hello", "epoch=1"),
        ("GET", "/v1/overview", ""),
        ("GET", "/metrics", ""),
        ("POST", "/v1/admin/reload", ""),
    ];
    let of_proxies = [
        "Forwarded: for=10.0.0.9\r\n",
        "X-Forwarded-For: 10.0.0.9\r\n",
        "X-Forwarded-For: 127.0.0.1\r\n",
        "x-forwarded-proto: https\r\n",
        "X-Forwarded-Host: usherd.example\r\n",
        "Via: 1.1 proxy\r\n",
        "X-Real-IP: 10.0.0.9\r\n",
    ];
    let daemon = Running::start(&server, &[("acme", PAID)]);
    for added in of_proxies {
        for (method, path, body) in rows {
            let answer = daemon.call(method, path, added, body);
            assert_eq!(answer.status, 401, "{path} {added}: {answer:?}");
            assert!(answer.json()["detail"].as_str().unwrap().contains("through a proxy"), "{answer:?}");
            let request = client::request(method, path, added, body);
            let status = client::ask(client::unix(&daemon.socket()), request.as_bytes()).status;
            assert_eq!(status, 401, "unix {path} {added}");
        }
        for pass in ["emergency=1&kind=call", "tenant=acme&session=c&kind=call&direction=inbound"] {
            let answer = daemon.call("POST", "/v1/acquire", added, pass);
            assert!(answer.status == 200 && answer.body.starts_with("allow.free"), "{added} {answer:?}");
        }
        for open in ["/livez", "/readyz", "/openapi.json", "/"] {
            assert_eq!(daemon.call("GET", open, added, "").status, 200, "{open} {added}");
        }
    }
    assert_eq!(daemon.get("/v1/tenants/acme").json()["sessions"], 0);
    // With a credential of its own it may what that may.
    let daemon = Running::start(&credentials(), &[("acme", PAID)]);
    let header = format!("Authorization: Bearer {}\r\nX-Forwarded-For: 10.0.0.9\r\n", token("node", 'a'));
    assert_eq!(daemon.call("POST", "/v1/acquire", &header, seat).decision(), "allow.new");
    // Whoever trusts everybody trusts them behind a proxy too.
    let daemon = Running::start("[server]\ninsecure = true\n", &[("acme", PAID)]);
    assert_eq!(daemon.call("GET", "/v1/overview", "X-Forwarded-For: 10.0.0.9\r\n", "").status, 200);
}

#[test]
fn a_credential_with_nodes_speaks_only_of_those() {
    let daemon = Running::start(&credentials(), &[("acme", "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 9\n")]);
    let seat = |session: &str, node: &str| {
        format!("tenant=acme&subject={session}&session={session}&kind=desktop&ttl_s=600{node}")
    };
    let (all, own, none, of_all) = (token("node", 'a'), token("node", 'c'), token("node", 'b'), token("node", 'd'));
    let post = |token: &str, path: &str, body: &str| as_token(&daemon, token, "POST", path, body);
    for node in ["n1", "n2", "n3"] {
        assert_eq!(post(&all, &format!("/v1/nodes/{node}/hello"), "epoch=1").status, 200);
        let answer = post(&all, "/v1/acquire", &seat(&format!("of-{node}"), &format!("&node={node}&epoch=1&seq=1")));
        assert_eq!(answer.decision(), "allow.new", "{node}");
    }
    let seen = |node: &str| {
        let nodes = as_token(&daemon, &token("admin", 'a'), "GET", "/v1/nodes", "").json();
        nodes["nodes"].as_array().unwrap().iter().find(|row| row["node"] == node).unwrap()["last_seen"].clone()
    };
    let before = seen("n2");
    daemon.clock.advance(2_000);
    let statuses = |token: &str, node: &str, session: &str| {
        let named = format!("&node={node}&epoch=1&seq=9");
        let batch = json!({ "ops": [
            { "op": "acquire", "tenant": "acme", "subject": "x", "session": "x", "kind": "desktop", "node": node, "epoch": 1, "seq": 5 },
            { "op": "release", "tenant": "acme", "session": "nothing", "node": node, "epoch": 1, "seq": 6 },
        ] });
        let results = post(token, "/v1/batch", &batch.to_string()).json()["results"].clone();
        let of = |result: &serde_json::Value| result["status"].as_u64().unwrap_or(200);
        [
            u64::from(post(token, "/v1/acquire", &seat(&format!("new-{node}"), &named)).status),
            of(&results[0]),
            of(&results[1]),
            u64::from(post(token, &format!("/v1/nodes/{node}/heartbeat"), "epoch=1").status),
            // The name is left out, and the session is of the node all the same.
            u64::from(post(token, "/v1/acquire", &seat(session, "")).status),
            u64::from(post(token, "/v1/release", &format!("tenant=acme&session={session}")).status),
        ]
    };
    assert_eq!(statuses(&own, "n2", "of-n2"), [401; 6], "tenant and node");
    assert_eq!(statuses(&of_all, "n3", "of-n3"), [401; 6], "all tenants, one node");
    assert_eq!(statuses(&none, "n2", "nothing")[..4], [401; 4], "a tenant, no node");
    assert_eq!(seen("n2"), before, "nothing of it renewed the node's lease");
    for pass in ["kind=call&direction=inbound&session=in", "kind=call&direction=outbound&to=112&session=em"] {
        let answer = post(&own, "/v1/acquire", &format!("tenant=acme&node=n2&epoch=1&seq=20&{pass}"));
        assert!(answer.status == 200 && answer.body.starts_with("allow.free"), "{answer:?}");
    }
    assert_eq!(seen("n2"), before, "a call that passes all the same renews nothing");
    assert_eq!(statuses(&own, "n1", "of-n1"), [200; 6]);
    assert_eq!(statuses(&all, "n3", "of-n3"), [200; 6]);
    let listed = json!({ "epoch": 1, "seq": 30, "sessions": [
        { "tenant": "acme", "subject": "y", "session": "y", "kind": "desktop", "node": "n2", "seq": 1 }] });
    let answer = post(&own, "/v1/nodes/n1/inventory", &listed.to_string());
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(seen("n2"), before);
}

/// Asks by a name, or by none at all as HTTP/1.0 may, on a connection of its own.
fn ask_of(daemon: &Running, host: Option<&str>, headers: &str, method: &str, path: &str, body: &str) -> Answer {
    let (version, host) = host.map_or(("1.0", String::new()), |host| ("1.1", format!("Host: {host}\r\n")));
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/{version}\r\n{host}Connection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    client::ask(client::tcp(daemon.address()), request.as_bytes())
}

/// Requests of people, or of a page that they look at.
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
fn loopback_without_a_credential_is_trusted_by_safe_names_only() {
    let main = "[server]\nauth_failures_per_minute = 1000\nnames = [\"PBX1.example\"]\n";
    let daemon = Running::start(main, &[("acme", PAID)]);
    let port = daemon.address().port();
    let ours = [
        None,
        Some("127.0.0.1"),
        Some(&*format!("127.0.0.1:{port}")),
        Some("[::1]:7788"),
        Some("LOCALHOST"),
        Some("usherd.localhost:7788"),
        Some("pbx1:7788"),
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
    let whole = format!("http://rebound.example:{port}/v1/overview");
    let request = format!("GET {whole} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut stream = client::tcp(daemon.address());
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
fn details_of_faults_are_shown_only_to_those_who_may_read() {
    let daemon = Running::start(&credentials(), &[("acme", PAID)]);
    let main = daemon.folder.path().join("usherd.toml");
    let text = std::fs::read_to_string(&main).unwrap();
    std::fs::write(&main, text + "[hidden_section]\n").unwrap();
    let refused = as_token(&daemon, &token("admin", 'a'), "POST", "/v1/admin/reload", "");
    assert!(refused.body.contains("hidden_section"), "{refused:?}");
    for who in ["viewer-a", "admin-a"] {
        let (role, letter) = who.split_once('-').unwrap();
        let token = token(role, letter.chars().next().unwrap());
        let told = as_token(&daemon, &token, "GET", "/readyz?verbose", "");
        assert!(told.status == 200 && told.body.contains("hidden_section"), "{who}: {told:?}");
        assert!(told.json()["time"].is_object(), "{who}: {told:?}");
    }
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let tokens = [("admin", 'b'), ("viewer", 'b'), ("node", 'a'), ("scrape", 'a'), ("sync", 'a'), ("admin", 'z')];
    let strangers = tokens.map(|(role, letter)| bearer(&token(role, letter)));
    for headers in strangers.into_iter().chain([String::new(), "Origin: http://evil.example\r\n".to_owned()]) {
        let told = daemon.call("GET", "/readyz?verbose", &headers, "");
        assert!(told.status == 200 && !told.body.contains("hidden_section"), "{headers}: {told:?}");
        let whole = json!({ "ready": true, "recovered": true, "draining": false, "durability": "written",
            "config": { "last_reload_successful": false } });
        assert_eq!(told.json(), whole, "{headers}");
    }
    // Whoever only watches without a token has failed at nothing.
    for _ in 0..50 {
        assert_eq!(daemon.call("GET", "/readyz?verbose", "", "").status, 200);
    }
    assert_eq!(as_token(&daemon, &token("viewer", 'a'), "GET", "/v1/overview", "").status, 200);
}

#[test]
fn a_token_or_the_unix_socket_needs_no_host_name() {
    let name = "Host: rebound.example\r\n";
    let daemon = Running::start(&credentials(), &[("acme", PAID)]);
    let header = format!("Authorization: Bearer {}\r\n", token("viewer", 'a'));
    assert_eq!(ask_of(&daemon, Some("rebound.example"), &header, "GET", "/v1/overview", "").status, 200);
    let bare = ask_of(&daemon, Some("rebound.example"), "", "GET", "/v1/overview", "");
    assert_eq!((bare.status, &bare.json()["detail"]), (401, &json!("a credential is required")));

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
