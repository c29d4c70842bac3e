//! Faults of `agent.toml`: the place, the cause, and how to fix it.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use usherd_contract::file::{Place, Source};

/// Longest stretch of a line that is shown, characters.
const SHOWN_MAX: usize = 120;

/// One fault of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The fault, in words.
    pub message: String,
    /// How to fix it.
    pub help: String,
    /// The line at fault; empty where no line is.
    excerpt: String,
    marked: usize,
}

impl Fault {
    /// A fault of a file as a whole.
    pub fn of_file(file: &Path, message: impl Into<String>, help: &str) -> Self {
        Fault::at(&Source::new(file, String::new()), 0..0, message, help)
    }

    /// A fault of a stretch of a file, in bytes.
    pub fn at(source: &Source, span: Range<usize>, message: impl Into<String>, help: &str) -> Self {
        let Place { line, column, line_span } = source.place(span.start);
        let shown = source.text()[line_span.clone()].chars().take(SHOWN_MAX);
        let marked = source.text().get(source.boundary(span.start)..span.end.min(line_span.end));
        Fault {
            file: source.name().to_owned(),
            line,
            column,
            message: message.into(),
            help: help.to_owned(),
            excerpt: if column <= SHOWN_MAX { shown.collect() } else { String::new() },
            marked: marked.map_or(1, |part| part.chars().count().max(1)),
        }
    }

    /// A fault of the key at this path, as `asterisk.presence[1].kind`.
    pub fn of_key(source: &Source, path: &str, message: impl Into<String>, help: &str) -> Self {
        Fault::at(source, span_of(source.text(), path).unwrap_or(0..0), message, help)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        writeln!(f, "  --> {}:{}:{}", self.file, self.line, self.column)?;
        if !self.excerpt.trim().is_empty() {
            let number = self.line.to_string();
            let shown: String = self.excerpt.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let room = SHOWN_MAX.saturating_sub(self.column).max(1);
            let marks = "^".repeat(self.marked.min(room));
            writeln!(f, "{number} | {shown}")?;
            writeln!(f, "{:width$} | {:before$}{marks}", "", "", width = number.len(), before = self.column - 1)?;
        }
        if !self.help.is_empty() {
            writeln!(f, "  help: {}", self.help)?;
        }
        Ok(())
    }
}

/// Where a value stands: segments with a dot between, tables of an array by their number in brackets.
fn span_of(text: &str, path: &str) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    let mut span = document.span();
    let mut value = DeValue::Table(document.into_inner());
    for segment in path.split('.') {
        let (key, number) = match segment.split_once('[') {
            Some((key, rest)) => (key, rest.strip_suffix(']')?.parse::<usize>().ok()),
            None => (segment, None),
        };
        let DeValue::Table(mut table) = value else { return Some(span) };
        // A key that is not there is missing in what is around it.
        let Some(inner) = table.remove(key) else { return Some(span) };
        span = inner.span();
        value = inner.into_inner();
        if let Some(number) = number {
            let DeValue::Array(items) = value else { return Some(span) };
            let Some(item) = items.into_iter().nth(number) else { return Some(span) };
            span = item.span();
            value = item.into_inner();
        }
    }
    Some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new(Path::new("agent.toml"), text.to_owned())
    }

    const TEXT: &str = "# first\n[daemon]\n\"ädress\" = \"x\"\n[[asterisk.presence]]\nkind = \"a\"\n[[asterisk.presence]]\nkind = \"b\"\n";

    #[test]
    fn a_key_is_found_by_its_path() {
        for (path, place) in [
            ("asterisk.presence[1].kind", (7, 8)),
            ("asterisk.presence[0].kind", (5, 8)),
            ("daemon.address", (2, 1)),
            ("nothing", (1, 1)),
        ] {
            let fault = Fault::of_key(&source(TEXT), path, "wrong", "");
            assert_eq!((fault.line, fault.column), place, "{path}");
        }
    }

    #[test]
    fn a_fault_is_shown_with_its_line() {
        let fault = Fault::of_key(&source(TEXT), "asterisk.presence[1].kind", "`b` is no kind", "write desktop");
        let shown = fault.to_string();
        assert_eq!(
            shown,
            "error: `b` is no kind\n  --> agent.toml:7:8\n7 | kind = \"b\"\n  |        ^^^\n  help: write desktop\n"
        );
    }

    #[test]
    fn any_span_of_any_text_can_be_shown() {
        for text in ["", "ä", "a\nb", TEXT] {
            let source = source(text);
            for start in 0..text.len() + 2 {
                for end in start..text.len() + 2 {
                    let _ = Fault::at(&source, start..end, "m", "h").to_string();
                }
            }
        }
    }
}
