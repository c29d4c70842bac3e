//! The real Prometheus with the shipped scrape jobs and rules: it scrapes the daemon, records, alerts, and answers.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use usherd_testkit::process::{Site, Usherd, own_ip};
use usherd_testkit::wait::{eventually_or, pause};

/// Tenants beside those that the test looks at, of one seat each.
const OTHERS: usize = 1_590;
/// Between two questions; each starts a curl.
const BETWEEN: Duration = Duration::from_millis(200);

/// A running Prometheus with a folder of its own; dropping it ends it.
struct Prometheus {
    child: Child,
    url: String,
    folder: tempfile::TempDir,
}

/// A shipped file with what must differ here; every replacement must hit.
fn shipped(file: &str, replacements: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus").join(file);
    let mut text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (from, to) in replacements {
        assert!(text.contains(from), "{file} has no {from:?} any more");
        text = text.replace(from, to);
    }
    text
}

impl Prometheus {
    /// Scrapes this daemon as the shipped files say, every second instead of every half minute.
    fn start(daemon: &Usherd) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = daemon.address().to_string();
        let jobs = [
            ("127.0.0.1:7788", address.as_str()),
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("scrape_interval: 30s", "scrape_interval: 1s"),
            ("refresh_interval: 1m", "refresh_interval: 1s"),
        ];
        let jobs = format!("global:\n  evaluation_interval: 1s\n{}", shipped("scrape.yml", &jobs));
        std::fs::write(folder.path().join("prometheus.yml"), jobs).unwrap();
        let rules = shipped("usherd.rules.yml", &[("interval: 1m", "interval: 1s")]);
        std::fs::write(folder.path().join("usherd.rules.yml"), rules).unwrap();
        let own = std::net::TcpListener::bind((own_ip(), 0)).unwrap().local_addr().unwrap();
        let option = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
        let mut command = Command::new("prometheus");
        command.arg(option("config.file", folder.path().join("prometheus.yml")));
        command.arg(option("storage.tsdb.path", folder.path().join("data")));
        command.arg(format!("--web.listen-address={own}"));
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.unwrap_or_else(|error| panic!("prometheus (Debian package prometheus): {error}"));
        Prometheus { child, url: format!("http://{own}"), folder }
    }

    /// Its answer; `None` where there is none, or not yet.
    fn ask(&self, path: &str, query: &str) -> Option<Value> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "10", "-G"]).arg(format!("{}{path}", self.url));
        if !query.is_empty() {
            curl.args(["--data-urlencode", &format!("query={query}")]);
        }
        let output = curl.output().unwrap_or_else(|error| panic!("curl (Debian package curl): {error}"));
        let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
        (answer["status"] == "success").then(|| answer["data"].clone())
    }

    /// Waits until a question has this answer.
    fn until(&self, what: &str, path: &str, query: &str, seen: impl Fn(&Value) -> bool) {
        let last = RefCell::new(None);
        let look = || {
            let good = last.borrow_mut().insert(self.ask(path, query)).as_ref().is_some_and(&seen);
            if !good {
                pause(BETWEEN);
            }
            good.then_some(())
        };
        let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        eventually_or(look, || format!("{what}: {query}\n{:#?}\n{}", last.borrow(), log()));
    }

    /// Waits until a query has exactly this value in every series, and as many series as that.
    fn until_is(&self, query: &str, values: &[&str]) {
        self.until("a value", "/api/v1/query", query, |data| {
            let series = data["result"].as_array().unwrap();
            let own: Vec<&str> = series.iter().map(|series| series["value"][1].as_str().unwrap()).collect();
            own == values
        });
    }

    /// Waits until an alert about a tenant is in this state.
    fn until_alerts(&self, name: &str, tenant: &str, state: &str) {
        self.until(name, "/api/v1/alerts", "", |data| {
            let alerts = data["alerts"].as_array().unwrap();
            alerts.iter().any(|alert| {
                alert["labels"]["alertname"] == name && alert["labels"]["tenant"] == tenant && alert["state"] == state
            })
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Its own way to end; it is asked only while it runs, when its id is surely its own.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn acquire(daemon: &Usherd, tenant: &str, subject: &str) -> String {
    let body = format!(
        r#"{{"tenant":"{tenant}","subject":"{subject}","session":"{subject}-pc","kind":"desktop","ttl_s":600}}"#
    );
    let answer = daemon.client().post("/v1/acquire", &body);
    answer.json()["code"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[test]
fn prometheus_scrapes_the_daemon_and_answers() {
    let tenant = |id: &str, seats: u32| format!("id = {id:?}\nkind = \"nfr\"\nseats = {seats}\n");
    let (acme, vast) = (tenant("acme", 2), tenant("vast", 8));
    // With so many that the daemon offers more than one shard: two hold seats, the others fill the fleet.
    let others: String = (0..OTHERS).map(|at| format!("[[tenant]]\n{}", tenant(&format!("t{at:04}"), 1))).collect();
    let main = format!("[metrics]\ntenants = \"all\"\n{others}");
    let site = Site::new(&main, &[("acme", &acme), ("vast", &vast)]);
    let daemon = site.start();
    for (tenant, subject) in [("acme", "anna"), ("acme", "bob"), ("vast", "anna")] {
        assert_eq!(acquire(&daemon, tenant, subject), "allow.new");
    }
    let prometheus = Prometheus::start(&daemon);
    // Both jobs: the fleet, and what the daemon itself offers to be discovered.
    prometheus.until_is("usherd_seats_in_use{job=\"usherd\"}", &["3"]);
    prometheus.until_is("count(up{job=\"usherd-tenants\"})", &["2"]);
    prometheus.until_is("count(usherd_tenant_seats_in_use{job=\"usherd-tenants\"})", &["1592"]);
    prometheus.until_is("sum(usherd_seats_in_use{job=\"usherd-tenants\"})", &["3"]);
    prometheus.until_is("usherd_tenant_seats_in_use{job=\"usherd-tenants\",tenant=\"vast\"}", &["1"]);
    prometheus.until_is("min(up{job=~\"usherd.*\"})", &["1"]);
    assert_eq!(acquire(&daemon, "vast", "bob"), "allow.new");
    prometheus.until_is("usherd_seats_in_use{job=\"usherd\"}", &["4"]);
    // Recorded by the shipped rules.
    prometheus.until_is("instance:usherd_seats_in_use:ratio{job=\"usherd\"}", &["0.0025"]);
    prometheus.until_is("instance_tenant:usherd_tenant_seats_in_use:ratio{job=\"usherd\",tenant=\"vast\"}", &["0.25"]);
    // All rules are loaded, none has a fault; and one that fires at once and one that waits ten minutes do so.
    let count = shipped("usherd.rules.yml", &[]).lines().filter(|line| line.trim().starts_with("- alert:")).count();
    prometheus.until("the alerts", "/api/v1/rules", "", |data| {
        let groups = data["groups"].as_array().unwrap();
        let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
        let alerts = rules.iter().filter(|rule| rule["type"] == "alerting").count();
        alerts == count && rules.iter().all(|rule| rule["health"] == "ok")
    });
    prometheus.until_is("usherd_tenant_denials_total{job=\"usherd\",tenant=\"acme\"}", &["0"]);
    for subject in ["cleo", "dora", "emil"] {
        assert_eq!(acquire(&daemon, "acme", subject), "deny.full");
    }
    prometheus.until_alerts("UsherdTenantDenials", "acme", "firing");
    prometheus.until_alerts("UsherdTenantNearQuota", "acme", "pending");
}
