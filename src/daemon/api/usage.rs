//! The usage and the demand of a tenant over time, and the effect of another quota (API 4, P4).

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use usherd_engine::{Now, TenantView};
use usherd_subscription::civil::{self, Edge};
use usherd_subscription::policy::PriceMode;
use usherd_subscription::sizing::{Target, from_usage};
use usherd_subscription::tariff::{advice, monthly_cents};

use super::Worker;
use super::queries::no_tenant;
use super::query::Query;
use super::routes::{Allowed, Call, HandlerResult};
use crate::answers::pricing::Advice;
use crate::answers::usage::{QUOTAS_MAX, Usage, UsageFigures, UsagePoint, UsageTotal, Whatif, WhatifRow};
use crate::daemon::app::Deciding;
use crate::daemon::config::Config;
use crate::daemon::history::History;
use crate::daemon::history::slot::Levels;
use crate::daemon::history::usage::{POINTS_MAX, Point, Step, Stretch};
use crate::daemon::http::Problem;
use crate::daemon::text::{rfc3339, utc};

/// Points that an answer has where no step is asked for, at most.
const POINTS_WANTED: i64 = 300;
const DAY_S: i64 = 86_400;
/// The days that [`whatif`] looks at where nothing is said (P4).
const WHATIF_DAYS: i64 = 30;
/// Where no quota is asked for: so many below the present one, and above.
const QUOTAS_AROUND: (u32, u32) = (4, 8);

/// `GET /v1/tenants/{t}/usage?from=&to=&step=`
fn usage(
    deciding: &Deciding,
    history: &History,
    config: &Config,
    now: Now,
    id: &str,
    query: &Query,
) -> Result<Usage, Problem> {
    let view = deciding.engine.tenant(now, id).ok_or_else(|| no_tenant(id))?;
    let zone = config.settings.time_zone.0;
    let (from_s, to_s) = stretch(query, zone, now, DAY_S)?;
    let step = step(query, to_s - from_s)?;
    if (to_s - from_s) / i64::from(step.seconds()) >= POINTS_MAX as i64 {
        return Err(query
            .fault("step", format!("gives more than {POINTS_MAX} points; ask for a longer step or a shorter time")));
    }
    let begin = |at_s: i64| match step {
        Step::FiveMinutes => at_s,
        Step::Hour => at_s - at_s.rem_euclid(3_600),
        Step::Day => civil::midnight(zone, civil::civil(zone, instant(at_s)).date(), Edge::Start).timestamp(),
    };
    let points = history
        .usage(id, &|| present(deciding, id), (from_s, to_s), step, begin)
        .map_err(|error| unreadable(&error))?;
    let mut total = Point::default();
    points.values().for_each(|point| total.add(point));
    let peak_at = points.iter().find(|(_, point)| point.slot.peak == total.slot.peak && total.slot.peak > 0);
    let rows = points.iter().map(|(at, point)| UsagePoint {
        figures: figures(point),
        at: rfc3339(at * 1_000).into(),
        quota: point.slot.quota,
    });
    Ok(Usage {
        tenant: id.to_owned(),
        from: rfc3339(from_s * 1_000).into(),
        to: rfc3339(to_s * 1_000).into(),
        step: step.into(),
        step_s: step.seconds(),
        quota: view.quota,
        usage: rows.collect(),
        total: UsageTotal { figures: figures(&total), peak_at: peak_at.map(|(at, _)| rfc3339(at * 1_000).into()) },
    })
}

fn present(deciding: &Deciding, id: &str) -> Option<(Now, TenantView)> {
    let now = deciding.clock.now();
    Some((now, deciding.engine.tenant(now, id)?))
}

fn figures(point: &Point) -> UsageFigures {
    let slot = &point.slot;
    UsageFigures {
        peak: slot.peak,
        mean: (point.mean() * 1_000.0).round() / 1_000.0,
        demand: slot.demand,
        seat_s: slot.seat_ms / 1_000,
        saturated_s: slot.saturated_ms / 1_000,
        denials: slot.denials,
        denials_true: slot.denials_true,
        observed_s: point.observed_ms / 1_000,
    }
}

/// `GET /v1/tenants/{t}/whatif?quota=14..24&from=&to=&target=`
fn whatif(
    deciding: &Deciding,
    history: &History,
    config: &Config,
    now: Now,
    id: &str,
    query: &Query,
) -> Result<Whatif, Problem> {
    let view = deciding.engine.tenant(now, id).ok_or_else(|| no_tenant(id))?;
    let (from_s, to_s) = stretch(query, config.settings.time_zone.0, now, WHATIF_DAYS * DAY_S)?;
    let target = match query.get("target") {
        None => Target::default(),
        Some(text) => text
            .parse()
            .ok()
            .and_then(Target::new)
            .ok_or_else(|| query.fault("target", "must be a share from 0.000001 to 0.5, as in 0.01".to_owned()))?,
    };
    let (levels, observed_ms) =
        history.demand_of(id, &|| present(deciding, id), (from_s, to_s)).map_err(|error| unreadable(&error))?;
    let recommended = from_usage(&levels.demand(), target);
    let quotas = quotas(query, &view, recommended)?;
    let mode = config.tenants.get(id).map_or(config.settings.rules.policy.price_mode, |tenant| tenant.terms.price_mode);
    Ok(Whatif {
        tenant: id.to_owned(),
        from: rfc3339(from_s * 1_000).into(),
        to: rfc3339(to_s * 1_000).into(),
        quota: view.quota,
        requests: levels.starts(),
        observed_s: observed_ms / 1_000,
        whatif: quotas.map(|quota| row(&levels, mode, quota)).collect(),
        target: target.share(),
        recommended,
        monthly_cents: monthly_cents(mode, recommended),
        advice: advice(mode, recommended).map(Advice::from),
    })
}

fn row(levels: &Levels, mode: PriceMode, quota: u32) -> WhatifRow {
    let (denials, above_ms) = levels.above(quota);
    let share = if denials == 0 { 0.0 } else { denials as f64 / levels.starts() as f64 };
    WhatifRow {
        quota,
        denials,
        share: (share * 1e6).round() / 1e6,
        saturated_s: above_ms / 1_000,
        monthly_cents: monthly_cents(mode, quota),
    }
}

/// The quotas that are asked for: `14..24`, both in it, or one.
fn quotas(query: &Query, view: &TenantView, recommended: u32) -> Result<std::ops::RangeInclusive<u32>, Problem> {
    let Some(text) = query.get("quota") else {
        let middle = view.quota.unwrap_or(recommended);
        return Ok(middle.saturating_sub(QUOTAS_AROUND.0)..=middle + QUOTAS_AROUND.1);
    };
    let (first, last) = text.split_once("..").unwrap_or((&text, &text));
    match (first.parse::<u32>(), last.trim_start_matches('=').parse::<u32>()) {
        (Ok(first), Ok(last))
            if first <= last && last - first < QUOTAS_MAX && last <= usherd_subscription::record::SEATS_MAX =>
        {
            Ok(first..=last)
        }
        _ => {
            Err(query
                .fault("quota", format!("must be a number of seats or a range as in 14..24, of at most {QUOTAS_MAX}")))
        }
    }
}

/// From and to, seconds since 1970 UTC; without them so many seconds up to now. Whole seconds, the end not in it.
fn stretch(query: &Query, zone: Tz, now: Now, length_s: i64) -> Result<Stretch, Problem> {
    let read = |key: &str| {
        query
            .get(key)
            .map(|text| {
                moment(&text, zone).ok_or_else(|| {
                    query.fault(
                        key,
                        "must be an instant as in 2026-06-16T14:00:00+02:00, or a civil date as in 2026-06-16"
                            .to_owned(),
                    )
                })
            })
            .transpose()
    };
    let now_s = utc(now).timestamp();
    // What is going on at this second is in it.
    let to_s = read("to")?.unwrap_or(now_s + 1);
    let from_s = read("from")?.unwrap_or(to_s - length_s);
    if from_s >= to_s {
        return Err(query.fault("from", "must be before `to`".to_owned()));
    }
    Ok((from_s.max(0), to_s.max(1)))
}

fn moment(text: &str, zone: Tz) -> Option<i64> {
    let date = civil::date(text).map(|date| civil::midnight(zone, date, Edge::Start));
    date.or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc())).map(|at| at.timestamp())
}

fn step(query: &Query, length_s: i64) -> Result<Step, Problem> {
    match query.get("step") {
        None => {
            let fits = |step: &&Step| length_s / i64::from(step.seconds()) <= POINTS_WANTED;
            Ok(Step::ALL.iter().find(fits).copied().unwrap_or(Step::Day))
        }
        Some(word) => Step::ALL
            .iter()
            .copied()
            .find(|step| step.as_str() == word)
            .ok_or_else(|| query.fault("step", "must be one of 5m, 1h, 1d".to_owned())),
    }
}

fn instant(at_s: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(at_s, 0).unwrap_or_default()
}

fn unreadable(error: &std::io::Error) -> Problem {
    Problem::unavailable(5, format!("the usage history cannot be read: {error}"))
}

impl Worker {
    /// `GET /v1/tenants/{t}/usage`
    pub(super) async fn usage(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let ((id, _), query, now) = (allowed.into_parts(), call.query()?, self.app.deciding.clock.now());
        self.answer_blocking(move |app| {
            let config = app.configuration.running.get();
            usage(&app.deciding, &app.publishing.history, &config, now, &id, &query)
        })
        .await
    }

    /// `GET /v1/tenants/{t}/whatif`
    pub(super) async fn whatif(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let ((id, _), query, now) = (allowed.into_parts(), call.query()?, self.app.deciding.clock.now());
        self.answer_blocking(move |app| {
            let config = app.configuration.running.get();
            whatif(&app.deciding, &app.publishing.history, &config, now, &id, &query)
        })
        .await
    }
}
