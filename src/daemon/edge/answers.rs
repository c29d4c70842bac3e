//! The memory of large answers while their readers take them: one budget for all listeners and cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;

/// An answer up to this size is not counted, bytes: every decision is shorter, and a connection has at most one.
pub(super) const SMALL_BYTES_MAX: usize = 16 * 1024;

/// The bytes of all large answers against their budget. It is full once they reach it: the last one may go beyond, so
/// that any answer can be had while nobody else holds much.
#[derive(Debug)]
pub struct Answers {
    max: AtomicUsize,
    used: AtomicUsize,
    refused: AtomicU64,
}

impl Answers {
    /// A budget of so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Answers { max: AtomicUsize::new(bytes_max), used: AtomicUsize::new(0), refused: AtomicU64::new(0) }
    }

    /// Changes the budget, bytes; what is held already stays.
    pub fn set_max(&self, bytes_max: usize) {
        self.max.store(bytes_max, Ordering::Relaxed);
    }

    /// The bytes that are held.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed) as u64
    }

    /// Answers that were refused for want of room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// True if there is no room for the caller whose answer it is; the last quarter is kept for nodes. Counts the
    /// refusal.
    pub(super) fn refuses(&self, is_node: bool) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        let max = if is_node { max } else { max / 4 * 3 };
        let is_full = self.used.load(Ordering::Relaxed) >= max;
        self.refused.fetch_add(u64::from(is_full), Ordering::Relaxed);
        is_full
    }

    /// Counts an answer until the last part of it is dropped, wherever that waits.
    pub fn hold(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        if bytes.len() <= SMALL_BYTES_MAX {
            return bytes;
        }
        self.used.fetch_add(bytes.len(), Ordering::Relaxed);
        Bytes::from_owner(Held { answers: Arc::clone(self), bytes })
    }
}

/// An answer that is counted.
struct Held {
    answers: Arc<Answers>,
    bytes: Bytes,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.answers.used.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_until_its_last_part_is_gone() {
        let answers = Arc::new(Answers::new(100_000));
        let mut whole = answers.hold(vec![b'x'; 60_000].into());
        let part = whole.split_to(10);
        assert_eq!(answers.used(), 60_000);
        drop(whole);
        assert_eq!(answers.used(), 60_000, "a part of it is still waiting");
        drop(part);
        assert_eq!(answers.used(), 0);
    }

    #[test]
    fn a_full_budget_refuses_others_before_nodes() {
        let answers = Arc::new(Answers::new(100_000));
        assert!(!answers.refuses(false));
        let _held = answers.hold(vec![b'x'; 80_000].into());
        assert!(answers.refuses(false) && !answers.refuses(true));
        let _beyond = answers.hold(vec![b'x'; 80_000].into());
        assert!(answers.refuses(true));
        assert_eq!(answers.refused(), 2);
    }

    #[test]
    fn small_answers_cost_nothing() {
        let answers = Arc::new(Answers::new(0));
        let _small = answers.hold(vec![b'x'; SMALL_BYTES_MAX].into());
        assert_eq!(answers.used(), 0);
    }
}
