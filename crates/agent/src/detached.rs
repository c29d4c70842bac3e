//! Tasks that run to their end even if the caller goes away (API 1), and only so many at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Room for tasks that go on after their caller went away. Clones share it.
#[derive(Clone, Debug)]
pub struct DetachedTasks(Arc<Semaphore>);

impl DetachedTasks {
    /// Room for so many tasks.
    pub fn new(tasks_max: usize) -> Self {
        DetachedTasks(Arc::new(Semaphore::new(tasks_max)))
    }

    /// Reads once there is room for one more task, and acts in a task of its own; what is not read yet waits where it
    /// came from, and is not lost. `None` where the task panicked, which is in the log.
    ///
    /// # Errors
    /// The error of `read`: then there is nothing to act on.
    pub async fn run<Q, E, T, F>(
        &self,
        read: impl Future<Output = Result<Q, E>>,
        act: impl FnOnce(Q) -> F,
    ) -> Result<Option<T>, E>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        // An error would say that it is closed, which it never is.
        let room = Arc::clone(&self.0).acquire_owned().await.ok();
        let act = act(read.await?);
        let acting = tokio::spawn(async move {
            let _room = room;
            act.await
        });
        Ok(acting.await.ok())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn acts_of_callers_that_are_gone_go_on_and_count_until_they_end() {
        const MOST: usize = 3;
        let tasks = DetachedTasks::new(MOST);
        let (read, done, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (tasks, read, done, go) = (tasks.clone(), Arc::clone(&read), Arc::clone(&done), Arc::clone(&go));
            async move {
                let reading = async { Ok::<_, Infallible>(read.fetch_add(1, Ordering::SeqCst)) };
                let acted = tasks.run(reading, |number| async move {
                    go.notified().await;
                    done.fetch_add(1, Ordering::SeqCst);
                    number
                });
                acted.await
            }
        };
        // Every caller waits for a moment and goes.
        for _ in 0..MOST {
            assert!(timeout(Duration::from_millis(1), ask()).await.is_err());
        }
        assert!(timeout(Duration::from_secs(60), ask()).await.is_err());
        assert_eq!(read.load(Ordering::SeqCst), MOST, "one more is not even read");
        go.notify_one();
        assert!(timeout(Duration::from_millis(1), ask()).await.is_err());
        assert_eq!(
            (read.load(Ordering::SeqCst), done.load(Ordering::SeqCst)),
            (MOST + 1, 1),
            "in the place of another"
        );
        for _ in 0..MOST {
            go.notify_one();
            tokio::task::yield_now().await;
        }
        assert_eq!(done.load(Ordering::SeqCst), MOST + 1, "what was read is carried out");
        go.notify_one();
        assert_eq!(ask().await, Ok(Some(MOST + 1)));
    }
}
