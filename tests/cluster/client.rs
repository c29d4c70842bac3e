//! The client: transactions, members that fail, and limits.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use usherd::daemon::etcd::{Answer, Client, Compare, Fault, Op, Options, Store as _, Txn};
use usherd_testkit::etcd::{Etcd, free_address};
use usherd_testkit::process::own_ip;
use usherd_testkit::relay::{Pace, Relay};
use usherd_testkit::wait::eventually;

/// A client of these endpoints.
fn client(endpoints: &[String], deadline_ms: u64) -> Client {
    let deadline = Duration::from_millis(deadline_ms);
    Client::new(Options { endpoints: endpoints.to_vec(), deadline, ..Options::default() })
}

fn then(ops: Vec<Op>) -> Txn {
    Txn { then: ops, ..Txn::default() }
}

/// Puts a key that must not be there yet; otherwise reads it.
fn create(key: &str, value: &str) -> Txn {
    Txn {
        compares: vec![Compare::Created { key: key.to_owned(), revision: 0 }],
        then: vec![Op::put(key, value)],
        otherwise: vec![Op::get(key)],
    }
}

fn keys(answer: &Answer, op: usize) -> Vec<&str> {
    answer.outcomes[op].found.iter().map(|found| found.key.as_str()).collect()
}

fn refused(asked: Result<Answer, Fault>) -> String {
    let Err(Fault::Refused(why)) = asked else { panic!("{asked:?}") };
    why
}

fn unknown<T: std::fmt::Debug>(asked: Result<T, Fault>) -> String {
    let Err(Fault::Unknown(why)) = asked else { panic!("{asked:?}") };
    why
}

/// Asks until etcd has a leader again.
fn answered(client: &Client, txn: &Txn) -> Answer {
    eventually("etcd to answer", || client.txn(txn).ok())
}

#[test]
fn keys_are_put_read_and_deleted() {
    let etcd = Etcd::one();
    let client = etcd.client();
    let put = client.txn(&then(["a/1", "a/2", "a/3", "b"].map(|key| Op::put(key, vec![0, 255, b'"'])).into())).unwrap();
    assert!(put.held && put.outcomes.len() == 4);
    let cut = Op::Get { from: "a/".into(), to: "a0".into(), keys_max: 2, is_keys_only: true };
    let read = client.txn(&then(vec![Op::get("b"), Op::get("none"), Op::get_all("a/"), cut])).unwrap();
    assert_eq!(read.revision, put.revision);
    let b = &read.outcomes[0].found[0];
    assert_eq!((b.value.as_slice(), b.created, b.changed), ([0, 255, b'"'].as_slice(), put.revision, put.revision));
    assert_eq!((keys(&read, 1), keys(&read, 2)), (vec![], vec!["a/1", "a/2", "a/3"]));
    assert_eq!((keys(&read, 3), read.outcomes[3].is_cut), (vec!["a/1", "a/2"], true));
    assert!(read.outcomes[3].found[0].value.is_empty() && !read.outcomes[2].is_cut);
    let deleted = client.txn(&then(vec![Op::delete_all("a/"), Op::get_all("a/")])).unwrap();
    assert_eq!((deleted.outcomes[0].deleted, keys(&deleted, 1)), (3, vec![]));
}

#[test]
fn a_comparison_decides_which_branch_is_done() {
    let etcd = Etcd::one();
    let client = etcd.client();
    let created = client.txn(&create("k", "1")).unwrap();
    let again = client.txn(&create("k", "2")).unwrap();
    assert!(created.held && !again.held);
    assert_eq!(again.outcomes[0].found[0].value, b"1");
    let is_of = |created: u64, changed: u64| {
        let compares = vec![
            Compare::Created { key: "k".into(), revision: created },
            Compare::Changed { key: "k".into(), revision: changed },
        ];
        client.txn(&Txn { compares, then: vec![Op::put("k", "3")], otherwise: vec![] }).unwrap()
    };
    let changed = is_of(created.revision, created.revision);
    assert!(changed.held);
    assert!(!is_of(created.revision, created.revision).held, "it was put since");
    assert!(is_of(created.revision, changed.revision).held);
}

#[test]
fn a_dead_endpoint_is_passed_over() {
    let etcd = Etcd::one();
    // It takes connections and never answers, as a frozen machine does.
    let listener = TcpListener::bind((own_ip(), 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mute = format!("http://{}", listener.local_addr().unwrap());
    let closed = format!("http://{}", free_address());
    let client = client(&[closed.clone(), mute.clone(), etcd.endpoints()[0].clone()], 1_500);
    assert!(client.txn(&create("k", "v")).unwrap().held);
    // The one that answered last is asked first.
    for _ in 0..20 {
        client.txn(&then(vec![Op::get("k")])).unwrap();
    }
    assert!(listener.accept().is_ok() && listener.accept().is_err(), "it was tried once");
    drop(etcd);
    let why = unknown(client.txn(&then(vec![Op::get("k")])));
    assert!(why.contains(&closed) && why.contains("refused"), "{why}");
    assert!(why.contains(&format!("{mute}: no answer within")), "{why}");
    let status = client.status();
    assert_eq!(status.len(), 3);
    assert!(status.iter().all(|status| status.reachable.is_err()), "{status:?}");
}

#[test]
fn a_killed_leader_is_followed_by_another() {
    let mut etcd = Etcd::three();
    let client = etcd.client();
    answered(&client, &create("before", "1"));
    let leader = etcd.leader();
    etcd.kill(leader);
    answered(&client, &create("after", "1"));
    let next = etcd.leader();
    assert_ne!(next, leader);
    let status = client.status();
    assert!(status[leader].reachable.is_err());
    let health = status[next].reachable.as_ref().unwrap();
    assert!(health.is_leader && health.version.starts_with("3.") && health.db_bytes > 0, "{health:?}");
    etcd.restart(leader);
    let read = then(vec![Op::get_all("after"), Op::get_all("before")]);
    let only = self::client(&[etcd.endpoints()[leader].clone()], 3_000);
    let read = answered(&only, &read);
    assert_eq!((keys(&read, 0), keys(&read, 1)), (vec!["after"], vec!["before"]));
}

#[test]
fn a_paused_endpoint_is_passed_over() {
    let etcd = Etcd::three();
    let follower = (etcd.leader() + 1) % 3;
    let mut endpoints = etcd.endpoints();
    endpoints.swap(0, follower);
    let client = client(&endpoints, 1_500);
    assert!(client.txn(&create("k", "1")).unwrap().held);
    etcd.pause(follower);
    let read = client.txn(&then(vec![Op::get("k")])).unwrap();
    assert_eq!(keys(&read, 0), ["k"]);
    etcd.resume(follower);
    assert!(client.txn(&create("l", "1")).unwrap().held);
}

#[test]
fn a_transaction_may_be_done_though_its_answer_is_lost() {
    let etcd = Etcd::one();
    let relay = Relay::to(&own_ip().to_string(), etcd.address(0));
    let client = client(&[format!("http://{}", relay.address), etcd.endpoints()[0].clone()], 2_000);
    client.txn(&then(vec![Op::get("k")])).unwrap();
    relay.answers(Pace::Held);
    let twice = client.txn(&create("k", "mine")).unwrap();
    assert!(!twice.held, "the try without an answer was done");
    assert_eq!(twice.outcomes[0].found[0].value, b"mine");
    relay.mend();
    // A link that ends is another matter: the same endpoint is asked again on a new connection.
    let behind = self::client(&[format!("http://{}", relay.address)], 2_000);
    behind.txn(&then(vec![Op::get("k")])).unwrap();
    relay.cut();
    let why = unknown(behind.txn(&then(vec![Op::get("k")])));
    assert!(why.contains(&relay.address.to_string()), "{why}");
    relay.mend();
    behind.txn(&then(vec![Op::get("k")])).unwrap();
    relay.cut();
    relay.mend();
    behind.txn(&then(vec![Op::get("k")])).unwrap();
}

#[test]
fn a_full_database_is_told_with_a_remedy() {
    let etcd = Etcd::start(1, &["--quota-backend-bytes", "2097152"], Options::default());
    let client = etcd.client();
    let fill = |at: usize| client.txn(&then(vec![Op::put(format!("k{at}"), vec![b'x'; 256 << 10])]));
    let why = (0..40).find_map(|at| fill(at).err()).expect("it is full");
    assert!(matches!(&why, Fault::Refused(why) if why.contains("alarm disarm")), "{why}");
    let alarms = client.alarms().unwrap();
    assert!(alarms.len() == 1 && alarms[0].starts_with("NOSPACE at member "), "{alarms:?}");
    assert!(client.status()[0].reachable.as_ref().unwrap().errors.iter().any(|error| error.contains("NOSPACE")));
    assert!(client.txn(&then(vec![Op::delete_all("k")])).unwrap().held, "room can be made");
}

#[test]
fn compaction_may_be_asked_for_twice() {
    let etcd = Etcd::one();
    let client = etcd.client();
    assert_eq!(client.alarms(), Ok(vec![]));
    let revision = (0..5).map(|_| client.txn(&then(vec![Op::put("k", "v")])).unwrap().revision).max().unwrap();
    assert_eq!(client.compact(revision), Ok(()));
    assert_eq!(client.compact(revision - 1), Ok(()));
    let Err(Fault::Refused(why)) = client.compact(revision + 9) else { panic!("there is no such revision") };
    assert!(why.contains("future revision"), "{why}");
    assert_eq!(keys(&client.txn(&then(vec![Op::get("k")])).unwrap(), 0), ["k"]);
}

#[test]
fn limits_are_told_before_or_after() {
    let etcd = Etcd::one();
    let client = etcd.client();
    assert!(refused(client.txn(&then(vec![Op::get("k"); 129]))).contains("129 operations"));
    let large = |at: usize, bytes: usize| client.txn(&then(vec![Op::put(format!("k{at:02}"), vec![b'x'; bytes])]));
    assert!(refused(large(0, 1 << 20)).contains("1048579 bytes"));
    let twice = refused(client.txn(&then(vec![Op::put("k", "1"), Op::put("k", "2")])));
    assert!(twice.contains("duplicate key"), "{twice}");
    for at in 0..49 {
        large(at, (1 << 20) - 3).unwrap();
    }
    let why = refused(client.txn(&then(vec![Op::get_all("k")])));
    assert!(why.contains("larger than 67108864 bytes"), "{why}");
    let why = unknown(client.txn(&then(vec![Op::get_all("k"), Op::put("l", "")])));
    assert!(why.contains("larger than 67108864 bytes"), "{why}");
    assert_eq!(keys(&client.txn(&then(vec![Op::get("l")])).unwrap(), 0), ["l"]);
}

#[test]
fn another_program_is_not_taken_for_etcd() {
    let says = |answer: &'static str| {
        let listener = TcpListener::bind((own_ip(), 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.read(&mut [0; 4_096]);
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
            }
        });
        client(&[url], 2_000)
    };
    let read = then(vec![Op::get("k")]);
    let why = refused(says(r#"{"etcdserver":"3.3.25","etcdcluster":"3.3.0"}"#).txn(&read));
    assert!(why.ends_with("it is etcd 3.3.25; 3.4 or newer is required: upgrade it"), "{why}");
    assert!(unknown(says("hello").txn(&read)).contains("a broken answer"));
    assert!(unknown(client(&[], 1_000).txn(&read)).contains("no endpoints"));
    assert!(refused(client(&["10.0.0.1:2379".to_owned()], 1_000).txn(&read)).contains("no URL of an endpoint"));
}
