//! Never refuse (I8): inbound and emergency calls are allowed in every state, over every transport, however
//! they are written; and an internal trouble is never told as "no licence" (I10).

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use usherd::daemon::clock::{Clock, ManualClock};
use usherd_engine::Now;
use usherd_testkit::files::{files, write_tenant};

use crate::access::{entry, token};
use crate::agi;
use crate::client::{self, Parts, ask, ask_h2, finish, h2c, request, wait};
use crate::daemon::{Answer, NOON_UTC_MS, Running};
use crate::resp;

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\n";
const TRANSPORTS: [&str; 3] = ["tcp", "unix", "h2c"];

/// The four dresses of one call: content type, path, body.
fn dresses(tenant: &str, emergency: bool) -> [(&'static str, &'static str, String); 4] {
    let (json, form) = if emergency {
        ("\"to\":\"112\",\"direction\":\"outbound\"", "to=112&direction=outbound")
    } else {
        ("\"session\":\"c1\",\"direction\":\"inbound\"", "session=c1&direction=inbound")
    };
    let object = format!("\"tenant\":\"{tenant}\",\"kind\":\"call\",{json}}}");
    let json_type = "application/json";
    [
        (json_type, "/v1/acquire", format!("{{{object}")),
        ("application/x-www-form-urlencoded", "/v1/acquire?status=1", format!("tenant={tenant}&kind=call&{form}")),
        (json_type, "/v1/batch", format!("{{\"ops\":[{{\"op\":\"acquire\",{object}]}}")),
        ("application/x-ndjson", "/v1/batch", format!("{{\"op\":\"acquire\",{object}")),
    ]
}

/// True if an answer allows, as it says by itself.
fn allows(answer: &Answer, detail: &str) -> bool {
    answer.status == 200 && answer.body.contains("allow.free") && answer.body.contains(detail)
}

/// Every call, dress and transport of a tenant; `wrong` shows a token that is not valid.
fn all_pass(daemon: &Running, tenant: &str, wrong: bool) {
    let bearer = if wrong { "Bearer nonsense".to_owned() } else { format!("Bearer {}", token("node", 'a')) };
    for emergency in [false, true] {
        let detail = if emergency { "emergency" } else { "inbound" };
        for (content_type, path, body) in dresses(tenant, emergency) {
            for transport in TRANSPORTS {
                let headers = format!("Content-Type: {content_type}\r\nAuthorization: {bearer}\r\n");
                let text = request("POST", path, &headers, &body);
                let answer = match transport {
                    "tcp" => ask(client::tcp(daemon.address()), text.as_bytes()),
                    "unix" => ask(client::unix(&daemon.socket()), text.as_bytes()),
                    _ => wait(async {
                        let mut connection = h2c(daemon.listener("listener-1")).await;
                        let headers = [("content-type", content_type), ("authorization", bearer.as_str())];
                        ask_h2(&mut connection, "POST", path, &headers, Parts::whole(&body)).await
                    }),
                };
                assert!(allows(&answer, detail), "{tenant} {detail} {transport} {content_type} {path}: {answer:?}");
            }
        }
        let form = if emergency { "to=112&direction=outbound" } else { "session=c1&direction=inbound" };
        let set = agi::run(daemon.listener("agi"), &format!("acquire?tenant={tenant}&kind=call&{form}"));
        assert_eq!(set[..2], ["USHERD_CODE=allow.free", "USHERD_ALLOW=1"], "{tenant} {detail}: {set:?}");
        assert!(set[2].to_lowercase().contains(if emergency { "emergency" } else { "incoming" }), "{set:?}");
        let (_, token) = bearer.split_once(' ').unwrap();
        let call = if emergency { ["-", "outbound", "to", "112"] } else { ["-", "inbound", "to", "030"] };
        let [subject, direction, to, number] = call;
        let asked = ["CU.ACQUIRE", tenant, subject, "c1", "call", "direction", direction, to, number];
        let mut talk = resp::Talk::new(client::tcp(daemon.listener("listener-2")));
        talk.ask(&["AUTH", token]);
        assert_eq!(talk.ask(&asked), format!("+allow.free {detail}"), "{tenant}");
        let [_, _, more @ ..] = asked;
        let odd: Vec<&str> = ["CU.ACQUIRE", "NOT A TENANT"].into_iter().chain(more).chain(["ttl_s", "soon"]).collect();
        if emergency {
            assert_eq!(talk.ask(&odd), "+allow.free emergency", "whatever else is wrong");
        }
    }
}

fn main_file(place: &tempfile::TempDir) -> String {
    let socket = place.path().join("usherd.sock");
    let listeners = "[[listener]]\nlisten = \"127.0.0.2:0\"\nprotocol = \"h2c\"\n[[listener]]\nlisten = \"127.0.0.2:0\"\nprotocol = \"resp\"\n[agi]\nlisten = \"127.0.0.3:0\"\n";
    format!(
        "[server]\nauth_failures_per_minute = 1000\nunix_socket = \"{}\"\n[journal]\nsegment_bytes = 1048576\n{listeners}{}{}",
        socket.display(),
        entry("node", 'a', ""),
        entry("admin", 'a', "")
    )
}

fn started(place: &tempfile::TempDir) -> Running {
    let tenant = |rest: &str| format!("{PAID}{rest}\n");
    let tenants = [
        ("full", tenant("seats = 0")),
        ("suspended", tenant("seats = 1\nsuspended = true")),
        ("ended", tenant("seats = 1\ncancel_at = \"2026-07-01\"")),
        ("room", tenant("seats = 1000")),
    ];
    Running::start(&main_file(place), &tenants.each_ref().map(|(id, text)| (*id, text.as_str())))
}

/// The answer to a counting request, to be sure that the state is what it should be.
fn desktop(daemon: &Running, tenant: &str) -> Answer {
    let headers = format!("Authorization: Bearer {}\r\n", token("node", 'a'));
    daemon.call("POST", "/v1/acquire", &headers, &format!("tenant={tenant}&subject=u&session=d&kind=desktop&ttl_s=60"))
}

#[test]
fn in_every_state_of_the_tenant_and_with_a_wrong_token() {
    let place = tempfile::tempdir().unwrap();
    let daemon = started(&place);
    let states = [
        ("full", "deny.full tenant"),
        ("suspended", "deny.inactive suspended"),
        ("ended", "deny.inactive ended"),
        ("nobody", "deny.unknown_tenant"),
        ("room", "allow.new"),
    ];
    for (tenant, code) in states {
        assert_eq!(desktop(&daemon, tenant).body, code);
        all_pass(&daemon, tenant, false);
        all_pass(&daemon, tenant, true);
    }
    write_tenant(daemon.folder.path(), "room", "seats = \"many\"");
    let admin = format!("Authorization: Bearer {}\r\n", token("admin", 'a'));
    assert_eq!(daemon.call("POST", "/v1/admin/reload", &admin, "").json()["code"], "partly");
    all_pass(&daemon, "full", false);
}

#[test]
fn with_a_journal_that_cannot_be_written() {
    let place = tempfile::tempdir().unwrap();
    let daemon = started(&place);
    let journal = daemon.folder.path().join("state/journal");
    std::fs::rename(&journal, daemon.folder.path().join("state/away")).unwrap();
    // Nor can a new one be made in its place.
    std::fs::write(&journal, "").unwrap();
    let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/x-ndjson\r\n", token("node", 'a'));
    // The next segment cannot be made: what fills the present one shows it.
    for round in 0..40 {
        let line = |n: usize| {
            format!(
                "{{\"op\":\"acquire\",\"tenant\":\"room\",\"subject\":\"{}\",\"session\":\"{round}-{n}\",\"kind\":\"phone\"}}\n",
                "s".repeat(120)
            )
        };
        let body: String = (0..500).map(line).collect();
        assert_eq!(daemon.call("POST", "/v1/batch", &headers, &body).status, 200);
        if daemon.daemon().app().deciding.degraded().is_some() {
            break;
        }
    }
    daemon.wait_until("the journal to be degraded", |daemon| daemon.daemon().app().deciding.degraded().is_some());
    assert_eq!(daemon.get("/readyz?verbose").json()["durability"], "degraded");
    assert_eq!(desktop(&daemon, "room").body, "allow.new", "calls flow");
    all_pass(&daemon, "full", false);
    all_pass(&daemon, "full", true);
    let admin = format!("Authorization: Bearer {}\r\n", token("admin", 'a'));
    let scrape = daemon.call("GET", "/metrics", &admin, "").body;
    assert!(scrape.contains("usherd_journal_degraded 1\n"));
    let not_durable = scrape.lines().find_map(|line| line.strip_prefix("usherd_journal_not_durable_total "));
    assert!(not_durable.unwrap().parse::<u64>().unwrap() > 0, "what was answered without being written is counted");
    std::fs::remove_file(&journal).unwrap();
    std::fs::rename(daemon.folder.path().join("state/away"), &journal).unwrap();
}

#[test]
fn while_draining() {
    let place = tempfile::tempdir().unwrap();
    let daemon = started(&place);
    let bearer = format!("Bearer {}", token("node", 'a'));
    let mut open: Vec<(Box<dyn ReadWrite>, String, &str)> = Vec::new();
    for emergency in [false, true] {
        let detail = if emergency { "emergency" } else { "inbound" };
        for (content_type, path, body) in dresses("full", emergency) {
            let text =
                request("POST", path, &format!("Content-Type: {content_type}\r\nAuthorization: {bearer}\r\n"), &body);
            open.push((Box::new(client::tcp(daemon.address())), text.clone(), detail));
            open.push((Box::new(client::unix(&daemon.socket())), text, detail));
        }
    }
    for (stream, text, _) in &mut open {
        stream.write_all(&text.as_bytes()[..text.len() / 2]).unwrap();
    }
    let (parts, body) = Parts::new();
    wait(async {
        let mut connection = h2c(daemon.listener("listener-1")).await;
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("authorization", bearer.as_str())];
        let answer = ask_h2(&mut connection, "POST", "/v1/acquire", &headers, body);
        let stop = async {
            // What stands in the way of the answer is a body that has not ended: that it began is seen first.
            let stats = || daemon.daemon().app().serving.listeners.iter().map(|listener| &listener.stats);
            while stats().map(|stats| stats.requests()).sum::<u64>() == 0
                || stats().map(|stats| stats.open()).sum::<u64>() < 17
            {
                tokio::task::yield_now().await;
            }
            daemon.daemon().stop();
            parts.send("tenant=full&kind=call&session=c1&direction=inbound".into()).unwrap();
            drop(parts);
        };
        let (answer, ()) = tokio::join!(answer, stop);
        assert!(allows(&answer, "inbound"), "{answer:?}");
    });
    for (mut stream, text, detail) in open {
        stream.write_all(&text.as_bytes()[text.len() / 2..]).unwrap();
        let answer = finish(stream, text.as_bytes());
        assert!(allows(&answer, detail), "{answer:?}");
    }
}

trait ReadWrite: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> ReadWrite for T {}

/// A clock at which the control thread stops, so that the journal stays unread for as long as a test wants.
struct Held {
    clock: ManualClock,
    holds: AtomicBool,
}

impl Clock for Held {
    fn now(&self) -> Now {
        while std::thread::current().name() == Some("control") && self.holds.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        self.clock.now()
    }
}

#[test]
fn before_the_journal_is_read() {
    let place = tempfile::tempdir().unwrap();
    let main = main_file(&place).replace("[server]\n", "[server]\nworkers = 1\n");
    let folder = files(&main, &[("room", &format!("{PAID}seats = 1000\n"))]);
    let clock = ManualClock::new(Now { uptime_ms: 1_000_000, utc_ms: NOON_UTC_MS });
    let held = Arc::new(Held { clock, holds: AtomicBool::new(true) });
    let daemon = Running::start_on(folder, Arc::clone(&held) as Arc<_>, false);
    assert_eq!(daemon.get("/readyz").status, 503);
    assert_eq!(daemon.get("/readyz?verbose").json()["recovered"], false);
    assert_eq!(daemon.get("/livez").status, 200);
    let answer = desktop(&daemon, "room");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "nobody answered, not: no licence");
    let set = agi::run(daemon.listener("agi"), "acquire?tenant=room&subject=u&session=d&kind=desktop&ttl_s=60");
    assert_eq!(set[..2], ["USHERD_CODE=unavailable", "USHERD_ALLOW=1"], "{set:?}");
    let headers = format!("Authorization: Bearer {}\r\n", token("node", 'a'));
    assert_eq!(daemon.call("POST", "/v1/release", &headers, "tenant=room&session=d").status, 503);
    assert_eq!(daemon.call("POST", "/v1/nodes/n1/hello", &headers, "epoch=1").status, 503);
    all_pass(&daemon, "room", false);
    all_pass(&daemon, "nobody", true);
    held.holds.store(false, Ordering::Release);
    daemon.wait_until("it is ready", |daemon| daemon.get("/readyz").status == 200);
    assert_eq!(desktop(&daemon, "room").body, "allow.new");
}

#[test]
fn while_overloaded() {
    let place = tempfile::tempdir().unwrap();
    let main = main_file(&place).replace("[server]\n", "[server]\nrequests_in_flight_max = 4\nworkers = 1\n");
    let daemon = Running::start(&main, &[("room", &format!("{PAID}seats = 1000\n"))]);
    let node = format!("Authorization: Bearer {}\r\n", token("node", 'a'));
    let admin = format!("Authorization: Bearer {}\r\n", token("admin", 'a'));
    assert_eq!(desktop(&daemon, "room").body, "allow.new");
    // Requests whose bodies do not come are in progress.
    let half = request("POST", "/v1/acquire", &node, "tenant=room");
    let mut slow = Vec::new();
    for (count, sheds) in [(3, "/metrics"), (1, "/v1/admin/config")] {
        for _ in 0..count {
            let mut stream = client::tcp(daemon.address());
            stream.write_all(&half.as_bytes()[..half.len() - 4]).unwrap();
            slow.push(stream);
        }
        daemon.wait_until(sheds, |daemon| daemon.call("GET", sheds, &admin, "").status == 503);
    }
    let new = "tenant=room&subject=v&session=e&kind=desktop&ttl_s=60";
    let answer = daemon.call("POST", "/v1/acquire", &node, new);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    assert_eq!(daemon.call("POST", "/v1/explain", &admin, new).status, 503, "explaining is reading");
    let set = agi::run(daemon.listener("agi"), &format!("acquire?{new}"));
    assert_eq!(set[..2], ["USHERD_CODE=unavailable", "USHERD_ALLOW=1"], "{set:?}");
    let batch = "{\"ops\":[{\"op\":\"acquire\",\"tenant\":\"room\",\"subject\":\"v\",\"session\":\"e\",\"kind\":\"desktop\",\"ttl_s\":60}]}";
    assert_eq!(daemon.call("POST", "/v1/batch", &node, batch).json()["results"][0]["status"], 503);
    assert_eq!(desktop(&daemon, "room").body, "allow.same", "a renewal is never turned away");
    all_pass(&daemon, "room", false);
    assert_eq!(daemon.call("POST", "/v1/release", &node, "tenant=room&session=d").body, "released.last");
    drop(slow);
    daemon.wait_until("it is over", |daemon| daemon.call("POST", "/v1/acquire", &node, new).status == 200);
}
