//! The whole daemon behind one connection: whatever comes over HTTP or RESP, it answers in the protocol, panics
//! nowhere, seats nobody above the quota, and lets an inbound call through that comes afterwards.
//!
//! The first byte of an input chooses the protocol: `r` is RESP, any other HTTP/1. The rest is what the client sends,
//! in parts that end where a byte 0xff stands.
#![no_main]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::task::LocalSet;
use usherd::daemon::Prepared;
use usherd::daemon::api::Worker;
use usherd::daemon::app::App;
use usherd::daemon::clock::ManualClock;
use usherd::daemon::edge::peer::PeerAddress;
use usherd::daemon::edge::{Protocol, serve_stream};
use usherd_engine::Now;

const QUOTA: u32 = 2;

/// Parts that may lead above the quota: live sessions, calls that are never denied, another quota; or words that are
/// encoded or cut, so that it cannot be seen here.
const ABOVE: [&[u8]; 9] =
    [b"existing", b"inventory", b"class", b"leg", b"subscription", b"reload", b"%", b"\\u", b"chunked"];

/// A daemon that lives as long as the fuzzer; its sessions end after each input.
struct Desk {
    runtime: tokio::runtime::Runtime,
    tasks: LocalSet,
    app: App,
    worker: Rc<Worker>,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::new(Desk::new());
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
        let tenant = format!("id = \"acme\"\nkind = \"nfr\"\nseats = {QUOTA}\n");
        std::fs::write(folder.path().join("tenants.d/acme.toml"), tenant).unwrap();
        std::fs::write(folder.path().join("usherd.toml"), "[journal]\ndurability = \"none\"\n").unwrap();
        let clock = Arc::new(ManualClock::new(Now { uptime_ms: 1_000_000, utc_ms: 1_795_348_800_000 }));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let prepared = Prepared::new(&folder.path().join("usherd.toml"), Arc::clone(&clock) as _, false).unwrap();
        let daemon = prepared.embedded().unwrap();
        let (app, worker) = (daemon.app().clone(), Rc::new(daemon.worker()));
        let tasks = LocalSet::new();
        tasks.spawn_local(daemon.run());
        let serving = Arc::clone(&app.serving);
        tasks.block_on(&runtime, async move {
            while !serving.is_ready() {
                tokio::task::yield_now().await;
            }
        });
        Desk { runtime, tasks, app, worker, clock, _folder: folder }
    }

    /// The bytes that come back for these parts, until the daemon closes.
    fn converse(&self, protocol: Protocol, parts: &[&[u8]]) -> Vec<u8> {
        let (edge, worker) = (Arc::clone(&self.app.serving.edge), Rc::clone(&self.worker));
        self.tasks.block_on(&self.runtime, async move {
            let (client, server) = duplex(1 << 20);
            let (_stop, shutdown) = watch::channel(false);
            let address = PeerAddress::Ip([127, 0, 0, 1].into());
            let served = tokio::task::spawn_local(serve_stream(server, protocol, address, worker, edge, shutdown));
            let got = exchange(client, parts).await;
            served.await.unwrap();
            got
        })
    }

    fn seats(&self) -> (u32, u32) {
        let view = self.app.deciding.engine.tenant(self.app.deciding.clock.now(), "acme").unwrap();
        (view.held, view.held.saturating_sub(QUOTA))
    }
}

async fn exchange(client: DuplexStream, parts: &[&[u8]]) -> Vec<u8> {
    let (mut reading, mut writing) = tokio::io::split(client);
    let write = async {
        for part in parts {
            if writing.write_all(part).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let _ = writing.shutdown().await;
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(write, reading.read_to_end(&mut got));
    read.unwrap();
    got
}

/// Whole replies of RESP, one after the other; errors and strings are all that there is.
fn is_resp(mut bytes: &[u8]) -> bool {
    while let Some((kind, rest)) = bytes.split_first() {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return false };
        let line = &rest[..end];
        bytes = &rest[end + 2..];
        match kind {
            b'+' | b'-' => {}
            b':' | b'*' | b'%' => {
                if std::str::from_utf8(line).ok().and_then(|text| text.parse::<usize>().ok()).is_none() {
                    return false;
                }
            }
            b'$' => {
                let Some(length) = std::str::from_utf8(line).ok().and_then(|text| text.parse::<usize>().ok()) else { return false };
                if bytes.get(length..length + 2) != Some(b"\r\n") {
                    return false;
                }
                bytes = &bytes[length + 2..];
            }
            _ => return false,
        }
    }
    true
}

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let protocol = if *first == b'r' { Protocol::Resp } else { Protocol::Http1 };
    let parts: Vec<&[u8]> = rest.split(|byte| *byte == 0xff).collect();
    DESK.with_borrow(|desk| {
        let got = desk.converse(protocol, &parts);
        let text = String::from_utf8_lossy(&got);
        assert!(!text.contains("an internal error"), "{text}");
        match protocol {
            Protocol::Resp => assert!(is_resp(&got), "{text}"),
            _ => assert!(got.is_empty() || got.starts_with(b"HTTP/1."), "{text}"),
        }
        let (held, over) = desk.seats();
        // Above the quota only what ran already, or may never be denied.
        let said = parts.concat().to_ascii_lowercase();
        let may_exceed = ABOVE.iter().any(|word| said.windows(word.len()).any(|part| part == *word));
        assert!(over == 0 || may_exceed, "{held} seats of {QUOTA}: {text}");
        let inbound = b"*7\r\n$10\r\nCU.ACQUIRE\r\n$4\r\nacme\r\n$1\r\n-\r\n$2\r\nin\r\n$4\r\ncall\r\n$9\r\ndirection\r\n$7\r\ninbound\r\n";
        assert_eq!(desk.converse(Protocol::Resp, &[inbound]), b"+allow.free inbound\r\n");
        // Everything ends: the next input finds the table as this one did.
        let filter = usherd_engine::SessionFilter::default();
        for session in desk.app.deciding.engine.sessions("acme", &filter, "", 1_000).unwrap_or_default() {
            desk.app.deciding.engine.end_session(desk.app.deciding.clock.now(), "acme", &session.session, true, &mut ());
        }
        desk.clock.advance(600_000);
    });
});
