//! A client with several addresses: whom it asks when one is gone, hangs, or is not ready, and how long calls wait.
//!
//! The daemons are made up and speak over pipes, so time is simulated, and every wait is exact.
#![allow(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream, DuplexStream, duplex};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use usherd_client::{
    Address, Ask, Client, Code, Connector, Direction, Ended, Event, Hooks, OnUnreachable, Options, Source, Unreachable,
    Verdict, VerdictSeen,
};

const MS: Duration = Duration::from_millis(1);
/// The deadline of a question in these tests, but where they say otherwise.
const DEADLINE: Duration = Duration::from_millis(50);

/// The behaviour of a daemon.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Answers,
    /// It takes connections and reads, and never answers.
    Hangs,
    /// 503 with `Retry-After`, but for heartbeats.
    NotReady,
    /// Nobody listens there.
    Gone,
}

struct Fake {
    mode: Mode,
    /// The paths that it was asked for, without those of before [`Site::forget_heard`].
    heard: Vec<String>,
    /// It knows the node; where the daemons are one cluster, all do then.
    greeted: bool,
    connections: Vec<AbortHandle>,
}

/// Daemons, and what they have booked.
#[derive(Clone)]
struct Site {
    fakes: Arc<Mutex<Vec<Fake>>>,
    is_cluster: bool,
    /// Sessions and numbers of the acquires that were read, also by a daemon that does not answer.
    booked: Arc<Mutex<BTreeSet<(String, u64)>>>,
    events: Arc<Mutex<Vec<Event>>>,
    answers: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Hooks for Site {
    fn verdict(&self, verdict: &VerdictSeen) {
        self.answers.lock().push(verdict.daemon);
    }

    fn event(&self, event: Event) {
        self.events.lock().push(event);
    }
}

impl Connector for Site {
    type Stream = DuplexStream;

    async fn connect(&self, address: &Address) -> io::Result<DuplexStream> {
        let Address::Unix(path) = address else { return Err(io::ErrorKind::Unsupported.into()) };
        let at: usize = path.to_str().unwrap().trim_start_matches('/').parse().unwrap();
        if self.fakes.lock()[at].mode == Mode::Gone {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = duplex(64 * 1024);
        let site = self.clone();
        let serving = tokio::spawn(async move { site.serve(at, theirs).await }).abort_handle();
        self.fakes.lock()[at].connections.push(serving);
        Ok(ours)
    }
}

impl Site {
    fn new(modes: &[Mode], is_cluster: bool) -> Self {
        let fake = |mode: &Mode| Fake { mode: *mode, heard: Vec::new(), greeted: false, connections: Vec::new() };
        Site {
            fakes: Arc::new(Mutex::new(modes.iter().map(fake).collect())),
            is_cluster,
            booked: Arc::default(),
            events: Arc::default(),
            answers: Arc::default(),
        }
    }

    fn options(&self) -> Options {
        let address = |at: usize| Address::Unix(format!("/{at}").into());
        let other_addresses = (1..self.fakes.lock().len()).map(address).collect();
        Options { other_addresses, deadline: DEADLINE, ..Options::new(address(0), "pbx", 7) }
    }

    fn client(&self) -> Client {
        Client::start_over(self.options(), self.clone(), self.clone()).unwrap()
    }

    /// A client that is greeted.
    async fn greeted(&self) -> Client {
        let client = self.client();
        assert!(client.connected(Duration::from_secs(10)).await);
        self.forget_heard();
        client
    }

    fn set(&self, at: usize, mode: Mode) {
        let mut fakes = self.fakes.lock();
        fakes[at].mode = mode;
        if mode == Mode::Gone {
            fakes[at].connections.drain(..).for_each(|connection| connection.abort());
        }
    }

    fn forget_heard(&self) {
        self.fakes.lock().iter_mut().for_each(|fake| fake.heard.clear());
        self.events.lock().clear();
        self.answers.lock().clear();
    }

    fn heard(&self, at: usize, verb: &str) -> usize {
        self.fakes.lock()[at].heard.iter().filter(|path| path.ends_with(verb)).count()
    }

    fn events(&self, of: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().iter().filter(|event| of(event)).count()
    }

    async fn serve(self, at: usize, stream: DuplexStream) {
        let mut stream = BufStream::new(stream);
        loop {
            let (mut head, mut line) = (String::new(), String::new());
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                head.push_str(&std::mem::take(&mut line).to_ascii_lowercase());
            }
            let Some((_, length)) = head.split_once("content-length: ") else { return };
            let mut body = vec![0; length.lines().next().unwrap().parse().unwrap()];
            stream.read_exact(&mut body).await.unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let Some((status, answer)) = self.answer(at, &path, &serde_json::from_slice(&body).unwrap()) else {
                return std::future::pending().await;
            };
            let retry = if status == 503 { "Retry-After: 1\r\n" } else { "" };
            let answer = format!("HTTP/1.1 {status} X\r\n{retry}Content-Length: {}\r\n\r\n{answer}", answer.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
    }

    /// The answer of a daemon; `None` where it hangs.
    fn answer(&self, at: usize, path: &str, body: &serde_json::Value) -> Option<(u16, String)> {
        let mut fakes = self.fakes.lock();
        fakes[at].heard.push(path.to_owned());
        let mode = fakes[at].mode;
        let is_known = if self.is_cluster { fakes.iter().any(|fake| fake.greeted) } else { fakes[at].greeted };
        let verb = path.rsplit('/').next().unwrap();
        if verb == "acquire" && is_known && mode != Mode::NotReady {
            let session = body["session"].as_str().unwrap().to_owned();
            self.booked.lock().insert((session, body["seq"].as_u64().unwrap()));
        }
        if mode == Mode::Hangs {
            return None;
        }
        Some(match verb {
            "hello" => {
                fakes[at].greeted = true;
                (200, r#"{"heartbeat_s":1,"lease_s":3,"inventory_s":60}"#.to_owned())
            }
            _ if mode == Mode::NotReady && verb != "heartbeat" => (503, r#"{"status":503}"#.to_owned()),
            "batch" => {
                let ops = body["ops"].as_array().unwrap().len();
                (200, format!(r#"{{"results":[{}]}}"#, vec![r#"{"code":"released.last"}"#; ops].join(",")))
            }
            "acquire" if !is_known => {
                (400, r#"{"detail":"x","errors":[{"pointer":"/ttl_s","detail":"is required"}]}"#.to_owned())
            }
            _ if !is_known => (409, "{}".to_owned()),
            "acquire" => (200, r#"{"code":"allow.new"}"#.to_owned()),
            _ => (200, "{}".to_owned()),
        })
    }
}

fn outbound(session: &str) -> Ask {
    Ask::call("acme", "anna", session, Direction::Outbound)
}

/// Asks, and says how long that took.
async fn ask(client: &Client, session: &str) -> (Verdict, Duration) {
    let began = Instant::now();
    let verdict = client.acquire(&outbound(session)).await;
    let waited = began.elapsed();
    assert!(waited <= DEADLINE, "{waited:?}: {verdict:?}");
    (verdict, waited)
}

/// Asks, and is answered by this daemon; how long it took.
async fn answered(client: &Client, site: &Site, session: &str, by: usize) -> Duration {
    let (verdict, waited) = ask(client, session).await;
    assert_eq!(verdict.answer.map(|answer| answer.code), Some(Code::AllowNew), "{session}: {:?}", verdict.source);
    assert_eq!(site.answers.lock().pop(), Some(Some(by)), "{session}");
    assert_eq!(client.status().daemon, by, "{session}");
    assert_eq!(*client.address(), Address::Unix(format!("/{by}").into()));
    waited
}

#[tokio::test(start_paused = true)]
async fn one_that_is_gone_is_passed_over_at_once() {
    for is_cluster in [true, false] {
        let site = Site::new(&[Mode::Gone, Mode::Answers], is_cluster);
        let client = site.client();
        assert!(answered(&client, &site, "c1", 1).await < 5 * MS, "from the start");
        site.set(0, Mode::Answers);
        site.set(1, Mode::Gone);
        site.forget_heard();
        assert!(answered(&client, &site, "c2", 0).await < 5 * MS, "it died; cluster: {is_cluster}");
        sleep(Duration::from_secs(2)).await;
        assert_eq!(site.events(|event| matches!(event, Event::Moved(0))), 1);
        let greetings = if is_cluster { 0 } else { 1 };
        assert_eq!(site.heard(0, "hello"), greetings, "only a daemon that does not know this node is told hello");
        assert!(site.heard(0, "heartbeat") >= 1, "its lease goes on there at once");
        assert!(client.status().connected && !client.status().paused);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_costs_its_share_once() {
    for is_cluster in [true, false] {
        let site = Site::new(&[Mode::Answers, Mode::Answers], is_cluster);
        let client = site.greeted().await;
        assert!(answered(&client, &site, "c1", 0).await < 5 * MS);
        site.set(0, Mode::Hangs);
        let waited = answered(&client, &site, "c2", 1).await;
        assert!(waited >= 24 * MS && waited < 30 * MS, "{waited:?}");
        for session in ["c3", "c4", "c5"] {
            assert!(answered(&client, &site, session, 1).await < 5 * MS, "nobody waits for it again");
        }
        let numbers: BTreeSet<u64> = site.booked.lock().iter().filter(|of| of.0 == "c2").map(|of| of.1).collect();
        assert_eq!(numbers.len(), 1, "both read the same number, so the session is booked once");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_ready_is_passed_over_at_once() {
    let site = Site::new(&[Mode::Answers, Mode::Answers], true);
    let client = site.greeted().await;
    site.set(0, Mode::NotReady);
    assert!(answered(&client, &site, "c1", 1).await < 5 * MS);
    assert!(answered(&client, &site, "c2", 1).await < 5 * MS);
    assert_eq!(site.heard(0, "acquire"), 1);
    // Where nobody is ready, that is the reason, as with one address.
    site.set(1, Mode::NotReady);
    let (verdict, waited) = ask(&client, "c3").await;
    assert_eq!((verdict.allow, verdict.source), (true, Source::Unreachable(Unreachable::NotReady)));
    assert!(waited < 5 * MS && !client.status().paused);
}

#[tokio::test(start_paused = true)]
async fn who_has_moved_stays_until_that_one_fails_too() {
    let site = Site::new(&[Mode::Answers, Mode::Answers, Mode::Answers], true);
    let client = site.greeted().await;
    site.set(0, Mode::Gone);
    answered(&client, &site, "c1", 1).await;
    site.set(0, Mode::Answers);
    site.forget_heard();
    for number in 0..20 {
        answered(&client, &site, &format!("d{number}"), 1).await;
        sleep(300 * MS).await;
    }
    assert!(site.fakes.lock()[0].heard.is_empty() && site.fakes.lock()[2].heard.is_empty());
    assert_eq!(site.events(|event| matches!(event, Event::Moved(_))), 0);
    // It fails without a call: the heartbeat finds that out, and moves on.
    site.set(1, Mode::Gone);
    sleep(Duration::from_secs(2)).await;
    assert_eq!((client.status().daemon, client.status().connected), (2, true));
    site.set(2, Mode::Gone);
    assert!(answered(&client, &site, "c2", 0).await < 5 * MS, "the first is back");
    assert!(client.acquire(&outbound("c2")).await.allow);
}

#[tokio::test(start_paused = true)]
async fn of_three_the_last_is_asked_in_time() {
    let site = Site::new(&[Mode::Answers, Mode::Answers, Mode::Answers], true);
    let options = Options { deadline: 5 * DEADLINE, ..site.options() };
    let client = Client::start_over(options, site.clone(), site.clone()).unwrap();
    assert!(client.connected(Duration::from_secs(10)).await);
    site.set(0, Mode::Hangs);
    site.set(1, Mode::Hangs);
    let began = Instant::now();
    assert_eq!(client.acquire(&outbound("c1")).await.source, Source::Daemon);
    assert!(began.elapsed() >= 165 * MS && began.elapsed() < 175 * MS, "{:?}", began.elapsed());
    assert_eq!((client.status().daemon, site.booked.lock().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn where_all_are_down_calls_go_out_in_time_and_soon_at_once() {
    for mode in [Mode::Hangs, Mode::Gone] {
        let site = Site::new(&[Mode::Answers, Mode::Answers], true);
        let client = site.greeted().await;
        site.set(0, mode);
        site.set(1, mode);
        let mut waited = Vec::new();
        for number in 0..20 {
            let (verdict, took) = ask(&client, &format!("c{number}")).await;
            assert!(verdict.allow && matches!(verdict.source, Source::Unreachable(_)), "{verdict:?}");
            waited.push(took);
        }
        let slow = waited.iter().filter(|took| **took > 5 * MS).count();
        assert!(slow <= if mode == Mode::Hangs { 4 } else { 0 }, "{waited:?}");
        let inbound = Ask { subject: None, ..Ask::call("acme", "", "i1", Direction::Inbound) };
        for (ask, source) in
            [(inbound, Source::Inbound), (Ask { to: Some("112".into()), ..outbound("e1") }, Source::Emergency)]
        {
            let mut future = pin!(client.acquire(&ask));
            let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
            let Poll::Ready(verdict) = polled else { panic!("{ask:?} waited") };
            assert_eq!((verdict.allow, verdict.source), (true, source));
        }
        sleep(Duration::from_secs(5)).await;
        assert!(client.status().paused && !client.status().connected);
        assert_eq!(site.events(|event| *event == Event::Paused), 1, "once for all addresses");
        assert_eq!(ask(&client, "p1").await.0.source, Source::Unreachable(Unreachable::Paused));
        // It tries both about twice a second, no oftener.
        site.forget_heard();
        sleep(Duration::from_secs(10)).await;
        let tries =
            site.heard(0, "hello") + site.heard(1, "hello") + site.events(|event| matches!(event, Event::Missed(_)));
        assert!(tries <= 60, "{tries}");
        site.set(1, Mode::Answers);
        sleep(Duration::from_secs(4)).await;
        assert!(client.status().connected && client.status().unconfirmed == 0 && client.status().reports == 0);
        answered(&client, &site, "c99", 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_denies_alone_asks_all_before() {
    let site = Site::new(&[Mode::Gone, Mode::Gone], true);
    let options = Options { on_unreachable: OnUnreachable::Deny, ..site.options() };
    let client = Client::start_over(options, site.clone(), site.clone()).unwrap();
    assert!(!client.acquire(&outbound("c1")).await.allow);
    site.set(1, Mode::Answers);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(client.acquire(&outbound("c2")).await.source, Source::Daemon);
}

#[tokio::test(start_paused = true)]
async fn releases_go_where_calls_are_asked() {
    let site = Site::new(&[Mode::Answers, Mode::Answers], true);
    let client = site.greeted().await;
    answered(&client, &site, "c1", 0).await;
    site.set(0, Mode::Hangs);
    client.release("acme", "c1", Ended::Over);
    // On its way to the one that hangs when a call finds the other.
    sleep(5 * MS).await;
    assert_eq!((site.heard(0, "batch"), site.heard(1, "batch")), (1, 0));
    answered(&client, &site, "c2", 1).await;
    assert!(client.flush(200 * MS).await);
    assert_eq!(site.heard(1, "batch"), 1);
    assert!(client.goodbye(Duration::from_secs(1)).await);
    assert_eq!((site.heard(0, "goodbye"), site.heard(1, "goodbye")), (0, 1));
}
