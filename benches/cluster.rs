//! A cluster over three etcds: how long a tenant is not decided when its owner goes, and what a decision costs beside a bare
//! fenced transaction. `cargo bench --bench cluster -- gaps` or `-- costs`.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "it measures")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{JoinHandle, scope};
use std::time::Duration;

use usherd::daemon::clock::monotonic_ns;
use usherd::daemon::etcd::{Compare, Op, Store as _, Txn};
use usherd_testkit::cluster::{Fleet, call, hang_up, name, tenant};
use usherd_testkit::etcd::Etcd;
use usherd_testkit::http::Client;
use usherd_testkit::wait::{eventually, pause};

/// Of each kind.
const ROUNDS: usize = 20;
const RECORD_BYTES: usize = 120;
const TURNS: usize = 5;
const TURN: Duration = Duration::from_secs(2);

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(1).collect()
}

/// Milliseconds from now until a member that is asked gives a seat, or finds it held.
fn until_decided(client: &mut Client, session: &str) -> u64 {
    let began = monotonic_ns();
    eventually("a decision", || {
        let answer = call(client, "acme", session);
        (answer.status == 200 && answer.is_durable()).then_some(())
    });
    (monotonic_ns() - began) / 1_000_000
}

fn tell(what: &str, mut gaps: Vec<u64>) {
    let worst = gaps.iter().max().copied().unwrap_or_default();
    println!("{what}: median {} ms, worst {worst} ms of {}, load {}", median(&mut gaps), gaps.len(), load());
}

fn gaps() {
    let files = tenant("acme", 1_000);
    let mut fleet = Fleet::new(Etcd::three(), 3, "[nodes]\n", &[("acme", &files)]);
    fleet.start_all();
    let (mut killed, mut with_leader, mut stopped) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..3 * ROUNDS {
        let owner = fleet.owner("acme");
        let mut client = fleet.client((owner + 1) % 3);
        let session = format!("s{round}");
        until_decided(&mut client, &session);
        match round % 3 {
            0 => {
                fleet.kill(owner);
                killed.push(until_decided(&mut client, &session));
            }
            1 => {
                let leader = fleet.etcd.leader();
                fleet.kill(owner);
                fleet.etcd.kill(leader);
                with_leader.push(until_decided(&mut client, &session));
                fleet.etcd.restart(leader);
            }
            _ => {
                // Others go on asking while it gives its shards up.
                let over = AtomicBool::new(false);
                let longest = AtomicU64::new(0);
                let mut prober = fleet.client((owner + 2) % 3);
                scope(|scope| {
                    scope.spawn(|| {
                        while !over.load(Ordering::Relaxed) {
                            longest.fetch_max(until_decided(&mut prober, &session), Ordering::Relaxed);
                        }
                    });
                    fleet.terminate(owner);
                    pause(Duration::from_millis(300));
                    over.store(true, Ordering::Relaxed);
                });
                stopped.push(longest.into_inner());
            }
        }
        fleet.start(owner);
        fleet.until_served();
        eventually("its part", || fleet.owners(owner).contains_key(&name(owner)).then_some(()));
    }
    tell("the owner is killed", killed);
    tell("the owner and the leader of etcd are killed at once", with_leader);
    tell("the owner is stopped in order (hand-over)", stopped);
}

/// Calls on so many connections: nanoseconds of each decision.
fn decisions(fleet: &Fleet, callers: usize) -> Vec<u64> {
    let until = monotonic_ns() + TURN.as_nanos() as u64;
    scope(|scope| {
        let caller = |number: usize| {
            let mut client = fleet.client(0);
            scope.spawn(move || {
                let (mut took, mut count) = (Vec::new(), 0);
                while monotonic_ns() < until {
                    let session = format!("s{number}-{count}");
                    count += 1;
                    let began = monotonic_ns();
                    assert_eq!(call(&mut client, "acme", &session).decision(), "allow.new");
                    took.push(monotonic_ns() - began);
                    let began = monotonic_ns();
                    assert_eq!(hang_up(&mut client, "acme", &session).decision(), "released.last");
                    took.push(monotonic_ns() - began);
                }
                took
            })
        };
        let callers: Vec<_> = (0..callers).map(caller).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    })
}

type Record = (Vec<u8>, Sender<()>);

/// Takes what is queued, puts it as one value behind a fence, answers: nothing else.
fn committer(etcd: &Etcd) -> (Sender<Record>, JoinHandle<()>) {
    let (client, (sender, records)) = (etcd.client(), channel::<Record>());
    let thread = std::thread::spawn(move || {
        let owner = format!("owner/{}", monotonic_ns());
        let made = client.txn(&Txn { then: vec![Op::delete_all("bare/"), Op::put(&owner, "me")], ..Txn::default() });
        let fence = Compare::Created { key: owner, revision: made.unwrap().revision };
        for seq in 0_u64.. {
            let Ok(first) = records.recv() else { return };
            let all: Vec<Record> = std::iter::once(first).chain(records.try_iter()).collect();
            let value: Vec<u8> = all.iter().flat_map(|(record, _)| record.iter().copied()).collect();
            let put = Op::put(format!("bare/{seq:016x}"), value);
            let txn = Txn { compares: vec![fence.clone()], then: vec![put], otherwise: vec![Op::get_all("owner/")] };
            assert!(client.txn(&txn).unwrap().held);
            // Who has gone away does not hear of it.
            for (_, answer) in all {
                let _ = answer.send(());
            }
        }
    });
    (sender, thread)
}

/// The same callers with nothing between them and the transaction.
fn bare(records: &Sender<Record>, callers: usize) -> Vec<u64> {
    let until = monotonic_ns() + TURN.as_nanos() as u64;
    scope(|scope| {
        let caller = |_| {
            let records = records.clone();
            scope.spawn(move || {
                let mut took = Vec::new();
                while monotonic_ns() < until {
                    let began = monotonic_ns();
                    let (answer, answered) = channel();
                    records.send((vec![7; RECORD_BYTES], answer)).unwrap();
                    answered.recv().unwrap();
                    took.push(monotonic_ns() - began);
                }
                took
            })
        };
        let callers: Vec<_> = (0..callers).map(caller).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    })
}

fn costs() {
    let files = tenant("acme", 100_000);
    let mut fleet = Fleet::new(Etcd::three(), 1, "[nodes]\ndeadline_ms = 5000", &[("acme", &files)]);
    fleet.start_all();
    for callers in [1, 64, 512] {
        let (mut ours, mut theirs, mut rates, mut bare_rates) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let mut took = decisions(&fleet, callers);
            rates.push(took.len() as u64 / TURN.as_secs());
            ours.push(median(&mut took));
            let (records, thread) = committer(&fleet.etcd);
            let mut took = bare(&records, callers);
            bare_rates.push(took.len() as u64 / TURN.as_secs());
            theirs.push(median(&mut took));
            drop(records);
            thread.join().unwrap();
        }
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        println!(
            "{callers} callers: p50 {} us, {} decisions/s; bare p50 {} us, {} records/s; {:.2}x, load {}",
            ours / 1_000,
            median(&mut rates),
            theirs / 1_000,
            median(&mut bare_rates),
            ours as f64 / theirs as f64,
            load()
        );
    }
}

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, run) in [("gaps", gaps as fn()), ("costs", costs)] {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            run();
        }
    }
}
