//! The agent's unit: off until it is configured, watched by systemd, and not moved by what becomes of the daemon.

use usherd_testkit::wait::eventually;

use super::callers::ask;
use super::machine::{Machine, out};
use super::restart::next_process;

const AGENT: &str = "usherd-agent.service";
const SOCKET: &str = "/run/usherd-agent/agent.sock";

/// The least that it can be told.
const MINIMAL: &str = "[node]\nname = \"pbx-1\"\n";

fn with_package() -> Machine {
    let machine = Machine::boot();
    machine.install();
    machine.subscribe("acme", 5);
    machine
}

/// The agent's answer to a dial plan.
fn answer(machine: &Machine, subject: &str, session: &str) -> String {
    let body = format!("tenant=acme&subject={subject}&session={session}&kind=call&direction=outbound&to=030123");
    let answer = ask(&machine.path(SOCKET), "POST", "/v1/acquire", &body).unwrap();
    answer.rsplit("\r\n\r\n").next().unwrap().to_owned()
}

/// Waits until a call is not let through for want of an answer: its subject has a seat then.
fn usherd_decides(machine: &Machine) {
    let mut calls = 0;
    eventually("usherd to decide", || {
        calls += 1;
        let answer = answer(machine, "anna", &format!("try-{calls}"));
        assert!(answer.starts_with("allow."), "no call waits for a daemon that is away: {answer}");
        ["allow.new", "allow.held"].iter().any(|code| answer.starts_with(code)).then_some(())
    });
}

fn its_node_is_up(machine: &Machine) {
    let nodes = || out(&machine.run(&["usherd", "nodes", "-o", "csv"]));
    eventually("its node to be up", || nodes().contains("pbx-1,up").then_some(()));
}

/// The figure of `systemd-analyze security`, in tenths of 10.
fn exposure(machine: &Machine, unit: &str) -> u32 {
    let told = machine.good(&["systemd-analyze", "security", "--no-pager", unit]);
    let line = told.lines().find_map(|line| line.split_once("Overall exposure level for ")).unwrap().1;
    let figure = line.split_whitespace().nth(1).unwrap().replace('.', "");
    figure.parse().unwrap()
}

/// The commands of a page that writes them as indented lines, from the first that begins so to the end of its paragraph.
fn commands(page: &str, begins: &str) -> String {
    let mut lines = page.lines().skip_while(|line| !line.starts_with(&format!("    {begins}")));
    let commands: Vec<&str> = lines.by_ref().map_while(|line| line.strip_prefix("    ")).collect();
    assert!(!commands.is_empty(), "no command begins {begins:?}");
    commands.join("\n")
}

#[test]
fn a_name_is_all_it_needs_and_no_restart_of_the_daemon_moves_it() {
    let machine = with_package();
    assert_eq!(machine.bad(&["systemctl", "is-enabled", AGENT]).trim(), "disabled");
    // Without a configuration it says so, instead of running without one.
    machine.bad(&["systemctl", "start", AGENT]);
    machine.good(&["systemctl", "stop", AGENT]);
    std::fs::write(machine.path("/etc/usherd/agent.toml"), MINIMAL).unwrap();
    machine.good(&["systemctl", "enable", "--now", AGENT]);
    for (key, value) in [("Type", "notify"), ("StatusText", "beside the PBX"), ("WatchdogUSec", "20s")] {
        assert_eq!(machine.property(AGENT, key), value, "{key}");
    }
    // Enabled, active, and answering are one: READY came when the socket was there.
    assert!(machine.path(SOCKET).exists(), "{SOCKET} is not there");
    its_node_is_up(&machine);
    assert!(answer(&machine, "bob", "c1").starts_with("allow.new"));
    let process = machine.property(AGENT, "MainPID");
    machine.good(&["systemctl", "restart", "usherd"]);
    usherd_decides(&machine);
    its_node_is_up(&machine);
    let told = machine.good(&["usherd", "doctor", "--node", "pbx-1"]);
    assert!(told.contains("ok    agent ") && told.contains("pbx-1 is up"), "{told}");
    assert_eq!((machine.property(AGENT, "MainPID"), machine.property(AGENT, "NRestarts")), (process, "0".to_owned()));
    assert!(exposure(&machine, AGENT) <= exposure(&machine, "usherd.service"));

    machine.good(&["systemctl", "stop", AGENT]);
    for (key, value) in [("ActiveState", "inactive"), ("Result", "success"), ("ExecMainStatus", "0")] {
        assert_eq!(machine.property(AGENT, key), value, "{key}");
    }
    assert!(!machine.path(SOCKET).exists(), "{SOCKET} is left, and dial plans wait at it");
}

#[test]
fn a_hung_agent_is_replaced_by_the_watchdog() {
    let machine = with_package();
    std::fs::write(machine.path("/etc/usherd/agent.toml"), MINIMAL).unwrap();
    machine.watch_every_two_seconds(AGENT);
    machine.good(&["systemctl", "start", AGENT]);
    let process = machine.property(AGENT, "MainPID");
    machine.signal(AGENT, "STOP");
    next_process(&machine, AGENT, &process);
    assert_eq!(machine.property(AGENT, "NRestarts"), "1");
    assert!(machine.journal().contains("watchdog"), "{}", machine.journal());
    usherd_decides(&machine);
}

#[test]
fn the_host_of_a_pbx_is_set_up_as_the_package_readme_says() {
    let machine = with_package();
    let readme = machine.good(&["cat", "/usr/share/doc/usherd/README.Debian"]);
    machine.good(&["sh", "-eux", "-c", &commands(&readme, "systemctl disable --now usherd.service")]);
    machine.bad(&["systemctl", "is-active", "usherd.socket"]);
    // Nobody decides here, and nobody elsewhere: a call goes out.
    assert_eq!(answer(&machine, "bob", "c1"), "allow.over unreachable");
    machine.good(&["systemctl", "enable", "--now", "usherd.socket", "usherd.service"]);
    usherd_decides(&machine);
    its_node_is_up(&machine);
    let page = machine.good(&["cat", "/usr/share/usherd/pbx/agent.md"]);
    let told = machine.good(&["sh", "-eux", "-c", &commands(&page, "usherd agent --status")]);
    for said in ["\nusherd_agent_connected 1\n", "usherd_agent_questions_total", "usherd answers again"] {
        assert!(told.contains(said), "no {said:?} in\n{told}");
    }
}
