//! The closed vocabularies: one enum each makes the JSON, the metric label and the log field.

use crate::vocabulary;

vocabulary! {
    /// The kind of a session (API 2).
    Kind {
        /// An open desktop client (B1).
        Desktop = 0 => "desktop",
        /// A paired mobile (B2).
        Mobile = 1 => "mobile",
        /// A registered phone; never counts (B4).
        Phone = 2 => "phone",
        /// A machine that speaks for people (B7).
        Connector = 3 => "connector",
        /// An external browser guest (B6).
        Guest = 4 => "guest",
        /// One call leg (C).
        Call = 5 => "call",
    }
}

vocabulary! {
    /// The direction of a call, seen from its subject (C1, C2, C4).
    Direction {
        /// To the public network.
        Outbound = 0 => "outbound",
        /// To somebody of the same phone system.
        Internal = 1 => "internal",
        /// From outside, or the called side of an internal call.
        Inbound = 2 => "inbound",
    }
}

vocabulary! {
    /// The reason why a call leg exists (C5, C9, C12, C13).
    Leg {
        /// A subject wants to reach somebody new.
        Originate = 0 => "originate",
        /// It delivers a call that exists already: forward, fork, transfer, pick-up, unpark, queue.
        Deliver = 1 => "deliver",
        /// A feature code or service of the phone system.
        Service = 2 => "service",
        /// Placed by the phone system itself.
        System = 3 => "system",
    }
}

vocabulary! {
    /// The hardware, for lists and metrics only.
    Device {
        /// A desk phone.
        Desk = 0 => "desk",
        /// A cordless phone.
        Dect = 1 => "dect",
        /// A generic SIP device.
        Sip = 2 => "sip",
        /// The desktop client's softphone.
        Desktop = 3 => "desktop",
        /// The mobile app.
        Mobile = 4 => "mobile",
        /// A function extension.
        Function = 5 => "function",
    }
}

vocabulary! {
    /// Function extension class; `never_deny` is matched on it (C18).
    Class {
        /// Fax machine or server.
        Fax = 0 => "fax",
        /// Lift alarm.
        Lift = 1 => "lift",
        /// Door intercom.
        Door = 2 => "door",
        /// Conference room.
        Conference = 3 => "conference",
        /// Hotel room.
        Room = 4 => "room",
        /// Anything else.
        Other = 5 => "other",
    }
}

vocabulary! {
    /// The closed set of answers (rule book 1.2).
    Code {
        /// Allowed, no seat involved.
        AllowFree = 0 => "allow.free",
        /// A seat was taken.
        AllowNew = 1 => "allow.new",
        /// The subject was seated already; a claim was added.
        AllowHeld = 2 => "allow.held",
        /// The claim was known already: a renewal.
        AllowSame = 3 => "allow.same",
        /// Admitted above the quota (F3).
        AllowOver = 4 => "allow.over",
        /// No seat free; the detail names what was full.
        DenyFull = 5 => "deny.full",
        /// Subscription ended, suspended or stale.
        DenyInactive = 6 => "deny.inactive",
        /// Tenant not configured, and no default tenant.
        DenyUnknownTenant = 7 => "deny.unknown_tenant",
        /// The claim id belongs to another subject (G4).
        DenyConflict = 8 => "deny.conflict",
        /// An older message arrived late; nothing changed (G5).
        IgnoreStale = 9 => "ignore.stale",
        /// The last claim ended and the seat is free (E1).
        ReleasedLast = 10 => "released.last",
        /// A claim ended, the seat is kept.
        ReleasedMore = 11 => "released.more",
        /// There was nothing to release (E4).
        ReleasedNone = 12 => "released.none",
    }
}

impl Code {
    /// True if the caller may go on; an ignored message is not a refusal (V3).
    pub const fn allows(self) -> bool {
        !self.denies()
    }

    /// True if this is one of the `deny.*` codes.
    pub const fn denies(self) -> bool {
        matches!(self, Code::DenyFull | Code::DenyInactive | Code::DenyUnknownTenant | Code::DenyConflict)
    }
}

vocabulary! {
    /// The one word that goes with a code: why it was free, or what was full.
    Detail {
        /// The code says it all.
        None = 0 => "",
        /// Free: an inbound call, or a leg that delivers one (C1, C5).
        Inbound = 1 => "inbound",
        /// Free: internal calls do not count here (C4).
        Internal = 2 => "internal",
        /// Free: a service of the phone system, or an idle phone (B4, C12).
        Service = 3 => "service",
        /// Free: placed by the phone system (C13).
        System = 4 => "system",
        /// Free: an emergency number (C14).
        Emergency = 5 => "emergency",
        /// Free: a lifeline while the subscription is inactive (C18).
        Lifeline = 6 => "lifeline",
        /// Free: a connector (B7).
        Connector = 7 => "connector",
        /// Free: guests do not count here (B6).
        Guest = 8 => "guest",
        /// Full: the tenant's quota (D3).
        Tenant = 9 => "tenant",
        /// Full: the provider pool (F7).
        Pool = 10 => "pool",
        /// Full: what is left is reserved for other groups (F6).
        Reservation = 11 => "reservation",
        /// Full: the trunk lines (L3).
        Channels = 12 => "channels",
        /// Full: a limit of the daemon on live sessions, not of the licence.
        Limit = 13 => "limit",
        /// Inactive: the subscription ended (J6).
        Ended = 14 => "ended",
        /// Inactive: suspended (J5).
        Suspended = 15 => "suspended",
        /// Inactive: not confirmed for too long (J7).
        Stale = 16 => "stale",
        /// Kept: the seat lingers for its subject (E2), or the transferred call still counts (C7).
        Linger = 17 => "linger",
        /// Inactive: too few machines of the cluster answer to record it.
        NoMajority = 18 => "no_majority",
    }
}

vocabulary! {
    /// The reason why a session left the table.
    Reason {
        /// The node said so.
        Node = 0 => "node",
        /// Not renewed within its `ttl_s` (E3), or a mobile not seen for too long (B2).
        Ttl = 1 => "ttl",
        /// Its node was lost for longer than the grace (G6).
        Grace = 2 => "grace",
        /// Its node started anew (G8).
        Epoch = 3 => "epoch",
        /// Missing in its node's inventory (G9).
        Inventory = 4 => "inventory",
        /// The subscription ended (J6).
        Ended = 5 => "ended",
        /// An admin ended it.
        Admin = 6 => "admin",
    }
}

vocabulary! {
    /// The rights that a tenant's subscription gives its people; the engine needs no more of it.
    Standing {
        /// Seats are given.
        Active = 0 => "active",
        /// New claims are denied, existing ones run out (J5).
        Suspended = 1 => "suspended",
        /// As suspended (J7).
        Stale = 2 => "stale",
        /// As suspended; pairings leave at once, clients within the drain time (J6).
        Ended = 3 => "ended",
    }
}

vocabulary! {
    /// The behaviour of a node when nobody answers in time (G7).
    OnUnreachable {
        /// The call goes on.
        Allow = "allow",
        /// It does not.
        Deny = "deny",
    }
}
