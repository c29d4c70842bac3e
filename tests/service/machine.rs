//! A throw-away machine: systemd as the first process of namespaces of its own, over a copy of this file system.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use usherd_testkit::wait::eventually;

/// Boots a machine, and tidies up after it.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/service/boot.sh");

/// A booted machine; it ends with all its processes when it is dropped.
pub(crate) struct Machine {
    unshare: Child,
    /// The first process of the machine, as this one numbers it.
    init: u32,
    /// Where its file system is laid over this one; empty when looked at from here.
    folder: tempfile::TempDir,
}

impl Machine {
    /// Boots, and waits until all of its units are started.
    pub(crate) fn boot() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test boots a systemd in namespaces and has to be root: run it with sudo, or as root in CI"
        );
        super::package::programs_are_there();
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        // Whatever happens to this process, the machine ends with it.
        let mut unshare = Command::new("setpriv");
        unshare.args(["--pdeathsig", "KILL", "unshare", "--kill-child=KILL", "--fork", "--mount", "--pid", "--net"]);
        unshare.args(["--uts", "--ipc", "bash", SCRIPT]).arg(folder.path());
        let log = std::fs::File::create(folder.path().with_extension("log")).unwrap();
        unshare.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut unshare = unshare.spawn().unwrap();
        let init = Self::wait_for_systemd(&mut unshare, &folder);
        let machine = Machine { unshare, init, folder };
        eventually("the machine to boot", || {
            let state = machine.run(&["systemctl", "is-system-running"]);
            matches!(out(&state).trim(), "running" | "degraded").then_some(())
        });
        machine
    }

    /// The first process of the machine, once systemd has taken the place of the script.
    fn wait_for_systemd(unshare: &mut Child, folder: &tempfile::TempDir) -> u32 {
        let id = unshare.id();
        eventually("systemd to take over", || {
            if let Some(status) = unshare.try_wait().unwrap() {
                let said = std::fs::read_to_string(folder.path().with_extension("log")).unwrap_or_default();
                panic!(
                    "no machine could be booted ({status}): this needs namespaces, overlayfs and cgroup2, as a \
                     privileged container or a virtual machine has them.\n{said}"
                );
            }
            let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            let child: u32 = children.split_whitespace().next()?.parse().ok()?;
            let comm = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            (comm.trim() == "systemd").then_some(child)
        })
    }

    /// A command in the machine.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "--", "env", "-i", "--chdir=/"]);
        command.args([
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "LC_ALL=C.UTF-8",
            "DEBIAN_FRONTEND=noninteractive",
        ]);
        command.args(words).stdin(Stdio::null());
        command
    }

    /// A command of this machine in the network of that one: it can be killed as any other.
    pub(crate) fn in_its_network(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--net", "--"]).args(words).stdin(Stdio::null());
        command
    }

    /// Runs a command in the machine to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs a command in the machine that must succeed, and gives what it said.
    pub(crate) fn good(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let told = format!("{}{}", out(&output), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{words:?}: {}\n{told}\n{}", output.status, self.journal());
        told
    }

    /// Runs a command in the machine that must fail, and gives what it said.
    pub(crate) fn bad(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let told = format!("{}{}", out(&output), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success() && output.status.signal().is_none(), "{words:?} went well:\n{told}");
        told
    }

    /// One property of a unit.
    pub(crate) fn property(&self, unit: &str, key: &str) -> String {
        self.good(&["systemctl", "show", "--value", "--property", key, unit]).trim().to_owned()
    }

    /// The shipped patience of the watchdog is 20 s; the mechanism is the same with two. Holds from the next start on.
    pub(crate) fn watch_every_two_seconds(&self, unit: &str) {
        let drop_in = self.path(&format!("/etc/systemd/system/{unit}.d"));
        std::fs::create_dir_all(&drop_in).unwrap();
        std::fs::write(drop_in.join("quick.conf"), "[Service]\nWatchdogSec=2\n").unwrap();
        self.good(&["systemctl", "daemon-reload"]);
    }

    /// A path of the machine as it is seen from here; works for files and for Unix sockets.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// The last lines of its log, for who reads why a test failed.
    pub(crate) fn journal(&self) -> String {
        out(&self.run(&["journalctl", "--no-pager", "-n", "60", "-o", "short-monotonic"]))
    }

    /// Sends a signal to the daemon of the unit.
    pub(crate) fn signal(&self, unit: &str, signal: &str) {
        self.good(&["systemctl", "kill", "--kill-who=main", "--signal", signal, unit]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of the machine:\n{}", self.journal());
        }
        // The death of its first process ends every other one.
        if let Some(init) = Pid::from_raw(i32::try_from(self.init).unwrap_or(0)) {
            let _ = kill_process(init, Signal::KILL);
        }
        let _ = self.unshare.wait();
        let gone = Command::new("unshare").args(["--mount", "bash", SCRIPT, "--gone"]).arg(self.folder.path()).status();
        let gone = gone.is_ok_and(|status| status.success());
        assert!(gone || std::thread::panicking(), "the control groups of the machine are left");
        let _ = std::fs::remove_file(self.folder.path().with_extension("log"));
    }
}

/// The output of a command.
pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_one_machine_does_to_its_control_groups_no_other_sees() {
    let (one, other) = (Machine::boot(), Machine::boot());
    let group = "/sys/fs/cgroup/probe.slice";
    one.good(&["mkdir", group]);
    other.bad(&["test", "-e", group]);
    let groups = other.good(&["cat", "/proc/1/cgroup"]);
    assert!(groups.lines().any(|group| group == "0::/init.scope"), "its systemd is not at the top: {groups}");
}
