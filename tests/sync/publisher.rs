//! A publisher over real TLS that can be told to misbehave.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use usherd::daemon::sync::envelope::sha256;
use usherd::daemon::text::hex;
use usherd_testkit::authority::{acceptor, authority, showing};

/// How it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As it should.
    Serve,
    /// With a status line and nothing else.
    Status(&'static str),
    /// Not at all, and keeps the connection.
    Hang,
    /// With half of the body.
    Cut,
    /// With something that is no HTTP.
    Garbage,
    /// With a certificate for somebody else.
    WrongName,
    /// With one that it signed itself, as an authority.
    OwnAuthority,
    /// With one that it signed itself.
    SelfSigned,
    /// With a body that never ends, of no stated length.
    Flood,
    /// It closes every connection.
    Down,
}

struct Desk {
    manner: Manner,
    body: Vec<u8>,
    /// Heads of requests, in order.
    heads: Vec<String>,
    not_modified: usize,
}

/// It; dropping it closes it.
pub(crate) struct Publisher {
    desk: Arc<Mutex<Desk>>,
    pub(crate) address: SocketAddr,
    pub(crate) authority: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Publisher {
    pub(crate) fn start(body: Vec<u8>) -> Self {
        let authority = authority();
        let (good, wrong) = (acceptor(&authority, "localhost"), acceptor(&authority, "elsewhere.example"));
        let (own_authority, own) = (self_signed(true), self_signed(false));
        let desk = Desk { manner: Manner::Serve, body, heads: Vec::new(), not_modified: 0 };
        let desk = Arc::new(Mutex::new(desk));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&desk);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let accepting = async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let desk = Arc::clone(&shared);
                let acceptor = match desk.lock().manner {
                    Manner::WrongName => &wrong,
                    Manner::OwnAuthority => &own_authority,
                    Manner::SelfSigned => &own,
                    _ => &good,
                };
                let acceptor = acceptor.clone();
                tokio::spawn(serve(stream, acceptor, desk));
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
        Publisher { desk, address, authority: authority.pem(), stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/berlin-1/records", self.address.port())
    }

    pub(crate) fn publish(&self, body: Vec<u8>) {
        let mut desk = self.desk.lock();
        (desk.body, desk.manner) = (body, Manner::Serve);
    }

    pub(crate) fn behave(&self, manner: Manner) {
        self.desk.lock().manner = manner;
    }

    pub(crate) fn not_modified(&self) -> usize {
        self.desk.lock().not_modified
    }

    pub(crate) fn last_head(&self) -> String {
        self.desk.lock().heads.last().cloned().unwrap_or_default()
    }
}

/// A certificate as `openssl req -x509` makes it, as that of an authority or not.
fn self_signed(is_authority: bool) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "localhost");
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    showing(&params.self_signed(&key).unwrap(), &key)
}

impl Drop for Publisher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One request of a connection; errors are the matter of who asked.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, desk: Arc<Mutex<Desk>>) {
    let manner = desk.lock().manner.clone();
    if manner == Manner::Down {
        return;
    }
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let (body, etag) = {
        let mut desk = desk.lock();
        desk.heads.push(head.clone());
        (desk.body.clone(), format!("\"{}\"", hex(&sha256(&desk.body)[..8])))
    };
    let full = |length: usize| format!("HTTP/1.1 200 OK\r\nETag: {etag}\r\nContent-Length: {length}\r\n\r\n");
    let answer = match manner {
        Manner::Status(line) => format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        Manner::Hang => std::future::pending().await,
        Manner::Cut => [full(body.len()).as_bytes(), &body[..body.len() / 2]].concat(),
        Manner::Garbage => b"220 mail.example ESMTP\r\n".to_vec(),
        Manner::Flood => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
            while stream.write_all(&[b'x'; 4_096]).await.is_ok() {}
            return;
        }
        _ if head.contains(&format!("if-none-match: {etag}\r\n")) => {
            desk.lock().not_modified += 1;
            b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec()
        }
        _ => [full(body.len()).as_bytes(), &body].concat(),
    };
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}
