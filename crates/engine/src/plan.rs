//! The configuration as the engine takes it: policies, quotas, pools, timers and limits.

use std::sync::Arc;

use usherd_contract::vocabulary;

use super::session::{Class, Name, Standing};

vocabulary! {
    /// The rule by which something needs a seat or does not.
    Billing {
        /// It counts: its subject needs a seat.
        Count = "count",
        /// It never needs one.
        Free = "free",
    }
}

/// The keys of a tenant that decide its requests (rule book 11, `[sessions]`, `[inclusive]`, `[deny]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Calls to colleagues: counted or free for the caller (C4).
    pub internal_calls: Billing,
    /// Feature codes and services of the PBX: counted or free (C12).
    pub service_calls: Billing,
    /// Browser guests of a web conference: counted or free (B6).
    pub guests: Billing,
    /// Service identities such as TAPI and CRM: counted or free (B7).
    pub connectors: Billing,
    /// True if the claim of a completed transfer to outside stays until its own end (C7).
    pub transfer_out_until_end: bool,
    /// True if the subject that takes over an originated call gets the claim (C8).
    pub transferred_outbound_follows: bool,
    /// Classes that are always admitted (C18).
    pub never_deny: Vec<Class>,
    /// Emergency numbers, best in their plain form, which is compared at least cost (C14).
    pub emergency_numbers: Vec<Name>,
    /// The prefix that is removed from the dialled number before an emergency match (C14).
    pub trunk_prefix: Name,
    /// Milliseconds after which a mobile that was not seen loses its claim; 0 = never (B2).
    pub mobile_offline_ms: u64,
    /// Milliseconds that an empty seat stays with its subject; 0 = none (E2).
    pub seat_linger_ms: u64,
    /// Trunk lines that come with each seat (L3).
    pub channels_per_seat: u32,
    /// Trunk lines beyond those that come with the seats (N10).
    pub channels_extra: u32,
    /// True if the limit on trunk lines denies (L3).
    pub channels_enforce: bool,
    /// Milliseconds that clients stay after the end (J6).
    pub end_drain_ms: u64,
    /// The SIP status of a refused call (U3).
    pub sip_code: u16,
    /// Seconds after which a denied request may be repeated (U4).
    pub retry_after_s: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            internal_calls: Billing::Count,
            service_calls: Billing::Free,
            guests: Billing::Count,
            connectors: Billing::Free,
            transfer_out_until_end: false,
            transferred_outbound_follows: false,
            never_deny: vec![Class::Lift],
            emergency_numbers: vec![Name::const_new("110"), Name::const_new("112")],
            trunk_prefix: Name::const_new(""),
            mobile_offline_ms: 0,
            seat_linger_ms: 0,
            channels_per_seat: 5,
            channels_extra: 0,
            channels_enforce: false,
            end_drain_ms: 900_000,
            sip_code: 403,
            retry_after_s: 60,
        }
    }
}

impl Policy {
    /// The trunk lines of so many seats (L3, N10).
    pub fn channels(&self, seats: u32) -> u32 {
        seats.saturating_mul(self.channels_per_seat).saturating_add(self.channels_extra)
    }
}

/// A tenant's rights from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entitled {
    /// The standing, which says if seats are given at all.
    pub standing: Standing,
    /// Q; `None` is unlimited (F5).
    pub seats: Option<u32>,
}

/// One tenant of a plan.
#[derive(Clone, Debug)]
pub struct TenantPlan {
    /// Its id.
    pub id: Name,
    /// Standing and quota at the instant of installation.
    pub entitled: Entitled,
    /// Tenants of the same policy share one.
    pub policy: Arc<Policy>,
    /// Groups and the seats set aside for them, in file order (F6).
    pub reserve: Vec<(Name, u32)>,
    /// The provider pool that it draws from (F7).
    pub pool: Option<Name>,
}

/// A provider pool (F7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPlan {
    /// Its id.
    pub id: Name,
    /// Its capacity.
    pub seats: u32,
}

/// Everything that a configuration tells the engine, swapped in at once.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// All tenants.
    pub tenants: Vec<TenantPlan>,
    /// All provider pools.
    pub pools: Vec<PoolPlan>,
    /// The tenant that unknown ones draw from (D4).
    pub default_tenant: Option<Name>,
    /// The policy where no tenant's applies: the global emergency numbers, texts and codes.
    pub unknown: Arc<Policy>,
    /// Timers of nodes and tombstones.
    pub timers: Timers,
}

/// `[nodes]` of the rule book 11, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// How long a node may be silent before it is lost (G6).
    pub lease_ms: u64,
    /// How long an orphan keeps its seat (G6).
    pub grace_ms: u64,
    /// How long a tombstone stands (G5).
    pub tombstone_ms: u64,
    /// The grace after a restart (G10).
    pub learning_ms: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Timers { lease_ms: 15_000, grace_ms: 30_000, tombstone_ms: 300_000, learning_ms: 60_000 }
    }
}

/// How much the table holds at most; what is over a limit is answered `deny.full limit`, and a call that
/// needs no seat passes unrecorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live sessions in all. Tenants take room in blocks of 16 where this is 65,536 or more, so that the limit
    /// may be met up to 15 sessions a tenant early.
    pub sessions_max: u32,
    /// Live sessions of one tenant.
    pub sessions_per_tenant_max: u32,
    /// Tombstones of one tenant; beyond it the oldest go.
    pub tombstones_per_tenant_max: u32,
    /// Known nodes.
    pub nodes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions_max: 4_000_000,
            sessions_per_tenant_max: 1_000_000,
            tombstones_per_tenant_max: 1_000_000,
            nodes_max: 10_000,
        }
    }
}
