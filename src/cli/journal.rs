//! `journal verify`, `journal export`: the audit trail, read from its files.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::config::{load_all, main_file};
use super::failure::{FAILED, Failure, OK};
use super::instant::rfc3339;
use super::screen::{Format, Screen};
use super::table::Table;
use crate::daemon::journal::audit::{Span, Verified, export, verify};
use crate::daemon::journal::storage::Folder;

/// `usherd journal`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct JournalArgs {
    #[command(subcommand)]
    verb: JournalVerb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum JournalVerb {
    /// Check that every record is as it was written
    Verify {
        #[command(flatten)]
        place: Place,
    },
    /// Every decision with its reason, as JSON lines, oldest first
    Export {
        #[command(flatten)]
        place: Place,
        /// Only from this instant on
        #[arg(long, value_name = "RFC3339", value_parser = instant)]
        from: Option<i64>,
        /// Only before this instant
        #[arg(long, value_name = "RFC3339", value_parser = instant)]
        until: Option<i64>,
    },
}

/// Which journal.
#[derive(Clone, Debug, clap::Args)]
struct Place {
    /// The folder of the journal [default: the one of the configuration]
    folder: Option<PathBuf>,
}

/// Milliseconds since 1970 UTC.
fn instant(text: &str) -> Result<i64, String> {
    rfc3339(text).map(|at| at.timestamp_millis())
}

/// Runs one of the verbs.
///
/// # Errors
/// There is no journal, or it cannot be read.
pub(super) fn journal(arguments: &JournalArgs, main: Option<&Path>, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    match &arguments.verb {
        JournalVerb::Verify { place } => {
            let folder = open(place, main)?;
            let verified = verify(&folder.0).map_err(|error| unreadable(&folder.1, &error))?;
            report(&verified, screen)?;
            Ok(if verified.bad.is_empty() { OK } else { FAILED })
        }
        JournalVerb::Export { place, from, until } => {
            if screen.format == Format::Csv {
                return Err(Failure::usage("an export is JSON lines; its entries have no columns in common"));
            }
            let folder = open(place, main)?;
            let span = Span { from_utc_ms: from.unwrap_or(i64::MIN), until_utc_ms: until.unwrap_or(i64::MAX) };
            let mut output = std::io::BufWriter::with_capacity(1 << 16, screen.bytes());
            export(&folder.0, span, &mut output).map_err(|error| unreadable(&folder.1, &error))?;
            std::io::Write::flush(&mut output).map_err(|error| Failure::output(&error))?;
            Ok(OK)
        }
    }
}

fn unreadable(folder: &Path, error: &crate::daemon::journal::JournalError) -> Failure {
    if let crate::daemon::journal::JournalError::Io { source, .. } = error
        && source.kind() == std::io::ErrorKind::BrokenPipe
    {
        return Failure::output(source);
    }
    Failure::failed(format!("the journal in {}: {error}", folder.display()))
}

fn open(place: &Place, main: Option<&Path>) -> Result<(Folder, PathBuf), Failure> {
    let path = match &place.folder {
        Some(folder) => folder.clone(),
        None => {
            let config = load_all(&main_file(main)?, false)?;
            config.state_dir(std::env::var("STATE_DIRECTORY").ok().as_deref()).join("journal")
        }
    };
    if !path.is_dir() {
        return Err(Failure::failed(format!("there is no journal in {}", path.display()))
            .fix("name its folder, or the configuration with --config"));
    }
    let folder = Folder::at(&path).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    Ok((folder, path))
}

fn report(verified: &Verified, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let hash: String = verified.last_hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
    if screen.format == Format::Csv {
        let mut table = Table::new(["file", "offset", "what"]);
        for damage in &verified.bad {
            table.push([damage.file.clone(), damage.offset.to_string(), damage.what.clone()]);
        }
        return screen.table(&table);
    }
    if screen.format == Format::Json {
        let bad = verified
            .bad
            .iter()
            .map(|damage| json!({"file": damage.file, "offset": damage.offset, "what": damage.what}));
        let torn = verified.torn.as_ref().map(|(file, offset)| json!({"file": file, "offset": offset}));
        let answer = json!({
            "good": verified.bad.is_empty(), "segments": verified.segments, "snapshots": verified.snapshots,
            "records": verified.records, "bytes": verified.bytes, "last_hash": hash,
            "bad": bad.collect::<Vec<_>>(), "torn": torn,
        });
        return screen.write(&format!("{answer}\n"));
    }
    for damage in &verified.bad {
        screen.line(&format!("bad: {damage}"))?;
    }
    if let Some((file, offset)) = &verified.torn {
        screen
            .line(&format!("note: {file} ends in an interrupted write at byte {offset}; the next start cuts it off"))?;
    }
    let verdict = if verified.bad.is_empty() { "valid" } else { "NOT valid" };
    let Verified { segments, snapshots, records, bytes, .. } = verified;
    screen
        .line(&format!("{verdict}: {records} records in {segments} segments, {snapshots} snapshots, {bytes} bytes"))?;
    screen.line(&format!("last link of the chain: {hash}"))
}
