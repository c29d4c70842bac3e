//! Lists in pages with filters, one tenant, the overview, and what machines watch.

use serde_json::{Value, json};

use crate::client;
use crate::daemon::Running;

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\n";

fn names(answer: &Value, noun: &str, key: &str) -> Vec<String> {
    answer[noun].as_array().unwrap().iter().map(|row| row[key].as_str().unwrap().to_owned()).collect()
}

/// Every page of a list, by following `next`.
fn walk(daemon: &Running, path: &str, noun: &str, key: &str, limit: usize) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let sign = if path.contains('?') { '&' } else { '?' };
        let page = daemon.get(&format!("{path}{sign}limit={limit}&after={after}")).json();
        let rows = names(&page, noun, key);
        assert!(rows.len() <= limit);
        all.extend(rows);
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => return all,
        }
    }
}

fn acquire(daemon: &Running, form: &str) {
    let answer = daemon.form("/v1/acquire", form);
    assert!(answer.body.starts_with("allow"), "{form}: {answer:?}");
}

#[test]
fn lists_are_sorted_paged_and_filtered() {
    let seats = |n: u32| format!("{PAID}seats = {n}\n");
    let suspended = format!("{PAID}seats = 3\nsuspended = true\n");
    let daemon = Running::start("", &[("a", &seats(5)), ("b", &seats(2)), ("c", &seats(0)), ("d", &suspended)]);
    assert_eq!(daemon.form("/v1/nodes/n2/hello", "epoch=1").status, 200);
    assert_eq!(daemon.form("/v1/nodes/n1/hello", "epoch=1").status, 200);
    for (session, rest) in [
        ("s5", "subject=u1&kind=desktop&node=n1"),
        ("s1", "subject=u2&kind=desktop&node=n2"),
        ("s4", "subject=u3&kind=call&direction=outbound&node=n1&device=desk&to=0301&epoch=1&seq=7"),
        ("s2", "subject=u1&kind=call&direction=inbound&node=n1"),
        ("s3", "subject=u4&kind=phone&node=n2"),
    ] {
        acquire(&daemon, &format!("tenant=a&session={session}&{rest}"));
    }
    acquire(&daemon, "tenant=b&subject=x&session=1&kind=mobile");
    acquire(&daemon, "tenant=b&subject=y&session=2&kind=mobile");
    let sessions = "/v1/tenants/a/sessions";
    for limit in [1, 2, 3, 1_000] {
        assert_eq!(walk(&daemon, sessions, "sessions", "session", limit), ["s1", "s2", "s3", "s4", "s5"]);
        assert_eq!(walk(&daemon, "/v1/tenants/a/subjects", "subjects", "subject", limit), ["u1", "u2", "u3", "u4"]);
        assert_eq!(walk(&daemon, "/v1/tenants", "tenants", "tenant", limit), ["a", "b", "c", "d"]);
        assert_eq!(walk(&daemon, "/v1/nodes", "nodes", "node", limit), ["n1", "n2"]);
        assert_eq!(
            walk(&daemon, "/v1/tenants/a/sessions?counts=true", "sessions", "session", limit),
            ["s1", "s4", "s5"]
        );
    }
    for (filter, want) in [
        ("kind=call", &["s2", "s4"][..]),
        ("node=n1", &["s2", "s4", "s5"]),
        ("node=unknown", &[]),
        ("counts=0", &["s2", "s3"]),
        ("subject=u1", &["s2", "s5"]),
        ("kind=call&counts=yes&node=n1", &["s4"]),
        ("after=s4", &["s5"]),
    ] {
        let page = daemon.get(&format!("{sessions}?{filter}")).json();
        assert_eq!(names(&page, "sessions", "session"), want, "{filter}");
    }
    for (filter, want) in [
        ("state=suspended", &["d"][..]),
        ("state=active", &["a", "b", "c"]),
        ("band=full", &["b"]),
        ("band=50_to_80", &["a"]),
        ("band=over", &[]),
    ] {
        assert_eq!(names(&daemon.get(&format!("/v1/tenants?{filter}")).json(), "tenants", "tenant"), want, "{filter}");
    }
    let call = &daemon.get(&format!("{sessions}?subject=u3")).json()["sessions"][0];
    assert_eq!(
        (&call["device"], &call["seq"], &call["external"], &call["leg"]),
        (&json!("desk"), &json!(7), &json!(true), &json!("originate"))
    );
    let one = daemon.get("/v1/tenants/a/subjects/u1").json();
    assert_eq!((&one["seated"], &one["claims"]), (&json!(true), &json!(1)));
    assert_eq!(names(&one, "sessions", "session"), ["s2", "s5"]);
    assert_eq!(daemon.get("/v1/tenants/a/subjects/nobody").status, 404);
    assert_eq!(daemon.get("/v1/tenants/z").status, 404);
    assert_eq!(daemon.get("/v1/tenants/z/sessions").status, 404);
    assert_eq!(daemon.get("/v1/tenants/z/subjects").status, 404);
}

#[test]
fn ids_of_every_shape_find_their_way_through_a_path() {
    let daemon = Running::start("", &[("acme", &format!("{PAID}seats = 5\n"))]);
    let (subject, session) = ("Käthe / \"50 %\" +1?", "n1/7;c=4 &x=%41#");
    let body = json!({ "tenant": "acme", "subject": subject, "session": session, "kind": "desktop", "ttl_s": 60 });
    assert_eq!(daemon.post("/v1/acquire", &body).json()["subject"], subject);
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let found = daemon.get(&format!("/v1/tenants/acme/subjects/{}", encoded(subject))).json();
    assert_eq!((&found["subject"], &found["sessions"][0]["session"]), (&json!(subject), &json!(session)));
    let ended = daemon.call("DELETE", &format!("/v1/tenants/acme/sessions/{}", encoded(session)), "", "");
    assert_eq!((ended.status, ended.json()["count"].as_u64()), (200, Some(1)));
    for bad in ["%", "%f", "%zz", "%ff"] {
        assert_eq!(daemon.get(&format!("/v1/tenants/acme/subjects/{bad}")).status, 400, "{bad}");
    }
}

#[test]
fn a_tenant_tells_what_it_has_and_what_comes() {
    let acme = format!(
        "{PAID}seats = 16\nnumbers = 20\nendpoints = 48\ninclusive.endpoints_per_seat = 3\nname = \"ACME\"\n[[change]]\neffective_at = 2027-01-01\nseats = 10\n"
    );
    let daemon = Running::start(
        "",
        &[("acme", &acme), ("zero", &format!("{PAID}seats = 0\n")), ("any", &format!("{PAID}unlimited = true\n"))],
    );
    acquire(&daemon, "tenant=acme&subject=u1&session=c1&kind=call&direction=outbound&ttl_s=60");
    assert_eq!(
        daemon.form("/v1/acquire", "tenant=zero&subject=u1&session=c1&kind=desktop&ttl_s=60").body,
        "deny.full tenant"
    );
    let tenant = daemon.get("/v1/tenants/acme").json();
    assert_eq!(
        (&tenant["name"], &tenant["quota"], &tenant["held"], &tenant["free"], &tenant["state"]),
        (&json!("ACME"), &json!(16), &json!(1), &json!(15), &json!("pending_change"))
    );
    assert_eq!(
        (
            &tenant["inclusive"]["surplus_numbers"],
            &tenant["inclusive"]["channels"],
            &tenant["inclusive"]["channels_in_use"]
        ),
        (&json!(4), &json!(80), &json!(1))
    );
    assert_eq!(
        (&tenant["next_change"]["at"], &tenant["next_change"]["seats"]),
        (&json!("2026-12-31T23:00:00Z"), &json!(10))
    );
    assert_eq!(daemon.get("/v1/tenants/zero").json()["denials_today"], 1);
    let any = daemon.get("/v1/tenants/any").json();
    assert!(any["quota"].is_null() && any["free"].is_null());
}

#[test]
fn the_overview_adds_up() {
    let main = "[[pool]]\nid = \"p\"\nseats = 10\n";
    let daemon = Running::start(
        main,
        &[("a", &format!("{PAID}seats = 3\npool = \"p\"\n")), ("b", &format!("{PAID}seats = 1\n"))],
    );
    acquire(&daemon, "tenant=a&subject=u1&session=1&kind=mobile");
    acquire(&daemon, "tenant=b&subject=u1&session=1&kind=mobile");
    acquire(&daemon, "tenant=b&subject=u2&session=2&kind=desktop&ttl_s=60&existing=1");
    let seen = daemon.get("/v1/overview").json();
    for (key, want) in [("tenants", 2), ("held", 3), ("quota", 4), ("over", 1)] {
        assert_eq!(seen[key], want, "{key}");
    }
    assert_eq!((&seen["bands"]["over"], &seen["bands"]["below_50"]), (&json!(1), &json!(1)));
    assert_eq!(seen["sessions"]["mobile"], json!({ "counting": 2, "free": 0 }));
    assert_eq!(
        seen["pools"][0],
        json!({ "pool": "p", "licensed": 10, "unassigned": 7, "assigned_unused": 2, "in_use": 1, "over": 0 })
    );
}

#[test]
fn machines_are_told_what_they_ask_for() {
    let daemon = Running::start("", &[("acme", &format!("{PAID}seats = 1\n"))]);
    assert_eq!(daemon.get("/livez").body, "ok\n");
    assert_eq!(daemon.get("/readyz").body, "ok\n");
    let verbose = daemon.get("/readyz?verbose").json();
    assert_eq!(
        (&verbose["ready"], &verbose["durability"], &verbose["config"]["last_reload_successful"]),
        (&json!(true), &json!("written"), &json!(true))
    );
    let head = daemon.call("HEAD", "/livez", "", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let target = daemon.get("/v1/prometheus/sd").json();
    assert_eq!(target[0]["targets"], json!(["localhost"]), "the name that the scraper knows it by");
    for bad in ["0/2", "3/2", "x", "1", "1/"] {
        let answer = daemon.get(&format!("/metrics?shard={bad}"));
        assert_eq!((answer.status, answer.pointers()), (400, vec!["/shard".to_owned()]), "{bad}");
    }
    assert_eq!(daemon.get("/metrics?shard=1/2").status, 200);
}

#[test]
fn the_exposition_is_well_formed_and_its_counters_never_fall() {
    let daemon = Running::start("[metrics]\ntenants = \"all\"\n", &[("acme", &format!("{PAID}seats = 1\n"))]);
    let mut before = std::collections::HashMap::<String, f64>::new();
    for round in 0..3 {
        daemon.form("/v1/acquire", &format!("tenant=acme&subject=u{round}&session=s{round}&kind=mobile"));
        daemon.form("/v1/acquire", "tenant=acme&session=c1&kind=call");
        let answer = daemon.get("/metrics");
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
        let now = exposition(&answer.body);
        for (series, value) in &before {
            if series.split('{').next().is_some_and(|name| name.ends_with("_total") || name.ends_with("_bucket")) {
                assert!(now.get(series).is_some_and(|now| now >= value), "{series} fell from {value}");
            }
        }
        before = now;
    }
    assert_eq!(before["usherd_seats_in_use"], 1.0);
    assert_eq!(before["usherd_http_requests_total{route=\"acquire\",method=\"POST\",status=\"400\"}"], 3.0);
}

/// Every series with its value; panics where the text is not in the exposition format.
pub(crate) fn exposition(text: &str) -> std::collections::HashMap<String, f64> {
    let mut series = std::collections::HashMap::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut families = std::collections::HashSet::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match what {
                "HELP" => {
                    assert!(families.insert(name.to_owned()), "{name} comes twice");
                    family = name.to_owned();
                }
                "TYPE" => {
                    assert!(name == family && ["counter", "gauge", "histogram"].contains(&rest), "{line}");
                    assert_eq!(rest == "counter", name.ends_with("_total"), "{line}");
                    kind = rest.to_owned();
                }
                other => panic!("{other}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let bare = name.split('{').next().unwrap();
        let of_family = match kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"].iter().any(|end| bare.strip_suffix(end) == Some(&family)),
            _ => bare == family,
        };
        assert!(of_family, "{line} stands in {family}");
        assert!(name == bare || (name.ends_with("\"}") && name.matches('"').count() % 2 == 0), "{line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(value >= 0.0 || bare.contains("hash"), "{line} is below zero");
        assert!(series.insert(name.to_owned(), value).is_none(), "{name} comes twice");
    }
    series
}

#[test]
fn a_bad_parameter_is_named_with_what_is_allowed() {
    let daemon = Running::start("", &[("acme", &format!("{PAID}seats = 1\n"))]);
    for (path, pointer, allowed) in [
        ("/v1/tenants?limit=0", "/limit", "1 to 1000"),
        ("/v1/tenants?limit=1001", "/limit", "1 to 1000"),
        ("/v1/tenants?limit=x", "/limit", "1 to 1000"),
        ("/v1/tenants?state=happy", "/state", "trial, active, pending_change, pending_cancel, suspended, stale, ended"),
        ("/v1/tenants?band=wide", "/band", "idle, below_50"),
        ("/v1/nodes?limit=-1", "/limit", "1 to 1000"),
        ("/v1/tenants/acme/subjects?limit=0", "/limit", "1 to 1000"),
        ("/v1/tenants/acme/sessions?kind=pigeon", "/kind", "desktop, mobile, phone, connector, guest, call"),
        ("/v1/tenants/acme/sessions?counts=2", "/counts", "true or false"),
        ("/v1/events?types=granted,happy", "/types", "granted, denied, released"),
        ("/v1/events?after=x", "/after", "id of an event"),
    ] {
        let answer = daemon.get(path);
        assert_eq!((answer.status, answer.pointers()), (400, vec![pointer.to_owned()]), "{path}");
        assert!(answer.body.contains(allowed), "{path}: {answer:?}");
    }
    let long = format!("/v1/tenants?after={}", "x".repeat(8_200));
    assert_eq!(daemon.get(&long).status, 400);
    assert_eq!(daemon.get("/v1/tenants?after=%zz").status, 400);
    let huge = client::request("GET", "/livez", &format!("X-Long: {}\r\n", "x".repeat(20_000)), "");
    assert_eq!(daemon.send(&huge).status, 431);
}
