//! One contract, one reader: the agent answers every spelling of every field as the daemon does (API 1, 2).

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;
use usherd_testkit::process::Usherd;

use super::beside::Place;
use super::scripts::{run, scripts_at};

/// The parts of an answer that matter: the status, and the code or the places of what is wrong.
type Gist = (u16, String);

fn gist(status: u16, body: &str) -> Gist {
    let Ok(json) = serde_json::from_str::<Value>(body) else { return (status, body.to_owned()) };
    let word = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    if json["code"].is_string() {
        return (status, format!("JSON {} {}", word("code"), word("detail")));
    }
    let errors = json["errors"].as_array().cloned().unwrap_or_default();
    let mut errors: Vec<String> =
        errors.iter().map(|error| format!("{} {}", error["pointer"], error["detail"])).collect();
    errors.sort();
    (status, if errors.is_empty() { word("detail") } else { errors.join("; ") })
}

/// A daemon, and an agent beside another one, so that they have no state in common.
struct Both {
    alone: Place,
    daemon: Usherd,
    place: Place,
    agent: Usherd,
    /// Behind the agent.
    _other: Usherd,
    /// Where they differ.
    differ: RefCell<Vec<String>>,
}

impl Both {
    /// The agent's node speaks for all tenants, or for acme alone.
    fn start(for_acme: bool) -> Self {
        let main = "[agi]\nlisten = \"127.0.0.1:0\"\n";
        let acme = "id = \"acme\"\nkind = \"nfr\"\nseats = 100000\nsessions.emergency_numbers = [\"112\"]\n";
        let full = "id = \"full\"\nkind = \"nfr\"\nseats = 0\n";
        let [alone, place] =
            [(); 2].map(|()| Place::with("[agi]\nlisten = \"127.0.0.1:0\"\n", main, &[("acme", acme), ("full", full)]));
        if !for_acme {
            place.edit("tenant = \"acme\"\n", "");
        }
        place.deadline_ms(10_000);
        let (daemon, other, agent) = (alone.daemon(), place.daemon(), place.agent());
        place.until_connected();
        Both { alone, daemon, place, agent, _other: other, differ: RefCell::default() }
    }

    /// Sends the same to both; `~` is another word each time.
    fn send(&self, number: usize, path: &str, headers: &str, body: &[u8]) -> [Gist; 2] {
        ["d", "a"].map(|who| {
            let word = format!("n{number}");
            let filled = |text: &[u8]| text.split(|byte| *byte == b'~').collect::<Vec<_>>().join(word.as_bytes());
            let (path, body) = (String::from_utf8(filled(path.as_bytes())).unwrap(), filled(body));
            let mut request = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
                body.len()
            )
            .into_bytes();
            request.extend_from_slice(&body);
            let mut stream = match who {
                "a" => UnixStream::connect(self.place.path("agent.sock")),
                _ => UnixStream::connect(self.alone.path("usherd.sock")),
            }
            .unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(&request).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            gist(head[9..12].parse().unwrap(), body)
        })
    }

    fn compare(&self, number: usize, path: &str, headers: &str, body: &[u8]) -> Gist {
        let [daemon, agent] = self.send(number, path, headers, body);
        if agent != daemon {
            let sent = format!("{path} {headers:?} {}", String::from_utf8_lossy(body));
            self.differ.borrow_mut().push(format!("{sent}\n  daemon {daemon:?}\n  agent  {agent:?}"));
        }
        daemon
    }

    fn agree(&self) {
        let differ = self.differ.borrow();
        assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
    }
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

/// Every field with values right and wrong, as a form writes them.
fn spellings() -> Vec<(&'static str, Vec<&'static str>)> {
    let words = |more: &[&'static str]| [&["", "pigeon", "CALL", " call", "%ff", "1"], more].concat();
    let numbers = || {
        vec!["", "0", "1", "60", "-1", "1.5", "+5", "1e3", "x", "86400", "86401", "4294967296", "18446744073709551616"]
    };
    let flags = || {
        vec![
            "", "1", "0", "true", "false", "TRUE", "False", "yes", "YES", "Yes", "no", "on", "ON", "off", "2", "y",
            "%20true",
        ]
    };
    vec![
        ("tenant", vec!["acme", "full", "nobody", "ACME", "a/b", "%C3%A4", "%ff", "", "a+b"]),
        ("subject", vec!["~x", "J%C3%BCrgen+~", "b%D0", "%00", "%0a", "", "a%", "%4", "%4g", "%+1"]),
        ("session", vec!["~y", "c%2B~", "%C3%BC", "%ff", "", "+"]),
        ("kind", words(&["desktop", "mobile", "phone", "connector", "guest", "call"])),
        ("direction", words(&["outbound", "internal", "inbound", "INBOUND"])),
        ("leg", words(&["originate", "deliver", "service", "system"])),
        ("device", words(&["desk", "dect", "sip", "desktop", "mobile", "function"])),
        ("class", words(&["fax", "lift", "door", "conference", "room", "other"])),
        ("to", vec!["0301", "112", "%2B112", "+112", "1120", "%ff", "", "112%23", "urn:service:sos"]),
        ("emergency", flags()),
        ("external", flags()),
        ("existing", flags()),
        ("status", flags()),
        ("group", vec!["g", "", "a+b", "%C3%A4"]),
        // Absent it is a fault where no node has a lease, and the agent's has one.
        ("ttl_s", numbers().into_iter().filter(|value| !value.is_empty()).collect()),
        ("node", vec!["n", "", "a+b", "%ff"]),
        ("epoch", vec!["", "-1", "x", "1.5"]),
        ("seq", vec!["", "1", "-1", "x"]),
        ("why", vec!["", "transfer", "over", "%ff"]),
        ("later", vec!["", "1", "%ff", "~"]),
    ]
}

const GOOD: [(&str, &str); 6] = [
    ("tenant", "acme"),
    ("subject", "s~"),
    ("session", "c~"),
    ("kind", "call"),
    ("direction", "outbound"),
    ("ttl_s", "60"),
];

fn form_with(field: &str, value: &str) -> String {
    let mut pairs: Vec<String> =
        GOOD.iter().filter(|(name, _)| *name != field).map(|(name, value)| format!("{name}={value}")).collect();
    pairs.push(format!("{field}={value}"));
    pairs.join("&")
}

#[test]
fn every_spelling_of_a_form_is_read_alike() {
    let both = Both::start(false);
    let mut number = 0;
    for (field, values) in spellings() {
        for value in values {
            let form = form_with(field, value);
            for (path, body) in [("/v1/acquire", form.as_str()), ("/v1/acquire", &(form.clone() + "&" + field + "=1"))]
            {
                number += 1;
                both.compare(number, path, FORM, body.as_bytes());
            }
            number += 1;
            // A query is ASCII without blanks.
            both.compare(number, &format!("/v1/acquire?{form}"), FORM, b"");
            if !matches!(field, "tenant" | "why") {
                continue;
            }
            number += 1;
            both.compare(number, "/v1/release", FORM, form.as_bytes());
        }
    }
    for value in ["~y", "", "%ff", "%C3%BC"] {
        number += 1;
        both.compare(number, "/v1/release", FORM, format!("tenant=acme&session={value}").as_bytes());
    }
    both.agree();
}

#[test]
fn every_spelling_of_json_is_read_alike() {
    let both = Both::start(false);
    let values = [
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "1.5",
        "60",
        "1e2",
        "86401",
        "4294967296",
        "18446744073709551616",
        "\"\"",
        "\"~\"",
        "\"1\"",
        "\"true\"",
        "\"YES\"",
        "\"call\"",
        "\"inbound\"",
        "\"112\"",
        "112",
        "\"\\u0031\\u0031\\u0032\"",
        "\"acme\"",
        "[]",
        "{}",
        "[1]",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "x",
        "\"transfer\"",
        "\"tel:112\"",
    ];
    let mut number = 0;
    for (field, _) in spellings() {
        // The agent speaks as its own node, which has a lease.
        for value in
            values.iter().filter(|value| !matches!((field, **value), ("epoch" | "node", _) | ("ttl_s", "null")))
        {
            let good = GOOD.iter().filter(|(name, _)| *name != field);
            let mut pairs: Vec<String> =
                good.map(|(name, value)| {
                    if *name == "ttl_s" { format!("\"{name}\":{value}") } else { format!("\"{name}\":\"{value}\"") }
                })
                .collect();
            pairs.push(format!("\"{field}\":{value}"));
            let whole = format!("{{{}}}", pairs.join(","));
            for body in [whole.clone(), whole.replace('}', ",\"kind\":\"call\"}"), whole[..whole.len() - 1].to_owned()]
            {
                number += 1;
                both.compare(number, "/v1/acquire", JSON, body.as_bytes());
            }
            number += 1;
            both.compare(number, "/v1/release", JSON, whole.as_bytes());
        }
    }
    both.agree();
}

#[test]
fn what_is_wrong_with_the_whole_is_told_alike() {
    let both = Both::start(false);
    let fields = |count: usize| (0..count).map(|at| format!("x{at}=1&")).collect::<String>();
    let good = "tenant=acme&subject=s~&session=c~&kind=desktop&ttl_s=60";
    let many = format!("{}{good}", fields(70));
    let json_many = format!(
        "{{{}\"tenant\":\"acme\",\"subject\":\"s~\",\"session\":\"c~\",\"kind\":\"desktop\",\"ttl_s\":60}}",
        (0..70).map(|at| format!("\"x{at}\":1,")).collect::<String>()
    );
    let mut number = 0;
    let mut compare = |headers: &str, body: &[u8]| {
        number += 1;
        both.compare(number, "/v1/acquire", headers, body)
    };
    assert_eq!(compare(FORM, many.as_bytes()).0, 400);
    assert_eq!(compare(FORM, format!("{}to=112", fields(70)).as_bytes()), (200, "allow.free emergency".into()));
    assert_eq!(compare(JSON, json_many.as_bytes()), (200, "JSON allow.new ".into()));
    assert_eq!(compare(FORM, b"emergency=1&emergency=0"), (200, "allow.free emergency".into()));
    assert_eq!(compare(JSON, b"{\"tenant\":\"acme\",\"emergency\":true"), (200, "JSON allow.free emergency".into()));
    assert_eq!(compare(FORM, b"tenant=acme&subject=b%D0&to=112").0, 200);
    assert_eq!(compare(JSON, b"{\"kind\":\"call\",\"direction\":\"inbound\",\"seq\":\"no\"}").0, 400);
    assert_eq!(compare(FORM, b"kind=call&direction=inbound").0, 400, "its session is missing");
    for body in [
        &b""[..],
        b"{",
        b"[]",
        b"[1]",
        b"7",
        b"null",
        b"{\"tenant\":\"acme\"}{}",
        b"a",
        b"&&&",
        b"=",
        b"\xef\xbb\xbf{}",
        b" {} ",
        b"\xd0",
        b"\xd0=1",
    ] {
        for headers in [
            "",
            FORM,
            JSON,
            "Content-Type: application/problem+json\r\n",
            "Content-Type: text/xml\r\n",
            "Content-Type: application/x-ndjson\r\n",
        ] {
            compare(headers, body);
        }
    }
    for headers in ["", FORM, JSON, "Content-Type: text/xml\r\n"] {
        for accept in [
            "",
            "Accept: text/plain\r\n",
            "Accept: application/json\r\n",
            "Accept: */*\r\n",
            "Accept: text/plain, application/json;q=0.1\r\n",
            "Accept: text/html\r\nAccept: TEXT/PLAIN;q=1\r\n",
        ] {
            for body in
                [good, "to=112", "kind=pigeon", "tenant=full&subject=s&session=c~&kind=desktop&ttl_s=60&status=1"]
            {
                compare(&format!("{headers}{accept}"), body.as_bytes());
            }
        }
    }
    both.agree();
}

#[test]
fn a_script_is_read_alike() {
    let both = Both::start(false);
    let (daemon, agent) = (*both.daemon.addresses.last().unwrap(), scripts_at(&both.agent));
    for script in [
        "acquire?tenant=acme&subject=b%D0&to=112",
        "acquire?tenant=acme&subject=b%D0&session=c&kind=desktop&ttl_s=60",
        "acquire?tenant=acme&subject=a&session=a&kind=desktop&ttl_s=60&na%C3=1",
        "acquire?tenant=acme&subject=a&session=a&kind=desktop&ttl_s=60&existing=TRUE",
        "acquire?tenant=full&subject=a&session=a&kind=desktop&ttl_s=60",
        "acquire?tenant=full&subject=a&session=a&kind=desktop&ttl_s=60&emergency=Yes",
        "acquire?tenant=full&subject=a&session=a&kind=desktop&ttl_s=60&emergency=maybe",
        "acquire?emergency=1&emergency=0",
        "acquire?tenant=acme&kind=call",
        "release?tenant=acme&session=%ff",
        "release?tenant=acme&session=none",
        "release?tenant=acme&session=none&why=%ff",
        "dial?tenant=acme",
    ] {
        let [by_daemon, by_agent] = [daemon, agent].map(|at| run(at, script));
        assert_eq!(by_agent, by_daemon, "{script}");
    }
}

#[test]
fn a_tenant_that_is_left_out_is_the_nodes() {
    let both = Both::start(true);
    let agent = scripts_at(&both.agent);
    for (path, body, answer) in [
        ("/v1/acquire", "subject=u1&session=d1&kind=desktop", "allow.new"),
        ("/v1/acquire", "tenant=&subject=u1&session=d1&kind=desktop", "allow.same"),
        ("/v1/acquire?session=d2&kind=desktop", "subject=u1", "allow.held"),
        ("/v1/release", "session=d1", "released.more"),
        ("/v1/release", "session=d2", "released.last"),
    ] {
        assert_eq!(both.place.ask(path, body), (200, answer.to_owned()), "{body}");
    }
    let (status, json) = both.place.ask("/v1/acquire", r#"{"subject":"u2","session":"d3","kind":"desktop"}"#);
    assert!(status == 200 && json.contains("\"tenant\":\"acme\""), "{json}");
    assert_eq!(run(agent, "acquire?subject=u3&session=d4&kind=desktop")[0].1, "allow.new");
    assert_eq!(run(agent, "release?session=d4")[0].1, "released.last");
}
