//! How a demonstration begins and ends: a port that is free, a daemon in this process, and the signals that end it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::folder::Folder;
use crate::cli::failure::Failure;
use crate::daemon::clock::Clock;
use crate::daemon::{Daemon, Options};

/// How long a daemon may take to be ready; a hundred thousand tenants take their time.
const READY_PATIENCE: Duration = Duration::from_secs(120);

/// The signals that end a demonstration: Ctrl-C, or a polite kill.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Hears both from now on.
    ///
    /// # Errors
    /// The operating system does not let it.
    pub(super) fn new(runtime: &Runtime) -> Result<Self, Failure> {
        let _inside = runtime.enter();
        let hear = |kind| signal(kind).map_err(|error| Failure::failed(format!("signals cannot be heard: {error}")));
        Ok(Stop { interrupt: hear(SignalKind::interrupt())?, terminate: hear(SignalKind::terminate())? })
    }

    /// Ready when it was asked for.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Does something unless it is asked for meanwhile; whether it came to its end.
    ///
    /// # Errors
    /// Those of the work.
    pub(super) async fn unless_asked(
        &mut self,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<bool, Failure> {
        tokio::select! {
            biased;
            () = self.asked() => Ok(false),
            done = work => done.map(|()| true),
        }
    }
}

/// The address, its port chosen, if nobody listens there. A daemon would share it with another one of the same user,
/// and questions would go to either.
///
/// # Errors
/// Somebody listens there, or this user may not.
pub(super) fn free(listen: SocketAddr) -> Result<SocketAddr, Failure> {
    let bound = TcpListener::bind(listen).and_then(|listener| listener.local_addr());
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Failure::failed(format!("{listen} is in use, perhaps by another usherd"))
            .fix("choose another port, or any free one: `usherd demo --listen 127.0.0.1:0`"),
        _ => Failure::failed(format!("cannot listen on {listen}: {error}")),
    })
}

/// Starts a daemon in this process, and waits until it decides.
///
/// # Errors
/// It cannot start, or is not ready in time.
pub(super) fn start(folder: &Folder, clock: Arc<dyn Clock>) -> Result<Daemon, Failure> {
    let options = Options { config: folder.main(), clock, passed: Vec::new(), as_process: false };
    let daemon = Daemon::start(options).map_err(|error| Failure::failed(error.to_string()))?;
    if daemon.wait_ready(READY_PATIENCE) {
        return Ok(daemon);
    }
    Err(Failure::failed(format!("the daemon was not ready within {} s", READY_PATIENCE.as_secs())))
}
