//! The check of the clock: contracts begin and end by it.

use std::process::Command;

use chrono::{DateTime, Utc};

use super::finding::Finding;
use crate::answers::overview::Overview;
use crate::answers::words::WaitsFor;

const CHECK: &str = "clock";
const WHY: &str = "contracts begin and end, and bundles of records expire, by the wall clock";
/// More than the way of an answer can explain, seconds.
const SKEW_S_MAX: i64 = 2;

/// True if the machine's clock follows a time server; `None` where nobody knows.
pub(super) fn is_synchronized() -> Option<bool> {
    let output = Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output().ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// Checks that this machine's clock is right.
pub(super) fn of_machine(synchronized: Option<bool>) -> Finding {
    let check = "time sync";
    match synchronized {
        Some(true) => Finding::ok(check, "the clock follows a time server"),
        Some(false) => Finding::warn(
            check,
            "the clock follows no time server",
            WHY,
            "apt-get install systemd-timesyncd (or chrony), then `timedatectl` shows it",
        ),
        None => Finding::note(check, "this machine does not tell whether the clock follows a time server", ""),
    }
}

/// Checks that the daemon's clock went evenly, and agrees with the one here; `here` is when its overview was asked for.
pub(super) fn of_daemon(overview: &Overview, here: DateTime<Utc>) -> Finding {
    let time = &overview.time;
    let skew_s = overview.at.instant().map_or(0, |at| (at - here).num_seconds());
    if time.waits_for == Some(WaitsFor::Confirmation.into()) {
        return Finding::fail(
            CHECK,
            "the daemon started with a clock far from where it was, and nothing confirms it: each subscription is worth the more generous of both times, and no end takes a pairing or closes a client",
            WHY,
            "look at `timedatectl` and set the clock right; a time server confirms it by itself, otherwise say `usherd clock trust`",
        );
    }
    if !time.wall_clock_trusted {
        return Finding::fail(
            CHECK,
            "the wall clock jumped by more than it may: for ten minutes contracts follow the old one as well",
            WHY,
            "set the clock right (`timedatectl`); a time that stays is trusted after ten minutes",
        );
    }
    if skew_s.abs() > SKEW_S_MAX {
        let what = format!("the daemon's clock and the one here are {} s apart", skew_s.abs());
        return Finding::warn(CHECK, what, WHY, "let both follow a time server");
    }
    match time.clock_steps {
        0 => Finding::ok(CHECK, "it has not been set since the daemon started"),
        steps => Finding::warn(
            CHECK,
            format!("it has been set {steps} times since the daemon started"),
            WHY,
            "let a time server correct it gradually: chrony, without makestep after the boot",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{self, *};
    use super::*;
    use crate::answers::overview::Time;

    #[test]
    fn the_clock_of_the_daemon_against_the_one_here() {
        let here = DateTime::from_timestamp(1_795_352_060, 0).unwrap();
        let overview = |at: &str, clock_steps, wall_clock_trusted| Overview {
            at: at.to_owned().into(),
            time: Time { clock_steps, wall_clock_trusted, ..Time::default() },
            ..Overview::default()
        };
        let table: [(&str, u64, bool, Verdict); 5] = [
            ("2026-11-22T12:54:20.006Z", 0, true, Ok),
            ("2026-11-22T12:54:22.006Z", 0, true, Ok),
            ("2026-11-22T12:54:10.006Z", 0, true, Warn),
            ("2026-11-22T12:54:20.006Z", 2, true, Warn),
            ("2026-11-22T12:54:20.006Z", 1, false, Fail),
        ];
        for (at, steps, trusted, verdict) in table {
            let finding = of_daemon(&overview(at, steps, trusted), here);
            assert_eq!(finding.verdict, verdict, "{at} {finding:?}");
        }
        assert_eq!(of_machine(Some(false)).verdict, Warn);
        assert_eq!(of_machine(None).verdict, Note);
    }
}
