//! The same contract over a Unix socket, HTTP/2 with prior knowledge, and TLS with client certificates.

use std::fmt::Write as _;
use std::io::{Error, ErrorKind, Read as _, Write as _};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CustomExtension,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};

use crate::access::{entry, token};
use crate::client::{self, Parts, ask, ask_h2, h2c, request, wait};
use crate::daemon::{Answer, Running};

const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = 1\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

#[test]
fn the_unix_socket_trusts_root_and_its_own_user() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("usherd.sock");
    let main = format!("[server]\nunix_socket = \"{}\"\n{}", socket.display(), entry("node", 'a', ""));
    let daemon = Running::start(&main, &[("acme", PAID)]);
    let send = |text: String| ask(client::unix(&daemon.socket()), text.as_bytes());
    assert_eq!(daemon.get("/v1/tenants/acme").status, 401, "a port needs the token");
    assert_eq!(send(request("GET", "/v1/tenants/acme", "", "")).status, 200);
    let seat = "tenant=acme&subject=a&session=a&kind=desktop&ttl_s=60";
    assert_eq!(send(request("POST", "/v1/acquire", FORM, seat)).body, "allow.new");
    let wrong = format!("{FORM}Authorization: Bearer nonsense\r\n");
    assert_eq!(send(request("POST", "/v1/acquire", &wrong, seat)).status, 401, "a token decides where one is given");
}

#[test]
fn http_2_with_prior_knowledge_serves_many_streams_at_once() {
    let daemon = Running::start("[[listener]]\nlisten = \"127.0.0.2:0\"\nprotocol = \"h2c\"\n", &[("acme", PAID)]);
    let address = daemon.listener("listener-1");
    wait(async {
        let mut connection = h2c(address).await;
        // A stream that waits for its body does not hold up the others.
        let (parts, slow) = Parts::new();
        let mut other = connection.clone();
        let slow = async {
            ask_h2(&mut other, "POST", "/v1/acquire", &[("content-type", "application/x-www-form-urlencoded")], slow)
                .await
        };
        let quick = async {
            for n in 0..50 {
                let body =
                    format!("{{\"tenant\":\"acme\",\"session\":\"c{n}\",\"kind\":\"call\",\"direction\":\"inbound\"}}");
                let answer = ask_h2(&mut connection, "POST", "/v1/acquire", &[], Parts::whole(&body)).await;
                assert_eq!((answer.status, answer.decision().as_str()), (200, "allow.free inbound"));
            }
            parts.send("tenant=acme&subject=a&session=d1&kind=desktop&ttl_s=60".into()).unwrap();
            drop(parts);
        };
        let (slow, ()) = tokio::join!(slow, quick);
        assert_eq!(slow.body, "allow.new");
        let mut third = h2c(address).await;
        let lines = "{\"op\":\"release\",\"tenant\":\"acme\",\"session\":\"d1\"}\n{}\n";
        let answer =
            ask_h2(&mut third, "POST", "/v1/batch", &[("content-type", "application/x-ndjson")], Parts::whole(lines))
                .await;
        assert_eq!(answer.body.lines().count(), 2, "{answer:?}");
        let answer = ask_h2(&mut third, "PATCH", "/v1/acquire", &[], Parts::whole("")).await;
        assert_eq!(answer.status, 405);
    });
}

/// A certificate for a name, signed by an authority; PEM of it and of its key.
fn signed(authority: &CertifiedIssuer<'_, KeyPair>, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_client_certificate_is_a_credential_by_its_name() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params.clone(), KeyPair::generate().unwrap()).unwrap();
    let stranger = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let files = tempfile::tempdir().unwrap();
    let (certificate, key) = signed(&authority, "localhost");
    let path = |name: &str| files.path().join(name).display().to_string();
    for (name, text) in [("cert.pem", &certificate), ("key.pem", &key), ("ca.pem", &authority.pem())] {
        std::fs::write(path(name), text).unwrap();
    }
    let mut main = format!(
        "[[listener]]\nlisten = \"127.0.0.2:0\"\ntls = {{ cert_file = \"{}\", key_file = \"{}\", client_ca_file = \"{}\" }}\n",
        path("cert.pem"),
        path("key.pem"),
        path("ca.pem")
    );
    main.push_str(&entry("viewer", 'a', ""));
    write!(
        main,
        "[[auth.certificates]]\nname = \"pbx.example\"\nrole = \"node\"\ntenants = [\"acme\"]\nnodes = [\"n1\"]\n"
    )
    .unwrap();
    let daemon = Running::start(&main, &[("acme", PAID), ("other", PAID)]);
    let address = daemon.listener("listener-1");
    let (pbx, unknown, foreign) =
        (signed(&authority, "pbx.example"), signed(&authority, "x.example"), signed(&stranger, "pbx.example"));
    let send = |own: &(String, String), text: String| {
        ask(client::tls(address, &authority.pem(), Some((&own.0, &own.1))), text.as_bytes())
    };
    let seat = |tenant: &str| {
        request("POST", "/v1/acquire", FORM, &format!("tenant={tenant}&subject=a&session=a&kind=desktop&ttl_s=60"))
    };
    assert_eq!(send(&pbx, seat("acme")).body, "allow.new");
    assert_eq!(send(&pbx, seat("other")).status, 401);
    assert_eq!(send(&unknown, seat("acme")).status, 401);
    assert_eq!(send(&pbx, request("POST", "/v1/nodes/n1/hello", FORM, "epoch=1")).status, 200);
    assert_eq!(send(&pbx, request("POST", "/v1/nodes/n2/hello", FORM, "epoch=1")).status, 401);
    assert_eq!(send(&pbx, request("GET", "/v1/tenants", "", "")).status, 401);
    let viewer = format!("Authorization: Bearer {}\r\n", token("viewer", 'a'));
    assert_eq!(
        send(&pbx, request("GET", "/v1/tenants", &viewer, "")).status,
        200,
        "a token decides where one is given"
    );
    assert_eq!(
        send(&unknown, request("POST", "/v1/acquire", FORM, "kind=call&emergency=1")).body,
        "allow.free emergency"
    );
    assert_eq!(send(&foreign, seat("acme")).status, 401, "of an authority that we do not know");
}

/// An authority, a listener with certificates, and what clients may show there.
struct Papers {
    authority: CertifiedIssuer<'static, KeyPair>,
    files: tempfile::TempDir,
}

impl Papers {
    fn new() -> Self {
        Papers { authority: authority(), files: tempfile::tempdir().unwrap() }
    }

    /// A listener with more keys in its `tls`, that takes `admin.example` for an admin; behind the authority stand
    /// lists of what was revoked.
    fn start(&self, more: &str, revoked: &str) -> Running {
        let path = |name: &str| self.files.path().join(name).display().to_string();
        let (certificate, key) = signed(&self.authority, "localhost");
        let authorities = format!("{}{revoked}", self.authority.pem());
        for (name, text) in [("cert.pem", &certificate), ("key.pem", &key), ("ca.pem", &authorities)] {
            std::fs::write(path(name), text).unwrap();
        }
        let (cert, key, ca) = (path("cert.pem"), path("key.pem"), path("ca.pem"));
        let main = format!(
            "[[listener]]\nlisten = \"127.0.0.2:0\"\ntls = {{ cert_file = \"{cert}\", key_file = \"{key}\", client_ca_file = \"{ca}\"{more} }}\n\
             [[auth.certificates]]\nname = \"admin.example\"\nrole = \"admin\"\n"
        );
        Running::start(&main, &[("acme", PAID)])
    }

    /// The answer to a client that shows this, or why the connection broke before; it never hangs, nor ends without a
    /// word.
    fn ask(&self, daemon: &Running, shown: Option<&(String, String)>, request: &str) -> Result<Answer, Error> {
        let shown = shown.map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        let mut stream = client::tls(daemon.listener("listener-1"), &self.authority.pem(), shown);
        let mut answer = Vec::new();
        let ended = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
        match ended {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("a hang: {error}")
            }
            Err(error) if answer.is_empty() => Err(error),
            _ => Ok(Answer::parse(&answer)),
        }
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `admin.example`, with something about it.
fn for_admin(authority: &CertifiedIssuer<'_, KeyPair>, with: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["admin.example".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    with(&mut params);
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_client_without_a_good_certificate_is_a_stranger() {
    let papers = Papers::new();
    let serial = SerialNumber::from(77_u64);
    let revoked = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2090, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: serial.clone(),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let revoked = revoked.signed_by(&papers.authority).unwrap().pem().unwrap();
    let daemon = papers.start("", &revoked);
    let good = for_admin(&papers.authority, |_| {});
    let overview = request("GET", "/v1/overview", "", "");
    assert_eq!(papers.ask(&daemon, Some(&good), &overview).unwrap().status, 200);
    let foreign = authority();
    let no_good = [
        ("none", None),
        ("of an unknown authority", Some(for_admin(&foreign, |_| {}))),
        ("expired", Some(for_admin(&papers.authority, |params| params.not_after = date_time_ymd(2020, 1, 1)))),
        ("not valid yet", Some(for_admin(&papers.authority, |params| params.not_before = date_time_ymd(2090, 1, 1)))),
        ("revoked", Some(for_admin(&papers.authority, |params| params.serial_number = Some(serial)))),
        (
            "for servers",
            Some(for_admin(&papers.authority, |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            })),
        ),
        (
            "that cannot be read",
            Some(for_admin(&papers.authority, |params| {
                let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
                unknown.set_criticality(true);
                params.custom_extensions = vec![unknown];
            })),
        ),
        (
            "that says nothing",
            Some(("-----BEGIN CERTIFICATE-----\nBQA=\n-----END CERTIFICATE-----\n".into(), good.1.clone())),
        ),
    ];
    for (what, shown) in &no_good {
        let ask = |text: &str| papers.ask(&daemon, shown.as_ref(), text).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(ask(&overview).status, 401, "{what}");
        assert_eq!(ask(&request("POST", "/v1/admin/reload", "", "")).status, 401, "{what}");
        assert_eq!(ask(&request("GET", "/livez", "", "")).status, 200, "{what}");
        for (call, answer) in [
            ("tenant=acme&session=c&kind=call&direction=inbound", "allow.free inbound"),
            ("tenant=acme&kind=call&direction=outbound&to=112", "allow.free emergency"),
        ] {
            assert_eq!(ask(&request("POST", "/v1/acquire", FORM, call)).body, answer, "{what}");
        }
    }
    // Whoever shows a good certificate, and has not its key, is an impostor.
    let (_, other_key) = for_admin(&papers.authority, |_| {});
    let impostor = papers.ask(&daemon, Some(&(good.0.clone(), other_key)), &overview);
    assert!(impostor.is_err(), "{impostor:?}");
    assert_eq!(papers.ask(&daemon, Some(&good), &overview).unwrap().status, 200, "and all that changed nothing");
}

#[test]
fn a_required_certificate_is_demanded_of_everybody() {
    let papers = Papers::new();
    let daemon = papers.start(", client_certificates = \"required\"", "");
    let livez = request("GET", "/livez", "", "");
    assert_eq!(papers.ask(&daemon, Some(&for_admin(&papers.authority, |_| {})), &livez).unwrap().status, 200);
    let expired = for_admin(&papers.authority, |params| params.not_after = date_time_ymd(2020, 1, 1));
    for shown in [None, Some(for_admin(&authority(), |_| {})), Some(expired)] {
        let answer = papers.ask(&daemon, shown.as_ref(), &livez);
        assert!(answer.is_err(), "not turned away at the handshake: {answer:?}");
    }
}

#[test]
fn a_renewed_certificate_is_shown_from_the_next_reload_on() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).display().to_string();
    // Puts a certificate until a year into the files; PEM of who signed it.
    let renew = |year: i32| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        std::fs::write(path("cert.pem"), params.signed_by(&key, &authority).unwrap().pem()).unwrap();
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        authority.pem()
    };
    let first = renew(2090);
    let tls = format!("tls = {{ cert_file = \"{}\", key_file = \"{}\" }}\n", path("cert.pem"), path("key.pem"));
    let daemon = Running::start(&format!("[[listener]]\nlisten = \"127.0.0.2:0\"\n{tls}"), &[]);
    let address = daemon.listener("listener-1");
    let livez = request("GET", "/livez", "", "");
    let expires = || {
        let scrape = daemon.get("/metrics").body;
        let series = "usherd_tls_certificate_expiry_timestamp_seconds{listener=\"listener-1\"} ";
        scrape.lines().find_map(|line| line.strip_prefix(series)).unwrap().to_owned()
    };
    assert_eq!(
        (ask(client::tls(address, &first, None), livez.as_bytes()).status, expires().as_str()),
        (200, "3786912000")
    );
    let second = renew(2091);
    assert_eq!(ask(client::tls(address, &first, None), livez.as_bytes()).status, 200, "not before a reload");
    for attempt in ["taken up", "nothing is new"] {
        assert_eq!(daemon.call("POST", "/v1/admin/reload", "", "").status, 200, "{attempt}");
        assert_eq!(
            (ask(client::tls(address, &second, None), livez.as_bytes()).status, expires().as_str()),
            (200, "3818448000")
        );
    }
    let good = ["cert.pem", "key.pem"].map(|name| std::fs::read(path(name)).unwrap());
    let restore = || {
        std::fs::write(path("cert.pem"), &good[0]).unwrap();
        let _ = std::fs::remove_dir(path("key.pem"));
        std::fs::write(path("key.pem"), &good[1]).unwrap();
    };
    let faults: [(&str, &dyn Fn()); 5] = [
        ("the certificate and the key", &|| std::fs::write(path("cert.pem"), &first).unwrap()),
        ("expired on 2020", &|| drop(renew(2020))),
        ("does not exist", &|| std::fs::remove_file(path("cert.pem")).unwrap()),
        ("not a regular file", &|| {
            std::fs::remove_file(path("key.pem")).unwrap();
            std::fs::create_dir(path("key.pem")).unwrap();
        }),
        ("no certificate", &|| std::fs::write(path("cert.pem"), "").unwrap()),
    ];
    for (why, spoil) in faults {
        spoil();
        let answer = daemon.call("POST", "/v1/admin/reload", "", "").json();
        let told = &answer["certificates"][0];
        assert!(told["message"].as_str().unwrap().contains(why), "{why}: {answer}");
        assert_eq!(daemon.get("/v1/admin/config").json()["certificates"][0], *told);
        assert_eq!(daemon.get("/readyz?verbose").json()["config"]["certificates_unusable"], 1);
        assert_eq!(ask(client::tls(address, &second, None), livez.as_bytes()).status, 200, "{why}: the old one stays");
        restore();
        assert_eq!(daemon.call("POST", "/v1/admin/reload", "", "").json()["certificates"], serde_json::json!([]));
    }
}

#[test]
fn a_listener_takes_only_the_roles_that_it_is_for() {
    let main = format!(
        "[[listener]]\nlisten = \"127.0.0.2:0\"\nroles = [\"viewer\"]\n{}{}",
        entry("viewer", 'a', ""),
        entry("admin", 'a', "")
    );
    let daemon = Running::start(&main, &[("acme", PAID)]);
    for (role, status) in [("viewer", 200), ("admin", 401)] {
        let text = request("GET", "/v1/overview", &format!("Authorization: Bearer {}\r\n", token(role, 'a')), "");
        assert_eq!(ask(client::tcp(daemon.listener("listener-1")), text.as_bytes()).status, status, "{role}");
        assert_eq!(daemon.send(&text).status, 200, "{role}");
    }
}
