//! Watches the configuration files and tells when their contents have changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use toml::de::{DeTable, DeValue};

use super::settings::TenantsDir;
use super::source::{Disk, Files, MAIN_BYTES_MAX, TENANT_FILE_BYTES_MAX, hash_files};

/// How long the files must be at rest before they are looked at.
pub const SETTLE: Duration = Duration::from_millis(250);
/// Events after which they are looked at although they are not at rest.
const EVENTS_MAX: usize = 1_000;

/// The event that wakes the thread.
enum Wake {
    /// Something moved in a watched folder.
    Event,
    /// The watch is over.
    Stop,
}

/// A running watch; it ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    wake: SyncSender<Wake>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watch {
    /// Watches the folders of `usherd.toml` and of the tenant files (not the files themselves: editors,
    /// rsync and Kubernetes replace those). When the contents were at rest for `quiet_for` and are not those of
    /// `hash` any more, nor those told last, `changed` is called with the new hash, on the watch's own
    /// thread. Whether they are good is not its business: a reload says so.
    ///
    /// # Errors
    /// An error of the operating system, as when the limit on inotify watches is reached.
    pub fn start(
        main: &Path,
        hash: String,
        quiet_for: Duration,
        changed: impl FnMut(String) + Send + 'static,
    ) -> notify::Result<Watch> {
        let (wake, woken) = sync_channel(EVENTS_MAX);
        let events = wake.clone();
        let near = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = Arc::clone(&near);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.as_ref().map_or(true, |event| is_change(event, &seen.lock())) {
                // A full channel has events enough to make the thread look again.
                let _ = events.try_send(Wake::Event);
            }
        })?;
        let mut watches = Watches { watcher, watched: BTreeSet::new(), near, main: main.to_owned() };
        watches.refresh()?;
        let on_change = OnChange { hash, quiet_for, changed };
        let thread =
            std::thread::Builder::new().name("usherd-watch".to_owned()).spawn(move || run(watches, on_change, &woken));
        Ok(Watch { wake, thread: Some(thread.map_err(notify::Error::io)?) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut stop = Wake::Stop;
        while let Err(TrySendError::Full(back)) = self.wake.try_send(stop) {
            stop = back;
            std::thread::yield_now();
        }
        if let Some(thread) = self.thread.take() {
            // A panic of the callback was reported where it happened.
            let _ = thread.join();
        }
    }
}

struct OnChange<F> {
    hash: String,
    quiet_for: Duration,
    changed: F,
}

fn run<F: FnMut(String)>(mut watches: Watches, mut on_change: OnChange<F>, woken: &Receiver<Wake>) {
    // The files may have moved between the reading that gave the hash and the first watch.
    let mut look = true;
    loop {
        if look {
            if let Err(error) = watches.refresh() {
                tracing::warn!(%error, "a configuration folder cannot be watched");
            }
            let hash = contents_hash(&watches.main);
            if hash != on_change.hash {
                on_change.hash.clone_from(&hash);
                (on_change.changed)(hash);
            }
            // A folder that was replaced meanwhile may have changed before anybody watched it.
            look = watches.missed();
            continue;
        }
        match woken.recv() {
            Ok(Wake::Event) => {}
            Ok(Wake::Stop) | Err(_) => return,
        }
        if !wait_until_quiet(woken, on_change.quiet_for) {
            return;
        }
        look = true;
    }
}

/// Waits until nothing happens for a while, or enough has; `false`: the watch is over.
fn wait_until_quiet(woken: &Receiver<Wake>, quiet_for: Duration) -> bool {
    for _ in 0..EVENTS_MAX {
        match woken.recv_timeout(quiet_for) {
            Ok(Wake::Event) => {}
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
        }
    }
    true
}

/// Reading a file is an event too, also our own reading: only what may change contents matters. And of the
/// folders that only hold the configuration's folders, as /etc and /tmp may, only those folders matter.
fn is_change(event: &notify::Event, near: &BTreeSet<PathBuf>) -> bool {
    let reads = matches!(event.kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write));
    let is_near = |path: &PathBuf| near.contains(path) || path.parent().is_some_and(|dir| near.contains(dir));
    !reads && (event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(is_near))
}

/// The watched folders.
struct Watches {
    watcher: RecommendedWatcher,
    /// Each with the inode it had.
    watched: BTreeSet<(PathBuf, u64)>,
    /// Those of them whose files are the configuration.
    near: Arc<Mutex<BTreeSet<PathBuf>>>,
    main: PathBuf,
}

impl Watches {
    /// Watches what is to be watched now, all of it anew: folders come, go and are replaced, and the system
    /// forgets the watch of a folder that goes, though another comes with its name and even its inode.
    fn refresh(&mut self) -> notify::Result<()> {
        for (dir, _) in std::mem::take(&mut self.watched) {
            // It may be gone from the disk too, and its watch with it.
            let _ = self.watcher.unwatch(&dir);
        }
        let mut outcome = Ok(());
        *self.near.lock() = folders(&self.main).0;
        for (dir, inode) in wanted(&self.main) {
            if let Err(error) = self.watcher.watch(&dir, RecursiveMode::NonRecursive) {
                outcome = Err(error);
            }
            self.watched.insert((dir, inode));
        }
        outcome
    }

    /// True if other folders are to be watched than those that are.
    fn missed(&self) -> bool {
        wanted(&self.main) != self.watched
    }
}

fn wanted(main: &Path) -> BTreeSet<(PathBuf, u64)> {
    let (near, holders) = folders(main);
    near.into_iter().chain(holders).filter_map(|dir| Some((dir.clone(), inode(&dir)?))).collect()
}

fn inode(dir: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(dir).ok().map(|meta| meta.ino())
}

/// The folders whose files are the configuration: that of `usherd.toml` and that of the tenants, and where
/// they are links, those they lead to as well. And the folders that hold these, in which they are replaced.
fn folders(main: &Path) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let parent = |path: &Path| match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => PathBuf::from("."),
        Some(dir) => dir.to_owned(),
        None => PathBuf::from("/"),
    };
    let mut near = BTreeSet::from([parent(main)]);
    near.extend(tenants_dir(main));
    let mut holders: BTreeSet<PathBuf> = near.iter().map(|dir| parent(dir)).collect();
    let real_main = main.canonicalize().map(|real| parent(&real));
    let real: Vec<PathBuf> = near.iter().filter_map(|dir| dir.canonicalize().ok()).chain(real_main).collect();
    holders.extend(real.iter().map(|dir| parent(dir)));
    near.extend(real);
    (near, holders)
}

/// The tenant folder that `usherd.toml` names, as far as it can be read.
fn tenants_dir(main: &Path) -> Option<PathBuf> {
    let text = Disk.read(main, MAIN_BYTES_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let (document, _) = DeTable::parse_recoverable(&text);
    let named = match document.get_ref().get("tenants_dir").map(serde_spanned::Spanned::get_ref) {
        Some(DeValue::String(named)) => named.clone().into_owned(),
        _ => TenantsDir::default().0,
    };
    (!named.is_empty()).then(|| main.parent().unwrap_or(Path::new("")).join(named))
}

/// The hash of all contents, as [`super::Config::hash`] where they can all be read.
fn contents_hash(main: &Path) -> String {
    let mut paths = tenants_dir(main).and_then(|dir| Disk.list(&dir).ok()).unwrap_or_default();
    paths.retain(|path| path != main);
    paths.push(main.to_owned());
    paths.sort();
    let read = |path: &Path| {
        let bytes_max = if path == main { MAIN_BYTES_MAX } else { TENANT_FILE_BYTES_MAX };
        // What cannot be read has a hash too: that it became readable is a change.
        Disk.read(path, bytes_max).unwrap_or_else(|why| format!("\u{0}{why}").into_bytes())
    };
    hash_files(main, paths.iter().map(|path| (path.as_path(), read(path).into())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc::{Receiver, channel};

    use chrono::DateTime;

    use super::super::load::load_from;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn paid(seats: u32) -> String {
        format!("kind = \"paid\"\nseats = {seats}\n")
    }

    fn hash(main: &Path) -> String {
        load_from(&Disk, main, DateTime::UNIX_EPOCH).unwrap().hash
    }

    /// A watch, what it tells, and that it tells the hash of the files as they are in the end.
    struct Seen {
        _watch: Watch,
        told: Receiver<String>,
        main: PathBuf,
    }

    impl Seen {
        fn of(main: &Path) -> Seen {
            let (tell, told) = channel();
            let watch = Watch::start(main, hash(main), Duration::from_millis(20), move |hash| tell.send(hash).unwrap())
                .unwrap();
            Seen { _watch: watch, told, main: main.to_owned() }
        }

        #[track_caller]
        fn change(&self, act: impl FnOnce()) {
            let before = hash(&self.main);
            act();
            let wanted = hash(&self.main);
            assert_ne!(before, wanted, "the test changes nothing");
            loop {
                if self.told.recv_timeout(PATIENCE).expect("nothing was told") == wanted {
                    break;
                }
            }
        }
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tenants.d")).unwrap();
        fs::write(dir.path().join("usherd.toml"), "").unwrap();
        fs::write(dir.path().join("tenants.d/a.toml"), paid(1)).unwrap();
        let main = dir.path().join("usherd.toml");
        (dir, main)
    }

    #[test]
    fn a_file_written_in_place() {
        let (dir, main) = folder();
        let seen = Seen::of(&main);
        seen.change(|| fs::write(dir.path().join("tenants.d/a.toml"), paid(2)).unwrap());
        seen.change(|| fs::write(&main, "# changed\n").unwrap());
        seen.change(|| fs::write(dir.path().join("tenants.d/b.toml"), paid(2)).unwrap());
        seen.change(|| fs::remove_file(dir.path().join("tenants.d/b.toml")).unwrap());
    }

    #[test]
    fn a_file_renamed_over() {
        let (dir, main) = folder();
        let seen = Seen::of(&main);
        for (n, target) in ["tenants.d/a.toml", "usherd.toml", "tenants.d/a.toml"].iter().enumerate() {
            let text = if *target == "usherd.toml" { "# new\n".to_owned() } else { paid(10 + n as u32) };
            seen.change(|| {
                let temporary = dir.path().join(format!("{target}.tmp"));
                fs::write(&temporary, text).unwrap();
                fs::rename(temporary, dir.path().join(target)).unwrap();
            });
        }
    }

    #[test]
    fn a_mounted_config_map_swapped() {
        let dir = tempfile::tempdir().unwrap();
        let version = |n: u32| {
            let real = dir.path().join(format!("..v{n}"));
            fs::create_dir(&real).unwrap();
            fs::write(real.join("usherd.toml"), format!("tenants_dir = \"\"\n[trial]\nseats = {n}\n")).unwrap();
            symlink(format!("..v{n}"), dir.path().join("..data_tmp")).unwrap();
            fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        };
        version(1);
        symlink("..data/usherd.toml", dir.path().join("usherd.toml")).unwrap();
        let seen = Seen::of(&dir.path().join("usherd.toml"));
        for n in 2..5 {
            seen.change(|| {
                version(n);
                fs::remove_dir_all(dir.path().join(format!("..v{}", n - 1))).unwrap();
            });
        }
    }

    #[test]
    fn a_folder_replaced_and_a_link_to_a_folder_swapped() {
        let (dir, main) = folder();
        let tenants = dir.path().join("tenants.d");
        let seen = Seen::of(&main);
        for n in 2..4 {
            seen.change(|| {
                let fresh = dir.path().join("fresh");
                fs::create_dir(&fresh).unwrap();
                fs::write(fresh.join("a.toml"), paid(n)).unwrap();
                fs::rename(&tenants, dir.path().join(format!("old{n}"))).unwrap();
                fs::rename(&fresh, &tenants).unwrap();
            });
            seen.change(|| fs::write(tenants.join("a.toml"), paid(100 + n)).unwrap());
        }
        fs::remove_dir_all(&tenants).unwrap();
        for n in 5..8 {
            let real = dir.path().join(format!("real{n}"));
            let swap = || {
                fs::create_dir(&real).unwrap();
                fs::write(real.join("a.toml"), paid(n)).unwrap();
                symlink(&real, dir.path().join("link")).unwrap();
                fs::rename(dir.path().join("link"), &tenants).unwrap();
            };
            if n == 5 {
                swap()
            } else {
                seen.change(swap)
            }
            seen.change(|| fs::write(real.join("a.toml"), paid(200 + n)).unwrap());
        }
    }

    #[test]
    fn a_folder_removed_and_made_anew() {
        let (dir, main) = folder();
        let tenants = dir.path().join("tenants.d");
        let seen = Seen::of(&main);
        for n in 2..6 {
            seen.change(|| {
                fs::remove_dir_all(&tenants).unwrap();
                fs::create_dir(&tenants).unwrap();
                fs::write(tenants.join("a.toml"), paid(n)).unwrap();
            });
            seen.change(|| fs::write(tenants.join("a.toml"), paid(100 + n)).unwrap());
        }
    }

    #[test]
    fn what_changes_no_content_is_not_told() {
        let (dir, main) = folder();
        let seen = Seen::of(&main);
        fs::write(dir.path().join("tenants.d/README"), "x").unwrap();
        fs::write(dir.path().join("tenants.d/.a.toml.swp"), "x").unwrap();
        fs::write(dir.path().join("tenants.d/a.toml"), paid(1)).unwrap();
        seen.change(|| fs::write(&main, "# last\n").unwrap());
        assert!(seen.told.try_recv().is_err());
    }
}
