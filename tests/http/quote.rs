//! `GET /v1/quote`: the figures of the rule book, the configuration's price mode and date, and bad parameters.

use serde_json::{Value, json};

use crate::access::{entry, token};
use crate::daemon::Running;

fn quote(daemon: &Running, query: &str) -> Value {
    let answer = daemon.get(&format!("/v1/quote?{query}"));
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    answer.json()
}

#[test]
fn the_worked_example_is_quoted_t124() {
    let daemon = Running::start("", &[]);
    let want = json!({
        "unit_cents": 801, "monthly_cents": 12_816, "charge_cents": 3_916, "net_cents": 1_958,
        "credit_cents": 1_958, "next_invoice_cents": 10_858,
    });
    assert_eq!(quote(&daemon, "from=10&to=16&on=2026-06-16"), want);
    assert_eq!(quote(&daemon, "from=10&to=16&on=2026-06-16&price_mode=graduated")["next_invoice_cents"], 11_303);
    let partner = quote(&daemon, "to=10&on=2026-06-16&partner=premium");
    assert_eq!((&partner["commission_cents"], &partner["wholesale_cents"]), (&json!(1_780), &json!(7_120)));
    assert_eq!(partner["advice"], json!({ "seats": 11, "monthly_cents": 8_811 }));
    assert_eq!(quote(&daemon, "to=1000000")["monthly_cents"], 267_000_000);
}

#[test]
fn mode_and_today_are_those_of_the_configuration() {
    // 2026-11-23 in Auckland: 8 of 30 days are left.
    let daemon = Running::start("time_zone = \"Pacific/Auckland\"\n[policy]\nprice_mode = \"graduated\"\n", &[]);
    assert_eq!(quote(&daemon, "from=10&to=16")["net_cents"], 1_282);
    assert_eq!(quote(&daemon, "from=10&to=16&price_mode=volume")["net_cents"], 1_044);
}

#[test]
fn every_bad_parameter_is_named() {
    let daemon = Running::start("", &[]);
    for (query, pointers) in [
        ("", &["/to"][..]),
        ("to=", &["/to"]),
        ("to=-1", &["/to"]),
        ("to=1000001", &["/to"]),
        ("to=1.5", &["/to"]),
        ("to=1&from=x", &["/from"]),
        ("to=1&on=2026-02-29", &["/on"]),
        ("to=1&on=2026-6-1", &["/on"]),
        ("to=1&on=today", &["/on"]),
        ("to=1&partner=gold", &["/partner"]),
        ("to=1&price_mode=flat", &["/price_mode"]),
        ("from=x&on=y&partner=z&price_mode=", &["/from", "/to", "/on", "/partner"]),
    ] {
        let answer = daemon.get(&format!("/v1/quote?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.pointers(), pointers, "{query}");
    }
}

#[test]
fn whoever_may_read_may_ask_for_a_quote() {
    let tokens = [entry("viewer", 'a', "tenants = [\"acme\"]"), entry("node", 'a', "")].concat();
    let daemon = Running::start(&tokens, &[("acme", "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 1\n")]);
    for (role, status) in [("viewer", 200), ("node", 401)] {
        let bearer = format!("Authorization: Bearer {}\r\n", token(role, 'a'));
        assert_eq!(daemon.call("GET", "/v1/quote?to=5", &bearer, "").status, status, "{role}");
    }
    assert_eq!(daemon.get("/v1/quote?to=5").status, 401);
}
