//! `clock`: say of the machine's wall clock that it is right.

use serde_json::Value;

use super::client::{Ask, Client};
use super::failure::{Failure, OK};
use super::screen::{Format, Screen};
use crate::answers::operation::ClockTrust;

/// `usherd clock`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ClockArgs {
    #[command(subcommand)]
    verb: ClockVerb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum ClockVerb {
    /// The wall clock is right, though it stands far from where the journal left it: look at it first
    Trust,
}

/// Tells the daemon that somebody looked at the clock.
///
/// # Errors
/// The daemon cannot be asked.
pub(super) fn clock(arguments: &ClockArgs, client: &Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let ClockVerb::Trust = arguments.verb;
    let reply = client.ask_ok(&Ask::post("/v1/admin/clock/trust", &Value::Null))?;
    if screen.format == Format::Table {
        screen.line(&reply.read::<ClockTrust>()?.message)?;
    } else {
        screen.verbatim(&reply.body)?;
    }
    Ok(OK)
}
