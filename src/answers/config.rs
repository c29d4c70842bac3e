//! The configuration: its state, the faults of its files, and the changes of a reload.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usherd_contract::problem::ProblemKind;
use usherd_contract::vocabulary;
use usherd_contract::word::Word;

use super::timestamp::Timestamp;
use super::words::{ProblemCode, Severity};

/// Most problems that one attempt reports; the last then says that there are more.
pub const PROBLEMS_MAX: usize = 200;
/// Most problems that are told of one bad tenant file.
pub const FILE_PROBLEMS_MAX: usize = 20;
/// Most tenant files that are not taken, or away, of which an answer tells; it counts them all.
pub const FILES_SHOWN_MAX: usize = 200;

vocabulary! {
    /// How a reload turned out.
    ReloadCode {
        /// It is in force.
        Applied = "applied",
        /// Nothing in force changed.
        Unchanged = "unchanged",
        /// It would be taken.
        Planned = "planned",
        /// Tenant files are bad; all else is in force.
        Partly = "partly",
    }
}

/// How the last attempt to read the files went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct ReloadState {
    /// It succeeded.
    pub last_reload_successful: bool,
}

/// Nothing is known to be wrong.
impl Default for ReloadState {
    fn default() -> Self {
        ReloadState { last_reload_successful: true }
    }
}

/// How the configuration in force came to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConfigState {
    /// Of all that is in force of the files.
    pub hash: String,
    /// When it was taken up.
    pub loaded_at: Timestamp,
    /// How the last attempt went.
    #[serde(flatten)]
    pub outcome: ReloadState,
    /// The first thing that was wrong with it.
    pub last_error: Option<String>,
    /// The files were bad at the start: the last good copy is in force.
    pub from_last_good: bool,
    /// Keys of usherd.toml that were changed since the start and take effect with the next one only.
    pub waits_for_restart: Vec<String>,
    /// Tenant files that are not taken.
    pub tenants_rejected: usize,
    /// Files that are away, or drop tenants, and whose tenants stay for `removal_delay_s`.
    pub tenants_away: usize,
    /// Certificates of listeners that could not be used by the last attempt.
    pub certificates_unusable: usize,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// How it came to be.
    #[serde(flatten)]
    pub state: ConfigState,
    /// The path of usherd.toml.
    pub main: String,
    /// Faults of the last attempt.
    pub problems: Vec<ConfigProblem>,
    /// Oddities of the configuration in force, as it was read.
    #[schemars(length(max = PROBLEMS_MAX))]
    pub warnings: Vec<ConfigProblem>,
    /// Tenant files that are not taken, the first of them.
    #[schemars(length(max = FILES_SHOWN_MAX))]
    pub rejected: Vec<RejectedFile>,
    /// Files that are away, or drop tenants, and whose tenants stay for `removal_delay_s`.
    #[schemars(length(max = FILES_SHOWN_MAX))]
    pub away: Vec<String>,
    /// Certificates of listeners that cannot be used: those before are shown.
    pub certificates: Vec<ConfigProblem>,
    /// The file of each tenant.
    pub tenants: BTreeMap<String, String>,
}

/// A reload that was not rejected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Reloaded {
    /// `unchanged`: nothing in force changed. `partly`: tenant files are bad, see `rejected`; all else is
    /// in force.
    pub code: Word<ReloadCode>,
    /// Nothing was put in force.
    pub dry_run: bool,
    /// Of all that is in force, or would be.
    pub hash: String,
    /// The changes.
    pub diff: Diff,
    /// The diff for people.
    pub text: String,
    /// Oddities of the files, which are taken nevertheless.
    #[schemars(length(max = PROBLEMS_MAX))]
    pub warnings: Vec<ConfigProblem>,
    /// Tenant files that are not taken, the first of them.
    #[schemars(length(max = FILES_SHOWN_MAX))]
    pub rejected: Vec<RejectedFile>,
    /// How many they are.
    pub tenants_rejected: usize,
    /// Files that are away, or drop tenants, and of which what was in force stays for `removal_delay_s`.
    pub away: Vec<String>,
    /// Certificates of listeners that cannot be used: those before are shown, and a start would fail.
    pub certificates: Vec<ConfigProblem>,
}

/// A reload that is rejected. The configuration that was in force still is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Rejected {
    /// The kind of problem.
    #[serde(rename = "type")]
    #[schemars(schema_with = "rejected")]
    pub kind: Word<ProblemKind>,
    /// The kind, for people.
    pub title: String,
    /// The HTTP status.
    #[schemars(extend("const" = 422))]
    pub status: u16,
    /// Every error as a compiler would show it.
    pub detail: String,
    /// It was forced.
    pub force: bool,
    /// With `force=1` it would be taken.
    pub forceable: bool,
    /// Every error.
    pub problems: Vec<ConfigProblem>,
}

/// A tenant file that is not taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RejectedFile {
    /// The name of the file without its ending, which need not be an id.
    pub tenant: String,
    /// The file, as it was opened.
    pub file: String,
    /// The tenant keeps its last good record; else there is no such tenant.
    pub kept: bool,
    /// Its faults, never empty. Of very many bad files only the first one each.
    #[schemars(length(min = 1, max = FILE_PROBLEMS_MAX))]
    pub problems: Vec<ConfigProblem>,
}

/// A fault of a file, or an oddity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConfigProblem {
    /// A configuration is rejected for an error, and taken with a warning. A note says what is good to know beside
    /// them.
    pub severity: Word<Severity>,
    /// The kind of fault.
    pub code: Word<ProblemCode>,
    /// The file, as it was opened.
    pub file: String,
    /// From 1.
    #[schemars(range(min = 1))]
    pub line: usize,
    /// In characters, from 1.
    #[schemars(range(min = 1))]
    pub column: usize,
    /// As `policy.downgrade`; empty where no key is at fault.
    pub key_path: String,
    /// The fault.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
    /// Where the other half of a contradiction stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related: Option<Related>,
}

/// The other half of a contradiction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Related {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// The text that stands there.
    pub what: String,
}

/// The changes of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Diff {
    /// Tenants that are new.
    pub added: Vec<TenantDiff>,
    /// Tenants that are gone.
    pub removed: Vec<TenantDiff>,
    /// Tenants that are not what they were.
    pub changed: Vec<TenantDiff>,
    /// Keys of `usherd.toml` with another value.
    pub settings: Vec<SettingDiff>,
}

/// The changes of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TenantDiff {
    /// The tenant.
    pub tenant: String,
    /// Seats before; absent where it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_before: Option<Quota>,
    /// Seats after; absent where it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_after: Option<Quota>,
    /// Seats held now, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<u32>,
    /// The changes, in words of the configuration.
    pub what: Vec<String>,
    /// Consequences, in sentences for people.
    pub consequences: Vec<String>,
}

/// A number of seats, or the word `unlimited`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Quota {
    /// So many.
    Seats(u32),
    /// As many as are asked for.
    Unlimited(Word<Unlimited>),
}

vocabulary! {
    /// The word for no limit.
    Unlimited {
        /// As many as are asked for.
        Unlimited = "unlimited",
    }
}

/// A key of `usherd.toml` with another value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SettingDiff {
    /// The key.
    pub key: String,
    /// The value before, as TOML writes it; absent where the key is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The value after; absent where the key is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// It waits for the next start.
    pub needs_restart: bool,
}

fn rejected(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    usherd_contract::word::one_of(|kind: ProblemKind| kind == ProblemKind::Rejected)
}
