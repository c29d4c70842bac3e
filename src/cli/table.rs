//! Rows for people, aligned, and for spreadsheets, quoted.

/// Rows under titles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    titles: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(super) fn new(titles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Table { titles: titles.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty, and there are never more cells than titles.
    pub(super) fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().take(self.titles.len()).collect();
        row.resize(self.titles.len(), String::new());
        self.rows.push(row);
    }

    /// True if it has no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Columns side by side under their titles in capitals; columns of numbers end at one edge.
    ///
    /// Characters that a terminal would obey are shown as `?`: names come from the network.
    pub(super) fn render(&self, colour: bool) -> String {
        let shown: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()).collect();
        let column = |at: usize| shown.iter().filter_map(move |row| row.get(at)).map(String::as_str);
        let widths: Vec<usize> = (self.titles.iter().enumerate())
            .map(|(at, title)| column(at).map(width).max().unwrap_or(0).max(width(title)))
            .collect();
        let right: Vec<bool> = (0..self.titles.len()).map(|at| is_numeric(column(at))).collect();
        let titles: Vec<String> = self.titles.iter().map(|title| title.to_uppercase()).collect();
        let mut text = line(&titles, &widths, &right);
        if colour {
            text = format!("\u{1b}[1m{}\u{1b}[0m\n", text.trim_end());
        }
        for row in &shown {
            text.push_str(&line(row, &widths, &right));
        }
        text
    }

    /// RFC 4180, with a line of titles, and line feeds alone so that shell tools can read it.
    pub(super) fn csv(&self) -> String {
        let mut text = csv_line(&self.titles);
        for row in &self.rows {
            text.push_str(&csv_line(row));
        }
        text
    }
}

/// One record of RFC 4180. A cell that a spreadsheet would calculate is preceded by an apostrophe, which shows it as text:
/// names come from whoever fills in a form.
pub(super) fn csv_line(cells: &[String]) -> String {
    let mut text = String::new();
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        let as_text;
        let cell = if is_calculated(cell) {
            as_text = format!("'{cell}");
            &as_text
        } else {
            cell
        };
        let blank_at_an_end = cell.starts_with(' ') || cell.ends_with(' ');
        // A line that is empty as a whole would be read as no record.
        let alone = cells.len() == 1 && cell.is_empty();
        if alone || blank_at_an_end || cell.contains([',', '"', '\n', '\r']) {
            text.push('"');
            text.push_str(&cell.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(cell);
        }
    }
    text.push('\n');
    text
}

/// True if a spreadsheet takes a cell for a formula; numbers are none.
fn is_calculated(cell: &str) -> bool {
    let begins = |c: char| {
        matches!(c, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}')
    };
    cell.trim_start_matches(' ').starts_with(begins) && cell.parse::<f64>().is_err()
}

/// A text without what a terminal would obey: control characters and those that turn the direction of writing. Line
/// breaks become blanks.
pub(super) fn visible(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let shown = |c: char| match c {
        '\n' => ' ',
        c if obeyed(c) => '?',
        c => c,
    };
    text.replace("\r\n", "\n").chars().map(shown).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn is_numeric<'a>(cells: impl Iterator<Item = &'a str>) -> bool {
    let mut any = false;
    for cell in cells.filter(|cell| !matches!(*cell, "" | "unlimited")) {
        any = true;
        // Amounts of money separate their thousands.
        if cell.replace(',', "").parse::<f64>().is_err() {
            return false;
        }
    }
    any
}

fn line(cells: &[String], widths: &[usize], right: &[bool]) -> String {
    let mut text = String::new();
    for ((cell, wide), right) in cells.iter().zip(widths).zip(right) {
        let padding = " ".repeat(wide.saturating_sub(width(cell)));
        let (before, after) = if *right { (padding.as_str(), "") } else { ("", padding.as_str()) };
        text.push_str(before);
        text.push_str(cell);
        text.push_str(after);
        text.push_str("  ");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[&[&str]]) -> Table {
        let mut table = Table::new(["tenant", "held"]);
        for row in rows {
            table.push(row.iter().map(|cell| (*cell).to_owned()));
        }
        table
    }

    #[test]
    fn names_begin_and_numbers_end_at_one_edge() {
        let table = table(&[&["acme", "7"], &["lindenhof-bau", "128"]]);
        assert_eq!(table.render(false), "TENANT         HELD\nacme              7\nlindenhof-bau   128\n");
        assert!(table.render(true).starts_with("\u{1b}[1mTENANT         HELD\u{1b}[0m\n"));
    }

    #[test]
    fn a_row_is_as_long_as_its_titles() {
        let mut table = table(&[&["only"], &["a", "1", "too many"]]);
        assert_eq!(table.csv(), "tenant,held\nonly,\na,1\n");
        table.push(Vec::new());
        assert_eq!(table.csv(), "tenant,held\nonly,\na,1\n,\n");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let table = table(&[&["a\u{1b}[2Jb\u{202e}c", "1"]]);
        assert!(table.render(false).contains("a?[2Jb?c"), "{}", table.render(false));
    }

    #[test]
    fn csv_holds_nothing_that_a_spreadsheet_would_calculate() {
        for formula in ["=1+1", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", " =1", "\u{ff1d}1+1"] {
            let line = csv_line(&[formula.to_owned(), "x".to_owned()]);
            assert!(line.trim_start_matches('"').starts_with('\''), "{line}");
        }
        for number in ["-1", "+4930123", "-1.5", "1e3", "a=b", "a-b"] {
            assert_eq!(csv_line(&[number.to_owned()]), format!("{number}\n"));
        }
    }

    #[test]
    fn csv_quotes_what_would_be_read_otherwise() {
        let cells = |text: &str| csv_line(&[text.to_owned(), "x".to_owned()]);
        assert_eq!(cells("plain"), "plain,x\n");
        assert_eq!(cells("a,b"), "\"a,b\",x\n");
        assert_eq!(cells("say \"hi\""), "\"say \"\"hi\"\"\",x\n");
        assert_eq!(cells("two\nlines"), "\"two\nlines\",x\n");
        assert_eq!(cells(" edge"), "\" edge\",x\n");
        assert_eq!(csv_line(&[String::new()]), "\"\"\n");
    }

    #[test]
    fn an_empty_table_still_says_what_it_would_have() {
        assert_eq!(table(&[]).render(false), "TENANT  HELD\n");
        assert!(table(&[]).is_empty());
    }
}
