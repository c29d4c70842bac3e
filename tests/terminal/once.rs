//! The view printed once, for scripts and tickets, and no live view without a terminal.

use usherd_testkit::process::{told, usherd};

use super::Office;

/// Runs it without a terminal; the exit code, and what was printed.
fn printed(office: &Office, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = usherd(&["top"]);
    command.args(arguments).args(["--addr", &office.address()]);
    told(command.env_remove("LC_ALL").env("LANG", "C.UTF-8").envs(variables.iter().copied()))
}

#[test]
fn it_is_printed_as_plain_text() {
    let mut office = Office::open(&[("acme", 2), ("lindenhof-bau", 10)]);
    office.acquire("acme", "anna");
    let (code, text) = printed(&office, &["--once"], &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80) && text.lines().count() <= 24, "{text}");
    assert!(!text.contains('\u{1b}') && text.contains("1 of 12 held") && text.contains("███···  50%"), "{text}");
    let place = |text: &str, part: &str| text.find(part).unwrap_or_else(|| panic!("no {part} in {text}"));
    assert!(place(&text, "  acme") < place(&text, "  lindenhof-bau"));
    let (_, text) = printed(&office, &["--once", "--filter", "linden", "--sort", "name", "--size", "120x10"], &[]);
    assert!(text.contains("lindenhof-bau") && !text.contains("  acme") && text.contains(" idle "), "{text}");
    let (_, text) = printed(&office, &["--once"], &[("LANG", "C")]);
    assert!(text.is_ascii() && text.contains("###...  50%"), "{text}");
    let (code, text) = printed(&office, &["--once", "--tenant", "acme"], &[]);
    assert!(code == Some(0) && text.contains("desktop anna-pc") && text.contains("1 of 2 held"), "{text}");
    let (code, text) = printed(&office, &["--once", "--tenant", "nobody"], &[]);
    assert!(code == Some(1) && text.contains("nobody"), "{text}");
    office.usherd.take().unwrap().kill();
    let (code, text) = printed(&office, &["--once"], &[]);
    assert!(code == Some(1) && text.contains("cannot be reached"), "{text}");
}

#[test]
fn without_a_terminal_it_says_so() {
    let office = Office::open(&[("acme", 2)]);
    let (code, text) = printed(&office, &[], &[]);
    assert!(code == Some(2) && text.contains("no terminal") && text.contains("--once"), "{text}");
    for wrong in [&["--interval", "0s"][..], &["--interval", "2m"], &["--sort", "age"], &["--size", "80x24"]] {
        let (code, text) = printed(&office, wrong, &[]);
        assert_eq!(code, Some(2), "{wrong:?}: {text}");
    }
}
