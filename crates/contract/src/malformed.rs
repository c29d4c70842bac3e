//! The faults of a message that cannot be read: every wrong field by its place.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::names::Fault;

/// Most faults that are named at once.
pub const ERRORS_MAX: usize = 32;

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FieldError {
    /// JSON pointer of the field; also for form fields and query parameters, as `/limit`. Empty for the body as a
    /// whole.
    pub pointer: String,
    /// The fault, and what is allowed.
    pub detail: Cow<'static, str>,
}

impl FieldError {
    /// A fault of one field, by its name.
    pub fn of(field: &str, what: impl Into<Cow<'static, str>>) -> Self {
        let pointer = format!("/{}", field.replace('~', "~0").replace('/', "~1"));
        FieldError { pointer, detail: what.into() }
    }
}

impl From<&Fault> for FieldError {
    fn from(fault: &Fault) -> Self {
        FieldError::of(fault.field, fault.what)
    }
}

/// A message that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    too_large: bool,
}

impl Malformed {
    /// One sentence on what is wrong.
    pub fn new(detail: impl Into<Cow<'static, str>>) -> Self {
        Malformed { detail: detail.into(), errors: Vec::new(), too_large: false }
    }

    /// It has more parts than it may.
    pub fn too_large(detail: impl Into<Cow<'static, str>>) -> Self {
        Malformed { too_large: true, ..Malformed::new(detail) }
    }

    /// These faults, at most [`ERRORS_MAX`] of them; the detail counts them.
    pub fn faulty(mut errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => Cow::Owned(format!("{} {}", one.pointer, one.detail)),
            many => Cow::Owned(format!("{} fields are wrong, see errors", many.len())),
        };
        errors.truncate(ERRORS_MAX);
        Malformed { detail, errors, too_large: false }
    }

    /// The faults that a check of a message found.
    pub fn from_faults(faults: &[Fault]) -> Self {
        Malformed::faulty(faults.iter().map(FieldError::from).collect())
    }

    /// Adds a wrong field.
    #[must_use]
    pub fn error(mut self, pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        self.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
        self
    }

    /// The same, as a part of a larger message: every pointer gets this in front.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        for error in &mut self.errors {
            error.pointer.insert_str(0, prefix);
        }
        self
    }

    /// True if it is only too large, and nothing else is known to be wrong.
    pub const fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// The sentence.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The wrong fields.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// The sentence, and the wrong fields.
    pub fn into_parts(self) -> (Cow<'static, str>, Vec<FieldError>) {
        (self.detail, self.errors)
    }

    /// The wrong fields, to be gathered into another one.
    pub fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }

    /// Each field with its fault, or the fault of the whole, for protocols that have one line for it.
    pub fn in_one_line(&self) -> String {
        in_one_line(&self.detail, &self.errors)
    }
}

/// The wrong fields in one line, or the sentence where there are none.
pub fn in_one_line(detail: &str, errors: &[FieldError]) -> String {
    let faults = errors.iter().map(|fault| format!("{} {}", fault.pointer.trim_start_matches('/'), fault.detail));
    let faults: Vec<String> = faults.collect();
    if faults.is_empty() { detail.to_owned() } else { faults.join("; ") }
}
