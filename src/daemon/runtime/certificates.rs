//! The certificates of the listeners: whether a start would take them and clients would trust them, and new ones.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use usherd_contract::file::{DOES_NOT_EXIST, MAY_NOT_BE_READ};
use usherd_engine::Now;

use crate::daemon::app::ListenerInfo;
use crate::daemon::config::{Config, Disk, Files as _, Problem, ProblemCode, Settings, Tls};
use crate::daemon::edge::Protocol;
use crate::daemon::edge::tls::{TlsFiles, acceptor};
use crate::daemon::edge::validity::validity;
use crate::daemon::metrics::Metrics;
use crate::daemon::text::utc;

/// Largest file of certificates or of a key, bytes.
const PEM_BYTES_MAX: usize = 4 << 20;
const HELP: &str = "put certificate and key that belong together into these files, then `usherd reload`; until then the \
                    certificate shown before stays, and a start would fail";

/// The fault of a listener's certificate or key, and the pair of files.
#[derive(Debug)]
pub struct Fault {
    cert_file: PathBuf,
    key_file: PathBuf,
    problem: Problem,
}

impl Fault {
    /// True if a listener must not be given the contents of these files: of listeners that share one file, the other
    /// may be as wrong as it likes.
    pub fn is_of(&self, cert_file: &Path, key_file: &Path) -> bool {
        let own = [cert_file, key_file].iter().any(|own| own.display().to_string() == self.problem.file);
        own && self.cert_file == cert_file && self.key_file == key_file
    }
}

/// The faults of the TLS files of all listeners, each reported once; `folder` is that of `usherd.toml`.
pub fn look(settings: &Settings, folder: &Path, now: DateTime<Utc>) -> Vec<Problem> {
    told(&faults(settings, folder, now))
}

/// The same listener by listener.
pub fn faults(settings: &Settings, folder: &Path, now: DateTime<Utc>) -> Vec<Fault> {
    let all = settings.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let faults = all.filter_map(|tls| {
        let (path, why) = check(tls, folder, now).err()?;
        let (cert_file, key_file) = (folder.join(&tls.cert_file), folder.join(&tls.key_file));
        Some(Fault { cert_file, key_file, problem: problem(&path, why) })
    });
    faults.collect()
}

/// Every problem once, however many listeners have it.
pub fn told(faults: &[Fault]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for Fault { problem, .. } in faults {
        if !problems.contains(problem) {
            problems.push(problem.clone());
        }
    }
    problems
}

/// As [`look`] for somebody who is not the daemon: what this user may not read, the daemon may, and what is not here is
/// perhaps where the daemon runs. Both are told as warnings, second.
pub fn look_as_guest(settings: &Settings, folder: &Path, now: DateTime<Utc>) -> (Vec<Problem>, Vec<Problem>) {
    let (hidden, problems): (Vec<_>, Vec<_>) = look(settings, folder, now)
        .into_iter()
        .partition(|problem| [MAY_NOT_BE_READ, DOES_NOT_EXIST].iter().any(|why| problem.message.ends_with(why)));
    (problems, hidden.into_iter().map(Problem::warning).collect())
}

/// A fault of a certificate file.
pub fn problem(path: &Path, why: impl Into<String>) -> Problem {
    Problem::of_file(path.display().to_string(), why).code(ProblemCode::Certificate).help(HELP)
}

/// As a start reads them, and further: a certificate whose time is over is read, but no client takes it.
fn check(tls: &Tls, folder: &Path, now: DateTime<Utc>) -> Result<(), (PathBuf, String)> {
    let read = |file: &str| {
        let path = folder.join(file);
        Disk.read(&path, PEM_BYTES_MAX).map_err(|why| (path, format!("the TLS file {why}")))
    };
    let (certificates, key) = (read(&tls.cert_file)?, read(&tls.key_file)?);
    let authorities = (!tls.client_ca_file.is_empty()).then(|| read(&tls.client_ca_file)).transpose()?;
    let pem = TlsFiles {
        certificates: &certificates,
        key: &key,
        client_authorities: authorities.as_deref(),
        client_certificate_required: authorities.is_some(),
    };
    let cert_file = folder.join(&tls.cert_file);
    if let Err(why) = acceptor(&pem, Protocol::Http1) {
        return Err((cert_file, format!("{why}; the key file is {}", folder.join(&tls.key_file).display())));
    }
    match validity(&certificates) {
        Ok(valid) if valid.until < now => Err((cert_file, format!("the certificate expired on {}", valid.until))),
        Ok(valid) if now < valid.from => {
            Err((cert_file, format!("the certificate is valid from {} on only", valid.from)))
        }
        Ok(_) => Ok(()),
        Err(why) => Err((cert_file, why)),
    }
}

/// Takes up the certificates that stand in the files of the listeners by now, which are no part of the configuration;
/// answers those that cannot be used, in whose place the ones before stay.
pub(super) fn renew(config: &Config, listeners: &[ListenerInfo], metrics: &Metrics, now: Now) -> Vec<Problem> {
    let faults = faults(&config.settings, folder(config), utc(now));
    let mut problems = told(&faults);
    for listener in listeners {
        let Some(served) = &listener.tls else { continue };
        if faults.iter().any(|fault| fault.is_of(&served.cert_file, &served.key_file)) {
            continue;
        }
        match served.renew() {
            Ok(true) => tracing::info!(listener = listener.name, "a new certificate is in use"),
            Ok(false) => {}
            Err(why) => problems.push(problem(&served.cert_file, why)),
        }
    }
    show(listeners, metrics);
    problems
}

/// Tells the metrics when the certificates that are shown expire.
pub(super) fn show(listeners: &[ListenerInfo], metrics: &Metrics) {
    let expiry = |listener: &'_ ListenerInfo| listener.tls.as_ref()?.certificate.expires_s();
    let expiries: Vec<_> =
        listeners.iter().filter_map(|listener| Some((listener.name.as_str(), expiry(listener)?))).collect();
    metrics.set_tls_expiries(&expiries);
}

/// The folder of `usherd.toml`, which the files of listeners are named from.
pub(super) fn folder(config: &Config) -> &Path {
    config.main().parent().unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::{self, Address, Listener};

    #[test]
    fn a_key_that_does_not_fit_concerns_its_listener_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let certificate =
            rcgen::CertificateParams::new(vec!["pbx.example".to_owned()]).unwrap().self_signed(&own).unwrap();
        let files =
            [("cert.pem", certificate.pem()), ("own.pem", own.serialize_pem()), ("other.pem", other.serialize_pem())];
        files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).unwrap());
        let with = |key: &str| Listener {
            address: Address::Unix(String::new()),
            protocol: config::Protocol::Http1,
            roles: Vec::new(),
            tls: Some(Tls { cert_file: "cert.pem".to_owned(), key_file: key.to_owned(), ..Tls::default() }),
        };
        let listeners = vec![with("own.pem"), with("other.pem"), with("other.pem")];
        let settings = Settings { listeners, ..Settings::default() };
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let faults = faults(&settings, dir.path(), now);
        let path = |name: &str| dir.path().join(name);
        let is_kept = |key: &str| faults.iter().any(|fault| fault.is_of(&path("cert.pem"), &path(key)));
        assert_eq!((is_kept("own.pem"), is_kept("other.pem")), (false, true));
        assert_eq!((faults.len(), told(&faults).len()), (2, 1));
    }
}
