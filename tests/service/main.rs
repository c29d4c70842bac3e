//! The Debian package in a real systemd: installed by dpkg, started by its units, restarted, killed, hung, upgraded,
//! purged. Needs root; each test boots a machine of its own in namespaces and throws it away.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says what went wrong by panicking"
)]

mod agent;
mod callers;
mod container;
mod install;
mod machine;
mod package;
mod pages;
mod restart;
