//! `status`, `tenants`, `sessions`, `nodes`: what is the case now.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use usherd_engine::Kind;
use usherd_subscription::entitlement::State;

use super::client::{Ask, Client, Reply, encoded, with_query};
use super::failure::{Failure, OK};
use super::screen::{Format, Screen};
use crate::daemon::metrics::Band;

/// Rows that are asked for at once, the most that the daemon gives.
const PAGE_ROWS: usize = 1_000;

const TENANT_COLUMNS: [&str; 8] = ["tenant", "state", "held", "quota", "free", "over", "peak", "band"];
const SESSION_COLUMNS: [&str; 9] =
    ["session", "subject", "kind", "direction", "counts", "node", "first", "started", "ends_in_s"];
const NODE_COLUMNS: [&str; 4] = ["node", "state", "epoch", "last_seen"];

/// `usherd tenants`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct TenantsArgs {
    /// Show everything about this one
    tenant: Option<String>,
    /// Only those whose subscription is in this state
    #[arg(long, value_parser = words(State::ALL, State::as_str))]
    state: Option<String>,
    /// Only those in this band
    #[arg(long, value_parser = words(Band::ALL, Band::as_str))]
    band: Option<String>,
    #[command(flatten)]
    part: Part,
}

/// `usherd sessions`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SessionsArgs {
    /// The tenant
    tenant: String,
    /// Only sessions of this kind
    #[arg(long, value_parser = words(Kind::ALL, Kind::as_str))]
    kind: Option<String>,
    /// Only sessions that this node reported
    #[arg(long)]
    node: Option<String>,
    /// Only sessions of this subject
    #[arg(long)]
    subject: Option<String>,
    /// Only sessions that hold a seat (true) or that do not (false)
    #[arg(long, value_name = "BOOL")]
    counts: Option<bool>,
    #[command(flatten)]
    part: Part,
}

/// `usherd nodes`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct NodesArgs {
    #[command(flatten)]
    part: Part,
}

/// Which part of a list.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Part {
    /// Begin after this name
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
    /// Stop after this many rows
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// The words of a closed vocabulary, as the values of an option.
pub(super) fn words<T: Copy>(all: &'static [T], word: fn(T) -> &'static str) -> clap::builder::PossibleValuesParser {
    all.iter().map(|one| word(*one)).collect::<Vec<_>>().into()
}

/// Shows the rows of an answer as they came.
///
/// # Errors
/// The answer is not JSON, or the output cannot be written.
pub(super) fn show_rows(reply: &Reply, noun: &str, columns: &[&str], screen: &mut Screen<'_>) -> Result<(), Failure> {
    let answer = reply.json()?;
    let rows = answer.get(noun).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let table = screen.rows(rows, columns);
    screen.table(&table)
}

/// How the daemon is: ready or not, and its totals. Fails where it is not ready.
///
/// # Errors
/// It cannot be asked.
pub(super) fn status(client: &Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let ready = client.ask(&Ask::get("/readyz?verbose"))?;
    let not_ready = || {
        let why = String::from_utf8_lossy(&ready.body);
        Failure::failed(format!("{} is not ready: {}", ready.from, why.trim()))
    };
    let overview = client.ask(&Ask::get("/v1/overview"))?;
    if !overview.status.is_success() {
        // While it starts there is nothing to look at but this.
        return Err(if ready.status.is_success() { overview.failure() } else { not_ready() });
    }
    match screen.format {
        Format::Json => screen.verbatim(&overview.body)?,
        _ => {
            let mut fields = Map::new();
            fields.insert("ready".into(), Value::Bool(ready.status.is_success()));
            if let Value::Object(rest) = overview.json()? {
                fields.extend(rest.into_iter().filter(|(key, _)| key != "ready"));
            }
            let table = screen.fields(&Value::Object(fields));
            screen.table(&table)?;
        }
    }
    if ready.status.is_success() { Ok(OK) } else { Err(not_ready()) }
}

/// All tenants, or all about one.
///
/// # Errors
/// The daemon cannot be asked, or knows no such tenant.
pub(super) fn tenants(arguments: &TenantsArgs, client: &Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let Some(tenant) = &arguments.tenant else {
        let filters = [("state", arguments.state.clone()), ("band", arguments.band.clone())];
        return list(client, screen, "/v1/tenants", "tenants", &filters, &arguments.part, &TENANT_COLUMNS);
    };
    let reply = client.ask_ok(&Ask::get(&format!("/v1/tenants/{}", encoded(tenant))))?;
    if screen.format == Format::Json {
        screen.verbatim(&reply.body)?;
    } else {
        let table = screen.fields(&reply.json()?);
        screen.table(&table)?;
    }
    Ok(OK)
}

/// The live sessions of a tenant, those that hold no seat too.
///
/// # Errors
/// As [`tenants`].
pub(super) fn sessions(arguments: &SessionsArgs, client: &Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let filters = [
        ("kind", arguments.kind.clone()),
        ("node", arguments.node.clone()),
        ("subject", arguments.subject.clone()),
        ("counts", arguments.counts.map(|counts| counts.to_string())),
    ];
    let path = format!("/v1/tenants/{}/sessions", encoded(&arguments.tenant));
    list(client, screen, &path, "sessions", &filters, &arguments.part, &SESSION_COLUMNS)
}

/// The PBX nodes.
///
/// # Errors
/// The daemon cannot be asked.
pub(super) fn nodes(arguments: &NodesArgs, client: &Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    list(client, screen, "/v1/nodes", "nodes", &[], &arguments.part, &NODE_COLUMNS)
}

/// Reads a list page by page and shows it as one.
///
/// # Errors
/// The daemon cannot be asked, or does not answer with a list, or with one that is not whole, which is shown.
pub(super) fn list(
    client: &Client,
    screen: &mut Screen<'_>,
    path: &str,
    noun: &str,
    filters: &[(&str, Option<String>)],
    part: &Part,
    columns: &[&str],
) -> Result<u8, Failure> {
    let most = part.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let (mut rows, mut missing) = (Vec::new(), BTreeSet::new());
    let mut after = part.after.clone();
    let next = loop {
        let limit = PAGE_ROWS.min(most - rows.len());
        let mut parameters = filters.to_vec();
        parameters.extend([("after", after.clone()), ("limit", Some(limit.to_string()))]);
        let reply = client.ask_ok(&Ask::get(&with_query(path, &parameters)))?;
        let mut page = reply.json()?;
        match page.get_mut(noun).map(Value::take) {
            Some(Value::Array(found)) => rows.extend(found),
            _ => return Err(Failure::failed(format!("{} answered a list without {noun:?}", reply.from))),
        }
        let left_out = page.get("missing").and_then(Value::as_array).into_iter().flatten();
        missing.extend(left_out.filter_map(Value::as_str).map(str::to_owned));
        let next = page.get("next").and_then(Value::as_str).map(str::to_owned);
        // A daemon that names the same place for ever would keep us for ever.
        if next.is_none() || next == after || rows.len() >= most {
            break next;
        }
        after = next;
    };
    rows.truncate(most);
    if screen.format == Format::Json {
        let mut all = Map::new();
        all.insert(noun.to_owned(), Value::Array(rows));
        if let Some(next) = next {
            all.insert("next".to_owned(), Value::String(next));
        }
        if !missing.is_empty() {
            all.insert("missing".to_owned(), missing.iter().cloned().map(Value::String).collect());
        }
        screen.write(&format!("{}\n", Value::Object(all)))?;
    } else {
        let table = screen.rows(&rows, columns);
        screen.table(&table)?;
    }
    match missing_of(&missing) {
        None => Ok(OK),
        Some(missing) => Err(Failure::failed(format!("the list is not whole: {missing} could not be asked"))
            .fix("see `usherd cluster status`")),
    }
}

/// The things that are missing, in words; `None` where there are none.
pub(super) fn missing_of<T: ToString>(missing: impl IntoIterator<Item = T>) -> Option<String> {
    let words: Vec<String> = missing.into_iter().map(|one| one.to_string()).collect();
    (!words.is_empty()).then(|| words.join(", "))
}
