//! The parts of the dashboard: its files, search, the fullest, latest denials, booked changes, pulses.

use serde_json::json;

use crate::access::entry;
use crate::client;
use crate::daemon::Running;

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\n";

fn acquire(daemon: &Running, tenant: &str, subject: &str) -> String {
    daemon
        .form("/v1/acquire", &format!("tenant={tenant}&subject={subject}&session={subject}&kind=desktop&ttl_s=600"))
        .body
}

#[test]
fn its_files_are_public_strict_and_cached_by_the_browser() {
    let daemon = Running::start(&entry("admin", 'a', ""), &[]);
    for (path, content_type) in [
        ("/", "text/html"),
        ("/dashboard.js", "text/javascript"),
        ("/dashboard.css", "text/css"),
        ("/rulebook.md", "text/plain"),
    ] {
        let answer = daemon.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(format!("{content_type}; charset=utf-8").as_str()));
        let policy = answer.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part) && !policy.contains("unsafe"), "{policy}");
        }
        assert_eq!(
            (answer.header("x-content-type-options"), answer.header("referrer-policy")),
            (Some("nosniff"), Some("no-referrer"))
        );
        let tag = answer.header("etag").unwrap();
        let again = daemon.call("GET", path, &format!("If-None-Match: {tag}\r\n"), "");
        assert_eq!((again.status, again.body.as_str()), (304, ""));
        assert_eq!(daemon.call("GET", path, "If-None-Match: \"old\"\r\n", "").status, 200);
    }
    assert_eq!(daemon.get("/v1/overview").status, 401, "the figures are not");
    assert_eq!(daemon.get("/index.html").status, 404);
}

#[test]
fn tenants_are_found_by_a_part_of_id_or_name() {
    let named = |name: &str| format!("name = \"{name}\"\n{PAID}seats = 1\n");
    let daemon = Running::start(
        "",
        &[("a-1", &named("Büro Lindenhof")), ("b-2", &named("Hotel")), ("linde", &format!("{PAID}seats = 1\n"))],
    );
    for (search, want) in [
        ("lind", &["a-1", "linde"][..]),
        ("B%C3%9CRO", &["a-1"]),
        ("B-2", &["b-2"]),
        ("-", &["a-1", "b-2"]),
        ("x", &[]),
        ("", &["a-1", "b-2", "linde"]),
    ] {
        let found = daemon.get(&format!("/v1/tenants?search={search}")).json();
        let ids: Vec<_> =
            found["tenants"].as_array().unwrap().iter().map(|row| row["tenant"].as_str().unwrap()).collect();
        assert_eq!(ids, want, "{search}");
    }
    let first = daemon.get("/v1/tenants?search=lind&limit=1").json();
    assert_eq!((&first["tenants"][0]["name"], &first["next"]), (&json!("Büro Lindenhof"), &json!("a-1")));
    let long = daemon.get(&format!("/v1/tenants?search={}", "x".repeat(65)));
    assert_eq!((long.status, long.pointers()), (400, vec!["/search".to_owned()]));
}

#[test]
fn the_overview_names_the_fullest_and_the_latest_denials() {
    let seats = |n: u32| format!("{PAID}seats = {n}\n");
    let more: Vec<(String, String)> = (0..25).map(|n| (format!("t{n:02}"), seats(4))).collect();
    let mut tenants = vec![
        ("empty", seats(5)),
        ("any", format!("{PAID}unlimited = true\n")),
        ("half", seats(2)),
        ("over", seats(1)),
        ("full", seats(1)),
        ("large", seats(2)),
    ];
    tenants.extend(more.iter().map(|(id, text)| (id.as_str(), text.clone())));
    let files: Vec<(&str, &str)> = tenants.iter().map(|(id, text)| (*id, text.as_str())).collect();
    let daemon = Running::start("", &files);
    for (tenant, subject) in [("any", "u"), ("half", "u"), ("over", "u"), ("full", "u"), ("large", "u"), ("large", "v")]
    {
        assert_eq!(acquire(&daemon, tenant, subject), "allow.new");
    }
    for (id, _) in &more {
        acquire(&daemon, id, "u");
    }
    daemon.form("/v1/acquire", "tenant=over&subject=v&session=v&kind=desktop&ttl_s=600&existing=1");
    let seen = daemon.get("/v1/overview").json();
    let fullest: Vec<_> =
        seen["fullest"].as_array().unwrap().iter().map(|row| row["tenant"].as_str().unwrap()).collect();
    assert_eq!(fullest.len(), 20);
    assert_eq!(fullest[..5], ["over", "large", "full", "half", "t00"], "by share, then by seats, then by id");
    assert_eq!(
        (&seen["fullest"][0]["over"], &seen["fullest"][0]["band"], &seen["fullest"][3]["free"]),
        (&json!(1), &json!("over"), &json!(1))
    );
    assert_eq!(seen["denials"], json!([]));
    for number in 0..23 {
        assert_eq!(acquire(&daemon, "full", &format!("d{number}")), "deny.full tenant");
    }
    let denials = daemon.get("/v1/overview").json()["denials"].clone();
    assert_eq!(
        (denials.as_array().unwrap().len(), &denials[0]["subject"], &denials[19]["subject"]),
        (20, &json!("d22"), &json!("d3"))
    );
    assert!(denials[0]["id"].as_u64() > denials[1]["id"].as_u64());
}

#[test]
fn a_tenant_tells_all_that_is_booked_and_the_seats_it_has_then() {
    let acme = format!(
        "{PAID}seats = 16\n[[change]]\neffective_at = 2027-01-01\nseats = 10\n[[change]]\neffective_at = 2027-03-01\nseats = 20\n[[addon]]\nid = \"summer\"\nseats = 4\n"
    );
    let daemon = Running::start("", &[("acme", &acme), ("plain", &format!("{PAID}seats = 1\n"))]);
    let tenant = daemon.get("/v1/tenants/acme").json();
    let booked: Vec<_> = tenant["schedule"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["effective_at"].as_str().unwrap(), item["seats"].clone(), item["seats_then"].clone()))
        .collect();
    assert_eq!(
        booked,
        [("2026-12-31T23:00:00Z", json!(10), json!(14)), ("2027-02-28T23:00:00Z", json!(20), json!(24))]
    );
    assert_eq!(tenant["time_zone"], "Europe/Berlin");
    assert_eq!(daemon.get("/v1/tenants/plain").json()["schedule"], json!([]));
}

#[test]
fn an_event_tells_enough_to_ask_again() {
    let daemon = Running::start("", &[("acme", &format!("{PAID}seats = 0\n"))]);
    let form = "tenant=acme&subject=u&session=s&kind=call&direction=outbound&class=fax&group=sales&ttl_s=60";
    assert_eq!(daemon.form("/v1/acquire", form).body, "deny.full tenant");
    let event = daemon.get("/v1/overview").json()["denials"][0].clone();
    assert_eq!(
        (&event["direction"], &event["class"], &event["group"]),
        (&json!("outbound"), &json!("fax"), &json!("sales"))
    );
    let again = json!({ "tenant": "acme", "subject": "u", "session": "s", "kind": "call", "direction": "outbound", "class": "fax", "group": "sales", "ttl_s": 60 });
    assert_eq!(daemon.post("/v1/explain", &again).decision(), "deny.full tenant");
}

#[test]
fn a_pulse_stands_for_all_that_happened() {
    use std::io::{Read as _, Write as _};
    let daemon =
        Running::start("", &[("acme", &format!("{PAID}seats = 50\n")), ("other", &format!("{PAID}seats = 50\n"))]);
    for bad in ["249", "60001", "x", "-1"] {
        assert_eq!(daemon.get(&format!("/v1/events?pulse_ms={bad}")).pointers(), ["/pulse_ms"], "{bad}");
    }
    let mut stream = client::tcp(daemon.address());
    write!(stream, "GET /v1/events?pulse_ms=250&tenant=acme HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut heard = String::new();
    let mut until = |what: &str, enough: &dyn Fn(&str) -> bool| {
        while !enough(&heard) {
            let mut part = [0; 4_096];
            let read = stream.read(&mut part).unwrap_or_else(|error| panic!("{what}: {error}: {heard}"));
            assert!(read > 0, "{what}: {heard}");
            heard.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        heard.clone()
    };
    until("the head", &|heard| heard.contains(": usherd events"));
    acquire(&daemon, "other", "somebody");
    for number in 0..30 {
        acquire(&daemon, "acme", &format!("u{number}"));
    }
    let events = |text: &str| -> u64 {
        let pulses = text.split("\"type\":\"pulse\",\"events\":").skip(1);
        pulses.map(|rest| rest.split('}').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    let text = until("every event to be counted", &|heard| events(heard) >= 30);
    assert_eq!(events(&text), 30, "those of another tenant are not: {text}");
    assert!(text.matches("event: pulse").count() < 15 && !text.contains("granted"), "{text}");
}
