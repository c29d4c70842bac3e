//! Whether the certificates of the listeners are such that a start would take them and clients would trust them.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::daemon::config::{DOES_NOT_EXIST, Disk, Files as _, MAY_NOT_BE_READ, Problem, ProblemCode, Settings, Tls};
use crate::daemon::http::Protocol;
use crate::daemon::http::tls::{TlsFiles, acceptor};
use crate::daemon::http::validity::validity;

/// Largest file of certificates or of a key, bytes.
const PEM_BYTES_MAX: usize = 4 << 20;
const HELP: &str = "put certificate and key that belong together into these files, then `usherd reload`; until then the \
                    certificate shown before stays, and a start would fail";

/// What is wrong with the TLS files of all listeners, each by its file; `folder` is that of `usherd.toml`.
pub fn look(settings: &Settings, folder: &Path, now: DateTime<Utc>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for tls in settings.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        if let Err((path, why)) = check(tls, folder, now)
            && !problems.iter().any(|problem| problem.file == path.display().to_string())
        {
            problems.push(problem(&path, why));
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
