//! Text, bars and curves into a buffer: in the 16 colours of every terminal or none, in Unicode or ASCII.

use chrono::{DateTime, Local, Utc};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use crate::cli::table::visible;

/// The abilities of a terminal, and its owner's wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// True if colours are wanted; nothing is told by colour alone.
    pub colour: bool,
    /// True if more than ASCII can be shown.
    pub unicode: bool,
    /// Times in UTC and not in the zone of the machine.
    pub utc: bool,
}

/// The role of a piece of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// Text.
    #[default]
    Plain,
    /// For text that is looked for first.
    Strong,
    /// For text that may be overlooked.
    Faint,
    /// As it should be.
    Good,
    /// To be looked at.
    Warn,
    /// To be fixed.
    Bad,
    /// A heading.
    Title,
    /// The line that keys act on.
    Chosen,
}

impl Look {
    /// A tone as the terminal shows it. Only modifiers that were in terminals before colour go without it.
    pub(super) fn style(self, tone: Tone) -> Style {
        let plain = Style::default();
        let coloured = |colour| if self.colour { plain.fg(colour) } else { plain };
        match tone {
            Tone::Plain => plain,
            Tone::Strong => plain.add_modifier(Modifier::BOLD),
            Tone::Faint => plain.add_modifier(Modifier::DIM),
            Tone::Good => coloured(Color::Green),
            Tone::Warn => coloured(Color::Yellow),
            Tone::Bad => coloured(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Title => coloured(Color::Cyan).add_modifier(Modifier::BOLD),
            Tone::Chosen => plain.add_modifier(Modifier::REVERSED),
        }
    }

    /// An instant as people of this place write it, with the zone.
    pub(super) fn date_time(self, at: DateTime<Utc>) -> String {
        if self.utc {
            at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
        } else {
            at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S %:z").to_string()
        }
    }

    /// The day and minute of an instant.
    pub(super) fn minute(self, at: DateTime<Utc>) -> String {
        self.formatted(at, "%Y-%m-%d %H:%M")
    }

    /// The time of day of an instant, to the second.
    pub(super) fn time(self, at: DateTime<Utc>) -> String {
        self.formatted(at, "%H:%M:%S")
    }

    /// The time of day of an instant, to the minute.
    pub(super) fn hour(self, at: DateTime<Utc>) -> String {
        self.formatted(at, "%H:%M")
    }

    fn formatted(self, at: DateTime<Utc>, format: &str) -> String {
        if self.utc { at.format(format).to_string() } else { at.with_timezone(&Local).format(format).to_string() }
    }

    /// One sign or the other.
    pub(super) const fn either(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }

    /// A text that this terminal can show and does not obey, as names come from the network.
    pub(super) fn shown(self, text: &str) -> String {
        let text = visible(text);
        if self.unicode || text.is_ascii() {
            return text;
        }
        text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
    }
}

/// Columns that a text takes.
pub(super) fn width(text: &str) -> u16 {
    u16::try_from(Span::raw(text).width()).unwrap_or(u16::MAX)
}

/// A number with its thousands set apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A quota; none is unlimited.
pub(super) fn quota(quota: Option<u64>) -> String {
    quota.map_or_else(|| "unlim".to_owned(), grouped)
}

/// A span of time in its two largest units at most: `7 s`, `3 min`, `2 h 5 min`, `4 d`.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 if seconds % 3_600 < 60 => format!("{} h", seconds / 3_600),
        7_200..172_800 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Writes into a buffer, never beyond its edges.
pub(super) struct Pen<'a> {
    buffer: &'a mut Buffer,
    /// How it writes.
    pub look: Look,
}

impl<'a> Pen<'a> {
    /// A pen for a buffer.
    pub(super) fn new(buffer: &'a mut Buffer, look: Look) -> Self {
        Pen { buffer, look }
    }

    /// Writes a text into so many columns, cut with a mark where it is longer. Returns the column behind it.
    pub(super) fn text(&mut self, x: u16, y: u16, columns: u16, text: &str, tone: Tone) -> u16 {
        let area = self.buffer.area;
        if y >= area.bottom() || x >= area.right() {
            return x;
        }
        let columns = columns.min(area.right() - x);
        let text = self.look.shown(text);
        let style = self.look.style(tone);
        if width(&text) <= columns {
            return self.buffer.set_stringn(x, y, &text, usize::from(columns), style).0;
        }
        let (behind, _) = self.buffer.set_stringn(x, y, &text, usize::from(columns.saturating_sub(1)), style);
        self.buffer.set_stringn(behind, y, self.look.either("…", "~"), usize::from(columns.min(1)), style).0
    }

    /// Writes a text so that it ends where the columns end.
    pub(super) fn right(&mut self, x: u16, y: u16, columns: u16, text: &str, tone: Tone) {
        let free = columns.saturating_sub(width(text));
        self.text(x + free, y, columns - free, text, tone);
    }

    /// Writes pieces behind each other. Returns the column behind the last.
    pub(super) fn pieces(&mut self, x: u16, y: u16, columns: u16, pieces: &[(String, Tone)]) -> u16 {
        let end = x.saturating_add(columns);
        pieces.iter().fold(x, |x, (text, tone)| self.text(x, y, end.saturating_sub(x), text, *tone))
    }

    /// A bar for a share of 1, which is never quite full before it is, nor empty while there is something.
    pub(super) fn bar(&mut self, x: u16, y: u16, columns: u16, share: f64, tone: Tone) {
        let eighths = f64::from(columns) * 8.0 * share.clamp(0.0, 1.0);
        let most = f64::from(columns) * 8.0;
        let eighths = if share >= 1.0 {
            most
        } else {
            eighths.floor().clamp(if share > 0.0 { 1.0 } else { 0.0 }, (most - 1.0).max(0.0))
        };
        let eighths = eighths as u16;
        for column in 0..columns {
            let part = eighths.saturating_sub(column * 8).min(8);
            let sign = if self.look.unicode {
                ["·", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"][usize::from(part)]
            } else {
                [".", "-", "-", "-", "=", "=", "=", "=", "#"][usize::from(part)]
            };
            self.text(x + column, y, 1, sign, if part == 0 { Tone::Faint } else { tone });
        }
    }

    /// A line across with a heading in it, and something at its right end.
    pub(super) fn rule(&mut self, x: u16, y: u16, columns: u16, heading: &str, right: &str, tone: Tone) {
        let line = self.look.either("─", "-").repeat(usize::from(columns));
        self.text(x, y, columns, &line, Tone::Faint);
        let heading = if heading.is_empty() { String::new() } else { format!(" {heading} ") };
        self.text(x + 1, y, columns.saturating_sub(2), &heading, tone);
        let left = columns.saturating_sub(width(&heading) + 3);
        if !right.is_empty() && width(right) + 2 <= left {
            self.right(x, y, columns - 1, &format!(" {right} "), Tone::Faint);
        }
    }

    /// Lets a line stand out as the one that keys act on.
    pub(super) fn choose(&mut self, x: u16, y: u16, columns: u16) {
        self.buffer
            .set_style(Rect::new(x, y, columns, 1).intersection(self.buffer.area), self.look.style(Tone::Chosen));
    }

    /// Wipes a part, for something that lies above it.
    pub(super) fn wipe(&mut self, area: Rect) {
        let blank = " ".repeat(usize::from(area.width));
        for y in area.top()..area.bottom() {
            self.buffer.set_style(Rect { y, height: 1, ..area }.intersection(self.buffer.area), Style::reset());
            self.buffer.set_stringn(area.x, y, &blank, usize::from(area.width), Style::reset());
        }
    }

    /// A frame around an area, with a heading.
    pub(super) fn frame(&mut self, area: Rect, heading: &str) {
        self.wipe(area);
        let (across, down) = (self.look.either("─", "-"), self.look.either("│", "|"));
        let corners = if self.look.unicode { ["┌", "┐", "└", "┘"] } else { ["+", "+", "+", "+"] };
        let (right, bottom) = (area.right().saturating_sub(1), area.bottom().saturating_sub(1));
        for x in area.left()..area.right() {
            self.text(x, area.y, 1, across, Tone::Plain);
            self.text(x, bottom, 1, across, Tone::Plain);
        }
        for y in area.top()..area.bottom() {
            self.text(area.x, y, 1, down, Tone::Plain);
            self.text(right, y, 1, down, Tone::Plain);
        }
        for (corner, (x, y)) in
            corners.into_iter().zip([(area.x, area.y), (right, area.y), (area.x, bottom), (right, bottom)])
        {
            self.text(x, y, 1, corner, Tone::Plain);
        }
        self.text(area.x + 2, area.y, area.width.saturating_sub(4), &format!(" {heading} "), Tone::Title);
    }

    /// A curve of filled columns, one for each value, in the area; `line` is drawn across at its height where the
    /// columns do not reach. `top` is the value of the upper edge. No value is no column, zero is the lowest sign.
    pub(super) fn curve(&mut self, area: Rect, values: &[Option<u64>], line: Option<u64>, top: u64) {
        let top = top.max(1);
        let eighths = |value: u64| value.min(top) * u64::from(area.height) * 8 / top;
        let line_row = line.map(|line| (eighths(line).max(1) - 1) / 8);
        for (column, x) in (area.left()..area.right()).enumerate() {
            let value = values.get(column).copied().flatten();
            for row in 0..u64::from(area.height) {
                let y = area.bottom() - 1 - row as u16;
                let part = value.map_or(0, |value| eighths(value).saturating_sub(row * 8).min(8));
                let full = value.zip(line).is_some_and(|(value, line)| value >= line);
                let tone = if full { Tone::Bad } else { Tone::Good };
                match part {
                    0 if line_row == Some(row) => self.text(x, y, 1, self.look.either("─", "-"), Tone::Warn),
                    0 if row == 0 && value.is_some() => self.text(x, y, 1, self.look.either("▁", "_"), Tone::Faint),
                    0 => x,
                    _ if self.look.unicode => {
                        let sign = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"][part as usize - 1];
                        self.text(x, y, 1, sign, tone)
                    }
                    1..=4 => self.text(x, y, 1, ".", tone),
                    _ => self.text(x, y, 1, "#", tone),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(unicode: bool, columns: u16, rows: u16, draw: impl Fn(&mut Pen<'_>)) -> Vec<String> {
        let mut buffer = Buffer::empty(Rect::new(0, 0, columns, rows));
        draw(&mut Pen::new(&mut buffer, Look { colour: false, unicode, utc: true }));
        let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..rows).map(row).collect()
    }

    #[test]
    fn a_long_text_is_cut_with_a_mark_and_cannot_steer() {
        assert_eq!(drawn(true, 8, 1, |pen| _ = pen.text(0, 0, 5, "lindenhof", Tone::Plain)), ["lind…"]);
        assert_eq!(drawn(false, 8, 1, |pen| _ = pen.text(0, 0, 5, "müller", Tone::Plain)), ["m?ll~"]);
        assert_eq!(drawn(true, 8, 1, |pen| _ = pen.text(0, 0, 8, "a\u{1b}[2J", Tone::Plain)), ["a?[2J"]);
        assert_eq!(drawn(true, 4, 1, |pen| _ = pen.text(9, 9, 5, "far", Tone::Plain)), [""]);
        // Two columns each: half of one is never shown.
        assert_eq!(drawn(true, 8, 1, |pen| _ = pen.text(0, 0, 4, "日本語", Tone::Plain))[0].replace(' ', ""), "日…");
    }

    #[test]
    fn a_bar_is_full_only_where_it_is() {
        for (share, unicode, ascii) in [
            (0.0, "····", "...."),
            (0.001, "▏···", "-..."),
            (0.5, "██··", "##.."),
            (0.999, "███▉", "###="),
            (1.0, "████", "####"),
            (f64::INFINITY, "████", "####"),
        ] {
            assert_eq!(drawn(true, 4, 1, |pen| pen.bar(0, 0, 4, share, Tone::Plain)), [unicode], "{share}");
            assert_eq!(drawn(false, 4, 1, |pen| pen.bar(0, 0, 4, share, Tone::Plain)), [ascii], "{share}");
        }
    }

    #[test]
    fn a_curve_shows_gaps_zeros_and_where_the_quota_lies() {
        let values = [Some(0), Some(2), None, Some(4), Some(8)];
        let curve = |pen: &mut Pen<'_>| pen.curve(Rect::new(0, 0, 6, 2), &values, Some(8), 8);
        assert_eq!(drawn(true, 6, 2, curve), ["────█─", "▁▄ ██"]);
        assert_eq!(drawn(false, 6, 2, curve), ["----#-", "_. ##"]);
    }

    #[test]
    fn figures_are_told_as_people_read_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [7, 119, 180, 7_200, 7_500, 400_000].map(span),
            ["7 s", "119 s", "3 min", "2 h", "2 h 5 min", "4 d"]
        );
        assert_eq!((quota(None), quota(Some(0))), ("unlim".to_owned(), "0".to_owned()));
    }

    #[test]
    fn without_colour_there_is_none() {
        let bare = Look { colour: false, unicode: true, utc: true };
        for tone in
            [Tone::Plain, Tone::Strong, Tone::Faint, Tone::Good, Tone::Warn, Tone::Bad, Tone::Title, Tone::Chosen]
        {
            assert_eq!((bare.style(tone).fg, bare.style(tone).bg), (None, None), "{tone:?}");
        }
    }
}
