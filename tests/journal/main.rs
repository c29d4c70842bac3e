//! The journal: every crash, every bit, every fault, and what several runtimes do to one file.

mod audit;
mod contract;
mod crash;
mod damage;
mod disk;
mod faults;
mod model;
mod turn;
