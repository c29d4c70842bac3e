//! Replaces a file of the state directory wholly or not at all.

use std::io::Write as _;
use std::path::Path;

/// Writes a file of a folder, which is made where it is missing: a temporary file is written, synced and renamed.
///
/// # Errors
/// What the file system says; what was there before is then still there.
pub(super) fn replace_file(folder: &Path, file: &str, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let temporary = folder.join(format!("{file}.{}.tmp", std::process::id()));
    let written = write_synced(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, folder.join(file)));
    if written.is_err() {
        // The half-written file is of no use to anybody; that it stays is no harm either.
        let _ = std::fs::remove_file(&temporary);
        return written;
    }
    std::fs::File::open(folder)?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
