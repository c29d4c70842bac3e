//! The closed vocabularies of the configuration.

use usherd_contract::vocabulary;
pub use usherd_contract::words::OnUnreachable;
use usherd_engine::plan::Billing;
use usherd_engine::session::Class;

use usherd_subscription::policy::{
    AfterEnd, BillingPeriod, CancelAfterTerm, Downgrade, PendingConflict, PriceMode, Refund,
};
use usherd_subscription::record::{Actor, ContractKind, SubmittedStatus};

/// A closed set of words that a key may be set to.
pub trait Keyword: Copy + PartialEq + 'static {
    /// All of them, in the order in which they are listed to people.
    const ALL: &'static [Self];
    /// The word in the file.
    fn as_str(self) -> &'static str;
}

/// The words of enums that others define: here stands what the file calls their values.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl Keyword for $name {
            const ALL: &'static [Self] = &[$($name::$variant),+];

            fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }
    };
    // Vocabularies know their words themselves.
    ($($name:ident),+ $(,)?) => {$(
        impl Keyword for $name {
            const ALL: &'static [Self] = $name::ALL;

            fn as_str(self) -> &'static str {
                $name::as_str(self)
            }
        }
    )+};
}

words!(Billing { Count = "count", Free = "free" });
words!(SubmittedStatus {
    Submitted = "submitted", Accepted = "accepted", Rejected = "rejected", Withdrawn = "withdrawn"
});
words!(Downgrade { Scheduled = "scheduled", AfterTermRecreate = "after_term_recreate", RecreateNow = "recreate_now" });
words!(PendingConflict { Keep = "keep", Replace = "replace", Reject = "reject" });
words!(CancelAfterTerm { MonthEnd = "month_end", TermEnd = "term_end", PeriodEnd = "period_end" });
words!(Refund { None = "none", Days = "days", Hours = "hours" });
words!(BillingPeriod { Month = "month", Year = "year" });
words!(AfterEnd { InboundOnly = "inbound_only", Off = "off" });
words!(PriceMode { Volume = "volume", Graduated = "graduated" });

words!(
    Class,
    ContractKind,
    Actor,
    Profile,
    TransferOut,
    TransferredOutbound,
    OnUnreachable,
    Protocol,
    ClientCertificates,
    Role,
    Durability,
    TenantSeries,
    LogFormat,
    HookType,
    ProblemCode,
    Severity
);

vocabulary! {
    /// Presets of `[policy]` (rule book 10).
    Profile {
        /// The vendor's present documentation.
        Pascom = "pascom",
        /// The vendor's how-to of 2019-2021.
        Pascom2019 = "pascom-2019",
        /// The interworks storefront.
        Storefront = "storefront",
    }
}

vocabulary! {
    /// How long an inbound call that was transferred to outside is charged (C7).
    TransferOut {
        /// The claim ends with the completed transfer.
        Free = "free",
        /// It stays until the bridged call ends.
        ChargeUntilEnd = "charge_until_end",
    }
}

vocabulary! {
    /// The payer of an originated call that was handed to a colleague (C8).
    TransferredOutbound {
        /// Whoever takes an originated call over needs no seat.
        Free = "free",
        /// The claim goes with the call.
        Follow = "follow",
    }
}

vocabulary! {
    /// The protocol of a listener (API 1).
    Protocol {
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2 with prior knowledge, without TLS.
        H2c = "h2c",
        /// The Redis protocol (API 6a).
        Resp = "resp",
    }
}

vocabulary! {
    /// The demand for client certificates, where those are a credential.
    ClientCertificates {
        /// It is answered as whoever has no credential.
        Optional = "optional",
        /// It is turned away at the handshake, its inbound and emergency calls too.
        Required = "required",
    }
}

vocabulary! {
    /// The role of a credential, which says what it may do (RELIABILITY 5).
    Role {
        /// Asks and gives back.
        Node = "node",
        /// Reads the metrics.
        Scrape = "scrape",
        /// Reads.
        Viewer = "viewer",
        /// Reads and changes.
        Admin = "admin",
        /// Delivers subscription records.
        Sync = "sync",
    }
}

vocabulary! {
    /// When an answer counts as recorded (DESIGN 4).
    Durability {
        /// Survives the end of the process.
        Written = "written",
        /// Survives a power cut too.
        Synced = "synced",
        /// For tests.
        None = "none",
    }
}

vocabulary! {
    /// Which tenants have series of their own (METRICS).
    TenantSeries {
        /// The fullest, and everybody who is full, over or was refused.
        Top = "top",
        /// All.
        All = "all",
        /// Those named in `watch`.
        Watch = "watch",
        /// None.
        None = "none",
    }
}

vocabulary! {
    /// How log lines look.
    LogFormat {
        /// For people.
        Text = "text",
        /// For machines.
        Json = "json",
    }
}

vocabulary! {
    /// A type of message for webhooks.
    HookType {
        /// Somebody was refused.
        Denied = "denied",
        /// The last seat of a tenant was taken.
        Full = "full",
        /// More seats are held than the quota.
        Over = "over",
        /// A node is silent and its lease is over.
        NodeLost = "node_lost",
        /// It is heard again.
        NodeBack = "node_back",
        /// A subscription is in another state, or worth another number of seats.
        StateChanged = "state_changed",
        /// A subscription ends soon (J13).
        Reminder = "reminder",
        /// A configuration was not taken.
        ConfigRejected = "config_rejected",
        /// A configuration was taken.
        ConfigApplied = "config_applied",
        /// Records cannot be pulled.
        SyncFailed = "sync_failed",
        /// They can be again.
        SyncRestored = "sync_restored",
        /// Decisions are not recorded as durably as configured.
        JournalDegraded = "journal_degraded",
        /// They are again.
        JournalWhole = "journal_whole",
        /// An emergency call was made.
        Emergency = "emergency",
        /// The wall clock stepped (H5).
        ClockStep = "clock_step",
    }
}

impl HookType {
    /// The messages that are sent where nothing is said: everything that somebody may have to act on, and its end.
    pub const DEFAULT: &'static [HookType] = &[
        HookType::Denied,
        HookType::Full,
        HookType::Over,
        HookType::NodeLost,
        HookType::NodeBack,
        HookType::StateChanged,
        HookType::Reminder,
        HookType::ConfigRejected,
        HookType::SyncFailed,
        HookType::SyncRestored,
        HookType::JournalDegraded,
        HookType::JournalWhole,
        HookType::Emergency,
    ];
}

vocabulary! {
    /// The kind of a problem's fault, for machines.
    ProblemCode {
        /// None of the others: the message says what.
        Invalid = "invalid",
        /// Not TOML.
        Syntax = "syntax",
        /// The file is missing, may not be read, or is not text.
        Unreadable = "unreadable",
        /// A file, text or list is larger than allowed.
        TooLarge = "too_large",
        /// A key that nobody reads.
        UnknownKey = "unknown_key",
        /// A key that is required.
        Missing = "missing",
        /// A text instead of a number, and the like.
        WrongType = "wrong_type",
        /// A number that is too small or too large.
        OutOfRange = "out_of_range",
        /// A word that the key does not know.
        UnknownWord = "unknown_word",
        /// A name of a pool or tenant that there is not.
        UnknownName = "unknown_name",
        /// A time zone that there is not.
        UnknownZone = "unknown_zone",
        /// A date that the calendar does not have.
        NoSuchDate = "no_such_date",
        /// Not a date at all.
        NotADate = "not_a_date",
        /// A date before 1970 or after 2999.
        OutOfEra = "out_of_era",
        /// An end before the start of its contract.
        EndBeforeStart = "end_before_start",
        /// A trial of an account that had one, or was paid.
        TrialUsed = "trial_used",
        /// A change that is earlier than the one before it.
        NotAscending = "not_ascending",
        /// Two changes at one instant.
        SameInstant = "same_instant",
        /// Two add-ons of one id.
        DuplicateAddon = "duplicate_addon",
        /// Two tenants of one id.
        DuplicateTenant = "duplicate_tenant",
        /// Two of anything else under one name.
        Duplicate = "duplicate",
        /// More seats than a tenant may have, alone or in sum.
        TooManySeats = "too_many_seats",
        /// The tenants of a pool have more seats than it (F7).
        PoolExceeded = "pool_exceeded",
        /// More seats are reserved than there are (F6).
        ReservationExceeded = "reservation_exceeded",
        /// Too much would go at once.
        Shrinks = "shrinks",
        /// A tenant would go while seats of it are held.
        InUse = "in_use",
        /// The daemon's own file has become empty.
        Emptied = "emptied",
        /// A token that the daemon would not take.
        BadToken = "bad_token",
        /// A certificate or key of a listener cannot be used.
        Certificate = "certificate",
        /// Credentials, TLS or roles that close the daemon would go.
        Opens = "opens",
        /// A warning: a booked instant is not the one that the rules give (J8).
        ExplicitInstant = "explicit_instant",
        /// A warning: a paid contract without the day on which it began.
        NoStart = "no_start",
        /// A warning: a contract that has not begun.
        StartsLater = "starts_later",
        /// A warning: a group that is named like a key of the tenant.
        OddGroup = "odd_group",
        /// A warning: a file of the folder that is no tenant file by its name.
        SkippedFile = "skipped_file",
    }
}

vocabulary! {
    /// How bad a problem is.
    Severity {
        /// The configuration is rejected.
        Error = "error",
        /// It is taken as it is.
        Warning = "warning",
        /// Nothing is wrong with the files: it is good to know beside what is.
        Note = "note",
    }
}

/// Words for people: `a`, `b` or `c`.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}
