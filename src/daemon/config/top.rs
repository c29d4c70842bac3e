//! The keys of `usherd.toml` that stand above all sections and have a default of their own.

use chrono_tz::Tz;

/// The billing time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(pub Tz);

impl Default for Zone {
    fn default() -> Self {
        Zone(Tz::Europe__Berlin)
    }
}

/// Where the tenant files are, relative to `usherd.toml`; empty: nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantsDir(pub String);

impl Default for TenantsDir {
    fn default() -> Self {
        TenantsDir("tenants.d".to_owned())
    }
}

/// How long a tenant file may be away before its tenant goes, where nobody asked for a reload, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalDelay(pub u32);

impl RemovalDelay {
    /// The same in milliseconds.
    pub fn ms(self) -> u64 {
        u64::from(self.0) * 1_000
    }
}

impl Default for RemovalDelay {
    fn default() -> Self {
        RemovalDelay(30)
    }
}
