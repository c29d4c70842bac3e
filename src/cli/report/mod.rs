//! `report`: what a tenant used over a time, as a table, CSV, JSON, or one file of HTML to send around.

mod figures;
mod page;

use serde_json::Value;

use super::client::Client;
use super::failure::{Failure, OK};
use super::screen::{Format, Screen};
use super::table::Table;
use super::whatif::{Time, hours, recommendation};
use crate::daemon::config::Quota;
use figures::{Hour, Report, in_all};

/// `usherd report`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// The tenant
    tenant: String,
    #[command(flatten)]
    time: Time,
}

/// The report of a tenant over a time.
///
/// # Errors
/// The daemon cannot be asked, or knows no such tenant; the time makes no sense.
pub(super) fn report(
    arguments: &ReportArgs,
    client: &Client,
    as_page: bool,
    screen: &mut Screen<'_>,
) -> Result<u8, Failure> {
    let report = Report::read(&arguments.tenant, &arguments.time, client)?;
    let hours = || report.hours.iter().map(Hour::fields).collect::<Vec<Value>>();
    match screen.format {
        _ if as_page => screen.write(&page::page(&report))?,
        Format::Json => {
            let mut answer = report.answers.clone();
            answer["hours"] = hours().into();
            screen.write(&format!("{answer}\n"))?;
        }
        Format::Csv => {
            let table = screen.rows(
                &hours(),
                &["at", "quota", "peak", "demand", "seat_s", "saturated_s", "denials", "denials_true", "observed_s"],
            );
            screen.table(&table)?;
        }
        Format::Table => show(&report, screen)?,
    }
    Ok(OK)
}

fn show(report: &Report, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let mut facts = Table::new([report.tenant.figures.tenant.as_str(), ""]);
    report.facts().into_iter().for_each(|(what, value)| facts.push([what.to_owned(), value]));
    screen.table(&facts)?;
    screen.line("")?;
    screen.line(&format!("days of {}", report.zone.name()))?;
    let mut days = Table::new(["day", "seats", "peak", "mean", "wanted", "no seat free", "denials", "true"]);
    for (date, hours_of_day) in report.days() {
        let total = in_all(hours_of_day.iter().copied());
        let quota = Quota::from(hours_of_day.last().and_then(|hour| hour.quota));
        days.push([
            date.format("%Y-%m-%d %a").to_string(),
            quota.to_string(),
            total.peak.to_string(),
            format!("{:.2}", total.mean),
            total.demand.to_string(),
            hours(total.saturated_s),
            total.denials.to_string(),
            total.denials_true.to_string(),
        ]);
    }
    screen.table(&days)?;
    screen.line("")?;
    screen.line(&recommendation(&report.whatif))
}
