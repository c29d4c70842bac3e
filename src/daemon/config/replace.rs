//! Replaces a file wholly or not at all: a crash leaves the old one or the new one.

use std::fs::{File, Metadata};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

/// Writes a file of a folder, which is made where it is missing.
///
/// # Errors
/// An error of the file system; the file of before is then still there.
pub fn replace_file(folder: &Path, file: &str, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    replace(folder, file, bytes, None)
}

/// Writes a file that is there, with its owner and rights; a link stays a link.
///
/// # Errors
/// As [`replace_file`].
pub(super) fn replace_like(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let path = path.canonicalize()?;
    let old = std::fs::metadata(&path)?;
    if old.permissions().readonly() {
        // A rename would not mind, but who took the right to write away meant it.
        return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, "the file is read-only"));
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    replace(path.parent().unwrap_or(Path::new("/")), &file, bytes, Some(&old))
}

/// A temporary file is written, synced and renamed. Its name begins with a dot: readers of folders pass over it.
fn replace(folder: &Path, file: &str, bytes: &[u8], like: Option<&Metadata>) -> std::io::Result<()> {
    let temporary = folder.join(format!(".{file}.{}.tmp", std::process::id()));
    let written = write_synced(&temporary, bytes, like).and_then(|()| std::fs::rename(&temporary, folder.join(file)));
    if written.is_err() {
        // The half-written file is of no use to anybody; that it stays is no harm either.
        let _ = std::fs::remove_file(&temporary);
        return written;
    }
    File::open(folder)?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8], like: Option<&Metadata>) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    if let Some(old) = like {
        file.set_permissions(old.permissions())?;
        let new = file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            chown(path, Some(old.uid()), Some(old.gid()))?;
        }
    }
    file.write_all(bytes)?;
    file.sync_all()
}
