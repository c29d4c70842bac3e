//! Why a bundle is not taken: one closed set of words for logs, status, events and the command line.

/// Which check a bundle failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// More bytes than allowed.
    TooLarge,
    /// The header line is not one.
    Malformed,
    /// Signed by a key that is not configured.
    UnknownKey,
    /// Not signed by the key that it names.
    BadSignature,
    /// The payload is not what was agreed.
    BadPayload,
    /// A schema of another release.
    UnknownSchema,
    /// Made for somebody else.
    WrongInstallation,
    /// It holds later.
    NotYetValid,
    /// It holds no more.
    Expired,
    /// Its serial is not above the highest seen of its key.
    Replayed,
    /// It does not follow what was taken last.
    BrokenChain,
    /// More records than tenants are allowed.
    TooManyRecords,
    /// A record's id or size is not allowed.
    BadRecord,
    /// The configuration with its records is not good.
    Rejected,
    /// Too much would go at once.
    Shrinks,
}

impl RefusalCode {
    /// All codes.
    pub const ALL: &'static [RefusalCode] = &[
        RefusalCode::TooLarge,
        RefusalCode::Malformed,
        RefusalCode::UnknownKey,
        RefusalCode::BadSignature,
        RefusalCode::BadPayload,
        RefusalCode::UnknownSchema,
        RefusalCode::WrongInstallation,
        RefusalCode::NotYetValid,
        RefusalCode::Expired,
        RefusalCode::Replayed,
        RefusalCode::BrokenChain,
        RefusalCode::TooManyRecords,
        RefusalCode::BadRecord,
        RefusalCode::Rejected,
        RefusalCode::Shrinks,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            RefusalCode::TooLarge => "too_large",
            RefusalCode::Malformed => "malformed",
            RefusalCode::UnknownKey => "unknown_key",
            RefusalCode::BadSignature => "bad_signature",
            RefusalCode::BadPayload => "bad_payload",
            RefusalCode::UnknownSchema => "unknown_schema",
            RefusalCode::WrongInstallation => "wrong_installation",
            RefusalCode::NotYetValid => "not_yet_valid",
            RefusalCode::Expired => "expired",
            RefusalCode::Replayed => "replayed",
            RefusalCode::BrokenChain => "broken_chain",
            RefusalCode::TooManyRecords => "too_many_records",
            RefusalCode::BadRecord => "bad_record",
            RefusalCode::Rejected => "rejected",
            RefusalCode::Shrinks => "shrinks",
        }
    }

    /// How it is fixed.
    pub const fn help(self) -> &'static str {
        match self {
            RefusalCode::TooLarge => "sign fewer records, or raise sync.bundle_bytes_max",
            RefusalCode::Malformed => "publish the file as `usherd records sign` wrote it, and check sync.url",
            RefusalCode::UnknownKey => "add the key to sync.public_keys, or sign with a known one",
            RefusalCode::BadSignature => "publish the file as it was signed, and check the key in sync.public_keys",
            RefusalCode::BadPayload => "make the bundle with `usherd records sign`",
            RefusalCode::UnknownSchema => "update this daemon, or sign with a release as old as it",
            RefusalCode::WrongInstallation => "sign with --installation as in sync.installation",
            RefusalCode::NotYetValid => "compare the clocks of both machines",
            RefusalCode::Expired => "sign and publish a new bundle, and check the clock of this machine",
            RefusalCode::Replayed => "sign with a higher --serial; if nobody signed this one, somebody replays it",
            RefusalCode::BrokenChain => "sign with --previous naming the bundle taken last, or without --previous",
            RefusalCode::TooManyRecords => "sign fewer records, or raise server.tenants_max",
            RefusalCode::BadRecord => "an id is 1 to 64 of a-z 0-9 . _ -, a record has at most 256 KiB",
            RefusalCode::Rejected => "fix the records or files named; new records need a higher --serial",
            RefusalCode::Shrinks => "if it is meant, raise server.reload_*_dropped_max_percent until it is taken",
        }
    }

    /// A refusal with what was found.
    pub fn because(self, what: impl Into<String>) -> Refusal {
        Refusal { code: self, what: what.into() }
    }
}

/// Why a bundle is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which check it failed.
    pub code: RefusalCode,
    /// The finding.
    pub what: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.code.as_str(), self.what, self.code.help())
    }
}

impl std::error::Error for Refusal {}
