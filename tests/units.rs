//! The shipped units are accepted by systemd as they are, and leave the daemon next to nothing to do harm with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Highest exposure that is accepted, in tenths: 10 is 1.0 of 10.
const EXPOSURE_TENTHS_MAX: u32 = 10;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

fn run(program: &str, arguments: &[&str]) -> Output {
    match Command::new(program).args(arguments).env("SYSTEMD_LOG_LEVEL", "info").output() {
        Ok(output) => output,
        Err(error) => panic!("{program} cannot be run ({error}): install the Debian package `systemd`"),
    }
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The units as shipped, with the path of the binary that was just built: systemd looks whether it exists.
fn copies(dir: &Path) -> Vec<String> {
    let copy = |name: &str| {
        let text = std::fs::read_to_string(shipped(name)).unwrap();
        let path = dir.join(name);
        std::fs::write(&path, text.replace("/usr/bin/usherd", env!("CARGO_BIN_EXE_usherd"))).unwrap();
        path.to_str().unwrap().to_owned()
    };
    ["usherd.service", "usherd.socket", "usherd-agent.service"].map(copy).to_vec()
}

#[test]
fn systemd_finds_nothing_to_complain_about() {
    let dir = tempfile::tempdir().unwrap();
    let units = copies(dir.path());
    let output = run("systemd-analyze", &["verify", "--man=no", &units[0], &units[1], &units[2]]);
    let told = told(&output);
    let ours: Vec<&str> = told.lines().filter(|line| line.contains("usherd")).collect();
    assert!(output.status.success() && ours.is_empty(), "systemd-analyze verify: {told}");
}

#[test]
fn a_fault_in_a_unit_would_be_seen() {
    let dir = tempfile::tempdir().unwrap();
    let units = copies(dir.path());
    let text = std::fs::read_to_string(&units[0]).unwrap();
    std::fs::write(&units[0], text.replace("ProtectHome=yes", "ProtectHomes=yes")).unwrap();
    let told = told(&run("systemd-analyze", &["verify", "--man=no", &units[0]]));
    assert!(told.contains("ProtectHomes"), "verify is silent about an unknown key: {told}");
}

#[test]
fn the_daemon_is_exposed_to_at_most_one_of_ten() {
    for name in ["usherd.service", "usherd-agent.service"] {
        let unit = shipped(name);
        let threshold = format!("--threshold={EXPOSURE_TENTHS_MAX}");
        let output =
            run("systemd-analyze", &["security", "--offline=true", "--no-pager", &threshold, unit.to_str().unwrap()]);
        assert!(output.status.success(), "{name}: more than {EXPOSURE_TENTHS_MAX} tenths: {}", told(&output));
    }
}

#[test]
fn the_user_of_the_service_is_made_by_sysusers() {
    let service = std::fs::read_to_string(shipped("usherd.service")).unwrap();
    let users = std::fs::read_to_string(shipped("sysusers.d/usherd.conf")).unwrap();
    let user = service.lines().find_map(|line| line.strip_prefix("User=")).unwrap();
    let made = users.lines().any(|line| line.split_whitespace().take(2).eq(["u", user]));
    assert!(made, "User={user}, but sysusers.d/usherd.conf does not make it");
}

#[test]
fn the_agent_behaves_as_promised() {
    let service = std::fs::read_to_string(shipped("usherd-agent.service")).unwrap();
    for (line, why) in [
        ("Type=notify", "READY means that scripts are answered"),
        ("ExecStartPre=/usr/bin/usherd agent --check", "a wrong configuration is told before it runs"),
        ("Restart=always", "an agent that stays down lets the leases of live calls end"),
        ("StartLimitIntervalSec=0", "a crash loop must not end in an agent that stays down"),
        ("WatchdogSec=", "an agent that hangs must be started again"),
        ("StateDirectory=usherd-agent", "the spool lies there"),
        ("RuntimeDirectory=usherd-agent", "the socket lies there"),
        ("User=usherd", "sysusers.d makes no other"),
    ] {
        assert!(service.lines().any(|own| own.starts_with(line)), "usherd-agent.service lacks {line}: {why}");
    }
}

#[test]
fn the_service_behaves_as_promised() {
    let service = std::fs::read_to_string(shipped("usherd.service")).unwrap();
    for (line, why) in [
        ("Type=notify", "systemd 252 takes notify-reload for simple, and READY would mean nothing"),
        ("Restart=always", "a daemon that stays down gives every seat away"),
        ("StartLimitIntervalSec=0", "a crash loop must not end in a daemon that stays down"),
        ("ExecReload=/usr/bin/usherd reload", "a rejected configuration must fail `systemctl reload`"),
        ("WatchdogSec=", "a daemon that hangs must be started again"),
        ("StateDirectory=usherd", "the journal lies there"),
        ("LimitNOFILE=", "one idle connection per live call is normal"),
    ] {
        assert!(service.lines().any(|own| own.starts_with(line)), "usherd.service lacks {line}: {why}");
    }
}
