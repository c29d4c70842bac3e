//! The package from its installation to its purge, as an admin lives through it.

use usherd_testkit::wait::eventually;

use super::callers::ask;
use super::machine::{Machine, out};

const INBOUND: &str = "tenant=-&session=c1&kind=call&direction=inbound";

#[test]
fn the_package_installs_starts_and_serves() {
    let machine = Machine::boot();
    machine.install();
    for unit in ["usherd.socket", "usherd.service"] {
        assert_eq!(machine.good(&["systemctl", "is-enabled", unit]).trim(), "enabled", "{unit}");
        assert_eq!(machine.good(&["systemctl", "is-active", unit]).trim(), "active", "{unit}");
    }
    assert_eq!(machine.bad(&["systemctl", "is-enabled", "usherd-agent.service"]).trim(), "disabled");

    // Over both of its doors, and by the command line.
    let over_tcp =
        machine.good(&["curl", "-sS", "--max-time", "10", "-d", INBOUND, "http://127.0.0.1:7788/v1/acquire"]);
    assert_eq!(over_tcp.trim(), "allow.free inbound");
    let over_unix = ask(&machine.path("/run/usherd/usherd.sock"), "POST", "/v1/acquire", INBOUND).unwrap();
    assert!(over_unix.ends_with("allow.free inbound"), "{over_unix}");
    machine.good(&["cp", "/usr/share/usherd/tenants.d/office-lindenhof.toml", "/etc/usherd/tenants.d/"]);
    machine.good(&["usherd", "reload"]);
    let granted = machine.good(&["usherd", "acquire", "office-lindenhof", "anna", "d1", "desktop", "--ttl", "600"]);
    assert!(granted.starts_with("allow.new"), "{granted}");

    // Nobody else of the machine reads who calls whom.
    let modes = machine.good(&["stat", "-c", "%a %U %G %n", "/etc/usherd", "/etc/usherd/tenants.d", "/var/lib/usherd"]);
    assert_eq!(
        modes,
        "750 root usherd /etc/usherd\n750 root usherd /etc/usherd/tenants.d\n700 usherd usherd /var/lib/usherd\n"
    );
    machine.good(&["usherd", "journal", "verify"]);
    let exposure = machine.good(&["systemd-analyze", "security", "--no-pager", "--threshold=10", "usherd.service"]);
    assert!(exposure.contains("Overall exposure level"), "{exposure}");
    let filter = machine.property("usherd.service", "IPAddressDeny");
    assert!(filter.contains("0.0.0.0/0"), "{filter}");

    // What it brings along.
    let files = machine.good(&["dpkg", "-L", "usherd"]);
    for file in [
        "/usr/bin/usherd",
        "/usr/share/man/man1/usherd.1.gz",
        "/usr/share/man/man1/usherd-doctor.1.gz",
        "/usr/share/man/man1/usherd-agent.1.gz",
        "/usr/share/bash-completion/completions/usherd",
        "/usr/share/zsh/vendor-completions/_usherd",
        "/usr/share/fish/vendor_completions.d/usherd.fish",
        "/usr/share/usherd/pbx/kamailio/usherd.cfg",
        "/usr/share/usherd/prometheus/usherd.rules.yml",
        "/usr/share/usherd/grafana/usherd-fleet.json",
        "/usr/share/doc/usherd/copyright",
        "/usr/share/doc/usherd/README.Debian",
        "/usr/share/doc/usherd/rulebook.md",
    ] {
        assert!(files.lines().any(|line| line == file), "{file} is missing in {files}");
        machine.good(&["test", "-s", file]);
    }
    machine.good(&["test", "-f", "/usr/share/doc/usherd/examples/pbx/README.md"]);
    machine.good(&["bash", "-n", "/usr/share/bash-completion/completions/usherd"]);
}

#[test]
fn the_doctor_finds_a_fresh_installation_healthy_and_its_wounds() {
    let machine = Machine::boot();
    machine.install();
    machine.subscribe("acme", 5);
    let told = machine.good(&["usherd", "doctor"]);
    for line in
        ["ok    service ", "ok    socket ", "ok    journal ", "ok    listener ", "ok    in force ", "ok    durability "]
    {
        assert!(told.contains(line), "no {line:?} in\n{told}");
    }
    // The folder is told by its name: nothing of it is made up from the shell of the admin.
    assert!(told.contains("/var/lib/usherd is"), "{told}");
    assert!(!told.contains("\nfail "), "{told}");

    machine.good(&["systemctl", "stop", "usherd.socket", "usherd.service"]);
    let told = machine.bad(&["usherd", "doctor"]);
    assert!(
        told.contains("fail  service ") && told.contains("warn  socket ") && told.contains("fail  daemon "),
        "{told}"
    );
    machine.good(&["systemctl", "start", "usherd.socket", "usherd.service"]);
    machine.signal("usherd.service", "KILL");
    eventually("it to be back", || (machine.property("usherd.service", "NRestarts") == "1").then_some(()));
    eventually("it to decide", || machine.run(&["usherd", "doctor", "--health"]).status.success().then_some(()));
    let told = machine.good(&["usherd", "doctor"]);
    assert!(told.contains("systemd had to start it again 1 times"), "{told}");
    machine.good(&["chown", "-R", "root", "/var/lib/usherd"]);
    let told = machine.bad(&["usherd", "doctor"]);
    assert!(told.contains("/var/lib/usherd belongs to user 0"), "{told}");
}

#[test]
fn a_reload_of_a_bad_configuration_fails_and_says_so_i20() {
    let machine = Machine::boot();
    machine.install();
    machine.subscribe("acme", 1);
    let record = machine.path("/etc/usherd/tenants.d/acme.toml");
    std::fs::write(&record, "id = \"acme\"\nkind = \"nfr\"\nseats = -1\n").unwrap();
    machine.bad(&["systemctl", "reload", "usherd"]);
    let log = machine.journal();
    assert!(log.contains("tenants.d/acme.toml:3:9"), "{log}");
    // The one before stays in force.
    assert_eq!(machine.good(&["systemctl", "is-active", "usherd"]).trim(), "active");
    machine.good(&["usherd", "acquire", "acme", "anna", "d1", "desktop", "--ttl", "600"]);
    std::fs::write(&record, "id = \"acme\"\nkind = \"nfr\"\nseats = 2\n").unwrap();
    machine.good(&["systemctl", "reload", "usherd"]);
    machine.good(&["usherd", "acquire", "acme", "bob", "d2", "desktop", "--ttl", "600"]);
    let denied = machine.bad(&["usherd", "acquire", "acme", "carl", "d3", "desktop", "--ttl", "600"]);
    assert!(denied.contains("deny.full"), "{denied}");
}

#[test]
fn removal_keeps_state_and_configuration_and_purge_takes_both() {
    let machine = Machine::boot();
    machine.install();
    machine.subscribe("acme", 5);
    machine.good(&["usherd", "acquire", "acme", "anna", "d1", "desktop", "--ttl", "3600"]);
    machine.good(&["dpkg", "--remove", "usherd"]);
    machine.bad(&["test", "-e", "/usr/bin/usherd"]);
    machine.bad(&["systemctl", "is-active", "usherd.service"]);
    machine.bad(&["test", "-e", "/run/usherd/usherd.sock"]);
    machine.good(&["test", "-d", "/var/lib/usherd/journal"]);
    machine.good(&["test", "-f", "/etc/usherd/tenants.d/acme.toml"]);

    // Installed again, it knows who had a seat.
    machine.install();
    let sessions = machine.good(&["usherd", "sessions", "acme"]);
    assert!(sessions.contains("anna"), "{sessions}");

    machine.good(&["dpkg", "--purge", "usherd"]);
    for path in ["/etc/usherd", "/var/lib/usherd", "/usr/share/usherd", "/usr/lib/systemd/system/usherd.service"] {
        machine.bad(&["test", "-e", path]);
    }
    let left =
        machine.good(&["bash", "-c", "find /etc/systemd /var/lib/systemd/deb-systemd-helper-* -name '*usherd*'"]);
    assert_eq!(left, "", "links are left");
    assert_eq!(out(&machine.run(&["systemctl", "list-unit-files", "--no-legend", "usherd*"])), "");
}
