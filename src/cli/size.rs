//! `size`: how many seats a company needs; by planning figures without file and daemon (P1-P3), or by history (P4).

use usherd_subscription::sizing::{EMPLOYEES_PER_TYPE_MAX, Mix, Sizing, Target, sizing};

use super::client::Client;
use super::failure::{Failure, OK};
use super::screen::{Format, Screen};
use super::table::Table;
use super::whatif::{size_from_history, target};
use crate::answers::value_of;
use crate::daemon::api::size::size_of;

/// `usherd size`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SizeArgs {
    /// Employees who always need a seat
    #[arg(value_name = "TYPE1", value_parser = employees(), required_unless_present = "from_history")]
    always: Option<u32>,
    /// Employees who need one with a probability of 80 %
    #[arg(value_name = "TYPE2", value_parser = employees(), required_unless_present = "from_history")]
    mostly: Option<u32>,
    /// 40 %
    #[arg(value_name = "TYPE3", value_parser = employees(), required_unless_present = "from_history")]
    sometimes: Option<u32>,
    /// 10 %
    #[arg(value_name = "TYPE4", value_parser = employees(), required_unless_present = "from_history")]
    rarely: Option<u32>,
    /// The probability that the safe figure is exceeded, at most, as in 1% or 0.01; at most 50%
    #[arg(long, value_name = "PERCENT%", default_value = "1%", value_parser = target)]
    target: Target,
    /// Use what this tenant wanted in the last 30 days; asks the running daemon
    #[arg(long, value_name = "TENANT", conflicts_with_all = ["always", "mostly", "sometimes", "rarely"])]
    from_history: Option<String>,
}

fn employees() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=i64::from(EMPLOYEES_PER_TYPE_MAX))
}

/// The brochure's figure, the safe one, and the risk of each number between them.
///
/// # Errors
/// There are more people than the exact figure is computed for, the output cannot be written, or a daemon that is
/// needed cannot be asked.
pub(super) fn size(
    arguments: &SizeArgs,
    client: impl FnOnce() -> Result<Client, Failure>,
    screen: &mut Screen<'_>,
) -> Result<u8, Failure> {
    let SizeArgs { always, mostly, sometimes, rarely, target, ref from_history } = *arguments;
    if let Some(tenant) = from_history {
        return size_from_history(&client()?, tenant, target.share(), screen);
    }
    let sizing = Mix::new([always, mostly, sometimes, rarely].map(Option::unwrap_or_default))
        .and_then(|mix| sizing(mix, target))
        .map_err(|unfit| Failure::usage(unfit.to_string()).fix("size the sites of a larger company one by one"))?;
    match screen.format {
        Format::Json => screen.write(&format!("{}\n", value_of(&size_of(&sizing))))?,
        Format::Csv => screen.table(&risk_table(&sizing, |share| format!("{share:.9}")))?,
        Format::Table => {
            let brochure = sizing.brochure;
            let (whole, tenth) = (brochure.tenths / 10, brochure.tenths % 10);
            screen.line(&format!("{} employees need {whole}.{tenth} seats on average", brochure.employees))?;
            screen.line("")?;
            screen.table(&risk_table(&sizing, |share| format!("{:.2}%", share * 100.0)))?;
        }
    }
    Ok(OK)
}

fn risk_table(sizing: &Sizing, shown: impl Fn(f64) -> String) -> Table {
    let mut table = Table::new(["seats", "probability", "figure"]);
    for risk in &sizing.risk {
        let figure = match (risk.seats == sizing.brochure.seats, risk.seats == sizing.safe_seats) {
            (true, true) => "brochure, safe",
            (true, false) => "brochure",
            (false, true) => "safe",
            (false, false) => "",
        };
        table.push([risk.seats.to_string(), shown(risk.probability), figure.to_owned()]);
    }
    table
}
