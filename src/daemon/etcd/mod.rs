//! Speaks with etcd: transactions of few operations, by keys that are compared first.
//!
//! By etcd's JSON gateway over the HTTP/1.1 client that is in the tree anyway. The crate etcd-client would need protoc
//! where the daemon is built, so that a fresh machine could not build it; it brings 87 crates; and its balancer does not
//! eject a dead endpoint, so that the rotation would be ours all the same. The gateway has been in every etcd since
//! 3.4 under the same address. What it costs is base64, and two things that an operator must know: etcd takes no user
//! from the name in a client's certificate there, only from `user` and `password`; and where etcd demands certificates
//! of its clients, its own must be good for a client too, because the gateway shows it to etcd.

mod client;
mod endpoint;
mod store;
mod wire;

pub use client::{Client, Options};
pub use endpoint::{ANSWER_BYTES_MAX, VERSION_MIN};
pub use store::{Answer, Compare, Fault, Found, Op, Outcome, Store, Txn, after_prefix};
pub use wire::{EndpointStatus, Health, OPS_MAX, TXN_BYTES_MAX};
