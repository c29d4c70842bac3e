//! Reads the tenants: those that stand in `usherd.toml`, each file of the folder as a unit of its own, and those pulled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use usherd_contract::file::Source;
use usherd_engine::session::Name;

use super::before::Before;
use super::document::{parse, read_file};
use super::pools::{Excess, Moved, beyond};
use super::problem::{Problem, Problems};
use super::reader::Table;
use super::rejected::RejectedFile;
use super::settings::{Pool, Settings};
use super::source::{
    CONTENTS_BYTES_MAX, Contents, Files, STORED_BUNDLE, Synced, TENANT_FILE_BYTES_MAX, is_synced, pulled_of, shown,
    synced_path,
};
use super::tenant::{self, Base, Tenant};
use super::value::{Cx, rfc3339};
use super::words::ProblemCode;

/// Tenants as they are found.
pub(super) struct TenantSet<'a> {
    pub(super) base: Base<'a>,
    pub(super) tenants: BTreeMap<Name, Arc<Tenant>>,
    /// Files that are not taken.
    pub(super) rejected: Vec<RejectedFile>,
    /// Files that are away and whose tenants stay for now.
    pub(super) away: Vec<PathBuf>,
    /// Every text that is in force.
    pub(super) contents: Contents,
    before: &'a Before<'a>,
    /// Texts of tenant files that were in force, by tenant.
    known: BTreeMap<&'a str, (&'a Path, &'a Arc<[u8]>)>,
    /// Files whose text is another than the one in force, by tenant.
    moved: BTreeMap<Name, PathBuf>,
    bytes: usize,
}

/// A fault that concerns more than one tenant file: where it goes.
type Common = Problems;

impl<'a> TenantSet<'a> {
    pub(super) fn new(settings: &'a Settings, now: DateTime<Utc>, contents: Contents, before: &'a Before<'a>) -> Self {
        let files = before.contents.files.iter();
        let of_tenants =
            files.filter(|(path, _)| **path != before.contents.main && !is_synced(&before.contents.main, path));
        let known = of_tenants.filter_map(|(path, bytes)| Some((path.file_stem()?.to_str()?, (path.as_path(), bytes))));
        TenantSet {
            base: Base::new(settings, now),
            tenants: BTreeMap::new(),
            rejected: Vec::new(),
            away: Vec::new(),
            contents,
            before,
            known: known.collect(),
            moved: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// A tenant that stands in `usherd.toml`: a fault of it is one of that file.
    pub(super) fn inline(&mut self, cx: &mut Cx<'_>, table: Table<'_, '_>) {
        let span = table.span.clone();
        let path = format!("{}.id", table.path);
        if let Some(tenant) = tenant::read(cx, table, &mut self.base, None)
            && self.is_new(cx, &tenant, &span, &path)
        {
            (self.before.objection)(&tenant).into_iter().for_each(|problem| cx.problems.push(problem));
            self.tenants.insert(tenant.id.clone(), Arc::new(tenant));
        }
    }

    fn is_new(&self, cx: &mut Cx<'_>, tenant: &Tenant, span: &std::ops::Range<usize>, path: &str) -> bool {
        let Some(first) = self.tenants.get(&tenant.id) else { return true };
        let problem = cx
            .fault(span, path, format!("there are two tenants `{}`", tenant.id))
            .code(ProblemCode::DuplicateTenant)
            .related(&first.source, first.line, "the other one stands there")
            .help("remove one of the two, or give it another id");
        cx.problems.push(problem);
        false
    }

    /// The files of a folder, then those that are away from it.
    pub(super) fn folder(&mut self, files: &dyn Files, listed: Vec<PathBuf>, common: &mut Common) {
        let main = self.contents.main.clone();
        let mut listed: Vec<PathBuf> = listed.into_iter().filter(|path| *path != main).collect();
        if listed.len() + self.tenants.len() > self.base.settings.server.tenants_max as usize {
            // Where there are too many, those that were in force come first.
            listed.sort_by_key(|path| !self.known.contains_key(stem(path).as_str()));
        }
        let mut present = BTreeSet::new();
        for path in listed {
            let stem = stem(&path);
            self.file(files, &path, &stem, common);
            present.insert(stem);
        }
        self.those_away(&present, common);
    }

    fn file(&mut self, files: &dyn Files, path: &Path, stem: &str, common: &mut Common) {
        let mut found = Problems::default();
        let source = self.fits(path, &mut found).then(|| read_file(files, path, TENANT_FILE_BYTES_MAX, &mut found));
        let source = source.flatten().filter(|source| self.has_room(source, &mut found));
        let warnings = std::mem::take(&mut self.base.warnings);
        let tenant = source.as_ref().and_then(|source| self.read(source, stem, true, &mut found));
        let mut odd = std::mem::replace(&mut self.base.warnings, warnings);
        match (source, tenant) {
            (Some(source), Some(tenant)) => {
                self.base.warnings.append(std::mem::take(&mut odd));
                let bytes: Arc<[u8]> = Arc::from(source.text().as_bytes());
                if self.known.get(stem).is_none_or(|(_, before)| **before != bytes) {
                    self.moved.insert(tenant.id.clone(), path.to_owned());
                }
                self.put(path, bytes, tenant);
            }
            _ => self.reject(path, stem, found, common),
        }
    }

    fn put(&mut self, path: &Path, bytes: Arc<[u8]>, tenant: Tenant) {
        self.bytes += bytes.len();
        self.contents.files.insert(path.to_owned(), bytes);
        self.tenants.insert(tenant.id.clone(), Arc::new(tenant));
    }

    /// True if one more tenant may be.
    fn fits(&self, path: &Path, found: &mut Problems) -> bool {
        let most = self.base.settings.server.tenants_max as usize;
        let fits = self.tenants.len() < most;
        if !fits {
            let message = format!("there are {most} tenants already");
            let problem = Problem::of_file(path.display().to_string(), message).code(ProblemCode::TooLarge);
            found.push(problem.help("raise server.tenants_max, or take files out of the folder"));
        }
        fits
    }

    fn has_room(&self, source: &Source, found: &mut Problems) -> bool {
        let fits = self.bytes + source.text().len() <= CONTENTS_BYTES_MAX;
        if !fits {
            let message = format!("the tenant files together are larger than {} MiB", CONTENTS_BYTES_MAX >> 20);
            found.push(Problem::of_file(source.name(), message).code(ProblemCode::TooLarge));
        }
        fits
    }

    /// The tenant of a text of its own; `None` where something is wrong with it, which is then among the problems.
    fn read(&mut self, source: &Source, stem: &str, objections: bool, found: &mut Problems) -> Option<Tenant> {
        let before = found.len();
        let document = parse(source, found);
        if found.len() > before {
            return None;
        }
        let mut cx = Cx { source, problems: found, ledger: None, tenant: true };
        let root = Table::new(Some(document.get_ref()), document.span(), String::new());
        let span = root.span.clone();
        let tenant = tenant::read(&mut cx, root, &mut self.base, Some(stem))?;
        self.is_new(&mut cx, &tenant, &span, "id");
        if objections && found.len() == before {
            (self.before.objection)(&tenant).into_iter().for_each(|problem| found.push(problem));
        }
        (found.len() == before).then_some(tenant)
    }

    /// A file is not taken, and its tenant keeps what it had; where even that is not good any more, it is the new
    /// `usherd.toml` that is wrong.
    fn reject(&mut self, path: &Path, stem: &str, found: Problems, common: &mut Common) {
        let before = self.known.get(stem).copied();
        // One of usherd.toml may have the name.
        let mut kept = self.tenants.contains_key(stem);
        if let Some((_, bytes)) = before {
            if let Err(again) = self.restore(path, stem, bytes) {
                if again != found {
                    common.append(again);
                }
                common.append(found);
                return;
            }
            kept = true;
        }
        let file = path.display().to_string();
        self.rejected.push(RejectedFile::new(stem, file, kept, found, self.rejected.len()));
    }

    /// Takes up the text that was in force.
    fn restore(&mut self, path: &Path, stem: &str, bytes: &Arc<[u8]>) -> Result<(), Problems> {
        let source = Source::new(path, String::from_utf8_lossy(bytes).into_owned());
        let mut again = Problems::default();
        match self.read(&source, stem, false, &mut again) {
            Some(tenant) => {
                self.put(path, Arc::clone(bytes), tenant);
                Ok(())
            }
            None => Err(again),
        }
    }

    /// Tenants whose files were in force and are not there any more.
    fn those_away(&mut self, present: &BTreeSet<String>, common: &mut Common) {
        let known = self.known.clone();
        let gone = known.into_iter().filter(|(stem, _)| !present.contains(*stem) && !self.tenants.contains_key(*stem));
        for (stem, (path, bytes)) in gone.collect::<Vec<_>>() {
            let settings = self.base.settings;
            if settings.default_tenant.as_deref() == Some(stem) {
                let mut found = Problems::default();
                let message = format!("the file is missing, and `default_tenant` names its tenant `{stem}`");
                let problem = Problem::of_file(path.display().to_string(), message).code(ProblemCode::Unreadable);
                found.push(problem.help("put it back, or name another default_tenant in usherd.toml"));
                self.reject(path, stem, found, common);
            } else if (self.before.stays)(path, stem) {
                match self.restore(path, stem, bytes) {
                    Ok(()) => self.away.push(path.to_owned()),
                    Err(again) => common.append(again),
                }
            }
        }
    }

    /// The tenants that were pulled, each as a file of its own beside those of the folder; whether the publisher
    /// still stands by them is known by the confirmation, and not by what a record says of itself (J7). A bundle
    /// is signed as a whole and good as a whole. Of two tenants with one id the one in force stays, else this one.
    pub(super) fn pulled(&mut self, files: &dyn Files, common: &mut Common) {
        let synced = match files.synced(self.base.settings, &self.contents.main) {
            Ok(Some(synced)) => synced,
            Ok(None) => self.pulled_before(),
            Err(why) => {
                common.push(Problem::of_file(STORED_BUNDLE, why).help("the next pull fetches it again"));
                return;
            }
        };
        let most = self.base.settings.server.tenants_max as usize;
        if synced.texts.len() + self.tenants.len() > most {
            let message =
                format!("{} tenants were pulled, beside {} of the files", synced.texts.len(), self.tenants.len());
            common.push(Problem::of_file("sync", message).help(format!("server.tenants_max allows {most}")));
            return;
        }
        for (id, text) in &synced.texts {
            self.yield_to_pulled(id);
            let path = synced_path(&self.contents.main, id);
            let source = Source::new(&shown(&self.contents.main, &path), text.to_string());
            if let Some(mut tenant) = self.read(&source, id, true, common) {
                tenant.confirm(synced.confirmed_at);
                self.put(&path, Arc::from(text.as_bytes()), tenant);
            }
        }
    }

    /// The records that were pulled before: they stay where the folder of the sync was lost, until a bundle is taken.
    fn pulled_before(&self) -> Synced {
        let before = self.before;
        let kept = |at| pulled_of(&before.contents.files, &before.contents.main, Some(at));
        before.pulled_at.map(kept).unwrap_or_default()
    }

    /// A tenant file that was not in force gives way to a record that is pulled.
    fn yield_to_pulled(&mut self, id: &str) {
        let Some(path) = self.moved.get(id).filter(|_| !self.known.contains_key(id)).cloned() else { return };
        let mut found = Problems::default();
        let message = format!("there are two tenants `{id}`: one is pulled, as `[sync]` says");
        let problem = Problem::of_file(path.display().to_string(), message).code(ProblemCode::DuplicateTenant);
        found.push(problem.help("remove the file, or have the publisher take the record out"));
        self.take_out(id, &path);
        let file = path.display().to_string();
        self.rejected.push(RejectedFile::new(id, file, true, found, self.rejected.len()));
    }

    fn take_out(&mut self, id: &str, path: &Path) {
        self.tenants.remove(id);
        self.moved.remove(id);
        let bytes = self.contents.files.remove(path);
        self.bytes -= bytes.map_or(0, |bytes| bytes.len());
    }

    /// F7: without `oversubscribe` the quotas of all switched-on tenants fit into the pool, now and at every booked
    /// instant from now on. So a configuration that was good does not turn bad by the passing of time. Files that
    /// ask for more than there is are not taken; the answer is the pools that are too small also without them. What is
    /// in force as it stands is never too much: a clock that went back would refuse what was good.
    pub(super) fn hold_pools(&mut self, now: DateTime<Utc>, common: &mut Common) -> Vec<(usize, Excess)> {
        let pools = &self.base.settings.pools;
        let mut former: Option<BTreeMap<Name, Option<Tenant>>> = None;
        loop {
            let mut too_small = Vec::new();
            let mut refused = None;
            let overfull = self.overfull(now);
            let in_force = !overfull.is_empty() && self.is_in_force();
            for index in overfull {
                let Some(pool) = pools.get(index) else { continue };
                let former = former.get_or_insert_with(|| self.all_former());
                match self.beyond(pool, former, in_force, now) {
                    Err(excess) => too_small.push((index, excess)),
                    Ok(found) => refused = refused.or(Some((pool, found)).filter(|(_, found)| !found.is_empty())),
                }
            }
            // Who falls back may fall back into another pool: all are looked at again.
            let Some((pool, refused)) = refused else { return too_small };
            refused.into_iter().for_each(|(id, excess)| self.refuse(pool, &id, excess, now, common));
        }
    }

    /// The pools that are too small for their tenants, by their places.
    fn overfull(&self, now: DateTime<Utc>) -> Vec<usize> {
        let mut members: BTreeMap<&Name, Vec<&Tenant>> = BTreeMap::new();
        for tenant in self.tenants.values() {
            tenant.pool.iter().for_each(|pool| members.entry(pool).or_default().push(tenant));
        }
        let pools = self.base.settings.pools.iter().enumerate().filter(|(_, pool)| !pool.oversubscribe);
        let is_overfull =
            |pool: &Pool| members.get(&pool.id).is_some_and(|all| beyond(pool, all, &[], false, now).is_err());
        pools.filter(|(_, pool)| is_overfull(pool)).map(|(index, _)| index).collect()
    }

    fn beyond(
        &self,
        pool: &Pool,
        former: &BTreeMap<Name, Option<Tenant>>,
        in_force: bool,
        now: DateTime<Utc>,
    ) -> Result<Vec<(Name, Excess)>, Excess> {
        let mut moved = Vec::new();
        let mut ids = Vec::new();
        let mut settled: Vec<&Tenant> = Vec::new();
        for (id, after) in &self.tenants {
            if self.moved.contains_key(id) {
                moved.push(Moved { before: former.get(id).and_then(Option::as_ref), after });
                ids.push(id);
            } else {
                settled.push(after);
            }
        }
        let refused = beyond(pool, &settled, &moved, in_force, now)?;
        Ok(refused.into_iter().filter_map(|(at, excess)| Some(((*ids.get(at)?).clone(), excess))).collect())
    }

    /// True if `usherd.toml` and each tenant that did not move are byte by byte as they were.
    fn is_in_force(&self) -> bool {
        let before = &self.before.contents.files;
        let moved: BTreeSet<&PathBuf> = self.moved.values().collect();
        self.contents.files.iter().all(|(path, bytes)| before.get(path) == Some(bytes) || moved.contains(path))
    }

    fn all_former(&mut self) -> BTreeMap<Name, Option<Tenant>> {
        let ids: Vec<Name> = self.moved.keys().cloned().collect();
        ids.into_iter().map(|id| (id.clone(), self.former(&id))).collect()
    }

    /// The record that a tenant had before its file changed, by the settings to come.
    fn former(&mut self, id: &str) -> Option<Tenant> {
        let (path, bytes) = self.known.get(id).copied()?;
        let source = Source::new(path, String::from_utf8_lossy(bytes).into_owned());
        let (present, warnings) = (self.tenants.remove(id), std::mem::take(&mut self.base.warnings));
        let former = self.read(&source, id, false, &mut Problems::default());
        self.base.warnings = warnings;
        present.into_iter().for_each(|present| drop(self.tenants.insert(present.id.clone(), present)));
        former
    }

    fn refuse(&mut self, pool: &Pool, id: &str, excess: Excess, now: DateTime<Utc>, common: &mut Common) {
        let Some(path) = self.moved.get(id).cloned() else { return };
        let message =
            format!("pool `{}` has {} seats, its tenants would have {}", pool.id, pool.seats, told(excess, now));
        let mut problem = Problem::of_file(path.display().to_string(), message).code(ProblemCode::PoolExceeded);
        problem.key_path = "seats".to_owned();
        let mut found = Problems::default();
        found.push(problem.help(POOL_HELP));
        self.take_out(id, &path);
        self.reject(&path, id, found, common);
    }

    /// A bad file must not take the place of a tenant that was in force by other means: then nothing is taken.
    pub(super) fn check_displaced(&mut self, common: &mut Common) {
        for file in &mut self.rejected {
            file.kept = self.tenants.contains_key(file.tenant.as_str());
            if !file.kept && (self.before.elsewhere)(&file.tenant) {
                file.problems.iter().for_each(|problem| common.push(problem.clone()));
            }
        }
    }
}

/// How a pool that is too small is fixed.
pub(super) const POOL_HELP: &str = "give the pool more seats or its tenants fewer, or write oversubscribe = true";

/// How many seats, and from when on.
pub(super) fn told(excess: Excess, now: DateTime<Utc>) -> String {
    let sum = excess.seats.map_or("an unlimited number of".to_owned(), |sum| sum.to_string());
    let when = if excess.at == now { String::new() } else { format!(" from {} on", rfc3339(excess.at)) };
    format!("{sum}{when}")
}

/// The name of a file without its ending.
fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}
