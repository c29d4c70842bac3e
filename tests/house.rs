//! The rules of the house, read off the source: layers, purity, clocks, cycles, names, sizes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

#[path = "house/bad.rs"]
mod bad;
#[path = "house/cycles.rs"]
mod cycles;
#[path = "house/lexer.rs"]
mod lexer;
#[path = "house/paths.rs"]
mod paths;
#[path = "house/rules.rs"]
mod rules;
#[path = "house/tree.rs"]
mod tree;

use std::collections::BTreeSet;
use std::path::Path;

use rules::{Exceptions, ROOMS, check, long_names, question_docs, rooms, undone_tests};
use tree::Tree;

/// Empty is the goal; an entry needs its reason, and may only go.
///
/// No layer and no `mod.rs` is exempt as such: the engine has no circle, although its files add to one `Engine`.
const EXCEPTIONS: Exceptions = Exceptions { cycles: &[], long_files: &[] };

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files under a folder, by their names from the root.
fn sources(folder: &str) -> Vec<(String, String)> {
    files(folder, |path| path.extension().is_some_and(|extension| extension == "rs"))
}

fn files(folder: &str, is_wanted: fn(&Path) -> bool) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if is_wanted(&path) {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// The tree of the program.
fn house() -> Tree {
    let manifest = ("Cargo.toml".to_owned(), std::fs::read_to_string(root().join("Cargo.toml")).unwrap());
    let manifests = files("crates", |path| path.ends_with("Cargo.toml"));
    let crates = files("crates", |path| {
        path.extension().is_some_and(|extension| extension == "rs") && path.iter().any(|part| part == "src")
    });
    Tree::new([sources("src"), crates, manifests, vec![manifest]].concat())
}

fn told(findings: &[rules::Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

#[test]
fn the_house_keeps_its_rules() {
    let tree = house();
    assert!(tree.files.len() > 20, "only {} files were found", tree.files.len());
    let findings = check(&tree, &EXCEPTIONS);
    assert!(findings.is_empty(), "{} rules are broken\n{}", findings.len(), told(&findings));
}

#[test]
fn no_test_is_switched_off_and_every_file_says_what_it_is() {
    let mut findings = Vec::new();
    for (name, text) in ["tests", "benches", "crates", "src"].iter().flat_map(|folder| sources(folder)) {
        undone_tests(&name, &text, &mut findings);
        long_names(&name, &text, &mut findings);
        question_docs(&name, &text, &mut findings);
        assert!(text.starts_with("//! "), "{name} does not open with a `//!` sentence");
    }
    assert!(findings.is_empty(), "{}", told(&findings));
    let script = std::fs::read_to_string(root().join("tests/run")).unwrap();
    assert!(script.contains("--run-ignored all"), "tests that need their own process are switched off without it");
}

#[test]
fn the_picture_of_the_layers_is_what_imports_may_do() {
    let page = std::fs::read_to_string(root().join("docs/design.md")).unwrap();
    let picture = page.split("```mermaid\ngraph TD\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let drawn: BTreeSet<(&str, &str)> =
        picture.lines().map(|line| line.trim().split_once(" --> ").unwrap_or_else(|| panic!("{line}"))).collect();
    let tree = house();
    let rooms = ROOMS.iter().filter(|(room, _)| !["main", "lib"].contains(room));
    let crates = tree.layers().map(|layer| (layer, tree.crates_below(layer).collect::<Vec<_>>()));
    let all: Vec<(&str, Vec<&str>)> = rooms.map(|(room, below)| (*room, below.to_vec())).chain(crates).collect();
    let allowed = all.iter().flat_map(|(layer, below)| below.iter().map(move |to| (*layer, *to)));
    assert_eq!(drawn, allowed.filter(|(layer, to)| layer != to).collect());
    for (layer, _) in &all {
        let place = if ROOMS.iter().any(|(room, _)| room == layer) { "src/" } else { "crates/" };
        assert!(page.contains(&format!("| `{place}{layer}` |")), "docs/design.md does not say what {layer} is");
    }
}

#[test]
fn the_table_of_the_daemon_is_its_rooms_and_what_each_stands_on() {
    let page = std::fs::read_to_string(root().join("docs/design.md")).unwrap();
    let rows = page.split("| room | what it does | stands on |\n").nth(1).unwrap().lines().skip(1);
    let rows = rows.map_while(|line| line.strip_prefix("| `")).map(|line| line.trim_end_matches(" |"));
    let told: Vec<(String, String)> = rows
        .map(|row| {
            let mut cells = row.split(" | ");
            let room = cells.next().unwrap().trim_end_matches('`');
            (room.to_owned(), cells.nth(1).unwrap_or_default().trim().to_owned())
        })
        .collect();
    let tree = house();
    let needs = rooms(&tree);
    let of_daemon = |room: &&[String]| room.len() == 2 && room[0] == "daemon";
    let all: BTreeSet<&str> =
        needs.keys().flat_map(|(a, b)| [*a, *b]).filter(of_daemon).map(|room| &*room[1]).collect();
    let below = |room: &str| {
        let needs = needs.keys().filter(|(from, _)| of_daemon(from) && from[1] == room);
        needs.map(|(_, to)| &*to[1]).collect::<Vec<_>>().join(", ")
    };
    let seen: Vec<(String, String)> = all.into_iter().map(|room| (room.to_owned(), below(room))).collect();
    assert_eq!(told, seen);
}

/// The scenarios of the rule book about contracts: states, calendar, money, storefront, planner, services.
const CONTRACT_SCENARIOS: &[u32] = &[
    82, 83, 85, 86, 88, 89, 91, 92, 94, 95, 96, 97, 98, 100, 101, 103, 104, 106, 107, 109, 110, 112, 113, 115, 116,
    118, 119, 121, 122, 124, 125, 127, 128, 130, 131, 133, 134, 136, 137, 139, 140, 142, 143, 145, 146, 148, 149, 151,
    152, 154, 155, 157, 158, 160, 161, 163, 169, 170, 172, 173,
];

#[test]
fn every_scenario_about_contracts_is_named_by_a_test() {
    let texts: Vec<String> =
        ["tests", "src", "crates"].iter().flat_map(|folder| sources(folder)).map(|(_, text)| text).collect();
    let named = |id: &u32| {
        let (row, name) = (format!("T{id:03}"), format!("_t{id:03}"));
        // This list does not count: it names only numbers.
        texts.iter().any(|text| text.contains(&row) || text.contains(&name))
    };
    let missing: Vec<&u32> = CONTRACT_SCENARIOS.iter().filter(|id| !named(id)).collect();
    assert!(CONTRACT_SCENARIOS.len() > 50 && missing.is_empty(), "no test names {missing:?}");
}
