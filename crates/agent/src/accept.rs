//! The accept loop of the agent's listeners: each connection has a task of its own, up to a limit.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::warn;

use super::hub::Hub;

/// Pause after the system failed to accept a connection, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves each connection in a task of its own, for ever. Those beyond the limit are closed at once: a dial plan that
/// waits is worse off than one that lets a call through.
pub(super) async fn serve_each<S, T>(
    hub: Arc<Hub>,
    connections_max: usize,
    accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>>,
    serve: impl Fn(S, Arc<Hub>) -> T,
) where
    T: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(connections_max));
    loop {
        let stream = match poll_fn(&accept).await {
            Ok(stream) => stream,
            Err(error) => {
                warn!(%error, "a connection could not be taken");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            hub.counters.count("connections_refused", "");
            continue;
        };
        let serving = serve(stream, Arc::clone(&hub));
        tokio::spawn(async move {
            let _permit = permit;
            serving.await;
        });
    }
}
