//! The guard of names and origins: requests of another page, through a proxy, or by a name that could be a foreign
//! page's.
//!
//! A page of anybody's may send requests to our address; the browser says so (`Origin`, `Sec-Fetch-Site`). It may also
//! give its own name our address (DNS rebinding), and is then of our origin for the browser. What it cannot have is an
//! address, a name without a dot, for which no public name server answers, or a name that is known to be ours.

use std::net::IpAddr;

use http::header::{FORWARDED, HOST, HeaderName, ORIGIN, VIA};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Version};

/// Characters of a name that are told back.
const TOLD_CHARS_MAX: usize = 80;
/// The header in which browsers say how a request came to be made.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Headers by which proxies tell for whom they ask, beside `Forwarded`, `Via` and all that begins with `X-Forwarded`.
const OF_PROXIES: [&str; 8] = [
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-envoy-external-address",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
];

/// The fault of a request's `Host`, if any: HTTP/1.1 has one, and no request has two (RFC 9112).
pub(super) fn host_fault(head: &Parts) -> Option<&'static str> {
    let mut hosts = head.headers.get_all(HOST).into_iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if head.version == Version::HTTP_11 => {
            Some("the request has no Host: send one, as in \"Host: localhost\"")
        }
        (Some(_), Some(_)) => Some("the request has more than one Host: send one"),
        (Some(host), None) if !is_plain(host.as_bytes()) && authority(host.as_bytes()).is_none() => {
            Some("Host is not a name or an address, with or without a port")
        }
        _ => None,
    }
}

/// True if a page of another origin had a browser send it. PBX nodes and scripts tell nothing of the kind.
pub(super) fn is_of_another_page(head: &Parts) -> bool {
    let mut sites = head.headers.get_all(&SEC_FETCH_SITE).into_iter();
    sites.any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
        || head.headers.get_all(ORIGIN).into_iter().any(|origin| !is_own_origin(origin.as_bytes(), head))
}

/// True if a browser sent it at all.
pub(super) fn is_of_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.contains_key(&SEC_FETCH_SITE)
}

/// True if it came through a proxy, which says so: then its connection tells nothing of who asks.
pub(super) fn is_proxied(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        *name == FORWARDED
            || *name == VIA
            || name.as_str().starts_with("x-forwarded")
            || OF_PROXIES.contains(&name.as_str())
    })
}

/// True if a page of this origin was read from the very name and port that the request asks.
fn is_own_origin(origin: &[u8], head: &Parts) -> bool {
    let split = std::str::from_utf8(origin).ok().and_then(|origin| origin.split_once("://"));
    let Some((scheme, origin)) = split else { return false };
    let port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let field = head.headers.get(HOST).and_then(|host| authority(host.as_bytes()));
    let place = |authority: &Authority| (authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(port));
    let asked = head.uri.authority().cloned().or(field);
    authority(origin.as_bytes()).zip(asked).is_some_and(|(origin, asked)| place(&origin) == place(&asked))
}

/// True if it is nothing, or a name or an address as nearly all are, which need no closer look.
pub(super) fn is_plain(host: &[u8]) -> bool {
    let mut parts = host.splitn(2, |byte| *byte == b':');
    let name = parts.next().unwrap_or_default();
    let port = parts.next().unwrap_or(b"80");
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let is_port = (1..=4).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    host.is_empty() || (!name.is_empty() && name.iter().all(of_name) && is_port)
}

/// A name or address, and a port or none.
fn authority(text: &[u8]) -> Option<Authority> {
    Authority::try_from(text).ok().filter(|authority| !authority.as_str().contains('@') && !authority.host().is_empty())
}

/// The name under which a request asks and that could be somebody else's; lower case in `own`. Who names none at
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
    let is_local = (!name.is_empty() && !name.contains('.')) || name.ends_with(".localhost");
    is_local || name.parse::<IpAddr>().is_ok() || own.contains(&name)
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
            "pbx1:7788",
            "x",
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
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io",
            "127.1",
            "",
            ":7788",
            ".",
            "..",
            "evil example",
            "évil",
        ] {
            check(asked, false);
        }
    }

    fn head(version: Version, fields: &[(&'static str, &str)]) -> Parts {
        let mut request = Request::get("/").version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn http_1_1_has_one_host() {
        for (version, hosts, right) in [
            (Version::HTTP_11, &["localhost"][..], true),
            (Version::HTTP_11, &["[::1]:7788"], true),
            (Version::HTTP_11, &["pbx_1:7788"], true),
            (Version::HTTP_11, &[""], true),
            (Version::HTTP_10, &[], true),
            (Version::HTTP_2, &[], true),
            (Version::HTTP_11, &[], false),
            (Version::HTTP_11, &["localhost", "localhost"], false),
            (Version::HTTP_10, &["a", "b"], false),
            (Version::HTTP_2, &["a", "b"], false),
            (Version::HTTP_11, &["a, b"], false),
            (Version::HTTP_11, &["a b"], false),
            (Version::HTTP_11, &["user@localhost"], false),
            (Version::HTTP_11, &["localhost/x"], false),
        ] {
            let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            assert_eq!(host_fault(&head(version, &fields)).is_none(), right, "{version:?} {hosts:?}");
        }
    }

    #[test]
    fn a_page_is_ours_where_it_was_read_from_the_host_that_it_asks() {
        for (host, origin, ours) in [
            ("localhost:7788", "http://localhost:7788", true),
            ("LocalHost:7788", "http://localhost:7788", true),
            ("[::1]:7788", "http://[::1]:7788", true),
            ("pbx.example", "https://pbx.example", true),
            ("pbx.example:443", "https://pbx.example", true),
            ("pbx.example", "http://pbx.example:80", true),
            ("localhost:7788", "http://localhost", false),
            ("localhost:7788", "http://localhost:7789", false),
            ("localhost:7788", "http://127.0.0.1:7788", false),
            ("localhost:7788", "http://evil.example:7788", false),
            ("localhost:7788", "http://localhost:7788.evil.example", false),
            ("localhost:7788", "http://x@localhost:7788", false),
            ("localhost:7788", "http://localhost:7788/", false),
            ("localhost:7788", "chrome-extension://localhost:7788", false),
            ("localhost:7788", "null", false),
            ("localhost:7788", "", false),
            ("", "http://", false),
        ] {
            let head = head(Version::HTTP_11, &[("host", host), ("origin", origin), ("sec-fetch-site", "same-origin")]);
            assert_eq!(!is_of_another_page(&head), ours, "{origin} asks {host}");
            assert!(is_of_a_page(&head.headers));
        }
        let two = [("host", "a"), ("origin", "http://a"), ("origin", "http://b")];
        assert!(is_of_another_page(&head(Version::HTTP_11, &two)));
        for (site, ours) in [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)] {
            let head = head(Version::HTTP_11, &[("host", "a"), ("sec-fetch-site", site)]);
            assert_eq!(!is_of_another_page(&head), ours, "{site}");
        }
    }

    #[test]
    fn a_proxy_is_known_by_what_it_adds() {
        for name in ["forwarded", "via", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "cf-connecting-ip"] {
            assert!(is_proxied(&head(Version::HTTP_11, &[("host", "a"), (name, "10.0.0.1")]).headers), "{name}");
        }
        assert!(!is_proxied(&head(Version::HTTP_11, &[("host", "a"), ("x-forward", "x")]).headers));
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
        assert_eq!(foreign("/", &[&"x.y".repeat(3_000)]).unwrap().len(), TOLD_CHARS_MAX);
    }
}
