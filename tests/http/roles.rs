//! Rights by route: every route of the router, every role, tokens of one tenant and of one node, strangers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use usherd::daemon::api::{ROUTES, Worker};
use usherd::daemon::edge::peer::PeerAddress;
use usherd::daemon::edge::{Protocol, serve_stream};

use crate::access::{entry, token};
use crate::client::{self, request};
use crate::daemon::{Answer, Running};
use crate::resp::{LISTENER, Talk};

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 9\n";
const HOOK: &str = "[[webhook]]\nname = \"desk\"\nurl = \"http://127.0.0.1:1/\"\nsecret_file = \"none\"\n";
const ACME: &str = "tenants = [\"acme\"]";
const ACME_N1: &str = "tenants = [\"acme\"]\nnodes = [\"n1\"]";

/// Every holder of a token: role, letter, and what limits it.
const HOLDERS: [(&str, char, &str); 13] = [
    ("node", 'a', ""),
    ("node", 'b', ACME),
    ("node", 'c', ACME_N1),
    ("node", 'd', "nodes = [\"n2\"]"),
    ("scrape", 'a', ""),
    ("scrape", 'b', ACME),
    ("viewer", 'a', ""),
    ("viewer", 'b', ACME),
    ("admin", 'a', ""),
    ("admin", 'b', ACME),
    ("admin", 'c', ACME_N1),
    ("sync", 'a', ""),
    ("sync", 'b', ACME),
];

const EVERYBODY: &str = "*";
const NODES_OF_ACME: &str = "node-a node-b node-c node-d admin-a admin-b admin-c";
const NODES_OF_ALL: &str = "node-a node-d admin-a";
const EXPLAIN_ACME: &str = "node-a node-b node-c node-d viewer-a viewer-b admin-a admin-b admin-c";
const EXPLAIN_OTHER: &str = "node-a node-d viewer-a admin-a";
const SPEAKS_AS_N1: &str = "node-a node-c admin-a admin-c";
const SPEAKS_AS_N2: &str = "node-a node-d admin-a";
const READS: &str = "viewer-a viewer-b admin-a admin-b admin-c";
const READS_ALL: &str = "viewer-a admin-a";
const SCRAPES: &str = "scrape-a viewer-a admin-a";
const ADMIN_OF_ACME: &str = "admin-a admin-b admin-c";
const ADMIN: &str = "admin-a";

/// A route of the router, what is sent to it, and who may use it for the tenant acme and the node n1, and for the
/// tenant other and the node n2.
type Row = (Method, &'static str, &'static str, &'static str, &'static str);

fn rows() -> Vec<Row> {
    let get = |path, acme, other| (Method::GET, path, "", acme, other);
    let of_all = |row: Row| (row.0, row.1, row.2, row.3, row.3);
    let seat = "tenant={tenant}&subject=a&session=a&kind=desktop&ttl_s=9";
    let batch = "{\"ops\":[{\"op\":\"release\",\"tenant\":\"{tenant}\",\"session\":\"x\"}]}";
    let listed = "{\"epoch\":1,\"seq\":1,\"sessions\":[]}";
    vec![
        (Method::POST, "/v1/acquire", seat, NODES_OF_ACME, NODES_OF_ALL),
        (Method::POST, "/v1/release", "tenant={tenant}&session=x", NODES_OF_ACME, NODES_OF_ALL),
        (Method::POST, "/v1/batch", batch, NODES_OF_ACME, NODES_OF_ALL),
        (Method::POST, "/v1/explain", seat, EXPLAIN_ACME, EXPLAIN_OTHER),
        (Method::POST, "/v1/nodes/{node}/hello", "epoch=1", SPEAKS_AS_N1, SPEAKS_AS_N2),
        (Method::POST, "/v1/nodes/{node}/heartbeat", "epoch=1", SPEAKS_AS_N1, SPEAKS_AS_N2),
        (Method::POST, "/v1/nodes/{node}/inventory", listed, SPEAKS_AS_N1, SPEAKS_AS_N2),
        (Method::POST, "/v1/nodes/{node}/goodbye", "epoch=1", SPEAKS_AS_N1, SPEAKS_AS_N2),
        of_all(get("/v1/nodes", READS, "")),
        of_all(get("/v1/tenants", READS, "")),
        get("/v1/tenants/{tenant}", READS, READS_ALL),
        get("/v1/tenants/{tenant}/subjects", READS, READS_ALL),
        get("/v1/tenants/{tenant}/subjects/{subject}", READS, READS_ALL),
        (Method::DELETE, "/v1/tenants/{tenant}/subjects/{subject}", "", ADMIN_OF_ACME, ADMIN),
        get("/v1/tenants/{tenant}/sessions", READS, READS_ALL),
        (Method::DELETE, "/v1/tenants/{tenant}/sessions/{session}", "", ADMIN_OF_ACME, ADMIN),
        (Method::POST, "/v1/tenants/{tenant}/endpoints/check", "add=1", NODES_OF_ACME, NODES_OF_ALL),
        (Method::POST, "/v1/tenants/{tenant}/subscription", "{}", ADMIN_OF_ACME, ADMIN),
        get("/v1/tenants/{tenant}/usage", READS, READS_ALL),
        get("/v1/tenants/{tenant}/whatif", READS, READS_ALL),
        of_all(get("/v1/overview", READS_ALL, "")),
        of_all(get("/v1/cluster", READS_ALL, "")),
        of_all((Method::POST, "/v1/cluster/handover", "{}", ADMIN, "")),
        of_all((Method::POST, "/v1/cluster/leave", "{}", ADMIN, "")),
        of_all(get("/v1/quote", READS, "")),
        of_all(get("/v1/size", READS, "")),
        get("/v1/events?tenant={tenant}", READS, READS_ALL),
        of_all((Method::POST, "/v1/admin/reload", "", ADMIN, "")),
        of_all(get("/v1/admin/config", ADMIN, "")),
        of_all((Method::PUT, "/v1/admin/log-level", "{}", ADMIN, "")),
        of_all((Method::POST, "/v1/admin/clock/trust", "", ADMIN, "")),
        of_all((Method::DELETE, "/v1/nodes/{node}", "", ADMIN, "")),
        of_all(get("/v1/admin/webhooks", ADMIN, "")),
        of_all(get("/v1/admin/webhooks/{webhook}/deliveries", ADMIN, "")),
        of_all((Method::POST, "/v1/admin/webhooks/{webhook}/test", "", ADMIN, "")),
        of_all(get("/v1/prometheus/sd", SCRAPES, "")),
        of_all(get("/metrics", SCRAPES, "")),
        of_all(get("/livez", EVERYBODY, "")),
        of_all(get("/readyz", EVERYBODY, "")),
        of_all(get("/openapi.json", EVERYBODY, "")),
        of_all(get("/", EVERYBODY, "")),
        of_all(get("/dashboard.js", EVERYBODY, "")),
        of_all(get("/dashboard.css", EVERYBODY, "")),
        of_all(get("/rulebook.md", EVERYBODY, "")),
    ]
}

fn concrete(text: &str, tenant: &str) -> String {
    let node = if tenant == "acme" { "n1" } else { "n2" };
    text.replace("{webhook}", "desk")
        .replace("{tenant}", tenant)
        .replace("{node}", node)
        .replace("{session}", "nothing")
        .replace("{subject}", "nobody")
}

/// True if somebody was told that he may not: by the status, or in the place of the one operation of a batch.
fn is_refused(answer: &Answer) -> bool {
    answer.status == 401 || answer.body.contains("\"status\":401")
}

/// Every row for both tenants, as somebody asks it: `may` says whether they may.
fn check(who: &str, may: impl Fn(&str) -> bool, ask: impl Fn(&str, &str, &str) -> Answer) {
    for (method, path, body, acme, other) in rows() {
        for (tenant, allowed) in [("acme", acme), ("other", other)] {
            let (path, body) = (concrete(path, tenant), concrete(body, tenant));
            // A stream does not end: its head tells all that is asked here.
            let streams = path.starts_with("/v1/events");
            let methods: &[&str] = match method.as_str() {
                "GET" if streams => &["HEAD"],
                "GET" => &["GET", "HEAD"],
                other => &[match other {
                    "POST" => "POST",
                    "PUT" => "PUT",
                    _ => "DELETE",
                }],
            };
            for method in methods {
                let answer = ask(method, &path, &body);
                let wanted = allowed == EVERYBODY || may(allowed);
                assert_eq!(!is_refused(&answer), wanted, "{method} {path} as {who}: {answer:?}");
                assert!(answer.status != 403 && answer.status != 429, "{method} {path} as {who}: {answer:?}");
                assert!(wanted || *method == "HEAD" || !answer.body.contains("quota"), "{method} {path} as {who}");
            }
        }
    }
}

fn started(tokens: &str) -> Running {
    let main = format!("[server]\nauth_failures_per_minute = 100000\n{HOOK}{tokens}");
    Running::start(&main, &[("acme", PAID), ("other", PAID)])
}

fn tokens() -> String {
    HOLDERS.map(|(role, letter, rest)| entry(role, letter, rest)).concat()
}

#[test]
fn every_route_of_the_router_has_a_row() {
    let routed: BTreeSet<(String, &str)> = ROUTES.iter().map(|row| (row.method.to_string(), row.path)).collect();
    let plain = |path: &'static str| path.split('?').next().unwrap();
    let here: BTreeSet<(String, &str)> =
        rows().into_iter().map(|(method, path, ..)| (method.to_string(), plain(path))).collect();
    assert_eq!(here, routed);
    assert_eq!(rows().len(), ROUTES.len(), "one row for each");
}

#[test]
fn a_token_opens_what_is_its_own_and_nothing_else() {
    let daemon = started(&tokens());
    for (role, letter, _) in HOLDERS {
        let who = format!("{role}-{letter}");
        let headers = format!("Authorization: Bearer {}\r\n", token(role, letter));
        check(
            &who,
            |allowed| allowed.split(' ').any(|other| other == who),
            |method, path, body| daemon.call(method, path, &headers, body),
        );
    }
}

#[test]
fn where_there_are_tokens_nobody_else_may_anything() {
    let daemon = started(&tokens());
    let strangers = [
        ("nobody", String::new()),
        ("a wrong token", format!("Authorization: Bearer {}\r\n", token("admin", 'z'))),
        ("a token that lies about its role", format!("Authorization: Bearer {}\r\n", token("admin", 'd'))),
        ("another scheme", "Authorization: Basic YTpi\r\n".to_owned()),
        ("another page", "Origin: http://evil.example\r\n".to_owned()),
        ("somebody behind a proxy", "X-Forwarded-For: 127.0.0.1\r\n".to_owned()),
    ];
    for (who, headers) in strangers {
        check(who, |_| false, |method, path, body| daemon.call(method, path, &headers, body));
    }
    check("nobody from elsewhere", |_| false, |method, path, body| from_elsewhere(&daemon, method, path, "", body));
    let headers = format!("Authorization: Bearer {}\r\n", token("admin", 'a'));
    let ask = |method: &str, path: &str, body: &str| from_elsewhere(&daemon, method, path, &headers, body);
    check("an admin from elsewhere", |_| true, ask);
}

#[test]
fn who_may_not_ask_is_told_that_first_whatever_else_is_wrong() {
    let daemon = started(&tokens());
    let strangers = [
        ("nobody", String::new()),
        ("a wrong token", format!("Authorization: Bearer {}\r\n", token("admin", 'z'))),
        ("a role that may do none of this", format!("Authorization: Bearer {}\r\n", token("sync", 'a'))),
    ];
    for (method, path, body, ..) in rows().into_iter().filter(|row| row.3 != EVERYBODY) {
        let sign = if path.contains('?') { '&' } else { '?' };
        let path = concrete(path, "acme");
        let undecodable = path.replace("acme", "%zz").replace("/n1", "/%zz").replace("nothing", "%zz");
        let asked = [
            (format!("{path}{sign}no_such=1"), concrete(body, "acme")),
            (format!("{path}{sign}limit=%zz&status=perhaps"), concrete(body, "acme")),
            (undecodable, concrete(body, "acme")),
            (path.clone(), "{\"no_such".to_owned()),
            (path, "tenant=NO+SUCH&kind=none&ttl_s=soon&epoch=none".to_owned()),
        ];
        for (who, headers) in &strangers {
            for (path, body) in &asked {
                let answer = daemon.call(method.as_str(), path, headers, body);
                assert!(is_refused(&answer), "{method} {path} {body} as {who}: {answer:?}");
                let told = ["no_such", "limit", "ttl_s", "/status", "%zz"].map(|word| answer.body.contains(word));
                assert_eq!(told, [false; 5], "{method} {path} {body} as {who}: {answer:?}");
            }
        }
    }
}

/// A command, and who may give it for the tenant acme and the node n1, and for the tenant other and the node n2.
const COMMANDS: [(&str, &str, &str); 15] = [
    ("CU.ACQUIRE {tenant} a a desktop ttl_s 9", NODES_OF_ACME, NODES_OF_ALL),
    ("CU.ACQUIRE {tenant} a b desktop ttl_s 9 node {node}", SPEAKS_AS_N1, SPEAKS_AS_N2),
    ("CU.RELEASE {tenant} x", NODES_OF_ACME, NODES_OF_ALL),
    ("CU.RELEASE {tenant} x node {node}", SPEAKS_AS_N1, SPEAKS_AS_N2),
    ("CU.NODE {node} hello 1", SPEAKS_AS_N1, SPEAKS_AS_N2),
    ("CU.NODE {node} heartbeat 1", SPEAKS_AS_N1, SPEAKS_AS_N2),
    ("CU.NODE {node} goodbye 1", SPEAKS_AS_N1, SPEAKS_AS_N2),
    ("CU.STATUS {tenant}", READS, READS_ALL),
    ("PING", EVERYBODY, EVERYBODY),
    ("HELLO 2", EVERYBODY, EVERYBODY),
    ("SELECT 0", EVERYBODY, EVERYBODY),
    ("CLIENT SETNAME pbx", EVERYBODY, EVERYBODY),
    ("COMMAND", EVERYBODY, EVERYBODY),
    ("CONFIG GET save", EVERYBODY, EVERYBODY),
    ("INFO", EVERYBODY, EVERYBODY),
];

fn started_with_commands() -> Running {
    let main = format!("[server]\nauth_failures_per_minute = 100000\n{HOOK}{}\n{LISTENER}", tokens());
    Running::start(&main, &[("acme", PAID), ("other", PAID)])
}

/// Every command for both tenants on connections that begin with these words.
fn check_commands(daemon: &Running, who: &str, greeting: &[&str], may: impl Fn(&str) -> bool) {
    for (line, acme, other) in COMMANDS {
        for (tenant, allowed) in [("acme", acme), ("other", other)] {
            let line = concrete(line, tenant);
            let words: Vec<&str> = line.split(' ').collect();
            let mut talk = Talk::new(client::tcp(daemon.listener("listener-1")));
            if !greeting.is_empty() {
                let greeted = talk.ask(greeting);
                assert!(!greeted.starts_with('-'), "{who}: {greeted}");
            }
            let answer = talk.ask(&words);
            let wanted = allowed == EVERYBODY || may(allowed);
            assert_eq!(!answer.starts_with("-NOAUTH"), wanted, "{line} as {who}: {answer}");
            // What is heard of a node that never said hello is no refusal.
            let is_error = answer.starts_with('-') && !answer.contains("unknown_epoch");
            assert_eq!(is_error, !wanted, "{line} as {who}: {answer}");
        }
    }
}

#[test]
fn a_token_gives_those_commands_that_are_its_own_and_no_others() {
    let daemon = started_with_commands();
    for (role, letter, _) in HOLDERS {
        let (who, token) = (format!("{role}-{letter}"), token(role, letter));
        let may = |allowed: &str| allowed.split(' ').any(|other| other == who);
        check_commands(&daemon, &who, &["AUTH", &token], may);
        check_commands(&daemon, &who, &["HELLO", "3", "AUTH", "any", &token], may);
    }
}

#[test]
fn with_tokens_configured_no_command_works_without_one() {
    let daemon = started_with_commands();
    check_commands(&daemon, "nobody", &[], |_| false);
    check_commands(&daemon, "nobody who says hello", &["HELLO", "3"], |_| false);
    for token in [token("admin", 'z'), token("admin", 'd')] {
        let mut talk = Talk::new(client::tcp(daemon.listener("listener-1")));
        assert!(talk.ask(&["AUTH", &token]).starts_with("-NOAUTH"));
        assert!(talk.ask(&["CU.STATUS", "acme"]).starts_with("-NOAUTH"), "still nobody");
    }
    let scraper = token("scrape", 'a');
    for greeting in [&["HELLO", "2"][..], &["AUTH", &scraper]] {
        for wrong in [
            "CU.ACQUIRE",
            "CU.ACQUIRE NO-SUCH a a none ttl_s soon",
            "CU.RELEASE acme",
            "CU.NODE n1 sleep soon",
            "CU.STATUS",
        ] {
            let mut talk = Talk::new(client::tcp(daemon.listener("listener-1")));
            talk.ask(greeting);
            let answer = talk.ask(&wrong.split(' ').collect::<Vec<_>>());
            assert!(answer.starts_with("-NOAUTH"), "{wrong}: {answer}");
        }
    }
}

#[test]
fn without_tokens_loopback_may_all_and_nobody_else_anything() {
    let daemon = started("");
    check("loopback", |_| true, |method, path, body| daemon.call(method, path, "", body));
    for (who, headers) in [
        ("another page", "Origin: null\r\n"),
        ("another page", "Sec-Fetch-Site: cross-site\r\n"),
        ("somebody behind a proxy", "Via: 1.1 proxy\r\n"),
        ("a wrong token", "Authorization: Bearer x\r\n"),
    ] {
        check(who, |_| false, |method, path, body| daemon.call(method, path, headers, body));
    }
    check("nobody from elsewhere", |_| false, |method, path, body| from_elsewhere(&daemon, method, path, "", body));
}

/// Asks as a host that is not this one would.
fn from_elsewhere(daemon: &Running, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let request = request(method, path, headers, body);
    let app = daemon.daemon().app().clone();
    client::wait(async {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let (mut here, there) = tokio::io::duplex(1 << 20);
                let (_shutdown, on_shutdown) = tokio::sync::watch::channel(false);
                let address = PeerAddress::Ip(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)));
                let edge = Arc::clone(&app.serving.edge);
                let worker = Rc::new(Worker::new(app, 0));
                tokio::task::spawn_local(serve_stream(there, Protocol::Http1, address, worker, edge, on_shutdown));
                here.write_all(request.as_bytes()).await.unwrap();
                let mut answer = Vec::new();
                // A stream of events goes on: that its head is there is enough.
                let _ = here.read_to_end(&mut answer).await;
                Answer::parse(&answer)
            })
            .await
    })
}
