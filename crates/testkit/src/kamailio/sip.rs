//! A phone that does what the test says, message by message: for cancellations, transfers and forks.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::lab::phones_ip;
use crate::wait::PATIENCE;

/// One socket; several people may speak from it.
pub struct Phone {
    socket: UdpSocket,
    proxy: SocketAddr,
    /// True if it offers and accepts sound, as a PBX in the path of it wants.
    media: bool,
    /// Messages that came and were not asked for yet, and all that came, to know a repetition by.
    inbox: Vec<Message>,
    seen: Vec<Message>,
    made: u32,
}

/// A request or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(String);

/// One side of a dialog, or of what may become one.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Its Call-ID.
    pub call_id: String,
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

    /// True if its first line has this in it, and it is of this call.
    fn fits(&self, what: &str, call_id: Option<&str>) -> bool {
        self.0.lines().next().is_some_and(|line| line.contains(what))
            && call_id.is_none_or(|call_id| self.header("Call-ID") == call_id)
    }

    /// The value of a header.
    pub fn header(&self, name: &'static str) -> &str {
        self.headers(name).next().unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }

    /// The text between the angles of a list or a name-addr.
    fn uri(&self, name: &'static str) -> String {
        let text = self.header(name);
        text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).unwrap_or_else(|| panic!("{text}")).0.to_owned()
    }

    fn routes(&self) -> Vec<String> {
        self.headers("Record-Route").flat_map(|line| line.split(',')).map(|route| route.trim().to_owned()).collect()
    }

    /// The dialog that the called side has by this INVITE and the tag it answered with.
    pub fn called(&self, tag: &str) -> Dialog {
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
    pub fn replaces(&self) -> String {
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
    /// One that speaks to the proxy of a lab.
    pub fn new(ip: &str, port: u16, proxy_port: u16) -> Self {
        Self::at(ip, port, SocketAddr::new(phones_ip().parse().unwrap(), proxy_port))
    }

    fn at(ip: &str, port: u16, proxy: SocketAddr) -> Self {
        let socket = UdpSocket::bind((ip, port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Phone { socket, proxy, media: false, inbox: Vec::new(), seen: Vec::new(), made: 0 }
    }

    /// For a PBX that is in the path of the sound: offers and accepts it, though none is ever sent.
    pub fn with_media(ip: &str, port: u16, pbx_port: u16) -> Self {
        Phone { media: true, ..Self::at(ip, port, SocketAddr::from(([127, 0, 0, 1], pbx_port))) }
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
    pub fn receive(&mut self, what: &str, call_id: Option<&str>) -> Message {
        loop {
            if let Some(at) = self.inbox.iter().position(|message| message.fits(what, call_id)) {
                return self.inbox.remove(at);
            }
            let mut buffer = [0_u8; 16_384];
            let bytes =
                self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {what}: {error}; {:?}", self.inbox));
            let message = Message(String::from_utf8(buffer[..bytes].to_vec()).unwrap());
            if !self.seen.contains(&message) {
                self.seen.push(message.clone());
                // How a transfer goes on, and whether this phone is there.
                if self.media && (message.0.starts_with("NOTIFY ") || message.0.starts_with("OPTIONS ")) {
                    self.answer(&message, "200 OK", "t", "");
                    continue;
                }
                self.inbox.push(message);
            }
        }
    }

    /// True if anything of this kind has come up to now.
    pub fn received(&mut self, what: &str) -> bool {
        self.take_in();
        self.inbox.iter().any(|message| message.fits(what, None))
    }

    /// The same, in one call.
    pub fn received_of(&mut self, what: &str, call_id: &str) -> bool {
        self.take_in();
        self.inbox.iter().any(|message| message.fits(what, Some(call_id)))
    }

    fn take_in(&mut self) {
        self.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut buffer = [0_u8; 16_384];
        while let Ok(bytes) = self.socket.recv(&mut buffer) {
            self.inbox.push(Message(String::from_utf8(buffer[..bytes].to_vec()).unwrap()));
        }
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// The status of the final answer to a call that was asked for.
    pub fn outcome(&mut self, dialog: &Dialog) -> u16 {
        loop {
            let answer = self.receive("SIP/2.0 ", Some(&dialog.call_id));
            let status: u16 = answer.0.split(' ').nth(1).unwrap().parse().unwrap();
            if status >= 200 {
                self.inbox.push(answer);
                return status;
            }
        }
    }

    /// Asks for a call, and waits for nothing.
    pub fn invite(&mut self, from: &str, to: &str, call_id: &str, more: &str) -> Dialog {
        self.invite_uri(from, &format!("sip:{to}@acme.example"), call_id, more)
    }

    /// The same, to any address.
    pub fn invite_uri(&mut self, from: &str, target: &str, call_id: &str, more: &str) -> Dialog {
        self.invite_named("", from, target, call_id, more)
    }

    /// The same, with a name to show.
    pub fn invite_named(&mut self, name: &str, from: &str, target: &str, call_id: &str, more: &str) -> Dialog {
        let via = self.via();
        let dialog = Dialog {
            call_id: call_id.to_owned(),
            own: format!("{name}<sip:{from}@acme.example>;tag=own{}", self.made),
            other: format!("<{target}>"),
            target: target.to_owned(),
            routes: Vec::new(),
            sequence: 1,
            via,
        };
        self.request(&dialog, "INVITE", &dialog.via, more);
        dialog
    }

    /// Gives up a call that was asked for.
    pub fn cancel(&mut self, dialog: &Dialog) {
        self.request(dialog, "CANCEL", &dialog.via, "");
        let refused = self.receive("487 ", Some(&dialog.call_id));
        let acknowledged = Dialog { other: refused.header("To").to_owned(), ..dialog.clone() };
        self.request(&acknowledged, "ACK", &dialog.via, "");
    }

    /// A further request within a dialog.
    pub fn within(&mut self, dialog: &mut Dialog, method: &str, more: &str) {
        dialog.sequence += 1;
        let via = self.via();
        self.request(dialog, method, &via, more);
    }

    /// Puts the other side on hold.
    pub fn hold(&mut self, dialog: &mut Dialog) {
        dialog.sequence += 1;
        let (via, body) = (self.via(), self.sound_that_is("a=sendonly\r\n"));
        self.request_with(dialog, "INVITE", &via, "", &body);
        self.receive(" 200 ", Some(&dialog.call_id));
        let via = self.via();
        self.request(dialog, "ACK", &via, "");
    }

    /// Presses a key amid a call.
    pub fn press(&mut self, dialog: &mut Dialog, key: &str) {
        dialog.sequence += 1;
        let (via, signal) = (self.via(), format!("Signal={key}\r\nDuration=160\r\n"));
        let body = format!("Content-Length: {}\r\n\r\n{signal}", signal.len());
        self.request_with(dialog, "INFO", &via, "Content-Type: application/dtmf-relay\r\n", &body);
        self.receive(" 200 ", Some(&dialog.call_id));
    }

    fn request(&self, dialog: &Dialog, method: &str, via: &str, more: &str) {
        let body = if method == "INVITE" { self.sound() } else { no_body() };
        self.request_with(dialog, method, via, more, &body);
    }

    fn request_with(&self, dialog: &Dialog, method: &str, via: &str, more: &str, body: &str) {
        let Dialog { call_id, own, other, target, sequence, .. } = dialog;
        let routes: String = dialog.routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        self.send(format!(
            "{method} {target} SIP/2.0\r\nVia: {via}\r\n{routes}From: {own}\r\nTo: {other}\r\nCall-ID: {call_id}\r\n\
             CSeq: {sequence} {method}\r\nContact: {}\r\nMax-Forwards: 70\r\n{more}{body}",
            self.contact()
        ));
    }

    /// The end of a message that may say where sound goes.
    fn sound(&self) -> String {
        if self.media { self.sound_that_is("") } else { no_body() }
    }

    fn sound_that_is(&self, attribute: &str) -> String {
        let ip = self.socket.local_addr().unwrap().ip();
        let sdp = format!(
            "v=0\r\no=u 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n{attribute}"
        );
        format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len())
    }

    /// Answers a request; `200 OK`, `180 Ringing`.
    pub fn answer(&self, request: &Message, status: &str, tag: &str, more: &str) {
        let all =
            |name: &'static str| request.headers(name).map(|value| format!("{name}: {value}\r\n")).collect::<String>();
        let to = request.header("To");
        let to = if to.contains("tag=") { to.to_owned() } else { format!("{to};tag={tag}") };
        let taken = status.starts_with("200 ") && request.0.starts_with("INVITE ");
        let body = if taken { self.sound() } else { no_body() };
        self.send(format!(
            "SIP/2.0 {status}\r\n{}{}From: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n{more}{body}",
            all("Via"),
            all("Record-Route"),
            request.header("From"),
            request.header("Call-ID"),
            request.header("CSeq"),
        ));
    }
}

fn no_body() -> String {
    "Content-Length: 0\r\n\r\n".to_owned()
}

/// The callee takes the call, the caller acknowledges; their two sides of the dialog.
pub fn connect(
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
    // A PBX makes a call of its own of it, a proxy does not.
    callee.receive("ACK ", Some(invite.header("Call-ID")));
    (call, invite.called(tag))
}

/// One side hangs up, the other takes note.
pub fn hang_up(by: &mut Phone, mut own: Dialog, other: &mut Phone) {
    by.within(&mut own, "BYE", "");
    let bye = other.receive("BYE ", (!by.media).then_some(own.call_id.as_str()));
    other.answer(&bye, "200 OK", "", "");
    by.receive(" 200 ", Some(&own.call_id));
}
