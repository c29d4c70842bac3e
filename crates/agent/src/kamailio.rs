//! The conversation with Kamailio: requests, and the reports that follow; `dlg.list` of the module dialog over the
//! JSON-RPC of the modules jsonrpcs and xhttp.
//!
//! Over HTTP because a list of dialogs is longer than a datagram, and because a FIFO needs a second one for each
//! answer. Kamailio tells nothing by itself there: what ended is seen with the next list.

use super::json::{List, Object, text};
use super::names::{NAME_BYTES_MAX, text_of};
use super::source::{Act, Channel, LISTING_ROWS_MAX, Machine, Marks, Report, listed_in_part};

/// Longest head of an answer, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest list, bytes: a dialog takes about 1 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The state of a dialog that ended and is still kept for late messages.
const STATE_ENDED: &str = "5";

/// The RPC's side of a connection.
pub struct Kamailio {
    host: String,
    path: String,
    unread: Vec<u8>,
    /// The request that has no answer yet.
    asked: Option<u64>,
    requests: u64,
    ready: bool,
    cut: u64,
}

/// How far an answer has come.
enum Http<'a> {
    More,
    Whole { status: u16, body: &'a [u8], bytes: usize },
    Broken(&'static str),
}

impl Kamailio {
    /// For the path that `event_route[xhttp:request]` hands to `jsonrpc_dispatch()`.
    pub fn new(host: &str, path: &str) -> Self {
        Kamailio {
            host: host.to_owned(),
            path: path.to_owned(),
            unread: Vec::new(),
            asked: None,
            requests: 0,
            ready: false,
            cut: 0,
        }
    }

    fn answered(&mut self, status: u16, body: &[u8], acts: &mut Vec<Act>) {
        let asked = self.asked.take();
        match answered(status, body, asked) {
            Ok(result) => {
                if !std::mem::replace(&mut self.ready, true) {
                    acts.push(Act::Tell(Report::Ready));
                }
                report_dialogs(result, acts);
            }
            Err(why) if status == 200 => acts.push(Act::Close(why)),
            Err(why) => acts.push(Act::Close(format!("{why}: does xhttp hand {} to jsonrpcs?", self.path))),
        }
    }
}

/// The result of an answer, as it stands there.
fn answered(status: u16, body: &[u8], asked: Option<u64>) -> Result<&[u8], String> {
    if status != 200 {
        return Err(format!("Kamailio answered {status}"));
    }
    let answer = Object::read(body).ok_or("Kamailio's answer is not JSON-RPC")?;
    if let Some(error) = answer.raw("error").and_then(Object::read) {
        let message = error.text("message").unwrap_or_default();
        return Err(format!("Kamailio refuses dlg.list: {message}; is the module dialog loaded?"));
    }
    // Where the list is cut, so is the number after it.
    let answers_us = answer.text("id").is_some_and(|id| asked.is_some_and(|asked| id == asked.to_string()));
    if answer.whole && !answers_us {
        return Err("Kamailio answers what was not asked".to_owned());
    }
    match answer.raw("result") {
        Some(result) => Ok(result),
        // An empty list is an empty array; some versions leave the result out.
        None if answer.whole => Ok(b"[]"),
        None => Ok(cut_result(body)),
    }
}

/// The list of an answer that broke off within it.
fn cut_result(body: &[u8]) -> &[u8] {
    let name = b"\"result\"";
    let behind = body.windows(name.len()).position(|part| part == name).map_or(body.len(), |at| at + name.len());
    let list = body[behind..].iter().position(|byte| *byte == b'[').map_or(body.len(), |at| behind + at);
    &body[list..]
}

/// Reports the dialogs of a list: each that can be read.
fn report_dialogs(result: &[u8], acts: &mut Vec<Act>) {
    let Some(list) = List::read(result) else {
        acts.push(Act::Tell(Report::Unsure("the list of dialogs cannot be read")));
        return;
    };
    let mut channels = Vec::new();
    for element in list.elements.iter().take(LISTING_ROWS_MAX) {
        match Object::read(element).and_then(|dialog| Some((channel(&dialog)?, dialog))) {
            Some((_, dialog)) if dialog.text("state").as_deref() == Some(STATE_ENDED) => {}
            Some((channel, _)) => channels.push(channel),
            // Every dialog has one; a row without it names none that is known here.
            None => acts.push(Act::Tell(Report::Unread("a dialog without a Call-ID"))),
        }
    }
    if !list.whole {
        acts.extend(listed_in_part(channels, "the list of dialogs breaks off"));
    } else if list.elements.len() > LISTING_ROWS_MAX {
        acts.extend(listed_in_part(channels, "the list has more than 100,000 dialogs"));
    } else {
        acts.push(Act::Tell(Report::Live(channels)));
    }
}

fn channel(dialog: &Object<'_>) -> Option<Channel> {
    let id = dialog.text("call-id").filter(|id| !id.is_empty() && id.len() <= NAME_BYTES_MAX)?;
    let mut marks = Marks::default();
    let variables = dialog.raw("variables").and_then(List::read).unwrap_or_default();
    for variable in variables.elements.iter().filter_map(|one| Object::read(one)) {
        for (name, value) in variable.fields() {
            if let Some(value) = text(value) {
                marks.set(&name, &value);
            }
        }
    }
    Some(Channel { id, marks })
}

fn http(unread: &[u8]) -> Http<'_> {
    let Some(head_bytes) = unread.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
        return if unread.len() > HEAD_BYTES_MAX { Http::Broken("its head has no end") } else { Http::More };
    };
    let head = text_of(&unread[..head_bytes]);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
    let Some(status) = status.and_then(|line| line.split(' ').nth(1)?.parse().ok()) else {
        return Http::Broken("it is no HTTP");
    };
    let mut lengths = lines.filter_map(|line| line.split_once(':'));
    let length = lengths.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let Some(length) = length.and_then(|(_, digits)| digits.trim().parse::<usize>().ok()) else {
        return Http::Broken("it does not say how long it is");
    };
    if length > BODY_BYTES_MAX {
        return Http::Broken("it is longer than 64 MiB");
    }
    match unread.get(head_bytes..head_bytes + length) {
        Some(body) => Http::Whole { status, body, bytes: head_bytes + length },
        None => Http::More,
    }
}

impl Machine for Kamailio {
    fn opened(&mut self, acts: &mut Vec<Act>) {
        self.list(acts);
    }

    fn feed(&mut self, bytes: &[u8], acts: &mut Vec<Act>) {
        self.unread.extend_from_slice(bytes);
        loop {
            let unread = std::mem::take(&mut self.unread);
            match http(&unread) {
                Http::More => {
                    self.unread = unread;
                    return;
                }
                Http::Broken(why) => {
                    acts.push(Act::Close(format!("Kamailio's answer is of no use: {why}")));
                    return;
                }
                Http::Whole { status, body, bytes } => {
                    self.answered(status, body, acts);
                    self.unread = unread[bytes..].to_vec();
                }
            }
        }
    }

    fn list(&mut self, acts: &mut Vec<Act>) {
        if self.asked.is_some() {
            acts.push(Act::Close("the last list was never answered".to_owned()));
            return;
        }
        self.requests += 1;
        self.asked = Some(self.requests);
        let body = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"dlg.list\",\"id\":{}}}", self.requests);
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.path,
            self.host,
            body.len()
        );
        acts.push(Act::Tell(Report::Asking));
        acts.push(Act::Send(request.into_bytes()));
    }

    fn probe(&mut self, acts: &mut Vec<Act>) {
        if self.asked.is_none() {
            self.list(acts);
        }
    }

    fn cut(&self) -> u64 {
        self.cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Kamailio 5.6.3 writes it, shortened: the second dialog is over, the third says nothing of usherd.
    const DIALOGS: &str = "{\n\t\"jsonrpc\":\t\"2.0\",\n\t\"result\":\t[{\n\t\t\t\"h_entry\":\t147,\n\
        \t\t\t\"call-id\":\t\"2-31155@127.0.0.1\",\n\t\t\t\"state\":\t4,\n\t\t\t\"profiles\":\t[],\n\t\t\t\"variables\":\t[{\n\
        \t\t\t\t\t\"usherd_session\":\t\"s1\"\n\t\t\t\t}, {\n\t\t\t\t\t\"usherd_subject\":\t\"sipp\"\n\t\t\t\t}]\n\t\t}, {\n\
        \t\t\t\"call-id\":\t\"1-31155@127.0.0.1\",\n\t\t\t\"state\":\t5\n\t\t}, {\n\
        \t\t\t\"call-id\":\t\"3\",\n\t\t\t\"state\":\t1,\n\t\t\t\"variables\":\t[]\n\t\t}],\n\t\"id\":\t1\n}";

    fn answer(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\nSia: SIP/2.0/TCP 127.0.0.1:1\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .into()
    }

    fn fed(chunks: &[&[u8]]) -> Vec<Act> {
        let mut machine = Kamailio::new("127.0.0.1:1", "/RPC");
        let mut acts = Vec::new();
        machine.opened(&mut acts);
        acts.clear();
        for chunk in chunks {
            machine.feed(chunk, &mut acts);
        }
        acts
    }

    #[test]
    fn dialogs_are_the_same_wherever_the_bytes_are_cut() {
        let bytes = answer("200 OK", DIALOGS);
        let whole = fed(&[&bytes]);
        let [Act::Tell(Report::Ready), Act::Tell(Report::Live(channels))] = whole.as_slice() else {
            panic!("{whole:?}")
        };
        let ids: Vec<&str> = channels.iter().map(|channel| channel.id.as_str()).collect();
        assert_eq!(ids, ["2-31155@127.0.0.1", "3"]);
        assert_eq!(
            (channels[0].marks.session.as_deref(), channels[0].marks.subject.as_deref()),
            (Some("s1"), Some("sipp"))
        );
        for cut in 0..=bytes.len() {
            assert_eq!(fed(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_list_of_dialogs_ends_nothing() {
        for (bytes, expected) in [
            (answer("200 OK", "{\"jsonrpc\":\"2.0\",\"id\":1}"), "Live([])"),
            (answer("200 OK", "{\"result\":{\"state\":\"up\"},\"id\":1}"), "Unsure"),
            (answer("200 OK", "{\"result\":[{\"call-id\":\"a\",\"state\":4},{\"call-id\""), "Unsure"),
            (
                answer("200 OK", "{\"error\":{\"code\":500,\"message\":\"Method Not Found\"},\"id\":1}"),
                "Method Not Found",
            ),
            (answer("200 OK", "{\"result\":[],\"id\":2}"), "what was not asked"),
            (answer("200 OK", "<html>"), "not JSON-RPC"),
            (answer("404 Not Found", ""), "answered 404"),
            (b"SIP/2.0 200 OK\r\n\r\n".to_vec(), "no HTTP"),
            (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), "how long it is"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_vec(), "longer than 64 MiB"),
            (vec![b'x'; HEAD_BYTES_MAX + 1], "no end"),
        ] {
            let told = format!("{:?}", fed(&[&bytes]));
            assert!(told.contains(expected), "{expected}: {told}");
        }
    }
}
