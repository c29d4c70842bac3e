//! `plan`, `reload`: what the files would change, and to change it and wait for the outcome.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::client::{Ask, Client, Reply, with_query};
use super::failure::{CONFIGURATION, FAILED, Failure, OK};
use super::screen::{Format, Screen};
use crate::answers::config::{ConfigProblem, Diff, Rejected, Reloaded, TenantDiff};

/// A hundred thousand tenant files take their time.
const RELOAD_DEADLINE: Duration = Duration::from_secs(120);

/// `usherd plan`, `usherd reload`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ReloadArgs {
    /// Also where it takes away more than `server.reload_*_dropped_max_percent` allow, tenants whose seats are held, the last credential, TLS or roles, or grants a second trial
    #[arg(long)]
    force: bool,
}

/// Shows what a reload would change, with its consequences.
///
/// # Errors
/// The daemon cannot be asked, or the files are rejected. Tenant files that are not taken are no error, but exit code 1.
pub(super) fn plan(arguments: &ReloadArgs, client: Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    send(arguments.force, true, client, screen)
}

/// Takes up the files as they are, and waits for the outcome. What needs force is asked for on a terminal.
///
/// # Errors
/// As [`plan`]; the previous configuration stays in force then.
pub(super) fn reload(arguments: &ReloadArgs, client: Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    send(arguments.force, false, client, screen)
}

fn send(force: bool, dry_run: bool, client: Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let client = client.patient(RELOAD_DEADLINE);
    let mut reply = client.ask(&Ask::post(&path(force, dry_run), &json!({})))?;
    if reply.status == StatusCode::UNPROCESSABLE_ENTITY {
        if screen.format == Format::Json {
            screen.verbatim(&reply.body)?;
        }
        let rejected: Rejected = reply.read().unwrap_or_default();
        let rejection = rejection(&reply, &rejected);
        // Force would carry it through.
        if dry_run || !rejected.forceable || !is_wanted(&rejection.what, screen)? {
            return Err(rejection);
        }
        reply = client.ask(&Ask::post(&path(true, dry_run), &json!({})))?;
    }
    if !reply.status.is_success() {
        return Err(reply.failure());
    }
    let answer: Reloaded = reply.read()?;
    show(&reply, &answer, screen)?;
    let is_whole = answer.rejected.is_empty() && answer.certificates.is_empty();
    Ok(if is_whole { OK } else { FAILED })
}

fn path(force: bool, dry_run: bool) -> String {
    let set = |flag: bool| flag.then(|| "1".to_owned());
    with_query("/v1/admin/reload", &[("dry_run", set(dry_run)), ("force", set(force))])
}

/// Asks whoever sits at a terminal; where nobody does, the answer is no.
fn is_wanted(what: &str, screen: &mut Screen<'_>) -> Result<bool, Failure> {
    if screen.format != Format::Table || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Ok(false);
    }
    screen.write(&format!("{what}\nDo it anyway, as with --force? [y/N] "))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| Failure::failed(format!("no answer can be read: {error}")))?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn show(reply: &Reply, answer: &Reloaded, screen: &mut Screen<'_>) -> Result<(), Failure> {
    match screen.format {
        Format::Json => screen.verbatim(&reply.body)?,
        Format::Csv => {
            let mut rows = csv_rows(&answer.diff);
            rows.extend(answer.warnings.iter().map(|warning| csv_row("warning", warning)));
            let of_files = answer.rejected.iter().flat_map(|file| &file.problems);
            rows.extend(of_files.chain(&answer.certificates).map(|problem| csv_row("rejected", problem)));
            let table = screen.rows(&rows, &["change", "object", "before", "after", "consequence"]);
            screen.table(&table)?;
        }
        Format::Table => {
            for line in told(answer).lines() {
                screen.line(line)?;
            }
            for warning in &answer.warnings {
                tell("warning", warning, screen)?;
            }
            for file in &answer.away {
                screen.line(&format!("{file} is missing or drops tenants; they stay for removal_delay_s"))?;
            }
            for file in &answer.rejected {
                let what = if file.kept { "keeps its last good record" } else { "was never good and is no tenant" };
                screen.line(&format!("! tenant {}: its file is not taken; it {what}", file.tenant))?;
                file.problems.iter().try_for_each(|problem| tell("error", problem, screen))?;
            }
            answer.certificates.iter().try_for_each(|problem| tell("error", problem, screen))?;
        }
    }
    Ok(())
}

fn tell(severity: &str, problem: &ConfigProblem, screen: &mut Screen<'_>) -> Result<(), Failure> {
    screen.line(&format!("{severity}[{}]: {}: {}", problem.code, place(problem), problem.message))?;
    screen.line(&format!("  help: {}", or_none(problem.help.as_deref())))
}

/// Every error with file, line and column.
fn rejection(reply: &Reply, rejected: &Rejected) -> Failure {
    let mut what = String::new();
    for problem in &rejected.problems {
        let _ = writeln!(what, "{}: {}", place(problem), problem.message);
        if let Some(help) = problem.help.as_deref().filter(|help| !help.is_empty()) {
            let _ = writeln!(what, "  help: {help}");
        }
    }
    let what = match what.trim_end() {
        "" => reply.failure().what,
        what => format!("the configuration is rejected\n{what}"),
    };
    Failure {
        code: CONFIGURATION,
        what,
        fix: "the previous configuration stays in force; `usherd config check` shows the lines".to_owned(),
    }
}

/// File, line and column of a fault.
fn place(problem: &ConfigProblem) -> String {
    format!("{}:{}:{}", problem.file, problem.line, problem.column)
}

fn or_none(text: Option<&str>) -> &str {
    text.unwrap_or("(none)")
}

/// The diff for people.
fn told(answer: &Reloaded) -> String {
    let mut text = answer.text.clone();
    if !text.is_empty() {
        return text;
    }
    for (sign, _, tenant) in tenants(&answer.diff) {
        let _ = write!(text, "{sign} tenant {}", tenant.tenant);
        let _ = match (&tenant.quota_before, &tenant.quota_after) {
            (Some(before), Some(after)) if before != after => write!(text, ": {before} -> {after} seats"),
            (Some(seats), _) | (None, Some(seats)) => write!(text, ": {seats} seats"),
            (None, None) => Ok(()),
        };
        if let Some(held) = tenant.held {
            let _ = write!(text, ", {held} held");
        }
        text.push('\n');
        for sentence in tenant.what.iter().chain(&tenant.consequences) {
            let _ = writeln!(text, "    {sentence}");
        }
    }
    for setting in &answer.diff.settings {
        let restart = if setting.needs_restart { "  (waits for a restart)" } else { "" };
        let (before, after) = (or_none(setting.before.as_deref()), or_none(setting.after.as_deref()));
        let _ = writeln!(text, "~ {}: {before} -> {after}{restart}", setting.key);
    }
    if text.is_empty() { "no changes\n".to_owned() } else { text }
}

/// Every tenant of a diff, with the sign and the word of its change.
fn tenants(diff: &Diff) -> impl Iterator<Item = (char, &'static str, &TenantDiff)> {
    let kinds = [('+', "added", &diff.added), ('-', "removed", &diff.removed), ('~', "changed", &diff.changed)];
    kinds.into_iter().flat_map(|(sign, change, tenants)| tenants.iter().map(move |tenant| (sign, change, tenant)))
}

fn csv_rows(diff: &Diff) -> Vec<Value> {
    let tenants = tenants(diff).map(|(_, change, tenant)| {
        json!({
            "change": change, "object": tenant.tenant, "before": tenant.quota_before,
            "after": tenant.quota_after, "consequence": tenant.consequences.join(" "),
        })
    });
    let settings = diff.settings.iter().map(|setting| {
        json!({
            "change": "setting", "object": setting.key, "before": setting.before, "after": setting.after,
            "consequence": if setting.needs_restart { "waits for a restart" } else { "" },
        })
    });
    tenants.chain(settings).collect()
}

fn csv_row(change: &str, problem: &ConfigProblem) -> Value {
    json!({ "change": change, "object": place(problem), "consequence": problem.message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(["y", "Y\n", " yes \r\n"].into_iter().all(is_yes));
        assert!(["", "\n", "n", "yess", "force"].into_iter().all(|answer| !is_yes(answer)));
    }

    #[test]
    fn a_diff_is_told_with_its_consequences() {
        let read = |answer: Value| serde_json::from_value::<Reloaded>(answer).unwrap();
        let answer = read(json!({"diff": {
            "added": [{"tenant": "new", "quota_after": 5, "what": [], "consequences": []}],
            "removed": [],
            "changed": [{"tenant": "acme", "quota_before": 20, "quota_after": 14, "held": 17, "what": ["seats"],
                "consequences": ["3 users stay above the quota until they end their calls"]}],
            "settings": [{"key": "server.workers", "before": "0", "after": "4", "needs_restart": true}],
        }}));
        assert_eq!(
            told(&answer),
            "+ tenant new: 5 seats\n~ tenant acme: 20 -> 14 seats, 17 held\n    seats\n    3 users stay above the quota \
             until they end their calls\n~ server.workers: 0 -> 4  (waits for a restart)\n"
        );
        assert_eq!(told(&read(json!({"diff": {"added": []}}))), "no changes\n");
        assert_eq!(csv_rows(&answer.diff).len(), 3);
    }
}
