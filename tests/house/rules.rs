//! The rules of the house, each with its reason.

use std::collections::{BTreeMap, BTreeSet};

use super::cycles::{cycles, edges};
use super::paths::{How, Path};
use super::tree::{File, Target, Tree};

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// File and line.
    pub place: String,
    /// The breach.
    pub what: String,
    /// Why it is.
    pub why: &'static str,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}\n    because {}", self.place, self.what, self.why)
    }
}

/// Exceptions that are put up with, and how they are counted down.
pub(crate) struct Exceptions {
    /// Imports that close a circle: from, to, reason.
    pub cycles: &'static [(&'static str, &'static str, &'static str)],
    /// Files over the limit, and the number of lines that they may not exceed: they may only shrink.
    pub long_files: &'static [(&'static str, usize)],
}

/// Longest file, in lines without tests.
pub(crate) const FILE_LINES_MAX: usize = 500;

/// Rooms of the root package from the top: which others of them, and which crates of ours each may import. What a crate
/// may import its `Cargo.toml` says.
pub(crate) const ROOMS: [(&str, &[&str]); 5] = [
    ("main", &["cli"]),
    ("lib", &["agent", "answers", "cli", "client", "contract", "daemon", "engine", "subscription"]),
    ("cli", &["agent", "answers", "cli", "client", "contract", "daemon", "engine", "subscription"]),
    ("daemon", &["answers", "contract", "daemon", "engine", "subscription"]),
    ("answers", &["answers", "contract", "subscription"]),
];

/// Longest name of a function, characters; a test's is a sentence.
const FUNCTION_NAME_CHARS_MAX: usize = 60;
/// Words that a doc comment does not begin with.
const QUESTION_WORDS: [&str; 3] = ["What", "Whether", "Who"];

/// Parts of the standard library that wait, read, write, or tell the time.
const IMPURE: [&str; 8] = ["env", "fs", "io", "net", "os", "process", "thread", "time"];
/// The types that decide an order between threads.
const SYNCHRONIZING: [&str; 10] =
    ["atomic", "Mutex", "RwLock", "Condvar", "Barrier", "Once", "OnceLock", "LazyLock", "mpsc", "mpmc"];
const CLOCKS: [&str; 4] = ["Instant", "SystemTime", "Utc", "Local"];
const VAGUE_NAMES: [&str; 12] = [
    "util",
    "utils",
    "helper",
    "helpers",
    "common",
    "type",
    "types",
    "constant",
    "constants",
    "manager",
    "managers",
    "misc",
];

const WHY_LAYERS: &str = "imports point down, as docs/design.md draws it: between crates their Cargo.toml says so, between rooms tests/house/rules.rs";
const WHY_PURE: &str =
    "the engine decides and the daemon acts: the same inputs give the same decision, without I/O or clock";
const WHY_SYNC: &str =
    "model checkers put their own atomics and locks into engine/sync.rs and see only what goes through it";
const WHY_CLOCK: &str = "time is taken once per request at the edge: only src/daemon/clock.rs reads a clock, and epoch.rs of the client for a node's boot number";
const SYNC_FILE: &str = "crates/engine/src/sync.rs";
/// The files that read the OS clocks.
const CLOCK_FILES: [&str; 2] = ["crates/client/src/epoch.rs", "src/daemon/clock.rs"];
const WHY_CYCLE: &str =
    "files that need each other are one file; an order makes each understandable by what is below it";
const WHY_RING: &str = "rooms that need each other are one room: nobody can carry one of them away, or read it first";
const WHY_NAME: &str = "such a module is a place where things go without a reason";
const WHY_SENTENCE: &str = "a reader should know from the first line whether to read on";
const WHY_LONG: &str = "a file is read as a whole; beyond 500 lines without tests it is two";
const WHY_UNSAFE: &str = "no unsafe of our own is a promise of the README";
const WHY_UNDONE: &str = "what is not done is not merged, and a test that is switched off proves nothing";
const WHY_DOC: &str = "a doc comment says first what the item is: a noun, or `Returns`, `True if`, `Checks`";
const WHY_NAME_LENGTH: &str =
    "a name is read in lists of results, beside others: it says the behaviour in a short sentence";
const WHY_EXCEPTION: &str = "an exception that nothing needs any more hides the next one";

/// Checks everything.
pub(crate) fn check(tree: &Tree, exceptions: &Exceptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        names_and_size(file, exceptions, &mut findings);
        imports(tree, file, &mut findings);
        clocks(file, &mut findings);
        words(file, &mut findings);
    }
    circles(tree, exceptions, &mut findings);
    rings(tree, &mut findings);
    findings
}

fn finding(file: &File, line: usize, what: impl Into<String>, why: &'static str) -> Finding {
    Finding { place: format!("{}:{line}", file.name), what: what.into(), why }
}

fn names_and_size(file: &File, exceptions: &Exceptions, findings: &mut Vec<Finding>) {
    if !file.is_crate() && !ROOMS.iter().any(|(room, _)| *room == file.layer()) {
        let what = format!("`{}` is no room of this house", file.layer());
        findings.push(finding(file, 1, what, "a new top-level module names its room in tests/house/rules.rs first"));
    }
    let inline = file.tokens.windows(3).filter(|w| w[0].text == "mod" && w[2].text == "{").map(|w| w[1].text.as_str());
    for name in file.module.iter().map(String::as_str).chain(inline).filter(|name| VAGUE_NAMES.contains(name)) {
        findings.push(finding(file, 1, format!("a module is called `{name}`"), WHY_NAME));
    }
    if !file.text.starts_with("//! ") {
        findings.push(finding(file, 1, "the file does not open with a `//!` sentence", WHY_SENTENCE));
    }
    let ceiling = exceptions.long_files.iter().find(|(name, _)| *name == file.name).map(|(_, lines)| *lines);
    if file.lines > ceiling.unwrap_or(FILE_LINES_MAX) {
        findings.push(finding(file, file.lines, format!("{} lines without tests", file.lines), WHY_LONG));
    }
    if ceiling.is_some() && file.lines <= FILE_LINES_MAX {
        findings.push(finding(file, 1, "is short enough by now; take it off the list of long files", WHY_EXCEPTION));
    }
}

fn imports(tree: &Tree, file: &File, findings: &mut Vec<Finding>) {
    let room = ROOMS.iter().find(|(room, _)| *room == file.layer());
    for path in &file.paths {
        let shown = path.segments.join("::");
        let mut report = |why| findings.push(finding(file, path.line, format!("`{shown}`"), why));
        match tree.target(file, path) {
            Target::File(to) if room.is_some_and(|(_, below)| !below.contains(&tree.files[to].layer())) => {
                report(WHY_LAYERS);
            }
            Target::Crate(segments) if segments[0] == "parking_lot" && file.layer() == "engine" => {
                checked(file, &mut report);
            }
            Target::Std(segments) => standard(file, path, &segments, &mut report),
            _ => {}
        }
    }
}

/// Crates that decide, or are what deciding stands on.
const PURE: [&str; 3] = ["contract", "engine", "subscription"];

fn checked(file: &File, report: &mut dyn FnMut(&'static str)) {
    if file.name != SYNC_FILE {
        report(WHY_SYNC);
    }
}

fn standard(file: &File, path: &Path, segments: &[String], report: &mut dyn FnMut(&'static str)) {
    // Two features of the contract wait: one for the connection of a script of Asterisk, one for a file.
    let waits = ["crates/contract/src/agi/", "crates/contract/src/file.rs"];
    if !PURE.contains(&file.layer()) || waits.iter().any(|place| file.name.starts_with(place)) {
        return;
    }
    let word = |at: usize| segments.get(at).map_or("", String::as_str);
    // A glob of the whole library would bring everything along.
    let everything = word(1) == "*" || (word(1) == "sync" && word(2) == "*");
    if IMPURE.contains(&word(1)) && !is_canary(file, path) || everything {
        report(WHY_PURE);
    }
    if word(1) == "sync" && SYNCHRONIZING.contains(&word(2)) {
        checked(file, report);
    }
}

/// A known bug that a checker must find may let another thread go first, behind its feature.
fn is_canary(file: &File, path: &Path) -> bool {
    let near = file.text.lines().skip(path.line.saturating_sub(8)).take(8.min(path.line));
    path.how == How::Text
        && path.segments.join("::") == "std::thread::yield_now"
        && near.into_iter().any(|line| line.contains("\"canary-"))
}

fn clocks(file: &File, findings: &mut Vec<Finding>) {
    if CLOCK_FILES.contains(&file.name.as_str()) {
        return;
    }
    // The runtime's own clock drives its timers, and tests may stop it.
    let timers = ["agent", "client", "daemon"].contains(&file.layer())
        && file.paths.iter().any(|path| path.how == How::Import && path.segments.join("::") == "tokio::time::Instant");
    for window in file.tokens.windows(3) {
        let word = window[0].text.as_str();
        let reads = window[1].text == "::" && window[2].text == "now" && CLOCKS.contains(&word);
        let raw = ["clock_gettime", "gettimeofday", "monotonic_usec_now"].contains(&word);
        if raw || (reads && !(word == "Instant" && timers)) {
            findings.push(finding(file, window[0].line, format!("`{word}` reads a clock"), WHY_CLOCK));
        }
    }
}

fn words(file: &File, findings: &mut Vec<Finding>) {
    for window in file.tokens.windows(3) {
        let texts = [window[0].text.as_str(), window[1].text.as_str(), window[2].text.as_str()];
        let line = window[0].line;
        match texts {
            ["unsafe", ..] => findings.push(finding(file, line, "`unsafe`", WHY_UNSAFE)),
            ["todo" | "unimplemented", "!", _] => {
                findings.push(finding(file, line, format!("`{}!`", texts[0]), WHY_UNDONE));
            }
            _ => {}
        }
    }
    undone_tests(&file.name, &file.text, findings);
    long_names(&file.name, &file.text, findings);
    question_docs(&file.name, &file.text, findings);
}

/// Names of functions that are too long, in any file.
pub(crate) fn long_names(name: &str, text: &str, findings: &mut Vec<Finding>) {
    for window in super::lexer::tokens(text).windows(2).filter(|window| window[0].text == "fn") {
        let length = window[1].text.chars().count();
        if length > FUNCTION_NAME_CHARS_MAX {
            let what = format!("`{}` has {length} characters, not {FUNCTION_NAME_CHARS_MAX}", window[1].text);
            findings.push(Finding { place: format!("{name}:{}", window[1].line), what, why: WHY_NAME_LENGTH });
        }
    }
}

/// Doc comments, and paragraphs of them, that begin with a question word, in any file.
pub(crate) fn question_docs(name: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut before = None;
    for (at, line) in text.lines().map(str::trim_start).enumerate() {
        let sign = ["/// ", "//! "].into_iter().find(|sign| line.starts_with(sign));
        let first = line.split(' ').nth(1).unwrap_or_default();
        if sign.is_some() && sign != before && QUESTION_WORDS.contains(&first) {
            let what = format!("a doc comment begins with `{first}`");
            findings.push(Finding { place: format!("{name}:{}", at + 1), what, why: WHY_DOC });
        }
        before = sign;
    }
}

/// Tests that are switched off, in any file. One that needs a process of its own is not: `tests/run` runs
/// every test in its own, the ignored ones too. Neither is one that measures and proves nothing.
pub(crate) fn undone_tests(name: &str, text: &str, findings: &mut Vec<Finding>) {
    for window in super::lexer::tokens(text).windows(3) {
        let ignored = window[0].text == "#" && window[1].text == "[" && window[2].text == "ignore";
        let line = window[0].line;
        let says = |line: &str| line.contains("= \"needs its own process") || line.contains("= \"measures");
        let excused = || text.lines().nth(line - 1).is_some_and(says);
        if ignored && !excused() {
            findings.push(Finding { place: format!("{name}:{line}"), what: "`#[ignore]`".to_owned(), why: WHY_UNDONE });
        }
    }
}

/// A room of a layer by its path.
type Room<'a> = &'a [String];

/// Which room of a layer needs which: folders, and files beside them; with the file and the line of the first need.
pub(crate) fn rooms(tree: &Tree) -> BTreeMap<(Room<'_>, Room<'_>), (usize, usize)> {
    let room = |file: usize| &tree.files[file].module[..tree.files[file].module.len().min(2)];
    let mut seen = BTreeMap::new();
    for ((from, to), line) in edges(tree) {
        // The face of a layer stands above its rooms.
        if room(from) != room(to) && room(from).len() == 2 {
            seen.entry((room(from), room(to))).or_insert((from, line));
        }
    }
    seen
}

/// Rooms of a layer that need each other in a circle, a folder among them: of files alone it is told already.
fn rings(tree: &Tree, findings: &mut Vec<Finding>) {
    let needs = rooms(tree);
    let all: Vec<&[String]> =
        needs.keys().flat_map(|(from, to)| [*from, *to]).collect::<BTreeSet<_>>().into_iter().collect();
    let number = |room: Room<'_>| all.binary_search(&room).unwrap_or_default();
    let numbered = needs.iter().map(|((from, to), (_, line))| ((number(from), number(to)), *line)).collect();
    let is_folder =
        |at: &usize| tree.files.iter().any(|file| file.module.len() > 2 && file.module.starts_with(all[*at]));
    for way in cycles(&numbered).into_iter().filter(|way| way.iter().any(is_folder)) {
        let step = |pair: &[usize]| {
            let (file, line) = needs[&(all[pair[0]], all[pair[1]])];
            format!("{} ({}:{line})", all[pair[0]].join("/"), tree.files[file].name)
        };
        let steps: Vec<String> = way.windows(2).map(step).collect();
        let what = format!("is in a ring: {} -> {}", steps.join(" -> "), all[way[0]].join("/"));
        findings.push(Finding { place: all[way[0]].join("/"), what, why: WHY_RING });
    }
}

fn circles(tree: &Tree, exceptions: &Exceptions, findings: &mut Vec<Finding>) {
    let all = edges(tree);
    let name = |at: usize| tree.files[at].name.as_str();
    let is_allowed =
        |from: usize, to: usize| exceptions.cycles.iter().any(|(a, b, _)| *a == name(from) && *b == name(to));
    let strict =
        all.iter().filter(|((from, to), _)| !is_allowed(*from, *to)).map(|(edge, line)| (*edge, *line)).collect();
    for way in cycles(&strict) {
        let steps: Vec<String> = way.windows(2).map(|w| format!("{}:{}", name(w[0]), strict[&(w[0], w[1])])).collect();
        let what = format!("needs itself: {} -> {}", steps.join(" -> "), name(way[0]));
        findings.push(Finding { place: name(way[0]).to_owned(), what, why: WHY_CYCLE });
    }
    for (from, to, _) in exceptions.cycles {
        let still = all.keys().any(|(a, b)| name(*a) == *from && name(*b) == *to);
        if !still {
            let what = format!("does not import {to} any more; take it off the list of cycles");
            findings.push(Finding { place: (*from).to_owned(), what, why: WHY_EXCEPTION });
        }
    }
}
