//! Where a demonstration writes: wrapped lines with the time at their left, and one line below that stays.

use std::io::Write;

use crate::cli::failure::Failure;

/// Longest line that is wrapped, characters; as wide as terminals are where nobody widened them.
const WIDTH: usize = 80;
/// The width of the margin, in characters: the time stands there, and blanks in lines without one.
const MARGIN: usize = 7;

/// How a line is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// Somebody got what was refused before.
    Good,
    /// Somebody is refused.
    Bad,
    /// Something to type.
    Loud,
}

/// A terminal, a pipe or a file.
pub(super) struct Terminal<'a> {
    out: &'a mut dyn Write,
    /// True if lines may be written over.
    is_terminal: bool,
    colour: bool,
    /// The line that stays, as it was written last.
    status: String,
}

impl<'a> Terminal<'a> {
    /// One that writes there; colour only on a real terminal (API 7).
    pub(super) fn new(out: &'a mut dyn Write, is_terminal: bool, colour: bool) -> Self {
        Terminal { out, is_terminal, colour, status: String::new() }
    }

    /// A sentence, wrapped, with what stands at its left: a time, or nothing.
    ///
    /// # Errors
    /// The output cannot be written, or nobody reads it any more.
    pub(super) fn say(&mut self, left: &str, tone: Tone, text: &str) -> Result<(), Failure> {
        let mut shown = String::new();
        for (number, line) in wrapped(text, WIDTH - MARGIN).iter().enumerate() {
            let left = if number == 0 { left } else { "" };
            let left = self.painted("2", &format!("{left:<MARGIN$}"));
            shown.push_str(format!("{left}{}", self.toned(tone, line)).trim_end());
            shown.push('\n');
        }
        self.put(&shown)
    }

    /// A line as it is, so that it can be copied.
    ///
    /// # Errors
    /// As [`Terminal::say`].
    pub(super) fn line(&mut self, tone: Tone, text: &str) -> Result<(), Failure> {
        let shown = format!("{}\n", self.toned(tone, text));
        self.put(&shown)
    }

    /// The line that stays below all others; nothing where lines cannot be written over.
    ///
    /// # Errors
    /// As [`Terminal::say`].
    pub(super) fn status(&mut self, text: &str) -> Result<(), Failure> {
        if !self.is_terminal || text == self.status {
            return Ok(());
        }
        text.clone_into(&mut self.status);
        self.put("")
    }

    fn put(&mut self, lines: &str) -> Result<(), Failure> {
        let mut shown = lines.to_owned();
        if self.is_terminal {
            // Over the line that stays, which then stands below.
            shown = format!("\r\x1b[2K{lines}{}", self.status);
        }
        self.out.write_all(shown.as_bytes()).and_then(|()| self.out.flush()).map_err(|error| Failure::output(&error))
    }

    fn toned(&self, tone: Tone, text: &str) -> String {
        match tone {
            Tone::Plain => text.to_owned(),
            Tone::Good => self.painted("32", text),
            Tone::Bad => self.painted("33", text),
            Tone::Loud => self.painted("1", text),
        }
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colour && !text.trim().is_empty() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Lines of at most so many characters, broken at blanks; a longer word stays whole.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let fits = lines.last().is_some_and(|line| line.chars().count() + 1 + word.chars().count() <= width);
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if fits => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// So many seats of so many, drawn: `████████████████ 17 of 16 seats, 1 above`.
pub(super) fn seats_bar(held: u32, quota: Option<u32>) -> String {
    let quota = quota.unwrap_or(held);
    let (full, free) = (held.min(quota), quota.saturating_sub(held));
    let drawn: String = "█".repeat(full.min(40) as usize) + &"░".repeat(free.min(40) as usize);
    let above = if held > quota { format!(", {} above", held - quota) } else { String::new() };
    format!("{drawn} {held} of {quota} seats{above}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(is_terminal: bool, colour: bool, write: impl FnOnce(&mut Terminal<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Terminal::new(&mut out, is_terminal, colour));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sentences_are_wrapped_beside_their_time() {
        let text = "word ".repeat(30);
        let shown = written(false, false, |terminal| terminal.say("10:31", Tone::Bad, text.trim()).unwrap());
        assert!(shown.starts_with("10:31  word word"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= WIDTH), "{shown}");
        assert!(shown.lines().skip(1).all(|line| line.starts_with("       word")), "{shown}");
        assert!(!shown.contains('\x1b'), "a file has no colours: {shown:?}");
    }

    #[test]
    fn a_pipe_has_no_line_that_stays() {
        assert_eq!(written(false, false, |terminal| terminal.status("10:31").unwrap()), "");
    }

    #[test]
    fn the_line_that_stays_is_below_all_others() {
        let shown = written(true, false, |terminal| {
            terminal.status("now").unwrap();
            terminal.status("now").unwrap();
            terminal.line(Tone::Plain, "said").unwrap();
        });
        assert_eq!(shown, "\r\x1b[2Know\r\x1b[2Ksaid\nnow");
    }

    #[test]
    fn colour_is_around_what_is_said_only() {
        let shown = written(true, true, |terminal| terminal.say("", Tone::Bad, "refused").unwrap());
        assert_eq!(shown, "\r\x1b[2K       \x1b[33mrefused\x1b[0m\n");
    }

    #[test]
    fn seats_are_drawn() {
        assert_eq!(seats_bar(2, Some(4)), "██░░ 2 of 4 seats");
        assert_eq!(seats_bar(5, Some(4)), "████ 5 of 4 seats, 1 above");
        assert_eq!(seats_bar(1, None), "█ 1 of 1 seats");
    }
}
