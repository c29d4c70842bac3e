//! The documentation as a test: every command in it is run, every name in it is looked up, every table put to the daemon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod backup;
#[allow(dead_code, reason = "shared with the crash tests, which use more of it")]
#[path = "../crash/client.rs"]
mod client;
mod commands;
mod elsewhere;
#[allow(dead_code, reason = "shared with the rule book's tests, which use more of it")]
#[path = "../simulation/machine.rs"]
mod machine;
mod names;
mod page;
mod privacy;
#[allow(dead_code, reason = "shared with the crash tests, which use more of it")]
#[path = "../crash/process.rs"]
mod process;
mod programs;
#[allow(dead_code, reason = "shared with the rule book's tests, which use more of it")]
#[path = "../simulation/real.rs"]
mod real;
mod rule_codes;
mod rules;
#[allow(dead_code, reason = "shared with the rule book's tests, which use more of it")]
#[path = "../rules/script.rs"]
mod script;
mod shell;
