//! A client on one kept connection that knows nothing of the daemon's code.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An answer that takes longer is a hang.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// Whether what it tells survives a kill: not where the disk did not go on within the time that an answer may wait.
    pub(crate) is_durable: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        Ok(Client { stream, unread: Vec::new() })
    }

    /// One request, one answer; a time-out is a panic, because nothing may hang.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let kind = if body.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
        let length = body.len();
        self.send(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        )?;
        self.answer()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        loop {
            if let Some((answer, bytes)) = parse(&self.unread) {
                self.unread.drain(..bytes);
                return Ok(answer);
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0_u8; 65_536];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                self.unread.extend_from_slice(&buffer[..bytes]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("no answer"),
            Err(error) => Err(error),
        }
    }

    /// Reads a stream until this has come.
    pub(crate) fn until(&mut self, part: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.unread);
            if let Some(at) = text.find(part) {
                let text = text[..at + part.len()].to_owned();
                self.unread.drain(..text.len());
                return text;
            }
            self.read().unwrap();
        }
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "").unwrap()
    }

    pub(crate) fn post(&mut self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, body).unwrap()
    }

    /// Whether a new session, which takes no seat, survives a kill.
    pub(crate) fn is_durable(&mut self, tenant: &str) -> bool {
        let session = format!("durable-{}", usherd::daemon::clock::monotonic_ns());
        let form = format!("tenant={tenant}&subject=d&session={session}&kind=phone&ttl_s=60");
        let answer = self.post("/v1/acquire", &form);
        assert_eq!((answer.status, answer.body.as_str()), (200, "allow.free service"), "{answer:?}");
        answer.is_durable
    }

    /// Waits until all that this client was told so far survives a kill: until a new session does.
    pub(crate) fn until_durable(&mut self, tenant: &str) {
        assert!((0..10_000).any(|_| self.is_durable(tenant)), "the disk does not go on");
    }

    /// Every page of a list.
    pub(crate) fn list(&mut self, path: &str, noun: &str) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let answer = self.get(&format!("{path}?limit=1000&after={after}"));
            assert_eq!(answer.status, 200, "{answer:?}");
            let mut page = answer.json();
            all.append(page[noun].as_array_mut().unwrap());
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => return all,
            }
        }
    }
}

/// One whole answer at the beginning of these bytes, and its length.
fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let head_bytes = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..head_bytes]).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length: usize = length.unwrap_or_else(|| panic!("of unknown length: {head}")).parse().unwrap();
    let body = bytes.get(head_bytes..head_bytes + length)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Some((Answer { status, body, is_durable: !head.contains("usherd-durability: degraded") }, head_bytes + length))
}
