//! Subscriptions by the clock: a whole daemon, live sessions, and a test that moves both clocks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so")]

mod accounts;
mod clocks;
mod daemon;
mod ends;
mod hangs;
mod reminders;
mod seats;
