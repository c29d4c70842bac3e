//! Replies as they go over the wire (RESP2; maps and nulls as RESP3 has them after `HELLO 3`).

/// Longest text of an error, bytes.
const ERROR_BYTES_MAX: usize = 500;

/// `+text`; the text is ours, and one line.
pub fn simple(out: &mut Vec<u8>, text: &str) {
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `-PREFIX text`, as one line of at most 500 bytes, whatever the text holds.
pub fn error(out: &mut Vec<u8>, prefix: &str, text: &str) {
    out.push(b'-');
    out.extend_from_slice(prefix.as_bytes());
    out.push(b' ');
    let cut = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= ERROR_BYTES_MAX).last();
    let line = text[..cut.unwrap_or(0)].bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte });
    out.extend(line);
    out.extend_from_slice(b"\r\n");
}

/// A string of bytes.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// A whole number.
pub fn integer(out: &mut Vec<u8>, number: usize) {
    length(out, b':', number);
}

/// The head of an array; so many replies follow.
pub fn array(out: &mut Vec<u8>, count: usize) {
    length(out, b'*', count);
}

/// The head of a map; so many pairs of replies follow.
pub fn map(out: &mut Vec<u8>, pairs: usize, resp3: bool) {
    if resp3 { length(out, b'%', pairs) } else { length(out, b'*', pairs * 2) }
}

fn length(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_error_is_one_line_of_limited_length() {
        assert_eq!(written(|out| error(out, "ERR", "a\r\n-b\u{e9}")), "-ERR a  -b\u{e9}\r\n");
        assert_eq!(written(|out| error(out, "ERR", &"\u{e9}".repeat(400))).len(), 5 + ERROR_BYTES_MAX + 2);
    }

    #[test]
    fn maps_are_flat_in_resp2() {
        assert_eq!(written(|out| map(out, 2, false)), "*4\r\n");
        assert_eq!(written(|out| map(out, 2, true)), "%2\r\n");
        assert_eq!(written(|out| bulk(out, b"")), "$0\r\n\r\n");
        assert_eq!(written(|out| integer(out, 7)), ":7\r\n");
    }
}
