//! Sessions that live at a PBX live at the daemon, and those that end there end here.

use super::beside::{Place, held, sessions, until_sessions};
use super::fake::Fake;
use super::switch::Switch;

fn asterisk(fake: &Fake, more: &str) -> Place {
    Place::new(&format!(
        "[asterisk]\naddress = \"{}\"\nuser = \"usherd\"\nsecret_file = \"secret\"\nsilence_s = 2\n{more}",
        fake.address
    ))
}

#[test]
fn a_running_call_is_adopted_and_its_hangup_frees_it_g7_g9() {
    let fake = Fake::play("asterisk-call.txt");
    let place = asterisk(&fake, "");
    let (daemon, _agent) = (place.daemon(), place.agent());
    fake.reached("hangup");
    until_sessions(&daemon, &["call anna pbx-1-1719.1"]);
    assert_eq!(held(&daemon), 1, "bob was refused, and the trunk is nobody");
    fake.open("hangup");
    until_sessions(&daemon, &[]);
    assert_eq!(held(&daemon), 0);
    place.until_agent("the spool to be empty", |look| look["releases_waiting"] == 0);
}

#[test]
fn a_call_that_no_listing_showed_is_released_despite_its_ttl() {
    let fake = Fake::play("asterisk-unseen.txt");
    let place = asterisk(&fake, "list_s = 1\n");
    let (daemon, _agent) = (place.daemon(), place.agent());
    fake.reached("listed");
    place.until_connected();
    for session in ["pbx-1-1719.9", "fax-17"] {
        let form = format!("subject=anna&session={session}&kind=call&direction=outbound&ttl_s=14400");
        assert_eq!(place.ask("/v1/acquire", &form).0, 200);
    }
    assert_eq!(sessions(&daemon), ["call anna fax-17", "call anna pbx-1-1719.9"]);
    fake.open("listed");
    fake.reached("end");
    // What is not named as a channel of this PBX is nothing that it would list.
    until_sessions(&daemon, &["call anna fax-17"]);
}

#[test]
fn a_cut_connection_releases_nothing_until_a_new_listing() {
    let fake = Fake::play("asterisk-cut.txt");
    let place = asterisk(&fake, "");
    let (daemon, mut agent) = (place.daemon(), place.agent());
    fake.reached("listed");
    until_sessions(&daemon, &["call anna c1", "call bob c2"]);
    for gate in ["listed", "cut"] {
        fake.open(gate);
        fake.reached(if gate == "listed" { "cut" } else { "cut again" });
        agent.until_says("the PBX cannot be asked");
        assert_eq!(sessions(&daemon), ["call anna c1", "call bob c2"], "after {gate}");
    }
    fake.open("cut again");
    fake.reached("end");
    until_sessions(&daemon, &["call bob c2", "call cara c3"]);
}

#[test]
fn a_refused_login_and_a_short_listing_change_nothing() {
    let fake = Fake::play("asterisk-refused.txt");
    let place = asterisk(&fake, "");
    let (daemon, mut agent) = (place.daemon(), place.agent());
    let said = agent.until_says("the PBX cannot be asked");
    assert!(said.contains("Authentication failed") && !said.contains("manager-secret"), "{said}");
    assert_eq!(place.acquire("anna", "1719.9"), "allow.new");
    fake.reached("refused");
    fake.open("refused");
    agent.until_says("rows of the listing are missing");
    fake.reached("short");
    fake.open("short");
    assert!(agent.until_says("no Asterisk manager").contains("SSH-2.0"));
    fake.reached("other");
    fake.open("other");
    agent.until_says("said nothing for 2 s");
    assert_eq!(sessions(&daemon), ["call anna 1719.9"]);
    assert_eq!(place.release("1719.9"), "released.last");
}

#[test]
fn a_desktop_comes_and_goes_and_a_sleeping_mobile_stays_b1_b2() {
    let fake = Fake::play("asterisk-presence.txt");
    let place = asterisk(
        &fake,
        "[[asterisk.presence]]\ndevice = \"Custom:client-*\"\nsubject = \"*\"\nkind = \"desktop\"\n\
         [[asterisk.presence]]\ndevice = \"PJSIP/*-mobile\"\nsubject = \"*\"\nkind = \"mobile\"\n",
    );
    let (daemon, _agent) = (place.daemon(), place.agent());
    let mobile = "mobile bob pbx-1-asterisk-PJSIP/bob-mobile";
    until_sessions(&daemon, &["desktop anna pbx-1-asterisk-Custom:client-anna", mobile]);
    fake.reached("present");
    fake.open("present");
    until_sessions(&daemon, &["desktop cara pbx-1-asterisk-Custom:client-cara", mobile]);
    assert_eq!(held(&daemon), 2);
}

#[test]
fn channels_and_registrations_of_freeswitch_come_and_go() {
    let fake = Fake::play("freeswitch-call.txt");
    let place = Place::new(&format!(
        "[freeswitch]\naddress = \"{}\"\npassword_file = \"password\"\n\
         [[freeswitch.presence]]\ndevice = \"*-desk@acme.example\"\nsubject = \"*\"\nkind = \"desktop\"\n",
        fake.address
    ));
    let (daemon, _agent) = (place.daemon(), place.agent());
    let desk = |name: &str| format!("desktop {name} pbx-1-freeswitch-{name}-desk@acme.example");
    fake.reached("listed");
    until_sessions(&daemon, &["call anna fs-aaaa-1", &desk("dora")]);
    fake.open("listed");
    fake.reached("changed");
    until_sessions(&daemon, &["call bob cccc-3", &desk("dora"), &desk("emil")]);
    fake.open("changed");
    until_sessions(&daemon, &[]);
    assert_eq!(held(&daemon), 0);
}

#[test]
fn a_released_call_is_not_adopted_by_its_hangup_events() {
    let switch = Switch::start();
    let place = switch.place(1, "");
    let (daemon, _agent) = (place.daemon(), place.agent());
    let event = |name: &str, uuid: &str, subject: &str| {
        switch.event(
            format!(
                "{{\"Event-Name\":\"{name}\",\"Unique-ID\":\"{uuid}\",\"variable_usherd_session\":\"s-{uuid}\",\
                 \"variable_usherd_subject\":\"{subject}\",\"variable_usherd_code\":\"allow.new\"}}"
            )
            .as_bytes(),
        );
    };
    place.until_agent("the PBX", |look| look["sources"][0]["connected"] == true);
    let listings = || {
        let metrics = place.ask("/metrics", "").1;
        let line =
            metrics.lines().find_map(|line| line.strip_prefix("usherd_agent_listings_total{source=\"freeswitch\"} "));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    for number in 0..20 {
        let uuid = format!("u-{number}");
        switch.now(|carried| carried.rows = vec![format!("{{\"uuid\":\"{uuid}\"}}").into_bytes()]);
        assert_eq!(place.acquire("anna", &format!("s-{uuid}")), "allow.new");
        if number % 2 == 0 {
            event("CHANNEL_ANSWER", &uuid, "anna");
        }
        assert_eq!(place.release(&format!("s-{uuid}")), "released.last");
        event("CHANNEL_PROGRESS", &uuid, "anna");
        if number % 10 == 0 {
            // It is listed, too, after its end.
            let before = listings();
            place.until_agent("two listings", |_| listings() >= before + 2);
        }
        event("CHANNEL_HANGUP_COMPLETE", &uuid, "anna");
    }
    event("CHANNEL_ANSWER", "last", "bob");
    until_sessions(&daemon, &["call bob s-last"]);
    assert!(place.ask("/metrics", "").1.contains("usherd_agent_adopted_total 1\n"), "bob's alone");
}
