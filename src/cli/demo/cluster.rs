//! `demo --cluster`: three daemons decide together, one of them is killed, and the gap is measured.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use super::fleet::{Fleet, MEMBERS, Program};
use super::folder::{self, Folder};
use super::start::Stop;
use super::terminal::{Terminal, Tone, wrapped};
use crate::answers::cluster::{ClusterMember, ClusterStatus};
use crate::cli::failure::Failure;
use crate::daemon::clock::monotonic_ns;
use crate::daemon::journal::Shard;
use crate::daemon::outgoing::{Target, connect, send};

/// Tenants of the cluster: enough that every member decides some.
const TENANTS: usize = 16;
/// Seats of each; the last one is taken after the take-over.
const SEATS: usize = 10;
/// How long anything may take before the demonstration gives up, seconds.
const PATIENCE_S: f64 = 60.0;
/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks, or two calls, of which the first was not enough.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two inbound calls while a tenant has no owner.
const INBOUND_EVERY: Duration = Duration::from_millis(20);
/// Longest answer that is taken, bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// A seat was taken; the second where an answer before it was lost.
const TAKEN: [&str; 2] = ["allow.new", "allow.same"];
/// The answer while the machine is too busy for etcd: no seat was taken, and it is asked again.
const LATER: &str = "deny.inactive no_majority";
/// The width of what is told, beside its heading.
const TEXT_WIDTH: usize = 66;

/// Starts everything, kills an owner, tells of it, and ends everything.
///
/// # Errors
/// etcd is not installed, something does not work as it must, or nobody reads the output any more.
pub(super) fn run(
    listen: SocketAddr,
    folder: &Folder,
    runtime: &Runtime,
    mut stop: Stop,
    mut terminal: Terminal<'_>,
) -> Result<(), Failure> {
    for number in 0..TENANTS {
        let text = format!("id = \"{0}\"\nkind = \"nfr\"\nseats = {SEATS}\n", tenant(number));
        Folder::write(&folder.tenant(&tenant(number)), &text)?;
    }
    let fleet = Fleet::new(folder, listen)?;
    greet(&fleet, folder, &mut terminal)?;
    let mut show = Show { fleet, terminal, acknowledged: BTreeSet::new() };
    let is_over = runtime.block_on(stop.unless_asked(show.play()));
    let Show { fleet, mut terminal, .. } = show;
    drop(fleet);
    terminal.line(Tone::Plain, if is_over? { "  All of it has ended." } else { "  Stopped." })
}

fn tenant(number: usize) -> String {
    format!("customer-{:02}", number + 1)
}

fn greet(fleet: &Fleet, folder: &Folder, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let goes = if folder.is_temporary() { "; they are removed when the demo ends" } else { "" };
    let first = fleet.daemons.first().map(|daemon| daemon.address.to_string()).unwrap_or_default();
    for line in [
        String::new(),
        format!("usherd demo: {MEMBERS} daemons decide together for {TENANTS} tenants, and one of them dies."),
        String::new(),
        format!("  dashboard   http://{first}/"),
        format!("  files       {}{goes}", folder::quoted(folder.path())),
        "  stop        Ctrl-C".to_owned(),
        String::new(),
    ] {
        terminal.line(Tone::Plain, &line)?;
    }
    Ok(())
}

fn session(number: usize) -> String {
    format!("call-{number}")
}

/// An outbound call, or one from outside.
fn call(tenant: &str, session: &str, direction: &str) -> Value {
    json!({
        "tenant": tenant, "subject": session, "session": session, "kind": "call", "direction": direction, "ttl_s": 3600
    })
}

/// The demonstration while it is on.
struct Show<'a> {
    fleet: Fleet,
    terminal: Terminal<'a>,
    /// Calls of which a daemon said that they have a seat: tenant and session.
    acknowledged: BTreeSet<(String, String)>,
}

/// An owner that is killed, and a tenant of it.
struct Victim {
    at: usize,
    tenant: String,
    shard: u32,
}

/// Inbound calls during the gap.
#[derive(Clone, Copy, Default)]
struct Inbound {
    calls: u32,
    longest_ns: u64,
}

impl Show<'_> {
    async fn play(&mut self) -> Result<(), Failure> {
        self.start().await?;
        self.take_seats().await?;
        let victim = self.victim().await?;
        self.kill(&victim).await?;
        self.compare(victim.at).await?;
        self.bring_back(victim.at).await
    }

    async fn start(&mut self) -> Result<(), Failure> {
        let began = monotonic_ns();
        self.fleet.etcds.iter_mut().try_for_each(Program::start)?;
        for at in 0..MEMBERS {
            let etcd = self.fleet.etcds[at].address;
            let leads = async || (ask(etcd, "/health", None).await?.1["health"] == "true").then_some(());
            self.until("a member of etcd to follow a leader", leads).await?;
        }
        self.told("etcd", &format!("{MEMBERS} members, of which one leads, after {:.1} s", seconds_since(began)))?;
        let began = monotonic_ns();
        self.fleet.daemons.iter_mut().try_for_each(Program::start)?;
        let shares = self.until_spread().await?;
        self.told("daemons", &format!("{shares}, after {:.1} s", seconds_since(began)))
    }

    /// Waits until every daemon decides its share, and tells the shares.
    async fn until_spread(&mut self) -> Result<String, Failure> {
        let address = self.fleet.daemons[0].address;
        let spread = async || {
            let cluster = cluster(address).await?;
            let least = cluster.owners.len() / MEMBERS;
            let is_spread = cluster.members.len() == MEMBERS
                && cluster.members.iter().all(|member| member.shards.len() >= least)
                && cluster.missing.is_empty();
            let share = |member: &ClusterMember| format!("{} decides {} shards", member.name, member.shards.len());
            is_spread.then(|| cluster.members.iter().map(share).collect::<Vec<_>>().join(", "))
        };
        self.until("the shards to be spread over the daemons", spread).await
    }

    /// Every tenant gets calls through all daemons by turns, up to its last seat but one.
    async fn take_seats(&mut self) -> Result<(), Failure> {
        let daemons: Vec<SocketAddr> = self.fleet.daemons.iter().map(|daemon| daemon.address).collect();
        for number in 1..SEATS {
            for at in 0..TENANTS {
                let daemon = daemons[(number + at) % daemons.len()];
                self.expect(daemon, &tenant(at), &session(number), &TAKEN).await?;
            }
        }
        let count = self.acknowledged.len();
        self.told(
            "calls",
            &format!("{count} through all daemons by turns, each decided by the owner of its tenant: allow.new"),
        )
    }

    /// The owner of a tenant; not the daemon of the dashboard, where that can be.
    async fn victim(&mut self) -> Result<Victim, Failure> {
        let address = self.fleet.daemons[0].address;
        let cluster = self.until("a daemon to tell the owners", async || cluster(address).await).await?;
        let victim = |number: usize| {
            let shard = Shard::of(&tenant(number), cluster.owners.len() as u32).0;
            let owner = cluster.owners.get(shard as usize)?.as_ref()?;
            let at = self.fleet.daemons.iter().position(|daemon| daemon.name == *owner)?;
            Some(Victim { at, tenant: tenant(number), shard })
        };
        let victim = (0..TENANTS).rev().filter_map(victim).max_by_key(|victim| victim.at > 0);
        victim.ok_or_else(|| Failure::failed("no tenant has an owner"))
    }

    async fn kill(&mut self, victim: &Victim) -> Result<(), Failure> {
        let Victim { at, tenant, shard } = victim;
        let others = self.survivors(*at);
        let what = format!("{} by kill -9; it decided {tenant}, of shard {shard}", self.fleet.daemons[*at].name);
        self.fleet.daemons[*at].kill();
        let began = monotonic_ns();
        self.told("killed", &what)?;
        let (inbound, last) = (Cell::new(Inbound::default()), session(SEATS));
        tokio::select! {
            biased;
            failed = inbound_calls(others[1], tenant, &inbound) => return Err(failed),
            decided = self.expect(others[0], tenant, &last, &TAKEN) => decided?,
        }
        let gap_ms = (monotonic_ns() - began) / 1_000_000;
        self.told("gap", &format!("{gap_ms} ms until another daemon gave a call of {tenant} its seat"))?;
        let Inbound { calls, longest_ns } = inbound.get();
        let longest_ms = longest_ns as f64 / 1e6;
        self.told("inbound", &format!("{calls} calls meanwhile: all allowed, the slowest in {longest_ms:.1} ms"))
    }

    /// Fails where a call that was acknowledged is not known any more, or a tenant has a seat more or less than before.
    async fn compare(&mut self, victim: usize) -> Result<(), Failure> {
        let others = self.survivors(victim);
        for at in 0..TENANTS {
            let (one, other) = (others[at % others.len()], others[(at + 1) % others.len()]);
            self.expect(one, &tenant(at), &session(SEATS), &TAKEN).await?;
            self.expect(other, &tenant(at), &session(SEATS + 1), &["deny.full tenant"]).await?;
        }
        let mut known = BTreeSet::new();
        for at in 0..TENANTS {
            let (asked, path) = (others[at % others.len()], format!("/v1/tenants/{}/sessions?limit=1000", tenant(at)));
            let listed = self.until("a list", async || found(ask(asked, &path, None).await?)).await?;
            let sessions = listed["sessions"].as_array().into_iter().flatten();
            known.extend(sessions.filter_map(|row| Some((tenant(at), row["session"].as_str()?.to_owned()))));
        }
        let (all, lost) = (self.acknowledged.len(), self.acknowledged.difference(&known).count());
        if lost > 0 {
            return Err(Failure::failed(format!("{lost} of {all} acknowledged calls are not known any more")));
        }
        let full = "every tenant gave its last seat, and refused the next call: deny.full tenant";
        self.told("kept", &format!("{all} of {all} acknowledged calls have their seats, 0 are lost; {full}"))
    }

    async fn bring_back(&mut self, victim: usize) -> Result<(), Failure> {
        let began = monotonic_ns();
        self.fleet.daemons[victim].start()?;
        let shares = self.until_spread().await?;
        let name = &self.fleet.daemons[victim].name;
        let what = format!("{name} is started again, and has its share {:.1} s later: {shares}", seconds_since(began));
        self.told("back", &what)
    }

    /// Has an outbound call decided, and notes its seat; where nobody decides yet, it is asked again.
    async fn expect(
        &mut self,
        daemon: SocketAddr,
        tenant: &str,
        session: &str,
        expected: &[&str],
    ) -> Result<(), Failure> {
        let body = call(tenant, session, "outbound");
        let decide = async || {
            let told = decision(&found(ask(daemon, "/v1/acquire", Some(&body)).await?)?)?;
            (told != LATER).then_some(told)
        };
        let told = self.until("a call to be decided", decide).await?;
        if !expected.contains(&told.as_str()) {
            let expected = expected.join(" or ");
            return Err(Failure::failed(format!("{session} of {tenant} was answered {told}, not {expected}")));
        }
        if told.starts_with("allow.") {
            self.acknowledged.insert((tenant.to_owned(), session.to_owned()));
        }
        Ok(())
    }

    /// The daemons that live.
    fn survivors(&self, victim: usize) -> Vec<SocketAddr> {
        let daemons = self.fleet.daemons.iter().enumerate().filter(|(at, _)| *at != victim);
        daemons.map(|(_, daemon)| daemon.address).collect()
    }

    /// Looks until it is so.
    async fn until<T>(&mut self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T, Failure> {
        let began = monotonic_ns();
        loop {
            if let Some(found) = look().await {
                return Ok(found);
            }
            self.fleet.check()?;
            if seconds_since(began) > PATIENCE_S {
                return Err(Failure::failed(format!("it takes more than {PATIENCE_S} s for {what}")));
            }
            sleep(PAUSE).await;
        }
    }

    /// `  gap         873 ms until …`
    fn told(&mut self, what: &str, text: &str) -> Result<(), Failure> {
        for (at, line) in wrapped(text, TEXT_WIDTH).iter().enumerate() {
            let what = if at == 0 { what } else { "" };
            self.terminal.line(Tone::Plain, &format!("  {what:<10}  {line}"))?;
        }
        Ok(())
    }
}

/// Calls from outside, one after the other, until one is not allowed.
async fn inbound_calls(daemon: SocketAddr, tenant: &str, told: &Cell<Inbound>) -> Failure {
    loop {
        let Inbound { calls, longest_ns } = told.get();
        let body = call(tenant, &format!("inbound-{calls}"), "inbound");
        let began = monotonic_ns();
        let answer = ask(daemon, "/v1/acquire", Some(&body)).await.and_then(found);
        let decision = answer.as_ref().and_then(decision);
        if decision.as_deref() != Some("allow.free inbound") {
            return Failure::failed(format!("an inbound call was not allowed: {decision:?}"));
        }
        told.set(Inbound { calls: calls + 1, longest_ns: longest_ns.max(monotonic_ns() - began) });
        sleep(INBOUND_EVERY).await;
    }
}

/// The cluster, as a daemon sees it that is ready.
async fn cluster(daemon: SocketAddr) -> Option<ClusterStatus> {
    let answer = found(ask(daemon, "/readyz?verbose", None).await?)?;
    serde_json::from_value(answer.get("cluster")?.clone()).ok()
}

/// The body of a 200.
fn found((status, body): (StatusCode, Value)) -> Option<Value> {
    (status == StatusCode::OK).then_some(body)
}

/// `deny.full tenant`
fn decision(answer: &Value) -> Option<String> {
    let code = answer["code"].as_str()?;
    Some(format!("{code} {}", answer["detail"].as_str().unwrap_or_default()).trim_end().to_owned())
}

/// Asks; a body is posted. `None` where there is no answer in JSON, as from a program that is not up yet.
async fn ask(address: SocketAddr, path: &str, body: Option<&Value>) -> Option<(StatusCode, Value)> {
    let asked = async {
        let host = address.ip().to_string();
        let stream = connect(&Target::Host { host: &host, port: address.port(), trust: None }).await.ok()?;
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let content = Bytes::from(body.map(Value::to_string).unwrap_or_default());
        let request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(content)).ok()?;
        let answer = send(stream, request).await.ok()?;
        let status = answer.response.status();
        let body = Limited::new(answer.response.into_body(), ANSWER_BYTES_MAX).collect().await.ok()?;
        Some((status, serde_json::from_slice(&body.to_bytes()).ok()?))
    };
    timeout(ANSWER_WITHIN, asked).await.ok()?
}

fn seconds_since(began_ns: u64) -> f64 {
    (monotonic_ns() - began_ns) as f64 / 1e9
}
