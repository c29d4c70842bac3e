//! The journal: every crash, every bit, every fault, and what several runtimes do to one file.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on ends, and prints its seeds"
)]

mod audit;
mod beside;
mod contract;
mod crash;
mod damage;
mod disk;
mod etcd;
mod faults;
mod golden;
mod model;
mod order;
mod ring;
mod turn;
