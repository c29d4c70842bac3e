//! A file system that hangs, as a quiesced back-up makes it: no answer waits for it, on any protocol (I8).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::http::Client;
use usherd_testkit::process::{Killed, Site, Usherd};
use usherd_testkit::volume::Volume;
use usherd_testkit::wait::eventually;

const ACME: &str = "id = \"acme\"\nkind = \"nfr\"\nseats = 100000\n";
const LISTENERS: &str =
    "[[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"resp\"\n[agi]\nlisten = \"127.0.0.1:0\"\n";
/// How long it hangs at least.
const FROZEN: Duration = Duration::from_secs(3);
/// The time that half of the answers must stay below; the rest is left to a machine that builds something else besides.
const USUAL_NS: u64 = 50_000_000;

/// One connection of each protocol, and how long each answer took, nanoseconds.
struct Callers {
    http: Client,
    resp: TcpStream,
    agi: SocketAddr,
    took: Vec<u64>,
    granted: usize,
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

impl Callers {
    fn new(usherd: &Usherd) -> Self {
        let [http, resp, agi] = usherd.addresses[..] else { panic!("{:?}", usherd.addresses) };
        Callers { http: Client::connect(http).unwrap(), resp: connect(resp), agi, took: Vec::new(), granted: 0 }
    }

    fn timed<T>(&mut self, ask: impl FnOnce(&mut Self) -> T) -> T {
        let began = monotonic_ns();
        let answer = ask(self);
        self.took.push(monotonic_ns() - began);
        answer
    }

    fn post(&mut self, path: &str, form: &str, right: &str) {
        let answer = self.timed(|callers| callers.http.post(path, form));
        assert!(answer.status == 200 && answer.body.starts_with(right), "{path} {form}: {answer:?}");
    }

    fn command(&mut self, line: &str, right: &str) {
        let answer = self.timed(|callers| {
            callers.resp.write_all(format!("{line}\r\n").as_bytes()).unwrap();
            let mut bytes = [0; 512];
            let read = callers.resp.read(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..read]).into_owned()
        });
        assert!(answer.contains(right), "{line}: {answer:?}");
    }

    fn script(&mut self, query: &str, right: &str) {
        let answer = self.timed(|callers| {
            let mut stream = connect(callers.agi);
            let head = format!("agi_network: yes\nagi_network_script: {query}\n\n");
            stream.write_all(head.as_bytes()).unwrap();
            let mut all = String::new();
            let mut bytes = [0; 512];
            // Each command of the script's answer is acknowledged, as Asterisk does.
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                all.push_str(&String::from_utf8_lossy(&bytes[..read]));
                let lines = bytes[..read].iter().filter(|byte| **byte == b'\n').count();
                if stream.write_all("200 result=1\n".repeat(lines).as_bytes()).is_err() {
                    break;
                }
            }
            all
        });
        assert!(answer.contains(right), "{query}: {answer:?}");
    }

    /// Each kind of message, each protocol; every new seat is one more that must be remembered.
    fn round(&mut self) {
        let at = self.granted;
        let outbound = "kind=call&direction=outbound&ttl_s=3600";
        self.post("/v1/acquire", &format!("tenant=acme&subject=h{at}&session=h{at}&{outbound}"), "allow.new");
        self.post("/v1/acquire", &format!("tenant=acme&subject=h{at}&session=h{at}&{outbound}"), "allow.same");
        self.post("/v1/acquire", "tenant=acme&session=in&kind=call&direction=inbound", "allow.free inbound");
        let emergency = "tenant=acme&subject=x&session=em&kind=call&direction=outbound&to=112";
        self.post("/v1/acquire", emergency, "allow.free emergency");
        self.post("/v1/acquire", &format!("tenant=acme&subject=r{at}&session=r{at}&{outbound}"), "allow.new");
        self.post("/v1/release", &format!("tenant=acme&session=r{at}"), "released.last");
        let (began, alive) = (monotonic_ns(), self.http.get("/livez"));
        assert!(alive.status == 200 && monotonic_ns() - began < 20_000_000_000, "{alive:?}");
        self.command(&format!("CU.ACQUIRE acme c{at} c{at} call direction outbound ttl_s 3600"), "allow.new");
        self.command("CU.ACQUIRE acme x ci call direction inbound", "allow.free");
        self.command("CU.ACQUIRE acme x ce call direction outbound to 112", "allow.free");
        let scripted =
            format!("acquire?tenant=acme&subject=s{at}&session=s{at}&kind=call&direction=outbound&ttl_s=3600");
        self.script(&scripted, "allow.new");
        self.script("acquire?tenant=acme&session=si&kind=call&direction=inbound", "allow.free");
        self.granted += 1;
    }

    fn held(&mut self) -> u64 {
        self.http.held("acme")
    }
}

fn degraded(client: &mut Client) -> serde_json::Value {
    client.get("/readyz?verbose").json()["degraded"].clone()
}

/// Hangs the disk under a daemon; nobody waits for it, it is told, and what was decided meanwhile is kept.
fn hang(journal: &str) {
    let site = Site::new(&format!("[journal]\n{journal}\n{LISTENERS}"), &[("acme", ACME)]);
    let volume = Volume::new(site.path("state"));
    let mut usherd = site.start();
    usherd.until_says("snapshot taken");
    let mut callers = Callers::new(&usherd);
    for _ in 0..5 {
        callers.round();
    }
    callers.took.clear();
    let frozen = volume.freeze();
    let until = monotonic_ns() + FROZEN.as_nanos() as u64;
    while monotonic_ns() < until {
        callers.round();
    }
    let mut admin = usherd.client();
    eventually("it to be told", || (degraded(&mut admin) == "the disk is slow").then_some(()));
    assert_eq!(admin.is_durable("acme"), journal.contains("ring_dir = \"/"), "an answer that may be forgotten says so");
    // A reload stores what it has read, and waits for that; whatever else is due goes on.
    site.tenant("beta", "kind = \"nfr\"\nseats = 1\n");
    usherd.signal(rustix::process::Signal::HUP);
    eventually("the reload to be in force", || (admin.get("/v1/tenants/beta").status == 200).then_some(()));
    callers.round();
    usherd.until_says("the disk is slow");
    callers.round();
    drop(frozen);
    // It had not ended before the disk went on.
    usherd.until_says("configuration Applied");
    eventually("it to go on", || degraded(&mut admin).is_null().then_some(()));
    admin.until_durable("acme");
    callers.took.sort_unstable();
    let (usual, longest) = (callers.took[callers.took.len() / 2], callers.took[callers.took.len() - 1]);
    println!("{journal:?}: {} answers, half below {usual} ns, the longest {longest} ns", callers.took.len());
    assert!(usual < USUAL_NS, "half of the answers took {usual} ns and more");
    let held = callers.held();
    assert_eq!(held, 3 * callers.granted as u64);
    usherd.kill();
    let usherd = site.start();
    assert_eq!(Callers::new(&usherd).held(), held, "what was decided while the disk hung is there");
    assert_eq!(usherd.terminate(), Some(0));
}

#[test]
fn a_frozen_disk_holds_up_nobody_with_written_durability() {
    hang("durability = \"written\"\nring_dir = \"\"");
}

#[test]
fn a_frozen_disk_holds_up_nobody_with_a_ring() {
    let memory = tempfile::tempdir_in("/dev/shm").expect("a tmpfs is needed, as /dev/shm is");
    hang(&format!("durability = \"written\"\nring_dir = \"{}\"", memory.path().display()));
}

#[test]
fn a_frozen_disk_holds_up_nobody_with_synced_durability() {
    hang("durability = \"synced\"");
}

/// No thread that writes to a frozen disk can be ended, and so no process; but all else ends, and it is said.
#[test]
fn a_frozen_disk_does_not_keep_it_from_ending() {
    let site = Site::new(&format!("[journal]\ndurability = \"synced\"\n{LISTENERS}"), &[("acme", ACME)]);
    let volume = Volume::new(site.path("state"));
    let mut usherd = site.start();
    usherd.until_says("snapshot taken");
    let mut callers = Callers::new(&usherd);
    callers.round();
    callers.http.until_durable("acme");
    let held = callers.held();
    let frozen = volume.freeze();
    callers.round();
    // A reload that hangs, too.
    site.tenant("beta", "kind = \"nfr\"\nseats = 1\n");
    usherd.signal(rustix::process::Signal::HUP);
    eventually("the reload", || (callers.http.get("/v1/tenants/beta").status == 200).then_some(()));
    drop(callers);
    usherd.signal(rustix::process::Signal::TERM);
    usherd.until_says("the daemon ends without its disk");
    drop(frozen);
    assert_eq!(usherd.ended().code(), Some(1));
    let usherd = site.start();
    assert!(Callers::new(&usherd).held() >= held, "what was durable is there");
    assert_eq!(usherd.terminate(), Some(0));
}

/// The wait of each thread of a process, by its name.
fn threads(pid: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: &Path, file: &str| std::fs::read_to_string(task.join(file)).unwrap_or_default();
    let tasks = tasks.map(|task| task.unwrap().path());
    tasks.map(|task| format!("{} {}; ", of(&task, "comm").trim_end(), of(&task, "wchan"))).collect()
}

/// A log that nobody reads is the same: a pipe takes 64 KiB, and then the writer hangs.
#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let site = Site::new(LISTENERS, &[("acme", ACME)]);
    let main = site.path("usherd.toml");
    let text = std::fs::read_to_string(&main).unwrap();
    let chatty = text.replace("filter = \"info", "filter = \"trace");
    assert_ne!(chatty, text);
    std::fs::write(&main, chatty).unwrap();
    let mut command = site.command();
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
    let mut child = Killed(command.spawn().unwrap());
    drop(command);
    let mut lines = std::io::BufReader::new(reader);
    let ready = eventually("it to be ready", || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
        line.contains("\"message\":\"ready\"").then_some(line)
    });
    // From here on nobody reads.
    let http: SocketAddr = ready.split(['"', '\\']).find_map(|word| word.parse().ok()).unwrap();
    let mut client = Client::connect(http).unwrap();
    let mut ask = |at: usize| {
        let form = format!("tenant=acme&subject=a{at}&session=a{at}&kind=call&direction=outbound&ttl_s=3600");
        assert_eq!(client.post("/v1/acquire", &form).status, 200);
        let filter = if at.is_multiple_of(2) { "trace,usherd=trace" } else { "trace" };
        assert_eq!(
            client.ask("PUT", "/v1/admin/log-level", &format!("{{\"filter\":\"{filter}\"}}")).unwrap().status,
            200
        );
    };
    let unread = || rustix::io::ioctl_fionread(lines.get_ref()).unwrap();
    let (mut at, mut before) = (0, 0);
    eventually("the pipe to be full", || {
        (at..at + 100).for_each(&mut ask);
        at += 100;
        let now = unread();
        println!("{now} bytes after {at}: {}", threads(child.id()));
        let is_full = now > 32 * 1024 && now == before;
        before = now;
        is_full.then_some(())
    });
    // More than waits beside the pipe is said by now: what is in it stays as it is.
    (at..at + 3_000).for_each(&mut ask);
    assert_eq!(unread(), before, "somebody reads, or nothing is said");
    child.kill().unwrap();
    child.wait().unwrap();
}
