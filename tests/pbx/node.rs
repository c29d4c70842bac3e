//! `usherd-node`, the script that says hello for a PBX without an agent, with a PBX of two lines.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::process::{Killed, Site, Usherd, own_ip};
use usherd_testkit::wait::{eventually, pause};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/pbx/node/usherd-node");

/// Heartbeats that follow each other at once, seconds.
const QUICK_S: &str = "0.05";

struct Node {
    script: Killed,
}

impl Node {
    fn start(site: &Site, address: &str, epoch: &str, pbx: &str) -> Self {
        Self::start_with(site, address, epoch, pbx, QUICK_S)
    }

    /// With this time between two heartbeats; with an `asterisk` and an `fs_cli` that write down what they are told,
    /// and a `curl` that writes down how often it is called.
    fn start_with(site: &Site, address: &str, epoch: &str, pbx: &str, heartbeat_s: &str) -> Self {
        let programs = site.path("programs");
        std::fs::create_dir_all(&programs).unwrap();
        let told = site.path("told");
        let path = std::env::var("PATH").unwrap();
        let tells = |program: &str| format!("echo {program} \"$@\" >> {}", told.display());
        let curl = format!("echo try >> {}\nPATH={path} exec curl \"$@\"", site.path("tries").display());
        for (program, does) in [("asterisk", tells("asterisk")), ("fs_cli", tells("fs_cli")), ("curl", curl)] {
            let path = programs.join(program);
            std::fs::write(&path, format!("#!/bin/sh\n{does}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let kept = site.path("kept");
        std::fs::create_dir_all(&kept).unwrap();
        let path = format!("{}:{path}", programs.display());
        let script = Command::new(SCRIPT)
            .args(["pbx1", pbx])
            .env("PATH", path)
            .env("USHERD_URL", format!("http://{address}"))
            .env("USHERD_HEARTBEAT_S", heartbeat_s)
            .env("USHERD_EPOCH", epoch)
            .env("STATE_DIRECTORY", kept)
            .stdin(Stdio::null())
            // The pause in which it is stopped goes on a little, and holds what it was given.
            .stdout(Stdio::null())
            .stderr(std::fs::OpenOptions::new().create(true).append(true).open(site.path("said")).unwrap())
            .spawn()
            .unwrap();
        Node { script: Killed(script) }
    }

    /// Asks it to stop, as systemd does, and waits.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.script), Signal::TERM).unwrap();
        eventually("the script to end", || self.script.try_wait().unwrap());
    }
}

fn one_seat() -> (Site, Usherd) {
    one_seat_with("")
}

/// At an address where it can be started again.
fn one_seat_with(main: &str) -> (Site, Usherd) {
    let site = Site::new(main, &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 2\n")]);
    site.listen((own_ip(), 0).into());
    let usherd = site.start();
    site.listen(usherd.address());
    (site, usherd)
}

fn node_of(usherd: &Usherd) -> Option<serde_json::Value> {
    usherd.client().list("/v1/nodes", "nodes").into_iter().find(|node| node["node"] == "pbx1")
}

#[test]
fn hello_when_the_pbx_starts_ends_the_calls_of_before() {
    let (site, usherd) = one_seat();
    let address = usherd.address().to_string();
    let node = Node::start(&site, &address, "1700000000", "asterisk");
    eventually("the hello", || node_of(&usherd).filter(|node| node["epoch"] == 1_700_000_000_u64));
    let told = std::fs::read_to_string(site.path("told")).unwrap();
    assert_eq!(told, "asterisk -rx dialplan set global USHERD_EPOCH 1700000000\n", "the PBX hears it before usherd");
    let mut client = usherd.client();
    let call = "tenant=acme&subject=20&session=pbx1-1.1&kind=call&direction=outbound&node=pbx1&epoch=1700000000&seq=1&ttl_s=60";
    assert_eq!(client.post("/v1/acquire", call).body, "allow.new");
    node.stop();
    assert_eq!(client.get("/v1/tenants/acme").json()["held"], 1, "a goodbye begins the grace, and ends nothing");
    let _node = Node::start(&site, &address, "1700000060", "freeswitch");
    eventually("the calls of before to end", || (client.get("/v1/tenants/acme").json()["held"] == 0).then_some(()));
    let told = std::fs::read_to_string(site.path("told")).unwrap();
    assert!(told.ends_with("fs_cli -x global_setvar usherd_epoch=1700000060\n"), "{told}");
}

#[test]
fn heartbeats_go_on_when_the_daemon_comes_back_empty() {
    // Without a ring, which would remember the node beside its files.
    let (site, usherd) = one_seat_with("[journal]\n");
    let _node = Node::start(&site, &usherd.address().to_string(), "1700000000", "none");
    eventually("the hello", || node_of(&usherd));
    usherd.kill();
    std::fs::remove_dir_all(site.path("state")).unwrap();
    let usherd = site.start();
    eventually("a new hello", || node_of(&usherd).filter(|node| node["epoch"] == 1_700_000_000_u64));
}

/// All that the script said.
fn said(site: &Site) -> String {
    std::fs::read_to_string(site.path("said")).unwrap()
}

fn hello_by_another(usherd: &Usherd, epoch: u64) {
    assert_eq!(usherd.client().post("/v1/nodes/pbx1/hello", &format!("epoch={epoch}")).status, 200);
}

#[test]
fn a_clock_set_back_costs_one_hello_and_teaches_the_epoch() {
    let (site, usherd) = one_seat();
    hello_by_another(&usherd, 2_000_000_000);
    let _node = Node::start(&site, &usherd.address().to_string(), "1700000000", "asterisk");
    eventually("the next epoch", || node_of(&usherd).filter(|node| node["epoch"] == 2_000_000_001_u64));
    eventually("Asterisk to be told", || {
        let told = std::fs::read_to_string(site.path("told")).unwrap();
        told.ends_with("USHERD_EPOCH 2000000001\n").then_some(())
    });
    let call =
        "tenant=acme&subject=20&session=c&kind=call&direction=outbound&node=pbx1&epoch=2000000001&seq=1&ttl_s=60";
    assert_eq!(usherd.client().post("/v1/acquire", call).body, "allow.new");
    let said = said(&site);
    assert!(said.contains("epoch 2000000001 in place of 1700000000"), "{said}");
}

#[test]
fn an_epoch_that_was_taken_is_kept_as_long_as_the_pbx_runs() {
    let (site, usherd) = one_seat();
    let address = usherd.address().to_string();
    hello_by_another(&usherd, 2_000_000_000);
    let node = Node::start(&site, &address, "1700000000", "asterisk");
    eventually("the next epoch", || node_of(&usherd).filter(|node| node["epoch"] == 2_000_000_001_u64));
    let call =
        "tenant=acme&subject=20&session=c&kind=call&direction=outbound&node=pbx1&epoch=2000000001&seq=1&ttl_s=60";
    assert_eq!(usherd.client().post("/v1/acquire", call).body, "allow.new");
    node.stop();
    let hellos = || said(&site).matches("usherd takes pbx1").count();
    let before = hellos();
    let node = Node::start(&site, &address, "1700000000", "asterisk");
    eventually("a hello of the script alone", || (hellos() > before).then_some(()));
    assert_eq!(node_of(&usherd).unwrap()["epoch"], 2_000_000_001_u64);
    assert_eq!(usherd.client().get("/v1/tenants/acme").json()["held"], 1, "Asterisk runs on");
    let told = std::fs::read_to_string(site.path("told")).unwrap();
    assert!(told.ends_with("USHERD_EPOCH 2000000001\n"), "{told}");
    node.stop();
    // Asterisk itself was started again, by a clock that is still behind.
    let _node = Node::start(&site, &address, "1700000060", "asterisk");
    eventually("one more", || node_of(&usherd).filter(|node| node["epoch"] == 2_000_000_002_u64));
    assert_eq!(usherd.client().get("/v1/tenants/acme").json()["held"], 0);
}

#[test]
fn an_epoch_that_nothing_can_follow_is_said_with_what_helps() {
    for known in [(1_u64 << 63) - 1, 1 << 63] {
        let (site, usherd) = one_seat();
        hello_by_another(&usherd, known);
        let _node = Node::start(&site, &usherd.address().to_string(), "1700000000", "none");
        eventually("what helps", || said(&site).contains("usherd node forget pbx1").then_some(()));
        eventually("the refusal", || said(&site).contains("epoch 1700000000: 409").then_some(()));
        assert_eq!(usherd.client().ask("DELETE", "/v1/nodes/pbx1?force=1", "").unwrap().status, 200);
        eventually("the hello", || node_of(&usherd).filter(|node| node["epoch"] == 1_700_000_000_u64));
        assert_eq!(said(&site).matches("usherd node forget").count(), 1, "{}", said(&site));
    }
}

/// The seat is held at each look for this long.
fn holds_for(usherd: &Usherd, long: Duration) {
    let until = monotonic_ns() + u64::try_from(long.as_nanos()).unwrap();
    while monotonic_ns() < until {
        assert_eq!(usherd.client().get("/v1/tenants/acme").json()["held"], 1);
        pause(Duration::from_millis(20));
    }
}

#[test]
fn a_call_with_a_ttl_outlives_usherd_and_its_script_g10() {
    let timers = "[nodes]\nheartbeat_s = 1\nlease_s = 2\ngrace_s = 1\nlearning_s = 1\n";
    let (site, usherd) = one_seat_with(timers);
    let address = usherd.address().to_string();
    let node = Node::start(&site, &address, "1700000000", "none");
    eventually("the hello", || node_of(&usherd));
    let call =
        "tenant=acme&subject=20&session=c&kind=call&direction=outbound&node=pbx1&epoch=1700000000&seq=1&ttl_s=60";
    assert_eq!(usherd.client().post("/v1/acquire", call).body, "allow.new");
    usherd.kill();
    let usherd = site.start();
    // Three times as long as usherd waits for a node that it remembers.
    holds_for(&usherd, Duration::from_secs(3));
    node.stop();
    let _node = Node::start(&site, &address, "1700000000", "none");
    // Beyond the lease and the grace together.
    holds_for(&usherd, Duration::from_secs(4));
    assert_eq!(
        usherd.client().post("/v1/release", "tenant=acme&session=c&node=pbx1&epoch=1700000000&seq=2").body,
        "released.last"
    );
}

#[test]
fn two_of_one_name_do_not_fight_for_it_for_ever_and_say_so() {
    let (site, usherd) = one_seat();
    hello_by_another(&usherd, 2_000_000_000);
    // Seldom enough that the other one is back before the lease of this one is over.
    let node = Node::start_with(&site, &usherd.address().to_string(), "1700000000", "none", "5");
    let until_said = |what: &str| {
        eventually(what, || said(&site).contains(what).then_some(()));
    };
    until_said("in place of 1700000000");
    // The other one takes the name back at once: before the hello that was just announced, or behind it.
    hello_by_another(&usherd, 2_000_000_005);
    until_said("of pbx1 with epoch 2000000001: 409");
    assert_eq!(node_of(&usherd).unwrap()["epoch"], 2_000_000_005_u64);
    node.stop();
}

#[test]
fn whatever_is_not_200_is_said_once_and_its_end_too() {
    const TAKES: &str = "usherd takes pbx1 with epoch 1700000000";
    const AWAY: &str = "usherd does not answer";
    let (site, usherd) = one_seat();
    let _node = Node::start(&site, &usherd.address().to_string(), "1700000000", "none");
    let tries = || std::fs::read_to_string(site.path("tries")).unwrap_or_default().lines().count();
    let until_last = |what: &str| {
        eventually(what, || said(&site).lines().last().is_some_and(|line| line.contains(what)).then_some(()));
    };
    // The daemon knows the node before the script has read so: one that is killed in between never said it.
    until_last(TAKES);
    usherd.kill();
    let before = tries();
    // The one under way may have been answered; of the next two it was said what became of them.
    eventually("further tries", || (tries() >= before + 3).then_some(()));
    let away = said(&site);
    assert!(away.lines().last().is_some_and(|line| line.contains(AWAY)), "{away}");
    let _usherd = site.start();
    until_last(TAKES);
    // A try that a busy machine holds up for two seconds is said too, and its end: never the same twice running.
    let all = said(&site);
    let of = |line: &str| [TAKES, AWAY].into_iter().find(|what| line.contains(what));
    let of: Vec<_> = all.lines().map(of).collect();
    assert!(of.windows(2).all(|two| two[0] != two[1] || two[0].is_none()), "{all}");
}

#[test]
fn its_unit_is_one_that_systemd_takes() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("usherd-node@asterisk.service");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/config/pbx/node/usherd-node@.service"), &unit).unwrap();
    std::fs::write(folder.path().join("asterisk.service"), "[Service]\nExecStart=/bin/true\n").unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&unit).output();
    let said = verified.expect("systemd-analyze is missing: apt-get install systemd");
    let said = String::from_utf8(said.stderr).unwrap();
    // What it says of other units of this machine is not ours.
    assert!(!said.contains("usherd-node"), "{said}");
}

#[test]
fn it_is_a_shell_script_that_a_shell_can_read() {
    for shell in ["sh", "bash"] {
        assert!(Command::new(shell).arg("-n").arg(Path::new(SCRIPT)).status().unwrap().success());
    }
    let usage = Command::new(SCRIPT).stderr(Stdio::null()).status().unwrap();
    assert!(!usage.success());
}
