//! An answer as it is written.

use serde::Serialize;
use serde_json::Value;

/// An answer as a JSON value, and so as it is written.
pub fn value_of(answer: &impl Serialize) -> Value {
    // Never straight into text: a value has its keys in alphabetical order, which is that of every release before.
    serde_json::to_value(answer).unwrap_or_default()
}
