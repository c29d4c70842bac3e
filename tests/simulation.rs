//! Millions of seeded steps put to the engine and to the naive model, compared after every one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by a panic that it failed")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is the seed and the steps to replay it by")]

#[path = "simulation/drive.rs"]
mod drive;
#[path = "simulation/op.rs"]
mod op;
#[path = "simulation/shrink.rs"]
mod shrink;
#[path = "simulation/workload.rs"]
mod workload;

use usherd_engine::plan::Limits;

use drive::Pair;
use workload::{Senders, config};

/// Steps of one life; then everything starts anew with the next seed.
const STEPS: u64 = 2_000;
/// Lives per test; `USHERD_SIM_LIVES` runs more.
const LIVES: u64 = 1_250;

/// One life from a seed.
fn life(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut limits = Limits { ..Limits::default() };
    match rng.u8(..8) {
        0 => limits.sessions_per_tenant_max = rng.u32(2..9),
        1 => limits.sessions_max = rng.u32(4..20),
        _ => {}
    }
    let first = config(&mut rng, None);
    let mut pair = Pair::new(limits, first);
    let mut senders = Senders::new(first);
    for _ in 0..STEPS {
        let op = senders.next(&mut rng, &pair.model, pair.now.uptime_ms);
        pair.step(&op);
    }
}

/// The lives of one test; with `SEED` only that one.
fn lives(part: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("SEED") {
        if part == 0 {
            life(seed);
        }
        return;
    }
    let lives = number("USHERD_SIM_LIVES").unwrap_or(LIVES);
    let base = number("USHERD_SIM_BASE").unwrap_or(0);
    for seed in (0..lives).map(|i| base + part * 1_000_000_000 + i) {
        if let Err(failure) = std::panic::catch_unwind(|| life(seed)) {
            eprintln!("replay with SEED={seed}");
            std::panic::resume_unwind(failure);
        }
    }
}

#[test]
fn the_engine_is_the_model_part_0() {
    lives(0);
}

#[test]
fn the_engine_is_the_model_part_1() {
    lives(1);
}

#[test]
fn the_engine_is_the_model_part_2() {
    lives(2);
}

#[test]
fn the_engine_is_the_model_part_3() {
    lives(3);
}
