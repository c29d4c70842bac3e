//! `webhook`: who is told of what happens, how that went, a test by hand, and a new secret.

use std::time::Duration;

use serde_json::Value;

use super::client::{Ask, Client, encoded};
use super::failure::{FAILED, Failure, OK};
use super::list::{Part, list, show_rows};
use super::screen::{Format, Screen};
use crate::answers::webhooks::WebhookDelivery;
use crate::answers::words::WebhookResult;
use crate::daemon::webhook::sign;

const COLUMNS: [&str; 7] = ["name", "state", "queued", "oldest_at", "last_success_at", "last_error", "url"];
const DELIVERY_COLUMNS: [&str; 10] =
    ["number", "at", "type", "tenant", "attempt", "status", "duration_ms", "result", "next_attempt_at", "error"];
/// A try may take a minute, and wait for its turn.
const TEST_DEADLINE: Duration = Duration::from_secs(70);

/// `usherd webhook`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct WebhookArgs {
    #[command(subcommand)]
    verb: WebhookVerb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum WebhookVerb {
    /// All webhooks: their state, and what waits for them
    List,
    /// The latest delivery attempts of one, oldest first
    Deliveries {
        /// The webhook
        name: String,
        #[command(flatten)]
        part: Part,
    },
    /// Send a signed test to one now, and show its answer; fails if it is not accepted
    Test {
        /// The webhook
        name: String,
    },
    /// A new secret, for secret_file; needs no daemon
    Secret,
}

/// `client` is asked for only where a daemon is required.
///
/// # Errors
/// The daemon cannot be asked, or knows no such webhook.
pub(super) fn webhook(
    arguments: &WebhookArgs,
    client: impl FnOnce() -> Result<Client, Failure>,
    screen: &mut Screen<'_>,
) -> Result<u8, Failure> {
    match &arguments.verb {
        WebhookVerb::List => show_all(&client()?, screen),
        WebhookVerb::Deliveries { name, part } => {
            let path = format!("/v1/admin/webhooks/{}/deliveries", encoded(name));
            list(&client()?, screen, &path, "deliveries", &[], part, &DELIVERY_COLUMNS)
        }
        WebhookVerb::Test { name } => test(name, client()?, screen),
        WebhookVerb::Secret => screen.write(&format!("{}\n", sign::fresh().map_err(Failure::failed)?)).map(|()| OK),
    }
}

fn show_all(client: &Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let reply = client.ask_ok(&Ask::get("/v1/admin/webhooks"))?;
    if screen.format == Format::Json {
        screen.verbatim(&reply.body)?;
    } else {
        show_rows(&reply, "webhooks", &COLUMNS, screen)?;
    }
    Ok(OK)
}

fn test(name: &str, client: Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let path = format!("/v1/admin/webhooks/{}/test", encoded(name));
    let reply = client.patient(TEST_DEADLINE).ask_ok(&Ask::post(&path, &Value::Null))?;
    let tried: WebhookDelivery = reply.read()?;
    if screen.format == Format::Table {
        let answered = tried.status.map_or("nobody answered".to_owned(), |status| format!("it answered {status}"));
        let (id, took) = (&tried.id, tried.duration_ms);
        let line = match tried.error.as_deref().unwrap_or_default() {
            "" => format!("{name} took the test {id} in {took} ms: {answered}"),
            error => format!("{name} did not take the test {id} within {took} ms: {error}"),
        };
        screen.line(&line)?;
    } else if screen.format == Format::Json {
        screen.verbatim(&reply.body)?;
    } else {
        let table = screen.rows(&[reply.json()?], &DELIVERY_COLUMNS);
        screen.table(&table)?;
    }
    Ok(if tried.result == WebhookResult::Delivered.into() { OK } else { FAILED })
}
