//! Nodes with the real client and a daemon with its real HTTP service and journal, on a network that loses, holds
//! back and cuts, from a seed. Every inbound and emergency call is allowed at once, every other is answered within
//! the deadline, and when the faults are over the daemon knows exactly what lives on the nodes.
//!
//! `SEED=n` replays one run; `USHERD_TURMOIL_CALLS=n` makes runs longer, `USHERD_TURMOIL_RUNS=n` more of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is the seed to replay it by")]

mod check;
mod faults;
mod pbx;
mod site;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use usherd::daemon::clock::monotonic_ns;
use usherd_client::Unreachable;

use faults::{Episode, Fault};
use pbx::Pbx;
use site::{DAEMON, INVENTORY_SECONDS, Site};

/// Calls of one run.
const CALLS: u64 = 100_000;
/// Runs of one test.
const RUNS: u64 = 2;
/// Calls of a run without faults.
const CALM_CALLS: u64 = 30_000;
/// Runs without faults in which a known bug must show.
#[cfg(feature = "canary-client-inventory")]
const CANARY_RUNS: u64 = 16;
/// Calls of one node in a second.
const CALLS_PER_SECOND: f64 = 350.0;
const NODES: [&str; 3] = ["pbx1", "pbx2", "pbx3"];
/// Simulated time of one step.
const TICK: Duration = Duration::from_millis(1);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A network with a daemon and nodes, and the time it has.
struct World<'a> {
    sim: turmoil::Sim<'a>,
    site: Rc<Site>,
    nodes: Vec<Rc<Pbx>>,
    now_ms: u64,
}

impl World<'_> {
    fn new(seed: u64, calls: u64) -> Self {
        fastrand::seed(seed);
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .min_message_latency(Duration::ZERO)
            .max_message_latency(Duration::from_millis(4))
            .tcp_capacity(1 << 14)
            .repair_rate(0.3)
            .simulation_duration(Duration::from_secs(86_400))
            .build();
        let site = Site::new();
        let daemon = Rc::clone(&site);
        sim.host(DAEMON, move || Rc::clone(&daemon).run());
        let each = calls / NODES.len() as u64;
        let nodes: Vec<_> =
            (0..).zip(NODES).map(|(at, name)| Pbx::new(name, seed * 10 + at, each, CALLS_PER_SECOND)).collect();
        for node in &nodes {
            let software = Rc::clone(node);
            sim.host(node.name.as_str(), move || Rc::clone(&software).run());
        }
        World { sim, site, nodes, now_ms: 0 }
    }

    fn step(&mut self) {
        self.site.clock.advance(u64::try_from(TICK.as_millis()).unwrap());
        self.sim.step().unwrap();
        self.now_ms += u64::try_from(TICK.as_millis()).unwrap();
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now_ms + u64::try_from(time.as_millis()).unwrap();
        while self.now_ms < until {
            self.step();
        }
    }

    fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Partition(node) => self.sim.partition(NODES[node], DAEMON),
            Fault::Deafen(node) => self.sim.partition_oneway(DAEMON, NODES[node]),
            Fault::Hold(node) => self.sim.hold(NODES[node], DAEMON),
            Fault::Loss => NODES.iter().for_each(|node| self.sim.set_link_fail_rate(*node, DAEMON, 0.02)),
            Fault::Slow => self.sim.set_max_message_latency(Duration::from_millis(80)),
            Fault::Hang => self.site.hang(true),
            Fault::Kill => {
                self.site.forget();
                self.sim.crash(DAEMON);
            }
            Fault::RestartNode(node) => self.nodes[node].restart(),
        }
    }

    fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Partition(node) | Fault::Deafen(node) => self.sim.repair(NODES[node], DAEMON),
            Fault::Hold(node) => self.sim.release(NODES[node], DAEMON),
            Fault::Loss => {
                for node in NODES {
                    self.sim.set_link_fail_rate(node, DAEMON, 0.0);
                    self.sim.repair(node, DAEMON);
                }
            }
            Fault::Slow => self.sim.set_max_message_latency(Duration::from_millis(4)),
            Fault::Hang => self.site.hang(false),
            Fault::Kill => self.sim.bounce(DAEMON),
            Fault::RestartNode(_) => {}
        }
    }

    /// Lets people call while things go wrong, until both have come to their end.
    fn trouble(&mut self, episodes: &[Episode]) {
        let mut ends: Vec<Episode> = Vec::new();
        let mut next = 0;
        while next < episodes.len() || !ends.is_empty() || self.nodes.iter().any(|node| !node.is_done()) {
            while let Some(episode) = episodes.get(next).filter(|episode| episode.from_ms <= self.now_ms) {
                self.begin(episode.fault);
                ends.push(*episode);
                next += 1;
            }
            let (over, lasting) = ends.into_iter().partition(|episode: &Episode| episode.until_ms <= self.now_ms);
            ends = lasting;
            for episode in over {
                let episode: Episode = episode;
                self.end(episode.fault);
            }
            self.step();
        }
    }
}

/// One run from a seed.
fn run(seed: u64, calls: u64) {
    println!("SEED={seed} USHERD_TURMOIL_CALLS={calls}");
    let began = monotonic_ns();
    let mut world = World::new(seed, calls);
    let over = Duration::from_secs_f64(calls as f64 / NODES.len() as f64 / CALLS_PER_SECOND);
    let episodes = faults::draw(&mut fastrand::Rng::with_seed(seed), NODES.len(), over);
    world.trouble(&episodes);
    // Calls end, heartbeats come again, reports are sent, and every node lists what lives on it.
    world.pass(Duration::from_secs(2 * INVENTORY_SECONDS + 10));
    let live = check::agreed(&world.site, &world.nodes);
    assert!(live > 0, "something lives still, or there is nothing to compare");
    world.nodes.iter().for_each(|node| node.hang_up());
    world.pass(Duration::from_secs(2));
    assert_eq!(check::agreed(&world.site, &world.nodes), 0, "what ended is gone");
    let mut sum = BTreeMap::new();
    world.nodes.iter().for_each(|node| node.tally.add_to(&mut sum));
    let digest = world.nodes.iter().fold(0_u64, |digest, node| digest.rotate_left(21) ^ node.digest());
    let seconds = (monotonic_ns() - began) as f64 / 1e9;
    let (simulated, made) = (world.now_ms / 1_000, world.nodes.iter().map(|node| node.calls.get()).sum::<u64>());
    println!(
        "{made} calls, {} faults, {} daemons, {simulated} s simulated in {seconds:.1} s: {:.0} calls/s; digest {digest:016x}",
        episodes.len(),
        world.site.starts.get(),
        made as f64 / seconds,
    );
    println!("{sum:?}");
}

/// Nothing goes wrong, and all the time what was granted is there.
fn calm(seed: u64) {
    println!("SEED={seed}, without faults");
    let mut world = World::new(seed, CALM_CALLS);
    while world.nodes.iter().any(|node| !node.is_done()) {
        world.pass(Duration::from_millis(20));
        check::kept(&world.site, &world.nodes);
    }
    world.pass(Duration::from_secs(2 * INVENTORY_SECONDS + 2));
    assert!(check::agreed(&world.site, &world.nodes) > 0);
    let mut sum = BTreeMap::new();
    world.nodes.iter().for_each(|node| node.tally.add_to(&mut sum));
    for unreachable in Unreachable::ALL {
        assert_eq!(sum.get(unreachable.as_str()), None, "nobody had to do without the daemon: {sum:?}");
    }
}

#[cfg(not(feature = "canary-client-inventory"))]
#[test]
fn what_was_granted_stays_until_it_is_given_back() {
    calm(number("SEED").unwrap_or_else(a_seed));
}

/// `cargo nextest run --test turmoil --features canary-client-inventory is_caught`
///
/// One run in six has no question on its way at an inventory, and nothing to see; so there are several.
#[cfg(feature = "canary-client-inventory")]
#[test]
#[should_panic(expected = "was granted and is lost")]
fn a_client_whose_inventories_end_what_is_on_its_way_is_caught() {
    let first = number("SEED").unwrap_or_else(a_seed);
    (first..first + CANARY_RUNS).for_each(calm);
}

fn a_seed() -> u64 {
    monotonic_ns() / 1_000_000 % 1_000_000_000
}

#[test]
fn calls_flow_in_any_network_and_the_daemon_learns_the_truth() {
    let calls = number("USHERD_TURMOIL_CALLS").unwrap_or(CALLS);
    if let Some(seed) = number("SEED") {
        return run(seed, calls);
    }
    let first = a_seed();
    for seed in first..first + number("USHERD_TURMOIL_RUNS").unwrap_or(RUNS) {
        run(seed, calls);
    }
}
