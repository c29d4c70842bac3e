//! Names as the table keeps them: a canonical UUID in its sixteen bytes, everything else as text.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::session::Name;

/// Bytes of a UUID as text.
pub(crate) const UUID_TEXT: usize = 36;
/// Where its hyphens stand.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
/// Where the two digits of each of its bytes stand.
const DIGITS: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// A name as it is stored, in 24 bytes; text of more than that takes memory of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Text(Name),
    /// Of the canonical form: lower case, hyphens in their places.
    Uuid([u8; 16]),
}

impl Default for Key {
    fn default() -> Self {
        Key::Text(Name::const_new(""))
    }
}

impl Key {
    /// The name; `room` is where the text of a UUID is written.
    pub(crate) fn text<'a>(&'a self, room: &'a mut [u8; UUID_TEXT]) -> &'a str {
        match self {
            Key::Text(name) => name,
            Key::Uuid(bytes) => write_uuid(bytes, room),
        }
    }

    /// The name, owned.
    pub(crate) fn name(&self) -> Name {
        match self {
            Key::Text(name) => name.clone(),
            Key::Uuid(bytes) => Name::from(write_uuid(bytes, &mut [0; UUID_TEXT])),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Key::Text(name) if name.is_empty())
    }
}

/// A name that is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) text: &'a str,
    hash: u64,
}

impl<'a> Asked<'a> {
    #[inline]
    pub(crate) fn new(hasher: &RandomState, text: &'a str) -> Self {
        Asked { text, hash: hasher.hash_one(text) }
    }

    #[inline]
    pub(crate) fn key(&self) -> Key {
        read_uuid(self.text).map_or_else(|| Key::Text(Name::from(self.text)), Key::Uuid)
    }

    #[inline]
    pub(crate) fn is(&self, key: &Key) -> bool {
        match key {
            Key::Text(name) => name == self.text,
            Key::Uuid(bytes) => read_uuid(self.text).as_ref() == Some(bytes),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Where it stands among the stripes of a tenant, and in the order of a walk.
    pub(crate) fn route(&self) -> u32 {
        (self.hash >> 32) as u32
    }

    /// A part of the hash, by which it is searched for first; never 0.
    pub(crate) fn tag(&self) -> u16 {
        (self.hash as u16).max(1)
    }
}

fn write_uuid<'a>(bytes: &[u8; 16], room: &'a mut [u8; UUID_TEXT]) -> &'a str {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    for at in HYPHENS {
        room[at] = b'-';
    }
    for (byte, at) in bytes.iter().zip(DIGITS) {
        room[at] = HEX[usize::from(byte >> 4)];
        room[at + 1] = HEX[usize::from(byte & 15)];
    }
    str::from_utf8(room).unwrap_or_default()
}

#[inline]
fn read_uuid(text: &str) -> Option<[u8; 16]> {
    text.as_bytes().try_into().ok().and_then(read_uuid_text)
}

fn read_uuid_text(text: &[u8; UUID_TEXT]) -> Option<[u8; 16]> {
    if HYPHENS.iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, at) in bytes.iter_mut().zip(DIGITS) {
        *byte = digit(text[at])? << 4 | digit(text[at + 1])?;
    }
    Some(bytes)
}

fn digit(text: u8) -> Option<u8> {
    match text {
        b'0'..=b'9' => Some(text - b'0'),
        b'a'..=b'f' => Some(text - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_as_it_was_given() {
        let hasher = RandomState::default();
        for text in [
            "",
            "anna",
            "exactly-24-bytes-of-text",
            "9f1c2e3d-6b1f-4c2e-9d0a-00000000002a",
            "9F1C2E3D-6b1f-4c2e-9d0a-00000000002a",
            "9f1c2e3d-6b1f-4c2e-9d0a+00000000002a",
            "9f1c2e3d-6b1f-4c2e-9d0a-00000000002g",
            "9f1c2e3d06b1f-4c2e-9d0a-00000000002a",
            "çf1c2e3d-6b1f-4c2e-9d0a-0000000002a",
        ] {
            let asked = Asked::new(&hasher, text);
            let key = asked.key();
            assert_eq!((key.text(&mut [0; UUID_TEXT]), key.name().as_str()), (text, text));
            assert!(asked.is(&key), "{text}");
            assert_eq!(matches!(key, Key::Uuid(_)), text == "9f1c2e3d-6b1f-4c2e-9d0a-00000000002a", "{text}");
        }
        let upper = Asked::new(&hasher, "9F1C2E3D-6b1f-4c2e-9d0a-00000000002a");
        assert!(!upper.is(&Asked::new(&hasher, "9f1c2e3d-6b1f-4c2e-9d0a-00000000002a").key()), "another session");
    }

    #[test]
    fn a_key_takes_24_bytes() {
        assert_eq!(size_of::<Key>(), 24);
    }
}
