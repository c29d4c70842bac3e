//! The command line over HTTPS, against a real daemon: whom it trusts, and what it says of whom it does not.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use usherd_testkit::authority::authority;
use usherd_testkit::process::{Site, Usherd, usherd};

use super::finish;

/// A daemon with a tenant, and a listener with TLS for each certificate: a good one, one that has expired, and one for
/// another name.
struct Served {
    site: Site,
    daemon: Usherd,
}

const LISTENERS: [(&str, &str, i32); 3] =
    [("127.0.0.2", "127.0.0.2", 2999), ("127.0.0.3", "127.0.0.3", 2020), ("127.0.0.4", "localhost", 2999)];

impl Served {
    fn start() -> Self {
        let mut main = String::new();
        for (host, _, _) in LISTENERS {
            let tls = format!("{{ cert_file = \"{host}.pem\", key_file = \"{host}.key\" }}");
            main.push_str(&format!("[[listener]]\nlisten = \"{host}:0\"\ntls = {tls}\n"));
        }
        let site = Site::new(&main, &[("acme", "kind = \"nfr\"\nseats = 5\n")]);
        let signer = authority();
        for (host, name, year) in LISTENERS {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, 1, 1);
            std::fs::write(site.path(&format!("{host}.pem")), params.signed_by(&key, &signer).unwrap().pem()).unwrap();
            std::fs::write(site.path(&format!("{host}.key")), key.serialize_pem()).unwrap();
        }
        std::fs::write(site.path("ca.pem"), signer.pem()).unwrap();
        let daemon = site.start();
        Served { site, daemon }
    }

    fn ca(&self) -> String {
        self.site.path("ca.pem").display().to_string()
    }

    /// A listener by its host.
    fn url(&self, host: &str) -> String {
        let address = self.daemon.addresses.iter().find(|address| address.ip().to_string() == host).unwrap();
        format!("https://{address}")
    }

    /// Runs a verb against the good listener; exit code 0.
    fn ask(&self, arguments: &[&str]) -> String {
        let (url, ca) = (self.url("127.0.0.2"), self.ca());
        finish(&mut usherd(&[arguments, &["--addr", &url, "--ca-file", &ca]].concat()), 0).0
    }
}

/// An authority that signed nothing, in a file.
fn stranger(file: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "stranger");
    let stranger = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(file, stranger.pem()).unwrap();
}

#[test]
fn verbs_and_streams_ask_over_https() {
    let served = Served::start();
    let url = served.url("127.0.0.2");
    assert!(served.ask(&["status"]).contains("ready"), "{}", served.ask(&["status"]));
    let granted = served.ask(&["acquire", "acme", "anna", "d1", "desktop", "--ttl", "600"]);
    assert!(granted.starts_with("allow.new: 1 of 5 seats held"), "{granted}");
    // No event has this number: the stream begins with a gap.
    let events = served.ask(&["events", "--since", "0", "--limit", "1", "-o", "csv"]);
    assert_eq!(events.lines().nth(1).unwrap(), ",,gap,,,,,,,,,", "{events}");
    let top = served.ask(&["top", "--once"]);
    assert!(top.contains("acme"), "{top}");
    let health = served.ask(&["doctor", "--health"]);
    assert!(health.starts_with("ok    daemon "), "{health}");
    assert!(health.contains(&url), "{health}");
}

#[test]
fn authorities_come_from_the_environment_or_the_machine() {
    let served = Served::start();
    for name in ["USHERD_CA_FILE", "SSL_CERT_FILE"] {
        let mut command = usherd(&["nodes"]);
        command.env("USHERD_ADDR", served.url("127.0.0.2")).env("USHERD_CA_FILE", "");
        finish(command.env(name, served.ca()), 0);
    }
}

#[test]
fn who_is_not_trusted_is_named_with_the_reason_and_a_way_out() {
    let served = Served::start();
    let ca = served.ca();
    let own = served.site.path("stranger.pem");
    stranger(&own);
    let own = own.display().to_string();
    for (host, ca, expected) in [
        ("127.0.0.2", &own, "signed by no authority that is trusted here; name that authority"),
        ("127.0.0.3", &ca, "its certificate has expired; renew it there"),
        ("127.0.0.4", &ca, "its certificate is for another name"),
    ] {
        let url = served.url(host);
        let mut command = usherd(&["nodes", "--addr", &url, "--ca-file", ca]);
        let (out, err) = finish(&mut command, 1);
        let place = format!("({} is not trusted: ", url.trim_start_matches("https://"));
        assert!(out.is_empty() && err.contains(&place) && err.contains(expected), "{err}");
        assert!(err.contains("\n  help: ") && err.contains("--ca-file"), "{err}");
        // Nobody is to be started where somebody answers.
        assert!(!err.contains("usherd serve"), "{err}");
    }
    let (_, err) = finish(usherd(&["nodes", "--addr", &served.url("127.0.0.2")]).env("SSL_CERT_FILE", &own), 1);
    assert!(err.contains("signed by no authority"), "{err}");
    let (_, err) = finish(&mut usherd(&["nodes", "--addr", &served.url("127.0.0.1"), "--ca-file", &ca]), 1);
    assert!(err.contains("a listener without TLS is asked by http://"), "{err}");
    let (_, err) = finish(&mut usherd(&["nodes", "--addr", "https://pbx", "--ca-file", "/nowhere/ca.pem"]), 2);
    assert!(err.contains("--ca-file /nowhere/ca.pem: does not exist"), "{err}");
}
