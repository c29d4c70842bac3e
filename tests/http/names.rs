//! The names of people, for whom they are and for whom not: lists, subjects, events, explanations.

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

use crate::access::{entry, token};
use crate::client;
use crate::daemon::{Answer, Running};

const TWO: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 2\n";
/// The denied and the seated people, and sessions that are made of their names, as agents make them.
const PEOPLE: [&str; 3] = ["anna", "bernd", "clara"];

fn site() -> Running {
    let main = [
        entry("node", 'a', ""),
        entry("viewer", 'a', ""),
        entry("viewer", 'b', "names = true"),
        entry("admin", 'a', ""),
    ]
    .concat();
    Running::start(&main, &[("acme", TWO), ("other", TWO)])
}

fn ask(daemon: &Running, token: &str, method: &str, path: &str, body: &str) -> Answer {
    daemon.call(method, path, &format!("Authorization: Bearer {token}\r\n"), body)
}

fn claim(tenant: &str, subject: &str) -> String {
    format!("tenant={tenant}&subject={subject}&session=agent-{subject}&kind=desktop&ttl_s=600")
}

fn column(answer: &Value, noun: &str, key: &str) -> Vec<String> {
    answer[noun].as_array().unwrap().iter().map(|row| row[key].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_viewer_without_the_right_reads_pseudonyms_everywhere() {
    let daemon = site();
    let (node, viewer, admin) = (token("node", 'a'), token("viewer", 'a'), token("admin", 'a'));
    let mut heard = client::tcp(daemon.address());
    write!(
        heard,
        "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {viewer}\r\nAccept: application/x-ndjson\r\n\r\n"
    )
    .unwrap();
    heard.read_exact(&mut [0; 1]).unwrap();
    for tenant in ["acme", "other"] {
        for subject in PEOPLE {
            ask(&daemon, &node, "POST", "/v1/acquire", &claim(tenant, subject));
        }
    }
    let mut events = String::new();
    while events.matches("\"denied\"").count() < 2 {
        let mut part = [0; 4_096];
        let read = heard.read(&mut part).unwrap();
        assert!(read > 0, "{events}");
        events.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    let read = |path: &str| ask(&daemon, &viewer, "GET", path, "");
    let subjects = read("/v1/tenants/acme/subjects").json();
    let seen = column(&subjects, "subjects", "subject");
    let sessions = read("/v1/tenants/acme/sessions").json();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|name| name.starts_with("p-")) && seen.is_sorted(), "{seen:?}");
    let mut holders = column(&sessions, "sessions", "subject");
    holders.sort();
    assert_eq!(holders, seen, "one pseudonym for one person");
    let one = read(&format!("/v1/tenants/acme/subjects/{}", seen[0])).json();
    assert_eq!((&one["subject"], &one["claims"]), (&json!(seen[0]), &json!(1)));
    let of_one = read(&format!("/v1/tenants/acme/sessions?subject={}", seen[0])).json();
    assert_eq!(of_one["sessions"], one["sessions"]);
    assert!(events.contains(&seen[0]) && events.contains(&seen[1]), "{events}");
    let everything = [
        events,
        subjects.to_string(),
        sessions.to_string(),
        one.to_string(),
        read("/v1/overview").body,
        read("/v1/tenants/acme").body,
        read("/metrics").body,
    ];
    for (at, text) in everything.iter().enumerate() {
        assert!(PEOPLE.iter().all(|name| !text.contains(name)), "{at}: {text}");
    }
    let others = column(&read("/v1/tenants/other/subjects").json(), "subjects", "subject");
    assert!(others.iter().all(|name| !seen.contains(name)), "nobody is followed from tenant to tenant");
    // By name nobody is found: whether somebody holds a seat would be told otherwise.
    for path in ["/v1/tenants/acme/subjects/anna", "/v1/tenants/acme/subjects/p-000000000000"] {
        assert_eq!(read(path).status, 404, "{path}");
    }
    assert_eq!(read("/v1/tenants/acme/sessions?subject=anna").json()["sessions"], json!([]));
    assert_eq!(ask(&daemon, &admin, "GET", "/v1/tenants/acme/subjects/anna", "").json()["claims"], 1);
}

#[test]
fn pages_of_pseudonyms_are_complete() {
    let daemon = Running::start(
        &[entry("node", 'a', ""), entry("viewer", 'a', "")].concat(),
        &[("acme", &TWO.replace("= 2\n", "= 50\n"))],
    );
    for number in 0..20 {
        ask(&daemon, &token("node", 'a'), "POST", "/v1/acquire", &claim("acme", &format!("u{number}")));
    }
    for (noun, key) in [("subjects", "subject"), ("sessions", "session")] {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let page = ask(
                &daemon,
                &token("viewer", 'a'),
                "GET",
                &format!("/v1/tenants/acme/{noun}?limit=7&after={after}"),
                "",
            )
            .json();
            all.extend(column(&page, noun, key));
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        assert!(all.len() == 20 && all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
    }
}

#[test]
fn names_are_for_admins_entitled_viewers_and_open_loopback() {
    let daemon = site();
    ask(&daemon, &token("node", 'a'), "POST", "/v1/acquire", &claim("acme", "anna"));
    for (who, clear) in [(token("viewer", 'a'), false), (token("viewer", 'b'), true), (token("admin", 'a'), true)] {
        let tenant = ask(&daemon, &who, "GET", "/v1/tenants/acme", "").json();
        let listed = ask(&daemon, &who, "GET", "/v1/tenants/acme/subjects", "").body;
        assert_eq!((&tenant["names"], listed.contains("anna")), (&json!(clear), clear), "{who}");
    }
    let open = Running::start("", &[("acme", TWO)]);
    open.form("/v1/acquire", &claim("acme", "anna"));
    assert_eq!(open.get("/v1/tenants/acme").json()["names"], true);
    assert_eq!(column(&open.get("/v1/tenants/acme/subjects").json(), "subjects", "subject"), ["anna"]);
}

#[test]
fn a_query_by_pseudonym_answers_as_one_by_name() {
    let daemon = site();
    let (node, viewer) = (token("node", 'a'), token("viewer", 'a'));
    for subject in ["anna", "bernd"] {
        ask(&daemon, &node, "POST", "/v1/acquire", &claim("acme", subject));
    }
    let listed = ask(&daemon, &viewer, "GET", "/v1/tenants/acme/sessions", "").json();
    let (subject, session) =
        (listed["sessions"][0]["subject"].as_str().unwrap(), listed["sessions"][0]["session"].as_str().unwrap());
    let explain = |who: &str, subject: &str, session: &str| {
        let asked = format!("tenant=acme&subject={subject}&session={session}&kind=desktop&ttl_s=60");
        let answer = ask(&daemon, who, "POST", "/v1/explain", &asked);
        assert!(!answer.body.contains("anna") && !answer.body.contains("bernd"), "{answer:?}");
        answer.json()
    };
    let same = explain(&viewer, subject, session);
    assert_eq!(same["code"], "allow.same");
    assert!(same["steps"].to_string().contains(&format!("session {session} is live")), "{same}");
    let held = explain(&viewer, subject, "another");
    assert_eq!(held["code"], "allow.held");
    assert!(held["steps"].to_string().contains(&format!("subject {subject}")), "{held}");
    assert_eq!(explain(&viewer, "p-000000000000", "another")["code"], "deny.full");
    // A real name is no pseudonym: it is nobody who is known.
    let by_name = ask(&daemon, &viewer, "POST", "/v1/explain", &claim("acme", "anna")).json();
    assert_eq!(by_name["code"], "deny.full");
    assert_eq!(ask(&daemon, &node, "POST", "/v1/explain", &claim("acme", "anna")).json()["code"], "allow.same");
}
