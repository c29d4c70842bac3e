//! Decimal digits of every script, as the digits of ASCII.

/// The zero of each run of ten decimal digits beyond ASCII (Unicode 17, general category `Nd`), in order.
const ZEROS: [u32; 75] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66, 0x0de6, 0x0e50,
    0x0ed0, 0x0f20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50,
    0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x10d40, 0x11066, 0x110f0,
    0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x116d0, 0x116da, 0x11730, 0x118e0, 0x11950,
    0x11bf0, 0x11c50, 0x11d50, 0x11da0, 0x11de0, 0x11f50, 0x16a60, 0x16ac0, 0x16b50, 0x16d70, 0x1ccf0, 0x1d7ce,
    0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e4f0, 0x1e5f1, 0x1e950, 0x1fbf0,
];

/// A decimal digit of any script as that of ASCII; `None` of what is none.
pub(super) fn ascii(letter: char) -> Option<char> {
    if letter.is_ascii() {
        return letter.is_ascii_digit().then_some(letter);
    }
    let code = letter as u32;
    let before = ZEROS.partition_point(|zero| *zero <= code).checked_sub(1)?;
    char::from_digit(code - ZEROS[before], 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_has_ten_digits_and_nothing_around_them_is_one() {
        assert!(ZEROS.windows(2).all(|two| two[0] + 10 <= two[1]));
        for zero in ZEROS {
            for value in 0..10 {
                let letter = char::from_u32(zero + value).unwrap();
                assert_eq!(ascii(letter), char::from_digit(value, 10), "{zero:x}");
            }
        }
        for letter in ['/', ':', 'a', '²', '①', '\u{65f}', '\u{66a}', '\u{ff0f}', '\u{ff1a}', '\u{10ffff}'] {
            assert_eq!(ascii(letter), None, "{letter:?}");
        }
        assert_eq!(ascii('7'), Some('7'));
    }
}
