//! Codes of rules, in the source, in tests, in answers and on pages, lead to the rule book or to the invariants.

use std::collections::{BTreeMap, BTreeSet};

use usherd_testkit::page::{self, Page, root};

/// A code such as `C14`, `I8` or `T174`, where a word is one.
fn code(word: &str) -> Option<&str> {
    let digits = word.strip_prefix(|letter: char| letter.is_ascii_uppercase())?;
    let has_its_length = if word.starts_with('T') { digits.len() == 3 } else { (1..=2).contains(&digits.len()) };
    (has_its_length && digits.bytes().all(|digit| digit.is_ascii_digit())).then_some(word)
}

/// Rules and invariants are headings; scenarios, and what the sources disagree about, are rows.
fn known() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for name in ["docs/rulebook.md", "docs/reliability.md"] {
        for (number, line) in Page::read(name).prose() {
            let heading = line.strip_prefix("#### ").and_then(|rest| rest.split(' ').next());
            let row = line.strip_prefix("| ").and_then(|rest| rest.split(' ').next());
            let row = row.filter(|word| word.starts_with(['T', 'X']));
            if let Some(code) = heading.or(row).and_then(code) {
                assert!(known.insert(code.to_owned()), "{name}:{number}: {code} is there twice");
            }
        }
    }
    known
}

/// The lines of the Rust files below these folders, each with its place.
fn lines(folders: &[&str]) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let files = folders.iter().flat_map(|folder| page::files(&root().join(folder)));
    for file in files.filter(|file| file.extension().is_some_and(|end| end == "rs")) {
        let name = file.strip_prefix(root()).unwrap().display();
        let text = std::fs::read_to_string(&file).unwrap();
        lines.extend(text.lines().enumerate().map(|(at, line)| (format!("{name}:{}", at + 1), line.to_owned())));
    }
    lines
}

/// Words of a text that may be codes; what hangs on a sign that is no punctuation, as `%D0` or `HTTP/2`, is none.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let between = |sign: char| sign.is_whitespace() || ",;:()[]`'\"?!".contains(sign);
    text.split(between).flat_map(|word| word.trim_end_matches('.').split(['-', '–'])).filter_map(code)
}

/// The codes that a line of source names: in a comment, as a whole literal, at the end of a test's name.
fn named(line: &str) -> Vec<String> {
    let mut all: Vec<String> = match line.split_once("//") {
        Some((before, comment)) if !before.ends_with(':') => words(comment).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let literals = line.split('"').skip(1).step_by(2).filter_map(code);
    all.extend(literals.map(str::to_owned));
    if let Some((name, _)) = line.trim_start().strip_prefix("fn ").and_then(|rest| rest.split_once('(')) {
        let ends = name.rsplit('_').map(str::to_ascii_uppercase);
        all.extend(ends.take_while(|word| code(word).is_some()));
    }
    all
}

#[test]
fn every_rule_code_is_in_the_rule_book() {
    let known = known();
    assert!(["A1", "C14", "I8", "T190", "V14", "X15"].iter().all(|code| known.contains(*code)), "{known:?}");
    let mut used: BTreeMap<String, String> = BTreeMap::new();
    for (place, line) in lines(&["src", "crates", "tests", "benches"]) {
        for code in named(&line) {
            used.entry(code).or_insert_with(|| place.clone());
        }
    }
    for page in page::all() {
        for (number, line) in page.prose() {
            for code in words(line) {
                used.entry(code.to_owned()).or_insert_with(|| format!("{}:{number}", page.name));
            }
        }
    }
    assert!(used.len() > 200, "{} codes", used.len());
    let lost: Vec<_> = used.iter().filter(|(code, _)| !known.contains(*code)).collect();
    assert!(lost.is_empty(), "in no rule book: {lost:?}");
}

/// The pairs of two literals, between signs of a kind, in these lines of a file: rules and their sentence.
fn sentences(name: &str, begins: &str, quote: char) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join(name)).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with(begins)).skip(1);
    lines
        .take_while(|line| line.starts_with(' '))
        .map(|line| {
            let words: Vec<&str> = line.split(quote).collect();
            assert_eq!(words.len(), 5, "{name}: {line}");
            (words[1].to_owned(), words[3].to_owned())
        })
        .collect()
}

#[test]
fn every_step_of_an_explanation_is_a_sentence_with_rules_behind() {
    let told = sentences("src/cli/rules.rs", "const SENTENCES", '"');
    assert_eq!(told, sentences("src/daemon/dashboard/dashboard.js", "const RULES", '\''), "command line, dashboard");
    let source = std::fs::read_to_string(root().join("crates/engine/src/explain.rs")).unwrap();
    let steps = source.split("trace.step(").skip(1);
    let named: BTreeSet<String> = steps.map(|step| step.split('"').nth(1).unwrap().to_owned()).collect();
    assert_eq!(named, told.into_keys().collect(), "what the engine names (left) has a sentence");
    let known = known();
    for word in named.iter().flat_map(|rules| rules.split(' ')).filter(|word| *word != "limits") {
        assert!(known.contains(word), "{word} is no heading of the rule book");
    }
}

#[test]
fn no_comment_is_a_code_alone() {
    let mut before = String::new();
    for (place, line) in lines(&["src", "crates"]) {
        let comment = line.trim_start().strip_prefix("/// ").unwrap_or_default();
        let is_bare = !comment.is_empty() && words(comment).count() == comment.split_whitespace().count();
        // The end of a sentence may stand in a line of its own.
        let begins = !before.trim_start().starts_with("/// ");
        assert!(!(is_bare && begins), "{place}: say what it is, the code behind it");
        before = line;
    }
}

#[test]
fn codes_are_told_from_other_words() {
    let found = |text: &str| words(text).collect::<Vec<_>>().join(" ");
    assert_eq!(found("always allowed (C1, C14): T096-T098."), "C1 C14 T096 T098");
    assert_eq!(found("b%D0&to=112 HTTP/2 U+200B x86 X509 T38 A1B2 1E3"), "");
    assert_eq!(named("    fn a_reduction_t096_t097() {"), ["T097", "T096"]);
    assert_eq!(named("step(\"C14\", x); // as I8 says"), ["I8", "C14"]);
}
