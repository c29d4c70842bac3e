//! Who asks, and what they may do.

pub mod auth;
mod failures;
mod host_guard;
