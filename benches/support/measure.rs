//! Two things measured in one run, alternating: CPU nanoseconds, medians, ratios.
#![allow(dead_code, reason = "shared by benches that need different parts of it")]

use rustix::time::{ClockId, clock_gettime};

/// The allocator of the daemon, for all that is measured: where cells lie in memory is half of what they cost.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// CPU time of this thread so far: what other programs do meanwhile does not count.
pub(crate) fn thread_cpu_ns() -> u64 {
    nanos(ClockId::ThreadCPUTime)
}

/// Time that passed for everybody.
pub(crate) fn wall_ns() -> u64 {
    nanos(ClockId::Monotonic)
}

fn nanos(clock: ClockId) -> u64 {
    let at = clock_gettime(clock);
    at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64
}

/// CPU nanoseconds that some work took on this thread.
pub(crate) fn cpu_of(work: impl FnOnce()) -> f64 {
    let began = thread_cpu_ns();
    work();
    (thread_cpu_ns() - began) as f64
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
    }
}

/// Measures by turns, and answers the values of each in its own list. The turns change direction, so that
/// what grows over the time of a run does not favour one of them.
pub(crate) fn alternate<const N: usize>(rounds: usize, mut measure: impl FnMut(usize) -> f64) -> [Vec<f64>; N] {
    let mut values = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for round in 0..rounds {
        for step in 0..N {
            let which = if round % 2 == 0 { step } else { N - 1 - step };
            values[which].push(measure(which));
        }
    }
    values
}

/// Median of the ratios of each round: two things that met the same noise.
pub(crate) fn ratio(of: &[f64], to: &[f64]) -> f64 {
    let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
    median(&ratios)
}

/// The goal that a figure is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// Reported only.
    None,
}

/// Prints one row: name, figure, goal, and whether it is reached.
pub(crate) fn row(name: &str, figure: f64, unit: &str, goal: Goal, beside: &str) {
    let (goal, reached) = match goal {
        Goal::AtMost(most) => (format!("<= {most}{unit}"), if figure <= most { "reached" } else { "MISSED" }),
        Goal::AtLeast(least) => (format!(">= {least}{unit}"), if figure >= least { "reached" } else { "MISSED" }),
        Goal::None => (String::new(), ""),
    };
    println!("{name:<58} {figure:>9.2}{unit:<8} {goal:<14} {reached:<8} {beside}");
}

/// Load of the machine: figures of a busy one are worth less.
pub(crate) fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
