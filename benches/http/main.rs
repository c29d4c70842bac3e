//! The cost of a request for the server, against bare hyper, Redis and PostgreSQL (DESIGN 6).
//!
//! `cargo bench --bench http [-- [--quick] ROW…]`, rows: cpu, synced, redis, resp, redis-benchmark, postgres, latency,
//! readers (with `--one-subject` or `--no-subject`); loop-json, loop-written and loop-batch run one thing alone, for a
//! profiler. Servers run on one core, the client on another; servers are measured by turns, by the CPU time of their
//! process. What is not installed (redis-server, postgresql-15, taskset) is left out by name.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a measurement stops where something is wrong, and prints"
)]

mod client;
#[path = "../support/measure.rs"]
mod measure;
mod pace;
mod postgres;
mod readers;
mod redis;
mod requests;
mod rows;
mod server;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [child, what, folder] = args.as_slice()
        && child == "child"
    {
        return server::child(what, folder.as_ref());
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let names: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    pin_client();
    let effort = if quick { rows::Effort::QUICK } else { rows::Effort::FULL };
    match names.first().map(|name| name.as_str()) {
        Some("loop-json") => return rows::endless(requests::json, "none"),
        Some("loop-written") => return rows::endless(requests::json, "written"),
        Some("loop-batch") => return rows::endless(requests::batch, "none"),
        _ => {}
    }
    println!("load {}", measure::load());
    let rows: [(&str, Row); 8] = [
        ("cpu", rows::cpu),
        ("synced", rows::synced),
        ("redis", rows::redis),
        ("resp", rows::resp),
        ("redis-benchmark", rows::redis_benchmark),
        ("postgres", rows::postgres),
        ("latency", rows::latency),
        ("readers", readers::readers),
    ];
    for (name, row) in rows {
        if names.is_empty() || names.iter().any(|wanted| *wanted == name) {
            row(effort);
        }
    }
    println!("load {}", measure::load());
}

type Row = fn(rows::Effort);

/// Keeps this program, the client, off the core of the servers.
fn pin_client() {
    let pid = std::process::id().to_string();
    let done = std::process::Command::new("taskset").args(["-p", "-c", server::CLIENT_CORE, &pid]).output();
    if !done.is_ok_and(|output| output.status.success()) {
        println!("cpu cores: taskset is missing or there is one core only; client and servers share cores");
    }
}
