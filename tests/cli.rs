//! The command line as a shell sees it: arguments in, text and an exit code out, against canned answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

#[path = "cli/canned.rs"]
mod canned;
#[path = "cli/daemon.rs"]
mod daemon;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/files.rs"]
mod files;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/money.rs"]
mod money;
#[path = "cli/records.rs"]
mod records;
#[path = "cli/report.rs"]
mod report;
#[path = "cli/size.rs"]
mod size;
#[path = "cli/subscription.rs"]
mod subscription;
#[path = "cli/tls.rs"]
mod tls;
#[path = "cli/verbs.rs"]
mod verbs;

use std::path::Path;
use std::process::{Command, Output};

use usherd_testkit::process::usherd;

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs to the end and compares the exit code.
fn run(arguments: &[&str], expected: i32) -> (String, String) {
    finish(&mut usherd(arguments), expected)
}

fn finish(command: &mut Command, expected: i32) -> (String, String) {
    let output = command.output().unwrap();
    let (out, err) = (out(&output), err(&output));
    assert_eq!(output.status.code(), Some(expected), "{command:?}\n{out}{err}");
    (out, err)
}

fn shipped(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().unwrap().to_owned()
}
