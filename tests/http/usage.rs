//! A tenant's usage and demand over time, across restarts, and the denials of another quota.

use serde_json::Value;
use usherd::daemon::clock::Clock as _;
use usherd_testkit::files::write_tenant;

use crate::daemon::Running;

const MINUTE_MS: u64 = 60_000;
const PAID: &str = "kind = \"paid\"\nseats = 3\n";

/// Asks for a seat, or gives it back.
fn call(daemon: &Running, who: &str) -> String {
    daemon
        .form(
            "/v1/acquire",
            &format!("tenant=acme&subject={who}&session={who}&kind=call&direction=outbound&ttl_s=86400"),
        )
        .body
}

fn hang_up(daemon: &Running, who: &str) {
    assert_eq!(daemon.form("/v1/release", &format!("tenant=acme&session={who}")).body, "released.last");
}

/// Lets time pass, until the daemon has looked.
fn pass(daemon: &Running, by_ms: u64) {
    daemon.clock.advance(by_ms);
    let now_ms = daemon.clock.now().uptime_ms;
    daemon.wait_until("a look", |daemon| daemon.looked_ms() == Some(now_ms));
}

fn minutes(daemon: &Running, count: u64) {
    (0..count).for_each(|_| pass(daemon, MINUTE_MS));
}

fn rows(answer: &Value, keys: &[&str]) -> Vec<String> {
    let rows = answer["usage"].as_array().unwrap().iter();
    rows.map(|row| keys.iter().map(|key| format!("{key}={}", row[*key])).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn every_slot_keeps_its_exact_sums_over_a_restart() {
    let mut daemon = Running::start("", &[("acme", PAID)]);
    pass(&daemon, 1_000);
    assert_eq!(call(&daemon, "anna"), "allow.new");
    minutes(&daemon, 2);
    assert_eq!(call(&daemon, "bert"), "allow.new");
    minutes(&daemon, 1);
    hang_up(&daemon, "bert");
    minutes(&daemon, 3);
    let keys = ["at", "peak", "seat_s", "saturated_s", "denials", "quota"];
    let before = daemon.get("/v1/tenants/acme/usage?step=5m").json();
    // Anna from 12:00:01 on, Bert for a minute: 299 + 60 seconds of seats until the look at 12:05:01.
    assert_eq!(
        rows(&before, &keys),
        [
            "at=\"2026-11-22T12:00:00Z\" peak=2 seat_s=360 saturated_s=0 denials=0 quota=3",
            "at=\"2026-11-22T12:05:00Z\" peak=1 seat_s=60 saturated_s=0 denials=0 quota=3",
        ]
    );
    assert_eq!(
        (before["total"]["peak"].as_u64(), before["total"]["peak_at"].as_str()),
        (Some(2), Some("2026-11-22T12:00:00Z"))
    );
    daemon.restart();
    daemon.wait_until("ready", |daemon| daemon.get("/readyz").status == 200);
    assert_eq!(rows(&daemon.get("/v1/tenants/acme/usage?step=5m").json(), &keys), rows(&before, &keys));
    // Into the next hour: the hour becomes a file, and is the same.
    daemon.clock.advance(55 * MINUTE_MS);
    let hours = |daemon: &Running| {
        std::fs::read_dir(daemon.folder.path().join("state/history"))
            .unwrap()
            .flatten()
            .filter(|file| file.file_name().to_string_lossy().starts_with("hour-"))
            .count()
    };
    daemon.wait_until("a file of the hour", |daemon| hours(daemon) == 1);
    let hour = daemon.get("/v1/tenants/acme/usage?step=1h&from=2026-11-22T12:00:00Z&to=2026-11-22T13:00:00Z").json();
    assert_eq!(rows(&hour, &["at", "peak", "denials"]), ["at=\"2026-11-22T12:00:00Z\" peak=2 denials=0"]);
    assert!(daemon.get("/v1/overview").json()["history"]["bytes"].as_u64().unwrap() > 0);
}

#[test]
fn a_true_denial_has_no_seat_a_minute_later_p4() {
    let daemon = Running::start("", &[("acme", PAID)]);
    pass(&daemon, 1_000);
    for who in ["anna", "bert", "carl"] {
        assert_eq!(call(&daemon, who), "allow.new");
    }
    for who in ["dora", "emil", "dora"] {
        assert_eq!(call(&daemon, who), "deny.full tenant");
    }
    pass(&daemon, 20_000);
    hang_up(&daemon, "anna");
    assert_eq!(call(&daemon, "emil"), "allow.new");
    pass(&daemon, 50_000);
    let total = daemon.get("/v1/tenants/acme/usage").json()["total"].clone();
    let shown = |key: &str| total[key].as_u64().unwrap();
    assert_eq!((shown("denials"), shown("denials_true"), shown("demand"), shown("peak")), (3, 1, 5, 3));
    assert_eq!(shown("saturated_s"), 70);
    let whatif = daemon.get("/v1/tenants/acme/whatif?quota=2..6").json();
    // Six wishes: of levels 1, 2, 3, then Dora at 4 and Emil at 5; Emil again at 3 held and Dora waiting: 4.
    let denials: Vec<u64> =
        whatif["whatif"].as_array().unwrap().iter().map(|row| row["denials"].as_u64().unwrap()).collect();
    assert_eq!((whatif["requests"].as_u64(), denials), (Some(6), vec![4, 3, 1, 0, 0]));
    assert_eq!((&whatif["recommended"], &whatif["monthly_cents"]), (&5.into(), &4_450.into()));
    assert_eq!(whatif["whatif"][0]["saturated_s"], 70, "{whatif}");
}

#[test]
fn what_makes_no_sense_is_named() {
    let daemon = Running::start("", &[("acme", PAID)]);
    for (path, pointer) in [
        ("usage?step=7m", "/step"),
        ("usage?step=5m&from=2026-01-01", "/step"),
        ("usage?from=yesterday", "/from"),
        ("usage?from=2026-11-22&to=2026-11-21", "/from"),
        ("whatif?quota=9..3", "/quota"),
        ("whatif?quota=0..200", "/quota"),
        ("whatif?quota=many", "/quota"),
        ("whatif?target=0.9", "/target"),
    ] {
        let answer = daemon.get(&format!("/v1/tenants/acme/{path}"));
        assert_eq!((answer.status, answer.pointers()), (400, vec![pointer.to_owned()]), "{path}: {answer:?}");
    }
    for path in ["usage", "whatif"] {
        assert_eq!(daemon.get(&format!("/v1/tenants/nobody/{path}")).status, 404);
    }
}

#[test]
fn unknown_tenants_count_as_demand_of_their_lender_only_d4() {
    let ask = |daemon: &Running, who: &str| {
        daemon
            .form("/v1/acquire", &format!("tenant=stranger&subject={who}&session={who}&kind=desktop&ttl_s=86400"))
            .body
    };
    let daemon = Running::start("default_tenant = \"acme\"", &[("acme", PAID)]);
    pass(&daemon, 1_000);
    assert_eq!(call(&daemon, "anna"), "allow.new");
    assert_eq!(["anna", "bert", "carl"].map(|who| ask(&daemon, who)), ["allow.new", "allow.new", "deny.full tenant"]);
    minutes(&daemon, 1);
    let total = daemon.get("/v1/tenants/acme/usage").json()["total"].clone();
    assert_eq!((total["peak"].as_u64(), total["demand"].as_u64()), (Some(3), Some(4)));
    assert_eq!(daemon.get("/v1/tenants/acme/whatif").json()["requests"], 4);

    let daemon = Running::start("", &[("acme", PAID)]);
    pass(&daemon, 1_000);
    assert_eq!(ask(&daemon, "anna"), "deny.unknown_tenant");
    pass(&daemon, 1_000);
    write_tenant(daemon.folder.path(), "stranger", PAID);
    daemon.wait_until("the tenant", |daemon| {
        daemon.call("POST", "/v1/admin/reload", "", "");
        daemon.get("/v1/tenants/stranger").status == 200
    });
    minutes(&daemon, 1);
    let total = daemon.get("/v1/tenants/stranger/usage").json()["total"].clone();
    assert_eq!((total["demand"].as_u64(), total["denials_true"].as_u64()), (Some(0), Some(0)), "{total}");
}
