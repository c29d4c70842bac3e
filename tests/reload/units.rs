//! Each tenant file is a unit of its own: what is bad or away concerns its tenant alone.

use std::path::{Path, PathBuf};

use usherd::daemon::config::{
    Attempt, Before, Config, Disk, Files, Memory, ProblemCode, Rejection, Removals, Running, load_after, load_for_boot,
    load_from, problems_of, store,
};

use super::{MAIN, now, reloaded, tenant_path};

fn paid(seats: u32) -> String {
    format!("kind = \"paid\"\nstart = \"2026-01-01\"\nseats = {seats}\n")
}

/// A configuration in memory with tenants by id.
fn memory(main: &str, tenants: &[(&str, &str)]) -> Memory {
    let mut files = Memory::default();
    files.put(MAIN, main);
    tenants.iter().for_each(|(id, text)| files.put(tenant_path(id), text));
    files
}

fn running(files: &Memory) -> Running {
    Running::new(load_from(files, Path::new(MAIN), now()).unwrap())
}

fn asked() -> Attempt {
    Attempt::asked(now(), false)
}

fn seen(uptime_ms: u64) -> Attempt {
    Attempt { uptime_ms, removals: Removals::Delayed, ..asked() }
}

fn seats(config: &Config) -> Vec<(&str, Option<u32>)> {
    config.tenants.iter().map(|(id, tenant)| (id.as_str(), tenant.record.seats)).collect()
}

/// Why a reload is rejected as a whole.
#[track_caller]
fn refused(running: &Running, files: &dyn Files, attempt: &Attempt, held: Option<u32>) -> Vec<ProblemCode> {
    let before = running.get();
    let rejection = reloaded(running, files, attempt, |_| held).unwrap_err();
    assert_eq!(before.hash, running.get().hash);
    rejection.problems().iter().map(|problem| problem.code).collect()
}

#[test]
fn one_bad_file_of_five_thousand_stops_no_other_t175() {
    let mut files = memory("", &[]);
    let id = |n: usize| format!("t{n:04}");
    (0..5_000).for_each(|n| files.put(tenant_path(&id(n)), paid(5)));
    let running = running(&files);
    let hash = running.get().hash.clone();
    files.put(tenant_path("t0007"), "seats = -1\n");
    let reload = reloaded(&running, &files, &asked(), |_| Some(2)).unwrap();
    assert!(reload.unchanged && reload.is_news && running.get().hash == hash, "the hash tells what is in force");
    files.put(tenant_path("t0001"), paid(6));
    let reload = reloaded(&running, &files, &asked(), |_| Some(2)).unwrap();
    let after = running.get();
    assert_eq!((reload.unchanged, reload.diff.changed.len(), after.tenants.len()), (false, 1, 5_000));
    assert_eq!(after.tenants["t0001"].record.seats, Some(6));
    assert_eq!(after.tenants["t0007"].record.seats, Some(5));
    let [file] = after.rejected.as_slice() else { panic!("{:?}", after.rejected) };
    assert_eq!((file.tenant.as_str(), file.kept, file.file.ends_with("t0007.toml")), ("t0007", true, true));
    assert_eq!(file.problems.len(), 2, "all that is wrong is told");
    assert!(!reload.is_news, "the same is not told again");
    assert!(reloaded(&running, &files, &asked(), |_| None).unwrap().unchanged);
    files.put(tenant_path("t0007"), paid(9));
    assert!(reloaded(&running, &files, &asked(), |_| None).unwrap().is_news);
    assert!(running.get().rejected.is_empty() && running.get().tenants["t0007"].record.seats == Some(9));
}

#[test]
fn strict_makes_the_folder_one_unit_again() {
    let mut files = memory("strict = true\n", &[("a", &paid(5)), ("b", &paid(5))]);
    let running = running(&files);
    files.put(tenant_path("a"), "seats = -1\n");
    files.put(tenant_path("b"), paid(6));
    assert_eq!(refused(&running, &files, &asked(), None), [ProblemCode::Missing, ProblemCode::OutOfRange]);
    // The key itself is taken at once.
    files.put(MAIN, "strict = false\n");
    reloaded(&running, &files, &asked(), |_| None).unwrap();
    assert_eq!(seats(&running.get()), [("a", Some(5)), ("b", Some(6))]);
}

#[test]
fn what_can_be_bad_of_a_file_is_bad_of_its_tenant_alone() {
    let pool = "[[pool]]\nid = \"p\"\nseats = 30\n";
    let tenants = [("a", paid(5)), ("b", paid(5)), ("c", paid(5) + "pool = \"p\"\n")];
    let tenants: Vec<(&str, &str)> = tenants.iter().map(|(id, text)| (*id, text.as_str())).collect();
    let bad: &[(&str, &[u8])] = &[
        ("syntax", b"seats = "),
        ("emptied", b""),
        ("cut", b"kind = \"paid\"\nsta"),
        ("unknown key", b"kind = \"paid\"\nseats = 6\nx = 1\n"),
        ("no UTF-8", b"kind = \"paid\"\nseats = 6\nname = \"\xff\"\n"),
        ("another id", b"id = \"c\"\nkind = \"paid\"\nseats = 6\n"),
        ("reserved", b"kind = \"paid\"\nseats = 6\n[reserve]\nx = 7\n"),
        ("no such pool", b"kind = \"paid\"\nseats = 6\npool = \"q\"\n"),
        ("pool too small", b"kind = \"paid\"\nseats = 26\npool = \"p\"\n"),
        ("too many seats", b"kind = \"paid\"\nseats = 1000001\n"),
        ("not ascending", b"kind = \"paid\"\nseats = 6\nchange = [{effective_at = 2027-02-01, seats = 1}, {effective_at = 2027-01-01, seats = 1}]\n"),
        ("too large", &[b'#'; 300 << 10]),
    ];
    for (what, bytes) in bad {
        let mut files = memory(pool, &tenants);
        let running = running(&files);
        files.put(tenant_path("a"), bytes);
        files.put(tenant_path("b"), paid(6));
        files.put(tenant_path("new"), bytes);
        let result = reloaded(&running, &files, &asked(), |_| Some(1));
        result.unwrap_or_else(|rejection| panic!("{what}: {rejection}"));
        let after = running.get();
        assert_eq!(seats(&after), [("a", Some(5)), ("b", Some(6)), ("c", Some(5))], "{what}");
        let told: Vec<_> = after.rejected.iter().map(|file| (file.tenant.as_str(), file.kept)).collect();
        assert_eq!(told, [("a", true), ("new", false)], "{what}");
        // A start reads the same of the disk and of what is kept.
        let again = load_after(&files, Path::new(MAIN), now(), &Before::texts(&after.contents)).unwrap();
        assert_eq!((again.hash.as_str(), again.rejected.len()), (after.hash.as_str(), 2), "{what}");
    }
}

#[test]
fn what_cannot_be_read_keeps_its_tenant_over_a_restart_too() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let (main, tenants) = (dir.path().join("usherd.toml"), dir.path().join("tenants.d"));
    std::fs::create_dir(&tenants).unwrap();
    std::fs::write(&main, "[server]\nstate_dir = \"state\"\n").unwrap();
    let ids = ["directory", "fifo", "loop", "nowhere", "socket", "good"];
    ids.iter().for_each(|id| std::fs::write(tenants.join(format!("{id}.toml")), paid(5)).unwrap());
    let first = load_from(&Disk, &main, now()).unwrap();
    store(&dir.path().join("state"), &first).unwrap();
    ids.iter().for_each(|id| std::fs::remove_file(tenants.join(format!("{id}.toml"))).unwrap());
    let path = |id: &str| tenants.join(format!("{id}.toml"));
    std::fs::create_dir(path("directory")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap();
    assert!(made.success());
    symlink("loop.toml", path("loop")).unwrap();
    symlink("there-is-no-such-file", path("nowhere")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    std::fs::write(path("good"), paid(6)).unwrap();
    let running = Running::new(first);
    reloaded(&running, &Disk, &asked(), |_| Some(1)).unwrap();
    let boot = load_for_boot(&Disk, &main, None, now()).unwrap();
    assert!(boot.problems.is_empty(), "{:?}", boot.problems);
    for config in [&*running.get(), &boot.config] {
        assert_eq!(config.rejected.len(), 5, "{:?}", config.rejected);
        assert!(config.rejected.iter().all(|file| file.kept && file.problems[0].code == ProblemCode::Unreadable));
        let of = |id: &str| config.tenants[id].record.seats;
        assert_eq!((config.tenants.len(), of("loop"), of("good")), (6, Some(5), Some(6)));
    }
    // Without what was kept there is nothing to fall back to, and the others are served.
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    let boot = load_for_boot(&Disk, &main, None, now()).unwrap();
    assert_eq!(seats(&boot.config), [("good", Some(6))]);
}

#[test]
fn of_two_tenants_with_one_id_the_file_of_the_daemon_wins() {
    let inline = "[[tenant]]\nid = \"a\"\nkind = \"paid\"\nseats = 3\n";
    let mut files = memory(inline, &[("b", &paid(5))]);
    let with_inline = running(&files);
    files.put(tenant_path("a"), paid(4));
    files.put(tenant_path("b"), paid(6));
    reloaded(&with_inline, &files, &asked(), |_| None).unwrap();
    assert_eq!(seats(&with_inline.get()), [("a", Some(3)), ("b", Some(6))]);
    assert_eq!(problems_of(&with_inline.get().rejected)[0].code, ProblemCode::DuplicateTenant);
    // In force as a file, it does not become another by a line in usherd.toml: that is the file that is wrong then.
    let mut files = memory("", &[("a", &paid(4))]);
    let with_file = running(&files);
    files.put(MAIN, inline);
    assert!(refused(&with_file, &files, &asked(), None).contains(&ProblemCode::DuplicateTenant));
    // Nor goes a tenant of usherd.toml because its file, which takes its place, is bad.
    let files = memory(inline, &[]);
    let moved = running(&files);
    let main = "[trial]\nseats = 1\n";
    assert!(!refused(&moved, &memory(main, &[("a", "seats = 3")]), &asked(), None).is_empty());
    reloaded(&moved, &memory(main, &[("a", &paid(3))]), &asked(), |_| None).unwrap();
}

#[test]
fn a_pool_takes_what_fits_and_refuses_the_file_beyond_it() {
    let pool = |seats: u32| format!("[[pool]]\nid = \"p\"\nseats = {seats}\n");
    let of = |seats: u32| paid(seats) + "pool = \"p\"\n";
    let fleet = |main: &str, a: u32, b: u32, c: u32| memory(main, &[("a", &of(a)), ("b", &of(b)), ("c", &of(c))]);
    let run = |old: &Memory, new: &Memory| {
        let running = running(old);
        reloaded(&running, new, &asked(), |_| None).map(|_| {
            let config = running.get();
            let told: Vec<String> = config.rejected.iter().map(|file| file.tenant.clone()).collect();
            (config.tenants.values().map(|tenant| tenant.record.seats.unwrap()).collect::<Vec<_>>(), told.join(" "))
        })
    };
    let start = fleet(&pool(15), 5, 5, 5);
    for (a, b, c, seats, told) in [
        (6, 5, 5, [5, 5, 5], "a"),
        // Seats that one gives go to the other, in whatever order the files come.
        (9, 5, 1, [9, 5, 1], ""),
        (1, 5, 9, [1, 5, 9], ""),
        // Each raise that still fits is taken.
        (6, 90, 3, [6, 5, 3], "b"),
        (90, 7, 3, [5, 7, 3], "a"),
        (90, 90, 1, [5, 5, 1], "a b"),
    ] {
        let (after, rejected) = run(&start, &fleet(&pool(15), a, b, c)).unwrap();
        assert_eq!((after.as_slice(), rejected.as_str()), (&seats[..], told), "{a} {b} {c}");
    }
    // A pool that became smaller is a matter of usherd.toml, unless the tenants became smaller with it.
    assert!(matches!(run(&start, &fleet(&pool(14), 5, 5, 5)), Err(Rejection::Invalid { .. })));
    assert_eq!(run(&start, &fleet(&pool(12), 5, 90, 2)).unwrap(), (vec![5, 5, 2], "b".to_owned()));
    // Who is refused in one pool falls back into the one that it came from.
    let two = pool(10) + "[[pool]]\nid = \"q\"\nseats = 4\n";
    let old = memory(&two, &[("a", &of(5)), ("b", &of(5))]);
    let new = memory(&two, &[("a", &(paid(5) + "pool = \"q\"\n")), ("b", &of(9))]);
    assert_eq!(run(&old, &new).unwrap(), (vec![5, 5], "a b".to_owned()));
}

#[test]
fn a_file_that_is_away_for_a_moment_ends_nothing_t186() {
    let all = memory("", &[("a", &paid(5)), ("b", &paid(5))]);
    let mut without = all.clone();
    without.0.remove(&tenant_path("a"));
    let running = running(&all);
    let away = |uptime_ms: u64, files: &Memory| {
        reloaded(&running, files, &seen(uptime_ms), |_| Some(3)).unwrap();
        (running.get().tenants.len(), running.get().away.len(), running.is_removal_due(uptime_ms))
    };
    assert_eq!(away(1_000, &without), (2, 1, false));
    assert!(!running.is_removal_due(30_999) && running.is_removal_due(31_000));
    assert_eq!(away(20_000, &without), (2, 1, false), "another change does not begin the time anew");
    assert_eq!(away(21_000, &all), (2, 0, false), "back, nothing has happened");
    assert!(!running.is_removal_due(1_000_000));
    assert_eq!(away(40_000, &without), (2, 1, false), "a new absence has a time of its own");
    // Meanwhile others change, and the file that is away comes back as another.
    let mut changed = without.clone();
    changed.put(tenant_path("b"), paid(6));
    assert_eq!(away(41_000, &changed), (2, 1, false));
    assert_eq!(seats(&running.get()), [("a", Some(5)), ("b", Some(6))]);
    assert_eq!(away(70_000, &changed), (1, 0, false), "after the delay it goes, though seats are held");
}

#[test]
fn a_removal_by_request_lets_unused_tenants_go_at_once() {
    let all = memory("", &[("a", &paid(5)), ("b", &paid(5))]);
    let without = memory("", &[("b", &paid(5))]);
    let run = |attempt: Attempt, held: u32| {
        let running = running(&all);
        let outcome = reloaded(&running, &without, &attempt, |_| Some(held));
        outcome.map(|_| running.get().tenants.len()).map_err(|rejection| rejection.problems()[0].code)
    };
    assert_eq!(run(asked(), 0), Ok(1));
    assert_eq!(run(asked(), 3), Err(ProblemCode::InUse));
    assert_eq!(run(Attempt { force: true, ..asked() }, 3), Ok(1));
    let by_signal = Attempt { removals: Removals::DelayedInUse, ..asked() };
    assert_eq!((run(by_signal, 0), run(by_signal, 3)), (Ok(1), Ok(2)), "a signal cannot be asked back");
    // A plan says the same as the reload.
    let running = running(&all);
    assert!(running.candidate(&without, &asked(), |_| Some(1)).unwrap_err().is_forceable());
    reloaded(&running, &without, &seen(0), |_| Some(1)).unwrap();
    reloaded(&running, &without, &asked(), |_| Some(0)).unwrap();
    assert_eq!((running.get().tenants.len(), running.is_removal_due(u64::MAX)), (1, false));
}

#[test]
fn a_cut_main_file_drops_its_tenants_after_the_delay_only() {
    let inline = "[trial]\nseats = 9\n[[tenant]]\nid = \"a\"\nkind = \"paid\"\nseats = 3\n";
    let running = running(&memory(inline, &[("b", &paid(5))]));
    let cut = memory("[trial]\nseats = 9\n", &[("b", &paid(6))]);
    reloaded(&running, &cut, &seen(0), |_| Some(1)).unwrap();
    assert_eq!(seats(&running.get()), [("a", Some(3)), ("b", Some(6))], "the others are taken meanwhile");
    assert_eq!(running.get().away, [PathBuf::from(MAIN)]);
    reloaded(&running, &cut, &seen(30_000), |_| Some(1)).unwrap();
    assert_eq!(seats(&running.get()), [("b", Some(6))]);
}

#[test]
fn a_folder_that_lost_many_files_needs_force_and_blocks_none() {
    let ids: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    let mut files = memory("", &[]);
    ids.iter().for_each(|id| files.put(tenant_path(id), paid(5)));
    let running = running(&files);
    ids.iter().take(6).for_each(|id| drop(files.0.remove(&tenant_path(id))));
    reloaded(&running, &files, &seen(0), |_| None).unwrap();
    assert_eq!(refused(&running, &files, &seen(30_000), None), [ProblemCode::Shrinks]);
    assert!(!running.is_removal_due(60_000), "what was refused is not tried again and again");
    files.put(tenant_path("t9"), paid(6));
    reloaded(&running, &files, &seen(61_000), |_| None).unwrap();
    assert_eq!((running.get().tenants.len(), running.get().tenants["t9"].record.seats), (10, Some(6)));
    reloaded(&running, &files, &Attempt { force: true, ..asked() }, |_| Some(1)).unwrap();
    assert_eq!(running.get().tenants.len(), 4);
}

#[test]
fn the_default_tenant_stays_though_its_file_is_away() {
    let main = "default_tenant = \"a\"\n";
    let running = running(&memory(main, &[("a", &paid(5)), ("b", &paid(5))]));
    reloaded(&running, &memory(main, &[("b", &paid(6))]), &asked(), |_| Some(0)).unwrap();
    assert_eq!(seats(&running.get()), [("a", Some(5)), ("b", Some(6))]);
    assert!(running.get().rejected[0].problems[0].message.contains("default_tenant"));
    reloaded(&running, &memory("default_tenant = \"\"\n", &[("b", &paid(6))]), &asked(), |_| Some(0)).unwrap();
    assert_eq!(running.get().tenants.len(), 1);
}

#[test]
fn a_main_file_that_breaks_a_good_tenant_is_at_fault() {
    let pool = "[[pool]]\nid = \"p\"\nseats = 30\n";
    let pooled = paid(5) + "pool = \"p\"\n";
    let mut files = memory(pool, &[("a", &pooled), ("b", &paid(5))]);
    let running = running(&files);
    files.put(MAIN, "[trial]\nseats = 1\n");
    assert_eq!(refused(&running, &files, &asked(), None), [ProblemCode::UnknownName]);
}

#[test]
fn what_opens_the_daemon_is_done_by_force_only_t188() {
    let token = format!("[[auth.tokens]]\nid = \"n\"\nrole = \"node\"\nsha256 = \"{}\"\n", "a".repeat(64));
    let main = format!("[server]\nworkers = 1\n{token}");
    let tenants = [("a", paid(5))];
    let tenants: Vec<(&str, &str)> = tenants.iter().map(|(id, text)| (*id, text.as_str())).collect();
    let running = running(&memory(&main, &tenants));
    for (text, code) in [
        ("", ProblemCode::Emptied),
        ("\n# nothing left\n", ProblemCode::Emptied),
        ("[server]\nworkers = 1\n", ProblemCode::Opens),
    ] {
        for attempt in [asked(), seen(0), Attempt { removals: Removals::DelayedInUse, ..asked() }] {
            assert_eq!(refused(&running, &memory(text, &tenants), &attempt, None), [code], "{text:?}");
        }
    }
    let forced = Attempt { force: true, ..asked() };
    reloaded(&running, &memory("[server]\nworkers = 1\n", &tenants), &forced, |_| None).unwrap();
    assert!(running.get().settings.auth.tokens.is_empty());
}

#[test]
fn a_start_takes_no_main_file_that_was_emptied_or_cut_t188() {
    let dir = tempfile::tempdir().unwrap();
    let (main, state) = (dir.path().join("usherd.toml"), dir.path().join("state"));
    std::fs::create_dir(dir.path().join("tenants.d")).unwrap();
    std::fs::write(dir.path().join("tenants.d/a.toml"), paid(5)).unwrap();
    let token = format!("[[auth.tokens]]\nid = \"n\"\nrole = \"node\"\nsha256 = \"{}\"\n", "a".repeat(64));
    let text = format!("[server]\nworkers = 1\n{token}");
    std::fs::write(&main, &text).unwrap();
    let boot = || load_for_boot(&Disk, &main, None, now()).unwrap();
    store(&state, &boot().config).unwrap();
    for (cut, code) in [("", ProblemCode::Emptied), (&text[..20], ProblemCode::Opens)] {
        std::fs::write(&main, cut).unwrap();
        let boot = boot();
        assert_eq!(boot.config.settings.auth.tokens.len(), 1, "the last good one holds");
        assert_eq!(boot.problems[0].code, code);
        assert_eq!(boot.config.tenants.len(), 1);
    }
    // What was forced is the last good one then.
    store(&state, &load_from(&Disk, &main, now()).unwrap()).unwrap();
    assert!(boot().problems.is_empty() && boot().config.settings.auth.tokens.is_empty());
}

#[test]
fn a_file_that_vanished_during_a_stop_stays_for_the_delay() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("usherd.toml");
    std::fs::create_dir(dir.path().join("tenants.d")).unwrap();
    std::fs::write(&main, "").unwrap();
    for id in ["a", "b"] {
        std::fs::write(dir.path().join(format!("tenants.d/{id}.toml")), paid(5)).unwrap();
    }
    store(&dir.path().join("state"), &load_from(&Disk, &main, now()).unwrap()).unwrap();
    std::fs::remove_file(dir.path().join("tenants.d/a.toml")).unwrap();
    let boot = load_for_boot(&Disk, &main, None, now()).unwrap();
    assert_eq!((boot.config.tenants.len(), boot.config.away.len(), boot.problems.len()), (2, 1, 0));
    let running = Running::new(boot.config);
    running.away_since(500);
    assert!(!running.is_removal_due(30_499) && running.is_removal_due(30_500));
    reloaded(&running, &Disk, &seen(30_500), |_| Some(1)).unwrap();
    assert_eq!((running.get().tenants.len(), running.is_removal_due(u64::MAX)), (1, false));
}

/// A folder with these files, of which the daemon has started once.
fn started(main: &str, tenants: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usherd.toml");
    std::fs::create_dir(dir.path().join("tenants.d")).unwrap();
    std::fs::write(&path, main).unwrap();
    tenants
        .iter()
        .for_each(|(id, text)| std::fs::write(dir.path().join(format!("tenants.d/{id}.toml")), text).unwrap());
    store(&dir.path().join("state"), &load_from(&Disk, &path, now()).unwrap()).unwrap();
    (dir, path)
}

#[test]
fn a_start_with_a_past_clock_refuses_nothing_in_force() {
    let pool = "[[pool]]\nid = \"p\"\nseats = 60\n";
    let a = "kind = \"paid\"\nstart = \"2024-01-01\"\nseats = 50\npool = \"p\"\n\
             [[change]]\neffective_at = 2025-06-01\nseats = 10\n";
    let b = paid(50) + "pool = \"p\"\n";
    let (dir, main) = started(pool, &[("a", a), ("b", &b)]);
    let past = "2020-01-01T00:00:00Z".parse().unwrap();
    let boot = || load_for_boot(&Disk, &main, None, past).unwrap();
    assert_eq!((seats(&boot().config), boot().problems.len()), (vec![("a", Some(50)), ("b", Some(50))], 0));
    // Nor where usherd.toml is another, and even where it is bad.
    for more in ["[server]\nworkers = 1\n", "= broken"] {
        std::fs::write(&main, format!("{pool}{more}")).unwrap();
        assert_eq!(seats(&boot().config), [("a", Some(50)), ("b", Some(50))], "{more}");
    }
    // What is new takes only what there is.
    std::fs::write(&main, pool).unwrap();
    std::fs::write(dir.path().join("tenants.d/c.toml"), paid(5) + "pool = \"p\"\n").unwrap();
    assert_eq!(seats(&boot().config), [("a", Some(50)), ("b", Some(50))]);
    assert_eq!(boot().config.rejected.len(), 1);
}

#[test]
fn pulled_records_stay_without_a_bundle_until_one_is_taken() {
    let sync = format!(
        "[sync]\nurl = \"https://portal.example/x\"\ninstallation = \"i\"\npublic_keys = {{ k = \"{}\" }}\n",
        "a1".repeat(32)
    );
    let pulled = |id: &str| PathBuf::from(format!("/etc/usherd/sync:{id}.toml"));
    let mut files = memory(&sync, &[("file", &paid(5))]);
    ["a", "b"].iter().for_each(|id| files.put(pulled(id), paid(7)));
    let running = Running::new(load_from(&files, Path::new(MAIN), now()).unwrap().confirmed(now()));
    // The folder of what is held is lost: the files alone are left, and one of them is saved.
    ["a", "b"].iter().for_each(|id| drop(files.0.remove(&pulled(id))));
    for (seats_of_file, attempt) in [(6, seen(0)), (7, asked()), (8, seen(90_000))] {
        files.put(tenant_path("file"), paid(seats_of_file));
        reloaded(&running, &files, &attempt, |_| Some(1)).unwrap();
        let config = running.get();
        assert_eq!(seats(&config), [("a", Some(7)), ("b", Some(7)), ("file", Some(seats_of_file))]);
        assert_eq!(config.tenants["a"].record.synced_at, Some(now()), "as old as it was");
    }
    // A bundle that is held says what is in force, and without `[sync]` nothing is pulled.
    files.put(pulled("a"), paid(9));
    reloaded(&running, &files, &asked(), |_| None).unwrap();
    assert_eq!(seats(&running.get()), [("a", Some(9)), ("file", Some(8))]);
    files.put(MAIN, "");
    files.0.remove(&pulled("a"));
    reloaded(&running, &files, &Attempt { force: true, ..asked() }, |_| None).unwrap();
    assert_eq!(seats(&running.get()), [("file", Some(8))]);
}

#[test]
fn a_bad_file_does_not_replace_a_tenant_of_another_file() {
    let inline = "[server]\nworkers = 1\n[[tenant]]\nid = \"x\"\nkind = \"paid\"\nseats = 3\n";
    let (dir, main) = started(inline, &[("a", &paid(5))]);
    std::fs::write(&main, "[server]\nworkers = 1\n").unwrap();
    std::fs::write(dir.path().join("tenants.d/x.toml"), "kind = \"paid\"\nseat = 3\n").unwrap();
    let boot = load_for_boot(&Disk, &main, None, now()).unwrap();
    assert_eq!(seats(&boot.config), [("a", Some(5)), ("x", Some(3))]);
    assert!(boot.problems.iter().any(|problem| problem.file.ends_with("x.toml")), "{:?}", boot.problems);
    std::fs::write(dir.path().join("tenants.d/x.toml"), paid(4)).unwrap();
    let boot = load_for_boot(&Disk, &main, None, now()).unwrap();
    assert_eq!((seats(&boot.config), boot.problems.len()), (vec![("a", Some(5)), ("x", Some(4))], 0));
}

#[test]
fn an_emptied_main_file_is_rejected_though_tenants_stay_t188() {
    let token = format!("[[auth.tokens]]\nid = \"n\"\nrole = \"node\"\nsha256 = \"{}\"\n", "a".repeat(64));
    let main = format!("{token}[[tenant]]\nid = \"x\"\nkind = \"paid\"\nseats = 3\n");
    let running = running(&memory(&main, &[]));
    for (text, code) in [("", ProblemCode::Emptied), ("[server]\nworkers = 1\n", ProblemCode::Opens)] {
        assert_eq!(refused(&running, &memory(text, &[]), &seen(0), Some(1)), [code], "{text:?}");
    }
}

#[test]
fn only_tenants_that_left_the_main_file_wait() {
    let x =
        "[[tenant]]\nid = \"x\"\nkind = \"paid\"\nseats = 3\n[[tenant.change]]\neffective_at = 2027-01-01\nseats = 4\n";
    let y = "[[tenant]]\nid = \"y\"\nkind = \"paid\"\nseats = 2\n";
    let pool = "[[pool]]\nid = \"p\"\nseats = 30\n";
    let running = running(&memory(&format!("{x}{y}"), &[("a", &paid(5))]));
    let pooled = paid(6) + "pool = \"p\"\n";
    let after = memory(&format!("{pool}{y}"), &[("a", &pooled)]);
    reloaded(&running, &after, &seen(0), |_| Some(1)).unwrap();
    let config = running.get();
    assert!(config.rejected.is_empty(), "{:?}", config.rejected);
    assert_eq!(seats(&config), [("a", Some(6)), ("x", Some(3)), ("y", Some(2))]);
    assert_eq!((config.tenants["x"].record.changes.len(), config.away.as_slice()), (1, &[PathBuf::from(MAIN)][..]));
    assert!(config.effective_for("x").is_some(), "people are told of it as of any other");
    reloaded(&running, &after, &seen(20_000), |_| Some(1)).unwrap();
    assert_eq!(running.get().hash, config.hash, "another look changes nothing");
    reloaded(&running, &after, &seen(30_000), |_| Some(1)).unwrap();
    assert_eq!(seats(&running.get()), [("a", Some(6)), ("y", Some(2))]);
    // Where what left does not fit into what came, all of the file waits.
    let inline = format!("{pool}{x}").replace("id = \"x\"\n", "id = \"x\"\npool = \"p\"\n");
    let running = self::running(&memory(&inline, &[("a", &paid(5))]));
    let without = memory("[trial]\nseats = 1\n", &[("a", &paid(5))]);
    reloaded(&running, &without, &seen(0), |_| Some(1)).unwrap();
    assert_eq!(seats(&running.get()), [("a", Some(5)), ("x", Some(3))]);
    reloaded(&running, &without, &seen(30_000), |_| Some(1)).unwrap();
    assert_eq!(seats(&running.get()), [("a", Some(5))]);
}

#[test]
fn a_folder_that_empties_file_by_file_is_one_loss_t187() {
    let ids: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    let mut files = memory("", &[]);
    ids.iter().for_each(|id| files.put(tenant_path(id), paid(5)));
    let running = running(&files);
    for (n, id) in ids.iter().take(6).enumerate() {
        files.0.remove(&tenant_path(id));
        reloaded(&running, &files, &seen(n as u64 * 2_000), |_| None).unwrap();
    }
    assert!(running.is_removal_due(30_000));
    assert_eq!(refused(&running, &files, &seen(30_000), None), [ProblemCode::Shrinks]);
    // Nobody else is held up by those that are away.
    files.put(tenant_path("t9"), paid(6));
    reloaded(&running, &files, &seen(31_000), |_| None).unwrap();
    assert_eq!((running.get().tenants.len(), running.get().tenants["t9"].record.seats), (10, Some(6)));
    // Few are let go as they fall due.
    let mut files = memory("", &[]);
    ids.iter().for_each(|id| files.put(tenant_path(id), paid(5)));
    let running = self::running(&files);
    for (n, id) in ids.iter().take(4).enumerate() {
        files.0.remove(&tenant_path(id));
        reloaded(&running, &files, &seen(n as u64 * 2_000), |_| None).unwrap();
    }
    reloaded(&running, &files, &seen(30_000), |_| None).unwrap();
    assert_eq!((running.get().tenants.len(), running.get().away.len()), (9, 3));
}
