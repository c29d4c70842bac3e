//! `config check`, `config init`, `config show`: the files, without a running daemon.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::address::default_config;
use super::failure::{CONFIGURATION, Failure, OK};
use super::instant::wall_clock;
use super::screen::{Format, Screen, counted};
use super::table::Table;
use crate::daemon::config::{Accounts, Config, Problem, Word as _, load, render_problems};
use crate::subscription::record::ContractKind;

/// The shipped file: every key with its default and its reason.
const SHIPPED: &str = include_str!("../../config/usherd.toml");
const MAIN_FILE: &str = "usherd.toml";
const NO_CONFIG: &str = "`usherd config init` writes a commented one; --config names another";

/// Said where only the state directory would know.
const UNCHECKED: &str =
    "; without the daemon's state directory nobody knows whether a trial is the first of its account";

/// `usherd config`
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum ConfigVerb {
    /// Every error of the files, each with its line and how to mend it
    Check {
        /// Files usherd.toml, folders with one, or tenant files [default: --config]
        paths: Vec<PathBuf>,
    },
    /// Write a commented usherd.toml with every default
    Init {
        /// Where to; - for the terminal [default: --config, else config/usherd.toml]
        path: Option<PathBuf>,
        /// Also over a file that is there
        #[arg(long)]
        force: bool,
    },
    /// The values in force
    Show {
        /// And where each comes from: default, profile, or a line of a file
        #[arg(long)]
        origin: bool,
        /// As they hold for this tenant
        #[arg(long)]
        tenant: Option<String>,
    },
}

/// Runs one of the verbs.
///
/// # Errors
/// The files are wrong or cannot be read or written.
pub fn config(arguments: &ConfigArgs, main: Option<&Path>, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    match &arguments.verb {
        ConfigVerb::Check { paths } if paths.is_empty() => check(&[main_file(main)?], screen),
        ConfigVerb::Check { paths } => check(&main_files(paths), screen),
        ConfigVerb::Init { path, force } => init(path.as_deref().or(main), *force, screen),
        ConfigVerb::Show { origin, tenant } => show(&main_file(main)?, *origin, tenant.as_deref(), screen),
    }
}

/// The configuration that is meant: `--config`, or the first of the usual places (API 7).
///
/// # Errors
/// There is none.
pub fn main_file(main: Option<&Path>) -> Result<PathBuf, Failure> {
    let found = main.map(Path::to_path_buf).or_else(default_config);
    found.ok_or_else(|| {
        Failure::configuration("there is no config/usherd.toml here, and no /etc/usherd/usherd.toml").mend(NO_CONFIG)
    })
}

/// Reads it, or tells every error.
///
/// # Errors
/// The files are not a configuration.
pub fn load_all(main: &Path, colour: bool) -> Result<Config, Failure> {
    load(main, wall_clock()).map_err(|problems| {
        let failure =
            Failure::configuration(format!("{} is not good\n\n{}", main.display(), render_problems(&problems, colour)));
        Failure { what: failure.what.trim_end().to_owned(), ..failure }
    })
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
    let config = load(main, wall_clock())?;
    let from_systemd = std::env::var("STATE_DIRECTORY").ok();
    let accounts = Accounts::read(&config.state_dir(from_systemd.as_deref())).ok().flatten();
    let known = accounts.is_some() || config.tenants.values().all(|tenant| tenant.record.kind != ContractKind::Trial);
    let problems = accounts.map(|accounts| accounts.second_trials(&config)).unwrap_or_default();
    if problems.is_empty() { Ok((config, known)) } else { Err(problems) }
}

fn check(mains: &[PathBuf], screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let mut table = Table::new(["file", "line", "column", "key", "message", "help", "severity", "code"]);
    let mut answers = Vec::new();
    let mut code = OK;
    for main in mains {
        let name = main.display().to_string();
        match load_and_remember(main) {
            Ok((config, known)) => {
                answers.push(json!({
                    "config": name, "ok": true, "tenants": config.tenants.len(), "hash": config.hash,
                    "warnings": config.warnings, "trials_checked": known,
                }));
                push_all(&mut table, &config.warnings);
                if screen.format == Format::Table {
                    let unchecked = if known { "" } else { UNCHECKED };
                    screen.line(&format!("{name}: good, {}{unchecked}", counted(config.tenants.len(), "tenant")))?;
                    if !config.warnings.is_empty() {
                        screen.write(&format!("\n{}", render_problems(&config.warnings, screen.colour)))?;
                    }
                }
            }
            Err(problems) => {
                code = CONFIGURATION;
                answers.push(json!({"config": name, "ok": false, "problems": problems}));
                push_all(&mut table, &problems);
                if screen.format == Format::Table {
                    let text = render_problems(&problems, screen.colour);
                    screen.write(&text)?;
                }
            }
        }
    }
    match screen.format {
        Format::Table => {}
        Format::Csv => screen.table(&table)?,
        Format::Json => screen.write(&format!("{}\n", json!({ "checked": answers })))?,
    }
    Ok(code)
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
        return Err(Failure::failed(format!("{} is there already", path.display()))
            .mend("--force writes over it, another PATH leaves it alone, - shows what would be written"));
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
        Some(id) => config.effective_for(id).ok_or_else(|| {
            Failure::configuration(format!("{} has no tenant {id:?}", main.display()))
                .mend("`usherd config check` counts them")
        })?,
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
