//! `kill -9` at any moment: what was acknowledged is there again, what was not is there wholly or not (I11).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::http::Client;
use usherd_testkit::process::{Site, Usherd};
use usherd_testkit::wait::pause;

use super::caller::{Caller, Known, Op};

const LARGE: &str = "id = \"large\"\nkind = \"nfr\"\nseats = 100000\n";
const SMALL: &str = "id = \"small\"\nkind = \"nfr\"\nseats = 3\n";
const LONG_LEASE: &str = "[nodes]\nlease_s = 600\ntombstone_s = 600\n";

/// Sessions by (tenant, id).
type Listed = BTreeMap<(String, String), Value>;

/// When it is killed in addition, before anybody asks for anything.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    Nothing,
    Ready,
    FirstSnapshot,
}

struct Run {
    name: &'static str,
    seed: u64,
    rng: Rng,
    cycles: usize,
    site: Site,
    callers: Vec<Caller>,
    ballast: usize,
}

/// The counts of a run; printed, so that one can see that the kills landed where they should.
#[derive(Debug, Default)]
struct Seen {
    kills: usize,
    acknowledged: u64,
    /// Of them, those that said that they may be forgotten.
    degraded: u64,
    in_flight: usize,
    in_flight_kept: usize,
    kills_before_load: usize,
    torn_tails: usize,
    unfinished_snapshots: usize,
}

impl Run {
    fn new(name: &'static str, kills: usize, batches: bool, journal: &str) -> Self {
        let env = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
        let seed = env("USHERD_SEED").unwrap_or_else(|| fastrand::u64(..));
        let cycles = env("USHERD_KILLS").map_or(kills, |kills| kills as usize);
        println!("{name}: USHERD_SEED={seed} USHERD_KILLS={cycles}");
        let site = Site::new(&format!("{LONG_LEASE}[journal]\n{journal}\n"), &[("large", LARGE), ("small", SMALL)]);
        let callers = (0..4).map(|number| Caller::new(number, seed, batches)).collect();
        Run { name, seed, rng: Rng::with_seed(seed), cycles, site, callers, ballast: 0 }
    }

    /// Cycles of start, comparison, load and death; `moment` gives the microseconds under load.
    fn run(mut self, before: Before, moment: impl Fn(&mut Rng) -> u64) {
        let began = monotonic_ns();
        let mut seen = Seen::default();
        for cycle in 0..=self.cycles {
            self.kill_before_load(before, &mut seen);
            let mut usherd = self.site.start();
            let listed = self.compare(&mut usherd, cycle, &mut seen);
            self.send_again(&mut usherd.client(), &listed);
            if cycle == self.cycles {
                assert_eq!(usherd.terminate(), Some(0));
                break;
            }
            let micros = moment(&mut self.rng);
            self.load_and_kill(usherd, Duration::from_micros(micros));
            seen.kills += 1;
            seen.unfinished_snapshots += self.site.journal_files("tmp").len().min(1);
        }
        seen.acknowledged = self.callers.iter().map(|caller| caller.acknowledged).sum();
        seen.degraded = self.callers.iter().map(|caller| caller.answered_degraded).sum();
        let seconds = (monotonic_ns() - began) as f64 / 1e9;
        println!("{}: USHERD_SEED={} {seen:?}, {seconds:.1} s", self.name, self.seed);
    }

    /// Kills it while it reads the configuration and the journal, or while it takes its first snapshot.
    fn kill_before_load(&mut self, before: Before, seen: &mut Seen) {
        let kills = if before == Before::Nothing { 0 } else { self.rng.usize(1..4) };
        for _ in 0..kills {
            let usherd = if before == Before::Ready { self.site.spawn() } else { self.site.start() };
            let micros = if before == Before::Ready { self.rng.u64(..60_000) } else { self.rng.u64(..20_000) };
            pause(Duration::from_micros(micros));
            usherd.kill();
            seen.kills_before_load += 1;
            seen.unfinished_snapshots += self.site.journal_files("tmp").len().min(1);
        }
    }

    fn load_and_kill(&mut self, usherd: Usherd, after: Duration) {
        let killed = AtomicBool::new(false);
        let address = usherd.address();
        std::thread::scope(|scope| {
            for caller in &mut self.callers {
                scope.spawn(|| caller.work(address, &killed));
            }
            pause(after);
            killed.store(true, Ordering::SeqCst);
            usherd.kill();
        });
    }

    fn compare(&mut self, usherd: &mut Usherd, cycle: usize, seen: &mut Seen) -> Listed {
        let whence = format!("{} USHERD_SEED={} cycle {cycle}", self.name, self.seed);
        let said = usherd.said.join("\n");
        assert!(!said.contains("the journal is damaged"), "{whence}: {said}");
        seen.torn_tails += usize::from(said.contains("interrupted write"));
        let mut client = usherd.client();
        let mut listed = Listed::new();
        for tenant in ["large", "small"] {
            let rows = client.list(&format!("/v1/tenants/{tenant}/sessions"), "sessions");
            let seated: BTreeSet<String> =
                rows.iter().filter(|row| row["counts"] == true).map(|row| row["subject"].to_string()).collect();
            let held = client.held(tenant);
            assert_eq!(held, seated.len() as u64, "{whence}: seats held and subjects with claims of {tenant}");
            // Also where a release is lost that nobody was told of: a grant of its seat is lost with it.
            assert!(tenant != "small" || held <= 3, "{whence}: {held} of 3 seats");
            for row in rows.into_iter().filter(|row| !row["session"].as_str().unwrap().starts_with("ballast")) {
                listed.insert((tenant.into(), row["session"].as_str().unwrap().into()), row);
            }
        }
        let mut unknown: BTreeSet<_> = listed.keys().cloned().collect();
        for caller in &mut self.callers {
            compare_caller(caller, &listed, &mut unknown, &whence, seen);
        }
        assert!(unknown.is_empty(), "{whence}: nobody asked for {unknown:?}");
        if self.ballast > 0 {
            let rows = client.list("/v1/tenants/large/subjects", "subjects");
            let kept = rows.iter().filter(|row| row["subject"].as_str().unwrap().starts_with("ballast")).count();
            assert_eq!(kept, self.ballast, "{whence}: of the sessions that nobody touches");
        }
        listed
    }

    /// The same message again counts once (I17), and an old one touches nothing newer (I18), also across a restart.
    fn send_again(&mut self, client: &mut Client, listed: &Listed) {
        for caller in &mut self.callers {
            let nodes = caller.is_node();
            let (all, unsure) = (caller.known.clone(), caller.unsure.clone());
            let sure = || all.iter().filter(|(session, _)| !unsure.contains(*session));
            let live: Vec<_> = sure().filter(|(_, known)| matches!(known, Known::Live { counts: true, .. })).collect();
            if let Some((session, Known::Live { tenant, message, .. })) = caller.any(&live) {
                let again = client.post("/v1/acquire", &message.to_string()).json();
                assert_eq!(again["code"], "allow.same", "{message}: {again}");
                if nodes {
                    let mut old = json!({"tenant": tenant, "session": session});
                    (old["node"], old["epoch"], old["seq"]) = (message["node"].clone(), 7.into(), 0.into());
                    let stale = client.post("/v1/release", &old.to_string()).json();
                    assert_eq!(stale["code"], "ignore.stale", "{old}: {stale}");
                }
            }
            let gone: Vec<_> = sure().filter(|(_, known)| matches!(known, Known::Gone { .. })).collect();
            if let Some((session, Known::Gone { tenant, acquire, release })) = caller.any(&gone) {
                assert!(!listed.contains_key(&((*tenant).to_owned(), (*session).clone())));
                let again = client.post("/v1/release", &release.to_string()).json();
                assert_eq!(again["code"], "released.none", "{release}: {again}");
                if nodes && acquire["direction"] != "inbound" {
                    let late = client.post("/v1/acquire", &acquire.to_string()).json();
                    assert_eq!(late["code"], "ignore.stale", "{acquire}: {late}");
                }
            }
        }
    }

    /// Sessions that make every snapshot long.
    fn with_ballast(mut self, sessions: usize) -> Self {
        let usherd = self.site.start();
        let mut client = usherd.client();
        for from in (0..sessions).step_by(500) {
            let ops: Vec<Value> = (from..sessions.min(from + 500))
                .map(|at| {
                    let name = format!("ballast-{at:06}-{}", "x".repeat(80));
                    json!({"op": "acquire", "tenant": "large", "session": name, "subject": name, "kind": "desktop", "ttl_s": 86_400})
                })
                .collect();
            let answer = client.post("/v1/batch", &json!({ "ops": ops }).to_string());
            assert_eq!(answer.body.matches("allow.new").count(), ops.len(), "{answer:?}");
        }
        usherd.kill();
        self.ballast = sessions;
        self
    }
}

fn compare_caller(
    caller: &mut Caller,
    listed: &Listed,
    unknown: &mut BTreeSet<(String, String)>,
    whence: &str,
    seen: &mut Seen,
) {
    let row = |tenant: &str, session: &str| listed.get(&(tenant.to_owned(), session.to_owned()));
    caller.forget_what_is_lost(|session, known| match known {
        Some(Known::Live { tenant, subject, .. }) => {
            row(tenant, session).is_some_and(|row| row["subject"] == subject.as_str())
        }
        Some(Known::Gone { .. }) | None => ["large", "small"].iter().all(|tenant| row(tenant, session).is_none()),
    });
    // Of what was in flight, what can be told: new sessions that are there, live ones that are gone.
    let mut applied = Vec::new();
    for op in &caller.in_flight {
        let known = caller.known.get(op.session());
        let is_new = !matches!(known, Some(Known::Live { .. }));
        match op {
            Op::Acquire { session, tenant: "large", .. } if is_new => applied.push(row("large", session).is_some()),
            Op::Release { session, tenant, .. } => applied.push(row(tenant, session).is_none()),
            Op::Acquire { .. } => {}
        }
    }
    assert!(applied.windows(2).all(|pair| pair[0] == pair[1]), "{whence}: half of {:?}: {applied:?}", caller.in_flight);
    seen.in_flight += usize::from(!applied.is_empty());
    seen.in_flight_kept += usize::from(applied.first() == Some(&true));
    let uncertain: BTreeSet<String> = caller
        .in_flight
        .iter()
        .filter(|op| {
            matches!(op, Op::Release { .. }) || !matches!(caller.known.get(op.session()), Some(Known::Live { .. }))
        })
        .map(|op| op.session().to_owned())
        .collect();
    caller.settle(|tenant, session| row(tenant, session).is_some());
    for (session, known) in &caller.known {
        match known {
            Known::Live { tenant, subject, counts, message } => {
                let row = row(tenant, session);
                let row = row.unwrap_or_else(|| panic!("{whence}: acknowledged and lost: {message}"));
                assert_eq!(
                    (row["subject"].as_str(), row["counts"].as_bool()),
                    (Some(subject.as_str()), Some(*counts)),
                    "{whence}: {row}"
                );
                assert_eq!(row["node"].as_str(), message["node"].as_str(), "{whence}: {row}");
                unknown.remove(&((*tenant).to_owned(), session.clone()));
            }
            Known::Gone { tenant, release, .. } => {
                assert!(
                    row(tenant, session).is_none(),
                    "{whence}: released and back: {release}, uncertain {uncertain:?}"
                );
            }
        }
    }
}

fn any_moment(rng: &mut Rng) -> u64 {
    rng.u64(500..150_000)
}

#[test]
fn killed_under_single_requests() {
    Run::new("single requests", 60, false, "").run(Before::Nothing, any_moment);
}

/// Records that the ring took and no disk has yet are there again as well.
#[test]
fn killed_with_a_ring() {
    let memory = tempfile::tempdir_in("/dev/shm").expect("a tmpfs is needed, as /dev/shm is");
    let ring = format!("ring_dir = \"{}\"", memory.path().display());
    Run::new("ring", 40, false, &ring).run(Before::Nothing, any_moment);
}

#[test]
fn killed_under_batches() {
    Run::new("batches", 60, true, "").run(Before::Nothing, any_moment);
}

#[test]
fn killed_with_synced_durability() {
    Run::new("synced", 20, true, "durability = \"synced\"").run(Before::Nothing, any_moment);
}

#[test]
fn killed_while_it_starts_and_recovers() {
    Run::new("unready", 30, true, "").with_ballast(3_000).run(Before::Ready, any_moment);
}

#[test]
fn killed_while_it_takes_a_snapshot() {
    let small = "checkpoint_bytes = 1048576\nsegment_bytes = 1048576";
    // A snapshot begins when it is ready, and when a second has passed and enough was written.
    let moment = |rng: &mut Rng| if rng.bool() { rng.u64(100..25_000) } else { rng.u64(950_000..1_100_000) };
    Run::new("snapshot", 30, true, small).with_ballast(10_000).run(Before::FirstSnapshot, moment);
}

/// A daemon that writes nothing must be caught, or the checks above see nothing.
#[test]
fn a_daemon_that_forgets_is_caught() {
    let forgets = || Run::new("forgetful", 3, false, "durability = \"none\"").run(Before::Nothing, |_| 50_000);
    let caught = std::panic::catch_unwind(forgets).expect_err("nobody noticed");
    let told = caught.downcast_ref::<String>().unwrap();
    assert!(told.contains("acknowledged and lost"), "{told}");
}
