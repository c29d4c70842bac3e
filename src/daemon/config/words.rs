//! The closed vocabularies of the configuration.

use usherd_contract::vocabulary;
pub use usherd_contract::words::OnUnreachable;
use usherd_engine::plan::Billing;
use usherd_engine::session::Class;

pub use crate::answers::words::{HookType, ProblemCode, Severity};
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

/// Words for people: `a`, `b` or `c`.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}
