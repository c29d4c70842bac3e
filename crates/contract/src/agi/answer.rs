//! The answer as Asterisk takes it: one `SET VARIABLE` for each word, and its replies to them.

use std::borrow::Cow;

use crate::words::Code;

/// Longest reply line of Asterisk, bytes.
pub(super) const REPLY_BYTES_MAX: usize = 4 * 1024;
/// Longest value that is set, bytes: Asterisk reads commands of 2 KiB.
const VALUE_BYTES_MAX: usize = 512;

/// A channel variable and its value.
pub type Variable = (&'static str, Cow<'static, str>);

/// The variables of a decision, `refuses` being the SIP code to refuse with: `None` where the call goes out. `message` is
/// for a person.
pub fn variables(code: Code, message: impl Into<Cow<'static, str>>, refuses: Option<u16>) -> [Variable; 4] {
    [
        ("USHERD_CODE", code.as_str().into()),
        ("USHERD_ALLOW", if refuses.is_some() { "0" } else { "1" }.into()),
        ("USHERD_MESSAGE", message.into()),
        ("USHERD_SIP_CODE", refuses.map(|code| code.to_string()).unwrap_or_default().into()),
    ]
}

/// The variables of a request that was wrong, and would be again in the same words: the call goes out (C20).
pub fn variables_of_fault(what: impl Into<Cow<'static, str>>) -> [Variable; 4] {
    undecided("error", what.into())
}

/// The variables of a request that was in order, and that nobody decided: the call goes out (I10).
pub fn variables_of_silence(what: impl Into<Cow<'static, str>>) -> [Variable; 4] {
    undecided("unavailable", what.into())
}

fn undecided(code: &'static str, what: Cow<'static, str>) -> [Variable; 4] {
    [
        ("USHERD_CODE", code.into()),
        ("USHERD_ALLOW", "1".into()),
        ("USHERD_MESSAGE", what),
        ("USHERD_SIP_CODE", "".into()),
    ]
}

/// One command. The value is cut at 512 bytes, and what would end the line or the quotes is taken out of it.
pub(super) fn set_variable((name, value): &Variable) -> String {
    let mut command = format!("SET VARIABLE {name} \"");
    let end = command.len() + VALUE_BYTES_MAX;
    for letter in value.chars() {
        if command.len() + letter.len_utf8() + 1 > end {
            break;
        }
        match letter {
            '"' | '\\' => command.extend(['\\', letter]),
            letter if letter.is_control() => command.push(' '),
            letter => command.push(letter),
        }
    }
    command + "\"\n"
}

/// The meaning of a line of Asterisk for the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The command was carried out.
    Done,
    /// The caller hung up; variables are set all the same, and a reply still comes.
    HungUp,
    /// It will not: the script is over.
    Refused,
}

/// Reads a line, without its end.
pub(super) fn reply(line: &[u8]) -> Reply {
    let line = line.trim_ascii();
    if line.starts_with(b"200 result=") {
        Reply::Done
    } else if line == b"HANGUP" {
        Reply::HungUp
    } else {
        Reply::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_is_not_allowed() {
        for code in Code::ALL {
            for (refuses, wanted) in [(Some(403), ("0", "403")), (None, ("1", ""))] {
                let [(_, word), (_, allow), (_, message), (_, sip_code)] = variables(*code, "m", refuses);
                assert_eq!((&*word, &*message), (code.as_str(), "m"));
                assert_eq!((&*allow, &*sip_code), wanted, "{}", code.as_str());
            }
        }
        for (variables, wanted) in [(variables_of_fault("x"), "error"), (variables_of_silence("x"), "unavailable")] {
            let [(_, word), (_, allow), ..] = variables;
            assert_eq!((&*word, &*allow), (wanted, "1"));
        }
    }

    #[test]
    fn a_value_is_one_word_of_one_line() {
        for (value, wanted) in [
            ("", "SET VARIABLE USHERD_CODE \"\"\n"),
            ("allow.new", "SET VARIABLE USHERD_CODE \"allow.new\"\n"),
            ("a \"b\" \\c", "SET VARIABLE USHERD_CODE \"a \\\"b\\\" \\\\c\"\n"),
            ("a\nHANGUP\r\0", "SET VARIABLE USHERD_CODE \"a HANGUP  \"\n"),
        ] {
            assert_eq!(set_variable(&("USHERD_CODE", value.to_owned().into())), wanted);
        }
        for letter in ["x", "\"", "ü"] {
            let command = set_variable(&("USHERD_MESSAGE", letter.repeat(3_000).into()));
            assert!(command.len() < 600 && command.ends_with("\"\n") && !command.ends_with("\\\"\n"), "{command}");
        }
    }

    #[test]
    fn replies() {
        for (line, wanted) in [
            (&b"200 result=1"[..], Reply::Done),
            (b"200 result=0\r", Reply::Done),
            (b"HANGUP", Reply::HungUp),
            (b"510 Invalid or unknown command", Reply::Refused),
            (b"511 Command Not Permitted on a dead channel or intercept routine", Reply::Refused),
            (b"520-Invalid command syntax.  Proper usage follows:", Reply::Refused),
            (b"", Reply::Refused),
            (b"\xff\xfe", Reply::Refused),
        ] {
            assert_eq!(reply(line), wanted);
        }
    }
}
