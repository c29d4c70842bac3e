//! The real process: killed, stopped, starved of disk, fed damaged files, and asked by clients that never end.
//!
//! `USHERD_KILLS` sets how often each test kills (the sum over all tests is 200 without it), `USHERD_SEED`
//! repeats a run; both are printed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on ends, and prints its seeds"
)]

mod caller;
mod disk;
mod frozen;
mod hostile;
mod kill;
mod signals;
mod storm;
mod watch;
