//! The figures of a report: what the daemon answers, hour by hour, and what follows from it.

use chrono::{DateTime, Timelike as _, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};
use usherd_subscription::civil::civil;

use crate::answers::tenants::Tenant;
use crate::answers::usage::{Usage, UsageFigures, UsagePoint, Whatif};
use crate::answers::{Timestamp, value_of};
use crate::cli::client::{Ask, Client, encoded, with_query};
use crate::cli::failure::Failure;
use crate::cli::whatif::{Time, hours};
use crate::daemon::config::Quota;

/// Hours that are asked for at once: the daemon answers 5,000 points.
const HOURS_ASKED: i64 = 4_800;
/// Hours of the longest report: what the daemon keeps at most.
const HOURS_MAX: i64 = 61 * 31 * 24;

/// The figures of a report.
#[derive(Debug)]
pub(super) struct Report {
    /// All that is known of the tenant now.
    pub(super) tenant: Tenant,
    /// The effect that other quotas would have had.
    pub(super) whatif: Whatif,
    /// Both as they came.
    pub(super) answers: Value,
    /// From when.
    pub(super) from: DateTime<Utc>,
    /// Until when, not in it.
    pub(super) to: DateTime<Utc>,
    /// Hour by hour.
    pub(super) hours: Vec<Hour>,
    /// In all, as the daemon sums it.
    pub(super) total: UsageFigures,
    /// The billing zone: days and hours of the day are its own, wherever the report is read (H2).
    pub(super) zone: Tz,
}

/// One hour.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hour {
    pub(super) at: DateTime<Utc>,
    pub(super) quota: Option<u32>,
    pub(super) total: UsageFigures,
}

/// Sums and peaks of hours. Their mean is exact: that of an answer is rounded.
pub(super) fn in_all<'a>(hours: impl IntoIterator<Item = &'a Hour>) -> UsageFigures {
    let mut total = UsageFigures::default();
    hours.into_iter().for_each(|hour| add(&mut total, &hour.total));
    total
}

fn add(total: &mut UsageFigures, later: &UsageFigures) {
    total.peak = total.peak.max(later.peak);
    total.demand = total.demand.max(later.demand);
    total.seat_s += later.seat_s;
    total.saturated_s += later.saturated_s;
    total.denials += later.denials;
    total.denials_true += later.denials_true;
    total.observed_s += later.observed_s;
    total.mean = if total.observed_s == 0 { 0.0 } else { total.seat_s as f64 / total.observed_s as f64 };
}

fn instant(at: &Timestamp) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(at).ok().map(|at| at.to_utc())
}

impl Report {
    /// Asks for all of it.
    ///
    /// # Errors
    /// The daemon cannot be asked, or knows no such tenant; the time makes no sense.
    pub(super) fn read(tenant: &str, time: &Time, client: &Client) -> Result<Self, Failure> {
        let path = format!("/v1/tenants/{}", encoded(tenant));
        let now = client.ask_ok(&Ask::get(&path))?;
        let tenant: Tenant = now.read()?;
        let zone = tenant.time_zone.parse();
        let zone = zone.map_err(|_| Failure::failed("the daemon did not name its billing zone"))?;
        let span = [("from", time.from.clone()), ("to", time.to.clone())];
        let asked = client.ask_ok(&Ask::get(&with_query(&format!("{path}/whatif"), &span)))?;
        let whatif: Whatif = asked.read()?;
        // The daemon has understood the time; from here on it goes by instants.
        let lacking = |key: &str| Failure::failed(format!("the daemon answered without {key:?}"));
        let from = instant(&whatif.from).ok_or_else(|| lacking("from"))?;
        let to = instant(&whatif.to).ok_or_else(|| lacking("to"))?;
        if (to - from).num_hours() > HOURS_MAX {
            return Err(Failure::usage("a report covers at most five years").fix("give a later --from"));
        }
        let (mut hours, mut total, mut at) = (Vec::new(), UsageFigures::default(), from);
        while at < to {
            let end = to.min(at + chrono::Duration::hours(HOURS_ASKED));
            let part =
                [("from", Some(at.to_rfc3339())), ("to", Some(end.to_rfc3339())), ("step", Some("1h".to_owned()))];
            let usage: Usage = client.ask_ok(&Ask::get(&with_query(&format!("{path}/usage"), &part)))?.read()?;
            hours.extend(usage.usage.iter().filter_map(Hour::of));
            add(&mut total, &usage.total.figures);
            at = end;
        }
        let answers = json!({ "tenant": now.json()?, "whatif": asked.json()? });
        Ok(Report { tenant, whatif, answers, from, to, hours, total, zone })
    }

    /// An instant in the billing zone.
    pub(super) fn local(&self, at: DateTime<Utc>) -> chrono::NaiveDateTime {
        civil(self.zone, at)
    }

    /// Civil days with their hours, the earliest first.
    pub(super) fn days(&self) -> Vec<(chrono::NaiveDate, Vec<&Hour>)> {
        let mut days: Vec<(chrono::NaiveDate, Vec<&Hour>)> = Vec::new();
        for hour in &self.hours {
            let date = self.local(hour.at).date();
            match days.last_mut() {
                Some((last, hours)) if *last == date => hours.push(hour),
                _ => days.push((date, vec![hour])),
            }
        }
        days
    }

    /// The hour of the day, 0 to 23.
    pub(super) fn hour_of_day(&self, hour: &Hour) -> usize {
        self.local(hour.at).hour() as usize
    }

    /// The report's subject, period and origin, in words.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let total = &self.total;
        vec![
            ("seats", Quota::from(self.tenant.figures.quota).to_string()),
            ("most held at once", total.peak.to_string()),
            ("held on average", format!("{:.2}", total.mean)),
            ("most wanted at once", total.demand.to_string()),
            ("no seat free for", hours(total.saturated_s)),
            (
                "denials",
                format!("{}, of them {} people without a seat a minute later", total.denials, total.denials_true),
            ),
            ("looked at for", hours(total.observed_s)),
        ]
    }
}

impl Hour {
    fn of(point: &UsagePoint) -> Option<Self> {
        let mut total = UsageFigures::default();
        add(&mut total, &point.figures);
        Some(Hour { at: instant(&point.at)?, quota: point.quota, total })
    }

    /// As CSV and JSON have it.
    pub(super) fn fields(&self) -> Value {
        let mean = (self.total.mean * 1_000.0).round() / 1_000.0;
        value_of(&UsagePoint {
            figures: UsageFigures { mean, ..self.total.clone() },
            at: self.at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true).into(),
            quota: self.quota,
        })
    }
}
