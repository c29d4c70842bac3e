//! Restarts, crashes, hangs and upgrades under load: nobody is refused, and nothing that was acknowledged is lost.

use std::collections::BTreeSet;

use usherd_testkit::wait::eventually;

use super::callers::{Callers, Outcome, ask};
use super::machine::Machine;

const RESTARTS: usize = 5;
const KILLS: usize = 8;
pub(crate) const SERVICE: &str = "usherd.service";

fn serving() -> Machine {
    let machine = Machine::boot();
    machine.install();
    machine.subscribe("acme", 1_000_000);
    machine
}

/// The process of a unit, once there is another one than this.
pub(crate) fn next_process(machine: &Machine, unit: &str, before: &str) -> String {
    eventually("systemd to start it again", || {
        let process = machine.property(unit, "MainPID");
        let another = process != before && process != "0" && machine.property(unit, "ActiveState") == "active";
        another.then_some(process)
    })
}

fn nobody_was_refused(machine: &Machine, outcome: &Outcome) {
    let [answered_over_tcp, refused_over_tcp, _] = outcome.over_tcp;
    assert_eq!((outcome.refused, refused_over_tcp), (0, 0), "refused: {outcome:?}");
    assert!(answered_over_tcp > 0, "nobody called over TCP: {outcome:?}");
    let live = sessions(machine);
    let lost: Vec<&String> = outcome.acknowledged.difference(&live).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged sessions are lost: {lost:?}",
        lost.len(),
        outcome.acknowledged.len()
    );
}

/// The names of all live sessions.
pub(crate) fn sessions(machine: &Machine) -> BTreeSet<String> {
    let answer = machine.good(&["usherd", "sessions", "acme", "-o", "json"]);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let rows = answer["sessions"].as_array().unwrap().iter();
    rows.map(|row| row["session"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn restarts_under_load_refuse_nobody_and_forget_nothing_i11() {
    let machine = serving();
    let callers = Callers::start(&machine, "acme");
    for _ in 0..RESTARTS {
        machine.good(&["systemctl", "restart", "usherd"]);
        callers.go_on();
    }
    let outcome = callers.stop();
    assert_eq!((outcome.broken, outcome.over_tcp[2]), (0, 0), "a stop answers what it has taken: {outcome:?}");
    nobody_was_refused(&machine, &outcome);
    println!("{RESTARTS} restarts: {} answers, {:?} over TCP", outcome.answered, outcome.over_tcp);
}

#[test]
fn kills_under_load_refuse_nobody_and_forget_nothing_i11() {
    let machine = serving();
    let callers = Callers::start(&machine, "acme");
    let mut process = machine.property(SERVICE, "MainPID");
    for _ in 0..KILLS {
        machine.signal(SERVICE, "KILL");
        process = next_process(&machine, SERVICE, &process);
        callers.go_on();
    }
    let outcome = callers.stop();
    nobody_was_refused(&machine, &outcome);
    assert_eq!(machine.property(SERVICE, "NRestarts"), KILLS.to_string());
    println!("{KILLS} kills: {} answers, {} broken, {:?} over TCP", outcome.answered, outcome.broken, outcome.over_tcp);
}

#[test]
fn a_hung_daemon_is_replaced_by_the_watchdog() {
    let machine = serving();
    let socket = machine.path("/run/usherd/usherd.sock");
    ask(&socket, "POST", "/v1/acquire", "tenant=acme&subject=anna&session=d1&kind=desktop&ttl_s=3600").unwrap();
    machine.watch_every_two_seconds(SERVICE);
    machine.good(&["systemctl", "restart", "usherd"]);
    let process = machine.property(SERVICE, "MainPID");
    machine.signal(SERVICE, "STOP");
    let next = next_process(&machine, SERVICE, &process);
    assert_ne!(process, next);
    assert!(machine.journal().contains("watchdog"), "{}", machine.journal());
    assert!(sessions(&machine).contains("d1"));
}

#[test]
fn an_upgrade_under_load_refuses_nobody_and_keeps_settings() {
    let machine = serving();
    let main = machine.path("/etc/usherd/usherd.toml");
    let own = std::fs::read_to_string(&main).unwrap() + "\n# of the admin\n";
    std::fs::write(&main, &own).unwrap();
    let next = machine.next_release();
    let callers = Callers::start(&machine, "acme");
    let process = machine.property(SERVICE, "MainPID");
    machine.good(&["dpkg", "-i", next]);
    assert_ne!(machine.property(SERVICE, "MainPID"), process, "the new release does not run");
    callers.go_on();
    let outcome = callers.stop();
    nobody_was_refused(&machine, &outcome);
    assert_eq!(std::fs::read_to_string(&main).unwrap(), own);
    // What the admin has switched off stays so.
    machine.good(&["systemctl", "disable", "--now", "usherd.service", "usherd.socket"]);
    machine.good(&["dpkg", "-i", next]);
    assert_eq!(machine.property(SERVICE, "ActiveState"), "inactive");
}
