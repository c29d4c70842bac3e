//! The queue outlives restarts and crashes, and secrets are seen nowhere.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use usherd_testkit::process::{Killed, command, told, usherd};

use crate::office::{Office, SECRET, call, site, wait};
use crate::receiver::{Manner, Receiver};

#[test]
fn a_restart_delivers_what_waited_with_the_id_it_had() {
    let mut office = Office::start("");
    office.receiver.behave(Manner::Reset);
    office.acquire("unknown", "a");
    office.try_number(1);
    // Counted and not yet told: that goes into the queue at the end, too.
    for subject in 0..7 {
        office.acquire("unknown", &format!("s{subject}"));
    }
    office.daemon.stop();
    office.receiver.behave(Manner::Take);
    office.boot();
    office.after(6);
    let got = office.got(3);
    assert_eq!(got[0].body, got.iter().skip(1).find(|got| got.json()["data"]["count"] == 1).unwrap().body);
    let counted = got.iter().find(|got| got.json()["data"]["count"] != 1).unwrap();
    assert_eq!(counted.json()["data"]["count"], 7);
    wait("an empty queue", || office.hook()["queued"] == 0, || office.hook().to_string());
    office.daemon.stop();
    office.boot();
    office.after(600);
    assert_eq!(office.receiver.got().len(), 3, "what was delivered is not told again");
}

#[test]
fn a_damaged_file_is_set_aside_and_costs_only_what_is_damaged() {
    let mut office = Office::start("");
    office.receiver.behave(Manner::Reset);
    for tenant in ["one", "two", "three"] {
        office.acquire(tenant, "a");
        office.settled();
    }
    office.daemon.stop();
    let path = office.daemon.path("state/webhooks/desk.queue");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 3);
    std::fs::write(&path, text.replacen("\\\"two\\\"", "\\\"too\\\"", 1)).unwrap();
    office.receiver.behave(Manner::Take);
    let before = office.receiver.got().len();
    office.boot();
    office.after(10);
    office.got(before + 2);
    office.settled();
    let mut told: Vec<String> =
        office.receiver.got()[before..].iter().map(|got| got.json()["subject"].as_str().unwrap().to_owned()).collect();
    told.sort();
    assert_eq!(told, ["one", "three"]);
    assert!(path.with_extension("queue.damaged").exists());
}

/// `usherd serve` as a process of its own.
struct Process(Killed);

impl Process {
    fn start(folder: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut serve = command(&folder.join("usherd.toml"));
        Process(Killed(serve.stdout(Stdio::null()).stderr(log).spawn().unwrap()))
    }

    /// Where it listens, by its log: the last start counts.
    fn address(folder: &Path, start: usize) -> SocketAddr {
        let ready = || -> Option<String> {
            let log = std::fs::read_to_string(folder.join("log")).unwrap();
            let mut ready = log.lines().filter(|line| line.contains(" ready ") && line.contains("listeners="));
            Some(ready.nth(start)?.split("listeners=[\"").nth(1)?.split('"').next()?.to_owned())
        };
        let log = || std::fs::read_to_string(folder.join("log")).unwrap();
        wait("a daemon that is ready", || ready().is_some(), log);
        ready().unwrap().parse().unwrap()
    }
}

#[test]
fn kill_9_loses_nothing_written_and_secrets_are_shown_nowhere() {
    let receiver = Receiver::start();
    receiver.behave(Manner::Reset);
    let folder = site(&receiver, &receiver.url(), "types = [\"denied\"]\n[log]\nfilter = \"debug\"\n");
    let path = folder.path();
    let mut process = Process::start(path);
    let address = Process::address(path, 0);
    let asked = r#"{"tenant": "unknown", "subject": "anna", "session": "1", "kind": "desktop", "ttl_s": 60}"#;
    assert_eq!(call(address, "POST", "/v1/acquire", asked).0, 200);
    let queue = path.join("state/webhooks/desk.queue");
    let waits = || std::fs::read_to_string(&queue).is_ok_and(|text| text.contains("usherd.seat.denied.v1"));
    wait("the file of the queue", waits, String::new);
    // SIGKILL: nothing is tidied up.
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    let before = receiver.got();
    receiver.behave(Manner::Take);
    let process = Process::start(path);
    let address = Process::address(path, 1);
    wait("the message", || receiver.got().len() > before.len(), String::new);
    let got = receiver.got().pop().unwrap();
    assert!(got.is_in_order(SECRET) && got.json()["subject"] == "unknown" && !got.body.contains("anna"), "{got:?}");
    assert!(before.iter().all(|tried| tried.body == got.body));

    let ask = |arguments: &[&str]| {
        let config = path.join("usherd.toml");
        let (code, said) = told(usherd(arguments).args(["--addr", &address.to_string(), "--config"]).arg(config));
        (code.unwrap(), said)
    };
    let (code, listed) = ask(&["webhook", "list"]);
    assert!(code == 0 && listed.contains("desk"), "{listed}");
    let (code, tried) = ask(&["webhook", "test", "desk"]);
    assert!(code == 0 && tried.contains("desk took the test msg_") && tried.contains("it answered 204"), "{tried}");
    receiver.behave(Manner::Say("401 Who are you"));
    let (code, refused) = ask(&["webhook", "test", "desk", "-o", "json"]);
    assert_eq!(
        (code, serde_json::from_str::<Value>(&refused).unwrap()["status"].as_u64()),
        (1, Some(401)),
        "{refused}"
    );
    let (code, tries) = ask(&["webhook", "deliveries", "desk", "-o", "csv"]);
    assert!(code == 0 && tries.lines().count() >= 4, "{tries}");
    assert_eq!(ask(&["webhook", "test", "nobody"]).0, 1);
    let (code, secret) = ask(&["webhook", "secret"]);
    assert!(code == 0 && secret.trim().len() == 50 && secret.starts_with("whsec_"), "{secret}");
    let (_, shown) = ask(&["config", "show", "--origin"]);
    assert!(shown.contains("secret_file"), "{shown}");

    let mut log = String::new();
    std::fs::File::open(path.join("log")).unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("usherd.seat.denied.v1") && log.contains("delivered"), "each try has its line: {log}");
    let pages =
        ["/v1/admin/webhooks", "/v1/admin/webhooks/desk/deliveries", "/v1/admin/config", "/metrics", "/v1/overview"];
    let pages: String = pages.iter().map(|page| call(address, "GET", page, "").1).collect();
    drop(process);
    for (place, text) in [("log", log), ("pages", pages), ("show", shown), ("list", listed), ("tries", tries)] {
        for secret in [&SECRET[6..], "hidden-query"] {
            assert!(!text.contains(secret), "{secret} is in {place}: {text}");
        }
    }
}
