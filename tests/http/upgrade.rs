//! State directories of every format, as a daemon of then left them: the daemon of today goes on with each.
//!
//! `USHERD_WRITE_GOLDEN=1 cargo nextest run --test http upgrade::` writes `tests/http/format-N` for the formats of this
//! release, where it is not there; a folder that is there is never touched.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use usherd::daemon::clock::{Clock as _, ManualClock};
use usherd::daemon::journal::FORMAT;
use usherd_engine::Now;
use usherd_testkit::files::write_tenant;

use crate::client::{self, PATIENCE, request};
use crate::daemon::{Answer, NOON_UTC_MS, Running};

const MINUTE_MS: u64 = 60_000;
/// A second after it was stopped: 13:07:02 UTC.
const STOPPED_UTC_MS: i64 = NOON_UTC_MS + 67 * 60_000 + 2_000;
/// Where the state directory is in the folder of a format: git passes over what is called `state`.
const KEPT: &str = "state-directory";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ACME: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 2\n";
/// Ends two days later: told ahead, once.
const LEAVING: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 3\ncancel_at = \"2026-11-24\"\n";

/// The receiver hears of contracts and seats alone: that a disk was slow for a moment is none of the messages to count.
fn main_file(receiver: SocketAddr) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n\
         [[webhook]]\nname = \"desk\"\nurl = \"http://{receiver}/\"\nsecret_file = \"secret\"\n\
         types = [\"denied\", \"full\", \"reminder\"]\n"
    )
}

/// Where the state of this format is.
fn folder(format: u8) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/http/format-{format}"))
}

/// Copies files and folders.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Takes so many messages of a webhook; gives their bodies.
fn receive(listener: TcpListener, count: usize) -> JoinHandle<Vec<Value>> {
    std::thread::spawn(move || (0..count).map(|_| take(listener.accept().unwrap().0)).collect())
}

fn take(mut stream: TcpStream) -> Value {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut got, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        let text = String::from_utf8_lossy(&got).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let field =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= field.unwrap_or(0) {
                stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
                return serde_json::from_str(body).unwrap();
            }
        }
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "the message ends within: {text}");
        got.extend_from_slice(&part[..count]);
    }
}

/// Lets time pass, until the history has looked.
fn pass(daemon: &Running, clock: &ManualClock, by_ms: u64) {
    clock.advance(by_ms);
    let now_ms = clock.now().uptime_ms;
    daemon.wait_until("a look", |daemon| daemon.looked_ms() == Some(now_ms));
}

/// A node says hello from an address of its own.
fn hello(daemon: &Running) -> Answer {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.5:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&daemon.address().into()).unwrap();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    client::ask(TcpStream::from(socket), request("POST", "/v1/nodes/pbx-1/hello", form, "epoch=5").as_bytes())
}

/// Makes the state in the folder: two hours of two people, a third who was refused, a call that ended, a tenant that
/// leaves, and a receiver that does not answer.
fn make() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    // Nobody listens on port 1.
    std::fs::write(folder.path().join("usherd.toml"), main_file("127.0.0.1:1".parse().unwrap())).unwrap();
    write_tenant(folder.path(), "acme", ACME);
    let clock = Arc::new(ManualClock::new(Now { uptime_ms: 1_000_000, utc_ms: NOON_UTC_MS }));
    let mut daemon = Running::start_on(folder, Arc::clone(&clock) as Arc<_>, false);
    daemon.wait_until("a start", |daemon| daemon.get("/readyz").status == 200);
    assert_eq!(daemon.reload_with("leaving", LEAVING).status, 200);
    pass(&daemon, &clock, 1_000);
    let ask =
        |daemon: &Running, rest: &str| daemon.form("/v1/acquire", &format!("tenant=acme&ttl_s=86400&{rest}")).body;
    assert_eq!(ask(&daemon, "subject=anna&session=anna-pc&kind=desktop"), "allow.new");
    (0..5).for_each(|_| pass(&daemon, &clock, MINUTE_MS));
    // 12:05:01
    (0..11).for_each(|_| pass(&daemon, &clock, 5 * MINUTE_MS));
    // 13:00:01
    assert_eq!(hello(&daemon).status, 200);
    let bert =
        "subject=bert&session=call-1&kind=call&direction=outbound&node=pbx-1&epoch=5&seq=1&device=desk&group=sales";
    assert_eq!(ask(&daemon, bert), "allow.new");
    assert_eq!(ask(&daemon, "subject=carl&session=carl-pc&kind=desktop"), "deny.full tenant");
    (0..42).for_each(|_| {
        pass(&daemon, &clock, MINUTE_MS / 6);
        assert_eq!(daemon.form("/v1/nodes/pbx-1/heartbeat", "epoch=5").status, 200);
    });
    let again = "subject=bert&session=call-2&kind=call&direction=outbound&node=pbx-1&epoch=5&seq=7";
    assert_eq!(ask(&daemon, again), "allow.held");
    let release = "tenant=acme&session=call-2&node=pbx-1&epoch=5&seq=9";
    assert_eq!(daemon.form("/v1/release", release).body, "released.more");
    daemon.wait_until("messages that wait", |daemon| {
        daemon.get("/v1/admin/webhooks").json()["webhooks"][0]["queued"] == 3
    });
    let history = daemon.folder.path().join("state/history");
    daemon.wait_until("a file of the hour", |_| {
        let names = std::fs::read_dir(&history).into_iter().flatten().flatten();
        names.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("hour-"))
    });
    daemon.stop();
    let folder = std::mem::replace(&mut daemon.folder, tempfile::tempdir().unwrap());
    assert_eq!(clock.now().utc_ms + 1_000, STOPPED_UTC_MS);
    folder
}

/// The format of each kind of file in a state directory that has a number: the highest, where there are several.
fn formats(state: &Path) -> BTreeMap<&'static str, u64> {
    let mut found = BTreeMap::new();
    let mut note = |kind, number: u64| {
        let known = found.entry(kind).or_insert(number);
        *known = number.max(*known);
    };
    for (place, start, kind, at) in [
        ("journal", "segment-", "journal/segment", 4),
        ("journal", "snapshot-", "journal/snapshot", 4),
        ("history", "hour-", "history/hour", 7),
    ] {
        for entry in std::fs::read_dir(state.join(place)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with(start) {
                note(kind, u64::from(std::fs::read(entry.path()).unwrap()[at]));
            }
        }
    }
    for name in ["accounts.json", "last-good/config.json"] {
        let json: Value = serde_json::from_slice(&std::fs::read(state.join(name)).unwrap()).unwrap();
        note(name, json["format"].as_u64().unwrap());
    }
    let addresses = std::fs::read_to_string(state.join("node-addresses")).unwrap();
    note("node-addresses", addresses.lines().next().unwrap().rsplit(' ').next().unwrap().parse().unwrap());
    found
}

/// Starts a daemon of today on a state of this format, and hands it over with its clock and what its receiver gets.
fn start(format: u8, messages: usize) -> (Running, Arc<ManualClock>, JoinHandle<Vec<Value>>) {
    let folder = tempfile::tempdir().unwrap();
    copy(&self::folder(format), folder.path());
    std::fs::rename(folder.path().join(KEPT), folder.path().join("state")).unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    std::fs::write(folder.path().join("usherd.toml"), main_file(listener.local_addr().unwrap())).unwrap();
    let got = receive(listener, messages);
    let clock = Arc::new(ManualClock::new(Now { uptime_ms: 5_000, utc_ms: STOPPED_UTC_MS }));
    let daemon = Running::start_on(folder, Arc::clone(&clock) as Arc<_>, false);
    daemon.wait_until("a start", |daemon| daemon.get("/readyz").status == 200);
    (daemon, clock, got)
}

#[test]
fn the_newest_folder_is_of_the_formats_that_are_written_today() {
    if std::env::var_os("USHERD_WRITE_GOLDEN").is_some() && !folder(FORMAT).exists() {
        let made = make();
        copy(&made.path().join("tenants.d"), &folder(FORMAT).join("tenants.d"));
        copy(&made.path().join("state"), &folder(FORMAT).join(KEPT));
    }
    let newest = (1..=u8::MAX).take_while(|format| folder(*format).exists()).last().unwrap_or(0);
    let made = make();
    let today = formats(&made.path().join("state"));
    let known = if newest == 0 { BTreeMap::new() } else { formats(&folder(newest).join(KEPT)) };
    assert_eq!(
        known,
        today,
        "files have another format today: add tests/http/format-{} (docs/design.md, What is frozen on disk) and a test \
         here that starts on it, and leave the older ones as they are",
        newest + 1
    );
}

#[test]
fn format_1_goes_on_with_sessions_nodes_and_tombstones() {
    let (daemon, _clock, _got) = start(1, 0);
    let sessions = daemon.get("/v1/tenants/acme/sessions").json();
    let keys = ["session", "subject", "kind", "direction", "device", "group", "node", "counts", "started"];
    let rows: Vec<String> = sessions["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| keys.iter().map(|key| row[*key].to_string()).collect::<Vec<_>>().join(" "))
        .collect();
    let expected = [
        r#""anna-pc" "anna" "desktop" null null null null true "2026-11-22T12:00:01Z""#,
        r#""call-1" "bert" "call" "outbound" "desk" null "pbx-1" true "2026-11-22T13:00:01Z""#,
    ];
    assert_eq!(rows, expected, "{sessions:#}");
    let view = daemon.get("/v1/tenants/acme").json();
    assert_eq!((&view["held"], &view["quota"]), (&json!(2), &json!(2)), "{view:#}");
    let nodes = daemon.get("/v1/nodes").json();
    assert_eq!((&nodes["nodes"][0]["node"], &nodes["nodes"][0]["epoch"]), (&json!("pbx-1"), &json!(5)), "{nodes:#}");
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1);
    let ask = |rest: &str| daemon.form("/v1/acquire", &format!("tenant=acme&kind=call&direction=outbound&{rest}")).body;
    assert_eq!(ask("subject=bert&session=call-2&node=pbx-1&epoch=5&seq=8"), "ignore.stale", "it ended with number 9");
    assert_eq!(ask("subject=bert&session=call-1&node=pbx-1&epoch=5&seq=2"), "allow.same");
    assert_eq!(ask("subject=carl&session=call-3&ttl_s=60"), "deny.full tenant");
    let verbose = daemon.get("/readyz?verbose");
    assert!(!verbose.body.contains("damaged"), "{verbose:?}");
}

#[test]
fn format_1_goes_on_with_what_was_used() {
    let (daemon, clock, _got) = start(1, 0);
    let rows = |path: &str, keys: &[&str]| -> Vec<String> {
        let answer = daemon.get(path).json();
        let rows = answer["usage"].as_array().unwrap().iter();
        rows.map(|row| keys.iter().map(|key| row[*key].to_string()).collect::<Vec<_>>().join(" ")).collect()
    };
    let keys = ["at", "peak", "seat_s", "saturated_s", "denials", "quota"];
    let five = "/v1/tenants/acme/usage?step=5m&from=2026-11-22T12:00:00Z&to=2026-11-22T13:05:00Z";
    let mut expected: Vec<String> =
        (0..12).map(|at| format!("\"2026-11-22T12:{:02}:00Z\" 1 300 0 0 2", at * 5)).collect();
    expected.push("\"2026-11-22T13:00:00Z\" 2 600 300 1 2".to_owned());
    assert_eq!(rows(five, &keys), expected);
    let hours = "/v1/tenants/acme/usage?step=1h&from=2026-11-22T12:00:00Z&to=2026-11-22T14:00:00Z";
    let expected = ["\"2026-11-22T12:00:00Z\" 1 3600 0 0 2", "\"2026-11-22T13:00:00Z\" 2 840 420 1 2"];
    assert_eq!(rows(hours, &keys), expected);
    pass(&daemon, &clock, 60 * MINUTE_MS);
}

#[test]
fn format_1_tells_what_waited_and_nothing_twice() {
    let (mut daemon, clock, got) = start(1, 3);
    // Longer than the last try waited.
    clock.advance(180 * MINUTE_MS);
    daemon.wait_until("what waited", |_| got.is_finished());
    let mut told: Vec<String> = got
        .join()
        .unwrap()
        .iter()
        .map(|message| {
            [&message["type"], &message["subject"], &message["time"], &message["data"]].map(Value::to_string).join(" ")
        })
        .collect();
    told.sort();
    let ends = "the cancelled subscription ends in 7 days or less: data is deleted at 2026-11-23T23:00:00Z and cannot be \
                restored afterwards";
    let denied =
        r#"{"code":"deny.full","count":1,"detail":"tenant","held":2,"kind":"desktop","quota":2,"tenant":"acme"}"#;
    let expected = [
        format!(r#""usherd.seat.denied.v1" "acme" "2026-11-22T13:00:01Z" {denied}"#),
        format!(
            r#""usherd.subscription.reminder.v1" "leaving" "2026-11-22T12:00:00Z" {{"message":"{ends}","tenant":"leaving"}}"#
        ),
        r#""usherd.tenant.full.v1" "acme" "2026-11-22T13:00:11Z" {"held":2,"quota":2,"tenant":"acme"}"#.to_owned(),
    ];
    assert_eq!(told, expected);
    daemon.stop();
    let state = daemon.folder.path().join("state");
    let addresses = std::fs::read_to_string(state.join("node-addresses")).unwrap();
    assert!(addresses.contains(" 127.0.0.5\n"), "{addresses}");
}
