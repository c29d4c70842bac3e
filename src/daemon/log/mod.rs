//! The log: its lines, their form, and how both are changed while the daemon runs.

mod outlet;
pub(crate) mod panics;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::daemon::config::LogFormat;
use outlet::Outlet;

/// Where the lines of this process go.
static OUTLET: OnceLock<Outlet> = OnceLock::new();

/// Changes what is logged.
#[derive(Clone)]
pub struct LogControl {
    handle: reload::Handle<EnvFilter, Registry>,
    base: Arc<Mutex<String>>,
    /// Counts changes, so that a passing one is not taken back when another came after it.
    change: Arc<AtomicU64>,
}

impl LogControl {
    /// Logs by this filter until it is changed again, and answers the number of the change.
    ///
    /// # Errors
    /// The filter cannot be read; nothing changed.
    pub fn set(&self, filter: &str) -> Result<u64, String> {
        let parsed = parse(filter)?;
        self.handle.reload(parsed).map_err(|error| error.to_string())?;
        Ok(self.change.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Goes back to the configured filter, unless there was another change after `change`.
    pub fn restore(&self, change: u64) {
        if self.change.load(Ordering::Acquire) == change {
            let base = self.base.lock().clone();
            // It could be read when it was configured.
            let _ = self.set(&base);
        }
    }

    /// A new configuration: its filter holds from now on.
    ///
    /// # Errors
    /// The filter cannot be read; nothing changed.
    pub fn configure(&self, filter: &str) -> Result<(), String> {
        if *self.base.lock() != filter {
            self.set(filter)?;
            *self.base.lock() = filter.to_owned();
        }
        Ok(())
    }
}

/// Checks that a filter can be read.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), String> {
    EnvFilter::try_new(filter).map(drop).map_err(|error| error.to_string())
}

/// A filter without the finest lines of the file watch: it tells every event, so that a log that is written into a
/// watched folder would be about itself, for ever.
fn parse(filter: &str) -> Result<EnvFilter, String> {
    let parsed = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    Ok(match "notify=info".parse() {
        Ok(quiet) => parsed.add_directive(quiet),
        Err(_) => parsed,
    })
}

/// Starts logging to the standard error stream, once per process. Who logs never waits for who reads it, and neither
/// does who panics.
///
/// # Errors
/// The filter cannot be read, logging was started before, or there can be no further thread.
pub fn start(filter: &str, format: LogFormat) -> Result<LogControl, String> {
    let parsed = parse(filter)?;
    let (layer, handle) = reload::Layer::new(parsed);
    let registry = tracing_subscriber::registry().with(layer);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let outlet = Outlet::to(std::io::stderr()).map_err(|error| error.to_string())?;
    let lines = fmt::layer().with_writer(outlet.clone()).with_target(true).with_ansi(colour);
    let started = match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(lines).try_init(),
    };
    started.map_err(|error| error.to_string())?;
    let _ = OUTLET.set(outlet);
    panics::tell_by(|panic| {
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(backtrace, "{panic}");
    });
    Ok(LogControl { handle, base: Arc::new(Mutex::new(filter.to_owned())), change: Arc::new(AtomicU64::new(0)) })
}

/// Returns once what was logged is written, or after a second: before the process ends.
pub fn flush() {
    if let Some(outlet) = OUTLET.get() {
        outlet.flush(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_counted_also_where_it_is_logged() {
        panics::watch();
        start("info", LogFormat::Json).unwrap();
        let before = panics::seen();
        assert!(std::thread::spawn(|| panic!("a panic that a test wants")).join().is_err());
        assert_eq!(panics::seen(), before + 1);
    }

    #[test]
    fn the_file_watch_never_logs_its_events() {
        for filter in ["trace", "notify=trace", "debug,usherd=trace"] {
            let parsed = parse(filter).unwrap().to_string();
            assert!(parsed.split(',').any(|one| one == "notify=info"), "{filter}: {parsed}");
        }
        assert!(parse("usherd=loud").is_err());
    }
}
