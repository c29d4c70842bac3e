//! The commands of the pages that need a machine of their own are run in one: as they stand, in the order of the page.

use usherd_testkit::page::{self, Block};

use super::machine::Machine;
use super::package;
use super::restart::{SERVICE, next_process, sessions};

/// Where somebody stands who follows a page.
const HERE: &str = "/root/usherd";

/// A block of a page, found by how it begins.
struct Stage {
    begins: &'static str,
    /// Puts in place what the page takes for granted.
    before: fn(&Machine),
    /// Looks at what the page promises, and at what the commands said.
    after: fn(&Machine, &str),
}

/// How the package comes to a machine.
const BY_PACKAGE: [Stage; 1] =
    [Stage { begins: "packaging/build-deb", before: |_| (), after: the_package_serves_its_first_tenant }];

/// From bare files to a restored backup.
const BY_HAND: [Stage; 4] = [
    Stage { begins: "install -m 0755 usherd", before: unpack, after: the_units_serve },
    Stage { begins: "usherd config check", before: a_day_before_the_upgrade, after: the_next_release_knows_everybody },
    Stage { begins: "systemctl stop usherd.socket", before: a_backup_and_a_disaster, after: the_backup_is_in_force },
    Stage { begins: "timedatectl", before: |_| (), after: the_clock_is_told },
];

/// A new machine in which these blocks are run one after the other.
fn follow(stages: &[Stage]) {
    let machine = Machine::boot();
    machine.good(&["mkdir", HERE]);
    let mut blocks = page::for_a_machine().into_iter();
    for stage in stages {
        let next = blocks.find(|(_, block)| block.body.starts_with(stage.begins));
        let (place, block) = next.unwrap_or_else(|| panic!("no block after the last one begins {:?}", stage.begins));
        (stage.before)(&machine);
        let said = run(&machine, &block);
        eprintln!("{place}\n{said}");
        (stage.after)(&machine, &said);
    }
}

/// Runs a block to its end, or to the first command that fails.
fn run(machine: &Machine, block: &Block) -> String {
    let body = match block.body.split_once('\n') {
        // The compiler is not in the machine.
        Some((line @ "packaging/build-deb", rest)) => {
            package::build_as_told(line, &machine.path(HERE));
            rest
        }
        _ => &block.body,
    };
    machine.good(&["env", &format!("--chdir={HERE}"), "sh", "-eux", "-c", body])
}

/// Both units are up, the daemon says that it is ready, and its doctor finds nothing amiss but where it lives.
fn it_serves(machine: &Machine) {
    for unit in ["usherd.socket", SERVICE] {
        assert_eq!(machine.good(&["systemctl", "is-active", unit]).trim(), "active", "{unit}");
        assert_eq!(machine.good(&["systemctl", "is-enabled", unit]).trim(), "enabled", "{unit}");
    }
    assert_eq!(machine.good(&["curl", "-fsS", "--max-time", "10", "127.0.0.1:7788/readyz"]).trim(), "ok");
    nothing_is_amiss(&machine.good(&["usherd", "doctor"]));
}

/// No warning in what the doctor told, but those that each machine of a busy computer may have.
fn nothing_is_amiss(told: &str) {
    let warnings = told.lines().filter_map(|line| line.strip_prefix("warn  "));
    let amiss: Vec<&str> = warnings
        .filter(|warning| !["time sync ", "state ", "latency "].iter().any(|own| warning.starts_with(own)))
        .collect();
    assert!(told.contains("ok    in force ") && amiss.is_empty(), "{amiss:?}\n{told}");
}

fn the_package_serves_its_first_tenant(machine: &Machine, said: &str) {
    nothing_is_amiss(said);
    it_serves(machine);
    let told = machine.good(&["usherd", "check", "tenant", "office-lindenhof"]);
    assert!(told.starts_with("USHERD OK - office-lindenhof: 0 of 16 seats held"), "{told}");
    machine.bad(&["systemctl", "is-enabled", "usherd-agent.service"]);
    for path in ["/usr/share/man/man1/usherd.1.gz", "/usr/share/usherd/pbx/agent.toml", "/etc/usherd/usherd.toml"] {
        machine.good(&["test", "-s", path]);
    }
}

/// The binary, and the folder of units as it is in the repository.
fn unpack(machine: &Machine) {
    machine.program(&format!("{HERE}/usherd"));
    let copied = std::process::Command::new("cp")
        .args(["-r", concat!(env!("CARGO_MANIFEST_DIR"), "/systemd")])
        .arg(machine.path(HERE))
        .status();
    assert!(copied.unwrap().success());
}

fn the_units_serve(machine: &Machine, said: &str) {
    assert!(said.contains("Active: active (running)"), "{said}");
    machine.subscribe("acme", 5);
    it_serves(machine);
    let modes = machine.good(&["stat", "-c", "%a %U %G %n", "/etc/usherd", "/etc/usherd/tenants.d", "/var/lib/usherd"]);
    assert_eq!(
        modes,
        "750 root usherd /etc/usherd\n750 root usherd /etc/usherd/tenants.d\n700 usherd usherd /var/lib/usherd\n"
    );
}

/// People at work, each in another way, and a release that is not the one that runs.
fn a_day_before_the_upgrade(machine: &Machine) {
    machine.good(&["usherd", "acquire", "acme", "anna", "phone", "mobile"]);
    machine.good(&["usherd", "acquire", "acme", "bob", "desk", "desktop", "--ttl", "3600"]);
    machine.good(&["usherd", "acquire", "acme", "carl", "call", "call", "--direction", "outbound", "--ttl", "3600"]);
    machine.good(&["sh", "-c", "printf ' ' >> /root/usherd/usherd; systemctl show -P MainPID usherd > /root/process"]);
}

fn the_next_release_knows_everybody(machine: &Machine, said: &str) {
    assert!(said.contains("\nactive\n") && said.contains("valid: "), "{said}");
    it_serves(machine);
    assert_eq!(sessions(machine), ["phone", "desk", "call"].map(str::to_owned).into());
    let before = machine.good(&["cat", "/root/process"]);
    let process = next_process(machine, SERVICE, before.trim());
    machine.good(&["cmp", &format!("/proc/{process}/exe"), "/root/usherd/usherd"]);
    machine.good(&["usherd", "journal", "verify", "/var/lib/usherd.before/journal"]);
}

/// A copy as another machine would give it back, by numbers that mean nobody here; after it the day goes on.
fn a_backup_and_a_disaster(machine: &Machine) {
    machine.good(&["mkdir", "/backup"]);
    machine.good(&["cp", "-a", "/var/lib/usherd", "/backup/usherd"]);
    machine.good(&["chown", "-R", "4711:4711", "/backup/usherd"]);
    machine.good(&["usherd", "acquire", "acme", "dora", "late", "desktop", "--ttl", "3600"]);
    machine.good(&["usherd", "release", "acme", "desk"]);
    assert_eq!(sessions(machine), ["phone", "call", "late"].map(str::to_owned).into());
}

fn the_backup_is_in_force(machine: &Machine, said: &str) {
    assert!(said.contains("valid: "), "{said}");
    it_serves(machine);
    assert_eq!(sessions(machine), ["phone", "desk", "call"].map(str::to_owned).into());
    // And what it decides from now on is kept.
    machine.good(&["usherd", "acquire", "acme", "emil", "new", "mobile"]);
    machine.good(&["systemctl", "restart", "usherd"]);
    assert!(sessions(machine).contains("new"));
}

fn the_clock_is_told(_: &Machine, said: &str) {
    assert!(said.contains("System clock synchronized:"), "{said}");
}

#[test]
fn the_package_comes_as_the_page_says() {
    follow(&BY_PACKAGE);
}

#[test]
fn by_hand_then_upgraded_then_restored_as_the_page_says() {
    follow(&BY_HAND);
}

#[test]
fn each_block_for_a_machine_is_run_or_has_a_reason() {
    let run: Vec<&str> = BY_PACKAGE.iter().chain(&BY_HAND).map(|stage| stage.begins).collect();
    for (place, block) in page::for_a_machine() {
        let stages = run.iter().filter(|begins| block.body.starts_with(**begins)).count();
        assert_eq!(stages + usize::from(block.is_not_run()), 1, "{place}: run it here:\n{}", block.body);
    }
}
