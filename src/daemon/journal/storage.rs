//! The few things that a journal asks of a disk, and the folder that gives them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// Returns once names made, changed and removed survive power loss.
    ///
    /// # Errors
    /// Of the disk.
    fn sync_dir(&self) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    handle: File,
}

impl Folder {
    /// Opens the folder, and makes it where it is missing, with those above it: closed to other users of the machine,
    /// because it says who called whom.
    ///
    /// # Errors
    /// Of the file system.
    pub fn at(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Folder { path: path.to_owned(), handle: File::open(path)? })
    }
}

impl Storage for Folder {
    type File = Arc<File>;
    type Lock = File;

    fn lock(&self) -> io::Result<File> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.path.join("lock"))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }

    fn create(&self, name: &str) -> io::Result<Arc<File>> {
        Ok(Arc::new(OpenOptions::new().append(true).create_new(true).open(self.path.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<File>> {
        Ok(Arc::new(OpenOptions::new().append(true).open(self.path.join(name))?))
    }

    fn append(&self, file: &Arc<File>, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&**file).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
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
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // It went meanwhile, as snapshots and old segments do.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push(Listed { name, bytes: metadata.len() });
            }
        }
        Ok(files)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}
