//! Webhooks: what receivers are told, whatever they do, and what a crash leaves of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so")]
#![allow(clippy::print_stdout, reason = "a measurement must be seen")]

mod faults;
mod happens;
mod kept;
mod office;
mod receiver;
mod verify;
