//! The demonstration as somebody meets it who has five minutes: the built binary, what it says, and what it does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod cluster;
mod office;
mod refusals;
mod scale;
