//! Under which name somebody asks for the daemon. A page of anybody's may give its own name our address (DNS rebinding),
//! and is then of our origin for the browser: what it cannot have is an address, or a name that is known to be ours.

use std::net::IpAddr;

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;

/// Characters of a name that are told back.
const TOLD_CHARS_MAX: usize = 80;

/// The name under which a request asks and that could be somebody else's; small letters in `own`. Who names none at
/// all, as HTTP/1.0 may, is no browser.
pub(super) fn foreign_name(head: &Parts, own: &[String]) -> Option<String> {
    let target = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let fields = head.headers.get_all(HOST).into_iter().map(|value| value.as_bytes());
    let foreign = target.into_iter().chain(fields).find(|asked| !is_ours(asked, own))?;
    Some(String::from_utf8_lossy(foreign).chars().take(TOLD_CHARS_MAX).collect())
}

fn is_ours(asked: &[u8], own: &[String]) -> bool {
    let Ok(authority) = Authority::try_from(asked) else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost") || own.contains(&name)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check(asked: &str, ours: bool) {
        assert_eq!(is_ours(asked.as_bytes(), &["pbx1.example".to_owned()]), ours, "{asked}");
    }

    #[test]
    fn an_address_localhost_and_what_is_configured_are_ours() {
        for asked in [
            "127.0.0.1",
            "127.0.0.1:7788",
            "10.1.2.3:80",
            "[::1]:7788",
            "[fe80::1]",
            "localhost",
            "LocalHost.:7788",
            "usherd.localhost:1",
            "pbx1.example",
            "PBX1.Example.:7788",
        ] {
            check(asked, true);
        }
    }

    #[test]
    fn a_name_of_anybody_else_is_not() {
        for asked in [
            "evil.example",
            "evil.example:7788",
            "x.pbx1.example",
            "pbx1.example.evil.example",
            "notlocalhost",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io",
            "127.1",
            "0x7f000001",
            "2130706433",
            "",
            ":7788",
            "..",
            "evil example",
            "évil",
        ] {
            check(asked, false);
        }
    }

    #[test]
    fn every_name_of_a_request_counts_and_a_long_one_is_cut() {
        let foreign = |uri: &str, hosts: &[&str]| {
            let mut request = Request::get(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            foreign_name(&request.body(()).unwrap().into_parts().0, &[])
        };
        assert_eq!(foreign("/", &[]), None, "HTTP/1.0");
        assert_eq!(foreign("/", &["127.0.0.1"]), None);
        assert_eq!(foreign("/", &["127.0.0.1", "evil.example"]).unwrap(), "evil.example");
        assert_eq!(foreign("http://evil.example/", &["127.0.0.1"]).unwrap(), "evil.example");
        assert_eq!(foreign("http://localhost/", &[]), None, "the authority of HTTP/2");
        assert_eq!(foreign("/", &[&"x".repeat(9_000)]).unwrap().len(), TOLD_CHARS_MAX);
    }
}
