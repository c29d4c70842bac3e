//! The client of a node against the built daemon: killed, stopped and started again under it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use usherd::client::{Address, Ask, Client, Ended, OnUnreachable, Options, Source, Unreachable, Verdict};
use usherd::engine::{Class, Code, Direction, Kind};

use super::process::{PATIENCE, Site, Usherd};

/// A busy machine may wake this process so much later.
const LATE: Duration = Duration::from_millis(400);

struct Place {
    site: Site,
    socket: tempfile::TempDir,
}

impl Place {
    /// One tenant with so many seats, on a Unix socket that stays the same from start to start.
    fn new(seats: u32) -> Self {
        let socket = tempfile::tempdir().unwrap();
        let path = socket.path().join("usherd.sock");
        let main = format!("[server]\nunix_socket = \"{}\"\n[nodes]\nheartbeat_s = 1\nlease_s = 3\n", path.display());
        let tenant = format!("id = \"acme\"\nkind = \"nfr\"\nseats = {seats}\n");
        Place { site: Site::new(&main, &[("acme", &tenant)]), socket }
    }

    fn options(&self) -> Options {
        Options::starting_now(Address::Unix(self.socket.path().join("usherd.sock")), "pbx")
    }
}

fn outbound(subject: &str, session: &str) -> Ask {
    Ask::call("acme", subject, session, Direction::Outbound)
}

/// Asks, and sees that the answer comes in time.
async fn ask(client: &Client, ask: &Ask) -> Verdict {
    let began = Instant::now();
    let verdict = client.acquire(ask).await;
    assert!(began.elapsed() < Duration::from_millis(50) + LATE, "{:?}: {verdict:?}", began.elapsed());
    verdict
}

async fn code(client: &Client, asked: &Ask) -> Option<Code> {
    ask(client, asked).await.answer.map(|answer| answer.code)
}

/// What is there at the first poll.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

async fn in_step(client: &Client) {
    until("node and daemon agree", || {
        let status = client.status();
        status.connected && !status.paused && status.unconfirmed == 0 && status.reports == 0
    })
    .await;
}

fn seats(daemon: &Usherd) -> (u64, u64, usize) {
    let mut asked = daemon.client();
    let tenant: Value = asked.get("/v1/tenants/acme").json();
    let sessions = asked.list("/v1/tenants/acme/sessions", "sessions");
    (tenant["held"].as_u64().unwrap(), tenant["over"].as_u64().unwrap(), sessions.len())
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn while_the_daemon_is_dead_calls_flow_and_afterwards_they_are_adopted_g7() {
    run(async {
        let place = Place::new(1);
        let daemon = place.site.start();
        let client = Client::start(place.options(), ()).unwrap();
        assert_eq!(code(&client, &outbound("anna", "c1")).await, Some(Code::AllowNew));
        assert_eq!(code(&client, &outbound("bob", "c2")).await, Some(Code::DenyFull));
        daemon.kill();
        let verdict = ask(&client, &outbound("bob", "c3")).await;
        assert!(verdict.allow && matches!(verdict.source, Source::Unreachable(_)), "{verdict:?}");
        assert!(ask(&client, &outbound("carol", "c4")).await.allow);
        let inbound = Ask { subject: None, ..Ask::call("acme", "", "c5", Direction::Inbound) };
        assert_eq!(at_once(client.acquire(&inbound)).await.unwrap().source, Source::Inbound);
        client.release("acme", "c4", Ended::Over);
        let daemon = place.site.start();
        in_step(&client).await;
        assert_eq!(seats(&daemon), (2, 1, 3), "anna, bob above the quota, and the inbound call");
        let denied = ask(&client, &outbound("carol", "c6")).await;
        assert_eq!((denied.allow, denied.source, denied.sip_code()), (false, Source::Daemon, Some(403)));
        for session in ["c1", "c3"] {
            client.release("acme", session, Ended::Over);
        }
        assert!(client.flush(PATIENCE).await);
        assert_eq!(code(&client, &outbound("carol", "c7")).await, Some(Code::AllowNew));
        assert_eq!(seats(&daemon), (1, 0, 2));
    });
}

#[test]
fn a_daemon_that_hangs_costs_a_few_calls_their_deadline_and_books_nothing_twice() {
    run(async {
        let place = Place::new(5);
        let daemon = place.site.start();
        let client = Client::start(place.options(), ()).unwrap();
        assert_eq!(code(&client, &outbound("anna", "c0")).await, Some(Code::AllowNew));
        daemon.pause();
        let mut waited = 0;
        for number in 1..=20 {
            let verdict = ask(&client, &outbound("anna", &format!("c{number}"))).await;
            assert!(verdict.allow, "{verdict:?}");
            waited += u32::from(verdict.source == Source::Unreachable(Unreachable::Timeout));
        }
        assert!((1..=4).contains(&waited), "{waited} of 20 waited");
        assert!(client.status().paused);
        for number in 1..=10 {
            client.release("acme", &format!("c{number}"), Ended::Over);
        }
        daemon.signal(Signal::CONT);
        in_step(&client).await;
        assert_eq!(seats(&daemon), (1, 0, 11), "c0 and c11 to c20, whatever was on its way when it stopped");
        assert_eq!(code(&client, &outbound("anna", "c21")).await, Some(Code::AllowHeld));
        assert!(client.goodbye(PATIENCE).await);
    });
}

#[test]
fn a_node_that_denies_without_the_daemon_still_lets_through_what_must_never_wait() {
    run(async {
        let place = Place::new(5);
        let options = Options { on_unreachable: OnUnreachable::Deny, ..place.options() };
        let client = Client::start(options, ()).unwrap();
        let denied = ask(&client, &outbound("anna", "c1")).await;
        assert_eq!((denied.allow, denied.sip_code(), denied.retry_after_s()), (false, Some(403), Some(60)));
        for asked in [
            Ask { subject: None, ..Ask::call("acme", "", "c2", Direction::Inbound) },
            Ask { to: Some("112".into()), ..outbound("anna", "c3") },
            Ask { class: Some(Class::Lift), ..outbound("lift", "c4") },
            Ask { existing: true, ..outbound("bob", "c5") },
            Ask::new("acme", "anna", "p1", Kind::Phone),
            Ask { direction: None, ..outbound("anna", "c6") },
        ] {
            assert!(ask(&client, &asked).await.allow, "{asked:?}");
        }
        let daemon = place.site.start();
        in_step(&client).await;
        assert_eq!(seats(&daemon), (2, 0, 4), "the lift, bob, the inbound call, the phone");
    });
}

#[test]
fn a_node_that_starts_again_has_its_calls_dropped_and_its_pairings_kept_g8() {
    run(async {
        let place = Place::new(5);
        let daemon = place.site.start();
        let first = Client::start(place.options(), ()).unwrap();
        assert_eq!(code(&first, &outbound("anna", "c1")).await, Some(Code::AllowNew));
        assert_eq!(code(&first, &Ask::new("acme", "bob", "m1", Kind::Mobile)).await, Some(Code::AllowNew));
        drop(first);
        let again = Client::start(place.options(), ()).unwrap();
        assert!(again.connected(PATIENCE).await);
        assert_eq!(seats(&daemon), (1, 0, 1), "only the pairing");
        again.release("acme", "m1", Ended::Over);
        assert!(again.flush(PATIENCE).await);
        assert_eq!(seats(&daemon), (0, 0, 0));
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
fn over_tls_both_ends_show_their_certificates() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params.clone(), KeyPair::generate().unwrap()).unwrap();
    let stranger = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let (certificate, key) = signed(&authority, "127.0.0.2");
    let main = "[[listener]]\nlisten = \"127.0.0.2:0\"\ntls = { cert_file = \"cert.pem\", key_file = \"key.pem\", \
        client_ca_file = \"ca.pem\" }\n[[auth.certificates]]\nname = \"pbx.example\"\nrole = \"node\"\nnodes = [\"pbx\"]\n";
    let site = Site::new(main, &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n")]);
    for (name, text) in [("cert.pem", &certificate), ("key.pem", &key), ("ca.pem", &authority.pem())] {
        std::fs::write(site.path(name), text).unwrap();
    }
    let daemon = site.start();
    let port = daemon.addresses[1].port();
    let identity = signed(&authority, "pbx.example");
    let options = |trusts: &CertifiedIssuer<'_, KeyPair>| {
        let address = format!("https://127.0.0.2:{port}").parse().unwrap();
        let identity_pem = Some([identity.0.as_bytes(), identity.1.as_bytes()].concat());
        // A handshake of a build without optimisations, on a busy machine.
        let deadline = Duration::from_secs(5);
        let ca_pem = Some(trusts.pem().into_bytes());
        Options { ca_pem, identity_pem, deadline, ..Options::starting_now(address, "pbx") }
    };
    run(async {
        let client = Client::start(options(&authority), ()).unwrap();
        assert!(client.connected(PATIENCE).await);
        for (session, code) in [("c1", Code::AllowNew), ("c2", Code::AllowHeld)] {
            assert_eq!(client.acquire(&outbound("anna", session)).await.answer.map(|answer| answer.code), Some(code));
        }
        let distrusts = Client::start(options(&stranger), ()).unwrap();
        let verdict = distrusts.acquire(&outbound("bob", "c3")).await;
        assert!(verdict.allow && matches!(verdict.source, Source::Unreachable(_)), "{verdict:?}");
        assert!(!distrusts.status().connected);
    });
    let nothing = Options { ca_pem: Some(Vec::new()), ..options(&authority) };
    assert!(Client::start(nothing, ()).unwrap_err().to_string().contains("ca_pem is empty"));
}
