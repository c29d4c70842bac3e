//! Scrapes that wait at the same time are one: it is rendered once, and all of them are sent the same bytes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::ScrapeShard;

/// Most different shards that wait to be rendered; a further one is refused.
const WAITING_MAX: usize = 64;

/// The result of one rendering; `None` until it is done.
type Rendered = watch::Receiver<Option<Option<Bytes>>>;

/// The scrapes that were asked for and have not begun, and whose turn it is.
#[derive(Debug)]
pub struct Scrapes {
    waiting: Mutex<HashMap<Option<ScrapeShard>, Rendered>>,
    turn: Semaphore,
}

impl Default for Scrapes {
    fn default() -> Self {
        Scrapes { waiting: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Scrapes {
    /// The answer to a scrape, of a moment after it was asked for: that of one which waits for its turn already, or its
    /// own. `None` where it failed, or too many wait. Needs a `LocalSet` or a `LocalRuntime`.
    pub async fn get(
        self: &Arc<Self>,
        shard: Option<ScrapeShard>,
        render: impl FnOnce() -> Option<Bytes> + Send + 'static,
    ) -> Option<Bytes> {
        let mut rendered = self.join(shard, render)?;
        let rendered = rendered.wait_for(Option::is_some).await.ok()?;
        rendered.clone().flatten()
    }

    fn join(
        self: &Arc<Self>,
        shard: Option<ScrapeShard>,
        render: impl FnOnce() -> Option<Bytes> + Send + 'static,
    ) -> Option<Rendered> {
        let mut waiting = self.waiting.lock();
        // One whose runtime ended will never be done.
        if let Some(rendered) = waiting.get(&shard).filter(|rendered| rendered.has_changed().is_ok()) {
            return Some(rendered.clone());
        }
        if waiting.len() >= WAITING_MAX {
            return None;
        }
        let (done, rendered) = watch::channel(None);
        waiting.insert(shard, rendered.clone());
        let all = Arc::clone(self);
        // A task of its own: whoever asked first may be gone before the others.
        tokio::task::spawn_local(async move {
            let _turn = all.turn.acquire().await;
            // From here on it is too late to share it: what happens now could be missing in it.
            all.waiting.lock().remove(&shard);
            let text = tokio::task::spawn_blocking(render).await.ok().flatten();
            done.send_replace(Some(text));
        });
        Some(rendered)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::task::LocalSet;

    use super::*;

    #[test]
    fn those_that_wait_share_one_and_those_that_come_later_do_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let (scrapes, count) = (Arc::new(Scrapes::default()), Arc::new(AtomicU32::new(0)));
            let ask = |shard: Option<&str>| {
                let (scrapes, count) = (Arc::clone(&scrapes), Arc::clone(&count));
                let shard = shard.and_then(ScrapeShard::parse);
                tokio::task::spawn_local(async move {
                    let render = move || Some(Bytes::from(vec![count.fetch_add(1, Ordering::Relaxed) as u8]));
                    scrapes.get(shard, render).await
                })
            };
            let held = scrapes.turn.acquire().await.unwrap();
            let together = [ask(None), ask(None), ask(None)];
            let apart = ask(Some("1/2"));
            tokio::task::yield_now().await;
            drop(held);
            for one in together {
                assert_eq!(one.await.unwrap().unwrap()[0], 0);
            }
            assert_eq!(apart.await.unwrap().unwrap()[0], 1);
            assert_eq!(ask(None).await.unwrap().unwrap()[0], 2, "what happened meanwhile is in it");
            assert!(scrapes.waiting.lock().is_empty());
        });
    }

    #[test]
    fn a_failed_scrape_fails_all_and_too_many_shards_are_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let scrapes = Arc::new(Scrapes::default());
            assert_eq!(scrapes.get(None, || None).await, None);
            let _held = scrapes.turn.acquire().await.unwrap();
            for number in 1..=WAITING_MAX {
                assert!(scrapes.join(ScrapeShard::parse(&format!("{number}/64")), || None).is_some());
            }
            assert!(scrapes.join(None, || None).is_none());
        });
    }
}
