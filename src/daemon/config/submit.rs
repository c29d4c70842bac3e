//! Takes a request to a subscription: the record is changed in the file that it came from, or nothing is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use usherd_subscription::refusal::Refusal;
use usherd_subscription::request::{Accepted, Request, request};

use super::before::Before;
use super::load::{Config, load_after};
use super::problem::Problem;
use super::rejected::problems_of;
use super::replace::replace_like;
use super::rewrite::rewrite;
use super::source::{Contents, Disk, Files, Overlay};
use super::tenant::Tenant;

/// The result of a request that could be decided with these files.
#[derive(Debug)]
pub struct Submission {
    /// The tenant as it was.
    pub before: Arc<Tenant>,
    /// The record from now on, or why it stays as it is.
    pub answer: Result<Accepted, Refusal>,
}

/// Why a request could not even be decided, or not be written down; nothing was changed.
#[derive(Debug)]
pub enum Unwritten {
    /// There is no such tenant in the files.
    UnknownTenant,
    /// The files are bad, or would be with the new record.
    Invalid(Vec<Problem>),
    /// The file cannot be changed: a sentence that says which and why.
    File(String),
}

/// Decides a request by the files as they are now and, unless `dry_run`, writes an accepted one into its file.
/// `in_force` is what other tenants keep whose files are bad; the file of this one must be good.
///
/// The file is replaced as a whole or not at all, and only where the configuration takes it and says exactly what was
/// accepted. Requests wait for each other. Takes as long as reading all files twice.
///
/// # Errors
/// [`Unwritten`].
pub fn submit(
    main: &Path,
    tenant: &str,
    ask: &Request,
    now: DateTime<Utc>,
    dry_run: bool,
    in_force: &Contents,
) -> Result<Submission, Unwritten> {
    let _turn = lock(main)?;
    let config = taken(&Disk, main, tenant, now, in_force)?;
    let before = config.tenants.get(tenant).cloned().ok_or(Unwritten::UnknownTenant)?;
    let answer = request(&before.record, &before.terms, ask, now);
    if let Ok(accepted) = &answer {
        let (path, text) = rewritten(&config, &before, accepted)?;
        let overlay = Overlay { files: &Disk, path: &path, text: text.as_bytes() };
        // Of two that together ask a pool for too much, this one came second.
        let after = taken(&overlay, main, tenant, now, &config.contents)?;
        if after.tenants.get(tenant).is_none_or(|after| after.record != accepted.record) {
            let message = format!("{} cannot be rewritten so that it says what was accepted", path.display());
            return Err(Unwritten::File(message));
        }
        if !dry_run {
            replace_like(&path, text.as_bytes())
                .map_err(|error| Unwritten::File(format!("{} cannot be written: {error}", path.display())))?;
        }
    }
    Ok(Submission { before, answer })
}

/// The configuration, where the file of a tenant is taken: other bad files are no matter of it.
fn taken(
    files: &dyn Files,
    main: &Path,
    tenant: &str,
    now: DateTime<Utc>,
    in_force: &Contents,
) -> Result<Config, Unwritten> {
    let config = load_after(files, main, now, &Before::texts(in_force)).map_err(Unwritten::Invalid)?;
    let of_tenant: Vec<_> = config.rejected.iter().filter(|file| file.tenant == tenant).cloned().collect();
    if of_tenant.is_empty() { Ok(config) } else { Err(Unwritten::Invalid(problems_of(&of_tenant))) }
}

/// The file of a tenant, and its text with the new record.
fn rewritten(config: &Config, tenant: &Tenant, accepted: &Accepted) -> Result<(PathBuf, String), Unwritten> {
    let wrong = |why: String| Unwritten::File(format!("{}: {why}", tenant.source));
    let mut files = config.contents.files.iter();
    let Some((path, bytes)) = files.find(|(path, _)| path.display().to_string() == tenant.source) else {
        return Err(wrong("the record is pulled from a portal; ask there".to_owned()));
    };
    let text = std::str::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    let inline = (path == config.main()).then(|| {
        let inline = config.tenants.values().filter(|other| other.source == tenant.source);
        inline.filter(|other| other.line < tenant.line).count()
    });
    let new = rewrite(text, inline, &tenant.record, &accepted.record).map_err(wrong)?;
    Ok((path.clone(), new))
}

/// Holds a lock on the configuration's folder until it is dropped: requests of other processes wait.
fn lock(main: &Path) -> Result<File, Unwritten> {
    let folder = main.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let wrong =
        |error: &dyn std::fmt::Display| Unwritten::File(format!("{} cannot be locked: {error}", folder.display()));
    let folder_file = File::open(folder).map_err(|error| wrong(&error))?;
    rustix::fs::flock(&folder_file, rustix::fs::FlockOperation::LockExclusive).map_err(|error| wrong(&error))?;
    Ok(folder_file)
}
