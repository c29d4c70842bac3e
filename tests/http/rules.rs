//! Scenarios of the rule book, over HTTP and over RESP, one row of data each.
//!
//! A step is an action and what comes of it, separated by `=>`:
//! `+ANNA KIND [field=value ...]` acquires (session = the word after `#`, else the subject), `-SESSION [...]`
//! releases, `hello|beat|bye NODE EPOCH`, `inv NODE EPOCH SEQ SESSION:SUBJECT:KIND ...`, `wait SECONDS`,
//! `conf TEXT` rewrites the tenant's file and reloads, `watch TEXT` rewrites it and lets the daemon see it,
//! `restart`, `H` asks for held/over. Kinds: d desktop, m mobile, g guest, p phone, k connector, o outbound,
//! i internal, in inbound.

use serde_json::{Map, Value, json};
use usherd_testkit::files::write_tenant;

use crate::daemon::Running;
use crate::resp;

struct Scenario {
    id: &'static str,
    /// Lines of `usherd.toml`.
    main: &'static str,
    /// Lines of the tenant's file, behind kind and start.
    tenant: &'static str,
    steps: &'static [&'static str],
}

const fn row(id: &'static str, tenant: &'static str, steps: &'static [&'static str]) -> Scenario {
    Scenario { id, main: "", tenant, steps }
}

const HEAD: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\n";

// A row is one thing to read, not ten lines.
#[rustfmt::skip]
const ROWS: &[Scenario] = &[
    row("T001", "seats = 2", &["+anna d#d1 => allow.new", "H => 1/0", "-d1 => released.last", "+bob d#d2 => allow.new", "H => 1/0"]),
    row("T002", "seats = 1", &["+anna d#d1 => allow.new", "-d1 => released.last", "+bob d#d2 => allow.new", "H => 1/0"]),
    row("T004", "seats = 1", &["+anna d#d1 => allow.new", "+anna d#d1b => allow.held", "H => 1/0", "-d1 => released.more", "-d1b => released.last", "H => 0/0"]),
    row("T005", "seats = 1", &["+anna m#m1 => allow.new", "wait 8640000 =>", "H => 1/0"]),
    row("T007", "seats = 1", &["+anna m#m1 => allow.new", "+anna d#d1 => allow.held", "-m1 => released.more", "H => 1/0"]),
    row("T008", "seats = 1", &["+x d => allow.new", "+anna m#m1 => deny.full tenant", "-m1 => released.none"]),
    row("T010", "seats = 1", &["+anna m#m1 => allow.new", "+anna m#m2 => allow.held", "-m1 => released.more", "-m2 => released.last"]),
    row("T013", "seats = 2", &["+anna d => allow.new", "+g1 g => allow.new", "+g2 g => deny.full tenant", "-g1 => released.last", "H => 1/0"]),
    row("T014", "seats = 1\nsessions.guests = \"free\"", &["+x d => allow.new", "+g1 g => allow.free guest"]),
    row("T016", "seats = 0", &["+- in#c1 => allow.free inbound", "+bob o#c2 => deny.full tenant"]),
    row("T017", "seats = 1", &["+bob o#c1 => allow.new", "-c1 => released.last"]),
    row("T019", "seats = 1", &["+x d => allow.new", "+bob i#c1 => deny.full tenant"]),
    row("T020", "seats = 1\nsessions.internal_calls = \"free\"", &["+x d => allow.new", "+bob i#c1 => allow.free internal"]),
    row("T022", "seats = 1", &["+bob o#c1 => allow.new", "+bob d#d1 => allow.held", "-c1 => released.more", "-d1 => released.last"]),
    row("T023", "seats = 1", &["+x d#dx => allow.new", "+bob in#c1 => allow.free inbound", "+bob d#d1 => deny.full tenant", "-dx => released.last", "+bob d#d1 => allow.new"]),
    row("T025", "seats = 1", &["+x d => allow.new", "+bob o#c2 leg=deliver => allow.free inbound"]),
    row("T026", "seats = 1", &["+bob in#c1 => allow.free inbound", "+bob o#c2 => allow.new", "-c2 why=transfer => released.last", "H => 0/0"]),
    row("C7", "seats = 1\nsessions.transfer_out = \"charge_until_end\"", &["+bob o#c2 => allow.new", "-c2 why=transfer => released.more linger", "H => 1/0", "-c2 => released.last"]),
    row("C8", "seats = 1\nsessions.transferred_outbound = \"follow\"", &["+x d => allow.new", "+bob o#c1 leg=deliver external=false => allow.over", "H => 2/1", "+eve o#c2 leg=deliver external=true => allow.free inbound"]),
    row("T028", "seats = 1", &["+bob o#c1 => allow.new", "-c1 => released.last", "+cara o#c2 leg=deliver => allow.free inbound"]),
    row("T034", "seats = 1", &["+x d => allow.new", "+bob i#c1 leg=service => allow.free service"]),
    row("T035", "seats = 1", &["+x d => allow.new", "+- o#c1 leg=system => allow.free system"]),
    row("T037a", "seats = 1\ncancel_at = \"2026-07-01\"", &["+bob o#c1 to=112 => allow.free emergency", "+bob o#c2 => deny.inactive ended"]),
    row("T037b", "seats = 1", &["+bob o#c1 to=112 tenant=nobody => allow.free emergency", "+bob o#c2 tenant=nobody => deny.unknown_tenant", "+bob in#c3 tenant=nobody => allow.free inbound"]),
    row("T038", "seats = 1", &["+anna d#d1 => allow.new", "+anna o#c1 => allow.held", "-d1 => released.more", "-c1 => released.last"]),
    row("T043", "seats = 2", &["+anna o#c1 => allow.new", "+bob o#c2 => allow.new", "+bob o#c1 => deny.conflict", "H => 2/0"]),
    row("T044", "seats = 1", &["+anna m => allow.new", "+anna o#c1 device=mobile => allow.held"]),
    row("T049", "seats = 1", &["+door o#b1 class=door => allow.new", "-b1 => released.last", "+x d => allow.new", "+door o#b2 class=door => deny.full tenant"]),
    row("T050", "seats = 1\nsessions.never_deny = [\"lift\", \"door\"]", &["+x d => allow.new", "+door o#b2 class=door => allow.over", "H => 2/1"]),
    row("T052", "seats = 1\ncancel_at = \"2026-07-01\"", &["+lift o#l1 class=lift => allow.free lifeline"]),
    row("T053", "seats = 2", &["+101 o class=room => allow.new", "+102 o class=room => allow.new", "+103 o class=room => deny.full tenant", "+103 in#c9 => allow.free inbound"]),
    Scenario { id: "T055", main: "[server]\nreload_seats_dropped_max_percent = 100\n", tenant: "seats = 4", steps: &["+a d => allow.new", "+b d => allow.new", "+c d => allow.new", "+e d => allow.new", "watch seats = 2 => 2", "H => 4/2", "+a o#c1 => allow.held", "+n d => deny.full tenant", "-e => released.last", "-c => released.last", "+n d => deny.full tenant", "-b => released.last", "+n d => allow.new"] },
    row("T056", "seats = 1", &["+a d => allow.new", "+b d => deny.full tenant", "conf seats = 2 => 200", "+b d => allow.new"]),
    row("T058", "seats = 2", &["+a d => allow.new", "+b d => allow.new", "+bob o#c1 existing=true => allow.over", "H => 3/1", "-c1 => released.last"]),
    row("T059", "seats = 3\nreserve.desk = 2", &["+a d => allow.new", "+b d => deny.full reservation", "+r1 d group=desk => allow.new", "+r2 d group=desk => allow.new", "+r3 d group=desk => deny.full tenant"]),
    row("T061", "seats = 1", &["+anna d => allow.new", "+anna d#d2 tenant=other => allow.new"]),
    row("T062", "seats = 1", &["hello n1 1 => 200", "hello n2 1 => 200", "+anna d#d1 node=n1 => allow.new", "+anna o#c1 node=n2 => allow.held", "H => 1/0", "-d1 node=n1 => released.more", "-c1 node=n2 => released.last"]),
    row("T064", "seats = 1", &["+anna o#c1 node=n1 epoch=1 seq=5 => allow.new", "-c1 node=n1 epoch=1 seq=6 => released.last", "-c1 node=n1 epoch=1 seq=6 => released.none"]),
    row("T065", "seats = 1", &["hello n1 1 => 200", "-c1 node=n1 epoch=1 seq=6 => released.none", "+anna o#c1 node=n1 epoch=1 seq=5 => ignore.stale", "H => 0/0"]),
    row("T067", "seats = 1", &["hello n1 1 => 200", "+anna o#c1 node=n1 epoch=1 seq=9 => allow.new", "-c1 node=n1 epoch=1 seq=6 => ignore.stale", "-c1 node=n2 => ignore.stale", "H => 1/0"]),
    row("T068", "seats = 1", &["+x d => allow.new", "+y d => deny.full tenant", "+y d => deny.full tenant", "-x => released.last", "+y d => allow.new"]),
    row("T070", "seats = 1", &["hello n1 1 => 200", "hello n2 1 => 200", "+anna d#d1 node=n1 => allow.new", "wait 10 =>", "beat n2 1 => 200", "wait 6 =>", "+anna d#d1 node=n2 => allow.same", "wait 12 =>", "beat n2 1 => 200", "wait 12 =>", "beat n2 1 => 200", "wait 12 =>", "H => 1/0"]),
    row("T071", "seats = 1", &["hello n1 1 => 200", "hello n2 1 => 200", "+anna d#d1 node=n1 => allow.new", "wait 10 =>", "+anna d#d2 node=n2 => allow.held", "wait 10 =>", "beat n2 1 => 200", "wait 14 =>", "beat n2 1 => 200", "wait 14 =>", "beat n2 1 => 200", "wait 4 =>", "H => 1/0", "-d1 => released.none", "-d2 node=n2 => released.last"]),
    row("T073", "seats = 2", &["hello n1 1 => 200", "+anna o#c1 node=n1 epoch=1 seq=1 => allow.new", "+bob d#d1 node=n1 epoch=1 seq=2 => allow.new", "hello n1 2 => 200", "H => 1/0", "+x d => allow.new", "+y d => deny.full tenant", "wait 5 =>", "+bob d#d1 node=n1 epoch=2 seq=1 => allow.same"]),
    row("T074", "seats = 2", &["hello n1 1 => 200", "+bob d#d1 node=n1 epoch=1 seq=2 => allow.new", "hello n1 2 => 200", "wait 14 =>", "beat n1 2 => 200", "wait 14 =>", "H => 1/0", "wait 2 =>", "H => 0/0"]),
    row("T076", "seats = 1", &["hello n1 1 => 200", "+anna m#m1 node=n1 epoch=1 seq=5 => allow.new", "-m1 node=n1 epoch=1 seq=6 => released.last", "wait 10 =>", "+anna m#m1 node=n1 epoch=1 seq=7 => allow.new"]),
    row("T077", "seats = 2", &["hello n1 1 => 200", "+anna d#d1 node=n1 epoch=1 seq=1 => allow.new", "+bob m#m1 => allow.new", "restart =>", "H => 2/0", "beat n1 1 => 409", "hello n1 1 => 200", "wait 10 =>", "+anna d#d1 node=n1 epoch=1 seq=2 => allow.same", "beat n1 1 => 200", "H => 2/0"]),
    row("T079", "seats = 1", &["+bob o#c1 ttl_s=3600 => allow.new", "wait 3599 =>", "H => 1/0", "wait 1 =>", "H => 0/0"]),
    row("T080", "seats = 1", &["+bob o#c1 ttl_s=60 => allow.new", "wait 50 =>", "+bob o#c1 ttl_s=60 => allow.same", "wait 50 =>", "H => 1/0", "wait 10 =>", "H => 0/0"]),
    row("T082", "seats = 3", &["+anna d => allow.new", "conf seats = 3\nsuspended = true => 200", "+anna o#c1 => deny.inactive suspended", "+bob d => deny.inactive suspended", "+bob in#c2 => allow.free inbound", "conf seats = 3 => 200", "+anna o#c1 => allow.held"]),
    row("T103", "seats = 3\nchange = [{ effective_at = 2026-11-23, seats = 1 }]", &["+a d ttl_s=86400 => allow.new", "+b d ttl_s=86400 => allow.new", "wait 40000 =>", "H => 2/1", "+c d => deny.full tenant", "-a => released.last", "+c d => deny.full tenant", "-b => released.last", "+c d => allow.new"]),
    row("T118", "seats = 16", &["conf seats = -1 => partly", "conf seats = 1.5 => partly", "conf seatz = 1 => partly", "+anna d => allow.new", "H => 1/0"]),
    row("T164", "seats = 1", &["+u-17 d#d1 => allow.new", "+u-17 d#d2 => allow.held"]),
    row("T167", "seats = 5", &["+desk-7 p => allow.free service", "+crm k => allow.free connector", "H => 0/0"]),
    row("T175", "seats = 2", &["+anna o#c1 ttl_s=3600 => allow.new", "+bob o#c2 ttl_s=3600 => allow.new", "wait 600 =>", "restart =>", "H => 2/0", "wait 61 =>", "H => 2/0", "+cara o#c3 ttl_s=60 => deny.full tenant", "wait 3529 =>", "+anna o#c1 ttl_s=3600 => allow.same"]),
    row("T176", "seats = 2", &["+anna o#c1 node=n1 epoch=1 seq=1 ttl_s=3600 => allow.new", "+bob o#c2 node=n1 epoch=1 seq=2 ttl_s=3600 => allow.new", "wait 600 =>", "restart =>", "wait 61 =>", "H => 2/0", "+cara o#c3 ttl_s=60 => deny.full tenant", "wait 3529 =>", "+anna o#c1 node=n1 epoch=1 seq=3 ttl_s=3600 => allow.same"]),
    row("T177", "seats = 2", &["beat n1 1 => 409", "+anna o#c1 node=n1 epoch=1 seq=1 ttl_s=3600 => allow.new", "restart =>", "wait 59 =>", "H => 1/0", "wait 17 =>", "H => 0/0"]),
    row("L3", "seats = 1\ninclusive.channels_per_seat = 1\ninclusive.channels_enforce = true", &["+anna d => allow.new", "+anna o#c1 => allow.held", "+anna o#c2 => deny.full channels", "+- in#c3 => allow.free inbound"]),
    row("E2", "seats = 1\nsessions.seat_linger_ms = 2000", &["+anna d => allow.new", "-anna => released.more linger", "+bob d => deny.full tenant", "wait 2 =>", "+bob d => allow.new"]),
    row("G9", "seats = 5", &["hello n1 1 => 200", "+a o#c1 node=n1 epoch=1 seq=1 => allow.new", "+b o#c2 node=n1 epoch=1 seq=2 => allow.new", "inv n1 1 5 c2:b:o c3:e:o => 200 1 1 1", "H => 2/0", "inv n1 2 6 => 409", "H => 2/0", "bye n1 1 => 200", "beat n1 1 => 409", "wait 30 =>", "H => 0/0"]),
    row("G8", "seats = 5", &["beat n1 1 => 409", "hello n1 3 => 200", "beat n1 3 => 200", "beat n1 2 => 409", "hello n1 2 => 409", "wait 15 =>", "beat n1 3 => 409", "hello n1 3 => 200", "beat n1 3 => 200"]),
    Scenario {
        id: "D4",
        main: "default_tenant = \"other\"",
        tenant: "seats = 1",
        steps: &["+anna d tenant=nobody => allow.new", "+anna d tenant=somebody => deny.full tenant", "-anna tenant=nobody => released.last"],
    },
    Scenario {
        id: "F7",
        main: "[[pool]]\nid = \"p\"\nseats = 1\noversubscribe = true",
        tenant: "seats = 5\npool = \"p\"",
        steps: &["+anna d => allow.new", "+bob d => deny.full pool", "-anna => released.last", "+bob d => allow.new"],
    },
];

#[test]
fn the_rule_book_over_http() {
    let scenarios = ROWS.iter().filter(|row| row.id.starts_with('T')).count();
    assert!(scenarios >= 30, "{scenarios}");
    for row in ROWS {
        play(row, Over::Http);
    }
}

#[test]
fn the_rule_book_over_resp() {
    ROWS.iter().for_each(|row| play(row, Over::Resp));
}

/// The protocol of decisions and of the calls of nodes.
#[derive(Clone, Copy, PartialEq)]
enum Over {
    Http,
    Resp,
}

fn play(row: &Scenario, over: Over) {
    let acme = format!("{HEAD}{}\n", row.tenant);
    let other = format!("{HEAD}seats = 1\n");
    let main = format!("{}\n{}", row.main, if over == Over::Resp { resp::LISTENER } else { "" });
    let mut daemon = Running::start(&main, &[("acme", &acme), ("other", &other)]);
    for (at, step) in row.steps.iter().enumerate() {
        let (action, expected) = step.split_once("=>").unwrap();
        let got = act(&mut daemon, action.trim(), over);
        assert_eq!(got, expected.trim(), "{} step {at}: {step}", row.id);
    }
}

fn act(daemon: &mut Running, action: &str, over: Over) -> String {
    let (verb, rest) = action.split_once(' ').unwrap_or((action, ""));
    let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
    match verb {
        "H" => {
            let tenant = daemon.get("/v1/tenants/acme").json();
            format!("{}/{}", tenant["held"], tenant["over"])
        }
        "wait" => {
            daemon.advance(words[0].parse().unwrap());
            String::new()
        }
        "restart" => {
            daemon.restart();
            String::new()
        }
        "conf" => {
            let answer = daemon.reload_with("acme", &format!("{HEAD}{rest}\n"));
            let partly = answer.status == 200 && answer.json()["code"] == "partly";
            if partly { "partly".to_owned() } else { answer.status.to_string() }
        }
        "watch" => {
            write_tenant(daemon.folder.path(), "acme", &format!("{HEAD}{rest}\n"));
            let seats: u64 = rest.trim_start_matches("seats = ").parse().unwrap();
            daemon.wait_until("the file watch", |daemon| daemon.get("/v1/tenants/acme").json()["quota"] == seats);
            seats.to_string()
        }
        "hello" | "beat" | "bye" => {
            let call = match verb {
                "beat" => "heartbeat",
                "bye" => "goodbye",
                hello => hello,
            };
            if over == Over::Resp {
                let said = resp::ask(daemon, &["CU.NODE", words[0], call, words[1]]);
                return if said == "+ok" { "200" } else { "409" }.to_owned();
            }
            let answer = daemon.form(&format!("/v1/nodes/{}/{call}", words[0]), &format!("epoch={}", words[1]));
            answer.status.to_string()
        }
        "inv" => inventory(daemon, &words),
        verb => decide(daemon, verb, &words, over),
    }
}

fn inventory(daemon: &Running, words: &[&str]) -> String {
    let number = |word: &str| word.parse::<u64>().unwrap();
    let sessions = words[3..].iter().map(|session| {
        let parts: Vec<&str> = session.split(':').collect();
        let mut fields = kind(parts[2]);
        fields.insert("session".into(), json!(parts[0]));
        fields.insert("subject".into(), json!(parts[1]));
        fields.insert("tenant".into(), json!("acme"));
        Value::Object(fields)
    });
    let body = json!({ "epoch": number(words[1]), "seq": number(words[2]), "sessions": sessions.collect::<Vec<_>>() });
    let answer = daemon.post(&format!("/v1/nodes/{}/inventory", words[0]), &body);
    let counts = |json: Value| ["kept", "adopted", "removed"].map(|key| json[key].to_string()).join(" ");
    if answer.status == 200 { format!("200 {}", counts(answer.json())) } else { answer.status.to_string() }
}

fn decide(daemon: &Running, verb: &str, words: &[&str], over: Over) -> String {
    let (acquires, name) = (verb.starts_with('+'), verb[1..].to_owned());
    let mut fields = Map::new();
    let mut rest = words;
    if acquires {
        let (short, session) = words[0].split_once('#').unwrap_or((words[0], &name));
        fields = kind(short);
        fields.insert("session".into(), json!(session));
        if name != "-" {
            fields.insert("subject".into(), json!(name));
        }
        rest = &words[1..];
    } else {
        fields.insert("session".into(), json!(name));
    }
    fields.insert("tenant".into(), json!("acme"));
    for word in rest {
        let (key, value) = word.split_once('=').unwrap();
        // What looks like a number or a flag is one.
        fields.insert(
            key.into(),
            serde_json::from_str(value).ok().filter(|_| key != "to").unwrap_or_else(|| json!(value)),
        );
    }
    if acquires && !fields.contains_key("node") && !fields.contains_key("ttl_s") {
        fields.insert("ttl_s".into(), json!(86_400));
    }
    let lives = fields.contains_key("seq") && fields.get("node").is_some() && !fields.contains_key("ttl_s");
    if acquires && lives {
        // A node that never said hello has no lease.
        fields.insert("ttl_s".into(), json!(86_400));
    }
    let body = Value::Object(fields);
    if over == Over::Resp {
        return resp::ask(daemon, &command(acquires, &body)).trim_start_matches('+').to_owned();
    }
    let explained = acquires.then(|| daemon.post("/v1/explain", &body));
    let answer = daemon.post(if acquires { "/v1/acquire" } else { "/v1/release" }, &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    if let Some(explained) = explained {
        assert_eq!(explained.decision(), answer.decision(), "explain says something else of {body}");
    }
    answer.decision()
}

/// The same as a command: what has a place in it, then the rest by name.
fn command(acquires: bool, body: &Value) -> Vec<String> {
    let placed: &[&str] = if acquires { &["tenant", "subject", "session", "kind"] } else { &["tenant", "session"] };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut words = vec![if acquires { "CU.ACQUIRE" } else { "CU.RELEASE" }.to_owned()];
    words.extend(placed.iter().map(|name| body.get(name).map_or_else(|| "-".to_owned(), text)));
    for (name, value) in body.as_object().unwrap().iter().filter(|(name, _)| !placed.contains(&name.as_str())) {
        words.extend([name.clone(), text(value)]);
    }
    words
}

fn kind(short: &str) -> Map<String, Value> {
    let (kind, direction) = match short {
        "d" => ("desktop", None),
        "m" => ("mobile", None),
        "g" => ("guest", None),
        "p" => ("phone", None),
        "k" => ("connector", None),
        "o" => ("call", Some("outbound")),
        "i" => ("call", Some("internal")),
        "in" => ("call", Some("inbound")),
        other => panic!("{other}"),
    };
    let mut fields = Map::new();
    fields.insert("kind".into(), json!(kind));
    if let Some(direction) = direction {
        fields.insert("direction".into(), json!(direction));
    }
    fields
}
