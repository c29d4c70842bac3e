//! An endpoint of etcd: its address, and the connection to it, which is kept.

use std::error::Error;
use std::path::Path;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::wire::{Failure, failure, text_of};
use crate::daemon::outgoing::{self, Identity, Target, Trust};

/// Largest answer that is read, bytes: values are a third longer in it than they are.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The oldest etcd that is asked, major and minor number.
pub const VERSION_MIN: (u32, u32) = (3, 4);

/// The name of the file of authorities in the configuration.
const CA_FILE: &str = "cluster.ca_file";

/// The files by which both sides of a connection are known; empty paths: none.
#[derive(Clone, Copy)]
pub(super) struct Papers<'a> {
    /// Authorities that are trusted, PEM; empty: those of the machine.
    pub(super) ca_file: &'a Path,
    /// The client's certificate, PEM.
    pub(super) cert_file: &'a Path,
    /// Its private key, PEM.
    pub(super) key_file: &'a Path,
}

/// A question to the gateway.
pub(super) struct Question<'a> {
    /// Its path.
    pub(super) path: &'static str,
    /// JSON.
    pub(super) body: Bytes,
    /// The token of who asks; empty: nobody in particular.
    pub(super) token: &'a str,
}

/// An endpoint, and the connection to it.
pub(super) struct Endpoint {
    /// Its URL, as configured.
    pub(super) url: String,
    /// True from the moment at which a question may have reached it, until it is set back.
    pub(super) may_have_heard: bool,
    connection: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Ends with it.
    _driver: JoinSet<hyper::Result<()>>,
}

impl Endpoint {
    /// One that is not connected yet.
    pub(super) fn new(url: &str) -> Self {
        Endpoint { url: url.to_owned(), may_have_heard: false, connection: None }
    }

    /// Asks, on the connection that is kept or on a new one. The caller bounds the time. A connection
    /// that was kept may have ended meanwhile: then it is asked again on a new one.
    pub(super) async fn ask(&mut self, papers: Papers<'_>, question: &Question<'_>) -> Result<Bytes, Failure> {
        if let Some(connection) = self.connection.take() {
            match self.ask_on(connection, question).await {
                // Not an answer of etcd, with which the connection is kept.
                Err(Failure::Unknown(_)) if self.connection.is_none() => {}
                answered => return answered,
            }
        }
        let connection = self.connect(papers).await?;
        self.ask_on(connection, question).await
    }

    async fn ask_on(&mut self, mut connection: Connection, question: &Question<'_>) -> Result<Bytes, Failure> {
        let request = request(&self.url, question).map_err(Failure::Refused)?;
        connection.sender.ready().await.map_err(|error| Failure::Unknown(chain(&error)))?;
        self.may_have_heard = true;
        let (status, body) = exchange(&mut connection.sender, request).await?;
        self.connection = Some(connection);
        if status == 200 { Ok(body) } else { Err(failure(status, &body)) }
    }

    /// A new connection, to an etcd that is not too old.
    async fn connect(&self, papers: Papers<'_>) -> Result<Connection, Failure> {
        let uri = parsed(&self.url).map_err(Failure::Refused)?;
        let host = uri.host().unwrap_or_default();
        let has_identity = !papers.cert_file.as_os_str().is_empty();
        let identity = has_identity.then_some(Identity { cert_file: papers.cert_file, key_file: papers.key_file });
        let is_tls = uri.scheme_str() == Some("https");
        let trust = is_tls.then(|| Trust::known_by(identity.as_ref(), papers.ca_file, Path::new(""), CA_FILE));
        let trust = trust.transpose().map_err(Failure::Unknown)?;
        let target = Target::new(&uri, host, trust.as_ref());
        let stream = outgoing::connect(&target).await.map_err(|error| Failure::Unknown(error.to_string()))?;
        let (mut sender, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| Failure::Unknown(chain(&error)))?;
        let mut driven = JoinSet::new();
        driven.spawn(driver);
        let asked = Request::get("/version").header(HOST, authority(&uri)).body(Full::default());
        let asked = asked.map_err(|error| Failure::Refused(error.to_string()))?;
        let (status, body) = exchange(&mut sender, asked).await?;
        if status != 200 {
            return Err(Failure::Unknown(format!("it answers {status} to /version, and is no etcd")));
        }
        let version = text_of(&body, "etcdserver").map_err(Failure::Unknown)?;
        if let Some(why) = too_old(&version) {
            return Err(Failure::Refused(why));
        }
        Ok(Connection { sender, _driver: driven })
    }
}

/// Sends a request, and reads the answer to its end.
async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<(u16, Bytes), Failure> {
    let response = sender.send_request(request).await.map_err(|error| Failure::Unknown(chain(&error)))?;
    let status = response.status().as_u16();
    Ok((status, whole(response.into_body()).await?))
}

async fn whole(body: Incoming) -> Result<Bytes, Failure> {
    match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::TooLarge(format!(
            "its answer is larger than {ANSWER_BYTES_MAX} bytes; read fewer keys at once"
        ))),
        Err(error) => Err(Failure::Unknown(format!("its answer broke off: {}", chain(error.as_ref())))),
    }
}

fn request(url: &str, question: &Question<'_>) -> Result<Request<Full<Bytes>>, String> {
    let uri = parsed(url)?;
    let mut request = Request::post(question.path)
        .header(HOST, authority(&uri))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !question.token.is_empty() {
        let mut token = HeaderValue::try_from(question.token).map_err(|_| "its token is no text of a header")?;
        token.set_sensitive(true);
        request = request.header(AUTHORIZATION, token);
    }
    request.body(Full::new(question.body.clone())).map_err(|error| error.to_string())
}

fn authority(uri: &Uri) -> &str {
    uri.authority().map_or("", |authority| authority.as_str())
}

/// The URL of an endpoint.
fn parsed(url: &str) -> Result<Uri, String> {
    let wrong = || format!("{url} is no URL of an endpoint, as http://10.0.0.1:2379 is");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    if is_http && uri.host().is_some() && uri.path() == "/" { Ok(uri) } else { Err(wrong()) }
}

/// Checks the version of an etcd: why it is not asked.
fn too_old(version: &str) -> Option<String> {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else {
        return Some(format!("its version, {version:?}, cannot be read"));
    };
    let (major_min, minor_min) = VERSION_MIN;
    let is_old = (major, minor) < VERSION_MIN;
    is_old.then(|| format!("it is etcd {version}; {major_min}.{minor_min} or newer is required: upgrade it"))
}

/// An error and what it comes from.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_is_too_old_is_not_asked() {
        for version in ["3.4.0", "3.4.23", "3.5.21", "3.10.1", "4.0.0-rc.1"] {
            assert_eq!(too_old(version), None);
        }
        assert_eq!(too_old("3.3.25").unwrap(), "it is etcd 3.3.25; 3.4 or newer is required: upgrade it");
        assert!(too_old("2.9").is_some());
        assert!(too_old("Not provided").unwrap().contains("cannot be read"));
    }

    #[test]
    fn an_endpoint_is_a_url_of_a_host() {
        for url in ["http://10.0.0.1:2379", "https://etcd-1.example:2379/", "http://[::1]:2379"] {
            assert!(parsed(url).is_ok(), "{url}");
        }
        for url in ["10.0.0.1:2379", "ftp://a:1", "http://a:1/v3", "http://", "no url"] {
            assert!(parsed(url).unwrap_err().contains("http://10.0.0.1:2379"), "{url}");
        }
    }
}
