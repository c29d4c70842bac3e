//! Commands as they come over the wire: an array of bulk strings, or an inline line (RESP2, RESP3).

use usherd_contract::agi::is_http;

/// Most arguments of one command, its name among them: all fields of the contract, and as many unknown ones.
pub const ARGS_MAX: usize = 64;
/// Longest argument, bytes.
pub const ARG_BYTES_MAX: usize = 4_096;
/// Longest command, bytes, with its framing.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;
/// Longest `*12` or `$34`, bytes, without its end of line.
const HEADER_BYTES_MAX: usize = 12;

/// Where the arguments of one command stand in the bytes it came in; made once for a connection.
#[derive(Clone, Debug)]
pub struct Args {
    places: [(u32, u32); ARGS_MAX],
    count: usize,
}

impl Default for Args {
    fn default() -> Self {
        Args { places: [(0, 0); ARGS_MAX], count: 0 }
    }
}

impl Args {
    /// How many there are, the name among them.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// An argument; empty beyond the last. `bytes` are those that [`next`] was given.
    pub fn get<'b>(&self, bytes: &'b [u8], at: usize) -> &'b [u8] {
        let place = self.places[..self.count].get(at).copied().unwrap_or_default();
        bytes.get(place.0 as usize..place.1 as usize).unwrap_or_default()
    }

    fn push(&mut self, from: usize, to: usize) -> Result<(), &'static str> {
        if to - from > ARG_BYTES_MAX {
            return Err(TOO_LONG);
        }
        let place = self.places.get_mut(self.count).ok_or(TOO_MANY)?;
        *place = (from as u32, to as u32);
        self.count += 1;
        Ok(())
    }
}

const TOO_LONG: &str = "an argument is longer than 4096 bytes";
const TOO_MANY: &str = "a command has more than 64 arguments";

/// The item at the front of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A whole command, of so many bytes; without arguments it is an empty line, which has no answer.
    Command(usize),
    /// The beginning of one, or nothing.
    Partial,
    /// Bytes that are no command, and why: nothing that follows can be made sense of.
    Broken(&'static str),
    /// A line of HTTP. A web page makes a browser send it, with commands in its body: nothing that follows is obeyed.
    Http,
}

/// Looks at the front of `bytes`, which are at most 4 GiB, and puts the places of a command's arguments into `args`.
pub fn next(bytes: &[u8], args: &mut Args) -> Next {
    args.count = 0;
    let found = match bytes.first() {
        None => return Next::Partial,
        Some(b'*') => array(bytes, args),
        Some(_) => inline(bytes, args),
    };
    match found {
        Ok(Some(end)) if end > COMMAND_BYTES_MAX => Next::Broken(COMMAND_TOO_LONG),
        Ok(Some(end)) => Next::Command(end),
        Ok(None) if bytes.len() >= COMMAND_BYTES_MAX => Next::Broken(COMMAND_TOO_LONG),
        Ok(None) => Next::Partial,
        Err(Wrong::Command(why)) => Next::Broken(why),
        Err(Wrong::Http) => Next::Http,
    }
}

/// Another protocol, as TLS or a proxy's, or what was behind its first line.
const NO_NAME: &str = "a line begins with no name of a command, which is letters, digits, dots, dashes and underscores";
const OF_A_PROXY: &str = "the PROXY protocol is not spoken here: its host would count for every caller behind it";
const COMMAND_TOO_LONG: &str = "a command is longer than 16384 bytes";

/// Where a command ends, `None` where it is not all there, or what is wrong with it.
type Found = Result<Option<usize>, Wrong>;

/// Why nothing can be made of what came.
enum Wrong {
    Command(&'static str),
    Http,
}

impl From<&'static str> for Wrong {
    fn from(why: &'static str) -> Self {
        Wrong::Command(why)
    }
}

fn array(bytes: &[u8], args: &mut Args) -> Found {
    let Some((count, mut at)) = header(bytes, 1)? else { return Ok(None) };
    if count > ARGS_MAX {
        return Err(TOO_MANY.into());
    }
    for _ in 0..count {
        match bytes.get(at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(_) => return Err("a command is an array of bulk strings: `$` and a length were expected".into()),
        }
        let Some((length, from)) = header(bytes, at + 1)? else { return Ok(None) };
        if length > ARG_BYTES_MAX {
            return Err(TOO_LONG.into());
        }
        let to = from + length;
        match bytes.get(to..to + 2) {
            None => return Ok(None),
            Some(b"\r\n") => args.push(from, to)?,
            Some(_) => return Err("a bulk string does not end where its length says".into()),
        }
        at = to + 2;
    }
    Ok(Some(at))
}

/// A whole number and its end of line, from `at` on: the number, and where the next thing begins.
fn header(bytes: &[u8], at: usize) -> Result<Option<(usize, usize)>, &'static str> {
    const WRONG: &str = "a length is not a whole number";
    let mut number = 0_usize;
    for (digits, byte) in bytes.get(at..).unwrap_or_default().iter().take(HEADER_BYTES_MAX).enumerate() {
        match byte {
            b'0'..=b'9' => number = number * 10 + usize::from(byte - b'0'),
            b'\r' if digits > 0 => {
                return match bytes.get(at + digits + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some((number, at + digits + 2))),
                    Some(_) => Err(WRONG),
                };
            }
            _ => return Err(WRONG),
        }
    }
    if bytes.len() >= at + HEADER_BYTES_MAX { Err(WRONG) } else { Ok(None) }
}

/// Words between blanks, a command's name first; `"in quotes"` a blank may stand in one, and a quotation mark may not.
fn inline(bytes: &[u8], args: &mut Args) -> Found {
    let Some(end) = bytes.iter().take(COMMAND_BYTES_MAX).position(|byte| *byte == b'\n') else { return Ok(None) };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    if is_http(line) {
        return Err(Wrong::Http);
    }
    let mut at = 0;
    while let Some(skip) = line[at..].iter().position(|byte| !byte.is_ascii_whitespace()) {
        at += skip;
        let quoted = line[at] == b'"';
        let from = at + usize::from(quoted);
        let stops = |byte: &u8| if quoted { *byte == b'"' } else { byte.is_ascii_whitespace() };
        let to = match line[from..].iter().position(stops) {
            Some(length) => from + length,
            None if quoted => return Err("a quotation mark is not closed".into()),
            None => line.len(),
        };
        args.push(from, to)?;
        if args.count == 1 && line[from..to].eq_ignore_ascii_case(b"PROXY") {
            return Err(OF_A_PROXY.into());
        }
        if args.count == 1 && !line[from..to].iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte)) {
            return Err(NO_NAME.into());
        }
        at = to + usize::from(quoted);
        if quoted && line.get(at).is_some_and(|byte| !byte.is_ascii_whitespace()) {
            return Err("after a closing quotation mark a blank was expected".into());
        }
    }
    Ok(Some(end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All commands of these bytes, or what is wrong with them; what is left over.
    fn read(mut bytes: &[u8]) -> (Vec<Vec<String>>, Result<usize, &'static str>) {
        let (mut args, mut commands) = (Args::default(), Vec::new());
        loop {
            match next(bytes, &mut args) {
                Next::Command(length) => {
                    let text = |at| String::from_utf8_lossy(args.get(bytes, at)).into_owned();
                    commands.push((0..args.count()).map(text).collect());
                    bytes = &bytes[length..];
                }
                Next::Partial => return (commands, Ok(bytes.len())),
                Next::Broken(why) => return (commands, Err(why)),
                Next::Http => return (commands, Err("HTTP")),
            }
        }
    }

    #[test]
    fn arrays_and_lines_are_the_same_commands() {
        for (bytes, want) in [
            (&b"*1\r\n$4\r\nPING\r\n"[..], vec![vec!["PING"]]),
            (b"PING\r\nPING\n", vec![vec!["PING"], vec!["PING"]]),
            (b"  ask   \"a b\"\tc \r\n", vec![vec!["ask", "a b", "c"]]),
            (b"\r\n*0\r\n", vec![vec![], vec![]]),
            (b"*2\r\n$0\r\n\r\n$2\r\n\r\n\r\n", vec![vec!["", "\r\n"]]),
        ] {
            assert_eq!(
                read(bytes),
                (want.iter().map(|c| c.iter().map(ToString::to_string).collect()).collect(), Ok(0))
            );
        }
    }

    #[test]
    fn a_command_cut_anywhere_waits_for_its_rest() {
        let whole = b"*3\r\n$10\r\nCU.RELEASE\r\n$4\r\nacme\r\n$2\r\ns1\r\n";
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]), (vec![], Ok(cut)), "cut at {cut}");
        }
        assert_eq!(read(whole).0, [["CU.RELEASE", "acme", "s1"]]);
    }

    #[test]
    fn what_is_no_command_says_why() {
        let long = format!("*1\r\n${}\r\n", ARG_BYTES_MAX + 1).into_bytes();
        let line = vec![b'a'; COMMAND_BYTES_MAX];
        let words = b"a ".repeat(ARGS_MAX + 1);
        for (bytes, why) in [
            (&b"*x\r\n"[..], "whole number"),
            (b"*-1\r\n", "whole number"),
            (b"*1\rX", "whole number"),
            (b"*99999999999999999999\r\n", "whole number"),
            (b"*65\r\n", "64 arguments"),
            (b"*1\r\n:1\r\n", "bulk strings"),
            (b"*1\r\n$1\r\nab\r\n", "length says"),
            (&long, "4096"),
            (&line, "16384"),
            (&[&words[..], b"\n"].concat(), "64 arguments"),
            (b"a \"b\n", "not closed"),
            (b"a \"b\"c\n", "blank was expected"),
            (b"POST / HTTP/1.1\r\n", "HTTP"),
            (b" host:x\nPING\n", "HTTP"),
            (b"\"get\" x\n", "HTTP"),
            (b"User-Agent: x\nPING\n", "no name of a command"),
            (b"\x16\x03\x01\x02\nPING\n", "no name of a command"),
            (b"\"a b\" c\n", "no name of a command"),
        ] {
            let (commands, left) = read(bytes);
            assert!(commands.is_empty() && left.is_err_and(|said| said.contains(why)), "{why}: {left:?}");
        }
    }

    #[test]
    fn random_bytes_never_panic_and_places_stay_inside() {
        let mut random = fastrand::Rng::with_seed(7);
        let alphabet = b"*$0123456789\r\n\"ab \xff";
        for _ in 0..200_000 {
            let bytes: Vec<u8> = (0..random.usize(..40)).map(|_| alphabet[random.usize(..alphabet.len())]).collect();
            let mut args = Args::default();
            if let Next::Command(length) = next(&bytes, &mut args) {
                assert!(length <= bytes.len() && length > 0);
                assert!((0..args.count()).all(|at| args.get(&bytes, at).len() < bytes.len()));
            }
        }
    }
}
