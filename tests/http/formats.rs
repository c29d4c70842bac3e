//! How requests may be written and answers read: JSON, forms, plain lines, batches, explanations.

use serde_json::json;

use crate::client;
use crate::daemon::{Answer, Running};
use crate::spec;

const TWO: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 2\n";
const JSON: &str = "Content-Type: application/json\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

#[test]
fn what_is_sent_and_accepted_decides_how_the_answer_is_written() {
    let daemon = Running::start("", &[("acme", TWO)]);
    let json = "{\"tenant\":\"acme\",\"subject\":\"anna\",\"session\":\"c1\",\"kind\":\"phone\",\"new_field\":[1]}";
    let form = "tenant=acme&subject=anna&session=c1&kind=phone&new_field=1&group=";
    for (head, body, plain) in [
        (JSON.to_owned(), json, false),
        (FORM.to_owned(), form, true),
        // curl -d sends JSON under this name.
        (FORM.to_owned(), json, false),
        (String::new(), json, false),
        (String::new(), form, true),
        (format!("{JSON}Accept: text/plain\r\n"), json, true),
        (format!("{FORM}Accept: application/json\r\n"), form, false),
        (format!("{FORM}Accept: text/plain;q=0.9, application/json;q=0.1\r\n"), form, false),
        (format!("{FORM}Accept: */*\r\n"), form, true),
        (format!("{JSON}Accept: */*\r\n"), json, false),
        ("Content-Type: application/vnd.x+json; charset=utf-8\r\n".to_owned(), json, false),
        (format!("{JSON}Expect: 100-continue\r\n"), json, false),
        (format!("{JSON}Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), json, false),
    ] {
        let answer = daemon.call("POST", "/v1/acquire", &head, body);
        assert_eq!((answer.status, answer.decision().as_str()), (200, "allow.free service"), "{head}{answer:?}");
        assert_eq!(!answer.body.starts_with('{'), plain, "{head}{body}");
        assert_eq!(answer.header("content-type"), Some(if plain { "text/plain" } else { "application/json" }));
    }
    let query = format!("/v1/acquire?{form}");
    assert_eq!(daemon.call("POST", &query, "", "").body, "allow.free service", "everything in the query");
    let chunked = format!(
        "POST /v1/acquire HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{json}\r\n0\r\n\r\n",
        json.len()
    );
    assert_eq!(daemon.send(&chunked).decision(), "allow.free service");
    let answer = daemon.call("POST", "/v1/acquire", "Content-Type: text/xml\r\n", "<a/>");
    assert_eq!(answer.status, 415);
}

#[test]
fn many_requests_share_a_connection() {
    use std::io::{Read as _, Write as _};
    let daemon = Running::start("", &[("acme", TWO)]);
    let body = "tenant=acme&session=c1&kind=call&direction=inbound";
    let mut stream = client::tcp(daemon.address());
    for _ in 0..3 {
        let request = format!(
            "POST /v1/acquire HTTP/1.1\r\nHost: localhost\r\n{FORM}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"inbound") {
            let mut part = [0; 1_024];
            let read = stream.read(&mut part).unwrap();
            assert!(read > 0, "closed");
            answer.extend_from_slice(&part[..read]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
}

#[test]
fn only_a_denial_that_asked_for_it_is_403() {
    let daemon = Running::start("", &[("acme", &TWO.replace("= 2", "= 0"))]);
    let ask = |status: &str, rest: &str| {
        daemon.form(&format!("/v1/acquire{status}"), &format!("tenant=acme&subject=a&session=s&ttl_s=9&{rest}"))
    };
    let outbound = "kind=call&direction=outbound";
    for (status, rest, want) in [
        ("", outbound, 200),
        ("?status=0", outbound, 200),
        ("?status=1", outbound, 403),
        ("", "kind=call&direction=outbound&status=1", 403),
        ("?status=1", "kind=call&direction=inbound", 200),
        ("?status=1", "kind=call", 400),
    ] {
        assert_eq!(ask(status, rest).status, want, "{status} {rest}");
    }
    let body = json!({ "tenant": "acme", "subject": "a", "session": "s", "kind": "desktop", "ttl_s": 9, "status": 1 });
    let denied = daemon.post("/v1/acquire", &body);
    assert_eq!(
        (denied.status, denied.json()["sip_code"].as_u64(), denied.json()["retry_after_s"].as_u64()),
        (403, Some(403), Some(60))
    );
    let release = daemon.form("/v1/release?status=1", "tenant=acme&session=nothing");
    assert_eq!((release.status, release.body.as_str()), (200, "released.none"));
}

#[test]
fn a_batch_answers_each_operation_in_its_place() {
    let daemon = Running::start("[server]\nbatch_operations_max = 6\n", &[("acme", TWO)]);
    let desk = |subject: &str| json!({ "op": "acquire", "tenant": "acme", "subject": subject, "session": subject, "kind": "desktop", "ttl_s": 60 });
    let ops = json!({ "ops": [desk("a"), { "op": "fly" }, desk("b"), desk("c"), { "op": "acquire", "tenant": "acme", "kind": 7 },
        { "op": "release", "tenant": "acme", "session": "a" }] });
    let answer = daemon.post("/v1/batch", &ops).json();
    let words: Vec<String> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["code"].as_str().map_or_else(|| result["errors"].to_string(), str::to_owned))
        .collect();
    assert_eq!(
        (words[0].as_str(), words[2].as_str(), words[3].as_str(), words[5].as_str()),
        ("allow.new", "allow.new", "deny.full", "released.last")
    );
    assert!(words[1].contains("/op") && words[1].contains("acquire, release"), "{words:?}");
    assert!(words[4].contains("/kind") && words[4].contains("/session"), "{words:?}");
    let before = daemon.get("/v1/tenants/acme/sessions").body;
    let many = json!({ "ops": vec![desk("z"); 7] });
    assert_eq!(daemon.post("/v1/batch", &many).status, 413);
    assert_eq!(daemon.get("/v1/tenants/acme/sessions").body, before);
    assert_eq!(daemon.post("/v1/batch", &json!({ "ops": [] })).json(), json!({ "results": [] }));
    for bad in ["{}", "{\"ops\":7}", "{\"ops\":[", "[]", ""] {
        assert_eq!(daemon.call("POST", "/v1/batch", JSON, bad).status, 400, "{bad}");
    }
}

#[test]
fn lines_are_answered_as_they_come_and_without_a_limit() {
    use std::io::{Read as _, Write as _};
    let daemon = Running::start("[server]\nbatch_operations_max = 5\nmax_body_bytes = 1024\n", &[("acme", TWO)]);
    let head = "POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
    let line = |n: usize| {
        format!(
            "{{\"op\":\"acquire\",\"tenant\":\"acme\",\"subject\":\"s\",\"session\":\"c{n}\",\"kind\":\"phone\"}}\n"
        )
    };
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let mut stream = client::tcp(daemon.address());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(chunk(&line(0)).as_bytes()).unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"}\n\r\n") {
        let mut part = [0; 4_096];
        let read = stream.read(&mut part).unwrap();
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&part[..read]);
    }
    assert!(
        String::from_utf8_lossy(&seen).contains("allow.free"),
        "the first answer is here before the second line is sent"
    );
    let mut more: String = (1..2_000).map(line).collect();
    more.push_str("oops\n");
    more.push_str(&format!("{{\"op\":\"acquire\",\"to\":\"{}\"}}\n", "9".repeat(2_000)));
    // The last line needs no end.
    more.push_str("{\"op\":\"release\",\"tenant\":\"acme\",\"session\":\"c1\"}");
    stream.write_all(chunk(&more).as_bytes()).unwrap();
    stream.write_all(b"0\r\n\r\n").unwrap();
    stream.read_to_end(&mut seen).unwrap();
    let answer = Answer::parse(&seen);
    spec::check("POST", "/v1/batch", &answer);
    let lines = spec::lines(&answer.body);
    assert_eq!(lines.len(), 2_003);
    assert!(lines[..2_000].iter().all(|line| line["code"] == "allow.free"));
    assert_eq!((&lines[2_000]["status"], &lines[2_001]["status"]), (&json!(400), &json!(400)));
    assert_eq!(lines[2_002]["code"], "released.none");
}

#[test]
fn an_explanation_matches_the_acquire_and_changes_nothing() {
    let daemon = Running::start("", &[("acme", TWO)]);
    let seen = || [daemon.get("/v1/tenants/acme").body, daemon.get("/v1/tenants/acme/sessions").body];
    for rest in [
        "subject=anna&session=d1&kind=desktop&ttl_s=60",
        "subject=anna&session=c1&kind=call&direction=outbound&ttl_s=60",
        "subject=bob&session=d2&kind=desktop&ttl_s=60",
        "subject=cara&session=d3&kind=desktop&ttl_s=60",
        "subject=bob&session=d1&kind=desktop&ttl_s=60",
        "session=c3&kind=call&direction=inbound",
        "to=112&kind=call",
        "subject=lift&session=l1&kind=call&direction=outbound&class=lift&ttl_s=60",
    ] {
        let form = format!("tenant=acme&{rest}");
        let before = seen();
        let explained = daemon.form("/v1/explain", &form);
        assert_eq!(seen(), before);
        let acquired = daemon.form("/v1/acquire", &form);
        assert_eq!(explained.decision(), acquired.body, "{rest}");
        let steps = explained.json()["steps"].as_array().unwrap().len();
        assert!(
            steps > 0
                && explained.json()["would_allow"].as_array().unwrap().is_empty() == acquired.body.starts_with("allow"),
            "{explained:?}"
        );
    }
    for bad in ["", "tenant=acme&kind=call", "tenant=acme&kind=x"] {
        assert_eq!(daemon.form("/v1/explain", bad).status, 400, "{bad}");
    }
}
