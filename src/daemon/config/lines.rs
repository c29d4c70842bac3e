//! A configuration text with its name, its lines and its columns.

use std::ops::Range;
use std::path::Path;

/// A text and its lines.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    name: String,
    text: String,
    /// Where each line begins.
    starts: Vec<usize>,
}

/// A place in a text.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// From 1.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    /// The bytes of the line, without its end.
    pub(crate) line_span: Range<usize>,
}

impl Source {
    pub(crate) fn new(path: &Path, text: String) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { name: path.display().to_string(), text, starts }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The largest character boundary up to a byte.
    pub(crate) fn boundary(&self, mut byte: usize) -> usize {
        byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        byte
    }

    /// Line and column of a byte.
    pub(crate) fn place(&self, byte: usize) -> Place {
        let byte = self.boundary(byte);
        let line = self.starts.partition_point(|start| *start <= byte);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let end = self.starts.get(line).map_or(self.text.len(), |next| next - 1);
        let end = if end > byte && self.text[..end].ends_with('\r') { end - 1 } else { end };
        Place { line, column: self.text[start..byte].chars().count() + 1, line_span: start..end }
    }
}
