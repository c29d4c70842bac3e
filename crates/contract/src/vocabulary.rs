//! The one macro of closed vocabularies: an enum, the word of each value, and its number where it has one on disk.

/// A closed vocabulary whose words are the same on the wire, in metrics and in logs.
///
/// `Variant = "word"` is a value. `Variant = 3 => "word"`, of all values or of none, says its number, too: by it, it is
/// written to disk, so a number is never changed and never given again. Numbers go up from 0 without a hole, because
/// counters lie in arrays by them; a value that nobody uses any more keeps its place.
#[doc(hidden)]
#[macro_export]
macro_rules! vocabulary {
    (@rest $name:ident { $($variant:ident = $word:literal),+ }) => {
        impl $name {
            /// Every word, in the order of the definition.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word on the wire, in metrics and in logs.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// The value of a word, compared byte by byte.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some($name::$variant),)+ _ => None }
            }
        }

        impl $crate::word::Vocabulary for $name {
            const ALL: &'static [Self] = $name::ALL;

            fn as_str(self) -> &'static str { $name::as_str(self) }

            fn from_word(word: &str) -> Option<Self> { $name::from_word(word) }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result { f.write_str(self.as_str()) }
        }
    };
    ($(#[$meta:meta])* $name:ident {
        $($(#[$vmeta:meta])* $variant:ident = $number:literal => $word:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $number),+ }

        impl $name {
            /// Its number on disk.
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// The value with this number on disk.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some($name::$variant),)+ _ => None }
            }
        }

        // Counters lie in arrays by these numbers.
        const _: () = {
            let mut at = 0;
            while at < $name::ALL.len() {
                assert!($name::ALL[at] as usize == at, "numbers of a vocabulary go up from 0 without a hole");
                at += 1;
            }
        };

        $crate::vocabulary!(@rest $name { $($variant = $word),+ });
    };
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        $crate::vocabulary!(@rest $name { $($variant = $word),+ });
    };
}
