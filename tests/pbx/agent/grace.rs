//! A device that cannot be reached keeps its seat for the grace, whoever restarts meanwhile (B1, G6).

use std::time::Duration;

use usherd::daemon::clock::monotonic_ns;

use super::beside::{Place, held, sessions, until_sessions};
use super::fake::Fake;
use super::switch::Switch;

const DORA: &str = "desktop dora pbx-1-asterisk-Custom:client-dora";

fn asterisk(fake: &Fake, grace_s: u32) -> Place {
    let place = Place::new(&format!(
        "[asterisk]\naddress = \"{}\"\nuser = \"usherd\"\nsecret_file = \"secret\"\n\
         [[asterisk.presence]]\ndevice = \"Custom:client-*\"\nsubject = \"*\"\nkind = \"desktop\"\n",
        fake.address
    ));
    place.presence_grace(grace_s);
    place
}

fn seconds_since(begun: u64) -> f64 {
    Duration::from_nanos(monotonic_ns() - begun).as_secs_f64()
}

#[test]
fn a_client_that_flaps_or_a_pbx_restart_keeps_the_seat_t178() {
    let fake = Fake::play("asterisk-flap.txt");
    let place = asterisk(&fake, 600);
    let (daemon, _agent) = (place.daemon(), place.agent());
    until_sessions(&daemon, &[DORA]);
    let in_grace = |count: u32| {
        place.until_agent("the device's grace", |look| look["sources"][0]["in_grace"] == count);
        assert_eq!(sessions(&daemon), [DORA]);
    };
    for (gate, count) in [("there", 1), ("gone", 0), ("back", 1), ("restarted", 0), ("back again", 1)] {
        fake.reached(gate);
        fake.open(gate);
        in_grace(count);
    }
    assert!(place.ask("/metrics", "").1.contains("usherd_agent_released_total 0\n"), "nothing was given back");
    assert_eq!(daemon.client().list("/v1/tenants/acme/sessions", "sessions").len(), 1);
}

#[test]
fn a_client_that_stays_away_loses_its_seat_after_grace_t179() {
    let fake = Fake::play("asterisk-flap.txt");
    let place = asterisk(&fake, 2);
    let (daemon, _agent) = (place.daemon(), place.agent());
    until_sessions(&daemon, &[DORA]);
    fake.reached("there");
    let begun = monotonic_ns();
    fake.open("there");
    until_sessions(&daemon, &[]);
    assert!(seconds_since(begun) >= 2.0, "{} s", seconds_since(begun));
    // Back, she is asked for anew.
    fake.reached("gone");
    fake.open("gone");
    until_sessions(&daemon, &[DORA]);
}

#[test]
fn a_restart_of_the_agent_leaves_a_client_its_grace_and_no_more() {
    let rule = "[[freeswitch.presence]]\ndevice = \"*-desk@acme\"\nsubject = \"*\"\nkind = \"desktop\"\n";
    let switch = Switch::start();
    let row = |name: &str| format!("{{\"reg_user\":\"{name}-desk\",\"realm\":\"acme\"}}").into_bytes();
    switch.now(|carried| carried.registrations = vec![row("dora"), row("emil")]);
    let place = switch.place(1, rule);
    place.presence_grace(600);
    let (daemon, agent) = (place.daemon(), place.agent());
    let (dora, emil) = ("desktop dora pbx-1-freeswitch-dora-desk@acme", "desktop emil pbx-1-freeswitch-emil-desk@acme");
    until_sessions(&daemon, &[dora, emil]);
    usherd_testkit::wait::eventually("both to be written down", || {
        let kept = std::fs::read_to_string(place.path("spool/devices")).unwrap_or_default();
        (kept.contains("dora") && kept.contains("emil")).then_some(())
    });
    agent.kill();
    switch.now(|carried| drop(carried.registrations.remove(0)));
    let agent = place.agent();
    place.until_agent("dora's grace", |look| look["sources"][0]["in_grace"] == 1);
    // The first inventory says what lives: she does.
    let metrics = || place.ask("/metrics", "").1;
    usherd_testkit::wait::eventually("an inventory", || {
        (!metrics().contains("usherd_agent_inventories_total 0\n")).then_some(())
    });
    assert_eq!(sessions(&daemon), [dora, emil]);
    agent.kill();
    place.presence_grace(1);
    let _agent = place.agent();
    until_sessions(&daemon, &[emil]);
    assert_eq!(held(&daemon), 1);
}

#[test]
fn usherd_says_at_hello_how_long_the_grace_is() {
    let fake = Fake::play("asterisk-flap.txt");
    let place = asterisk(&fake, 600);
    let daemon = place.daemon();
    let hello = daemon.client().post("/v1/nodes/other/hello", "{\"epoch\":1}").json();
    assert_eq!(hello["presence_grace_s"], 2, "as the main file of this place has it");
    // And the agent's own file does not have to.
    let path = place.path("agent.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("presence_grace_s = 600\n", "")).unwrap();
    let _agent = place.agent();
    until_sessions(&daemon, &[DORA]);
    fake.reached("there");
    fake.open("there");
    until_sessions(&daemon, &[]);
}
