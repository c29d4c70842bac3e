//! The tools that tests of more than one kind need: waits, a client, processes, a daemon of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by a panic that it failed")]

pub mod authority;
pub mod cluster;
pub mod daemon;
pub mod demo;
pub mod emergency;
pub mod etcd;
pub mod files;
pub mod http;
pub mod kamailio;
pub mod page;
pub mod place;
pub mod process;
pub mod relay;
pub mod rules;
pub mod store;
pub mod volume;
pub mod wait;
