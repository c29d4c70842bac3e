//! The recipe's own messages, recorded and sent to the daemon in an order of the test's choice.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

use super::lab::{Lab, PHONES, TRUNK, free_port};
use super::sip::{Phone, connect, hang_up};
use crate::client::{Answer, Client};
use crate::process::wait_for;

/// Stands in for usherd: keeps every request as it came, allows everything, and closes like `Connection: close`.
struct Recorder {
    url: String,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind((PHONES, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(request) = take_request(stream) else { continue };
                kept.lock().push(request);
            }
        });
        Recorder { url, requests }
    }

    /// The request of this path, once it came.
    fn request(&self, path: &str) -> Vec<u8> {
        let line = format!("POST {path} HTTP/1.1\r\n");
        wait_for(path, || self.requests.lock().iter().find(|request| request.starts_with(line.as_bytes())).cloned())
    }
}

fn take_request(mut stream: TcpStream) -> Option<Vec<u8>> {
    let (mut request, mut buffer) = (Vec::new(), [0_u8; 4_096]);
    while !is_whole(&request) {
        let bytes = stream.read(&mut buffer).ok().filter(|bytes| *bytes > 0)?;
        request.extend_from_slice(&buffer[..bytes]);
    }
    let answer = r#"{"code":"allow.new","allow":true}"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}",
        answer.len()
    );
    write!(stream, "{head}\r\n\r\n{answer}").ok()?;
    Some(request)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next());
    length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

/// Sends these bytes to the daemon.
fn send(lab: &Lab, request: &[u8]) -> Answer {
    let mut client = Client::connect(lab.usherd().address()).unwrap();
    client.send(request).unwrap();
    client.answer().unwrap()
}

#[test]
fn a_release_that_overtakes_its_acquire_leaves_no_seat_t065() {
    let recorder = Recorder::start();
    let mut lab = Lab::idle(1, &[]);
    lab.start_kamailio_asking(&recorder.url);
    let mut trunk = Phone::new(TRUNK, lab.trunk_port, lab.kamailio_port);
    let mut anna = Phone::new(PHONES, free_port(PHONES), lab.kamailio_port);
    let call = anna.invite("anna", "0301234567", "one(two)\"three\"@[::1]", "");
    let invite = trunk.receive("INVITE ", None);
    let (call, _) = connect(&mut anna, call, &mut trunk, &invite, "t");
    hang_up(&mut anna, call, &mut trunk);
    let [hello, acquire, release] =
        ["/v1/nodes/pbx1/hello", "/v1/acquire", "/v1/release"].map(|path| recorder.request(path));
    assert_eq!(send(&lab, &hello).status, 200);
    for (request, code) in [(&release, "released.none"), (&acquire, "ignore.stale"), (&release, "released.none")] {
        let answer = send(&lab, request);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (200, Some(code)), "{answer:?}");
    }
    assert_eq!(lab.held(), 0);
    assert_eq!(send(&lab, &recorder.request("/v1/nodes/pbx1/heartbeat")).status, 200);
    assert_eq!(send(&lab, &recorder.request("/v1/nodes/pbx1/inventory")).status, 200);
}

/// As libcurl's multi interface writes a POST for http_async_client: on a kept connection, with the header it was given.
fn as_http_async_client(lab: &Lab, path: &str, body: &str) -> Vec<u8> {
    let (host, length) = (lab.usherd().address(), body.len());
    let kind = "application/x-www-form-urlencoded";
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nContent-Length: {length}\r\n\
         Content-Type: {kind}\r\n\r\n{body}"
    )
    .into_bytes()
}

#[test]
fn the_questions_of_kamailio_6_are_decided_on_one_kept_connection() {
    let recorder = Recorder::start();
    let mut lab = Lab::idle(1, &[]);
    lab.start_kamailio_asking(&recorder.url);
    let mut anna = Phone::new(PHONES, free_port(PHONES), lab.kamailio_port);
    anna.invite("anna", "0301234567", "first", "");
    // The body is made by the same route for both versions, so it is taken from this one.
    let asked = String::from_utf8(recorder.request("/v1/acquire")).unwrap();
    let body = asked.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(send(&lab, &recorder.request("/v1/nodes/pbx1/hello")).status, 200);
    let mut kept = lab.usherd().client();
    let mut ask = |body: &str| {
        kept.send(&as_http_async_client(&lab, "/v1/acquire", body)).unwrap();
        kept.answer().unwrap().json()
    };
    assert_eq!(ask(body)["code"], "allow.new");
    // libcurl sends a POST again by itself where the kept connection died before the answer.
    assert_eq!(ask(body)["code"], "allow.same");
    let other = body.replace("=anna", "=ben").replace("first", "second");
    let denied = ask(&other);
    assert_eq!((&denied["code"], &denied["allow"]), (&"deny.full".into(), &false.into()));
    assert_eq!((&denied["sip_code"], &denied["retry_after_s"]), (&403.into(), &60.into()));
    assert_eq!(lab.held(), 1);
}
