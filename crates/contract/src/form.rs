//! Form fields and query strings: `application/x-www-form-urlencoded`, borrowed where nothing is encoded.

use std::borrow::Cow;
use std::str::FromStr;

use super::faults;
use super::fields::{expected, flag};
use super::malformed::{FieldError, Malformed};
use super::word::Vocabulary;

/// Most fields of one form; all that the contract knows, and as many unknown ones.
const FIELDS_MAX: usize = 64;

/// Splits a form into its fields, still encoded.
fn pairs(form: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    form.split(|b| *b == b'&').filter(|pair| !pair.is_empty()).map(|pair| match pair.iter().position(|b| *b == b'=') {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &[][..]),
    })
}

/// A form of these fields: what they would have been over HTTP.
pub fn of_pairs<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut form = Vec::new();
    for (key, value) in pairs {
        for (part, end) in [(key, b'='), (value, b'&')] {
            for byte in part {
                match byte {
                    b'&' | b'=' | b'+' | b'%' => form.extend_from_slice(format!("%{byte:02x}").as_bytes()),
                    byte => form.push(*byte),
                }
            }
            form.push(end);
        }
    }
    form
}

/// Decodes `%41` and `+`. A percent sign without two hex digits stands for itself, as browsers have it.
pub(super) fn decode(encoded: &[u8]) -> Cow<'_, [u8]> {
    if !encoded.iter().any(|b| matches!(b, b'%' | b'+')) {
        return Cow::Borrowed(encoded);
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => decoded.push(b' '),
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            _ => decoded.push(*first),
        }
    }
    Cow::Owned(decoded)
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

fn text(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// All fields, decoded, bad bytes replaced: for looking, not for deciding. As many as the body has room for.
pub(super) fn lossy(form: &[u8]) -> impl Iterator<Item = (String, String)> {
    let plain = |bytes| String::from_utf8_lossy(&decode(bytes)).into_owned();
    pairs(form).map(move |(key, value)| (plain(key), plain(value)))
}

/// The faults of a form so far.
#[derive(Debug, Default)]
pub struct Faulty {
    errors: Vec<FieldError>,
}

impl Faulty {
    fn add(&mut self, key: &str, what: impl Into<Cow<'static, str>>) {
        self.errors.push(FieldError::of(key, what));
    }

    pub(super) fn word<W: Vocabulary>(&mut self, key: &str, value: &str) -> Option<W> {
        let word = W::from_word(value);
        if word.is_none() {
            self.add(key, expected::<W>());
        }
        word
    }

    pub(super) fn flag(&mut self, key: &str, value: &str) -> Option<bool> {
        let flag = flag(value);
        if flag.is_none() {
            self.add(key, "must be true or false (1, 0, yes, no, on, off)");
        }
        flag
    }

    pub(super) fn number<N: FromStr>(&mut self, key: &str, value: &str) -> Option<N> {
        // A leading plus is a blank here already; `parse` would take it elsewhere.
        let number = if value.bytes().all(|b| b.is_ascii_digit()) { value.parse().ok() } else { None };
        if number.is_none() {
            self.add(key, faults::number_wanted(key));
        }
        number
    }
}

/// Gives each field to `set`. An empty value is an absent one; a key that comes twice is a fault.
///
/// # Errors
/// 400: every fault.
pub(super) fn read<'a>(form: &'a [u8], set: impl FnMut(&str, Cow<'a, str>, &mut Faulty)) -> Result<(), Malformed> {
    read_pairs(pairs(form), decode, set)
}

/// As [`read`], of names and values that a protocol keeps apart by itself.
///
/// # Errors
/// 400: every fault.
pub(super) fn read_pairs<'a>(
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    decode: fn(&'a [u8]) -> Cow<'a, [u8]>,
    mut set: impl FnMut(&str, Cow<'a, str>, &mut Faulty),
) -> Result<(), Malformed> {
    let mut faulty = Faulty::default();
    let mut seen: [&[u8]; FIELDS_MAX] = [&[]; FIELDS_MAX];
    let mut is_encoded = false;
    for (at, (key, value)) in pairs.enumerate() {
        let Some(place) = seen.get_mut(at) else {
            return Err(Malformed::new("there are more than 64 fields"));
        };
        *place = key;
        is_encoded |= key.iter().any(|b| matches!(b, b'%' | b'+'));
        let Some(name) = text(decode(key)) else { continue };
        let is_same = |earlier: &&'a [u8]| *earlier == key || (is_encoded && decode(earlier) == decode(key));
        if seen.iter().take(at).any(is_same) {
            faulty.add(&name, "is given twice");
            continue;
        }
        if value.is_empty() {
            continue;
        }
        match text(decode(value)) {
            Some(value) => set(&name, value, &mut faulty),
            None => faulty.add(&name, "is not UTF-8"),
        }
    }
    if faulty.errors.is_empty() { Ok(()) } else { Err(Malformed::faulty(faulty.errors)) }
}

/// The `epoch` of a form or query, if it has one.
///
/// # Errors
/// 400: it is not a whole number.
pub(super) fn epoch(form: &[u8]) -> Result<Option<u64>, Malformed> {
    let mut epoch = None;
    read(form, |key, value, faulty| {
        if key == "epoch" {
            epoch = faulty.number(key, &value);
        }
    })?;
    Ok(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_borrows_what_is_plain_and_never_fails() {
        assert!(matches!(decode(b"plain-1.2"), Cow::Borrowed(_)));
        for (encoded, decoded) in [
            (&b"a+b"[..], &b"a b"[..]),
            (b"%41%2b%2B", b"A++"),
            (b"100%", b"100%"),
            (b"%4", b"%4"),
            (b"%zz%", b"%zz%"),
            (b"%c3%bc", "ü".as_bytes()),
            (b"%00", b"\0"),
        ] {
            assert_eq!(&*decode(encoded), decoded);
        }
    }

    #[test]
    fn pairs_become_the_form_that_reads_as_them() {
        let pairs = [(&b"a&b"[..], &b"=%+ \xff"[..]), (b"", b""), (b"c", "\u{fc}".as_bytes())];
        let form = of_pairs(pairs.into_iter());
        let read: Vec<_> = super::pairs(&form).map(|(key, value)| (decode(key), decode(value))).collect();
        assert_eq!(read.len(), 3);
        assert!(read.iter().zip(pairs).all(|(read, pair)| *read.0 == *pair.0 && *read.1 == *pair.1));
    }

    #[test]
    fn a_form_with_wrong_fields_names_each() {
        let problem = read(b"a=1&%61=2&n=-1&n2=1.5&f=maybe&u=%ff&e=", |key, value, faulty| match key {
            "n" | "n2" => {
                faulty.number::<u64>(key, &value);
            }
            "f" => {
                faulty.flag(key, &value);
            }
            "e" => panic!("empty is absent"),
            _ => {}
        })
        .unwrap_err();
        let pointers: Vec<_> = problem.errors().iter().map(|e| e.pointer.as_str()).collect();
        assert_eq!(pointers, ["/a", "/n", "/n2", "/f", "/u"]);
    }
}
