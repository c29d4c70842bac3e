//! The framing of FreeSWITCH's event socket: bytes to messages, without a connection.

use super::names::text_of;

/// Longest block of headers, bytes; a longer one ends the connection, since its end is unknown.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest body that is kept, bytes; a longer one is skipped as a whole.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// One message: a block of headers and its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    head: String,
    /// The body, where there is one.
    pub body: Vec<u8>,
    /// True if the body was longer than the limit and is missing.
    pub cut: bool,
}

impl Message {
    /// The first value of a header, whatever its case; empty where there is none.
    pub fn get(&self, key: &str) -> &str {
        header(&self.head, key)
    }
}

fn header<'a>(head: &'a str, key: &str) -> &'a str {
    let pairs = head.lines().filter_map(|line| line.split_once(':'));
    pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case(key)).map_or("", |(_, value)| value.trim())
}

/// Takes bytes, cut anywhere, and gives whole messages.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of a block of headers that is not whole yet.
    head: Vec<u8>,
    /// The message whose body is still coming, and how many bytes of it are missing.
    open: Option<(Message, usize)>,
}

impl Decoder {
    /// Takes bytes; calls `each` with everything that is whole by now.
    ///
    /// # Errors
    /// The bytes are not the event socket's protocol; nothing more can be made of them.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Message)) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            bytes = match self.open.take() {
                Some((message, missing)) => self.body(message, missing, bytes, &mut each),
                None => self.line(bytes, &mut each)?,
            };
        }
        Ok(())
    }

    fn body<'b>(
        &mut self,
        mut message: Message,
        missing: usize,
        bytes: &'b [u8],
        each: &mut impl FnMut(Message),
    ) -> &'b [u8] {
        let (mine, rest) = bytes.split_at(missing.min(bytes.len()));
        if !message.cut {
            message.body.extend_from_slice(mine);
        }
        match missing - mine.len() {
            0 => each(message),
            missing => self.open = Some((message, missing)),
        }
        rest
    }

    fn line<'b>(&mut self, bytes: &'b [u8], each: &mut impl FnMut(Message)) -> Result<&'b [u8], &'static str> {
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        let (line, rest) = bytes.split_at(end);
        self.head.extend(line.iter().filter(|byte| **byte != b'\r'));
        if self.head.len() > HEAD_BYTES_MAX {
            return Err("a block of headers is longer than 64 KiB");
        }
        if self.head == b"\n" {
            // More than one empty line between two messages means nothing.
            self.head.clear();
        } else if self.head.ends_with(b"\n\n") {
            let head = text_of(&std::mem::take(&mut self.head)).into_owned();
            let length = match header(&head, "Content-Length") {
                "" => 0,
                digits => digits.parse().map_err(|_| "a Content-Length is no number")?,
            };
            let message = Message { head, body: Vec::new(), cut: length > BODY_BYTES_MAX };
            match length {
                0 => each(message),
                length => self.open = Some((message, length)),
            }
        }
        Ok(rest)
    }
}

/// A command as bytes. A line end within it would begin a command of its own, so it becomes a blank.
pub fn command(text: &str) -> Vec<u8> {
    let mut out: Vec<u8> =
        text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { byte }).collect();
    out.extend_from_slice(b"\n\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(chunks: &[&[u8]]) -> Vec<Message> {
        let mut decoder = Decoder::default();
        let mut all = Vec::new();
        for chunk in chunks {
            decoder.feed(chunk, |message| all.push(message)).unwrap();
        }
        all
    }

    const RECORDED: &[u8] = b"Content-Type: auth/request\n\nContent-Type: command/reply\nReply-Text: +OK accepted\n\n\
        Content-Length: 9\r\nContent-Type: text/event-json\r\n\r\n{\"a\":\n\n1}Content-Type: api/response\nContent-Length: 0\n\n";

    #[test]
    fn messages_are_the_same_wherever_the_bytes_are_cut() {
        let whole = messages(&[RECORDED]);
        let kinds: Vec<_> = whole.iter().map(|message| message.get("content-type")).collect();
        assert_eq!(kinds, ["auth/request", "command/reply", "text/event-json", "api/response"]);
        assert_eq!((whole[1].get("Reply-Text"), whole[2].body.as_slice()), ("+OK accepted", &b"{\"a\":\n\n1}"[..]));
        for cut in 0..=RECORDED.len() {
            assert_eq!(messages(&[&RECORDED[..cut], &RECORDED[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = RECORDED.chunks(1).collect();
        assert_eq!(messages(&bytes), whole);
    }

    #[test]
    fn a_body_over_the_limit_is_skipped_and_the_next_is_whole() {
        let mut bytes = format!("Content-Type: api/response\nContent-Length: {}\n\n", BODY_BYTES_MAX + 1).into_bytes();
        bytes.extend(vec![b'x'; BODY_BYTES_MAX + 1]);
        bytes.extend(b"Content-Type: command/reply\n\n");
        let got = messages(&bytes.chunks(100_000).collect::<Vec<_>>());
        assert!(got[0].cut && got[0].body.is_empty() && !got[1].cut && got.len() == 2);
    }

    #[test]
    fn what_is_not_the_protocol_ends_it() {
        let mut decoder = Decoder::default();
        assert!(decoder.feed(b"Content-Length: -1\n\n", |_| ()).is_err());
        let mut decoder = Decoder::default();
        let endless = vec![b'x'; HEAD_BYTES_MAX + 1];
        assert!(decoder.feed(&endless, |_| ()).is_err());
    }

    #[test]
    fn a_command_stays_one_command() {
        assert_eq!(command("auth a\n\napi shutdown"), b"auth a  api shutdown\n\n");
    }
}
