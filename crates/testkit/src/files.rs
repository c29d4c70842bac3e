//! The files of a daemon.

use std::path::Path;

use tempfile::TempDir;

/// A folder with these lines in `usherd.toml`, and these tenant files. `[server]` gets a free port, and two runtimes
/// where it does not say how many.
pub fn files(main: &str, tenants: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tenants.d")).unwrap();
    let workers = if main.contains("workers =") { "" } else { "workers = 2\n" };
    let listen = format!("[server]\nlisten = \"127.0.0.1:0\"\n{workers}");
    let main =
        if main.contains("[server]") { main.replace("[server]\n", &listen) } else { format!("{main}\n{listen}") };
    std::fs::write(folder.path().join("usherd.toml"), main).unwrap();
    for (id, text) in tenants {
        write_tenant(folder.path(), id, text);
    }
    folder
}

/// Writes a tenant file into the folder of a daemon.
pub fn write_tenant(folder: &Path, id: &str, text: &str) {
    std::fs::write(folder.join("tenants.d").join(format!("{id}.toml")), text).unwrap();
}
