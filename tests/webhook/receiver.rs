//! A receiver over real TLS that can be told to lie in every way.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use usherd_testkit::authority::{acceptor, authority};

use crate::verify::is_signed;

/// How it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// 204.
    Take,
    /// With this status line and further lines of the head.
    Say(&'static str),
    /// Not at all, and keeps the connection.
    Hang,
    /// With a byte now and then, for ever.
    Drip,
    /// It closes once it has the request.
    Reset,
    /// With a refusal of no end.
    Flood,
    /// With something that is no HTTP.
    Garbage,
    /// With a certificate for somebody else.
    WrongName,
    /// In the clear where TLS is expected.
    NoTls,
}

/// A request that came whole.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// `usherd.seat.denied.v1` as `seat.denied`.
    pub(crate) fn about(&self) -> String {
        let about = self.json()["type"].as_str().unwrap().to_owned();
        about.strip_prefix("usherd.").unwrap().strip_suffix(".v1").unwrap().to_owned()
    }

    /// True if it has what Standard Webhooks and CloudEvents ask for, by this secret.
    pub(crate) fn is_in_order(&self, secret: &str) -> bool {
        let (id, timestamp) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        let json = self.json();
        let text = |key: &str| json[key].as_str().unwrap_or_default();
        is_signed(secret, id, timestamp, &self.body, self.header("webhook-signature"))
            && (text("id"), text("specversion"), text("source")) == (id, "1.0", "/usherd")
            && self.header("content-type").starts_with("application/cloudevents+json")
            && chrono::DateTime::parse_from_rfc3339(text("time")).is_ok()
            && json["data"].is_object()
    }
}

struct Desk {
    manner: Manner,
    got: Vec<Got>,
}

/// It; dropping it closes it.
pub(crate) struct Receiver {
    desk: Arc<Mutex<Desk>>,
    pub(crate) address: SocketAddr,
    pub(crate) authority: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let authority = authority();
        let (good, wrong) = (acceptor(&authority, "localhost"), acceptor(&authority, "elsewhere.example"));
        let desk = Arc::new(Mutex::new(Desk { manner: Manner::Take, got: Vec::new() }));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&desk);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let accepting = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let desk = Arc::clone(&shared);
                let acceptor = if desk.lock().manner == Manner::WrongName { &wrong } else { &good };
                tokio::spawn(serve(stream, acceptor.clone(), desk));
            }
        };
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = accepting => {}
                }
            });
        });
        Receiver { desk, address, authority: authority.pem(), stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/hooks/usherd?code=hidden-query", self.address.port())
    }

    pub(crate) fn behave(&self, manner: Manner) {
        self.desk.lock().manner = manner;
    }

    /// Everything that came, in order.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.desk.lock().got.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One connection; errors are the matter of who asked.
async fn serve(mut stream: TcpStream, acceptor: TlsAcceptor, desk: Arc<Mutex<Desk>>) {
    let manner = desk.lock().manner.clone();
    if manner == Manner::NoTls {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let _ = stream.shutdown().await;
        return;
    }
    // What begins with a record of a handshake is TLS; a daemon under test may also speak in the clear.
    let mut first = [0];
    if stream.peek(&mut first).await.is_ok_and(|bytes| bytes == 1) && first[0] != 0x16 {
        answer(stream, manner, &desk).await;
    } else if let Ok(stream) = acceptor.accept(stream).await {
        answer(stream, manner, &desk).await;
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, manner: Manner, desk: &Mutex<Desk>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = Got { head: head.clone(), body: String::new() }.header("content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    desk.lock().got.push(Got { head, body: String::from_utf8(body).unwrap() });
    let said: &[u8] = match manner {
        Manner::Take | Manner::WrongName | Manner::NoTls => b"HTTP/1.1 204 No Content\r\n\r\n",
        Manner::Say(line) => {
            let said = format!("HTTP/1.1 {line}\r\nContent-Length: 14\r\nConnection: close\r\n\r\nno\nway,\tsorry!");
            let _ = stream.write_all(said.as_bytes()).await;
            let _ = stream.shutdown().await;
            return;
        }
        Manner::Hang => std::future::pending().await,
        Manner::Drip => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-Slow: ").await;
            let mut every = tokio::time::interval(std::time::Duration::from_millis(50));
            while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
                every.tick().await;
            }
            return;
        }
        Manner::Reset => return,
        Manner::Flood => {
            let _ = stream.write_all(b"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n").await;
            while stream.write_all(&[b'x'; 4_096]).await.is_ok() {}
            return;
        }
        Manner::Garbage => b"220 mail.example ESMTP\r\n",
    };
    let _ = stream.write_all(said).await;
    let _ = stream.shutdown().await;
}
