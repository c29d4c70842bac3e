//! One kind of attack after the other, and all at once, while a node asks 500 times a second: how much longer its
//! grants take, and what the daemon holds. `USHERD_HOSTILE=10000` makes it that many connections, for minutes, and
//! prints the figures of `LEDGER.md`; without it there are some hundreds, for seconds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use usherd::daemon::clock::monotonic_ns;

use super::client::Client;
use super::hostile::raise_descriptor_limit;
use super::process::{Site, Usherd, pause, resident_bytes};

const RESIDENT_BYTES_MAX: u64 = 256 << 20;
/// No grant may take longer, on two cores that build something else besides.
const GRANT_DEADLINE_MS: u64 = 2_000;
/// Between two grants.
const GRANT_EVERY: Duration = Duration::from_millis(2);

const CONFIG: &str = "[server]\n[[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"h2c\"\n\
    [[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"resp\"\n";

/// The listeners of the configuration, in its order.
const HTTP: usize = 0;
const H2C: usize = 1;
const RESP: usize = 2;

/// What an attacker does once it has sent what it has to say.
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

/// Keeps so many connections of these attacks open until it is over, in a thread of the lowest priority.
fn keep_up(
    attacks: &[Arc<Attack>],
    addresses: &[SocketAddr],
    connections: usize,
    over: &AtomicBool,
    ended: &AtomicU64,
) {
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

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap().split(' ').next().unwrap().to_owned()
}

/// The node and the daemon that are measured.
struct Measured<'a> {
    usherd: &'a Usherd,
    client: Client,
    seq: u64,
    lasting: Duration,
}

impl Measured<'_> {
    /// A quiet time, then one under these attacks; prints a row, and gives the longest grant in milliseconds.
    fn measure(&mut self, name: &str, attacks: &[Arc<Attack>], connections: usize) -> f64 {
        let quiet = grants(&mut self.client, &mut self.seq, self.lasting / 2);
        let (over, ended, most) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let (pid, addresses) = (self.usherd.child.id(), self.usherd.addresses.clone());
        let (attacked, load) = std::thread::scope(|scope| {
            scope.spawn(|| keep_up(attacks, &addresses, connections, &over, &ended));
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    most.fetch_max(resident_bytes(pid), Ordering::Relaxed);
                    pause(Duration::from_millis(20));
                }
            });
            let took = grants(&mut self.client, &mut self.seq, self.lasting);
            let load = load();
            over.store(true, Ordering::Relaxed);
            (took, load)
        });
        let most = most.into_inner();
        println!(
            "| {name} | {connections} ({} ended) | {:.2} / {:.2} | {:.2} / {:.2} | {} | {load} |",
            ended.into_inner(),
            at(&quiet, 0.5),
            at(&attacked, 0.5),
            at(&quiet, 0.99),
            at(&attacked, 0.99),
            most >> 20,
        );
        assert!(most <= RESIDENT_BYTES_MAX, "{name}: {most} bytes");
        at(&attacked, 1.0)
    }
}

#[test]
fn grants_go_on_under_every_kind_of_attack() {
    raise_descriptor_limit();
    let by_hand = std::env::var("USHERD_HOSTILE").ok().map(|count| count.parse::<usize>().unwrap());
    let (connections, lasting) = match by_hand {
        Some(count) => (count, Duration::from_secs(10)),
        None => (360, Duration::from_millis(500)),
    };
    let site = Site::new(CONFIG, &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 100\n")]);
    let usherd = site.start();
    let mut client = usherd.client();
    assert_eq!(client.ask("POST", "/v1/nodes/pbx/hello", "{\"epoch\":1}").unwrap().status, 200);
    let before = resident_bytes(usherd.child.id());
    println!(
        "| attack | connections | p50 quiet / attacked, ms | p99 quiet / attacked, ms | RSS at most, MiB | load |"
    );
    let mut measured = Measured { usherd: &usherd, client, seq: 0, lasting };
    let attacks = attacks();
    let mut longest = 0.0_f64;
    for attack in &attacks {
        longest = longest.max(measured.measure(attack.name, std::slice::from_ref(attack), connections / attacks.len()));
    }
    longest = longest.max(measured.measure("all", &attacks, connections));
    if by_hand.is_some() {
        pause(Duration::from_secs(60));
    }
    let after = grants(&mut measured.client, &mut measured.seq, lasting);
    let resident = resident_bytes(usherd.child.id());
    println!("afterwards: p99 {:.2} ms, RSS {} MiB of {} before", at(&after, 0.99), resident >> 20, before >> 20);
    assert!(longest < GRANT_DEADLINE_MS as f64, "{longest} ms");
    assert_eq!(usherd.client().get("/v1/tenants/acme").json()["held"], 0, "no seat leaked");
    assert_eq!(usherd.terminate(), Some(0));
}
