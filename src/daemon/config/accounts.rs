//! Remembers who was ever on trial or paid, so that nobody has a second trial unasked (J3).

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};
use usherd_subscription::record::ContractKind;

use super::load::Config;
use super::problem::{PROBLEMS_MAX, Problem};
use super::replace::replace_file;
use super::source::{Disk, Files as _};
use super::tenant::Tenant;
use super::value::rfc3339;
use super::words::ProblemCode;

/// The file in the state directory.
pub const ACCOUNTS_FILE: &str = "accounts.json";
/// Most tenants that are remembered, also those that are gone: ten times the most that may be configured.
/// Beyond it no new ones are, and theirs may be a second trial.
const ACCOUNTS_MAX: usize = 10_000_000;
/// Largest file that is read back, in bytes.
const BYTES_MAX: usize = 1 << 30;
const FORMAT: u32 = 1;

/// The history of one tenant's contracts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    /// The civil start of its trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trial: Option<String>,
    /// When it was first seen as paid, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paid: Option<String>,
}

/// The history of all contracts. A tenant that is gone from the configuration stays in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    format: u32,
    tenants: BTreeMap<String, Account>,
}

impl Default for Accounts {
    fn default() -> Self {
        Accounts { format: FORMAT, tenants: BTreeMap::new() }
    }
}

impl Accounts {
    /// Reads the accounts of the state directory; `None` where it has no such file.
    ///
    /// # Errors
    /// Why the file cannot be read, as one sentence that says how to go on.
    pub fn read(state: &Path) -> Result<Option<Self>, String> {
        let path = state.join(ACCOUNTS_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let accounts = Disk.read(&path, BYTES_MAX).map(|bytes| serde_json::from_slice::<Accounts>(&bytes).ok());
        match accounts {
            Ok(Some(accounts)) if accounts.format == FORMAT => Ok(Some(accounts)),
            Ok(_) => Err(format!("{} is damaged or of another release: put a copy back, or remove it", path.display())),
            Err(why) => Err(format!("{} {why}: put a copy back, or remove it", path.display())),
        }
    }

    /// Leaves a file that cannot be read for people to look at, beside the one that is written next.
    pub fn set_aside(state: &Path) {
        // Where even that fails the next one takes its place: it was of no use to anybody here.
        let _ = std::fs::rename(state.join(ACCOUNTS_FILE), state.join(format!("{ACCOUNTS_FILE}.damaged")));
    }

    /// Every tenant of a configuration that would have a second trial.
    pub fn second_trials(&self, config: &Config) -> Vec<Problem> {
        config.tenants.values().filter_map(|tenant| self.second_trial(tenant)).take(PROBLEMS_MAX).collect()
    }

    /// Why a tenant must not be on trial, where it is and must not (J3).
    pub fn second_trial(&self, tenant: &Tenant) -> Option<Problem> {
        let account = self.tenants.get(tenant.id.as_str()).filter(|_| tenant.record.kind == ContractKind::Trial)?;
        let start = tenant.record.start.map(civil);
        let former = match account {
            Account { paid: Some(since), .. } => format!("it was paid, first seen so at {since}"),
            Account { trial: Some(former), .. } if start.as_ref() != Some(former) => {
                format!("its trial started at {former}")
            }
            _ => return None,
        };
        let message =
            format!("tenant `{}` is set to trial again, but {former}: there is one trial per account", tenant.id);
        let help = "write kind = \"paid\", or the former start; a reload with --force grants another trial";
        let mut problem = Problem::of_file(&tenant.source, message).code(ProblemCode::TrialUsed).help(help);
        (problem.line, problem.key_path) = (tenant.line, "kind".to_owned());
        Some(problem)
    }

    /// Takes over what a configuration that was accepted says; writes it where that is news.
    ///
    /// # Errors
    /// An error of the file system; the file of before is then still there.
    pub fn note(&mut self, state: &Path, config: &Config, now: DateTime<Utc>) -> std::io::Result<()> {
        let mut news = false;
        for tenant in config.tenants.values() {
            news |= self.note_tenant(tenant, now);
        }
        if news { replace_file(state, ACCOUNTS_FILE, &serde_json::to_vec(self)?) } else { Ok(()) }
    }

    fn note_tenant(&mut self, tenant: &Tenant, now: DateTime<Utc>) -> bool {
        let id = tenant.id.as_str();
        if tenant.record.kind == ContractKind::Nfr
            || (self.tenants.len() >= ACCOUNTS_MAX && !self.tenants.contains_key(id))
        {
            return false;
        }
        let known = self.tenants.get(id);
        let account = match tenant.record.kind {
            // A trial that was accepted is the one that counts, also after another that force overrode.
            ContractKind::Trial => Account { trial: tenant.record.start.map(civil), paid: None },
            _ if known.is_some_and(|known| known.paid.is_some()) => return false,
            _ => Account { trial: known.and_then(|known| known.trial.clone()), paid: Some(rfc3339(now)) },
        };
        if known == Some(&account) {
            return false;
        }
        self.tenants.insert(id.to_owned(), account);
        true
    }
}

fn civil(at: NaiveDateTime) -> String {
    at.format("%Y-%m-%dT%H:%M:%S").to_string()
}
