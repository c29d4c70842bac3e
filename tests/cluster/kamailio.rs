//! A phone system before a cluster.

use usherd_testkit::cluster::{Fleet, tenant};
use usherd_testkit::etcd::Etcd;
use usherd_testkit::kamailio::lab::{Lab, Sipp, phones_ip, trunk_ip, users};
use usherd_testkit::wait::eventually;

#[test]
fn calls_stay_up_and_the_books_balance_when_the_owner_dies() {
    let acme = tenant("acme", 300);
    let mut fleet = Fleet::new(Etcd::three(), 2, "[nodes]\n", &[("acme", &acme)]);
    fleet.listen_resp();
    fleet.start_all();
    let owner = fleet.owner("acme");
    let other = 1 - owner;
    // Its own daemon is not asked.
    let mut lab = Lab::idle(1, &[]);
    lab.second_at(fleet.members[other].address, fleet.members[other].resp.unwrap());
    lab.start_kamailio_asking(&format!("http://{}", fleet.members[owner].address));
    let _trunk = Sipp::callee("callee", trunk_ip(), lab.trunk_port);
    let callers = Sipp::caller(&lab, "caller", phones_ip(), &users(200), &["-r", "40", "-d", "4000"]);
    callers.until_answered(80);
    fleet.kill(owner);
    assert_eq!(callers.done().up_and_refused(), (200, 0));
    let mut client = fleet.client(other);
    eventually("the seats to be free", || (client.held("acme") == 0).then_some(()));
    let acme = client.get("/v1/tenants/acme").json();
    assert_eq!((acme["held"].as_u64(), acme["sessions"].as_u64()), (Some(0), Some(0)), "{acme}");
    assert!(acme["peak"].as_u64().is_some_and(|peak| peak > 80), "the calls of before are known: {acme}");
}
