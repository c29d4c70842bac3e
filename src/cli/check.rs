//! `check`: one line, performance data and an exit code, as monitoring systems want it of a plugin.

use serde_json::Value;

use super::client::{Ask, Client, encoded};
use super::failure::Failure;
use super::table::visible;

/// The exit code where nothing can be said.
pub(super) const UNKNOWN: u8 = 3;

/// `usherd check`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// How full a tenant is
    Tenant {
        /// The tenant
        tenant: String,
        /// Warning from this level on: a share of the quota, or seats
        #[arg(long, value_name = "PERCENT%|SEATS", default_value = "80%", value_parser = Threshold::parse)]
        warn: Threshold,
        /// Critical from this level on
        #[arg(long, value_name = "PERCENT%|SEATS", default_value = "95%", value_parser = Threshold::parse)]
        crit: Threshold,
    },
}

/// From how many seats on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threshold {
    Percent(u64),
    Seats(u64),
}

impl Threshold {
    fn parse(text: &str) -> Result<Self, String> {
        let parsed = match text.strip_suffix('%') {
            Some(percent) => {
                percent.trim_end().parse().ok().filter(|percent| *percent <= 1_000).map(Threshold::Percent)
            }
            None => text.parse().ok().map(Threshold::Seats),
        };
        parsed.ok_or_else(|| "write a share as in 80%, or a number of seats".to_owned())
    }

    /// The smallest number of seats that reaches it; `None` for a share of an unlimited quota.
    fn seats(self, quota: Option<u64>) -> Option<u64> {
        match (self, quota) {
            (Threshold::Seats(seats), _) => Some(seats),
            (Threshold::Percent(percent), Some(quota)) => Some((quota * percent).div_ceil(100)),
            (Threshold::Percent(_), None) => None,
        }
    }
}

/// How it is, and the exit code that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "OK",
            Verdict::Warning => "WARNING",
            Verdict::Critical => "CRITICAL",
            Verdict::Unknown => "UNKNOWN",
        }
    }
}

/// The line and the exit code of a check. Whatever cannot be asked or understood is UNKNOWN.
pub(super) fn check(arguments: &CheckArgs, client: Result<Client, Failure>) -> (String, u8) {
    let What::Tenant { tenant, warn, crit } = &arguments.what;
    let path = format!("/v1/tenants/{}", encoded(tenant));
    let answer = client.and_then(|client| client.ask_ok(&Ask::get(&path))?.json());
    let (verdict, text) = match answer {
        Ok(answer) => judge(&answer, *warn, *crit),
        Err(failure) => (Verdict::Unknown, failure.what.replace('\n', ";")),
    };
    // Nothing but the plugin itself may write the bar: performance data begins behind it.
    let name = visible(tenant).replace('|', "?");
    (format!("USHERD {} - {name}: {text}\n", verdict.word()), verdict as u8)
}

fn judge(answer: &Value, warn: Threshold, crit: Threshold) -> (Verdict, String) {
    let Some(held) = answer.get("held").and_then(Value::as_u64) else {
        return (Verdict::Unknown, "the answer does not say how many seats are held".to_owned());
    };
    let quota = answer.get("quota").and_then(Value::as_u64);
    let (warn, crit) = (warn.seats(quota), crit.seats(quota));
    let reached = |seats: Option<u64>| seats.is_some_and(|seats| held >= seats && held > 0);
    let by_seats = match () {
        () if reached(crit) => Verdict::Critical,
        () if reached(warn) => Verdict::Warning,
        () => Verdict::Ok,
    };
    let state = answer.get("state").and_then(Value::as_str).unwrap_or("active");
    let by_state = match state {
        "suspended" | "ended" => Verdict::Critical,
        "stale" => Verdict::Warning,
        _ => Verdict::Ok,
    };
    let of = quota.map_or("unlimited".to_owned(), |quota| quota.to_string());
    let share = quota.filter(|quota| *quota > 0).map(|quota| format!(" ({}%)", held * 100 / quota)).unwrap_or_default();
    let note = if by_state == Verdict::Ok {
        String::new()
    } else {
        format!(", subscription {}", visible(state).replace('|', "?"))
    };
    let number = |seats: Option<u64>| seats.map(|seats| seats.to_string()).unwrap_or_default();
    let mut data = format!("held={held};{};{};0;{}", number(warn), number(crit), number(quota));
    for key in ["over", "peak_today", "denials_today"] {
        if let Some(value) = answer.get(key).and_then(Value::as_u64) {
            data.push_str(&format!(" {key}={value};;;0"));
        }
    }
    (by_seats.max(by_state), format!("{held} of {of} seats held{share}{note} | {data}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(answer: Value, warn: &str, crit: &str) -> (Verdict, String) {
        judge(&answer, Threshold::parse(warn).unwrap(), Threshold::parse(crit).unwrap())
    }

    #[test]
    fn shares_and_numbers_of_seats() {
        for (held, warn, crit, expected) in [
            (7, "80%", "95%", Verdict::Ok),
            (8, "80%", "95%", Verdict::Warning),
            (9, "80%", "95%", Verdict::Warning),
            (10, "80%", "95%", Verdict::Critical),
            (12, "80%", "95%", Verdict::Critical),
            (5, "5", "6", Verdict::Warning),
            (6, "5", "6", Verdict::Critical),
            (0, "0%", "0%", Verdict::Ok),
        ] {
            assert_eq!(judged(json!({"held": held, "quota": 10}), warn, crit).0, expected, "{held} {warn} {crit}");
        }
    }

    #[test]
    fn performance_data_has_absolute_limits() {
        let (_, text) = judged(json!({"held": 8, "quota": 10, "over": 0, "denials_today": 3}), "80%", "95%");
        assert_eq!(text, "8 of 10 seats held (80%) | held=8;8;10;0;10 over=0;;;0 denials_today=3;;;0");
        let (verdict, text) = judged(json!({"held": 8, "quota": null}), "80%", "95%");
        assert_eq!((verdict, text.as_str()), (Verdict::Ok, "8 of unlimited seats held | held=8;;;0;"));
    }

    #[test]
    fn a_subscription_that_gives_no_seats_is_no_ok() {
        let told = judged(json!({"held": 0, "quota": 0, "state": "ended"}), "80%", "95%");
        assert_eq!(told, (Verdict::Critical, "0 of 0 seats held, subscription ended | held=0;0;0;0;0".to_owned()));
        assert_eq!(judged(json!({"held": 0, "quota": 5, "state": "stale"}), "80%", "95%").0, Verdict::Warning);
    }

    #[test]
    fn an_answer_without_seats_is_unknown() {
        assert_eq!(judged(json!({}), "80%", "95%").0, Verdict::Unknown);
        assert!(Threshold::parse("80 percent").is_err() && Threshold::parse("-1").is_err());
    }
}
