//! The cost of a change of seats within a month, the cost of a record month by month, and refunds
//! (K4-K7, N11).
//!
//! The billing period is the civil month (K4), whatever `billing` says. A suspension or an unconfirmed record
//! takes the use away and not the contract: its months cost what the record says.

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use chrono_tz::Tz;

use super::civil::{self, Edge};
use super::entitlement::{all_seats, ends_at, instants};
use super::policy::{PriceMode, Refund, Terms};
use super::record::{ContractKind, Record};
use super::tariff::{Advice, advice, monthly_cents, share, unit_cents};

/// Most months that a statement walks: from its own first or the start of the subscription, whichever is
/// earlier, to its last.
pub const STATEMENT_MONTHS_MAX: usize = 1_200;

/// More seats within a month (K5): `0 <= credit <= charge`, and `charge - credit = net` (V12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upgrade {
    /// Charged at once, cents: the difference for the whole month.
    pub charge_cents: u64,
    /// The price of the rest of the month, cents, the day of the change included.
    pub net_cents: u64,
    /// Credited for the part of the month that was over, cents.
    pub credit_cents: u64,
}

/// The cost of going from the seats that are already billed for the month of `date` to others on that date (K5).
///
/// Nothing is charged where the fee does not rise (T131), nor where the seats do not: a reduction counts from
/// the next month (K7), also where fewer seats have the higher fee.
pub fn upgrade(mode: PriceMode, billed: u32, to: u32, date: NaiveDate) -> Upgrade {
    if to <= billed {
        return Upgrade::default();
    }
    raise(monthly_cents(mode, billed), monthly_cents(mode, to), date)
}

/// The cost of going from one fee to another (K5).
fn raise(billed_cents: u64, to_cents: u64, date: NaiveDate) -> Upgrade {
    let charge_cents = to_cents.saturating_sub(billed_cents);
    let days = civil::days_in_month(date);
    let net_cents = share(charge_cents, u64::from(days - date.day() + 1), u64::from(days));
    Upgrade { charge_cents, net_cents, credit_cents: charge_cents - net_cents }
}

/// The cost of a change of seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The price of one seat in the tier that is reached, cents (K1).
    pub unit_cents: u64,
    /// The new fee of a month, cents (K2).
    pub monthly_cents: u64,
    /// The amounts that are charged and credited now (K5).
    pub upgrade: Upgrade,
    /// The invoice of the next month where no other credit is left, cents (K6).
    pub next_invoice_cents: u64,
    /// More seats for no more (K3).
    pub advice: Option<Advice>,
}

/// From some seats to others on a civil date. The date of a reduction is the one on which it takes effect.
pub fn quote(mode: PriceMode, from: u32, to: u32, date: NaiveDate) -> Quote {
    let (monthly_cents, upgrade) = (monthly_cents(mode, to), upgrade(mode, from, to, date));
    let next_invoice_cents = Ledger::new(upgrade.credit_cents).bill(monthly_cents).invoice_cents;
    Quote { unit_cents: unit_cents(to), monthly_cents, upgrade, next_invoice_cents, advice: advice(mode, to) }
}

/// The credits of one subscription (K6): they reduce the invoices of later months and are never paid out, and
/// nothing moves them to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    balance_cents: u64,
}

/// The invoice of a month's fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Billed {
    /// Paid with credits, cents.
    pub credit_used_cents: u64,
    /// The amount that is left to pay, cents.
    pub invoice_cents: u64,
}

impl Ledger {
    /// With so many cents of credit.
    pub fn new(balance_cents: u64) -> Self {
        Ledger { balance_cents }
    }

    /// The rest, cents.
    pub fn balance_cents(&self) -> u64 {
        self.balance_cents
    }

    /// Bills a month's fee: reduced by the smaller of balance and fee.
    pub fn bill(&mut self, fee_cents: u64) -> Billed {
        let credit_used_cents = self.balance_cents.min(fee_cents);
        self.balance_cents -= credit_used_cents;
        Billed { credit_used_cents, invoice_cents: fee_cents - credit_used_cents }
    }

    /// Takes the credit of an upgrade.
    pub fn earn(&mut self, cents: u64) {
        self.balance_cents = self.balance_cents.saturating_add(cents);
    }

    /// The subscription ended: what was left is lost. Returns how many cents.
    pub fn forfeit(&mut self) -> u64 {
        std::mem::take(&mut self.balance_cents)
    }
}

/// One civil month of a subscription, amounts in cents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonthLine {
    /// Its first day.
    pub month: NaiveDate,
    /// The most seats within it.
    pub seats: u32,
    /// The fee of the seats at its beginning.
    pub fee_cents: u64,
    /// Charged for upgrades within it.
    pub charge_cents: u64,
    /// The price of these for the rest of it.
    pub net_cents: u64,
    /// Credited for these.
    pub credit_cents: u64,
    /// Earlier credits that paid for the fee.
    pub credit_used_cents: u64,
    /// All that is invoiced within it: fee, less credits used, and charges.
    pub invoice_cents: u64,
    /// Credits that were lost because the subscription ended with or within it.
    pub forfeited_cents: u64,
    /// Credits that are carried into the next month.
    pub balance_cents: u64,
}

/// Why there is no statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoStatement {
    /// The subscription has no start, so nobody knows since when it costs something.
    NoStart,
    /// Unlimited seats have no price (F5); the first month that has them.
    Unlimited(NaiveDate),
    /// The first month comes after the last.
    Backwards,
    /// More than [`STATEMENT_MONTHS_MAX`] months.
    TooLong,
    /// The calendar does not reach so far.
    BeyondCalendar,
}

/// Every month from the one of `from` to the one of `to`, both included, as the record would be billed.
///
/// The record's own history is walked from its start, so that credits of earlier months are in it. Over all
/// months from the start on, the sum of the invoices is the sum of fees and nets, and what is forfeited or left
/// in the balance. Trials and what is not for resale cost nothing; months before the start and after the end
/// are empty. There is no pro rata for the month of the end (K7).
///
/// # Errors
/// [`NoStatement`] says why there is none.
pub fn statement(
    record: &Record,
    terms: &Terms,
    from: NaiveDate,
    to: NaiveDate,
) -> Result<Vec<MonthLine>, NoStatement> {
    let (from, to) = (civil::month_of(from), civil::month_of(to));
    if from > to {
        return Err(NoStatement::Backwards);
    }
    let book = Book::of(record, terms)?;
    let first = book.start.map_or(from, |start| civil::month_of(civil::civil(terms.zone, start).date()).min(from));
    let mut ledger = Ledger::new(0);
    let mut lines = Vec::new();
    for walked in 0.. {
        let month = civil::months_after(first, walked).ok_or(NoStatement::BeyondCalendar)?;
        if month > to {
            break;
        }
        if walked as usize >= STATEMENT_MONTHS_MAX {
            return Err(NoStatement::TooLong);
        }
        let line = book.month(month, &mut ledger)?;
        if month >= from {
            lines.push(line);
        }
    }
    Ok(lines)
}

/// A record as it is billed.
struct Book<'a> {
    record: &'a Record,
    terms: &'a Terms,
    /// From when it costs something; `None` where it never does.
    start: Option<DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
    /// Every instant at which seats may change, ascending.
    instants: Vec<DateTime<Utc>>,
}

impl<'a> Book<'a> {
    fn of(record: &'a Record, terms: &'a Terms) -> Result<Self, NoStatement> {
        let start = match (record.kind, record.start) {
            (ContractKind::Trial | ContractKind::Nfr, _) => None,
            (ContractKind::Paid, None) => return Err(NoStatement::NoStart),
            (ContractKind::Paid, Some(start)) => Some(civil::instant(terms.zone, start, Edge::Start)),
        };
        let mut instants: Vec<DateTime<Utc>> = instants(record, terms).chain(start).collect();
        instants.sort_unstable();
        instants.dedup();
        Ok(Book { record, terms, start, ends_at: ends_at(record, terms), instants })
    }

    /// Bills one month. What happens at the very beginning of a month belongs to its fee, at either of two
    /// equal midnights.
    fn month(&self, month: NaiveDate, ledger: &mut Ledger) -> Result<MonthLine, NoStatement> {
        let next = civil::months_after(month, 1).ok_or(NoStatement::BeyondCalendar)?;
        let midnight = |date, edge| civil::midnight(self.terms.zone, date, edge);
        let (opening, closing) = (midnight(month, Edge::End), midnight(next, Edge::Start));
        let mut seats = self.seats(month, opening)?;
        let mut billed_cents = monthly_cents(self.terms.price_mode, seats);
        let billed = ledger.bill(billed_cents);
        let mut line = MonthLine {
            month,
            seats,
            fee_cents: billed_cents,
            charge_cents: 0,
            net_cents: 0,
            credit_cents: 0,
            credit_used_cents: billed.credit_used_cents,
            invoice_cents: billed.invoice_cents,
            forfeited_cents: 0,
            balance_cents: 0,
        };
        let within =
            self.instants.partition_point(|at| *at <= opening)..self.instants.partition_point(|at| *at < closing);
        for at in self.instants.get(within).unwrap_or_default() {
            let to = self.seats(month, *at)?;
            if to > seats {
                let fee_cents = monthly_cents(self.terms.price_mode, to);
                let upgrade = raise(billed_cents, fee_cents, civil::civil(self.terms.zone, *at).date());
                billed_cents = billed_cents.max(fee_cents);
                line.add(upgrade);
                ledger.earn(upgrade.credit_cents);
            }
            seats = to;
            line.seats = line.seats.max(to);
        }
        // An end at the midnight after a month ends with that month.
        if self.ends_at.is_some_and(|end| end <= midnight(next, Edge::End)) {
            line.forfeited_cents = ledger.forfeit();
        }
        line.balance_cents = ledger.balance_cents();
        Ok(line)
    }

    /// The seats that cost something at an instant of a month.
    fn seats(&self, month: NaiveDate, at: DateTime<Utc>) -> Result<u32, NoStatement> {
        if self.start.is_none_or(|start| at < start) || self.ends_at.is_some_and(|end| end <= at) {
            return Ok(0);
        }
        all_seats(self.record, at).ok_or(NoStatement::Unlimited(month))
    }
}

impl MonthLine {
    fn add(&mut self, upgrade: Upgrade) {
        self.charge_cents += upgrade.charge_cents;
        self.net_cents += upgrade.net_cents;
        self.credit_cents += upgrade.credit_cents;
        self.invoice_cents += upgrade.charge_cents;
    }
}

/// The refund of a month's fee when its rest is cancelled, cents (N11).
///
/// By days: the civil days of the billing zone that are left after the day of the cancellation, which counts
/// as used as in K5. By hours: the whole hours left. Of all days or whole hours of the period, rounded half up;
/// never more than the fee, and nothing once the period is over or where it is empty.
pub fn refund_cents(
    refund: Refund,
    monthly_cents: u64,
    zone: Tz,
    period_start: DateTime<Utc>,
    period_end: DateTime<Utc>,
    cancelled_at: DateTime<Utc>,
) -> u64 {
    let date = |at| civil::civil(zone, at).date();
    let (left, all) = match refund {
        Refund::None => return 0,
        Refund::Days => {
            let end = date(period_end);
            ((end - date(cancelled_at)).num_days() - 1, (end - date(period_start)).num_days())
        }
        Refund::Hours => ((period_end - cancelled_at).num_hours(), (period_end - period_start).num_hours()),
    };
    let (left, all) = (u64::try_from(left).unwrap_or(0), u64::try_from(all).unwrap_or(0));
    share(monthly_cents, left.min(all), all)
}
