//! A phone that does what the test says, message by message: for cancellations, transfers and forks.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::process::PATIENCE;

/// One socket; several people may speak from it.
pub(super) struct Phone {
    socket: UdpSocket,
    proxy: SocketAddr,
    /// What came and was not asked for yet, and all that came, to know a repetition by.
    inbox: Vec<Message>,
    seen: Vec<Message>,
    made: u32,
}

/// A request or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message(String);

/// One side of a dialog, or of what may become one.
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    pub(super) call_id: String,
    own: String,
    other: String,
    target: String,
    routes: Vec<String>,
    sequence: u32,
    /// The Via of the INVITE that this side sent, which its CANCEL and its ACK of a refusal repeat.
    via: String,
}

impl Message {
    fn headers(&self, name: &'static str) -> impl Iterator<Item = &str> {
        let lines = self.0.split("\r\n").skip(1).take_while(|line| !line.is_empty());
        lines
            .filter_map(|line| line.split_once(": "))
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|pair| pair.1)
    }

    pub(super) fn header(&self, name: &'static str) -> &str {
        self.headers(name).next().unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }

    /// What a list or a name-addr says between its angles.
    fn uri(&self, name: &'static str) -> String {
        let text = self.header(name);
        text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).unwrap_or_else(|| panic!("{text}")).0.to_owned()
    }

    fn routes(&self) -> Vec<String> {
        self.headers("Record-Route").flat_map(|line| line.split(',')).map(|route| route.trim().to_owned()).collect()
    }

    /// The dialog that the called side has by this INVITE and the tag it answered with.
    pub(super) fn called(&self, tag: &str) -> Dialog {
        Dialog {
            call_id: self.header("Call-ID").to_owned(),
            own: format!("{};tag={tag}", self.header("To")),
            other: self.header("From").to_owned(),
            target: self.uri("Contact"),
            routes: self.routes(),
            sequence: 100,
            via: String::new(),
        }
    }
}

impl Dialog {
    /// The value of a Replaces header that means this dialog, said to its other side.
    pub(super) fn replaces(&self) -> String {
        let tag = |text: &str| text.split("tag=").nth(1).unwrap().to_owned();
        format!("{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}", self.call_id, tag(&self.other), tag(&self.own))
    }

    /// As the caller knows it once this answer came.
    fn answered(&mut self, answer: &Message) {
        self.other = answer.header("To").to_owned();
        self.target = answer.uri("Contact");
        self.routes = answer.routes();
        self.routes.reverse();
    }
}

impl Phone {
    pub(super) fn new(ip: &str, port: u16, proxy_port: u16) -> Self {
        let socket = UdpSocket::bind((ip, port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let proxy = SocketAddr::from(([127, 0, 0, 1], proxy_port));
        Phone { socket, proxy, inbox: Vec::new(), seen: Vec::new(), made: 0 }
    }

    fn contact(&self) -> String {
        format!("<sip:phone@{}>", self.socket.local_addr().unwrap())
    }

    fn via(&mut self) -> String {
        self.made += 1;
        let own = self.socket.local_addr().unwrap();
        format!("SIP/2.0/UDP {own};branch=z9hG4bK{}x{}", own.port(), self.made)
    }

    fn send(&self, text: String) {
        self.socket.send_to(text.as_bytes(), self.proxy).unwrap();
    }

    /// The next message of which the first line contains this, in this call if one is named.
    pub(super) fn receive(&mut self, what: &str, call_id: Option<&str>) -> Message {
        loop {
            let fits = |message: &Message| {
                let line = message.0.lines().next().unwrap_or_default();
                line.contains(what) && call_id.is_none_or(|call_id| message.header("Call-ID") == call_id)
            };
            if let Some(at) = self.inbox.iter().position(fits) {
                return self.inbox.remove(at);
            }
            let mut buffer = [0_u8; 16_384];
            let bytes =
                self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {what}: {error}; {:?}", self.inbox));
            let message = Message(String::from_utf8(buffer[..bytes].to_vec()).unwrap());
            if !self.seen.contains(&message) {
                self.seen.push(message.clone());
                self.inbox.push(message);
            }
        }
    }

    /// Whether anything of this kind has come up to now.
    pub(super) fn received(&mut self, what: &str) -> bool {
        self.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut buffer = [0_u8; 16_384];
        while let Ok(bytes) = self.socket.recv(&mut buffer) {
            self.inbox.push(Message(String::from_utf8(buffer[..bytes].to_vec()).unwrap()));
        }
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        self.inbox.iter().any(|message| message.0.lines().next().unwrap_or_default().contains(what))
    }

    /// Asks for a call, and waits for nothing.
    pub(super) fn invite(&mut self, from: &str, to: &str, call_id: &str, more: &str) -> Dialog {
        let via = self.via();
        let dialog = Dialog {
            call_id: call_id.to_owned(),
            own: format!("<sip:{from}@acme.example>;tag=own{}", self.made),
            other: format!("<sip:{to}@acme.example>"),
            target: format!("sip:{to}@acme.example"),
            routes: Vec::new(),
            sequence: 1,
            via,
        };
        self.request(&dialog, "INVITE", &dialog.via, more);
        dialog
    }

    pub(super) fn cancel(&mut self, dialog: &Dialog) {
        self.request(dialog, "CANCEL", &dialog.via, "");
        let refused = self.receive("487 ", Some(&dialog.call_id));
        let acknowledged = Dialog { other: refused.header("To").to_owned(), ..dialog.clone() };
        self.request(&acknowledged, "ACK", &dialog.via, "");
    }

    /// A further request within a dialog.
    pub(super) fn within(&mut self, dialog: &mut Dialog, method: &str, more: &str) {
        dialog.sequence += 1;
        let via = self.via();
        self.request(dialog, method, &via, more);
    }

    fn request(&self, dialog: &Dialog, method: &str, via: &str, more: &str) {
        let Dialog { call_id, own, other, target, sequence, .. } = dialog;
        let routes: String = dialog.routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        self.send(format!(
            "{method} {target} SIP/2.0\r\nVia: {via}\r\n{routes}From: {own}\r\nTo: {other}\r\nCall-ID: {call_id}\r\n\
             CSeq: {sequence} {method}\r\nContact: {}\r\nMax-Forwards: 70\r\n{more}Content-Length: 0\r\n\r\n",
            self.contact()
        ));
    }

    /// Answers a request; `200 OK`, `180 Ringing`.
    pub(super) fn answer(&self, request: &Message, status: &str, tag: &str, more: &str) {
        let all =
            |name: &'static str| request.headers(name).map(|value| format!("{name}: {value}\r\n")).collect::<String>();
        let to = request.header("To");
        let to = if to.contains("tag=") { to.to_owned() } else { format!("{to};tag={tag}") };
        self.send(format!(
            "SIP/2.0 {status}\r\n{}{}From: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n{more}Content-Length: 0\r\n\r\n",
            all("Via"),
            all("Record-Route"),
            request.header("From"),
            request.header("Call-ID"),
            request.header("CSeq"),
        ));
    }
}

/// The callee takes the call, the caller acknowledges; their two sides of the dialog.
pub(super) fn connect(
    caller: &mut Phone,
    mut call: Dialog,
    callee: &mut Phone,
    invite: &Message,
    tag: &str,
) -> (Dialog, Dialog) {
    let contact = format!("Contact: {}\r\n", callee.contact());
    callee.answer(invite, "200 OK", tag, &contact);
    let answer = caller.receive(" 200 ", Some(&call.call_id));
    call.answered(&answer);
    let via = caller.via();
    caller.request(&call, "ACK", &via, "");
    callee.receive("ACK ", Some(&call.call_id));
    (call, invite.called(tag))
}

/// One side hangs up, the other takes note.
pub(super) fn hang_up(by: &mut Phone, mut own: Dialog, other: &mut Phone) {
    by.within(&mut own, "BYE", "");
    let bye = other.receive("BYE ", Some(&own.call_id));
    other.answer(&bye, "200 OK", "", "");
    by.receive(" 200 ", Some(&own.call_id));
}
