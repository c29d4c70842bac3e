//! `config check`, `config init`, `config show`: the files, without a running daemon.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use usherd_subscription::record::ContractKind;

use super::address::default_config;
use super::failure::{CONFIGURATION, FAILED, Failure, OK};
use super::instant::wall_clock;
use super::screen::{Format, Screen, counted};
use super::table::Table;
use super::token;
use crate::daemon::config::{
    Accounts, Before, Config, Contents, Disk, Problem, Tenant, load, load_after, problems_of, recall_texts,
    render_problems, state_dirs,
};
use crate::daemon::runtime::certificates;

/// The shipped file: every key with its default and its reason.
const SHIPPED: &str = include_str!("../../config/usherd.toml");
const MAIN_FILE: &str = "usherd.toml";
const NO_CONFIG: &str = "`usherd config init` writes a commented one; --config names another";

/// Said where only the state directory would know.
const UNCHECKED: &str = "; whether a trial is the first of its account is unknown without the daemon's state directory";

/// `usherd config`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum ConfigVerb {
    /// Every error of the files, each with its line and how to fix it; with --token-file also whether that token is accepted
    Check {
        /// usherd.toml files, folders with one, or tenant files [default: --config]
        paths: Vec<PathBuf>,
    },
    /// Write a commented usherd.toml with every default
    Init {
        /// Target file; - for the terminal [default: --config, else config/usherd.toml]
        path: Option<PathBuf>,
        /// Overwrite an existing file
        #[arg(long)]
        force: bool,
    },
    /// The values in force
    Show {
        /// Also where each comes from: default, profile, or a line of a file
        #[arg(long)]
        origin: bool,
        /// As they apply to this tenant
        #[arg(long)]
        tenant: Option<String>,
    },
}

/// Runs one of the verbs; `token_file` holds a token that `check` looks at too.
///
/// # Errors
/// The files are wrong or cannot be read or written.
pub(super) fn config(
    arguments: &ConfigArgs,
    main: Option<&Path>,
    token_file: Option<&Path>,
    screen: &mut Screen<'_>,
) -> Result<u8, Failure> {
    match &arguments.verb {
        ConfigVerb::Check { paths } if paths.is_empty() => check(&[main_file(main)?], token_file, screen),
        ConfigVerb::Check { paths } => check(&main_files(paths), token_file, screen),
        ConfigVerb::Init { path, force } => init(path.as_deref().or(main), *force, screen),
        ConfigVerb::Show { origin, tenant } => show(&main_file(main)?, *origin, tenant.as_deref(), screen),
    }
}

/// The configuration that is meant: `--config`, or the first of the usual places (API 7).
///
/// # Errors
/// There is none.
pub(super) fn main_file(main: Option<&Path>) -> Result<PathBuf, Failure> {
    let found = main.map(Path::to_path_buf).or_else(default_config);
    found.ok_or_else(|| {
        Failure::configuration("there is no config/usherd.toml here, and no /etc/usherd/usherd.toml").fix(NO_CONFIG)
    })
}

/// Reads it, or tells every error of `usherd.toml`; what tenant files are bad, it carries with it.
///
/// # Errors
/// The files are not a configuration.
pub(super) fn load_all(main: &Path, colour: bool) -> Result<Config, Failure> {
    load(main, wall_clock()).map_err(|problems| bad(main, &problems, colour))
}

fn bad(path: &Path, problems: &[Problem], colour: bool) -> Failure {
    let failure =
        Failure::configuration(format!("{} is not valid\n\n{}", path.display(), render_problems(problems, colour)));
    Failure { what: failure.what.trim_end().to_owned(), ..failure }
}

/// A tenant of a configuration.
///
/// # Errors
/// There is no such tenant, or its file is bad.
pub(super) fn tenant_of<'c>(config: &'c Config, id: &str, colour: bool) -> Result<&'c Tenant, Failure> {
    if let Some(file) = config.rejected.iter().find(|file| file.tenant == id) {
        return Err(bad(Path::new(&file.file), &file.problems, colour));
    }
    config.tenants.get(id).map(AsRef::as_ref).ok_or_else(|| {
        let main = config.main().display();
        Failure::failed(format!("{main} has no tenant {id:?}")).fix("`usherd config check` counts them")
    })
}

/// The files that a daemon with this configuration has in force, as far as its state directory tells and may be read.
pub(super) fn in_force(main: &Path) -> Contents {
    let from_systemd = std::env::var("STATE_DIRECTORY").ok();
    let of_unit = main.starts_with("/etc/usherd").then(|| "/var/lib/usherd".to_owned());
    let states = state_dirs(main, from_systemd.or(of_unit).as_deref());
    states.iter().find_map(|state| recall_texts(state, main).ok()).unwrap_or_default()
}

/// Folders stand for the usherd.toml in them, tenant files for the one above them; each once.
fn main_files(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for path in paths {
        let above = path.parent().and_then(Path::parent).map(|above| above.join(MAIN_FILE));
        let main = match above {
            _ if path.is_dir() => path.join(MAIN_FILE),
            Some(above) if path.file_name().is_some_and(|name| name != MAIN_FILE) && above.is_file() => above,
            _ => path.clone(),
        };
        if !all.contains(&main) {
            all.push(main);
        }
    }
    all
}

/// The configuration, and whether it is known that no trial in it is a second one (J3): that stands in the state
/// directory. A configuration without trials has none.
fn load_and_remember(main: &Path) -> Result<(Config, bool), Vec<Problem>> {
    let from_systemd = std::env::var("STATE_DIRECTORY").ok();
    let states = state_dirs(main, from_systemd.as_deref());
    let accounts = states.iter().find_map(|state| Accounts::read(state).ok().flatten());
    let objection = |tenant: &Tenant| accounts.as_ref()?.second_trial(tenant);
    let config = load_after(&Disk, main, wall_clock(), &Before { objection: &objection, ..Before::nothing() })?;
    let known = accounts.is_some() || config.tenants.values().all(|tenant| tenant.record.kind != ContractKind::Trial);
    Ok((config, known))
}

fn check(mains: &[PathBuf], token_file: Option<&Path>, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let mut table = Table::new(["file", "line", "column", "key", "message", "help", "severity", "code"]);
    let mut answers = Vec::new();
    let mut code = OK;
    for main in mains {
        let name = main.display().to_string();
        let (answer, found) = match load_and_remember(main) {
            Ok((config, known)) => {
                let token = token_file.map(|path| token::look(path, &config)).transpose()?;
                check_units(&config, known, token, &mut table, screen)?
            }
            Err(problems) => {
                push_all(&mut table, &problems);
                if screen.format == Format::Table {
                    screen.write(&render_problems(&problems, screen.colour))?;
                }
                (json!({"config": name, "ok": false, "problems": problems}), CONFIGURATION)
            }
        };
        answers.push(answer);
        code = code.max(found);
    }
    match screen.format {
        Format::Table => {}
        Format::Csv => screen.table(&table)?,
        Format::Json => screen.write(&format!("{}\n", json!({ "checked": answers })))?,
    }
    Ok(code)
}

/// A configuration whose `usherd.toml` is valid: tenant files and certificates are units of their own.
fn check_units(
    config: &Config,
    known: bool,
    token: Option<Result<String, Problem>>,
    table: &mut Table,
    screen: &mut Screen<'_>,
) -> Result<(Value, u8), Failure> {
    let name = config.main().display().to_string();
    let folder = config.main().parent().unwrap_or(Path::new(""));
    let mut problems = problems_of(&config.rejected);
    let (unusable, hidden) = certificates::look_as_guest(&config.settings, folder, wall_clock());
    problems.extend(unusable);
    let token = token.and_then(|token| token.map_err(|problem| problems.push(problem)).ok());
    let warnings: Vec<Problem> = config.warnings.iter().cloned().chain(hidden).collect();
    let is_good = problems.is_empty();
    push_all(table, &problems);
    push_all(table, &warnings);
    if screen.format == Format::Table {
        let (count, unchecked) = (counted(config.tenants.len(), "tenant"), if known { "" } else { UNCHECKED });
        problems.iter().try_for_each(|problem| screen.write(&format!("{}\n\n", problem.render(screen.colour))))?;
        let bad = match config.rejected.len() {
            0 => String::new(),
            1 => "; 1 tenant file is rejected: its tenant keeps its last good record, if it has one".to_owned(),
            bad => {
                format!(
                    "; {bad} tenant files are rejected: their tenants keep their last good records, if they have any"
                )
            }
        };
        screen.line(&format!("{name}: valid, {count}{bad}{unchecked}"))?;
        token.iter().try_for_each(|token| screen.line(token))?;
        if !warnings.is_empty() {
            screen.write(&format!("\n{}", render_problems(&warnings, screen.colour)))?;
        }
    }
    let answer = json!({
        "config": name, "ok": is_good, "tenants": config.tenants.len(), "hash": config.hash,
        "warnings": warnings, "problems": problems, "tenants_rejected": config.rejected.len(),
        "trials_checked": known,
    });
    Ok((answer, if is_good { OK } else { FAILED }))
}

fn push_all(table: &mut Table, problems: &[Problem]) {
    for problem in problems {
        table.push([
            problem.file.clone(),
            problem.line.to_string(),
            problem.column.to_string(),
            problem.key_path.clone(),
            problem.message.clone(),
            problem.help.clone().unwrap_or_default(),
            problem.severity.as_str().to_owned(),
            problem.code.as_str().to_owned(),
        ]);
    }
}

fn init(path: Option<&Path>, force: bool, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let path = path.unwrap_or(Path::new("config/usherd.toml"));
    if path == Path::new("-") {
        screen.write(SHIPPED)?;
        return Ok(OK);
    }
    let path = if path.is_dir() { path.join(MAIN_FILE) } else { path.to_path_buf() };
    if path.exists() && !force {
        return Err(Failure::failed(format!("{} exists already", path.display()))
            .fix("--force overwrites it, another PATH leaves it alone, - shows what would be written"));
    }
    let tenants = path.parent().unwrap_or(Path::new("")).join("tenants.d");
    let written = std::fs::create_dir_all(&tenants).and_then(|()| std::fs::write(&path, SHIPPED));
    written.map_err(|error| Failure::failed(format!("{} cannot be written: {error}", path.display())))?;
    screen.line(&format!("{} is written; tenants go into {}, one file each", path.display(), tenants.display()))?;
    Ok(OK)
}

fn show(main: &Path, origin: bool, tenant: Option<&str>, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let config = load_all(main, screen.colour)?;
    let effective = match tenant {
        None => config.effective.clone(),
        Some(id) => {
            tenant_of(&config, id, screen.colour).map_err(|failure| Failure { code: CONFIGURATION, ..failure })?;
            config.effective_for(id).unwrap_or_default()
        }
    };
    if screen.format == Format::Json {
        let values: Vec<Value> = effective.iter().map(|entry| json!(entry)).collect();
        screen.write(&format!("{}\n", json!({ "config": values })))?;
        return Ok(OK);
    }
    let titles: &[&str] = if origin { &["key", "value", "origin"] } else { &["key", "value"] };
    let mut table = Table::new(titles.iter().copied());
    for entry in effective {
        let from = entry.origin.to_string();
        table.push([entry.key, entry.value, from]);
    }
    screen.table(&table)?;
    Ok(OK)
}
