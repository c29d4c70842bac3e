//! Faults at random under load: nothing acknowledged is lost, nothing comes back, nothing is above the quota.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use rustix::process::Signal;
use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::etcd::Etcd;
use usherd_testkit::http::Answer;
use usherd_testkit::process::own_ip;
use usherd_testkit::relay::{Pace, Relay};
use usherd_testkit::wait::{eventually_or, pause};

use super::history::{Event, Op, Seen, check};
use usherd_testkit::cluster::{Fleet, tenant};

const MEMBERS: usize = 3;
const CLIENTS: usize = 4;
const QUOTA: usize = 3;
const TENANTS: [&str; 4] = ["north", "east", "south", "west"];
/// A node that waits longer takes it for no answer.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Asks on a connection of its own; `None` where nobody answers in time.
fn ask(address: SocketAddr, path: &str, body: &str, patience: Duration) -> Option<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    // One that is killed leaves half of an answer, or none.
    let text = String::from_utf8_lossy(&answer);
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    (length == Some(rest.len())).then(|| Answer::parse(&answer))
}

/// The decision of an answer that is sure.
fn decision(answer: Option<Answer>) -> Option<String> {
    let answer = answer.filter(|answer| answer.status == 200 && answer.is_durable())?;
    Some(answer.decision()).filter(|decision| !decision.contains("no_majority"))
}

/// A phone system with calls in several tenants; it is never asked the same twice, but for what had no answer.
struct Node {
    name: String,
    seq: u64,
    rng: Rng,
    addresses: Vec<SocketAddr>,
    /// Of each tenant its sessions that are held.
    held: Vec<Vec<u32>>,
    events: Vec<Vec<Event>>,
    sessions: u32,
}

impl Node {
    fn new(at: usize, seed: u64, addresses: Vec<SocketAddr>) -> Self {
        Node {
            name: format!("node{at}"),
            seq: 0,
            rng: Rng::with_seed(seed * 100 + at as u64),
            addresses,
            held: vec![Vec::new(); TENANTS.len()],
            events: vec![Vec::new(); TENANTS.len()],
            sessions: 0,
        }
    }

    fn message(&mut self, tenant: usize, session: u32) -> String {
        self.seq += 1;
        let (name, seq) = (&self.name, self.seq);
        format!(
            "\"tenant\":\"{}\",\"session\":\"{name}-{session}\",\"node\":\"{name}\",\"epoch\":1,\"seq\":{seq}",
            TENANTS[tenant]
        )
    }

    fn any(&mut self) -> SocketAddr {
        self.addresses[self.rng.usize(0..self.addresses.len())]
    }

    fn acquire(&mut self, tenant: usize, session: u32) -> Option<String> {
        let message = self.message(tenant, session);
        let name = self.name.clone();
        let body = format!(
            "{{{message},\"subject\":\"{name}-{session}\",\"kind\":\"call\",\"direction\":\"outbound\",\"ttl_s\":7200}}"
        );
        decision(ask(self.any(), "/v1/acquire", &body, PATIENCE))
    }

    /// One thing that a phone system does.
    fn step(&mut self) -> Result<(), String> {
        let tenant = self.rng.usize(0..TENANTS.len());
        let held = self.held[tenant].len();
        match self.rng.u32(0..10) {
            0..5 if held < 2 => {
                self.sessions += 1;
                self.begin(tenant, self.sessions)
            }
            5..7 if held > 0 => {
                let session = self.held[tenant][self.rng.usize(0..held)];
                self.renew(tenant, session)
            }
            _ if held > 0 => {
                let at = self.rng.usize(0..held);
                let session = self.held[tenant].swap_remove(at);
                self.end(tenant, session, None);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, tenant: usize, session: u32) -> Result<(), String> {
        let called = monotonic_ns();
        let decided = self.acquire(tenant, session);
        let seen = match decided.as_deref() {
            Some("allow.new") => Seen::New,
            Some("allow.same") => Seen::Same,
            Some("deny.full tenant") => Seen::Full,
            None => Seen::Unknown,
            Some(other) => return Err(format!("{} {session} of {}: {other}", self.name, TENANTS[tenant])),
        };
        let mut event =
            Event { op: Op::Acquire, session: self.number(session), seen, called, returned: monotonic_ns() };
        match seen {
            Seen::New | Seen::Same => self.held[tenant].push(session),
            Seen::Unknown => {
                // It may be done until the release that is behind it is.
                let at = self.events[tenant].len();
                self.events[tenant].push(event);
                event.returned = self.end(tenant, session, Some(()));
                self.events[tenant][at] = event;
                return Ok(());
            }
            _ => {}
        }
        self.events[tenant].push(event);
        Ok(())
    }

    fn renew(&mut self, tenant: usize, session: u32) -> Result<(), String> {
        let called = monotonic_ns();
        let decided = self.acquire(tenant, session);
        let seen = match decided.as_deref() {
            Some("allow.same") => Seen::Same,
            None => Seen::Unknown,
            Some(other) => {
                return Err(format!("{} {session} of {} is held, and now: {other}", self.name, TENANTS[tenant]));
            }
        };
        let session = self.number(session);
        self.events[tenant].push(Event { op: Op::Renew, session, seen, called, returned: monotonic_ns() });
        Ok(())
    }

    /// Gives a session back until somebody says that it is; gives the instant.
    fn end(&mut self, tenant: usize, session: u32, unsure: Option<()>) -> u64 {
        let called = monotonic_ns();
        let mut tries = 0;
        let decided = eventually_or(
            || {
                tries += 1;
                let body = format!("{{{}}}", self.message(tenant, session));
                decision(ask(self.any(), "/v1/release", &body, PATIENCE))
            },
            || "a release to be recorded".to_owned(),
        );
        let seen = match decided.as_str() {
            "released.last" if tries == 1 => Seen::Last,
            "released.none" if tries == 1 && unsure.is_some() => Seen::Nothing,
            _ => Seen::Unknown,
        };
        let (session, returned) = (self.number(session), monotonic_ns());
        self.events[tenant].push(Event { op: Op::Release, session, seen, called, returned });
        returned
    }

    /// A number that no other node has.
    fn number(&self, session: u32) -> u32 {
        let node: u32 = self.name.trim_start_matches("node").parse().unwrap();
        node * 1_000_000 + session
    }
}

/// Calls that are allowed whatever happens, by whoever runs.
struct Free {
    asked: AtomicU64,
    worst_ns: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Free {
    /// Asks whoever runs, until it is over.
    fn ask_all(&self, addresses: &[SocketAddr], lives: &Lives, over: &AtomicBool, seed: u64) {
        let mut rng = Rng::with_seed(seed);
        for number in 0.. {
            if over.load(Ordering::SeqCst) {
                return;
            }
            let at = rng.usize(0..MEMBERS);
            let life = lives[at].load(Ordering::SeqCst);
            if is_up(life) {
                self.ask(addresses[at], number, || lives[at].load(Ordering::SeqCst) == life);
            }
            pause(Duration::from_millis(5));
        }
    }

    /// `was_up`: the daemon ran all the time.
    fn ask(&self, address: SocketAddr, number: u64, was_up: impl Fn() -> bool) {
        let what = if number.is_multiple_of(2) {
            "\"direction\":\"inbound\"".to_owned()
        } else {
            "\"direction\":\"outbound\",\"to\":\"112\"".to_owned()
        };
        let tenant = TENANTS[number as usize % TENANTS.len()];
        let body = format!(
            "{{\"tenant\":\"{tenant}\",\"subject\":\"free\",\"session\":\"free-{number}\",\"kind\":\"call\",{what},\"ttl_s\":1}}"
        );
        let began = monotonic_ns();
        let answer = ask(address, "/v1/acquire", &body, usherd_testkit::wait::PATIENCE);
        let took = monotonic_ns() - began;
        if !was_up() {
            return;
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.worst_ns.fetch_max(took, Ordering::Relaxed);
        match answer {
            Some(answer) if answer.status == 200 && answer.decision().starts_with("allow.free") => {}
            other => self.wrong.lock().push(format!("{body}: {other:?} after {} ms", took / 1_000_000)),
        }
    }
}

/// Of each daemon how often it ended or stood still, and began or went on, together: it runs while that is even.
type Lives = [AtomicU64; MEMBERS];

fn is_up(life: u64) -> bool {
    life.is_multiple_of(2)
}

/// The wires of a cluster, and which of its daemons may be asked.
struct World {
    fleet: Fleet,
    /// Of each daemon its wires to the members of etcd.
    wires: Vec<Vec<Relay>>,
    /// Of each daemon the wire by which the others reach it.
    doors: Vec<Relay>,
    lives: Arc<Lives>,
}

impl World {
    fn new() -> Self {
        let etcd = Etcd::three();
        let ip = own_ip().to_string();
        let wire = |_| (0..3).map(|at| Relay::to(&ip, etcd.address(at))).collect::<Vec<_>>();
        let wires: Vec<Vec<Relay>> = (0..MEMBERS).map(wire).collect();
        let files: Vec<(String, String)> =
            TENANTS.iter().map(|id| ((*id).to_owned(), tenant(id, QUOTA as u32))).collect();
        let tenants: Vec<(&str, &str)> = files.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
        let endpoints =
            |at: usize| wires[at].iter().map(|wire: &Relay| format!("http://{}", wire.address)).collect::<Vec<_>>();
        let (fleet, doors) = Fleet::behind_doors(etcd, MEMBERS, "[nodes]\n", &tenants, endpoints);
        World { fleet, wires, doors, lives: Arc::default() }
    }

    /// One fault, and its end.
    fn fault(&mut self, rng: &mut Rng) -> &'static str {
        let at = rng.usize(0..MEMBERS);
        let long = Duration::from_millis(rng.u64(300..3_000));
        let short = Duration::from_millis(rng.u64(50..700));
        match rng.u32(0..12) {
            0 | 1 => {
                self.lives[at].fetch_add(1, Ordering::SeqCst);
                self.fleet.kill(at);
                pause(short);
                self.start(at);
                "a daemon was killed"
            }
            2 | 3 => {
                self.lives[at].fetch_add(1, Ordering::SeqCst);
                self.fleet.usherd(at).pause();
                pause(long);
                self.fleet.usherd(at).signal(Signal::CONT);
                self.lives[at].fetch_add(1, Ordering::SeqCst);
                "a daemon stood still"
            }
            4 => {
                self.wires[at].iter().for_each(Relay::cut);
                pause(long);
                self.wires[at].iter().for_each(Relay::mend);
                "a daemon was cut off from etcd"
            }
            5 => {
                self.wires[at].iter().for_each(|wire| wire.answers(Pace::Held));
                pause(long);
                self.wires[at].iter().for_each(Relay::mend);
                "answers of etcd were held"
            }
            6 => {
                self.wires[at].iter().for_each(|wire| wire.questions(Pace::Held));
                pause(long);
                self.wires[at].iter().for_each(Relay::mend);
                "questions to etcd were held"
            }
            7 => {
                self.wires[at].iter().for_each(|wire| wire.answers(Pace::After(short / 4)));
                pause(long);
                self.wires[at].iter().for_each(Relay::mend);
                "etcd was slow"
            }
            8 => {
                let leader = self.fleet.etcd.leader();
                self.fleet.etcd.kill(leader);
                pause(short);
                self.fleet.etcd.restart(leader);
                "the leader of etcd was killed"
            }
            9 => {
                self.fleet.etcd.kill(0);
                self.fleet.etcd.kill(1);
                pause(long);
                self.fleet.etcd.restart_all(&[0, 1]);
                "etcd lost its majority"
            }
            10 => {
                self.doors[at].cut();
                pause(long);
                self.doors[at].mend();
                "a daemon was cut off from the others"
            }
            _ => {
                self.lives[at].fetch_add(1, Ordering::SeqCst);
                self.fleet.terminate(at);
                self.start(at);
                "a daemon was restarted in order"
            }
        }
    }

    fn start(&mut self, at: usize) {
        self.fleet.start(at);
        self.lives[at].fetch_add(1, Ordering::SeqCst);
    }
}

/// Calls and faults side by side, until so many faults are over or something is wrong; tells what was done, or what is wrong.
fn campaign(faults: u64, seed: u64) -> Result<String, String> {
    let mut world = World::new();
    world.fleet.start_all();
    let addresses: Vec<SocketAddr> = world.fleet.members.iter().map(|member| member.address).collect();
    let (over, wrong) = (AtomicBool::new(false), Mutex::new(Vec::<String>::new()));
    let free = Free { asked: AtomicU64::new(0), worst_ns: AtomicU64::new(0), wrong: Mutex::default() };
    let mut told = BTreeMap::<&str, u32>::new();
    let nodes: Vec<Node> = std::thread::scope(|scope| {
        let (over, wrong, free) = (&over, &wrong, &free);
        let node = |at| {
            let mut node = Node::new(at, seed, addresses.clone());
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) && wrong.lock().is_empty() {
                    if let Err(why) = node.step() {
                        wrong.lock().push(why);
                    }
                    pause(Duration::from_millis(node.rng.u64(0..10)));
                }
                node
            })
        };
        let nodes: Vec<_> = (0..CLIENTS).map(node).collect();
        let (lives, asked) = (Arc::clone(&world.lives), addresses.clone());
        scope.spawn(move || free.ask_all(&asked, &lives, over, seed));
        let mut rng = Rng::with_seed(seed);
        for _ in 0..faults {
            if !wrong.lock().is_empty() {
                break;
            }
            *told.entry(world.fault(&mut rng)).or_default() += 1;
            pause(Duration::from_millis(rng.u64(0..800)));
        }
        world.fleet.until_served();
        over.store(true, Ordering::SeqCst);
        nodes.into_iter().map(|node| node.join().unwrap()).collect()
    });
    let wrong: Vec<String> = wrong.into_inner().into_iter().chain(free.wrong.into_inner()).collect();
    if !wrong.is_empty() {
        return Err(format!("seed {seed}: {wrong:#?}"));
    }
    let events: usize = nodes.iter().flat_map(|node| &node.events).map(Vec::len).sum();
    for (at, tenant) in TENANTS.iter().enumerate() {
        let clients: Vec<Vec<Event>> = nodes.iter().map(|node| node.events[at].clone()).collect();
        let held = nodes.iter().flat_map(|node| node.held[at].iter().map(|session| node.number(*session))).collect();
        check(&clients, QUOTA, &held).map_err(|why| format!("seed {seed}, tenant {tenant}: {why}"))?;
        let listed = world.fleet.client(0).list(&format!("/v1/tenants/{tenant}/sessions"), "sessions");
        let listed = listed.iter().map(|session| session["session"].as_str().unwrap().to_owned());
        let listed: BTreeSet<String> = listed.filter(|session| !session.starts_with("free")).collect();
        let names = |node: &Node| node.held[at].iter().map(|session| format!("{}-{session}", node.name)).collect();
        let known: BTreeSet<String> = nodes.iter().flat_map(|node| -> Vec<String> { names(node) }).collect();
        if listed != known {
            return Err(format!("seed {seed}: {tenant} has {listed:?}, and the nodes hold {known:?}"));
        }
    }
    let (asked, worst_ms) = (free.asked.into_inner(), free.worst_ns.into_inner() / 1_000_000);
    Ok(format!("seed {seed}: {told:?}; {events} operations; {asked} free calls, the slowest in {worst_ms} ms"))
}

/// A run by hand: `USHERD_FAULTS=1000 USHERD_SEED=7`.
#[cfg(not(feature = "canary-fence"))]
#[test]
fn nothing_is_lost_or_doubled_whatever_fails() {
    let chosen = |name, usual| std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual);
    println!("{}", campaign(chosen("USHERD_FAULTS", 60), chosen("USHERD_SEED", 1)).unwrap());
}

/// `cargo nextest run --test cluster --features canary-fence is_caught`.
#[cfg(feature = "canary-fence")]
#[test]
fn an_owner_without_a_fence_is_caught() {
    println!("{}", campaign(300, 1).unwrap_err());
}
