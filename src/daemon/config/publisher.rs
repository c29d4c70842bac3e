//! `[sync]`: where signed tenant records are pulled from, and whose signature counts.

use std::collections::BTreeMap;

use super::reader::Table;
use super::value::{Cx, Item, quoted};
use crate::daemon::text::{hex, unhex};

/// Longest id of a key, bytes.
pub const KEY_ID_BYTES_MAX: usize = 32;
/// Longest name of an installation, bytes.
pub const INSTALLATION_BYTES_MAX: usize = 128;
/// Most keys that are trusted at once.
const KEYS_MAX: usize = 16;
const KEYS_HELP: &str =
    "write public_keys = { \"2026a\" = \"64 hexadecimal digits\" }, as `usherd records keygen` prints it";

/// `[sync]` (DESIGN 5, I23).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// Where the bundle is; empty: nothing is pulled.
    pub url: String,
    /// From one try to the next, seconds.
    pub interval_s: u32,
    /// Added to it at random, at most, seconds.
    pub jitter_s: u32,
    /// For connecting, TLS included, and for the whole try, seconds.
    pub timeout_s: u32,
    /// The name that bundles must be made for.
    pub installation: String,
    /// Public keys by their ids.
    pub public_keys: BTreeMap<String, [u8; 32]>,
    /// PEM file of the authorities of the publisher's certificate; empty: those of the machine.
    pub ca_file: String,
    /// File with a bearer token; empty: none is sent.
    pub token_file: String,
    /// Largest bundle, bytes.
    pub bundle_bytes_max: u32,
}

impl Default for Publisher {
    fn default() -> Self {
        Publisher {
            url: String::new(),
            interval_s: 900,
            jitter_s: 60,
            timeout_s: 30,
            installation: String::new(),
            public_keys: BTreeMap::new(),
            ca_file: String::new(),
            token_file: String::new(),
            bundle_bytes_max: 64 << 20,
        }
    }
}

impl Publisher {
    /// True if records are pulled.
    pub fn is_on(&self) -> bool {
        !self.url.is_empty()
    }
}

/// Reads the section.
pub(super) fn read(cx: &mut Cx<'_>, mut table: Table<'_, '_>, publisher: &mut Publisher) {
    let url = table.text(cx, "url", &mut publisher.url);
    if let Some(item) = url.filter(|_| publisher.is_on()) {
        check_url(cx, &item, &publisher.url);
    }
    table.int(cx, "interval_s", 10..=86_400, &mut publisher.interval_s);
    table.int(cx, "jitter_s", 0..=86_400, &mut publisher.jitter_s);
    table.int(cx, "timeout_s", 1..=600, &mut publisher.timeout_s);
    let installation = table.text(cx, "installation", &mut publisher.installation);
    if let Some(item) = installation.filter(|_| !is_installation(&publisher.installation))
        && !publisher.installation.is_empty()
    {
        let message = format!("`{}` is not the name of an installation", item.key_path);
        item.wrong(cx, message, "write 1 to 128 printable ASCII characters without blanks");
    }
    read_keys(cx, &mut table, publisher);
    table.text(cx, "ca_file", &mut publisher.ca_file);
    table.text(cx, "token_file", &mut publisher.token_file);
    table.int(cx, "bundle_bytes_max", 1_024..=512 << 20, &mut publisher.bundle_bytes_max);
    if publisher.is_on() && publisher.installation.is_empty() {
        table.missing(cx, "installation", "write the name that bundles are signed for: another's are refused");
    }
    if publisher.is_on() && !table.has("public_keys") {
        table.missing(cx, "public_keys", KEYS_HELP);
    }
    table.finish(cx);
}

fn check_url(cx: &mut Cx<'_>, item: &Item<'_, '_>, url: &str) {
    let parsed = url.parse::<http::Uri>().ok();
    let is_https = parsed.as_ref().is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
    let help = "write https://HOST[:PORT]/PATH; a password belongs into token_file";
    if !is_https {
        item.wrong(cx, format!("`{}` is not the address of a bundle over https: {}", item.key_path, quoted(url)), help);
    } else if parsed.and_then(|uri| uri.authority().map(|host| host.as_str().contains('@'))).unwrap_or(false) {
        item.wrong(cx, format!("`{}` holds a user or password", item.key_path), help);
    }
}

fn read_keys(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, publisher: &mut Publisher) {
    let whole = table.item("public_keys");
    let keys = table.table(cx, "public_keys");
    for (id, item) in keys.in_file_order() {
        let name = id.get_ref().as_ref();
        let Some(text) = item.text(cx) else { continue };
        let key = unhex::<32>(&text.to_ascii_lowercase());
        let twin = publisher.public_keys.iter().find(|(_, known)| Some(**known) == key).map(|(id, _)| id.clone());
        match (key, twin) {
            _ if !is_key_id(name) => {
                let message = format!("`{}` is not the id of a key", item.key_path);
                item.wrong(cx, message, format!("an id is 1 to {KEY_ID_BYTES_MAX} of a-z 0-9 . _ -"));
            }
            (None, _) => item.wrong(cx, format!("`{}` is not an Ed25519 public key", item.key_path), KEYS_HELP),
            (_, Some(twin)) => {
                // Each id remembers the serials of its own: under a second one old bundles would be new again.
                let message = format!("`{}` is the same key as `{twin}`", item.key_path);
                item.wrong(cx, message, "keep one of the two");
            }
            (Some(key), None) => _ = publisher.public_keys.insert(name.to_owned(), key),
        }
    }
    match whole {
        Some(item) if publisher.public_keys.len() > KEYS_MAX => {
            let message = format!("`{}` has {} keys", item.key_path, publisher.public_keys.len());
            item.wrong(cx, message, format!("at most {KEYS_MAX} are allowed"));
        }
        Some(item) if publisher.is_on() && publisher.public_keys.is_empty() => {
            item.wrong(cx, format!("`{}` names no key", item.key_path), KEYS_HELP);
        }
        _ => {}
    }
    let shown = publisher.public_keys.iter().map(|(id, key)| format!("{} = {}", quoted(id), quoted(&hex(key))));
    let shown = shown.collect::<Vec<_>>().join(", ");
    table.noted(cx, "public_keys", || format!("{{ {shown} }}"));
}

/// True if a text may be the id of a key.
pub fn is_key_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    (1..=KEY_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// True if a text may name an installation: 1 to 128 bytes of printable ASCII without blanks.
pub fn is_installation(text: &str) -> bool {
    (1..=INSTALLATION_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
