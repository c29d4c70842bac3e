//! `records keygen`, `records sign`, `records verify`: the publisher's side of `[sync]`, without a daemon.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Duration, Utc};
use serde_json::json;

use super::config::load_all;
use super::failure::{CONFIGURATION, FAILED, Failure, OK};
use super::instant::{rfc3339, wall_clock};
use super::screen::{Format, Screen, counted};
use crate::daemon::config::{
    Disk, Files as _, Memory, Settings, TENANT_FILE_BYTES_MAX, load_from, problems_of, render_problems,
};
use crate::daemon::config::{is_installation, is_key_id};
use crate::daemon::sync::envelope::{Bundle, HEADER_BYTES_MAX, open, sha256, verify};
use crate::daemon::sync::keeper::trust;
use crate::daemon::sync::sign::{Draft, SigningKey};
use crate::daemon::sync::{Hash, Ratchet, Refusal};
use crate::daemon::text::{hex, unhex};

/// Largest file with a private key, bytes.
const KEY_BYTES_MAX: usize = 4 << 10;
/// Largest bundle where no configuration says so, bytes.
const BUNDLE_BYTES_MAX: usize = 512 << 20;

/// `usherd records`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RecordsArgs {
    #[command(subcommand)]
    verb: RecordsVerb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum RecordsVerb {
    /// Make a key to sign with, and show its public half as usherd.toml wants it
    Keygen {
        /// File for the private key; only its owner can read it, and no file is overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Name of the key at installations [default: made of the key]
        #[arg(long, value_name = "ID", value_parser = key_id)]
        key_id: Option<String>,
    },
    /// Check a folder of tenant files, and make a signed bundle of them
    Sign(SignArgs),
    /// Check whether an installation would accept a bundle, apart from its serial
    Verify(VerifyArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct SignArgs {
    /// The private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Name of the key at installations
    #[arg(long, value_name = "ID", value_parser = key_id)]
    key_id: String,
    /// The installation it is for: its sync.installation
    #[arg(long, value_name = "NAME", value_parser = installation)]
    installation: String,
    /// Its serial, above the one before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    serial: u64,
    /// How long it may be accepted and confirmed: 30d, 12h or 90m
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = span)]
    expires_in: Duration,
    /// The bundle that it follows: an installation that accepted another one last refuses this one
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// When it is made [default: now]
    #[arg(long, value_name = "RFC3339", value_parser = rfc3339)]
    issued: Option<DateTime<Utc>>,
    /// The folder of tenant files; --config names the usherd.toml that they are checked with
    folder: PathBuf,
    /// File for the bundle
    #[arg(long = "out", value_name = "FILE")]
    bundle: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
struct VerifyArgs {
    /// The bundle
    bundle: PathBuf,
    /// Whose signature counts, instead of those of --config
    #[arg(long, value_name = "ID=HEX", value_parser = public_key, requires = "installation")]
    public_key: Vec<(String, [u8; 32])>,
    /// The installation it must be for
    #[arg(long, value_name = "NAME", value_parser = installation, requires = "public_key")]
    installation: Option<String>,
    /// As it was, or will be, at this instant [default: now]
    #[arg(long, value_name = "RFC3339", value_parser = rfc3339)]
    at: Option<DateTime<Utc>>,
}

fn key_id(text: &str) -> Result<String, String> {
    let good = is_key_id(text).then(|| text.to_owned());
    good.ok_or_else(|| "an id is 1 to 32 of a-z 0-9 . _ -".to_owned())
}

fn installation(text: &str) -> Result<String, String> {
    let good = is_installation(text).then(|| text.to_owned());
    good.ok_or_else(|| "a name is 1 to 128 printable ASCII characters without blanks".to_owned())
}

fn public_key(text: &str) -> Result<(String, [u8; 32]), String> {
    let parts = text.split_once('=').and_then(|(id, key)| Some((key_id(id).ok()?, unhex(&key.to_ascii_lowercase())?)));
    parts.ok_or_else(|| "write ID=HEX, the key with its 64 hexadecimal digits".to_owned())
}

fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let minutes = match unit {
        "d" => Some(1_440),
        "h" => Some(60),
        "m" => Some(1),
        _ => None,
    };
    let count = number.parse::<i64>().ok().filter(|count| (1..=5_000_000).contains(count));
    let span = minutes.zip(count).and_then(|(minutes, count)| Duration::try_minutes(minutes * count));
    span.ok_or_else(|| "write a number with d, h or m, as in 30d".to_owned())
}

/// Runs one of the verbs.
///
/// # Errors
/// A file cannot be read or written, or the records are not valid.
pub(super) fn records(arguments: &RecordsArgs, main: Option<&Path>, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    match &arguments.verb {
        RecordsVerb::Keygen { out, key_id } => keygen(out, key_id.as_deref(), screen),
        RecordsVerb::Sign(arguments) => sign(arguments, main, screen),
        RecordsVerb::Verify(arguments) => judge(arguments, main, screen),
    }
}

fn keygen(out: &Path, id: Option<&str>, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let key = SigningKey::generate().map_err(|why| Failure::failed(format!("no key can be made: {why}")))?;
    let public = key.public();
    let id = id.map_or_else(|| format!("k{}", &hex(&sha256(&public))[..8]), str::to_owned);
    let text = format!("{}\n", hex(key.to_pkcs8()));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(out);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| {
        Failure::failed(format!("{} cannot be written: {error}", out.display()))
            .fix("a key is never overwritten: name another file, or move that one away")
    })?;
    if screen.format == Format::Json {
        screen.write(&format!("{}\n", json!({"key_id": id, "public_key": hex(&public)})))?;
    } else {
        screen.line(&format!("public_keys = {{ \"{id}\" = \"{}\" }}", hex(&public)))?;
    }
    Ok(OK)
}

fn sign(arguments: &SignArgs, main: Option<&Path>, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let key = read_key(&arguments.key)?;
    let issued = arguments.issued.unwrap_or_else(wall_clock);
    let records = read_records(&arguments.folder, main, issued, screen.colour)?;
    let previous = arguments.previous.as_deref().map(|path| follow(path, arguments, &key)).transpose()?;
    let too_far = || Failure::usage("the bundle would expire after the last date there is; see --expires-in");
    let draft = Draft {
        installation: &arguments.installation,
        serial: arguments.serial,
        issued,
        not_before: issued,
        expires: issued.checked_add_signed(arguments.expires_in).ok_or_else(too_far)?,
        previous,
        records: &records,
    };
    let payload = draft.payload().map_err(Failure::failed)?;
    let envelope = key.seal(&arguments.key_id, &payload);
    check_own(arguments, &key, &envelope)?;
    // Aside first: a web server must never hand out half of it.
    let aside = arguments.bundle.with_extension("tmp");
    let written = std::fs::write(&aside, &envelope).and_then(|()| std::fs::rename(&aside, &arguments.bundle));
    written.map_err(|error| Failure::failed(format!("{} cannot be written: {error}", arguments.bundle.display())))?;
    let hash = hex(&sha256(&payload));
    if screen.format == Format::Json {
        let answer =
            json!({"serial": draft.serial, "records": records.len(), "sha256": hash, "expires": draft.expires});
        screen.write(&format!("{answer}\n"))?;
    } else {
        let (name, count) = (arguments.bundle.display(), counted(records.len(), "record"));
        screen.line(&format!("{name}: serial {}, {count}, until {}", draft.serial, draft.expires))?;
    }
    Ok(OK)
}

/// The hash of the bundle before. Its serial must be lower under the same key, or nobody would take the new one.
fn follow(path: &Path, arguments: &SignArgs, key: &SigningKey) -> Result<Hash, Failure> {
    match open_own(arguments, key, &read_bundle(path)?) {
        Ok(before) if before.serial >= arguments.serial => {
            let (serial, seen) = (arguments.serial, before.serial);
            let what = format!("--serial {serial} is not above {seen}, that of {}", path.display());
            Err(Failure::usage(what).fix("installations accept a bundle only with a higher serial than the one before"))
        }
        // Another key may have signed it: that of before a change of keys.
        _ => payload_hash(path),
    }
}

/// Reads a new bundle back with the reader of installations, so that none refuses it for its form.
fn check_own(arguments: &SignArgs, key: &SigningKey, envelope: &[u8]) -> Result<(), Failure> {
    open_own(arguments, key, envelope).map(|_| ()).map_err(|refusal| Failure::failed(refusal.to_string()))
}

fn open_own(arguments: &SignArgs, key: &SigningKey, envelope: &[u8]) -> Result<Bundle, Refusal> {
    let mut settings = Settings::default();
    settings.sync.installation.clone_from(&arguments.installation);
    settings.sync.public_keys.insert(arguments.key_id.clone(), key.public());
    let mut trust = trust(&settings);
    trust.limits.bundle_bytes = BUNDLE_BYTES_MAX;
    trust.limits.records = usize::MAX;
    open(envelope, &trust)
}

fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let wrong = |why: String| {
        Failure::failed(format!("{}: {why}", path.display())).fix("`usherd records keygen` makes such a file")
    };
    let bytes = Disk.read(path, KEY_BYTES_MAX).map_err(|why| wrong(format!("the key {why}")))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("the key is not text".to_owned()))?;
    let digits = text.trim().as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.chunks(2).map(|pair| Some((digit(*pair.first()?)? << 4) | digit(*pair.get(1)?)?));
    let pkcs8: Option<Vec<u8>> = pairs.collect();
    let pkcs8 = pkcs8.ok_or_else(|| wrong("the key is not hexadecimal".to_owned()))?;
    SigningKey::from_pkcs8(&pkcs8).map_err(wrong)
}

/// The tenant files of a folder, read as an installation reads them: with its `usherd.toml` where one is named,
/// else with an empty one.
fn read_records(
    folder: &Path,
    main: Option<&Path>,
    now: DateTime<Utc>,
    colour: bool,
) -> Result<BTreeMap<String, String>, Failure> {
    let unreadable = |path: &Path, why: String| Failure::failed(format!("{} {why}", path.display()));
    let paths = Disk.list(folder).map_err(|why| unreadable(folder, why))?;
    // Only the files of the folder are tenants here, whatever else the configuration names.
    let main_text = main.map(|main| std::fs::read_to_string(main).map_err(|error| unreadable(main, error.to_string())));
    let mut table: toml::Table = main_text.transpose()?.unwrap_or_default().parse().map_err(|error| {
        Failure::configuration(format!("{} is not TOML: {error}", main.unwrap_or(Path::new("")).display()))
    })?;
    for key in ["tenant", "sync", "default_tenant"] {
        table.remove(key);
    }
    table.insert("tenants_dir".to_owned(), toml::Value::String(folder.display().to_string()));
    let main = Path::new("usherd.toml");
    let mut files = Memory::default();
    files.put(main, table.to_string());
    let mut records = BTreeMap::new();
    for path in &paths {
        let bytes = Disk.read(path, TENANT_FILE_BYTES_MAX).map_err(|why| unreadable(path, why))?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable(path, "is not UTF-8".to_owned()))?;
        files.put(path, &text);
        let id = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        records.insert(id, text);
    }
    let loaded = load_from(&files, main, now).map(|config| problems_of(&config.rejected));
    match loaded.unwrap_or_else(|problems| problems) {
        problems if problems.is_empty() => Ok(records),
        problems => {
            let text = render_problems(&problems, colour);
            let what = format!("the records of {} are not valid\n\n{text}", folder.display());
            Err(Failure { code: CONFIGURATION, ..Failure::failed(what.trim_end()) })
        }
    }
}

/// SHA-256 of the payload of a bundle.
fn payload_hash(path: &Path) -> Result<Hash, Failure> {
    let bytes = read_bundle(path)?;
    let end = bytes.iter().take(HEADER_BYTES_MAX).position(|byte| *byte == b'\n');
    let end = end.ok_or_else(|| Failure::failed(format!("{} is not a bundle", path.display())))?;
    Ok(sha256(&bytes[end + 1..]))
}

fn read_bundle(path: &Path) -> Result<Vec<u8>, Failure> {
    Disk.read(path, BUNDLE_BYTES_MAX).map_err(|why| Failure::failed(format!("{} {why}", path.display())))
}

fn judge(arguments: &VerifyArgs, main: Option<&Path>, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let settings = match &arguments.installation {
        Some(installation) => {
            let mut settings = Settings::default();
            settings.sync.installation.clone_from(installation);
            settings.sync.public_keys.extend(arguments.public_key.iter().cloned());
            settings
        }
        None => load_all(&super::config::main_file(main)?, screen.colour)?.settings,
    };
    if settings.sync.public_keys.is_empty() {
        return Err(Failure::configuration("the configuration has no sync.public_keys")
            .fix("--public-key ID=HEX with --installation NAME names them here"));
    }
    let bytes = read_bundle(&arguments.bundle)?;
    let now = arguments.at.unwrap_or_else(wall_clock);
    let verdict = verify(&bytes, &trust(&settings), &Ratchet::default(), now).map(|(bundle, _)| bundle);
    report(&arguments.bundle, &verdict, screen)?;
    Ok(if verdict.is_ok() { OK } else { FAILED })
}

fn report(path: &Path, verdict: &Result<Bundle, Refusal>, screen: &mut Screen<'_>) -> Result<(), Failure> {
    if screen.format == Format::Json {
        let answer = match verdict {
            Ok(bundle) => json!({
                "valid": true, "key": bundle.key, "serial": bundle.serial, "installation": bundle.installation,
                "records": bundle.records.len(), "sha256": hex(&bundle.sha256), "issued": bundle.issued,
                "expires": bundle.expires, "previous": bundle.previous.map(|hash| hex(&hash)),
            }),
            Err(refusal) => json!({
                "valid": false, "code": refusal.code.as_str(), "message": refusal.what, "help": refusal.code.help(),
            }),
        };
        return screen.write(&format!("{answer}\n"));
    }
    let name = path.display();
    match verdict {
        Ok(Bundle { key, serial, records, expires, .. }) => {
            let count = counted(records.len(), "record");
            screen.line(&format!("{name}: valid: key {key}, serial {serial}, {count}, until {expires}"))
        }
        Err(refusal) => {
            screen.line(&format!("{name}: {}: {}", refusal.code.as_str(), refusal.what))?;
            screen.line(&format!("  help: {}", refusal.code.help()))
        }
    }
}
