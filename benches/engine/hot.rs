//! Two threads on one tenant against one: the engine, and the same decision on three DashMaps.

use std::sync::Barrier;

use crate::dashmaps::DashMaps;
use crate::measure::{Goal, alternate, median, ratio, row, thread_cpu_ns, wall_ns};
use crate::pair::pair;
use crate::world::{Decider, Ids, Names, Shape, Viewed};

const SHAPE: Shape = Shape { sessions: 2_000, tenants: 1, sessions_per_subject: 1, ids: Ids::Short };
const LOOPS: usize = 400;

/// The figures of the rounds.
#[derive(Default)]
struct Figures {
    /// Pairs per second of CPU that both threads got, of those of one.
    by_cpu: Vec<f64>,
    by_clock: Vec<f64>,
    /// CPU nanoseconds of a pair: of one thread, and of two.
    one: Vec<f64>,
    two: Vec<f64>,
}

impl Figures {
    fn print(&self, what: &str, goals: [Goal; 3]) {
        let [by_cpu, by_clock, per_pair] = goals;
        row(&format!("two threads on one hot tenant / one, by CPU{what}"), median(&self.by_cpu), "x", by_cpu, "");
        let beside = format!("{:.0} against {:.0} ns", median(&self.two), median(&self.one));
        row(&format!("  the same, CPU per pair{what}"), ratio(&self.two, &self.one), "x", per_pair, &beside);
        let idle = "(needs two idle cores)";
        row(&format!("  the same, by the clock{what}"), median(&self.by_clock), "x", by_clock, idle);
    }
}

/// Two threads on one tenant against one: pairs per second of CPU that each got, by the clock, and CPU per pair.
pub(crate) fn hot_tenant() {
    let (engine, maps) = (Viewed::full(&SHAPE), DashMaps::full(&SHAPE));
    let mut random = fastrand::Rng::with_seed(7);
    let mut all: Vec<Names> = (0..SHAPE.sessions)
        .map(|session| {
            let mut names = Names::default();
            SHAPE.name(session, &mut names);
            names
        })
        .collect();
    let mut figures = [Figures::default(), Figures::default()];
    let _ = alternate::<2>(9, |which| {
        random.shuffle(&mut all);
        let halves = all.split_at(all.len() / 2);
        match which {
            0 => one_and_two(&engine, halves, &mut figures[0]),
            _ => one_and_two(&maps, halves, &mut figures[1]),
        }
        0.0
    });
    figures[0].print("", [Goal::None, Goal::AtLeast(1.0), Goal::AtMost(2.0)]);
    figures[1].print(", three DashMaps", [Goal::None; 3]);
}

fn one_and_two(decider: &impl Decider, halves: (&[Names], &[Names]), figures: &mut Figures) {
    let work = |names: &[Names]| {
        let (clock, cpu) = (wall_ns(), thread_cpu_ns());
        (0..LOOPS).for_each(|_| pair(decider, names));
        ((wall_ns() - clock) as f64, (thread_cpu_ns() - cpu) as f64)
    };
    let (one_clock, one_cpu) = work(halves.0);
    let start = Barrier::new(2);
    let timed = |names: &[Names]| {
        start.wait();
        work(names)
    };
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| timed(halves.1));
        (timed(halves.0), second.join().unwrap_or_else(|_| panic!("the second thread")))
    });
    let pairs = (LOOPS * halves.0.len()) as f64;
    figures.by_clock.push(2.0 * one_clock / first.0.max(second.0));
    figures.by_cpu.push(one_cpu / first.1 + one_cpu / second.1);
    figures.one.push(one_cpu / pairs);
    figures.two.push((first.1 + second.1) / pairs / 2.0);
}
