//! Requests to the other daemons of a cluster, over connections that are kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode, Uri, request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;

use super::caller::{self, CALLER, FORWARDED};
use super::shards::{Member, Shards};
use crate::daemon::access::auth::Access;
use crate::daemon::outgoing::{Target, connect};

/// Connections to one member that are kept while nobody needs them.
const IDLE_MAX: usize = 64;
/// Longest answer that is passed on, bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A request as it goes on.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// Its method.
    pub method: Method,
    /// Its path with its query.
    pub target: String,
    /// `Content-Type` and `Accept`.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Forwarded {
    /// A request that came, with its body.
    pub fn of(head: &request::Parts, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        for name in [CONTENT_TYPE, ACCEPT] {
            if let Some(value) = head.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Forwarded { method: head.method.clone(), target, headers, body }
    }

    /// A message as a form, whose answer is to be JSON.
    pub fn form(target: impl Into<String>, form: impl Into<Bytes>) -> Self {
        let mut request = Self::post(target, form);
        let form = http::HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers.insert(CONTENT_TYPE, form);
        request.headers.insert(ACCEPT, http::HeaderValue::from_static("application/json"));
        request
    }

    /// A message of one's own, in JSON.
    pub fn post(target: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        Forwarded { method: Method::POST, target: target.into(), headers, body: body.into() }
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct PeerAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its head.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

type Idle = Rc<RefCell<HashMap<String, Vec<SendRequest<Full<Bytes>>>>>>;

/// The connections of one runtime to the other members.
#[derive(Clone, Default)]
pub struct Peers {
    idle: Idle,
}

impl Peers {
    /// Asks a member in somebody's name, within this time.
    ///
    /// # Errors
    /// There is no answer: whether the member did what was asked is not known.
    pub async fn ask(
        &self,
        shards: &Arc<Shards>,
        member: &Member,
        access: &Access,
        request: &Forwarded,
        patience: Duration,
    ) -> Result<PeerAnswer, String> {
        let asked = self.exchange(shards, member, access, request);
        let answer = tokio::time::timeout(patience, asked).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {} ms", patience.as_millis())))
    }

    async fn exchange(
        &self,
        shards: &Arc<Shards>,
        member: &Member,
        access: &Access,
        request: &Forwarded,
    ) -> Result<PeerAnswer, String> {
        let (url, authority) = place(member)?;
        let build = || built(shards, &authority, access, request);
        // One that was kept may have ended meanwhile, unnoticed: then nothing of the request was read.
        let kept = || self.idle.borrow_mut().get_mut(&authority).and_then(Vec::pop);
        while let Some(mut sender) = kept() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(build()?).await {
                Ok(response) => return self.whole(authority, sender, response).await,
                Err(mut error) => {
                    if error.take_message().is_none() {
                        return Err(error.into_error().to_string());
                    }
                }
            }
        }
        let mut sender = connected(shards, &url).await?;
        let response = sender.send_request(build()?).await.map_err(|error| error.to_string())?;
        self.whole(authority, sender, response).await
    }

    /// Begins a stream of a member in somebody's name, on a connection of its own, within this time.
    ///
    /// # Errors
    /// There is no answer, or none of success.
    pub async fn open(
        &self,
        shards: &Arc<Shards>,
        member: &Member,
        access: &Access,
        request: &Forwarded,
        patience: Duration,
    ) -> Result<Incoming, String> {
        let opened = async {
            let (url, authority) = place(member)?;
            let mut sender = connected(shards, &url).await?;
            let asked = sender.send_request(built(shards, &authority, access, request)?);
            let response = asked.await.map_err(|error| error.to_string())?;
            match response.status() {
                status if status.is_success() => Ok(response.into_body()),
                status => Err(format!("it answered {status}")),
            }
        };
        let opened = tokio::time::timeout(patience, opened).await;
        opened.unwrap_or_else(|_| Err(format!("no answer within {} ms", patience.as_millis())))
    }

    async fn whole(
        &self,
        authority: String,
        sender: SendRequest<Full<Bytes>>,
        response: http::Response<Incoming>,
    ) -> Result<PeerAnswer, String> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(authority).or_default();
        if kept.len() < IDLE_MAX {
            kept.push(sender);
        }
        Ok(PeerAnswer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

/// Where a member is reached: its URL, and the host and port of it.
fn place(member: &Member) -> Result<(Uri, String), String> {
    let url: Uri = member.advertise.parse().map_err(|error| format!("{}: {error}", member.advertise))?;
    let authority = url.authority().map(ToString::to_string).unwrap_or_default();
    Ok((url, authority))
}

/// A request as it goes to a member.
fn built(
    shards: &Shards,
    authority: &str,
    access: &Access,
    request: &Forwarded,
) -> Result<Request<Full<Bytes>>, String> {
    let mut built = Request::builder()
        .method(request.method.clone())
        .uri(&request.target)
        .header(HOST, authority)
        .header(AUTHORIZATION, format!("Bearer {}", shards.token()))
        .header(FORWARDED, shards.member())
        .header(CALLER, caller::write(access));
    for (name, value) in &request.headers {
        built = built.header(name, value);
    }
    built.body(Full::new(request.body.clone())).map_err(|error| error.to_string())
}

/// A new connection.
async fn connected(shards: &Shards, url: &Uri) -> Result<SendRequest<Full<Bytes>>, String> {
    let host = url.host().unwrap_or_default();
    let trust = match url.scheme_str() {
        Some("https") => Some(shards.trust().ok_or("[cluster] ca_file names no authority for the other members")?),
        _ => None,
    };
    let stream = connect(&Target::new(url, host, trust)).await.map_err(|error| error.to_string())?;
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

impl Shards {
    /// Somebody in whose name another daemon asks; `None` where no daemon of this cluster does.
    pub fn caller(&self, head: &request::Parts) -> Option<Access> {
        let shown = head.headers.get(AUTHORIZATION)?.as_bytes();
        let token = shown.strip_prefix(b"Bearer ")?;
        if !self.is_token(token) {
            return None;
        }
        caller::read(head.headers.get(CALLER)?)
    }
}
