//! Shards and their owners: every tenant is decided once, whichever daemon is asked, and goes on when one dies.

use usherd_testkit::etcd::Etcd;
use usherd_testkit::wait::eventually;

use super::fleet::{Fleet, call, hang_up, tenant};

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
    assert!(!fleet.owners(1).contains_key("m0"));
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
