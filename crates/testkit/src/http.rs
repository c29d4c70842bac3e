//! A client on one kept connection that knows nothing of the daemon's code.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use usherd::daemon::clock::monotonic_ns;

/// An answer that takes longer is a hang.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// One kept connection.
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer of the daemon.
pub struct Answer {
    /// The code of its first line.
    pub status: u16,
    /// Its first line and its fields.
    pub head: String,
    /// The body.
    pub body: String,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n\n{:.2000}", self.head, self.body)
    }
}

impl Answer {
    /// All that came until the peer closed.
    pub fn parse(answer: &[u8]) -> Self {
        let text = String::from_utf8_lossy(answer);
        let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&text);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { unchunk(body) } else { body.to_owned() };
        Answer { status, head: head.to_owned(), body }
    }

    /// Its body, taken apart.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a field of its head.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The code of a decision, with its detail after a blank, however it was written.
    pub fn decision(&self) -> String {
        if !self.body.starts_with('{') {
            return self.body.clone();
        }
        let json = self.json();
        let word = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", word("code"), word("detail")).trim().to_owned()
    }

    /// The pointers of a problem.
    pub fn pointers(&self) -> Vec<String> {
        let json = self.json();
        let errors = json["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }

    /// True if its effect survives a kill: not where the disk did not go on within the time that an answer may wait.
    pub fn is_durable(&self) -> bool {
        self.header("usherd-durability") != Some("degraded")
    }
}

impl Client {
    /// A new connection, on which no answer may hang.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_within(ANSWER_DEADLINE, address)
    }

    /// A new connection with another time-out for an answer.
    pub fn connect_within(patience: Duration, address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Client { stream, unread: Vec::new() })
    }

    /// One request, one answer; a time-out is a panic, because nothing may hang.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
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

    /// Sends these bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next answer.
    pub fn answer(&mut self) -> io::Result<Answer> {
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
    pub fn until(&mut self, part: &str) -> String {
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

    /// The answer to a reading request.
    pub fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "").unwrap()
    }

    /// The answer to a form, or to a document of JSON.
    pub fn post(&mut self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, body).unwrap()
    }

    /// The value of a series of the exposition.
    pub fn series(&mut self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").body;
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// The sum of the series of a family whose labels contain this text.
    pub fn sum(&mut self, family: &str, labels: &str) -> f64 {
        let text = self.get("/metrics").body;
        let lines = text.lines().filter(|line| line.starts_with(family) && line.contains(labels));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// How many seats a tenant holds now.
    pub fn held(&mut self, tenant: &str) -> u64 {
        self.get(&format!("/v1/tenants/{tenant}")).json()["held"].as_u64().unwrap()
    }

    /// True if a new session, which takes no seat, survives a kill.
    pub fn is_durable(&mut self, tenant: &str) -> bool {
        let session = format!("durable-{}", monotonic_ns());
        let form = format!("tenant={tenant}&subject=d&session={session}&kind=phone&ttl_s=60");
        let answer = self.post("/v1/acquire", &form);
        assert_eq!((answer.status, answer.body.as_str()), (200, "allow.free service"), "{answer:?}");
        answer.is_durable()
    }

    /// Waits until all that this client was told so far survives a kill: until a new session does.
    pub fn until_durable(&mut self, tenant: &str) {
        assert!((0..10_000).any(|_| self.is_durable(tenant)), "the disk does not go on");
    }

    /// Every page of a list.
    pub fn list(&mut self, path: &str, noun: &str) -> Vec<Value> {
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

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

/// One whole answer at the beginning of these bytes, and its length.
fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let head_bytes = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..head_bytes]).unwrap().to_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: String::new() };
    let length = answer.header("content-length").unwrap_or_else(|| panic!("of unknown length: {answer:?}"));
    let (from, length) = (head_bytes + 4, length.parse::<usize>().unwrap());
    answer.body = String::from_utf8(bytes.get(from..from + length)?.to_vec()).unwrap();
    Some((answer, from + length))
}
