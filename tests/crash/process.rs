//! The built binary with a folder of its own, and what it says.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use usherd::daemon::clock::monotonic_ns;

use super::client::Client;

/// No test waits longer than this for one thing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a configuration, and its state beside it.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    /// Where decisions wait for the disk, as under the shipped unit: so no answer is let go because a busy machine was
    /// slow to write, and all of them survive a kill.
    _ring: Option<tempfile::TempDir>,
}

impl Site {
    /// With these lines in `usherd.toml`, and these tenant files. `[server]` gets a free port and two runtimes. Who has
    /// a `[journal]` of its own has no ring, but where it says so.
    pub(crate) fn new(main: &str, tenants: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
        let server = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n";
        let main =
            if main.contains("[server]\n") { main.replace("[server]\n", server) } else { format!("{main}\n{server}") };
        let ring = (!main.contains("[journal]"))
            .then(|| tempfile::tempdir_in("/dev/shm").expect("a tmpfs is needed, as /dev/shm is"));
        let main = match &ring {
            Some(ring) => format!("{main}\n[journal]\nring_dir = \"{}\"\n", ring.path().display()),
            None => main,
        };
        let log = "\n[log]\nformat = \"json\"\nfilter = \"info,usherd::daemon::runtime::checkpoint=debug\"\n";
        std::fs::write(folder.path().join("usherd.toml"), main + log).unwrap();
        let site = Site { folder, _ring: ring };
        for (id, text) in tenants {
            site.tenant(id, text);
        }
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn tenant(&self, id: &str, text: &str) {
        std::fs::write(self.path(&format!("tenants.d/{id}.toml")), text).unwrap();
    }

    /// Where it listens from its next start on.
    pub(crate) fn listen(&self, at: SocketAddr) {
        const KEY: &str = "[server]\nlisten = \"";
        let main = std::fs::read_to_string(self.path("usherd.toml")).unwrap();
        let (before, rest) = main.split_once(KEY).unwrap();
        let (_, behind) = rest.split_once('"').unwrap();
        std::fs::write(self.path("usherd.toml"), format!("{before}{KEY}{at}\"{behind}")).unwrap();
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.path("state/journal")
    }

    /// Files of the journal whose name holds this.
    pub(crate) fn journal_files(&self, part: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.journal()).into_iter().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.file_name().unwrap().to_string_lossy().contains(part));
        files.sort();
        files
    }

    pub(crate) fn command(&self) -> Command {
        command(&self.path("usherd.toml"))
    }

    /// Starts it, and waits for nothing.
    pub(crate) fn spawn(&self) -> Usherd {
        Usherd::spawn(&mut self.command())
    }

    /// Starts it, and waits until it decides.
    pub(crate) fn start(&self) -> Usherd {
        let mut usherd = self.spawn();
        usherd.until_ready();
        usherd
    }
}

/// An address of loopback that no other test has at this time: a port of it that was free, or was given up for a
/// moment, is nobody else's.
pub(crate) fn own_ip() -> Ipv4Addr {
    // Linux numbers processes below 2^22.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + high, middle, low)
}

/// `usherd serve` with this configuration, and nothing of the environment of a service manager.
pub(crate) fn command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usherd"));
    command.args(["serve", "--config"]).arg(config);
    for name in ["NOTIFY_SOCKET", "STATE_DIRECTORY", "WATCHDOG_USEC", "LISTEN_FDS", "USHERD_ADDR"] {
        command.env_remove(name);
    }
    command
}

/// A running process; dropping it kills it.
pub(crate) struct Usherd {
    pub(crate) child: Child,
    /// Where it listens, the main listener first.
    pub(crate) addresses: Vec<SocketAddr>,
    lines: Receiver<String>,
    /// Everything it said so far.
    pub(crate) said: Vec<String>,
}

impl Usherd {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self::spawn_with(command, Stdio::null())
    }

    /// With this as its standard input.
    pub(crate) fn spawn_with(command: &mut Command, stdin: Stdio) -> Self {
        command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in errors.lines() {
                let Ok(line) = line else { return };
                // Nobody listens any more: it is still read, so that the process never waits for us.
                let _ = sender.send(line);
            }
        });
        Usherd { child, addresses: Vec::new(), lines, said: Vec::new() }
    }

    pub(crate) fn until_ready(&mut self) {
        let line = self.until_says("\"message\":\"ready\"");
        self.addresses = line.split(['"', '\\']).filter_map(|word| word.parse().ok()).collect();
    }

    /// The first line from now on with this in it.
    pub(crate) fn until_says(&mut self, part: &str) -> String {
        let until = monotonic_ns() + PATIENCE.as_nanos() as u64;
        loop {
            let left = Duration::from_nanos(until.saturating_sub(monotonic_ns()));
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("it never said {part}: {:#?}", self.said),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended with {:?} before it said {part}: {:#?}", self.child.wait(), self.said)
                }
            }
        }
    }

    /// All it said, up to now or to its end.
    pub(crate) fn all_said(&mut self) -> String {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(20)) {
            self.said.push(line);
        }
        self.said.join("\n")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        *self.addresses.first().expect("it is ready and listens")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGSTOP, until every thread of it stands.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.child.id());
        wait_for("every thread to stand", || {
            let mut threads = std::fs::read_dir(&threads).unwrap().map(|thread| {
                let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
                // The name is in parentheses and may hold anything; the state comes behind it.
                stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
            });
            threads.all(|stands| stands).then_some(())
        });
    }

    /// `kill -9`, and its end.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_for("it to end", || self.child.try_wait().unwrap())
    }

    /// Asks it to stop and waits; the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.ended().code()
    }
}

/// Resident memory of a process, bytes.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

impl Drop for Usherd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again, with a pause, until there is an answer.
pub(crate) fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_for_or(look, || what.to_owned())
}

/// The same; what it waited for is told at the end, with what is known by then.
pub(crate) fn wait_for_or<T>(mut look: impl FnMut() -> Option<T>, what: impl FnOnce() -> String) -> T {
    let until = monotonic_ns() + PATIENCE.as_nanos() as u64;
    while monotonic_ns() < until {
        if let Some(found) = look() {
            return found;
        }
        pause(Duration::from_millis(5));
    }
    panic!("waited in vain for {}", what())
}

/// Lets time pass: for the moment of a fault, and between two looks; never for logic.
pub(crate) fn pause(time: Duration) {
    let (keep, nobody) = channel::<()>();
    let _ = nobody.recv_timeout(time);
    drop(keep);
}
