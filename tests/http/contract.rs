//! The wire contract, route by route.

use serde_json::json;

use crate::daemon::Running;

const ACME: &str = "id = \"acme\"\nkind = \"paid\"\nstart = \"2026-06-16\"\nseats = 1\n";

#[test]
fn a_first_decision_in_every_dress() {
    let daemon = Running::start("", &[("acme", ACME)]);
    let ask = json!({ "tenant": "acme", "subject": "anna", "session": "c1", "kind": "call", "direction": "outbound", "ttl_s": 60 });
    let answer = daemon.post("/v1/acquire", &ask);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (200, Some("allow.new")), "{answer:?}");
    assert_eq!(answer.json()["ttl_s"], 60);
    let form = "tenant=acme&subject=bob&session=c2&kind=call&direction=outbound&ttl_s=60";
    assert_eq!(daemon.form("/v1/acquire", form).body, "deny.full tenant");
    assert_eq!(daemon.form("/v1/acquire?status=1", form).status, 403);
    assert_eq!(
        daemon.form("/v1/acquire", "tenant=nobody&session=c9&kind=call&direction=inbound").body,
        "allow.free inbound"
    );
    assert_eq!(daemon.form("/v1/release", "tenant=acme&session=c1").body, "released.last");
    assert_eq!(daemon.form("/v1/acquire", form).body, "allow.new");
    assert_eq!(daemon.get("/v1/tenants/acme").json()["held"], 1);
}

#[test]
fn a_restart_keeps_live_sessions_and_forgets_released_ones() {
    let mut daemon = Running::start("", &[("acme", &ACME.replace("seats = 1", "seats = 5"))]);
    for session in ["c1", "c2", "c3"] {
        let form = format!("tenant=acme&subject=s-{session}&session={session}&kind=call&direction=outbound&ttl_s=600");
        assert_eq!(daemon.form("/v1/acquire", &form).body, "allow.new");
    }
    assert_eq!(daemon.form("/v1/release", "tenant=acme&session=c2").body, "released.last");
    daemon.restart();
    assert_eq!(daemon.get("/v1/tenants/acme").json()["held"], 2);
    let listed = daemon.get("/v1/tenants/acme/sessions").json();
    let names: Vec<_> =
        listed["sessions"].as_array().unwrap().iter().map(|row| row["session"].as_str().unwrap()).collect();
    assert_eq!(names, ["c1", "c3"]);
}
