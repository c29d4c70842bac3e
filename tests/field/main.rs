//! The shipped recipes in Asterisk 22 and Kamailio 6, which Debian 12 does not have: `tests/run --pbx` makes a root of Debian
//! sid with both, and runs these. They need that root, and to be root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod asterisk;
#[allow(dead_code, reason = "shared with the crash tests, which use more of it")]
#[path = "../crash/client.rs"]
mod client;
#[path = "../pbx/emergency.rs"]
mod emergency;
#[path = "../pbx/kamailio/mod.rs"]
mod kamailio;
mod kamailio6;
mod place;
#[allow(dead_code, reason = "shared with the crash tests, which use more of it")]
#[path = "../crash/process.rs"]
mod process;
#[path = "../pbx/shipped.rs"]
mod shipped;
