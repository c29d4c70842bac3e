//! Booked changes of the number of seats, and states without seats, while sessions are live.

use serde_json::json;

use crate::daemon::World;

fn paid(seats: u32, more: &str) -> String {
    format!("kind = \"paid\"\nstart = \"2025-06-16\"\nseats = {seats}\n{more}")
}

/// 14 calls run; the quota falls to 10 at an instant: nobody leaves, and the tenth that is free is given.
fn check_fall(text: &str, before: u32, at: &str, restart: bool) {
    let mut world = World::start(&format!("{}T12:00:00Z", &at[..10]), &[("acme", text)]);
    for call in 1..=14 {
        assert_eq!(world.acquire(&format!("u{call}"), &format!("c{call}"), "outbound"), "allow.new");
    }
    assert!(world.look("acme").ends_with(&format!(" {before} 14")), "{}", world.look("acme"));
    if restart {
        world.restart_at(at);
        for call in 1..=14 {
            assert_eq!(world.acquire(&format!("u{call}"), &format!("c{call}"), "outbound"), "allow.same");
        }
    } else {
        world.until(at);
    }
    assert_eq!(world.get("/v1/tenants/acme")["over"], 4, "{text} {restart}");
    assert!(world.look("acme").ends_with(" 10 14"), "{}", world.look("acme"));
    for call in 1..=5 {
        assert_eq!(world.acquire("new", "n", "outbound"), "deny.full tenant");
        world.release(&format!("c{call}"));
    }
    assert_eq!(world.acquire("new", "n", "outbound"), "allow.new");
    let told = world.told_all("subscription", 1);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with(&format!("acme: a booked change took effect: 10 seats, before {before}")), "{told:?}");
    world.restart();
    assert!(world.told("subscription").is_empty());
    world.stop();
    assert_eq!(world.audits("a booked change took effect").len(), 1);
}

#[test]
fn a_reduction_evicts_nobody_over_both_dst_changes_t103() {
    for (date, at) in [("2026-03-30", "2026-03-29T22:00:00Z"), ("2026-10-26", "2026-10-25T23:00:00Z")] {
        for restart in [false, true] {
            let change = format!("[[change]]\neffective_at = \"{date}\"\nseats = 10\n");
            check_fall(&paid(16, &change), 16, at, restart);
        }
    }
}

#[test]
fn an_addon_ends_on_its_date_over_both_changes_of_the_clocks() {
    for (date, at) in [("2026-03-30", "2026-03-29T22:00:00Z"), ("2026-10-26", "2026-10-25T23:00:00Z")] {
        for restart in [false, true] {
            let addon = format!("[[addon]]\nid = \"summer\"\nseats = 5\ncancel_at = \"{date}\"\n");
            check_fall(&paid(10, &addon), 15, at, restart);
        }
    }
}

#[test]
fn more_seats_serve_the_very_next_request() {
    let change = "[[change]]\neffective_at = \"2026-12-01\"\nseats = 2\n";
    let world = World::start("2026-11-30T22:59:59Z", &[("acme", &paid(1, change)), ("other", &paid(3, ""))]);
    assert_eq!(world.acquire("anna", "c1", "outbound"), "allow.new");
    assert_eq!(world.acquire("bob", "c2", "outbound"), "deny.full tenant");
    assert_eq!(
        world.get("/v1/overview")["next_change"],
        json!({"tenant": "acme", "at": "2026-11-30T23:00:00Z", "seats": 2, "state": "active"})
    );
    let series = |name: &str| world.series(&format!("usherd_{name}"));
    assert_eq!(series("scheduled_changes{change=\"increase\"}"), Some(1.0));
    assert_eq!(series("scheduled_change_next_timestamp_seconds{change=\"increase\"}"), Some(1_796_079_600.0));
    assert_eq!(series("tenant_scheduled_seats_quota{tenant=\"acme\"}"), Some(2.0));
    world.until("2026-11-30T23:00:00Z");
    assert_eq!(world.acquire("bob", "c2", "outbound"), "allow.new");
    assert_eq!(series("scheduled_changes{change=\"increase\"}"), Some(0.0));
    let overview = world.get("/v1/overview");
    assert_eq!(overview["next_change"], json!(null));
    assert_eq!((&overview["time"]["zone"], &overview["time"]["clock_steps"]), (&json!("Europe/Berlin"), &json!(0)));
}

#[test]
fn changes_of_the_same_instant_touch_only_their_tenants() {
    let change =
        "[[change]]\neffective_at = \"2026-12-01\"\nseats = 7\n[[change]]\neffective_at = \"2026-12-02\"\nseats = 8\n";
    let files: Vec<(String, String)> =
        (0..600).map(|n| (format!("t{n}"), paid(3, if n % 2 == 0 { change } else { "" }))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    let world = World::start("2026-11-30T22:59:59Z", &files);
    world.until("2026-11-30T23:00:00Z");
    assert_eq!((world.look("t598"), world.look("t599")), ("pending_change 7 0".to_owned(), "active 3 0".to_owned()));
    assert_eq!(world.told_all("subscription", 300).len(), 300);
    world.until("2026-12-01T23:00:00Z");
    assert_eq!(world.look("t598"), "active 8 0");
    assert_eq!(world.told_all("subscription", 600).len(), 600);
}

#[test]
fn a_reduction_due_during_a_stop_holds_from_the_start_t115() {
    let change = "[[change]]\neffective_at = \"2027-06-16\"\nseats = 10\n";
    let mut world = World::start("2027-06-15T10:00:00Z", &[("acme", &paid(16, change))]);
    assert_eq!(world.look("acme"), "pending_change 16 0");
    world.restart_at("2027-06-17T10:00:00Z");
    for call in 1..=10 {
        assert_eq!(world.acquire(&format!("u{call}"), &format!("c{call}"), "outbound"), "allow.new");
    }
    assert_eq!(world.acquire("u11", "c11", "outbound"), "deny.full tenant");
    let told = world.told("subscription");
    assert_eq!(told, ["acme: a booked change took effect: 10 seats, before 16, while the daemon was stopped"]);
}

#[test]
fn a_kill_on_either_side_of_a_change_tells_it_once() {
    let change = "cancel_at = \"2026-12-15\"\n[[change]]\neffective_at = \"2026-12-01\"\nseats = 10\n";
    for before in [true, false] {
        let mut world = World::start("2026-11-30T22:00:00Z", &[("acme", &paid(16, change))]);
        assert_eq!(world.told_all("reminder", 1).len(), 1);
        if !before {
            world.until("2026-11-30T23:00:00Z");
            assert_eq!(world.told_all("subscription", 1).len(), 1);
        }
        world.crash_at("2026-11-30T23:00:01Z");
        assert_eq!(world.look("acme"), "pending_cancel 10 0");
        assert_eq!((world.told("subscription").len(), world.told("reminder").len()), (usize::from(before), 0));
        world.stop();
        assert_eq!(world.audits("a booked change took effect").len(), 1);
        assert_eq!(world.audits("cannot be restored afterwards").len(), 1);
    }
}

#[test]
fn a_suspended_tenant_keeps_running_calls_and_resumes_t082() {
    let world = World::start("2026-11-22T12:00:00Z", &[("acme", &paid(3, ""))]);
    assert_eq!(world.acquire("anna", "d1", "desktop"), "allow.new");
    world.write("acme", &paid(3, "suspended = true\n"));
    assert_eq!(world.reload(true).0, 200);
    assert_eq!(world.acquire("anna", "c1", "outbound"), "deny.inactive suspended");
    assert_eq!(world.acquire("bob", "d2", "desktop"), "deny.inactive suspended");
    assert_eq!(world.acquire("x", "in", "inbound"), "allow.free inbound");
    let body = json!({"tenant": "acme", "subject": "bob", "session": "d2", "kind": "desktop", "ttl_s": 60});
    assert_eq!(world.ask("POST", "/v1/acquire", &body).1["message"], "The subscription is suspended.");
    world.write("acme", &paid(3, ""));
    assert_eq!(world.reload(true).0, 200);
    assert_eq!(world.acquire("anna", "c1", "outbound"), "allow.held");
}

#[test]
fn a_record_that_nobody_confirms_falls_to_inbound_only_t083() {
    let synced = "synced_at = \"2026-10-23T12:00:00Z\"\n";
    let mut world = World::start("2026-11-22T11:59:59Z", &[("acme", &paid(3, synced))]);
    assert_eq!(world.acquire("bob", "c0", "outbound"), "allow.new");
    world.until("2026-11-22T12:00:00Z");
    for _ in 0..2 {
        assert_eq!(world.look("acme"), "stale 3 1");
        assert_eq!(world.acquire("anna", "c1", "outbound"), "deny.inactive stale");
        assert_eq!(world.acquire("x", "in", "inbound"), "allow.free inbound");
        world.restart();
    }
    world.stop();
    assert_eq!(world.audits("was not confirmed for 30 days").len(), 1);
}

#[test]
fn denials_of_today_survive_a_restart_and_end_at_midnight() {
    // Midnight in the billing zone is 23:00 UTC.
    let mut world = World::start("2026-11-22T22:31:00Z", &[("acme", &paid(1, ""))]);
    let today = |world: &World| {
        let of = world.get("/v1/tenants/acme");
        (of["denials_today"].as_u64(), of["peak_today"].as_u64())
    };
    let denied = |world: &World, times: u32| {
        for _ in 0..times {
            assert_eq!(world.acquire("bob", "c2", "outbound"), "deny.full tenant");
        }
    };
    assert_eq!(world.acquire("anna", "c1", "outbound"), "allow.new");
    denied(&world, 2);
    assert_eq!(today(&world), (Some(2), Some(1)), "in the first five minutes");
    // The window is closed by a look behind its end; once there was another, all is done that follows from it.
    for at in ["2026-11-22T22:35:01Z", "2026-11-22T22:35:02Z"] {
        world.until(at);
        world.wait("a look", || world.has_looked());
    }
    assert_eq!(today(&world), (Some(2), Some(1)), "with the window closed");
    denied(&world, 1);
    world.release("c1");
    assert_eq!(today(&world), (Some(3), Some(1)));
    world.restart_at("2026-11-22T22:41:00Z");
    assert_eq!(today(&world), (Some(3), Some(1)), "before the restart");
    assert_eq!(world.acquire("anna", "c1", "outbound"), "allow.new");
    denied(&world, 1);
    assert_eq!(today(&world), (Some(4), Some(1)));
    world.until("2026-11-22T23:00:00Z");
    world.wait("a new day", || today(&world) == (Some(0), Some(1)));
    denied(&world, 1);
    assert_eq!(today(&world), (Some(1), Some(1)));
    world.restart_at("2026-11-22T23:10:00Z");
    assert_eq!(today(&world), (Some(1), Some(1)), "yesterday's do not come back");
}
