//! A daemon in this process, asked over sockets by a client that holds every answer against the document.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use usherd::daemon::clock::Clock;
use usherd_testkit::daemon;
use usherd_testkit::wait::eventually_or;

pub(crate) use usherd_testkit::daemon::NOON_UTC_MS;
pub(crate) use usherd_testkit::http::Answer;

use crate::client;

/// A running daemon with its files.
pub(crate) struct Running(daemon::Running);

impl Deref for Running {
    type Target = daemon::Running;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Running {
    /// Starts with these tenant files, and lines for `usherd.toml`.
    pub(crate) fn start(main: &str, tenants: &[(&str, &str)]) -> Self {
        Running(daemon::Running::start(main, tenants))
    }

    /// Starts with files that a test prepared, and a clock of its own.
    pub(crate) fn start_on(folder: tempfile::TempDir, clock: Arc<dyn Clock>, as_process: bool) -> Self {
        Running(daemon::Running::start_on(folder, clock, as_process))
    }

    /// Where a listener of the configuration listens.
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        self.app().serving.listeners.iter().find(|listener| listener.name == name).unwrap().address.parse().unwrap()
    }

    /// When the usage history looked at the table last.
    pub(crate) fn looked_ms(&self) -> Option<u64> {
        self.app().publishing.history.looked_ms()
    }

    /// The path of the Unix socket of the configuration.
    pub(crate) fn socket(&self) -> PathBuf {
        self.app().serving.listeners.iter().find(|listener| listener.name == "unix").unwrap().address.clone().into()
    }

    /// Writes a tenant file, and puts it in force.
    pub(crate) fn reload_with(&self, id: &str, text: &str) -> Answer {
        self.write(id, text);
        self.call("POST", "/v1/admin/reload?force=1", "", "")
    }

    /// Waits until something that can be seen from outside is so.
    pub(crate) fn wait_until(&self, what: &str, seen: impl Fn(&Self) -> bool) {
        eventually_or(|| seen(self).then_some(()), || what.to_owned());
    }

    /// Lets time pass, and waits until the reaper has seen it.
    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(seconds * 1_000);
        let (app, now) = (self.app(), self.clock.now());
        self.wait_until("the reaper", |_| app.deciding.engine.next_deadline().is_none_or(|due| due > now.uptime_ms));
        let utc = chrono::DateTime::from_timestamp_millis(now.utc_ms).unwrap();
        self.wait_until("booked changes", |_| {
            let config = app.configuration.running.get();
            let mut tenants = config.tenants.iter();
            tenants.all(|(id, tenant)| {
                app.deciding.engine.tenant(now, id).is_some_and(|view| view.quota == tenant.entitlement(utc).seats)
            })
        });
    }

    /// One request as it stands, on a connection of its own.
    pub(crate) fn send(&self, request: &str) -> Answer {
        client::ask(client::tcp(self.address()), request.as_bytes())
    }

    pub(crate) fn call(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        self.send(&client::request(method, path, headers, body))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "", "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, "Content-Type: application/json\r\n", &body.to_string())
    }

    pub(crate) fn form(&self, path: &str, body: &str) -> Answer {
        self.call("POST", path, "Content-Type: application/x-www-form-urlencoded\r\n", body)
    }
}
