//! HTTP on a listener of lines that speaks something else, recognised by its beginning: a browser can be made to send
//! it there, with lines of our own protocol in its body.

/// Methods of HTTP, and `PRI`, with which HTTP/2 begins.
const METHODS: [&str; 10] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PRI", "PUT", "TRACE"];

/// True if a line is of HTTP: it begins with a method or `Host:`, or says `HTTP/` and a version at its beginning or
/// as its third word; any case, blanks and quotation marks before it aside. `line` may have its end or not.
pub fn is_http(line: &[u8]) -> bool {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default();
    let first = first.iter().position(|byte| *byte != b'"').map_or(&[][..], |at| &first[at..]);
    let name = first.strip_suffix(b"\"").unwrap_or(first);
    let begins = |word: &[u8], with: &str| {
        word.get(..with.len()).is_some_and(|front| front.eq_ignore_ascii_case(with.as_bytes()))
    };
    METHODS.iter().any(|method| name.eq_ignore_ascii_case(method.as_bytes()))
        || begins(first, "host:")
        || begins(first, "http/")
        || words.nth(1).is_some_and(|third| begins(third, "http/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_http_is_known_in_any_case() {
        for line in [
            "POST / HTTP/1.1\r",
            "post /",
            "GET",
            "  Get /x HTTP/1.0",
            "\"PUT\" /",
            "\"delete /\"",
            "HEAD\t/",
            "options * HTTP/1.1",
            "PATCH /",
            "TRACE /",
            "CONNECT a:1 HTTP/1.1",
            "PRI * HTTP/2.0",
            "PROPFIND / HTTP/1.1",
            "CU.RELEASE / http/1.1",
            "Host: localhost",
            "HOST:x",
            "HTTP/1.1 200 OK",
        ] {
            assert!(is_http(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn a_line_of_ours_is_not() {
        for line in [
            "",
            "\r",
            "\"",
            "PING",
            "CU.ACQUIRE acme anna c1 call direction outbound",
            "CU.RELEASE acme get",
            "GETTER x",
            "HOSTS",
            "hello 3 AUTH default HTTP/",
            "agi_network: yes",
            "agi_request: agi://host/acquire HTTP",
            "*1",
            "\u{ff}",
        ] {
            assert!(!is_http(line.as_bytes()), "{line}");
        }
    }
}
