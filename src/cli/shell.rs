//! `completions`, `man`: what a package ships beside the binary.

use std::path::Path;

use clap::Command;

use super::failure::{Failure, OK};
use super::screen::Screen;

/// Writes the completions of a shell.
///
/// # Errors
/// The output cannot be written.
pub(super) fn completions(
    mut command: Command,
    shell: clap_complete::Shell,
    screen: &mut Screen<'_>,
) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "usherd", &mut script);
    screen.write(&String::from_utf8_lossy(&script))?;
    Ok(OK)
}

/// Writes the manual page, or one for each verb into a folder.
///
/// # Errors
/// The output or the folder cannot be written.
pub(super) fn man(command: Command, folder: Option<&Path>, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(|error| Failure::output(&error))?;
        screen.write(&String::from_utf8_lossy(&page))?;
        return Ok(OK);
    };
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    written.map_err(|error| Failure::failed(format!("{} cannot be written: {error}", folder.display())))?;
    screen.line(&format!("the manual pages are in {}", folder.display()))?;
    Ok(OK)
}
