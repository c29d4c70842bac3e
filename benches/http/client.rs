//! A client that costs little: many connections in a ring, on each one request at a time, blocking.
//!
//! It reads the answer of the connection whose turn it is and sends the next request on it, so that all
//! others have a request under way: two system calls per request, and no polling.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::measure::wall_ns;

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// How an answer ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Framing {
    Http,
    /// So many lines.
    Lines(usize),
}

pub(crate) trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl Place {
    pub(crate) fn unix(path: &Path) -> Self {
        Place::Unix(path.to_owned())
    }

    pub(crate) fn connect(&self) -> Box<dyn Stream> {
        let patience = Some(Duration::from_secs(20));
        match self {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(patience).unwrap();
                Box::new(stream)
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(patience).unwrap();
                Box::new(stream)
            }
        }
    }
}

/// One connection with the requests that it sends by turns.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    requests: Vec<Vec<u8>>,
    next: usize,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(place: &Place, requests: Vec<Vec<u8>>) -> Self {
        Connection { stream: place.connect(), requests, next: 0, buffer: vec![0; 1 << 16] }
    }

    pub(crate) fn send(&mut self) {
        self.stream.write_all(&self.requests[self.next]).unwrap();
        self.next = (self.next + 1) % self.requests.len();
    }

    /// The answer to a request of HTTP that is none of its own.
    pub(crate) fn ask(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).unwrap();
        self.receive(Framing::Http)
    }

    /// The next answer, whole.
    pub(crate) fn receive(&mut self, framing: Framing) -> &[u8] {
        let mut have = 0;
        loop {
            if have == self.buffer.len() {
                self.buffer.resize(have * 2, 0);
            }
            let read = self.stream.read(&mut self.buffer[have..]).unwrap();
            assert!(read > 0, "closed in the middle: {}", String::from_utf8_lossy(&self.buffer[..have]));
            have += read;
            if is_whole(&self.buffer[..have], framing) {
                return &self.buffer[..have];
            }
        }
    }
}

fn is_whole(answer: &[u8], framing: Framing) -> bool {
    match framing {
        Framing::Lines(lines) => {
            answer.ends_with(b"\n") && answer.iter().filter(|byte| **byte == b'\n').count() >= lines
        }
        Framing::Http => http_end(answer).is_some_and(|end| answer.len() >= end),
    }
}

/// Where an answer ends, once its head is there.
fn http_end(answer: &[u8]) -> Option<usize> {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let mut at = 0;
    while at < head {
        let end = at + answer[at..head].iter().position(|byte| *byte == b'\n')?;
        let line = &answer[at..end];
        if line.len() > 16 && line[..15].eq_ignore_ascii_case(b"content-length:") {
            let digits = std::str::from_utf8(&line[15..]).ok()?.trim();
            return Some(head + digits.parse::<usize>().ok()?);
        }
        at = end + 1;
    }
    // Chunked: a scrape may come so.
    answer.ends_with(b"0\r\n\r\n").then_some(answer.len())
}

/// The result of an exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    pub requests: u64,
    pub wall_ns: u64,
}

/// A ring of connections.
pub(crate) struct Ring {
    connections: Vec<Connection>,
    framing: Framing,
}

impl Ring {
    pub(crate) fn new(
        place: &Place,
        framing: Framing,
        connections: usize,
        requests: impl Fn(usize) -> Vec<Vec<u8>>,
    ) -> Self {
        let connections = (0..connections).map(|at| Connection::new(place, requests(at))).collect();
        Ring { connections, framing }
    }

    /// Sends every request of every connection once, and shows each answer.
    pub(crate) fn warm_up(&mut self, mut check: impl FnMut(&[u8])) {
        for connection in &mut self.connections {
            for _ in 0..connection.requests.len() {
                connection.send();
                check(connection.receive(self.framing));
            }
        }
    }

    /// So many requests, or as many as the time allows.
    pub(crate) fn run(&mut self, requests: u64, most: Duration) -> Exchange {
        let began = wall_ns();
        let most_ns = most.as_nanos() as u64;
        self.connections.iter_mut().for_each(Connection::send);
        let (mut sent, width) = (self.connections.len() as u64, self.connections.len() as u64);
        while sent + width <= requests && wall_ns() - began < most_ns {
            for connection in &mut self.connections {
                connection.receive(self.framing);
                connection.send();
            }
            sent += width;
        }
        for connection in &mut self.connections {
            connection.receive(self.framing);
        }
        Exchange { requests: sent, wall_ns: wall_ns() - began }
    }
}
