//! Ends: what happens to live sessions when a trial is over or a cancellation takes effect (J3, J6).

use crate::daemon::World;

/// On which side of a restart something happens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Restart {
    None,
    /// A second before it.
    Before,
    /// The daemon is stopped meanwhile.
    Over,
    /// Ten minutes later.
    After,
}

const RESTARTS: [Restart; 4] = [Restart::None, Restart::Before, Restart::Over, Restart::After];

fn paid(more: &str) -> String {
    format!("kind = \"paid\"\nstart = \"2025-06-16\"\nseats = 5\n{more}")
}

fn trial(start: &str) -> String {
    format!("kind = \"trial\"\nstart = \"{start}\"\n")
}

/// Shifts an instant by seconds.
fn plus(at: &str, seconds: i64) -> String {
    let at: chrono::DateTime<chrono::Utc> = at.parse().unwrap();
    (at + chrono::Duration::seconds(seconds)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// A call and a desktop are confirmed again, as their node does after a restart; a pairing confirms itself.
fn confirm(world: &World) {
    assert_eq!(world.acquire("anna", "c1", "outbound"), "allow.same");
    assert_eq!(world.acquire("bob", "d1", "desktop"), "allow.same");
}

fn check(text: &str, end: &str, restart: Restart) {
    let what = format!("{text} {restart:?}");
    let mut world = World::start(&plus(end, -60), &[("acme", text)]);
    assert_eq!(world.acquire("anna", "c1", "outbound"), "allow.new", "{what}");
    assert_eq!(world.acquire("bob", "d1", "desktop"), "allow.new");
    assert_eq!(world.acquire("cara", "m1", "mobile"), "allow.new");
    world.until(&plus(end, -1));
    if restart == Restart::Before {
        world.restart_at(&plus(end, -1));
        confirm(&world);
    }
    assert_eq!(world.acquire("dora", "d2", "desktop"), "allow.new", "{what}: one second before the end");
    world.release("d2");
    let mut closed = plus(end, 900);
    if restart == Restart::Over {
        // Nobody could tell the nodes before: they have the whole time from now on.
        world.restart_at(&plus(end, 30));
        confirm(&world);
        closed = plus(end, 930);
    } else {
        world.until(end);
    }
    assert_eq!(world.acquire("dora", "d2", "desktop"), "deny.inactive ended", "{what}: at the end");
    assert_eq!(world.acquire("x", "in", "inbound"), "allow.free inbound");
    assert_eq!((world.has("c1"), world.has("d1"), world.has("m1")), (true, true, false), "{what}");
    assert_eq!(world.look("acme"), "ended 0 2", "{what}");
    let told = world.told_all("subscription", 2);
    assert_eq!(told.len(), 2, "{what}: {told:#?}");
    assert!(told[0].contains("the subscription ended: 0 seats, before "), "{told:?}");
    assert!(told[1].contains("desktop and guest sessions are closed within 900 s"), "{told:?}");
    if restart == Restart::After {
        world.restart_at(&plus(end, 600));
        confirm(&world);
        assert!(world.told("subscription").is_empty(), "{what}: told before");
    }
    world.until(&plus(&closed, -1));
    assert!(world.has("d1"), "{what}");
    world.until(&closed);
    assert_eq!((world.has("c1"), world.has("d1")), (true, false), "{what}: calls are never cut");
    world.stop();
    assert_eq!(world.audits("the subscription ended").len(), 1, "{what}: {:#?}", world.audits("the subscription"));
    assert_eq!(world.audits("sessions are closed within").len(), 1, "{what}");
}

#[test]
fn a_cancellation_ends_on_time_over_both_dst_changes_t119() {
    for (date, end) in [("2026-03-30", "2026-03-29T22:00:00Z"), ("2026-10-26", "2026-10-25T23:00:00Z")] {
        for restart in RESTARTS {
            check(&paid(&format!("cancel_at = \"{date}\"\n")), end, restart);
        }
    }
}

#[test]
fn a_trial_ends_by_itself_also_in_both_dst_changes_t086() {
    for (start, end) in
        [("2026-02-27T02:30:00", "2026-03-29T01:00:00Z"), ("2026-09-25T02:30:00", "2026-10-25T01:30:00Z")]
    {
        for restart in RESTARTS {
            check(&trial(start), end, restart);
        }
    }
}

#[test]
fn the_second_before_the_end_of_a_trial_still_gives_seats_t089() {
    let world = World::start("2026-04-09T07:59:59Z", &[("acme", &trial("2026-03-10T10:00:00"))]);
    assert_eq!(world.acquire("anna", "c1", "outbound"), "allow.new");
    world.until("2026-04-09T08:00:00Z");
    assert_eq!(world.acquire("bob", "c2", "outbound"), "deny.inactive ended");
}

#[test]
fn an_end_written_during_a_stop_gives_the_whole_time_once() {
    let mut world = World::start("2026-11-22T12:00:00Z", &[("acme", &paid(""))]);
    assert_eq!(world.acquire("anna", "c1", "outbound"), "allow.new");
    assert_eq!(world.acquire("bob", "d1", "desktop"), "allow.new");
    assert_eq!(world.acquire("cara", "m1", "mobile"), "allow.new");
    world.stop();
    world.write("acme", &paid("cancel_at = \"2026-11-22T11:00:00Z\"\n"));
    world.restart_at("2026-11-22T12:10:00Z");
    confirm(&world);
    assert!(!world.has("m1"));
    let told = world.told("subscription");
    assert!(told.len() == 1 && told[0].contains("closed within 900 s"), "{told:?}");
    world.restart_at("2026-11-22T12:20:00Z");
    confirm(&world);
    assert!(world.told("subscription").is_empty());
    world.until("2026-11-22T12:24:59Z");
    assert!(world.has("d1"));
    world.until("2026-11-22T12:25:00Z");
    assert!(!world.has("d1") && world.has("c1"));
}

#[test]
fn an_end_by_reload_is_reported_and_switching_off_is_asked() {
    let off = "cancel_at = \"2026-11-22T11:00:00Z\"\n[policy]\nafter_end = \"off\"\nend_drain_s = 60\n";
    let world = World::start("2026-11-22T12:00:00Z", &[("acme", &paid(""))]);
    assert_eq!(world.acquire("bob", "d1", "desktop"), "allow.new");
    assert_eq!(world.acquire("cara", "m1", "mobile"), "allow.new");
    world.write("acme", &paid(off));
    assert_eq!(world.reload(true).0, 200);
    let told = world.told_all("subscription", 2);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("closed within 60 s"), "{told:?}");
    assert!(told[1].contains("the platform is asked to switch this phone system off"), "{told:?}");
    assert!(!world.has("m1"));
    world.after(60);
    assert!(!world.has("d1"));
}
