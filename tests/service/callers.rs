//! Callers that never stop: each request on a connection of its own, and a record of what was acknowledged.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use usherd_testkit::wait::eventually;

use super::machine::{Machine, out};

/// Callers at once on the Unix socket.
const CALLERS: usize = 4;
/// An answer that takes longer is a hang.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// Asks over TCP in an endless loop, with nothing but the shell: a process that lives in the machine's network can do
/// so. Counts answers, connections that were refused, and connections that broke.
const OVER_TCP: &str = r#"
answered=0 refused=0 broken=0
trap '' PIPE # Who is killed between taking a connection and reading from it must not end the caller too.
trap 'echo "$answered $refused $broken"; exit 0' TERM
while :; do
    if ! { exec 3<>/dev/tcp/127.0.0.1/7788; } 2>/dev/null; then refused=$((refused + 1)); continue; fi
    printf 'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3 2>/dev/null
    if IFS= read -r -t 20 line <&3 && [[ $line == *' 200 '* ]]; then answered=$((answered + 1)); else broken=$((broken + 1)); fi
    exec 3>&-
done
"#;

/// The answers that the callers saw.
#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    answered: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
}

/// Callers at work.
pub(crate) struct Callers {
    seen: Arc<Seen>,
    threads: Vec<JoinHandle<BTreeSet<String>>>,
    over_tcp: Option<Child>,
}

/// The answers that they had seen when they were stopped.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    /// Nobody was there to take a connection.
    pub(crate) refused: u64,
    /// Taken, and closed without an answer.
    pub(crate) broken: u64,
    /// Answers over TCP, refused and broken ones there.
    pub(crate) over_tcp: [u64; 3],
    /// Sessions that were let in.
    pub(crate) acknowledged: BTreeSet<String>,
}

impl Callers {
    /// Begins to call for a tenant.
    pub(crate) fn start(machine: &Machine, tenant: &'static str) -> Self {
        let seen = Arc::new(Seen::default());
        let socket = machine.path("/run/usherd/usherd.sock");
        let threads = (0..CALLERS).map(|number| {
            let (seen, socket) = (Arc::clone(&seen), socket.clone());
            std::thread::spawn(move || call(number, &socket, tenant, &seen))
        });
        let threads = threads.collect();
        let over_tcp = machine.in_its_network(&["bash", "-c", OVER_TCP]).stdout(Stdio::piped()).spawn().unwrap();
        let callers = Callers { seen, threads, over_tcp: Some(over_tcp) };
        callers.go_on();
        callers
    }

    /// Waits until so many more calls were answered that all callers had their turn.
    pub(crate) fn go_on(&self) {
        let before = self.seen.answered.load(Ordering::SeqCst);
        let answered = || self.seen.answered.load(Ordering::SeqCst);
        eventually("callers to be answered", || (answered() >= before + 50).then_some(()));
    }

    /// Stops them, and tells what they saw.
    pub(crate) fn stop(mut self) -> Outcome {
        self.seen.stop.store(true, Ordering::SeqCst);
        let acknowledged = self.threads.drain(..).flat_map(|thread| thread.join().unwrap()).collect();
        let over_tcp = self.over_tcp.take().unwrap();
        let terminated = Command::new("kill").arg(over_tcp.id().to_string()).status().unwrap();
        assert!(terminated.success());
        let counts = out(&over_tcp.wait_with_output().unwrap());
        let counts: Vec<u64> = counts.split_whitespace().map(|count| count.parse().unwrap()).collect();
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Outcome {
            answered: count(&self.seen.answered),
            refused: count(&self.seen.refused),
            broken: count(&self.seen.broken),
            over_tcp: counts.try_into().unwrap(),
            acknowledged,
        }
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::SeqCst);
        if let Some(mut child) = self.over_tcp.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Calls until it is told to stop; gives the sessions that were let in.
fn call(number: usize, socket: &Path, tenant: &str, seen: &Seen) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    let mut turn = 0;
    while !seen.stop.load(Ordering::SeqCst) {
        let session = format!("caller-{number}-{turn}");
        let body = format!("tenant={tenant}&subject={session}&session={session}&kind=desktop&ttl_s=3600");
        match ask(socket, "POST", "/v1/acquire", &body) {
            Ok(answer) if answer.contains(" 200 ") && answer.contains("allow.") => {
                acknowledged.insert(session);
                seen.answered.fetch_add(1, Ordering::SeqCst);
                turn += 1;
            }
            // Starting: it says so, and a node would ask again.
            Ok(answer) if answer.contains(" 503 ") => {}
            Ok(answer) => panic!("{session}: {answer}"),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                seen.refused.fetch_add(1, Ordering::SeqCst);
            }
            // The same session again: twice is once.
            Err(_) => {
                seen.broken.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    acknowledged
}

/// One request on a connection of its own.
pub(crate) fn ask(socket: &Path, method: &str, path: &str, body: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() { Err(io::Error::from(ErrorKind::UnexpectedEof)) } else { Ok(answer) }
}
