//! A FreeSWITCH whose channels the test makes and ends, with whatever bytes it likes in what is said of them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

use super::beside::Place;

/// The calls that it carries.
#[derive(Default)]
pub(super) struct Carried {
    /// The rows of `show channels`, each as it stands there.
    pub(super) rows: Vec<Vec<u8>>,
    /// Rows that it says it has beyond these, because they were cut off.
    pub(super) cut: usize,
    /// The answers of `uuid_dump`; of others it says that there is no such channel.
    pub(super) dumps: BTreeMap<String, Vec<u8>>,
    /// The rows of `show registrations`.
    pub(super) registrations: Vec<Vec<u8>>,
    streams: Vec<TcpStream>,
}

/// It, for as long as the test lasts.
pub(super) struct Switch {
    address: SocketAddr,
    carried: Arc<Mutex<Carried>>,
}

impl Switch {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let carried = Arc::new(Mutex::new(Carried::default()));
        let shared = Arc::clone(&carried);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                // Whoever ends the connection, the next one is served.
                std::thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Switch { address, carried }
    }

    /// An agent's folder beside it.
    pub(super) fn place(&self, list_s: u32, more: &str) -> Place {
        let place = Place::new(&format!(
            "[freeswitch]\naddress = \"{}\"\npassword_file = \"password\"\nlist_s = {list_s}\n{more}",
            self.address
        ));
        place.deadline_ms(10_000);
        place
    }

    /// Changes what it carries.
    pub(super) fn now(&self, change: impl FnOnce(&mut Carried)) {
        change(&mut self.carried.lock());
    }

    /// A call of a subject begins: it is listed, and its variables say that it holds a seat.
    pub(super) fn call(&self, uuid: &str, subject: &[u8]) {
        let dump = [
            br#"{"Event-Name":"CHANNEL_DATA","variable_usherd_code":"allow.new","variable_usherd_subject":""#,
            subject,
            br#""}"#,
        ];
        self.now(|carried| {
            carried.rows.push(format!("{{\"uuid\":\"{uuid}\"}}").into_bytes());
            carried.dumps.insert(uuid.to_owned(), dump.concat());
        });
    }

    /// Says an event to everybody who listens.
    pub(super) fn event(&self, body: &[u8]) {
        self.now(|carried| {
            for stream in &mut carried.streams {
                let head = format!("Content-Length: {}\nContent-Type: text/event-json\n\n", body.len());
                // Who went hears it no more.
                let _ = stream.write_all(&[head.as_bytes(), body].concat());
            }
        });
    }
}

fn list(rows: &[Vec<u8>], cut: usize) -> Vec<u8> {
    let count = rows.len() + cut;
    let end: &[u8] = if cut > 0 { b",{\"uuid\":\"cu" } else { b"]}" };
    [format!("{{\"row_count\":{count},\"rows\":[").as_bytes(), &rows.join(&b","[..]), end].concat()
}

fn serve(mut stream: TcpStream, shared: &Mutex<Carried>) -> std::io::Result<()> {
    stream.write_all(b"Content-Type: auth/request\n\n")?;
    let heard = BufReader::new(stream.try_clone()?);
    for command in heard.lines() {
        let command = command?;
        let mut carried = shared.lock();
        let body = match command.split_once(' ') {
            None => continue,
            Some(("api", "show channels as json")) => list(&carried.rows, carried.cut),
            Some(("api", "show registrations as json")) => list(&carried.registrations, 0),
            Some(("api", question)) => {
                let uuid = question.strip_prefix("uuid_dump ").and_then(|rest| rest.strip_suffix(" json"));
                let dump = uuid.and_then(|uuid| carried.dumps.get(uuid).cloned());
                dump.unwrap_or_else(|| b"-ERR No such channel!\n".to_vec())
            }
            Some((verb, _)) => {
                stream.write_all(b"Content-Type: command/reply\nReply-Text: +OK\n\n")?;
                if verb == "event" {
                    carried.streams.push(stream.try_clone()?);
                }
                continue;
            }
        };
        let head = format!("Content-Type: api/response\nContent-Length: {}\n\n", body.len());
        stream.write_all(&[head.as_bytes(), &body].concat())?;
    }
    Ok(())
}
