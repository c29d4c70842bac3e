//! Two thousand hostile clients of every kind against the whole daemon, while a node goes on (I8, I26, I27).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::http::Client;
use usherd_testkit::process::{Site, Usherd, resident_bytes};
use usherd_testkit::wait::{PATIENCE, eventually, pause};

const CROWD: usize = 2_000;
/// No answer of the node may take longer, on two cores that build something else besides.
const NODE_DEADLINE_MS: u64 = 2_000;
const RESIDENT_BYTES_MAX: u64 = 256 << 20;

const CONFIG: &str = "[server]\nfirst_byte_deadline_ms = 500\nhead_deadline_ms = 500\nbody_deadline_ms = 500\n\
    write_deadline_ms = 1000\nconnections_max = 4000\nconnections_reserved_for_nodes = 500\n\
    connections_per_address_max = 3000\n[[listener]]\nlisten = \"127.0.0.2:0\"\nprotocol = \"h2c\"\n";

/// The bytes that each kind sends before it waits for its end.
const KINDS: &[(&str, &[u8])] = &[
    ("nothing", b""),
    ("one byte", b"P"),
    ("half a head", b"POST /v1/acquire HTTP/1.1\r\nHost: u\r\nConte"),
    ("half a body", b"POST /v1/acquire HTTP/1.1\r\nHost: u\r\nContent-Length: 100\r\n\r\ntenant=acme"),
    ("a body that never begins", b"POST /v1/batch HTTP/1.1\r\nHost: u\r\nContent-Length: 200000\r\n\r\n"),
    ("a wrong chunk", b"POST /v1/acquire HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    ("a chunk without end", b"POST /v1/acquire HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nx"),
    ("a preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("half a preface", b"PRI"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ("a huge length", b"POST /v1/acquire HTTP/1.1\r\nHost: u\r\nContent-Length: 99999999999\r\n\r\nx"),
    (
        "a lie about the class",
        b"POST /v1/acquire HTTP/1.1\r\nHost: u\r\nContent-Length: 30\r\n\r\nkind=call&emergency=",
    ),
];
/// The bytes that each kind sends to a listener for HTTP/2.
const H2_KINDS: &[(&str, &[u8])] = &[
    ("nothing", b""),
    ("half a preface", b"PRI * HT"),
    ("a preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("garbage", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\xff\xff\xff\xff\xff\xff garbage"),
    ("settings and half a frame", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x40\x01\x04\0\0\0\x01"),
    ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: u\r\n\r\n"),
];
/// Beside those: drips, floods and readers that never read.
const OTHERS: usize = 4;

async fn connect(address: SocketAddr, last: u8) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))?;
    timeout(PATIENCE, socket.connect(address)).await.expect("connecting hangs")
}

/// One hostile client, to the end that the daemon makes; a connection that it refuses is an end, too.
async fn misbehave([address, h2c]: [SocketAddr; 2], number: usize) {
    let (is_h2, number) = (number % 4 == 3, number / 4 * 3 + number % 4);
    let Ok(mut stream) = connect(if is_h2 { h2c } else { address }, 3 + (number % 4) as u8).await else { return };
    if is_h2 {
        let ended = async {
            if stream.write_all(H2_KINDS[number % H2_KINDS.len()].1).await.is_ok() {
                until_closed(&mut stream).await;
            }
        };
        return timeout(PATIENCE, ended).await.unwrap_or_else(|_| panic!("HTTP/2 client {number} is kept"));
    }
    let kind = number % (KINDS.len() + OTHERS);
    let ended = async {
        match kind.checked_sub(KINDS.len()) {
            None => {
                if stream.write_all(KINDS[kind].1).await.is_ok() {
                    until_closed(&mut stream).await;
                }
            }
            Some(0) => {
                let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nX: ").await;
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Some(1) => {
                let _ = stream.write_all(b"POST /v1/acquire HTTP/1.1\r\nHost: u\r\nContent-Length: 9999\r\n\r\n").await;
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            // Asks and asks, and reads nothing.
            Some(2) => {
                while stream.write_all(&b"GET /openapi.json HTTP/1.1\r\nHost: u\r\n\r\n".repeat(100)).await.is_ok() {}
            }
            Some(_) => {
                let head = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 40_000], b"\r\n\r\n"].concat();
                if stream.write_all(&head).await.is_ok() {
                    until_closed(&mut stream).await;
                }
            }
        }
    };
    timeout(PATIENCE, ended).await.unwrap_or_else(|_| panic!("client {number} is kept"));
}

async fn until_closed(stream: &mut TcpStream) {
    let mut buffer = [0; 4_096];
    while stream.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
}

/// A node at work; how long each answer took, nanoseconds.
fn node(address: SocketAddr, number: usize, over: &AtomicBool) -> Vec<u64> {
    let mut client = Client::connect(address).unwrap();
    let mut took = Vec::new();
    let mut ask = |path: &str, body: &str, right: &str| {
        let began = monotonic_ns();
        let answer = client.ask("POST", path, body).unwrap_or_else(|error| panic!("node {number}: {error}"));
        took.push(monotonic_ns() - began);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.contains(right), "{path} {body}: {answer:?}");
    };
    let name = format!("pbx-{number}");
    ask(&format!("/v1/nodes/{name}/hello"), "{\"epoch\":1}", "lease_s");
    let mut seq = 0;
    while !over.load(Ordering::Relaxed) {
        seq += 2;
        let stamp = format!("node={name}&epoch=1&seq={seq}");
        let call = format!("tenant=acme&subject={name}&session={name}-{seq}&kind=call&direction=outbound&{stamp}");
        ask("/v1/acquire", &call, "allow.new");
        ask(&format!("/v1/nodes/{name}/heartbeat"), "{\"epoch\":1}", "ok");
        let end = format!("tenant=acme&session={name}-{seq}&node={name}&epoch=1&seq={}", seq + 1);
        ask("/v1/release", &end, "released.last");
        let inbound = format!("tenant=acme&session={name}-in&kind=call&direction=inbound&{stamp}");
        ask("/v1/acquire", &inbound, "allow.free inbound");
    }
    took
}

pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn open_descriptors(usherd: &Usherd) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", usherd.child.id())).unwrap().count()
}

fn report(what: &str, took: &mut [u64]) -> u64 {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    println!(
        "{what}: {} answers, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, longest {:.2} ms",
        took.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    took[took.len() - 1] / 1_000_000
}

#[test]
fn two_thousand_of_every_kind_do_not_starve_a_node() {
    raise_descriptor_limit();
    let site = Site::new(CONFIG, &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 100\n")]);
    let usherd = site.start();
    let (address, usherd_h2c) = (usherd.address(), usherd.addresses[1]);
    let mut quiet = {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let node = scope.spawn(|| node(address, 0, &over));
            pause(Duration::from_secs(1));
            over.store(true, Ordering::Relaxed);
            node.join().unwrap()
        })
    };
    report("quiet", &mut quiet);
    let (before, pid) = (open_descriptors(&usherd), usherd.child.id());
    let (over, resident_max) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut took = std::thread::scope(|scope| {
        let nodes: Vec<_> = (1..3)
            .map(|number| {
                scope.spawn({
                    let over = &over;
                    move || node(address, number, over)
                })
            })
            .collect();
        let memory = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                resident_max.fetch_max(resident_bytes(pid), Ordering::Relaxed);
                pause(Duration::from_millis(20));
            }
        });
        // The nodes end with the crowd, also where one of it panics.
        let crowd = scope.spawn(|| storm([address, usherd_h2c])).join();
        over.store(true, Ordering::Relaxed);
        crowd.unwrap();
        memory.join().unwrap();
        nodes.into_iter().flat_map(|node| node.join().unwrap()).collect::<Vec<_>>()
    });
    let longest_ms = report("with the crowd", &mut took);
    let resident = resident_max.load(Ordering::Relaxed);
    println!("resident at most {} MiB", resident >> 20);
    assert!(longest_ms < NODE_DEADLINE_MS, "{longest_ms} ms");
    assert!(resident <= RESIDENT_BYTES_MAX, "{resident} bytes");
    eventually("the crowd's connections to be gone", || (open_descriptors(&usherd) <= before + 2).then_some(()));
    let held = usherd.client().get("/v1/tenants/acme").json()["held"].clone();
    assert_eq!(held, 0, "no seat leaked");
    assert_eq!(usherd.terminate(), Some(0));
}

/// The crowd twice over: all at once, and again, so that what the first left behind would be seen.
fn storm(addresses: [SocketAddr; 2]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let met = Arc::new(AtomicU64::new(0));
    for _ in 0..2 {
        runtime.block_on(async {
            let crowd: Vec<_> = (0..CROWD)
                .map(|number| {
                    let met = Arc::clone(&met);
                    tokio::spawn(async move {
                        misbehave(addresses, number).await;
                        met.fetch_add(1, Ordering::Relaxed);
                    })
                })
                .collect();
            for one in crowd {
                one.await.unwrap();
            }
        });
    }
    assert_eq!(met.load(Ordering::Relaxed), 2 * CROWD as u64);
}
