//! NDJSON as it streams in: lines with a limit on their length.

use bytes::{Buf, Bytes, BytesMut};

/// A line over the limit; it was skipped, and its place in the order kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

/// Splits chunks into lines. Empty lines, and lines of blanks, are none.
#[derive(Debug)]
pub struct Lines {
    buf: BytesMut,
    searched: usize,
    line_bytes_max: usize,
    skipping: bool,
}

impl Lines {
    /// A splitter for lines of at most `line_bytes_max` bytes without their end.
    pub fn new(line_bytes_max: usize) -> Self {
        Lines { buf: BytesMut::new(), searched: 0, line_bytes_max, skipping: false }
    }

    /// Adds what came in. Take all lines with [`Self::next_line`] before adding more: then what is held is
    /// at most one chunk and one line.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buf.extend_from_slice(chunk);
    }

    /// The bytes that are held for a line whose end has not come.
    pub fn held_bytes(&self) -> usize {
        if self.buf.is_empty() { 0 } else { self.buf.capacity() }
    }

    /// The next whole line, if there is one.
    ///
    /// # Errors
    /// The line is too long.
    pub fn next_line(&mut self) -> Option<Result<Bytes, LineTooLong>> {
        loop {
            let Some(at) = self.buf.iter().skip(self.searched).position(|b| *b == b'\n') else {
                return self.no_end_yet();
            };
            let line = self.buf.split_to(self.searched + at);
            self.buf.advance(1);
            self.searched = 0;
            let was_skipping = std::mem::take(&mut self.skipping);
            if was_skipping {
                continue;
            }
            if line.len() > self.line_bytes_max {
                return Some(Err(LineTooLong));
            }
            if !line.trim_ascii().is_empty() {
                return Some(Ok(line.freeze()));
            }
        }
    }

    fn no_end_yet(&mut self) -> Option<Result<Bytes, LineTooLong>> {
        self.searched = self.buf.len();
        if self.skipping || self.buf.len() > self.line_bytes_max {
            self.buf.clear();
            self.searched = 0;
            return (!std::mem::replace(&mut self.skipping, true)).then_some(Err(LineTooLong));
        }
        None
    }

    /// The last line, where the input ends without an end of line.
    pub fn finish(self) -> Option<Bytes> {
        (!self.skipping && !self.buf.trim_ascii().is_empty()).then(|| self.buf.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(input: &[u8], chunk_bytes: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines::new(4);
        let mut all = Vec::new();
        for chunk in input.chunks(chunk_bytes) {
            lines.push(chunk);
            while let Some(line) = lines.next_line() {
                all.push(line.ok().map(|line| line.to_vec()));
            }
        }
        all.extend(lines.finish().map(|line| Some(line.to_vec())));
        all
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let input = b"ab\n\n  \nabcd\ntoo long\r\nab\r\nlonger\nend";
        let want: Vec<Option<Vec<u8>>> =
            vec![Some(b"ab".into()), Some(b"abcd".into()), None, Some(b"ab\r".into()), None, Some(b"end".into())];
        for chunk_bytes in 1..=input.len() {
            assert_eq!(split(input, chunk_bytes), want, "in chunks of {chunk_bytes}");
        }
    }
}
