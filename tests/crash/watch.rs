//! The sign of life, and restarts behind sockets that the service manager holds.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use usherd::daemon::runtime::selfcheck;
use usherd_testkit::http::Client;
use usherd_testkit::process::{Site, Usherd, command, own_ip};
use usherd_testkit::wait::{PATIENCE, eventually, pause};

const ACME: &str = "id = \"acme\"\nkind = \"nfr\"\nseats = 100\n";

fn ask(address: &str) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(selfcheck::ask(address))
}

#[test]
fn a_running_daemon_answers_itself_and_a_hung_one_does_not() {
    let site = Site::new("", &[("acme", ACME)]);
    let usherd = site.start();
    let address = usherd.address().to_string();
    assert!(selfcheck::can_ask(&address));
    ask(&address).unwrap();
    // Takes connections and never says a word: the kernel accepts for it.
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = ask(&hung.local_addr().unwrap().to_string()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    usherd.pause();
    assert_eq!(ask(&address).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    usherd.signal(Signal::CONT);
    ask(&address).unwrap();
    usherd.kill();
    assert_eq!(ask(&address).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn the_watchdog_is_fed_while_the_daemon_answers() {
    let site = Site::new("", &[("acme", ACME)]);
    let told = UnixDatagram::bind(site.path("notify")).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = site.command();
    command.env("NOTIFY_SOCKET", site.path("notify")).env("WATCHDOG_USEC", "200000");
    let usherd = Usherd::spawn(&mut command);
    let until = |word: &str| {
        let mut buffer = [0; 4_096];
        loop {
            let length = told.recv(&mut buffer).unwrap();
            if String::from_utf8_lossy(&buffer[..length]).contains(word) {
                return;
            }
        }
    };
    until("READY=1");
    (0..5).for_each(|_| until("WATCHDOG=1"));
    usherd.pause();
    told.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4_096];
    eventually("what was sent before the stop", || told.recv(&mut buffer).is_err().then_some(()));
    pause(Duration::from_millis(500));
    assert!(told.recv(&mut buffer).is_err(), "a stopped process feeds nobody");
    told.set_nonblocking(false).unwrap();
    usherd.signal(Signal::CONT);
    until("WATCHDOG=1");
}

#[test]
fn the_watchdog_is_fed_where_no_listener_speaks_plain_http() {
    let only_scripts = "[agi]\nlisten = \"127.0.0.1:0\"\n";
    let only_resp = "[[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"resp\"\n";
    let only_h2c = "[[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"h2c\"\n";
    for only in [only_scripts, only_resp, only_h2c] {
        let site = Site::new(only, &[("acme", ACME)]);
        let main = std::fs::read_to_string(site.path("usherd.toml")).unwrap();
        let without_main = main.replace("[server]\nlisten = \"127.0.0.1:0\"", "[server]\nlisten = \"\"");
        assert_ne!(without_main, main);
        std::fs::write(site.path("usherd.toml"), without_main).unwrap();
        let told = UnixDatagram::bind(site.path("notify")).unwrap();
        told.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = site.command();
        command.env("NOTIFY_SOCKET", site.path("notify")).env("WATCHDOG_USEC", "200000");
        let mut usherd = Usherd::spawn(&mut command);
        let mut fed = 0;
        while fed < 3 {
            let mut buffer = [0; 4_096];
            let length = told.recv(&mut buffer).unwrap();
            fed += u32::from(String::from_utf8_lossy(&buffer[..length]).contains("WATCHDOG=1"));
        }
        assert!(!usherd.all_said().contains("does not answer itself"), "{only}");
    }
}

#[test]
fn no_connection_is_refused_in_twenty_socket_restarts() {
    const RESTARTS: usize = 20;
    let activate = "systemd-socket-activate";
    if Command::new(activate).arg("--version").output().is_err() {
        println!("{activate} is not installed (Debian package systemd); tests/run installs it");
        return;
    }
    let site = Site::new("", &[("acme", ACME)]);
    // It holds the socket and becomes the daemon at the first connection; the test holds it over restarts, as
    // systemd does, by handing the same socket to each one.
    let held = TcpListener::bind((own_ip(), 0)).unwrap();
    let address = held.local_addr().unwrap();
    site.listen(address);
    let (over, refused, asked) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let last = std::thread::scope(|scope| {
        for number in 0..3 {
            let (over, refused, asked) = (&over, &refused, &asked);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let Ok(mut client) = Client::connect(address) else {
                        refused.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    // A connection that was open may break with its daemon; the next one waits for the next.
                    let body = format!("tenant=acme&subject=s{number}&session=s{number}&kind=desktop&ttl_s=600");
                    if client.ask("POST", "/v1/acquire", &body).is_ok_and(|answer| answer.body.starts_with("allow")) {
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for restart in 0..RESTARTS {
            let mut usherd = start_with(&site, &held);
            usherd.until_ready();
            let before = asked.load(Ordering::Relaxed);
            eventually("answers of this daemon", || (asked.load(Ordering::Relaxed) > before + 20).then_some(()));
            if restart % 2 == 0 { assert_eq!(usherd.terminate(), Some(0)) } else { usherd.kill() }
        }
        over.store(true, Ordering::Relaxed);
        // It answers the clients that still wait in the socket's queue.
        start_with(&site, &held)
    });
    drop(last);
    println!("{asked:?} answers, {refused:?} refused in {RESTARTS} restarts");
    assert_eq!(refused.load(Ordering::Relaxed), 0);
    // And by the tool of systemd itself, which sets what `sd_listen_fds` reads.
    drop(held);
    let mut tool = Command::new(activate);
    let plain = command(&site.path("usherd.toml"));
    tool.args(["-l", &address.to_string(), "--fdname=usherd"]).arg(plain.get_program()).args(plain.get_args());
    tool.env_remove("NOTIFY_SOCKET");
    let mut usherd = Usherd::spawn(&mut tool);
    usherd.until_says("Listening");
    let mut client = Client::connect(address).unwrap();
    let answer = client.post("/v1/acquire", "tenant=acme&session=x&kind=call&direction=inbound");
    assert_eq!(answer.body, "allow.free inbound");
    // That answer needs no recovery; a stop in order does.
    usherd.until_ready();
    assert_eq!(usherd.terminate(), Some(0));
}

/// The daemon with this socket as its third descriptor, as systemd would pass it.
fn start_with(site: &Site, held: &TcpListener) -> Usherd {
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_FDNAMES=usherd LISTEN_PID=$$; exec \"$0\" \"$@\"",
    ]);
    let plain = command(&site.path("usherd.toml"));
    shell.arg(plain.get_program()).args(plain.get_args());
    Usherd::spawn_with(&mut shell, OwnedFd::from(held.try_clone().unwrap()).into())
}
