//! A reader beside decisions: calls of a tenant with many idle phones, and of another tenant, while one client lists
//! the phones in a loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::{Connection, Framing, Place};
use crate::measure::{Goal, alternate, median, ratio, row};
use crate::pace::{self, Latencies};
use crate::requests::post;
use crate::rows::Effort;
use crate::server::{SERVER_CORE, Server};

/// Idle phones of the large tenant; none of them counts.
const PHONES: u32 = 200_000;
/// Its seats.
const SEATS: u32 = 100;
const TENANT: &str = "phones";
const OTHER: &str = "tenant-00000";
/// Requests of each tenant in a second.
const PER_SECOND: u64 = 500;
/// Operations of a batch, and rows of a page.
const AT_ONCE: u32 = 1_000;
/// Calls that a tenant's client goes through.
const CALLS: u32 = 64;

/// The owners of the phones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subjects {
    /// Each is another person's.
    Each,
    /// All are one person's (`--one-subject`).
    One,
    /// Nobody's: a phone must have a subject, so these are inbound calls (`--no-subject`).
    Nobody,
}

impl Subjects {
    fn asked() -> Self {
        let has = |flag| std::env::args().any(|arg| arg == flag);
        match (has("--one-subject"), has("--no-subject")) {
            (true, _) => Subjects::One,
            (_, true) => Subjects::Nobody,
            _ => Subjects::Each,
        }
    }

    /// The fields that say what it is and whose.
    fn fields(self, phone: u32) -> String {
        match self {
            Subjects::Each => format!(r#""kind":"phone","subject":"person-{phone:06}""#),
            Subjects::One => r#""kind":"phone","subject":"reception""#.to_owned(),
            Subjects::Nobody => r#""kind":"call","direction":"inbound""#.to_owned(),
        }
    }
}

/// The large tenant's own file, for the configuration.
fn tenant() -> String {
    format!("[[tenant]]\nid = \"{TENANT}\"\nkind = \"paid\"\nstart = \"2026-01-01\"\nseats = {SEATS}\n")
}

/// Registers all phones.
fn load(place: &Place, subjects: Subjects) {
    let batch = |first: u32| {
        let mut body = String::from("{\"ops\":[");
        for phone in first..first + AT_ONCE {
            let (comma, fields) = (if phone > first { "," } else { "" }, subjects.fields(phone));
            let op = format!(
                r#"{comma}{{"op":"acquire","tenant":"{TENANT}","session":"phone-{phone:06}",{fields},"ttl_s":86400}}"#
            );
            body.push_str(&op);
        }
        body.push_str("]}");
        post("/v1/batch", "application/json", &body)
    };
    let batches: Vec<Vec<u8>> = (0..PHONES / AT_ONCE).map(|number| batch(number * AT_ONCE)).collect();
    let count = batches.len();
    let mut connection = Connection::new(place, batches);
    for _ in 0..count {
        connection.send();
        let answer = String::from_utf8_lossy(connection.receive(Framing::Http)).into_owned();
        assert_eq!(answer.matches("\"allow.free\"").count(), AT_ONCE as usize, "{}", &answer[..answer.len().min(600)]);
    }
}

/// Calls of a tenant, each an acquire and its release.
fn calls(tenant: &str, direction: &str) -> Vec<Vec<u8>> {
    let call = |number: u32| {
        let named = format!(r#""tenant":"{tenant}","session":"{direction}-{number:06}""#);
        let acquire = format!(
            r#"{{{named},"subject":"person-{number:06}","kind":"call","direction":"{direction}","ttl_s":3600}}"#
        );
        let post = |path: &str, body: &str| post(path, "application/json", body);
        [post("/v1/acquire", &acquire), post("/v1/release", &format!("{{{named}}}"))]
    };
    (0..CALLS).flat_map(call).collect()
}

/// The client that lists all sessions of the large tenant again and again.
#[derive(Default)]
struct Lister {
    /// Where the next page begins, and the rows so far.
    after: String,
    rows: usize,
    pages: u32,
    lists: u32,
}

impl Lister {
    /// One page after the other until told to stop; goes on where it stopped the last time.
    fn list_until(&mut self, place: &Place, stop: &AtomicBool) {
        // It reads megabytes beside the clients that measure: what is told is how long the server takes.
        let _ = rustix::process::nice(19);
        let mut connection = Connection::new(place, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let after = if self.after.is_empty() { String::new() } else { format!("&after={}", self.after) };
            let path = format!("/v1/tenants/{TENANT}/sessions?limit={AT_ONCE}{after}");
            let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:7788\r\n\r\n");
            let answer = String::from_utf8_lossy(connection.ask(request.as_bytes())).into_owned();
            assert!(answer.starts_with("HTTP/1.1 200"), "{}", &answer[..answer.len().min(600)]);
            self.pages += 1;
            self.rows += answer.matches("\"session\":").count();
            let next = answer.rsplit_once("\"next\":\"").and_then(|(_, next)| next.split_once('"'));
            self.after = next.map(|(next, _)| next.to_owned()).unwrap_or_default();
            if self.after.is_empty() {
                assert!(self.rows >= PHONES as usize, "a list of {} sessions", self.rows);
                self.lists += 1;
                self.rows = 0;
            }
        }
    }
}

/// 50th and 99th percentile and the longest of each round, microseconds.
#[derive(Default)]
struct Rounds([Vec<f64>; 3]);

impl Rounds {
    fn add(&mut self, latencies: &Latencies) {
        for (values, percent) in self.0.iter_mut().zip([50.0, 99.0, 100.0]) {
            values.push(latencies.percentile(percent));
        }
    }

    fn shown(&self) -> String {
        let [p50, p99, max] = self.0.each_ref().map(|values| median(values));
        format!("p50 {p50:.0}, p99 {p99:.0}, max {max:.0} us")
    }
}

/// Calls at a fixed rate, without and with the lister, by turns.
pub(crate) fn readers(effort: Effort) {
    let subjects = Subjects::asked();
    let server = Server::daemon_with("written", 10, Some(SERVER_CORE), &tenant());
    let place = Place::Tcp(server.tcp);
    load(&place, subjects);
    let time = Duration::from_secs(effort.seconds.max(2).into());
    let mut lister = Lister::default();
    // Of the large tenant without and with the lister, then of the other one.
    let mut rounds: [Rounds; 4] = Default::default();
    let _ = alternate::<2>(effort.rounds, |which| {
        let stop = AtomicBool::new(false);
        let paced = |tenant, direction| pace::paced(&place, |_| calls(tenant, direction), PER_SECOND, 1, time);
        let [large, other] = std::thread::scope(|scope| {
            let lister = (which == 1).then(|| scope.spawn(|| lister.list_until(&place, &stop)));
            let other = scope.spawn(|| paced(OTHER, "outbound"));
            let both = [paced(TENANT, "inbound"), other.join().unwrap()];
            stop.store(true, Ordering::Relaxed);
            lister.into_iter().for_each(|lister| lister.join().unwrap());
            both
        });
        rounds[which].add(&large);
        rounds[2 + which].add(&other);
        0.0
    });
    let seconds = effort.rounds as f64 * time.as_secs_f64();
    let (pages, lists) = (f64::from(lister.pages) / seconds, lister.lists);
    println!("{PHONES} phones, subjects {subjects:?}; {pages:.0} pages of {AT_ONCE} a second, {lists} whole lists");
    for (at, whose, goal) in [(0, "inbound, its tenant", Goal::AtMost(1_000.0)), (2, "another tenant", Goal::None)] {
        let p99 = |at: usize| &rounds[at].0[1];
        row(&format!("{whose}: p99 without the lister"), median(p99(at)), " us", goal, &rounds[at].shown());
        let name = format!("{whose}: p99 beside the lister / without");
        row(&name, ratio(p99(at + 1), p99(at)), "x", Goal::AtMost(1.5), &rounds[at + 1].shown());
    }
}
