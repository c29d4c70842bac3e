//! `usherd-node`, the script that says hello for a PBX without an agent, with a PBX of two lines.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::process::{Site, Usherd, wait_for};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/pbx/node/usherd-node");

struct Node {
    script: Child,
}

impl Node {
    /// With an `asterisk` and an `fs_cli` that write down what they are told.
    fn start(site: &Site, address: &str, epoch: &str, pbx: &str) -> Self {
        let programs = site.path("programs");
        std::fs::create_dir_all(&programs).unwrap();
        for program in ["asterisk", "fs_cli"] {
            let path = programs.join(program);
            std::fs::write(&path, format!("#!/bin/sh\necho {program} \"$@\" >> {}\n", site.path("told").display()))
                .unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let script = Command::new(SCRIPT)
            .args(["pbx1", pbx])
            .env("PATH", path)
            .env("USHERD_URL", format!("http://{address}"))
            .env("USHERD_HEARTBEAT_S", "0.05")
            .env("USHERD_EPOCH", epoch)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Node { script }
    }

    /// Asks it to stop, as systemd does, and waits.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.script), Signal::TERM).unwrap();
        wait_for("the script to end", || self.script.try_wait().unwrap());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

fn one_seat() -> (Site, Usherd) {
    let site = Site::new("", &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 2\n")]);
    let usherd = site.start();
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
    wait_for("the hello", || node_of(&usherd).filter(|node| node["epoch"] == 1_700_000_000_u64));
    let told = std::fs::read_to_string(site.path("told")).unwrap();
    assert_eq!(told, "asterisk -rx dialplan set global USHERD_EPOCH 1700000000\n", "the PBX hears it before usherd");
    let mut client = usherd.client();
    let call = "tenant=acme&subject=20&session=pbx1-1.1&kind=call&direction=outbound&node=pbx1&epoch=1700000000&seq=1&ttl_s=60";
    assert_eq!(client.post("/v1/acquire", call).body, "allow.new");
    node.stop();
    assert_eq!(client.get("/v1/tenants/acme").json()["held"], 1, "a goodbye begins the grace, and ends nothing");
    let _node = Node::start(&site, &address, "1700000060", "freeswitch");
    wait_for("the calls of before to end", || (client.get("/v1/tenants/acme").json()["held"] == 0).then_some(()));
    let told = std::fs::read_to_string(site.path("told")).unwrap();
    assert!(told.ends_with("fs_cli -x global_setvar usherd_epoch=1700000060\n"), "{told}");
}

#[test]
fn heartbeats_go_on_when_the_daemon_comes_back_empty() {
    let (site, usherd) = one_seat();
    let address = usherd.address().to_string();
    let _node = Node::start(&site, &address, "1700000000", "none");
    wait_for("the hello", || node_of(&usherd));
    usherd.kill();
    std::fs::remove_dir_all(site.path("state")).unwrap();
    let text = std::fs::read_to_string(site.path("usherd.toml")).unwrap();
    std::fs::write(site.path("usherd.toml"), text.replace("127.0.0.1:0", &address)).unwrap();
    let usherd = site.start();
    wait_for("a new hello", || node_of(&usherd).filter(|node| node["epoch"] == 1_700_000_000_u64));
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
