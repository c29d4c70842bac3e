//! How a connection learns that it is to end.

use tokio::sync::watch;

/// Ready once a stop was asked for, and whatever came before that can be read: poll it after reading.
pub(super) async fn asked(mut shutdown: watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|on| *on).await;
    // The runtime looks at its sockets before it goes on with who yielded.
    tokio::task::yield_now().await;
}
