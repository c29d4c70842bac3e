//! Plain requests: whole in one read, with a head that has nothing in it which needs a closer look.

use httparse::{EMPTY_HEADER, Request, Status};

/// Most headers of a plain request.
const HEADERS_MAX: usize = 16;

/// A request as it stands in the buffer of its connection: `POST`, HTTP/1.1, one `Host`, a length, and no header that
/// is not one of those here, or of no effect. Nothing in it is of a browser or a proxy.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a> {
    /// Path and query.
    pub target: &'a str,
    /// The value of `Host`.
    pub host: &'a [u8],
    /// The value of `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// The value of `Accept`.
    pub accept: Option<&'a [u8]>,
    /// The value of `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// All of its body.
    pub body: &'a [u8],
}

/// The content of a read.
#[derive(Debug)]
pub(super) enum Seen<'a> {
    /// One plain request, and nothing behind it.
    Plain(Plain<'a>),
    /// Anything else; with the bytes of the request that it begins with, where its head is whole and tells that.
    Other(Option<usize>),
}

/// The headers of a request, as far as they matter here.
#[derive(Default)]
struct Head<'a> {
    host: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    accept: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    /// There is another header, or one twice.
    has_more: bool,
    /// The length of the body is not, or not only, in `Content-Length`.
    is_framed: bool,
}

impl<'a> Head<'a> {
    fn take(&mut self, name: &str, value: &'a [u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let place = if is("host") {
            &mut self.host
        } else if is("content-type") {
            &mut self.content_type
        } else if is("content-length") {
            self.is_framed |= self.length.is_some();
            &mut self.length
        } else if is("accept") {
            &mut self.accept
        } else if is("authorization") {
            &mut self.authorization
        } else {
            self.is_framed |= is("transfer-encoding") || is("upgrade");
            let is_of_no_effect = is("user-agent")
                || is("accept-encoding")
                || (is("connection") && value.eq_ignore_ascii_case(b"keep-alive"));
            self.has_more |= !is_of_no_effect;
            return;
        };
        self.has_more |= place.replace(value).is_some();
    }
}

/// Looks at what was read, where requests may have so many headers.
pub(super) fn see(bytes: &[u8], headers_max: usize) -> Seen<'_> {
    let mut fields = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut fields);
    let Ok(Status::Complete(head_bytes)) = request.parse(bytes) else { return Seen::Other(None) };
    let mut head = Head::default();
    request.headers.iter().for_each(|header| head.take(header.name, header.value));
    let length = match head.length {
        _ if head.is_framed || request.method == Some("CONNECT") => None,
        None => Some(0),
        Some(digits) => number(digits),
    };
    let whole = length.and_then(|length| head_bytes.checked_add(length));
    let (Some("POST"), Some(target), Some(1), Some(host)) = (request.method, request.path, request.version, head.host)
    else {
        return Seen::Other(whole);
    };
    if head.has_more || head.length.is_none() || whole != Some(bytes.len()) || request.headers.len() > headers_max {
        return Seen::Other(whole);
    }
    let Head { content_type, accept, authorization, .. } = head;
    Seen::Plain(Plain { target, host, content_type, accept, authorization, body: &bytes[head_bytes..] })
}

fn number(digits: &[u8]) -> Option<usize> {
    let is_one = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_one)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST /v1/acquire HTTP/1.1\r\nHost: u\r\nContent-Length: 2\r\n";

    #[test]
    fn a_whole_post_with_a_length_is_plain() {
        let more = "content-type: application/json\r\nAccept: */*\r\nUser-Agent: x\r\nAccept-Encoding: gzip\r\n\
                    AUTHORIZATION: Bearer x\r\nConnection: Keep-Alive\r\n";
        for head in [HEAD.to_owned(), format!("{HEAD}{more}")] {
            let request = format!("{head}\r\n{{}}");
            let Seen::Plain(plain) = see(request.as_bytes(), 100) else { panic!("{request}") };
            assert_eq!((plain.target, plain.host, plain.body), ("/v1/acquire", &b"u"[..], &b"{}"[..]));
            assert_eq!(plain.authorization.is_some(), head.contains("Bearer"));
        }
    }

    #[test]
    fn what_is_not_plain_tells_its_length_where_that_is_certain() {
        let with = |header: &str| format!("{HEAD}{header}\r\n\r\n{{}}");
        let bytes = with("Origin: x").len();
        for (request, whole) in [
            (with("Origin: x"), Some(bytes)),
            (with("Via: x"), Some(bytes - 3)),
            (with("Host: x"), Some(bytes - 2)),
            (with("Accept: x\r\nAccept: y"), None.or(Some(bytes + 11))),
            (with("Connection: close"), Some(bytes + 8)),
            (with("Expect: 100-continue"), Some(bytes + 11)),
            (with("Content-Length: 2"), None),
            (with("Transfer-Encoding: chunked"), None),
            (with("Upgrade: h2c"), None),
            (format!("{}GET /", with("A: b")), Some(with("A: b").len())),
            (format!("{HEAD}\r\n{{"), Some(HEAD.len() + 4)),
            (HEAD.to_owned(), None),
            (HEAD.replace("1.1", "1.0") + "\r\n{}", Some(HEAD.len() + 4)),
            (HEAD.replace("Host", "Hosts") + "\r\n{}", Some(HEAD.len() + 5)),
            (HEAD.replace("2\r\n", "+2\r\n") + "\r\n{}", None),
            ("GET / HTTP/1.1\r\nHost: u\r\n\r\n".to_owned(), Some(27)),
            ("CONNECT u:1 HTTP/1.1\r\nHost: u\r\n\r\n".to_owned(), None),
            ("nonsense\r\n\r\n".to_owned(), None),
        ] {
            match see(request.as_bytes(), 100) {
                Seen::Other(told) => assert_eq!(told, whole, "{request}"),
                Seen::Plain(_) => panic!("{request}"),
            }
        }
        let request = format!("{HEAD}\r\n{{}}");
        assert!(matches!(see(request.as_bytes(), 1), Seen::Other(Some(_))), "more headers than there may be");
    }
}
