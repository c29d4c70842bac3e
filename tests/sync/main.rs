//! Synced configuration: what is taken of a publisher, and what never is (I23, J7).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so")]
#![allow(clippy::print_stdout, reason = "a seed must be seen")]

mod bundles;
mod daemon;
mod envelope;
mod forged;
mod office;
mod publisher;
