//! The few things that a journal asks of a disk, and the folder that gives them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustix::fs::{FlockOperation, flock};

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name in the folder.
    pub name: String,
    /// Its length, in bytes.
    pub bytes: u64,
}

/// One folder of append-only files. Every call is one thing that a disk can do or fail to do, so that a
/// simulated one can fail each of them.
pub trait Storage: Send + Sync + 'static {
    /// An open file; clones are the same file.
    type File: Clone + Send + Sync + 'static;
    /// Holds the folder for as long as it lives.
    type Lock: Send + Sync + 'static;

    /// Takes the folder for this process.
    ///
    /// # Errors
    /// `WouldBlock` where another one has it.
    fn lock(&self) -> io::Result<Self::Lock>;
    /// Makes a new file.
    ///
    /// # Errors
    /// Where there is one of that name, or the disk fails.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file that is there, to append and to sync.
    ///
    /// # Errors
    /// Of the disk.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// One write at the end; returns how many bytes were taken.
    ///
    /// # Errors
    /// Of the disk.
    fn append(&self, file: &Self::File, bytes: &[u8]) -> io::Result<usize>;
    /// Returns once everything appended survives power loss.
    ///
    /// # Errors
    /// Of the disk; what was appended since the last success may be lost then.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// The first `bytes_max` bytes of a file.
    ///
    /// # Errors
    /// Of the disk.
    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>>;
    /// Gives a file another name, in place of what has that name.
    ///
    /// # Errors
    /// Of the disk.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// Of the disk.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// All files, in no order.
    ///
    /// # Errors
    /// Of the disk.
    fn list(&self) -> io::Result<Vec<Listed>>;
    /// True if this file is still what a start would find under its name.
    fn is_there(&self, _name: &str, _file: &Self::File) -> bool {
        true
    }
    /// Leaves a word for the next start, in place of the one before; it takes no room that it has not.
    ///
    /// # Errors
    /// Of the disk.
    fn note(&self, _word: &str) -> io::Result<()> {
        Ok(())
    }
    /// The word that was left last, where it can be read.
    fn noted(&self) -> Option<String> {
        None
    }
    /// Returns once names made, changed and removed survive power loss.
    ///
    /// # Errors
    /// Of the disk.
    fn sync_dir(&self) -> io::Result<()>;
}

/// Where a word for the next start is left.
const NOTE_FILE: &str = "note";
/// Its length, whatever it says: then replacing it takes no room.
const NOTE_BYTES: usize = 128;
const LOCK_FILE: &str = "lock";

/// A folder of the file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    held: RwLock<Held>,
}

#[derive(Debug)]
struct Held {
    /// `None` where the folder is not there, and cannot be made at present.
    handle: Option<File>,
    /// Of a folder that took the place of one that was removed.
    _lock: Option<File>,
}

impl Folder {
    /// Opens the folder, and makes it where it is missing, with those above it: closed to other users of the machine,
    /// because it says who called whom. On a disk that is full or read-only it is taken for an empty one in which
    /// nothing can be made.
    ///
    /// # Errors
    /// Of the file system.
    pub fn at(path: &Path) -> io::Result<Self> {
        let handle = match made(path) {
            Err(error) if is_closed(&error) && error.kind() != ErrorKind::PermissionDenied => None,
            handle => Some(handle?),
        };
        Ok(Folder { path: path.to_owned(), held: RwLock::new(Held { handle, _lock: None }) })
    }

    fn make(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().append(true).create_new(true).open(self.path.join(name))
    }

    /// Makes the folder anew where somebody removed it, or it could not be made before, and takes it for this process.
    fn renew(&self) -> io::Result<()> {
        let handle = made(&self.path)?;
        let lock = locked(&self.path, &handle)?;
        *self.held.write() = Held { handle: Some(handle), _lock: Some(lock) };
        Ok(())
    }
}

fn made(path: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    File::open(path)
}

/// True if nothing can be made there, though what is there can be read.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::PermissionDenied
    )
}

fn locked(path: &Path, handle: &File) -> io::Result<File> {
    let place = path.join(LOCK_FILE);
    let file = match OpenOptions::new().create(true).truncate(false).write(true).open(&place) {
        // Whoever may write here meanwhile holds the file, if there is one, and else the folder.
        Err(error) if is_closed(&error) => match File::open(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound => handle.try_clone()?,
            file => file?,
        },
        file => file?,
    };
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

impl Storage for Folder {
    type File = Arc<File>;
    /// Nothing where there is no folder.
    type Lock = Option<File>;

    fn lock(&self) -> io::Result<Option<File>> {
        self.held.read().handle.as_ref().map(|handle| locked(&self.path, handle)).transpose()
    }

    fn create(&self, name: &str) -> io::Result<Arc<File>> {
        match self.make(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.renew()?;
                self.make(name).map(Arc::new)
            }
            file => file.map(Arc::new),
        }
    }

    fn open(&self, name: &str) -> io::Result<Arc<File>> {
        Ok(Arc::new(OpenOptions::new().append(true).open(self.path.join(name))?))
    }

    fn append(&self, file: &Arc<File>, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&**file).write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn sync(&self, file: &Arc<File>) -> io::Result<()> {
        file.sync_data()
    }

    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = File::open(self.path.join(name))?;
        let length = file.metadata()?.len().min(bytes_max);
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0).saturating_add(1));
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut files = Vec::new();
        if self.held.read().handle.is_none() {
            return Ok(files);
        }
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // It went meanwhile, as snapshots and old segments do.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push(Listed { name, bytes: metadata.len() });
            }
        }
        Ok(files)
    }

    fn is_there(&self, name: &str, file: &Arc<File>) -> bool {
        let found = std::fs::metadata(self.path.join(name));
        match (found, file.metadata()) {
            (Ok(found), Ok(open)) => (found.dev(), found.ino()) == (open.dev(), open.ino()),
            (Err(error), _) => error.kind() != ErrorKind::NotFound,
            (Ok(_), Err(_)) => true,
        }
    }

    fn note(&self, word: &str) -> io::Result<()> {
        let place = self.path.join(NOTE_FILE);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(place)?;
        let width = NOTE_BYTES - 1;
        file.write_all_at(format!("{word:<width$}\n").as_bytes(), 0)
    }

    fn noted(&self) -> Option<String> {
        let bytes = self.read(NOTE_FILE, NOTE_BYTES as u64).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    fn sync_dir(&self) -> io::Result<()> {
        match &self.held.read().handle {
            Some(handle) => handle.sync_all(),
            None => Err(ErrorKind::NotFound.into()),
        }
    }
}
