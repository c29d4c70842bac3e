//! One trial per account: what the state directory remembers, and who may override it (J3).

use crate::daemon::World;

const PAID: &str = "kind = \"paid\"\nstart = \"2026-12-01\"\nseats = 5\n";

fn trial(start: &str) -> String {
    format!("kind = \"trial\"\nstart = \"{start}\"\n")
}

/// The problem that a reload does not take a tenant file for.
fn rejected(world: &World) -> String {
    let (status, answer) = world.reload(false);
    assert_eq!((status, answer["tenants_rejected"].as_u64()), (200, Some(1)), "{answer}");
    let text = answer["rejected"].to_string();
    assert!(text.contains("is set to trial again") && text.contains("--force"), "{text}");
    text
}

#[test]
fn nobody_has_a_second_trial_unless_it_is_forced_t091() {
    let first = trial("2026-11-20T12:00:00");
    let mut world = World::start("2026-11-22T12:00:00Z", &[("acme", &first), ("beta", PAID)]);
    world.write("acme", &trial("2026-11-22T12:00:00"));
    let text = rejected(&world);
    assert!(text.contains("tenant `acme`") && text.contains("its trial started at 2026-11-20T12:00:00"), "{text}");
    assert_eq!(world.look("acme"), "trial 10 0", "what was in force stays");
    world.write("acme", &first);
    assert_eq!(world.reload(false).0, 200, "the same trial is no second one");
    world.write("acme", PAID);
    assert_eq!(world.reload(true).0, 200);
    // A tenant that was gone meanwhile is not new, and a restart forgets nothing.
    world.write("acme", PAID);
    world.restart();
    world.write("acme", &trial("2027-01-10T12:00:00"));
    assert!(rejected(&world).contains("it was paid, first seen so at 2026-11-22T12:00:00Z"));
    assert_eq!(world.reload(true).0, 200);
    world.restart();
    assert_eq!(world.look("acme"), "trial 10 0", "what was forced is accepted at the next start");
    assert_eq!(world.get("/v1/admin/config")["from_last_good"], false);
}

#[test]
fn a_start_cannot_force_and_uses_the_last_good_record_t091() {
    let mut world = World::start("2026-11-22T12:00:00Z", &[("acme", PAID)]);
    world.stop();
    world.write("acme", &trial("2026-11-22T12:00:00"));
    world.restart();
    assert_eq!(world.look("acme"), "active 5 0");
    assert_eq!(world.get("/v1/admin/config")["tenants_rejected"], 1);
    world.stop();
    std::fs::remove_dir_all(world.path().join("state/last-good")).unwrap();
    world.restart();
    let why = world.get("/v1/admin/config")["rejected"].to_string();
    assert!(why.contains("tenant `acme` is set to trial again") && why.contains("\"kept\":false"), "{why}");
}

#[test]
fn a_damaged_memory_stops_nobody() {
    let mut world = World::start("2026-11-22T12:00:00Z", &[("acme", &trial("2026-11-20T12:00:00"))]);
    world.stop();
    let file = world.path().join("state/accounts.json");
    assert!(std::fs::read_to_string(&file).unwrap().contains("2026-11-20T12:00:00"));
    std::fs::write(&file, "{").unwrap();
    world.restart();
    assert_eq!(std::fs::read_to_string(world.path().join("state/accounts.json.damaged")).unwrap(), "{");
    world.write("acme", &trial("2026-11-22T12:00:00"));
    rejected(&world);
}
