//! Words of answers: the closed vocabularies that are the daemon's own.

use usherd_contract::vocabulary;

vocabulary! {
    /// How much of its quota a tenant uses.
    Band {
        /// No seat held.
        Idle = "idle",
        /// Less than half, or any number of an unlimited quota.
        Below50 = "below_50",
        /// From half on.
        From50 = "50_to_80",
        /// From 80 % on.
        From80 = "80_to_90",
        /// From 90 % on.
        From90 = "90_to_100",
        /// Exactly all.
        Full = "full",
        /// More than all.
        Over = "over",
    }
}

impl Band {
    /// The band of so many seats held under a quota; `None` is unlimited.
    pub fn of(held: u32, quota: Option<u32>) -> Self {
        let Some(quota) = quota else { return if held == 0 { Band::Idle } else { Band::Below50 } };
        if held == 0 {
            return Band::Idle;
        }
        match held.cmp(&quota) {
            std::cmp::Ordering::Greater => Band::Over,
            std::cmp::Ordering::Equal => Band::Full,
            std::cmp::Ordering::Less => match u64::from(held) * 100 / u64::from(quota) {
                0..50 => Band::Below50,
                50..80 => Band::From50,
                80..90 => Band::From80,
                _ => Band::From90,
            },
        }
    }
}

vocabulary! {
    /// How a try to pull records went.
    SyncResult {
        /// New records are in force.
        Applied = "applied",
        /// The publisher was heard and has nothing new.
        Unchanged = "unchanged",
        /// The publisher's answer is not taken.
        Refused = "refused",
        /// It was not reached, or what it published could not be stored.
        Failed = "failed",
    }
}

vocabulary! {
    /// The result of a message of a webhook, or of one try of it.
    WebhookResult {
        /// The receiver took it.
        Delivered = "delivered",
        /// It is tried again.
        Retried = "retried",
        /// It was tried for as long as it may be.
        Failed = "failed",
        /// It was not tried any more: too many waited.
        Dropped = "dropped",
        /// The receiver wants nothing any more.
        Gone = "gone",
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

vocabulary! {
    /// The kinds of events, as `types=` and the field `type` name them.
    EventType {
        /// A seat was taken, or a claim admitted above the quota.
        Granted = "granted",
        /// A request was denied.
        Denied = "denied",
        /// A session that counted ended.
        Released = "released",
        /// An emergency call was allowed.
        Emergency = "emergency",
        /// A node said hello or goodbye, was lost, or is heard again.
        Node = "node",
        /// A configuration was applied or rejected.
        Config = "config",
        /// A booked change took effect, or clients are being logged off after an end.
        Subscription = "subscription",
        /// A subscription ends soon (J13).
        Reminder = "reminder",
        /// The wall clock stepped, or is trusted again (H5).
        ClockStep = "clock_step",
        /// The journal is degraded, or recovered.
        Journal = "journal",
        /// Records were pulled, or could not be any more.
        Sync = "sync",
    }
}

vocabulary! {
    /// How something ended, where the type of the event leaves it open.
    EventResult {
        /// A node came, or came back with another epoch.
        Hello = "hello",
        /// A node left.
        Goodbye = "goodbye",
        /// A node is silent and its lease is over.
        Lost = "lost",
        /// A lost node is heard again.
        Back = "back",
        /// An operator took a node and its tombstones off.
        Forgotten = "forgotten",
        /// A configuration or a bundle of records is in force.
        Applied = "applied",
        /// Nothing was different.
        Unchanged = "unchanged",
        /// A configuration, or a file of it, is not taken.
        Rejected = "rejected",
        /// A bundle of records is not taken.
        Refused = "refused",
        /// The publisher was not reached, or its bundle could not be stored.
        Failed = "failed",
        /// A subscription gives seats.
        Active = "active",
        /// A subscription is suspended.
        Suspended = "suspended",
        /// A subscription was not confirmed for too long.
        Stale = "stale",
        /// A subscription ended.
        Ended = "ended",
        /// Clients of an ended subscription are being logged off.
        Drains = "drains",
        /// The platform is asked to switch a phone system off.
        Off = "off",
        /// The journal does not keep its promise at present.
        Degraded = "degraded",
        /// The journal recovered.
        Whole = "whole",
    }
}

vocabulary! {
    /// How long a point of the usage is.
    Step {
        /// Five minutes.
        FiveMinutes = "5m",
        /// An hour.
        Hour = "1h",
        /// A civil day in the billing zone.
        Day = "1d",
    }
}

vocabulary! {
    /// How durable a decision is when it is answered (`journal.durability`).
    Durability {
        /// It is written: it survives `kill -9`.
        Written = "written",
        /// It is on disk: it survives a power cut too.
        Synced = "synced",
        /// Nothing is written. For tests.
        None = "none",
    }
}

vocabulary! {
    /// How durable decisions are at present.
    DurabilityNow {
        /// As [`Durability::Written`].
        Written = "written",
        /// As [`Durability::Synced`].
        Synced = "synced",
        /// As [`Durability::None`].
        None = "none",
        /// Less so than was asked for.
        Degraded = "degraded",
    }
}

impl From<Durability> for DurabilityNow {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Written => DurabilityNow::Written,
            Durability::Synced => DurabilityNow::Synced,
            Durability::None => DurabilityNow::None,
        }
    }
}

vocabulary! {
    /// The writer of what is decided.
    JournalForm {
        /// Nobody: nothing is kept.
        Nothing = "none",
        /// The thread that decided, before its answers go out. A disk that hangs stops it: for simulations, whose time
        /// passes on one thread.
        Inline = "inline",
        /// A thread of its own; the answers wait for it, and not for long.
        HandOff = "hand-off",
        /// The thread that decided, into a ring in memory that outlives the process; another one copies it to the disk.
        Ring = "ring",
        /// A thread of its own, into a store that several machines share; no answer goes out before.
        Cluster = "cluster",
    }
}

vocabulary! {
    /// The thing that is waited for until the wall clock is trusted (H5).
    WaitsFor {
        /// Time.
        TenMinutes = "ten_minutes",
        /// That a time server keeps it, or somebody says that it is right.
        Confirmation = "confirmation",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_meet_without_gap_or_overlap() {
        for (held, quota, band) in [
            (0, Some(0), Band::Idle),
            (0, Some(10), Band::Idle),
            (0, None, Band::Idle),
            (7, None, Band::Below50),
            (49, Some(100), Band::Below50),
            (50, Some(100), Band::From50),
            (79, Some(100), Band::From50),
            (80, Some(100), Band::From80),
            (89, Some(100), Band::From80),
            (90, Some(100), Band::From90),
            (999, Some(1000), Band::From90),
            (100, Some(100), Band::Full),
            (101, Some(100), Band::Over),
            (1, Some(0), Band::Over),
            (u32::MAX - 1, Some(u32::MAX), Band::From90),
        ] {
            assert_eq!(Band::of(held, quota), band, "{held} of {quota:?}");
        }
    }
}
