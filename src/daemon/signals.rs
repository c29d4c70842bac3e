//! What the operator asks by signal: stop, or reload.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
pub(super) enum Asked {
    Stop,
    Reload,
}

/// The signals that the daemon hears.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Hears them from now on; `None` where that is not possible, which is logged.
    pub(super) fn new() -> Option<Self> {
        let listen = || -> std::io::Result<Self> {
            Ok(Signals {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hang_up: signal(SignalKind::hangup())?,
            })
        };
        listen().inspect_err(|error| tracing::error!(%error, "signals cannot be heard")).ok()
    }

    /// The next one; never without signals.
    pub(super) async fn next(signals: &mut Option<Self>) -> Asked {
        let Some(signals) = signals else { return std::future::pending().await };
        tokio::select! {
            _ = signals.terminate.recv() => Asked::Stop,
            _ = signals.interrupt.recv() => Asked::Stop,
            _ = signals.hang_up.recv() => Asked::Reload,
        }
    }
}
