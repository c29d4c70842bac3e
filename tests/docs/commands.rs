//! Every `sh` block of a page runs against a fresh daemon and says what the page says it does.

use usherd_testkit::page::{self, Block, Page};
use usherd_testkit::process::{told, usherd};

use crate::elsewhere;
use crate::shell::Shell;

/// The words that may stand behind a fence, and how this test treats each.
const KNOWN: [(&str, &str); 10] = [
    ("sh", "is run"),
    ("sh host", "needs a machine of its own: see tests/service, and elsewhere.rs"),
    ("text", "is what the block before said"),
    ("json", "is what the block before said"),
    ("", "is what the block before said"),
    ("story", "is put to the engine: see rules.rs"),
    ("toml", "is checked as usherd.toml"),
    ("mermaid", "is a picture; that of the layers is held by the house test"),
    ("console", "builds and tests, on pages for who works on it, and is not run"),
    ("toml tenant", "is checked as a tenant's file"),
];

/// Pages that are not to be found do not run: each has its test here.
const PAGES: [&str; 8] = [
    "README.md",
    "docs/README.md",
    "docs/cluster.md",
    "docs/operating.md",
    "docs/pbx.md",
    "docs/rules.md",
    "docs/threat-model.md",
    "docs/troubleshooting.md",
];

/// Programs that the commands need, besides those of every Debian, and their packages.
const PROGRAMS: [(&str, &str); 4] =
    [("curl", "curl"), ("redis-cli", "redis-tools"), ("openssl", "openssl"), ("etcd", "etcd-server")];

fn follow(name: &str) {
    for (program, package) in PROGRAMS {
        let there = std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|path| path.join(program).exists());
        assert!(there, "{program} is missing: apt-get install {package}");
    }
    let page = Page::read(name);
    let blocks = page.blocks();
    let commands: Vec<&Block> = blocks.iter().filter(|block| block.info == "sh").collect();
    let place = |block: &Block| format!("{name}:{}", block.line);
    let mut answers: Vec<String> = Vec::new();
    // Where a page starts the daemon itself, it goes on with a fresh one.
    for part in commands.chunk_by(|_, next| !next.body.starts_with("cargo run")) {
        let bodies: Vec<String> = part.iter().map(|block| elsewhere::without_builds(&block.body)).collect();
        let ran = Shell::open().run(&bodies.iter().map(String::as_str).collect::<Vec<_>>());
        if !ran.good {
            let at = ran.said.len().saturating_sub(1);
            panic!("{} failed:\n{}\nit said:\n{}", place(part[at]), part[at].body, ran.said[at]);
        }
        answers.extend(ran.said);
    }
    let mut wrong = Vec::new();
    for (command, said) in commands.iter().zip(&answers) {
        let Some(expected) = answer_of(&blocks, command) else { continue };
        let (want, got) = (without_ids(&expected.body), without_ids(said));
        if !agrees(&want, &got) {
            wrong.push(format!("{}:\n{}\nsays:\n{got}\nand the page says:\n{want}", place(command), command.body));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
}

/// The block that says what another one answers.
fn answer_of<'a>(blocks: &'a [Block], command: &Block) -> Option<&'a Block> {
    let at = blocks.iter().position(|block| block.line == command.line).unwrap();
    blocks.get(at + 1).filter(|block| ["text", "json", ""].contains(&block.info.as_str()))
}

/// Decision ids are new each time, also where a page shows one.
fn without_ids(text: &str) -> String {
    let mut parts = text.split("\"decision_id\":\"");
    let mut kept = parts.next().unwrap().to_owned();
    for part in parts {
        kept += part.split_once('"').map_or(part, |(_, rest)| rest);
    }
    kept
}

/// `…` stands for anything in a line, and alone in a line for any lines.
fn agrees(want: &str, got: &str) -> bool {
    let lines = |text: &str| text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    lines_agree(&lines(want), &lines(got))
}

fn lines_agree(want: &[String], got: &[String]) -> bool {
    match want.split_first() {
        None => got.is_empty(),
        Some((line, rest)) if line == "…" => (0..=got.len()).any(|skipped| lines_agree(rest, &got[skipped..])),
        Some((line, rest)) => {
            got.split_first().is_some_and(|(first, others)| line_agrees(line, first) && lines_agree(rest, others))
        }
    }
}

fn line_agrees(want: &str, got: &str) -> bool {
    match want.split_once('…') {
        None => want == got,
        Some((before, rest)) => got.strip_prefix(before).is_some_and(|got| {
            let places = got.char_indices().map(|(at, _)| at).chain([got.len()]);
            places.into_iter().any(|at| line_agrees(rest, &got[at..]))
        }),
    }
}

#[test]
fn the_commands_of_the_readme() {
    follow("README.md");
}

#[test]
fn the_commands_of_the_index() {
    follow("docs/README.md");
}

#[test]
fn the_commands_of_the_cluster() {
    follow("docs/cluster.md");
}

#[test]
fn the_commands_of_operating() {
    follow("docs/operating.md");
}

#[test]
fn the_commands_of_pbx() {
    follow("docs/pbx.md");
}

#[test]
fn the_commands_of_rules() {
    follow("docs/rules.md");
}

#[test]
fn the_commands_of_the_threat_model() {
    follow("docs/threat-model.md");
}

#[test]
fn the_commands_of_troubleshooting() {
    follow("docs/troubleshooting.md");
}

#[test]
fn nothing_behind_a_fence_is_passed_over() {
    let is_run = |page: &Page| page.blocks().iter().any(|block| block.info == "sh");
    let found: Vec<String> = page::all().iter().filter(|page| is_run(page)).map(|page| page.name.clone()).collect();
    assert_eq!(found, PAGES, "each page with commands has a test of them here");
    for page in page::all() {
        let mut before = String::new();
        for block in page.blocks() {
            let known = KNOWN.iter().any(|(info, _)| *info == block.info);
            assert!(known, "{}:{}: nobody knows what to do with `{}`", page.name, block.line, block.info);
            let works_on_it = page::FOR_CONTRIBUTORS.contains(&page.name.as_str());
            assert!(block.info != "console" || works_on_it, "{}:{} is not run", page.name, block.line);
            if ["text", "json", ""].contains(&block.info.as_str()) {
                assert_eq!(before, "sh", "{}:{} is the answer to nothing that is run", page.name, block.line);
            }
            before = block.info;
        }
    }
}

#[test]
fn a_wildcard_stands_for_anything_and_nothing_else_does() {
    for (want, got, agree) in [
        ("a\nb", "a\nb\n", true),
        ("a … c", "a b b c", true),
        ("a … c", "a b b d", false),
        ("a\n…\nz", "a\nb\nc\nz", true),
        ("…", "", true),
        ("a", "a\nb", false),
        ("a\n…", "b\na", false),
    ] {
        assert_eq!(agrees(want, got), agree, "{want:?} and {got:?}");
    }
}

#[test]
fn configurations_in_the_pages_are_accepted() {
    for page in page::all() {
        for block in page.blocks().iter().filter(|block| block.info.starts_with("toml")) {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
            let main = folder.path().join("usherd.toml");
            let tenant = block.info == "toml tenant";
            let name = if tenant { "tenants.d/acme.toml" } else { "usherd.toml" };
            std::fs::write(&main, "").unwrap();
            std::fs::write(folder.path().join(name), &block.body).unwrap();
            let (code, said) = told(usherd(&["config", "check"]).arg(&main));
            assert_eq!(code, Some(0), "{}:{}: {said}", page.name, block.line);
        }
    }
}
