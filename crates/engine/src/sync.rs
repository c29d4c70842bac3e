//! The only door to atomics and locks; model checkers put their own in its place.

pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

pub(crate) use parking_lot::{Mutex, MutexGuard};
