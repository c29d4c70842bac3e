//! The usage history against a naive model over days of random calls, with stops, kills and damaged files: sums,
//! peaks, denials and the demand of every five minutes are exact, whatever files they are read from.
//!
//! `SEED=n` replays one run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]
#![allow(clippy::print_stdout, reason = "its output is the seed to replay it by")]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use usherd::daemon::clock::monotonic_ns;
use usherd::daemon::history::History;
use usherd::daemon::history::slot::{Levels, Slot};
use usherd::daemon::history::store::Limits;
use usherd::daemon::history::usage::{Point, Step};
use usherd_engine::plan::{Entitled, Plan, TenantPlan};
use usherd_engine::{Acquire, Code, Direction, Engine, Kind, Now, Release, Standing};

/// 2026-11-20 22:00 UTC: the first midnight comes soon.
const BEGIN_S: i64 = 1_795_212_000;
const TENANTS: [(&str, u32); 3] = [("acme", 4), ("beta", 2), ("zero", 0)];
const PEOPLE: usize = 8;
const ALL: (i64, i64) = (0, i64::MAX / 2);
const KEEP_ALL: Limits = Limits { detail_days: 90, days: 900, bytes_max: u64::MAX };

/// The figures that one slot must have.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    slot: Slot,
    observed_ms: u64,
    levels: Levels,
}

/// The naive side: people, who holds, who waits, and sums.
#[derive(Default)]
struct Model {
    holds: HashMap<(usize, usize), ()>,
    waits: HashMap<(usize, usize), u64>,
    /// Of the slot in progress, lost at a kill.
    open: Vec<Known>,
    kept: BTreeMap<(usize, i64), Known>,
}

struct World {
    rng: fastrand::Rng,
    folder: tempfile::TempDir,
    history: Option<History>,
    engine: Engine,
    model: Model,
    uptime_ms: u64,
    /// Of the wall clock, always whole here.
    utc_s: i64,
    slot_s: i64,
}

fn plan() -> Plan {
    let tenants = TENANTS.iter().map(|(id, seats)| TenantPlan {
        id: (*id).into(),
        entitled: Entitled { standing: Standing::Active, seats: Some(*seats) },
        policy: Arc::default(),
        reserve: Vec::new(),
        pool: None,
    });
    Plan { tenants: tenants.collect(), ..Plan::default() }
}

fn engine(now: Now) -> Engine {
    let engine = Engine::new(usherd_engine::Limits::default());
    engine.install(now, plan(), &mut ());
    engine
}

fn open(folder: &Path, utc_s: i64) -> History {
    History::open(folder, utc_s * 1_000, KEEP_ALL)
}

impl World {
    fn new(seed: u64) -> Self {
        println!("SEED={seed}");
        let folder = tempfile::tempdir().unwrap();
        let history = Some(open(folder.path(), BEGIN_S));
        let now = Now { uptime_ms: 1_000_000, utc_ms: BEGIN_S * 1_000 };
        let world = World {
            rng: fastrand::Rng::with_seed(seed),
            folder,
            history,
            engine: engine(now),
            model: Model { open: vec![Known::default(); TENANTS.len()], ..Model::default() },
            uptime_ms: 1_000_000,
            utc_s: BEGIN_S,
            slot_s: BEGIN_S - BEGIN_S % 300,
        };
        world.look();
        world
    }

    fn now(&self) -> Now {
        Now { uptime_ms: self.uptime_ms, utc_ms: self.utc_s * 1_000 }
    }

    fn history(&self) -> &History {
        self.history.as_ref().unwrap()
    }

    fn look(&self) {
        self.history().look(&self.engine, self.now(), self.utc_s * 1_000);
    }

    /// A second in which something may happen at its beginning, and a look at its end.
    fn second(&mut self, busy: f64) {
        for tenant in 0..TENANTS.len() {
            for person in 0..PEOPLE {
                if self.rng.f64() < busy {
                    self.act(tenant, person);
                }
            }
        }
        self.uptime_ms += 1_000;
        self.utc_s += 1;
        for (tenant, (_, quota)) in TENANTS.iter().enumerate() {
            let held = self.model.holds.keys().filter(|(own, _)| *own == tenant).count() as u32;
            let known = &mut self.model.open[tenant];
            known.observed_ms += 1_000;
            known.slot.seat_ms += u64::from(held) * 1_000;
            known.slot.saturated_ms += if held >= *quota { 1_000 } else { 0 };
            let now_ms = self.uptime_ms;
            let given_up: Vec<_> = self
                .model
                .waits
                .iter()
                .filter(|((own, _), until)| *own == tenant && **until <= now_ms)
                .map(|(key, _)| *key)
                .collect();
            known.slot.denials_true += given_up.len() as u64;
            given_up.iter().for_each(|key| _ = self.model.waits.remove(key));
            let level = held + self.waiting(tenant);
            let known = &mut self.model.open[tenant];
            if level > 0 {
                known.levels.add(level, 1_000, 0);
            }
            known.slot.demand = known.slot.demand.max(level);
        }
        self.look();
        if self.utc_s - self.utc_s % 300 != self.slot_s {
            self.keep();
            // Here five minutes take a millisecond: the disk has to keep up.
            while self.history().waiting() > 8 {
                std::thread::yield_now();
            }
        }
    }

    fn waiting(&self, tenant: usize) -> u32 {
        self.model.waits.keys().filter(|(own, _)| *own == tenant).count() as u32
    }

    /// The slot in progress is over for the model too.
    fn keep(&mut self) {
        for (tenant, (_, quota)) in TENANTS.iter().enumerate() {
            let known = std::mem::take(&mut self.model.open[tenant]);
            let kept = self.model.kept.entry((tenant, self.slot_s)).or_default();
            kept.observed_ms += known.observed_ms;
            let quota = Some(*quota);
            kept.slot.add(&Slot { quota, demand: known.slot.demand.max(known.slot.peak), ..known.slot });
            kept.slot.quota = quota;
            kept.levels.add_all(&known.levels);
            let held = self.model.holds.keys().filter(|(own, _)| *own == tenant).count() as u32;
            self.model.open[tenant].slot.peak = held;
        }
        self.slot_s = self.utc_s - self.utc_s % 300;
    }

    fn act(&mut self, tenant: usize, person: usize) {
        let (id, subject) = (TENANTS[tenant].0, format!("p{person}"));
        let now = self.now();
        if self.model.holds.remove(&(tenant, person)).is_some() {
            let release =
                Release { tenant: id, session: &subject, node: None, epoch: None, seq: None, transferred: false };
            self.engine.release(now, &release, &mut ());
            return;
        }
        let ask = Acquire {
            direction: Some(Direction::Outbound),
            ttl_s: Some(86_400),
            ..Acquire::new(id, &subject, &subject, Kind::Call)
        };
        let decision = self.engine.acquire(now, &ask, &mut ()).unwrap();
        let demand = &self.history().demand;
        match decision.code {
            Code::AllowNew => demand.granted(id, &subject, decision.held),
            _ => demand.denied(id, &subject, decision.held, now.uptime_ms),
        }
        let key = (tenant, person);
        let until = now.uptime_ms + 60_000;
        if decision.code == Code::AllowNew {
            self.model.waits.remove(&key);
            self.model.holds.insert(key, ());
            let level = decision.held + self.waiting(tenant);
            let known = &mut self.model.open[tenant];
            known.slot.peak = known.slot.peak.max(decision.held);
            known.levels.add(level, 0, 1);
            return;
        }
        let is_new = self.model.waits.insert(key, until).is_none();
        let level = decision.held + self.waiting(tenant);
        let known = &mut self.model.open[tenant];
        known.slot.denials += 1;
        if is_new {
            known.levels.add(level, 0, 1);
            known.slot.demand = known.slot.demand.max(level);
        }
    }

    /// The daemon ends, in an orderly way or not, and starts again after a while; everybody calls anew.
    fn restart(&mut self, killed: bool) {
        let history = self.history.take().unwrap();
        if killed {
            self.model.open.fill(Known::default());
        } else {
            history.end(&self.engine, self.now(), self.utc_s * 1_000);
            self.keep();
        }
        drop(history);
        self.model.open.fill(Known::default());
        self.model.holds.clear();
        self.model.waits.clear();
        let away_s = self.rng.i64(0..900);
        self.utc_s += away_s;
        self.uptime_ms += away_s as u64 * 1_000;
        self.slot_s = self.utc_s - self.utc_s % 300;
        self.engine = engine(self.now());
        self.history = Some(open(self.folder.path(), self.utc_s));
        self.look();
    }

    /// Everything that is known of every slot, the one in progress too, is what the model knows.
    fn compare(&self) {
        for (tenant, (id, quota)) in TENANTS.iter().enumerate() {
            let present = || Some((self.now(), self.engine.tenant(self.now(), id)?));
            let mut known: BTreeMap<i64, Point> = BTreeMap::new();
            let mut levels = Levels::default();
            for ((_, at), kept) in self.model.kept.iter().filter(|((own, _), _)| *own == tenant) {
                known.insert(*at, Point { slot: kept.slot, observed_ms: kept.observed_ms });
                levels.add_all(&kept.levels);
            }
            let open = &self.model.open[tenant];
            levels.add_all(&open.levels);
            if open.observed_ms > 0 {
                let slot = Slot { quota: Some(*quota), demand: open.slot.demand.max(open.slot.peak), ..open.slot };
                known.entry(self.slot_s).or_default().add(&Point { slot, observed_ms: open.observed_ms });
            }
            known.values_mut().for_each(|point| point.slot.quota = Some(*quota));
            known.retain(|_, point| point.observed_ms > 0);
            let usage =
                |step, begin: &dyn Fn(i64) -> i64| self.history().usage(id, &present, ALL, step, begin).unwrap();
            let seen = usage(Step::FiveMinutes, &|at| at);
            for (at, point) in &known {
                assert_eq!(seen.get(at), Some(point), "{id} at {at}, now {}", self.utc_s);
            }
            assert_eq!(seen.len(), known.len(), "{id}: nothing else is known");
            for (step, length_s) in [(Step::Hour, 3_600), (Step::Day, 86_400)] {
                let begin = |at: i64| at - at % length_s;
                let mut sums: BTreeMap<i64, Point> = BTreeMap::new();
                known.iter().for_each(|(at, point)| sums.entry(begin(*at)).or_default().add(point));
                sums.values_mut().for_each(|sum| sum.slot.quota = Some(*quota));
                let seen = usage(step, &begin);
                for (at, sum) in &sums {
                    assert_eq!(seen.get(at), Some(sum), "{id} by {step:?} at {at}, now {}", self.utc_s);
                }
                assert_eq!(seen.len(), sums.len(), "{id} by {step:?}");
            }
            let (seen, _) = self.history().demand_of(id, &present, ALL).unwrap();
            assert_eq!(seen, levels, "{id}");
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let mut restarts = 0;
    for hour in 0..60 {
        let busy = if hour % 7 == 3 { 0.0 } else { world.rng.f64() * 0.01 };
        for _ in 0..3_600 {
            world.second(busy);
            if world.rng.u32(0..9_000) == 0 {
                let killed = world.rng.bool();
                world.restart(killed);
                restarts += 1;
            }
        }
        if hour % 5 == 0 {
            world.compare();
        }
    }
    world.compare();
    let files = |kind: &str| {
        let folder = std::fs::read_dir(world.folder.path().join("history")).unwrap();
        folder.flatten().filter(|file| file.file_name().to_string_lossy().starts_with(kind)).count()
    };
    assert!(restarts > 5 && files("day-") >= 2 && files("hour-") > 50, "{restarts} restarts, {} days", files("day-"));
}

#[test]
fn days_of_calls_are_remembered_exactly_through_stops_and_kills() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        return run(seed);
    }
    let first = monotonic_ns() / 1_000_000 % 1_000_000_000;
    (first..first + 3).for_each(run);
}

#[test]
fn a_slot_begins_with_held_seats_and_knows_a_short_peak() {
    let mut world = World::new(0);
    (0..3).for_each(|person| world.act(0, person));
    (0..300).for_each(|_| world.second(0.0));
    // Two end before the slot in progress is looked at; later one comes and goes between two looks.
    [0, 1].into_iter().for_each(|person| world.act(0, person));
    world.second(0.0);
    world.compare();
    assert_eq!(world.model.open[0].slot.peak, 3);
    [3, 4, 5, 3, 4, 5].into_iter().for_each(|person| world.act(0, person));
    world.second(0.0);
    world.compare();
    assert_eq!(world.model.open[0].slot.peak, 4);
}

/// The usage of acme, slot by slot.
fn seat_ms(world: &World) -> Vec<u64> {
    let present = || Some((world.now(), world.engine.tenant(world.now(), "acme")?));
    let points = world.history().usage("acme", &present, ALL, Step::FiveMinutes, |at| at).unwrap();
    points.values().map(|point| point.slot.seat_ms).collect()
}

#[test]
fn a_release_delayed_across_a_slot_end_takes_nothing_away() {
    let mut world = World::new(0);
    world.act(0, 0);
    (0..300).for_each(|_| world.second(0.0));
    // Its instant is of before the look that closed the slot, and it comes after it.
    world.uptime_ms -= 5;
    world.act(0, 0);
    world.uptime_ms += 5;
    assert_eq!(seat_ms(&world), [300_000]);
    (0..300).for_each(|_| world.second(0.0));
    world.act(0, 0);
    (0..300).for_each(|_| world.second(0.0));
    assert_eq!(seat_ms(&world), [300_000, 0, 299_995], "what was told too much is made up for");
}

#[test]
fn a_tenant_that_is_gone_and_back_counts_from_nothing() {
    let mut world = World::new(0);
    world.act(0, 0);
    (0..100).for_each(|_| world.second(0.0));
    world.act(0, 0);
    world.engine.install(world.now(), Plan::default(), &mut ());
    assert!(world.engine.tenant(world.now(), "acme").is_none());
    world.engine.install(world.now(), plan(), &mut ());
    world.act(0, 0);
    (0..200).for_each(|_| world.second(0.0));
    world.act(0, 0);
    (0..300).for_each(|_| world.second(0.0));
    assert_eq!(seat_ms(&world), [200_000, 0], "of the five minutes in which it went the last life is known");
}

#[test]
fn what_is_old_goes_the_five_minutes_first_and_what_is_much_too() {
    let mut world = World::new(5);
    for _ in 0..4 * 86_400 {
        world.second(0.001);
    }
    let total = |world: &World, step| {
        let mut total = Point::default();
        let present = || Some((world.now(), world.engine.tenant(world.now(), "acme")?));
        let points = world.history().usage("acme", &present, ALL, step, |at| at).unwrap();
        points.values().for_each(|point| total.add(point));
        (points.len(), total.observed_ms / 1_000)
    };
    assert_eq!(total(&world, Step::FiveMinutes), (4 * 288, 4 * 86_400));
    world.history().set_limits(Limits { detail_days: 2, days: 900, bytes_max: u64::MAX });
    (0..3_600).for_each(|_| world.second(0.001));
    drop(world.history.take());
    world.history = Some(open(world.folder.path(), world.utc_s));
    // Two days of five minutes, up to the hour that was over when it was looked at; all of the hours.
    let (points, _) = total(&world, Step::FiveMinutes);
    assert!((2 * 288..=2 * 288 + 24).contains(&points), "{points}");
    assert_eq!(total(&world, Step::Hour).1, 4 * 86_400 + 3_600);
    let bytes = world.history().status().bytes;
    drop(world.history.take());
    let much = Limits { detail_days: 90, days: 900, bytes_max: bytes / 2 };
    world.history = Some(History::open(world.folder.path(), world.utc_s * 1_000, much));
    let kept = world.history().status();
    assert!(kept.bytes <= bytes / 2 && kept.bytes > 0, "{kept:?}");
    assert!(kept.detail_from_s.unwrap() <= world.utc_s - 82_800, "the last day stays: {kept:?}");
}

#[test]
fn a_damaged_file_is_set_aside_and_all_else_is_read() {
    let mut world = World::new(6);
    (0..3 * 3_600).for_each(|_| world.second(0.005));
    drop(world.history.take());
    let folder = world.folder.path().join("history");
    let hurt = |prefix: &str| {
        let file = std::fs::read_dir(&folder)
            .unwrap()
            .flatten()
            .find(|file| file.file_name().to_string_lossy().starts_with(prefix))
            .unwrap()
            .path();
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(&file, bytes).unwrap();
    };
    hurt("hour-2026-11-20T23");
    world.history = Some(open(world.folder.path(), world.utc_s));
    let points = || world.history().usage("acme", &|| None, ALL, Step::FiveMinutes, |at| at).unwrap().len();
    assert_eq!((points(), points()), (2 * 12, 2 * 12), "one of three hours is gone, also at the second look");
    assert!(folder.join("hour-2026-11-20T23.damaged").exists());
}
