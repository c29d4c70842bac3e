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
fn an_upgrade_stays_ten_minutes_when_the_clock_goes_back_t112() {
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
fn losses_of_the_old_timeline_come_at_their_second() {
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

/// 1 seat, and 4 from June on; run once after that, so that the journal knows of an instant in July.
fn grown() -> World {
    let change = "[[change]]\neffective_at = \"2026-06-01\"\nseats = 4\n";
    let mut world = World::start("2026-07-01T12:00:00Z", &[("acme", &paid(1, change))]);
    assert_eq!(world.look("acme"), "active 4 0");
    world.stop();
    world
}

#[test]
fn a_start_with_the_clock_in_the_past_keeps_what_was_t180() {
    let mut world = grown();
    world.restart_at("2020-01-01T00:00:00Z");
    assert_eq!((world.look("acme"), world.clock()), ("active 4 0".into(), "false confirmation".into()));
    assert_eq!(world.get("/v1/overview")["time"]["clock_steps"], json!(1));
    assert!(world.told_all("clock_step", 1)[0].contains("over the stop"));
    world.after(1_200);
    assert_eq!((world.look("acme"), world.clock()), ("active 4 0".into(), "false confirmation".into()));
    world.restart_at("2020-01-01T01:00:00Z");
    assert_eq!(world.look("acme"), "active 4 0", "nor after another start");
    assert_eq!(world.ask("POST", "/v1/admin/clock/trust", &Value::Null).0, 200);
    assert_eq!((world.look("acme"), world.clock()), ("active 4 0".into(), "false ten_minutes".into()));
    world.after(600);
    assert_eq!((world.look("acme"), world.clock()), ("pending_change 1 0".into(), "true nothing".into()));
    world.restart_at("2020-01-01T02:00:00Z");
    assert_eq!(world.clock(), "true nothing", "what was trusted then is what the next start compares with");
    world.stop();
    assert_eq!(world.audits("trust the clock: ").len(), 1);
}

#[test]
fn a_right_clock_ends_the_waiting_by_itself() {
    for known in [true, false] {
        let mut world = grown();
        world.restart_at("2020-01-01T00:00:00Z");
        world.synchronise(known.then_some(true));
        if known {
            world.wait("the word of the kernel", || world.clock() == "false ten_minutes");
        } else {
            // The time service comes late and corrects the clock: to where the stop left it.
            world.after(60);
            world.step((2_373 * 24 + 12) * 3_600);
        }
        world.after(599);
        assert_eq!(world.clock(), "false ten_minutes", "{known}");
        world.after(1);
        assert_eq!(world.clock(), "true nothing", "{known}");
        assert_eq!(world.look("acme"), if known { "pending_change 1 0" } else { "active 4 0" });
    }
}

#[test]
fn one_start_with_the_clock_years_ahead_takes_no_pairing_t181() {
    let mut world = World::start("2026-11-22T12:00:00Z", &[("acme", &paid(3, "cancel_at = \"2027-02-22\"\n"))]);
    assert_eq!(world.acquire("cara", "m1", "mobile"), "allow.new");
    assert_eq!(world.acquire("bob", "d1", "desktop"), "allow.new");
    world.restart_at("2030-01-01T00:00:00Z");
    assert!(world.look("acme").starts_with("pending_cancel 3 "), "{}", world.look("acme"));
    world.after(1_000);
    assert!(world.has("m1") && world.has("d1"));
    assert_eq!(world.acquire("anna", "c1", "outbound"), "allow.new");
    world.restart_at("2026-11-22T12:30:00Z");
    assert_eq!((world.look("acme"), world.clock()), ("pending_cancel 3 3".into(), "true nothing".into()));
    assert!(world.has("m1") && world.has("d1"), "and it was no step");
    assert!(world.told("subscription").is_empty());
}

#[test]
fn an_end_denies_at_once_and_unpairs_with_a_trusted_clock() {
    let mut world =
        World::start("2026-11-22T12:00:00Z", &[("acme", &paid(3, "cancel_at = \"2026-11-22T20:00:00Z\"\n"))]);
    assert_eq!(world.acquire("cara", "m1", "mobile"), "allow.new");
    assert_eq!(world.acquire("bob", "d1", "desktop"), "allow.new");
    world.restart_at("2026-11-30T12:00:00Z");
    assert!(world.look("acme").starts_with("pending_cancel 3 "), "the old time still gives them");
    world.after(28_800);
    assert_eq!(world.look("acme"), "ended 0 2");
    assert_eq!(world.acquire("anna", "c1", "outbound"), "deny.inactive ended");
    world.after(7_200);
    assert!(world.has("m1") && world.has("d1"), "nobody confirmed the clock");
    assert!(!world.told("subscription").iter().any(|told| told.contains("closed within")), "nor is it told");
    world.synchronise(Some(true));
    world.wait("the pairing goes", || !world.has("m1"));
    let told = world.told_all("subscription", 2);
    assert!(told[1].contains("desktop and guest sessions are closed within 900 s"), "{told:?}");
    world.after(899);
    assert!(world.has("d1"));
    world.after(1);
    world.wait("the client is closed", || !world.has("d1"));
}

#[test]
fn a_drain_that_was_under_way_goes_on_once_the_clock_is_trusted() {
    let mut world =
        World::start("2026-11-22T12:00:00Z", &[("acme", &paid(3, "cancel_at = \"2026-11-22T12:10:00Z\"\n"))]);
    assert_eq!(world.acquire("bob", "d1", "desktop"), "allow.new");
    world.until("2026-11-22T12:10:00Z");
    assert_eq!(world.look("acme"), "ended 0 1");
    world.until("2026-11-22T12:12:00Z");
    world.restart_at("2030-01-01T00:00:00Z");
    world.after(1_000);
    assert!(world.has("d1"));
    world.restart_at("2026-11-22T12:20:00Z");
    world.until("2026-11-22T12:24:59Z");
    assert!(world.has("d1"));
    world.until("2026-11-22T12:25:00Z");
    world.wait("the client is closed", || !world.has("d1"));
}

#[test]
fn a_stop_of_up_to_two_days_is_none() {
    let mut world =
        World::start("2026-11-22T12:00:00Z", &[("acme", &paid(3, "cancel_at = \"2026-11-23T12:00:00Z\"\n"))]);
    assert_eq!(world.acquire("cara", "m1", "mobile"), "allow.new");
    world.restart_at("2026-11-24T12:00:00Z");
    assert_eq!(
        (world.look("acme"), world.clock(), world.has("m1")),
        ("ended 0 0".into(), "true nothing".into(), false)
    );
}

/// Two requests that would write a date, and the same only asked about.
fn requests(world: &World) -> Vec<(u16, String)> {
    let add = json!({"request": "add", "seats": 2});
    let add_again = json!({"request": "add", "seats": 1, "actor": "operator"});
    let dry_run = json!({"request": "add", "seats": 2, "dry_run": true});
    [add_again, dry_run, add]
        .iter()
        .map(|request| {
            let (status, answer) = world.ask("POST", "/v1/tenants/acme/subscription", request);
            (status, answer["detail"].as_str().unwrap_or_default().to_owned())
        })
        .collect()
}

#[test]
fn no_request_is_dated_by_a_clock_that_nobody_trusts_h5() {
    let mut world = grown();
    let file = |world: &World| std::fs::read_to_string(world.path().join("tenants.d/acme.toml")).unwrap();
    let before = file(&world);
    world.restart_at("2020-01-01T00:00:00Z");
    for (status, detail) in requests(&world) {
        assert_eq!(status, 503, "{detail}");
        assert!(detail.contains("`usherd clock trust`") && detail.contains("2020-01-01T00:00:00Z"), "{detail}");
    }
    assert_eq!(file(&world), before);
    assert_eq!(world.ask("POST", "/v1/admin/clock/trust", &Value::Null).0, 200);
    world.after(599);
    for (status, detail) in requests(&world) {
        assert_eq!(status, 503, "the ten minutes are not over: {detail}");
    }
    assert_eq!(file(&world), before);
    world.after(1);
    let request = json!({"request": "add", "seats": 2});
    assert_eq!(world.ask("POST", "/v1/tenants/acme/subscription", &request).0, 200);
    assert_ne!(file(&world), before);
}

#[test]
fn a_step_while_it_runs_dates_no_request_either() {
    let world = World::start("2026-11-22T12:00:00Z", &[("acme", &paid(3, ""))]);
    world.step(YEAR);
    assert!(requests(&world).iter().all(|(status, _)| *status == 503));
    world.step(-YEAR);
    world.after(600);
    let request = json!({"request": "add", "seats": 2});
    let (status, answer) = world.ask("POST", "/v1/tenants/acme/subscription", &request);
    assert_eq!((status, &answer["effective_at"]), (200, &json!("2026-11-22T12:10:00Z")), "{answer}");
}

#[test]
fn due_dates_are_reported_though_the_clock_was_once_ahead() {
    let change = "[[change]]\neffective_at = \"2026-11-24\"\nseats = 16\n";
    let mut world = World::start("2026-11-22T12:00:00Z", &[("acme", &paid(3, change))]);
    for by in [YEAR, -YEAR] {
        world.step(by);
        world.after(600);
        world.wait("the clock to be trusted", || world.clock() == "true nothing");
    }
    assert_eq!(world.look("acme"), "pending_change 3 0");
    world.restart_at("2026-11-24T10:00:00Z");
    let told = world.told_all("subscription", 1);
    assert_eq!(told, ["acme: a booked change took effect: 16 seats, before 3, while the daemon was stopped"]);
}

#[test]
fn a_file_refused_by_a_wrong_clock_is_taken_once_trusted() {
    let mut world = World::start("2026-11-22T12:00:00Z", &[]);
    world.stop();
    let main = std::fs::read_to_string(world.path().join("usherd.toml")).unwrap();
    std::fs::write(world.path().join("usherd.toml"), format!("{main}[[pool]]\nid = \"p\"\nseats = 65\n")).unwrap();
    let change = "pool = \"p\"\n[[change]]\neffective_at = \"2026-01-01\"\nseats = 10\n";
    world.write("acme", &paid(50, change));
    world.write("beta", &paid(50, "pool = \"p\"\n"));
    world.restart_at("2026-11-22T13:00:00Z");
    assert_eq!((world.look("acme"), world.look("beta")), ("active 10 0".to_owned(), "active 50 0".to_owned()));
    world.stop();
    world.write("cara", &paid(5, "pool = \"p\"\n"));
    // Nothing tells it that this is the past.
    std::fs::remove_dir_all(world.path().join("state/journal")).unwrap();
    world.restart_at("2020-11-22T13:00:00Z");
    assert_eq!((world.look("acme"), world.look("beta")), ("pending_change 50 0".to_owned(), "active 50 0".to_owned()));
    assert!(!world.app().configuration.running.get().tenants.contains_key("cara"), "there is no room for it in 2020");
    // No file is saved from here on.
    world.step(2_191 * 86_400);
    assert!(!world.app().configuration.running.get().tenants.contains_key("cara"));
    world.after(600);
    world.wait("the reload", || world.app().configuration.running.get().tenants.contains_key("cara"));
    assert_eq!((world.look("acme"), world.look("beta")), ("active 10 0".to_owned(), "active 50 0".to_owned()));
    assert!(world.app().configuration.running.get().rejected.is_empty());
}
