//! The closed vocabularies: one enum each makes the JSON, the metric label and the log field.

use std::fmt;

/// A closed vocabulary whose words are the same on the wire, in metrics and in logs.
macro_rules! vocabulary {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// Every word, in the order of the definition.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word on the wire, in metrics and in logs.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// The value of a word, compared byte by byte.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some($name::$variant),)+ _ => None }
            }

            /// The value at a position of [`Self::ALL`].
            pub fn from_index(index: u8) -> Option<Self> {
                Self::ALL.get(usize::from(index)).copied()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

vocabulary! {
    /// What a session is (API 2).
    Kind {
        /// An open desktop client (B1).
        Desktop = "desktop",
        /// A paired mobile (B2).
        Mobile = "mobile",
        /// A registered phone; never counts (B4).
        Phone = "phone",
        /// A machine that speaks for people (B7).
        Connector = "connector",
        /// An external browser guest (B6).
        Guest = "guest",
        /// One call leg (C).
        Call = "call",
    }
}

vocabulary! {
    /// Which way a call goes, seen from its subject (C1, C2, C4).
    Direction {
        /// To the public network.
        Outbound = "outbound",
        /// To somebody of the same phone system.
        Internal = "internal",
        /// From outside, or the called side of an internal call.
        Inbound = "inbound",
    }
}

vocabulary! {
    /// Why a call leg exists (C5, C9, C12, C13).
    Leg {
        /// A subject wants to reach somebody new.
        Originate = "originate",
        /// It delivers a call that exists already: forward, fork, transfer, pick-up, unpark, queue.
        Deliver = "deliver",
        /// A feature code or service of the phone system.
        Service = "service",
        /// Placed by the phone system itself.
        System = "system",
    }
}

vocabulary! {
    /// Which hardware, for lists and metrics only.
    Device {
        /// A desk phone.
        Desk = "desk",
        /// A cordless phone.
        Dect = "dect",
        /// A generic SIP device.
        Sip = "sip",
        /// The desktop client's softphone.
        Desktop = "desktop",
        /// The mobile app.
        Mobile = "mobile",
        /// A function extension.
        Function = "function",
    }
}

vocabulary! {
    /// Function extension class; `never_deny` is matched on it (C18).
    Class {
        /// Fax machine or server.
        Fax = "fax",
        /// Lift alarm.
        Lift = "lift",
        /// Door intercom.
        Door = "door",
        /// Conference room.
        Conference = "conference",
        /// Hotel room.
        Room = "room",
        /// Anything else.
        Other = "other",
    }
}

vocabulary! {
    /// The closed set of answers (rule book 1.2).
    Code {
        /// Allowed, no seat involved.
        AllowFree = "allow.free",
        /// A seat was taken.
        AllowNew = "allow.new",
        /// The subject was seated already; a claim was added.
        AllowHeld = "allow.held",
        /// The claim was known already: a renewal.
        AllowSame = "allow.same",
        /// Admitted above the quota (F3).
        AllowOver = "allow.over",
        /// No seat free; the detail names what was full.
        DenyFull = "deny.full",
        /// Subscription ended, suspended or stale.
        DenyInactive = "deny.inactive",
        /// Tenant not configured, and no default tenant.
        DenyUnknownTenant = "deny.unknown_tenant",
        /// The claim id belongs to another subject (G4).
        DenyConflict = "deny.conflict",
        /// An older message arrived late; nothing changed (G5).
        IgnoreStale = "ignore.stale",
        /// The last claim ended and the seat is free (E1).
        ReleasedLast = "released.last",
        /// A claim ended, the seat is kept.
        ReleasedMore = "released.more",
        /// There was nothing to release (E4).
        ReleasedNone = "released.none",
    }
}

impl Code {
    /// Whether the caller may go on; an ignored message is not a refusal (V3).
    pub const fn allows(self) -> bool {
        !self.denies()
    }

    /// Whether this is one of the `deny.*` codes.
    pub const fn denies(self) -> bool {
        matches!(self, Code::DenyFull | Code::DenyInactive | Code::DenyUnknownTenant | Code::DenyConflict)
    }
}

vocabulary! {
    /// The one word that goes with a code: why it was free, or what was full.
    Detail {
        /// The code says it all.
        None = "",
        /// Free: an inbound call, or a leg that delivers one (C1, C5).
        Inbound = "inbound",
        /// Free: internal calls do not count here (C4).
        Internal = "internal",
        /// Free: a service of the phone system, or an idle phone (B4, C12).
        Service = "service",
        /// Free: placed by the phone system (C13).
        System = "system",
        /// Free: an emergency number (C14).
        Emergency = "emergency",
        /// Free: a lifeline while the subscription is inactive (C18).
        Lifeline = "lifeline",
        /// Free: a connector (B7).
        Connector = "connector",
        /// Free: guests do not count here (B6).
        Guest = "guest",
        /// Full: the tenant's quota (D3).
        Tenant = "tenant",
        /// Full: the provider pool (F7).
        Pool = "pool",
        /// Full: what is left is reserved for other groups (F6).
        Reservation = "reservation",
        /// Full: the trunk lines (L3).
        Channels = "channels",
        /// Full: a limit of the daemon on live sessions, not of the licence.
        Limit = "limit",
        /// Inactive: the subscription ended (J6).
        Ended = "ended",
        /// Inactive: suspended (J5).
        Suspended = "suspended",
        /// Inactive: not confirmed for too long (J7).
        Stale = "stale",
        /// Kept: the seat lingers for its subject (E2), or the transferred call still counts (C7).
        Linger = "linger",
    }
}

vocabulary! {
    /// Why a session left the table.
    Reason {
        /// The node said so.
        Node = "node",
        /// Not renewed within its `ttl_s` (E3), or a mobile not seen for too long (B2).
        Ttl = "ttl",
        /// Its node was lost for longer than the grace (G6).
        Grace = "grace",
        /// Its node started anew (G8).
        Epoch = "epoch",
        /// Missing in its node's inventory (G9).
        Inventory = "inventory",
        /// The subscription ended (J6).
        Ended = "ended",
        /// An admin ended it.
        Admin = "admin",
    }
}

vocabulary! {
    /// What a tenant's subscription lets its people do; the engine needs no more of it.
    Standing {
        /// Seats are given.
        Active = "active",
        /// J5: new claims are denied, existing ones run out.
        Suspended = "suspended",
        /// J7: as suspended.
        Stale = "stale",
        /// J6: as suspended, pairings leave at once, clients within the drain time.
        Ended = "ended",
    }
}
