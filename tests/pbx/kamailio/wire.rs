//! The recipe's own messages, recorded and sent to the daemon in an order of the test's choice.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;
use usherd_testkit::http::{Answer, Client};
use usherd_testkit::kamailio::lab::{Lab, Transport, free_port, phones_ip, trunk_ip};
use usherd_testkit::kamailio::sip::{Phone, connect, hang_up};
use usherd_testkit::wait::eventually;

/// Stands in for usherd: keeps every request as it came, allows everything, and closes like `Connection: close`.
struct Recorder {
    url: String,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind((phones_ip(), 0)).unwrap();
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
        eventually(path, || self.requests.lock().iter().find(|request| request.starts_with(line.as_bytes())).cloned())
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
    let mut trunk = Phone::new(trunk_ip(), lab.trunk_port, lab.kamailio_port);
    let mut anna = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
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
fn kamailio_6_asks_over_one_kept_connection() {
    let recorder = Recorder::start();
    let mut lab = Lab::idle(1, &[]);
    lab.start_kamailio_asking(&recorder.url);
    let mut anna = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
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

/// Names that a phone may have, and what usherd knows the person as.
const SUBJECTS: [(&str, &str); 6] = [
    ("+4930123", "+4930123"),
    ("a&x", "a&x"),
    ("a=b&kind=desktop", "a=b&kind=desktop"),
    ("50%25+off", "50%25+off"),
    ("20,112", "20,112"),
    // What the recipe's own book could not hold has a hash in its place.
    ("a|b", "d0726241020676b14aa6298ce6a18b21"),
];

#[test]
fn a_subject_reaches_usherd_as_it_is_and_is_one_person() {
    subjects(Transport::Http);
}

#[test]
fn a_subject_reaches_usherd_unchanged_over_redis() {
    subjects(Transport::Redis);
}

fn subjects(transport: Transport) {
    let lab = Lab::over(transport, 10);
    let mut trunk = Phone::new(trunk_ip(), lab.trunk_port, lab.kamailio_port);
    let mut phone = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
    for (number, (user, subject)) in SUBJECTS.into_iter().enumerate() {
        let id = format!("subject{number}");
        let call = phone.invite(user, "0301234567", &id, "");
        let invite = trunk.receive("INVITE ", Some(&id));
        let (call, _) = connect(&mut phone, call, &mut trunk, &invite, "t");
        let sessions = lab.sessions();
        assert_eq!((sessions.len(), &sessions[0]["subject"]), (1, &subject.into()), "{user}");
        let other = format!("tenant=acme&subject={}&session=x&kind=call&direction=outbound&ttl_s=60", encoded(subject));
        assert_eq!(lab.usherd().client().post("/v1/acquire", &other).body, "allow.held", "{user} has one seat");
        lab.usherd().client().post("/v1/release", "tenant=acme&session=x");
        hang_up(&mut phone, call, &mut trunk);
        lab.until_held(0);
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn a_number_or_name_that_usherd_refuses_is_counted_too() {
    for transport in [Transport::Http, Transport::Redis] {
        let lab = Lab::over(transport, 0);
        let mut phone = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
        let long = "7".repeat(200);
        for (number, (user, dialled)) in [
            ("anna", format!("0{long}")),
            ("anna", format!("0112{}", "-".repeat(64) + "30")),
            (&long, "0301".to_owned()),
        ]
        .into_iter()
        .enumerate()
        {
            let id = format!("long{number}");
            phone.invite(user, &dialled, &id, "");
            phone.receive(" 403 ", Some(&id));
        }
        assert_eq!(lab.statistic("usherd_unanswered"), 0, "{transport:?}");
    }
}
