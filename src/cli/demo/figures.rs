//! The figures of a day, and what other quotas would have meant, as the daemon remembers it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use super::folder::program;
use super::narrate::Tally;
use super::office::TENANT;
use super::terminal::{Terminal, Tone};
use crate::cli::address::Address;
use crate::cli::client::{Ask, Client, with_query};
use crate::cli::failure::Failure;

/// How long the daemon may take to look through its memory.
const PATIENCE: Duration = Duration::from_secs(2);
/// Quotas that are compared: the brochure's figure, the safe one, and what is between.
const QUOTAS: [u64; 3] = [16, 18, 20];

/// The figures of a day.
pub(super) struct Figures<'a> {
    pub tally: &'a Tally,
    pub quota: Option<u32>,
    pub seat_hours: f64,
    /// Until when, seconds after midnight.
    pub at_s: u32,
}

/// `10:31`
pub(super) fn hours(at_s: u32) -> String {
    format!("{:02}:{:02}", at_s / 3_600 % 24, at_s / 60 % 60)
}

impl Figures<'_> {
    /// Tells them.
    ///
    /// # Errors
    /// Nobody reads the output any more.
    pub(super) fn tell(&self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let tally = self.tally;
        let quota = self.quota.map_or("unlimited".to_owned(), |quota| quota.to_string());
        terminal.status("")?;
        terminal.say(&hours(self.at_s), Tone::Plain, "The day in figures:")?;
        for (what, figure) in [
            ("most seats", format!("{} at {}; the quota is {quota}", tally.peak, hours(tally.peak_at_s))),
            ("seat-hours", format!("{:.1}", self.seat_hours)),
            ("calls in", format!("{}, {} passed", tally.inbound, tally.inbound_passed)),
            ("calls out", format!("{}, and {} to 112", tally.started, tally.emergencies)),
            ("refused", tally.refusals().unwrap_or("nobody".to_owned())),
        ] {
            terminal.line(Tone::Plain, &format!("         {what:<12}{figure}"))?;
        }
        if tally.unanswered > 0 {
            let line = format!("         unanswered  {}: allowed, and adopted afterwards", tally.unanswered);
            terminal.line(Tone::Bad, &line)?;
        }
        Ok(())
    }
}

/// Tells what other quotas would have refused since an instant, and what they cost (P4).
///
/// # Errors
/// Nobody reads the output any more. That the daemon does not answer is none: then it is not told.
pub(super) fn what_if(address: SocketAddr, since: DateTime<Utc>, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let from = since.to_rfc3339_opts(SecondsFormat::Secs, true);
    let quotas = format!("{}..{}", QUOTAS[0], QUOTAS[QUOTAS.len() - 1]);
    let path =
        with_query(&format!("/v1/tenants/{TENANT}/whatif"), &[("quota", Some(quotas.clone())), ("from", Some(from))]);
    let client = Client::new(vec![Address::Tcp(address.to_string())], Path::new(""), None, PATIENCE)?;
    let Ok(answer) = client.ask_ok(&Ask::get(&path)).and_then(|reply| reply.json()) else { return Ok(()) };
    terminal
        .line(Tone::Plain, &format!("         {:<12}{:>9}{:>9}{:>14}", "what if", "seats", "unmet", "EUR a month"))?;
    for row in rows(&answer) {
        terminal.line(Tone::Plain, &row)?;
    }
    terminal.line(Tone::Plain, &format!("         {} whatif {TENANT} --quota {quotas} --addr {address}", program()))
}

/// A line for each quota.
fn rows(answer: &Value) -> Vec<String> {
    let rows = answer.get("whatif").and_then(Value::as_array).into_iter().flatten();
    let number = |row: &Value, key: &str| row.get(key).and_then(Value::as_u64);
    let told = rows.filter_map(|row| {
        let (quota, denials, cents) = (number(row, "quota")?, number(row, "denials")?, number(row, "monthly_cents")?);
        let euros = format!("{}.{:02}", cents / 100, cents % 100);
        QUOTAS.contains(&quota).then(|| format!("         {:<12}{quota:>9}{denials:>9}{euros:>14}", ""))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_other_quotas_mean_is_a_table_of_three() {
        let row = |quota: u64, denials: u64| json!({"quota": quota, "denials": denials, "monthly_cents": quota * 801});
        let answer = json!({"whatif": [row(16, 9), row(17, 5), row(18, 2), row(19, 1), row(20, 0)]});
        let told = rows(&answer);
        assert_eq!(told.len(), 3);
        assert!(told[1].split_whitespace().eq(["18", "2", "144.18"]), "{told:?}");
        assert_eq!(rows(&json!({})), Vec::<String>::new(), "a daemon that does not know it");
    }
}
