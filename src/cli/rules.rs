//! The rules that an explanation names: a sentence for each step, and links to the rule book.

use std::path::Path;

use super::address::Address;
use super::screen::Screen;
use super::table::visible;

/// Where the package puts the rule book.
const PACKAGED: &str = "/usr/share/doc/usherd/rulebook.md";

/// The rules of a step, and the sentence that they come to. The dashboard says the same.
const SENTENCES: [(&str, &str); 14] = [
    ("C14", "Emergency calls are always allowed"),
    ("C1 C5 C12 C13 B4 B6 B7 C4", "Kind, direction and leg decide whether a seat is required"),
    ("D4", "The tenant must be known"),
    ("G1 G4 G5", "A known session is renewed, never counted twice"),
    ("G5", "A late message changes nothing"),
    ("G5 G8", "A message from before its node restarted changes nothing"),
    ("C18", "Lifelines are allowed in any state of the subscription"),
    ("J5 J6 J7", "New sessions require an active subscription"),
    ("L3", "A call to outside requires a free trunk line"),
    ("D2", "One seat is enough for all sessions of a subject"),
    ("D1 F6 F7", "A free seat is granted"),
    ("F3", "Lifelines and running sessions are admitted above the quota"),
    ("D3 F6 F7", "Without a free seat the request is denied"),
    ("limits", "The number of live sessions is limited"),
];

/// The lines of a step: its sentence with the codes behind, then what was found. Rules that only a newer daemon has
/// are codes behind what was found.
pub(super) fn lines(rules: &str, found: &str, book: Option<&str>) -> Vec<String> {
    let (codes, found) = (codes(rules, book), visible(found));
    match SENTENCES.iter().find(|(known, _)| *known == rules) {
        Some((_, sentence)) => vec![format!("{sentence}{codes}"), found],
        None => vec![format!("{found}{codes}")],
    }
}

/// The codes of rules in parentheses, each a link where there is a rule book; empty where no rule is named.
pub(super) fn codes(rules: &str, book: Option<&str>) -> String {
    let codes = rules.split(' ').filter(|word| is_code(word)).map(|code| match book {
        // OSC 8: the address, the text, the end. The rule book is plain text: the browser looks for the heading.
        Some(book) => format!("\u{1b}]8;;{book}#:~:text=%23%23%23%23%20{code}\u{1b}\\{code}\u{1b}]8;;\u{1b}\\"),
        None => code.to_owned(),
    });
    let codes = codes.collect::<Vec<_>>().join(" ");
    if codes.is_empty() { codes } else { format!(" ({codes})") }
}

/// A letter and a number. Nothing else that a daemon sends gets into a link.
fn is_code(word: &str) -> bool {
    let digits = word.strip_prefix(|letter: char| letter.is_ascii_uppercase()).unwrap_or_default();
    (1..=2).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// The address of the rule book: at the daemon that answered, or as a file of the package where it was asked by its
/// Unix socket. `None` where the terminal follows no links.
pub(super) fn book(from: &Address, screen: &Screen<'_>) -> Option<String> {
    match from {
        _ if !screen.links => None,
        Address::Tcp(host_port) => Some(format!("http://{host_port}/rulebook.md")),
        Address::Tls(host_port) => Some(format!("https://{host_port}/rulebook.md")),
        Address::Unix(_) => Path::new(PACKAGED).exists().then(|| format!("file://{PACKAGED}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen::Format;
    use super::*;

    #[test]
    fn codes_stand_behind_their_sentence() {
        let denied = "Without a free seat the request is denied (D3 F6 F7)";
        assert_eq!(lines("D3 F6 F7", "full: tenant", None), [denied, "full: tenant"]);
        assert_eq!(lines("limits", "full", None), ["The number of live sessions is limited", "full"]);
        assert_eq!(lines("D3 C14", "something new", None), ["something new (D3 C14)"]);
        assert_eq!(lines("D3\u{1b}]0;x C14", "a\u{1b}", None), ["a? (C14)"], "a daemon cannot steer the terminal");
    }

    #[test]
    fn a_terminal_gets_links() {
        let links = codes("D3 C14", Some("http://h:1/rulebook.md"));
        let link = |code: &str| {
            format!("\u{1b}]8;;http://h:1/rulebook.md#:~:text=%23%23%23%23%20{code}\u{1b}\\{code}\u{1b}]8;;\u{1b}\\")
        };
        assert_eq!(links, format!(" ({} {})", link("D3"), link("C14")));
    }

    #[test]
    fn links_are_for_terminals_alone() {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, Format::Table, true);
        let from = Address::Tcp("h:1".to_owned());
        assert_eq!(book(&from, &screen), None);
        screen.links = true;
        assert_eq!(book(&from, &screen).as_deref(), Some("http://h:1/rulebook.md"));
    }
}
