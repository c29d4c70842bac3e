//! A finding of the doctor: a verdict, what it is about, why it matters and how to fix it.

use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::cli::screen::{Format, Screen, counted};
use crate::cli::table::Table;

/// How it is, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Not judged: it could not be looked at, or it is a matter of taste.
    Note,
    /// It works, and will not for ever, or not in every case.
    Warn,
    /// It does not work.
    Fail,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }

    /// Green, none, yellow, red.
    const fn colour(self) -> &'static str {
        match self {
            Verdict::Ok => "\u{1b}[32m",
            Verdict::Note => "\u{1b}[2m",
            Verdict::Warn => "\u{1b}[1;33m",
            Verdict::Fail => "\u{1b}[1;31m",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// The thing that was looked at, in one or two words.
    pub check: &'static str,
    /// The state of it, in a sentence.
    pub what: String,
    /// Why it matters; empty where all is well.
    pub why: String,
    /// How to fix it; empty where all is well.
    pub fix: String,
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Finding { verdict: Verdict::Ok, check, what: what.into(), why: String::new(), fix: String::new() }
    }

    /// Not judged.
    pub(super) fn note(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding { verdict: Verdict::Note, fix: fix.into(), ..Finding::ok(check, what) }
    }

    /// It works, with a reservation.
    pub(super) fn warn(
        check: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Finding { verdict: Verdict::Warn, why: why.into(), fix: fix.into(), ..Finding::ok(check, what) }
    }

    /// It does not work.
    pub(super) fn fail(
        check: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Finding { verdict: Verdict::Fail, ..Finding::warn(check, what, why, fix) }
    }
}

/// Shows them all, in their order.
///
/// # Errors
/// The output cannot be written.
pub(super) fn show(findings: &[Finding], screen: &mut Screen<'_>) -> Result<(), Failure> {
    match screen.format {
        Format::Json => screen.write(&format!("{}\n", as_json(findings))),
        Format::Csv => {
            let mut table = Table::new(["verdict", "check", "what", "why", "fix"]);
            for Finding { verdict, check, what, why, fix } in findings {
                table.push([verdict.word().to_owned(), (*check).to_owned(), what.clone(), why.clone(), fix.clone()]);
            }
            screen.table(&table)
        }
        Format::Table => {
            for finding in findings {
                screen.write(&as_text(finding, screen.colour))?;
            }
            screen.line(&summary(findings))
        }
    }
}

fn as_json(findings: &[Finding]) -> Value {
    let rows = findings.iter().map(|Finding { verdict, check, what, why, fix }| {
        json!({ "verdict": verdict.word(), "check": check, "what": what, "why": why, "fix": fix })
    });
    json!({ "verdict": worst(findings).word(), "checks": rows.collect::<Vec<_>>() })
}

/// The line, and those below it that say why and how to fix it.
fn as_text(finding: &Finding, colour: bool) -> String {
    let Finding { verdict, check, what, why, fix } = finding;
    let (begin, end) = if colour { (verdict.colour(), "\u{1b}[0m") } else { ("", "") };
    let mut text = format!("{begin}{:<4}{end}  {check:<13}  {}\n", verdict.word(), visible_lines(what));
    for (title, lines) in [("why", why), ("fix", fix)] {
        if !lines.is_empty() {
            text.push_str(&format!("{:22}{title}: {}\n", "", visible_lines(lines)));
        }
    }
    text
}

/// Several lines stay below each other; nothing in them steers the terminal.
fn visible_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(crate::cli::table::visible).collect();
    lines.join(&format!("\n{:27}", ""))
}

/// The worst verdict of all; notes do not count.
pub(super) fn worst(findings: &[Finding]) -> Verdict {
    let judged = findings.iter().map(|finding| finding.verdict).filter(|verdict| *verdict != Verdict::Note);
    judged.max().unwrap_or(Verdict::Ok)
}

fn summary(findings: &[Finding]) -> String {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let judged = findings.len() - count(Verdict::Note);
    match (count(Verdict::Fail), count(Verdict::Warn)) {
        (0, 0) => format!("{}: all is well", counted(judged, "check")),
        (failed, warnings) => {
            format!("{}: {failed} failed, {}", counted(judged, "check"), counted(warnings, "warning"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok("daemon", "ready"),
            Finding::note("service", "no systemd here", ""),
            Finding::warn("disk", "1 GiB free", "it may fill up", "make room"),
        ]
    }

    #[test]
    fn each_finding_is_a_line_and_a_bad_one_says_how_to_fix_it() {
        let text: String = findings().iter().map(|finding| as_text(finding, false)).collect();
        assert_eq!(
            text,
            "ok    daemon         ready\nnote  service        no systemd here\nwarn  disk           1 GiB free\n                     \
             \u{20}why: it may fill up\n                      fix: make room\n"
        );
        assert_eq!(summary(&findings()), "2 checks: 0 failed, 1 warning");
        assert_eq!(summary(&findings()[..2]), "1 check: all is well");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let text = as_text(&Finding::ok("nodes", "pbx\u{1b}[2J\nb"), false);
        assert_eq!(text, "ok    nodes          pbx?[2J\n                           b\n");
    }

    #[test]
    fn notes_are_no_verdict() {
        assert_eq!(worst(&findings()), Verdict::Warn);
        assert_eq!(worst(&findings()[..2]), Verdict::Ok);
        assert_eq!(as_json(&findings())["verdict"], "warn");
    }
}
