//! Names of PBXs made into names that usherd takes: none is too long or too strange to be counted.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Longest id of a channel or name of a device that is kept, bytes; a row with a longer one is left out and counted.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Longest name that usherd takes, bytes (A1).
const FITTED_BYTES_MAX: usize = 128;
/// Bytes of a checksum behind a name that was changed: these are twice as many digits.
const SUM_BYTES: usize = 8;

/// Text from bytes: UTF-8 where it is, and every other byte as Latin-1, which old phones send.
pub fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().copied().map(char::from));
    }
    Cow::Owned(text)
}

/// A session's name as usherd takes it: at most 128 bytes of printable ASCII (API 2).
pub fn session(name: &str) -> Cow<'_, str> {
    fitted(name, |c| (' '..='~').contains(&c))
}

/// A subject's name as usherd takes it: at most 128 bytes of UTF-8 without control characters (A1).
pub fn subject(name: &str) -> Cow<'_, str> {
    fitted(name, |c| !c.is_control())
}

/// A name that fits is not touched. In any other, what does not fit becomes `%XX`; the result is cut to 111 bytes, and
/// `~` and the first 16 hex digits of the SHA-256 of the whole name keep it unique.
fn fitted(name: &str, fits: fn(char) -> bool) -> Cow<'_, str> {
    if name.len() <= FITTED_BYTES_MAX && name.chars().all(fits) {
        return Cow::Borrowed(name);
    }
    let room = FITTED_BYTES_MAX - 1 - 2 * SUM_BYTES;
    let mut out = String::with_capacity(FITTED_BYTES_MAX);
    for c in name.chars() {
        let before = out.len();
        if fits(c) {
            out.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        if out.len() > room {
            out.truncate(before);
            break;
        }
    }
    out.push('~');
    for byte in Sha256::digest(name.as_bytes()).iter().take(SUM_BYTES) {
        let _ = write!(out, "{byte:02x}");
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use usherd_contract::names::{check_session, check_subject};

    #[test]
    fn names_that_fit_are_not_touched() {
        for name in ["pbx-1-asterisk-PJSIP/anna-desk", "a b%20", &"x".repeat(128)] {
            assert_eq!(session(name), name);
            assert_eq!(subject(name), name);
        }
        assert_eq!(subject("zo\u{eb}"), "zo\u{eb}");
    }

    #[test]
    fn every_other_name_is_made_to_fit_and_stays_unlike_all_others() {
        assert_eq!(session("fs-zo\u{eb}-desk@acme"), "fs-zo%C3%AB-desk@acme~ee623faa6d3f8b22");
        let strange = ["zo\u{eb}", "zo%C3%AB", "zo\0", "zo\u{85}", "\u{1f600}", "\u{fffd}"].map(str::to_owned);
        let long = (127..140).map(|bytes| "y".repeat(bytes)).chain((120..140).map(|bytes| "\u{eb}".repeat(bytes)));
        let (mut sessions, mut subjects) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        let mut count = 0;
        for name in strange.into_iter().chain(long) {
            let mut faults = Vec::new();
            check_session(&session(&name), &mut faults);
            check_subject(&subject(&name), &mut faults);
            assert!(faults.is_empty(), "{name:?}: {faults:?}");
            sessions.insert(session(&name).into_owned());
            subjects.insert(subject(&name).into_owned());
            count += 1;
        }
        assert_eq!((sessions.len(), subjects.len()), (count, count));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_latin_1() {
        assert_eq!(text_of(b"J\xfcrgen \xc3\xbc \xff"), "J\u{fc}rgen \u{fc} \u{ff}");
    }
}
