//! `subscription show` and `subscription request`: what a contract says at an instant, and a validated change of it.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use usherd_subscription::civil;
use usherd_subscription::request::Request;

use super::client::{Ask, with_query};
use super::config::{in_force, load_all, main_file, tenant_of};
use super::connection::Connection;
use super::failure::{CONFIGURATION, FAILED, Failure, OK};
use super::instant::{rfc3339, wall_clock};
use super::screen::{Format, Screen};
use crate::answers::config::Config;
use crate::answers::value_of;
use crate::daemon::config::{Unwritten, render_problems, submit};
use crate::daemon::subscriptions::{Written, answered, shown, told};

/// How long the daemon may take to say which configuration it serves.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);
/// How long it may take to read a hundred thousand tenants.
const RELOAD_DEADLINE: Duration = Duration::from_secs(120);
const COLUMNS: [&str; 7] = ["id", "object", "effective_at", "seats", "cancel", "by", "status"];

/// `usherd subscription`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SubscriptionArgs {
    #[command(subcommand)]
    verb: SubscriptionVerb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum SubscriptionVerb {
    /// A subscription's entitlement and bookings
    Show {
        /// The tenant
        tenant: String,
        /// As it is at this instant, RFC 3339 [default: now]
        #[arg(long, value_name = "TIME", value_parser = instant)]
        at: Option<DateTime<Utc>>,
    },
    /// Ask for a change; an accepted one is written into the tenant's file, comments kept
    Request(RequestArgs),
}

/// `usherd subscription request`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RequestArgs {
    /// The tenant
    tenant: String,
    /// The change that is asked for
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(crate::daemon::subscriptions::VERBS))]
    request: String,
    /// The object of the change: subscription, or addon:ID
    #[arg(long, default_value = "subscription")]
    object: String,
    /// add: how many seats more; upgrade: how many seats the paid subscription has
    #[arg(long, value_name = "N")]
    seats: Option<u64>,
    /// reduce: how many seats are left
    #[arg(long, value_name = "N", conflicts_with = "seats")]
    to: Option<u64>,
    /// cancel: how many seats go [default: all]
    #[arg(long, value_name = "N", conflicts_with_all = ["seats", "to"])]
    licences: Option<u64>,
    /// cancel: when; immediate, period_end, or for operators a date as 2026-06-15 [default: when the contract allows]
    #[arg(long)]
    when: Option<String>,
    /// revoke, accept, reject, withdraw: the id of what is booked or submitted, as `subscription show` lists it
    #[arg(long, value_name = "ID")]
    change: Option<String>,
    /// The party that asks
    #[arg(long, default_value = "customer", value_parser = ["customer", "operator"])]
    actor: String,
    /// As of this instant, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<DateTime<Utc>>,
    /// Only say what would happen, and what it would cost
    #[arg(long)]
    dry_run: bool,
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    let at = rfc3339(text)?;
    // What is asked then is dated then, and a record takes no other date.
    let in_era = civil::ERA.contains(&at.timestamp());
    if in_era { Ok(at) } else { Err("it lies outside the years 1970 to 2999".to_owned()) }
}

/// Runs one of the verbs.
///
/// # Errors
/// The files are wrong, there is no such tenant, or a file cannot be written.
pub(super) fn subscription(
    arguments: &SubscriptionArgs,
    main: Option<&Path>,
    connection: &Connection,
    screen: &mut Screen<'_>,
) -> Result<u8, Failure> {
    match &arguments.verb {
        SubscriptionVerb::Show { tenant, at } => show(&main_file(main)?, tenant, at.unwrap_or_else(wall_clock), screen),
        SubscriptionVerb::Request(request) => ask(request, &main_file(main)?, connection, screen),
    }
}

fn show(main: &Path, tenant: &str, at: DateTime<Utc>, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let config = load_all(main, screen.colour)?;
    let tenant = tenant_of(&config, tenant, screen.colour)?;
    let answer = value_of(&shown(tenant, at));
    print(&answer, screen)?;
    Ok(OK)
}

/// JSON as it is; otherwise the fields, and the schedule as a table of its own.
fn print(answer: &Value, screen: &mut Screen<'_>) -> Result<(), Failure> {
    if screen.format == Format::Json {
        return screen.write(&format!("{answer}\n"));
    }
    let schedule = answer.get("schedule").and_then(Value::as_array).cloned().unwrap_or_default();
    if screen.format == Format::Csv {
        return screen.table(&screen.rows(&schedule, &COLUMNS));
    }
    let mut fields = answer.clone();
    let mut objects = None;
    if let Value::Object(fields) = &mut fields {
        fields.remove("schedule");
        objects = fields.remove("objects");
        fields.retain(|_, value| !value.is_null());
    }
    screen.table(&screen.fields(&fields))?;
    screen.line("")?;
    if let Some(Value::Array(objects)) = objects {
        screen.table(&screen.rows(&objects, &["object", "state", "seats"]))?;
        screen.line("")?;
    }
    if schedule.is_empty() {
        return screen.line("nothing is booked");
    }
    let schedule: Vec<Value> = schedule.into_iter().map(told_what_is_asked).collect();
    screen.table(&screen.rows(&schedule, &COLUMNS))
}

/// An undecided cancellation says in the column of cancellations how many seats it is about.
fn told_what_is_asked(mut item: Value) -> Value {
    if let Value::Object(item) = &mut item
        && let Some(licences) = item.remove("cancel_licences")
    {
        item.insert("cancel".into(), if licences.is_null() { json!("all") } else { licences });
    }
    item
}

/// The option that tells a verb its number of seats. `reduce --seats 6` might mean to 6 or by 6, so no verb takes
/// that of another.
fn seats_option(verb: &str) -> &'static str {
    match verb {
        "reduce" => "to",
        "cancel" => "licences",
        _ => "seats",
    }
}

/// The request that the options say.
fn read(arguments: &RequestArgs) -> Result<Request, Failure> {
    let wrong =
        |what: String| Failure::usage(what).fix("`usherd help subscription request` lists the options of each verb");
    let verb = arguments.request.as_str();
    let option = seats_option(verb);
    let numbers = [("seats", arguments.seats), ("to", arguments.to), ("licences", arguments.licences)];
    if let Some((other, _)) = numbers.iter().find(|(name, number)| number.is_some() && *name != option) {
        return Err(wrong(format!("--{other} does not belong to {verb}")));
    }
    let written = Written {
        actor: Some(arguments.actor.clone()),
        request: Some(verb.to_owned()),
        object: Some(arguments.object.clone()),
        seats: numbers.iter().find_map(|(_, number)| *number),
        when: arguments.when.clone(),
        change: arguments.change.clone(),
    };
    written.read().map_err(|faults| {
        let name = |field| if field == "seats" { option } else { field };
        let faults: Vec<String> = faults.into_iter().map(|(field, what)| format!("--{} {what}", name(field))).collect();
        wrong(faults.join("; "))
    })
}

fn ask(arguments: &RequestArgs, main: &Path, connection: &Connection, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let request = read(arguments)?;
    let now = arguments.at.unwrap_or_else(wall_clock);
    let in_force = in_force(main);
    let submission =
        submit(main, &arguments.tenant, &request, now, arguments.dry_run, &in_force).map_err(|unwritten| {
            match unwritten {
                Unwritten::UnknownTenant => unknown(main, &arguments.tenant),
                Unwritten::Invalid(problems) => {
                    let text = render_problems(&problems, screen.colour);
                    Failure { code: CONFIGURATION, what: text.trim_end().to_owned(), fix: String::new() }
                }
                Unwritten::File(why) => Failure::failed(why).fix("nothing was changed"),
            }
        })?;
    let answer = answered(&submission, now, arguments.dry_run);
    let accepted = answer.is_ok();
    let mut answer = answer.map_or_else(|refused| value_of(&refused), |accepted| value_of(&accepted));
    if accepted && !arguments.dry_run {
        let taken_up = tell_daemon(main, &told(&request), &arguments.tenant, connection);
        if let Value::Object(answer) = &mut answer {
            answer.insert("taken_up".into(), json!(taken_up));
        }
    }
    print(&answer, screen)?;
    Ok(if accepted { OK } else { FAILED })
}

/// Lets a daemon that serves this configuration read it again; whether one did.
fn tell_daemon(main: &Path, told: &str, tenant: &str, connection: &Connection) -> bool {
    let Ok(client) = connection.client(Some(main)) else { return false };
    let client = client.patient(LOOK_DEADLINE);
    let serves = client.ask(&Ask::get("/v1/admin/config")).and_then(|reply| reply.read::<Config>());
    let theirs = serves.ok().and_then(|config| Path::new(&config.main).canonicalize().ok());
    if theirs.is_none() || theirs != main.canonicalize().ok() {
        return false;
    }
    let note = Some(format!("{tenant}: {told}"));
    // The request is about one tenant: what else has changed is taken as the daemon takes it by itself.
    let path = with_query("/v1/admin/reload", &[("removals", Some("delayed".to_owned())), ("note", note)]);
    client.patient(RELOAD_DEADLINE).ask(&Ask::post(&path, &json!({}))).is_ok_and(|reply| reply.status.is_success())
}

fn unknown(main: &Path, tenant: &str) -> Failure {
    Failure::failed(format!("{} has no tenant {tenant:?}", main.display())).fix("`usherd config check` counts them")
}
