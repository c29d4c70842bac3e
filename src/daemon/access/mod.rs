//! Callers and their rights.

pub mod auth;
mod failures;
mod host_guard;
