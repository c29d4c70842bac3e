//! Extras of the seats, from outside: shown, checked, and enforced by the engine in the same measure.

use serde_json::{Value, json};

use crate::access::{entry, token};
use crate::daemon::{Answer, Running};

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\n";

fn check(daemon: &Running, body: &Value) -> Value {
    let answer = daemon.post("/v1/tenants/acme/endpoints/check", body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn inclusive(daemon: &Running) -> Value {
    daemon.get("/v1/tenants/acme").json()["inclusive"].take()
}

#[test]
fn a_reduction_makes_a_surplus_when_it_takes_effect_t169_t170() {
    let acme =
        format!("{PAID}seats = 16\nnumbers = 20\n[[change]]\neffective_at = \"2026-11-22T12:01:00Z\"\nseats = 10\n");
    let daemon = Running::start("", &[("acme", &acme)]);
    let seen = inclusive(&daemon);
    assert_eq!(
        (&seen["numbers"], &seen["numbers_assigned"], &seen["surplus_numbers"]),
        (&json!(16), &json!(20), &json!(4))
    );
    daemon.advance(60);
    let seen = inclusive(&daemon);
    assert_eq!(
        (&seen["numbers"], &seen["numbers_assigned"], &seen["surplus_numbers"]),
        (&json!(10), &json!(20), &json!(10))
    );
}

#[test]
fn a_forty_ninth_device_is_one_too_many_and_calls_go_on_t173() {
    let acme = format!("{PAID}seats = 16\nendpoints = 48\ninclusive.endpoints_per_seat = 3\n");
    let daemon = Running::start("", &[("acme", &acme)]);
    let denied = check(&daemon, &json!({}));
    assert_eq!(
        (&denied["allow"], &denied["code"], &denied["detail"]),
        (&json!(false), &json!("deny"), &json!("limit reached"))
    );
    assert_eq!((&denied["endpoints"], &denied["limit"]), (&json!(48), &json!(48)));
    assert_eq!(check(&daemon, &json!({ "endpoints": 47 }))["detail"], "within limit");
    assert_eq!(check(&daemon, &json!({ "endpoints": 47, "add": 2 }))["code"], "deny");
    assert_eq!(inclusive(&daemon)["endpoints_set_up"], 48, "asking changes nothing");
    let form = daemon.form("/v1/tenants/acme/endpoints/check", "add=1&endpoints=40").json();
    assert_eq!((&form["allow"], &form["endpoints"]), (&json!(true), &json!(40)));
    let call = daemon.form("/v1/acquire", "tenant=acme&subject=u1&session=c1&kind=call&direction=outbound&ttl_s=60");
    assert_eq!(call.body, "allow.new");
}

#[test]
fn without_a_limit_every_device_may_be_set_up() {
    let daemon = Running::start("", &[("acme", &format!("{PAID}seats = 1\nendpoints = 48\n"))]);
    let answer = check(&daemon, &json!({ "add": 100_000 }));
    assert_eq!(
        (&answer["code"], &answer["detail"], &answer["limit"]),
        (&json!("allow"), &json!("not enforced"), &json!(null))
    );
    assert_eq!(daemon.post("/v1/tenants/nobody/endpoints/check", &json!({})).status, 404);
    let bad = daemon.post("/v1/tenants/acme/endpoints/check", &json!({ "add": 0 }));
    assert_eq!((bad.status, bad.pointers()), (400, vec!["/add".to_owned()]));
}

#[test]
fn nodes_and_admins_may_ask() {
    let roles = ["node", "viewer", "scrape", "admin"];
    let daemon =
        Running::start(&roles.map(|role| entry(role, 'a', "")).concat(), &[("acme", &format!("{PAID}seats = 1\n"))]);
    for (role, status) in roles.into_iter().zip([200, 401, 401, 200]) {
        let headers = format!("Authorization: Bearer {}\r\n", token(role, 'a'));
        let answer = daemon.call("POST", "/v1/tenants/acme/endpoints/check", &headers, "");
        assert_eq!(answer.status, status, "{role}: {answer:?}");
    }
}

fn call(daemon: &Running, session: u32) -> Answer {
    let form = format!("tenant=acme&subject=u1&session=c{session}&kind=call&direction=outbound&ttl_s=86400");
    daemon.form("/v1/acquire", &form)
}

#[test]
fn addon_channels_are_shown_and_enforced_until_the_end_l3_n10() {
    let addon = "[[addon]]\nid = \"lines\"\nchannels = 2\nnumbers = 30\ncancel_at = \"2026-11-22T12:01:00Z\"\n";
    let limits = "inclusive.channels_per_seat = 1\ninclusive.channels_enforce = true\n";
    let daemon = Running::start("", &[("acme", &format!("{PAID}seats = 1\n{limits}{addon}"))]);
    let shown = || {
        let seen = inclusive(&daemon);
        (seen["channels"].as_u64(), seen["channels_in_use"].as_u64(), seen["numbers"].as_u64())
    };
    assert_eq!(call(&daemon, 1).body, "allow.new");
    assert_eq!((call(&daemon, 2).body, call(&daemon, 3).body), ("allow.held".to_owned(), "allow.held".to_owned()));
    assert_eq!(shown(), (Some(3), Some(3), Some(31)));
    assert_eq!(call(&daemon, 4).body, "deny.full channels");
    daemon.form("/v1/release", "tenant=acme&session=c3");
    daemon.advance(60);
    let limit = |daemon: &Running| {
        let app = daemon.daemon().app();
        app.deciding.engine.tenant(app.deciding.clock.now(), "acme").unwrap().channels_limit
    };
    daemon.wait_until("the engine to know", |daemon| limit(daemon) == Some(1));
    assert_eq!(shown(), (Some(1), Some(2), Some(1)), "nobody is cut off");
    assert_eq!(call(&daemon, 3).body, "deny.full channels");
}
