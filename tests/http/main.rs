//! The whole daemon from outside: real sockets on port 0, a clock that the test moves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so")]

mod access;
mod admin;
mod agi;
mod bodies;
mod client;
mod contract;
mod daemon;
mod dashboard;
mod document;
mod events;
mod faults;
mod formats;
mod inclusive;
mod lists;
mod matrix;
mod names;
mod plain;
mod problems;
mod quote;
mod resp;
mod restart;
mod roles;
mod rules;
mod size;
mod spec;
mod subscription;
mod transports;
mod upgrade;
mod usage;
