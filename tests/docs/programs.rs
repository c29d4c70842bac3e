//! The table of what runs in which program, held to the tests that run it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use usherd_testkit::page::{self, Page, Row, root};

/// Program, recipe, what ran, result, tests.
fn rows() -> Vec<(usize, Row)> {
    let rows = Page::read("docs/pbx.md").table(&["program", "recipe", "what ran", "result", "tests"]);
    for (line, cells) in &rows {
        assert_eq!(cells.len(), 5, "docs/pbx.md:{line}");
    }
    rows
}

/// Every file of tests below a file or folder, relative to the repository.
fn files(path: &Path) -> BTreeSet<String> {
    let sources = page::files(path).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    let has_tests = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.contains("#[test]\n")
    };
    sources.filter(has_tests).map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()).collect()
}

/// The files that a row names.
fn named(line: usize, cells: &Row) -> BTreeSet<String> {
    let names: Vec<&str> = cells[4].split('`').skip(1).step_by(2).collect();
    assert!(!names.is_empty(), "docs/pbx.md:{line} names no tests");
    let found: Vec<_> = names.iter().map(|name| files(&root().join(name))).collect();
    assert!(found.iter().all(|files| !files.is_empty()), "docs/pbx.md:{line}: there are no tests in one of {names:?}");
    found.into_iter().flatten().collect()
}

#[test]
fn every_test_in_a_real_program_has_its_row_and_back() {
    let mut run = BTreeSet::new();
    for (line, cells) in rows() {
        let files = named(line, &cells);
        if cells[3] == "not run" {
            let elsewhere = |file: &String| file.starts_with("tests/pbx/exchanges");
            assert!(files.iter().all(elsewhere), "docs/pbx.md:{line}: {files:?} runs something");
        } else {
            run.extend(files);
        }
    }
    let real = ["tests/field", "tests/pbx/kamailio", "tests/pbx/freeradius.rs"];
    let expected: BTreeSet<String> = real.iter().flat_map(|path| files(&root().join(path))).collect();
    assert_eq!(run, expected, "on the left what the table names");
}

#[test]
fn every_rule_that_the_table_names_has_a_test_of_its_name() {
    let mut seen = 0;
    for (line, cells) in rows() {
        let text: String =
            named(line, &cells).iter().map(|file| std::fs::read_to_string(root().join(file)).unwrap()).collect();
        let is_rule = |word: &&str| {
            word.strip_prefix(['C', 'T'])
                .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        };
        for rule in cells[2].split(|sign: char| !sign.is_ascii_alphanumeric()).filter(is_rule) {
            let name = format!("_{}", rule.to_ascii_lowercase());
            let is_test = |line: &str| line.starts_with("fn ") && line.split(['(', '_']).any(|part| part == &name[1..]);
            assert!(text.lines().any(is_test), "docs/pbx.md:{line}: no test of {:?} has {rule} in its name", cells[4]);
            seen += 1;
        }
    }
    assert!(seen >= 10, "the transfers name their rules");
}

#[test]
fn the_other_pages_name_the_same_programs() {
    let [index, readme] = ["config/pbx/README.md", "README.md"].map(|name| Page::read(name).text().replace('\n', " "));
    for (line, cells) in rows() {
        let mut words = cells[0].split(' ');
        let program = words.next().unwrap();
        assert!(readme.contains(program) && index.contains(program), "docs/pbx.md:{line}: {program}");
        let Some(version) = words.next() else {
            assert_eq!(cells[3], "not run", "docs/pbx.md:{line}: which {program} was it?");
            assert!(index.lines().any(|text| text.contains("never run: its requests")), "{program}");
            continue;
        };
        // As much of it as the index says: Asterisk 22, Kamailio 5.6 and 6.1, FreeRADIUS 3.2.
        let parts: Vec<&str> = version.split('.').collect();
        let known = [parts[0].to_owned(), parts[..2].join(".")];
        let tokens: Vec<&str> = index.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '.').collect();
        assert!(
            known.iter().any(|version| tokens.contains(&version.as_str())),
            "config/pbx/README.md: {program} {version}"
        );
        let page = Page::read(&format!("config/pbx/{}/README.md", program.to_ascii_lowercase()));
        assert!(
            known.iter().any(|version| page.text().contains(version.as_str())),
            "{}: {program} {version}",
            page.name
        );
    }
}
