//! Files that people write, for daemon, command line and agent: read within a limit, and where what is wrong in them is.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

/// Why a file cannot be read that is not there.
pub const DOES_NOT_EXIST: &str = "does not exist";
/// Why a file cannot be read that only others may read.
pub const MAY_NOT_BE_READ: &str = "may not be read by this user";

/// Longest part of a word that is compared with others, characters.
const COMPARED_MAX: usize = 64;

/// Why a file cannot be read.
#[derive(Debug)]
pub enum Unread {
    /// It has more bytes than this.
    TooLarge(usize),
    /// As the system says.
    Failed(io::Error),
}

impl fmt::Display for Unread {
    /// The rest of a sentence that the file begins.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::TooLarge(bytes_max) => write!(f, "is larger than {} KiB", bytes_max >> 10),
            Unread::Failed(error) if error.kind() == io::ErrorKind::NotFound => f.write_str(DOES_NOT_EXIST),
            Unread::Failed(error) if error.kind() == io::ErrorKind::PermissionDenied => f.write_str(MAY_NOT_BE_READ),
            Unread::Failed(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

impl Unread {
    /// The reason alone, to stand behind "cannot be read".
    pub fn reason(&self) -> String {
        match self {
            Unread::TooLarge(_) => format!("it {self}"),
            Unread::Failed(error) => error.to_string(),
        }
    }
}

/// The bytes of a file. What is not a regular one is refused: a pipe would keep its reader waiting.
///
/// # Errors
/// It is no such file, is larger than `bytes_max`, or cannot be read.
pub fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Unread> {
    match std::fs::metadata(path) {
        Ok(about) if !about.is_file() => Err(Unread::Failed(io::Error::other("it is not a regular file"))),
        Ok(_) => read_any(path, bytes_max),
        Err(error) => Err(Unread::Failed(error)),
    }
}

/// As [`read`], from whatever is there: who asks waits for a pipe.
///
/// # Errors
/// It is larger than `bytes_max`, or cannot be read.
pub fn read_any(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut bytes));
    match opened {
        Ok(_) if bytes.len() > bytes_max => Err(Unread::TooLarge(bytes_max)),
        Ok(_) => Ok(bytes),
        Err(error) => Err(Unread::Failed(error)),
    }
}

/// The text that was read.
///
/// # Errors
/// It is not UTF-8.
pub fn text(bytes: Vec<u8>) -> Result<String, Unread> {
    let wrong = |_| Unread::Failed(io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8"));
    String::from_utf8(bytes).map_err(wrong)
}

/// The secret that a text holds: its first line that is not empty, without blanks around it.
pub fn secret(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| !line.is_empty())
}

/// The nearest of some words, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, among: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(COMPARED_MAX).collect();
    among
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A text with the name of its file, and its lines.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    /// Where each line begins.
    starts: Vec<usize>,
}

/// A place in a text.
#[derive(Clone, Debug)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The bytes of the line, without its end.
    pub line_span: Range<usize>,
}

impl Source {
    /// The text of a file.
    pub fn new(path: &Path, text: String) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { name: path.display().to_string(), text, starts }
    }

    /// The file, as it was named.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The largest character boundary up to a byte.
    pub fn boundary(&self, mut byte: usize) -> usize {
        byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        byte
    }

    /// Line and column of a byte.
    pub fn place(&self, byte: usize) -> Place {
        let byte = self.boundary(byte);
        let line = self.starts.partition_point(|start| *start <= byte);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let end = self.starts.get(line).map_or(self.text.len(), |next| next - 1);
        let end = if end > byte && self.text[..end].ends_with('\r') { end - 1 } else { end };
        Place { line, column: self.text[start..byte].chars().count() + 1, line_span: start..end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_says_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let said = |bytes_max| read(&path, bytes_max).map_err(|why| (why.to_string(), why.reason()));
        assert_eq!(said(9).unwrap_err().0, "does not exist");
        std::fs::write(&path, vec![b'x'; 2_048]).unwrap();
        assert_eq!(said(2_048).unwrap().len(), 2_048);
        let (phrase, reason) = said(1_024).unwrap_err();
        assert_eq!((phrase.as_str(), reason.as_str()), ("is larger than 1 KiB", "it is larger than 1 KiB"));
        let folder = read(dir.path(), 9).unwrap_err();
        assert_eq!(folder.to_string(), "cannot be read: it is not a regular file");
        assert_eq!(read_any(Path::new("/dev/null"), 9).unwrap(), b"");
        assert!(matches!(read_any(Path::new("/dev/zero"), 9), Err(Unread::TooLarge(9))));
        assert!(text(vec![0xff]).unwrap_err().to_string().ends_with("valid UTF-8"));
    }

    #[test]
    fn the_first_line_that_is_not_empty_is_the_secret() {
        assert_eq!(secret("\n ush_node_1 \nush_node_2\n"), Some("ush_node_1"));
        assert_eq!(secret(" \n"), None);
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["address", "token_file", "deadline_ms"];
        assert_eq!(nearest("adress", known), Some("address"));
        assert_eq!(nearest("deadlin_ms", known), Some("deadline_ms"));
        assert_eq!(nearest("password", known), None);
        assert_eq!(nearest(&"ä".repeat(1 << 20), known), None, "however long it is");
    }

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        let source = Source::new(Path::new("f"), "a\r\näb\n".to_owned());
        for (byte, line, column, shown) in
            [(0, 1, 1, "a"), (3, 2, 1, "äb"), (4, 2, 1, "äb"), (5, 2, 2, "äb"), (99, 3, 1, "")]
        {
            let place = source.place(byte);
            assert_eq!((place.line, place.column, &source.text()[place.line_span]), (line, column, shown), "{byte}");
        }
    }
}
