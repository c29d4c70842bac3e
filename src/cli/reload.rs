//! `plan`, `reload`: what the files would change, and to change it and wait for the outcome.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::client::{Ask, Client, Reply, with_query};
use super::failure::{CONFIGURATION, FAILED, Failure, OK};
use super::screen::{Format, Screen};

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
        let rejection = rejection(&reply);
        if dry_run || !is_forceable(&reply) || !is_wanted(&rejection.what, screen)? {
            return Err(rejection);
        }
        reply = client.ask(&Ask::post(&path(true, dry_run), &json!({})))?;
    }
    if !reply.status.is_success() {
        return Err(reply.failure());
    }
    let answer = reply.json()?;
    show(&reply, &answer, screen)?;
    let is_whole = ["rejected", "certificates"].iter().all(|key| items(&answer, key).next().is_none());
    Ok(if is_whole { OK } else { FAILED })
}

fn path(force: bool, dry_run: bool) -> String {
    let set = |flag: bool| flag.then(|| "1".to_owned());
    with_query("/v1/admin/reload", &[("dry_run", set(dry_run)), ("force", set(force))])
}

/// True if force would carry it through.
fn is_forceable(reply: &Reply) -> bool {
    reply.json().is_ok_and(|problem| problem.get("forceable") == Some(&Value::Bool(true)))
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

fn show(reply: &Reply, answer: &Value, screen: &mut Screen<'_>) -> Result<(), Failure> {
    match screen.format {
        Format::Json => screen.verbatim(&reply.body)?,
        Format::Csv => {
            let mut rows = csv_rows(&diff_of(answer));
            rows.extend(items(answer, "warnings").map(|warning| {
                json!({ "change": "warning", "object": place(warning), "consequence": warning.get("message") })
            }));
            let files = items(answer, "rejected").flat_map(|file| items(file, "problems"));
            rows.extend(files.chain(items(answer, "certificates")).map(|problem| {
                json!({ "change": "rejected", "object": place(problem), "consequence": problem.get("message") })
            }));
            let table = screen.rows(&rows, &["change", "object", "before", "after", "consequence"]);
            screen.table(&table)?;
        }
        Format::Table => {
            for line in told(answer).lines() {
                screen.line(line)?;
            }
            for warning in items(answer, "warnings") {
                tell("warning", warning, screen)?;
            }
            for file in items(answer, "away") {
                screen.line(&format!(
                    "{} is missing or drops tenants; they stay for removal_delay_s",
                    plain(Some(file))
                ))?;
            }
            for file in items(answer, "rejected") {
                let kept = file.get("kept") == Some(&Value::Bool(true));
                let what = if kept { "keeps its last good record" } else { "was never good and is no tenant" };
                let tenant = plain(file.get("tenant"));
                screen.line(&format!("! tenant {tenant}: its file is not taken; it {what}"))?;
                for problem in items(file, "problems") {
                    tell("error", problem, screen)?;
                }
            }
            for problem in items(answer, "certificates") {
                tell("error", problem, screen)?;
            }
        }
    }
    Ok(())
}

fn tell(severity: &str, problem: &Value, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let word = |key: &str| plain(problem.get(key));
    screen.line(&format!("{severity}[{}]: {}: {}", word("code"), place(problem), word("message")))?;
    screen.line(&format!("  help: {}", word("help")))
}

/// Every error with file, line and column.
fn rejection(reply: &Reply) -> Failure {
    let problem = reply.json().unwrap_or_default();
    let faults = ["problems", "errors"].iter().find_map(|key| problem.get(*key)?.as_array().cloned());
    let mut what = String::new();
    for fault in faults.iter().flatten().filter(|fault| fault.get("file").is_some()) {
        let word = |key: &str| fault.get(key).and_then(Value::as_str).unwrap_or_default();
        let number = |key: &str| fault.get(key).and_then(Value::as_u64).unwrap_or(1);
        let message = if word("message").is_empty() { word("detail") } else { word("message") };
        let _ = write!(what, "{}:{}:{}: {message}", word("file"), number("line"), number("column"));
        if !word("help").is_empty() {
            let _ = write!(what, "\n  help: {}", word("help"));
        }
        what.push('\n');
    }
    let failure = reply.failure();
    let what =
        if what.is_empty() { failure.what } else { format!("the configuration is rejected\n{}", what.trim_end()) };
    Failure {
        code: CONFIGURATION,
        what,
        fix: "the previous configuration stays in force; `usherd config check` shows the lines".to_owned(),
    }
}

fn diff_of(answer: &Value) -> Value {
    answer.get("diff").unwrap_or(answer).clone()
}

fn items<'a>(diff: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    diff.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// File, line and column of a fault.
fn place(fault: &Value) -> String {
    let [file, line, column] = ["file", "line", "column"].map(|key| plain(fault.get(key)));
    format!("{file}:{line}:{column}")
}

fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "(none)".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The diff for people.
fn told(answer: &Value) -> String {
    if let Some(text) = ["text", "rendered"].iter().find_map(|key| answer.get(*key)?.as_str()) {
        return text.to_owned();
    }
    let diff = diff_of(answer);
    let mut text = String::new();
    for (sign, key) in [('+', "added"), ('-', "removed"), ('~', "changed")] {
        for tenant in items(&diff, key) {
            let _ = write!(text, "{sign} tenant {}", plain(tenant.get("tenant")));
            let _ = match (tenant.get("quota_before"), tenant.get("quota_after")) {
                (Some(before), Some(after)) if before != after => {
                    write!(text, ": {} -> {} seats", plain(Some(before)), plain(Some(after)))
                }
                (Some(seats), _) | (None, Some(seats)) => write!(text, ": {} seats", plain(Some(seats))),
                (None, None) => Ok(()),
            };
            if let Some(held) = tenant.get("held").and_then(Value::as_u64) {
                let _ = write!(text, ", {held} held");
            }
            text.push('\n');
            for sentence in items(tenant, "what").chain(items(tenant, "consequences")) {
                let _ = writeln!(text, "    {}", plain(Some(sentence)));
            }
        }
    }
    for setting in items(&diff, "settings") {
        let restart =
            if setting.get("needs_restart") == Some(&Value::Bool(true)) { "  (waits for a restart)" } else { "" };
        let (before, after) = (plain(setting.get("before")), plain(setting.get("after")));
        let _ = writeln!(text, "~ {}: {before} -> {after}{restart}", plain(setting.get("key")));
    }
    if text.is_empty() { "no changes\n".to_owned() } else { text }
}

fn csv_rows(diff: &Value) -> Vec<Value> {
    let mut rows = Vec::new();
    for key in ["added", "removed", "changed"] {
        for tenant in items(diff, key) {
            let sentences: Vec<String> = items(tenant, "consequences").map(|sentence| plain(Some(sentence))).collect();
            rows.push(json!({
                "change": key, "object": tenant.get("tenant"), "before": tenant.get("quota_before"),
                "after": tenant.get("quota_after"), "consequence": sentences.join(" "),
            }));
        }
    }
    for setting in items(diff, "settings") {
        let waits = setting.get("needs_restart") == Some(&Value::Bool(true));
        rows.push(json!({
            "change": "setting", "object": setting.get("key"), "before": setting.get("before"),
            "after": setting.get("after"), "consequence": if waits { "waits for a restart" } else { "" },
        }));
    }
    rows
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
        let answer = json!({"diff": {
            "added": [{"tenant": "new", "quota_after": 5, "what": [], "consequences": []}],
            "removed": [],
            "changed": [{"tenant": "acme", "quota_before": 20, "quota_after": 14, "held": 17, "what": ["seats"],
                "consequences": ["3 users stay above the quota until they end their calls"]}],
            "settings": [{"key": "server.workers", "before": "0", "after": "4", "needs_restart": true}],
        }});
        assert_eq!(
            told(&answer),
            "+ tenant new: 5 seats\n~ tenant acme: 20 -> 14 seats, 17 held\n    seats\n    3 users stay above the quota \
             until they end their calls\n~ server.workers: 0 -> 4  (waits for a restart)\n"
        );
        assert_eq!(told(&json!({"diff": {"added": []}})), "no changes\n");
        assert_eq!(csv_rows(&diff_of(&answer)).len(), 3);
    }
}
