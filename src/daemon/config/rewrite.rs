//! Writes a changed subscription back into the text it came from, and leaves everything else as it stands.

use chrono::{DateTime, NaiveDateTime, NaiveTime, Utc};
use toml_edit::{ArrayOfTables, Decor, DocumentMut, Item, RawString, Table, TableLike, Value, value};
use usherd_subscription::record::{Addon, Change, Record, Submitted};

use super::value::rfc3339;

/// The text with the new record in the place of the old one; comments, order and all other keys stay.
///
/// `inline` is the place of the tenant among the `[[tenant]]` tables of the text; `None` where the whole text
/// is one tenant. The text must be the one that `before` was read from.
///
/// # Errors
/// A sentence that says what in the text cannot be followed.
pub fn rewrite(text: &str, inline: Option<usize>, before: &Record, after: &Record) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("the file is not TOML: {error}"))?;
    let table = match inline {
        None => document.as_table_mut(),
        Some(at) => {
            let tables = document.get_mut("tenant").and_then(Item::as_array_of_tables_mut);
            tables.and_then(|tables| tables.get_mut(at)).ok_or("the tenant does not stand in a [[tenant]] table")?
        }
    };
    contract(table, before, after);
    list(table, "change", &before.changes, &after.changes, same_change, new_change, |_, _, _| Ok(()))?;
    list(table, "addon", &before.addons, &after.addons, |a, b| a.id == b.id, |_| Table::new(), change_addon)?;
    list(table, "request", &before.requests, &after.requests, |a, b| a.id == b.id, new_request, change_request)?;
    Ok(like(text, document.to_string()))
}

/// The new text with the line ends and the byte order mark of the old one, so that only what changed differs.
fn like(old: &str, new: String) -> String {
    let lines = old.matches('\n').count();
    let new = if lines > 0 && old.matches("\r\n").count() == lines { new.replace('\n', "\r\n") } else { new };
    if old.starts_with('\u{feff}') { format!("\u{feff}{new}") } else { new }
}

fn contract(table: &mut Table, before: &Record, after: &Record) {
    if before.kind != after.kind {
        set(table, "kind", Some(after.kind.as_str().into()));
    }
    if before.start != after.start {
        set(table, "start", after.start.map(|start| civil(start).into()));
    }
    if before.seats != after.seats {
        table.remove("unlimited");
        set(table, "seats", after.seats.map(|seats| i64::from(seats).into()));
        if after.seats.is_none() {
            set(table, "unlimited", Some(true.into()));
        }
    }
    if before.suspended != after.suspended {
        set(table, "suspended", Some(after.suspended.into()));
    }
    end(table, (before.cancel_at, before.cancel_by.as_str()), (after.cancel_at, after.cancel_by.as_str()));
}

/// Writes or removes an end, and beside it the party that booked it.
fn end(table: &mut Table, before: (Option<DateTime<Utc>>, &str), after: (Option<DateTime<Utc>>, &str)) {
    if before == after {
        return;
    }
    set(table, "cancel_at", after.0.map(|at| rfc3339(at).into()));
    set(table, "cancel_by", after.0.map(|_| after.1.into()));
}

/// Sets a key and keeps the comment behind it; `None` removes the key.
fn set(table: &mut dyn TableLike, key: &str, new: Option<Value>) {
    let Some(mut new) = new else {
        table.remove(key);
        return;
    };
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => _ = table.insert(key, value(new)),
    }
}

/// A civil time as people write it: the date alone where it is midnight.
fn civil(at: NaiveDateTime) -> String {
    if at.time() == NaiveTime::MIN { at.date().to_string() } else { at.format("%Y-%m-%dT%H:%M:%S").to_string() }
}

/// Brings a list of tables from one state to the other; the tables stand in the order of `before`.
fn list<T: PartialEq>(
    table: &mut Table,
    key: &str,
    before: &[T],
    after: &[T],
    same: impl Fn(&T, &T) -> bool,
    new: impl Fn(&T) -> Table,
    change: impl Fn(&mut Table, &T, &T) -> Result<(), String>,
) -> Result<(), String> {
    if before == after {
        return Ok(());
    }
    if !table.contains_key(key) {
        table.insert(key, Item::ArrayOfTables(ArrayOfTables::new()));
    }
    spread(table, key);
    let tables = table.get_mut(key).and_then(Item::as_array_of_tables_mut);
    let tables = tables.ok_or_else(|| format!("`{key}` is not a list of tables"))?;
    if tables.len() != before.len() {
        return Err(format!("`{key}` has {} entries, {} were read", tables.len(), before.len()));
    }
    for at in (0..before.len()).rev().filter(|at| !after.iter().any(|kept| same(&before[*at], kept))) {
        tables.remove(at);
    }
    for (at, wanted) in after.iter().enumerate() {
        match before.iter().find(|old| same(old, wanted)) {
            Some(old) if old == wanted => {}
            Some(old) => change(tables.get_mut(at).ok_or_else(|| format!("`{key}` is out of order"))?, old, wanted)?,
            None => tables.insert(at, new(wanted)),
        }
    }
    if tables.is_empty() {
        table.remove(key);
    }
    Ok(())
}

/// Makes of `change = [{ … }]` a table each, as there is no other way to add to it; its comments stand before them.
fn spread(table: &mut Table, key: &str) {
    let above = table.key(key).and_then(|key| key.leaf_decor().prefix()?.as_str()).map(comments).unwrap_or_default();
    let Some(Item::Value(Value::Array(array))) = table.get(key) else { return };
    let mut notes = vec![Vec::new(); array.len().max(1)];
    notes[0] = above;
    let gaps = array.iter().map(|value| value.decor().prefix()).chain([Some(array.trailing()), array.decor().suffix()]);
    for (at, gap) in gaps.enumerate() {
        // What is said on the line of an entry stands behind it.
        let gap = gap.and_then(RawString::as_str).unwrap_or_default();
        let (behind, before) = gap.split_once('\n').unwrap_or((gap, ""));
        let last = notes.len() - 1;
        notes[at.saturating_sub(1).min(last)].extend(comments(behind));
        notes[at.min(last)].extend(comments(before));
    }
    let item = table.remove(key).unwrap_or_default();
    let mut tables = item.into_array_of_tables().unwrap_or_default();
    for (table, notes) in tables.iter_mut().zip(notes) {
        *table.decor_mut() = Decor::new(format!("\n{}", notes.concat()), "");
    }
    table.insert(key, Item::ArrayOfTables(tables));
}

fn comments(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

fn same_change(a: &Change, b: &Change) -> bool {
    a == b
}

fn new_change(change: &Change) -> Table {
    let mut table = Table::new();
    set(&mut table, "effective_at", Some(rfc3339(change.effective_at).into()));
    set(&mut table, "seats", Some(i64::from(change.seats).into()));
    set(&mut table, "by", Some(change.by.as_str().into()));
    table
}

fn change_addon(table: &mut Table, before: &Addon, after: &Addon) -> Result<(), String> {
    end(table, (before.cancel_at, before.cancel_by.as_str()), (after.cancel_at, after.cancel_by.as_str()));
    list(table, "change", &before.changes, &after.changes, same_change, new_change, |_, _, _| Ok(()))
}

fn new_request(request: &Submitted) -> Table {
    let mut table = Table::new();
    set(&mut table, "id", Some(request.id.as_str().into()));
    set(&mut table, "at", Some(rfc3339(request.at).into()));
    set(&mut table, "object", Some(request.object.to_string().into()));
    set(&mut table, "licences", request.licences.map(|licences| i64::from(licences).into()));
    set(&mut table, "when", request.when.map(|when| when.to_string().into()));
    set(&mut table, "status", Some(request.status.as_str().into()));
    table
}

fn change_request(table: &mut Table, _: &Submitted, after: &Submitted) -> Result<(), String> {
    set(table, "status", Some(after.status.as_str().into()));
    Ok(())
}
