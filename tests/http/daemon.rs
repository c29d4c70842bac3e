//! A daemon in this process, with its own folder, clock and port; and a client that knows nothing of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use usherd::daemon::clock::{Clock, ManualClock};
use usherd::daemon::{Daemon, Options};
use usherd_engine::Now;

use crate::client;

/// 2026-11-22 12:00 UTC.
pub(crate) const NOON_UTC_MS: i64 = 1_795_348_800_000;

/// A running daemon with its files.
pub(crate) struct Running {
    daemon: Option<Daemon>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n\n{:.2000}", self.head, self.body)
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The code of a decision, with its detail behind a blank, however it was written.
    pub(crate) fn decision(&self) -> String {
        if !self.body.starts_with('{') {
            return self.body.clone();
        }
        let json = self.json();
        let word = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", word("code"), word("detail")).trim().to_owned()
    }

    /// The pointers of a problem.
    pub(crate) fn pointers(&self) -> Vec<String> {
        let json = self.json();
        let errors = json["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }
}

impl Running {
    /// Starts with these tenant files, and lines for `usherd.toml`.
    pub(crate) fn start(main: &str, tenants: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
        let workers = if main.contains("workers =") { "" } else { "workers = 2\n" };
        let listen = format!("[server]\nlisten = \"127.0.0.1:0\"\n{workers}");
        let main =
            if main.contains("[server]") { main.replace("[server]\n", &listen) } else { format!("{main}\n{listen}") };
        std::fs::write(folder.path().join("usherd.toml"), main).unwrap();
        for (id, text) in tenants {
            write_tenant(folder.path(), id, text);
        }
        let clock = Arc::new(ManualClock::new(Now { uptime_ms: 1_000_000, utc_ms: NOON_UTC_MS }));
        let (daemon, address) = boot(folder.path(), &clock);
        Running { daemon: Some(daemon), clock, folder, address }
    }

    /// Starts with files that a test prepared, and a clock of its own.
    pub(crate) fn start_on(folder: tempfile::TempDir, clock: Arc<dyn Clock>, as_process: bool) -> Self {
        let daemon = Daemon::start(options(folder.path(), clock, as_process)).unwrap_or_else(|error| panic!("{error}"));
        let address = daemon.address().unwrap();
        let clock = Arc::new(ManualClock::new(Now { uptime_ms: 0, utc_ms: 0 }));
        Running { daemon: Some(daemon), clock, folder, address }
    }

    /// Stops it; its files stay.
    pub(crate) fn stop(&mut self) {
        drop(self.daemon.take());
    }

    /// Where a listener of the configuration listens.
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        self.daemon().app().listeners.iter().find(|listener| listener.name == name).unwrap().address.parse().unwrap()
    }

    /// When the usage history looked at the table last.
    pub(crate) fn looked_ms(&self) -> Option<u64> {
        self.daemon().app().history.looked_ms()
    }

    /// The path of the Unix socket of the configuration.
    pub(crate) fn socket(&self) -> PathBuf {
        self.daemon().app().listeners.iter().find(|listener| listener.name == "unix").unwrap().address.clone().into()
    }

    /// Writes a tenant file, and puts it in force.
    pub(crate) fn reload_with(&self, id: &str, text: &str) -> Answer {
        write_tenant(self.folder.path(), id, text);
        self.call("POST", "/v1/admin/reload?force=1", "", "")
    }

    /// Waits until something that can be seen from outside is so.
    pub(crate) fn wait_until(&self, what: &str, seen: impl Fn(&Self) -> bool) {
        for _ in 0..4_000 {
            if seen(self) {
                return;
            }
            #[allow(clippy::disallowed_methods, reason = "what is waited for happens in real time; bounded")]
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("in vain waited for: {what}");
    }

    /// Stops and starts again on the same files.
    pub(crate) fn restart(&mut self) {
        drop(self.daemon.take());
        let (daemon, address) = boot(self.folder.path(), &self.clock);
        (self.daemon, self.address) = (Some(daemon), address);
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// Lets time pass, and waits until the reaper has seen it.
    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(seconds * 1_000);
        let (app, now) = (self.daemon().app(), self.clock.now());
        self.wait_until("the reaper", |_| app.engine.next_deadline().is_none_or(|due| due > now.uptime_ms));
        let utc = chrono::DateTime::from_timestamp_millis(now.utc_ms).unwrap();
        self.wait_until("booked changes", |_| {
            let config = app.config();
            let mut tenants = config.tenants.iter();
            tenants.all(|(id, tenant)| {
                app.engine.tenant(now, id).is_some_and(|view| view.quota == tenant.entitlement(utc).seats)
            })
        });
    }

    /// One request as it stands, on a connection of its own.
    pub(crate) fn send(&self, request: &str) -> Answer {
        client::ask(client::tcp(self.address), request.as_bytes())
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

pub(crate) fn write_tenant(folder: &Path, id: &str, text: &str) {
    std::fs::write(folder.join("tenants.d").join(format!("{id}.toml")), text).unwrap();
}

fn boot(folder: &Path, clock: &Arc<ManualClock>) -> (Daemon, SocketAddr) {
    let options = options(folder, Arc::clone(clock) as Arc<_>, false);
    let daemon = Daemon::start(options).unwrap_or_else(|error| panic!("{error}"));
    assert!(daemon.wait_ready(Duration::from_secs(30)), "not ready");
    let address = daemon.address().unwrap();
    (daemon, address)
}

fn options(folder: &Path, clock: Arc<dyn Clock>, as_process: bool) -> Options {
    Options { config: folder.join("usherd.toml"), clock, passed: Vec::new(), as_process }
}

pub(crate) fn parse(answer: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(answer);
    let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    let body =
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { unchunk(body) } else { body.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
