//! One kind of attack after the other, and all at once, while a node asks 500 times a second: how much longer its
//! grants take than beside a neighbour who takes as much of the processors and asks for nothing, and what the daemon
//! holds. `USHERD_HOSTILE=10000` makes it that many connections, for minutes, and prints the figures of `LEDGER.md`;
//! without it there are some hundreds, for seconds. `USHERD_HOSTILE_KIND=unread` takes only the kinds of that name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::http::Client;
use usherd_testkit::process::{Site, Usherd, resident_bytes};
use usherd_testkit::wait::pause;

use super::hostile::raise_descriptor_limit;

const RESIDENT_BYTES_MAX: u64 = 256 << 20;
/// No grant may take longer, on two cores that build something else besides.
const GRANT_DEADLINE_MS: u64 = 2_000;
/// Between two grants.
const GRANT_EVERY: Duration = Duration::from_millis(2);
/// How often a neighbour works and rests.
const BURN_EVERY: Duration = Duration::from_millis(10);
/// The threads of the daemon that decide, as its configuration says.
const WORKERS: u32 = 2;
/// How often all attacks at once are measured by hand.
const ROUNDS_BY_HAND: usize = 3;

const CONFIG: &str = "[server]\n[[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"h2c\"\n\
    [[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"resp\"\n";

/// The listeners of the configuration, in its order.
const HTTP: usize = 0;
const H2C: usize = 1;
const RESP: usize = 2;

/// The behaviour of an attacker once it has sent what it has to say.
#[derive(Clone, Copy)]
enum Then {
    /// Reads until it is closed.
    Wait,
    /// Reads nothing, and would send more.
    Unread,
    /// Says it again and again, and reads.
    Repeat,
    /// A byte now and then.
    Drip,
    /// Is gone.
    Leave,
}

struct Attack {
    name: &'static str,
    listener: usize,
    bytes: Vec<u8>,
    then: Then,
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: u\r\n\r\n").into_bytes()
}

fn post(path: &str, length: usize, body: &[u8]) -> Vec<u8> {
    [format!("POST {path} HTTP/1.1\r\nHost: u\r\nContent-Length: {length}\r\n\r\n").as_bytes(), body].concat()
}

/// A connection of HTTP/2 with windows without an end, and streams that ask for a path; `reset`: each at once.
fn h2(path: &str, streams: u32, reset: bool) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\x40\0\0\0".to_vec();
    bytes.extend_from_slice(b"\0\0\x04\x08\0\0\0\0\0\x3f\xff\0\0");
    for stream in (1..streams * 2).step_by(2) {
        bytes.extend_from_slice(&[0, 0, 4 + path.len() as u8, 1, 5]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(&[0x82, 0x86, 0x04, path.len() as u8]);
        bytes.extend_from_slice(path.as_bytes());
        if reset {
            bytes.extend_from_slice(b"\0\0\x04\x03\0");
            bytes.extend_from_slice(&stream.to_be_bytes());
            bytes.extend_from_slice(b"\0\0\0\x08");
        }
    }
    bytes
}

fn attacks() -> Vec<Arc<Attack>> {
    let attack = |name, listener, bytes, then| Arc::new(Attack { name, listener, bytes, then });
    let seat = "tenant=acme&subject=x&session=x&kind=call&direction=outbound";
    vec![
        attack("nothing", HTTP, Vec::new(), Then::Wait),
        attack("comes and goes", HTTP, Vec::new(), Then::Leave),
        attack("half a head", HTTP, b"POST /v1/acquire HTTP/1.1\r\nHost: u\r\nConte".to_vec(), Then::Wait),
        attack("a head of 15 KiB without an end", HTTP, [&get("/")[..16], &[b'x'; 15_000]].concat(), Then::Wait),
        attack("a dripping head", HTTP, b"GET /livez HTTP/1.1\r\nX: ".to_vec(), Then::Drip),
        attack("half a small body", HTTP, post("/v1/acquire", 100, b"tenant=acme"), Then::Wait),
        attack("a body of 250 KB without an end", HTTP, post("/v1/acquire", 262_144, &[b'x'; 250_000]), Then::Wait),
        attack(
            "an inventory of 4 MB without an end",
            HTTP,
            post("/v1/nodes/x/inventory", 8_000_000, &vec![b' '; 4 << 20]),
            Then::Wait,
        ),
        attack("a dripping body", HTTP, post("/v1/acquire", 9_999, b""), Then::Drip),
        attack(
            "a wrong chunk",
            HTTP,
            b"POST /v1/acquire HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
            Then::Wait,
        ),
        attack("100 pipelined answers unread", HTTP, get("/openapi.json").repeat(100), Then::Unread),
        attack("pipelined /livez", HTTP, get("/livez").repeat(64), Then::Repeat),
        attack("pipelined acquires", HTTP, post("/v1/acquire", seat.len(), seat.as_bytes()).repeat(32), Then::Repeat),
        attack("/metrics unread", HTTP, get("/metrics").repeat(20), Then::Unread),
        attack("a preface", H2C, h2("/", 0, false), Then::Wait),
        attack("HTTP/2 rapid reset", H2C, h2("/openapi.json", 2_000, true), Then::Repeat),
        attack("100 streams of HTTP/2 unread", H2C, h2("/openapi.json", 100, false), Then::Unread),
        attack("pipelined commands unread", RESP, b"PING\r\n".repeat(20_000), Then::Unread),
    ]
}

async fn connect(address: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // 127.0.0.1 is the node's.
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1 + (number % 40) as u8)), 0))?;
    socket.connect(address).await
}

/// One connection of an attack, to the end that the daemon makes, or none.
async fn misbehave(attack: &Attack, address: SocketAddr, number: usize) -> std::io::Result<()> {
    let mut stream = connect(address, number).await?;
    let (mut reading, mut writing) = stream.split();
    let read = async {
        let mut some = [0; 4_096];
        while reading.read(&mut some).await? > 0 {}
        Ok(())
    };
    let write = async {
        writing.write_all(&attack.bytes).await?;
        match attack.then {
            Then::Leave => return Ok(()),
            Then::Wait => {}
            Then::Unread | Then::Repeat => loop {
                writing.write_all(&attack.bytes).await?;
            },
            Then::Drip => loop {
                sleep(Duration::from_millis(100)).await;
                writing.write_all(b"x").await?;
            },
        }
        std::future::pending().await
    };
    match attack.then {
        Then::Unread => write.await,
        _ => tokio::select! { ended = read => ended, ended = write => ended },
    }
}

/// Keeps so many connections of these attacks open until it is over, in a thread of the lowest priority; the processor
/// time that it took, seconds.
fn keep_up(
    attacks: &[Arc<Attack>],
    addresses: &[SocketAddr],
    connections: usize,
    over: &AtomicBool,
    ended: &AtomicU64,
) -> f64 {
    let _ = rustix::process::nice(19);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut crowd = JoinSet::new();
        for number in 0..connections {
            let attack = Arc::clone(&attacks[number % attacks.len()]);
            let address = addresses[attack.listener];
            crowd.spawn_local(async move {
                loop {
                    let _ = misbehave(&attack, address, number).await;
                    ENDED.with(|ended| ended.set(ended.get() + 1));
                    // Who is refused at once comes again soon, and not as often as the loop can.
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
        while !over.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(5)).await;
        }
        crowd.shutdown().await;
    });
    ended.fetch_add(ENDED.take(), Ordering::Relaxed);
    used_s("/proc/thread-self/stat")
}

thread_local! {
    static ENDED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Asks for a seat again and again for so long; how long each grant took, nanoseconds, in order.
fn grants(client: &mut Client, seq: &mut u64, lasting: Duration) -> Vec<u64> {
    let until = monotonic_ns() + lasting.as_nanos() as u64;
    let mut took = Vec::new();
    while monotonic_ns() < until {
        *seq += 2;
        let call =
            format!("tenant=acme&subject=anna&session=s{seq}&kind=call&direction=outbound&node=pbx&epoch=1&seq={seq}");
        let began = monotonic_ns();
        let answer = client.ask("POST", "/v1/acquire", &call).unwrap();
        took.push(monotonic_ns() - began);
        assert!(answer.body.contains("allow.new"), "{answer:?}");
        let end = format!("tenant=acme&session=s{seq}&node=pbx&epoch=1&seq={}", *seq + 1);
        let answer = client.ask("POST", "/v1/release", &end).unwrap();
        assert!(answer.body.contains("released.last"), "{answer:?}");
        pause(GRANT_EVERY);
    }
    took.sort_unstable();
    took
}

fn at(took: &[u64], share: f64) -> f64 {
    took[((took.len() - 1) as f64 * share) as usize] as f64 / 1e6
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The processor time of a process, or of one thread of ours, so far, seconds; the kernel counts in hundredths.
fn used_s(stat: &str) -> f64 {
    let stat = std::fs::read_to_string(stat).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split(' ').collect();
    (fields[12].parse::<f64>().unwrap() + fields[13].parse::<f64>().unwrap()) / 100.0
}

/// Keeps a processor busy for this share of the time, at this niceness, until it is over: a neighbour who has work of
/// his own.
fn burn(share: f64, nice: i32, over: &AtomicBool) {
    let _ = rustix::process::nice(nice);
    while !over.load(Ordering::Relaxed) {
        let began = monotonic_ns();
        let busy_ns = (BURN_EVERY.as_nanos() as f64 * share.min(1.0)) as u64;
        while monotonic_ns() - began < busy_ns {
            std::hint::spin_loop();
        }
        let left = (BURN_EVERY.as_nanos() as u64).saturating_sub(monotonic_ns() - began);
        if left > 0 {
            pause(Duration::from_nanos(left));
        }
    }
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap().split(' ').next().unwrap().to_owned()
}

/// The node and the daemon that are measured.
struct Measured<'a> {
    usherd: &'a Usherd,
    client: Client,
    seq: u64,
    lasting: Duration,
    resident_most: u64,
    longest_ms: f64,
}

/// How long grants took in a quiet time, under attacks, and beside a neighbour; nanoseconds, in order.
struct Round {
    quiet: Vec<u64>,
    attacked: Vec<u64>,
    beside: Vec<u64>,
    /// The processor time of daemon and attackers for the attacks.
    cores: f64,
    ended: u64,
    resident_most: u64,
    load: String,
}

impl Measured<'_> {
    fn grants(&mut self, lasting: Duration) -> Vec<u64> {
        grants(&mut self.client, &mut self.seq, lasting)
    }

    /// A quiet time, one under these attacks, and one beside who takes as much of the processors as they did.
    fn round(&mut self, attacks: &[Arc<Attack>], connections: usize) -> Round {
        let stat = format!("/proc/{}/stat", self.usherd.child.id());
        let seconds = self.lasting.as_secs_f64();
        let began_s = used_s(&stat);
        let quiet = self.grants(self.lasting / 2);
        let quiet_s = (used_s(&stat) - began_s) * 2.0;
        let (over, ended, most) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let (pid, addresses) = (self.usherd.child.id(), self.usherd.addresses.clone());
        let began_s = used_s(&stat);
        let (attacked, load, daemon_s, attackers_s) = std::thread::scope(|scope| {
            let attackers = scope.spawn(|| keep_up(attacks, &addresses, connections, &over, &ended));
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    most.fetch_max(resident_bytes(pid), Ordering::Relaxed);
                    pause(Duration::from_millis(20));
                }
            });
            let took = self.grants(self.lasting);
            let daemon_s = used_s(&stat) - began_s;
            let load = load();
            over.store(true, Ordering::Relaxed);
            (took, load, daemon_s, attackers.join().unwrap())
        });
        let (daemon, attackers) = ((daemon_s - quiet_s).max(0.0) / seconds, attackers_s / seconds);
        let over = AtomicBool::new(false);
        let beside = std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| burn(daemon / f64::from(WORKERS), 0, &over));
            }
            scope.spawn(|| burn(attackers, 19, &over));
            let took = self.grants(self.lasting);
            over.store(true, Ordering::Relaxed);
            took
        });
        let (ended, resident_most) = (ended.into_inner(), most.into_inner());
        self.resident_most = self.resident_most.max(resident_most);
        self.longest_ms = self.longest_ms.max(at(&attacked, 1.0));
        Round { quiet, attacked, beside, cores: daemon + attackers, ended, resident_most, load }
    }

    /// Some rounds; prints a row of their medians.
    fn measure(&mut self, name: &str, attacks: &[Arc<Attack>], connections: usize, rounds: usize) {
        let rounds: Vec<Round> = (0..rounds).map(|_| self.round(attacks, connections)).collect();
        let told = |share: f64| {
            let of =
                |took: fn(&Round) -> &Vec<u64>| median(rounds.iter().map(|round| at(took(round), share)).collect());
            [of(|round| &round.quiet), of(|round| &round.beside), of(|round| &round.attacked)]
        };
        let (half, most) = (told(0.5), told(0.99));
        println!(
            "| {name} | {connections} ({} ended) | {:.2} / {:.2} / {:.2} | {:.2} / {:.2} / {:.2} | {:.1} | {:.2} | {} | {} |",
            rounds.iter().map(|round| round.ended).sum::<u64>(),
            half[0],
            half[1],
            half[2],
            most[0],
            most[1],
            most[2],
            median(rounds.iter().map(|round| at(&round.attacked, 0.99) / at(&round.beside, 0.99)).collect()),
            median(rounds.iter().map(|round| round.cores).collect()),
            rounds.iter().map(|round| round.resident_most).max().unwrap_or_default() >> 20,
            rounds.iter().map(|round| &*round.load).collect::<Vec<_>>().join(", "),
        );
    }
}

#[test]
fn grants_go_on_under_every_kind_of_attack() {
    raise_descriptor_limit();
    let by_hand = std::env::var("USHERD_HOSTILE").ok().map(|count| count.parse::<usize>().unwrap());
    let only = std::env::var("USHERD_HOSTILE_KIND").unwrap_or_default();
    let (connections, lasting, rounds) = match by_hand {
        Some(count) => (count, Duration::from_secs(10), ROUNDS_BY_HAND),
        None => (360, Duration::from_millis(500), 1),
    };
    let site = Site::new(CONFIG, &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 100\n")]);
    let usherd = site.start();
    let mut client = usherd.client();
    assert_eq!(client.ask("POST", "/v1/nodes/pbx/hello", "{\"epoch\":1}").unwrap().status, 200);
    let before = resident_bytes(usherd.child.id());
    println!(
        "| attack | connections | p50 quiet / beside a neighbour / attacked, ms | p99 the same | attacked / neighbour | \
         cores taken | RSS at most, MiB | load |"
    );
    let mut measured = Measured { usherd: &usherd, client, seq: 0, lasting, resident_most: 0, longest_ms: 0.0 };
    let all = attacks();
    for attack in all.iter().filter(|attack| attack.name.contains(&only)) {
        measured.measure(attack.name, std::slice::from_ref(attack), connections / all.len(), 1);
    }
    if "all".contains(&only) {
        measured.measure("all", &all, connections, rounds);
    }
    if by_hand.is_some() {
        pause(Duration::from_secs(60));
    }
    let after = measured.grants(lasting);
    let resident = resident_bytes(usherd.child.id());
    println!("afterwards: p99 {:.2} ms, RSS {} MiB of {} before", at(&after, 0.99), resident >> 20, before >> 20);
    assert!(measured.longest_ms < GRANT_DEADLINE_MS as f64, "{} ms", measured.longest_ms);
    assert!(measured.resident_most <= RESIDENT_BYTES_MAX, "{} bytes", measured.resident_most);
    assert_eq!(usherd.client().get("/v1/tenants/acme").json()["held"], 0, "no seat leaked");
    assert_eq!(usherd.terminate(), Some(0));
}
