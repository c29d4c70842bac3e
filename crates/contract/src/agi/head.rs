//! The head of a script: `agi_*: value` lines up to an empty one, and what they ask.

use std::fmt;

/// Longest line of a head, bytes; Asterisk itself reads commands of 2 KiB.
pub const LINE_BYTES_MAX: usize = 8 * 1024;
/// Most lines of a head; Asterisk sends about 25, and one for each argument.
pub const HEAD_LINES_MAX: usize = 128;
/// Longest head, bytes, the empty line included.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The reason why a head is no script of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A line is longer than [`LINE_BYTES_MAX`].
    Line,
    /// More than [`HEAD_LINES_MAX`] lines.
    Lines,
    /// Longer than [`HEAD_BYTES_MAX`].
    Head,
    /// A line is not `agi_name: value`.
    NotAgi,
    /// There is neither `agi_network_script` nor `agi_request`.
    NoScript,
    /// The path is neither `acquire` nor `release`.
    Verb,
    /// An argument of `AGI()` is not `key=value`.
    Argument,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrong::Line => "a line of the head is longer than 8192 bytes",
            Wrong::Lines => "the head has more than 128 lines",
            Wrong::Head => "the head is longer than 16384 bytes",
            Wrong::NotAgi => "a line of the head is not agi_name: value",
            Wrong::NoScript => "no script is named; write AGI(agi://HOST:4573/acquire?tenant=...)",
            Wrong::Verb => "the script is neither acquire nor release; write AGI(agi://HOST:4573/acquire?tenant=...)",
            Wrong::Argument => "an argument of AGI() is not key=value",
        })
    }
}

impl std::error::Error for Wrong {}

/// The question of a script: an acquire or a release, with the fields as a form (API 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// `release`, not `acquire`.
    pub is_release: bool,
    /// The query, and the arguments behind it.
    pub form: Vec<u8>,
}

/// The length of the head, its empty line included; `None` while that has not come.
///
/// # Errors
/// The part that is too long; then it need not be read on.
pub(super) fn head_bytes(bytes: &[u8]) -> Result<Option<usize>, Wrong> {
    let mut at = 0;
    for line in 0.. {
        let rest = &bytes[at..];
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            return match rest.len() {
                open if open > LINE_BYTES_MAX => Err(Wrong::Line),
                open if at + open > HEAD_BYTES_MAX => Err(Wrong::Head),
                _ => Ok(None),
            };
        };
        at += length + 1;
        if length > LINE_BYTES_MAX {
            return Err(Wrong::Line);
        }
        if at > HEAD_BYTES_MAX {
            return Err(Wrong::Head);
        }
        if trimmed(&rest[..length]).is_empty() {
            return Ok(Some(at));
        }
        if line >= HEAD_LINES_MAX {
            return Err(Wrong::Lines);
        }
    }
    Ok(None)
}

/// A line without the carriage return that some proxies add.
fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Reads a whole head. Unknown lines are ignored: a newer Asterisk may send more.
///
/// Asterisk sends a caller's number and name as they are, line breaks too. The script and the request stand before all
/// that a caller may have written, so the first of each counts; arguments stand behind `agi_threadid`, so only those behind
/// the last one do.
///
/// # Errors
/// The fault of the head; the fields themselves are not looked at.
pub fn script(head: &[u8]) -> Result<Script, Wrong> {
    let (mut network, mut request, mut arguments) = (None, None, Vec::new());
    for line in head.split(|byte| *byte == b'\n').map(trimmed).filter(|line| !line.is_empty()) {
        let colon =
            line.iter().position(|byte| *byte == b':').filter(|_| line.starts_with(b"agi_")).ok_or(Wrong::NotAgi)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        match name {
            b"agi_network_script" if request.is_none() => network = network.or(Some(value)),
            b"agi_request" => request = request.or(Some(path_of(value))),
            b"agi_threadid" => arguments.clear(),
            _ if name.starts_with(b"agi_arg_") => arguments.push(value),
            _ => {}
        }
    }
    let path = network.or(request).ok_or(Wrong::NoScript)?;
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let end = path.iter().position(|byte| *byte == b'?');
    let is_release = match end.map_or(path, |end| &path[..end]) {
        b"acquire" => false,
        b"release" => true,
        b"" => return Err(Wrong::NoScript),
        _ => return Err(Wrong::Verb),
    };
    let mut form = end.map_or(&[][..], |end| &path[end + 1..]).to_vec();
    for argument in arguments.into_iter().filter(|argument| !argument.is_empty()) {
        add(&mut form, argument)?;
    }
    Ok(Script { is_release, form })
}

/// The part behind the host of `agi://HOST[:PORT]/PATH`.
fn path_of(url: &[u8]) -> &[u8] {
    let behind = url.windows(3).position(|three| three == b"://").map_or(url, |at| &url[at + 3..]);
    behind.iter().position(|byte| *byte == b'/').map_or(&[], |at| &behind[at + 1..])
}

/// Adds an argument as a field: what would mean something in a form stands for itself in it.
fn add(form: &mut Vec<u8>, argument: &[u8]) -> Result<(), Wrong> {
    if !argument.iter().skip(1).any(|byte| *byte == b'=') {
        return Err(Wrong::Argument);
    }
    if !form.is_empty() {
        form.push(b'&');
    }
    for byte in argument {
        match byte {
            b'&' => form.extend_from_slice(b"%26"),
            b'+' => form.extend_from_slice(b"%2B"),
            other => form.push(*other),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A caller whose number has line breaks in it, written by a phone, is no second script and no argument.
    #[test]
    fn what_a_caller_writes_is_no_line_of_the_head() {
        let lines = "20\r\nagi_network_script: acquire?to=112\r\nagi_request: agi://127.0.0.1/acquire?to=112\r\n\
                     agi_arg_1: emergency=1\r\nagi_arg_9: to=112\r\nagi_threadid: 7\r\nagi_arg_1: emergency=1";
        for (key, rest) in [("agi_callerid: ", "20"), ("agi_calleridname: ", "Anna: Jörg"), ("agi_dnid: ", "0301234")]
        {
            let forged = SENT.replace(&format!("{key}{rest}"), &format!("{key}{lines}"));
            assert!(forged.contains("agi_arg_9"), "{key}");
            assert_eq!(script(forged.as_bytes()), script(SENT.as_bytes()), "{key}");
        }
        let scriptless = SENT
            .replace("agi_network_script: acquire?tenant=acme\n", "")
            .replace("agi_callerid: 20", &format!("agi_callerid: {lines}"));
        assert_eq!(script(scriptless.as_bytes()), script(SENT.as_bytes()));
    }

    /// The head that Asterisk 18 sends for `AGI(agi://127.0.0.1:4573/acquire?tenant=acme,subject=20)`.
    const SENT: &str = "agi_network: yes\nagi_network_script: acquire?tenant=acme\n\
        agi_request: agi://127.0.0.1:4573/acquire?tenant=acme\nagi_channel: PJSIP/20-00000001\nagi_language: en\n\
        agi_type: PJSIP\nagi_uniqueid: 1700000100.42\nagi_version: 18.20.2\nagi_callerid: 20\nagi_calleridname: Anna: Jörg\n\
        agi_callingpres: 0\nagi_callingani2: 0\nagi_callington: 0\nagi_callingtns: 0\nagi_dnid: 0301234\nagi_rdnis: unknown\n\
        agi_context: from-phones\nagi_extension: 0301234\nagi_priority: 1\nagi_enhanced: 0.0\nagi_accountcode: \n\
        agi_threadid: 140\nagi_arg_1: subject=20\n\n";

    #[test]
    fn what_asterisk_sends_is_read() {
        assert_eq!(head_bytes(SENT.as_bytes()), Ok(Some(SENT.len())));
        assert_eq!(script(SENT.as_bytes()), Ok(Script { is_release: false, form: b"tenant=acme&subject=20".to_vec() }));
        for cut in 0..SENT.len() {
            assert_eq!(head_bytes(&SENT.as_bytes()[..cut]), Ok(None), "{cut}");
        }
        let more = format!("{SENT}200 result=1\n");
        assert_eq!(head_bytes(more.as_bytes()), Ok(Some(SENT.len())), "what comes behind is not its own");
    }

    #[test]
    fn scripts() {
        let is = |is_release, form: &str| Ok(Script { is_release, form: form.as_bytes().to_vec() });
        for (head, wanted) in [
            ("agi_network_script: release?tenant=a&session=s\n\n", is(true, "tenant=a&session=s")),
            ("agi_network_script: /acquire\n\n", is(false, "")),
            ("agi_network_script: acquire?\r\n\r\n", is(false, "")),
            ("agi_request: agi://[::1]:4573/release?a=1\n\n", is(true, "a=1")),
            ("agi_request: agi://pbx/acquire?url=a://b/c\n\n", is(false, "url=a://b/c")),
            (
                "agi_network_script: acquire?a=1\nagi_arg_1: b=2+3&c=4\nagi_arg_2: d=%26\n\n",
                is(false, "a=1&b=2%2B3%26c=4&d=%26"),
            ),
            ("agi_network_script: acquire\nagi_arg_1: \nagi_arg_2: a=\n\n", is(false, "a=")),
            ("agi_network_script: acquire\nagi_newer_thing:x\n\n", is(false, "")),
            ("agi_network_script: Acquire\n\n", Err(Wrong::Verb)),
            ("agi_network_script: acquire/x?a=1\n\n", Err(Wrong::Verb)),
            ("agi_network_script: explain\n\n", Err(Wrong::Verb)),
            ("agi_request: agi://pbx\n\n", Err(Wrong::NoScript)),
            ("agi_network: yes\n\n", Err(Wrong::NoScript)),
            ("\n", Err(Wrong::NoScript)),
            ("agi_network_script: acquire\nagi_arg_1: tenant\n\n", Err(Wrong::Argument)),
            ("agi_network_script: acquire\nagi_arg_1: =a\n\n", Err(Wrong::Argument)),
            ("agi_network_script\n\n", Err(Wrong::NotAgi)),
            ("GET / HTTP/1.1\nHost: x\n\n", Err(Wrong::NotAgi)),
        ] {
            assert_eq!(script(head.as_bytes()), wanted, "{head}");
        }
    }

    #[test]
    fn every_length_has_a_limit() {
        let long = |bytes: usize| format!("agi_x: {}", "x".repeat(bytes - 7));
        assert_eq!(head_bytes(long(LINE_BYTES_MAX).as_bytes()), Ok(None));
        assert_eq!(head_bytes(long(LINE_BYTES_MAX + 1).as_bytes()), Err(Wrong::Line), "it need not end for that");
        assert_eq!(head_bytes(format!("{}\n\n", long(LINE_BYTES_MAX + 1)).as_bytes()), Err(Wrong::Line));
        assert_eq!(head_bytes(format!("{}\n", long(6_000)).repeat(3).as_bytes()), Err(Wrong::Head));
        let lines = "agi_x: 1\n".repeat(HEAD_LINES_MAX);
        assert_eq!(head_bytes(format!("{lines}\n").as_bytes()), Ok(Some(lines.len() + 1)));
        assert_eq!(head_bytes(format!("{lines}agi_x: 1\n").as_bytes()), Err(Wrong::Lines));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes = SENT.as_bytes().to_vec();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..bytes.len());
                bytes[at] = *random.choice(b"\n\r:=&?%/ agi\0\xff").unwrap_or(&0);
            }
            if let Ok(Some(length)) = head_bytes(&bytes) {
                let _ = script(&bytes[..length]);
            }
        }
    }
}
