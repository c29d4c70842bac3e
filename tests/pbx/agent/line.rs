//! Faults of the line to usherd are reported by name: in the log, in the status, in the counters.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::beside::Place;

/// A place whose agent asks at this address, and what more its `[daemon]` has.
fn place(address: &str, more: &str) -> Place {
    let place = Place::new("");
    let path = place.path("agent.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| match line.starts_with("address = \"unix:") {
        true => format!("address = \"{address}\"\n{more}"),
        false => line.to_owned(),
    });
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    place.deadline_ms(200);
    place
}

/// The agent says in every place that this is what is wrong.
fn says(place: &Place, why: &str) {
    let mut agent = place.agent();
    let line = agent.until_says("usherd did not answer a message of this node");
    assert!(line.contains(&format!("\"why\":\"{why}\"")) && line.contains("\"help\""), "{why}: {line}");
    place.until_agent(why, |look| look["why"] == why && look["connected"] == false && look["help"].is_string());
    let series = format!("usherd_agent_missed_total{{why=\"{why}\"}} ");
    let metrics = place.ask("/metrics", "").1;
    let count = metrics.lines().find_map(|line| line.strip_prefix(&series)).unwrap();
    assert_ne!(count, "0", "{why}");
    assert!(agent.until_says("usherd cannot be asked").contains(&format!("\"why\":\"{why}\"")));
    assert_eq!(place.acquire("anna", "c1"), "allow.over unreachable", "{why}");
    let mut status = place.command();
    let told = status.arg("--status").output().unwrap();
    let told_text = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.code() == Some(1) && told_text.contains(why), "{why}: {told_text}");
}

/// Answers whatever is asked with these bytes, for ever.
fn answers(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || {
                while stream.read(&mut [0; 4_096]).is_ok_and(|read| read > 0) {
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn nobody_there_or_a_name_without_an_address() {
    // Taken, so that nobody else listens there, and not listened to.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    closed.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = closed.local_addr().unwrap().as_socket().unwrap();
    says(&place(&format!("http://{address}"), ""), "refused");
    says(&place("unix:/nowhere/usherd.sock", ""), "refused");
    // No resolver needs to be asked about this one.
    says(&place("http://no..name:7788", ""), "unresolved");
}

#[test]
fn each_status_that_is_no_answer_has_its_name() {
    for (status, why) in [
        ("401 Unauthorized", "not_permitted"),
        ("403 Forbidden", "not_permitted"),
        ("404 Not Found", "not_found"),
        ("429 Too Many Requests", "overloaded"),
        ("502 Bad Gateway", "server_error"),
        ("503 Service Unavailable", "not_ready"),
        ("200 OK", "protocol"),
    ] {
        let address = answers(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}"));
        says(&place(&address, ""), why);
    }
    says(&place(&answers("SSH-2.0-OpenSSH\r\n".to_owned()), ""), "protocol");
}

#[test]
fn a_daemon_that_says_nothing_is_a_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    says(&place(&format!("http://{}", silent.local_addr().unwrap()), ""), "timeout");
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server with a certificate for this name that ends in this year.
    fn serves(&self, name: &str, year: i32) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                // The client says why it goes, and goes.
                while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
            }
        });
        address
    }
}

#[test]
fn each_fault_of_a_certificate_has_its_name() {
    let (authority, other) = (Authority::new(), Authority::new());
    let with_ca = |address: &str, authority: &Authority| {
        let place = place(address, "ca_file = \"ca.pem\"");
        std::fs::write(place.path("ca.pem"), authority.0.pem()).unwrap();
        place
    };
    says(&with_ca(&authority.serves("127.0.0.1", 2099), &other), "tls_untrusted");
    says(&with_ca(&authority.serves("127.0.0.1", 2020), &authority), "tls_expired");
    says(&with_ca(&authority.serves("usherd.example", 2099), &authority), "tls_wrong_name");
    let plain = answers("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_owned());
    says(&with_ca(&plain.replace("http:", "https:"), &authority), "tls");
}
