//! The closed vocabularies of the configuration.

use usherd_contract::vocabulary;
pub use usherd_contract::words::OnUnreachable;

pub use crate::answers::words::{Durability, HookType, ProblemCode, Severity};

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
    /// The store that the daemons of a cluster share.
    ClusterEngine {
        /// etcd 3.4 or newer.
        Etcd = "etcd",
    }
}

vocabulary! {
    /// The answer for a new seat while etcd has no majority.
    OnNoMajority {
        /// It is denied.
        Refuse = "refuse",
        /// It is allowed, up to a number, and counted again when there is one.
        Provisional = "provisional",
    }
}

vocabulary! {
    /// Where the members of a cluster have the tenant records from.
    ClusterRecords {
        /// Each from its own files, which must be the same.
        Files = "files",
        /// From etcd, into which a reload on one member brings them.
        Shared = "shared",
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
