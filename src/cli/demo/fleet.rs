//! The processes of a cluster on loopback: three members of etcd, and three daemons of this very program.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::folder::Folder;
use super::start::free;
use crate::cli::failure::Failure;
use crate::daemon::webhook::sign::fresh;

/// Daemons, and as many members of etcd.
pub(super) const MEMBERS: usize = 3;
/// The program that keeps what the daemons share.
const ETCD: &str = "etcd";
/// Variables by which a service manager speaks to a daemon, or an administrator to etcd.
const OF_OTHERS: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "STATE_DIRECTORY", "LISTEN_FDS", "LISTEN_PID"];

/// Everything that was started; it ends with this.
pub(super) struct Fleet {
    // The daemons end first.
    pub(super) daemons: Vec<Program>,
    pub(super) etcds: Vec<Program>,
}

/// A program with an address, a log, and a process while it runs.
pub(super) struct Program {
    pub(super) name: String,
    /// Where it is asked.
    pub(super) address: SocketAddr,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
}

impl Fleet {
    /// Writes the files of all in a folder, and starts nothing yet; the first daemon listens there.
    ///
    /// # Errors
    /// etcd is not installed, or a file cannot be written.
    pub(super) fn new(folder: &Folder, listen: SocketAddr) -> Result<Self, Failure> {
        let addresses = addresses(listen)?;
        let (own, of_etcd) = addresses.split_at(MEMBERS);
        let (clients, peers) = of_etcd.split_at(MEMBERS);
        let etcds = etcds(folder.path(), clients, peers);
        let token = fresh().map_err(Failure::failed)?;
        Folder::write(&folder.path().join("cluster.token"), &format!("{token}\n"))?;
        let this = std::env::current_exe();
        let this = this.map_err(|error| Failure::failed(format!("this program cannot be found: {error}")))?;
        let mut daemons = Vec::new();
        for (at, address) in own.iter().enumerate() {
            let name = format!("usherd-{}", at + 1);
            let own = folder.path().join(&name);
            let made = std::fs::create_dir(&own);
            made.map_err(|error| Failure::failed(format!("{} cannot be made: {error}", own.display())))?;
            let main = own.join("usherd.toml");
            Folder::write(&main, &main_file(&name, *address, clients))?;
            let arguments = vec!["serve".to_owned(), "--config".to_owned(), main.display().to_string()];
            let log = folder.path().join(format!("{name}.log"));
            daemons.push(Program { name, address: *address, program: this.clone(), arguments, log, process: None });
        }
        Ok(Fleet { daemons, etcds })
    }

    /// Says so where something has ended that nobody ended.
    ///
    /// # Errors
    /// The name of the program, and the end of its log.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        self.etcds.iter_mut().chain(&mut self.daemons).try_for_each(Program::check)
    }
}

impl Program {
    /// Starts it; Ctrl-C is for the demonstration alone, which then ends this.
    ///
    /// # Errors
    /// It is not installed, or cannot be started.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let wrong = |error: io::Error| Failure::failed(format!("{} cannot be started: {error}", self.name));
        let log = File::options().create(true).append(true).open(&self.log).map_err(wrong)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let of_etcd =
            std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("ETCD_"));
        for name in of_etcd.chain(OF_OTHERS.map(Into::into)) {
            command.env_remove(name);
        }
        let spawned = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => without_etcd(&self.program),
            _ => wrong(error),
        });
        self.process = Some(spawned?);
        Ok(())
    }

    /// `kill -9`, and its end.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // One that has ended by itself is no fault here.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        let Some(Ok(Some(status))) = self.process.as_mut().map(Child::try_wait) else { return Ok(()) };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().last().unwrap_or("and said nothing");
        Err(Failure::failed(format!("{} has ended by itself ({status}): {last}", self.name)))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

fn without_etcd(program: &Path) -> Failure {
    Failure::failed(format!("{} is not installed, and a cluster keeps its decisions in it", program.display()))
        .fix("install the package etcd-server; its own service may be off: the demonstration starts three of its own")
}

/// Free addresses: of the daemons, of etcd for clients, of etcd among its members.
fn addresses(listen: SocketAddr) -> Result<Vec<SocketAddr>, Failure> {
    let mut all = vec![free(listen)?];
    // Held until all are known, so that no two are one.
    let mut held = Vec::new();
    while all.len() < 3 * MEMBERS {
        let bound = TcpListener::bind((listen.ip(), 0)).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|error| Failure::failed(format!("no port is free: {error}")))?;
        held.push(listener);
        if address != all[0] {
            all.push(address);
        }
    }
    Ok(all)
}

fn etcds(folder: &Path, clients: &[SocketAddr], peers: &[SocketAddr]) -> Vec<Program> {
    let name = |at: usize| format!("etcd-{}", at + 1);
    let cluster: Vec<String> =
        peers.iter().enumerate().map(|(at, peer)| format!("{}=http://{peer}", name(at))).collect();
    let one = |(at, (client, peer)): (usize, (&SocketAddr, &SocketAddr))| {
        let (name, data) = (name(at), folder.join(name(at)).display().to_string());
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let arguments = [
            ["--name", &name],
            ["--data-dir", &data],
            ["--listen-client-urls", &client_url],
            ["--advertise-client-urls", &client_url],
            ["--listen-peer-urls", &peer_url],
            ["--initial-advertise-peer-urls", &peer_url],
            ["--initial-cluster", &cluster.join(",")],
            ["--logger", "zap"],
            ["--log-outputs", "stderr"],
            ["--log-level", "warn"],
        ];
        let arguments = arguments.as_flattened().iter().map(|&argument| argument.to_owned()).collect();
        let log = folder.join(format!("{name}.log"));
        Program { name, address: *client, program: ETCD.into(), arguments, log, process: None }
    };
    clients.iter().zip(peers).enumerate().map(one).collect()
}

/// `usherd.toml` of a member.
fn main_file(name: &str, listen: SocketAddr, etcds: &[SocketAddr]) -> String {
    let endpoints: Vec<String> = etcds.iter().map(|etcd| format!("http://{etcd}")).collect();
    format!(
        r#"# usherd.toml - written by `usherd demo --cluster`. Every key with its default and its reason: `usherd config init`.
tenants_dir = "../tenants.d"

[server]
listen = "{listen}"
state_dir = "state"
drain_deadline_ms = 300

[cluster]
engine = "etcd"
name = "demo"
member = "{name}"
endpoints = {endpoints:?}
advertise = "http://{listen}"
token_file = "../cluster.token"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::{Memory, load_from};

    #[test]
    fn the_files_of_a_member_are_good() {
        let etcds: Vec<SocketAddr> = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port))).to_vec();
        for listen in ["127.0.0.1:7788", "[::1]:7788"] {
            let mut files = Memory::default();
            files.put("/d/usherd-1/usherd.toml", main_file("usherd-1", listen.parse().unwrap(), &etcds));
            files.put("/d/tenants.d/a.toml", "id = \"a\"\nkind = \"nfr\"\nseats = 1\n");
            let now = crate::cli::instant::wall_clock();
            let config = load_from(&files, Path::new("/d/usherd-1/usherd.toml"), now).unwrap();
            assert!(config.warnings.is_empty(), "{:?}", config.warnings);
            assert_eq!(config.settings.cluster.unwrap().endpoints.len(), MEMBERS);
        }
    }

    #[test]
    fn no_two_programs_have_one_address() {
        let all = addresses("127.0.0.1:0".parse().unwrap()).unwrap();
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!((all.len(), distinct.len()), (9, 9));
    }
}
