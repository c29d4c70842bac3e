//! `demo --tenants`: as many tenants as one likes, live sessions on them, and a steady load, in figures.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::folder::{self, Folder};
use super::start::{Stop, start};
use super::terminal::{Terminal, Tone};
use crate::cli::failure::Failure;
use crate::daemon::Daemon;
use crate::daemon::clock::{SystemClock, monotonic_ns};

/// Connections that ask, each one question at a time.
const CONNECTIONS: u32 = 4;
/// Operations of one batch; the most that a daemon takes as one JSON body.
const BATCH: u32 = 1_000;
/// Each connection ends a session and begins it anew so often: 2,000 decisions a second in all.
const PAIR_EVERY: Duration = Duration::from_millis(4);
/// How often the figures are told.
const FIGURES_EVERY: Duration = Duration::from_secs(3);

/// The load that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// 1 to 100,000.
    pub tenants: u32,
    /// 1 to 2,000,000.
    pub sessions: u32,
    pub listen: SocketAddr,
}

impl Wanted {
    /// A fifth more than there are sessions, so that some churn finds room.
    fn seats(self) -> u32 {
        let each = self.sessions.div_ceil(self.tenants);
        each + each / 5 + 1
    }

    /// The fields that name a session: sessions are dealt to the tenants in turn.
    fn fields(self, number: u32) -> String {
        let (tenant, place) = (number % self.tenants, number / self.tenants);
        format!(r#""tenant":"{}","session":"load-{place}""#, tenant_id(tenant))
    }

    fn acquire(self, number: u32) -> String {
        let place = number / self.tenants;
        let rest = r#""kind":"call","direction":"outbound","ttl_s":86400"#;
        format!(r#"{{"op":"acquire",{},"subject":"person-{place}",{rest}}}"#, self.fields(number))
    }

    fn release(self, number: u32) -> String {
        format!("{{{}}}", self.fields(number))
    }
}

fn tenant_id(number: u32) -> String {
    format!("t-{number:06}")
}

/// Writes, loads, fills, and keeps it busy until it is to end.
///
/// # Errors
/// The disk, the daemon, or that nobody reads the output any more.
pub(super) fn run(
    wanted: &Wanted,
    folder: &Folder,
    runtime: &Runtime,
    mut stop: Stop,
    mut terminal: Terminal<'_>,
) -> Result<(), Failure> {
    greet(wanted, folder, &mut terminal)?;
    let began = monotonic_ns();
    write(wanted, folder)?;
    let took = seconds_since(began);
    told(&mut terminal, "written", &format!("{} tenants in {took:.1} s", grouped(wanted.tenants)))?;
    let began = monotonic_ns();
    let waiting = spinner("reading all of them");
    let daemon = start(folder, Arc::new(SystemClock::start()))?;
    waiting.finish_and_clear();
    told(&mut terminal, "loaded", &format!("in {:.1} s, and ready", seconds_since(began)))?;
    runtime.block_on(stop.unless_asked(load(*wanted, &daemon, &mut terminal)))?;
    terminal.line(Tone::Plain, "  Stopped.")
}

fn greet(wanted: &Wanted, folder: &Folder, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let Wanted { tenants, sessions, listen } = *wanted;
    for line in [
        String::new(),
        format!("usherd demo: {} tenants with {} live sessions, in real time.", grouped(tenants), grouped(sessions)),
        String::new(),
        format!("  dashboard   http://{listen}/"),
        format!("  by hand     {} tenants --addr {listen} --limit 10", folder::program()),
        format!("  metrics     curl -s http://{listen}/metrics"),
        format!("  files       {}", folder::quoted(folder.path())),
        "  stop        Ctrl-C".to_owned(),
        String::new(),
    ] {
        terminal.line(Tone::Plain, &line)?;
    }
    Ok(())
}

/// `  written     10,000 tenants in 0.1 s`
fn told(terminal: &mut Terminal<'_>, what: &str, figures: &str) -> Result<(), Failure> {
    terminal.line(Tone::Plain, &format!("  {what:<10}  {figures}"))
}

/// Writes them, all into one file: a hundred thousand of their own take minutes to remove on some disks. Each has a
/// short line, or so many would not fit into what a daemon reads.
fn write(wanted: &Wanted, folder: &Folder) -> Result<(), Failure> {
    let bar = bar("writing tenants", wanted.tenants);
    let mut main = format!("# usherd.toml - written by `usherd demo --tenants {}`.\ntenant = [\n", wanted.tenants);
    for number in 0..wanted.tenants {
        main.push_str(&format!("{{id=\"{}\",seats={},kind=\"nfr\"}},\n", tenant_id(number), wanted.seats()));
        bar.inc(1);
    }
    main.push_str(&format!(
        "]\n\n[server]\nlisten = \"{}\"\nstate_dir = \"state\"\ndrain_deadline_ms = 300\n",
        wanted.listen
    ));
    bar.finish_and_clear();
    Folder::write(&folder.main(), &main)
}

async fn load(wanted: Wanted, daemon: &Daemon, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let began = monotonic_ns();
    fill(wanted).await?;
    let (took, live) = (seconds_since(began), daemon.app().deciding.engine.session_total());
    let rate = grouped((f64::from(live) / took) as u32);
    let figures =
        format!("{} sessions in {took:.1} s: {rate} decisions a second over HTTP, {BATCH} in a batch", grouped(live));
    told(terminal, "filled", &figures)?;
    let rate = grouped(2 * CONNECTIONS * 1_000 / PAIR_EVERY.as_millis() as u32);
    let figures = format!("at most {rate} decisions a second from here on, one in each request:");
    told(terminal, "busy", &figures)?;
    terminal.line(Tone::Plain, "              a call ends and another begins, on any tenant, until you stop it")?;
    terminal.line(Tone::Plain, "")?;
    churn(wanted, terminal).await
}

/// All sessions, in batches over a few connections.
async fn fill(wanted: Wanted) -> Result<(), Failure> {
    let bar = bar("taking seats", wanted.sessions);
    let next = Arc::new(AtomicU32::new(0));
    let mut filling = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (next, bar) = (Arc::clone(&next), bar.clone());
        filling.spawn(async move {
            let mut asker = Caller::connect(wanted.listen).await?;
            loop {
                let first = next.fetch_add(BATCH, Ordering::Relaxed);
                if first >= wanted.sessions {
                    return Ok(());
                }
                let until = (first + BATCH).min(wanted.sessions);
                let ops: Vec<String> = (first..until).map(|number| wanted.acquire(number)).collect();
                asker.ask("/v1/batch", format!("{{\"ops\":[{}]}}", ops.join(","))).await?;
                bar.inc(u64::from(until - first));
            }
        });
    }
    while let Some(filled) = filling.join_next().await {
        filled.map_err(|error| Failure::failed(format!("a connection of the load ended: {error}")))??;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Ends sessions and begins them anew at a bounded rate, and tells how long answers take.
async fn churn(wanted: Wanted, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let (measured, mut measures) = mpsc::channel::<u64>(100_000);
    let mut asking = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let measured = measured.clone();
        asking.spawn(async move {
            let mut asker = Caller::connect(wanted.listen).await?;
            let mut pace = tokio::time::interval(PAIR_EVERY);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            // A stride that is prime to most counts reaches all of them.
            let mut number = connection;
            loop {
                pace.tick().await;
                number = (number + 7_919 * CONNECTIONS) % wanted.sessions.max(1);
                for (path, body) in [("/v1/release", wanted.release(number)), ("/v1/acquire", wanted.acquire(number))] {
                    let asked = monotonic_ns();
                    asker.ask(path, body).await?;
                    // A reader that is slow misses a measure, not the load its pace.
                    let _ = measured.try_send(monotonic_ns() - asked);
                }
            }
        });
    }
    let mut figures = tokio::time::interval(FIGURES_EVERY);
    figures.tick().await;
    let mut since = monotonic_ns();
    let mut waited: Vec<u64> = Vec::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = asking.join_next() => {
                let ended: Result<Result<(), Failure>, _> = ended;
                return ended.map_err(|error| Failure::failed(format!("a connection of the load ended: {error}")))?;
            }
            _ = figures.tick() => {
                let line = figures_line(&mut waited, seconds_since(since));
                terminal.line(Tone::Plain, &line)?;
                (since, waited) = (monotonic_ns(), Vec::new());
            }
            Some(nanos) = measures.recv() => waited.push(nanos),
        }
    }
}

/// `  2,000 decisions/s   p50 95 us   p99 410 us   memory 180 MB`
fn figures_line(waited: &mut [u64], seconds: f64) -> String {
    waited.sort_unstable();
    let at = |share: f64| waited.get((waited.len() as f64 * share) as usize).copied().unwrap_or(0) / 1_000;
    let memory = resident_mb().map_or(String::new(), |mb| format!("   memory {mb} MB, this load included"));
    let rate = grouped((waited.len() as f64 / seconds.max(0.001)) as u32);
    format!("  {rate} decisions/s   p50 {} us   p99 {} us{memory}", at(0.50), at(0.99))
}

/// The memory of this process, MiB, where the system tells.
fn resident_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1_024)
}

/// A connection that asks one thing after the other.
struct Caller {
    listen: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

impl Caller {
    async fn connect(listen: SocketAddr) -> Result<Self, Failure> {
        let wrong =
            |why: &dyn std::fmt::Display| Failure::failed(format!("the load cannot connect to {listen}: {why}"));
        let stream = TcpStream::connect(listen).await.map_err(|error| wrong(&error))?;
        stream.set_nodelay(true).map_err(|error| wrong(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| wrong(&error))?;
        tokio::spawn(connection);
        Ok(Caller { listen, sender })
    }

    async fn ask(&mut self, path: &str, body: String) -> Result<(), Failure> {
        let wrong = |why: String| Failure::failed(format!("{path} was not answered: {why}"));
        let request = Request::post(path).header(HOST, self.listen.to_string()).header(ACCEPT, "application/json");
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| wrong(error.to_string()))?;
        let answer = self.sender.send_request(request).await.map_err(|error| wrong(error.to_string()))?;
        let status = answer.status();
        answer.into_body().collect().await.map_err(|error| wrong(error.to_string()))?;
        if status.is_success() { Ok(()) } else { Err(wrong(format!("status {status}"))) }
    }
}

/// A bar on a terminal, and nothing elsewhere.
fn bar(what: &'static str, all: u32) -> ProgressBar {
    let bar = ProgressBar::new(u64::from(all)).with_message(what);
    let template = "  {msg:<16} {bar:30} {human_pos} of {human_len}, {eta} left";
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn spinner(what: &'static str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

fn seconds_since(began_ns: u64) -> f64 {
    (monotonic_ns() - began_ns) as f64 / 1e9
}

/// `100,000`
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (number, shown) in [(0, "0"), (999, "999"), (1_000, "1,000"), (2_000_000, "2,000,000")] {
            assert_eq!(grouped(number), shown);
        }
    }

    #[test]
    fn every_session_finds_a_seat_and_is_named_once() {
        for (tenants, sessions) in [(1, 1), (3, 100), (100, 7), (1_000, 10_000)] {
            let wanted = Wanted { tenants, sessions, listen: "127.0.0.1:1".parse().unwrap() };
            let names: std::collections::BTreeSet<String> = (0..sessions).map(|number| wanted.fields(number)).collect();
            assert_eq!(names.len(), sessions as usize);
            assert!(wanted.seats() > sessions.div_ceil(tenants), "{wanted:?}");
        }
    }

    #[test]
    fn the_most_there_may_be_are_a_good_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(Some(&dir.path().join("new"))).unwrap();
        let wanted = Wanted { tenants: 100_000, sessions: 2_000_000, listen: "127.0.0.1:1".parse().unwrap() };
        write(&wanted, &folder).unwrap();
        let now = crate::cli::instant::wall_clock();
        let config = crate::daemon::config::load(&folder.main(), now).unwrap();
        assert_eq!(config.tenants.len(), 100_000);
    }

    #[test]
    fn figures_are_of_the_middle_and_of_the_slowest() {
        let mut waited: Vec<u64> = (1..=100).rev().map(|micros| micros * 1_000).collect();
        let line = figures_line(&mut waited, 1.0);
        assert!(line.starts_with("  100 decisions/s   p50 51 us   p99 100 us"), "{line}");
        assert!(figures_line(&mut [], 0.0).starts_with("  0 decisions/s"), "nothing was measured");
    }
}
