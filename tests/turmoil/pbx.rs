//! A PBX as one host of the simulation: people call, hang up, open clients and pair phones, and it asks for them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use usherd_client::{Address, Ask, Client, Connector, Ended, Event, Hooks, Options, Source, Unreachable, Verdict};
use usherd_engine::{Class, Code, Device, Direction, Kind, Leg, Name};

use super::site::{DAEMON, PORT, TENANTS, TOKEN};

/// Every question that is not answered at once is answered within this.
const DEADLINE: Duration = Duration::from_millis(50);
/// People of each tenant and node.
const PEOPLE: u64 = 60;

/// Connections of the simulated network.
struct Wire;

impl Connector for Wire {
    type Stream = turmoil::net::TcpStream;

    async fn connect(&self, _: &Address) -> io::Result<Self::Stream> {
        turmoil::net::TcpStream::connect((DAEMON, PORT)).await
    }
}

/// The events on one node, by its word.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Tally {
    fn add(&self, word: &'static str, count: u64) {
        *self.0.lock().entry(word).or_default() += count;
    }

    pub(crate) fn add_to(&self, sum: &mut BTreeMap<&'static str, u64>) {
        for (word, count) in self.0.lock().iter() {
            *sum.entry(word).or_default() += count;
        }
    }
}

impl Hooks for Tally {
    fn event(&self, event: Event) {
        match event {
            Event::Greeted => self.add("greeted", 1),
            Event::Missed(why) => {
                assert_ne!(why, Unreachable::NotPermitted);
                self.add("own messages missed", 1);
            }
            Event::Forgotten => self.add("forgotten", 1),
            Event::Retried => self.add("retried", 1),
            Event::Paused => self.add("breaker opened", 1),
            Event::Resumed => self.add("breaker closed", 1),
            Event::Inventory { adopted, removed, ignored, .. } => {
                self.add("inventories", 1);
                self.add("adopted by inventory", adopted.into());
                self.add("removed by inventory", removed.into());
                self.add("ignored by inventory", ignored.into());
            }
            Event::Moved(_)
            | Event::EpochRaised(_)
            | Event::EpochRefused
            | Event::InventoryTooLarge
            | Event::ReportRefused
            | Event::ReportsFull => {
                panic!("{event:?}")
            }
        }
    }
}

/// Tenant and session.
pub(crate) type Key = (Name, Name);

/// One PBX.
pub(crate) struct Pbx {
    pub(crate) name: String,
    rng: RefCell<fastrand::Rng>,
    epoch: Cell<u64>,
    client: RefCell<Option<Client>>,
    /// The sessions that really live on it, whatever the client believes.
    lives: RefCell<BTreeMap<Key, Ask>>,
    /// The sessions that the daemon said yes to, and that were not given back.
    granted: RefCell<BTreeSet<Key>>,
    /// Phones that were paired at some time: the PBX keeps that on disk.
    paired: RefCell<BTreeSet<Key>>,
    pub(crate) tally: Tally,
    pub(crate) calls: Cell<u64>,
    calls_wanted: u64,
    calls_per_second: f64,
    restart: Notify,
    /// Everybody hangs up.
    closing: Notify,
    is_closing: Cell<bool>,
    /// Everything that was said, in its order.
    digest: Cell<u64>,
}

impl Pbx {
    pub(crate) fn new(name: &str, seed: u64, calls_wanted: u64, calls_per_second: f64) -> Rc<Self> {
        Rc::new(Pbx {
            name: name.to_owned(),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            epoch: Cell::new(1),
            client: RefCell::default(),
            lives: RefCell::default(),
            granted: RefCell::default(),
            paired: RefCell::default(),
            tally: Tally::default(),
            calls: Cell::new(0),
            calls_wanted,
            calls_per_second,
            restart: Notify::new(),
            closing: Notify::new(),
            is_closing: Cell::new(false),
            digest: Cell::new(0),
        })
    }

    pub(crate) fn is_done(&self) -> bool {
        self.calls.get() >= self.calls_wanted
    }

    pub(crate) fn client(&self) -> Client {
        self.client.borrow().clone().expect("the node runs")
    }

    pub(crate) fn lives(&self) -> BTreeMap<Key, Ask> {
        self.lives.borrow().clone()
    }

    pub(crate) fn granted(&self) -> BTreeSet<Key> {
        self.granted.borrow().clone()
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest.get()
    }

    /// The process dies and starts again: its calls and clients are gone, paired phones stay paired.
    pub(crate) fn restart(&self) {
        self.restart.notify_one();
    }

    /// Everything that lives on it ends.
    pub(crate) fn hang_up(&self) {
        self.is_closing.set(true);
        self.closing.notify_waiters();
    }

    /// Its lives, one after the other.
    pub(crate) async fn run(self: Rc<Self>) -> turmoil::Result {
        loop {
            let address = Address::Http { host: DAEMON.to_owned(), port: PORT };
            let options = Options {
                token: Some(TOKEN.to_owned()),
                ..Options::new(address, self.name.as_str(), self.epoch.get())
            };
            let client = Client::start_over(options, Wire, self.tally.clone())?;
            for ask in self.lives.borrow().values() {
                client.adopt(ask).unwrap();
            }
            // A release that the last life did not get through is nowhere; no inventory ends a pairing (B2).
            for (tenant, session) in self.paired.borrow().iter().filter(|key| !self.lives.borrow().contains_key(*key)) {
                client.release(tenant, session, Ended::Over);
            }
            self.client.replace(Some(client));
            let mut people = JoinSet::new();
            people.spawn_local(Rc::clone(&self).call());
            self.restart.notified().await;
            people.shutdown().await;
            self.client.take();
            self.granted.borrow_mut().clear();
            self.lives.borrow_mut().retain(|_, ask| ask.kind == Kind::Mobile);
            self.epoch.set(self.epoch.get() + 1);
            self.tally.add("node restarts", 1);
        }
    }

    /// Calls begin, as they do in an office: at random.
    async fn call(self: Rc<Self>) {
        let mut people = JoinSet::new();
        // Those whose phones were paired before the restart unpair them some time.
        let paired: Vec<_> = self.lives.borrow().keys().cloned().collect();
        for key in paired {
            people.spawn_local(Rc::clone(&self).live(key, Duration::from_secs(20)));
        }
        while !self.is_done() {
            let pause = -self.rng.borrow_mut().f64().max(1e-9).ln() / self.calls_per_second;
            sleep(Duration::from_secs_f64(pause)).await;
            let number = self.calls.get();
            self.calls.set(number + 1);
            people.spawn_local(Rc::clone(&self).person(number));
            while people.try_join_next().is_some_and(|joined| joined.map_err(panic_of).is_ok()) {}
        }
        while let Some(joined) = people.join_next().await {
            joined.map_err(panic_of).ok();
        }
        std::future::pending::<()>().await;
    }

    /// Somebody wants something, gets an answer, and ends it.
    async fn person(self: Rc<Self>, number: u64) {
        let ask = self.wish(number);
        let client = self.client();
        if let (Kind::Mobile, Some(session)) = (ask.kind, &ask.session) {
            self.paired.borrow_mut().insert((ask.tenant.clone(), session.clone()));
        }
        let (manner, impatience, lasts) = {
            let mut rng = self.rng.borrow_mut();
            let lasts = if rng.u8(..100) < 3 { 600_000 } else { rng.u64(50..20_000) };
            // One pairing of a phone is not to end another.
            let manner = if ask.kind == Kind::Mobile { 100 } else { rng.u8(..100) };
            (manner, Duration::from_millis(rng.u64(0..60)), Duration::from_millis(lasts))
        };
        let Some(key) = ask.session.clone().map(|session| (ask.tenant.clone(), session)) else {
            self.asked_at_once(&client, &ask).await;
            return;
        };
        if ask.is_inbound() {
            self.asked_at_once(&client, &ask).await;
        } else if manner < 2 {
            // Gives up before the answer: the node's own deadline, or its end.
            if tokio::time::timeout(impatience, client.acquire(&ask)).await.is_err() {
                self.tally.add("given up", 1);
                return;
            }
            client.release(&key.0, &key.1, Ended::Over);
            return;
        } else if manner < 4 {
            // Hangs up before the answer.
            let hangs_up = async {
                sleep(impatience).await;
                client.release(&key.0, &key.1, Ended::Over);
            };
            tokio::join!(client.acquire(&ask), hangs_up);
            self.tally.add("hung up early", 1);
            return;
        } else {
            let verdict = self.asked(&client, &ask).await;
            if !verdict.allow {
                return;
            }
            if verdict.source == Source::Daemon {
                self.granted.borrow_mut().insert(key.clone());
            }
        }
        self.lives.borrow_mut().insert(key.clone(), ask);
        self.live(key, lasts).await;
    }

    /// Lives so long, then ends.
    async fn live(self: Rc<Self>, key: Key, lasts: Duration) {
        if !self.is_closing.get() {
            tokio::select! {
                biased;
                () = sleep(lasts) => {}
                () = self.closing.notified() => {}
            }
        }
        self.lives.borrow_mut().remove(&key);
        self.granted.borrow_mut().remove(&key);
        self.client().release(&key.0, &key.1, Ended::Over);
    }

    /// Inbound and emergency calls: allowed at the first poll, and no time passes.
    async fn asked_at_once(&self, client: &Client, ask: &Ask) {
        let began = Instant::now();
        let mut asking = pin!(client.acquire(ask));
        let verdict = poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx))).await;
        let Poll::Ready(verdict) = verdict else { panic!("{}: {ask:?} had to wait", self.name) };
        assert!(verdict.allow, "{}: {ask:?} was refused: {verdict:?}", self.name);
        assert!(matches!(verdict.source, Source::Inbound | Source::Emergency), "{verdict:?}");
        assert_eq!(began.elapsed(), Duration::ZERO);
        self.said(ask, &verdict);
    }

    /// Everything else: answered within the deadline, and rightly as far as one can see from here.
    async fn asked(&self, client: &Client, ask: &Ask) -> Verdict {
        let began = Instant::now();
        let verdict = client.acquire(ask).await;
        let waited = began.elapsed();
        assert!(waited <= DEADLINE, "{}: {ask:?} waited {waited:?}: {verdict:?}", self.name);
        match (&verdict.answer, verdict.source) {
            (Some(answer), Source::Daemon) => {
                let quota = answer.quota.unwrap_or(u32::MAX);
                let room = answer.code != Code::AllowNew || answer.held <= quota;
                let full = answer.code != Code::DenyFull || answer.held >= quota;
                assert!(room && full && answer.code != Code::DenyConflict, "{}: {ask:?}: {answer:?}", self.name);
            }
            (None, Source::Unreachable(why)) => {
                assert!(verdict.allow, "{verdict:?}");
                assert!(!matches!(why, Unreachable::NotPermitted | Unreachable::Full), "{why}");
            }
            odd => panic!("{}: {ask:?}: {odd:?}", self.name),
        }
        self.said(ask, &verdict);
        verdict
    }

    fn said(&self, ask: &Ask, verdict: &Verdict) {
        let word = verdict.answer.as_ref().map_or(verdict.source.as_str(), |answer| answer.code.as_str());
        self.tally.add(word, 1);
        let mut hasher = DefaultHasher::new();
        (self.digest.get(), turmoil::sim_elapsed(), &ask.session, word).hash(&mut hasher);
        self.digest.set(hasher.finish());
    }

    /// The wish of somebody.
    fn wish(&self, number: u64) -> Ask {
        let mut rng = self.rng.borrow_mut();
        let tenant = TENANTS[rng.usize(..TENANTS.len())].0;
        let person = rng.u64(..PEOPLE);
        // Every other person has a second desk behind another PBX.
        let subject = if person.is_multiple_of(2) { format!("u{person}") } else { format!("{}-u{person}", self.name) };
        let session = format!("{}-{}-{number}", self.name, self.epoch.get());
        let call = |direction| Ask {
            device: Some(Device::Desk),
            ..Ask::call(tenant, subject.as_str(), session.as_str(), direction)
        };
        let client = |kind| Ask::new(tenant, subject.as_str(), session.as_str(), kind);
        match rng.u8(..100) {
            0..30 => Ask { subject: None, ..call(Direction::Inbound) },
            30..35 => Ask { leg: Leg::Deliver, ..call(Direction::Outbound) },
            35..36 => Ask { session: None, emergency: true, ..call(Direction::Outbound) },
            36..37 => Ask { session: None, to: Some("1 12".into()), ..call(Direction::Outbound) },
            37..75 => Ask { to: Some("0307654321".into()), ..call(Direction::Outbound) },
            75..85 => call(Direction::Internal),
            85..87 => Ask { subject: Some("lift".into()), class: Some(Class::Lift), ..call(Direction::Outbound) },
            87..90 => Ask { leg: Leg::Service, ..call(Direction::Internal) },
            90..95 => client(Kind::Desktop),
            95..98 => client(Kind::Phone),
            // The same phone is paired again and again, by its one owner.
            _ => {
                let owner = format!("{}-u{person}", self.name);
                let ask = Ask::new(tenant, owner.as_str(), format!("mobile-of-{owner}"), Kind::Mobile);
                let key = (ask.tenant.clone(), ask.session.clone().unwrap_or_default());
                // While it is paired it is not paired again.
                if self.lives.borrow().contains_key(&key) { client(Kind::Guest) } else { ask }
            }
        }
    }
}

fn panic_of(error: tokio::task::JoinError) {
    if let Ok(panic) = error.try_into_panic() {
        std::panic::resume_unwind(panic);
    }
}
