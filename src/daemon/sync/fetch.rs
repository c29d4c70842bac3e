//! Asks the publisher: one HTTPS request with a limit on everything, no redirects, nothing remembered.

use std::path::Path;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, ETAG, HOST, IF_NONE_MATCH, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use tokio::time::timeout;

use crate::daemon::config::{Disk, Files as _, Publisher};
use crate::daemon::outgoing::{self, Target, Trust};

/// The name of the file of authorities in the configuration.
const CA_FILE: &str = "sync.ca_file";
/// Longest ETag that is given back, bytes.
const ETAG_BYTES_MAX: usize = 256;
/// Largest file with a token, bytes.
const TOKEN_BYTES_MAX: usize = 4 << 10;

/// The publisher's answer.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// Nothing is new (304).
    NotModified,
    /// A bundle (200).
    Bundle {
        /// Its bytes.
        bytes: Vec<u8>,
        /// The tag to ask with for news only; empty: none.
        etag: String,
    },
    /// More bytes than allowed.
    TooLarge,
}

/// Asks for the bundle; files are relative to `folder`. With an ETag, only for news.
///
/// # Errors
/// A sentence that says what failed, where, and how to fix it; never shows the token.
pub(crate) async fn fetch(publisher: &Publisher, folder: &Path, etag: Option<&str>) -> Result<Fetched, String> {
    let uri: Uri = publisher.url.parse().map_err(|error| format!("sync.url cannot be read: {error}"))?;
    let host = uri.host().ok_or("sync.url names no host")?;
    let patience = Duration::from_secs(publisher.timeout_s.into());
    let request = request(publisher, folder, &uri, etag)?;
    let trust = Trust::new(Path::new(&publisher.ca_file), folder, CA_FILE)?;
    let whole = async {
        let stream = timeout(patience, outgoing::connect(&Target::new(&uri, host, Some(&trust))))
            .await
            .map_err(|_| format!("{host} did not take the connection within {} s", publisher.timeout_s))?
            .map_err(|error| error.to_string())?;
        let answer = outgoing::send(stream, request).await.map_err(|error| format!("{host}: no answer: {error}"))?;
        read(answer.response, publisher.bundle_bytes_max as usize).await.map_err(|why| format!("{host}: {why}"))
    };
    timeout(patience, whole)
        .await
        .map_err(|_| format!("{host} did not finish its answer within {} s; see sync.timeout_s", publisher.timeout_s))?
}

fn request(
    publisher: &Publisher,
    folder: &Path,
    uri: &Uri,
    etag: Option<&str>,
) -> Result<Request<Full<Bytes>>, String> {
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("usherd/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/octet-stream");
    if let Some(etag) = etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    if !publisher.token_file.is_empty() {
        let path = folder.join(&publisher.token_file);
        let wrong = |why: &str| format!("sync.token_file {} {why}", path.display());
        let bytes = Disk.read(&path, TOKEN_BYTES_MAX).map_err(|why| wrong(&why))?;
        let token = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8"))?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| wrong("holds no token: one line of printable characters"))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Full::default()).map_err(|error| format!("sync.url cannot be asked for: {error}"))
}

async fn read(response: Response<Incoming>, bytes_max: usize) -> Result<Fetched, String> {
    let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
    let etag = etag.filter(|etag| etag.len() <= ETAG_BYTES_MAX).unwrap_or_default().to_owned();
    match response.status() {
        StatusCode::OK => Ok(match collect(response.into_body(), bytes_max).await? {
            Some(bytes) => Fetched::Bundle { bytes, etag },
            None => Fetched::TooLarge,
        }),
        StatusCode::NOT_MODIFIED => Ok(Fetched::NotModified),
        status if status.is_redirection() => {
            Err(format!("it answers {status}, and redirects are not followed; write the new address as sync.url"))
        }
        status => Err(format!("it answers {status}")),
    }
}

/// The whole body; `None` where it is larger than allowed, which is known before it is held.
async fn collect(mut body: Incoming, bytes_max: usize) -> Result<Option<Vec<u8>>, String> {
    if body.size_hint().lower() > bytes_max as u64 {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off after {} bytes: {error}", bytes.len()))?;
        let Some(part) = frame.data_ref() else { continue };
        if bytes.len() + part.len() > bytes_max {
            return Ok(None);
        }
        bytes.extend_from_slice(part);
    }
    Ok(Some(bytes))
}
