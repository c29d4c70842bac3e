//! A PBX that plays a recorded session: says what the recording says, and hears what it must hear.
//!
//! A line of a recording begins with a mark: `#` a remark; `<` what the agent has to say, one message per block
//! of lines; `>` what the PBX says, with its line end; `~` the same without; `>event` and `>api` a body of
//! FreeSWITCH with its headers; `= NAME` waits until the test opens that gate; `! cut` ends the connection, and
//! what follows is said on the next one; `! deaf` neither reads nor says anything from here on.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use usherd_testkit::wait::PATIENCE;

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    opener: Sender<String>,
    passed: Receiver<Result<String, String>>,
}

struct Player {
    listener: TcpListener,
    stream: Option<TcpStream>,
    heard: String,
    line_end: &'static str,
    gates: Receiver<String>,
    passed: Sender<Result<String, String>>,
}

impl Fake {
    /// Plays a recording from `sessions/`, with these replacements.
    pub(super) fn play(name: &str) -> Self {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pbx/agent/sessions").join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ((opener, gates), (sender, passed)) = (channel(), channel());
        let line_end = if name.starts_with("asterisk") { "\r\n" } else { "\n" };
        let mut player = Player { listener, stream: None, heard: String::new(), line_end, gates, passed: sender };
        std::thread::spawn(move || {
            if let Err(why) = player.play(&text) {
                let _ = player.passed.send(Err(why));
            }
        });
        Fake { address, opener, passed }
    }

    /// Lets the recording go on behind this gate.
    pub(super) fn open(&self, gate: &str) {
        self.opener.send(gate.to_owned()).unwrap();
    }

    /// Waits until the recording stands before this gate; fails where the agent said something else.
    pub(super) fn reached(&self, gate: &str) {
        match self.passed.recv_timeout(PATIENCE) {
            Ok(Ok(passed)) => assert_eq!(passed, gate),
            Ok(Err(why)) => panic!("the recording broke off before {gate}: {why}"),
            Err(_) => panic!("the recording never came to {gate}"),
        }
    }
}

impl Player {
    fn play(&mut self, text: &str) -> Result<(), String> {
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let (mark, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            match mark {
                "" | "#" => {}
                "<" => {
                    let mut expected = vec![rest];
                    while let Some(next) = lines.next_if(|next| next.starts_with("< ")) {
                        expected.push(&next[2..]);
                    }
                    self.hear(&expected)?;
                }
                ">" => self.say(&format!("{rest}{}", self.line_end))?,
                "~" => self.say(rest)?,
                ">event" => self.say(&body("text/event-json", rest))?,
                ">api" => self.say(&body("api/response", rest))?,
                "=" => {
                    let _ = self.passed.send(Ok(rest.to_owned()));
                    loop {
                        let gate = self.gates.recv().map_err(|_| "the test is over".to_owned())?;
                        if gate == rest {
                            break;
                        }
                    }
                }
                "!" if rest == "cut" => {
                    self.stream = None;
                    self.heard.clear();
                }
                "!" if rest == "deaf" => {
                    let _ = self.gates.recv();
                }
                _ => return Err(format!("no recording looks like this: {line}")),
            }
        }
        // What is said from here on is heard, so that the agent never waits for room.
        while self.more().is_ok() {}
        Ok(())
    }

    fn stream(&mut self) -> Result<&mut TcpStream, String> {
        if self.stream.is_none() {
            let (stream, _) = self.listener.accept().map_err(|error| error.to_string())?;
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            self.stream = Some(stream);
        }
        self.stream.as_mut().ok_or_else(String::new)
    }

    fn say(&mut self, text: &str) -> Result<(), String> {
        self.stream()?.write_all(text.as_bytes()).map_err(|error| format!("{text:?} cannot be said: {error}"))
    }

    fn more(&mut self) -> Result<(), String> {
        let mut bytes = [0_u8; 4_096];
        match self.stream()?.read(&mut bytes) {
            Ok(0) => Err("the agent ended the connection".to_owned()),
            Ok(read) => {
                self.heard.push_str(&String::from_utf8_lossy(&bytes[..read]).replace('\r', ""));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn hear(&mut self, expected: &[&str]) -> Result<(), String> {
        loop {
            if let Some(end) = self.heard.find("\n\n") {
                let message: String = self.heard.drain(..end + 2).collect();
                // Signs of life may come at any time.
                if message.starts_with("Action: Ping") || message.starts_with("api uptime") {
                    continue;
                }
                let missing = expected.iter().find(|line| !message.lines().any(|said| said == **line));
                return missing.map_or(Ok(()), |line| Err(format!("{line:?} is not in {message:?}")));
            }
            self.more().map_err(|error| format!("{error}; awaited {expected:?}, heard {:?}", self.heard))?;
        }
    }
}

fn body(kind: &str, body: &str) -> String {
    format!("Content-Type: {kind}\nContent-Length: {}\n\n{body}", body.len())
}
