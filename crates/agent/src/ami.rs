//! The framing of Asterisk's manager interface: bytes to messages and actions to bytes, without a connection.

use super::names::text_of;
use super::source::Marks;

/// Longest line that is kept, bytes; the rest of a longer one is skipped.
pub const LINE_BYTES_MAX: usize = 8 * 1024;
/// Most lines of one message that are kept.
pub const LINES_MAX: usize = 256;
/// The keys that are read. Other lines are skipped, however many, long or strange they are.
const KEYS_READ: [&str; 10] =
    ["Response", "Message", "ActionID", "Event", "Channel", "Uniqueid", "Device", "State", "ListItems", "Items"];
/// The keys among them that Asterisk writes once in a message.
const KEYS_ONCE: [&str; 6] = ["Response", "ActionID", "Event", "Channel", "Uniqueid", "Device"];

/// One message: its fields in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    fields: Vec<(String, String)>,
    /// True if something of it that is read was longer than the limits and is missing.
    pub cut: bool,
}

impl Message {
    /// The first value of a key, whatever its case; empty where there is none.
    pub fn get(&self, key: &str) -> &str {
        self.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map_or("", |(_, value)| value)
    }

    /// True if a line end in a value, as in the number of a caller, tore it: a key is there twice that is there once,
    /// the number of its channel is missing, or it is what is left of a message behind a blank line. What it says may
    /// be the caller's words.
    pub fn is_torn(&self) -> bool {
        let count = |key: &str| self.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key)).count();
        KEYS_ONCE.iter().any(|key| count(key) > 1)
            || (count("Channel") > 0 && count("Uniqueid") == 0)
            || (count("Event") == 0 && count("Response") == 0)
    }

    /// The name and value of every variable in it.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.fields.iter().filter(|(name, _)| is_of_variables(name));
        pairs.filter_map(|(_, pair)| pair.split_once('='))
    }
}

/// Asterisk before 1.8.0 wrote the channel into the key: `ChanVariable(SIP/anna-1)`.
fn is_of_variables(key: &str) -> bool {
    let key = key.split('(').next().unwrap_or_default();
    key.eq_ignore_ascii_case("Variable") || key.eq_ignore_ascii_case("ChanVariable")
}

fn is_read(key: &str, value: &str) -> bool {
    if is_of_variables(key) {
        Marks::is_one(value)
    } else {
        KEYS_READ.iter().any(|read| read.eq_ignore_ascii_case(key))
    }
}

/// One message, or the notice that one was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The line with which it opens: `Asterisk Call Manager/5.0.2`.
    Banner(String),
    /// A message.
    Message(Message),
}

/// Takes bytes, cut anywhere, and gives whole messages.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    line_is_cut: bool,
    message: Message,
    greeted: bool,
}

impl Decoder {
    /// Takes bytes; calls `each` with everything that is whole by now.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Frame)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ended = part.last() == Some(&b'\n');
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line_is_cut |= part.len() > room;
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if ended {
                let line = text_of(&self.line).trim_end_matches(['\r', '\n']).to_owned();
                let cut = std::mem::take(&mut self.line_is_cut);
                self.line.clear();
                if let Some(frame) = self.line(&line, cut) {
                    each(frame);
                }
            }
        }
    }

    fn line(&mut self, line: &str, cut: bool) -> Option<Frame> {
        if !self.greeted {
            self.greeted = true;
            return Some(Frame::Banner(line.to_owned()));
        }
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            return (!message.fields.is_empty()).then_some(Frame::Message(message));
        }
        // A line without a colon is the output of a command, which nobody asked for.
        let (key, value) = line.split_once(':')?;
        let (key, value) = (key.trim(), value.trim_start());
        if !is_read(key, value) {
            return None;
        }
        self.message.cut |= cut;
        if self.message.fields.len() < LINES_MAX {
            self.message.fields.push((key.to_owned(), value.to_owned()));
        } else {
            self.message.cut = true;
        }
        None
    }
}

/// An action as bytes. A line end in a value would begin a header of its own, so it becomes a blank.
pub fn action(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in fields {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b": ");
        out.extend(value.bytes().map(|byte| if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { byte }));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(chunks: &[&[u8]]) -> Vec<Frame> {
        let mut decoder = Decoder::default();
        let mut all = Vec::new();
        for chunk in chunks {
            decoder.feed(chunk, |frame| all.push(frame));
        }
        all
    }

    const RECORDED: &[u8] = b"Asterisk Call Manager/5.0.2\r\nResponse: Success\r\nMessage: Authentication accepted\r\n\r\n\
        Event: Hangup\r\nUniqueid: 1.1\r\nChanVariable: USHERD_SESSION=a=b\r\nchanvariable(SIP/x): usherd_code=\r\nVariable: OTHER=x\r\nlone\r\n\r\n\r\n";

    #[test]
    fn messages_are_the_same_wherever_the_bytes_are_cut() {
        let whole = frames(&[RECORDED]);
        assert_eq!(whole.len(), 3);
        for cut in 0..=RECORDED.len() {
            assert_eq!(frames(&[&RECORDED[..cut], &RECORDED[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = RECORDED.chunks(1).collect();
        assert_eq!(frames(&bytes), whole);
    }

    #[test]
    fn fields_and_variables_are_found() {
        let Some(Frame::Message(hangup)) = frames(&[RECORDED]).pop() else { panic!("no message") };
        assert_eq!((hangup.get("EVENT"), hangup.get("uniqueid"), hangup.get("Channel")), ("Hangup", "1.1", ""));
        let variables: Vec<_> = hangup.variables().collect();
        assert_eq!(variables, [("USHERD_SESSION", "a=b"), ("usherd_code", "")]);
    }

    #[test]
    fn a_message_over_the_limits_is_cut_and_the_next_is_whole() {
        for (key, cut) in [("Device", true), ("Variable: USHERD_SUBJECT=", true), ("CallerIDName", false)] {
            let mut bytes = format!("Asterisk\r\nEvent: VarSet\r\n{key}: ").into_bytes();
            bytes.extend(vec![b'x'; 3 * LINE_BYTES_MAX]);
            bytes.extend(b"\r\nUniqueid: a\r\n\r\nEvent: Next\r\n\r\n");
            let got = frames(&bytes.chunks(1000).collect::<Vec<_>>());
            let [_, Frame::Message(long), Frame::Message(next)] = got.as_slice() else { panic!("{got:?}") };
            assert!(
                long.cut == cut && long.get("device").len() < LINE_BYTES_MAX && long.get("uniqueid") == "a",
                "{key}"
            );
            assert!(!next.cut && next.get("event") == "Next");
        }

        let unread = "K: v\r\nVariable: OTHER=1\r\n".repeat(LINES_MAX);
        let got = frames(&[format!("A\r\n{unread}Uniqueid: a\r\n\r\n").as_bytes()]);
        let [_, Frame::Message(many)] = got.as_slice() else { panic!("{got:?}") };
        assert!(!many.cut && many.get("uniqueid") == "a", "what nobody reads takes no room");

        let many = format!("A\r\n{}\r\nEvent: Next\r\n\r\n", "State: v\r\n".repeat(LINES_MAX + 1));
        let got = frames(&[many.as_bytes()]);
        let [_, Frame::Message(many), Frame::Message(next)] = got.as_slice() else { panic!("{got:?}") };
        assert!(many.cut && many.fields.len() == LINES_MAX && !next.cut);
    }

    #[test]
    fn a_value_cannot_smuggle_in_a_header() {
        let bytes = action(&[("Action", "Login"), ("Secret", "a\r\nAction: Originate")]);
        assert_eq!(bytes, b"Action: Login\r\nSecret: a  Action: Originate\r\n\r\n");
    }
}
