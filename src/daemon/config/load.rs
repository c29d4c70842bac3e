//! Parses and validates a whole configuration: `usherd.toml` as one unit, and each tenant file as one of its own.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use toml::de::DeTable;
use usherd_contract::file::{Source, nearest};
use usherd_engine::plan::{Plan, PoolPlan};
use usherd_engine::session::Name;
use usherd_subscription::entitlement::Timelines;

use super::before::Before;
use super::document::{parse, read_file};
use super::folder::{POOL_HELP, TenantSet, told};
use super::origin::{Effective, Origin};
use super::problem::{Problem, Problems};
use super::reader::Table;
use super::rejected::{RejectedFile, problems_of};
use super::sections;
use super::settings::{Settings, state_dir};
use super::source::{Contents, Disk, Files, MAIN_BYTES_MAX, shown};
use super::tenant::{self, Base, Tenant};
use super::value::{Cx, quoted};
use super::words::ProblemCode;

const NO_DIR_HELP: &str = "make the folder, or set tenants_dir = \"\" if all tenants stand in this file";

/// A configuration whose `usherd.toml` is good as a whole.
#[derive(Clone, Debug)]
pub struct Config {
    /// The contents of `usherd.toml`.
    pub settings: Settings,
    /// All tenants.
    pub tenants: BTreeMap<Name, Arc<Tenant>>,
    /// Every key of `usherd.toml` with the value in force and its origin.
    pub effective: Vec<Effective>,
    /// SHA-256 over all contents that are in force, hexadecimal.
    pub hash: String,
    /// The text that is in force, byte by byte: of a bad tenant file the text before.
    pub contents: Arc<Contents>,
    /// Oddities that are taken nevertheless, as they were when it was read; bounded as errors are.
    pub warnings: Vec<Problem>,
    /// Tenant files that are not taken: their tenants keep what they had, or are none.
    pub rejected: Vec<RejectedFile>,
    /// Tenant files that are away and whose tenants stay for now.
    pub away: Vec<PathBuf>,
    /// No key stands in `usherd.toml`.
    pub is_blank: bool,
    common: Arc<usherd_engine::plan::Policy>,
}

impl Config {
    /// The path of `usherd.toml`.
    pub fn main(&self) -> &Path {
        &self.contents.main
    }

    /// The folder of the tenant files, if there is one.
    pub fn tenants_dir(&self) -> Option<PathBuf> {
        tenants_dir(self.main(), &self.settings)
    }

    /// The folder for journal and last good configuration; `from_systemd` is `$STATE_DIRECTORY`.
    pub fn state_dir(&self, from_systemd: Option<&str>) -> PathBuf {
        state_dir(&self.settings.server.state_dir, from_systemd, self.main())
    }

    /// The plan for the engine at an instant.
    pub fn plan(&self, at: impl Into<Timelines>) -> Plan {
        let at = at.into();
        Plan {
            tenants: self.tenants.values().map(|tenant| tenant.plan(at)).collect(),
            pools: self.settings.pools.iter().map(|pool| PoolPlan { id: pool.id.clone(), seats: pool.seats }).collect(),
            default_tenant: self.settings.default_tenant.clone(),
            unknown: Arc::clone(&self.common),
            timers: self.settings.nodes.timers(),
        }
    }

    /// The next instant at which [`Config::plan`] says something else, and the first tenant of whom it does;
    /// `None` if never.
    pub fn next_change(&self, at: impl Into<Timelines>) -> Option<(DateTime<Utc>, &Name)> {
        let at = at.into();
        self.tenants.iter().filter_map(|(id, tenant)| Some((tenant.next_plan_at(at)?, id))).min()
    }

    /// The same where the publisher has confirmed at an instant all that was pulled (J7).
    #[must_use]
    pub fn confirmed(&self, at: DateTime<Utc>) -> Config {
        let mut config = self.clone();
        for tenant in config.tenants.values_mut().filter(|tenant| tenant.is_synced()) {
            Arc::make_mut(tenant).confirm(Some(at));
        }
        config
    }

    /// Every key that may be set per tenant, with the value in force for one and its origin, and every key
    /// of the tenant's own; `None` where there is no such tenant.
    pub fn effective_for(&self, id: &str) -> Option<Vec<Effective>> {
        let tenant = self.tenants.get(id)?;
        let named = |path: &Path| shown(self.main(), path).display().to_string();
        let path = self.contents.files.keys().find(|path| named(path) == tenant.source)?;
        let text = std::str::from_utf8(self.contents.files.get(path)?).ok()?;
        let source = Source::new(&shown(self.main(), path), text.to_owned());
        let document = DeTable::parse(text).ok()?;
        let (mut problems, mut own) = (Problems::default(), Vec::new());
        let mut cx = Cx { source: &source, problems: &mut problems, ledger: Some(&mut own), tenant: true };
        let mut root = Table::new(Some(document.get_ref()), document.span(), String::new());
        let mut base = Base::new(&self.settings, DateTime::UNIX_EPOCH);
        if path == self.main() {
            let inline = root.tables(&mut cx, "tenant", usize::MAX);
            let table = inline.into_iter().find(|table| source.place(table.span.start).line == tenant.line)?;
            let prefix = format!("{}.", table.path);
            tenant::read(&mut cx, table, &mut base, None);
            for entry in &mut own {
                entry.key = entry.key.strip_prefix(&prefix).unwrap_or(&entry.key).to_owned();
            }
        } else {
            tenant::read(&mut cx, root, &mut base, Some(id));
        }
        own.retain(|entry| !matches!(entry.origin, Origin::Profile { .. }));
        let mut all = tenant.rules.entries();
        for entry in &mut all {
            let written = own.iter().position(|own| own.key == entry.key);
            let shared = self.effective.iter().find(|shared| shared.key == entry.key && shared.value == entry.value);
            match (written, shared) {
                (Some(at), _) => *entry = own.remove(at),
                (None, Some(shared)) => entry.origin = shared.origin.clone(),
                (None, None) => entry.origin = preset_origin(tenant),
            }
        }
        own.extend(all);
        Some(own)
    }
}

fn preset_origin(tenant: &Tenant) -> Origin {
    Origin::Profile { profile: tenant.rules.policy.profile.as_str() }
}

/// Reads a configuration from the disk; `now` decides what pools have to bear from now on.
///
/// # Errors
/// Every fault of every file, by file and line; never empty. Tenant files that are bad are no reason, unless
/// `strict` is set.
pub fn load(main: &Path, now: DateTime<Utc>) -> Result<Config, Vec<Problem>> {
    load_from(&Disk, main, now)
}

/// As [`load`], from anywhere.
///
/// # Errors
/// As [`load`].
pub fn load_from(files: &dyn Files, main: &Path, now: DateTime<Utc>) -> Result<Config, Vec<Problem>> {
    load_after(files, main, now, &Before::nothing())
}

/// As [`load_from`], where something was in force before: a tenant file that is bad, or away and wanted all the same,
/// leaves its tenant the record that it had.
///
/// # Errors
/// As [`load`].
pub fn load_after(
    files: &dyn Files,
    main: &Path,
    now: DateTime<Utc>,
    before: &Before<'_>,
) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::default();
    let Some(source) = read_file(files, main, MAIN_BYTES_MAX, &mut problems) else {
        return Err(problems.into_vec());
    };
    let bytes = Arc::from(source.text().as_bytes());
    let contents = Contents { main: main.to_owned(), files: BTreeMap::from([(main.to_owned(), bytes)]) };
    let document = parse(&source, &mut problems);
    let broken = !problems.is_empty();
    let mut effective = Vec::new();
    let mut ignored = Problems::default();
    let found = if broken { &mut ignored } else { &mut problems };
    let mut cx = Cx { source: &source, problems: found, ledger: Some(&mut effective), tenant: false };
    let mut root = Table::new(Some(document.get_ref()), document.span(), String::new());
    let settings = sections::read(&mut cx, &mut root);
    cx.ledger = None;
    let mut set = TenantSet::new(&settings, now, contents, before);
    for table in root.tables(&mut cx, "tenant", settings.server.tenants_max as usize) {
        set.inline(&mut cx, table);
    }
    let places = Places {
        pools: pool_spans(&mut cx, &mut root),
        default_tenant: item_span(&mut root, "default_tenant"),
        tenants_dir: item_span(&mut root, "tenants_dir"),
    };
    root.finish(&mut cx);
    read_folder(files, &source, &places, &mut set, &mut problems);
    if settings.sync.is_on() {
        set.pulled(files, &mut problems);
    }
    if !broken {
        check_default_tenant(&source, &places, &set, &mut problems);
        check_pools(&source, &places, &mut set, &mut problems, now);
    }
    set.check_displaced(&mut problems);
    let TenantSet { tenants, base, rejected, away, contents, .. } = set;
    let common = base.shared.common().map(|kept| kept.policy).unwrap_or_default();
    let warnings = base.warnings.into_vec();
    if !problems.is_empty() || (settings.strict && !rejected.is_empty()) {
        problems_of(&rejected).into_iter().for_each(|problem| problems.push(problem));
        return Err(problems.into_vec());
    }
    let (hash, contents, is_blank) = (contents.hash(), Arc::new(contents), document.get_ref().is_empty());
    Ok(Config { hash, settings, tenants, effective, contents, warnings, rejected, away, is_blank, common })
}

/// Where the keys stand that are checked against the tenants.
struct Places {
    pools: Vec<Range<usize>>,
    default_tenant: Range<usize>,
    tenants_dir: Range<usize>,
}

fn item_span(root: &mut Table<'_, '_>, key: &'static str) -> Range<usize> {
    root.item(key).map_or(0..0, |item| item.span)
}

fn pool_spans(cx: &mut Cx<'_>, root: &mut Table<'_, '_>) -> Vec<Range<usize>> {
    let mut ignored = Problems::default();
    let mut cx = Cx { source: cx.source, problems: &mut ignored, ledger: None, tenant: false };
    let tables = root.tables(&mut cx, "pool", super::settings::POOLS_MAX);
    tables.into_iter().map(|mut table| table.item("seats").map_or(table.span.clone(), |item| item.span)).collect()
}

/// The files of the folder; that it cannot be read is a fault of the key that names it.
fn read_folder(files: &dyn Files, source: &Source, places: &Places, set: &mut TenantSet<'_>, problems: &mut Problems) {
    let main = set.contents.main.clone();
    let listed = match tenants_dir(&main, set.base.settings) {
        None => Vec::new(),
        Some(dir) => match files.list(&dir) {
            Ok(listed) => {
                let skipped = files.skipped(&dir).into_iter().filter(|path| *path != main);
                skipped.for_each(|path| set.base.warnings.push(skipped_file(&path)));
                listed
            }
            Err(why) => {
                let message = format!("`tenants_dir` {why}: {}", dir.display());
                let problem = Problem::at(source, &places.tenants_dir, "tenants_dir", message);
                problems.push(problem.code(ProblemCode::Unreadable).help(NO_DIR_HELP));
                return;
            }
        },
    };
    set.folder(files, listed, problems);
}

fn skipped_file(path: &Path) -> Problem {
    let message = "the file is skipped: by its name it is no tenant file";
    let problem = Problem::of_file(path.display().to_string(), message).code(ProblemCode::SkippedFile).warning();
    problem.help("a tenant file is called ID.toml, in lower case; take other files out of the folder")
}

fn tenants_dir(main: &Path, settings: &Settings) -> Option<PathBuf> {
    let dir = settings.tenants_dir.0.as_str();
    (!dir.is_empty()).then(|| main.parent().unwrap_or(Path::new("")).join(dir))
}

fn check_default_tenant(source: &Source, places: &Places, set: &TenantSet<'_>, problems: &mut Problems) {
    let Some(id) = &set.base.settings.default_tenant else { return };
    // A tenant that is pulled may come later than the first start; until then it is unknown.
    let is_bad = set.rejected.iter().any(|file| file.tenant == id.as_str());
    if set.tenants.contains_key(id) || is_bad || set.base.settings.sync.is_on() {
        return;
    }
    let near = nearest(id, set.tenants.keys().map(Name::as_str));
    let guess = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    let message = format!("`default_tenant` names a tenant that is not configured: {}", quoted(id));
    let problem = Problem::at(source, &places.default_tenant, "default_tenant", message);
    let help = format!("{guess}give it a tenant file, or write \"\" to deny unknown tenants");
    problems.push(problem.code(ProblemCode::UnknownName).help(help));
}

/// F7: a pool is too small for what it has to bear whatever the tenant files say.
fn check_pools(source: &Source, places: &Places, set: &mut TenantSet<'_>, problems: &mut Problems, now: DateTime<Utc>) {
    for (index, excess) in set.hold_pools(now, problems) {
        let Some(pool) = set.base.settings.pools.get(index) else { continue };
        let message = format!("pool `{}` has {} seats, its tenants {}", pool.id, pool.seats, told(excess, now));
        let span = places.pools.get(index).cloned().unwrap_or(0..0);
        let path = format!("pool[{index}].seats");
        let problem = Problem::at(source, &span, &path, message);
        problems.push(problem.code(ProblemCode::PoolExceeded).help(POOL_HELP));
    }
}
