//! A disk that is full, and files that somebody damaged: calls flow, and the daemon says what is wrong (I13, I14).

use std::path::Path;
use std::process::Command;

use fastrand::Rng;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use usherd_testkit::http::Client;
use usherd_testkit::process::{Site, Usherd, command};
use usherd_testkit::wait::eventually;

const ACME: &str = "id = \"acme\"\nkind = \"nfr\"\nseats = 100000\n";
const SMALL: &str = "[journal]\ncheckpoint_bytes = 1048576\nsegment_bytes = 1048576\n";

fn acquire(client: &mut Client, session: &str) {
    let body = json!({"tenant": "acme", "subject": session, "session": session, "kind": "desktop", "ttl_s": 86_400});
    let answer = client.post("/v1/acquire", &body.to_string());
    assert_eq!((answer.status, answer.json()["code"].as_str()), (200, Some("allow.new")), "{answer:?}");
}

fn inbound_and_emergency(client: &mut Client) {
    let inbound = client.post("/v1/acquire", "tenant=acme&session=in&kind=call&direction=inbound");
    assert_eq!((inbound.status, inbound.body.as_str()), (200, "allow.free inbound"));
    let emergency = client.post("/v1/acquire", "tenant=acme&session=em&subject=x&kind=call&direction=outbound&to=112");
    assert_eq!((emergency.status, emergency.body.as_str()), (200, "allow.free emergency"));
}

fn degraded(client: &mut Client) -> bool {
    client.get("/readyz?verbose").json()["durability"] == "degraded"
}

/// Fills the disk with grants, and sees that every sign of it is given and that nobody is refused for it;
/// then there is room again, and all that was granted survives a kill.
fn fill_and_heal(site: &Site, mut usherd: Usherd, make_room: impl FnOnce(&Usherd)) {
    let mut client = usherd.client();
    let mut events = usherd.client();
    events
        .send(b"GET /v1/events?types=journal HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n")
        .unwrap();
    let mut granted = 0;
    while !degraded(&mut client) {
        for _ in 0..200 {
            acquire(&mut client, &format!("s{granted}-{}", "x".repeat(100)));
            granted += 1;
        }
        assert!(granted < 50_000, "the disk never becomes full");
    }
    for _ in 0..200 {
        acquire(&mut client, &format!("s{granted}-{}", "x".repeat(100)));
        granted += 1;
    }
    let session = format!("s0-{}", "x".repeat(100));
    let released = client.post("/v1/release", &format!("tenant=acme&session={session}"));
    assert_eq!(released.body, "released.last");
    inbound_and_emergency(&mut client);
    assert_eq!(client.get("/readyz").status, 200, "it decides");
    let metrics = client.get("/metrics").body;
    assert!(metrics.contains("\nusherd_journal_degraded 1\n"), "{metrics}");
    assert!(!metrics.contains("\nusherd_journal_errors_total 0\n"), "{metrics}");
    usherd.until_says("durability is degraded");
    events.until("durability is degraded");
    make_room(&usherd);
    eventually("the journal to heal", || (!degraded(&mut client)).then_some(()));
    usherd.until_says("journal recovered");
    events.until("journal recovered");
    assert!(client.get("/metrics").body.contains("\nusherd_journal_degraded 0\n"));
    client.until_durable("acme");
    usherd.kill();
    let usherd = site.start();
    let held = usherd.client().get("/v1/tenants/acme").json()["held"].clone();
    assert_eq!(held, granted - 1, "what was granted while it was degraded is in the snapshot that healed it");
    assert_eq!(usherd.terminate(), Some(0));
}

/// A file system of its own for as long as it lives.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(path: &'a Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        mount(&["-t", "tmpfs", "-o", options, "tmpfs"], path).then_some(Mounted(path))
    }
}

fn mount(arguments: &[&str], path: &Path) -> bool {
    Command::new("mount")
        .args(arguments)
        .arg(path)
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_state_directory_stops_no_call_and_heals() {
    let site = Site::new(SMALL, &[("acme", ACME)]);
    let state = site.path("state");
    let Some(mounted) = Mounted::new(&state, "size=1m") else {
        println!("nothing can be mounted here: the limit on file sizes stands for it");
        return;
    };
    fill_and_heal(&site, site.start(), |_| assert!(mount(&["-o", "remount,size=64m"], &state)));
    drop(mounted);
}

#[test]
fn files_that_cannot_grow_stop_no_call_and_heal() {
    // As a quota does it: the write fails, the signal is ignored. And as a limit of the service manager does it: the
    // signal ends who does not care for it.
    for shell in ["trap '' XFSZ; ulimit -S -f 512; exec \"$0\" \"$@\"", "ulimit -S -f 512; exec \"$0\" \"$@\""] {
        limited(shell);
    }
}

fn limited(script: &str) {
    let site = Site::new(SMALL, &[("acme", ACME)]);
    let mut shell = Command::new("sh");
    shell.args(["-c", script]);
    let plain = command(&site.path("usherd.toml"));
    shell.arg(plain.get_program()).args(plain.get_args());
    let mut usherd = Usherd::spawn(&mut shell);
    usherd.until_ready();
    fill_and_heal(&site, usherd, |usherd| {
        let pid = Pid::from_child(&usherd.child);
        prlimit(Some(pid), Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    });
}

/// Fills the disk, and grants on; how many were granted.
fn fill(client: &mut Client) -> usize {
    let mut granted = 0;
    while granted < 50_000 && !degraded(client) {
        (0..200).for_each(|at| acquire(client, &format!("s{}-{}", granted + at, "x".repeat(100))));
        granted += 200;
    }
    (0..200).for_each(|at| acquire(client, &format!("s{}-{}", granted + at, "x".repeat(100))));
    granted + 200
}

#[test]
fn a_start_after_a_full_disk_says_that_something_is_missing() {
    let site = Site::new(SMALL, &[("acme", ACME)]);
    let state = site.path("state");
    let mounted = Mounted::new(&state, "size=1m").expect("root may mount");
    let usherd = site.start();
    let granted = fill(&mut usherd.client());
    usherd.kill();
    assert!(mount(&["-o", "remount,size=64m"], &state));
    let mut usherd = site.start();
    let said = usherd.said.join("\n");
    assert!(said.contains("changes were answered and not recorded"), "{said}");
    assert!(!said.contains("nobody was answered for it"), "{said}");
    let mut client = usherd.client();
    assert!(client.held("acme") < granted as u64);
    assert!(degraded(&mut client));
    inbound_and_emergency(&mut client);
    usherd.until_says("snapshot taken");
    assert_eq!(usherd.terminate(), Some(0));
    let usherd = site.start();
    assert!(!usherd.said.join("\n").contains("not recorded"), "it is said once");
    drop((usherd, mounted));
}

#[test]
fn a_read_only_state_directory_stops_no_call_and_heals() {
    for is_new in [false, true] {
        let site = Site::new(SMALL, &[("acme", ACME)]);
        let state = site.path("state");
        let mounted = Mounted::new(&state, "size=64m").expect("root may mount");
        if !is_new {
            let usherd = site.start();
            acquire(&mut usherd.client(), "before");
            assert_eq!(usherd.terminate(), Some(0));
        }
        assert!(mount(&["-o", "remount,ro"], &state));
        let mut usherd = site.start();
        let mut client = usherd.client();
        assert!(degraded(&mut client));
        inbound_and_emergency(&mut client);
        acquire(&mut client, "meanwhile");
        let held = client.held("acme");
        assert_eq!(held, if is_new { 1 } else { 2 });
        usherd.until_says("durability is degraded");
        assert!(mount(&["-o", "remount,rw"], &state));
        eventually("the journal to heal", || (!degraded(&mut client)).then_some(()));
        client.until_durable("acme");
        usherd.kill();
        let usherd = site.start();
        assert_eq!(usherd.client().held("acme"), held);
        drop((usherd, mounted));
    }
}

#[test]
fn a_state_directory_that_is_removed_is_noticed_and_made_anew() {
    let site = Site::new(SMALL, &[("acme", ACME)]);
    let mut usherd = site.start();
    usherd.until_says("snapshot taken");
    let mut client = usherd.client();
    acquire(&mut client, "before");
    // In one step, and then what is in it: the daemon goes on writing there, and a folder that fills cannot be removed.
    std::fs::rename(site.path("state"), site.path("gone")).unwrap();
    std::fs::remove_dir_all(site.path("gone")).unwrap();
    usherd.until_says("somebody removed or replaced the folder");
    // It heals at once: what stays is the count.
    let metrics = client.get("/metrics").body;
    let errors = metrics.lines().find_map(|line| line.strip_prefix("usherd_journal_errors_total "));
    assert!(errors.is_some_and(|errors| errors != "0"), "{errors:?}");
    acquire(&mut client, "meanwhile");
    inbound_and_emergency(&mut client);
    eventually("the journal to heal", || (!degraded(&mut client)).then_some(()));
    acquire(&mut client, "after");
    client.until_durable("acme");
    let second = site.spawn().ended();
    assert_eq!(second.code(), Some(1), "the new folder is held as the one before was");
    usherd.kill();
    let usherd = site.start();
    assert_eq!(usherd.client().get("/v1/tenants/acme").json()["held"], 3);
    assert_eq!(usherd.terminate(), Some(0));
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_calls_flow() {
    let seed = std::env::var("USHERD_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("USHERD_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let (mut degraded_starts, mut whole) = (0, 0);
    for round in 0..24 {
        let site = Site::new(SMALL, &[("acme", ACME)]);
        for part in 0..3 {
            let mut usherd = site.start();
            if rng.bool() {
                usherd.until_says("snapshot taken");
            }
            let mut client = usherd.client();
            (0..20).for_each(|at| acquire(&mut client, &format!("s{part}-{at}")));
            client.until_durable("acme");
            usherd.kill();
        }
        let mut files = site.journal_files("segment");
        files.extend(site.journal_files("snapshot"));
        files.retain(|file| !file.to_string_lossy().ends_with("tmp"));
        let file = &files[rng.usize(..files.len())];
        let mut bytes = std::fs::read(file).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let (at, bit) = (rng.usize(..bytes.len()), rng.u8(..8));
        bytes[at] ^= 1 << bit;
        std::fs::write(file, bytes).unwrap();
        let whence = format!("seed {seed}, round {round}, bit {bit} of byte {at} of {}", file.display());
        let usherd = site.start();
        let said = usherd.said.join("\n");
        let mut client = usherd.client();
        inbound_and_emergency(&mut client);
        let kept =
            client.list("/v1/tenants/acme/sessions", "sessions").iter().filter(|row| row["counts"] == true).count();
        let told = said.contains("the journal is damaged");
        assert!(
            kept == 60 || told || said.contains("interrupted write"),
            "{whence}: {kept} of 60 and not a word: {said}"
        );
        if told {
            degraded_starts += 1;
            assert!(!site.journal_files("damaged").is_empty(), "{whence}: nothing set aside");
            assert!(degraded(&mut client), "{whence}: it does not say that it is degraded");
        }
        whole += usize::from(kept == 60);
        acquire(&mut client, "new");
        client.until_durable("acme");
        usherd.kill();
        let usherd = site.start();
        assert!(!usherd.said.join("\n").contains("interrupted"), "{whence}: damaged twice");
        let again = usherd
            .client()
            .list("/v1/tenants/acme/sessions", "sessions")
            .iter()
            .filter(|row| row["counts"] == true)
            .count();
        assert_eq!(again, kept + 1, "{whence}: what is left stays, and what is new is kept");
    }
    println!("{degraded_starts} starts said that they are degraded, {whole} of 24 lost nothing");
    assert!(degraded_starts > 0);
}
