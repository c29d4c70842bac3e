//! A store that several machines share: a real etcd, with the faults of its members and of the links to them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so")]

mod campaign;
mod client;
mod history;
mod kamailio;
mod owners;
mod secured;
mod seen;
