//! One sentence for a person on each decision; names nobody (U6).

use super::words::{Code, Detail};

/// One sentence for a person; names nobody (U6).
pub const fn message(code: Code, detail: Detail) -> &'static str {
    match code {
        Code::AllowFree => match detail {
            Detail::Inbound => "Incoming calls need no licence.",
            Detail::Internal => "Internal calls need no licence here.",
            Detail::Service => "This needs no licence.",
            Detail::System => "Calls of the phone system itself need no licence.",
            Detail::Emergency => "Emergency calls are always allowed.",
            Detail::Lifeline => "Lifeline devices are always allowed.",
            Detail::Connector => "Connectors need no licence here.",
            Detail::Guest => "Guests need no licence here.",
            _ => "No licence is needed.",
        },
        Code::AllowNew => "A licence was taken.",
        Code::AllowHeld => "The user has a licence already.",
        Code::AllowSame => "This is known already and was renewed.",
        Code::AllowOver => "Allowed above the licensed number.",
        Code::DenyFull => match detail {
            Detail::Pool => "All licences of the provider's pool are in use. Please try again later.",
            Detail::Reservation => "The licences that are left are reserved. Please try again later.",
            Detail::Channels => "All outside lines are in use. Please try again later.",
            Detail::Limit => "The licence server is at its limit. Please try again later.",
            _ => "All licences are in use. Please try again later.",
        },
        Code::DenyInactive => match detail {
            Detail::Suspended => "The subscription is suspended.",
            Detail::Stale => "The subscription could not be confirmed for too long.",
            Detail::NoMajority => "The licence service cannot be reached in full at present.",
            _ => "The subscription has ended.",
        },
        Code::DenyUnknownTenant => "This phone system is not known here.",
        Code::DenyConflict => "This session belongs to another user.",
        Code::IgnoreStale => "An older message came late and changed nothing.",
        Code::ReleasedLast => match detail {
            Detail::Linger => "The last session ended; the licence stays with the user for a while.",
            _ => "The licence is free again.",
        },
        Code::ReleasedMore => "The session ended; the user keeps the licence.",
        Code::ReleasedNone => "There was nothing to release.",
    }
}
