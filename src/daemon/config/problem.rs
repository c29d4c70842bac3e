//! Problems of a configuration: what, where, and how to fix it, for people and for machines.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::{Serialize, Serializer};
use usherd_contract::file::Source;

use super::words::{ProblemCode, Severity};
use crate::answers::config::ConfigProblem;
pub use crate::answers::config::{PROBLEMS_MAX, Related};

/// Longest line that is shown of a file, in bytes; a longer one is cut around the fault.
const LINE_BYTES_MAX: usize = 200;
/// How secrets of webhooks begin: a line with one is not shown, whatever is wrong with it.
const SECRET_MARK: &str = "whsec_";

/// One fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The severity, which says if the configuration is rejected for it.
    pub severity: Severity,
    /// The kind of fault.
    pub code: ProblemCode,
    /// The file, as it was opened.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, as in `policy.downgrade` or `change[0].seats`; empty where no key is at fault.
    pub key_path: String,
    /// The fault, in words.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
    /// Where the other half of a contradiction stands.
    pub related: Option<Related>,
    excerpt: Option<Excerpt>,
}

/// The line at fault, and the bytes of it that are marked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    text: String,
    marked: Range<usize>,
    label: String,
}

impl Problem {
    /// A fault of a stretch of a file; `span` is in bytes.
    pub(crate) fn at(source: &Source, span: &Range<usize>, key_path: &str, message: impl Into<String>) -> Self {
        let place = source.place(span.start);
        Problem {
            severity: Severity::Error,
            code: ProblemCode::Invalid,
            file: source.name().to_owned(),
            line: place.line,
            column: place.column,
            key_path: key_path.to_owned(),
            message: message.into(),
            help: None,
            related: None,
            excerpt: (!source.text()[place.line_span.clone()].contains(SECRET_MARK))
                .then(|| excerpt(source, &place.line_span, span)),
        }
    }

    /// Shows nothing of the line: something in it may be secret.
    #[must_use]
    pub(crate) fn without_excerpt(mut self) -> Self {
        self.excerpt = None;
        self
    }

    /// A fault of a file as a whole: it is missing, unreadable, too large, wrongly named.
    pub(crate) fn of_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Problem {
            severity: Severity::Error,
            code: ProblemCode::Invalid,
            file: file.into(),
            line: 1,
            column: 1,
            key_path: String::new(),
            message: message.into(),
            help: None,
            related: None,
            excerpt: None,
        }
    }

    /// Says what kind of fault it is.
    #[must_use]
    pub(crate) fn code(mut self, code: ProblemCode) -> Self {
        self.code = code;
        self
    }

    /// Makes it a warning.
    #[must_use]
    pub(crate) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Makes it a note.
    #[must_use]
    pub(crate) fn note(mut self) -> Self {
        self.severity = Severity::Note;
        self
    }

    /// Adds how to fix it.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the few words that stand beside the marked place.
    #[must_use]
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        if let Some(excerpt) = &mut self.excerpt {
            excerpt.label = label.into();
        }
        self
    }

    /// Adds where the other half of a contradiction stands.
    #[must_use]
    pub(crate) fn related(mut self, file: &str, line: usize, what: impl Into<String>) -> Self {
        self.related = Some(Related { file: file.to_owned(), line, what: what.into() });
        self
    }

    /// The fault as a compiler would show it, without a newline at the end.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let title = level.primary_title(self.message.as_str()).id(self.code.as_str());
        let mut groups = vec![match &self.excerpt {
            Some(excerpt) => title.element(
                Snippet::source(excerpt.text.as_str())
                    .line_start(self.line)
                    .path(self.file.as_str())
                    .annotation(AnnotationKind::Primary.span(excerpt.marked.clone()).label(excerpt.label.as_str())),
            ),
            None => Group::with_title(title)
                .element(annotate_snippets::Origin::path(self.file.as_str()).line(self.line).char_column(self.column)),
        }];
        let related = self.related.as_ref().map(|r| format!("{}, see {}:{}", r.what, r.file, r.line));
        if let Some(related) = &related {
            groups.push(Group::with_title(Level::NOTE.secondary_title(related.as_str())));
        }
        if let Some(help) = &self.help {
            groups.push(Group::with_title(Level::HELP.secondary_title(help.as_str())));
        }
        renderer.decor_style(DecorStyle::Ascii).render(&groups)
    }
}

impl From<&Problem> for ConfigProblem {
    fn from(problem: &Problem) -> Self {
        ConfigProblem {
            severity: problem.severity.into(),
            code: problem.code.into(),
            file: problem.file.clone(),
            line: problem.line,
            column: problem.column,
            key_path: problem.key_path.clone(),
            message: problem.message.clone(),
            help: problem.help.clone(),
            related: problem.related.clone(),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// As answers tell it.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ConfigProblem::from(self).serialize(serializer)
    }
}

/// All faults as a compiler would show them, with the number of errors, or of warnings, at the end.
pub fn render(problems: &[Problem], colour: bool) -> String {
    let mut text = String::new();
    for problem in problems {
        text.push_str(&problem.render(colour));
        text.push_str("\n\n");
    }
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    text.push_str(&match (errors, problems.len()) {
        (0, 1) => "1 warning\n".to_owned(),
        (0, warnings) => format!("{warnings} warnings\n"),
        (1, _) => "1 error found, nothing was changed\n".to_owned(),
        (errors, _) => format!("{errors} errors found, nothing was changed\n"),
    });
    text
}

/// The line around a fault, cut where it is very long, without what a terminal would obey.
fn excerpt(source: &Source, line: &Range<usize>, span: &Range<usize>) -> Excerpt {
    let text = source.text();
    let start = span.start.clamp(line.start, line.end);
    let end = span.end.clamp(start, line.end);
    let mut from = line.start;
    let mut to = line.end;
    if to - from > LINE_BYTES_MAX {
        from = source.boundary(start.saturating_sub(LINE_BYTES_MAX / 2).max(line.start));
        to = source.boundary((start + LINE_BYTES_MAX / 2).min(line.end));
    }
    let obeyed = |c: char| c.is_control() && c != '\t';
    let shown = text.get(from..to).unwrap_or_default();
    let shown: String = shown.chars().map(|c| if obeyed(c) { '?' } else { c }).collect();
    let marked = (start - from).min(shown.len())..(end.min(to) - from).min(shown.len());
    Excerpt { marked: on_boundaries(&shown, marked), text: shown, label: String::new() }
}

/// Spans come from parsers, and a fault may stand within a character: the marks must not.
fn on_boundaries(text: &str, mut marked: Range<usize>) -> Range<usize> {
    while !text.is_char_boundary(marked.start) {
        marked.start -= 1;
    }
    while !text.is_char_boundary(marked.end) {
        marked.end += 1;
    }
    marked
}

/// Problems as they are found, up to [`PROBLEMS_MAX`].
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Problems {
    found: Vec<Problem>,
    more: usize,
}

impl Problems {
    pub(crate) fn push(&mut self, problem: Problem) {
        if self.found.len() + 1 < PROBLEMS_MAX {
            self.found.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// Adds those of another reading.
    pub(crate) fn append(&mut self, others: Problems) {
        others.found.into_iter().for_each(|problem| self.push(problem));
        self.more += others.more;
    }

    pub(crate) fn len(&self) -> usize {
        self.found.len() + self.more
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them by file and line; a last one counts what was left out.
    pub(crate) fn into_vec(self) -> Vec<Problem> {
        let mut found = self.found;
        found.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        if self.more > 0
            && let Some(last) = found.last().cloned()
        {
            let message = format!("{} more {}s are not shown", self.more, last.severity.as_str());
            let more = Problem::of_file(last.file, message).help("fix those above and check again");
            found.push(Problem { severity: last.severity, ..more });
        }
        found
    }
}
