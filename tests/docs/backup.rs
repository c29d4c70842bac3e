//! A copy of the state directory that is taken while the daemon works is a whole one.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use usherd_testkit::http::Client;
use usherd_testkit::process::{Site, Usherd, told, usherd};
use usherd_testkit::wait::eventually;

const ACME: &str = "id = \"acme\"\nkind = \"nfr\"\nseats = 1000000\n";

/// Files change hands often: many segments, many snapshots, and old ones go.
const BUSY: &str = "[journal]\nsegment_bytes = 1048576\ncheckpoint_bytes = 1048576\nkeep_bytes = 1048576\n";

/// Sessions that are there for the whole test.
const LASTING: usize = 200;

/// Copies that are taken.
const COPIES: usize = 12;

fn acquire(client: &mut Client, session: &str) {
    let body = format!("tenant=acme&subject={session}&session={session}&kind=desktop&ttl_s=86400");
    assert_eq!(client.post("/v1/acquire", &body).body, "allow.new");
}

/// Takes and gives back until it is told to stop; many at once in one message.
fn churn(mut client: Client, stop: &AtomicBool, rounds: &AtomicU64) {
    while !stop.load(Ordering::Acquire) {
        let round = rounds.load(Ordering::Acquire);
        for op in ["acquire", "release"] {
            let ops: Vec<String> = (0..100)
                .map(|n| format!("{{\"op\":\"{op}\",\"tenant\":\"acme\",\"subject\":\"s{n}\",\"session\":\"c{round}-{n}\",\"kind\":\"desktop\",\"ttl_s\":600}}"))
                .collect();
            assert_eq!(client.post("/v1/batch", &format!("{{\"ops\":[{}]}}", ops.join(","))).status, 200);
        }
        rounds.store(round + 1, Ordering::Release);
    }
}

/// Follows the page: copy, and once more where a file went meanwhile.
fn copy(from: &Path, to: &Path) {
    eventually("a copy without a file that went", || {
        let _ = std::fs::remove_dir_all(to);
        let good = Command::new("cp").arg("-a").arg(from).arg(to).stderr(std::process::Stdio::null()).status().unwrap();
        good.success().then_some(())
    });
}

fn verified(folder: &Path) -> String {
    let (code, said) = told(usherd(&["journal", "verify"]).arg(folder.join("journal")));
    assert_eq!(code, Some(0), "{said}");
    said
}

fn sessions(daemon: &Usherd) -> BTreeSet<String> {
    let list = daemon.client().list("/v1/tenants/acme/sessions", "sessions");
    list.iter().map(|session| session["session"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_copy_taken_live_restores_what_was_acknowledged() {
    let site = Site::new(BUSY, &[("acme", ACME)]);
    let daemon = site.start();
    let lasting: BTreeSet<String> = (0..LASTING).map(|n| format!("lasting-{n}")).collect();
    let mut client = daemon.client();
    lasting.iter().for_each(|session| acquire(&mut client, session));
    client.until_durable("acme");
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let copies: Vec<_> = (0..COPIES).map(|n| site.path(&format!("copy-{n}"))).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| churn(client, &stop, &rounds));
        for to in &copies {
            let before = rounds.load(Ordering::Acquire);
            eventually("work between two copies", || (rounds.load(Ordering::Acquire) > before + 3).then_some(()));
            copy(&site.path("state"), to);
        }
        stop.store(true, Ordering::Release);
    });
    daemon.kill();
    for to in &copies {
        let said = verified(to);
        assert!(said.starts_with("valid: ") || said.starts_with("note: "), "{said}");
    }
    for to in [&copies[0], &copies[COPIES / 2], &copies[COPIES - 1]] {
        let restored = Site::new(BUSY, &[("acme", ACME)]);
        copy(to, &restored.path("state"));
        let mut daemon = restored.start();
        let there = sessions(&daemon);
        assert!(lasting.is_subset(&there), "{} of {LASTING} are back", there.intersection(&lasting).count());
        assert!(!daemon.all_said().contains("damaged"), "{:?}", daemon.said);
        verified(&restored.path("state"));
    }
}
