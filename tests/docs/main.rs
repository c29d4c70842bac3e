//! The documentation as a test: every command in it is run, every name in it is looked up, every table put to the daemon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod backup;
mod commands;
mod elsewhere;
mod names;
mod privacy;
mod programs;
mod rule_codes;
mod rules;
mod shell;
