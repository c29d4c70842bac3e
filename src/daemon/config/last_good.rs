//! Keeps the files of the last good configuration, and starts with them when the present ones are bad (I21).

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use super::accounts::Accounts;
use super::before::Before;
use super::guards::openings;
use super::load::{Config, load_after, load_from};
use super::problem::Problem;
use super::replace::replace_file;
use super::settings::state_dir;
use super::source::{Contents, Disk, Files, MAIN_BYTES_MAX, Memory, STORED_BUNDLE, is_synced, pulled_of};

/// The folder in the state directory.
pub const FOLDER: &str = "last-good";
/// The file in that folder: all texts in one, so that one rename replaces all of them at once.
const FILE: &str = "config.json";
const FORMAT: u32 = 1;
/// Largest file that is read back, in bytes.
const BYTES_MAX: usize = 1 << 30;

/// A configuration to start with.
#[derive(Debug)]
pub struct Boot {
    /// It.
    pub config: Config,
    /// Why it is not the one that the files say but the last good one, or what was pulled is missing in it;
    /// empty where all is there.
    pub problems: Vec<Problem>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    hash: String,
    main: String,
    files: BTreeMap<String, String>,
}

/// Stores the files of a good configuration in the state directory, all or nothing: a temporary file is
/// written, synced and renamed over the one before. Does nothing where the same is stored already.
///
/// # Errors
/// An error of the file system; the one stored before is then still there. Paths that are not UTF-8 are refused.
pub fn store(state: &Path, config: &Config) -> std::io::Result<()> {
    if read_back(state).is_ok_and(|stored| stored.hash() == config.hash) {
        return Ok(());
    }
    let base = config.main().parent().unwrap_or(Path::new(""));
    let name = |path: &Path| {
        let name = path.strip_prefix(base).unwrap_or(path).to_str().map(str::to_owned);
        name.ok_or_else(|| std::io::Error::other(format!("{} is not UTF-8", path.display())))
    };
    let mut files = BTreeMap::new();
    for (path, bytes) in &config.contents.files {
        files.insert(name(path)?, String::from_utf8_lossy(bytes).into_owned());
    }
    let stored = Stored { format: FORMAT, hash: config.hash.clone(), main: name(config.main())?, files };
    replace_file(&state.join(FOLDER), FILE, &serde_json::to_vec(&stored)?)
}

/// The last good configuration, as if its files stood where `main` is.
///
/// # Errors
/// Why there is none: nothing stored, damaged, of another format, or no longer good by today's rules.
pub fn recall(state: &Path, main: &Path, now: DateTime<Utc>) -> Result<Config, Vec<Problem>> {
    let contents = recall_texts(state, main).map_err(|problem| vec![*problem])?;
    load_from(&Memory(contents.files), main, now)
}

/// The texts of the last good configuration, as if they stood where `main` is.
///
/// # Errors
/// Why there are none: nothing stored, damaged, or of another format.
pub fn recall_texts(state: &Path, main: &Path) -> Result<Contents, Box<Problem>> {
    let stored = read_back(state)?;
    let base = main.parent().unwrap_or(Path::new(""));
    let place = |path: PathBuf| if path == stored.main { main.to_owned() } else { base.join(path) };
    let files = stored.files.into_iter().map(|(path, bytes)| (place(path), bytes)).collect();
    Ok(Contents { main: main.to_owned(), files })
}

/// The stored configuration, with paths relative to the folder of `usherd.toml`.
fn read_back(state: &Path) -> Result<Contents, Box<Problem>> {
    let path = state.join(FOLDER).join(FILE);
    let problem = |why: String| Box::new(Problem::of_file(path.display().to_string(), why).note());
    let bytes =
        Disk.read(&path, BYTES_MAX).map_err(|why| problem(format!("there is no last good configuration: it {why}")))?;
    let stored: Stored = serde_json::from_slice(&bytes)
        .map_err(|error| problem(format!("the last good configuration is damaged: {error}")))?;
    if stored.format != FORMAT {
        return Err(problem(format!("the last good configuration has format {}, not {FORMAT}", stored.format)));
    }
    let files = stored.files.into_iter().map(|(path, text)| (PathBuf::from(path), Arc::from(text.into_bytes())));
    let contents = Contents { main: stored.main.into(), files: files.collect() };
    if contents.hash() != stored.hash {
        return Err(problem("the last good configuration is damaged: hash mismatch".to_owned()));
    }
    Ok(contents)
}

/// Reads the configuration for a start, from the disk or what adds to it: the files, or where `usherd.toml` is bad the
/// last good one (I21). A tenant file that is bad, or was taken away meanwhile, leaves its tenant the record of the
/// last good one. Nobody is there to force anything: a second trial (J3) is a fault like any other, and a file that
/// became empty or opens what was closed is not taken (rule book 11). `from_systemd` is `$STATE_DIRECTORY`.
///
/// # Errors
/// Where there is neither: the problems of the files, and notes why there is no last good configuration at the end.
pub fn load_for_boot(
    files: &dyn Files,
    main: &Path,
    from_systemd: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Boot, Vec<Problem>> {
    let states = state_dirs(main, from_systemd);
    let accounts = states.iter().find_map(|state| Accounts::read(state).ok().flatten()).unwrap_or_default();
    let kept: Vec<_> = states.iter().map(|state| recall_texts(state, main)).collect();
    let nothing = Contents::default();
    let texts = kept.iter().find_map(|kept| kept.as_ref().ok()).unwrap_or(&nothing);
    let others = OnceCell::new();
    let before = Before {
        stays: &|_, _| true,
        elsewhere: &|id| others.get_or_init(|| elsewhere(texts)).contains(id),
        objection: &|tenant| accounts.second_trial(tenant),
        ..Before::texts(texts)
    };
    let last_good = || load_after(&Memory(texts.files.clone()), main, now, &Before::texts(texts));
    let mut problems = match load_after(files, main, now, &before) {
        Ok(config) if has_lost_records(&config, texts) => {
            let message = "the records that were pulled are lost; those of the last good configuration hold meanwhile";
            vec![Problem::of_file(STORED_BUNDLE, message).help("the next pull fetches them again")]
        }
        Ok(config) => {
            let is_another = texts.files.get(main).is_some_and(|text| config.contents.files.get(main) != Some(text));
            let opened = is_another.then(|| last_good().map(|old| openings(&old, &config)).unwrap_or_default());
            match opened.filter(|opened| !opened.is_empty()) {
                None => return Ok(Boot { config, problems: Vec::new() }),
                Some(opened) => opened,
            }
        }
        Err(problems) => problems,
    };
    let mut why = match last_good() {
        Ok(config) => return Ok(Boot { config, problems }),
        Err(why) => why,
    };
    // Damage to what was pulled is no fault of the files: the next pull fixes it, but only in a running daemon.
    if problems.iter().any(|problem| problem.file == STORED_BUNDLE)
        && let Ok(config) = load_after(&Disk, main, now, &before)
    {
        return Ok(Boot { config, problems });
    }
    if texts.files.is_empty() {
        why = absence(kept.into_iter().filter_map(Result::err).map(|why| *why).collect());
    }
    problems.extend(why.into_iter().map(Problem::note));
    Err(problems)
}

/// The tenants of these texts that no tenant file brought: those of `usherd.toml`, and those that were pulled.
fn elsewhere(texts: &Contents) -> BTreeSet<String> {
    let main = texts.files.get(&texts.main).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let main: toml::Table = main.and_then(|text| text.parse().ok()).unwrap_or_default();
    let inline = main.get("tenant").and_then(toml::Value::as_array).into_iter().flatten();
    let inline = inline.filter_map(|tenant| Some(tenant.get("id")?.as_str()?.to_owned()));
    inline.chain(pulled_of(&texts.files, &texts.main, None).texts.into_keys()).collect()
}

/// True if records were pulled and in force, and nothing of them is held any more.
fn has_lost_records(config: &Config, last: &Contents) -> bool {
    let had = || last.files.keys().any(|path| is_synced(&last.main, path));
    config.settings.sync.is_on() && !config.tenants.values().any(|tenant| tenant.is_synced()) && had()
}

/// Why there is nothing to fall back to: once, however many places were looked at.
fn absence(why: Vec<Problem>) -> Vec<Problem> {
    let (none, mut others): (Vec<_>, Vec<_>) = why.into_iter().partition(|why| why.message.contains("does not exist"));
    let help = "with a first start nothing is there yet: the files must be valid";
    let places: Vec<&str> = none.iter().map(|why| why.file.as_str()).collect();
    if let (true, Some(first)) = (others.is_empty(), none.first()) {
        let mut note = first.clone().help(help);
        note.message = format!("there is no last good configuration yet, as it would be in {}", places.join(" or "));
        others.push(note);
    }
    others
}

/// Where the last good configuration may be: where a bad file still says it is, else where it is by default.
pub fn state_dirs(main: &Path, from_systemd: Option<&str>) -> Vec<PathBuf> {
    let text = Disk.read(main, MAIN_BYTES_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let (document, _) = DeTable::parse_recoverable(&text);
    let configured = document
        .get_ref()
        .get("server")
        .and_then(|server| server.get_ref().get("state_dir"))
        .and_then(|value| if let DeValue::String(text) = value.get_ref() { Some(text.as_ref()) } else { None });
    let mut dirs = vec![state_dir("", from_systemd, main)];
    if let Some(configured) = configured.filter(|configured| !configured.is_empty()) {
        dirs.insert(0, state_dir(configured, from_systemd, main));
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::super::tests::now;
    use super::*;

    const PAID: &str = "kind = \"paid\"\nseats = 10\n";

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tenants.d")).unwrap();
        std::fs::write(dir.path().join("usherd.toml"), "[server]\nstate_dir = \"kept\"\n").unwrap();
        std::fs::write(dir.path().join("tenants.d/a.toml"), PAID).unwrap();
        let main = dir.path().join("usherd.toml");
        (dir, main)
    }

    fn boot(main: &Path) -> Result<Boot, Vec<Problem>> {
        load_for_boot(&Disk, main, None, now())
    }

    #[test]
    fn bad_files_at_the_start_fall_back_to_the_last_good_ones_i21() {
        let (dir, main) = folder();
        let good = boot(&main).unwrap();
        assert!(good.problems.is_empty());
        let state = good.config.state_dir(None);
        assert_eq!(state, dir.path().join("kept"));
        store(&state, &good.config).unwrap();
        std::fs::write(dir.path().join("tenants.d/a.toml"), "seats = -1").unwrap();
        let fallen = boot(&main).unwrap();
        assert_eq!(fallen.config.hash, good.config.hash);
        assert_eq!(fallen.config.tenants["a"].record.seats, Some(10));
        assert!(fallen.problems.is_empty(), "it is a matter of the tenant alone");
        assert!(fallen.config.rejected[0].problems.iter().any(|problem| problem.key_path == "seats"));
        std::fs::write(&main, "[server]\nstate_dir = \"kept\"\n\n= broken").unwrap();
        assert_eq!(boot(&main).unwrap().config.hash, good.config.hash);
        std::fs::remove_file(dir.path().join("tenants.d/a.toml")).unwrap();
        std::fs::write(&main, "").unwrap();
        assert!(boot(&main).unwrap().config.tenants.is_empty(), "nobody knows any more where the last good one is");
    }

    #[test]
    fn without_a_last_good_one_both_reasons_are_given_once() {
        let (dir, main) = folder();
        std::fs::write(&main, "[server]\nstate_dir = \"kept\"\nx = 1\n").unwrap();
        for from_systemd in [None, Some("/nowhere/at/all")] {
            let problems = load_for_boot(&Disk, &main, from_systemd, now()).unwrap_err();
            assert_eq!(problems.len(), 2, "{problems:?}");
            let note = problems.last().unwrap();
            assert!(note.message.contains("there is no last good configuration yet"), "{note}");
            assert_eq!(note.severity, super::super::Severity::Note);
            assert!(super::super::render_problems(&problems, false).contains("1 error found"));
        }
        // One that is damaged is told, wherever it is; that another place has none is no news then.
        std::fs::create_dir_all(dir.path().join("kept").join(FOLDER)).unwrap();
        std::fs::write(dir.path().join("kept").join(FOLDER).join(FILE), "{").unwrap();
        let problems = boot(&main).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[1].message.contains("is damaged"), "{}", problems[1]);
    }

    #[test]
    fn a_damaged_or_foreign_one_is_not_used() {
        let (dir, main) = folder();
        let config = boot(&main).unwrap().config;
        let state = dir.path().join("kept");
        store(&state, &config).unwrap();
        let path = state.join(FOLDER).join(FILE);
        let stored = std::fs::read_to_string(&path).unwrap();
        let cases = [
            ("\"format\":1", "\"format\":2", "has format 2, not 1"),
            ("seats = 10", "seats = 99", "hash mismatch"),
            ("\"hash\"", "\"hush\"", "is damaged"),
        ];
        for (from, to, why) in cases {
            std::fs::write(&path, stored.replace(from, to)).unwrap();
            let problems = recall(&state, &main, now()).unwrap_err();
            assert!(problems[0].message.contains(why), "{}", problems[0]);
        }
        std::fs::write(&path, &stored).unwrap();
        assert_eq!(recall(&state, &main, now()).unwrap().hash, config.hash);
        let other = dir.path().join("other.toml");
        std::fs::write(&other, "[server]\nstate_dir = \"kept\"\nx = 1\n").unwrap();
        let moved = boot(&other).unwrap().config;
        assert_eq!((moved.main(), moved.tenants.len()), (other.as_path(), 1));
    }

    #[test]
    fn storing_replaces_and_leaves_nothing_behind() {
        let (dir, main) = folder();
        let state = dir.path().join("kept");
        for seats in [10, 11, 11] {
            let text = format!("kind = \"paid\"\nseats = {seats}\n");
            std::fs::write(dir.path().join("tenants.d/a.toml"), text).unwrap();
            store(&state, &boot(&main).unwrap().config).unwrap();
            assert_eq!(recall(&state, &main, now()).unwrap().tenants["a"].record.seats, Some(seats));
            assert_eq!(std::fs::read_dir(state.join(FOLDER)).unwrap().count(), 1);
        }
        let blocked = dir.path().join("usherd.toml/below");
        assert!(store(&blocked, &boot(&main).unwrap().config).is_err());
    }
}
