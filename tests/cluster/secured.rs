//! The client and an etcd that asks who one is: by a password, by a certificate.

use std::path::{Path, PathBuf};

use usherd::daemon::etcd::{Client, Fault, Op, Options, Store as _, Txn};
use usherd_testkit::authority::{authority, files_of};
use usherd_testkit::etcd::Etcd;
use usherd_testkit::http;
use usherd_testkit::process::own_ip;

fn put(key: &str) -> Txn {
    Txn { then: vec![Op::put(key, "v")], ..Txn::default() }
}

fn client(etcd: &Etcd, user: &str, password: &str) -> Client {
    Client::new(Options { user: user.to_owned(), password: password.to_owned(), ..etcd.options() })
}

fn refused<T>(asked: Result<T, Fault>) -> String {
    let Err(Fault::Refused(why)) = asked else { panic!("it was not refused") };
    why
}

#[test]
fn a_user_is_known_by_a_password() {
    let mut etcd = Etcd::one();
    let early = client(&etcd, "usherd", "secret");
    early.txn(&put("a/before")).unwrap();
    let mut http = http::Client::connect(etcd.address(0)).unwrap();
    for (path, body) in [
        ("user/add", r#"{"name":"root","password":"r"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("user/add", r#"{"name":"usherd","password":"secret"}"#),
        ("role/add", r#"{"name":"a"}"#),
        // From "a/" to "a0".
        ("role/grant", r#"{"name":"a","perm":{"permType":"READWRITE","key":"YS8=","range_end":"YTA="}}"#),
        ("user/grant", r#"{"user":"usherd","role":"a"}"#),
        ("enable", "{}"),
    ] {
        let answer = http.post(&format!("/v3/auth/{path}"), body);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    early.txn(&put("a/1")).unwrap();
    assert!(refused(early.txn(&put("b/1"))).contains("cluster.user"));
    let stranger = refused(client(&etcd, "usherd", "guess").txn(&put("a/1")));
    assert!(stranger.contains("cluster.password_file") && !stranger.contains("guess"), "{stranger}");
    assert!(refused(etcd.client().txn(&put("a/1"))).contains("user name is empty"));
    // Tokens are in the memory of etcd.
    etcd.restart(0);
    early.txn(&put("a/2")).unwrap();
}

/// Files of a certificate of this authority, in this folder.
fn papers(
    authority: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    folder: &Path,
    name: &str,
) -> (PathBuf, PathBuf) {
    let (certificate, key) = files_of(authority, name);
    let [cert_file, key_file] = ["crt", "key"].map(|kind| folder.join(format!("{name}.{kind}")));
    std::fs::write(&cert_file, certificate).unwrap();
    std::fs::write(&key_file, key).unwrap();
    (cert_file, key_file)
}

#[test]
fn both_sides_are_known_by_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let (server_cert, server_key) = papers(&authority, folder.path(), &own_ip().to_string());
    let (cert_file, key_file) = papers(&authority, folder.path(), "usherd.example");
    let shown = |path: &PathBuf| path.display().to_string();
    let (ca, cert, key) = (shown(&ca_file), shown(&server_cert), shown(&server_key));
    let arguments = ["--cert-file", &cert, "--key-file", &key, "--client-cert-auth", "--trusted-ca-file", &ca];
    let etcd = Etcd::start(1, &arguments, Options { ca_file, cert_file, key_file, ..Options::default() });
    etcd.client().txn(&put("k")).unwrap();
    let asked = |options: Options| match Client::new(options).txn(&put("k")) {
        Err(Fault::Unknown(why)) => why,
        other => panic!("{other:?}"),
    };
    let none = PathBuf::new;
    let why = asked(Options { cert_file: none(), key_file: none(), ..etcd.options() });
    assert!(why.contains("ertificate"), "{why}");
    let why = asked(Options { ca_file: none(), ..etcd.options() });
    assert!(why.contains("cluster.ca_file"), "{why}");
    let why = asked(Options { key_file: folder.path().join("none"), ..etcd.options() });
    assert!(why.contains("none") && why.contains("client's certificate"), "{why}");
}
