//! Names of the wire contract: what they are made of, how long they may be, and what is said of a wrong one.

/// A tenant's, subject's, session's or node's name: opaque, compared byte by byte (A1).
pub type Name = compact_str::CompactString;

/// Longest subject and session id, in bytes (A1, API 2).
pub const ID_BYTES_MAX: usize = 128;
/// Longest tenant id, in bytes (API 2).
pub const TENANT_BYTES_MAX: usize = 64;
/// Longest node and group name, in bytes.
pub const NODE_BYTES_MAX: usize = 64;
/// Longest dialled number that is looked at, in bytes.
pub const DIALLED_BYTES_MAX: usize = 64;
/// Highest boot number of a node: above it nothing could follow, and numbers are mistakes.
pub const EPOCH_MAX: u64 = 1 << 63;
/// Longest life of a claim without renewal, in seconds (E3).
pub const TTL_SECONDS_MAX: u32 = 86_400;

/// A fault of one field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, as on the wire.
    pub field: &'static str,
    /// The fault, and what is allowed.
    pub what: &'static str,
}

impl Fault {
    /// A fault of one field.
    pub const fn new(field: &'static str, what: &'static str) -> Self {
        Fault { field, what }
    }
}

/// Checks a tenant id: 1-64 of `a-z 0-9 . _ -`.
pub fn check_tenant(tenant: &str, faults: &mut Vec<Fault>) {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
    if tenant.is_empty() || tenant.len() > TENANT_BYTES_MAX || !tenant.bytes().all(allowed) {
        faults.push(Fault::new("tenant", "must be 1-64 of a-z 0-9 . _ -"));
    }
}

/// Checks a subject id: 1-128 bytes of UTF-8 without control characters (A1).
pub fn check_subject(subject: &str, faults: &mut Vec<Fault>) {
    let plain = if subject.is_ascii() {
        subject.bytes().all(|b| b >= b' ' && b != 0x7f)
    } else {
        !subject.chars().any(char::is_control)
    };
    if subject.is_empty() || subject.len() > ID_BYTES_MAX || !plain {
        faults.push(Fault::new("subject", "must be 1-128 bytes of UTF-8 without control characters"));
    }
}

/// Checks a session id: 1-128 bytes of printable ASCII.
pub fn check_session(session: &str, faults: &mut Vec<Fault>) {
    if session.is_empty() || session.len() > ID_BYTES_MAX || !session.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        faults.push(Fault::new("session", "must be 1-128 bytes of printable ASCII"));
    }
}

/// Checks a node or group name: 1-64 bytes of printable ASCII without blanks.
pub fn check_word(field: &'static str, word: &str, faults: &mut Vec<Fault>) {
    if word.is_empty() || word.len() > NODE_BYTES_MAX || !word.bytes().all(|b| b.is_ascii_graphic()) {
        faults.push(Fault::new(field, "must be 1-64 bytes of printable ASCII without blanks"));
    }
}

/// Checks a boot number: at most 2^63, so that a next one is always possible.
pub fn check_epoch(epoch: u64, faults: &mut Vec<Fault>) {
    if epoch > EPOCH_MAX {
        faults.push(Fault::new("epoch", "must be at most 9223372036854775808 (2^63): a start needs a higher one"));
    }
}

/// Checks the name, boot number and message number of a node, which need each other (G5).
pub fn check_node(node: Option<&str>, epoch: Option<u64>, seq: Option<u64>, faults: &mut Vec<Fault>) {
    if let Some(node) = node {
        check_word("node", node, faults);
    }
    if let Some(epoch) = epoch {
        check_epoch(epoch, faults);
    }
    if seq.is_some() && epoch.is_none() {
        faults.push(Fault::new("epoch", "is required where seq is given: a seq counts within one epoch"));
    }
    if epoch.is_some() && node.is_none() {
        faults.push(Fault::new("node", "is required where epoch is given: an epoch is a boot number of a node"));
    }
}
