//! A word of a closed vocabulary, as it stands in an answer.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// A closed vocabulary: its values, and the word of each.
pub trait Vocabulary: Copy + PartialEq + 'static {
    /// Every value, in the order of the definition.
    const ALL: &'static [Self];

    /// The word on the wire and in files.
    fn as_str(self) -> &'static str;

    /// The value of a word, compared byte by byte.
    fn from_word(word: &str) -> Option<Self>;
}

/// A word of the vocabulary `T`. It is made of a value alone, but reads any text, so that an older reader takes an
/// answer with a word that is newer than it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Word<T> {
    text: Cow<'static, str>,
    #[serde(skip)]
    of: PhantomData<fn() -> T>,
}

impl<T: Vocabulary> From<T> for Word<T> {
    fn from(value: T) -> Self {
        Word { text: Cow::Borrowed(value.as_str()), of: PhantomData }
    }
}

/// No word: where an older daemon does not write the field.
impl<T> Default for Word<T> {
    fn default() -> Self {
        Word { text: Cow::Borrowed(""), of: PhantomData }
    }
}

impl<T> Deref for Word<T> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl<T> fmt::Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One of all words.
#[cfg(feature = "schema")]
impl<T: Vocabulary> schemars::JsonSchema for Word<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Word".into()
    }

    fn schema_id() -> Cow<'static, str> {
        std::any::type_name::<Self>().into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        one_of::<T>(|_| true)
    }
}

/// The schema of the words that are wanted, for a field that has only some of them.
#[cfg(feature = "schema")]
pub fn one_of<T: Vocabulary>(is_wanted: impl Fn(T) -> bool) -> schemars::Schema {
    let words: Vec<&str> = T::ALL.iter().filter(|value| is_wanted(**value)).map(|value| value.as_str()).collect();
    schemars::json_schema!({ "type": "string", "enum": words })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Kind;

    #[test]
    fn a_word_is_its_text_and_an_unknown_one_is_read() {
        let word: Word<Kind> = Kind::Call.into();
        assert_eq!(serde_json::to_string(&word).unwrap(), r#""call""#);
        assert_eq!(serde_json::from_str::<Word<Kind>>(r#""call""#).unwrap(), word);
        assert_eq!(&*serde_json::from_str::<Word<Kind>>(r#""hologram""#).unwrap(), "hologram");
        assert_eq!(Word::<Kind>::default().to_string(), "");
    }
}
