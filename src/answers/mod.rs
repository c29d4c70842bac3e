//! Answers about contracts and operation: types that the daemon writes and the command line reads.
//!
//! Each answer is written as its type says; `/openapi.json` is made of the types. A field that is null says so by
//! `Option`; one that may be absent is not written then. Whatever is missing is read as its default, and a word that is
//! not known as its text, so that either side may be the older one.

mod absent;
pub mod cluster;
pub mod config;
pub mod events;
pub mod nodes;
pub mod operation;
pub mod overview;
pub mod pricing;
pub mod sessions;
pub mod subscriptions;
pub mod tenants;
mod text;
mod timestamp;
pub mod usage;
pub mod webhooks;
pub mod words;

pub use text::value_of;
pub use timestamp::Timestamp;
