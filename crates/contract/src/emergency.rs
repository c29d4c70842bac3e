//! Which dialled texts are emergency calls (C14): one normaliser for daemon, client and agent, whatever protocol asks.
//!
//! Phones, trunks and clients write one number in many ways: `+112`, `112#`, `1-1-2`, `tel:112`,
//! `sip:112;phone-context=+49@pbx`. What is written around a number goes, and what is left is compared as a whole:
//! nothing is ever matched by a part.

use std::borrow::Cow;

use super::digits;

/// Longest number that is compared, bytes of its plain form.
const PLAIN_BYTES_MAX: usize = 64;
/// The schemes under which a number is written, without their colon.
const SCHEMES: [&str; 3] = ["tel", "sip", "sips"];
/// The service under which all emergency services stand (RFC 5031).
const SOS: &str = "urn:service:sos";

/// True if a dialled text is one of these numbers, with or without the trunk prefix, or an emergency service whatever
/// the numbers are (C14). Numbers and prefix may be written as the dialled one is; plain ones cost least.
pub fn is_emergency<N: AsRef<str>>(dialled: &str, numbers: &[N], trunk_prefix: &str) -> bool {
    if is_plain(dialled) {
        return is_listed(dialled.as_bytes(), numbers, trunk_prefix);
    }
    let is_listed = |plain: Plain| is_listed(plain.bytes(), numbers, trunk_prefix);
    // What most phones send otherwise, as `+49 30 1234`: there is nothing to fold and no address to take apart.
    if dialled.bytes().all(|byte| byte.is_ascii_digit() || b"+-*# ./()".contains(&byte)) {
        return Plain::of_dialled(dialled).is_some_and(is_listed);
    }
    let folded = folded(dialled);
    let address = address(&folded);
    is_service(address) || Plain::of_user(user(address)).is_some_and(is_listed)
}

/// A number for a list in its plain form, as [`is_emergency`] compares it: 1 to 64 characters, the digits and signs
/// of a dial pad. `None` where it is no such number.
pub fn plain_number(number: &str) -> Option<String> {
    let plain = Plain::of_user(user(address(&folded(number))))?;
    plain.is_dialled().then(|| plain.text())
}

/// A trunk prefix in its plain form: as a number, but a `#` at its end belongs to it.
pub fn plain_prefix(prefix: &str) -> Option<String> {
    let plain = Plain::of_prefix(&folded(prefix))?;
    plain.is_dialled().then(|| plain.text())
}

/// True if a text is its own plain form, as most are.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_listed<N: AsRef<str>>(plain: &[u8], numbers: &[N], trunk_prefix: &str) -> bool {
    let is_one = |number: &[u8]| {
        !number.is_empty()
            && numbers.iter().map(AsRef::as_ref).any(|listed| {
                if is_plain(listed) {
                    listed.as_bytes() == number
                } else {
                    Plain::of_user(user(address(&folded(listed)))).is_some_and(|listed| listed.bytes() == number)
                }
            })
    };
    if is_one(plain) {
        return true;
    }
    if is_plain(trunk_prefix) {
        return !trunk_prefix.is_empty() && plain.strip_prefix(trunk_prefix.as_bytes()).is_some_and(is_one);
    }
    let prefix = Plain::of_prefix(&folded(trunk_prefix));
    prefix.is_some_and(|prefix| plain.strip_prefix(prefix.bytes()).is_some_and(is_one))
}

/// A number without what people and machines write around it.
struct Plain {
    bytes: [u8; PLAIN_BYTES_MAX],
    from: usize,
    to: usize,
}

impl Plain {
    /// The number in the user part of an address; `None` for what no dial pad has.
    fn of_user(user: &str) -> Option<Self> {
        if user.contains('%') { Plain::of_dialled(&folded(&percent_decoded(user))) } else { Plain::of_dialled(user) }
    }

    /// Also without a `#` at the end, which only says that it is complete.
    fn of_dialled(folded: &str) -> Option<Self> {
        let mut plain = Plain::of_folded(folded)?;
        if plain.bytes().last() == Some(&b'#') {
            plain.to -= 1;
        }
        Some(plain)
    }

    fn of_prefix(folded: &str) -> Option<Self> {
        Plain::of_folded(folded)
    }

    /// Without separators and a leading plus.
    fn of_folded(folded: &str) -> Option<Self> {
        let mut plain = Plain { bytes: [0; PLAIN_BYTES_MAX], from: 0, to: 0 };
        for byte in folded.bytes().filter(|byte| !is_separator(*byte)) {
            if !byte.is_ascii() {
                return None;
            }
            *plain.bytes.get_mut(plain.to)? = byte;
            plain.to += 1;
        }
        if plain.bytes().first() == Some(&b'+') {
            plain.from = 1;
        }
        Some(plain)
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }

    /// True if it is not empty and has only digits and signs of a dial pad.
    fn is_dialled(&self) -> bool {
        !self.bytes().is_empty() && self.bytes().iter().all(|byte| byte.is_ascii_digit() || b"*#".contains(byte))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// True for a sign that people write between digits, once it is folded.
fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.' | b'/' | b'(' | b')' | b'[' | b']' | b'{' | b'}')
}

/// The text with the letters of ASCII where others mean the same, and without invisible ones.
fn folded(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().filter_map(fold).collect())
}

fn fold(letter: char) -> Option<char> {
    if let Some(digit) = digits::ascii(letter) {
        return Some(digit);
    }
    if letter.is_whitespace() {
        return Some(' ');
    }
    if letter.is_control() || is_invisible(letter) {
        return None;
    }
    Some(match letter {
        // Full-width forms of ASCII.
        '\u{ff01}'..='\u{ff5e}' => u8::try_from(letter as u32 - 0xfee0).map_or(letter, char::from),
        '\u{58a}'
        | '\u{5be}'
        | '\u{2010}'..='\u{2015}'
        | '\u{2043}'
        | '\u{2212}'
        | '\u{301c}'
        | '\u{30a0}'
        | '\u{30fc}'
        | '\u{fe58}'
        | '\u{fe63}' => '-',
        '\u{b7}' | '\u{2022}' | '\u{2024}' | '\u{2027}' | '\u{22c5}' | '\u{3002}' | '\u{30fb}' | '\u{ff61}' => '.',
        '\u{2044}' | '\u{2215}' => '/',
        '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301b}' => '(',
        other => other,
    })
}

/// Letters that leave no mark: zero-width ones, marks of direction, the soft hyphen, variation selectors, tags.
fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{20e3}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The part in the angle brackets of `"Name" <address>`, or all of it.
fn address(folded: &str) -> &str {
    let inside = folded.rsplit_once('<').and_then(|(_, behind)| behind.split_once('>')).map(|(inside, _)| inside);
    inside.unwrap_or(folded).trim()
}

/// The user part of an address, without scheme, parameters, password, host and port.
fn user(address: &str) -> &str {
    let scheme = address.split_once(':').filter(|(scheme, _)| SCHEMES.iter().any(|s| s.eq_ignore_ascii_case(scheme)));
    let rest = scheme.map_or(address, |(_, rest)| rest);
    let ends: &[char] = match (scheme.is_some(), rest.contains('@')) {
        (true, true) => &['@', ';', ':'],
        (true, false) => &[';', ':', '?'],
        (false, _) => &['@', ';'],
    };
    rest.split(ends).next().unwrap_or(rest)
}

/// True if an address is the emergency service, or one below it: `urn:service:sos.police`.
fn is_service(address: &str) -> bool {
    let is = |address: &str| {
        let (head, rest) = address.split_at_checked(SOS.len()).unwrap_or_default();
        head.eq_ignore_ascii_case(SOS) && (rest.is_empty() || rest.starts_with(['.', ';', '?', '#']))
    };
    is(address) || (address.contains('%') && is(&percent_decoded(address)))
}

/// A percent sign without two hex digits stands for itself; what is not UTF-8 then is no number.
fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let value = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                value(*high).zip(value(*low)).map(|(high, low)| (high << 4 | low, after))
            }
            _ => None,
        };
        match escaped {
            Some((byte, after)) => {
                decoded.push(byte);
                rest = after;
            }
            None => decoded.push(*first),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: [&str; 2] = ["110", "112"];

    #[test]
    fn what_is_written_around_a_number_goes() {
        for dialled in [
            "\u{2011}1\u{2013}1\u{2014}2",
            "1\t1\n2",
            "\u{0}112",
            "+ 112",
            "(+112)",
            "112 #",
            "<tel:112>",
            "<112>",
            "\"Notruf\" <sip:112@pbx.example;user=phone>;tag=1",
            "sip:112",
            "sip:112:5060",
            "sip:112;transport=tcp",
            "sip:112?Subject=x",
            "sip:112:secret@pbx",
            "tel://112",
            "sip:112%23@pbx",
            "sip:%31%31%32@pbx",
            "112%23",
            "sip:%EF%BC%91%EF%BC%91%EF%BC%92@pbx",
            "\u{ff1c}112\u{ff1e}",
            "1\u{fe0f}\u{20e3}1\u{fe0f}\u{20e3}2",
            "{112}",
            "tel:112;phone-context=+49;ext=1",
            "1\u{30fb}1\u{30fb}2",
            "\u{1d7cf}\u{1d7d9}\u{1d7e4}",
            "1\u{3000}12",
            "\u{200b}tel:\u{200b}112",
            "<urn:service:sos>",
            "urn:service:sos;x=y",
            "urn:service:so%73",
            " urn:service:sos ",
            "SIPS:112@x@y",
            "112@",
        ] {
            assert!(is_emergency(dialled, &LIST, ""), "{dialled:?}");
        }
    }

    #[test]
    fn nothing_else_goes_and_nothing_is_matched_by_a_part() {
        for dialled in [
            "",
            " ",
            "+",
            "#",
            "++112",
            "112##",
            "sip:@112",
            "sip:112?x@pbx",
            "tel:",
            "<>",
            "112>",
            "<112",
            "112 113",
            "112:5060",
            "mailto:112@x",
            "x112",
            "112\u{301}",
            "¹¹²",
            "①①②",
            "sip:%31%31%32%30@pbx",
            "%31%31%32%30",
            "112%",
            "urn:service:so",
            "urn:service:sos-x",
            "urn:service:",
            "sip:urn:service:sosx@pbx",
            "tel:1120;x=<112",
            "üüü",
            &"1".repeat(500),
            &"-".repeat(500),
            "1\u{ff0c}12",
            "112w",
        ] {
            assert!(!is_emergency(dialled, &LIST, ""), "{dialled:?}");
        }
    }

    #[test]
    fn numbers_and_prefixes_of_a_list_may_be_written_in_any_way_too() {
        for (number, plain) in [
            ("+112", Some("112")),
            ("1-1-2", Some("112")),
            ("tel:112", Some("112")),
            ("112#", Some("112")),
            ("*112", Some("*112")),
            ("*112#", Some("*112")),
            ("\u{ff11}12", Some("112")),
            ("", None),
            ("#", None),
            ("+", None),
            ("help", None),
            ("112,1", None),
            ("urn:service:sos", None),
        ] {
            assert_eq!(plain_number(number).as_deref(), plain, "{number}");
            if let Some(plain) = plain {
                for dialled in [number, plain] {
                    assert!(is_emergency(dialled, &[number], "") && is_emergency(dialled, &[plain], ""), "{dialled}");
                }
            }
        }
        for (prefix, plain) in
            [("0", Some("0")), ("+49", Some("49")), ("9#", Some("9#")), (" 0-", Some("0")), ("", None)]
        {
            assert_eq!(plain_prefix(prefix).as_deref(), plain, "{prefix}");
        }
        assert!(is_emergency("9#112", &LIST, "9#") && is_emergency("9#112#", &LIST, "9 #"));
        assert!(is_emergency("+49112", &LIST, "+49") && is_emergency("112", &LIST, "+"));
        assert!(!is_emergency("0112", &LIST, "+") && !is_emergency("0", &LIST, "0") && !is_emergency("", &[""], ""));
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        let letters: Vec<char> = "112+#%3@;:?<>-. urn:service:sos\u{ff11}\u{200b}\u{ad}ü\u{10ffff}".chars().collect();
        for _ in 0..100_000 {
            let text: String = (0..random.usize(..24)).map(|_| letters[random.usize(..letters.len())]).collect();
            let _ = (is_emergency(&text, &[&*text, "112"], &text), plain_number(&text), plain_prefix(&text));
        }
    }
}
