//! TOML files become settings and tenants: read, validated, compared, watched, and the last good ones kept.
//!
//! Reading order: `settings` and `rules` say what there is, `value` and `reader` how they are read and
//! complained about, `sections` and `tenant` how all are, `load` how a whole configuration is or is not good.

mod access;
mod accounts;
mod before;
mod candidate;
mod carry;
mod cluster;
mod diff;
mod document;
mod folder;
mod guards;
mod last_good;
mod load;
mod nodes;
mod origin;
mod pools;
mod problem;
mod publisher;
mod reader;
mod record;
mod rejected;
mod reload;
mod replace;
mod rewrite;
mod rules;
mod running;
mod sections;
mod settings;
mod source;
mod submit;
mod tenant;
mod top;
mod value;
mod watch;
mod webhook;
mod words;
mod zone;

pub use accounts::{ACCOUNTS_FILE, Accounts};
pub use before::{Before, Stays};
pub use candidate::Candidate;
pub use cluster::{CLUSTER_TOKEN_CHARS_MIN, Cluster, ENDPOINTS_MAX};
pub use diff::{Diff, Quota, SettingDiff, TenantDiff, diff, waiting};
pub use guards::{Shrink, shrink};
pub use last_good::{Boot, FOLDER as LAST_GOOD_FOLDER, load_for_boot, recall, recall_texts, state_dirs, store};
pub use load::{Config, load, load_after, load_from};
pub use origin::{Effective, Origin, render as render_effective};
pub use problem::{PROBLEMS_MAX, Problem, Related, render as render_problems};
pub use publisher::{INSTALLATION_BYTES_MAX, KEY_ID_BYTES_MAX, Publisher, is_installation, is_key_id};
pub use rejected::{RejectedFile, problems_of, render_rejected, summary as summary_of_rejected};
pub use reload::{Attempt, Rejection, Removals};
pub use replace::replace_file;
pub use rewrite::rewrite;
pub use rules::{DenyRules, InclusiveRules, PolicyRules, Rules, SessionRules};
pub use running::{ReloadLock, Running};
pub use settings::*;
pub use source::{CONTENTS_BYTES_MAX, Contents, Disk, Files, MAIN_BYTES_MAX, Memory, Synced, TENANT_FILE_BYTES_MAX};
pub use submit::{Submission, Unwritten, submit};
pub use tenant::{GROUPS_MAX, Tenant, standing};
pub use value::rfc3339;
pub use watch::{SETTLE, Watch};
pub use webhook::{WEBHOOKS_MAX, Webhook};
pub use words::*;

/// The file that `usherd config init` writes: every key with its default and its reason.
pub const INIT: &str = include_str!("../../../config/usherd.toml");

#[cfg(test)]
mod tests;
