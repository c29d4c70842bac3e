//! Atomics that a model checker watches inside a model; outside, as in the unit tests that come with the
//! seats, they are the ordinary ones.

pub(crate) use std::sync::atomic::Ordering;

use std::cell::Cell;
use std::sync::atomic as plain;

use super::checker;

thread_local! {
    static MODEL: Cell<bool> = const { Cell::new(false) };
}

/// Runs what creates its atomics for the checker.
pub(crate) fn watched<T>(make: impl FnOnce() -> T) -> T {
    let before = MODEL.replace(true);
    let made = make();
    MODEL.set(before);
    made
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Debug)]
        pub(crate) enum $name {
            Watched(checker::$name),
            Plain(plain::$name),
        }

        #[allow(dead_code, reason = "each word uses its own part")]
        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                if MODEL.get() {
                    $name::Watched(checker::$name::new(value))
                } else {
                    $name::Plain(plain::$name::new(value))
                }
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                match self {
                    $name::Watched(a) => a.load(order),
                    $name::Plain(a) => a.load(order),
                }
            }

            pub(crate) fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                ok: Ordering,
                failed: Ordering,
            ) -> Result<$value, $value> {
                match self {
                    $name::Watched(a) => a.compare_exchange(old, new, ok, failed),
                    $name::Plain(a) => a.compare_exchange(old, new, ok, failed),
                }
            }

            atomic!(@with $name, $value, store -> ());
            atomic!(@with $name, $value, swap -> $value);
            atomic!(@with $name, $value, fetch_add -> $value);
            atomic!(@with $name, $value, fetch_sub -> $value);
            atomic!(@with $name, $value, fetch_max -> $value);
        }
    };
    (@with $name:ident, $value:ty, $method:ident -> $answer:ty) => {
        pub(crate) fn $method(&self, value: $value, order: Ordering) -> $answer {
            match self {
                $name::Watched(a) => a.$method(value, order),
                $name::Plain(a) => a.$method(value, order),
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
