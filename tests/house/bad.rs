//! Small trees that break one rule each: the test of the test.

use super::rules::{Exceptions, check};
use super::tree::Tree;

const MANIFESTS: &[(&str, &str)] = &[
    ("Cargo.toml", "[dependencies]\ntokio = \"1\"\nusherd-contract = \"1\"\n"),
    ("crates/contract/Cargo.toml", "[dependencies]\nserde = \"1\"\n"),
    ("crates/engine/Cargo.toml", "[dependencies]\nparking_lot = \"1\"\n"),
    ("crates/subscription/Cargo.toml", "[dependencies]\nchrono = \"1\"\n"),
];
const NONE: Exceptions = Exceptions { cycles: &[], long_files: &[] };

fn findings(files: &[(&str, &str)], exceptions: &Exceptions) -> Vec<String> {
    let with_sentence = |text: &str| match text.strip_prefix("RAW ") {
        Some(raw) => raw.to_owned(),
        None => format!("//! It is.\n{text}\n"),
    };
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), with_sentence(text)));
    let manifests = MANIFESTS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    check(&Tree::new(files.chain(manifests)), exceptions).iter().map(ToString::to_string).collect()
}

/// One file each that must be refused, and a part of what must be said of it.
const BAD: &[(&str, &str, &str)] = &[
    ("src/daemon/a.rs", "use crate::cli::x;", "imports point down"),
    ("src/main.rs", "fn main() { usherd_engine::f() }", "imports point down"),
    ("crates/engine/src/a.rs", "use std::fs;", "without I/O or clock"),
    ("crates/engine/src/a.rs", "use std::{fmt, time::{Duration, Instant}};", "without I/O or clock"),
    ("crates/engine/src/a.rs", "fn f() { ::std::env::var(\"X\"); }", "without I/O or clock"),
    ("crates/engine/src/a.rs", "fn f() { std::thread::yield_now(); }", "without I/O or clock"),
    (
        "crates/engine/src/a.rs",
        "fn f(x: u8) { match x { 0 => std::process::abort(), _ => {} } }",
        "without I/O or clock",
    ),
    ("crates/engine/src/a.rs", "fn f() -> std::io::Error { g() }", "without I/O or clock"),
    ("crates/engine/src/a.rs", "use std::*;", "without I/O or clock"),
    ("crates/engine/src/a.rs", "use core::time::Duration;", "without I/O or clock"),
    ("crates/subscription/src/a.rs", "use std::process::exit as leave;", "without I/O or clock"),
    ("crates/contract/src/a.rs", "use std::fs;", "without I/O or clock"),
    ("crates/engine/src/a.rs", "use std::sync::atomic::AtomicU64;", "model checkers"),
    ("crates/engine/src/a.rs", "use std::sync::{Arc, Mutex};", "model checkers"),
    ("crates/engine/src/a.rs", "use parking_lot::Mutex;", "model checkers"),
    ("crates/engine/src/a.rs", "static X: std::sync::OnceLock<u8> = y;", "model checkers"),
    ("src/daemon/a.rs", "fn f() { let x = std::time::Instant::now(); }", "only src/daemon/clock.rs"),
    ("src/daemon/a.rs", "use chrono::Utc; fn f() { Utc::now(); }", "only src/daemon/clock.rs"),
    ("src/daemon/a.rs", "fn f() { SystemTime::now(); }", "only src/daemon/clock.rs"),
    ("src/cli/a.rs", "use tokio::time::Instant; fn f() { Instant::now(); }", "only src/daemon/clock.rs"),
    ("src/cli/a.rs", "fn f() { chrono::Local::now(); }", "only src/daemon/clock.rs"),
    ("src/daemon/a.rs", "fn f() { rustix::time::clock_gettime(x); }", "only src/daemon/clock.rs"),
    ("src/daemon/a.rs", "fn f() { NotifyState::monotonic_usec_now(); }", "only src/daemon/clock.rs"),
    ("src/extra/a.rs", "fn f() {}", "is no room of this house"),
    ("src/extra.rs", "fn f() {}", "is no room of this house"),
    ("src/daemon/util.rs", "fn f() {}", "without a reason"),
    ("src/daemon/helper/a.rs", "fn f() {}", "without a reason"),
    ("src/daemon/a.rs", "mod types { fn f() {} }", "without a reason"),
    ("src/daemon/a.rs", "RAW fn f() {}", "does not open with"),
    ("src/daemon/a.rs", "RAW // It is.\nfn f() {}", "does not open with"),
    ("src/daemon/a.rs", "fn f() { unsafe { g() } }", "no unsafe of our own"),
    ("src/daemon/a.rs", "fn f() { todo!() }", "is not merged"),
    ("src/daemon/a.rs", "fn f() { unimplemented!(\"x\") }", "is not merged"),
    ("src/daemon/a.rs", "#[cfg(test)] mod tests { #[test] #[ignore] fn f() {} }", "proves nothing"),
    ("src/daemon/a.rs", "#[cfg(test)] mod tests { #[test] #[ignore = \"slow\"] fn f() {} }", "proves nothing"),
    ("src/daemon/a.rs", "/// Whether it is.\nfn f() {}", "begins with `Whether`"),
    ("src/daemon/a.rs", "struct A {\n    /// It is.\n    ///\n    /// Who it is.\n    b: u8,\n}", "begins with `Who`"),
    (
        "src/daemon/a.rs",
        "#[cfg(test)] mod tests { #[test] fn a_name_of_sixty_one_characters_which_is_one_more_than_allowed() {} }",
        "has 61 characters",
    ),
];

const AROUND: &[(&str, &str)] = &[
    ("src/lib.rs", "pub mod daemon; pub mod cli;"),
    ("crates/contract/src/lib.rs", "pub mod emergency; mod a;"),
    ("crates/contract/src/emergency.rs", "use std::borrow::Cow; pub fn is() {}"),
    ("crates/engine/src/lib.rs", "mod a; pub fn x() {}"),
    ("crates/subscription/src/lib.rs", "mod a; pub fn x() {}"),
    ("src/daemon/mod.rs", "pub mod clock; mod a;"),
    ("src/daemon/clock.rs", "pub fn f() { Instant::now(); SystemTime::now(); }"),
    ("src/cli/mod.rs", "mod a; pub fn x() {}"),
];

#[test]
fn every_bad_file_is_refused_for_its_reason() {
    assert_eq!(findings(AROUND, &NONE), Vec::<String>::new(), "the house around them is in order");
    for (name, text, expected) in BAD {
        let mut files = AROUND.to_vec();
        files.push((name, text));
        let found = findings(&files, &NONE);
        assert!(found.iter().any(|f| f.contains(expected) && f.starts_with(name)), "{name}: {text}\n{found:#?}");
    }
}

#[test]
fn what_is_allowed_is_not_refused() {
    for (name, text) in [
        ("crates/engine/src/a.rs", "use usherd_contract::emergency::is;"),
        (
            "crates/engine/src/a.rs",
            "use std::sync::Arc; use arc_swap::ArcSwap; use super::x; use std::collections::HashMap;",
        ),
        (
            "crates/engine/src/sync.rs",
            "pub(crate) use std::sync::atomic::AtomicU64; pub(crate) use parking_lot::Mutex;",
        ),
        ("crates/engine/src/a.rs", "fn f() { if cfg!(feature = \"canary-x\") {\n std::thread::yield_now();\n } }"),
        ("crates/engine/src/a.rs", "// use std::fs;\n/* todo!() unsafe */ const S: &str = \"use std::fs; unsafe\";"),
        (
            "crates/engine/src/a.rs",
            "#[cfg(test)] mod tests { use std::time::Instant; fn f() { Instant::now(); super::super::b::f(); } }",
        ),
        ("crates/engine/src/a.rs", "mod m { use super::y; } fn y() {}"),
        ("crates/engine/src/a.rs", "enum E { A } use E::A; fn f(fs: u8) { time::x(); }"),
        ("crates/subscription/src/a.rs", "use chrono::{DateTime, Utc}; fn f(now: DateTime<Utc>) {}"),
        ("src/daemon/a.rs", "use tokio::time::Instant; fn f() { Instant::now(); }"),
        ("src/daemon/a.rs", "use std::fs; use usherd_engine::x; use usherd_subscription; use hyper_util::rt;"),
        ("src/cli/a.rs", "use crate::daemon::clock; use usherd_engine;"),
        ("src/main.rs", "fn main() { usherd::cli::x() }"),
        (
            "src/daemon/a.rs",
            "/// It is. In a long sentence that goes on it is\n/// What the name of a type may be.\nfn f() {}",
        ),
    ] {
        let mut files = AROUND.to_vec();
        files.push((name, text));
        assert_eq!(findings(&files, &NONE), Vec::<String>::new(), "{name}: {text}");
    }
}

/// Trees whose files need each other in a circle.
#[test]
fn circles_are_found_however_they_are_written() {
    let around = |files: &[(&'static str, &'static str)]| findings(&[AROUND, files].concat(), &NONE);
    for files in [
        &[("src/daemon/a.rs", "use super::b::y;"), ("src/daemon/b.rs", "use crate::daemon::a::x;")][..],
        &[("src/daemon/a.rs", "fn f() { super::b::y() }"), ("src/daemon/b.rs", "use super::{a};")],
        &[
            ("src/daemon/a.rs", "use super::b::y;"),
            ("src/daemon/b.rs", "use super::c;"),
            ("src/daemon/c.rs", "use super::a::*;"),
        ],
        // The face of a folder hides nothing: the name comes from the child.
        &[
            ("src/daemon/h/mod.rs", "mod deep; pub use deep::Thing;"),
            ("src/daemon/h/deep.rs", "use crate::daemon::a::x; pub struct Thing;"),
            ("src/daemon/a.rs", "use super::h::Thing; pub fn x() {}"),
        ],
        // The same through a glob, for a name that a macro makes.
        &[
            ("src/daemon/h/mod.rs", "mod deep; pub use deep::*;"),
            ("src/daemon/h/deep.rs", "use crate::daemon::a::x; words! { Thing { A } }"),
            ("src/daemon/a.rs", "use super::h::Thing; pub fn x() {}"),
        ],
        // A mod.rs that uses its child, which uses what the mod.rs defines.
        &[
            ("src/daemon/h/mod.rs", "mod deep; use deep::Thing; pub struct Own; fn f(x: Thing) {}"),
            ("src/daemon/h/deep.rs", "use super::Own; pub struct Thing;"),
        ],
    ] {
        let found = around(files);
        assert!(found.iter().any(|finding| finding.contains("needs itself")), "{files:?}\n{found:#?}");
    }
    // No file needs itself, and yet neither folder can be read first.
    let rooms = [
        ("src/daemon/h/mod.rs", "mod low; mod high;"),
        ("src/daemon/h/low.rs", "pub fn f() {}"),
        ("src/daemon/h/high.rs", "use crate::daemon::a::x;"),
        ("src/daemon/a.rs", "use super::h::low::f; pub fn x() {}"),
    ];
    let ring = "daemon/a: is in a ring: daemon/a (src/daemon/a.rs:2) -> daemon/h (src/daemon/h/high.rs:2) -> daemon/a";
    assert!(around(&rooms)[0].starts_with(ring), "{:#?}", around(&rooms));
    let face = [
        ("src/daemon/h/mod.rs", "mod deep; pub use deep::Thing; pub struct Own;"),
        ("src/daemon/h/deep.rs", "use super::Own; pub struct Thing;"),
    ];
    assert_eq!(around(&face), Vec::<String>::new(), "to pass a name on is no need");
}

#[test]
fn exceptions_hold_for_what_they_name_and_no_longer_than_needed() {
    let circle = [("src/daemon/a.rs", "use super::b::y;"), ("src/daemon/b.rs", "use super::a::x;")];
    let files = [AROUND, &circle].concat();
    let allowed = Exceptions { cycles: &[("src/daemon/b.rs", "src/daemon/a.rs", "a reason")], ..NONE };
    assert_eq!(findings(&files, &allowed), Vec::<String>::new());
    let stale = findings(AROUND, &allowed);
    assert!(stale[0].contains("take it off the list"), "{stale:#?}");
    let long = "fn f() {}\n".repeat(600);
    let files = [AROUND, &[("src/daemon/a.rs", long.as_str())]].concat();
    assert!(findings(&files, &NONE)[0].contains("lines without tests"));
    let enough = Exceptions { long_files: &[("src/daemon/a.rs", 602)], ..NONE };
    assert_eq!(findings(&files, &enough), Vec::<String>::new());
    let grown = Exceptions { long_files: &[("src/daemon/a.rs", 600)], ..NONE };
    assert!(findings(&files, &grown)[0].contains("602 lines"), "{:?}", findings(&files, &grown));
    let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}");
    let files = [AROUND, &[("src/daemon/a.rs", tests.as_str())]].concat();
    assert_eq!(findings(&files, &NONE), Vec::<String>::new(), "tests do not count");
    let files = [AROUND, &[("src/daemon/a.rs", "fn f() {}")]].concat();
    assert!(findings(&files, &enough)[0].contains("short enough"));
}
