//! Tenant files that are not taken: each stops its own tenant alone, which keeps its last good record.

use serde::Serialize;

use super::problem::{PROBLEMS_MAX, Problem, Problems};
use crate::answers::config::{self as answers, ConfigProblem, FILE_PROBLEMS_MAX};

/// A tenant file that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectedFile {
    /// Its tenant: the name of the file without the ending, which need not be an id.
    pub tenant: String,
    /// The file, as it was opened.
    pub file: String,
    /// True if the tenant keeps its last good record; else there is no such tenant.
    pub kept: bool,
    /// The problems, never empty. Of very many bad files only the first problem each.
    pub problems: Vec<Problem>,
}

impl RejectedFile {
    /// One for these problems; `earlier` are rejected already.
    pub(super) fn new(tenant: &str, file: String, kept: bool, problems: Problems, earlier: usize) -> Self {
        let mut problems = problems.into_vec();
        problems.truncate(if earlier < PROBLEMS_MAX { FILE_PROBLEMS_MAX } else { 1 });
        RejectedFile { tenant: tenant.to_owned(), file, kept, problems }
    }
}

impl From<&RejectedFile> for answers::RejectedFile {
    fn from(file: &RejectedFile) -> Self {
        answers::RejectedFile {
            tenant: file.tenant.clone(),
            file: file.file.clone(),
            kept: file.kept,
            problems: file.problems.iter().map(ConfigProblem::from).collect(),
        }
    }
}

/// The problems of all of them, bounded as errors are.
pub fn problems_of(rejected: &[RejectedFile]) -> Vec<Problem> {
    let mut problems = Problems::default();
    rejected.iter().flat_map(|file| &file.problems).for_each(|problem| problems.push(problem.clone()));
    problems.into_vec()
}

/// The problems of all as a compiler would show them, and what holds meanwhile; empty where there are none.
pub fn render_rejected(rejected: &[RejectedFile], colour: bool) -> String {
    let mut text = String::new();
    for problem in problems_of(rejected) {
        text.push_str(&problem.render(colour));
        text.push_str("\n\n");
    }
    if !rejected.is_empty() {
        text.push_str(&summary(rejected));
        text.push('\n');
    }
    text
}

/// Which tenant files are not taken and what holds meanwhile, in one line; empty where there are none.
pub fn summary(rejected: &[RejectedFile]) -> String {
    let names = |kept: bool| -> Vec<&str> {
        rejected.iter().filter(|file| file.kept == kept).map(|file| file.tenant.as_str()).collect()
    };
    let mut parts = Vec::new();
    for (kept, what) in [(true, "keeps its last good record"), (false, "was never good and is no tenant")] {
        let names = names(kept);
        match names.as_slice() {
            [] => {}
            [one] => parts.push(format!("{one} {what}")),
            [first, rest @ ..] => parts.push(format!("{first} {what}, and so {} more", rest.len())),
        }
    }
    match rejected.len() {
        0 => String::new(),
        1 => format!("1 tenant file is not taken: {}", parts.join("; ")),
        count => format!("{count} tenant files are not taken: {}", parts.join("; ")),
    }
}
