//! Where configuration texts come from: the disk, memory in tests, and what is pulled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use usherd_contract::file::{self, DOES_NOT_EXIST, Unread};

use super::settings::Settings;

/// Largest `usherd.toml`, in bytes.
pub const MAIN_BYTES_MAX: usize = 4 << 20;
/// Largest tenant file, in bytes.
pub const TENANT_FILE_BYTES_MAX: usize = 256 << 10;
/// Most bytes of all files together.
pub const CONTENTS_BYTES_MAX: usize = 512 << 20;
/// Most files that are named as skipped.
pub(crate) const SKIPPED_MAX: usize = 100;
/// Most directory entries that are looked at.
const ENTRIES_MAX: usize = 1_000_000;

/// The files from which a configuration is read.
pub trait Files {
    /// The bytes of a file.
    ///
    /// # Errors
    /// A sentence part that says why not ("does not exist", "is larger than 256 KiB").
    fn read(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String>;

    /// The tenant files of a directory, sorted: everything called `*.toml`, no dot files (so none of the `..data`
    /// entries of a mounted ConfigMap either). What of it is no regular file is told by reading it.
    ///
    /// # Errors
    /// A sentence part that says why not.
    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, String>;

    /// The files of a directory that no tenant is read from because of their names, sorted and at most
    /// `SKIPPED_MAX`; dot files and copies that an editor leaves (`~`) aside.
    fn skipped(&self, _dir: &Path) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Tenant files that were pulled, beside those of the directory; asked only where `sync.url` is set.
    /// `main` is the path of `usherd.toml`; `None` where nothing is held, which is not the same as an empty bundle.
    ///
    /// # Errors
    /// A sentence that says why what was pulled cannot be used.
    fn synced(&self, _settings: &Settings, _main: &Path) -> Result<Option<Synced>, String> {
        Ok(None)
    }
}

/// The name in problems of the bundle that an earlier run has stored.
pub(crate) const STORED_BUNDLE: &str = "sync/bundle";

/// Tenant files that were pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Tenant ids and the texts of their files.
    pub texts: BTreeMap<String, Arc<str>>,
    /// When the publisher last confirmed them (J7); `None` where that is not known.
    pub confirmed_at: Option<DateTime<Utc>>,
}

/// Begins the names of pulled files. No tenant file can be called so: an id has no colon.
const SYNCED: &str = "sync:";

/// The path of a pulled file among the others: beside `usherd.toml`, where no such file is.
pub(crate) fn synced_path(main: &Path, id: &str) -> PathBuf {
    main.parent().unwrap_or(Path::new("")).join(format!("{SYNCED}{id}.toml"))
}

/// True if a path is that of a pulled file.
pub(crate) fn is_synced(main: &Path, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    path.parent() == main.parent() && name.is_some_and(|name| name.starts_with(SYNCED))
}

/// The files among others that were pulled.
pub(crate) fn pulled_of(
    files: &BTreeMap<PathBuf, Arc<[u8]>>,
    main: &Path,
    confirmed_at: Option<DateTime<Utc>>,
) -> Synced {
    let pulled = files.iter().filter(|(path, _)| is_synced(main, path));
    let texts = pulled.filter_map(|(path, bytes)| {
        let id = path.file_stem()?.to_str()?.strip_prefix(SYNCED)?;
        Some((id.to_owned(), Arc::from(String::from_utf8_lossy(bytes).as_ref())))
    });
    Synced { texts: texts.collect(), confirmed_at }
}

/// A path as people are shown it: of a pulled file only its name, since there is no such file.
pub(crate) fn shown(main: &Path, path: &Path) -> PathBuf {
    if is_synced(main, path) { path.file_name().map_or_else(PathBuf::new, PathBuf::from) } else { path.to_owned() }
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
        file::read(path, bytes_max).map_err(|why| why.to_string())
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, String> {
        let mut found = Vec::new();
        for (seen, entry) in std::fs::read_dir(dir).map_err(why)?.enumerate() {
            if seen >= ENTRIES_MAX {
                return Err(format!("has more than {ENTRIES_MAX} entries"));
            }
            let path = entry.map_err(why)?.path();
            if is_tenant_file(&path) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    fn skipped(&self, dir: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().take(ENTRIES_MAX);
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        named_otherwise(paths.filter(|path| is_named_otherwise(path) && path.is_file()))
    }
}

/// Files in memory, for tests and for the last good configuration.
#[derive(Clone, Debug, Default)]
pub struct Memory(pub BTreeMap<PathBuf, Arc<[u8]>>);

impl Memory {
    /// Adds or replaces a file.
    pub fn put(&mut self, path: impl Into<PathBuf>, bytes: impl AsRef<[u8]>) {
        self.0.insert(path.into(), Arc::from(bytes.as_ref()));
    }
}

impl Files for Memory {
    fn read(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
        match self.0.get(path) {
            Some(bytes) if bytes.len() > bytes_max => Err(Unread::TooLarge(bytes_max).to_string()),
            Some(bytes) => Ok(bytes.to_vec()),
            None => Err(DOES_NOT_EXIST.to_owned()),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(self.0.keys().filter(|path| path.parent() == Some(dir) && is_tenant_file(path)).cloned().collect())
    }

    fn skipped(&self, dir: &Path) -> Vec<PathBuf> {
        let paths = self.0.keys().filter(|path| path.parent() == Some(dir) && is_named_otherwise(path));
        named_otherwise(paths.cloned())
    }

    fn synced(&self, _settings: &Settings, main: &Path) -> Result<Option<Synced>, String> {
        Ok(Some(pulled_of(&self.0, main, None)).filter(|pulled| !pulled.texts.is_empty()))
    }
}

/// Files of which one is as it would be.
pub(crate) struct Overlay<'a> {
    pub(crate) files: &'a dyn Files,
    pub(crate) path: &'a Path,
    pub(crate) text: &'a [u8],
}

impl Files for Overlay<'_> {
    fn read(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
        if path != self.path {
            return self.files.read(path, bytes_max);
        }
        if self.text.len() > bytes_max {
            return Err(format!("would be larger than {} KiB", bytes_max >> 10));
        }
        Ok(self.text.to_vec())
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, String> {
        self.files.list(dir)
    }

    fn skipped(&self, dir: &Path) -> Vec<PathBuf> {
        self.files.skipped(dir)
    }

    fn synced(&self, settings: &Settings, main: &Path) -> Result<Option<Synced>, String> {
        self.files.synced(settings, main)
    }
}

/// True if a directory entry is named like a tenant file.
pub(crate) fn is_tenant_file(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_none_or(|name| !name.starts_with('.'))
        && path.extension().is_some_and(|extension| extension == "toml")
}

/// True if a directory entry is named like a file that somebody put there, and not like a tenant file. A file that
/// explains the folder, as the README of the package does, is at home in it.
fn is_named_otherwise(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let explains = matches!(name.as_str(), "README" | "README.md" | "README.txt");
    !is_tenant_file(path) && !name.starts_with('.') && !name.ends_with('~') && !explains
}

fn named_otherwise(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort();
    paths.truncate(SKIPPED_MAX);
    paths
}

fn why(error: std::io::Error) -> String {
    Unread::Failed(error).to_string()
}

/// All bytes of a configuration, as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// `usherd.toml`.
    pub main: PathBuf,
    /// Every file that belongs to it, `usherd.toml` included.
    pub files: BTreeMap<PathBuf, Arc<[u8]>>,
}

impl Contents {
    /// SHA-256 over names and contents of all files, in hexadecimal. Names count relative to the folder of
    /// `usherd.toml`, so that the same configuration in another place has the same hash.
    pub fn hash(&self) -> String {
        hash_files(&self.main, self.files.iter().map(|(path, bytes)| (path.as_path(), Arc::clone(bytes))))
    }

    /// As [`Contents::hash`], over the files on the disk alone, without what was pulled.
    pub fn hash_on_disk(&self) -> String {
        let on_disk = self.files.iter().filter(|(path, _)| !is_synced(&self.main, path));
        hash_files(&self.main, on_disk.map(|(path, bytes)| (path.as_path(), Arc::clone(bytes))))
    }
}

/// As [`Contents::hash`], over files that come one by one, sorted by path.
pub(crate) fn hash_files<'a>(main: &Path, files: impl Iterator<Item = (&'a Path, Arc<[u8]>)>) -> String {
    let base = main.parent().unwrap_or(Path::new(""));
    let mut hasher = Sha256::new();
    for (path, bytes) in files {
        let name = path.strip_prefix(base).unwrap_or(path).as_os_str().as_encoded_bytes();
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
