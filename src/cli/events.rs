//! `events`: what happens, as it happens.

use serde_json::Value;

use super::client::{Ask, Client, with_query};
use super::failure::{FAILED, Failure, OK};
use super::list::words;
use super::screen::{Format, Screen};
use crate::daemon::events::EventType;

const COLUMNS: [&str; 12] =
    ["id", "at", "type", "tenant", "subject", "session", "kind", "code", "detail", "reason", "held", "message"];

/// `usherd events`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct EventsArgs {
    /// Only events of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only events of these types, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = words(EventType::ALL, EventType::as_str))]
    types: Vec<String>,
    /// Begin after the event with this number, if it is still kept
    #[arg(long, value_name = "ID")]
    since: Option<u64>,
    /// Stop after this many events
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// Shows events until it is interrupted, has shown enough, or the daemon goes, which is a failure.
///
/// # Errors
/// The daemon cannot be asked, or the stream breaks off.
pub(super) fn events(arguments: &EventsArgs, client: &Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let types = (!arguments.types.is_empty()).then(|| arguments.types.join(","));
    let path = with_query("/v1/events", &[("tenant", arguments.tenant.clone()), ("types", types)]);
    if screen.format == Format::Csv {
        screen.write(&Screen::csv_record(&COLUMNS.map(str::to_owned)))?;
    }
    let mut shown = 0;
    let enough = client.follow(&Ask::stream(&path, arguments.since), |line| {
        show(line, screen)?;
        shown += 1;
        Ok(arguments.limit.is_none_or(|limit| shown < limit))
    })?;
    if enough { Ok(OK) } else { Ok(FAILED) }
}

fn show(line: &str, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let event: Value = serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.to_owned()));
    match screen.format {
        Format::Json => screen.write(&format!("{line}\n")),
        Format::Csv => {
            let cells: Vec<String> =
                COLUMNS.iter().map(|key| screen.cell(key, event.get(key).unwrap_or(&Value::Null))).collect();
            screen.write(&Screen::csv_record(&cells))
        }
        Format::Table => {
            let text = told(&event, screen);
            screen.lines(&text)
        }
    }
}

/// `2026-06-16 14:03:07 +02:00  denied  acme  anna  deny.full tenant  10/10`
fn told(event: &Value, screen: &Screen<'_>) -> String {
    let cell = |key: &str| screen.cell(key, event.get(key).unwrap_or(&Value::Null));
    let mut parts = vec![cell("at"), cell("type"), cell("tenant"), cell("subject"), cell("kind")];
    parts.push(format!("{} {}", cell("code"), cell("detail")).trim().to_owned());
    parts.push(cell("reason"));
    if event.get("held").is_some() {
        parts.push(format!("{}/{}", cell("held"), cell("quota")));
    }
    parts.push(cell("message"));
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() { event.to_string() } else { parts.join("  ") }
}
