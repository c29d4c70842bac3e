//! One Kamailio with the shipped files, the daemon it asks, phones and a trunk; each test its own, on free ports.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use serde_json::Value;

use crate::page;
use crate::place::{Place, program};
use crate::process::{Site, Usherd, own_ip};
use crate::relay::Relay;
use crate::wait::{eventually, eventually_or};

/// Where the phones are: an address of this test's own, so that no other test takes a port that is free here.
pub fn phones_ip() -> &'static str {
    static PHONES: LazyLock<String> = LazyLock::new(|| own_ip().to_string());
    &PHONES
}

/// Where the trunk is: Kamailio tells inbound calls by the address.
pub fn trunk_ip() -> &'static str {
    static TRUNK: LazyLock<String> = LazyLock::new(|| {
        let [net, high, middle, low] = own_ip().octets();
        Ipv4Addr::new(net, high + 64, middle, low).to_string()
    });
    &TRUNK
}

/// A UDP port that is free on this address.
pub fn free_port(ip: &str) -> u16 {
    UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap().port()
}

/// A TCP address that no other test uses, even while its owner restarts.
pub fn own_address() -> SocketAddr {
    TcpListener::bind((own_ip(), 0)).unwrap().local_addr().unwrap()
}

/// A program; dropping it kills it and its children. All stay in the process group of the test, so that whoever ends
/// the test ends them too.
pub struct Program {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Program {
    fn start(command: &mut Command, package: &str) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} (Debian package {package}): {error}"));
        let said = Arc::new(Mutex::new(String::new()));
        let (errors, into) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let mut said = into.lock();
                said.push_str(&line);
                said.push('\n');
            }
        });
        Program { child, said }
    }

    /// All it said so far.
    pub fn said(&self) -> String {
        self.said.lock().clone()
    }

    /// Waits until it says this.
    pub fn until_says(&self, part: &str) {
        let look = || self.said().contains(part).then_some(());
        eventually_or(look, || format!("`{part}` among {}", self.said()));
    }

    /// `kill -9` of all its processes.
    pub fn kill(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            // Its number may belong to another process by now.
            return;
        }
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let _ = self.child.kill();
        for child in children.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)) {
            // One that ended by itself cannot be signalled.
            let _ = kill_process(child, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How the recipe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `http_client`.
    Http,
    /// `http_async_client`, of Kamailio 6 only.
    HttpAsync,
    /// `ndb_redis`.
    Redis,
}

/// Everything a scenario needs.
pub struct Lab {
    /// The files of the daemon.
    pub site: Site,
    /// The daemon, while it runs.
    pub usherd: Option<Usherd>,
    /// Kamailio, while it runs.
    pub kamailio: Option<Program>,
    /// The shipped files, and what Kamailio puts beside them.
    recipe: Place,
    /// Of Kamailio, on the address of the phones.
    pub kamailio_port: u16,
    /// Where Kamailio finds the phones.
    pub phones_port: u16,
    /// Where Kamailio finds the trunk.
    pub trunk_port: u16,
    url: String,
    resp: SocketAddr,
    transport: Transport,
    /// HTTP and RESP of a second daemon.
    second: Option<[SocketAddr; 2]>,
    /// Further definitions for Kamailio.
    pub extra: Vec<String>,
}

/// A daemon with this many seats, and where it speaks RESP.
fn daemon(seats: u32) -> (Site, Usherd, SocketAddr) {
    let tenant = format!("id = \"acme\"\nkind = \"paid\"\nstart = \"2020-01-01\"\nseats = {seats}\n");
    let [http, resp] = [(); 2].map(|()| own_address());
    let listener = format!("[[listener]]\nlisten = \"{resp}\"\nprotocol = \"resp\"\n");
    let site = Site::new(&listener, &[("acme", &tenant)]);
    site.listen(http);
    let usherd = site.start();
    (site, usherd, resp)
}

impl Lab {
    /// With this many seats.
    pub fn new(seats: u32) -> Self {
        Self::with(seats, &[])
    }

    /// With further definitions for Kamailio (`NAME` or `NAME=value`).
    pub fn with(seats: u32, extra: &[&str]) -> Self {
        let mut lab = Self::idle(seats, extra);
        lab.start_kamailio();
        lab
    }

    /// With the recipe for this transport.
    pub fn over(transport: Transport, seats: u32) -> Self {
        let mut lab = Self::idle_over(transport, seats);
        lab.start_kamailio();
        lab
    }

    /// The same, without a Kamailio yet.
    pub fn idle_over(transport: Transport, seats: u32) -> Self {
        Lab { transport, ..Self::idle(seats, &[]) }
    }

    /// Without a Kamailio yet.
    pub fn idle(seats: u32, extra: &[&str]) -> Self {
        let (site, usherd, resp) = daemon(seats);
        Lab {
            url: format!("http://{}", usherd.address()),
            site,
            usherd: Some(usherd),
            kamailio: None,
            recipe: Place::shipped("kamailio"),
            kamailio_port: free_port(phones_ip()),
            phones_port: free_port(phones_ip()),
            trunk_port: free_port(trunk_ip()),
            resp,
            transport: Transport::Http,
            second: None,
            extra: extra.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// A second daemon, with this many seats, that Kamailio asks where the first does not answer; it must not run yet.
    pub fn second(&mut self, seats: u32) -> (Site, Usherd) {
        let (site, usherd, resp) = daemon(seats);
        self.second = Some([usherd.address(), resp]);
        (site, usherd)
    }

    /// A daemon that Kamailio asks where the first does not answer, by HTTP or RESP; it must not run yet.
    pub fn second_at(&mut self, http: SocketAddr, resp: SocketAddr) {
        self.second = Some([http, resp]);
    }

    /// Starts the shipped kamailio.cfg, and waits until it has said hello.
    pub fn start_kamailio(&mut self) {
        let url = self.url.clone();
        self.start_kamailio_asking(&url);
    }

    /// The same, with a wire to usherd that the test can slow down.
    pub fn start_kamailio_behind_relay(&mut self) -> Relay {
        let usherd = match self.transport {
            Transport::Http | Transport::HttpAsync => self.usherd().address(),
            Transport::Redis => self.resp,
        };
        let relay = Relay::to(phones_ip(), usherd);
        // Of these two, the transport uses one.
        self.resp = relay.address;
        self.start_kamailio_asking(&format!("http://{}", relay.address));
        relay
    }

    /// The same, with something else in the place of usherd.
    pub fn start_kamailio_asking(&mut self, url: &str) {
        let mut command = program("kamailio");
        command.arg("-f").arg(self.recipe.inside("kamailio.cfg")).args(["-DD", "-E", "-m", "64"]);
        command.arg("-Y").arg(self.recipe.inside(""));
        command.arg("-l").arg(format!("udp:{}:{}", phones_ip(), self.kamailio_port));
        if self.transport == Transport::Redis {
            command.args(["-A", "USHERD_REDIS"]);
            command.arg(format!("--substdef=!USHERD_RESP!addr={};port={}!g", self.resp.ip(), self.resp.port()));
        }
        match (self.second, self.transport) {
            (None, _) => {}
            (Some([_, resp]), Transport::Redis) => {
                command.arg(format!("--substdef=!USHERD_SECOND_RESP!addr={};port={}!g", resp.ip(), resp.port()));
            }
            (Some([http, _]), _) => drop(command.args(["-A", &format!("USHERD_SECOND_URL=\"http://{http}\"")])),
        }
        if self.transport == Transport::HttpAsync {
            command.args(["-A", "USHERD_HTTP_ASYNC"]);
        }
        let mut define = |text: String| {
            command.args(["-A", &text]);
        };
        define(format!("USHERD_URL=\"{url}\""));
        define(format!("PHONES=\"{}:{}\"", phones_ip(), self.phones_port));
        define(format!("TRUNK_IP=\"{}\"", trunk_ip()));
        define(format!("TRUNK=\"{}:{}\"", trunk_ip(), self.trunk_port));
        self.extra.iter().cloned().for_each(define);
        let kamailio = Program::start(&mut command, "kamailio");
        let look = || {
            let said = kamailio.said();
            assert!(!said.contains("bad config file"), "Debian packages kamailio-{{json,redis,utils}}-modules: {said}");
            said.contains("usherd: greeted as").then_some(())
        };
        eventually_or(look, || format!("Kamailio to greet usherd among {}", kamailio.said()));
        self.kamailio = Some(kamailio);
    }

    /// The daemon, which runs.
    pub fn usherd(&self) -> &Usherd {
        self.usherd.as_ref().unwrap()
    }

    /// How many seats are held now.
    pub fn held(&self) -> u64 {
        self.usherd().client().held("acme")
    }

    /// The live sessions of the tenant.
    pub fn sessions(&self) -> Vec<Value> {
        self.usherd().client().list("/v1/tenants/acme/sessions", "sessions")
    }

    /// Waits until so many seats are held.
    pub fn until_held(&self, seats: u64) {
        eventually(&format!("{seats} seats to be held"), || (self.held() == seats).then_some(()));
    }

    /// A figure of `/metrics`, summed over all its labels that contain this text.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        self.usherd().client().sum(name, labels)
    }

    /// Questions that usherd answered with this code.
    pub fn decided(&self, code: &str) -> f64 {
        self.metric("usherd_decisions_total", &format!("code=\"{code}\""))
    }

    /// A figure of Kamailio itself.
    pub fn statistic(&self, name: &str) -> u64 {
        let text = self.kamcmd(["stats.get_statistics", name]);
        text.rsplit(' ').next().unwrap().trim().parse().unwrap_or_else(|_| panic!("{name}: {text}"))
    }

    /// Kamailio's answer to a command.
    pub fn kamcmd<'a>(&self, command: impl IntoIterator<Item = &'a str>) -> String {
        let socket = format!("unix:{}", self.recipe.path("kamailio_ctl").display());
        let out = Command::new("kamcmd").args(["-s", &socket]).args(command).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    }
}

/// One call each by this many users to an outside number.
pub fn users(count: u32) -> String {
    (0..count).map(|user| format!("user{user};0301234567;\n")).collect()
}

/// A SIPp that plays a scenario of tests/pbx/sipp.
pub struct Sipp {
    program: Program,
    folder: tempfile::TempDir,
    scenario: String,
}

impl Sipp {
    /// Listens here and waits for calls. A message that was repeated on a busy machine does not end one.
    pub fn callee(scenario: &str, ip: &str, port: u16) -> Self {
        Self::start(scenario, ip, port, &["-default_behaviors", "-abortunexp"], "")
    }

    /// Calls through the proxy of the lab; one line of the table per call: user;number.
    pub fn caller(lab: &Lab, scenario: &str, ip: &str, table: &str, more: &[&str]) -> Self {
        Self::caller_at((phones_ip(), lab.kamailio_port), scenario, ip, table, more)
    }

    /// The same, through whatever listens here.
    pub fn caller_at(at: (&str, u16), scenario: &str, ip: &str, table: &str, more: &[&str]) -> Self {
        let proxy = format!("{}:{}", at.0, at.1);
        let calls = table.lines().count().to_string();
        let mut arguments = vec![proxy.as_str(), "-inf", "calls.csv", "-m", &calls];
        arguments.extend(more);
        Self::start(scenario, ip, free_port(ip), &arguments, table)
    }

    fn start(scenario: &str, ip: &str, port: u16, more: &[&str], table: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("calls.csv"), format!("SEQUENTIAL\n{table}\n")).unwrap();
        let file = page::root().join(format!("tests/pbx/sipp/{scenario}.xml"));
        let mut command = Command::new("sipp");
        command.current_dir(folder.path()).arg("-sf").arg(file);
        command
            .args([
                "-i",
                ip,
                "-p",
                &port.to_string(),
                "-nostdin",
                "-trace_counts",
                "-trace_err",
                "-fd",
                "1",
                "-trace_rtt",
                "-rtt_freq",
                "1",
            ])
            .args(more);
        Sipp { program: Program::start(&mut command, "sip-tester"), folder, scenario: scenario.to_owned() }
    }

    /// True if it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.program.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end: every call went as the scenario says.
    pub fn done(mut self) -> Counts {
        let status = eventually("the calls to end", || self.program.child.try_wait().unwrap());
        let counts = self.counts();
        assert!(status.success(), "{}: {status}\n{counts:?}\n{}", self.scenario, self.errors());
        counts
    }

    /// Waits until so many calls were answered.
    pub fn until_answered(&self, calls: usize) {
        eventually(&format!("{calls} calls to be answered"), || (self.answer_times_ms().len() >= calls).then_some(()));
    }

    /// The longest time from an INVITE to its 200, milliseconds.
    pub fn longest_ms(&self) -> f64 {
        self.answer_times_ms().into_iter().fold(0.0, f64::max)
    }

    fn answer_times_ms(&self) -> Vec<f64> {
        let text = self.file("_rtt.csv").unwrap_or_default();
        text.lines().skip(1).filter_map(|line| line.split(';').nth(1)?.trim().parse().ok()).collect()
    }

    fn file(&self, ending: &str) -> Option<String> {
        let mut entries = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let file = entries.find(|path| path.to_string_lossy().ends_with(ending))?;
        Some(String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned())
    }

    fn errors(&self) -> String {
        self.file("_errors.log").unwrap_or_default().chars().take(3_000).collect()
    }

    fn counts(&self) -> Counts {
        let text = self.file("_counts.csv").unwrap_or_default();
        let mut lines = text.lines();
        let names = lines.next().unwrap_or_default().split(';').map(str::to_owned);
        let values = lines.next_back().unwrap_or_default().split(';').map(|value| value.parse().unwrap_or(0));
        Counts(names.zip(values).collect())
    }
}

/// How often each message of a scenario was sent or received.
#[derive(Debug)]
pub struct Counts(Vec<(String, u64)>);

impl Counts {
    /// Calls that were answered, and calls that were refused for want of a seat.
    pub fn up_and_refused(&self) -> (u64, u64) {
        (self.of("_200_Recv"), self.of("_403_Recv"))
    }

    /// Received or sent: `_403_Recv`, `_BYE_Sent`; the first of that name.
    pub fn of(&self, what: &str) -> u64 {
        let found = self.0.iter().find(|(name, _)| name.ends_with(what));
        found.unwrap_or_else(|| panic!("no {what} in {self:?}")).1
    }
}
