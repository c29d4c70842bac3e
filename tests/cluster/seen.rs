//! The cluster is seen and asked as one: lists, figures, status, orders, whichever daemon is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use usherd_testkit::cluster::{Fleet, call, name, tenant};
use usherd_testkit::etcd::Etcd;
use usherd_testkit::http::Client;
use usherd_testkit::process::{told, usherd};
use usherd_testkit::wait::eventually;

const TENANTS: usize = 12;
const MEMBERS: usize = 3;

fn id(at: usize) -> String {
    format!("customer-{at:02}")
}

/// A fleet of tenants of two seats each.
fn fleet() -> Fleet {
    let tenants: Vec<(String, String)> = (0..TENANTS).map(|at| (id(at), tenant(&id(at), 2))).collect();
    let tenants: Vec<(&str, &str)> = tenants.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    let mut fleet = Fleet::new(Etcd::one(), MEMBERS, "", &tenants);
    fleet.start_all();
    fleet
}

/// A call that is placed again until somebody decides it, as a node does on a machine that is busy.
fn placed(client: &mut Client, tenant: &str, session: &str) -> String {
    eventually("somebody to decide", || {
        let answer = call(client, tenant, session);
        (answer.status == 200 && !answer.body.contains("no_majority")).then(|| answer.decision())
    })
}

/// Three calls in each tenant, of which one is denied.
fn busy() -> Fleet {
    let fleet = fleet();
    let mut client = fleet.client(0);
    for at in 0..TENANTS {
        let decisions = ["a", "b", "c"].map(|session| placed(&mut client, &id(at), session));
        let is_in = |decision: &String| ["allow.new", "allow.same"].contains(&decision.as_str());
        assert!(decisions[..2].iter().all(is_in) && decisions[2] == "deny.full tenant", "{decisions:?}");
    }
    fleet
}

fn words(rows: &[Value], key: &str) -> Vec<String> {
    rows.iter().map(|row| row[key].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lists_and_figures_are_of_all_members_whichever_is_asked() {
    let fleet = busy();
    let mut node = fleet.client(1);
    assert_eq!(node.post("/v1/nodes/pbx-1/hello", "epoch=7").status, 200);
    let all: Vec<String> = (0..TENANTS).map(id).collect();
    for at in 0..MEMBERS {
        let mut client = fleet.client(at);
        for limit in [1, 5, TENANTS, 100] {
            let (mut rows, mut after) = (Vec::new(), String::new());
            loop {
                let page = client.get(&format!("/v1/tenants?limit={limit}&after={after}")).json();
                assert_eq!(page.get("missing"), None, "{page}");
                rows.extend(page["tenants"].as_array().unwrap().clone());
                assert!(page["tenants"].as_array().unwrap().len() <= limit);
                match page["next"].as_str() {
                    Some(next) => after = next.to_owned(),
                    None => break,
                }
            }
            assert_eq!(words(&rows, "tenant"), all, "limit {limit} of member {at}");
            assert!(rows.iter().all(|row| row["held"] == 2 && row["denials"].as_u64() >= Some(1)), "{rows:?}");
        }
        let found = client.get("/v1/tenants?search=-07&band=full&state=active").json();
        assert_eq!(words(found["tenants"].as_array().unwrap(), "tenant"), ["customer-07"]);
        assert_eq!(client.get("/v1/tenants?band=idle").json()["tenants"], json!([]));
        assert_eq!(client.get("/v1/tenants?limit=0").status, 400);
        let nodes = client.get("/v1/nodes").json();
        assert_eq!(words(nodes["nodes"].as_array().unwrap(), "node"), ["pbx-1"]);
        assert_eq!((&nodes["nodes"][0]["state"], &nodes["nodes"][0]["epoch"]), (&json!("up"), &json!(7)));
        let seen = client.get("/v1/overview").json();
        assert_eq!(seen.get("missing"), None, "{seen}");
        let sums = ["tenants", "held", "quota", "over"].map(|key| seen[key].as_u64().unwrap());
        assert_eq!(sums, [12, 24, 24, 0]);
        assert_eq!((&seen["bands"]["full"], &seen["sessions"]["call"]["counting"]), (&json!(12), &json!(24)));
        assert_eq!(seen["nodes"], json!({ "up": 1, "silent": 0 }));
        assert_eq!(words(seen["fullest"].as_array().unwrap(), "tenant"), all, "of equals by their ids");
        let denied: BTreeSet<String> = words(seen["denials"].as_array().unwrap(), "tenant").into_iter().collect();
        assert_eq!(denied, all.iter().cloned().collect());
    }
}

#[test]
fn what_could_not_be_asked_is_named() {
    let mut fleet = busy();
    let owned = fleet.owners(0);
    // Nobody takes over and nobody is taken for dead: the others know no better than to ask.
    fleet.etcd.kill(0);
    fleet.kill(2);
    let mut lost = vec![name(2)];
    lost.extend(owned[&name(2)].iter().map(|shard| format!("shard {shard}")));
    let mut client = fleet.client(0);
    for path in ["/v1/tenants", "/v1/nodes", "/v1/overview"] {
        assert_eq!(client.get(path).json()["missing"], json!(lost), "{path}");
    }
    let rest = client.list("/v1/tenants", "tenants").len();
    assert!((1..TENANTS).contains(&rest), "{rest}");
    assert_eq!(client.get("/v1/overview").json()["tenants"], rest);
    let cluster = client.get("/v1/cluster").json();
    assert!(cluster["etcd"][0]["problem"].is_string() && cluster["alarms"].is_null(), "{cluster}");
}

#[test]
fn shards_go_where_an_operator_wants_them() {
    let fleet = fleet();
    let mut client = fleet.client(0);
    let cluster = client.get("/v1/cluster").json();
    assert_eq!((&cluster["member"], &cluster["missing"]), (&json!("m0"), &json!([])));
    assert_eq!(words(cluster["members"].as_array().unwrap(), "name"), ["m0", "m1", "m2"]);
    let etcd = &cluster["etcd"][0];
    assert!(etcd["version"].as_str().unwrap().starts_with("3.") && etcd["problem"].is_null(), "{etcd}");
    assert_eq!((&etcd["leader"], &cluster["alarms"]), (&json!(true), &json!([])));
    assert!(cluster["proven_ms_ago"].as_u64().unwrap() < 5_000);
    let owned = |fleet: &Fleet| fleet.owners(0);
    let count = |owned: &BTreeMap<String, Vec<u64>>, at: usize| owned.get(&name(at)).map_or(0, Vec::len);
    let settled = eventually("the shards to be spread", || {
        let now = owned(&fleet);
        let counts = [0, 1, 2].map(|at| count(&now, at));
        counts.iter().all(|count| (5..=6).contains(count)).then_some(now)
    });
    // From one of six to one of five, so that nothing goes back; asked of each that has to do with it, or has not.
    let most = (0..MEMBERS).find(|at| count(&settled, *at) == 6).unwrap();
    let least = (0..MEMBERS).find(|at| count(&settled, *at) == 5).unwrap();
    let shard = settled[&name(most)][0];
    let order = |to: &str| json!({ "shard": shard, "to": to }).to_string();
    for at in 0..MEMBERS {
        let (from, to) = if at % 2 == 0 { (most, least) } else { (least, most) };
        let answer = fleet.client(at).post("/v1/cluster/handover", &order(&name(to)));
        let told = json!({ "code": "ok", "shard": shard, "from": name(from), "to": name(to), "done": true });
        assert_eq!((answer.status, answer.json()), (200, told));
        eventually("all to see it", || {
            (0..MEMBERS).all(|at| fleet.owners(at)[&name(to)].contains(&shard)).then_some(())
        });
    }
    assert_eq!(client.post("/v1/cluster/handover", &order(&name(least))).status, 409, "it is there");
    for (wrong, pointer) in [
        (json!({ "shard": 16, "to": "m1" }), "/shard"),
        (json!({ "shard": shard, "to": "m9" }), "/to"),
        (json!({ "shard": shard }), ""),
        (json!({ "shard": shard, "to": "m1", "more": 1 }), ""),
    ] {
        let answer = client.post("/v1/cluster/handover", &wrong.to_string());
        assert_eq!((answer.status, answer.pointers()), (400, vec![pointer.to_owned()]), "{wrong}");
    }
    let mut other = fleet.client(1);
    assert_eq!(other.post("/v1/cluster/leave", r#"{"leave":true}"#).json()["leaving"], true);
    eventually("its shards to be elsewhere", || (count(&owned(&fleet), 1) == 0).then_some(()));
    let refused = client.post("/v1/cluster/handover", &json!({ "shard": 0, "to": "m1" }).to_string());
    assert!(refused.status == 409 && refused.body.contains("leaving"), "{refused:?}");
    assert!(placed(&mut other, &id(0), "one").starts_with("allow."), "it goes on taking requests");
    eventually("the last shard to be read", || {
        let seen = other.get("/v1/overview").json();
        let is_whole = seen.get("missing").is_none();
        // A shard without a tenant may be the one that is missing.
        assert!(!is_whole || seen["tenants"] == TENANTS, "short, and not silently: {seen}");
        is_whole.then_some(())
    });
    assert_eq!(other.post("/v1/cluster/leave", r#"{"leave":false}"#).json()["leaving"], false);
    eventually("its part to come back", || (count(&owned(&fleet), 1) >= 5).then_some(()));
}

/// The exit code of a verb that asks a member, and its output.
fn verb(fleet: &Fleet, at: usize, arguments: &[&str]) -> (Option<i32>, String) {
    let address = fleet.members[at].address.to_string();
    told(&mut usherd(&[arguments, &["--addr", &address]].concat()))
}

#[test]
fn series_and_verbs_tell_of_the_cluster() {
    let mut fleet = busy();
    let config = fleet.members[0].site.path("usherd.toml");
    let scrapes: Vec<String> = (0..MEMBERS).map(|at| fleet.client(at).get("/metrics").body).collect();
    let sum = |name: &str| -> f64 {
        let lines = scrapes.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    assert_eq!([sum("usherd_seats_in_use "), sum("usherd_seats_quota "), sum("usherd_tenants{")], [24.0, 24.0, 12.0]);
    assert_eq!(sum("usherd_subscriptions{state=\"active\"}"), 12.0);
    for at in 0..TENANTS {
        let series = format!("usherd_tenant_seats_in_use{{tenant=\"{}\"}} ", id(at));
        assert_eq!((sum(&series), scrapes.iter().filter(|text| text.contains(&series)).count()), (2.0, 1));
    }
    assert_eq!(sum("usherd_shard_owner{"), 16.0 * MEMBERS as f64);
    assert!(sum("usherd_shard_takeovers_total{") >= 16.0 && sum("usherd_forwarded_requests_total ") > 0.0);
    assert!(sum("usherd_cluster_proven_age_seconds ") < 3.0);
    let (code, text) = verb(&fleet, 1, &["cluster", "status"]);
    assert_eq!(code, Some(0), "{text}");
    for word in ["seen by m1: 3 members, 16 shards, each with an owner", "ADVERTISE", "ENDPOINT", "m2"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let (_, csv) = verb(&fleet, 1, &["cluster", "status", "-o", "csv"]);
    assert!(
        csv.lines().count() == 1 + MEMBERS && csv.starts_with("name,alive,leaving,shards,version,advertise"),
        "{csv}"
    );
    let doctor = |fleet: &Fleet| verb(fleet, 0, &["doctor", "--config", config.to_str().unwrap()]).1;
    let text = doctor(&fleet);
    for word in ["ok    cluster        16 shards, each with an owner", "ok    members        3 members", "no alarm"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(text.contains("warn  token          every user"), "{text}");
    std::fs::set_permissions(fleet.members[0].site.path("cluster.token"), PermissionsExt::from_mode(0o640)).unwrap();
    assert!(doctor(&fleet).contains("ok    token "));
    let (code, text) = verb(&fleet, 2, &["cluster", "leave"]);
    assert!(code == Some(0) && text.starts_with("m2 gives its shards"), "{text}");
    eventually("its shards to be elsewhere", || (!fleet.owners(0).contains_key("m2")).then_some(()));
    let (code, text) = verb(&fleet, 2, &["cluster", "leave", "--stay"]);
    assert!(code == Some(0) && text.starts_with("m2 takes its part"), "{text}");
    let shard = eventually("its part to come back", || {
        let owners = fleet.owners(1);
        owners.get("m2").is_some_and(|shards| shards.len() >= 5).then(|| owners["m0"][0].to_string())
    });
    let (code, text) = verb(&fleet, 1, &["cluster", "handover", &shard, "--to", "m2"]);
    assert!(code == Some(0) && text == format!("shard {shard} went from m0 to m2\n"), "{text}");
    assert_eq!(verb(&fleet, 1, &["cluster", "handover", &shard, "--to", "m9"]).0, Some(1));
    fleet.etcd.kill(0);
    fleet.kill(2);
    let (code, text) = verb(&fleet, 0, &["tenants"]);
    assert!(code == Some(1) && text.contains("the list is not whole: m2, shard"), "{text}");
    let text = doctor(&fleet);
    assert!(text.contains("fail  etcd           http://"), "{text}");
}

#[test]
fn a_listener_of_one_member_hears_of_all() {
    let mut fleet = fleet();
    let mut listener = fleet.client(0);
    listener.send(b"GET /v1/events?types=granted,node HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    listener.until(": usherd events");
    // It follows the others from a moment later on.
    let mut client = fleet.client(1);
    eventually("the others to be followed", || {
        let heard = |at: usize| fleet.client(at).series("usherd_event_subscribers") == Some(1.0);
        (0..MEMBERS).all(heard).then_some(())
    });
    let mut text = String::new();
    for at in 0..TENANTS {
        assert!(placed(&mut client, &id(at), "one").starts_with("allow."));
        text += &listener.until(&format!("\"tenant\":\"{}\"", id(at)));
    }
    assert_eq!(client.post("/v1/nodes/pbx-1/hello", "epoch=1").status, 200);
    text += &listener.until("pbx-1 said hello");
    let own = fleet.owners(0)["m0"].len();
    assert!(own > 0 && text.matches("event: granted").count() >= TENANTS, "{text}");
    assert!(text.matches("id: ").count() < TENANTS, "those of others have no id here: {text}");
    fleet.kill(2);
    listener.until("event: gap\ndata: {\"type\":\"gap\"}");
}
