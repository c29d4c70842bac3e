//! A daemon that has one answer for each request, and tells what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// A request that came.
#[derive(Debug)]
pub(crate) struct Asked {
    /// `GET /v1/nodes?limit=1000`
    pub line: String,
    /// The headers, names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

const NOT_FOUND: &str = r#"{"title":"There is no such thing","status":404,"detail":"no such route"}"#;

/// A daemon that has one answer for each request.
pub(crate) struct Canned {
    pub address: String,
    asked: Receiver<Asked>,
}

type Answers = Vec<(String, u16, String)>;

impl Canned {
    /// Answers each request line with a status and a body; 404 where there is none.
    pub(crate) fn with(answers: &[(&str, u16, &str)]) -> Self {
        let answers: Answers =
            answers.iter().map(|(asked, status, body)| ((*asked).into(), *status, (*body).into())).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, asked) = channel();
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, &answers, &tell)));
        Canned { address, asked }
    }

    /// The next request that came.
    pub(crate) fn asked(&self) -> Asked {
        self.asked.recv_timeout(Duration::from_secs(10)).expect("nothing was asked")
    }
}

fn answer(stream: TcpStream, answers: &Answers, tell: &Sender<Asked>) {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 {
            return;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0).trim_end_matches(" HTTP/1.1").to_owned();
    let split = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: Vec<(String, String)> = lines.iter().filter_map(split).collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let known = answers.iter().find(|(asked, ..)| *asked == line);
    let (status, answer) = known.map_or((404, NOT_FOUND), |(_, status, answer)| (*status, answer.as_str()));
    let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    let mut stream = reader.into_inner();
    let _ = stream.write_all(format!("{head}{answer}").as_bytes());
    let _ = tell.send(Asked { line, headers, body: String::from_utf8(body).unwrap() });
}
