//! Every path that a file names: those of `use`, groups taken apart, and those that stand in the text.

use super::lexer::{Token, behind_group};

/// One path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Its words, without `::`; a glob ends in `*`.
    pub segments: Vec<String>,
    /// The name that a `use` gives it, where another.
    pub alias: Option<String>,
    /// Line, from 1.
    pub line: usize,
    /// The way in which it is named.
    pub how: How,
    /// Modules of the same file around it.
    pub inline_depth: usize,
    /// It begins with `::`.
    pub rooted: bool,
}

/// How a path is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// By `use`.
    Import,
    /// By `pub use`, in any width.
    Export,
    /// In the text.
    Text,
}

impl Path {
    /// The name by which the file knows it afterwards.
    pub(crate) fn name(&self) -> &str {
        let last = self.segments.last().map_or("", String::as_str);
        let last = if last == "self" { self.segments.iter().rev().nth(1).map_or("", String::as_str) } else { last };
        self.alias.as_deref().unwrap_or(last)
    }
}

/// All paths of a file, and the names that it defines.
pub(crate) fn paths(tokens: &[Token]) -> Vec<Path> {
    let mut found = Vec::new();
    let mut inline_ends: Vec<usize> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        inline_ends.retain(|end| *end > at);
        let word = |ahead: usize| tokens.get(at + ahead).map_or("", |token| token.text.as_str());
        if word(0) == "mod" && word(2) == "{" {
            inline_ends.push(behind_group(tokens, at + 2));
            at += 3;
        } else if word(0) == "use" && word(1) != "<" {
            let how = if is_public(tokens, at) { How::Export } else { How::Import };
            let mut tree = Tree { tokens, at: at + 1, how, inline_depth: inline_ends.len(), found: &mut found };
            tree.read(&[], false);
            at = tree.at;
        } else if word(0) == "::" || (word(1) == "::" && is_word(word(0))) {
            let (path, behind) = text_path(tokens, at, inline_ends.len());
            found.extend(path);
            at = behind;
        } else {
            at += 1;
        }
    }
    found
}

fn is_public(tokens: &[Token], at: usize) -> bool {
    let before = &tokens[..at];
    match before.last().map(|token| token.text.as_str()) {
        Some("pub") => true,
        Some(")") => before.iter().rev().take(8).any(|token| token.text == "pub"),
        _ => false,
    }
}

/// `a::b::c` in the text; `Type<A>::f` is not one, and neither is the end of `x.y::<A>`.
fn text_path(tokens: &[Token], mut at: usize, inline_depth: usize) -> (Option<Path>, usize) {
    let line = tokens[at].line;
    let rooted = tokens[at].text == "::";
    // Behind a type it goes on with that: `Vec<u8>::new`, `[u8]::len`. An arrow ends in the same sign.
    let sign = |back: usize| at.checked_sub(back).map_or("", |before| tokens[before].text.as_str());
    let goes_on = rooted && matches!(sign(1), ">" | "]" | ")") && !(sign(1) == ">" && matches!(sign(2), "-" | "="));
    if rooted {
        at += 1;
    }
    let mut segments = Vec::new();
    while let Some(token) = tokens.get(at).filter(|token| is_word(&token.text)) {
        segments.push(token.text.clone());
        at += 1;
        match tokens.get(at) {
            Some(token) if token.text == "::" => at += 1,
            _ => break,
        }
    }
    let whole = !goes_on && segments.len() > usize::from(!rooted);
    let path = Path { segments, alias: None, line, how: How::Text, inline_depth, rooted };
    (whole.then_some(path), at)
}

fn is_word(text: &str) -> bool {
    text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
}

struct Tree<'a> {
    tokens: &'a [Token],
    at: usize,
    how: How,
    inline_depth: usize,
    found: &'a mut Vec<Path>,
}

impl Tree<'_> {
    fn text(&self) -> &str {
        self.tokens.get(self.at).map_or("", |token| token.text.as_str())
    }

    /// Reads one tree behind a prefix, up to the `,`, `}` or `;` that ends it.
    fn read(&mut self, prefix: &[String], rooted: bool) {
        let mut segments = prefix.to_vec();
        let mut rooted = rooted;
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut alias = None;
        loop {
            match self.text() {
                "::" => {
                    rooted |= segments.is_empty();
                    self.at += 1;
                }
                "{" => {
                    self.at += 1;
                    while !matches!(self.text(), "}" | "") {
                        self.read(&segments, rooted);
                        if self.text() == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "as" => {
                    self.at += 1;
                    alias = Some(self.text().to_owned());
                    self.at += 1;
                }
                "," | "}" | ";" | "" => break,
                word => {
                    segments.push(word.to_owned());
                    self.at += 1;
                }
            }
        }
        if segments.len() > prefix.len() {
            let (how, inline_depth) = (self.how, self.inline_depth);
            self.found.push(Path { segments, alias, line, how, inline_depth, rooted });
        }
    }
}

/// The names of the items that a file defines, those inside of other items too.
pub(crate) fn definitions(tokens: &[Token]) -> Vec<String> {
    const KEYWORDS: [&str; 9] = ["struct", "enum", "trait", "type", "fn", "const", "static", "union", "macro_rules"];
    let mut names = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if KEYWORDS.contains(&token.text.as_str()) {
            let next = tokens[at + 1..].iter().find(|token| is_word(&token.text) && token.text != "mut");
            names.extend(next.map(|token| token.text.clone()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokens;
    use super::*;

    fn told(source: &str) -> Vec<String> {
        paths(&tokens(source)).iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn groups_are_taken_apart() {
        assert_eq!(
            told("use a::{b, c::{self, d as e}, f::*}; use super::x; use ::g::h;"),
            ["a::b", "a::c::self", "a::c::d", "a::f::*", "super::x", "g::h"]
        );
        let all = paths(&tokens("use a::{b::self, d as e};"));
        assert_eq!(all.iter().map(Path::name).collect::<Vec<_>>(), ["b", "e"]);
    }

    #[test]
    fn what_a_type_captures_is_no_import() {
        assert_eq!(told("fn f() -> impl F + use<'a, Self> { a::b } use c::d;"), ["a::b", "c::d"]);
    }

    #[test]
    fn an_export_is_told_apart() {
        let how = |source: &str| paths(&tokens(source)).first().map(|path| path.how);
        assert_eq!(how("use a::b;"), Some(How::Import));
        assert_eq!(how("pub use a::b;"), Some(How::Export));
        assert_eq!(how("pub(crate) use a::b;"), Some(How::Export));
        assert_eq!(how("pub(in crate::x) use a::b;"), Some(How::Text), "the place of the width is a path of its own");
    }

    #[test]
    fn paths_stand_in_the_text_too() {
        assert_eq!(
            told(
                "fn f(x: std::fs::File) -> a::B { crate::c::d::<u8>(); ::e::f(); m!(g::h); match x { X => i::j, _ => ::k::l } }"
            ),
            ["std::fs::File", "a::B", "crate::c::d", "e::f", "g::h", "i::j", "k::l"]
        );
        assert_eq!(told("Vec::<u8>::new(); x.collect::<Vec<_>>(); <T as a::B>::c()"), ["a::B"]);
    }

    #[test]
    fn modules_of_the_same_file_are_counted() {
        let all = paths(&tokens("mod m { use super::a; mod n { use super::b; } } use super::c;"));
        assert_eq!(all.iter().map(|path| path.inline_depth).collect::<Vec<_>>(), [1, 2, 0]);
    }

    #[test]
    fn items_have_names() {
        let names =
            definitions(&tokens("pub struct A; impl A { const fn b() {} } static mut C: u8 = 0; macro_rules! d {}"));
        assert_eq!(names, ["A", "fn", "b", "C", "d"]);
    }
}
