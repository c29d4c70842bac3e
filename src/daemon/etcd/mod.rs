//! Speaks with etcd: transactions of few operations, by keys that are compared first.

mod store;

pub use store::{Answer, Compare, Fault, Found, Op, Outcome, Store, Txn, after_prefix};
