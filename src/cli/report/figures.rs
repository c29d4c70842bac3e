//! The figures of a report: what the daemon answers, hour by hour, and what follows from it.

use chrono::{DateTime, Timelike as _, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};
use usherd_subscription::civil::civil;

use crate::cli::client::{Ask, Client, encoded, with_query};
use crate::cli::failure::Failure;
use crate::cli::whatif::{Time, hours};

/// Hours that are asked for at once: the daemon answers 5,000 points.
const HOURS_ASKED: i64 = 4_800;
/// Hours of the longest report: what the daemon keeps at most.
const HOURS_MAX: i64 = 61 * 31 * 24;

/// The figures of a report.
#[derive(Debug)]
pub(super) struct Report {
    /// All that is known of the tenant now.
    pub(super) tenant: Value,
    /// The effect that other quotas would have had.
    pub(super) whatif: Value,
    /// Hour by hour.
    pub(super) hours: Vec<Hour>,
    /// In all, as the daemon sums it.
    pub(super) total: Total,
    /// The billing zone: days and hours of the day are its own, wherever the report is read (H2).
    pub(super) zone: Tz,
}

/// One hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Hour {
    pub(super) at: DateTime<Utc>,
    pub(super) quota: Option<u64>,
    pub(super) total: Total,
}

/// Sums and peaks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Total {
    pub(super) peak: u64,
    pub(super) demand: u64,
    pub(super) seat_s: u64,
    pub(super) saturated_s: u64,
    pub(super) denials: u64,
    pub(super) denials_true: u64,
    pub(super) observed_s: u64,
}

impl Total {
    pub(super) fn of(row: &Value) -> Self {
        let whole = |key: &str| row[key].as_u64().unwrap_or(0);
        Total {
            peak: whole("peak"),
            demand: whole("demand"),
            seat_s: whole("seat_s"),
            saturated_s: whole("saturated_s"),
            denials: whole("denials"),
            denials_true: whole("denials_true"),
            observed_s: whole("observed_s"),
        }
    }

    pub(super) fn add(&mut self, later: &Total) {
        self.peak = self.peak.max(later.peak);
        self.demand = self.demand.max(later.demand);
        self.seat_s += later.seat_s;
        self.saturated_s += later.saturated_s;
        self.denials += later.denials;
        self.denials_true += later.denials_true;
        self.observed_s += later.observed_s;
    }

    pub(super) fn mean(&self) -> f64 {
        if self.observed_s == 0 { 0.0 } else { self.seat_s as f64 / self.observed_s as f64 }
    }
}

impl Report {
    /// Asks for all of it.
    ///
    /// # Errors
    /// The daemon cannot be asked, or knows no such tenant; the time makes no sense.
    pub(super) fn read(tenant: &str, time: &Time, client: &Client) -> Result<Self, Failure> {
        let path = format!("/v1/tenants/{}", encoded(tenant));
        let now = client.ask_ok(&Ask::get(&path))?.json()?;
        let zone = now["time_zone"].as_str().and_then(|name| name.parse().ok());
        let zone = zone.ok_or_else(|| Failure::failed("the daemon did not name its billing zone"))?;
        let span = [("from", time.from.clone()), ("to", time.to.clone())];
        let whatif = client.ask_ok(&Ask::get(&with_query(&format!("{path}/whatif"), &span)))?.json()?;
        // The daemon has understood the time; from here on it goes by instants.
        let instant = |key: &str| {
            let at = whatif[key].as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
            at.map(|at| at.to_utc()).ok_or_else(|| Failure::failed(format!("the daemon answered without {key:?}")))
        };
        let (from, to) = (instant("from")?, instant("to")?);
        if (to - from).num_hours() > HOURS_MAX {
            return Err(Failure::usage("a report covers at most five years").fix("give a later --from"));
        }
        let (mut hours, mut total, mut at) = (Vec::new(), Total::default(), from);
        while at < to {
            let end = to.min(at + chrono::Duration::hours(HOURS_ASKED));
            let part =
                [("from", Some(at.to_rfc3339())), ("to", Some(end.to_rfc3339())), ("step", Some("1h".to_owned()))];
            let usage = client.ask_ok(&Ask::get(&with_query(&format!("{path}/usage"), &part)))?.json()?;
            hours.extend(usage["usage"].as_array().into_iter().flatten().filter_map(Hour::of));
            total.add(&Total::of(&usage["total"]));
            at = end;
        }
        Ok(Report { tenant: now, whatif, hours, total, zone })
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
        let quota = self.tenant["quota"].as_u64().map_or("unlimited".to_owned(), |quota| quota.to_string());
        vec![
            ("seats", quota),
            ("most held at once", total.peak.to_string()),
            ("held on average", format!("{:.2}", total.mean())),
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
    pub(super) fn of(row: &Value) -> Option<Self> {
        let at = DateTime::parse_from_rfc3339(row["at"].as_str()?).ok()?.to_utc();
        Some(Hour { at, quota: row["quota"].as_u64(), total: Total::of(row) })
    }

    /// As CSV and JSON have it.
    pub(super) fn fields(&self) -> Value {
        let total = &self.total;
        json!({
            "at": self.at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true), "quota": self.quota,
            "peak": total.peak, "demand": total.demand, "mean": (total.mean() * 1_000.0).round() / 1_000.0,
            "seat_s": total.seat_s, "saturated_s": total.saturated_s, "denials": total.denials,
            "denials_true": total.denials_true, "observed_s": total.observed_s,
        })
    }
}
