//! Asks the daemon: one request a connection, with an end to every wait.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use usherd_contract::problem::Problem;

use super::address::Address;
use super::failure::Failure;
use crate::daemon::outgoing::{self, Answer, Trust};

/// How long a connection may take; the daemon is on this machine or in its network.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// Longest answer that is taken, bytes: 1,000 rows of the longest names are under 2 MiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest line of a stream, bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// The advice where something answers that is not HTTP/1.1.
const NOT_USHERD: &str =
    "look whether something else listens there, or whether the listener wants https://, a client certificate or HTTP/2";
/// The name of the file of authorities on the command line.
const CA_FILE: &str = "--ca-file";

/// Asks the daemon.
pub(super) struct Client {
    runtime: Runtime,
    /// Where to ask, and whom to trust there over TLS.
    candidates: Vec<(Address, Option<Trust>)>,
    authorization: Option<HeaderValue>,
    deadline: Duration,
}

/// The answer of the daemon.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
    /// The address that answered.
    pub from: Address,
}

/// One request.
pub(super) struct Ask<'a> {
    method: Method,
    path: &'a str,
    body: Option<&'a Value>,
    accept: &'static str,
    resume_after: Option<u64>,
}

impl<'a> Ask<'a> {
    /// A reading request.
    pub(super) fn get(path: &'a str) -> Self {
        Ask { method: Method::GET, path, body: None, accept: "application/json", resume_after: None }
    }

    /// A request with a JSON body.
    pub(super) fn post(path: &'a str, body: &'a Value) -> Self {
        Ask { method: Method::POST, body: Some(body), ..Ask::get(path) }
    }

    /// A request that takes something away.
    pub(super) fn delete(path: &'a str) -> Self {
        Ask { method: Method::DELETE, ..Ask::get(path) }
    }

    /// A stream of JSON lines, beginning after an event where one is named.
    pub(super) fn stream(path: &'a str, resume_after: Option<u64>) -> Self {
        Ask { accept: "application/x-ndjson", resume_after, ..Ask::get(path) }
    }
}

impl Client {
    /// A client that tries these addresses in their order; over TLS it trusts the authorities of a file, or those of the
    /// machine where the path is empty.
    ///
    /// # Errors
    /// The token cannot stand in a header, there is nobody to trust, or the process may not have another event loop.
    pub(super) fn new(
        addresses: Vec<Address>,
        ca_file: &Path,
        token: Option<&str>,
        deadline: Duration,
    ) -> Result<Self, Failure> {
        let authorization = match token {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|_| Failure::usage("the token has characters that are not allowed in one"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let mut candidates = Vec::new();
        for address in addresses {
            let trust = match address {
                Address::Tls(_) => Some(Trust::new(ca_file, Path::new(""), CA_FILE).map_err(Failure::usage)?),
                Address::Tcp(_) | Address::Unix(_) => None,
            };
            candidates.push((address, trust));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::failed(format!("no event loop can be made: {error}")))?;
        Ok(Client { runtime, candidates, authorization, deadline })
    }

    /// Waits this long for an answer instead.
    #[must_use]
    pub(super) fn patient(mut self, deadline: Duration) -> Self {
        self.deadline = self.deadline.max(deadline);
        self
    }

    /// Where it asks first.
    pub(super) fn first_address(&self) -> String {
        self.candidates.first().map(|(address, _)| address.to_string()).unwrap_or_default()
    }

    /// Asks, and takes any answer.
    ///
    /// # Errors
    /// Nobody answered, not in time, or not in HTTP.
    pub(super) fn ask(&self, ask: &Ask<'_>) -> Result<Reply, Failure> {
        self.run(self.answer(ask))
    }

    /// Runs what asks several things beside each other, on the event loop of this client.
    pub(super) fn run<T>(&self, asking: impl Future<Output = T>) -> T {
        self.runtime.block_on(asking)
    }

    /// [`Client::ask`] within [`Client::run`].
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(super) async fn answer(&self, ask: &Ask<'_>) -> Result<Reply, Failure> {
        let (from, answer) = self.send(ask).await?;
        let late = || self.too_late(&from);
        let status = answer.response.status();
        let body = Limited::new(answer.response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = timeout(self.deadline, body).await.map_err(|_| late())?;
        let body = body.map_err(|error| Failure::failed(format!("the answer of {from} broke off: {error}")))?;
        Ok(Reply { status, body: body.to_bytes(), from })
    }

    /// Asks, and takes only an answer of success.
    ///
    /// # Errors
    /// As [`Client::ask`], or the daemon reported a problem.
    pub(super) fn ask_ok(&self, ask: &Ask<'_>) -> Result<Reply, Failure> {
        let reply = self.ask(ask)?;
        if reply.status.is_success() { Ok(reply) } else { Err(reply.failure()) }
    }

    /// Follows a stream of lines until it ends, or `each` answers `false`. Returns whether `each` ended it.
    ///
    /// # Errors
    /// As [`Client::ask_ok`]; the stream broke off; or what `each` says.
    pub(super) fn follow(
        &self,
        ask: &Ask<'_>,
        each: impl FnMut(&str) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        self.run(self.lines(ask, each))
    }

    /// [`Client::follow`] within [`Client::run`]; dropping it ends the stream.
    ///
    /// # Errors
    /// As [`Client::follow`].
    pub(super) async fn lines(
        &self,
        ask: &Ask<'_>,
        mut each: impl FnMut(&str) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        let (from, answer) = self.send(ask).await?;
        let status = answer.response.status();
        let mut body = answer.response.into_body();
        if !status.is_success() {
            let body = timeout(self.deadline, Limited::new(body, ANSWER_BYTES_MAX).collect()).await;
            let body = body.map_err(|_| self.too_late(&from))?.map(|body| body.to_bytes()).unwrap_or_default();
            return Err(Reply { status, body, from }.failure());
        }
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::failed(format!("the stream of {from} broke off: {error}")))?;
            pending.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if !line.trim().is_empty() && !each(line.trim_end())? {
                    return Ok(true);
                }
            }
            if pending.len() > LINE_BYTES_MAX {
                return Err(Failure::failed(format!("{from} sent a line of more than {LINE_BYTES_MAX} bytes")));
            }
        }
        Ok(false)
    }

    /// Sends to the first address that takes a connection.
    async fn send(&self, ask: &Ask<'_>) -> Result<(Address, Answer), Failure> {
        let mut failed: Vec<io::Error> = Vec::new();
        for (address, trust) in &self.candidates {
            let late = || io::Error::new(io::ErrorKind::TimedOut, format!("{address}: no connection within 3 s"));
            let target = address.target(trust.as_ref());
            match timeout(CONNECT_DEADLINE, outgoing::connect(&target)).await.unwrap_or_else(|_| Err(late())) {
                Ok(stream) => {
                    let asked = outgoing::send(stream, self.request(address, ask)?);
                    let answer = timeout(self.deadline, asked).await.map_err(|_| self.too_late(address))?;
                    return answer.map(|answer| (address.clone(), answer)).map_err(|error| {
                        Failure::failed(format!("{address} does not answer like usherd: {error}")).fix(NOT_USHERD)
                    });
                }
                Err(error) => failed.push(error),
            }
        }
        Err(unreachable_daemon(&failed))
    }

    fn request(&self, address: &Address, ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, Failure> {
        let host = match address {
            Address::Tcp(host_port) | Address::Tls(host_port) => host_port.as_str(),
            Address::Unix(_) => "localhost",
        };
        let mut request = Request::builder().method(&ask.method).uri(ask.path).header(HOST, host);
        request = request.header(ACCEPT, ask.accept);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(id) = ask.resume_after {
            request = request.header("last-event-id", id);
        }
        let mut bytes = Bytes::new();
        if let Some(body) = ask.body {
            request = request.header(CONTENT_TYPE, "application/json");
            bytes = Bytes::from(body.to_string());
        }
        request.body(Full::new(bytes)).map_err(|error| Failure::usage(format!("{} is no request: {error}", ask.path)))
    }

    fn too_late(&self, address: &Address) -> Failure {
        Failure::failed(format!("{address} did not answer within {} s", self.deadline.as_secs()))
            .fix("check its log; --timeout waits longer")
    }
}

fn unreachable_daemon(failed: &[io::Error]) -> Failure {
    let told: Vec<String> = failed.iter().map(io::Error::to_string).collect();
    let any = |kind| failed.iter().any(|error| error.kind() == kind);
    let fix = if any(io::ErrorKind::PermissionDenied) {
        "the socket exists, but this user may not use it: run it with sudo, or join the group of the socket"
    } else if any(io::ErrorKind::InvalidData) {
        "name whom to trust with --ca-file or USHERD_CA_FILE; a listener without TLS is asked by http://"
    } else {
        "start it with `usherd serve`, or say where it is with --addr or USHERD_ADDR"
    };
    Failure::failed(format!("usherd cannot be reached ({})", told.join("; "))).fix(fix)
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is not JSON.
    pub(super) fn json(&self) -> Result<Value, Failure> {
        self.read()
    }

    /// The body as an answer of its type: what it lacks has its default, and what it has beyond is left out.
    ///
    /// # Errors
    /// It is not JSON, or another answer.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let what = if error.is_data() { "another answer than was asked for" } else { "something that is not JSON" };
            Failure::failed(format!("{} answered {} with {what}: {error}", self.from, self.status))
        })
    }

    /// The failure that a problem object (RFC 9457) describes, and how to fix it.
    pub(super) fn failure(&self) -> Failure {
        let problem: Problem<'_> = serde_json::from_slice(&self.body).unwrap_or_default();
        let reason = self.status.canonical_reason().unwrap_or("no success");
        let mut what = format!("{} answered {}", self.from, self.status.as_u16());
        let _ = match (&*problem.title, &*problem.detail) {
            ("", "") => write!(what, " ({reason})"),
            (title, "") => write!(what, ": {title}"),
            ("", detail) => write!(what, ": {detail}"),
            (title, detail) => write!(what, ": {title}: {detail}"),
        };
        for error in &*problem.errors {
            let _ = write!(what, "\n  {} {}", error.pointer.trim_start_matches('/'), error.detail);
        }
        let fix = match self.status {
            StatusCode::UNAUTHORIZED => "give a token of a role that may do this: --token-file FILE or USHERD_TOKEN",
            StatusCode::SERVICE_UNAVAILABLE => "it is starting, stopping or overloaded; try again in a moment",
            StatusCode::TOO_MANY_REQUESTS => "wait a minute; too many wrong tokens came from this address",
            _ => "",
        };
        Failure::failed(what).fix(fix)
    }
}

/// The characters that are escaped: all but the unreserved ones of RFC 3986.
const BEYOND_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as one segment of a path or one value of a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, BEYOND_UNRESERVED).to_string()
}

/// A path with the parameters that have a value.
pub(super) fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut out = path.to_owned();
    for (key, value) in parameters {
        if let Some(value) = value {
            out.push(if out.contains('?') { '&' } else { '?' });
            let _ = write!(out, "{key}={}", encoded(value));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::overview::Overview;

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(encoded("a/b?c d%é"), "a%2Fb%3Fc%20d%25%C3%A9");
        let query = [("after", Some("x&y".to_owned())), ("state", None), ("limit", Some("5".to_owned()))];
        assert_eq!(with_query("/v1/tenants", &query), "/v1/tenants?after=x%26y&limit=5");
    }

    #[test]
    fn a_problem_is_told_with_every_field() {
        let body = r#"{"title":"The request is malformed","status":400,"detail":"one field is wrong",
            "errors":[{"pointer":"/ttl_s","detail":"must be 1 to 86400 seconds"}]}"#;
        let reply = Reply { status: StatusCode::BAD_REQUEST, body: body.into(), from: Address::Tcp("a:1".into()) };
        let what = reply.failure().what;
        assert_eq!(
            what,
            "a:1 answered 400: The request is malformed: one field is wrong\n  ttl_s must be 1 to 86400 seconds"
        );
        let reply = Reply { status: StatusCode::BAD_GATEWAY, body: "<html>".into(), from: Address::Tcp("a:1".into()) };
        assert_eq!(reply.failure().what, "a:1 answered 502 (Bad Gateway)");
    }

    #[test]
    fn an_answer_of_an_older_or_newer_daemon_is_read() {
        let reply =
            |body: &'static str| Reply { status: StatusCode::OK, body: body.into(), from: Address::Tcp("a:1".into()) };
        let newer = r#"{"held":7,"nodes":{"up":2,"asleep":1},"journal":{"durability":"engraved"},"moons":["Io"]}"#;
        let overview: Overview = reply(newer).read().unwrap();
        assert_eq!((overview.held, overview.nodes.up, &*overview.journal.durability), (7, 2, "engraved"));
        let older: Overview = reply("{}").read().unwrap();
        assert_eq!(older, Overview::default());
        assert!(older.time.wall_clock_trusted && older.config.outcome.last_reload_successful, "nothing is said");
        for (body, what) in
            [("<html>", "something that is not JSON"), (r#"{"held":"7"}"#, "another answer than was asked for")]
        {
            let failure = reply(body).read::<Overview>().unwrap_err();
            assert!(failure.what.starts_with(&format!("a:1 answered 200 OK with {what}: ")), "{}", failure.what);
        }
    }
}
