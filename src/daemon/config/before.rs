//! The configuration that was in force before: the record that a tenant keeps while its file is bad or away.

use std::path::Path;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};

use super::problem::Problem;
use super::source::Contents;
use super::tenant::Tenant;

/// True if the record of a file that is away stays for now, told by file and tenant.
pub type Stays<'a> = dyn Fn(&Path, &str) -> bool + 'a;

/// The configuration that was in force before, and how it is used.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    /// Its texts.
    pub contents: &'a Contents,
    /// True if a tenant was in force that no tenant file brought: a bad file must not take its place.
    pub elsewhere: &'a dyn Fn(&str) -> bool,
    /// True if the record of a tenant file that is away stays for now.
    pub stays: &'a Stays<'a>,
    /// When the records that were pulled were confirmed: they stay as they were while nothing is held of the publisher.
    /// `None`: they go.
    pub pulled_at: Option<DateTime<Utc>>,
    /// Why a tenant must not be what its file says, beyond what files can know (J3).
    pub objection: &'a dyn Fn(&Tenant) -> Option<Problem>,
}

static NO_CONTENTS: LazyLock<Contents> = LazyLock::new(Contents::default);

impl Before<'_> {
    /// Nothing was in force: a bad file has no record to fall back to.
    pub fn nothing() -> Before<'static> {
        Before::texts(&NO_CONTENTS)
    }

    /// These texts were in force, and files that are away are gone.
    pub fn texts(contents: &Contents) -> Before<'_> {
        Before { contents, elsewhere: &|_| false, stays: &|_, _| false, pulled_at: None, objection: &|_| None }
    }
}

impl std::fmt::Debug for Before<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Before").field("files", &self.contents.files.len()).finish_non_exhaustive()
    }
}
