//! Calculations that need no tenant: the price of a number of seats (API 4).

use std::borrow::Cow;

use chrono::NaiveDate;
use usherd_subscription::civil;
use usherd_subscription::invoice::quote;
use usherd_subscription::policy::PriceMode;
use usherd_subscription::record::SEATS_MAX;
use usherd_subscription::tariff::{Partner, commission_cents, wholesale_cents};

use super::query::Query;
use super::routes::{Call, HandlerResult};
use super::{Worker, json};
use crate::answers::pricing::{Advice, Quote};
use crate::daemon::http::Problem;
use crate::daemon::http::problem::FieldError;
use crate::daemon::text::utc;

/// The parameters of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuoteRequest {
    /// Seats that are billed for the month already, 0 to 1,000,000.
    pub from: u32,
    /// Seats that are wanted, 0 to 1,000,000.
    pub to: u32,
    /// The civil date of the change.
    pub on: NaiveDate,
    /// The way tiers make a price (K2).
    pub mode: PriceMode,
    /// Whose commission and wholesale price are wanted too (K8).
    pub partner: Option<Partner>,
}

impl QuoteRequest {
    /// The quote as API 7 has it, amounts in cents: K1-K3, K5, K6 and K8.
    pub fn answer(&self) -> Quote {
        let quote = quote(self.mode, self.from, self.to, self.on);
        let monthly_cents = quote.monthly_cents;
        Quote {
            unit_cents: quote.unit_cents,
            monthly_cents,
            charge_cents: quote.upgrade.charge_cents,
            net_cents: quote.upgrade.net_cents,
            credit_cents: quote.upgrade.credit_cents,
            next_invoice_cents: quote.next_invoice_cents,
            advice: quote.advice.map(Advice::from),
            commission_cents: self.partner.map(|partner| commission_cents(partner, monthly_cents)),
            wholesale_cents: self.partner.map(|partner| wholesale_cents(partner, monthly_cents)),
        }
    }

    /// Reads the parameters of a request; all that are bad are told at once.
    fn read(query: &Query, mode: PriceMode, today: NaiveDate) -> Result<Self, Problem> {
        let mut faults = Faults { query, errors: Vec::new() };
        let from = faults.parsed("from", "must be 0 to 1000000 seats", seats);
        let to = faults.parsed("to", "must be 0 to 1000000 seats", seats);
        if to.is_none() && query.get("to").is_none() {
            faults.push("to", "is required: how many seats are wanted, 0 to 1000000");
        }
        let on = faults.parsed("on", "must be a civil date, as 2026-06-16", civil::date);
        let partner = faults.word("partner", Partner::ALL, Partner::as_str);
        let own_mode = faults.word("price_mode", PriceMode::ALL, PriceMode::as_str);
        match to {
            Some(to) if faults.errors.is_empty() => Ok(QuoteRequest {
                from: from.unwrap_or(0),
                to,
                on: on.unwrap_or(today),
                mode: own_mode.unwrap_or(mode),
                partner,
            }),
            _ => Err(Problem::faulty(faults.errors)),
        }
    }
}

/// Parameters as they are read, and what was wrong with them.
struct Faults<'a> {
    query: &'a Query,
    errors: Vec<FieldError>,
}

impl Faults<'_> {
    fn push(&mut self, key: &str, what: impl Into<Cow<'static, str>>) {
        self.errors.push(FieldError { pointer: format!("/{key}"), detail: what.into() });
    }

    fn parsed<T>(&mut self, key: &str, what: &'static str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.query.get(key)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.push(key, what);
        }
        parsed
    }

    fn word<T: Copy>(&mut self, key: &str, all: &'static [T], word: fn(T) -> &'static str) -> Option<T> {
        let text = self.query.get(key)?;
        let found = all.iter().copied().find(|one| word(*one) == text);
        if found.is_none() {
            let words: Vec<&str> = all.iter().map(|one| word(*one)).collect();
            self.push(key, format!("must be one of {}", words.join(", ")));
        }
        found
    }
}

fn seats(text: &str) -> Option<u32> {
    text.parse().ok().filter(|seats| *seats <= SEATS_MAX)
}

impl Worker {
    /// `GET /v1/quote?from=&to=&on=&partner=&price_mode=`
    pub(super) fn quote(&self, call: &Call<'_>) -> HandlerResult {
        let settings = &self.app.configuration.running.get().settings;
        let today = civil::civil(settings.time_zone.0, utc(self.app.deciding.clock.now())).date();
        let request = QuoteRequest::read(&call.query()?, settings.rules.policy.price_mode, today)?;
        Ok(json(&request.answer()))
    }
}
