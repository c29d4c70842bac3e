//! A daemon in this process, with its own folder, clock and port.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use usherd::daemon::app::App;
use usherd::daemon::clock::{Clock, ManualClock};
use usherd::daemon::{Daemon, Options, StartError};
use usherd_engine::Now;

use crate::files::{files, write_tenant};
use crate::http::Client;

/// 2026-11-22 12:00 UTC.
pub const NOON_UTC_MS: i64 = 1_795_348_800_000;

/// A daemon with its files and the clock that the test moves; it may be stopped.
pub struct Running {
    daemon: Option<Daemon>,
    /// The clock that the test sets.
    pub clock: Arc<ManualClock>,
    /// Where its files are.
    pub folder: tempfile::TempDir,
}

impl Running {
    /// A daemon at noon, with these lines in `usherd.toml` and these tenant files.
    pub fn start(main: &str, tenants: &[(&str, &str)]) -> Self {
        let mut running = Self::stopped(files(main, tenants), NOON_UTC_MS);
        running.boot();
        running
    }

    /// A daemon with files that a test prepared and a clock of its own; it may not be ready yet.
    pub fn start_on(folder: tempfile::TempDir, clock: Arc<dyn Clock>, as_process: bool) -> Self {
        let daemon = start(folder.path(), clock, as_process).unwrap_or_else(|error| panic!("{error}"));
        Running { daemon: Some(daemon), ..Self::stopped(folder, 0) }
    }

    /// A daemon that does not run yet, on these files.
    pub fn stopped(folder: tempfile::TempDir, utc_ms: i64) -> Self {
        let clock = Arc::new(ManualClock::new(Now { uptime_ms: 1_000_000, utc_ms }));
        Running { daemon: None, clock, folder }
    }

    /// Starts it, and waits until it decides.
    pub fn boot(&mut self) {
        let daemon = start(self.folder.path(), Arc::clone(&self.clock) as Arc<_>, false);
        let daemon = daemon.unwrap_or_else(|error| panic!("{error}"));
        assert!(daemon.wait_ready(Duration::from_secs(30)), "not ready");
        self.daemon = Some(daemon);
    }

    /// Stops it; its files stay.
    pub fn stop(&mut self) {
        drop(self.daemon.take());
    }

    /// Stops it, and starts it again on the same files.
    pub fn restart(&mut self) {
        self.stop();
        self.boot();
    }

    /// The daemon itself, which runs.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// The parts of the daemon.
    pub fn app(&self) -> &App {
        self.daemon().app()
    }

    /// Its main listener.
    pub fn address(&self) -> SocketAddr {
        self.daemon().address().unwrap()
    }

    /// A new connection to it, with this time-out for its answers.
    pub fn client_within(&self, patience: Duration) -> Client {
        Client::connect_within(patience, self.address()).unwrap()
    }

    /// A file of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a tenant file; nothing happens yet.
    pub fn write(&self, id: &str, text: &str) {
        write_tenant(self.folder.path(), id, text);
    }
}

/// Starts a daemon on the files of a folder.
pub fn start(folder: &Path, clock: Arc<dyn Clock>, as_process: bool) -> Result<Daemon, StartError> {
    Daemon::start(Options { config: folder.join("usherd.toml"), clock, passed: Vec::new(), as_process })
}
