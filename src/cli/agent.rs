//! `agent`: the process beside a PBX, in the foreground.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use usherd_agent::config::Loaded;
use usherd_agent::settings::Config;

use super::address::Address;
use super::client::{Ask, Client};
use super::connection::Connection;
use super::failure::{FAILED, Failure, OK};
use super::instant::wall_clock;
use super::screen::{Format, Screen};
use crate::daemon::config::LogFormat;
use crate::daemon::log;
use crate::daemon::runtime::notify;
use crate::daemon::runtime::signals::outlive_file_size_limit;

/// Where the agent's configuration is when nobody says otherwise.
const CONFIG: &str = "/etc/usherd/agent.toml";

/// `usherd agent`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AgentArgs {
    /// Only check the configuration, and say what is wrong with it
    #[arg(long)]
    check: bool,
    /// Show the state of the running agent: connected or not, what lives, what waits; exit code 1 when something is wrong
    #[arg(long, conflicts_with = "check")]
    status: bool,
}

/// Runs the agent until SIGTERM or SIGINT, or looks at its configuration or at the running one.
///
/// # Errors
/// The configuration is wrong, or the agent cannot start or be reached.
pub(super) fn agent(
    arguments: &AgentArgs,
    config: Option<&Path>,
    connection: &Connection,
    screen: &mut Screen<'_>,
) -> Result<u8, Failure> {
    let path = config.map_or_else(|| PathBuf::from(CONFIG), Path::to_path_buf);
    let loaded = usherd_agent::config::load(&path).map_err(|faults| {
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Failure::configuration(format!("{} is not valid\n\n{}", path.display(), told.join("\n").trim_end()))
    })?;
    if arguments.check {
        screen.line(&format!("{} is valid", path.display()))?;
        return Ok(OK);
    }
    if arguments.status {
        return status(&loaded.config, connection, screen);
    }
    serve(&loaded)
}

fn serve(loaded: &Loaded) -> Result<u8, Failure> {
    let format = if loaded.config.log.format == "json" { LogFormat::Json } else { LogFormat::Text };
    log::start(&loaded.config.log.filter, format)
        .map_err(|why| Failure::configuration(format!("log.filter cannot be read: {why}")))?;
    outlive_file_size_limit().map_err(|error| Failure::failed(format!("no signal can be handled: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no event loop can be made: {error}")))?;
    let epoch = u64::try_from(wall_clock().timestamp_millis()).unwrap_or(1);
    let ended = runtime.block_on(async {
        let ready = || {
            let _ = notify::ready("beside the PBX");
            // On the loop that answers scripts: where that hangs, the service manager hears nothing.
            if let Some(interval) = notify::watchdog_interval() {
                tokio::spawn(async move {
                    loop {
                        let _ = notify::alive();
                        sleep(interval).await;
                    }
                });
            }
        };
        let stopped = usherd_agent::run(loaded, epoch, ready, told_to_stop()).await;
        stopped.map_err(|fault| Failure::failed(format!("cannot {}: {}", fault.what, fault.why)))
    });
    log::flush();
    ended.map(|_| OK)
}

async fn told_to_stop() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    let _ = notify::stopping("stopping");
}

fn unreachable_agent(path: &Path, error: &std::io::Error) -> Failure {
    let fix = if error.kind() == std::io::ErrorKind::PermissionDenied {
        "the socket exists, but this user may not use it: run it with sudo, or join the group that socket.group names"
    } else {
        "start it with `systemctl start usherd-agent` or `usherd agent`; it listens at socket.path of its file"
    };
    Failure::failed(format!("the agent cannot be reached ({}: {error})", path.display())).fix(fix)
}

fn status(config: &Config, connection: &Connection, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let Some(path) = config.socket_path() else {
        return Err(Failure::failed("the agent has no socket to be asked at: socket.path is empty"));
    };
    // Looked at here, because the client would tell how to start the daemon.
    if let Err(error) = UnixStream::connect(&path) {
        return Err(unreachable_agent(&path, &error));
    }
    let deadline = std::time::Duration::from_secs(connection.timeout);
    let client = Client::new(vec![Address::Unix(path)], Path::new(""), None, deadline)?;
    let reply = client.ask_ok(&Ask::get("/v1/agent"))?;
    let look = reply.json()?;
    let sources = look.get("sources").and_then(Value::as_array).cloned().unwrap_or_default();
    match screen.format {
        Format::Json => screen.verbatim(&reply.body)?,
        Format::Csv => {
            let table = screen.rows(&sources, &["source", "connected", "presence", "in_grace"]);
            screen.table(&table)?;
        }
        Format::Table => {
            let mut fields = look.clone();
            fields.as_object_mut().map(|fields| fields.remove("sources"));
            let table = screen.fields(&fields);
            screen.table(&table)?;
            if !sources.is_empty() {
                let table = screen.rows(&sources, &["source", "connected", "presence", "in_grace"]);
                screen.write("\n")?;
                screen.table(&table)?;
            }
        }
    }
    let is_connected = |value: &Value| value.get("connected").and_then(Value::as_bool) == Some(true);
    Ok(if is_connected(&look) && sources.iter().all(is_connected) { OK } else { FAILED })
}
