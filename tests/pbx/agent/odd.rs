//! Odd fields of a phone or a trunk, and what a PBX makes of them, cost nobody else a seat.

use usherd_agent::asterisk::Asterisk;
use usherd_agent::kamailio::Kamailio;
use usherd_agent::source::{Act, Machine, Report};

use super::beside::{held, sessions, until_sessions};
use super::switch::Switch;

/// Rows that PBXs were seen to write, or might: a name in Latin-1, half a surrogate, raw control characters, a field of
/// a megabyte, no object, numbers and objects for texts, equal keys, nothing.
fn odd_rows() -> Vec<Vec<u8>> {
    let huge = ["{\"uuid\":\"odd-h\",\"x\":\"", &"x".repeat(1 << 20), "\"}"].concat();
    let mut rows: Vec<Vec<u8>> = vec![
        b"{\"uuid\":\"odd-1\",\"cid_name\":\"J\xfcrgen\"}".to_vec(),
        b"{\"uuid\":\"odd-\xfc\",\"cid_name\":\"\"}".to_vec(),
        huge.into_bytes(),
        b"{\"uuid\":\"odd-2\",\"x\":\"a\0b\x01\x1f\n\"}".to_vec(),
    ];
    for row in [
        r#"{"uuid":"odd-3","x":"\ud800"}"#,
        r#"{"uuid":"odd-4","x":"\q\u12"}"#,
        r#"{"x":1e999999,"uuid":"odd-5"}"#,
        r#"{"uuid":"odd-5","uuid":"odd-6"}"#,
        r#"{"x":,"y" 1,"uuid":17}"#,
        r#"{"uuid":{}}"#,
        r#"{"uuid":""}"#,
        "{}",
        "null",
        "17",
        "\"text\"",
        "[]",
    ] {
        rows.push(row.as_bytes().to_vec());
    }
    rows
}

#[test]
fn a_row_that_cannot_be_read_costs_no_other_channel_its_seat_g9() {
    let switch = Switch::start();
    switch.call("a-1", b"anna");
    switch.now(|carried| carried.rows.extend(odd_rows()));
    switch.call("b-2", b"bob");
    switch.call("j-3", b"J\xfcrgen");
    let place = switch.place(1, "");
    let (daemon, mut agent) = (place.daemon(), place.agent());
    let all = ["call Jürgen j-3", "call anna a-1", "call bob b-2"];
    until_sessions(&daemon, &all);
    agent.until_says("cannot be read and is left out");
    switch.now(|carried| {
        carried.rows.remove(0);
        carried.dumps.remove("a-1");
    });
    until_sessions(&daemon, &[all[0], all[2]]);
    // A row that cannot be read any more may be that of a channel which lives: it is asked for.
    switch.now(|carried| *carried.rows.last_mut().unwrap() = b"17".to_vec());
    let listings = || metric(&place.ask("/metrics", "").1, "usherd_agent_listings_total{source=\"freeswitch\"}");
    let before = listings();
    place.until_agent("two more listings", |_| listings() >= before + 2);
    assert_eq!(sessions(&daemon), [all[0], all[2]]);
    switch.now(|carried| drop(carried.dumps.remove("j-3")));
    until_sessions(&daemon, &[all[2]]);
    agent.signal(rustix::process::Signal::KILL);
    agent.ended();
    // Many rows of several listings are counted, and said once.
    let said = agent.all_said();
    let rows = |line: &&str| line.contains("left out") && line.contains("a row of `show channels` without a uuid");
    assert_eq!(said.lines().filter(rows).count(), 1, "{said}");
    let _agent = place.agent();
    switch.call("c-4", b"cara");
    until_sessions(&daemon, &[all[2], "call cara c-4"]);
    let metrics = place.ask("/metrics", "").1;
    assert!(metric(&metrics, "usherd_agent_rows_unread_total{source=\"freeswitch\"}") > 0, "{metrics}");
}

/// The value of a series; 0 where it is not there.
fn metric(metrics: &str, series: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

#[test]
fn a_strange_event_frees_the_seat_and_a_broken_one_is_counted() {
    let switch = Switch::start();
    switch.call("a-1", b"anna");
    switch.call("b-2", b"bob");
    let place = switch.place(3_600, "");
    let (daemon, mut agent) = (place.daemon(), place.agent());
    until_sessions(&daemon, &["call anna a-1", "call bob b-2"]);
    for event in ["{\"Event-Name\":\"CHANNEL_HANGUP_COMPLETE\",\"Unique-ID\":{}}", "null", "{"] {
        switch.event(event.as_bytes());
    }
    switch.event(
        b"{\"Event-Name\":\"CHANNEL_HANGUP_COMPLETE\",\"Caller-Caller-ID-Name\":\"J\xfcrgen\",\"x\":\"\\ud800\0\",\"Unique-ID\":\"a-1\"}",
    );
    until_sessions(&daemon, &["call bob b-2"]);
    agent.until_says("an event of a channel without a Unique-ID");
    agent.until_says("an event without a name");
    // What breaks off names its channel, and no session.
    switch.event(
        b"{\"Event-Name\":\"CHANNEL_ANSWER\",\"Unique-ID\":\"c-3\",\"variable_usherd_code\":\"allow\",\"variable_usherd_subject\":\"c\",\"y\":\"\xff",
    );
    switch.event(b"{\"Event-Name\":\"CHANNEL_HANGUP_COMPLETE\",\"Unique-ID\":\"b-2\",\"y\":\"\xff");
    until_sessions(&daemon, &[]);
}

#[test]
fn a_list_that_breaks_off_ends_nothing_and_what_is_in_it_lives() {
    let switch = Switch::start();
    switch.call("a-1", b"anna");
    switch.call("b-2", b"bob");
    switch.now(|carried| carried.cut = 1);
    let place = switch.place(1, "");
    let (daemon, mut agent) = (place.daemon(), place.agent());
    until_sessions(&daemon, &["call anna a-1", "call bob b-2"]);
    switch.now(|carried| drop(carried.rows.remove(0)));
    agent.until_says("the list breaks off");
    agent.until_says("the list breaks off");
    assert_eq!(held(&daemon), 2, "nobody knows what was cut off");
    switch.now(|carried| carried.cut = 0);
    until_sessions(&daemon, &["call bob b-2"]);
}

#[test]
fn a_channel_that_is_listed_but_not_there_loses_its_seat() {
    let switch = Switch::start();
    for number in 0..5 {
        switch.call(&format!("c-{number}"), format!("s{number}").as_bytes());
    }
    let place = switch.place(1, "");
    let (daemon, _agent) = (place.daemon(), place.agent());
    let all: Vec<String> = (0..5).map(|number| format!("call s{number} c-{number}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    until_sessions(&daemon, &all);
    switch.now(|carried| drop(carried.dumps.remove("c-2")));
    until_sessions(&daemon, &[all[0], all[1], all[3], all[4]]);
}

#[test]
fn a_device_of_any_name_is_counted() {
    let switch = Switch::start();
    let long = "x".repeat(127 - "-desk@acme.example".len());
    switch.now(|carried| {
        carried.registrations = [b"zo\xc3\xab".as_slice(), b"J\xfcrgen", b"\\u0007bell", long.as_bytes()]
            .map(|name| [b"{\"realm\":\"acme.example\",\"reg_user\":\"", name, b"-desk\"}"].concat())
            .to_vec();
        carried.registrations.push(b"{\"realm\":\"acme.example\",\"reg_user\":1001}".to_vec());
        carried.registrations.push(b"{\"realm\":\"acme.example\"}".to_vec());
    });
    let rule = "[[freeswitch.presence]]\ndevice = \"*@acme.example\"\nsubject = \"*\"\nkind = \"desktop\"\n";
    let place = switch.place(1, rule);
    let (daemon, _agent) = (place.daemon(), place.agent());
    let zoe = "desktop zoë-desk pbx-1-freeswitch-zo%C3%AB-desk@acme.example~49ebcc967ad714ee";
    usherd_testkit::wait::eventually("every device", || (held(&daemon) == 5).then_some(()));
    let there = sessions(&daemon);
    assert!(there.contains(&zoe.to_owned()), "{there:?}");
    assert!(there.contains(&"desktop 1001 pbx-1-freeswitch-1001@acme.example".to_owned()), "{there:?}");
    assert!(there.iter().any(|one| one.contains(&long)), "{there:?}");
}

/// Everything that a machine tells of an answer, in one text.
fn told(machine: &mut dyn Machine, opening: &[u8], answer: &[u8]) -> (Vec<Report>, String) {
    let mut acts = Vec::new();
    machine.opened(&mut acts);
    machine.feed(opening, &mut acts);
    if !opening.is_empty() {
        machine.list(&mut acts);
    }
    acts.clear();
    machine.feed(answer, &mut acts);
    let reports = acts.into_iter().filter_map(|act| if let Act::Tell(report) = act { Some(report) } else { None });
    let reports: Vec<Report> = reports.collect();
    let shown = format!("{reports:?}");
    (reports, shown)
}

fn live(reports: &[Report]) -> Vec<&str> {
    let listed =
        reports.iter().find_map(|report| if let Report::Live(channels) = report { Some(channels) } else { None });
    listed.map_or(Vec::new(), |channels| channels.iter().map(|channel| channel.id.as_str()).collect())
}

#[test]
fn an_unreadable_kamailio_dialog_costs_no_other_its_seat() {
    let head =
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[{\"call-id\":\"a\",\"state\":4,\"caller\":{\"tag\":\"J\xfc\"}}";
    for (row, unread) in [
        (&b"{\"call-id\":\"b\",\"state\":\"4\",\"from_uri\":\"sip:J\xfcrgen@x\",\"x\":\"\\ud800\0\"}"[..], 0),
        (b"{\"call-id\":\"b\",\"state\":null,\"state\":4,\"variables\":[17,{\"usherd_subject\":\"J\xfc\"},{\"n\":{}}]}", 0),
        (b"{\"call-id\":17,\"call-id\":\"b\"}", 0),
        (b"{\"state\":4}", 1),
        (b"null", 1),
        (b"\"b\"", 1),
    ] {
        let body = [head, &b","[..], row, b",{\"call-id\":\"c\",\"state\":4}]}"].concat();
        let answer = [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
        let (reports, shown) = told(&mut Kamailio::new("h", "/RPC"), b"", &answer);
        let expected: &[&str] = if unread == 1 { &["a", "c"] } else { &["a", "b", "c"] };
        assert_eq!(live(&reports), expected, "{shown}");
        assert_eq!(reports.iter().filter(|report| matches!(report, Report::Unread(_))).count(), unread, "{shown}");
    }
    // It breaks off: what is in it lives, and nothing else is known.
    let body = [head, &b",{\"call-id\":\"b\""[..]].concat();
    let answer = [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
    let (_, shown) = told(&mut Kamailio::new("h", "/RPC"), b"", &answer);
    assert!(
        shown.contains("Started(Channel { id: \"a\"") && shown.contains("Unsure") && !shown.contains("Live"),
        "{shown}"
    );
}

#[test]
fn an_unreadable_asterisk_row_costs_no_other_its_seat() {
    let opening = b"Asterisk Call Manager/9.0.0\r\nResponse: Success\r\n\r\n";
    let row = |lines: &[u8]| [b"Event: Status\r\n", lines, b"ActionID: usherd-list-1\r\n\r\n"].concat();
    let huge = [b"CallerIDName: ", "x".repeat(100_000).as_bytes(), b"\r\nUniqueid: 5\r\n"].concat();
    let many = ["Variable: X=1\r\n".repeat(1_000).as_bytes(), b"Uniqueid: 6\r\n"].concat();
    let rows = [
        row(b"Uniqueid: 1\r\n"),
        row(b"CallerIDName: J\xfcrgen\r\nUniqueid: 2\r\n"),
        row(b"CallerIDName: a\0\x01b\r\nno colon\r\nUniqueid: 3\r\n"),
        row(b"CallerIDName: x\r\n"),
        row(&[b"Uniqueid: ", "y".repeat(10_000).as_bytes(), b"\r\n"].concat()),
        // A line end in a value ends the row before our id comes.
        b"Event: Status\r\nUniqueid: 4\r\nVariable: USHERD_SUBJECT=a\r\n\r\nb\r\nActionID: usherd-list-1\r\n\r\n"
            .to_vec(),
        row(&huge),
        row(&many),
        row(b"Uniqueid: 7\r\nVariable: USHERD_SUBJECT=J\xfcrgen\r\nVariable: USHERD_CODE=allow.new\r\n"),
    ]
    .concat();
    let end = |items: u32| {
        format!("Event: StatusComplete\r\nActionID: usherd-list-1\r\nListItems: {items}\r\n\r\n").into_bytes()
    };
    let (reports, shown) = told(&mut Asterisk::new("u", "s", false), opening, &[rows.clone(), end(9)].concat());
    assert_eq!(live(&reports), ["1", "2", "3", "4", "5", "6", "7"], "{shown}");
    assert!(shown.contains("Jürgen"), "{shown}");
    assert_eq!(reports.iter().filter(|report| matches!(report, Report::Unread(_))).count(), 2, "{shown}");
    let (reports, shown) = told(&mut Asterisk::new("u", "s", false), opening, &[rows, end(10)].concat());
    assert!(live(&reports).is_empty() && shown.contains("Unsure"), "{shown}");
    assert!(reports.iter().filter(|report| matches!(report, Report::Started(_))).count() == 7, "{shown}");
}

#[test]
fn a_list_of_devices_that_lacks_rows_ends_nobodys_presence() {
    let opening = b"Asterisk Call Manager/9.0.0\r\nResponse: Success\r\n\r\n";
    let device = |name: &str, state: &str| {
        format!("Event: DeviceStateChange\r\nDevice: {name}\r\nState: {state}\r\nActionID: usherd-devices\r\n\r\n")
    };
    for (items, whole) in [(3, true), (4, false)] {
        let answer = [
            device("SIP/a", "INUSE"),
            device("SIP/b", "UNAVAILABLE"),
            device("", "INUSE"),
            format!("Event: DeviceStateListComplete\r\nActionID: usherd-devices\r\nListItems: {items}\r\n\r\n"),
        ];
        let (reports, shown) = told(&mut Asterisk::new("u", "s", true), opening, answer.concat().as_bytes());
        assert_eq!(reports.contains(&Report::Present(vec!["SIP/a".to_owned()])), whole, "{shown}");
        assert_eq!(shown.contains("UnsureOfDevices"), !whole, "{shown}");
        assert!(whole || shown.contains("on: true"), "{shown}");
    }
}
