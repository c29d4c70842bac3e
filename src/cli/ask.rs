//! `acquire`, `release`, `explain`: asking by hand.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use usherd_contract::answers::{Decision, Released};
use usherd_engine::{Class, Device, Direction, Kind, Leg};

use super::client::{Ask, Client};
use super::failure::{FAILED, Failure, OK};
use super::list::{show_rows, words};
use super::rules;
use super::screen::{Format, Screen};
use super::table::Table;
use crate::answers::operation::{Explanation, Step};
use crate::daemon::config::Quota;

/// `usherd acquire`, `usherd explain`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AcquireArgs {
    /// The customer phone system
    tenant: String,
    /// The subject that would hold the seat; - for none
    subject: String,
    /// The session; - for none (emergency calls)
    session: String,
    /// The kind of session
    #[arg(value_parser = words(Kind::ALL, Kind::as_str))]
    kind: String,
    /// The direction of a call
    #[arg(long, value_parser = words(Direction::ALL, Direction::as_str))]
    direction: Option<String>,
    /// The purpose of the call leg
    #[arg(long, value_parser = words(Leg::ALL, Leg::as_str))]
    leg: Option<String>,
    /// The type of device
    #[arg(long, value_parser = words(Device::ALL, Device::as_str))]
    device: Option<String>,
    /// The class of a function extension
    #[arg(long, value_parser = words(Class::ALL, Class::as_str))]
    class: Option<String>,
    /// Dialled digits
    #[arg(long, value_name = "DIGITS", allow_hyphen_values = true)]
    to: Option<String>,
    /// It is an emergency call
    #[arg(long)]
    emergency: bool,
    /// Uses a trunk line or not [default: by the direction]
    #[arg(long, value_name = "BOOL")]
    external: Option<bool>,
    /// Reservation group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    #[command(flatten)]
    stamp: StampArgs,
    /// Lifetime without renewal; required without --node, except for mobiles
    #[arg(long = "ttl", value_name = "SECONDS")]
    ttl_s: Option<u32>,
    /// It runs already: adopt it
    #[arg(long)]
    existing: bool,
}

/// `usherd release`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ReleaseArgs {
    /// The customer phone system
    tenant: String,
    /// The session that ended
    session: String,
    #[command(flatten)]
    stamp: StampArgs,
    /// The reason, such as `transfer`
    #[arg(long, value_name = "WORD")]
    why: Option<String>,
}

/// The place of a message among those of its node.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct StampArgs {
    /// The node that asks
    #[arg(long)]
    node: Option<String>,
    /// Boot number of the node
    #[arg(long)]
    epoch: Option<u64>,
    /// Number of the message within the epoch
    #[arg(long, requires = "epoch")]
    seq: Option<u64>,
}

impl AcquireArgs {
    fn body(&self) -> Value {
        let present = |text: &str| (text != "-").then(|| text.to_owned());
        let flag = |set: bool| set.then_some(true);
        without_nulls(json!({
            "tenant": self.tenant, "subject": present(&self.subject), "session": present(&self.session),
            "kind": self.kind, "direction": self.direction, "leg": self.leg, "device": self.device,
            "class": self.class, "to": self.to, "emergency": flag(self.emergency), "external": self.external,
            "group": self.group, "node": self.stamp.node, "epoch": self.stamp.epoch, "seq": self.stamp.seq,
            "ttl_s": self.ttl_s, "existing": flag(self.existing),
        }))
    }
}

impl ReleaseArgs {
    fn body(&self) -> Value {
        without_nulls(json!({
            "tenant": self.tenant, "session": self.session, "why": self.why,
            "node": self.stamp.node, "epoch": self.stamp.epoch, "seq": self.stamp.seq,
        }))
    }
}

fn without_nulls(mut body: Value) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    body
}

/// Asks for a seat; a denial is exit code 1.
///
/// # Errors
/// Nobody answered with a decision.
pub(super) fn acquire(arguments: &AcquireArgs, client: &Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let told = |of: &Decision| sentence(&of.code, &of.detail, of.held, of.quota, &of.message);
    let decision = decide(client, screen, "/v1/acquire", &arguments.body(), told)?;
    Ok(if decision.allow { OK } else { FAILED })
}

/// Gives a seat back; never denied.
///
/// # Errors
/// As [`acquire`].
pub(super) fn release(arguments: &ReleaseArgs, client: &Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let told = |of: &Released| sentence(&of.code, &of.detail, of.held, of.quota, &of.message);
    decide(client, screen, "/v1/release", &arguments.body(), told).map(|_| OK)
}

fn decide<T: DeserializeOwned>(
    client: &Client,
    screen: &mut Screen<'_>,
    path: &str,
    body: &Value,
    told: impl Fn(&T) -> String,
) -> Result<T, Failure> {
    let reply = client.ask_ok(&Ask::post(path, body))?;
    let decision = reply.read()?;
    match screen.format {
        Format::Json => screen.verbatim(&reply.body)?,
        Format::Csv => {
            let table = screen.rows(&[reply.json()?], &["code", "detail", "held", "quota"]);
            screen.table(&table)?;
        }
        Format::Table => screen.line(&told(&decision))?,
    }
    Ok(decision)
}

/// `deny.full tenant: 10 of 10 seats held. <message>`
fn sentence(code: &str, detail: &str, held: u32, quota: Option<u32>, message: &str) -> String {
    let after = |mark: &str, text: &str| if text.is_empty() { String::new() } else { format!("{mark}{text}") };
    let (detail, message) = (after(" ", detail), after(". ", message));
    format!("{code}{detail}: {held} of {} seats held{message}", Quota::from(quota))
}

/// Tells what an acquire would get, rule by rule; changes nothing.
///
/// # Errors
/// As [`acquire`].
pub(super) fn explain(arguments: &AcquireArgs, client: &Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let reply = client.ask_ok(&Ask::post("/v1/explain", &arguments.body()))?;
    let answer: Explanation = reply.read()?;
    match screen.format {
        Format::Json => screen.verbatim(&reply.body)?,
        Format::Csv => show_rows(&reply, "steps", &["rule", "input", "outcome"], screen)?,
        Format::Table => {
            screen.line(&sentence(&answer.code, &answer.detail, answer.held, answer.quota, &answer.message))?;
            if !answer.steps.is_empty() {
                let book = rules::book(&reply.from, screen);
                let told: String = answer.steps.iter().map(|step| told(step, book.as_deref())).collect();
                screen.write(&format!("\n{told}"))?;
            }
            let table = outlook(&answer, screen);
            if !table.is_empty() {
                screen.write("\n")?;
                screen.table(&table)?;
            }
        }
    }
    Ok(if answer.code.starts_with("deny.") { FAILED } else { OK })
}

/// A step: the sentence of its rules, and below it what was found.
fn told(step: &Step, book: Option<&str>) -> String {
    let found = format!("{}: {}", step.input, step.outcome);
    format!("{}\n", rules::lines(&step.rule, &found, book).join("\n    "))
}

fn outlook(answer: &Explanation, screen: &Screen<'_>) -> Table {
    let mut rest = json!({ "holders": answer.holders });
    if let Some(next) = &answer.frees_next {
        rest["frees_next"] = json!(next);
    }
    if !answer.would_allow.is_empty() {
        rest["would_allow"] = json!(answer.would_allow);
    }
    screen.fields(&rest)
}
