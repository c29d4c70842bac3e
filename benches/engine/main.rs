//! The cost of a decision in process, against one removal and insertion in a DashMap (DESIGN 6), and against the
//! same decision on three of them.
//!
//! `cargo bench --bench engine [-- ROW…]`, rows: against, against-resident, pair, resident, hot, holds, renewal, heartbeat,
//! memory, expire, recovery; loop-resident and loop-million run pairs alone, for a profiler. Every ratio is of two things
//! measured in one run, alternating, by CPU time of the thread.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a measurement stops where something is wrong, and prints"
)]

mod against;
mod check;
mod dashmaps;
mod holds;
mod hot;
mod key;
#[path = "../support/measure.rs"]
mod measure;
mod pair;
mod time;
mod volume;
mod world;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let [child, rest @ ..] = args.as_slice()
        && child == "memory-child"
    {
        return volume::memory_child(rest);
    }
    let rows: [(&str, fn()); 11] = [
        ("against", against::million),
        ("against-resident", against::resident),
        ("pair", pair::million),
        ("resident", pair::resident),
        ("hot", hot::hot_tenant),
        ("holds", holds::holds),
        ("renewal", time::renewal),
        ("heartbeat", time::heartbeat),
        ("expire", time::expire),
        ("memory", volume::memory),
        ("recovery", volume::recovery),
    ];
    if args.iter().any(|arg| arg.starts_with("loop-")) {
        return pair::endless(if args.iter().any(|arg| arg == "loop-million") {
            &world::Shape::MILLION
        } else {
            &world::Shape::RESIDENT
        });
    }
    check::all();
    println!("load {}", measure::load());
    for (name, measure) in rows {
        if args.is_empty() || args.iter().any(|arg| arg == name) {
            measure();
        }
    }
    println!("load {}", measure::load());
}
