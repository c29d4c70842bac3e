//! The check of access: who can reach the daemon and as whom, by open listeners, tokens, certificates.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::finding::{Finding, Verdict};
use crate::daemon::config::{Address, Config, Settings};
use crate::daemon::edge::validity::{Validity, validity};
use crate::daemon::runtime::certificates;

const CHECK: &str = "access";
const TLS: &str = "certificate";
/// From here on a certificate should be renewed, days: as in the alert.
const DAYS_LEFT_MIN: i64 = 14;

/// Everything about access that the files say; `now` decides what has expired.
pub(super) fn look(config: &Config, now: DateTime<Utc>) -> Vec<Finding> {
    let mut findings = vec![openness(&config.settings)];
    let folder = config.main().parent().unwrap_or(Path::new(""));
    let (unusable, _) = certificates::look_as_guest(&config.settings, folder, now);
    for listener in &config.settings.listeners {
        let (Some(tls), address) = (&listener.tls, shown(&listener.address)) else { continue };
        let (cert_file, key_file) = (folder.join(&tls.cert_file), folder.join(&tls.key_file));
        let mut found = vec![certificate(&address, &cert_file, now)];
        found.extend(key(&address, &key_file));
        // What a start would stumble over, where neither file alone tells it.
        if found.iter().all(|finding| finding.verdict != Verdict::Fail) {
            let unusable = unusable.iter().filter(|problem| {
                [&cert_file, &key_file].iter().any(|path| path.display().to_string() == problem.file)
            });
            found.extend(unusable.map(|problem| {
                let what = format!("{address}: {}: {}", problem.file, problem.message);
                Finding::fail(
                    TLS,
                    what,
                    "the daemon still shows the previous one, but would not start again",
                    problem.help.clone().unwrap_or_default(),
                )
            }));
        }
        findings.extend(found);
    }
    findings
}

fn shown(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => path.clone(),
    }
}

/// Listeners that take everybody's word from the network.
fn openness(settings: &Settings) -> Finding {
    let main = settings.server.listen.into_iter().chain(settings.agi.listen);
    let plain = settings.listeners.iter().filter(|listener| listener.tls.is_none());
    let further = plain.filter_map(|listener| match &listener.address {
        Address::Tcp(address) => Some(*address),
        Address::Unix(_) => None,
    });
    let open: Vec<String> =
        main.chain(further).filter(|address| !address.ip().is_loopback()).map(|address| address.to_string()).collect();
    let tokens = settings.auth.tokens.len() + settings.auth.certificates.len();
    match (open.is_empty(), tokens) {
        (true, 0) => Finding::ok(CHECK, "loopback and Unix sockets only, without tokens"),
        (true, tokens) => Finding::ok(CHECK, format!("{tokens} tokens and certificates, nothing in the clear")),
        (false, 0) => Finding::warn(
            CHECK,
            format!(
                "{} can be reached over the network by everybody, without TLS and without a token",
                open.join(", ")
            ),
            "whoever reaches it may take seats, change quotas and read who calls whom",
            "add [auth] tokens and a [[listener]] with tls, or listen on loopback only",
        ),
        (false, _) => Finding::warn(
            CHECK,
            format!("{} is reached over the network without TLS", open.join(", ")),
            "tokens travel in clear text: anyone on the path can read them",
            "give it a [[listener]] with tls; only a network of your own may do without",
        ),
    }
}

fn certificate(address: &str, path: &Path, now: DateTime<Utc>) -> Finding {
    match std::fs::read(path) {
        Err(error) => unreadable(address, path, &error),
        Ok(pem) => judge_certificate(address, path, validity(&pem), now),
    }
}

fn judge_certificate(address: &str, path: &Path, read: Result<Validity, String>, now: DateTime<Utc>) -> Finding {
    let shown = path.display();
    let why = "clients that check certificates do not connect";
    let fix = "put a new one there, then `usherd reload`, and restart the daemon if it still shows the old one";
    match read {
        Err(error) => Finding::fail(TLS, format!("{address}: {shown}: {error}"), "the daemon does not start", fix),
        Ok(Validity { from, .. }) if now < from => {
            Finding::fail(TLS, format!("{address}: {shown} is not valid before {from}"), why, "is the clock right?")
        }
        Ok(Validity { until, .. }) if until < now => {
            Finding::fail(TLS, format!("{address}: {shown} expired on {until}"), why, fix)
        }
        Ok(Validity { until, .. }) if (until - now).num_days() < DAYS_LEFT_MIN => {
            let what = format!("{address}: {shown} expires in {} days, on {until}", (until - now).num_days());
            Finding::warn(TLS, what, format!("from then on {why}"), fix)
        }
        Ok(Validity { until, .. }) => {
            Finding::ok(TLS, format!("{address}: {shown} is valid for {} more days", (until - now).num_days()))
        }
    }
}

fn unreadable(address: &str, path: &Path, error: &io::Error) -> Finding {
    let what = format!("{address}: {}: {error}", path.display());
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Finding::note(TLS, what, "run `sudo usherd doctor` to look there too");
    }
    let fix = "put it there, or correct tls of the [[listener]]";
    Finding::fail(TLS, what, "the daemon does not start with this listener", fix)
}

/// Nothing where the key is as it should be.
fn key(address: &str, path: &PathBuf) -> Option<Finding> {
    match std::fs::metadata(path) {
        Err(error) => Some(unreadable(address, path, &error)),
        Ok(metadata) if metadata.permissions().mode() & 0o004 != 0 => Some(Finding::warn(
            TLS,
            format!("{address}: every user of the machine may read the key {}", path.display()),
            "whoever has the key can pretend to be this daemon",
            format!("chmod o-rwx {}; or LoadCredential= in the unit", path.display()),
        )),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{self, *};
    use super::*;
    use crate::daemon::config::{Role, Token};

    #[test]
    fn what_is_open_to_the_network_is_told() {
        let token =
            Token { id: "t".into(), role: Role::Node, sha256: [0; 32], tenants: vec![], nodes: vec![], names: false };
        let table: [(&str, bool, Verdict, &str); 4] = [
            ("127.0.0.1:7788", false, Ok, "loopback"),
            ("127.0.0.1:7788", true, Ok, "1 tokens"),
            ("0.0.0.0:7788", false, Warn, "by everybody"),
            ("0.0.0.0:7788", true, Warn, "without TLS"),
        ];
        for (listen, has_token, verdict, word) in table {
            let mut settings = Settings::default();
            settings.server.listen = Some(listen.parse().unwrap());
            settings.auth.tokens = if has_token { vec![token.clone()] } else { vec![] };
            let finding = openness(&settings);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.what.contains(word), "{finding:?}");
        }
    }

    #[test]
    fn certificates_by_the_days_that_are_left() {
        let now = DateTime::from_timestamp(1_795_352_060, 0).unwrap();
        let day = chrono::TimeDelta::days(1);
        let read = |from: i32, until: i32| {
            std::result::Result::Ok(Validity { from: now + day * from, until: now + day * until })
        };
        let table: [(Result<Validity, String>, Verdict, &str); 5] = [
            (read(-1, 90), Ok, "90 more days"),
            (read(-1, 13), Warn, "13 days"),
            (read(-9, -1), Fail, "expired"),
            (read(1, 9), Fail, "not valid before"),
            (Err("no certificate".to_owned()), Fail, "no certificate"),
        ];
        for (read, verdict, word) in table {
            let finding = judge_certificate("a:1", Path::new("cert.pem"), read, now);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.what.contains(word), "{finding:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none.pem");
        assert_eq!(certificate("a:1", &missing, now).verdict, Fail);
        assert_eq!(key("a:1", &missing).unwrap().verdict, Fail);
        std::fs::write(&missing, "").unwrap();
        std::fs::set_permissions(&missing, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(key("a:1", &missing).unwrap().verdict, Warn);
        std::fs::set_permissions(&missing, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(key("a:1", &missing), None);
    }
}
