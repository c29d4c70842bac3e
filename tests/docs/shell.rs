//! A scratch copy of the sample configuration with a fresh daemon, and a shell in it that runs a page's commands.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use usherd_testkit::page::root;
use usherd_testkit::process::{Usherd, command};
use usherd_testkit::wait::eventually;

/// Ports that the pages name, and what they are for.
const PORTS: [&str; 3] = ["7788", "7789", "7799"];

/// A person who stops a process and types the next line is slower than its threads, which stand one after the other.
const AT_HUMAN_SPEED: &str = r#"kill() {
    command kill "$@"
    if [ "$1" = -STOP ]; then
        while cat "/proc/$2"/task/*/stat | grep -qv ') T '; do sleep 0.01; done
    fi
}
"#;

/// A folder as somebody has it who just fetched the repository, with a daemon that serves the samples.
pub(crate) struct Shell {
    folder: tempfile::TempDir,
    /// The port of a page, and the free one that stands for it here.
    ports: Vec<(&'static str, String)>,
    daemon: Usherd,
}

/// The result of a script.
pub(crate) struct Ran {
    /// The output and errors of each block as they came; short where one failed.
    pub(crate) said: Vec<String>,
    pub(crate) good: bool,
}

impl Shell {
    pub(crate) fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["config", "systemd", "docs"] {
            copy(&root().join(name), &folder.path().join(name));
        }
        let ports = PORTS.iter().map(|port| (*port, free_port())).collect();
        let mut shell = Shell { folder, ports, daemon: Usherd::spawn(&mut Command::new("true")) };
        let main = shell.path("config/usherd.toml");
        let text = std::fs::read_to_string(&main).unwrap().replace("format = \"text\"", "format = \"json\"");
        std::fs::write(&main, shell.here(&text)).unwrap();
        let mut serve = command(Path::new("config/usherd.toml"));
        shell.daemon = Usherd::spawn(serve.current_dir(shell.folder.path()));
        shell.daemon.until_ready();
        shell
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A text of a page with the ports of this place.
    fn here(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (page, here)| text.replace(page, here))
    }

    /// The output here, with the ports of the page.
    fn there(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (page, here)| text.replace(here.as_str(), page))
    }

    /// Runs the blocks one after the other in one `sh -eu`, as somebody does who follows the page.
    pub(crate) fn run(&self, blocks: &[&str]) -> Ran {
        let said = |number: usize| self.path(&format!("said.{number}"));
        let mut script = AT_HUMAN_SPEED.to_owned();
        for (number, block) in blocks.iter().enumerate() {
            script += &format!("exec >'{}' 2>&1\n{}\n", said(number).display(), self.here(block));
        }
        std::fs::write(self.path("script"), script).unwrap();
        let good = self.shell().success();
        let read =
            |number: usize| std::fs::read(said(number)).ok().map(|text| String::from_utf8_lossy(&text).into_owned());
        Ran { said: (0..blocks.len()).map_while(read).map(|text| self.there(&text)).collect(), good }
    }

    fn shell(&self) -> std::process::ExitStatus {
        let binary = Path::new(env!("CARGO_BIN_EXE_usherd")).parent().unwrap();
        // Sooner than this test's own patience, so that a block that waits for ever is named.
        let mut sh = Command::new("timeout");
        sh.args(["--signal=KILL", "40", "sh", "-eu", "script"]).current_dir(self.folder.path());
        for name in ["USHERD_CA_FILE", "USHERD_TOKEN", "STATE_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_FDS"] {
            sh.env_remove(name);
        }
        sh.env("PATH", format!("{}:{}", binary.display(), std::env::var("PATH").unwrap()));
        sh.env("USHERD_ADDR", format!("127.0.0.1:{}", self.ports[0].1));
        sh.env("TZ", "Europe/Berlin").env("LC_ALL", "C.UTF-8").env("NO_COLOR", "1");
        sh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut child = Running(sh.spawn().unwrap());
        eventually("the commands of a page", || child.0.try_wait().unwrap())
    }
}

/// A shell and everything that it started; dropping it ends them.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// A port that nobody has, below those that the system gives out by itself.
fn free_port() -> String {
    let mut tries = (0..1_000).map(|_| fastrand::u16(20_000..32_000));
    tries.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap().to_string()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == "state" {
            // What a daemon left behind that somebody ran in this checkout.
            continue;
        }
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}
