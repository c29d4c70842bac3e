//! The cluster: what is told of the daemon that dies, and that nothing stays behind.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use usherd_testkit::demo::{Demo, assert_gone};
use usherd_testkit::process::usherd;
use usherd_testkit::wait::eventually;

/// The processes of a demonstration; a test that fails kills the demonstration, and this the rest.
struct Started(PathBuf);

impl Started {
    /// Processes that name the folder on their command lines.
    fn processes(&self) -> Vec<Pid> {
        let name = self.0.to_str().unwrap();
        let names_it = |process: &Path| {
            let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(name)
        };
        let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let pid = |process: PathBuf| Pid::from_raw(process.file_name()?.to_str()?.parse().ok()?);
        processes.filter(|process| names_it(process)).filter_map(pid).collect()
    }

    fn assert_ended(&self) {
        eventually("everything to end that was started", || self.processes().is_empty().then_some(()));
        assert_gone(&self.0);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for process in self.processes() {
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

#[test]
fn a_daemon_dies_and_every_acknowledged_seat_is_known_m2() {
    let mut demo = Demo::start(&["--cluster"]);
    demo.wait_for("  etcd        3 members");
    let started = Started(demo.folder());
    assert!(started.processes().len() >= 3, "three members of etcd, and by and by three daemons");
    demo.wait_for("  calls       144 through all daemons");
    let killed = demo.wait_for("  killed      usherd-");
    assert!(killed.contains("by kill -9; it decided customer-"), "{killed}");
    let gap = demo.wait_for("  gap         ");
    let gap_ms: u64 = gap.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(gap_ms > 0, "{gap}");
    let inbound = demo.wait_for("  inbound     ");
    assert!(!inbound.contains(" 0 calls"), "{inbound}");
    demo.wait_for("  kept        160 of 160 acknowledged calls have their seats, 0 are lost");
    demo.wait_for("  back        usherd-");
    assert_eq!(demo.finish().code(), Some(0), "{}", demo.said);
    assert!(demo.said.ends_with("  All of it has ended.\n"), "{}", demo.said);
    assert!(demo.said.lines().skip(8).all(|line| line.chars().count() <= 80), "{}", demo.said);
    started.assert_ended();
}

#[test]
fn a_cluster_that_is_stopped_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut demo = Demo::start(&["--cluster"]);
        demo.wait_for("  etcd        3 members");
        let started = Started(demo.folder());
        assert_eq!(demo.stop(signal).code(), Some(0), "{}", demo.said);
        assert!(demo.said.ends_with("  Stopped.\n"), "{}", demo.said);
        started.assert_ended();
    }
}

#[test]
fn a_machine_without_etcd_is_told_the_package() {
    let empty = tempfile::tempdir().unwrap();
    let output = usherd(&["demo", "--cluster", "--listen", "127.0.0.1:0"]).env("PATH", empty.path()).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("etcd is not installed") && told.contains("package etcd-server"), "{told}");
}
