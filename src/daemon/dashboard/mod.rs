//! The dashboard at `/`: three embedded files that hold no data and ask for it as any other client would; beside
//! them the rule book, which they link to.
//!
//! Nothing is fetched from elsewhere, nothing is built: what stands in this folder is what the browser gets. A
//! strict policy keeps it so, and a test holds size and origin.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::daemon::http::ReplyBody;

/// Scripts, styles and data from here alone; in nobody's frame; nothing inline, nothing sent as a form.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file.
struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

/// Plain text, which every browser shows, and finds a heading in.
const RULE_BOOK: File = File {
    path: "/rulebook.md",
    content_type: "text/plain; charset=utf-8",
    text: include_str!("../../../docs/rulebook.md"),
};

/// The page, and what is opened from it.
const FILES: [File; 4] = [
    File { path: "/", content_type: "text/html; charset=utf-8", text: include_str!("index.html") },
    File { path: "/dashboard.js", content_type: "text/javascript; charset=utf-8", text: include_str!("dashboard.js") },
    File { path: "/dashboard.css", content_type: "text/css; charset=utf-8", text: include_str!("dashboard.css") },
    RULE_BOOK,
];

/// The hash of each file, as its tag.
static TAGS: LazyLock<[String; FILES.len()]> = LazyLock::new(|| {
    FILES.map(|file| {
        let hash = Sha256::digest(file.text.as_bytes());
        format!("\"{}\"", hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect::<String>())
    })
});

/// A file, or 304 where the browser has it; `None` for any other path.
pub(super) fn answer(path: &str, headers: &HeaderMap) -> Option<Response<ReplyBody>> {
    let (file, tag) = FILES.iter().zip(TAGS.iter()).find(|(file, _)| file.path == path)?;
    let known = headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let has_it = known.is_some_and(|tags| tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag));
    let body = if has_it { Bytes::new() } else { Bytes::from_static(file.text.as_bytes()) };
    let mut response = Response::new(ReplyBody::full(body));
    *response.status_mut() = if has_it { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let fields: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, file.content_type),
        (ETAG, tag),
        // Asked for again each time: a new daemon brings a new page.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 60_000;

    #[test]
    fn it_is_small_and_names_no_other_origin() {
        let page = FILES.iter().filter(|file| file.path != RULE_BOOK.path);
        let bytes: usize = page.map(|file| file.text.len()).sum();
        assert!(bytes <= BYTES_MAX, "{bytes} bytes in all");
        for file in &FILES {
            // The names of XML languages look like addresses and are none.
            let text = file.text.replace("http://www.w3.org/2000/svg", "");
            for foreign in ["://", "\"//", "'//", "@import", "import("] {
                assert!(!text.contains(foreign), "{}: {foreign}", file.path);
            }
        }
        assert!(!FILES[2].text.contains("url("), "a style sheet that fetches");
    }

    #[test]
    fn nothing_is_inline_which_the_policy_would_forbid() {
        let page = FILES[0].text;
        assert_eq!((page.matches("<script").count(), page.matches("<script src=").count()), (1, 1));
        for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
        for unsafe_way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "cssText",
            "\"style\"",
        ] {
            assert!(!FILES[1].text.contains(unsafe_way), "{unsafe_way}");
        }
    }

    #[test]
    fn a_browser_that_has_it_is_told_so() {
        let mut headers = HeaderMap::new();
        for file in &FILES {
            let first = answer(file.path, &HeaderMap::new()).unwrap();
            assert_eq!(first.status(), 200);
            assert_eq!(first.headers()[CONTENT_SECURITY_POLICY], POLICY);
            headers.insert(IF_NONE_MATCH, first.headers()[ETAG].clone());
            assert_eq!(answer(file.path, &headers).unwrap().status(), 304);
        }
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("\"another\", W/\"one\""));
        assert_eq!(answer("/", &headers).unwrap().status(), 200);
        assert!(answer("/dashboard", &headers).is_none());
    }
}
