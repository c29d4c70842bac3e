//! Instants and strings as the wire writes them.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};

/// An instant in UTC, RFC 3339; with milliseconds only where it has some.
pub fn rfc3339(utc_ms: i64) -> String {
    let format = if utc_ms % 1_000 == 0 { SecondsFormat::Secs } else { SecondsFormat::Millis };
    DateTime::from_timestamp_millis(utc_ms).map_or_else(|| utc_ms.to_string(), |at| at.to_rfc3339_opts(format, true))
}

/// The wall clock of an instant.
pub fn utc(now: usherd_engine::Now) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(now.utc_ms).unwrap_or_default()
}

/// A string as JSON, quotes included.
pub fn write_json_str(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c < ' ' || c == '\u{7f}' => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
}
