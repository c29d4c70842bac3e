//! The shipped files where programs see them.

use std::path::Path;

use super::place::Place;

/// Copies the files of a shipped folder into a new one that programs see.
pub(crate) fn shipped(folder: &str) -> Place {
    let place = Place::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pbx").join(folder);
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), place.path(&entry.file_name().to_string_lossy())).unwrap();
    }
    place
}
