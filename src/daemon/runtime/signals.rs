//! The operator's requests by signal: stop, or reload.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// From now on a write beyond the limit on the size of files fails, instead of ending the process: SIGXFSZ has a
/// handler, which stays for as long as the process.
///
/// # Errors
/// The signal cannot be handled.
pub fn outlive_file_size_limit() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _within = runtime.enter();
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
}

/// The request of a signal.
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
