//! A typed reader over a TOML document that collects every fault with its place instead of stopping at one.

use std::ops::{Range, RangeInclusive};

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use chrono_tz::Tz;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::origin::{Effective, Origin};
use super::problem::{Problem, Problems};
use super::source::Source;
use super::words::{Word, nearest, one_of};
use crate::subscription::civil::{self, Edge};

/// Longest text that a key may hold unless it says otherwise, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 1024;
/// Most entries of a list.
pub(crate) const LIST_MAX: usize = 1_000;

/// What is shared while one file is read.
pub(crate) struct Cx<'a> {
    pub(crate) source: &'a Source,
    pub(crate) problems: &'a mut Problems,
    /// Every value in force, where somebody wants to know.
    pub(crate) ledger: Option<&'a mut Vec<Effective>>,
    /// Whether this file speaks for one tenant: its origins are then the tenant's, and defaults are not noted.
    pub(crate) tenant: bool,
}

impl Cx<'_> {
    pub(crate) fn fault(&mut self, span: &Range<usize>, key_path: &str, message: impl Into<String>) -> Problem {
        Problem::at(self.source, span, key_path, message)
    }

    fn origin(&self, at: usize) -> Origin {
        let (file, line) = (self.source.name().to_owned(), self.source.place(at).line);
        if self.tenant { Origin::Tenant { file, line } } else { Origin::File { file, line } }
    }

    fn note(&mut self, key: String, value: impl FnOnce() -> String, at: Option<usize>, otherwise: Origin) {
        if self.ledger.is_none() || (self.tenant && at.is_none()) {
            return;
        }
        let origin = at.map_or(otherwise, |at| self.origin(at));
        if let Some(ledger) = self.ledger.as_deref_mut() {
            ledger.push(Effective { key, value: value(), origin });
        }
    }
}

/// A value that is present, with everything needed to complain about it.
#[derive(Clone)]
pub(crate) struct Item<'t, 'i> {
    pub(crate) key_path: String,
    pub(crate) span: Range<usize>,
    pub(crate) value: &'t DeValue<'i>,
}

impl Item<'_, '_> {
    fn wrong_type(&self, cx: &mut Cx<'_>, wanted: &str) {
        let problem = cx
            .fault(
                &self.span,
                &self.key_path,
                format!("`{}` must be {wanted}, not {}", self.key_path, a_type(self.value)),
            )
            .label(format!("expected {wanted}"));
        let problem = match self.value {
            DeValue::String(text) if wanted.contains("number") && text.trim().parse::<i64>().is_ok() => {
                problem.help(format!("leave out the quotes: {}", text.trim()))
            }
            DeValue::String(text) if wanted.starts_with("true") && matches!(text.as_ref(), "true" | "false") => {
                problem.help(format!("leave out the quotes: {text}"))
            }
            DeValue::String(text) if wanted.starts_with("a list") => {
                problem.help(format!("put it into brackets: [{}]", quoted(text)))
            }
            _ => problem,
        };
        cx.problems.push(problem);
    }

    /// A complaint about the value.
    pub(crate) fn wrong(&self, cx: &mut Cx<'_>, message: impl Into<String>, help: impl Into<String>) {
        let problem = cx.fault(&self.span, &self.key_path, message).help(help);
        cx.problems.push(problem);
    }

    pub(crate) fn text(&self, cx: &mut Cx<'_>) -> Option<String> {
        let DeValue::String(text) = self.value else {
            self.wrong_type(cx, "a text in quotes");
            return None;
        };
        if text.len() > TEXT_BYTES_MAX {
            self.wrong(
                cx,
                format!("`{}` is {} bytes long", self.key_path, text.len()),
                format!("at most {TEXT_BYTES_MAX} bytes are allowed"),
            );
            return None;
        }
        if text.contains(char::is_control) {
            self.wrong(
                cx,
                format!("`{}` contains a control character", self.key_path),
                "leave out line breaks, tabs and the like",
            );
            return None;
        }
        Some(text.clone().into_owned())
    }

    fn flag(&self, cx: &mut Cx<'_>) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.wrong_type(cx, "true or false");
        }
        flag
    }

    fn int(&self, cx: &mut Cx<'_>, range: &RangeInclusive<u64>) -> Option<u64> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(number) = self.value else {
            self.wrong_type(cx, &allowed);
            return None;
        };
        let parsed = i128::from_str_radix(number.as_str(), number.radix()).ok();
        if let Some(value) = parsed.and_then(|value| u64::try_from(value).ok())
            && range.contains(&value)
        {
            return Some(value);
        }
        let what = match parsed {
            Some(..0) => "must not be negative".to_owned(),
            Some(value) if value < i128::from(*range.start()) => format!("must be at least {}", range.start()),
            _ => format!("must be at most {}", range.end()),
        };
        let shown: String = number.as_str().chars().take(40).collect();
        self.wrong(cx, format!("`{}` {what}, it is {shown}", self.key_path), format!("write {allowed}"));
        None
    }

    fn word<W: Word>(&self, cx: &mut Cx<'_>) -> Option<W> {
        let DeValue::String(text) = self.value else {
            self.wrong_type(cx, &format!("one of the words {}", one_of(W::ALL.iter().map(|w| w.as_str()))));
            return None;
        };
        let found = W::ALL.iter().copied().find(|word| word.as_str() == text.as_ref());
        if found.is_none() {
            let words = || W::ALL.iter().map(|word| word.as_str());
            let lower = text.to_lowercase();
            let guess = nearest(&lower, words()).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            let shown: String = text.chars().take(40).collect();
            self.wrong(
                cx,
                format!("`{}` does not know {}", self.key_path, quoted(&shown)),
                format!("{guess}allowed: {}", one_of(words())),
            );
        }
        found
    }

    /// An instant: RFC 3339, or a civil date or time of the billing zone.
    fn instant(&self, cx: &mut Cx<'_>, zone: Tz, edge: Edge) -> Option<DateTime<Utc>> {
        let text = self.date_text(cx)?;
        let at = DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1))
            .map(|at| at.to_utc())
            .ok()
            .or_else(|| parse_civil(&text).map(|civil| civil::instant(zone, civil, edge)));
        self.in_era(cx, &text, at, "write an instant as \"2027-06-15T22:00:00Z\", or a civil date as \"2027-06-16\"")
    }

    /// A civil date, or date and time.
    fn civil(&self, cx: &mut Cx<'_>) -> Option<NaiveDateTime> {
        let text = self.date_text(cx)?;
        let civil = parse_civil(&text);
        let help = if civil.is_none() && DateTime::parse_from_rfc3339(&text).is_ok() {
            "it is a civil time of the billing zone: leave out the offset, as in \"2026-06-16T10:00:00\""
        } else {
            "write a civil date as \"2026-06-16\", or date and time as \"2026-06-16T10:00:00\""
        };
        self.in_era(cx, &text, civil.map(|civil| civil.and_utc()), help).map(|at| at.naive_utc())
    }

    fn date_text(&self, cx: &mut Cx<'_>) -> Option<String> {
        match self.value {
            DeValue::String(text) => Some(text.trim().to_owned()),
            DeValue::Datetime(datetime) => Some(datetime.to_string()),
            _ => {
                self.wrong_type(cx, "a date or an instant");
                None
            }
        }
    }

    fn in_era(&self, cx: &mut Cx<'_>, text: &str, at: Option<DateTime<Utc>>, help: &str) -> Option<DateTime<Utc>> {
        let (first, last) = (0, 32_503_680_000);
        if let Some(at) = at
            && (first..last).contains(&at.timestamp())
        {
            return Some(at);
        }
        let what = if at.is_some() {
            "lies outside the years 1970 to 2999"
        } else if looks_like_date(text) {
            "names a date or time that does not exist"
        } else {
            "is not a date"
        };
        let shown: String = text.chars().take(40).collect();
        self.wrong(cx, format!("`{}` {what}: {}", self.key_path, quoted(&shown)), help);
        None
    }
}

/// A table of the document, or the absence of one: reading it gives defaults.
pub(crate) struct Table<'t, 'i> {
    entries: Option<&'t DeTable<'i>>,
    /// Where to complain about something missing.
    pub(crate) span: Range<usize>,
    /// The table's own path, empty for the document.
    pub(crate) path: String,
    known: Vec<&'static str>,
    /// Keys that a profile presets, and the profile.
    pub(crate) preset: Option<(&'static str, &'static [&'static str])>,
}

impl<'t, 'i> Table<'t, 'i> {
    pub(crate) fn new(entries: Option<&'t DeTable<'i>>, span: Range<usize>, path: String) -> Self {
        Table { entries, span, path, known: Vec::new(), preset: None }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    pub(crate) fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A value that is present; the key is known from now on.
    pub(crate) fn item(&mut self, key: &'static str) -> Option<Item<'t, 'i>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let value = self.entries?.get(key)?;
        Some(Item { key_path: self.key_path(key), span: value.span(), value: value.get_ref() })
    }

    fn noted(&self, cx: &mut Cx<'_>, key: &'static str, value: impl FnOnce() -> String) {
        let at = self.entries.and_then(|entries| entries.get_key_value(key)).map(|(key, _)| key.span().start);
        let otherwise = match self.preset {
            Some((profile, keys)) if keys.contains(&key) => Origin::Profile { profile },
            _ => Origin::Default,
        };
        cx.note(self.key_path(key), value, at, otherwise);
    }

    /// A whole number into `slot`, which holds the default.
    pub(crate) fn int<T>(&mut self, cx: &mut Cx<'_>, key: &'static str, range: RangeInclusive<u64>, slot: &mut T)
    where
        T: TryFrom<u64> + Copy + std::fmt::Display,
    {
        if let Some(value) = self.item(key).and_then(|item| item.int(cx, &range))
            && let Ok(value) = T::try_from(value)
        {
            *slot = value;
        }
        let shown = *slot;
        self.noted(cx, key, || shown.to_string());
    }

    /// A whole number without a default.
    pub(crate) fn int_opt(&mut self, cx: &mut Cx<'_>, key: &'static str, range: RangeInclusive<u64>) -> Option<u32> {
        let value = self.item(key)?.int(cx, &range).and_then(|value| u32::try_from(value).ok());
        if let Some(value) = value {
            self.noted(cx, key, || value.to_string());
        }
        value
    }

    /// `true` or `false` into `slot`, which holds the default.
    pub(crate) fn flag(&mut self, cx: &mut Cx<'_>, key: &'static str, slot: &mut bool) {
        if let Some(value) = self.item(key).and_then(|item| item.flag(cx)) {
            *slot = value;
        }
        let shown = *slot;
        self.noted(cx, key, || shown.to_string());
    }

    /// A text into `slot`, which holds the default; returns the item where it was given and is a text.
    pub(crate) fn text(&mut self, cx: &mut Cx<'_>, key: &'static str, slot: &mut String) -> Option<Item<'t, 'i>> {
        let item = self.item(key);
        let value = item.as_ref().and_then(|item| item.text(cx));
        let given = value.is_some();
        if let Some(value) = value {
            *slot = value;
        }
        self.noted(cx, key, || quoted(slot));
        item.filter(|_| given)
    }

    /// A text without a default.
    pub(crate) fn text_opt(&mut self, cx: &mut Cx<'_>, key: &'static str) -> Option<(String, Item<'t, 'i>)> {
        let item = self.item(key)?;
        let text = item.text(cx)?;
        self.noted(cx, key, || quoted(&text));
        Some((text, item))
    }

    /// A word of a closed set into `slot`, which holds the default.
    pub(crate) fn word<W: Word>(&mut self, cx: &mut Cx<'_>, key: &'static str, slot: &mut W) {
        if let Some(value) = self.item(key).and_then(|item| item.word(cx)) {
            *slot = value;
        }
        let shown = *slot;
        self.noted(cx, key, || quoted(shown.as_str()));
    }

    /// A list of words of a closed set into `slot`, which holds the default.
    pub(crate) fn words<W: Word>(&mut self, cx: &mut Cx<'_>, key: &'static str, slot: &mut Vec<W>) {
        if let Some(items) = self.list(cx, key) {
            slot.clear();
            for item in items {
                if let Some(word) = item.word(cx)
                    && !slot.contains(&word)
                {
                    slot.push(word);
                }
            }
        }
        self.noted(cx, key, || list_shown(slot.iter().map(|word| word.as_str())));
    }

    /// A list of texts into `slot`, which holds the default; each is checked by `check`, which says what is
    /// wrong and what is allowed.
    pub(crate) fn texts<T: AsRef<str>>(
        &mut self,
        cx: &mut Cx<'_>,
        key: &'static str,
        slot: &mut Vec<T>,
        check: impl Fn(&str) -> Result<T, (&'static str, &'static str)>,
    ) {
        if let Some(items) = self.list(cx, key) {
            slot.clear();
            for item in items {
                let Some(text) = item.text(cx) else { continue };
                match check(&text) {
                    Ok(value) => slot.push(value),
                    Err((what, help)) => {
                        item.wrong(cx, format!("`{}` {what}: {}", item.key_path, quoted(&text)), help);
                    }
                }
            }
        }
        self.noted(cx, key, || list_shown(slot.iter().map(AsRef::as_ref)));
    }

    fn list(&mut self, cx: &mut Cx<'_>, key: &'static str) -> Option<Vec<Item<'t, 'i>>> {
        let item = self.item(key)?;
        let DeValue::Array(values) = item.value else {
            item.wrong_type(cx, "a list in brackets");
            return None;
        };
        if values.len() > LIST_MAX {
            item.wrong(
                cx,
                format!("`{}` has {} entries", item.key_path, values.len()),
                format!("at most {LIST_MAX} are allowed"),
            );
            return None;
        }
        let items = values.iter().enumerate().map(|(index, value)| Item {
            key_path: format!("{}[{index}]", item.key_path),
            span: value.span(),
            value: value.get_ref(),
        });
        Some(items.collect())
    }

    /// An instant, or a civil date of the billing zone, without a default.
    pub(crate) fn instant(
        &mut self,
        cx: &mut Cx<'_>,
        key: &'static str,
        zone: Tz,
        edge: Edge,
    ) -> Option<DateTime<Utc>> {
        let value = self.item(key)?.instant(cx, zone, edge)?;
        self.noted(cx, key, || quoted(&rfc3339(value)));
        Some(value)
    }

    /// A civil date, or date and time, without a default.
    pub(crate) fn civil(&mut self, cx: &mut Cx<'_>, key: &'static str) -> Option<NaiveDateTime> {
        let value = self.item(key)?.civil(cx)?;
        self.noted(cx, key, || quoted(&value.to_string()));
        Some(value)
    }

    /// A sub-table; where it is absent, reading it gives its defaults.
    pub(crate) fn table(&mut self, cx: &mut Cx<'_>, key: &'static str) -> Table<'t, 'i> {
        let path = self.key_path(key);
        match self.item(key) {
            None => Table::new(None, self.span.clone(), path),
            Some(Item { value: DeValue::Table(entries), span, .. }) => Table::new(Some(entries), span, path),
            Some(item) => {
                item.wrong_type(cx, &format!("a table: a line [{path}] and its keys below"));
                Table::new(None, item.span, path)
            }
        }
    }

    /// A list of sub-tables.
    pub(crate) fn tables(&mut self, cx: &mut Cx<'_>, key: &'static str, max: usize) -> Vec<Table<'t, 'i>> {
        let path = self.key_path(key);
        let Some(item) = self.item(key) else { return Vec::new() };
        let DeValue::Array(values) = item.value else {
            item.wrong_type(cx, &format!("a list of tables: a line [[{path}]] before each"));
            return Vec::new();
        };
        if values.len() > max {
            item.wrong(cx, format!("`{path}` is given {} times", values.len()), format!("at most {max} are allowed"));
        }
        let mut tables = Vec::new();
        for (index, value) in values.iter().take(max).enumerate() {
            let path = format!("{path}[{index}]");
            match value.get_ref() {
                DeValue::Table(entries) => tables.push(Table::new(Some(entries), value.span(), path)),
                other => Item { key_path: path, span: value.span(), value: other }.wrong_type(cx, "a table"),
            }
        }
        tables
    }

    /// All keys with their values, in the order of the file.
    pub(crate) fn in_file_order(&self) -> Vec<(&'t Spanned<std::borrow::Cow<'i, str>>, Item<'t, 'i>)> {
        let mut entries: Vec<_> = self.entries.into_iter().flat_map(|entries| entries.iter()).collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
            .into_iter()
            .map(|(key, value)| {
                let item = Item { key_path: self.key_path(key.get_ref()), span: value.span(), value: value.get_ref() };
                (key, item)
            })
            .collect()
    }

    /// A number of a table whose keys are free names.
    pub(crate) fn free_int(&self, cx: &mut Cx<'_>, item: &Item<'t, 'i>, range: RangeInclusive<u64>) -> Option<u32> {
        let value = item.int(cx, &range).and_then(|value| u32::try_from(value).ok())?;
        cx.note(item.key_path.clone(), || value.to_string(), Some(item.span.start), Origin::Default);
        Some(value)
    }

    /// Complains that a key is missing.
    pub(crate) fn missing(&self, cx: &mut Cx<'_>, key: &str, help: impl Into<String>) {
        let path = self.key_path(key);
        let problem = cx.fault(&self.span, &path, format!("`{path}` is missing")).help(help);
        cx.problems.push(problem);
    }

    /// Complains about every key that nobody asked for.
    pub(crate) fn finish(self, cx: &mut Cx<'_>) {
        for (key, item) in self.in_file_order() {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let guess = nearest(name, self.known.iter().copied());
            let guess = guess.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            let place = if self.path.is_empty() { "here".to_owned() } else { format!("in [{}]", self.path) };
            let mut known = self.known.clone();
            known.sort_unstable();
            let shown: String = item.key_path.chars().filter(|c| !c.is_control()).take(120).collect();
            let problem = cx
                .fault(&key.span(), &shown, format!("unknown key `{shown}`"))
                .label("not a key of usherd")
                .help(format!("{guess}allowed {place}: {}", one_of(known)));
            cx.problems.push(problem);
        }
    }
}

/// A text as TOML writes it.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// An instant as the configuration writes it.
pub(crate) fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

fn list_shown<'a>(words: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", words.map(quoted).collect::<Vec<_>>().join(", "))
}

fn a_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn parse_civil(text: &str) -> Option<NaiveDateTime> {
    let time_from_t = text.replacen(' ', "T", 1);
    ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(&time_from_t, format).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
}

fn looks_like_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 10 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-' && bytes[7] == b'-'
}
