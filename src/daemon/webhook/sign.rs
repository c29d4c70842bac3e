//! Signatures after Standard Webhooks: who holds the secret can tell that a message is ours, whole and recent.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::daemon::config::{Disk, Files as _};

/// How a secret begins.
const PREFIX: &str = "whsec_";
/// Least and most bytes of a secret, as the specification has it.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of a new one: as many as the hash has.
const FRESH_BYTES: usize = 32;
/// Largest file of secrets, bytes.
const FILE_BYTES_MAX: usize = 4 << 10;

/// The secrets that messages are signed by: one, or two while one is replaced. They are shown nowhere.
pub struct Secrets(Vec<hmac::Key>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Secrets {
    /// One secret, or the new one above the old, each on a line of its own.
    ///
    /// # Errors
    /// A sentence that says what is wrong, without what is written there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if !(1..=2).contains(&lines.len()) {
            return Err(format!("holds {} secrets; write one, or the new one above the old", lines.len()));
        }
        let key = |line: &&str| {
            let bytes = line.strip_prefix(PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
            let bytes = bytes.filter(|bytes| SECRET_BYTES.contains(&bytes.len()))?;
            Some(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
        };
        let keys: Option<Vec<_>> = lines.iter().map(key).collect();
        keys.map(Secrets).ok_or_else(|| {
            "holds no secret: whsec_ and the base64 of 24 to 64 bytes, as `usherd webhook secret` prints it".to_owned()
        })
    }

    /// Those of a file.
    ///
    /// # Errors
    /// It cannot be read, or as [`Secrets::parse`].
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = Disk.read(path, FILE_BYTES_MAX)?;
        Secrets::parse(std::str::from_utf8(&bytes).map_err(|_| "is not UTF-8")?)
    }

    /// The header `webhook-signature` of a message at an instant, seconds since 1970 UTC.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &str) -> String {
        let signed = format!("{id}.{timestamp_s}.{body}");
        let each = self.0.iter().map(|key| format!("v1,{}", STANDARD.encode(hmac::sign(key, signed.as_bytes()))));
        each.collect::<Vec<_>>().join(" ")
    }
}

/// A new secret, from the randomness of the system.
///
/// # Errors
/// The system has none.
pub fn fresh() -> Result<String, String> {
    let mut bytes = [0; FRESH_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(format!("{PREFIX}{}", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_published_example_has_its_signature() {
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", r#"{"test": 2432232314}"#);
        assert_eq!(Secrets::parse(PUBLISHED).unwrap().sign(id, 1_614_265_330, body), signature);
        // While a secret is replaced, whoever holds either takes the message.
        let both = Secrets::parse(&format!("{}\n{PUBLISHED}\n", fresh().unwrap())).unwrap();
        let signed = both.sign(id, 1_614_265_330, body);
        assert_eq!((signed.split(' ').count(), signed.split(' ').nth(1)), (2, Some(signature)));
    }

    #[test]
    fn a_secret_has_its_form_and_a_fault_does_not_show_it() {
        assert!(Secrets::parse(&fresh().unwrap()).is_ok());
        assert_ne!(fresh(), fresh());
        let coded = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (text, good) in [
            (coded(24), true),
            (coded(64), true),
            (coded(23), false),
            (coded(65), false),
            (coded(32).replace("whsec_", ""), false),
            ("whsec_no base64".to_owned(), false),
            (String::new(), false),
            (format!("{0}\n{0}\n{0}", coded(32)), false),
        ] {
            match Secrets::parse(&text) {
                Ok(secrets) => assert!(good && format!("{secrets:?}").ends_with("secrets"), "{text}"),
                Err(why) => assert!(!good && !why.contains(text.get(6..16).unwrap_or("\0")), "{text}: {why}"),
            }
        }
    }
}
