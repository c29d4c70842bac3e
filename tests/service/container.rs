//! The Containerfile, as far as it can be proved without an engine: what it copies is there, what it runs is understood,
//! and who runs it is nobody.

use std::path::Path;
use std::process::Command;

/// The instructions, continued lines joined: the word and the rest.
fn instructions() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/Containerfile")).unwrap();
    let text = text.replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

fn all(word: &str) -> Vec<String> {
    instructions().into_iter().filter(|(own, _)| own == word).map(|(_, rest)| rest).collect()
}

fn only(word: &str) -> String {
    let mut found = all(word);
    assert_eq!(found.len(), 1, "{word}: {found:?}");
    found.remove(0)
}

/// The words of an instruction in JSON form.
fn words(text: &str) -> Vec<String> {
    serde_json::from_str(&text[text.find('[').unwrap()..]).unwrap()
}

#[test]
fn what_it_copies_is_there_and_enough_to_build() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let from_here: Vec<String> = all("COPY").into_iter().filter(|copy| !copy.starts_with("--from")).collect();
    let sources: Vec<&str> = from_here
        .iter()
        .flat_map(|copy| {
            let words: Vec<&str> = copy.split_whitespace().collect();
            words[..words.len() - 1].to_vec()
        })
        .collect();
    for source in &sources {
        assert!(root.join(source).exists(), "COPY {source}: there is no such thing");
    }
    // Cargo looks at every target that the manifest names, and the program has its configuration and rule book in it.
    for needed in ["Cargo.toml", "Cargo.lock", "src", "crates", "benches", "config", "docs/rulebook.md"] {
        assert!(sources.contains(&needed), "the build needs {needed}");
    }
}

#[test]
fn its_images_are_unqualified_and_new_enough() {
    let arguments = all("ARG");
    for image in &arguments {
        let (_, image) = image.split_once('=').unwrap();
        assert!(!image.contains('/'), "{image} names a registry: that is for who builds it to choose");
    }
    let rust = arguments.iter().find_map(|argument| argument.strip_prefix("RUST_IMAGE=rust:")).unwrap();
    let minor = |version: &str| version.split('.').nth(1).unwrap().parse::<u32>().unwrap();
    let built_with = rust.split('-').next().unwrap();
    assert!(minor(built_with) >= minor(env!("CARGO_PKG_RUST_VERSION")), "{built_with} cannot build this");
    // What is linked in one must find its libraries in the other.
    let base = arguments.iter().find_map(|argument| argument.strip_prefix("BASE_IMAGE=debian:")).unwrap();
    assert_eq!(rust.split('-').nth(1), base.split('-').next(), "{rust} and {base} are not of one Debian");
}

#[test]
fn nobody_runs_it_and_it_ends_when_it_is_told() {
    let user = only("USER");
    assert!(user.split(':').all(|number| number.parse::<u32>().is_ok_and(|number| number > 0)), "{user}");
    assert_eq!(only("STOPSIGNAL"), "SIGTERM");
    let state = only("ENV");
    assert_eq!(state.strip_prefix("STATE_DIRECTORY="), Some(only("VOLUME").as_str()));
}

#[test]
fn its_commands_are_understood_by_the_program() {
    let entry = words(&only("ENTRYPOINT"));
    let health = words(&only("HEALTHCHECK"));
    assert_eq!((entry.as_slice(), health[0].as_str()), (["usherd".to_owned()].as_slice(), "usherd"));
    for arguments in [&words(&only("CMD"))[..], &health[1..]] {
        let output = Command::new(env!("CARGO_BIN_EXE_usherd")).args(arguments).arg("--help").output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
