//! Clocks that jump: no seat moves, no lease ends early or late, and everybody is told (H1, H5, I25).

use serde_json::{Value, json};

use crate::daemon::World;

const YEAR: i64 = 365 * 86_400;

fn paid(seats: u32, more: &str) -> String {
    format!("kind = \"paid\"\nstart = \"2025-06-16\"\nseats = {seats}\n{more}")
}

#[test]
fn a_year_ahead_and_back_ends_nobody_t110() {
    let world = World::start("2026-11-22T12:00:00Z", &[("acme", &paid(3, "cancel_at = \"2027-02-22\"\n"))]);
    assert_eq!(world.acquire("bob", "d1", "desktop"), "allow.new");
    assert_eq!(world.acquire("cara", "m1", "mobile"), "allow.new");
    world.step(YEAR);
    let check = |what: &str| {
        assert_eq!(world.look("acme"), "pending_cancel 3 2", "{what}");
        assert_eq!(world.acquire("anna", "c1", "outbound"), "allow.new", "{what}");
        world.release("c1");
        assert!(world.has("d1") && world.has("m1"), "{what}");
    };
    check("ahead");
    world.after(240);
    check("four minutes later");
    world.reload(true);
    check("after a reload");
    world.step(-YEAR);
    check("corrected");
    world.after(599);
    assert_eq!(world.get("/v1/overview")["time"]["wall_clock_trusted"], json!(false));
    world.after(1);
    check("trusted again");
    assert_eq!(world.get("/v1/overview")["time"]["wall_clock_trusted"], json!(true));
    assert_eq!(world.get("/v1/overview")["time"]["clock_steps"], json!(2));
    assert_eq!(world.series("usherd_clock_steps_total"), Some(2.0));
    assert!(world.told("subscription").is_empty() && world.told("reminder").is_empty(), "nothing happened to anybody");
    let told = world.told_all("clock_step", 3);
    let stepped = told.iter().filter(|told| told.contains("the wall clock stepped by ")).count();
    assert_eq!((stepped, told.len()), (2, 3), "{told:?}");
}

#[test]
fn a_year_ahead_that_stays_is_believed_after_ten_minutes() {
    let world = World::start("2026-11-22T12:00:00Z", &[("acme", &paid(3, "cancel_at = \"2027-02-22\"\n"))]);
    world.step(YEAR);
    world.after(599);
    assert_eq!(world.look("acme"), "pending_cancel 3 0");
    world.after(1);
    assert_eq!(world.look("acme"), "ended 0 0");
}

#[test]
fn an_upgrade_stays_for_ten_minutes_when_the_clock_goes_back_t112() {
    let change = "[[change]]\neffective_at = \"2026-12-01\"\nseats = 16\n";
    let world = World::start("2026-11-30T22:59:00Z", &[("acme", &paid(10, change))]);
    world.until("2026-11-30T23:00:00Z");
    assert_eq!(world.look("acme"), "active 16 0");
    world.after(300);
    world.step(-7_200);
    assert_eq!(world.look("acme"), "active 16 0");
    world.after(599);
    assert_eq!(world.look("acme"), "active 16 0");
    world.after(1);
    assert_eq!(world.look("acme"), "pending_change 10 0");
    world.until("2026-11-30T22:59:59Z");
    assert_eq!(world.look("acme"), "pending_change 10 0");
    world.until("2026-11-30T23:00:00Z");
    assert_eq!(world.look("acme"), "active 16 0");
    let told = world.told_all("subscription", 3);
    let seats = |after, before| format!("acme: a booked change took effect: {after} seats, before {before}");
    assert_eq!(told, [seats(16, 10), seats(10, 16), seats(16, 10)], "each that was in force is told");
}

#[test]
fn what_the_old_timeline_loses_in_the_window_is_lost_at_its_second() {
    // The wall clock goes ahead over the end; by the old time the end comes five minutes later.
    let world = World::start("2026-11-22T11:55:00Z", &[("acme", &paid(3, "cancel_at = \"2026-11-22T12:00:00Z\"\n"))]);
    world.step(3_600);
    world.after(299);
    assert_eq!(world.look("acme"), "pending_cancel 3 0");
    world.after(1);
    assert_eq!(world.look("acme"), "ended 0 0");
    world.after(600);
    assert_eq!(world.told("subscription").iter().filter(|told| told.contains("the subscription ended")).count(), 1);
}

#[test]
fn leases_know_nothing_of_the_wall_clock_t113() {
    let world = World::start("2026-11-22T12:00:00Z", &[("acme", &paid(3, ""))]);
    let state = || world.get("/v1/nodes")["nodes"][0]["state"].clone();
    for (name, by) in [("n1", 3_600), ("n1", -3_600), ("n1", -YEAR)] {
        assert_eq!(world.ask("POST", &format!("/v1/nodes/{name}/hello"), &json!({"epoch": 1})).0, 200);
        world.step(by);
        world.after(14);
        assert_eq!(state(), Value::from("up"), "{by}: not early");
        world.after(1);
        assert_eq!(state(), Value::from("silent"), "{by}: not late");
    }
}
