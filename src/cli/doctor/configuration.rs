//! The files: valid or not, and the ones that the daemon runs with or not.

use std::path::Path;

use super::finding::Finding;
use crate::answers::config::Config as InForce;
use crate::cli::screen::counted;
use crate::daemon::config::{Config, Problem, problems_of};

const CHECK: &str = "configuration";
const REJECTED: &str = "the daemon keeps what it had, and a start without a last good configuration serves nothing";

/// The files, as `usherd config check` judges them.
pub(super) fn files(main: &Path, loaded: &Result<Config, Vec<Problem>>) -> Finding {
    let main = main.display();
    match loaded {
        Err(problems) => {
            let first = problems.first().map(place).unwrap_or_default();
            let what = format!("{main} is rejected with {}; the first: {first}", counted(problems.len(), "error"));
            let help = problems.first().and_then(|problem| problem.help.clone()).map(|help| format!("{help}; "));
            let all = format!("{}`usherd config check` shows every error with its line", help.unwrap_or_default());
            Finding::fail(CHECK, what, REJECTED, all)
        }
        Ok(config) if !config.rejected.is_empty() => {
            let problems = problems_of(&config.rejected);
            let first = problems.first().map(place).unwrap_or_default();
            let bad = config.rejected.len();
            Finding::fail(
                CHECK,
                format!("{main} is valid, but {bad} of its tenant files are not; the first error: {first}"),
                "their tenants keep their last good records; those that never had one do not exist",
                "`usherd config check` shows every error with its line; all other tenants are loaded as usual",
            )
        }
        Ok(config) if config.tenants.is_empty() && !config.settings.sync.is_on() => {
            let folder = config.tenants_dir().map_or("[[tenant]]".to_owned(), |dir| dir.display().to_string());
            Finding::warn(
                CHECK,
                format!("{main} is valid and has no tenants"),
                "every tenant is unknown: nobody may dial out, except for emergency calls",
                format!(
                    "add a file to {folder}, like the samples in config/tenants.d/ (in the package /usr/share/usherd/)"
                ),
            )
        }
        Ok(config) => match config.warnings.first() {
            None => Finding::ok(CHECK, format!("{main} is valid, with {}", counted(config.tenants.len(), "tenant"))),
            Some(first) => Finding::warn(
                CHECK,
                format!(
                    "{main} is valid, with {}; the first: {}",
                    counted(config.warnings.len(), "warning"),
                    place(first)
                ),
                "each is taken as written, which may not be what was meant",
                first.help.clone().unwrap_or_else(|| "`usherd config check` shows them all".to_owned()),
            ),
        },
    }
}

fn place(problem: &Problem) -> String {
    format!("{}:{}:{}: {}", problem.file, problem.line, problem.column, problem.message)
}

/// Checks that the daemon runs with these files; `running` is the configuration in force, `hash` that of the files.
pub(super) fn in_force(running: &InForce, hash: Option<&str>) -> Finding {
    let (check, state, main) = ("in force", &running.state, &running.main);
    let loaded_at = &state.loaded_at;
    if state.from_last_good {
        return Finding::fail(
            check,
            "the daemon runs with the last good configuration, because the files were not valid when it started",
            "changes to the files have no effect",
            "fix what `usherd config check` shows, then `usherd reload`",
        );
    }
    if !state.outcome.last_reload_successful {
        let why = format!("the configuration of {loaded_at} stays in force");
        let error = state.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        return Finding::fail(
            check,
            format!("the last reload was rejected{error}"),
            why,
            "fix what `usherd config check` shows, then `usherd reload`",
        );
    }
    if let Some(finding) = units(running) {
        return finding;
    }
    let waiting = state.waits_for_restart.join(", ");
    match hash {
        Some(hash) if hash == state.hash && !waiting.is_empty() => Finding::warn(
            check,
            format!("the daemon has read these files, but runs with other values of {waiting}"),
            "these settings take effect only at a start",
            "`systemctl restart usherd`; its sockets stay open and no session is lost",
        ),
        Some(hash) if hash == state.hash => {
            Finding::ok(check, format!("the daemon has run with these files since {loaded_at}"))
        }
        Some(_) => Finding::warn(
            check,
            format!("the daemon runs with something other than these files; it reads {main}"),
            "an edit is not in force yet, or these are not the files that it reads",
            "`usherd plan` shows the difference, `usherd reload` takes it up; --config names other files",
        ),
        None => Finding::note(check, format!("the daemon has read {main} since {loaded_at}"), ""),
    }
}

/// Tenant files and certificates that the daemon does not take while all else is in force.
fn units(running: &InForce) -> Option<Finding> {
    let (what, why) = match (running.rejected.first(), running.certificates.first()) {
        (Some(first), _) => {
            let count = running.state.tenants_rejected.max(running.rejected.len());
            let what = format!("the daemon rejects {count} tenant files; the first is that of {}", first.tenant);
            (
                what,
                "these tenants keep their last good records, if they have any; changes to their files have no effect",
            )
        }
        (None, Some(problem)) => {
            let what = format!("the daemon cannot use a certificate: {}", problem.message);
            (what, "it shows the previous one until that expires")
        }
        (None, None) => return None,
    };
    Some(Finding::fail("in force", what, why, "fix what `usherd config check` shows, then `usherd reload`"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::finding::Verdict::{self, *};
    use super::*;

    #[test]
    fn what_runs_is_compared_with_the_files() {
        let running = json!({"hash": "abc", "main": "/etc/u.toml", "loaded_at": "T", "last_reload_successful": true});
        let failed = json!({"hash": "abc", "last_reload_successful": false, "last_error": "seats = -1"});
        let waiting =
            json!({"hash": "abc", "loaded_at": "T", "waits_for_restart": ["server.workers", "listener[0].listen"]});
        let rejected = json!({"hash": "abc", "tenants_rejected": 3, "rejected": [{"tenant": "acme"}]});
        let certificate = json!({"hash": "abc", "rejected": [], "certificates": [{"message": "does not fit"}]});
        let table: [(&Value, Option<&str>, Verdict, &str); 8] = [
            (&rejected, Some("abd"), Fail, "3 tenant files; the first is that of acme"),
            (&certificate, Some("abc"), Fail, "does not fit"),
            (&waiting, Some("abc"), Warn, "server.workers, listener[0].listen"),
            (&running, Some("abc"), Ok, "since T"),
            (&running, Some("abd"), Warn, "/etc/u.toml"),
            (&running, None, Note, "/etc/u.toml"),
            (&failed, Some("abc"), Fail, "seats = -1"),
            (&json!({"from_last_good": true}), None, Fail, "last good"),
        ];
        for (answer, hash, verdict, word) in table {
            let finding = in_force(&serde_json::from_value(answer.clone()).unwrap(), hash);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.what.contains(word), "{finding:?}");
        }
    }
}
