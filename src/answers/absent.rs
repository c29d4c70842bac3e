//! Fields that are absent, null or there: three things.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// Reads a field that is there, null too.
pub(super) fn some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(field: D) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// The value of a field that is true where an older daemon does not write it.
pub(super) const fn yes() -> bool {
    true
}

/// The schema of a field that is null where it is there and says nothing. A property that may be absent is else never
/// null.
pub(super) fn or_null<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "oneOf": [{ "const": null }, generator.subschema_for::<T>()] })
}
