//! Instants, strings and bytes as the wire writes them.

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

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from exactly so many lower-case hexadecimal digits.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}
