//! The Unix socket for dial plans and scripts: the wire contract of usherd, answered by the agent (API 1, 2).
//!
//! `POST /v1/acquire`, `POST /v1/release`, `GET /livez`, `GET /metrics`, `GET /v1/agent`. The agent speaks as its
//! own node: `node`, `epoch` and `seq` of a question are ignored.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use usherd_client::Source;
use usherd_contract::format::{BodyFormat, ReplyFormat};
use usherd_contract::malformed::{FieldError, Malformed};

use super::accept;
use super::detached::DetachedTasks;
use super::group;
use super::hub::Hub;
use super::question::{Reply, Sent, release_reply, reply};
use super::status;

/// Longest body, bytes; the largest question has some 2 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Read buffer of a connection, bytes.
const BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Longest that a head, or the next request on a kept connection, may take.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
/// Longest that a body may take.
const BODY_DEADLINE: Duration = Duration::from_secs(5);
/// Longest life of a connection.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(3_600);

type HttpReply = Response<Full<Bytes>>;

/// Binds the socket; one that a killed agent left behind is removed, one that answers is not. An empty `group` is
/// the agent's own.
///
/// # Errors
/// Another process answers there, or the path, mode or group cannot be set.
pub async fn bind(path: &Path, mode: u32, group: &str) -> io::Result<UnixListener> {
    let group_number = if group.is_empty() { None } else { Some(group::number_of(group)?) };
    match UnixStream::connect(path).await {
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // The group before the mode: until then only its owner has access.
    if group_number.is_some() {
        chown(path, None, group_number).map_err(|why| group_error(group, &why))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

fn group_error(group: &str, why: &io::Error) -> io::Error {
    let help = "make the agent's user a member of it; in the unit: SupplementaryGroups=, SystemCallFilter=@chown and \
                PrivateUsers=no";
    io::Error::new(why.kind(), format!("`socket.group`: it cannot be given to the group {group:?}: {why}; {help}"))
}

/// Serves for ever.
pub async fn serve(listener: UnixListener, hub: Arc<Hub>, connections_max: usize) {
    let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
    // Each connection has one question at a time: only tasks of broken connections hold up others.
    let tasks = DetachedTasks::new(connections_max);
    accept::serve_each(hub, connections_max, accept, |stream, hub| converse(stream, hub, tasks.clone())).await;
}

async fn converse(stream: UnixStream, hub: Arc<Hub>, tasks: DetachedTasks) {
    let service = service_fn(|request| {
        let (hub, tasks) = (Arc::clone(&hub), tasks.clone());
        async move { Ok::<_, Infallible>(route(hub, &tasks, request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(BUFFER_BYTES_MAX);
    // A script that closes its own side after its question still reads the answer.
    server.half_close(true);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    // How a caller ends its connection is its own affair.
    let _ = timeout(CONNECTION_AGE_MAX, connection).await;
}

async fn route(hub: Arc<Hub>, tasks: &DetachedTasks, request: Request<Incoming>) -> HttpReply {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match (method, path.as_str()) {
        (Method::POST, "/v1/acquire") => run_detached(tasks, request, |question| acquire(hub, question)).await,
        (Method::POST, "/v1/release") => run_detached(tasks, request, |question| release(hub, question)).await,
        (Method::GET, "/livez") => answer(StatusCode::OK, "text/plain", "ok"),
        (Method::GET, "/metrics") => answer(StatusCode::OK, "text/plain; version=0.0.4", status::metrics(&hub)),
        (Method::GET, "/v1/agent") => answer(StatusCode::OK, "application/json", status::summary(&hub).to_string()),
        (_, "/v1/acquire" | "/v1/release") => method_not_allowed("POST"),
        (_, "/livez" | "/metrics" | "/v1/agent") => method_not_allowed("GET"),
        _ => problem(StatusCode::NOT_FOUND, "the agent has no such route; ask usherd itself", &[]),
    }
}

/// Reads a question and acts on it, whatever the connection does then (API 1).
async fn run_detached<T>(
    tasks: &DetachedTasks,
    request: Request<Incoming>,
    act: impl FnOnce(Question) -> T,
) -> HttpReply
where
    T: Future<Output = HttpReply> + Send + 'static,
{
    match tasks.run(read(request), act).await {
        Ok(Some(answer)) => answer,
        Ok(None) => {
            let why = "an internal error; it is in the agent's log";
            problem(StatusCode::INTERNAL_SERVER_ERROR, why, &[])
        }
        Err(refused) => *refused,
    }
}

async fn acquire(hub: Arc<Hub>, question: Question) -> HttpReply {
    let (ask, verdict, by_status) = match hub.acquire_sent(&question.sent).await {
        Ok(asked) => asked,
        Err(malformed) => return question.refused(&malformed),
    };
    if verdict.source == Source::Malformed {
        hub.counters.count("malformed", "");
        let why = verdict.problem.as_deref().unwrap_or("usherd does not understand the question");
        let errors: Vec<FieldError> = verdict.faults.iter().map(FieldError::from).collect();
        return problem(StatusCode::BAD_REQUEST, why, &errors);
    }
    match reply(&ask, &verdict) {
        Some(reply) => decision(&reply, question.reply_format, by_status),
        None => {
            let why = "usherd cannot be asked, and on_unreachable is deny: nothing is known about a licence";
            let mut answer = problem(StatusCode::SERVICE_UNAVAILABLE, why, &[]);
            answer.headers_mut().insert(RETRY_AFTER, 5.into());
            answer
        }
    }
}

async fn release(hub: Arc<Hub>, question: Question) -> HttpReply {
    match question.sent.release(hub.tenant()) {
        Ok((tenant, session, ended)) => {
            let answer = hub.release_for_script(&(tenant.clone(), session.clone()), ended).await;
            decision(&release_reply(&tenant, &session, answer), question.reply_format, false)
        }
        Err(malformed) => {
            hub.counters.count("malformed", "");
            question.refused(&malformed)
        }
    }
}

/// A question, and how its answer is to be written.
struct Question {
    sent: Sent,
    reply_format: ReplyFormat,
}

impl Question {
    fn refused(&self, malformed: &Malformed) -> HttpReply {
        let status =
            if self.sent.format.is_none() { StatusCode::UNSUPPORTED_MEDIA_TYPE } else { StatusCode::BAD_REQUEST };
        problem(status, malformed.detail(), malformed.errors())
    }
}

async fn read(request: Request<Incoming>) -> Result<Question, Box<HttpReply>> {
    let (head, body) = request.into_parts();
    let body = timeout(BODY_DEADLINE, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let why = "the body is longer than 64 KiB, or broke off";
            return Err(Box::new(problem(StatusCode::PAYLOAD_TOO_LARGE, why, &[])));
        }
        Err(_) => return Err(Box::new(problem(StatusCode::REQUEST_TIMEOUT, "the body took longer than 5 s", &[]))),
    };
    let format = BodyFormat::of(head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes), &body);
    let accept = head.headers.get_all(ACCEPT).into_iter().map(HeaderValue::as_bytes);
    let reply_format = ReplyFormat::of(accept, format.unwrap_or(BodyFormat::Json));
    Ok(Question { sent: Sent { format, body, query: head.uri.query().map(str::to_owned) }, reply_format })
}

fn decision(reply: &Reply, format: ReplyFormat, by_status: bool) -> HttpReply {
    let status = if by_status && reply.denied { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let mut answer = match format {
        ReplyFormat::Plain => answer(status, "text/plain; charset=utf-8", reply.line.clone()),
        ReplyFormat::Json => answer(status, "application/json", reply.json.to_string()),
    };
    if let Some(why) = reply.unreachable {
        answer.headers_mut().insert("usherd-unreachable", http::HeaderValue::from_static(why));
    }
    answer
}

fn method_not_allowed(method: &'static str) -> HttpReply {
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "the route is there, for another method", &[]);
    answer.headers_mut().insert(ALLOW, http::HeaderValue::from_static(method));
    answer
}

/// A problem object (RFC 9457).
fn problem(status: StatusCode, detail: &str, errors: &[FieldError]) -> HttpReply {
    let title = status.canonical_reason().unwrap_or("No decision");
    let mut body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    if !errors.is_empty() {
        body["errors"] = json!(errors);
    }
    answer(status, "application/problem+json", body.to_string())
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> HttpReply {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}
