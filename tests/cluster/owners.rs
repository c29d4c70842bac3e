//! Shards and their owners: every tenant is decided once, whichever daemon is asked, and goes on when one dies.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use usherd::daemon::clock::{Clock as _, SystemClock};
use usherd_testkit::authority::{authority, files_of};
use usherd_testkit::etcd::{Etcd, free_address};
use usherd_testkit::http::{Answer, Client};
use usherd_testkit::process::{Usherd, own_ip};
use usherd_testkit::relay::{Pace, Relay};
use usherd_testkit::wait::{eventually, pause};

use usherd_testkit::cluster::{Fleet, call, hang_up, tenant};

/// Tenants of two seats each.
fn tenants() -> Vec<(String, String)> {
    let ids = (0..12).map(|n| format!("customer-{n}"));
    ids.map(|id| (id.clone(), tenant(&id, 2))).collect()
}

fn fleet(etcd: Etcd, count: usize) -> Fleet {
    let tenants = tenants();
    let tenants: Vec<(&str, &str)> = tenants.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    Fleet::new(etcd, count, "", &tenants)
}

#[test]
fn any_member_takes_any_request_and_one_decides_it() {
    let mut fleet = fleet(Etcd::one(), 3);
    fleet.start_all();
    let mut clients: Vec<_> = (0..3).map(|at| fleet.client(at)).collect();
    for (id, _) in tenants() {
        let decisions: Vec<String> =
            (0..4).map(|n| call(&mut clients[n % 3], &id, &format!("c{n}")).decision()).collect();
        assert_eq!(decisions, ["allow.new", "allow.new", "deny.full tenant", "deny.full tenant"], "{id}");
        assert_eq!(call(&mut clients[2], &id, "c0").decision(), "allow.same", "{id}");
        assert_eq!(hang_up(&mut clients[2], &id, "c0").decision(), "released.last", "{id}");
        assert_eq!(call(&mut clients[1], &id, "c3").decision(), "allow.new", "a freed seat is free at once");
    }
}

#[test]
fn what_an_owner_acknowledged_its_successor_knows() {
    let mut fleet = fleet(Etcd::one(), 3);
    fleet.start_all();
    let mut clients: Vec<_> = (0..3).map(|at| fleet.client(at)).collect();
    for (id, _) in tenants() {
        assert_eq!(call(&mut clients[0], &id, "one").decision(), "allow.new");
        assert_eq!(call(&mut clients[1], &id, "two").decision(), "allow.new");
        assert_eq!(hang_up(&mut clients[2], &id, "one").decision(), "released.last");
    }
    fleet.kill(0);
    for (id, _) in tenants() {
        let decision = eventually("somebody to decide", || {
            let answer = call(&mut clients[1], &id, "three");
            (answer.status == 200).then(|| answer.decision())
        });
        assert!(["allow.new", "allow.same"].contains(&decision.as_str()), "{decision}");
        assert_eq!(call(&mut clients[2], &id, "four").decision(), "deny.full tenant", "{id}");
        assert_eq!(hang_up(&mut clients[1], &id, "two").decision(), "released.last", "{id}");
    }
    eventually("its other shards to be taken over", || (!fleet.owners(1).contains_key("m0")).then_some(()));
    fleet.start(0);
    eventually("its part to come back", || {
        let owners = fleet.owners(0);
        let counts: Vec<usize> = owners.values().map(Vec::len).collect();
        (counts.len() == 3 && counts.iter().all(|count| (5..=6).contains(count))).then_some(())
    });
    let mut back = fleet.client(0);
    for (id, _) in tenants() {
        assert_eq!(call(&mut back, &id, "four").decision(), "allow.new", "{id}");
        assert_eq!(call(&mut clients[1], &id, "five").decision(), "deny.full tenant", "{id}");
    }
}

#[test]
fn etcd_itself_may_lose_a_member() {
    let mut fleet = fleet(Etcd::three(), 2);
    fleet.start_all();
    let mut clients: Vec<_> = (0..2).map(|at| fleet.client(at)).collect();
    for (id, _) in tenants() {
        assert_eq!(call(&mut clients[0], &id, "one").decision(), "allow.new");
    }
    let leader = fleet.etcd.leader();
    fleet.etcd.kill(leader);
    for (id, _) in tenants() {
        let decision = eventually("a new leader", || {
            let answer = call(&mut clients[1], &id, "two");
            let is_settled = answer.status == 200 && !answer.body.contains("no_majority");
            is_settled.then(|| answer.decision())
        });
        assert!(["allow.new", "allow.same"].contains(&decision.as_str()), "{decision}");
        assert_eq!(call(&mut clients[0], &id, "three").decision(), "deny.full tenant", "{id}");
    }
}

/// An instant so many seconds from now, as files write it.
fn in_seconds(seconds: i64) -> String {
    let utc_ms = SystemClock::start().now().utc_ms + seconds * 1_000;
    DateTime::from_timestamp_millis(utc_ms).unwrap().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// How often a member that runs, or ran, said this.
fn said(usherd: &mut Usherd, part: &str) -> usize {
    usherd.all_said().lines().filter(|line| line.contains(part)).count()
}

#[test]
fn what_becomes_due_is_told_once_whoever_owns_it() {
    for owner_dies in [false, true] {
        let due = in_seconds(4);
        let change = format!("[[change]]\neffective_at = \"{due}\"\nseats = 2\n");
        let paid = format!("id = \"acme\"\nkind = \"paid\"\nstart = \"2025-06-16\"\nseats = 1\n{change}");
        let mut fleet = Fleet::new(Etcd::one(), 3, "", &[("acme", &paid)]);
        fleet.start_all();
        let owner = fleet.owner("acme");
        let other = (owner + 1) % 3;
        let mut client = fleet.client(other);
        assert_eq!(call(&mut client, "acme", "one").decision(), "allow.new");
        assert_eq!(call(&mut client, "acme", "two").decision(), "deny.full tenant");
        if owner_dies {
            fleet.kill(owner);
        }
        eventually("the second seat", || {
            let answer = call(&mut client, "acme", "two");
            (answer.status == 200 && answer.decision() == "allow.new").then_some(())
        });
        // Whoever tells does so before the seat is given, or takes the tenant over before.
        let running = fleet.members.iter_mut().filter_map(|member| member.usherd.as_mut());
        let told: Vec<usize> = running.map(|usherd| said(usherd, "a booked change took effect")).collect();
        assert_eq!(told.iter().sum::<usize>(), 1, "{told:?}, owner dies: {owner_dies}");
    }
}

#[test]
fn without_a_majority_calls_go_on_and_new_seats_do_not() {
    let files = [("acme".to_owned(), tenant("acme", 3))];
    let tenants: Vec<(&str, &str)> = files.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    for provisional in [0, 1] {
        let policy = if provisional > 0 { "on_no_majority = \"provisional\"\nprovisional_max = 1" } else { "" };
        let mut fleet = Fleet::new(Etcd::three(), 2, policy, &tenants);
        fleet.start_all();
        let mut client = fleet.client(fleet.owner("acme"));
        assert_eq!(call(&mut client, "acme", "one").decision(), "allow.new");
        assert_eq!(call(&mut client, "acme", "two").decision(), "allow.new");
        fleet.etcd.kill(0);
        fleet.etcd.kill(1);
        // At first it is only slow.
        let mut noticed = |session: &str| {
            eventually("it to be noticed", || {
                Some(call(&mut client, "acme", session)).filter(|answer| answer.status == 200)
            })
        };
        let (first, second) = (noticed("three"), noticed("four"));
        let expected = if provisional > 0 { "allow.new" } else { "deny.inactive no_majority" };
        assert_eq!((first.decision().as_str(), first.is_durable()), (expected, false));
        assert_eq!(second.decision(), "deny.inactive no_majority");
        let renewed = call(&mut client, "acme", "one");
        assert_eq!((renewed.decision().as_str(), renewed.is_durable()), ("allow.same", false));
        assert_eq!(hang_up(&mut client, "acme", "two").decision(), "released.last");
        for free in ["\"direction\":\"inbound\"", "\"direction\":\"outbound\",\"to\":\"112\""] {
            let body = format!(
                "{{\"tenant\":\"acme\",\"subject\":\"x\",\"session\":\"free\",\"kind\":\"call\",{free},\"ttl_s\":9}}"
            );
            assert!(client.post("/v1/acquire", &body).decision().starts_with("allow.free"), "{free}");
        }
        fleet.etcd.restart_all(&[0, 1]);
        eventually("what was kept to be recorded", || {
            let answer = call(&mut client, "acme", "one");
            (answer.status == 200 && answer.is_durable()).then_some(())
        });
        fleet.until_served();
        let mut other = fleet.client(1 - fleet.owner("acme"));
        let left = 3 - 1 - provisional;
        for n in 0..left {
            assert_eq!(call(&mut other, "acme", &format!("later-{n}")).decision(), "allow.new", "{provisional}");
        }
        assert_eq!(call(&mut other, "acme", "one too many").decision(), "deny.full tenant", "{provisional}");
    }
}

#[test]
fn members_may_prove_to_each_other_who_they_are() {
    let tenants = tenants();
    let tenants: Vec<(&str, &str)> = tenants.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    let mut fleet = Fleet::new(Etcd::one(), 2, "ca_file = \"ca.pem\"\n", &tenants);
    let authority = authority();
    for member in &mut fleet.members {
        let secured = free_address();
        let (certificate, key) = files_of(&authority, &secured.ip().to_string());
        for (name, pem) in [("ca.pem", authority.pem()), ("cert.pem", certificate), ("key.pem", key)] {
            std::fs::write(member.site.path(name), pem).unwrap();
        }
        let main = std::fs::read_to_string(member.site.path("usherd.toml")).unwrap();
        let shown = format!("advertise = \"http://{}\"", member.address);
        assert!(main.contains(&shown));
        let main = main.replace(&shown, &format!("advertise = \"https://{secured}\""));
        let tls = "[listener.tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";
        let main = format!("{main}\n[[listener]]\nlisten = \"{secured}\"\nprotocol = \"http1\"\n{tls}");
        std::fs::write(member.site.path("usherd.toml"), main).unwrap();
    }
    fleet.start_all();
    let mut clients: Vec<_> = (0..2).map(|at| fleet.client(at)).collect();
    for (id, _) in &tenants {
        assert_eq!(call(&mut clients[0], id, "one").decision(), "allow.new", "{id}");
        assert_eq!(call(&mut clients[1], id, "one").decision(), "allow.same", "{id}");
    }
}

#[test]
fn a_node_is_known_to_all_whomever_it_tells() {
    let tenants = tenants();
    let tenants: Vec<(&str, &str)> = tenants.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    let mut fleet = Fleet::new(
        Etcd::one(),
        3,
        "[nodes]\ndeadline_ms = 5000\nheartbeat_s = 1\nlease_s = 3\ngrace_s = 1\n",
        &tenants,
    );
    fleet.start_all();
    let mut clients: Vec<_> = (0..3).map(|at| fleet.client(at)).collect();
    let listed = |fleet: &Fleet, at: usize| -> usize {
        let mut client = fleet.client(at);
        tenants.iter().map(|(id, _)| client.list(&format!("/v1/tenants/{id}/sessions"), "sessions").len()).sum()
    };
    let call = |client: &mut Client, id: &str, session: &str, epoch: u64| {
        let body = format!(
            "{{\"tenant\":\"{id}\",\"subject\":\"{session}\",\"session\":\"{session}\",\"kind\":\"call\",\
             \"direction\":\"outbound\",\"node\":\"pbx\",\"epoch\":{epoch},\"seq\":1}}"
        );
        client.post("/v1/acquire", &body).decision()
    };
    let said = |client: &mut Client, what: &str, body: &str| client.post(&format!("/v1/nodes/pbx/{what}"), body).json();
    said(&mut clients[0], "hello", "{\"epoch\":5}");
    for (at, (id, _)) in tenants.iter().enumerate() {
        assert_eq!(call(&mut clients[at % 3], id, "a", 5), "allow.new", "no ttl_s is required of who said hello: {id}");
    }
    // Longer than a lease: what one member hears counts for all.
    for _ in 0..10 {
        assert_eq!(said(&mut clients[1], "heartbeat", "{\"epoch\":5}")["code"], "ok");
        pause(Duration::from_millis(500));
    }
    assert_eq!(listed(&fleet, 2), 12);
    let sessions: Vec<String> = tenants
        .iter()
        .take(4)
        .map(|(id, _)| {
            format!("{{\"tenant\":\"{id}\",\"subject\":\"a\",\"session\":\"a\",\"kind\":\"call\",\"direction\":\"outbound\"}}")
        })
        .collect();
    let inventory = format!("{{\"epoch\":5,\"seq\":9,\"sessions\":[{}]}}", sessions.join(","));
    let taken = said(&mut clients[2], "inventory", &inventory);
    assert_eq!((taken["kept"].as_u64(), taken["removed"].as_u64()), (Some(4), Some(8)), "{taken}");
    let anew = said(&mut clients[1], "hello", "{\"epoch\":6}");
    assert_eq!(anew["dropped"], 4, "{anew}");
    assert_eq!(listed(&fleet, 0), 0);
}

#[test]
fn two_requests_for_one_seat_are_told_the_same_of_it() {
    let acme = tenant("acme", 10_000);
    let etcd = Etcd::one();
    let wire = Relay::to(&own_ip().to_string(), etcd.address(0));
    let endpoint = vec![format!("http://{}", wire.address)];
    let slow = "[nodes]\ndeadline_ms = 500\n";
    let mut fleet = Fleet::reached(etcd, 1, slow, &[("acme", &acme)], |_| endpoint.clone());
    fleet.start_all();
    wire.answers(Pace::After(Duration::from_millis(340)));
    let mut round = 0;
    // The first is not told in time; then the second is either, or it finds the seat for good.
    eventually("the first of two to be refused", || {
        round += 1;
        let session = format!("c{round}");
        let (first, second) = std::thread::scope(|scope| {
            let mut client = fleet.client(0);
            let of_first = session.clone();
            let first = scope.spawn(move || call(&mut client, "acme", &of_first));
            pause(Duration::from_millis(150));
            let second = call(&mut fleet.client(0), "acme", &session);
            (first.join().unwrap(), second)
        });
        let is_told = |answer: &Answer| answer.status == 200 && answer.decision().starts_with("allow");
        let listed = fleet.client(0).list("/v1/tenants/acme/sessions", "sessions");
        let is_listed = listed.iter().any(|known| known["session"] == session.as_str());
        assert_eq!(is_told(&first) || is_told(&second), is_listed, "{session}: {first:?}, {second:?}");
        (!is_told(&first)).then_some(())
    });
}

#[test]
fn every_way_to_ask_is_passed_on() {
    let tenants = tenants();
    let tenants: Vec<(&str, &str)> = tenants.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    let mut fleet = Fleet::new(Etcd::one(), 2, "", &tenants);
    fleet.listen_resp();
    fleet.start_all();
    let mut client = fleet.client(0);
    let op = |id: &str, session: &str| {
        format!(
            "{{\"op\":\"acquire\",\"tenant\":\"{id}\",\"subject\":\"{session}\",\"session\":\"{session}\",\"kind\":\"call\",\
             \"direction\":\"outbound\",\"ttl_s\":3600}}"
        )
    };
    let ids: Vec<&str> = tenants.iter().map(|(id, _)| *id).collect();
    let ops: Vec<String> = ids.iter().flat_map(|id| [op(id, "a"), op(id, "b"), op(id, "c")]).collect();
    let answer = client.post("/v1/batch", &format!("{{\"ops\":[{}]}}", ops.join(","))).json();
    let codes: Vec<&str> =
        answer["results"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
    let expected: Vec<&str> = ids.iter().flat_map(|_| ["allow.new", "allow.new", "deny.full"]).collect();
    assert_eq!(codes, expected, "in the order of the operations, whoever decided them");
    let mut talk = fleet.resp(0);
    for id in &ids {
        let commands = format!(
            "CU.ACQUIRE {id} a a call direction outbound ttl_s 3600\r\nCU.RELEASE {id} a\r\nCU.ACQUIRE {id} d d call direction \
             outbound ttl_s 3600\r\nPING\r\n"
        );
        talk.send(commands.as_bytes()).unwrap();
        let told = talk.until("+PONG\r\n");
        let codes: Vec<&str> = told.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(codes, ["+allow.same", "+released.last", "+allow.new", "+PONG"], "{id}: {told}");
    }
    for id in &ids {
        let form = format!("tenant={id}&subject=e&session=e&kind=call&direction=outbound&ttl_s=60");
        assert_eq!(client.post("/v1/acquire", &form).decision(), "deny.full tenant", "{id}");
        let listed = client.list(&format!("/v1/tenants/{id}/sessions"), "sessions");
        let mut listed: Vec<&str> = listed.iter().map(|session| session["session"].as_str().unwrap()).collect();
        listed.sort_unstable();
        assert_eq!(listed, ["b", "d"], "{id}");
        let explained = client.post("/v1/explain", &op(id, "f").replace("\"op\":\"acquire\",", "")).json();
        assert_eq!(explained["code"], "deny.full", "{id}");
    }
}
