//! Starts that must fail, signals, and clocks: exit codes, drains, pauses.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use usherd::daemon::clock::{ManualClock, monotonic_ns};
use usherd::daemon::journal::HEADER_BYTES;
use usherd_engine::Now;
use usherd_testkit::daemon::{NOON_UTC_MS, start};
use usherd_testkit::http::Client;
use usherd_testkit::process::Site;
use usherd_testkit::wait::{eventually, pause};

fn acme(seats: u32) -> String {
    format!("id = \"acme\"\nkind = \"nfr\"\nseats = {seats}\n")
}

fn acquire(client: &mut Client, session: &str, more: &str) -> String {
    let body = format!("tenant=acme&subject=s-{session}&session={session}&kind=desktop&{more}");
    client.post("/v1/acquire", &body).body
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let site = Site::new("", &[("acme", &acme(5))]);
    let first = site.start();
    let mut client = first.client();
    assert_eq!(acquire(&mut client, "d1", "ttl_s=600"), "allow.new");
    let mut second = site.spawn();
    assert_eq!(second.ended().code(), Some(1));
    let said = second.all_said();
    assert!(
        said.contains("in use by another process") && said.contains(site.path("state").to_str().unwrap()),
        "{said}"
    );
    assert_eq!(acquire(&mut client, "d2", "ttl_s=600"), "allow.new");
    first.kill();
    assert_eq!(site.start().client().held("acme"), 2);
}

#[test]
fn a_bad_configuration_ends_a_first_start_and_not_a_later_one() {
    let site = Site::new("[polcy]\n", &[("acme", &acme(5))]);
    let main = site.path("usherd.toml");
    let bad = std::fs::read_to_string(&main).unwrap();
    let mut usherd = site.spawn();
    assert_eq!(usherd.ended().code(), Some(78));
    let said = usherd.all_said();
    assert!(said.contains("[polcy]") && said.contains("1 error found"), "{said}");
    assert_eq!(said.matches("there is no last good configuration").count(), 1, "{said}");
    std::fs::write(&main, bad.replace("[polcy]\n", "")).unwrap();
    assert_eq!(site.start().terminate(), Some(0));
    // A bad tenant file is a matter of its tenant, which keeps what it had.
    site.tenant("acme", "id = \"acme\"\nkind = ");
    let usherd = site.start();
    let mut client = usherd.client();
    assert_eq!(acquire(&mut client, "d1", "ttl_s=600"), "allow.new");
    let config = client.get("/readyz?verbose").json()["config"].clone();
    assert_eq!((&config["from_last_good"], &config["tenants_rejected"]), (&json!(false), &json!(1)), "{config}");
    drop(client);
    assert_eq!(usherd.terminate(), Some(0));
    std::fs::write(&main, &bad).unwrap();
    let usherd = site.start();
    let config = usherd.client().get("/readyz?verbose").json()["config"].clone();
    assert_eq!(
        (&config["from_last_good"], &config["last_reload_successful"]),
        (&json!(true), &json!(false)),
        "{config}"
    );
}

#[test]
fn a_journal_of_a_newer_release_is_refused_and_untouched() {
    let site = Site::new("", &[("acme", &acme(5))]);
    site.start().kill();
    for file in site.journal_files("segment") {
        let mut bytes = std::fs::read(&file).unwrap();
        // The head of the first record: mark, format, kind, length, and at its end the checksum of all else.
        bytes[4] = usherd::daemon::journal::FORMAT + 1;
        let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
        let (header, payload) = (&bytes[..HEADER_BYTES - 4], &bytes[HEADER_BYTES..HEADER_BYTES + length]);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(header), payload).to_le_bytes();
        bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&checksum);
        std::fs::write(&file, bytes).unwrap();
    }
    let mut usherd = site.spawn();
    let status = usherd.ended();
    let said = usherd.all_said();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("newer release"), "{said}");
}

#[test]
fn a_drain_finishes_answers_and_ends_in_time() {
    let main = "[server]\ndrain_deadline_ms = 5000\nhead_deadline_ms = 60000\nbody_deadline_ms = 60000\nfirst_byte_deadline_ms = 60000\n";
    let site = Site::new(main, &[("acme", &acme(5))]);
    let usherd = site.start();
    let mut half: Vec<Client> = (0..20).map(|_| usherd.client()).collect();
    for (at, client) in half.iter_mut().enumerate() {
        client
            .send(if at % 2 == 0 {
                b"POST /v1/acq"
            } else {
                b"POST /v1/acquire HTTP/1.1\r\nContent-Length: 9\r\n\r\nhal"
            })
            .unwrap();
    }
    let body = "tenant=acme&subject=anna&session=d1&kind=desktop&ttl_s=600";
    let mut begun = usherd.client();
    let head = format!(
        "POST /v1/acquire HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    begun.send(head.as_bytes()).unwrap();
    begun.send(&body.as_bytes()[..10]).unwrap();
    let mut watcher = usherd.client();
    eventually("all heads to be read", || {
        let metrics = watcher.get("/metrics").body;
        let in_flight = metrics.lines().find(|line| line.starts_with("usherd_http_requests_in_flight"))?;
        (in_flight.split(' ').next_back()?.parse::<u64>().ok()? >= 11).then_some(())
    });
    let began = monotonic_ns();
    usherd.signal(Signal::TERM);
    eventually("the drain to begin", || Client::connect(usherd.address()).is_err().then_some(()));
    begun.send(&body.as_bytes()[10..]).unwrap();
    let answer = begun.answer().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "allow.new"), "an answer in progress is finished");
    let mut usherd = usherd;
    assert_eq!(usherd.ended().code(), Some(0));
    let took_ms = (monotonic_ns() - began) / 1_000_000;
    println!("drained in {took_ms} ms with 20 clients half-way");
    // Whoever waited for the clients would wait for a minute.
    assert!(took_ms < 30_000, "{took_ms} ms, the deadline is 5,000");
    assert_eq!(site.start().client().held("acme"), 1, "and it was recorded");
}

#[test]
fn a_hang_up_takes_up_good_files_and_keeps_out_bad_ones() {
    let site = Site::new("", &[("acme", &acme(1))]);
    let mut usherd = site.start();
    let mut client = usherd.client();
    assert_eq!(acquire(&mut client, "d1", "ttl_s=600"), "allow.new");
    assert_eq!(acquire(&mut client, "d2", "ttl_s=600"), "deny.full tenant");
    site.tenant("acme", &acme(2));
    usherd.signal(Signal::HUP);
    // The file watch may have been first: then not a byte is another.
    usherd.until_says("Signal");
    assert_eq!(acquire(&mut client, "d2", "ttl_s=600"), "allow.new", "the very next request is served (I22)");
    let hash = client.get("/v1/admin/config").json()["hash"].clone();
    site.tenant("acme", "id = \"acme\"\nseats = -1\n");
    usherd.signal(Signal::HUP);
    // The file concerns its own tenant alone, which keeps what it had.
    let line = usherd.until_says("acme.toml");
    assert!(line.contains("seats"), "{line}");
    let config = client.get("/v1/admin/config").json();
    assert_eq!((&config["hash"], client.held("acme")), (&hash, 2), "{config}");
}

#[test]
fn signals_that_come_during_the_start_are_heard_after_it() {
    for round in 0..10 {
        let site = Site::new("", &[("acme", &acme(1))]);
        let mut usherd = site.spawn();
        usherd.until_says("journal recovered");
        usherd.signal(Signal::HUP);
        usherd.until_says("Signal");
        assert_eq!(usherd.terminate(), Some(0), "round {round}");
    }
}

/// Stops the process, lets it go on, and lets the node renew at once.
fn stopped_for(seconds: u64) {
    let site =
        Site::new("[nodes]\nheartbeat_s = 1\nlease_s = 2\ngrace_s = 2\nlearning_s = 0\n", &[("acme", &acme(50))]);
    let usherd = site.start();
    let mut client = usherd.client();
    let path = |verb: &str| format!("/v1/nodes/pbx/{verb}");
    assert_eq!(client.post(&path("hello"), "{\"epoch\":1}").status, 200);
    for at in 0..20 {
        assert_eq!(acquire(&mut client, &format!("d{at}"), &format!("node=pbx&epoch=1&seq={at}")), "allow.new");
    }
    usherd.pause();
    pause(Duration::from_secs(seconds));
    usherd.signal(Signal::CONT);
    let mut seq = 100;
    for _ in 0..8 {
        // As the API tells a node to do: a heartbeat, and where that is 409 a hello and what is live.
        if client.post(&path("heartbeat"), "{\"epoch\":1}").status == 409 {
            assert_eq!(client.post(&path("hello"), "{\"epoch\":1}").status, 200);
            let live: Vec<_> = (0..20)
                .map(|at| {
                    let name = format!("d{at}");
                    json!({"tenant": "acme", "subject": format!("s-{name}"), "session": name, "kind": "desktop", "seq": seq})
                })
                .collect();
            seq += 1;
            let listed = json!({"epoch": 1, "seq": seq, "sessions": live});
            let kept = client.post(&path("inventory"), &listed.to_string());
            assert_eq!(kept.json()["adopted"], 0, "stopped for {seconds} s: {kept:?}");
        }
        assert_eq!(client.held("acme"), 20, "stopped for {seconds} s");
        pause(Duration::from_millis(500));
    }
}

#[test]
fn a_stop_longer_than_a_lease_loses_no_claim() {
    stopped_for(3);
}

#[test]
fn a_stop_longer_than_lease_and_grace_loses_no_claim_either() {
    stopped_for(6);
}

#[test]
fn years_of_the_wall_clock_move_no_seat() {
    const DAY_MS: i64 = 86_400_000;
    let site = Site::new("", &[("acme", &acme(50))]);
    let clock = std::sync::Arc::new(ManualClock::new(Now { uptime_ms: 1_000_000, utc_ms: NOON_UTC_MS }));
    let daemon = start(site.folder.path(), clock.clone(), false).unwrap();
    assert!(daemon.wait_ready(Duration::from_secs(60)));
    let mut client = Client::connect(daemon.address().unwrap()).unwrap();
    for at in 0..20 {
        assert_eq!(acquire(&mut client, &format!("d{at}"), "ttl_s=3600"), "allow.new");
    }
    for days in [3_652, -7_304, 36_500, -33_000, 1, -1] {
        clock.step_wall(days * DAY_MS);
        // That this one ends shows that the reaper has looked since the jump.
        assert_eq!(acquire(&mut client, "short", "ttl_s=1"), "allow.new", "after {days} days");
        assert_eq!(client.held("acme"), 21);
        clock.advance(1_100);
        eventually("the short one to end", || (client.held("acme") == 20).then_some(()));
    }
}
