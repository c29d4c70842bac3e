//! One try to deliver a message: a signed request with a limit on everything.

use std::path::Path;
use std::time::Duration;

use chrono::DateTime;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use tokio::time::timeout;

use super::sign::Secrets;
use crate::daemon::clock::monotonic_ns;
use crate::daemon::config::Webhook;
use crate::daemon::outgoing::{self, Target, Trust};

/// The name of the file of authorities in the configuration.
const CA_FILE: &str = "the webhook's ca_file";
/// How much of an answer is looked at, bytes: it may say why it is a refusal.
const ANSWER_BYTES_MAX: usize = 1_024;
/// How much of it is shown, characters.
const SHOWN_CHARS_MAX: usize = 200;
/// Longest time for which a receiver may ask to be left alone, seconds.
const RETRY_AFTER_MAX_S: u64 = 86_400;

/// How a try went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The status of the receiver's answer, if it gave one.
    pub(crate) status: Option<u16>,
    /// The error; empty for a success.
    pub(crate) error: String,
    /// How long the receiver asks to be left alone, seconds.
    pub(crate) retry_after_s: u64,
    pub(crate) duration_ms: u64,
}

impl Outcome {
    pub(crate) fn is_success(&self) -> bool {
        self.error.is_empty()
    }

    /// The receiver wants nothing any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.status == Some(StatusCode::GONE.as_u16())
    }

    /// The receiver looked at this very message and did not want it.
    pub(crate) fn is_refusal(&self) -> bool {
        self.status
            .is_some_and(|status| (400..500).contains(&status) && ![401, 403, 404, 408, 425, 429].contains(&status))
    }
}

/// Tries once. Files are relative to `folder`; `utc_ms` is the present instant.
pub(crate) async fn deliver(hook: &Webhook, folder: &Path, id: &str, body: String, utc_ms: i64) -> Outcome {
    let began = monotonic_ns();
    let patience = Duration::from_secs(hook.timeout_s.into());
    let tried = timeout(patience, attempt(hook, folder, id, body, utc_ms)).await;
    let late = || Err(format!("no whole answer within {} s; see the webhook's timeout_s", hook.timeout_s));
    let mut outcome = match tried.unwrap_or_else(|_| late()) {
        Ok(outcome) => outcome,
        Err(error) => Outcome { error, ..Outcome::default() },
    };
    outcome.duration_ms = monotonic_ns().saturating_sub(began) / 1_000_000;
    outcome
}

async fn attempt(hook: &Webhook, folder: &Path, id: &str, body: String, utc_ms: i64) -> Result<Outcome, String> {
    let uri: Uri = hook.url.parse().map_err(|error| format!("url cannot be read: {error}"))?;
    let host = uri.host().ok_or("url names no host")?;
    let secret = folder.join(&hook.secret_file);
    let secrets = Secrets::read(&secret).map_err(|why| format!("secret_file {} {why}", secret.display()))?;
    let timestamp_s = utc_ms.div_euclid(1_000);
    let request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, uri.authority().map(|authority| authority.as_str()).unwrap_or_default())
        .header(USER_AGENT, concat!("usherd/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp_s)
        .header("webhook-signature", secrets.sign(id, timestamp_s, &body))
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| format!("url cannot be asked for: {error}"))?;
    let trust = match uri.scheme_str() {
        Some("http") => None,
        _ => Some(Trust::new(Path::new(&hook.ca_file), folder, CA_FILE)?),
    };
    let stream =
        outgoing::connect(&Target::new(&uri, host, trust.as_ref())).await.map_err(|error| error.to_string())?;
    let answer = outgoing::send(stream, request).await.map_err(|error| format!("{host}: no answer: {error}"))?;
    Ok(read(answer.response, utc_ms).await)
}

async fn read(response: Response<Incoming>, utc_ms: i64) -> Outcome {
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let asks = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let retry_after_s = retry_after.filter(|_| asks).map_or(0, |text| seconds_until(text, utc_ms));
    let error = match status {
        status if status.is_success() => String::new(),
        status if status.is_redirection() => {
            format!("it answers {status}, and redirects are not followed; write the new address as url")
        }
        status => match shown(response.into_body()).await {
            said if said.is_empty() => format!("it answers {status}"),
            said => format!("it answers {status}: {said}"),
        },
    };
    Outcome { status: Some(status.as_u16()), error, retry_after_s, duration_ms: 0 }
}

/// `Retry-After`: seconds, or a date.
fn seconds_until(text: &str, utc_ms: i64) -> u64 {
    let until = |at: DateTime<_>| at.timestamp_millis().saturating_sub(utc_ms).max(0).unsigned_abs().div_ceil(1_000);
    let seconds = text.trim().parse().ok().or_else(|| DateTime::parse_from_rfc2822(text.trim()).ok().map(until));
    seconds.unwrap_or(0).min(RETRY_AFTER_MAX_S)
}

/// The beginning of what a receiver says, in one printable line.
async fn shown(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES_MAX {
        let Some(Ok(frame)) = body.frame().await else { break };
        bytes.extend(frame.data_ref().into_iter().flatten().take(ANSWER_BYTES_MAX - bytes.len()));
    }
    let text: String = String::from_utf8_lossy(&bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_may_ask_for_a_pause_in_seconds_or_by_date() {
        let noon = 1_445_412_450_000;
        for (text, seconds) in [
            ("120", 120),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 30),
            ("Wed, 21 Oct 2015 07:00:00 GMT", 0),
            ("soon", 0),
            ("-5", 0),
            ("99999999999", 86_400),
        ] {
            assert_eq!(seconds_until(text, noon), seconds, "{text}");
        }
    }

    #[test]
    fn a_refusal_is_about_the_message_and_not_about_the_door() {
        for (status, refusal) in [
            (None, false),
            (Some(400), true),
            (Some(422), true),
            (Some(401), false),
            (Some(404), false),
            (Some(429), false),
            (Some(500), false),
        ] {
            assert_eq!(Outcome { status, ..Outcome::default() }.is_refusal(), refusal, "{status:?}");
        }
    }
}
