//! A typed reader over a TOML document that collects every fault with its place instead of stopping at one.

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};
use usherd_contract::file::nearest;
use usherd_contract::word::Vocabulary;
use usherd_subscription::civil::Edge;

use super::origin::Origin;
use super::value::{Cx, Item, quoted, rfc3339};
use super::words::{ProblemCode, one_of};

/// Most entries of a list.
const LIST_MAX: usize = 1_000;

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

    /// True if a key was asked for.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.known.contains(&key)
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

    /// Notes a value that was read by [`Table::item`].
    pub(crate) fn noted(&self, cx: &mut Cx<'_>, key: &'static str, value: impl FnOnce() -> String) {
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
    pub(crate) fn word<W: Vocabulary>(&mut self, cx: &mut Cx<'_>, key: &'static str, slot: &mut W) {
        if let Some(value) = self.item(key).and_then(|item| item.word(cx)) {
            *slot = value;
        }
        let shown = *slot;
        self.noted(cx, key, || quoted(shown.as_str()));
    }

    /// A list of words of a closed set into `slot`, which holds the default.
    pub(crate) fn words<W: Vocabulary>(&mut self, cx: &mut Cx<'_>, key: &'static str, slot: &mut Vec<W>) {
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
            item.wrong_as(
                cx,
                ProblemCode::TooLarge,
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
            let message = format!("`{path}` is given {} times", values.len());
            item.wrong_as(cx, ProblemCode::TooLarge, message, format!("at most {max} are allowed"));
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
    pub(crate) fn in_file_order(&self) -> Vec<(&'t Spanned<Cow<'i, str>>, Item<'t, 'i>)> {
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
        let problem = cx.fault(&self.span, &path, format!("`{path}` is missing")).code(ProblemCode::Missing).help(help);
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
                .code(ProblemCode::UnknownKey)
                .label("not a key of usherd")
                .help(format!("{guess}allowed {place}: {}", one_of(known)));
            cx.problems.push(problem);
        }
    }
}

fn list_shown<'a>(words: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", words.map(quoted).collect::<Vec<_>>().join(", "))
}
