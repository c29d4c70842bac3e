//! JSON as PBXs write it, read field by field: a field that cannot be read costs no other.
//!
//! A display name in Latin-1, half a surrogate, a raw control character or a number where a text belongs are all things
//! that a PBX passes on from a phone. Only what is asked for is parsed, nothing recurses, and [`Object::whole`] or
//! [`List::whole`] is false where the text ends first.

use super::names::text_of;

/// The fields of an object, in their order.
#[derive(Clone, Debug, Default)]
pub struct Object<'b> {
    fields: Vec<(&'b [u8], &'b [u8])>,
    /// True if it was closed: no field is missing at the end.
    pub whole: bool,
}

/// The elements of a list, in their order.
#[derive(Clone, Debug, Default)]
pub struct List<'b> {
    /// Each as it stands in the text.
    pub elements: Vec<&'b [u8]>,
    /// True if it was closed: no element is missing at the end.
    pub whole: bool,
}

impl<'b> Object<'b> {
    /// Reads the object with which these bytes begin; `None` where they begin with something else.
    pub fn read(bytes: &'b [u8]) -> Option<Self> {
        let mut at = past_blanks(bytes, 0);
        if bytes.get(at) != Some(&b'{') {
            return None;
        }
        at += 1;
        let mut object = Object::default();
        loop {
            at = past_separators(bytes, at);
            match bytes.get(at) {
                None => return Some(object),
                Some(b'}') => {
                    object.whole = true;
                    return Some(object);
                }
                Some(b'"') => {
                    let Some(key_end) = string_end(bytes, at) else { return Some(object) };
                    let colon = past_blanks(bytes, key_end);
                    if bytes.get(colon) != Some(&b':') {
                        at = key_end;
                        continue;
                    }
                    let value_at = past_blanks(bytes, colon + 1);
                    let Some(value_end) = value_end(bytes, value_at) else { return Some(object) };
                    object.fields.push((&bytes[at..key_end], &bytes[value_at..value_end]));
                    at = value_end;
                }
                Some(_) => match value_end(bytes, at) {
                    Some(end) => at = end.max(at + 1),
                    None => return Some(object),
                },
            }
        }
    }

    /// Name and value of every field; of a name that comes twice the last value counts.
    pub fn fields(&self) -> impl Iterator<Item = (String, &'b [u8])> {
        self.fields.iter().map(|(key, value)| (string(key), *value))
    }

    /// The value of a field as it stands in the text.
    pub fn raw(&self, name: &str) -> Option<&'b [u8]> {
        let is_it = |key: &[u8]| key.get(1..key.len() - 1) == Some(name.as_bytes()) || string(key) == name;
        self.fields.iter().rev().find(|(key, _)| is_it(key)).map(|(_, value)| *value)
    }

    /// A field as text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.raw(name).and_then(text)
    }
}

impl<'b> List<'b> {
    /// Reads the list with which these bytes begin; `None` where they begin with something else.
    pub fn read(bytes: &'b [u8]) -> Option<Self> {
        let mut at = past_blanks(bytes, 0);
        if bytes.get(at) != Some(&b'[') {
            return None;
        }
        at += 1;
        let mut list = List::default();
        loop {
            at = past_separators(bytes, at);
            match bytes.get(at) {
                None => return Some(list),
                Some(b']') => {
                    list.whole = true;
                    return Some(list);
                }
                Some(_) => {
                    let Some(end) = value_end(bytes, at) else { return Some(list) };
                    let end = end.max(at + 1);
                    list.elements.push(&bytes[at..end]);
                    at = end;
                }
            }
        }
    }
}

/// A value as text: texts, and numbers and truth values as they are written. Lists, objects and null are none.
pub fn text(value: &[u8]) -> Option<String> {
    match value.first()? {
        b'"' => Some(string(value)),
        b'0'..=b'9' | b'-' => Some(text_of(value).into_owned()),
        _ if value == b"true" || value == b"false" => Some(text_of(value).into_owned()),
        _ => None,
    }
}

fn past_blanks(bytes: &[u8], at: usize) -> usize {
    past(bytes, at, |byte| byte <= b' ')
}

fn past_separators(bytes: &[u8], at: usize) -> usize {
    past(bytes, at, |byte| byte <= b' ' || byte == b',')
}

fn past(bytes: &[u8], at: usize, skipped: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| !skipped(*byte)).unwrap_or(rest.len())
}

/// The place after the text that begins here; `None` where it does not end.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The place after the value that begins here; `None` where it does not end.
fn value_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string_end(bytes, at),
        b'{' | b'[' => nested_end(bytes, at),
        _ => {
            let ends = |byte: &u8| *byte <= b' ' || matches!(byte, b',' | b':' | b'}' | b']' | b'"');
            bytes[at..].iter().position(ends).map(|length| at + length)
        }
    }
}

fn nested_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// A text between its quotation marks, with its escapes resolved as far as they can be.
fn string(quoted: &[u8]) -> String {
    let mut rest = quoted.strip_prefix(b"\"").unwrap_or(quoted);
    rest = rest.strip_suffix(b"\"").unwrap_or(rest);
    let mut out = Vec::with_capacity(rest.len());
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        let (resolved, length) = escape(&rest[at..]);
        out.extend_from_slice(resolved.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[at + length..];
    }
    out.extend_from_slice(rest);
    text_of(&out).into_owned()
}

/// The character for which an escape stands, and the bytes that it takes. Half a surrogate is no character, and a
/// backslash before anything unknown stands for what follows it.
fn escape(bytes: &[u8]) -> (char, usize) {
    match bytes.get(1) {
        None => ('\\', 1),
        Some(b'n') => ('\n', 2),
        Some(b't') => ('\t', 2),
        Some(b'r') => ('\r', 2),
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'u') => {
            let Some(first) = unit(bytes) else { return ('u', 2) };
            if let Some(second) = bytes.get(6..).and_then(unit)
                && let Some(Ok(pair)) = char::decode_utf16([first, second]).next()
                && pair > '\u{ffff}'
            {
                return (pair, 12);
            }
            (char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER), 6)
        }
        Some(byte) if byte.is_ascii() => (char::from(*byte), 2),
        Some(_) => ('\\', 1),
    }
}

/// The unit of `\uXXXX`.
fn unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(json: &[u8], name: &str) -> Option<String> {
        Object::read(json).unwrap().text(name)
    }

    #[test]
    fn what_cannot_be_read_costs_itself_alone() {
        for before in [
            &b"\"J\xfcrgen\""[..],
            b"\"\\ud800\"",
            b"\"\\udc00\\ud800\"",
            b"\"\\ud800\\u0041\"",
            b"\"a\0b\x01\nc\"",
            b"\"\\x \\u12 \\\"\"",
            b"1e999999",
            b"-",
            b"nonsense",
            b"",
            b"[[{\"a\":[\"}\"]}],\"]\"]",
            b"{\"uuid\":\"inner\"}",
        ] {
            let json = [b"{\"name\":", before, b",\"uuid\":\"u-1\" , \"n\" : 17,\"yes\":true,\"no\":null}"].concat();
            let shown = String::from_utf8_lossy(&json).into_owned();
            assert_eq!(field(&json, "uuid").as_deref(), Some("u-1"), "{shown}");
            assert_eq!(field(&json, "n").as_deref(), Some("17"), "{shown}");
            assert_eq!((field(&json, "yes").as_deref(), field(&json, "no")), (Some("true"), None), "{shown}");
            assert!(Object::read(&json).unwrap().whole, "{shown}");
        }
    }

    #[test]
    fn texts_are_read_as_they_were_meant() {
        for (json, meant) in [
            (&b"\"J\xfcrgen\""[..], "J\u{fc}rgen"),
            (b"\"J\xc3\xbcrgen\"", "J\u{fc}rgen"),
            (b"\"\\ud83d\\ude00 \\u00fc\\/\\\\\\\"\\n\"", "\u{1f600} \u{fc}/\\\"\n"),
            (b"\"\\ud800x\"", "\u{fffd}x"),
            (b"\"\\ud800\\u0041\"", "\u{fffd}A"),
            (b"\"\\ud800\\ud83d\\ude00\"", "\u{fffd}\u{1f600}"),
            (b"\"\\udc00\"", "\u{fffd}"),
            (b"\"\\u12\\q\\\"", "u12q\\"),
            (b"-1.50e3", "-1.50e3"),
        ] {
            assert_eq!(text(json).as_deref(), Some(meant), "{meant}");
        }
    }

    #[test]
    fn the_last_of_equal_names_counts_and_names_are_unescaped() {
        assert_eq!(field(b"{\"a\":1,\"a\":2}", "a").as_deref(), Some("2"));
        assert_eq!(field(b"{\"\\u0061\":1}", "a").as_deref(), Some("1"));
    }

    #[test]
    fn a_cut_is_told_wherever_it_is_and_nothing_is_made_up() {
        let whole = br#"[{"uuid":"a\"","x":[1,{"y":"]}"}]}, {"uuid":"b"},17 ]"#;
        let list = List::read(whole).unwrap();
        assert!(list.whole && list.elements.len() == 3);
        for cut in 0..whole.len() {
            let Some(part) = List::read(&whole[..cut]) else { continue };
            assert!(!part.whole, "cut at {cut}");
            assert!(list.elements.starts_with(&part.elements), "cut at {cut}");
            for element in part.elements {
                assert!(Object::read(element).is_none_or(|object| object.whole));
            }
        }
    }

    #[test]
    fn any_bytes_come_to_an_end() {
        let mut seed = fastrand::Rng::with_seed(0x6a_73);
        let known = b"{}[]\",:\\u1d8 a\xfc\0";
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..seed.usize(..40)).map(|_| known[seed.usize(..known.len())]).collect();
            if let Some(object) = Object::read(&bytes) {
                object.fields().for_each(|(_, value)| drop(text(value)));
            }
            if let Some(list) = List::read(&bytes) {
                list.elements.iter().for_each(|element| drop(text(element)));
            }
        }
        let deep = vec![b'['; 1_000_000];
        assert!(!List::read(&deep).unwrap().whole);
    }
}
