//! `quote`, `statement`: prices, credits and invoices to come, calculated from the rules and the files alone.

use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Value, json};
use usherd_subscription::civil;
use usherd_subscription::invoice::{MonthLine, NoStatement, STATEMENT_MONTHS_MAX, statement};
use usherd_subscription::policy::{PriceMode, Terms};
use usherd_subscription::record::SEATS_MAX;
use usherd_subscription::tariff::Partner;

use super::config::{load_all, main_file, tenant_of};
use super::failure::{CONFIGURATION, Failure, OK};
use super::instant::{rfc3339, wall_clock};
use super::screen::{Format, Screen};
use super::table::Table;
use crate::answers::pricing::Quote;
use crate::answers::value_of;
use crate::daemon::api::QuoteRequest;

/// `usherd quote`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct QuoteArgs {
    /// Seats already billed for the month
    #[arg(long, value_name = "SEATS", default_value_t = 0, value_parser = seats)]
    from: u32,
    /// Seats wanted
    #[arg(long, value_name = "SEATS", value_parser = seats)]
    to: u32,
    /// The day of the change, in the billing zone [default: today]
    #[arg(long, value_name = "DATE", value_parser = date)]
    on: Option<NaiveDate>,
    /// The instant that counts as now
    #[arg(long, value_name = "RFC3339", value_parser = rfc3339, conflicts_with = "on")]
    at: Option<DateTime<Utc>>,
    /// Also the commission and the wholesale price of a partner of this level
    #[arg(long, value_name = "LEVEL", value_parser = partner_words())]
    partner: Option<String>,
    /// All seats at the price of the tier reached, or each at the price of its own [default: that of --config,
    /// else volume]
    #[arg(long, value_name = "MODE", value_parser = mode_words())]
    price_mode: Option<String>,
}

/// `usherd statement`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct StatementArgs {
    /// The tenant
    tenant: String,
    /// The first month, or a day in it
    #[arg(long, value_name = "MONTH|DATE", value_parser = month)]
    from: NaiveDate,
    /// The last month, or a day in it
    #[arg(long, value_name = "MONTH|DATE", value_parser = month)]
    to: NaiveDate,
}

fn seats(text: &str) -> Result<u32, String> {
    let seats = text.parse().ok().filter(|seats| *seats <= SEATS_MAX);
    seats.ok_or_else(|| format!("write a number of seats, 0 to {SEATS_MAX}"))
}

fn date(text: &str) -> Result<NaiveDate, String> {
    civil::date(text).ok_or_else(|| "write a date that exists, as in 2026-06-16".to_owned())
}

fn month(text: &str) -> Result<NaiveDate, String> {
    let day = civil::date(text).or_else(|| civil::date(&format!("{text}-01")));
    day.map(civil::month_of).ok_or_else(|| "write a month as in 2026-06, or a date in it as in 2026-06-16".to_owned())
}

fn partner_words() -> clap::builder::PossibleValuesParser {
    Partner::ALL.iter().map(|partner| partner.as_str()).into()
}

fn mode_words() -> clap::builder::PossibleValuesParser {
    PriceMode::ALL.iter().map(|mode| mode.as_str()).into()
}

/// Quotes a change of seats. Without `--config` no file is read.
///
/// # Errors
/// The configuration that was named is not valid.
pub(super) fn quote(arguments: &QuoteArgs, main: Option<&Path>, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let terms = terms(main, screen.colour)?;
    let today = || civil::civil(terms.zone, arguments.at.unwrap_or_else(wall_clock)).date();
    let named = |mode: &&PriceMode| arguments.price_mode.as_deref() == Some(mode.as_str());
    let level = |partner: &&Partner| arguments.partner.as_deref() == Some(partner.as_str());
    let request = QuoteRequest {
        from: arguments.from,
        to: arguments.to,
        on: arguments.on.unwrap_or_else(today),
        mode: PriceMode::ALL.iter().find(named).copied().unwrap_or(terms.price_mode),
        partner: Partner::ALL.iter().find(level).copied(),
    };
    let answer = request.answer();
    match screen.format {
        Format::Json => screen.write(&format!("{}\n", value_of(&answer)))?,
        Format::Csv => {
            let table = screen.fields(&value_of(&answer));
            screen.table(&table)?;
        }
        Format::Table => screen.table(&quote_table(&request, &answer))?,
    }
    Ok(OK)
}

/// Billing zone and price mode: of the configuration if one was named, else the defaults.
fn terms(main: Option<&Path>, colour: bool) -> Result<Terms, Failure> {
    let Some(main) = main else { return Ok(Terms::default()) };
    let settings = load_all(main, colour)?.settings;
    Ok(settings.rules.terms(settings.time_zone.0, settings.trial.days))
}

fn quote_table(request: &QuoteRequest, quote: &Quote) -> Table {
    let mut table = Table::new(["net of VAT", "EUR"]);
    let mut line = |what: String, cents: u64| table.push([what, euros(cents)]);
    line("one seat, a month".to_owned(), quote.unit_cents);
    line(format!("{} seats, a month", request.to), quote.monthly_cents);
    line(format!("charged on {}", request.on), quote.charge_cents);
    line("  for the rest of the month".to_owned(), quote.net_cents);
    line("  credited for its part before".to_owned(), quote.credit_cents);
    line("next invoice".to_owned(), quote.next_invoice_cents);
    quote.commission_cents.into_iter().for_each(|cents| line("commission, a month".to_owned(), cents));
    quote.wholesale_cents.into_iter().for_each(|cents| line("wholesale, a month".to_owned(), cents));
    if let Some(advice) = &quote.advice {
        line(format!("no more for {} seats, a month", advice.seats), advice.monthly_cents);
    }
    table
}

/// The monthly cost of a tenant's record, with the credits of its whole life.
///
/// # Errors
/// The files are not valid, the tenant is not in them, or it has no price.
pub(super) fn statement_of(
    arguments: &StatementArgs,
    main: Option<&Path>,
    screen: &mut Screen<'_>,
) -> Result<u8, Failure> {
    let main = main_file(main)?;
    let config = load_all(&main, screen.colour)?;
    let tenant = tenant_of(&config, &arguments.tenant, screen.colour)
        .map_err(|failure| Failure { code: CONFIGURATION, ..failure })?;
    let lines = statement(&tenant.record, &tenant.terms, arguments.from, arguments.to)
        .map_err(|why| refused(why, &tenant.id, &tenant.source))?;
    let months: Vec<Value> = lines.iter().map(month_row).collect();
    match screen.format {
        Format::Json => {
            let answer = json!({
                "tenant": tenant.id, "from": month_word(arguments.from), "to": month_word(arguments.to),
                "months": months, "totals": totals(&lines),
            });
            screen.write(&format!("{answer}\n"))?;
        }
        Format::Csv => {
            let columns: Vec<&str> = ["month", "seats"].into_iter().chain(AMOUNTS.map(|amount| amount.key)).collect();
            let table = screen.rows(&months, &columns);
            screen.table(&table)?;
        }
        Format::Table => screen.table(&statement_table(&lines))?,
    }
    Ok(OK)
}

/// An amount of a month.
struct Amount {
    key: &'static str,
    title: &'static str,
    of: fn(&MonthLine) -> u64,
}

const AMOUNTS: [Amount; 8] = [
    Amount { key: "fee_cents", title: "fee EUR", of: |line| line.fee_cents },
    Amount { key: "charge_cents", title: "charge EUR", of: |line| line.charge_cents },
    Amount { key: "net_cents", title: "net EUR", of: |line| line.net_cents },
    Amount { key: "credit_cents", title: "credit EUR", of: |line| line.credit_cents },
    Amount { key: "credit_used_cents", title: "credit used EUR", of: |line| line.credit_used_cents },
    Amount { key: "invoice_cents", title: "invoice EUR", of: |line| line.invoice_cents },
    Amount { key: "forfeited_cents", title: "forfeited EUR", of: |line| line.forfeited_cents },
    BALANCE,
];

/// The balance at the end of a month; the only amount that does not add up over months.
const BALANCE: Amount = Amount { key: "balance_cents", title: "balance EUR", of: |line| line.balance_cents };

impl Amount {
    fn total(&self, lines: &[MonthLine]) -> u64 {
        match lines.last() {
            Some(last) if self.key == BALANCE.key => (self.of)(last),
            _ => lines.iter().map(self.of).sum(),
        }
    }
}

fn month_word(month: NaiveDate) -> String {
    month.format("%Y-%m").to_string()
}

fn month_row(line: &MonthLine) -> Value {
    let mut row = json!({ "month": month_word(line.month), "seats": line.seats });
    for amount in AMOUNTS {
        row[amount.key] = json!((amount.of)(line));
    }
    row
}

fn totals(lines: &[MonthLine]) -> Value {
    AMOUNTS.iter().map(|amount| (amount.key.to_owned(), json!(amount.total(lines)))).collect()
}

fn statement_table(lines: &[MonthLine]) -> Table {
    let mut table = Table::new(["month", "seats"].into_iter().chain(AMOUNTS.map(|amount| amount.title)));
    for line in lines {
        let amounts = AMOUNTS.iter().map(|amount| euros((amount.of)(line)));
        table.push([month_word(line.month), line.seats.to_string()].into_iter().chain(amounts));
    }
    let sums = AMOUNTS.iter().map(|amount| euros(amount.total(lines)));
    table.push(["total".to_owned(), String::new()].into_iter().chain(sums));
    table
}

fn refused(why: NoStatement, tenant: &str, source: &str) -> Failure {
    match why {
        NoStatement::NoStart => Failure::configuration(format!(
            "{source}: tenant {tenant} has no start, so it is not known since when it is paid"
        ))
        .fix("write the civil date from which it is paid, as start = \"2026-06-16\""),
        NoStatement::Unlimited(month) => {
            let month = month_word(month);
            Failure::failed(format!("tenant {tenant} has unlimited seats in {month}, and these have no price"))
                .fix("write seats = N in its file to see what N seats cost")
        }
        NoStatement::Backwards => Failure::usage("--from comes after --to").fix("write the earlier month first"),
        NoStatement::TooLong => Failure::usage(format!(
            "a statement has at most {STATEMENT_MONTHS_MAX} months, from the start of tenant {tenant} to --to"
        ))
        .fix("write an earlier --to"),
        NoStatement::BeyondCalendar => {
            Failure::usage("the calendar does not reach that far").fix("write an earlier --to")
        }
    }
}

/// Cents as people write euros: 1,234.56.
pub(super) fn euros(cents: u64) -> String {
    let whole = (cents / 100).to_string();
    let mut text = String::with_capacity(whole.len() + whole.len() / 3 + 3);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text}.{:02}", cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn euros_have_their_separators() {
        for (cents, text) in [
            (0, "0.00"),
            (5, "0.05"),
            (12_816, "128.16"),
            (99_999, "999.99"),
            (100_000, "1,000.00"),
            (12_345_678_900, "123,456,789.00"),
        ] {
            assert_eq!(euros(cents), text);
        }
    }
}
