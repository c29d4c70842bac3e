//! Parses and validates a whole configuration: all of it, or every reason why not.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use toml::de::DeTable;

use super::lines::Source;
use super::origin::{Effective, Origin};
use super::problem::{Problem, Problems};
use super::reader::Table;
use super::sections;
use super::settings::{Pool, Settings, state_dir};
use super::source::{
    CONTENTS_BYTES_MAX, Contents, Disk, Files, MAIN_BYTES_MAX, STORED_BUNDLE, TENANT_FILE_BYTES_MAX, shown, synced_path,
};
use super::tenant::{self, Base, Tenant};
use super::value::{Cx, quoted, rfc3339};
use super::words::{ProblemCode, nearest};
use crate::engine::plan::{Plan, PoolPlan};
use crate::engine::session::Name;
use crate::subscription::entitlement::Timelines;

/// Most syntax errors that are shown of one file.
const SYNTAX_ERRORS_MAX: usize = 10;
const NO_DIR_HELP: &str = "make the folder, or set tenants_dir = \"\" if all tenants stand in this file";

/// A configuration that is good as a whole.
#[derive(Clone, Debug)]
pub struct Config {
    /// What `usherd.toml` says.
    pub settings: Settings,
    /// All tenants.
    pub tenants: BTreeMap<Name, Arc<Tenant>>,
    /// Every key of `usherd.toml` with the value in force and its origin.
    pub effective: Vec<Effective>,
    /// SHA-256 over all contents, hexadecimal.
    pub hash: String,
    /// What it was read from, byte by byte.
    pub contents: Arc<Contents>,
    /// What is odd in it and taken nevertheless, as it was when it was read; bounded as errors are.
    pub warnings: Vec<Problem>,
    common: Arc<crate::engine::plan::Policy>,
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

    /// What the engine is told, as it is at an instant.
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
    Origin::Profile { profile: super::words::Word::as_str(tenant.rules.policy.profile) }
}

/// Reads a configuration from the disk; `now` decides what pools have to bear from now on.
///
/// # Errors
/// Every fault of every file, by file and line; never empty.
pub fn load(main: &Path, now: DateTime<Utc>) -> Result<Config, Vec<Problem>> {
    load_from(&Disk, main, now)
}

/// As [`load`], from anywhere.
///
/// # Errors
/// As [`load`].
pub fn load_from(files: &dyn Files, main: &Path, now: DateTime<Utc>) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::default();
    let mut contents = Contents { main: main.to_owned(), files: BTreeMap::new() };
    let Some(source) = read_file(files, main, MAIN_BYTES_MAX, &mut problems, &mut contents) else {
        return Err(problems.into_vec());
    };
    let document = parse(&source, &mut problems);
    let broken = !problems.is_empty();
    let mut effective = Vec::new();
    let mut ignored = Problems::default();
    let found = if broken { &mut ignored } else { &mut problems };
    let mut cx = Cx { source: &source, problems: found, ledger: Some(&mut effective), tenant: false };
    let mut root = Table::new(Some(document.get_ref()), document.span(), String::new());
    let settings = sections::read(&mut cx, &mut root);
    cx.ledger = None;
    let mut set = TenantSet::new(&settings, now);
    for table in root.tables(&mut cx, "tenant", settings.server.tenants_max as usize) {
        set.read(&mut cx, table, None);
    }
    let places = Places {
        pools: pool_spans(&mut cx, &mut root),
        default_tenant: item_span(&mut root, "default_tenant"),
        tenants_dir: item_span(&mut root, "tenants_dir"),
    };
    root.finish(&mut cx);
    read_tenant_files(files, &source, &places, &mut set, &mut problems, &mut contents);
    if settings.sync.is_on() {
        read_synced(files, &mut set, &mut problems, &mut contents);
    }
    if !broken {
        check_default_tenant(&source, &places, &set, &mut problems);
        check_pools(&source, &places, &set, &mut problems, now);
    }
    let TenantSet { tenants, base, .. } = set;
    let common = base.shared.common().map(|kept| kept.policy).unwrap_or_default();
    let warnings = base.warnings.into_vec();
    if !problems.is_empty() {
        return Err(problems.into_vec());
    }
    let (hash, contents) = (contents.hash(), Arc::new(contents));
    Ok(Config { hash, settings, tenants, effective, contents, warnings, common })
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

/// Tenants as they are found, and the names of those that could not be read.
struct TenantSet<'a> {
    base: Base<'a>,
    tenants: BTreeMap<Name, Arc<Tenant>>,
    broken: BTreeSet<String>,
}

impl<'a> TenantSet<'a> {
    fn new(settings: &'a Settings, now: DateTime<Utc>) -> Self {
        TenantSet { base: Base::new(settings, now), tenants: BTreeMap::new(), broken: BTreeSet::new() }
    }

    fn read(&mut self, cx: &mut Cx<'_>, table: Table<'_, '_>, stem: Option<&str>) {
        let span = table.span.clone();
        let path = if table.path.is_empty() { "id".to_owned() } else { format!("{}.id", table.path) };
        let Some(tenant) = tenant::read(cx, table, &mut self.base, stem) else { return };
        if let Some(first) = self.tenants.get(&tenant.id) {
            let problem = cx
                .fault(&span, &path, format!("there are two tenants `{}`", tenant.id))
                .code(ProblemCode::DuplicateTenant)
                .related(&first.source, first.line, "the other one stands there")
                .help("remove one of the two, or give it another id");
            cx.problems.push(problem);
            return;
        }
        self.tenants.insert(tenant.id.clone(), Arc::new(tenant));
    }
}

fn tenants_dir(main: &Path, settings: &Settings) -> Option<PathBuf> {
    let dir = settings.tenants_dir.0.as_str();
    (!dir.is_empty()).then(|| main.parent().unwrap_or(Path::new("")).join(dir))
}

fn read_tenant_files(
    files: &dyn Files,
    main_source: &Source,
    places: &Places,
    set: &mut TenantSet<'_>,
    problems: &mut Problems,
    contents: &mut Contents,
) {
    let settings = set.base.settings;
    let main = contents.main.clone();
    let Some(dir) = tenants_dir(&main, settings) else { return };
    let listed = match files.list(&dir) {
        Ok(listed) => listed,
        Err(why) => {
            let message = format!("`tenants_dir` {why}: {}", dir.display());
            let problem = Problem::at(main_source, &places.tenants_dir, "tenants_dir", message);
            problems.push(problem.code(ProblemCode::Unreadable).help(NO_DIR_HELP));
            return;
        }
    };
    let most = settings.server.tenants_max as usize;
    if listed.len() + set.tenants.len() > most {
        let message = format!("`tenants_dir` has {} tenants: {}", listed.len(), dir.display());
        let problem = Problem::at(main_source, &places.tenants_dir, "tenants_dir", message);
        problems.push(problem.code(ProblemCode::TooLarge).help(format!("server.tenants_max allows {most}")));
        return;
    }
    let mut bytes = 0;
    for path in listed.into_iter().filter(|path| *path != main) {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        read_tenant_file(files, &path, &stem, set, problems, contents);
        bytes += contents.files.get(&path).map_or(0, |text| text.len());
        if bytes > CONTENTS_BYTES_MAX {
            let message = format!("the tenant files together are larger than {} MiB", CONTENTS_BYTES_MAX >> 20);
            let problem = Problem::at(main_source, &places.tenants_dir, "tenants_dir", message);
            problems.push(problem.code(ProblemCode::TooLarge));
            return;
        }
    }
}

fn read_tenant_file(
    files: &dyn Files,
    path: &Path,
    stem: &str,
    set: &mut TenantSet<'_>,
    problems: &mut Problems,
    contents: &mut Contents,
) {
    let before = problems.len();
    if let Some(source) = read_file(files, path, TENANT_FILE_BYTES_MAX, problems, contents) {
        read_tenant_text(&source, stem, set, problems);
    }
    if problems.len() > before {
        set.broken.insert(stem.to_owned());
    }
}

fn read_tenant_text(source: &Source, stem: &str, set: &mut TenantSet<'_>, problems: &mut Problems) {
    let before = problems.len();
    let document = parse(source, problems);
    if problems.len() == before {
        let mut cx = Cx { source, problems, ledger: None, tenant: true };
        let root = Table::new(Some(document.get_ref()), document.span(), String::new());
        set.read(&mut cx, root, Some(stem));
    }
}

/// The tenants that were pulled, each as a file of its own beside those of the folder; whether the publisher
/// still stands by them is known by the confirmation, and not by what a record says of itself (J7).
fn read_synced(files: &dyn Files, set: &mut TenantSet<'_>, problems: &mut Problems, contents: &mut Contents) {
    let synced = match files.synced(set.base.settings, &contents.main) {
        Ok(synced) => synced,
        Err(why) => {
            problems.push(Problem::of_file(STORED_BUNDLE, why).help("the next pull brings it anew"));
            return;
        }
    };
    let most = set.base.settings.server.tenants_max as usize;
    if synced.texts.len() + set.tenants.len() > most {
        let message = format!("{} tenants were pulled, beside {} of the files", synced.texts.len(), set.tenants.len());
        problems.push(Problem::of_file("sync", message).help(format!("server.tenants_max allows {most}")));
        return;
    }
    for (id, text) in &synced.texts {
        let path = synced_path(&contents.main, id);
        let source = Source::new(&shown(&contents.main, &path), text.to_string());
        let before = problems.len();
        read_tenant_text(&source, id, set, problems);
        if problems.len() > before {
            set.broken.insert(id.clone());
        } else if let Some(tenant) = set.tenants.get_mut(id.as_str()) {
            Arc::make_mut(tenant).confirm(synced.confirmed_at);
        }
        contents.files.insert(path, Arc::from(text.as_bytes()));
    }
}

fn read_file(
    files: &dyn Files,
    path: &Path,
    bytes_max: usize,
    problems: &mut Problems,
    contents: &mut Contents,
) -> Option<Source> {
    let shown = path.display().to_string();
    let bytes = match files.read(path, bytes_max) {
        Ok(bytes) => bytes,
        Err(why) => {
            let too_large = why.starts_with("is larger than");
            let code = if too_large { ProblemCode::TooLarge } else { ProblemCode::Unreadable };
            let help = match (bytes_max == TENANT_FILE_BYTES_MAX, too_large) {
                (false, _) => "`usherd config init` writes a commented usherd.toml; --config names another",
                (true, false) => "make it a file that the daemon may read, or take it out of the folder",
                (true, true) => "take out what is not of this tenant, or changes long in force",
            };
            problems.push(Problem::of_file(&shown, format!("the file {why}")).code(code).help(help));
            return None;
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => {
            contents.files.insert(path.to_owned(), Arc::from(text.as_bytes()));
            Some(Source::new(path, text))
        }
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let source = Source::new(path, String::from_utf8_lossy(error.as_bytes()).into_owned());
            let problem = Problem::at(&source, &(at..at + 1), "", "the file is not UTF-8");
            problems
                .push(problem.code(ProblemCode::Unreadable).help("save it as UTF-8, without other encodings in it"));
            None
        }
    }
}

fn parse<'s>(source: &'s Source, problems: &mut Problems) -> serde_spanned::Spanned<DeTable<'s>> {
    let (document, errors) = DeTable::parse_recoverable(source.text());
    for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
        let span = error.span().unwrap_or(0..0);
        let problem = Problem::at(source, &span, "", format!("not TOML: {}", error.message()));
        problems.push(problem.code(ProblemCode::Syntax).help(syntax_help(error.message())));
    }
    document
}

fn syntax_help(message: &str) -> &'static str {
    if message.contains("duplicate") {
        "keep one of them: each key and each [section] stands once"
    } else if message.contains("date") || message.contains("time") {
        "write a date that exists, as in \"2027-06-16\" or \"2027-06-15T22:00:00Z\""
    } else {
        "write `key = value`, texts in \"quotes\", lists in [brackets], a [section] on a line of its own"
    }
}

fn check_default_tenant(source: &Source, places: &Places, set: &TenantSet<'_>, problems: &mut Problems) {
    let Some(id) = &set.base.settings.default_tenant else { return };
    // A tenant that is pulled may come later than the first start; until then it is unknown.
    if set.tenants.contains_key(id) || set.broken.contains(id.as_str()) || set.base.settings.sync.is_on() {
        return;
    }
    let near = nearest(id, set.tenants.keys().map(Name::as_str));
    let guess = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    let message = format!("`default_tenant` names a tenant that is not configured: {}", quoted(id));
    let problem = Problem::at(source, &places.default_tenant, "default_tenant", message);
    let help = format!("{guess}give it a tenant file, or write \"\" to deny unknown tenants");
    problems.push(problem.code(ProblemCode::UnknownName).help(help));
}

/// F7: without `oversubscribe` the quotas of all switched-on tenants fit into the pool, now and at every
/// booked instant from now on. So a configuration that was good does not turn bad by the passing of time.
fn check_pools(source: &Source, places: &Places, set: &TenantSet<'_>, problems: &mut Problems, now: DateTime<Utc>) {
    for (index, pool) in set.base.settings.pools.iter().enumerate().filter(|(_, pool)| !pool.oversubscribe) {
        let tenants: Vec<&Tenant> =
            set.tenants.values().map(AsRef::as_ref).filter(|tenant| tenant.pool.as_ref() == Some(&pool.id)).collect();
        let Some((at, allocated)) = first_excess(pool, &tenants, now) else { continue };
        let sum = allocated.map_or("an unlimited number of".to_owned(), |sum| sum.to_string());
        let when = if at == now { String::new() } else { format!(" from {} on", rfc3339(at)) };
        let message = format!("pool `{}` has {} seats, its tenants {sum}{when}", pool.id, pool.seats);
        let span = places.pools.get(index).cloned().unwrap_or(0..0);
        let path = format!("pool[{index}].seats");
        let problem = Problem::at(source, &span, &path, message);
        let help = "give the pool more seats or its tenants fewer, or write oversubscribe = true";
        problems.push(problem.code(ProblemCode::PoolExceeded).help(help));
    }
}

/// The first instant from now on at which the pool is over-allocated, and by how many seats in all;
/// `None` seats are unlimited. Walks each tenant's own schedule once.
fn first_excess(pool: &Pool, tenants: &[&Tenant], now: DateTime<Utc>) -> Option<(DateTime<Utc>, Option<u64>)> {
    let mut steps: BTreeMap<DateTime<Utc>, (i64, i64)> = BTreeMap::new();
    for tenant in tenants {
        let (mut at, mut before) = (now, (0, 0));
        loop {
            let entitlement = tenant.entitlement(at);
            let share = match entitlement.seats {
                _ if !entitlement.state.gives_seats() => (0, 0),
                Some(seats) => (i64::from(seats), 0),
                None => (0, 1),
            };
            let step = steps.entry(at).or_default();
            *step = (step.0 + share.0 - before.0, step.1 + share.1 - before.1);
            before = share;
            let Some(next) = entitlement.next_change_at else { break };
            at = next;
        }
    }
    let (mut seats, mut unlimited) = (0, 0);
    steps.into_iter().find_map(|(at, step)| {
        (seats, unlimited) = (seats + step.0, unlimited + step.1);
        let excess = unlimited > 0 || seats > i64::from(pool.seats);
        excess.then(|| (at, if unlimited > 0 { None } else { u64::try_from(seats).ok() }))
    })
}
