//! Plays a day of the office through the client of PBX nodes, over real HTTP, and tells what is worth telling.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime};
use tokio::time::sleep;
use usherd_client::{Address, Client, Ended, Options};
use usherd_engine::{Code, Kind, Name, SessionFilter, TenantView};
use usherd_subscription::civil::{self, Edge};

use super::figures::{Figures, hours, what_if};
use super::gateway::Gateway;
use super::narrate::{Tally, by_hand, told};
use super::office::{Act, CLOSES_S, Ends, Happening, Node, OPENS_S, Scene, TENANT, Thing, at, script};
use super::terminal::{Terminal, Tone, seats_bar};
use crate::cli::failure::Failure;
use crate::daemon::app::Deciding;
use crate::daemon::clock::{Clock, HurriedClock};
use crate::daemon::config::Settings;

/// How often the state of the daemon is looked at, in real time.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a phone system waits for an answer. A real one has 50 ms; here a minute of the office passes meanwhile,
/// and a busy machine must not look like a daemon that is away.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long the phone systems may take to introduce themselves, and to say goodbye.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds after which a refused subject tries again, where the daemon did not say.
const AGAIN_S: u32 = 600;

/// An action that waits for its time.
enum Due {
    Act(Act),
    /// Was refused, and tries again.
    Again(Box<Thing>),
    End(Name, Node),
    Sums,
}

/// A session that lives.
struct Live {
    node: Node,
    kind: Kind,
    counts: bool,
}

/// The office while it is played.
pub(super) struct Play<'a> {
    clock: Arc<HurriedClock>,
    deciding: Arc<Deciding>,
    address: SocketAddr,
    terminal: Terminal<'a>,
    seed: u64,
    /// How many times as fast as the machine's its clock runs by day.
    speed: u32,
    /// The two commands that raise the quota.
    raise: [String; 2],
    /// Midnight before the day that is played, milliseconds since 1970 UTC.
    midnight_ms: i64,
    date: NaiveDate,
    due: BTreeMap<(u32, u64), Due>,
    count: u64,
    epoch: u64,
    nodes: BTreeMap<Node, Client>,
    live: HashMap<Name, Live>,
    gateway: Gateway,
    quota: Option<u32>,
    tally: Tally,
    /// Milliseconds that seats were held before today.
    seat_ms_before: u64,
}

/// Midnight at the beginning of a date where the office is, milliseconds since 1970 UTC.
pub(super) fn midnight_ms(date: NaiveDate) -> i64 {
    civil::midnight(Settings::default().time_zone.0, date, Edge::Start).timestamp_millis()
}

/// An instant of a date where the office is; so many seconds on the clock on its wall, milliseconds since 1970 UTC.
pub(super) fn utc_ms(date: NaiveDate, at_s: u32) -> i64 {
    let time = NaiveTime::from_num_seconds_from_midnight_opt(at_s, 0).unwrap_or(NaiveTime::MIN);
    civil::instant(Settings::default().time_zone.0, date.and_time(time), Edge::Start).timestamp_millis()
}

/// The parts of a play.
pub(super) struct Stage<'a> {
    pub clock: Arc<HurriedClock>,
    pub deciding: Arc<Deciding>,
    pub address: SocketAddr,
    pub terminal: Terminal<'a>,
    pub seed: u64,
    pub speed: u32,
    pub raise: [String; 2],
    pub date: NaiveDate,
}

impl<'a> Play<'a> {
    pub(super) fn new(stage: Stage<'a>) -> Self {
        let Stage { clock, deciding, address, terminal, seed, speed, raise, date } = stage;
        Play {
            clock,
            deciding,
            address,
            terminal,
            seed,
            speed,
            raise,
            midnight_ms: midnight_ms(date),
            date,
            due: BTreeMap::new(),
            count: 0,
            epoch: 0,
            nodes: BTreeMap::new(),
            live: HashMap::new(),
            gateway: Gateway::default(),
            quota: None,
            tally: Tally::default(),
            seat_ms_before: 0,
        }
    }

    /// Plays a day from one time to another, seconds after midnight.
    ///
    /// # Errors
    /// The phone systems cannot be started, or nobody reads the output any more.
    pub(super) async fn day(&mut self, number: u32, from_s: u32, until_s: u32) -> Result<(), Failure> {
        self.begin_day(number, from_s).await?;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.now_s() < until_s {
            let next_s = self.due.first_key_value().map_or(until_s, |((at_s, _), _)| (*at_s).min(until_s));
            let wait = self.clock.real_time_until(self.midnight_ms + i64::from(next_s) * 1_000);
            tokio::select! {
                biased;
                _ = looks.tick() => self.look()?,
                () = sleep(wait) => self.everything_due(until_s).await?,
            }
        }
        Ok(())
    }

    /// The office closes: whatever still lives ends, and the phone systems say goodbye.
    pub(super) async fn close(&mut self) {
        self.due.clear();
        for (session, live) in std::mem::take(&mut self.live) {
            let client = self.nodes.get(&live.node).filter(|_| live.kind != Kind::Mobile);
            if let Some(client) = client {
                client.release(TENANT, &session, Ended::Over);
            }
        }
        for client in std::mem::take(&mut self.nodes).into_values() {
            client.goodbye(PATIENCE).await;
        }
    }

    /// Lets the time until the next working day pass in a moment.
    ///
    /// # Errors
    /// Nobody reads the output any more.
    pub(super) async fn night(&mut self, next: NaiveDate, opens_s: u32) -> Result<(), Failure> {
        let opens_ms = utc_ms(next, opens_s);
        let left_s = (opens_ms - self.clock.now().utc_ms).max(0) / 1_000;
        // A quarter of a minute of somebody who watches the usual speed.
        let takes_s = (15 * 60 / i64::from(self.speed)).clamp(1, 15);
        self.clock.set_speed(u32::try_from(left_s / takes_s).unwrap_or(u32::MAX).max(self.speed));
        loop {
            let left = self.clock.real_time_until(opens_ms);
            if left.is_zero() {
                break;
            }
            self.look()?;
            sleep(left.min(LOOK_EVERY)).await;
        }
        self.clock.set_speed(self.speed);
        (self.date, self.midnight_ms) = (next, midnight_ms(next));
        Ok(())
    }

    /// The figures of a day that is over, or of as much of it as was played.
    ///
    /// # Errors
    /// Nobody reads the output any more.
    pub(super) fn figures(&mut self) -> Result<(), Failure> {
        let Some(view) = self.view() else { return Ok(()) };
        let figures = Figures {
            tally: &self.tally,
            quota: view.quota,
            seat_hours: view.seat_ms.unwrap_or(0).saturating_sub(self.seat_ms_before) as f64 / 3_600_000.0,
            at_s: self.now_s(),
        };
        figures.tell(&mut self.terminal)?;
        let since = DateTime::from_timestamp_millis(self.midnight_ms).unwrap_or_default();
        what_if(self.address, since, &mut self.terminal)
    }

    pub(super) fn date(&self) -> NaiveDate {
        self.date
    }

    pub(super) fn terminal(&mut self) -> &mut Terminal<'a> {
        &mut self.terminal
    }

    /// Somebody has seen enough.
    ///
    /// # Errors
    /// Nobody reads the output any more.
    pub(super) fn stopped(&mut self) -> Result<(), Failure> {
        self.say(Tone::Plain, "Stopped.")
    }

    async fn begin_day(&mut self, number: u32, from_s: u32) -> Result<(), Failure> {
        self.tally = Tally::default();
        self.gateway = Gateway::default();
        let view = self.view();
        self.seat_ms_before = view.as_ref().and_then(|view| view.seat_ms).unwrap_or(0);
        self.quota = view.and_then(|view| view.quota);
        self.terminal.say("", Tone::Loud, &self.date.format("%A, %-d %B %Y").to_string())?;
        for node in [Node::Pbx, Node::Dect] {
            self.connect(node).await?;
        }
        for Happening { at_s, act } in script(self.seed, number) {
            if let Some(act) = still_matters(act, at_s, from_s) {
                self.plan(at_s, Due::Act(act));
            }
        }
        if from_s > OPENS_S {
            self.plan(from_s, Due::Sums);
        }
        let half_hours = (from_s / 1_800 + 1..CLOSES_S / 1_800).map(|half_hours| half_hours * 1_800);
        for at_s in half_hours.filter(|at_s| at_s % 3_600 == 0 || *at_s == at(8, 30)) {
            self.plan(at_s, Due::Sums);
        }
        Ok(())
    }

    async fn connect(&mut self, node: Node) -> Result<(), Failure> {
        let wrong = |why: String| Failure::failed(format!("{} cannot be started: {why}", node.name()));
        self.epoch += 1;
        let address =
            format!("http://{}", self.address).parse::<Address>().map_err(|fault| wrong(fault.to_string()))?;
        let mut options = Options::new(address, node.name(), self.epoch);
        options.deadline = DEADLINE;
        let client = Client::start(options, ()).map_err(|fault| wrong(fault.to_string()))?;
        if !client.connected(PATIENCE).await {
            return Err(wrong("the daemon does not answer it".to_owned()));
        }
        self.nodes.insert(node, client);
        Ok(())
    }

    fn plan(&mut self, at_s: u32, due: Due) {
        self.count += 1;
        self.due.insert((at_s, self.count), due);
    }

    fn now_s(&self) -> u32 {
        u32::try_from((self.clock.now().utc_ms - self.midnight_ms) / 1_000).unwrap_or(0)
    }

    fn view(&self) -> Option<TenantView> {
        self.deciding.engine.tenant(self.clock.now(), TENANT)
    }

    fn say(&mut self, tone: Tone, text: &str) -> Result<(), Failure> {
        let left = hours(self.now_s());
        self.terminal.say(&left, tone, text)
    }

    async fn everything_due(&mut self, until_s: u32) -> Result<(), Failure> {
        let now_s = self.now_s().min(until_s);
        while let Some(first) = self.due.first_entry().filter(|first| first.key().0 <= now_s) {
            let at_s = first.key().0;
            match first.remove() {
                Due::Act(act) => self.act(at_s, act).await?,
                Due::Again(thing) => self.begin(now_s, *thing, true).await?,
                Due::End(session, node) => self.end(&session, node),
                Due::Sums => self.sum_up()?,
            }
        }
        self.look()
    }

    async fn act(&mut self, at_s: u32, act: Act) -> Result<(), Failure> {
        match act {
            Act::Begin(thing) => self.begin(at_s, *thing, false).await,
            Act::PowerCut => self.cut_power(),
            Act::PowerBack => {
                self.connect(Node::Dect).await?;
                let text = self.gateway.is_back();
                text.map_or(Ok(()), |text| self.say(Tone::Plain, text))
            }
            Act::Advice => self.advise(),
            Act::Lunch => {
                let held = self.view().map_or(0, |view| view.held);
                let clients = self.live.values().filter(|live| live.kind == Kind::Desktop).count();
                let text =
                    format!("Lunch: {clients} clients are open, {held} seats are held. A closed client needs none.");
                self.say(Tone::Plain, &text)
            }
        }
    }

    /// Asks, as its phone system would, and sees to it that it ends.
    async fn begin(&mut self, began_s: u32, thing: Thing, again: bool) -> Result<(), Failure> {
        // A phone without power asks nobody.
        let Some(client) = self.nodes.get(&thing.node) else { return Ok(()) };
        let verdict = client.acquire(&thing.ask).await;
        self.tally.note(&thing, &verdict);
        let session = thing.ask.session.clone().unwrap_or_default();
        let held = verdict.answer.as_ref().map_or(0, |answer| answer.held);
        self.note_peak(held);
        if let Some((tone, text)) = told(&thing, &verdict, &self.tally, again) {
            let fields = by_hand(thing.scene, &verdict).filter(|_| !again);
            let more = if fields.is_some() { " Ask it yourself:" } else { "" };
            self.say(tone, &format!("{text}{more}"))?;
            if let Some(fields) = fields {
                let line = format!("  curl -s http://{}/v1/acquire -d '{fields}'", self.address);
                self.terminal.line(Tone::Loud, &line)?;
            }
        }
        let until_s = match thing.ends {
            Ends::After(lasts_s) => Some(began_s + lasts_s),
            Ends::At(until_s) => Some(until_s),
            Ends::Never => None,
        };
        if verdict.allow {
            let counts = verdict.answer.as_ref().is_some_and(|answer| answer.code != Code::AllowFree);
            self.live.insert(session.clone(), Live { node: thing.node, kind: thing.ask.kind, counts });
            if let Some(until_s) = until_s {
                self.plan(until_s, Due::End(session, thing.node));
            }
        } else if thing.insists {
            let again_s = self.now_s() + verdict.retry_after_s().unwrap_or(AGAIN_S);
            let in_time = !matches!(thing.ends, Ends::At(until_s) if until_s <= again_s);
            if in_time && again_s < CLOSES_S {
                self.plan(again_s, Due::Again(Box::new(thing)));
            }
        }
        Ok(())
    }

    fn end(&mut self, session: &Name, node: Node) {
        if self.live.remove(session).is_some()
            && let Some(client) = self.nodes.get(&node)
        {
            client.release(TENANT, session, Ended::Over);
        }
    }

    /// The gateway goes without a goodbye, and its calls with it: nobody tells the daemon.
    fn cut_power(&mut self) -> Result<(), Failure> {
        let Some(client) = self.nodes.remove(&Node::Dect) else { return Ok(()) };
        drop(client);
        self.live.retain(|_, live| live.node != Node::Dect);
        let text = self.gateway.loses_power(&self.deciding.engine);
        self.say(Tone::Bad, &text)
    }

    fn sessions(&self) -> HashSet<Name> {
        let all = self.deciding.engine.sessions(TENANT, &SessionFilter::default(), "", 10_000).unwrap_or_default();
        all.into_iter().map(|session| session.session).collect()
    }

    fn look(&mut self) -> Result<(), Failure> {
        let Some(view) = self.view() else { return Ok(()) };
        self.note_peak(view.held);
        if view.quota != self.quota {
            self.quota_changed(view.quota)?;
        }
        if let Some(text) = self.gateway.look(&self.deciding.engine, self.clock.now()) {
            self.say(Tone::Plain, &text)?;
        }
        let calls = self.live.values().filter(|live| live.kind == Kind::Call).count();
        let now_s = self.now_s();
        let status = format!("{}  {}, {calls} calls", hours(now_s), seats_bar(view.held, view.quota));
        self.terminal.status(&status)
    }

    fn note_peak(&mut self, held: u32) {
        if held > self.tally.peak {
            (self.tally.peak, self.tally.peak_at_s) = (held, self.now_s());
        }
    }

    /// Takes up a new quota; refused subjects need not wait any longer.
    fn quota_changed(&mut self, quota: Option<u32>) -> Result<(), Failure> {
        let before = std::mem::replace(&mut self.quota, quota);
        let sessions = self.sessions();
        let running = self.live.iter().filter(|(_, live)| live.kind == Kind::Call && live.counts);
        let (running, cut): (Vec<_>, Vec<_>) = running.partition(|(session, _)| sessions.contains(*session));
        let shown = |quota: Option<u32>| quota.map_or("unlimited".to_owned(), |quota| quota.to_string());
        let cut = if cut.is_empty() { "and goes on".to_owned() } else { format!("{} were cut", cut.len()) };
        let text = format!(
            "The quota is {} now, not {}, by reload: no restart. Each of the {} calls that hold a seat was running before {cut}.",
            shown(quota),
            shown(before),
            running.len()
        );
        let raised = quota.is_none_or(|quota| before.is_some_and(|before| quota > before));
        self.say(if raised { Tone::Good } else { Tone::Plain }, &text)?;
        let now_s = self.now_s();
        let waiting: Vec<(u32, u64)> =
            self.due.iter().filter(|(_, due)| matches!(due, Due::Again(_))).map(|(key, _)| *key).collect();
        for key in waiting.into_iter().filter(|_| raised) {
            if let Some(due) = self.due.remove(&key) {
                self.plan(now_s, due);
            }
        }
        Ok(())
    }

    /// How to raise the quota, unless somebody did.
    fn advise(&mut self) -> Result<(), Failure> {
        if self.quota != Some(16) {
            return Ok(());
        }
        let raise = self.raise.clone();
        self.say(
            Tone::Plain,
            "To have 20 seats, without a restart and without cutting a call, type into another terminal:",
        )?;
        self.terminal.line(Tone::Plain, "")?;
        for command in raise {
            self.terminal.line(Tone::Loud, &format!("  {command}"))?;
        }
        self.terminal.line(Tone::Plain, "")?;
        let text = "The daemon also watches its files: the first command alone does it within a moment, and the second then says that nothing is left to change.";
        self.terminal.say("", Tone::Plain, text)
    }

    fn sum_up(&mut self) -> Result<(), Failure> {
        let Some(view) = self.view() else { return Ok(()) };
        let quota = view.quota.map_or(String::new(), |quota| format!(" of {quota}"));
        let text = format!("{}{quota} seats are held. So far {}.", view.held, self.tally.sums());
        self.say(Tone::Plain, &text)
    }
}

/// The act as it is when the play begins; `None` if it was over by then.
fn still_matters(act: Act, at_s: u32, from_s: u32) -> Option<Act> {
    if at_s >= from_s {
        return Some(act);
    }
    match act {
        Act::Begin(mut thing) => {
            thing.scene = Scene::Routine;
            let over = match thing.ends {
                Ends::After(lasts_s) => at_s + lasts_s <= from_s,
                Ends::At(until_s) => until_s <= from_s,
                Ends::Never => false,
            };
            (!over).then_some(Act::Begin(thing))
        }
        Act::Advice => Some(act),
        Act::PowerCut | Act::PowerBack | Act::Lunch => None,
    }
}
