//! The desktops that hold a seat, on disk, so that a restart of the agent leaves them their grace; and the devices
//! whose seat was given back while they stayed, so that it does not ask for them again.
//!
//! One line each, with a checksum as in the spool; the file is put in place as a whole. It says only who held a seat,
//! never who holds one: usherd is asked again after a start.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::spool::{decode_line, encode_line, replace};

/// The file's name.
const DEVICES: &str = "devices";
/// The form of a line for a desktop that held a seat, frozen: a line of an unknown form is skipped.
const HELD: u32 = 1;
/// The form of a line for a device whose seat was given back while it stayed.
const OVER: u32 = 2;
/// Largest file that is read, bytes: more devices than are ever written.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A device that the agent remembers over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDevice {
    form: u32,
    /// The source that reported it.
    pub source: String,
    /// Its name at the PBX.
    pub device: String,
}

impl StoredDevice {
    /// A desktop that held a seat.
    pub fn new(source: &str, device: &str) -> Self {
        StoredDevice { form: HELD, source: source.to_owned(), device: device.to_owned() }
    }

    /// A device whose seat was given back while it stayed.
    pub fn over(source: &str, device: &str) -> Self {
        StoredDevice { form: OVER, ..StoredDevice::new(source, device) }
    }

    /// True if its seat was given back while it stayed.
    pub const fn is_over(&self) -> bool {
        self.form == OVER
    }
}

/// The devices that were written last; lines that cannot be read are skipped, and losing one does no harm.
///
/// # Errors
/// The folder cannot be read.
pub fn read(folder: &Path) -> io::Result<Vec<StoredDevice>> {
    let path = folder.join(DEVICES);
    let bytes = match std::fs::metadata(&path) {
        Ok(about) if about.len() > FILE_BYTES_MAX => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is too large", path.display())));
        }
        Ok(_) => std::fs::read(&path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter_map(decode_line::<StoredDevice>);
    Ok(lines.filter(|stored| [HELD, OVER].contains(&stored.form)).collect())
}

/// Replaces the file with these devices.
///
/// # Errors
/// An error of the disk; the old file is then still there.
pub fn write(folder: &Path, devices: &[StoredDevice]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for device in devices {
        bytes.extend(encode_line(device)?);
    }
    replace(folder, DEVICES, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 0.1 writes it; a later one still reads it.
    const GOLDEN: &str = r#"d6a07784 {"form":1,"source":"asterisk","device":"Custom:client-anna"}
c2461f3e {"form":1,"source":"freeswitch","device":"zoë\n@acme"}
c4b8d760 {"form":2,"source":"asterisk","device":"PJSIP/bob-mobile"}
"#;

    #[test]
    fn the_file_of_before_is_read_and_written_as_ever() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_empty());
        let devices = [
            StoredDevice::new("asterisk", "Custom:client-anna"),
            StoredDevice::new("freeswitch", "zo\u{eb}\n@acme"),
            StoredDevice::over("asterisk", "PJSIP/bob-mobile"),
        ];
        write(dir.path(), &devices).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join(DEVICES)).unwrap(), GOLDEN);
        assert_eq!(read(dir.path()).unwrap(), devices);
    }

    #[test]
    fn damage_costs_its_line_and_unknown_forms_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let later = StoredDevice { form: 3, ..StoredDevice::new("asterisk", "c") };
        let devices = [StoredDevice::new("asterisk", "a"), later, StoredDevice::new("asterisk", "b")];
        write(dir.path(), &devices).unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), 2);
        let path = dir.path().join(DEVICES);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[12] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(dir.path()).unwrap(), devices[2..]);
    }
}
