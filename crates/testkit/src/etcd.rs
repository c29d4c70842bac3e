//! A real etcd on loopback: one member or three, which a test kills, pauses and starts again.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use usherd::daemon::etcd::{Client, Health, Op, Options, Store as _, Txn};

use crate::process::{Killed, own_ip, stand_still};
use crate::wait::{eventually, eventually_or};

/// The program, of Debian's package etcd-server.
const PROGRAM: &str = "etcd";
/// How long a member may take to tell how it is.
const DEADLINE: Duration = Duration::from_secs(3);
/// The end of a log that is shown where a test fails, lines.
const LOG_LINES_SHOWN: usize = 40;

/// A cluster of etcd; everything of it ends when this is dropped.
pub struct Etcd {
    members: Vec<Member>,
    options: Options,
    // Last, so that nobody writes into it any more when it is removed.
    folder: TempDir,
}

struct Member {
    client_address: SocketAddr,
    peer_address: SocketAddr,
    arguments: Vec<String>,
    process: Option<Killed>,
}

impl Etcd {
    /// One member.
    pub fn one() -> Self {
        Self::start(1, &[], Options::default())
    }

    /// Three members.
    pub fn three() -> Self {
        Self::start(3, &[], Options::default())
    }

    /// So many members with these arguments of a test's own; the options say how they are reached, over TLS where there
    /// is a file of authorities.
    pub fn start(count: usize, arguments: &[&str], reached: Options) -> Self {
        // Elections write to the disk, and a test machine's may be slow.
        let folder = tempfile::tempdir_in("/dev/shm").expect("a tmpfs is needed, as /dev/shm is");
        let scheme = if reached.ca_file.as_os_str().is_empty() { "http" } else { "https" };
        let addresses: Vec<_> = (0..count).map(|_| [free_address(), free_address()]).collect();
        let cluster: Vec<_> =
            addresses.iter().enumerate().map(|(at, [_, peer])| format!("m{at}=http://{peer}")).collect();
        let members = addresses.into_iter().enumerate().map(|(at, [client_address, peer_address])| {
            let (client, peer) = (format!("{scheme}://{client_address}"), format!("http://{peer_address}"));
            let own = [
                ["--name", &format!("m{at}")],
                ["--data-dir", &folder.path().join(format!("m{at}")).display().to_string()],
                ["--listen-client-urls", &client],
                ["--advertise-client-urls", &client],
                ["--listen-peer-urls", &peer],
                ["--initial-advertise-peer-urls", &peer],
                ["--initial-cluster", &cluster.join(",")],
                // Elections take a moment, not seconds.
                ["--heartbeat-interval", "50"],
                ["--election-timeout", "300"],
                ["--logger", "zap"],
                ["--log-outputs", "stderr"],
                ["--log-level", "warn"],
            ];
            let arguments = own.as_flattened().iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
            Member { client_address, peer_address, arguments, process: None }
        });
        let members: Vec<_> = members.collect();
        let endpoints = members.iter().map(|member| format!("{scheme}://{}", member.client_address)).collect();
        let mut etcd = Etcd { members, options: Options { endpoints, deadline: DEADLINE, ..reached }, folder };
        for at in 0..count {
            etcd.spawn(at);
        }
        etcd.until_healthy();
        etcd
    }

    /// The URLs of the members, in their order.
    pub fn endpoints(&self) -> Vec<String> {
        self.options.endpoints.clone()
    }

    /// How a client reaches all members.
    pub fn options(&self) -> Options {
        self.options.clone()
    }

    /// A client of all members.
    pub fn client(&self) -> Client {
        Client::new(self.options())
    }

    /// Where a member takes clients.
    pub fn address(&self, member: usize) -> SocketAddr {
        self.members[member].client_address
    }

    /// Where a member takes its peers.
    pub fn peer_address(&self, member: usize) -> SocketAddr {
        self.members[member].peer_address
    }

    /// The member that leads, once one does.
    pub fn leader(&self) -> usize {
        eventually("etcd to have a leader", || {
            (0..self.members.len()).find(|&at| self.health(at).is_some_and(|health| health.is_leader))
        })
    }

    /// `kill -9`, and its end.
    pub fn kill(&mut self, member: usize) {
        drop(self.members[member].process.take());
    }

    /// Sends SIGSTOP, and waits until it stands still.
    pub fn pause(&self, member: usize) {
        stand_still(self.process(member));
    }

    /// Sends SIGCONT.
    pub fn resume(&self, member: usize) {
        kill_process(Pid::from_child(self.process(member)), Signal::CONT).unwrap();
    }

    /// Starts a member that was killed, or kills and starts it, and waits until it follows a leader.
    pub fn restart(&mut self, member: usize) {
        self.kill(member);
        self.spawn(member);
        self.until(member);
    }

    /// The same for several at once, which need each other.
    pub fn restart_all(&mut self, members: &[usize]) {
        members.iter().for_each(|member| self.kill(*member));
        members.iter().for_each(|member| self.spawn(*member));
        members.iter().for_each(|member| self.until(*member));
    }

    /// Waits until every member follows a leader, and the cluster answers.
    pub fn until_healthy(&self) {
        for member in 0..self.members.len() {
            self.until(member);
        }
        let (client, question) = (self.client(), Txn { then: vec![Op::get("health")], ..Txn::default() });
        eventually("etcd to answer", || client.txn(&question).ok());
    }

    fn until(&self, member: usize) {
        let follows = || self.health(member).filter(|health| health.has_leader);
        eventually_or(follows, || format!("member {member} of etcd:\n{}", self.log(member)));
    }

    fn health(&self, member: usize) -> Option<Health> {
        let process = self.members[member].process.as_ref()?;
        let endpoints = vec![self.options.endpoints[member].clone()];
        let asked = Client::new(Options { endpoints, deadline: DEADLINE / 3, ..self.options() }).status();
        // Another program would not have answered for one that has ended.
        asked.into_iter().next()?.reachable.ok().filter(|_| Path::new(&format!("/proc/{}", process.id())).exists())
    }

    fn process(&self, member: usize) -> &Killed {
        self.members[member].process.as_ref().expect("it runs")
    }

    fn log_file(&self, member: usize) -> PathBuf {
        self.folder.path().join(format!("m{member}.log"))
    }

    fn log(&self, member: usize) -> String {
        let log = std::fs::read_to_string(self.log_file(member)).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    fn spawn(&mut self, member: usize) {
        let log = File::options().create(true).append(true).open(self.log_file(member)).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(&self.members[member].arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD_")) {
            command.env_remove(name);
        }
        let spawned = command.spawn().unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!("{PROGRAM} is missing: install the package etcd-server"),
            _ => panic!("{PROGRAM}: {error}"),
        });
        self.members[member].process = Some(Killed(spawned));
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for member in 0..self.members.len() {
                let log = self.log(member);
                let _ = writeln!(std::io::stderr(), "the end of the log of etcd's member {member}:\n{log}");
            }
        }
    }
}

/// An address of this test's own, with a port that is free.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((own_ip(), 0)).unwrap().local_addr().unwrap()
}
