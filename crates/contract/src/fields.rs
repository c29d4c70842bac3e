//! The values of fields as they are read: strings that borrow, words of a vocabulary, and what may be anything.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::word::Vocabulary;

/// A string that is borrowed from the body wherever it has no escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Strings)
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The sentence that says which words a field takes.
pub(super) fn expected<W: Vocabulary>() -> String {
    let words: Vec<&str> = W::ALL.iter().map(|word| word.as_str()).collect();
    format!("must be one of {}", words.join(", "))
}

/// A word of a vocabulary, as a field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worded<W>(pub(super) W);

impl<'de, W: Vocabulary> Deserialize<'de> for Worded<W> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words<W>(PhantomData<W>);
        impl<W: Vocabulary> Visitor<'_> for Words<W> {
            type Value = Worded<W>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&expected::<W>())
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Self::Value, E> {
                W::from_word(word).map(Worded).ok_or_else(|| E::custom(expected::<W>()))
            }
        }
        deserializer.deserialize_str(Words(PhantomData))
    }
}

impl<W: Vocabulary> Serialize for Worded<W> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

/// A value that never fails a request: a string is kept, `true` and `1` are read as such, the rest is ignored.
#[derive(Clone, Debug, Default)]
pub(super) enum Lenient<'a> {
    #[default]
    Nothing,
    Flag(bool),
    Text(Cow<'a, str>),
}

impl Lenient<'_> {
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Lenient::Nothing)
    }

    pub(super) fn is_set(&self) -> bool {
        match self {
            Lenient::Nothing => false,
            Lenient::Flag(flag) => *flag,
            Lenient::Text(text) => flag(text) == Some(true),
        }
    }

    pub(super) fn text(&self) -> &str {
        if let Lenient::Text(text) = self { text } else { "" }
    }
}

impl Serialize for Lenient<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Lenient::Nothing => serializer.serialize_none(),
            Lenient::Flag(flag) => serializer.serialize_bool(*flag),
            Lenient::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Lenient<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;
        impl<'de> Visitor<'de> for Anything {
            type Value = Lenient<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
                Ok(Lenient::Flag(flag))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Lenient::Flag(number == 1))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Lenient::Nothing)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Lenient::Nothing)
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Lenient::Nothing)
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Lenient::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Lenient::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Lenient::Nothing)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Lenient::Nothing)
            }
        }
        deserializer.deserialize_any(Anything)
    }
}

/// Reads a flag as forms write it; `None` where it is neither yes nor no.
pub fn flag(value: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    if is(&["true", "1", "yes", "on"]) {
        Some(true)
    } else if is(&["false", "0", "no", "off"]) {
        Some(false)
    } else {
        None
    }
}
