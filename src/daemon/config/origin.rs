//! Where each effective value comes from: default, profile, or a line of a file.

use serde::Serialize;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "origin", rename_all = "lowercase")]
pub enum Origin {
    /// Nothing was written.
    Default,
    /// A profile presets it.
    Profile {
        /// The profile.
        profile: &'static str,
    },
    /// It is written in `usherd.toml`.
    File {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
    },
    /// It is written for the one tenant.
    Tenant {
        /// The tenant's file, or `usherd.toml` for an inline one.
        file: String,
        /// Line, from 1.
        line: usize,
    },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Profile { profile } => write!(f, "profile {profile}"),
            Origin::File { file, line } => write!(f, "{file}:{line}"),
            Origin::Tenant { file, line } => write!(f, "tenant {file}:{line}"),
        }
    }
}

/// One key with the value in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// The key, as in `policy.downgrade`.
    pub key: String,
    /// The value, as it would be written in TOML.
    pub value: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Keys with values and origins, one per line, in columns.
pub fn render(effective: &[Effective]) -> String {
    let key_width = effective.iter().map(|e| e.key.len()).max().unwrap_or(0);
    let value_width = effective.iter().map(|e| e.value.chars().count()).max().unwrap_or(0).min(40);
    effective.iter().map(|e| format!("{:key_width$} = {:value_width$}  # {}\n", e.key, e.value, e.origin)).collect()
}
