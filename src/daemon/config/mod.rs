//! TOML files become settings and tenants: read, validated, compared, watched, and the last good ones kept.
//!
//! Reading order: `settings` and `rules` say what there is, `value` and `reader` how they are read and
//! complained about, `sections` and `tenant` how all are, `load` how a whole configuration is or is not good.

mod diff;
mod load;
mod origin;
mod problem;
mod reader;
mod rules;
mod sections;
mod settings;
mod source;
mod tenant;
mod value;
mod words;

pub use diff::{Diff, Quota, SettingDiff, Shrink, TenantDiff, diff, shrink};
pub use load::{Config, load, load_from};
pub use origin::{Effective, Origin, render as render_effective};
pub use problem::{PROBLEMS_MAX, Problem, Related, render as render_problems};
pub use rules::{DenyRules, InclusiveRules, PolicyRules, Rules, SessionRules};
pub use settings::*;
pub use source::{Contents, Disk, Files, MAIN_BYTES_MAX, Memory, TENANT_FILE_BYTES_MAX};
pub use tenant::{ADDONS_MAX, CHANGES_MAX, GROUPS_MAX, Tenant, standing};
pub use words::*;

#[cfg(test)]
mod tests;
