//! Hostile clients against the real listener: each is cut in time, and a well-behaved node never notices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use usherd::daemon::clock::monotonic_ns;
use usherd::daemon::edge::stats::{Deadline, Refusal};
use usherd::daemon::edge::{Edge, EdgeStats, Handler, Limits, Listener, Peer, Protocol, Talk, listener, serve};
use usherd::daemon::http::body::ReplyBody;
use usherd_testkit::wait::eventually_async;

/// No test waits longer for a socket than this.
const PATIENCE: Duration = Duration::from_secs(20);
const BODY_BYTES_MAX: usize = 64 * 1024;
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

static LARGE: [u8; 8 << 20] = [b'x'; 8 << 20];
/// How much of it `/own` answers with, in memory of its own.
const OWN_BYTES: usize = 1 << 20;

/// How long `/busy` keeps the core.
const BUSY: Duration = Duration::from_micros(200);

/// A turn that takes longer than a stranger may be idle ([`short`]).
const LONG: Duration = Duration::from_millis(500);
/// How many were answered that asked for work.
static BUSY_ANSWERED: AtomicU64 = AtomicU64::new(0);

/// Answers `ok`, `/turn` with the number of those who had their work before it, `/large` with 8 MiB, `/own` with one, `/echo` with the
/// length of the body, `/panic` and `/stuck` never, `/busy` after some work, `/long` after a stand-still; commands with 1 MiB.
struct Fixed;

impl Handler for Fixed {
    async fn handle(&self, request: Request<Incoming>, peer: &Peer) -> Response<ReplyBody> {
        match request.uri().path() {
            "/large" => Response::new(ReplyBody::full(bytes::Bytes::from_static(&LARGE))),
            "/own" => Response::new(ReplyBody::full(LARGE[..OWN_BYTES].to_vec())),
            "/panic" => panic!("as asked"),
            "/busy" => {
                BUSY_ANSWERED.fetch_add(1, Ordering::Relaxed);
                work(BUSY);
                Response::new(ReplyBody::full("ok"))
            }
            "/stuck" => std::future::pending().await,
            "/long" => {
                work(LONG);
                Response::new(ReplyBody::full("ok"))
            }
            "/stream" => {
                let (sender, body) = ReplyBody::stream(2, Duration::from_millis(300));
                tokio::task::spawn_local(async move { while sender.send(vec![b'y'; 65_536].into()).await.is_ok() {} });
                Response::new(body)
            }
            "/names" => Response::new(ReplyBody::full(peer.certificate_names().join(" "))),
            "/node" => {
                peer.mark_node();
                Response::new(ReplyBody::full("ok"))
            }
            "/turn" => {
                peer.mark_node();
                Response::new(ReplyBody::full(format!("ok {} .", BUSY_ANSWERED.load(Ordering::Relaxed))))
            }
            _ => match peer.collect(request.into_body(), BODY_BYTES_MAX).await {
                Ok(body) if body.is_empty() => Response::new(ReplyBody::full("ok")),
                Ok(body) => Response::new(ReplyBody::full(body.len().to_string())),
                Err(error) => usherd::daemon::http::Problem::from(error).into_response(),
            },
        }
    }

    fn commands<'a>(
        &'a self,
        bytes: &[u8],
        talk: &mut Talk,
        _: &Peer,
    ) -> (usize, impl Future<Output = bool> + use<'a>) {
        talk.out.extend_from_slice(&LARGE[..1 << 20]);
        (bytes.len(), std::future::ready(true))
    }
}

/// Keeps the thread for so long.
fn work(time: Duration) {
    let until = monotonic_ns() + time.as_nanos() as u64;
    while monotonic_ns() < until {
        std::hint::spin_loop();
    }
}

fn short() -> Limits {
    Limits {
        first_byte_deadline: Duration::from_millis(300),
        head_deadline: Duration::from_millis(300),
        body_deadline: Duration::from_millis(300),
        answer_deadline: Duration::from_millis(600),
        write_deadline: Duration::from_millis(400),
        idle_deadline: Duration::from_secs(3_600),
        idle_stranger_deadline: Duration::from_millis(400),
        drain_deadline: Duration::from_millis(500),
        linger_deadline: Duration::from_millis(300),
        connections_max: 3_000,
        connections_reserved_for_nodes: 500,
        connections_per_address_max: 2_400,
        ..Limits::default()
    }
}

/// A listener on its own thread, as a core of the daemon.
struct Server {
    address: SocketAddr,
    stats: Arc<EdgeStats>,
    edge: Arc<Edge>,
    shutdown: watch::Sender<bool>,
    connects: AtomicU64,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(limits: Limits, protocol: Protocol) -> Self {
        Self::start_with(limits, protocol, None)
    }

    fn start_with(limits: Limits, protocol: Protocol, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        raise_descriptor_limit();
        let socket = listener::bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let stats: Arc<EdgeStats> = Arc::default();
        let edge = Arc::new(Edge::new(limits));
        let (shutdown, on_shutdown) = watch::channel(false);
        let (counted, shared) = (Arc::clone(&stats), Arc::clone(&edge));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let mut listener = Listener::tcp("test", socket, protocol).unwrap().with_stats(counted);
                if let Some(tls) = tls {
                    listener = listener.with_tls(tls);
                }
                serve(listener, Rc::new(Fixed), shared, on_shutdown).await;
            });
        });
        Server { address, stats, edge, shutdown, connects: AtomicU64::new(0), thread: Some(thread) }
    }

    async fn connect(&self, from: IpAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        self.connects.fetch_add(1, Ordering::Relaxed);
        timeout(PATIENCE, socket.connect(self.address)).await.unwrap().unwrap()
    }

    async fn send(&self, from: IpAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect(from).await;
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Sends, and returns all that comes until the server closes.
    async fn answer(&self, bytes: &[u8]) -> String {
        let mut stream = self.send(STRANGER, bytes).await;
        until_closed(&mut stream).await
    }

    /// Waits until every connection that was made has been seen by the server, and is gone.
    async fn wait_until_idle(&self) {
        let seen = || {
            let refused: u64 = Refusal::ALL.iter().map(|why| self.stats.refused(*why)).sum();
            self.stats.accepted() + refused
        };
        // A connection leaves the gate a moment before it is counted as closed.
        let open = || self.edge.gate().open() > 0 || self.stats.open() > 0;
        until("all connections to close", || seen() >= self.connects.load(Ordering::Relaxed) && !open()).await;
        assert_eq!(self.stats.open(), 0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.shutdown.send(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Looks again and again, with a pause, until something that can be seen of the server is so.
async fn until(what: &str, seen: impl FnMut() -> bool) {
    eventually_async(what, PATIENCE, seen).await;
}

/// Reads to the end; a reset is an end too.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    let mut buf = [0_u8; 16 * 1024];
    let reading = async {
        loop {
            match stream.read(&mut buf).await {
                Ok(0) => return,
                Ok(n) => all.extend_from_slice(&buf[..n]),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("the server left the connection open");
    String::from_utf8_lossy(&all).into_owned()
}

/// Sends a request on a kept connection and reads the answer; the status and the body.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let mut buf = [0_u8; 4096];
    let reading = async {
        loop {
            let text = String::from_utf8_lossy(&all);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.to_ascii_lowercase();
                let length = length.split("content-length: ").nth(1).and_then(|l| l.split("\r\n").next());
                if body.len() >= length.map_or(0, |l| l.parse().unwrap()) {
                    return (head[9..12].parse().unwrap(), body.to_owned());
                }
            }
            let n = stream.read(&mut buf).await.unwrap();
            assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&all));
            all.extend_from_slice(&buf[..n]);
        }
    };
    timeout(PATIENCE, reading).await.expect("no answer")
}

const GET: &str = "GET / HTTP/1.1\r\nHost: u\r\n\r\n";
const NODE_GET: &str = "GET /node HTTP/1.1\r\nHost: u\r\n\r\n";

/// One test, one runtime.
macro_rules! hostile {
    ($(#[$meta:meta])* $name:ident, $protocol:ident, |$server:ident| $body:block) => {
        hostile!($(#[$meta])* $name, $protocol, short(), |$server| $body);
    };
    ($(#[$meta:meta])* $name:ident, $protocol:ident, $limits:expr, |$server:ident| $body:block) => {
        $(#[$meta])*
        #[tokio::test]
        async fn $name() {
            let $server = Server::start($limits, Protocol::$protocol);
            $body
            $server.wait_until_idle().await;
        }
    };
}

#[path = "hostile/bodies.rs"]
mod bodies;
#[path = "hostile/fair.rs"]
mod fair;
#[path = "hostile/unread.rs"]
mod unread;

hostile!(one_that_sends_nothing_is_closed, Http1, |server| {
    assert_eq!(server.answer(b"").await, "");
    assert_eq!(server.stats.ended_by(Deadline::FirstByte), 1, "{:?}", server.stats);
});

hostile!(one_byte_is_not_a_head, Http1, |server| {
    assert_eq!(server.answer(b"G").await, "");
    assert_eq!(server.stats.ended_by(Deadline::Head), 1);
});

hostile!(half_a_head_is_cut, Http1, |server| {
    assert_eq!(server.answer(b"POST / HTTP/1.1\r\nHost: u\r\nContent-Le").await, "");
    assert_eq!(server.stats.ended_by(Deadline::Head), 1);
});

hostile!(half_a_head_after_a_good_request_is_cut, Http1, |server| {
    let mut stream = server.connect(STRANGER).await;
    assert_eq!(ask(&mut stream, GET).await, (200, "ok".into()));
    stream.write_all(b"GET / HTT").await.unwrap();
    assert_eq!(until_closed(&mut stream).await, "");
    assert_eq!(server.stats.ended_by(Deadline::Head), 1);
});

hostile!(half_a_body_is_a_408, Http1, |server| {
    let answer = server.answer(b"POST / HTTP/1.1\r\nHost: u\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    assert_eq!(server.stats.ended_by(Deadline::Body), 1);
});

hostile!(a_dripping_head_is_cut_as_a_whole, Http1, |server| {
    let mut stream = server.connect(STRANGER).await;
    let dripping = async {
        while stream.write_all(b"X").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, dripping).await.expect("the drip goes on");
    assert_eq!(server.stats.ended_by(Deadline::Head), 1);
});

hostile!(a_dripping_body_is_cut_as_a_whole, Http1, |server| {
    let mut stream = server.send(STRANGER, b"POST / HTTP/1.1\r\nHost: u\r\nContent-Length: 9999\r\n\r\n").await;
    let dripping = async {
        while stream.write_all(b"X").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, dripping).await.expect("the drip goes on");
    assert_eq!(server.stats.ended_by(Deadline::Body), 1);
});

hostile!(one_that_never_reads_is_cut, Http1, |server| {
    let stream = server.send(STRANGER, b"GET /large HTTP/1.1\r\nHost: u\r\n\r\n").await;
    server.wait_until_idle().await;
    assert_eq!(server.stats.ended_by(Deadline::Write), 1, "{:?}", server.stats);
    drop(stream);
});

hostile!(one_that_never_reads_a_stream_is_cut, Http1, |server| {
    let stream = server.send(STRANGER, b"GET /stream HTTP/1.1\r\nHost: u\r\n\r\n").await;
    server.wait_until_idle().await;
    drop(stream);
});

hostile!(one_that_reads_all_gets_a_large_answer, Http1, |server| {
    let answer = server.answer(b"GET /large HTTP/1.1\r\nHost: u\r\nConnection: close\r\n\r\n").await;
    assert!(answer.len() > 8 << 20);
});

hostile!(a_huge_head_is_a_431, Http1, |server| {
    let head = format!("GET / HTTP/1.1\r\nHost: u\r\nX: {}\r\n\r\n", "x".repeat(20 * 1024));
    let answer = server.answer(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
});

hostile!(too_many_headers_are_a_431, Http1, |server| {
    let head = format!("GET / HTTP/1.1\r\nHost: u\r\n{}\r\n", "X: y\r\n".repeat(200));
    let answer = server.answer(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
});

hostile!(a_huge_body_is_a_413_known_or_not, Http1, |server| {
    let known = server.answer(b"POST / HTTP/1.1\r\nHost: u\r\nContent-Length: 99999999\r\n\r\nx").await;
    assert!(known.starts_with("HTTP/1.1 413 "), "{known}");
    let mut chunked = b"POST / HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..20 {
        chunked.extend_from_slice(b"2000\r\n");
        chunked.extend_from_slice(&[b'x'; 0x2000]);
        chunked.extend_from_slice(b"\r\n");
    }
    let answer = server.answer(&chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(server.stats.bodies_too_large(), 2);
});

hostile!(malformed_chunks_are_a_400, Http1, |server| {
    let answer =
        server.answer(b"POST / HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
});

hostile!(a_preface_on_an_http1_listener_gets_nowhere, Http1, |server| {
    let only = server.answer(b"PRI").await;
    let whole = server.answer(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!only.contains(" 200 ") && !whole.contains(" 200 "), "{only} {whole}");
});

hostile!(garbage_on_an_h2c_listener_is_closed, H2c, |server| {
    server.answer(b"GET / HTTP/1.1\r\nHost: u\r\n\r\n").await;
    server.answer(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\xff\xff\xff\xff\xff\xff garbage").await;
    server.answer(b"PRI").await;
    server.answer(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(server.stats.ended_by(Deadline::Head) >= 2);
});

hostile!(h2c_works_with_prior_knowledge_and_survives_a_panic, H2c, |server| {
    use http_body_util::{BodyExt, Empty};
    let stream = server.connect(STRANGER).await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Empty<bytes::Bytes>>(executor, io).await.unwrap();
    let driving = tokio::spawn(connection);
    for (path, status) in [("/", 200), ("/panic", 503), ("/", 200), ("/stuck", 503)] {
        let request = Request::get(format!("http://u{path}")).body(Empty::new()).unwrap();
        let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(answer.status(), status);
        answer.into_body().collect().await.unwrap();
    }
    drop(sender);
    let _ = driving.await;
});

hostile!(a_stalled_h2_stream_is_cut_while_another_goes_on, H2c, |server| {
    use http_body_util::{BodyExt, Empty};
    let io = hyper_util::rt::TokioIo::new(server.connect(STRANGER).await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Empty<bytes::Bytes>>(executor, io).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = |path: &str| Request::get(format!("http://u{path}")).body(Empty::new()).unwrap();
    let stalled = sender.send_request(request("/large")).await.unwrap();
    let asking = async {
        while let Ok(answer) = sender.send_request(request("/")).await {
            if answer.into_body().collect().await.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, asking).await.expect("the stalled stream is kept");
    assert_eq!(server.stats.ended_by(Deadline::Write), 1);
    drop(stalled);
    let _ = driving.await;
});

hostile!(an_upgrade_to_h2c_is_ignored, Http1, |server| {
    let mut stream = server.connect(STRANGER).await;
    let request = "GET / HTTP/1.1\r\nHost: u\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    assert_eq!(ask(&mut stream, request).await, (200, "ok".into()));
    assert_eq!(ask(&mut stream, GET).await, (200, "ok".into()));
});

hostile!(continue_and_chunks_work, Http1, |server| {
    let mut stream = server.connect(STRANGER).await;
    let head = "POST / HTTP/1.1\r\nHost: u\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(ask(&mut stream, head).await.0, 100);
    assert_eq!(ask(&mut stream, "hello").await, (200, "5".into()));
    let chunked = "POST / HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
    assert_eq!(ask(&mut stream, chunked).await, (200, "7".into()));
});

hostile!(half_closing_after_a_request_still_gets_the_answer, Http1, |server| {
    let mut stream = server.send(STRANGER, GET.as_bytes()).await;
    stream.shutdown().await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
});

hostile!(a_panic_or_a_stuck_handler_is_a_503_and_nobody_elses_business, Http1, |server| {
    let mut bad = server.connect(STRANGER).await;
    let mut good = server.connect(NODE).await;
    for path in ["/panic", "/stuck"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: u\r\n\r\n");
        let (answer, others) = tokio::join!(ask(&mut bad, &request), ask(&mut good, NODE_GET));
        assert_eq!(answer.0, 503);
        assert_eq!(others, (200, "ok".into()));
    }
    assert_eq!(ask(&mut bad, GET).await, (200, "ok".into()));
    assert_eq!(server.stats.panics(), 1);
    assert_eq!(server.stats.ended_by(Deadline::Answer), 1);
});

hostile!(a_long_turn_of_the_server_is_none_of_a_clients_time, Http1, |server| {
    let mut stranger = server.connect(STRANGER).await;
    for path in ["/long", "/", "/long", "/"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: u\r\n\r\n");
        assert_eq!(ask(&mut stranger, &request).await, (200, "ok".into()), "{path}");
    }
    assert_eq!(server.stats.ended_by(Deadline::Idle), 0);
});

hostile!(an_idle_stranger_is_closed_and_an_idle_node_is_not, Http1, |server| {
    let mut node = server.connect(NODE).await;
    let mut stranger = server.connect(STRANGER).await;
    assert_eq!(ask(&mut node, NODE_GET).await.0, 200);
    assert_eq!(ask(&mut stranger, GET).await.0, 200);
    assert_eq!(until_closed(&mut stranger).await, "");
    assert_eq!(server.stats.ended_by(Deadline::Idle), 1);
    assert_eq!(ask(&mut node, NODE_GET).await.0, 200);
});

hostile!(a_storm_of_connects_and_closes_passes, Http1, |server| {
    let mut node = server.connect(NODE).await;
    assert_eq!(ask(&mut node, NODE_GET).await.0, 200);
    for _ in 0..200 {
        let storm = futures_of(10, || async { drop(server.connect(STRANGER).await) });
        storm.await;
    }
    assert_eq!(ask(&mut node, NODE_GET).await.0, 200);
    drop(node);
    server.wait_until_idle().await;
    assert_eq!(server.stats.accepted() + server.stats.refused(Refusal::Full), 2_001);
});

hostile!(a_flood_of_pipelined_requests_is_bounded_by_reading, Http1, |server| {
    let mut stream = server.connect(STRANGER).await;
    let flood = GET.repeat(4_000);
    let flooding = async { while stream.write_all(flood.as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, flooding).await.expect("the flood goes on");
    assert_eq!(server.stats.ended_by(Deadline::Write), 1);
});

hostile!(pipelined_requests_are_answered_in_order, Http1, |server| {
    let mut requests = GET.repeat(500);
    requests.push_str("GET / HTTP/1.1\r\nHost: u\r\nConnection: close\r\n\r\n");
    let answers = server.answer(requests.as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 501);
});

async fn futures_of<F: Future>(count: usize, make: impl Fn() -> F) {
    let mut all: Vec<_> = (0..count).map(|_| Box::pin(make())).collect();
    for one in &mut all {
        one.await;
    }
}

#[tokio::test]
async fn one_address_cannot_have_more_than_its_connections() {
    let limits = Limits { connections_per_address_max: 10, ..short() };
    let server = Server::start(limits, Protocol::Http1);
    let mut kept = Vec::new();
    for _ in 0..10 {
        let mut stream = server.connect(STRANGER).await;
        assert_eq!(ask(&mut stream, GET).await.0, 200);
        kept.push(stream);
    }
    assert_eq!(server.answer(b"").await, "");
    assert_eq!(server.stats.refused(Refusal::Address), 1);
    let mut other = server.connect(NODE).await;
    assert_eq!(ask(&mut other, GET).await.0, 200);
}

#[tokio::test]
async fn an_old_connection_is_asked_to_close() {
    let limits = Limits { connection_age: Duration::from_millis(200), ..short() };
    let server = Server::start(limits, Protocol::Http1);
    let mut stream = server.connect(NODE).await;
    assert_eq!(ask(&mut stream, NODE_GET).await.0, 200);
    assert_eq!(until_closed(&mut stream).await, "");
    assert_eq!(server.stats.ended_by(Deadline::Age), 0, "an idle one closes by itself");
    let mut stream = server.send(NODE, b"GET /stream HTTP/1.1\r\nHost: u\r\n\r\n").await;
    until_closed(&mut stream).await;
    assert_eq!(server.stats.ended_by(Deadline::Age), 1, "a stream is cut");
}

#[tokio::test]
async fn a_drain_finishes_answers_and_ends_within_its_deadline() {
    let limits = Limits { head_deadline: PATIENCE, body_deadline: PATIENCE, answer_deadline: PATIENCE, ..short() };
    let mut server = Server::start(limits, Protocol::Http1);
    let mut idle = server.connect(NODE).await;
    assert_eq!(ask(&mut idle, NODE_GET).await.0, 200);
    let mut half_head = server.send(STRANGER, b"GET / HT").await;
    let mut half_body = server.send(STRANGER, b"POST / HTTP/1.1\r\nHost: u\r\nContent-Length: 10\r\n\r\nhalf").await;
    let mut body_to_come = server.send(STRANGER, b"POST / HTTP/1.1\r\nHost: u\r\nContent-Length: 8\r\n\r\nhalf").await;
    let mut silent = server.connect(STRANGER).await;
    while server.stats.requests() < 3 || server.stats.open() < 5 {
        tokio::task::yield_now().await;
    }
    server.shutdown.send(true).unwrap();
    assert_eq!(until_closed(&mut idle).await, "");
    assert_eq!(until_closed(&mut silent).await, "");
    body_to_come.write_all(b"half").await.unwrap();
    let answer = until_closed(&mut body_to_come).await;
    assert!(answer.contains("connection: close") && answer.ends_with("\r\n\r\n8"), "{answer}");
    until_closed(&mut half_head).await;
    until_closed(&mut half_body).await;
    let thread = server.thread.take().unwrap();
    tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    assert_eq!(server.stats.ended_by(Deadline::Drain), 2);
    assert_eq!(server.stats.open(), 0);
}

/// Runs one hostile client of the crowd, by its number; then it waits to be closed.
async fn misbehave(server: &Server, number: usize) {
    let half: &[&[u8]] = &[
        b"",
        b"G",
        b"GET / HTTP/1.1\r\nHo",
        b"POST / HTTP/1.1\r\nHost: u\r\nContent-Length: 10\r\n\r\nhalf",
        b"GET /large HTTP/1.1\r\nHost: u\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\nzz",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: u\r\n\r\n",
    ];
    let mut stream = server.connect(STRANGER).await;
    let what = half[number % half.len()];
    if stream.write_all(what).await.is_err() || number % half.len() == 4 {
        // It never reads: the server must end it alone, and whether it did is what `settle` sees.
        return drop_later(stream);
    }
    until_closed(&mut stream).await;
}

/// Keeps a stream unread for the life of the test.
fn drop_later(stream: TcpStream) {
    KEPT.with_borrow_mut(|kept| kept.push(stream));
}

thread_local! {
    static KEPT: std::cell::RefCell<Vec<TcpStream>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[tokio::test]
async fn two_thousand_at_once_do_not_keep_a_node_from_its_answers() {
    let server = Arc::new(Server::start(short(), Protocol::Http1));
    let over = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(AtomicU64::new(0));
    let mut node = server.connect(NODE).await;
    assert_eq!(ask(&mut node, NODE_GET).await.0, 200);
    let asking = {
        let (server, over, answers) = (Arc::clone(&server), Arc::clone(&over), Arc::clone(&answers));
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(ask(&mut node, NODE_GET).await, (200, "ok".into()));
                let mut fresh = server.connect(NODE).await;
                assert_eq!(ask(&mut fresh, NODE_GET).await, (200, "ok".into()));
                answers.fetch_add(2, Ordering::Relaxed);
            }
        })
    };
    let crowd: Vec<_> = (0..2_000)
        .map(|number| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { misbehave(&server, number).await })
        })
        .collect();
    for one in crowd {
        one.await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    asking.await.unwrap();
    println!("{answers:?} answers meanwhile");
    assert!(answers.load(Ordering::Relaxed) > 20, "{answers:?}");
    server.wait_until_idle().await;
    assert!(server.stats.accepted() >= 2_000);
    let (mut strangers, mut fewest) = (Vec::new(), 0);
    while fewest < 2_600 {
        strangers.push(server.connect(STRANGER).await);
        fewest += 1;
    }
    let mut late = server.connect(NODE).await;
    assert_eq!(ask(&mut late, NODE_GET).await.0, 200, "the reserved share is there");
}

hostile!(an_answer_does_not_wait_for_the_rest_of_the_next_request, Http1, |server| {
    let mut stream = server.connect(STRANGER).await;
    assert_eq!(ask(&mut stream, &format!("{GET}GET / HT")).await, (200, "ok".into()));
    assert_eq!(ask(&mut stream, "TP/1.1\r\nHost: u\r\n\r\n").await, (200, "ok".into()));
});

/// A certificate authority, and a certificate for a name with its key, as PEM.
struct Papers {
    authority: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Papers {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Papers { authority: rcgen::CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    fn for_name(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    fn connector(&self, client: Option<(String, String)>) -> tokio_rustls::TlsConnector {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots);
        let config = match client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => config
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        tokio_rustls::TlsConnector::from(Arc::new(config))
    }
}

#[tokio::test]
async fn tls_names_its_clients_and_turns_garbage_away() {
    let papers = Papers::new();
    let (certificate, key) = papers.for_name("usherd.test");
    let files = usherd::daemon::edge::tls::TlsFiles {
        certificates: certificate.as_bytes(),
        key: key.as_bytes(),
        client_authorities: Some(&papers.authority.pem().into_bytes()),
        client_certificate_required: false,
    };
    let (acceptor, _) = usherd::daemon::edge::tls::acceptor(&files, Protocol::Http1).unwrap();
    let server = Server::start_with(short(), Protocol::Http1, Some(acceptor));
    let name = rustls::pki_types::ServerName::try_from("usherd.test").unwrap();
    for (client, names) in [(None, ""), (Some(papers.for_name("pbx1.test")), "pbx1.test")] {
        let stream = server.connect(STRANGER).await;
        let mut stream = papers.connector(client).connect(name.clone(), stream).await.unwrap();
        let request = "GET /names HTTP/1.1\r\nHost: u\r\n\r\n";
        assert_eq!(ask(&mut stream, request).await, (200, names.into()));
        assert_eq!(ask(&mut stream, GET).await, (200, "ok".into()));
    }
    let wrong = Papers::new().for_name("pbx1.test");
    let stream = server.connect(STRANGER).await;
    let mut stream = papers.connector(Some(wrong)).connect(name, stream).await.unwrap();
    let names = ask(&mut stream, "GET /names HTTP/1.1\r\nHost: u\r\n\r\n").await;
    assert_eq!(names, (200, String::new()), "a certificate of a foreign authority names nobody");
    drop(stream);
    assert!(!server.answer(GET.as_bytes()).await.contains("200"));
    server.answer(b"\x16\x03\x01\x02\x00\x01").await;
    server.wait_until_idle().await;
    assert_eq!(server.stats.refused(Refusal::Handshake), 1);
    assert_eq!(server.stats.ended_by(Deadline::Head), 1);
}

#[tokio::test]
async fn the_unix_socket_tells_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("u.sock");
    let socket = listener::bind_unix(&path).unwrap();
    let (shutdown, on_shutdown) = watch::channel(false);
    let local = tokio::task::LocalSet::new();
    let serving = async {
        let listener = Listener::unix("unix", socket, Protocol::Http1).unwrap();
        serve(listener, Rc::new(Fixed), Arc::new(Edge::new(short())), on_shutdown).await;
    };
    let asking = async {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        assert_eq!(ask(&mut stream, GET).await, (200, "ok".into()));
        shutdown.send(true).unwrap();
        assert_eq!(until_closed(&mut stream).await, "");
    };
    local.run_until(async { tokio::join!(serving, asking) }).await;
}

/// Set in the process that runs out of descriptors.
const ALONE: &str = "USHERD_TEST_ALONE";

/// Runs out of descriptors for real, in a process of its own: elsewhere it would take them from its neighbours.
#[test]
fn running_out_of_descriptors_is_survived() {
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(run_out_of_descriptors());
    }
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    alone.args(["--exact", "running_out_of_descriptors_is_survived", "--nocapture"]).env(ALONE, "1");
    let output = alone.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}{}", String::from_utf8_lossy(&output.stderr));
}

async fn run_out_of_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let server = Server::start(short(), Protocol::Http1);
    let mut node = server.connect(NODE).await;
    assert_eq!(ask(&mut node, NODE_GET).await.0, 200);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: limit.maximum }).unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    hoard.pop();
    let lost = server.connect(STRANGER).await;
    assert_eq!(ask(&mut node, NODE_GET).await.0, 200, "an open connection goes on");
    let exhausted = async {
        while server.stats.refused(Refusal::Exhausted) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, exhausted).await.expect("never exhausted");
    drop((hoard, lost));
    let mut fresh = server.connect(STRANGER).await;
    assert_eq!(ask(&mut fresh, GET).await.0, 200, "and new ones come again");
}

/// Resident bytes of this process.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

#[tokio::test]
async fn an_idle_connection_is_cheap() {
    const CONNECTIONS: u64 = 2_000;
    const BYTES_MAX: u64 = 24 * 1024;
    let server = Server::start(short(), Protocol::Http1);
    let mut first = server.connect(NODE).await;
    assert_eq!(ask(&mut first, NODE_GET).await.0, 200);
    let mut idle = Vec::with_capacity(CONNECTIONS as usize);
    let before = resident_bytes();
    for _ in 0..CONNECTIONS {
        let mut stream = server.connect(NODE).await;
        assert_eq!(ask(&mut stream, NODE_GET).await.0, 200);
        idle.push(stream);
    }
    let each = resident_bytes().saturating_sub(before) / CONNECTIONS;
    println!("{each} bytes for each idle connection, its client included");
    assert!(each < BYTES_MAX, "{each} bytes");
}
