//! The built binary with a folder of its own, and what it says.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use usherd::daemon::clock::monotonic_ns;

use crate::files::{files, write_tenant};
use crate::http::Client;
use crate::wait::{PATIENCE, eventually};

/// A folder with a configuration, and its state beside it.
pub struct Site {
    /// Where its files are.
    pub folder: tempfile::TempDir,
    /// Where decisions wait for the disk, as under the shipped unit: so no answer is let go because a busy machine was
    /// slow to write, and all of them survive a kill.
    _ring: Option<tempfile::TempDir>,
}

impl Site {
    /// With these lines in `usherd.toml`, and these tenant files. `[server]` gets a free port and two runtimes. With
    /// a `[journal]` section of their own there is a ring only if that says so.
    pub fn new(main: &str, tenants: &[(&str, &str)]) -> Self {
        let ring = (!main.contains("[journal]"))
            .then(|| tempfile::tempdir_in("/dev/shm").expect("a tmpfs is needed, as /dev/shm is"));
        let journal = ring
            .as_ref()
            .map_or(String::new(), |ring| format!("[journal]\nring_dir = \"{}\"\n", ring.path().display()));
        let log = "[log]\nformat = \"json\"\nfilter = \"info,usherd::daemon::runtime::checkpoint=debug\"\n";
        Site { folder: files(&format!("{main}\n{journal}{log}"), tenants), _ring: ring }
    }

    /// A file of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a tenant file.
    pub fn tenant(&self, id: &str, text: &str) {
        write_tenant(self.folder.path(), id, text);
    }

    /// Where it listens from its next start on.
    pub fn listen(&self, at: SocketAddr) {
        const KEY: &str = "[server]\nlisten = \"";
        let main = std::fs::read_to_string(self.path("usherd.toml")).unwrap();
        let (before, rest) = main.split_once(KEY).unwrap();
        let (_, behind) = rest.split_once('"').unwrap();
        std::fs::write(self.path("usherd.toml"), format!("{before}{KEY}{at}\"{behind}")).unwrap();
    }

    /// The folder of the journal.
    pub fn journal(&self) -> PathBuf {
        self.path("state/journal")
    }

    /// Files of the journal whose name holds this.
    pub fn journal_files(&self, part: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.journal()).into_iter().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.file_name().unwrap().to_string_lossy().contains(part));
        files.sort();
        files
    }

    /// `usherd serve` with its configuration.
    pub fn command(&self) -> Command {
        command(&self.path("usherd.toml"))
    }

    /// Starts it, and waits for nothing.
    pub fn spawn(&self) -> Usherd {
        Usherd::spawn(&mut self.command())
    }

    /// Starts it, and waits until it decides.
    pub fn start(&self) -> Usherd {
        let mut usherd = self.spawn();
        usherd.until_ready();
        usherd
    }
}

/// A loopback address that no other test has at this time: nobody else takes a port of it that was free, or was given
/// up for a moment.
pub fn own_ip() -> Ipv4Addr {
    // Linux numbers processes below 2^22.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + high, middle, low)
}

/// `usherd serve` with this configuration, and nothing of the environment of a service manager.
pub fn command(config: &Path) -> Command {
    let mut command = usherd(&["serve", "--config"]);
    command.arg(config);
    command
}

/// The built binary with these arguments in a folder without a configuration, and nothing of the environment of a
/// service manager or of who runs the tests.
pub fn usherd(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(scratch()).stdin(Stdio::null());
    let of_a_manager = ["NOTIFY_SOCKET", "STATE_DIRECTORY", "WATCHDOG_USEC", "LISTEN_FDS"];
    for name in of_a_manager.iter().chain(&["USHERD_ADDR", "USHERD_CA_FILE", "USHERD_TOKEN", "NO_COLOR"]) {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end: the exit code, and all it wrote.
pub fn told(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// Cargo's folder for what tests leave behind.
fn scratch() -> PathBuf {
    let scratch = binary().parent().unwrap().with_file_name("tmp");
    std::fs::create_dir_all(&scratch).unwrap();
    scratch
}

/// The binary that cargo built for the running test: it lies in the folder above that of the test.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.parent().and_then(Path::parent).map(|folder| folder.join("usherd"));
    binary.filter(|path| path.is_file()).unwrap_or_else(|| {
        panic!("no usherd above {}: `cargo build --bin usherd`, in the profile of the test, makes it", test.display())
    })
}

/// A running usherd; dropping it kills it.
pub struct Usherd {
    /// The process.
    pub child: Killed,
    /// Where it listens, the main listener first.
    pub addresses: Vec<SocketAddr>,
    lines: Receiver<String>,
    /// Everything it said so far.
    pub said: Vec<String>,
}

impl Usherd {
    /// Starts it, and waits for nothing.
    pub fn spawn(command: &mut Command) -> Self {
        Self::spawn_with(command, Stdio::null())
    }

    /// With this as its standard input.
    pub fn spawn_with(command: &mut Command, stdin: Stdio) -> Self {
        command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Killed(command.spawn().unwrap());
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

    /// Waits until it decides.
    pub fn until_ready(&mut self) {
        let line = self.until_says("\"message\":\"ready\"");
        self.addresses = line.split(['"', '\\']).filter_map(|word| word.parse().ok()).collect();
    }

    /// The first line from now on with this in it.
    pub fn until_says(&mut self, part: &str) -> String {
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
    pub fn all_said(&mut self) -> String {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(20)) {
            self.said.push(line);
        }
        self.said.join("\n")
    }

    /// Its main listener.
    pub fn address(&self) -> SocketAddr {
        *self.addresses.first().expect("it is ready and listens")
    }

    /// A new connection to it.
    pub fn client(&self) -> Client {
        Client::connect(self.address()).unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends SIGSTOP, and waits until every thread has stopped.
    pub fn pause(&self) {
        stand_still(&self.child);
    }

    /// `kill -9`, and its end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        eventually("it to end", || self.child.try_wait().unwrap())
    }

    /// Asks it to stop and waits; the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.ended().code()
    }
}

/// Sends SIGSTOP to a process, and waits until every thread has stopped.
pub fn stand_still(process: &Child) {
    kill_process(Pid::from_child(process), Signal::STOP).unwrap();
    let threads = format!("/proc/{}/task", process.id());
    eventually("every thread to stand", || {
        let mut threads = std::fs::read_dir(&threads).unwrap().map(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
            // The name is in parentheses and may hold anything; the state comes after it.
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        });
        threads.all(|stands| stands).then_some(())
    });
}

/// Resident memory of a process, bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// A process that is killed when this is dropped.
pub struct Killed(pub Child);

impl Deref for Killed {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Killed {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
