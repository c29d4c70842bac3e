//! In which format a body is written.

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// `application/json`, or anything ending in `+json`.
    Json,
    /// `application/x-www-form-urlencoded`, or no content type at all with an empty body.
    Form,
    /// `application/x-ndjson`.
    Ndjson,
}

impl BodyFormat {
    /// The format that a `Content-Type` header names. Without one, a body that begins with a brace is JSON
    /// and any other is a form. `None` is a 415.
    pub fn of(content_type: Option<&[u8]>, body: &[u8]) -> Option<Self> {
        let Some(header) = content_type else {
            return Some(if looks_like_json(body) { BodyFormat::Json } else { BodyFormat::Form });
        };
        let essence = header.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        if essence.eq_ignore_ascii_case(b"application/json") {
            Some(BodyFormat::Json)
        } else if essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            // curl -d sends JSON under this name, and no form begins with a brace.
            Some(if looks_like_json(body) { BodyFormat::Json } else { BodyFormat::Form })
        } else if essence.eq_ignore_ascii_case(b"application/x-ndjson") {
            Some(BodyFormat::Ndjson)
        } else if essence.len() > 5 && essence[essence.len() - 5..].eq_ignore_ascii_case(b"+json") {
            Some(BodyFormat::Json)
        } else {
            None
        }
    }
}

fn looks_like_json(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}
