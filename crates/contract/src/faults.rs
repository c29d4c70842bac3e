//! The faults of a JSON body, field by field: it is read again, on the way of the error only.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::fields::expected;
use super::malformed::{FieldError, Malformed};
use super::word::Vocabulary;
use super::words::{Class, Device, Direction, Kind, Leg};

/// Longest list that is read again to tell what was wrong, bytes: as a tree it takes many times its length.
const READ_AGAIN_BYTES_MAX: usize = 64 * 1024;

/// The type that a field must have.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    Text,
    Flag,
    Number { max: u64 },
    Word(fn(&str) -> bool, fn() -> String),
}

const fn word<W: Vocabulary>() -> Wanted {
    Wanted::Word(|word| W::from_word(word).is_some(), expected::<W>)
}

const NUMBER: Wanted = Wanted::Number { max: u64::MAX };

pub(super) const RELEASE: &[(&str, Wanted)] =
    &[("tenant", Wanted::Text), ("session", Wanted::Text), ("node", Wanted::Text), ("epoch", NUMBER), ("seq", NUMBER)];

pub(super) const ACQUIRE: &[(&str, Wanted)] = &[
    ("tenant", Wanted::Text),
    ("subject", Wanted::Text),
    ("session", Wanted::Text),
    ("kind", word::<Kind>()),
    ("direction", word::<Direction>()),
    ("leg", word::<Leg>()),
    ("device", word::<Device>()),
    ("class", word::<Class>()),
    ("to", Wanted::Text),
    ("emergency", Wanted::Flag),
    ("external", Wanted::Flag),
    ("group", Wanted::Text),
    ("node", Wanted::Text),
    ("epoch", NUMBER),
    ("seq", NUMBER),
    ("ttl_s", Wanted::Number { max: u32::MAX as u64 }),
    ("existing", Wanted::Flag),
];

/// The sentence for people about what a number must be.
pub(super) fn number_wanted(field: &str) -> &'static str {
    if field == "ttl_s" {
        "must be a whole number of seconds, 1 to 86400"
    } else {
        "must be a whole number, 0 to 18446744073709551615"
    }
}

fn fault(field: &str, value: &Value, wanted: Wanted) -> Option<FieldError> {
    let what: Cow<'static, str> = match wanted {
        Wanted::Text if !value.is_string() => "must be a string".into(),
        Wanted::Flag if !value.is_boolean() => "must be true or false".into(),
        Wanted::Number { max } if value.as_u64().is_none_or(|number| number > max) => number_wanted(field).into(),
        Wanted::Word(is_word, expected) if !value.as_str().is_some_and(is_word) => expected().into(),
        _ => return None,
    };
    Some(FieldError::of(field, what))
}

fn not_json(error: &serde_json::Error) -> Malformed {
    let place = format!("is not JSON: {error}");
    Malformed::new(format!("the body {place}")).error("", place)
}

fn no_object() -> Malformed {
    Malformed::new("the body must be a JSON object").error("", "must be an object")
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Malformed> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(no_object()),
        Err(error) => Err(not_json(&error)),
    }
}

/// Refuses what is no object before serde sees it: serde takes a list for a struct, field by field.
///
/// # Errors
/// 400.
pub(super) fn need_object(body: &[u8]) -> Result<(), Malformed> {
    if body.trim_ascii_start().first() == Some(&b'{') {
        return Ok(());
    }
    match serde_json::from_slice::<IgnoredAny>(body) {
        Ok(_) => Err(no_object()),
        Err(error) => Err(not_json(&error)),
    }
}

/// Finds every field of the wrong type, takes it out, and lets `rest` judge what is left.
fn of_fields(
    body: &[u8],
    first: &serde_json::Error,
    fields: &[(&str, Wanted)],
    rest: impl FnOnce(&[u8]) -> Option<Malformed>,
) -> Malformed {
    let mut object = match object(body) {
        Ok(object) => object,
        Err(problem) => return problem,
    };
    let mut errors = Vec::new();
    for (field, wanted) in fields {
        let found = object.get(*field).filter(|value| !value.is_null());
        if let Some(found) = found.and_then(|value| fault(field, value, *wanted)) {
            errors.push(found);
            object.remove(*field);
        }
    }
    if errors.is_empty() {
        // Read as a whole it was wrong, field by field it is not: a key is there twice.
        return Malformed::new(format!("the body is wrong: {first}")).error("", first.to_string());
    }
    let left = serde_json::to_vec(&object).unwrap_or_default();
    for more in rest(&left).map(Malformed::into_errors).unwrap_or_default() {
        if errors.iter().all(|known| known.pointer != more.pointer) {
            errors.push(more);
        }
    }
    Malformed::faulty(errors)
}

/// Why this is not an acquire; `rest` judges it without its fields of a wrong type.
pub(super) fn of_acquire(
    body: &[u8],
    first: &serde_json::Error,
    rest: impl FnOnce(&[u8]) -> Option<Malformed>,
) -> Malformed {
    of_fields(body, first, ACQUIRE, rest)
}

/// Why this is not a release; `rest` as for an acquire.
pub(super) fn of_release(
    body: &[u8],
    first: &serde_json::Error,
    rest: impl FnOnce(&[u8]) -> Option<Malformed>,
) -> Malformed {
    of_fields(body, first, RELEASE, rest)
}

/// Why this has no list under this key.
pub(super) fn of_list(body: &[u8], key: &str, first: &serde_json::Error) -> Malformed {
    if body.len() > READ_AGAIN_BYTES_MAX {
        return Malformed::new(format!("the body is wrong: {first}")).error("", first.to_string());
    }
    let object = match object(body) {
        Ok(object) => object,
        Err(problem) => return problem,
    };
    let mut errors = Vec::new();
    match object.get(key) {
        None => errors.push(FieldError::of(key, "is required: a list")),
        Some(Value::Array(_)) => {}
        Some(_) => errors.push(FieldError::of(key, "must be a list")),
    }
    for field in ["epoch", "seq"] {
        let found = object.get(field).filter(|value| !value.is_null());
        errors.extend(found.and_then(|value| fault(field, value, NUMBER)));
    }
    if errors.is_empty() {
        return Malformed::new(format!("the body is wrong: {first}")).error("", first.to_string());
    }
    Malformed::faulty(errors)
}

/// True if this is an operation that calls itself a release.
pub(super) fn is_release(body: &[u8]) -> bool {
    object(body).is_ok_and(|object| object.get("op").and_then(Value::as_str) == Some("release"))
}

/// The `epoch` of a JSON object, if it has one.
///
/// # Errors
/// 400: not an object, or not a whole number.
pub(super) fn epoch(body: &[u8]) -> Result<Option<u64>, Malformed> {
    let object = object(body)?;
    let Some(value) = object.get("epoch").filter(|value| !value.is_null()) else { return Ok(None) };
    match fault("epoch", value, NUMBER) {
        Some(found) => Err(Malformed::faulty(vec![found])),
        None => Ok(value.as_u64()),
    }
}
