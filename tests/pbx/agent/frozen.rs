//! The disk under the agent hangs: no script waits for it, and what ended meanwhile is written once it goes on.

use std::time::Duration;

use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::volume::Volume;
use usherd_testkit::wait::eventually;

use super::beside::{Place, held, until_sessions};

/// Longest that a script may wait: the client's deadline of a second, and what a busy machine adds.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// How long the longest of these took, each for ten calls; whoever watches the agent waits no longer either.
fn longest(place: &Place, from: usize, mut ask: impl FnMut(String)) -> Duration {
    let mut longest = 0;
    for at in from..from + 10 {
        let begun = monotonic_ns();
        ask(format!("c{at}"));
        let asked = monotonic_ns();
        assert_eq!(place.ask("/metrics", "").0, 200);
        longest = longest.max(asked - begun).max(monotonic_ns() - asked);
    }
    Duration::from_nanos(longest)
}

fn acquires(place: &Place, from: usize) -> Duration {
    longest(place, from, |session| assert_eq!(place.acquire(&session, &session), "allow.new"))
}

fn releases(place: &Place, from: usize, answer: &str) -> Duration {
    longest(place, from, |session| assert_eq!(place.release(&session), answer))
}

fn written(place: &Place) -> usize {
    std::fs::read_to_string(place.path("spool/releases")).unwrap().lines().count()
}

#[test]
fn a_frozen_disk_under_the_agent_holds_up_no_script_i8() {
    let place = Place::new("");
    let volume = Volume::new(place.path("spool"));
    let (daemon, agent) = (place.daemon(), place.agent());
    place.until_connected();
    acquires(&place, 0);
    releases(&place, 0, "released.last");
    place.until_agent("an empty spool", |look| look["releases_waiting"] == 0);

    let frozen = volume.freeze();
    let asked = acquires(&place, 100);
    let given_back = releases(&place, 100, "released.last");
    assert!(asked.max(given_back) < ANSWERED_WITHIN, "scripts waited {asked:?} and {given_back:?}");
    assert_eq!(held(&daemon), 0);
    acquires(&place, 200);
    daemon.kill();
    let given_back = releases(&place, 200, "released.more unreachable");
    assert!(given_back < ANSWERED_WITHIN, "a script waited {given_back:?}");
    drop(frozen);

    // What usherd has acknowledged meanwhile need not be written, and the rest is there at once.
    eventually("the releases to be written", || (written(&place) >= 10).then_some(()));
    agent.kill();
    let (daemon, _agent) = (place.daemon(), place.agent());
    until_sessions(&daemon, &[]);
    place.until_agent("an empty spool", |look| look["releases_waiting"] == 0);
}

#[test]
fn releases_held_by_a_frozen_disk_are_written_before_the_end() {
    let place = Place::new("");
    let volume = Volume::new(place.path("spool"));
    let (daemon, mut agent) = (place.daemon(), place.agent());
    place.until_connected();
    acquires(&place, 0);
    daemon.kill();
    let frozen = volume.freeze();
    releases(&place, 0, "released.more unreachable");
    agent.signal(rustix::process::Signal::TERM);
    agent.until_says("the agent stops");
    drop(frozen);
    assert_eq!(agent.ended().code(), Some(0));
    assert_eq!(written(&place), 10);
}
