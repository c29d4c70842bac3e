//! `whatif`, `size --from-history`: what another quota would have denied, by the demand that was measured (P4, K3).

use usherd_subscription::sizing::Target;

use super::client::{Ask, Client, encoded, with_query};
use super::failure::{Failure, OK};
use super::list::show_rows;
use super::money::euros;
use super::screen::{Format, Screen};
use super::table::Table;
use crate::answers::usage::Whatif;

const COLUMNS: [&str; 5] = ["quota", "denials", "share", "saturated_s", "monthly_cents"];

/// `usherd whatif`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct WhatifArgs {
    /// The tenant
    tenant: String,
    /// The quotas: a number or a range of at most 200 [default: those around the present one]
    #[arg(long, value_name = "N..M")]
    quota: Option<String>,
    #[command(flatten)]
    time: Time,
    /// The share of requests that the recommended quota may deny, as in 1% or 0.01
    #[arg(long, value_name = "PERCENT%", value_parser = share)]
    target: Option<String>,
}

/// Over which time.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Time {
    /// The start: an instant with its zone, or a civil date of the billing zone [default: 30 days ago]
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// The end, which is not included [default: now]
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
}

/// A share as the daemon takes it.
fn share(text: &str) -> Result<String, String> {
    target(text).map(|target| target.share().to_string())
}

pub(super) fn target(text: &str) -> Result<Target, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    share.ok().and_then(Target::new).ok_or_else(|| "write a share from 0.0001% to 50%, as in 1%".to_owned())
}

/// Prints the requests that other quotas would have denied, with their price.
///
/// # Errors
/// The daemon cannot be asked, or knows no such tenant, or an argument makes no sense to it.
pub(super) fn whatif(arguments: &WhatifArgs, client: &Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let parameters = [
        ("quota", arguments.quota.clone()),
        ("from", arguments.time.from.clone()),
        ("to", arguments.time.to.clone()),
        ("target", arguments.target.clone()),
    ];
    ask(client, &arguments.tenant, &parameters, screen)
}

/// The quota that the demand of the last days asks for.
///
/// # Errors
/// As [`whatif`].
pub(super) fn size_from_history(
    client: &Client,
    tenant: &str,
    target: f64,
    screen: &mut Screen<'_>,
) -> Result<u8, Failure> {
    ask(client, tenant, &[("target", Some(target.to_string()))], screen)
}

fn ask(
    client: &Client,
    tenant: &str,
    parameters: &[(&str, Option<String>)],
    screen: &mut Screen<'_>,
) -> Result<u8, Failure> {
    let reply =
        client.ask_ok(&Ask::get(&with_query(&format!("/v1/tenants/{}/whatif", encoded(tenant)), parameters)))?;
    match screen.format {
        Format::Json => screen.verbatim(&reply.body)?,
        Format::Csv => show_rows(&reply, "whatif", &COLUMNS, screen)?,
        Format::Table => show(&reply.read()?, screen)?,
    }
    Ok(OK)
}

fn show(answer: &Whatif, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let [from, to] = [&answer.from, &answer.to].map(|at| screen.instant(at).unwrap_or_default());
    let (tenant, seen_s) = (&answer.tenant, answer.observed_s);
    let (hours, minutes) = (seen_s / 3_600, seen_s % 3_600 / 60);
    screen.line(&format!("{tenant}, {from} to {to}, {hours} h {minutes} min of history"))?;
    screen.line(&format!("{} requests of people without a seat", answer.requests))?;
    screen.line("")?;
    screen.table(&table(answer))?;
    screen.line("")?;
    screen.line(&recommendation(answer))
}

/// Row by row, with the present quota and the recommended one marked.
fn table(answer: &Whatif) -> Table {
    let mut table = Table::new(["quota", "denied", "share", "too few for", "a month", ""]);
    for row in &answer.whatif {
        let mark = match (Some(row.quota) == answer.quota, row.quota == answer.recommended) {
            (true, true) => "now, recommended",
            (true, false) => "now",
            (false, true) => "recommended",
            (false, false) => "",
        };
        table.push([
            row.quota.to_string(),
            row.denials.to_string(),
            format!("{:.2}%", row.share * 100.0),
            hours(row.saturated_s),
            euros(row.monthly_cents),
            mark.to_owned(),
        ]);
    }
    table
}

/// The recommended quota in a sentence, with a larger one that costs no more.
pub(super) fn recommendation(answer: &Whatif) -> String {
    if answer.requests == 0 {
        return "nobody asked for a seat in this time, so there is nothing to recommend".to_owned();
    }
    let mut text = format!(
        "{} seats would have denied less than {}% of the requests; {} a month",
        answer.recommended,
        answer.target * 100.0,
        euros(answer.monthly_cents),
    );
    if let Some(advice) = &answer.advice {
        text += &format!("; {} seats cost no more: {}", advice.seats, euros(advice.monthly_cents));
    }
    text
}

/// A length of time as people say it.
pub(super) fn hours(seconds: u64) -> String {
    match seconds {
        0 => "-".to_owned(),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        _ => format!("{}:{:02} h", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_lengths_of_time() {
        assert_eq!((share("1%"), share("0.02")), (Ok("0.01".to_owned()), Ok("0.02".to_owned())));
        assert!(share("0").is_err() && share("51%").is_err() && share("some").is_err());
        for (seconds, text) in
            [(0, "-"), (59, "59 s"), (60, "1 min"), (3_599, "59 min"), (3_660, "1:01 h"), (360_000, "100:00 h")]
        {
            assert_eq!(hours(seconds), text);
        }
    }
}
