//! The built binary as a demonstration, what it said so far, and questions to its daemon.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http::Client;
use crate::process::{Killed, usherd};
use crate::wait::PATIENCE;

/// A demonstration that runs.
pub struct Demo {
    child: Killed,
    lines: Receiver<String>,
    /// Everything it said so far.
    pub said: String,
}

impl Demo {
    /// On a free port.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = usherd(&["demo", "--listen", "127.0.0.1:0"]);
        let command = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Killed(command.spawn().unwrap());
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Demo { child, lines, said: String::new() }
    }

    /// Waits until it says this, and returns the line.
    pub fn wait_for(&mut self, words: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.said.push_str(&line);
                    self.said.push('\n');
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(error) => {
                    let complaint = self.complaint(error);
                    panic!("{error}: it did not say {words:?}\n{}{complaint}", self.said);
                }
            }
        }
    }

    fn complaint(&mut self, error: RecvTimeoutError) -> String {
        let mut complaint = String::new();
        if error == RecvTimeoutError::Disconnected {
            self.child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        }
        complaint
    }

    /// Waits until it has ended by itself.
    pub fn finish(&mut self) -> ExitStatus {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.said.push_str(&line);
            self.said.push('\n');
        }
        self.child.wait().unwrap()
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.finish()
    }

    /// The word after a heading of its greeting, as in `  files       /tmp/…; they go …`.
    pub fn told(&self, heading: &str) -> &str {
        let line = self.said.lines().find_map(|line| line.strip_prefix(&format!("  {heading} ")));
        line.unwrap_or_else(|| panic!("no {heading} in {}", self.said)).trim().split(';').next().unwrap()
    }

    /// Where its files are.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(self.told("files"))
    }

    /// `127.0.0.1:41234`
    pub fn address(&self) -> &str {
        self.told("dashboard").trim_start_matches("http://").trim_end_matches('/')
    }

    /// Its daemon's answer to a reading request.
    pub fn get(&self, path: &str) -> Value {
        self.client().get(path).json()
    }

    /// Its daemon's answer to a form: one line of text.
    pub fn post(&self, path: &str, form: &str) -> String {
        self.client().post(path, form).body
    }

    fn client(&self) -> Client {
        Client::connect_within(PATIENCE, self.address().parse().unwrap()).unwrap()
    }

    /// Listens to events of a type from now on; they end with the daemon.
    pub fn listen(&self, types: &str) -> Receiver<Value> {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = "Host: localhost\r\nAccept: application/x-ndjson\r\n\r\n";
        write!(stream, "GET /v1/events?types={types} HTTP/1.1\r\n{head}").unwrap();
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        assert!(lines.next().unwrap().contains("200"), "events");
        let (sender, events) = channel();
        std::thread::spawn(move || {
            let events = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok().filter(Value::is_object));
            events.map(|event| sender.send(event)).find(Result::is_err)
        });
        events
    }
}

/// Runs one line through a shell, as a reader would.
pub fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Asserts that the folder of a demonstration is gone.
#[track_caller]
pub fn assert_gone(folder: &Path) {
    assert!(folder.starts_with(std::env::temp_dir()), "{}", folder.display());
    assert!(!folder.exists(), "{} is still there", folder.display());
}
