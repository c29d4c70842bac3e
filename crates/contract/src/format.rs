//! The formats of bodies and of their answers.

/// The format of a body.
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

/// The format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFormat {
    /// A flat JSON object.
    Json,
    /// One line of plain text without an end of line.
    Plain,
}

impl ReplyFormat {
    /// `Accept: application/json` wins, then `text/plain`, then what the request was written in. `accept` is every
    /// value of the header.
    pub fn of<'a>(accept: impl Iterator<Item = &'a [u8]>, request: BodyFormat) -> Self {
        let mut accepts_plain = false;
        for accepted in accept.flat_map(|value| value.split(|byte| *byte == b',')) {
            let essence = accepted.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            if essence.eq_ignore_ascii_case(b"application/json") {
                return ReplyFormat::Json;
            }
            accepts_plain |= essence.eq_ignore_ascii_case(b"text/plain");
        }
        if accepts_plain || request == BodyFormat::Form { ReplyFormat::Plain } else { ReplyFormat::Json }
    }
}
