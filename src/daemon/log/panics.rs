//! Counts panics of any thread, also of those that nobody waits for. What a panic may touch is the business of walls.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Once, OnceLock};

static WATCHED: Once = Once::new();
static SEEN: AtomicU64 = AtomicU64::new(0);
static TELL: OnceLock<fn(&PanicHookInfo<'_>)> = OnceLock::new();

/// Counts from now on, and says each where it is told already, or as [`tell_by`] has it. Who sets a hook of its own
/// after this ends the counting.
pub(crate) fn watch() {
    WATCHED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            SEEN.fetch_add(1, Ordering::Relaxed);
            match TELL.get() {
                Some(tell) => tell(panic),
                None => before(panic),
            }
        }));
    });
}

/// Counts from now on, and tells each panic in this way only; the first one that is given holds.
pub(crate) fn tell_by(tell: fn(&PanicHookInfo<'_>)) {
    let _ = TELL.set(tell);
    watch();
}

/// Panics of this process since it is watched.
pub(crate) fn seen() -> u64 {
    SEEN.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_thread_that_nobody_waits_for_is_counted_once() {
        watch();
        watch();
        let before = seen();
        let ended = std::thread::spawn(|| panic!("a panic that a test wants")).join();
        assert!(ended.is_err());
        assert_eq!(seen(), before + 1);
    }
}
