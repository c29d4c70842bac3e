//! Reminders of an end: each told once, whatever restarts, reloads and clocks do (J13).

use crate::daemon::World;

fn paid(more: &str) -> String {
    format!("kind = \"paid\"\nstart = \"2025-06-16\"\nseats = 3\n{more}")
}

#[test]
fn an_end_is_told_of_three_times_over_restarts_and_reloads_j13() {
    let mut world = World::start("2027-05-16T21:59:59Z", &[("acme", &paid("cancel_at = \"2027-06-16\"\n"))]);
    assert!(world.told("reminder").is_empty());
    world.until("2027-05-16T22:00:00Z");
    let sentence = |left: &str| {
        format!(
            "acme: the cancelled subscription ends in {left} or less: data is deleted at 2027-06-15T22:00:00Z and cannot be restored afterwards"
        )
    };
    assert_eq!(world.told_all("reminder", 1), [sentence("30 days")]);
    world.restart();
    world.write("acme", &paid("cancel_at = \"2027-06-16\"\nname = \"A\"\n"));
    assert_eq!(world.reload(true).0, 200);
    assert!(world.told("reminder").is_empty(), "told before the restart");
    world.until("2027-06-08T22:00:00Z");
    assert_eq!(world.told_all("reminder", 1), [sentence("7 days")]);
    world.until("2027-06-13T12:00:00Z");
    world.restart_at("2027-06-15T10:00:00Z");
    assert_eq!(world.told("reminder"), [sentence("1 day")], "its time came while the daemon was stopped");
    world.restart();
    assert!(world.told("reminder").is_empty());
    world.until("2027-06-15T22:00:00Z");
    world.restart();
    world.stop();
    assert_eq!(world.audits("cannot be restored afterwards").len(), 3);
}

#[test]
fn a_late_booking_tells_only_what_still_matters() {
    let mut world = World::start("2026-11-22T12:00:00Z", &[("acme", &paid(""))]);
    world.write("acme", &paid("cancel_at = \"2026-11-23\"\n"));
    assert_eq!(world.reload(true).0, 200);
    let told = world.told_all("reminder", 1);
    assert!(told.len() == 1 && told[0].contains("ends in 1 day or less"), "{told:?}");
    // Revoked and booked for another day: that is another end.
    world.write("acme", &paid("cancel_at = \"2026-11-27\"\n"));
    assert_eq!(world.reload(true).0, 200);
    assert!(world.told_all("reminder", 2)[1].contains("ends in 7 days or less"));
    world.write("acme", &paid("cancel_at = \"2026-11-23\"\n"));
    assert_eq!(world.reload(true).0, 200);
    world.restart();
    assert!(world.told("reminder").is_empty(), "this end was told of");
}

#[test]
fn a_first_start_sends_the_most_urgent_reminder_only() {
    let trial = "kind = \"trial\"\nstart = \"2026-10-28T13:00:00\"\n";
    let files = [("ended", paid("cancel_at = \"2026-11-01\"\n")), ("far", paid("cancel_at = \"2027-11-01\"\n"))];
    let world =
        World::start("2026-11-22T12:00:00Z", &[("acme", trial), (files[0].0, &files[0].1), (files[1].0, &files[1].1)]);
    let told = world.told("reminder");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("acme: the trial ends in 7 days or less: data is deleted at 2026-11-27T12:00:00Z"),
        "{told:?}"
    );
}
