//! Thousands of broken configurations against a running one: `usherd.toml` is applied as a whole or not at all, and so
//! is each tenant file.
//!
//! `USHERD_SEED=n` replays a run, `USHERD_ROUNDS=n` makes it longer.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on fails; a seed must be seen"
)]

#[path = "reload/units.rs"]
mod units;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use fastrand::Rng;
use usherd::daemon::config::{
    Attempt, Before, Candidate, Config, Disk, Files, INIT, Memory, Rejection, Running, load_after, load_from,
};

const MAIN: &str = "/etc/usherd/usherd.toml";
const TENANTS: &[(&str, &str)] = &[
    ("office-lindenhof", include_str!("../config/tenants.d/office-lindenhof.toml")),
    ("hotel-seeblick", include_str!("../config/tenants.d/hotel-seeblick.toml")),
    ("trial-nordlicht", include_str!("../config/tenants.d/trial-nordlicht.toml")),
    ("gatehouse-inbound", include_str!("../config/tenants.d/gatehouse-inbound.toml")),
];
const VALUES: &[&str] = &[
    "-1",
    "1.5",
    "\"\"",
    "\"x\"",
    "true",
    "[]",
    "{}",
    "[1]",
    "1000001",
    "0",
    "1",
    "7",
    "16",
    "99999999999999999999999",
    "\"Europe/Berlim\"",
    "\"2027-02-30\"",
    "2027-02-30",
    "\"2027-06-15T22:00:00Z\"",
    "\"scheduled\"",
    "\"free\"",
    "\"0.0.0.0:7788\"",
    "\"storefront\"",
    "inf",
    "nan",
    "\"\"\"",
    "'",
    "\"a\\u0000b\"",
    "[[[[",
    "\"hotel-seeblick\"",
    "\"provider\"",
    "[\"lift\", \"door\"]",
    "[\"lift\", 3]",
    "0x10",
    "1_000",
    "2027-01-01",
    "12:00:00",
];
const LINES: &[&str] = &[
    "[server]",
    "[polcy]",
    "[[change]]",
    "[[addon]]",
    "[[tenant]]",
    "[[pool]]",
    "[reserve]",
    "[sessions]",
    "desk = 999999",
    "unlimited = true",
    "suspended = true",
    "pool = \"provider\"",
    "cancel_at = \"2027-01-01\"",
    "x = 1",
    "=",
    "\u{0}",
    "seats = 3",
    "[auth]",
    "[[auth.tokens]]",
    "[[listener]]",
    "listen = \"0.0.0.0:1\"",
    "\u{feff}",
    "\"\u{1f600}\" = 1",
    "effective_at = \"2027-01-01T00:00:00Z\"",
    "default_tenant = \"hotel-seeblick\"",
    "a.b.c = 1",
    "# only a comment",
];

fn now() -> DateTime<Utc> {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn tenant_path(id: &str) -> PathBuf {
    PathBuf::from(format!("/etc/usherd/tenants.d/{id}.toml"))
}

/// The shipped files; `examples` switches on what stands in comments.
fn shipped(examples: bool) -> Memory {
    let example = |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c == '[' || c.is_alphabetic());
    // Of the examples that exclude each other the pool is taken, and the cluster is left out.
    let mut is_cluster = false;
    let mut shown = |line: &'static str| {
        is_cluster = line == "#[cluster]" || (is_cluster && !line.starts_with("# --"));
        if examples && example(line) && !is_cluster { &line[1..] } else { line }
    };
    let main: Vec<&str> = INIT.lines().map(&mut shown).collect();
    let mut files = Memory::default();
    files.put(MAIN, main.join("\n") + "\n");
    for (id, text) in TENANTS {
        files.put(tenant_path(id), text);
    }
    files
}

fn lines_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// A line whose value is another.
fn with_value(line: &[u8], value: &str) -> Vec<u8> {
    let key = line.split(|byte| *byte == b'=').next().unwrap_or_default();
    [key, b"= ", value.as_bytes()].concat()
}

fn mutate_bytes(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut lines = lines_of(bytes);
    let at = rng.usize(0..lines.len());
    let assignments: Vec<usize> =
        (0..lines.len()).filter(|n| !lines[*n].starts_with(b"#") && lines[*n].contains(&b'=')).collect();
    let assigned = rng.choice(assignments).unwrap_or(at);
    match rng.u8(0..9) {
        0 => drop(lines.remove(assigned)),
        1 => lines.insert(at, lines[assigned].clone()),
        2 => lines.swap(at, assigned),
        3 | 4 => lines[assigned] = with_value(&lines[assigned], rng.choice(VALUES).unwrap()),
        5 => lines.insert(at, rng.choice(LINES).unwrap().as_bytes().to_vec()),
        6 => {
            let mut bytes = bytes.to_vec();
            for _ in 0..rng.usize(1..4) {
                if !bytes.is_empty() {
                    let at = rng.usize(0..bytes.len());
                    bytes[at] ^= 1 << rng.u8(0..8);
                }
            }
            return bytes;
        }
        7 => return bytes[..rng.usize(0..=bytes.len())].to_vec(),
        _ => {
            let line = &mut lines[assigned];
            let at = rng.usize(0..=line.len());
            line.insert(at, rng.u8(..));
        }
    }
    lines.join(&b'\n')
}

fn mutate(rng: &mut Rng, files: &mut Memory) {
    let paths: Vec<PathBuf> = files.0.keys().cloned().collect();
    let path = rng.choice(&paths).unwrap().clone();
    let bytes = Arc::clone(&files.0[&path]);
    match rng.u8(0..20) {
        0 => {
            let other = rng.choice(&paths).unwrap();
            let swapped = files.0.insert(other.clone(), bytes).unwrap();
            files.0.insert(path, swapped);
        }
        1 => drop(files.0.remove(&path)),
        2 => files.put(tenant_path(rng.choice(["new", "Bad Name", "..data", "a"]).unwrap()), &bytes),
        _ => files.put(path, mutate_bytes(rng, &bytes)),
    }
}

/// The state that the holder must show: everything that is in force, as text.
fn picture(config: &Config) -> String {
    format!("{} {:?} {:?} {:?}", config.hash, config.settings, config.tenants, config.plan(now()).tenants)
}

fn text_of(files: &Memory, path: &Path) -> Option<Vec<u8>> {
    files.0.get(path).map(|bytes| bytes.to_vec())
}

/// An accepted configuration says what another reader of TOML finds in the files, but for those that are not taken:
/// their tenants have the text that was in force, or are none.
fn agrees_with_the_files(config: &Config, files: &Memory, before: &Config) {
    let mut seen = 0;
    let rejected: BTreeSet<&str> = config.rejected.iter().map(|file| file.file.as_str()).collect();
    for (path, bytes) in &files.0 {
        let is_main = path == Path::new(MAIN);
        let hidden = path.file_name().unwrap().to_str().unwrap().starts_with('.');
        if !is_main && (hidden || config.settings.tenants_dir.0 != "tenants.d") {
            continue;
        }
        if rejected.contains(path.to_str().unwrap()) {
            let (kept, known) = (config.contents.files.get(path), before.contents.files.get(path));
            assert_eq!(kept, known, "{}: neither what it was nor nothing", path.display());
            seen += usize::from(known.is_some());
            continue;
        }
        assert_eq!(config.contents.files.get(path), Some(bytes), "{}: not as it stands there", path.display());
        let table: toml::Table = toml::from_str(std::str::from_utf8(bytes).unwrap()).unwrap();
        let tenants: Vec<(Option<String>, toml::Table)> = if is_main {
            let inline = table.get("tenant").and_then(toml::Value::as_array).cloned().unwrap_or_default();
            inline.into_iter().map(|value| (None, value.as_table().unwrap().clone())).collect()
        } else {
            vec![(Some(path.file_stem().unwrap().to_str().unwrap().to_owned()), table)]
        };
        for (stem, table) in tenants {
            let id = table.get("id").and_then(toml::Value::as_str).map(str::to_owned).or(stem).unwrap();
            let tenant = &config.tenants[id.as_str()];
            if let Some(seats) = table.get("seats").and_then(toml::Value::as_integer) {
                assert_eq!(tenant.record.seats.map(i64::from), Some(seats), "{id}");
            }
            let change = table.get("change").and_then(toml::Value::as_array).map_or(0, Vec::len);
            assert_eq!(tenant.record.changes.len(), change, "{id}");
            seen += 1;
        }
    }
    // The tenant that unknown ones draw from stays though its file is away.
    let away = config.rejected.iter().filter(|file| file.kept && !files.0.contains_key(Path::new(&file.file))).count();
    assert_eq!(config.tenants.len(), seen + away);
}

/// `usherd.toml` alone, where it is good alone.
fn main_alone(files: &Memory) -> Option<(Memory, Config)> {
    let mut alone = Memory::default();
    alone.put(MAIN, text_of(files, Path::new(MAIN))?);
    let config = load_from(&alone, Path::new(MAIN), now()).ok()?;
    Some((alone, config))
}

/// True if a text is good beside a `usherd.toml` that is good alone.
fn is_good_alone(main: &Memory, path: &Path, text: &[u8]) -> bool {
    let mut alone = main.clone();
    alone.put(path, text);
    load_from(&alone, Path::new(MAIN), now()).is_ok_and(|config| config.rejected.is_empty())
}

/// Files that are rejected are bad by themselves: none is rejected for another one. A pool, which they share, aside.
fn rejected_by_themselves(config: &Config, files: &Memory) {
    if !config.settings.pools.is_empty() || config.settings.default_tenant.is_some() {
        return;
    }
    let rejected: BTreeSet<&str> = config.rejected.iter().map(|file| file.file.as_str()).collect();
    let Some((main, _)) = main_alone(files).filter(|_| config.settings.tenants_dir.0 == "tenants.d") else { return };
    for path in files.list(Path::new("/etc/usherd/tenants.d")).unwrap() {
        let is_good = is_good_alone(&main, &path, &files.0[&path]);
        assert_ne!(rejected.contains(path.to_str().unwrap()), is_good, "{}", path.display());
    }
}

/// The whole is rejected only for `usherd.toml`: it is bad alone, or with the record that some tenant had.
fn rejected_for_the_main_file(files: &Memory, before: &Config, rejection: &Rejection) {
    let Some((main, config)) = main_alone(files) else { return };
    let is_shared = !config.settings.pools.is_empty() || config.settings.default_tenant.is_some();
    let mut known = before.contents.files.iter().filter(|(path, _)| *path != Path::new(MAIN));
    let is_broken = known.any(|(path, text)| !is_good_alone(&main, path, text));
    // A tenant of usherd.toml is not displaced by a bad file.
    let was_inline = before.tenants.values().any(|tenant| tenant.source == MAIN);
    assert!(is_shared || is_broken || was_inline || config.settings.strict, "for a tenant file alone: {rejection}");
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[derive(Default, Debug)]
struct Counts {
    applied: u64,
    partly: u64,
    unchanged: u64,
    invalid: u64,
    shrinks: u64,
    by_force: u64,
}

/// Every reason has its place and its words.
fn says_why(rejection: &Rejection) {
    assert!(!rejection.problems().is_empty(), "no reason: {rejection}");
    for problem in rejection.problems() {
        assert!(!problem.file.is_empty() && problem.line >= 1 && problem.column >= 1, "{problem:?}");
        assert!(!problem.message.is_empty());
    }
    assert!(rejection.to_string().contains("error"), "{rejection}");
    serde_json::to_string(rejection).unwrap();
}

/// A reload as the daemon makes it, with what is in force from then on. A daemon takes up what is not unchanged.
fn reloaded(
    running: &Running,
    files: &dyn Files,
    attempt: &Attempt,
    occupancy: impl Fn(&str) -> Option<u32>,
) -> Result<Candidate, Rejection> {
    let lock = running.lock();
    match running.candidate(files, attempt, occupancy) {
        Ok(candidate) => Ok(Candidate { config: lock.put_in_force(&candidate, attempt), ..candidate }),
        Err(rejection) => {
            lock.reject(attempt);
            Err(rejection)
        }
    }
}

#[test]
fn a_mutated_configuration_is_applied_by_units_or_not_at_all() {
    let (seed, rounds) = (number("USHERD_SEED", 20_261_122), number("USHERD_ROUNDS", 12_000));
    println!("USHERD_SEED={seed} USHERD_ROUNDS={rounds}");
    let mut rng = Rng::with_seed(seed);
    let running = Running::new(load_from(&shipped(false), Path::new(MAIN), now()).unwrap());
    let mut counts = Counts::default();
    let mut files = shipped(false);
    for round in 0..rounds {
        if rng.u8(0..4) > 0 {
            files = shipped(rng.bool());
        }
        for _ in 0..rng.usize(1..=2) {
            if files.0.is_empty() {
                break;
            }
            mutate(&mut rng, &mut files);
        }
        let before = running.get();
        let shown = picture(&before);
        let (force, held) = (rng.bool(), rng.choice([None, Some(0), Some(3)]).unwrap());
        let outcome = reloaded(&running, &files, &Attempt::asked(now(), force), |_| held);
        let after = running.get();
        match outcome {
            Ok(reload) => {
                let is_inline = |id: &str| before.tenants.get(id).is_some_and(|tenant| tenant.source == MAIN);
                let basis = Before { elsewhere: &is_inline, ..Before::texts(&before.contents) };
                let alone = load_after(&files, Path::new(MAIN), now(), &basis).unwrap();
                assert!(Arc::ptr_eq(&reload.config, &after), "round {round}");
                assert_eq!(picture(&after), picture(&alone), "round {round}: more or less than the files say");
                assert_eq!(after.rejected, alone.rejected, "round {round}");
                agrees_with_the_files(&after, &files, &before);
                rejected_by_themselves(&after, &files);
                counts.partly += u64::from(!after.rejected.is_empty());
                if reload.unchanged {
                    counts.unchanged += 1;
                    assert_eq!(before.hash, after.hash, "round {round}");
                    assert_eq!(reload.is_news, before.rejected != after.rejected, "round {round}");
                } else {
                    counts.applied += 1;
                    assert_ne!(before.hash, after.hash, "round {round}");
                    assert!(!reload.diff.render().is_empty());
                }
            }
            Err(rejection) => {
                match &rejection {
                    Rejection::Invalid { .. } => {
                        counts.invalid += 1;
                        rejected_for_the_main_file(&files, &before, &rejection);
                    }
                    Rejection::Shrinks { .. } => counts.shrinks += 1,
                    Rejection::NeedsForce { .. } => counts.by_force += 1,
                    Rejection::NotKept { .. } => panic!("nothing is kept here: {rejection}"),
                }
                assert!(!(force && rejection.is_forceable()), "round {round}");
                assert!(Arc::ptr_eq(&before, &after), "round {round}");
                assert_eq!(shown, picture(&after));
                says_why(&rejection);
            }
        }
    }
    println!("{counts:?}");
    // Of a hundred: 43, 50, 20, 26 and 11; a few fewer with another seed or other shipped files.
    let Counts { applied, partly, unchanged, invalid, by_force, .. } = counts;
    let kinds = [(applied, 38), (partly, 44), (unchanged, 16), (invalid, 22), (by_force, 8)];
    let is_mixed = kinds.iter().all(|(count, percent)| count * 100 > rounds * percent);
    assert!(is_mixed, "the mutations are too tame or too wild: {counts:?}");
}

#[test]
fn readers_see_one_configuration_or_the_other_while_reloads_run() {
    let version = |seats: u32| {
        let mut files = Memory::default();
        files.put(MAIN, format!("[trial]\nseats = {seats}\n"));
        for id in ["a", "b", "c"] {
            files.put(tenant_path(id), format!("kind = \"paid\"\nseats = {seats}\n"));
        }
        files
    };
    let running = Running::new(load_from(&version(1), Path::new(MAIN), now()).unwrap());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0u64;
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                let config = running.get();
                let seats = config.settings.trial.seats;
                assert!(config.tenants.values().all(|tenant| tenant.record.seats == Some(seats)));
                seen += 1;
            }
            seen
        });
        for n in 0..500 {
            let files = version(1 + n % 50);
            reloaded(&running, &files, &Attempt::asked(now(), true), |_| None).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        assert!(reader.join().unwrap() > 0);
    });
}

#[test]
fn a_dry_run_changes_nothing_and_says_the_same() {
    let running = Running::new(load_from(&shipped(false), Path::new(MAIN), now()).unwrap());
    let mut files = shipped(false);
    let text = TENANTS[0].1.replace("seats = 16", "seats = 12");
    files.put(tenant_path("office-lindenhof"), text);
    let before = running.get();
    let occupancy = |id: &str| (id == "office-lindenhof").then_some(14);
    let planned = running.candidate(&files, &Attempt::asked(now(), false), occupancy).unwrap();
    assert!(Arc::ptr_eq(&before, &running.get()));
    assert_eq!(planned.diff.changed[0].consequences, ["2 seats over until people leave; nobody is cut"]);
    let done = reloaded(&running, &files, &Attempt::asked(now(), false), occupancy).unwrap();
    assert_eq!(planned.diff, done.diff);
    assert_eq!(running.get().tenants["office-lindenhof"].record.seats, Some(12));
}

#[test]
fn a_truncated_copy_needs_force() {
    let mut files = shipped(false);
    (0..8).for_each(|n| files.put(tenant_path(&format!("more-{n}")), "kind = \"nfr\"\nseats = 9\n"));
    let running = Running::new(load_from(&files, Path::new(MAIN), now()).unwrap());
    (0..5).for_each(|n| drop(files.0.remove(&tenant_path(&format!("more-{n}")))));
    let rejection = reloaded(&running, &files, &Attempt::asked(now(), false), |_| None).unwrap_err();
    assert!(matches!(&rejection, Rejection::Shrinks { shrink, .. } if shrink.tenants_dropped == 5));
    assert_eq!(rejection.problems()[0].code, usherd::daemon::config::ProblemCode::Shrinks);
    assert_eq!(running.get().tenants.len(), 12);
    reloaded(&running, &files, &Attempt::asked(now(), true), |_| None).unwrap();
    assert_eq!(running.get().tenants.len(), 7);
}

#[test]
fn the_shipped_folder_loads_from_the_disk_as_from_memory() {
    let main = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/usherd.toml");
    let from_disk = load_from(&Disk, &main, now()).unwrap();
    let from_memory = load_from(&shipped(false), Path::new(MAIN), now()).unwrap();
    assert_eq!(from_disk.hash, from_memory.hash);
    assert_eq!(Disk.list(&main.with_file_name("tenants.d")).unwrap().len(), TENANTS.len());
}
