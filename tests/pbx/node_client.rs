//! The client of a node against the built daemon: killed, stopped and started again under it.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;
use usherd_client::{Address, Ask, Client, Ended, Event, Hooks, OnUnreachable, Options, Source, Unreachable, Verdict};
use usherd_engine::{Class, Code, Detail, Direction, Kind, Leg};
use usherd_testkit::process::{Site, Usherd};
use usherd_testkit::wait::{PATIENCE, eventually_async};

/// How long a call may wait here: more than the 50 ms of a node, so that a busy machine makes no daemon hang.
const DEADLINE: Duration = Duration::from_secs(1);
/// A busy machine may wake this process so much later.
const LATE: Duration = Duration::from_millis(400);

struct Place {
    site: Site,
    socket: tempfile::TempDir,
}

impl Place {
    /// One tenant with so many seats, on a Unix socket that stays the same from start to start.
    fn new(seats: u32) -> Self {
        Self::with(seats, "")
    }

    /// And these lines in the tenant's file.
    fn with(seats: u32, more: &str) -> Self {
        let socket = tempfile::tempdir().unwrap();
        let path = socket.path().join("usherd.sock");
        let main = format!("[server]\nunix_socket = \"{}\"\n[nodes]\nheartbeat_s = 1\nlease_s = 3\n", path.display());
        let tenant = format!("id = \"acme\"\nkind = \"nfr\"\nseats = {seats}\n{more}\n");
        Place { site: Site::new(&main, &[("acme", &tenant)]), socket }
    }

    fn options(&self) -> Options {
        let address = Address::Unix(self.socket.path().join("usherd.sock"));
        Options { deadline: DEADLINE, ..Options::starting_now(address, "pbx") }
    }
}

fn outbound(subject: &str, session: &str) -> Ask {
    Ask::call("acme", subject, session, Direction::Outbound)
}

/// Asks, and sees that the answer comes in time.
async fn ask(client: &Client, ask: &Ask) -> Verdict {
    let began = Instant::now();
    let verdict = client.acquire(ask).await;
    assert!(began.elapsed() < DEADLINE + LATE, "{:?}: {verdict:?}", began.elapsed());
    verdict
}

async fn code(client: &Client, asked: &Ask) -> Option<Code> {
    decision(ask(client, asked).await)
}

/// The daemon's decision; where its answer was late and the second try had it, that is what the first one got.
fn decision(verdict: Verdict) -> Option<Code> {
    verdict.answer.map(|answer| answer.first.unwrap_or(answer.code))
}

/// The value that is there at the first poll.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

async fn until(what: &str, is_so: impl FnMut() -> bool) {
    eventually_async(what, PATIENCE, is_so).await;
}

async fn in_step(client: &Client) {
    until("node and daemon to agree", || {
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
fn calls_flow_while_the_daemon_is_dead_and_are_adopted_g7() {
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
fn a_hanging_daemon_delays_a_few_calls_and_books_none_twice() {
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
fn a_node_that_denies_alone_still_passes_what_must_not_wait() {
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
fn a_node_restart_drops_its_calls_and_keeps_its_pairings_g8() {
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

/// Bob takes an inbound call to outside by consulting there: c1 comes in, c2 goes out, and he connects the two. Where
/// the daemon is away when he does, it hears of it later. What is held then, and what becomes of it.
async fn attended_transfer(transfer_out: &str, away: bool, held: u64) {
    let place = Place::with(1, &format!("sessions.transfer_out = \"{transfer_out}\""));
    let mut daemon = place.site.start();
    let client = Client::start(place.options(), ()).unwrap();
    let inbound = Ask::call("acme", "bob", "c1", Direction::Inbound);
    assert_eq!(at_once(client.acquire(&inbound)).await.unwrap().source, Source::Inbound);
    assert_eq!(code(&client, &outbound("bob", "c2")).await, Some(Code::AllowNew), "he consults (C6)");
    assert_eq!(code(&client, &outbound("carol", "c3")).await, Some(Code::DenyFull));
    in_step(&client).await;
    if away {
        daemon.kill();
        client.release("acme", "c2", Ended::Transferred);
        daemon = place.site.start();
    } else {
        let deadline = client.release_asked("acme", "c2", Ended::Transferred).await;
        let want = if held == 1 { (Code::ReleasedMore, Detail::Linger) } else { (Code::ReleasedLast, Detail::None) };
        assert!(deadline.is_none_or(|answer| answer == want), "{deadline:?}");
    }
    assert!(client.flush(PATIENCE).await);
    client.release("acme", "c1", Ended::Over);
    for lost in ["nothing", "the process", "all it knew"] {
        if lost != "nothing" {
            daemon.kill();
            if lost == "all it knew" {
                std::fs::remove_dir_all(place.site.path("state")).unwrap();
            }
            daemon = place.site.start();
        }
        in_step(&client).await;
        let what = format!("{transfer_out}, away: {away}, the daemon lost {lost}");
        until(&format!("all to be as it was: {what}"), || seats(&daemon) == (held, 0, held as usize)).await;
        assert_eq!(client.sessions().len(), held as usize, "{what}");
    }
    // The two others hang up; a node that need not know the tenant's rule says so in any case.
    client.release("acme", "c2", Ended::Over);
    assert!(client.flush(PATIENCE).await);
    assert_eq!((seats(&daemon), client.sessions().len()), ((0, 0, 0), 0));
    assert_eq!(code(&client, &outbound("carol", "c4")).await, Some(Code::AllowNew));
}

#[test]
fn an_attended_transfer_holds_what_the_tenant_sets_c7_t026() {
    for (transfer_out, held) in [("free", 0), ("charge_until_end", 1)] {
        run(attended_transfer(transfer_out, false, held));
    }
}

#[test]
fn an_attended_transfer_in_an_outage_obeys_the_tenant_c7() {
    for (transfer_out, held) in [("free", 0), ("charge_until_end", 1)] {
        run(attended_transfer(transfer_out, true, held));
    }
}

#[test]
fn a_delivery_never_waits_and_a_takeover_may_cost_c5_c7_c8() {
    let deliver = |session, external| Ask { leg: Leg::Deliver, external, ..outbound("bob", session) };
    for (rule, code_of_follower, held) in [("free", Code::AllowFree, 1), ("follow", Code::AllowOver, 2)] {
        run(async {
            let place = Place::with(1, &format!("sessions.transferred_outbound = \"{rule}\""));
            let daemon = place.site.start();
            let client = Client::start(place.options(), ()).unwrap();
            assert_eq!(code(&client, &outbound("anna", "c1")).await, Some(Code::AllowNew));
            // Forwarded to a mobile, or sent on without a word: bob has no seat, and needs none (T025).
            for (session, external) in [("forwarded", None), ("sent-on", Some(true))] {
                let verdict = at_once(client.acquire(&deliver(session, external))).await;
                assert_eq!(verdict.map(|verdict| (verdict.allow, verdict.source)), Some((true, Source::Inbound)));
            }
            // Anna's own call, handed to bob.
            assert_eq!(code(&client, &deliver("taken-over", Some(false))).await, Some(code_of_follower), "{rule}");
            in_step(&client).await;
            assert_eq!(seats(&daemon), (held, held - 1, 4), "{rule}");
            for session in ["c1", "forwarded", "sent-on", "taken-over"] {
                client.release("acme", session, Ended::Over);
            }
            assert!(client.flush(PATIENCE).await);
            assert_eq!(seats(&daemon), (0, 0, 0));
        });
    }
}

/// The events of a client about its epoch.
#[derive(Clone, Default)]
struct Epochs(Arc<Mutex<Vec<Event>>>);

impl Hooks for Epochs {
    fn event(&self, event: Event) {
        if matches!(event, Event::EpochRaised(_) | Event::EpochRefused) {
            self.0.lock().push(event);
        }
    }
}

impl Epochs {
    fn told(&self) -> Vec<Event> {
        self.0.lock().clone()
    }
}

#[test]
fn a_client_whose_clock_went_back_takes_the_next_epoch_g5_g8() {
    run(async {
        let place = Place::new(2);
        let daemon = place.site.start();
        let starting = |epoch, told: &Epochs| {
            // The first question waits for two hellos.
            let options = Options { epoch, deadline: 5 * DEADLINE, ..place.options() };
            Client::start(options, told.clone()).unwrap()
        };
        let first = starting(5_000, &Epochs::default());
        let granted = async |client: &Client, ask: Ask| decision(client.acquire(&ask).await);
        assert_eq!(granted(&first, outbound("anna", "c1")).await, Some(Code::AllowNew));
        assert_eq!(granted(&first, Ask::new("acme", "bob", "m1", Kind::Mobile)).await, Some(Code::AllowNew));
        drop(first);
        for (epoch, raised) in [(7, 5_001), (5_000, 5_002), (5_002, 5_002), (6_000, 6_000)] {
            let told = Epochs::default();
            let client = starting(epoch, &told);
            // Asked before the daemon has answered hello, and numbered with the epoch that it takes.
            let session = format!("call-{epoch}");
            assert_eq!(granted(&client, outbound("carol", &session)).await, Some(Code::AllowNew), "{epoch}");
            assert_eq!(client.status().epoch, raised);
            let events = if raised == epoch { vec![] } else { vec![Event::EpochRaised(raised)] };
            assert_eq!(told.told(), events, "{epoch}");
            assert_eq!(seats(&daemon), (2, 0, 2), "the pairing and this call: those of the lives before have ended");
            client.release("acme", &session, Ended::Over);
            assert!(client.goodbye(PATIENCE).await);
        }
        assert_eq!(seats(&daemon), (1, 0, 1));
    });
}

#[test]
fn questions_asked_under_a_taken_name_are_booked_later_g7() {
    run(async {
        let place = Place::new(1);
        let daemon = place.site.start();
        let client = Client::start(Options { epoch: 10, ..place.options() }, ()).unwrap();
        assert!(client.connected(PATIENCE).await);
        assert_eq!(daemon.client().post("/v1/nodes/pbx/hello", r#"{"epoch":20}"#).status, 200);
        // The daemon passes it over, and it goes out.
        assert!(ask(&client, &outbound("anna", "c1")).await.allow);
        until("its heartbeat to be refused", || client.status().epoch == 21).await;
        in_step(&client).await;
        assert_eq!(seats(&daemon), (1, 0, 1));
        client.release("acme", "c1", Ended::Over);
        assert!(client.flush(PATIENCE).await);
        assert_eq!(seats(&daemon), (0, 0, 0));
    });
}

#[test]
fn two_clients_of_one_name_do_not_fight_for_it_for_ever() {
    run(async {
        let place = Place::new(2);
        let daemon = place.site.start();
        let starting =
            |epoch, told: &Epochs| Client::start(Options { epoch, ..place.options() }, told.clone()).unwrap();
        let (of_first, of_second) = (Epochs::default(), Epochs::default());
        let first = starting(10, &of_first);
        assert_eq!(code(&first, &outbound("anna", "c1")).await, Some(Code::AllowNew));
        let second = starting(5, &of_second);
        // It takes 11, the first takes 12 when its heartbeat is refused, and then one of them gives in.
        until("the second to be refused again and again", || {
            of_second.told().iter().filter(|event| **event == Event::EpochRefused).count() >= 3
        })
        .await;
        in_step(&first).await;
        assert_eq!(of_first.told(), [Event::EpochRaised(12)]);
        let mut told = of_second.told().into_iter();
        assert_eq!(told.next(), Some(Event::EpochRaised(11)));
        assert!(told.all(|event| event == Event::EpochRefused), "one step each: {:?}", of_second.told());
        assert_eq!((first.status().epoch, second.status().connected), (12, false));
        assert_eq!(daemon.client().get("/v1/nodes").json()["nodes"][0]["epoch"], 12);
        assert_eq!(seats(&daemon), (1, 0, 1), "the call that runs was reported again");
        // Nobody waits for the one that gave in, and the other is asked as before.
        assert!(ask(&second, &outbound("bob", "c2")).await.allow);
        assert_eq!(code(&first, &outbound("bob", "c3")).await, Some(Code::AllowNew));
        assert_eq!(seats(&daemon), (2, 0, 2));
    });
}

/// A way to a daemon's Unix socket that never brings back the answer to an acquire, though the daemon has read it.
fn mute_acquires(socket: std::path::PathBuf) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    std::thread::spawn(move || {
        for mut here in listener.incoming().map_while(Result::ok) {
            let mut there = UnixStream::connect(&socket).unwrap();
            let (mut back, mut answers) = (here.try_clone().unwrap(), there.try_clone().unwrap());
            let is_mute = Arc::new(AtomicBool::new(false));
            let mute = Arc::clone(&is_mute);
            std::thread::spawn(move || {
                let mut bytes = [0; 16_384];
                while let Ok(read) = answers.read(&mut bytes)
                    && read > 0
                    && (mute.load(Ordering::SeqCst) || back.write_all(&bytes[..read]).is_ok())
                {}
            });
            std::thread::spawn(move || {
                let mut bytes = [0; 16_384];
                while let Ok(read) = here.read(&mut bytes)
                    && read > 0
                {
                    if bytes.starts_with(b"POST /v1/acquire") {
                        is_mute.store(true, Ordering::SeqCst);
                    }
                    there.write_all(&bytes[..read]).unwrap();
                }
            });
        }
    });
    address
}

#[test]
fn a_session_asked_for_at_two_addresses_is_booked_once_g5() {
    run(async {
        let place = Place::new(2);
        let daemon = place.site.start();
        let socket = place.socket.path().join("usherd.sock");
        let by_socket = Address::Unix(socket.clone());
        let options =
            Options { address: mute_acquires(socket), other_addresses: vec![by_socket.clone()], ..place.options() };
        let client = Client::start(options, ()).unwrap();
        assert!(client.connected(PATIENCE).await);
        assert_eq!(client.status().daemon, 0);
        // The daemon books it by the first way, and says so by the second.
        let verdict = ask(&client, &outbound("anna", "c1")).await;
        let answer = verdict.answer.unwrap();
        assert_eq!((answer.code, answer.first), (Code::AllowSame, Some(Code::AllowNew)));
        assert_eq!((client.status().daemon, client.address()), (1, &by_socket));
        assert_eq!(seats(&daemon), (1, 0, 1));
        for (session, code) in [("c2", Code::AllowHeld), ("c3", Code::AllowHeld)] {
            assert_eq!(client.acquire(&outbound("anna", session)).await.answer.unwrap().code, code);
        }
        for session in ["c1", "c2", "c3"] {
            client.release("acme", session, Ended::Over);
        }
        assert!(client.flush(PATIENCE).await);
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
