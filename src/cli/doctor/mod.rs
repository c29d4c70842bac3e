//! `doctor`: looks at an installation from the outside and says what is wrong, why it matters, and how to fix it.
//!
//! Each family of checks is a file: it gathers what there is, and a pure function judges it. Nothing is changed.

mod access;
mod clock;
mod cluster;
mod configuration;
mod finding;
mod fleet;
mod reach;
mod running;
mod service;
mod storage;

use std::path::{Path, PathBuf};

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use finding::{Finding, Verdict};

use super::client::{Ask, Client};
use super::config::main_file;
use super::connection::Connection;
use super::failure::{FAILED, Failure, OK};
use super::instant::wall_clock;
use super::screen::Screen;
use crate::answers::cluster::Cluster;
use crate::answers::nodes::Nodes;
use crate::answers::overview::Overview;
use crate::answers::webhooks::Webhooks;
use crate::daemon::config::{Config, load};

/// Most nodes that are asked for: as many as a page has.
const NODES_PATH: &str = "/v1/nodes?limit=1000";

/// `usherd doctor`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// Also show what the daemon knows of this PBX node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Only whether the daemon decides: fast, for a container's health check
    #[arg(long, conflicts_with = "node")]
    health: bool,
    /// Exit with code 1 on warnings, too
    #[arg(long)]
    strict: bool,
}

/// Looks at everything and says how it is: exit code 1 where something fails.
///
/// # Errors
/// The address or the token is of no use, or the output cannot be written.
pub(super) fn doctor(
    arguments: &DoctorArgs,
    main: Option<&Path>,
    connection: &Connection,
    screen: &mut Screen<'_>,
) -> Result<u8, Failure> {
    let client = connection.client(main)?;
    let mut findings = Vec::new();
    if arguments.health {
        running(&client, None, &mut findings);
        findings.truncate(1);
    } else {
        let config = here(main, is_local(connection), &mut findings);
        let asked = Asked { config: config.as_ref(), node: arguments.node.as_deref(), local: is_local(connection) };
        running(&client, Some(&asked), &mut findings);
    }
    finding::show(&findings, screen)?;
    let worst = finding::worst(&findings);
    Ok(if worst == Verdict::Fail || arguments.strict && worst == Verdict::Warn { FAILED } else { OK })
}

/// True if the daemon that is meant lives on this machine, so that files and units here are its own.
fn is_local(connection: &Connection) -> bool {
    let host = connection.addr.as_deref().map(|addr| addr.trim_start_matches("https://").trim_start_matches("http://"));
    host.is_none_or(|addr| {
        addr.is_empty() || ["/", "unix:", "127.", "localhost", "[::1]"].iter().any(|own| addr.starts_with(own))
    })
}

/// Checks this machine, without the daemon; returns the configuration where it is valid.
fn here(main: Option<&Path>, local: bool, findings: &mut Vec<Finding>) -> Option<Config> {
    if !local {
        findings.push(Finding::note(
            "this machine",
            "the daemon is on another machine: files, units and disk are not checked",
            "",
        ));
        return None;
    }
    let units = service::ask();
    findings.extend(service::judge(units.as_ref()));
    findings.push(clock::of_machine(clock::is_synchronized()));
    let path = match main_file(main) {
        Ok(path) => path,
        Err(failure) => {
            let why = "the daemon does not start without one";
            findings.push(Finding::fail("configuration", failure.what, why, failure.fix));
            return None;
        }
    };
    let loaded = load(&path, wall_clock());
    findings.push(configuration::files(&path, &loaded));
    let config = loaded.ok()?;
    findings.extend(access::look(&config, wall_clock()));
    findings.extend(cluster::token(&config));
    let owner = service::of_service(units.as_ref(), "User").and_then(number_of_user);
    let folder = state_dir(&config, service::of_service(units.as_ref(), "StateDirectory"));
    findings.extend(storage::look(&folder, owner, &config.settings.journal));
    Some(config)
}

/// Where the daemon keeps its state: as it finds it itself, and where the unit is installed as that tells it.
fn state_dir(config: &Config, of_unit: Option<&str>) -> PathBuf {
    let from_systemd = std::env::var("STATE_DIRECTORY").ok();
    let of_unit = of_unit.and_then(|names| names.split_whitespace().next()).map(|name| format!("/var/lib/{name}"));
    // The unit reads /etc/usherd; other files belong to a daemon that was started by hand.
    let of_unit = of_unit.filter(|_| config.main().starts_with("/etc/usherd"));
    config.state_dir(from_systemd.or(of_unit).as_deref())
}

/// The number of a user of this machine.
fn number_of_user(name: &str) -> Option<u32> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

/// The questions to the daemon beyond its health.
struct Asked<'a> {
    config: Option<&'a Config>,
    node: Option<&'a str>,
    local: bool,
}

/// Checks the running daemon. After the first silence nothing more is asked: each would wait as long again.
fn running(client: &Client, asked: Option<&Asked<'_>>, findings: &mut Vec<Finding>) {
    let ready = match client.ask(&Ask::get("/readyz?verbose")) {
        Ok(reply) => reply,
        Err(failure) => {
            let why = "nobody decides: nodes allow every call after their deadline, and count none";
            findings.push(Finding::fail("daemon", failure.what, why, failure.fix));
            return;
        }
    };
    let says_so = ready.json().is_ok_and(|body: Value| body.get("ready").is_some());
    let Some(body) = ready.read().ok().filter(|_| says_so) else {
        let failure = ready.failure();
        findings.push(Finding::fail("daemon", failure.what, "whoever answers there is not usherd", failure.fix));
        return;
    };
    findings.extend(running::readiness(&body, &ready.from.to_string()));
    let Some(asked) = asked else { return };
    if let Some(config) = asked.config.filter(|_| asked.local) {
        findings.extend(reach::listeners(config));
    }
    deeper(client, asked, findings);
}

/// Checks that need the right to read.
fn deeper(client: &Client, asked: &Asked<'_>, findings: &mut Vec<Finding>) {
    let settings = asked.config.map(|config| &config.settings);
    if let Some(admin) = answer(client, "/v1/admin/config", "in force", findings) {
        findings.push(configuration::in_force(&admin, asked.config.map(|config| config.hash.as_str())));
    }
    let here = wall_clock();
    if let Some(overview) = answer::<Overview>(client, "/v1/overview", "overview", findings) {
        findings.push(running::release(&overview, env!("CARGO_PKG_VERSION")));
        findings.push(clock::of_daemon(&overview, here));
        findings.extend(running::sync(&overview));
        findings.extend(running::history(&overview));
        findings.push(fleet::tenants(&overview));
    }
    // One machine, and a release that knows no cluster, answer 404; what else is wrong the overview has told.
    let cluster = client.ask_ok(&Ask::get("/v1/cluster")).and_then(|reply| reply.read::<Cluster>());
    findings.extend(cluster.iter().flat_map(cluster::judge));
    // A release that knows no webhooks answers 404, and a token may lack the right: then there is nothing to say.
    let hooks = client.ask_ok(&Ask::get("/v1/admin/webhooks")).and_then(|reply| reply.read::<Webhooks>());
    findings.extend(hooks.ok().and_then(|list| running::webhooks(&list.webhooks)));
    let tenant = asked.config.and_then(|config| config.tenants.keys().next()).map_or("-", |tenant| tenant.as_str());
    findings.push(reach::latency(client, tenant, settings.map_or(50, |settings| settings.nodes.deadline_ms)));
    if let Some(Nodes { nodes, .. }) = answer(client, NODES_PATH, "nodes", findings) {
        findings.push(fleet::nodes(&nodes));
        let lease_s = settings.map(|settings| settings.nodes.lease_s);
        findings.extend(asked.node.map(|wanted| fleet::node(&nodes, wanted, lease_s)));
    }
    match client.ask_ok(&Ask::get("/metrics")) {
        Ok(reply) => {
            let metrics = String::from_utf8_lossy(&reply.body);
            let connections_max = settings.map(|settings| settings.server.connections_max);
            findings.extend(running::descriptors(&metrics, connections_max));
            findings.extend(running::scrapes(&metrics, here));
        }
        Err(failure) => findings.push(Finding::note("monitoring", failure.what, failure.fix)),
    }
}

/// An answer; where there is none, a finding says why.
fn answer<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    check: &'static str,
    findings: &mut Vec<Finding>,
) -> Option<T> {
    let reply = match client.ask(&Ask::get(path)) {
        Ok(reply) if reply.status.is_success() => reply.read(),
        Ok(reply) if matches!(reply.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            findings.push(Finding::note(
                check,
                reply.failure().what,
                "use a token that may read this: --token-file FILE",
            ));
            return None;
        }
        Ok(reply) => Err(reply.failure()),
        Err(failure) => Err(failure),
    };
    match reply {
        Ok(value) => Some(value),
        Err(failure) => {
            findings.push(Finding::fail(check, failure.what, "the daemon should answer this", failure.fix));
            None
        }
    }
}
