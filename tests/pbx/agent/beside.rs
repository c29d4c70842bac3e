//! A daemon, and an agent beside it, each a process with a folder of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use usherd_testkit::http::Answer;
use usherd_testkit::process::{Site, Usherd, usherd};
use usherd_testkit::wait::{eventually, eventually_or};

/// Ten seats of acme's.
const TENANT: &str = "id = \"acme\"\nkind = \"nfr\"\nseats = 10\n";

/// Where both live.
pub(super) struct Place {
    folder: tempfile::TempDir,
    site: Site,
}

impl Place {
    /// With these sections in `agent.toml`.
    pub(super) fn new(sections: &str) -> Self {
        Self::with(sections, "", &[("acme", TENANT)])
    }

    /// And these in `usherd.toml`, with these tenants.
    pub(super) fn with(sections: &str, main: &str, tenants: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("usherd.sock");
        // Short timers: what leaks shows within the test.
        let main = format!(
            "[server]\nunix_socket = {socket:?}\n[nodes]\nlease_s = 3\nheartbeat_s = 1\ngrace_s = 3\npresence_grace_s = 2\n{main}"
        );
        let place = Place { site: Site::new(&main, tenants), folder };
        let at = |name: &str| place.path(name).display().to_string();
        let text = format!(
            "[daemon]\naddress = \"unix:{}\"\ndeadline_ms = 1000\n[node]\nname = \"pbx-1\"\ntenant = \"acme\"\n\
             [socket]\npath = {:?}\n[spool]\nfolder = {:?}\n[log]\nformat = \"json\"\nfilter = \"debug\"\n{sections}",
            at("usherd.sock"),
            at("agent.sock"),
            at("spool")
        );
        std::fs::write(place.path("agent.toml"), text).unwrap();
        std::fs::write(place.path("secret"), "manager-secret\n").unwrap();
        std::fs::write(place.path("password"), "event-secret\n").unwrap();
        place
    }

    /// The grace of watched presence, of the agent's own.
    pub(super) fn presence_grace(&self, seconds: u32) {
        let path = self.path("agent.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let rest: Vec<&str> = text.lines().filter(|line| !line.starts_with("presence_grace_s")).collect();
        let set = format!("[node]\npresence_grace_s = {seconds}");
        std::fs::write(&path, rest.join("\n").replace("[node]", &set) + "\n").unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn daemon(&self) -> Usherd {
        self.site.start()
    }

    /// The daemon loses all that it knew.
    pub(super) fn forget(&self) {
        std::fs::remove_dir_all(self.site.journal()).unwrap();
    }

    pub(super) fn command(&self) -> Command {
        let mut command = usherd(&["agent", "--config"]);
        command.arg(self.path("agent.toml"));
        command
    }

    pub(super) fn agent(&self) -> Usherd {
        let mut agent = Usherd::spawn(&mut self.command());
        agent.until_says("the agent is at work");
        agent
    }

    /// Other text in `agent.toml`.
    pub(super) fn edit(&self, from: &str, to: &str) {
        let path = self.path("agent.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
    }

    /// How long the agent waits for an answer instead of a second: less where none comes, and where all come as long as
    /// a busy machine may take.
    pub(super) fn deadline_ms(&self, ms: u32) {
        self.edit("deadline_ms = 1000\n", &format!("deadline_ms = {ms}\n"));
    }

    /// Waits until the agent is greeted by the daemon.
    pub(super) fn until_connected(&self) {
        eventually("the agent to be connected", || {
            self.ask("/metrics", "").1.contains("usherd_agent_connected 1\n").then_some(())
        });
    }

    /// Asks the agent's socket: the status and the body.
    pub(super) fn ask(&self, path: &str, body: &str) -> (u16, String) {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let mut stream = UnixStream::connect(self.path("agent.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = Answer::parse(&answer);
        (answer.status, answer.body)
    }

    /// The line for a call of a subject, as a dial plan gets it.
    pub(super) fn acquire(&self, subject: &str, session: &str) -> String {
        let body = format!("tenant=acme&subject={subject}&session={session}&kind=call&direction=outbound&to=0301");
        let (status, line) = self.ask("/v1/acquire", &body);
        assert_eq!(status, 200, "{line}");
        line
    }

    pub(super) fn release(&self, session: &str) -> String {
        let (status, line) = self.ask("/v1/release", &format!("tenant=acme&session={session}"));
        assert_eq!(status, 200, "{line}");
        line
    }

    /// Waits until the agent's own figures are these.
    pub(super) fn until_agent(&self, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
        eventually(what, || {
            let look: serde_json::Value = serde_json::from_str(&self.ask("/v1/agent", "").1).unwrap();
            is_so(&look).then_some(())
        });
    }
}

/// The live sessions of acme at the daemon, as `kind subject session`.
pub(super) fn sessions(daemon: &Usherd) -> Vec<String> {
    let list = daemon.client().list("/v1/tenants/acme/sessions", "sessions");
    let text = |session: &serde_json::Value, key: &str| session[key].as_str().unwrap_or_default().to_owned();
    let mut all: Vec<String> = list
        .iter()
        .map(|one| format!("{} {} {}", text(one, "kind"), text(one, "subject"), text(one, "session")))
        .collect();
    all.sort();
    all
}

pub(super) fn held(daemon: &Usherd) -> u64 {
    daemon.client().held("acme")
}

/// Waits until exactly these sessions live.
pub(super) fn until_sessions(daemon: &Usherd, expected: &[&str]) {
    let look = || (sessions(daemon) == expected).then_some(());
    eventually_or(look, || format!("{expected:?}, but {:?} live", sessions(daemon)));
}
