//! Where a verb writes: format, colour, zone, and answers of the daemon as tables.

use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, Local, SecondsFormat, Utc};
use serde_json::{Map, Value};

use super::failure::Failure;
use super::table::{Table, csv_line, visible};

/// How answers are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Aligned columns, for people.
    #[default]
    Table,
    /// The daemon's answer as it is, for scripts.
    Json,
    /// RFC 4180, for spreadsheets.
    Csv,
}

/// Where a verb writes, and how.
pub(super) struct Screen<'a> {
    out: &'a mut dyn Write,
    /// How answers are shown.
    pub format: Format,
    /// Times in UTC and not in the zone of the machine.
    pub utc: bool,
    /// True if titles and errors may be coloured.
    pub colour: bool,
    /// True if words may be links (OSC 8).
    pub links: bool,
}

/// True if colour is wanted: on a terminal, unless `NO_COLOR` is set to anything.
pub(super) fn wants_colour() -> bool {
    let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !forbidden && io::stdout().is_terminal()
}

/// True if links are wanted: where colour is, unless the terminal would show their addresses as text.
pub(super) fn wants_links() -> bool {
    let shows_them = std::env::var("TERM").is_ok_and(|term| matches!(term.as_str(), "dumb" | "linux"));
    wants_colour() && !shows_them
}

impl<'a> Screen<'a> {
    /// A screen without colour and links.
    pub(super) fn new(out: &'a mut dyn Write, format: Format, utc: bool) -> Self {
        Screen { out, format, utc, colour: false, links: false }
    }

    /// Writes a text as it is.
    ///
    /// # Errors
    /// The output cannot be written, or nobody reads it any more.
    pub(super) fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(|error| Failure::output(&error))
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// As [`Screen::write`].
    pub(super) fn bytes(&mut self) -> &mut dyn Write {
        &mut *self.out
    }

    /// Writes an answer as it came, with one line feed at its end.
    ///
    /// # Errors
    /// As [`Screen::write`].
    pub(super) fn verbatim(&mut self, body: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(body);
        self.write(&format!("{}\n", text.trim_end_matches('\n')))
    }

    /// Writes a table in the format that was asked for; JSON is the matter of the caller.
    ///
    /// # Errors
    /// As [`Screen::write`].
    pub(super) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        let text = if self.format == Format::Csv { table.csv() } else { table.render(self.colour) };
        self.write(&text)
    }

    /// Objects as rows. A table shows the columns that matter, as far as the answer has them; CSV has every
    /// column of the answer, those that matter first.
    pub(super) fn rows(&self, objects: &[Value], columns: &[&str]) -> Table {
        let mut keys: Vec<&str> = columns.to_vec();
        if self.format == Format::Csv || objects.iter().all(|row| columns.iter().all(|key| row.get(key).is_none())) {
            for key in objects.iter().filter_map(Value::as_object).flat_map(Map::keys) {
                if !keys.contains(&key.as_str()) {
                    keys.push(key);
                }
            }
        }
        if !objects.is_empty() {
            keys.retain(|key| objects.iter().any(|row| row.get(key).is_some_and(|value| !value.is_null())));
        }
        let mut table = Table::new(keys.iter().map(|key| title(key)));
        for object in objects {
            table.push(keys.iter().map(|key| self.cell(key, object.get(key).unwrap_or(&Value::Null))));
        }
        table
    }

    /// One object as lines of key and value, nested keys joined by dots.
    pub(super) fn fields(&self, object: &Value) -> Table {
        let mut table = Table::new(["field", "value"]);
        let mut lines = Vec::new();
        self.flatten("", object, &mut lines);
        for (key, value) in lines {
            table.push([key, value]);
        }
        table
    }

    fn flatten(&self, prefix: &str, value: &Value, lines: &mut Vec<(String, String)>) {
        let name = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(fields) => fields.iter().for_each(|(key, value)| self.flatten(&name(key), value, lines)),
            Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
                items.iter().enumerate().for_each(|(at, item)| self.flatten(&name(&at.to_string()), item, lines));
            }
            value => lines.push((prefix.to_owned(), self.cell(prefix, value))),
        }
    }

    /// One record of CSV.
    pub(super) fn csv_record(cells: &[String]) -> String {
        csv_line(cells)
    }

    /// A value as a cell: an instant in the zone that was asked for, `quota: null` as unlimited.
    pub(super) fn cell(&self, key: &str, value: &Value) -> String {
        match value {
            Value::Null if self.format == Format::Table && matches!(title(key), "quota" | "free") => {
                "unlimited".to_owned()
            }
            Value::Null => String::new(),
            Value::Bool(true) => "yes".to_owned(),
            Value::Bool(false) => "no".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::String(text) => self.instant(text).unwrap_or_else(|| text.clone()),
            Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
                let cells: Vec<String> = items.iter().map(|item| self.cell("", item)).collect();
                cells.join(", ")
            }
            nested => nested.to_string(),
        }
    }

    /// An RFC 3339 instant as people of this place write it; `None` where the text is none.
    pub(super) fn instant(&self, text: &str) -> Option<String> {
        if text.len() < 20 || text.as_bytes().get(10) != Some(&b'T') {
            return None;
        }
        let at = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
        Some(match (self.format == Format::Csv, self.utc) {
            (true, true) => at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            (true, false) => at.with_timezone(&Local).to_rfc3339_opts(SecondsFormat::AutoSi, false),
            (false, true) => at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
            (false, false) => at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S %:z").to_string(),
        })
    }

    /// One line for people; names in it cannot steer the terminal.
    ///
    /// # Errors
    /// As [`Screen::write`].
    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.write(&format!("{}\n", visible(text)))
    }

    /// A text of several lines for people: those behind the first are indented, so that none looks like one of its own.
    ///
    /// # Errors
    /// As [`Screen::write`].
    pub(super) fn lines(&mut self, text: &str) -> Result<(), Failure> {
        for (at, part) in text.lines().enumerate() {
            self.line(&format!("{}{part}", if at == 0 { "" } else { "    " }))?;
        }
        Ok(())
    }
}

/// A number of things in words: `1 tenant`, `2 tenants`.
pub(super) fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// The last word of a nested key.
fn title(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(format: Format, draw: impl Fn(&mut Screen<'_>)) -> String {
        let mut out = Vec::new();
        draw(&mut Screen::new(&mut out, format, true));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_shows_what_matters_and_csv_shows_all() {
        let rows = [json!({"tenant": "acme", "held": 3, "extra": 1}), json!({"tenant": "bmw", "quota": null})];
        let draw = |screen: &mut Screen<'_>| {
            let table = screen.rows(&rows, &["tenant", "held", "nothing"]);
            screen.table(&table).unwrap();
        };
        assert_eq!(shown(Format::Table, draw), "TENANT  HELD\nacme       3\nbmw\n");
        assert_eq!(shown(Format::Csv, draw), "tenant,held,extra\nacme,3,1\nbmw,,\n");
    }

    #[test]
    fn a_column_of_nothing_but_absence_is_left_out() {
        let draw = |screen: &mut Screen<'_>| {
            let table = screen.rows(&[json!({"tenant": "a", "free": null, "held": 1})], &["tenant", "free", "held"]);
            screen.table(&table).unwrap();
        };
        assert_eq!(shown(Format::Table, draw), "TENANT  HELD\na          1\n");
    }

    #[test]
    fn further_lines_of_a_text_are_indented() {
        let text = shown(Format::Table, |screen| screen.lines("rejected\r\nacme.toml:1:8\u{1b}[2J\n  seats").unwrap());
        assert_eq!(text, "rejected\n    acme.toml:1:8?[2J\n      seats\n");
    }

    #[test]
    fn nested_fields_are_lines() {
        let object =
            json!({"held": 3, "quota": null, "nodes": {"up": 2}, "pools": [{"pool": "p"}], "tags": ["a", "b"]});
        let text = shown(Format::Table, |screen| {
            let table = screen.fields(&object);
            screen.table(&table).unwrap();
        });
        for line in
            ["held         3", "quota        unlimited", "nodes.up     2", "pools.0.pool  p", "tags         a, b"]
        {
            let squeezed: Vec<&str> = line.split_whitespace().collect();
            assert!(text.lines().any(|own| own.split_whitespace().eq(squeezed.iter().copied())), "{line} in {text}");
        }
    }

    #[test]
    fn instants_carry_their_zone() {
        let at = "2026-06-16T12:03:07Z";
        let cell = |format, utc| {
            let mut out = Vec::new();
            Screen::new(&mut out, format, utc).cell("at", &json!(at))
        };
        assert_eq!(cell(Format::Table, true), "2026-06-16 12:03:07 UTC");
        assert_eq!(cell(Format::Csv, true), "2026-06-16T12:03:07Z");
        assert!(DateTime::parse_from_str(&cell(Format::Table, false), "%Y-%m-%d %H:%M:%S %:z").is_ok());
        assert!(DateTime::parse_from_rfc3339(&cell(Format::Csv, false)).is_ok());
        assert_eq!(cell(Format::Table, true).len(), "2026-06-16 12:03:07 UTC".len());
    }

    #[test]
    fn an_answer_is_passed_on_as_it_came() {
        assert_eq!(shown(Format::Json, |screen| screen.verbatim(b"{\"b\":1,\"a\":2}").unwrap()), "{\"b\":1,\"a\":2}\n");
    }
}
