//! Requests that a demonstration refuses, and how it says so.

use std::net::TcpListener;

use rustix::process::Signal;
use usherd_testkit::demo::Demo;
use usherd_testkit::process::usherd;

#[track_caller]
fn refused(arguments: &[&str], code: i32, words: &[&str]) {
    let output = usherd(&["demo"]).args(arguments).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    for words in words {
        assert!(told.contains(words), "{arguments:?} do not tell {words:?}: {told}");
    }
}

#[test]
fn a_port_that_is_taken_is_told_with_the_way_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    refused(&["--listen", &address], 1, &["is in use, perhaps by another usherd", "--listen 127.0.0.1:0"]);
}

#[test]
fn a_daemon_that_would_share_its_port_is_seen() {
    let mut demo = Demo::start(&["--speed", "1"]);
    demo.wait_for("stop");
    let address = demo.address().to_owned();
    refused(&["--listen", &address], 1, &["is in use"]);
    assert_eq!(demo.stop(Signal::TERM).code(), Some(0), "{}", demo.said);
}

#[test]
fn what_makes_no_sense_is_2_and_says_why() {
    for (arguments, words) in [
        (&["--listen", "0.0.0.0:7788"][..], "this machine only"),
        (&["--listen", "localhost"], "127.0.0.1:7788"),
        (&["--from", "03:00"], "07:45 to 18:00"),
        (&["--from", "12:00", "--until", "11:00"], "--until is not after --from"),
        (&["--speed", "0"], "1..=3600"),
        (&["--tenants", "100001"], "100000"),
        (&["--tenants", "10", "--sessions", "2000001"], "2000000"),
        (&["--sessions", "10"], "--tenants"),
        (&["--tenants", "10", "--speed", "2"], "--speed"),
        (&["--cluster", "--tenants", "10"], "--tenants"),
        (&["--config", "/etc/usherd/usherd.toml"], "--dir"),
    ] {
        refused(arguments, 2, &[words]);
    }
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "mine").unwrap();
    let path = dir.path().to_str().unwrap();
    refused(&["--listen", "127.0.0.1:0", "--dir", path], 1, &["is not empty", "empty folder"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_reader_who_has_seen_enough_ends_it() {
    let line = format!("{} demo --listen 127.0.0.1:0 --speed 3600 2>&1 | head -n 3", env!("CARGO_BIN_EXE_usherd"));
    let shown = usherd_testkit::demo::shell(&line);
    assert_eq!(shown.lines().count(), 3, "{shown}");
}
