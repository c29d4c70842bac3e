//! A candidate: a configuration as the files give it, beside what is in force, and past the guards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use usherd_engine::session::Name;

use super::accounts::Accounts;
use super::before::Before;
use super::carry::carry;
use super::diff::{Diff, diff};
use super::guards::{in_use, openings, shrink_beside};
use super::load::{Config, load_after};
use super::problem::Problem;
use super::reload::{Attempt, Rejection, Removals};
use super::source::{Files, Overlay};
use super::tenant::Tenant;
use super::words::ProblemCode;

/// A configuration that may be put in force.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The configuration as the files give it.
    pub config: Arc<Config>,
    /// The differences to the configuration in force.
    pub diff: Diff,
    /// True if nothing that is in force would be another.
    pub unchanged: bool,
    /// True if other tenant files are bad or away than before, or otherwise.
    pub is_news: bool,
}

/// The state that a candidate is read beside.
#[derive(Clone, Copy)]
pub(super) struct InForce<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// The path of `usherd.toml`.
    pub main: &'a Path,
    /// The accounts that were ever on trial or paid.
    pub accounts: &'a Accounts,
    /// The files that are away, and since when, uptime milliseconds.
    pub away_since: &'a BTreeMap<PathBuf, u64>,
}

impl InForce<'_> {
    /// Reads and compares. `occupancy` as in [`diff`].
    ///
    /// # Errors
    /// Why it would be rejected.
    pub(super) fn candidate(
        &self,
        files: &dyn Files,
        attempt: &Attempt,
        occupancy: impl Fn(&str) -> Option<u32>,
    ) -> Result<Candidate, Rejection> {
        let old = self.config;
        let found = self.read(files, attempt, &occupancy)?;
        let unchanged = found.new.hash == old.hash;
        let diff = if unchanged { Diff::default() } else { diff(old, &found.new, attempt.now, occupancy) };
        if !attempt.force {
            guard(old, &found, &diff, attempt)?;
        }
        let new = found.new;
        let is_news = new.rejected != old.rejected || new.away != old.away;
        Ok(Candidate { config: Arc::new(new), diff, unchanged, is_news })
    }

    /// Reads the files, with the records of those that are bad or away for a moment as they are in force.
    fn read(
        &self,
        files: &dyn Files,
        attempt: &Attempt,
        occupancy: &impl Fn(&str) -> Option<u32>,
    ) -> Result<Found, Rejection> {
        let InForce { config: old, main, accounts, away_since } = *self;
        let stays = |path: &Path, id: &str| {
            let since = away_since.get(path).copied().unwrap_or(attempt.uptime_ms);
            let is_young = attempt.uptime_ms.saturating_sub(since) < old.settings.removal_delay.ms();
            match attempt.removals {
                Removals::AtOnce => false,
                Removals::DelayedInUse => is_young && occupancy(id).is_some_and(|held| held > 0),
                Removals::Delayed => is_young,
            }
        };
        let is_inline = |tenant: &Tenant| Path::new(&tenant.source) == main;
        let synced = || old.tenants.values().filter(|tenant| tenant.is_synced());
        let before = Before {
            contents: &old.contents,
            elsewhere: &|id| old.tenants.get(id).is_some_and(|tenant| tenant.is_synced() || is_inline(tenant)),
            stays: &stays,
            pulled_at: synced().filter_map(|tenant| tenant.record.synced_at).max(),
            objection: &|tenant| if attempt.force { None } else { accounts.second_trial(tenant) },
        };
        let invalid = |problems| Rejection::Invalid { problems };
        let new = load_after(files, main, attempt.now, &before).map_err(invalid)?;
        // By the file itself: what is carried over would hide what it opens.
        let opened = openings(old, &new);
        // A file that is cut is good and says less: the tenants that stand in it go as those of files that are away.
        let is_gone = |id: &str| !new.tenants.contains_key(id) && stays(main, id);
        let gone = old.tenants.iter().filter(|(id, tenant)| (tenant.is_synced() || is_inline(tenant)) && is_gone(id));
        let gone: BTreeSet<Name> = gone.map(|(id, _)| id.clone()).collect();
        let texts = [old, &new].map(|config| config.contents.files.get(main).cloned().unwrap_or_default());
        if gone.is_empty() || texts[0] == texts[1] {
            return Ok(Found { leaving: leaving(&new), new, opened });
        }
        let with_sync = synced().any(|tenant| gone.contains(&tenant.id));
        let load = |text: &[u8]| {
            let files = Overlay { files, path: main, text };
            load_after(&files, main, attempt.now, &before)
        };
        let carried = carry(&texts[0], &texts[1], |id| gone.contains(id), with_sync);
        // Where they do not fit into the new text, nothing of it is taken while they stay.
        let carried = carried.and_then(|text| load(&text).ok()).map_or_else(|| load(&texts[0]), Ok);
        let mut new = carried.map_err(invalid)?;
        new.away.push(main.to_owned());
        let leaving = leaving(&new).into_iter().chain(gone).collect();
        Ok(Found { new, opened, leaving })
    }
}

/// The files as they were read.
struct Found {
    new: Config,
    /// Openings in the text of `usherd.toml`, which need force.
    opened: Vec<Problem>,
    /// Tenants that stay for a while only: what they stood in is away.
    leaving: BTreeSet<Name>,
}

/// The tenants whose files are away.
fn leaving(new: &Config) -> BTreeSet<Name> {
    new.away.iter().filter_map(|path| Some(path.file_stem()?.to_str()?.into())).collect()
}

/// Refuses changes that need force.
fn guard(old: &Config, found: &Found, diff: &Diff, attempt: &Attempt) -> Result<(), Rejection> {
    let mut problems = found.opened.clone();
    if attempt.removals == Removals::AtOnce {
        problems.extend(in_use(old, diff));
    }
    // A folder that empties slowly falls due file by file: with the first of them all that wait count as lost.
    let nobody = BTreeSet::new();
    let leaving = if diff.removed.is_empty() { &nobody } else { &found.leaving };
    let shrink = shrink_beside(old, &found.new, leaving, attempt.now);
    if let Some(shrink) = &shrink {
        let problem = Problem::of_file(old.main().display().to_string(), shrink.message.clone());
        problems.insert(0, problem.code(ProblemCode::Shrinks).help("`usherd plan --force` shows what would go"));
    }
    match shrink {
        Some(shrink) => Err(Rejection::Shrinks { shrink, problems }),
        None if problems.is_empty() => Ok(()),
        None => Err(Rejection::NeedsForce { problems }),
    }
}
