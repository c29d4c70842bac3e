//! The table of what is dialled in an emergency (C14, T174), over every way to ask: daemon, client and agent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use usherd_client::{Address, Ask, Client, OnUnreachable, Options, Source};
use usherd_engine::Direction;
use usherd_testkit::emergency::rows;
use usherd_testkit::process::{Site, Usherd};

use super::beside::Place;
use super::scripts::{run, scripts_at};

/// As a form carries it: every byte that is no letter or digit is escaped.
fn escaped(text: &str) -> String {
    let bytes = text
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") });
    bytes.collect()
}

/// A daemon with every protocol, whose tenants have no seat: what is not an emergency is denied.
fn daemon() -> (Site, Usherd) {
    let tenant = |id: &str, more: &str| format!("id = \"{id}\"\nkind = \"nfr\"\nseats = 0\n{more}");
    let behind = |digit: &str| format!("sessions.trunk_prefix = \"{digit}\"\n");
    let own = "sessions.emergency_numbers = [\"1-1-2\", \"+1 10\", \"tel:911\"]\nsessions.trunk_prefix = \" 0-\"\n";
    let tenants = [tenant("t", ""), tenant("t0", &behind("0")), tenant("t9", &behind("9")), tenant("own", own)];
    let named: Vec<(&str, &str)> =
        ["t", "t0", "t9", "own"].into_iter().zip(tenants.iter().map(String::as_str)).collect();
    let main = "[[listener]]\nlisten = \"127.0.0.1:0\"\nprotocol = \"resp\"\n[agi]\nlisten = \"127.0.0.1:0\"\n";
    let site = Site::new(main, &named);
    let usherd = site.start();
    (site, usherd)
}

/// Every answer of the daemon to a call to this number, by the way it was asked.
fn answers(usherd: &Usherd, tenant: &str, dialled: &str) -> Vec<(&'static str, String)> {
    let fields = json!({"op": "acquire", "tenant": tenant, "subject": "anna", "session": "c1", "kind": "call",
        "direction": "outbound", "ttl_s": 60, "to": dialled});
    let pairs = [
        ("tenant", tenant),
        ("subject", "anna"),
        ("session", "c1"),
        ("kind", "call"),
        ("direction", "outbound"),
        ("ttl_s", "60"),
        ("to", dialled),
    ];
    let form: String = pairs.iter().map(|(name, value)| format!("{name}={}&", escaped(value))).collect();
    let form = form.trim_end_matches('&');
    let mut client = usherd.client();
    let word = |json: &Value, key: &str| json[key].as_str().unwrap_or_default().to_owned();
    let line = |json: &Value| format!("{} {}", word(json, "code"), word(json, "detail"));
    let explained = client.post("/v1/explain", &fields.to_string()).json();
    let batch = client.post("/v1/batch", &json!({"ops": [fields]}).to_string()).json();
    let [by_status, in_query] = [(form.to_owned() + "&status=1", ""), (String::new(), form)]
        .map(|(body, query)| client.post(&format!("/v1/acquire?{query}"), &body).body);
    vec![
        ("JSON", line(&client.post("/v1/acquire", &fields.to_string()).json())),
        ("form", client.post("/v1/acquire", form).body),
        ("query", in_query),
        ("status", by_status),
        ("explain", line(&explained)),
        ("batch", line(&batch["results"][0])),
        ("NDJSON", line(&serde_json::from_str(&ndjson(usherd.address(), &fields)).unwrap())),
        ("RESP", resp(usherd.addresses[1], &pairs)),
        ("FastAGI", agi(usherd.addresses[2], &format!("acquire?{form}"))),
    ]
}

fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

fn ndjson(address: SocketAddr, fields: &Value) -> String {
    let body = fields.to_string();
    let answer = exchange(
        address,
        format!(
            "POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
    answer.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn resp(address: SocketAddr, pairs: &[(&str, &str)]) -> String {
    let mut words = vec!["CU.ACQUIRE"];
    words.extend(pairs[..4].iter().map(|(_, value)| *value));
    words.extend(pairs[4..].iter().flat_map(|(name, value)| [*name, *value]));
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    exchange(address, command.as_bytes()).trim_start_matches('+').trim_end().to_owned()
}

/// Code and allow of a script's channel.
fn agi(address: SocketAddr, script: &str) -> String {
    let variables = run(address, script);
    format!("{} {}", variables[0].1, variables[1].1)
}

fn check(at: &str, dialled: &str, emergency: bool, answers: &[(&str, String)]) {
    for (way, answer) in answers {
        let passes = if matches!(*way, "FastAGI") { "allow.free 1" } else { "allow.free emergency" };
        assert_eq!(answer == passes, emergency, "{dialled:?} at {at} over {way}: {answer}");
    }
}

#[test]
fn the_daemon_knows_every_row_over_every_protocol_t174() {
    let (_site, usherd) = daemon();
    for row in rows() {
        let tenant = format!("t{}", row.outside());
        check(&tenant, &row.dialled, row.is_emergency, &answers(&usherd, &tenant, &row.dialled));
        if row.outside().is_empty() {
            check("nobody's", &row.dialled, row.is_emergency, &answers(&usherd, "nobody", &row.dialled));
        } else if row.outside() == "0" {
            check("own", &row.dialled, row.is_emergency, &answers(&usherd, "own", &row.dialled));
        }
    }
    for (dialled, emergency) in
        [("911", true), ("+911#", true), ("0-911", true), ("sip:911@pbx", true), ("9110", false)]
    {
        check("own", dialled, emergency, &answers(&usherd, "own", dialled));
        check("t", dialled, false, &answers(&usherd, "t", dialled));
    }
}

#[test]
fn whatever_else_is_wrong_with_it_every_row_is_known_t174() {
    let (_site, usherd) = daemon();
    let mut client = usherd.client();
    for row in rows().into_iter().filter(|row| row.outside().is_empty()) {
        let text = Value::from(row.dialled.as_str()).to_string();
        let ascii: String = row.dialled.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        for body in [
            format!("{{\"tenant\":\"t\",\"kind\":\"pigeon\",\"to\":{text}}}"),
            format!("{{\"to\":{text},\"tenant\":\"t\",\"session\":\"cut o"),
            format!("{{\"to\":\"{ascii}\",\"kind\":"),
            format!("{{\"kind\":,\"to\":\"{ascii}\"}}"),
            format!("tenant=t&to={}&kind=%ff&kind=1", escaped(&row.dialled)),
            format!("to={}&subject=b%D0", escaped(&row.dialled)),
        ] {
            let answer = client.post("/v1/acquire", &body);
            assert_eq!(answer.status == 200, row.is_emergency, "{body}: {answer:?}");
        }
        let pairs = [("", "t"), ("", "a"), ("", "s"), ("", "pigeon"), ("to", row.dialled.as_str())];
        let answer = resp(usherd.addresses[1], &pairs);
        assert_eq!(answer == "allow.free emergency", row.is_emergency, "{:?}: {answer}", row.dialled);
    }
}

#[tokio::test]
async fn the_client_of_a_node_knows_every_row_by_itself_t174() {
    for row in rows() {
        let options = Options {
            on_unreachable: OnUnreachable::Deny,
            trunk_prefix: row.outside().into(),
            emergency_numbers: vec!["1 10".into(), "+112".into()],
            ..Options::new(Address::Unix("/nonexistent/usherd.sock".into()), "pbx", 1)
        };
        let client = Client::start(options, ()).unwrap();
        let ask = Ask { to: Some(row.dialled.as_str().into()), ..Ask::call("t", "anna", "c1", Direction::Outbound) };
        let verdict = client.acquire(&ask).await;
        assert_eq!(verdict.source == Source::Emergency, row.is_emergency, "{:?}: {verdict:?}", row.dialled);
        assert_eq!(verdict.allow, row.is_emergency, "{:?}", row.dialled);
    }
}

#[test]
fn an_agent_knows_every_row_without_a_daemon_t174() {
    for prefix in ["", "0", "9"] {
        let place = Place::new("[agi]\nlisten = \"127.0.0.1:0\"\n");
        place.edit("[daemon]\n", "[daemon]\non_unreachable = \"deny\"\n");
        place.edit(
            "[node]\n",
            &format!("[node]\ntrunk_prefix = \"{prefix}\"\nemergency_numbers = [\"1-1-2\", \"+110\"]\n"),
        );
        let agent = place.agent();
        let scripts = scripts_at(&agent);
        for row in rows().into_iter().filter(|row| row.outside() == prefix) {
            let good = format!("subject=a&session=c1&kind=call&direction=outbound&to={}", escaped(&row.dialled));
            let wrong = format!("to={}&kind=pigeon&subject=b%D0", escaped(&row.dialled));
            let json = json!({"tenant": "??", "to": row.dialled}).to_string();
            let cut = format!("{{\"to\":{},\"x", Value::from(row.dialled.as_str()));
            for body in [&good, &wrong, &json, &cut] {
                let (status, answer) = place.ask("/v1/acquire", body);
                assert_eq!(status == 200, row.is_emergency, "{body}: {status} {answer}");
                assert!(!row.is_emergency || answer.contains("emergency"), "{body}: {answer}");
            }
            let (status, answer) = place.ask(&format!("/v1/acquire?{good}"), "x=1");
            assert_eq!(status == 200, row.is_emergency, "{good}: {status} {answer}");
            let answers = [good, wrong].map(|form| agi(scripts, &format!("acquire?{form}")));
            assert_eq!(answers[0] == "allow.free 1", row.is_emergency, "{:?}: {answers:?}", row.dialled);
            assert_eq!(answers[1] == "allow.free 1", row.is_emergency, "{:?}: {answers:?}", row.dialled);
        }
    }
}
