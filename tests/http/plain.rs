//! Plain requests are answered by a shorter way: byte for byte as all others, and in whatever order and parts they come.

use usherd_testkit::http::{Answer, Client};

use crate::daemon::Running;

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 1\n";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const ANNA: &str = "tenant=acme&subject=anna&session=s1&kind=call&direction=outbound&ttl_s=3600";
const BERT: &str = "tenant=acme&subject=bert&session=s2&kind=call&direction=outbound&ttl_s=3600";

fn request(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn acquire(body: &str) -> Vec<u8> {
    request("/v1/acquire", "", body)
}

/// An answer without its date and the number of its decision.
fn told(answer: &Answer) -> (String, String) {
    let is_lasting = |line: &&str| !line.starts_with("date: ");
    let head: Vec<&str> = answer.head.split("\r\n").filter(is_lasting).collect();
    assert_eq!(head.len() + 1, answer.head.split("\r\n").count(), "one date: {answer:?}");
    let body = answer.body.split("\"decision_id\"").next().unwrap_or_default();
    (head.join("\n"), body.to_owned())
}

#[test]
fn both_ways_answer_alike() {
    let daemon = Running::start("", &[("acme", PAID)]);
    let mut client = Client::connect(daemon.address()).unwrap();
    let json = |session: &str| {
        format!(
            r#"{{"tenant":"acme","subject":"anna","session":"{session}","kind":"call","direction":"outbound","ttl_s":3600}}"#
        )
    };
    let mut statuses = Vec::new();
    for (path, kind, body) in [
        ("/v1/acquire", JSON, json("s1")),
        ("/v1/acquire", FORM, ANNA.to_owned()),
        ("/v1/acquire", FORM, BERT.to_owned()),
        ("/v1/acquire", FORM, format!("{BERT}&status=1")),
        ("/v1/acquire", JSON, json("ü")),
        ("/v1/acquire", FORM, format!("{BERT}&direction=inbound")),
        ("/v1/acquire", FORM, "kind=call&to=112".to_owned()),
        ("/v1/acquire", "text/plain", ANNA.to_owned()),
        ("/v1/acquire", JSON, "{".to_owned()),
        ("/v1/release", FORM, "tenant=acme&session=other".to_owned()),
        ("/v1/release", JSON, r#"{"tenant":"acme","session":"other"}"#.to_owned()),
        ("/v1/release", FORM, "tenant=acme".to_owned()),
        ("/v1/nothing", FORM, ANNA.to_owned()),
        ("/v1/acquire?status=1", FORM, BERT.to_owned()),
    ] {
        for accept in ["", "Accept: */*\r\n", "Accept: application/json\r\n", "Accept: text/plain\r\n"] {
            let headers = format!("Content-Type: {kind}\r\n{accept}");
            let answers = ["", "", "X-Any: 1\r\n"].map(|more| {
                client.send(&request(path, &format!("{headers}{more}"), &body)).unwrap();
                client.answer().unwrap()
            });
            assert_eq!(told(&answers[1]), told(&answers[2]), "{path} {headers} {body}");
            statuses.push(answers[1].status);
        }
    }
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [200, 400, 403, 404, 415]);
}

#[test]
fn in_whatever_parts_they_come_each_is_answered_in_its_place() {
    let daemon = Running::start("", &[("acme", PAID)]);
    let mut client = Client::connect(daemon.address()).unwrap();
    let long = request("/v1/acquire", "X-Any: 1\r\n", ANNA);
    let (anna, bert) = (acquire(ANNA), acquire(BERT));
    let live = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let [new, same, full] = ["allow.new", "allow.same", "deny.full tenant"];
    let head = anna.len() - ANNA.len();
    for (parts, answers) in [
        (vec![&anna[..]], vec![new]),
        (vec![&anna[..], &bert], vec![same, full]),
        (vec![&[&anna[..], &bert, &long].concat()], vec![same, full, same]),
        (vec![&anna[..head], ANNA.as_bytes(), &bert], vec![same, full]),
        (vec![&anna[..10], &anna[10..], &bert, &anna], vec![same, full, same]),
        (vec![&live[..], &anna], vec!["ok\n", same]),
        (vec![&long[..], &bert, &live, &anna], vec![same, full, "ok\n", same]),
        (vec![&[&bert[..], &anna[..20]].concat(), &anna[20..], &bert], vec![full, same, full]),
        (vec![&[&b"\r\n"[..], &anna].concat(), &bert], vec![same, full]),
    ] {
        // Part by part, each seen before the next is sent, and then all at once.
        for part in &parts {
            client.send(part).unwrap();
            daemon.wait_until("a look at the sockets", |daemon| daemon.get("/livez").status == 200);
        }
        client.send(&parts.concat()).unwrap();
        let again = answers.iter().map(|answer| if *answer == new { same } else { answer });
        for answer in answers.iter().copied().chain(again) {
            assert_eq!(client.answer().unwrap().decision(), answer, "{answers:?}");
        }
    }
}

#[test]
fn who_may_not_ask_is_told_so_and_counted_once() {
    let hash = "1".repeat(64);
    let token = format!("[[auth.tokens]]\nid = \"n\"\nrole = \"node\"\nsha256 = \"{hash}\"\n");
    let daemon = Running::start(&token, &[("acme", PAID)]);
    let mut client = Client::connect(daemon.address()).unwrap();
    for _ in 0..15 {
        client.send(&request("/v1/acquire", "Authorization: Bearer wrong\r\n", ANNA)).unwrap();
        assert_eq!(client.answer().unwrap().status, 401);
    }
}
