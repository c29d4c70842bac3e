//! Latency at a fixed rate: every request has its instant, and is late where the server keeps it waiting.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::client::{Connection, Framing, Place};
use crate::measure::wall_ns;

/// Latencies of one measurement, sorted, nanoseconds.
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    /// In microseconds.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let at = (self.0.len() as f64 * percent / 100.0) as usize;
        self.0.get(at.min(self.0.len().saturating_sub(1))).map_or(f64::NAN, |ns| *ns as f64 / 1e3)
    }
}

/// So many requests a second over some connections for some time; each connection is a thread's that sleeps
/// until the instant of its next request. A request that is sent late counts from when it was due.
#[allow(clippy::disallowed_methods, reason = "the load has a rate in real time; nothing is decided by it")]
pub(crate) fn paced(
    place: &Place,
    requests: impl Fn(usize) -> Vec<Vec<u8>> + Sync,
    per_second: u64,
    connections: usize,
    time: Duration,
) -> Latencies {
    let each = per_second / connections as u64;
    let gap_ns = 1_000_000_000 / each;
    let count = each * time.as_millis() as u64 / 1_000;
    let start = wall_ns() + 20_000_000;
    let mut all = Vec::with_capacity(count as usize * connections);
    let requests = &requests;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|at| {
                scope.spawn(move || {
                    let mut connection = Connection::new(place, requests(at));
                    let mut latencies = Vec::with_capacity(count as usize);
                    for number in 0..count {
                        let due = start + number * gap_ns + gap_ns * at as u64 / connections as u64;
                        let now = wall_ns();
                        if now < due {
                            std::thread::sleep(Duration::from_nanos(due - now));
                        }
                        let woken = wall_ns().max(due);
                        // The sleep of the client is its own lateness, unless its connection was still busy.
                        let from = if now < due { woken } else { due };
                        connection.send();
                        connection.receive(Framing::Http);
                        latencies.push(wall_ns() - from);
                    }
                    latencies
                })
            })
            .collect();
        for thread in threads {
            all.extend(thread.join().unwrap());
        }
    });
    all.sort_unstable();
    Latencies(all)
}

/// Scrapes one after the other until told to stop: all tenants in so many parts, as `/v1/prometheus/sd` offers
/// them. Answers how many, and counts bytes.
pub(crate) fn scrape_until(place: &Place, parts: u32, stop: &AtomicBool, bytes: &AtomicU64) -> u64 {
    let part =
        |number| format!("GET /metrics?shard={number}/{parts} HTTP/1.1\r\nHost: 127.0.0.1:7788\r\n\r\n").into_bytes();
    let mut connection = Connection::new(place, (1..=parts).map(part).collect());
    let mut scrapes = 0;
    while !stop.load(Ordering::Relaxed) {
        connection.send();
        let answer = connection.receive(Framing::Http);
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..answer.len().min(300)]));
        bytes.fetch_add(answer.len() as u64, Ordering::Relaxed);
        scrapes += 1;
    }
    scrapes
}
