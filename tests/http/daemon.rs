//! A daemon in this process, with its own folder, clock and port; and a client that knows nothing of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use usherd::daemon::clock::ManualClock;
use usherd::daemon::{Daemon, Options};
use usherd::engine::Now;

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
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Running {
    /// Starts with these tenant files, and lines for `usherd.toml`.
    pub(crate) fn start(main: &str, tenants: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
        let listen = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n";
        let main = if main.contains("[server]") { main.replace("[server]\n", listen) } else { format!("{main}\n{listen}") };
        std::fs::write(folder.path().join("usherd.toml"), main).unwrap();
        for (id, text) in tenants {
            write_tenant(folder.path(), id, text);
        }
        let clock = Arc::new(ManualClock::new(Now { uptime_ms: 1_000_000, utc_ms: NOON_UTC_MS }));
        let (daemon, address) = boot(folder.path(), &clock);
        Running { daemon: Some(daemon), clock, folder, address }
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
        let engine = &self.daemon().app().engine;
        let now = usherd::daemon::clock::Clock::now(&*self.clock).uptime_ms;
        for _ in 0..2_000 {
            if engine.next_deadline().is_none_or(|due| due > now) {
                return;
            }
            std::thread::yield_now();
            #[allow(clippy::disallowed_methods, reason = "the reaper runs in real time; this waits for it, bounded")]
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the reaper did not come");
    }

    pub(crate) fn send(&self, request: &str) -> Answer {
        raw(self.address, request.as_bytes())
    }

    pub(crate) fn call(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
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
    let options = Options {
        config: folder.join("usherd.toml"),
        clock: Arc::clone(clock) as Arc<_>,
        passed: Vec::new(),
        as_process: false,
    };
    let daemon = Daemon::start(options).unwrap_or_else(|error| panic!("{error}"));
    assert!(daemon.wait_ready(Duration::from_secs(30)), "not ready");
    let address = daemon.address().unwrap();
    (daemon, address)
}

/// One request, one connection, everything until the peer closes.
pub(crate) fn raw(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    parse(&answer)
}

pub(crate) fn parse(answer: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { unchunk(body) } else { body.to_owned() };
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
